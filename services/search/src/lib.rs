//! Interactive search: content units are collections of documents, and a session keeps the result sets of its queries,
//! so that later ones can refine and intersect them.
//!
//! [`Collection`] is one collection with its index, [`Context`] what is remembered of a searcher, [`Search`] the content
//! service over both. What is said in a session is described in `proto/handover/search/v1`.
#![deny(missing_docs)]

mod collection;
mod context;
mod service;

pub use collection::{Collection, CollectionError, Document};
pub use context::Context;
pub use service::Search;
