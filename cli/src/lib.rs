//! The `handover` command, and what tests of whole clusters need of it: [`cluster`] runs real processes on this
//! computer, [`snapshot`] asks all processes of a cluster for their status.
#![deny(missing_docs)]

pub mod bundle;
pub mod certs;
pub mod cluster;
pub mod commands;
mod operator;
pub mod quantiles;
mod silence;
pub mod snapshot;
mod table;
mod words;
