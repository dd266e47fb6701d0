//! The framework of Fekete and Keidar: sessions on replicated content that survive their servers [FK:framework].
#![no_std]
#![deny(missing_docs)]

extern crate alloc;

mod service;

pub use service::{ContentService, Next, Refusal, RefusalKind, UnitInfo};
