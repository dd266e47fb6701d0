//! The promises of Handover, put to the test on real processes and real networks.
//!
//! | part | topic |
//! | --- | --- |
//! | `command` | what `handover chaos` is asked |
//! | `plan`, `drill` | what happens when: drawn by a seed, or written down for one purpose |
//! | `enclosure`, `network` | where a run happens, and what gets through between its nodes |
//! | `process`, `stage` | one process; all of them, and what is done to them |
//! | `member`, `report` | a group process that checks what it is told, and what it says |
//! | `viewers` | clients outside, who watch films |
//! | `run`, `rest`, `verdict` | a run, its last condition, and what is said of it |
//! | `compose` | the cluster of `docker-compose.yml`, in no enclosure, and drills on it |
//!
//! Membership servers and daemons are nodes with an address of their own; group processes, content servers and gateways run
//! beside the daemons. Faults come as the plan has them; then they stop, the cluster has to come to rest, and all traces
//! are judged.

mod command;
mod compose;
mod drill;
mod enclosure;
mod member;
mod network;
mod plan;
mod process;
mod report;
mod rest;
mod run;
mod stage;
mod verdict;
mod viewers;

pub use command::{Args, run};
