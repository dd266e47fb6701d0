//! The contract between processes: the code generated from `handover/PACKAGE/v1/*.proto`, one module for each
//! package (`proto::gcs::v1`, `proto::membership::v1`, ...), and the descriptors that gRPC reflection serves.
//!
//! Generated types are for the edge of a process: its `wire.rs` turns them into the types of `model` once, and
//! nothing behind that sees them. Messages of which parts are encoded apart are in [`encoded`], and [`codec`] says how all
//! are sent.

pub mod codec;
pub mod encoded;

#[allow(missing_docs, clippy::all, reason = "generated")]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/packages.rs"));
}

pub use generated::handover::*;

/// The version of the contract of membership servers, with daemons and with each other. It changes with whatever makes
/// those of the version before misunderstand; nothing else says so.
pub const MEMBERSHIP_VERSION: u32 = 1;

/// All files and what they import, as an encoded `google.protobuf.FileDescriptorSet` with comments.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
