//! Video on demand: content units are fragmented MP4 files, responses are their fragments, requests are what a viewer
//! does with a remote control.
//!
//! [`Film`] is one parsed file, [`Context`] what is remembered of a viewer, [`Vod`] the content service over both, and
//! [`Progress`] the small part that a player needs to name its position.
#![deny(missing_docs)]

mod boxes;
mod context;
mod film;
#[cfg(test)]
mod forge;
mod progress;
mod request;
mod service;
mod timeline;

pub use context::Context;
pub use film::{FRAGMENT_BYTES_MAX, FRAGMENT_DURATION_MAX, Film, FilmError, Fragment};
pub use progress::{FragmentInfo, Progress};
pub use request::{REQUEST_BYTES_MAX, Rate, Request};
pub use service::{LEAD_DEFAULT, Params, Vod};
