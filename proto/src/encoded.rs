//! Messages whose parts are encoded already: what goes to many receivers is encoded once, and payloads stay where they
//! were received. The bytes on the wire are those of the message of the same name in the contract.

use bytes::Bytes;

use crate::gcs::v1::Attached;

/// `handover.gcs.v1.WatchResponse`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct WatchResponse {
    /// What there is and what has changed, in this order: each a [`crate::gcs::v1::Event`].
    #[prost(bytes = "bytes", repeated, tag = "2")]
    pub events: Vec<Bytes>,
}

/// `handover.gcs.v1.AttachResponse`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct AttachResponse {
    /// In the first response, and in no other.
    #[prost(message, optional, tag = "1")]
    pub attached: Option<Attached>,
    /// What happened, in this order: each a [`crate::gcs::v1::Event`].
    #[prost(bytes = "bytes", repeated, tag = "2")]
    pub events: Vec<Bytes>,
}
