//! The framework of Fekete and Keidar: sessions on replicated content that survive their servers [FK:framework].
//!
//! Two machines: [`Server`], one at each content server, and [`Gateway`], one at each gateway. Between servers they
//! rely on virtually synchronous groups, of which they see views and totally ordered messages; between a server and a
//! gateway on a plain stream that may break at any time.
#![no_std]
#![deny(missing_docs)]

extern crate alloc;

mod assign;
mod catalogue;
mod commit;
mod credit;
mod edition;
mod fault;
pub mod gateway;
mod held;
mod ledger;
pub mod message;
pub mod names;
mod params;
mod pipeline;
mod replica;
mod rest;
pub mod server;
mod service;
mod take_up;
mod timers;
mod uncertain;
mod unit_db;

pub use credit::{Credit, response_bytes};
pub use edition::{ContentId, Edition};
pub use fault::Fault;
pub use gateway::{Gateway, GatewayParams};
pub use params::Params;
pub use server::{Server, SessionStatus};
pub use service::{ContentService, Next, Refusal, RefusalKind, SharedState, UnitInfo, response_bytes_max};
pub use unit_db::{
    Components, Database, Happening, Intent, OrderRefusal, Ordered, Policy, PolicyChange, Rebuild,
    Relocation, Replaced, Session, Share, SharedStatus, Stage, Stalls, Tomb, Uncertain, Update, Version, Why,
};
