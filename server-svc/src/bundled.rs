//! The services that come with Handover.

use vod::{Params, Vod, store};

use crate::LoadError;
use crate::config::Config;

/// Reads the content that the settings name.
///
/// # Errors
/// If some of it cannot be served.
pub fn load(config: &Config) -> Result<Vod, LoadError> {
    Ok(Vod::new(store::load(&config.content, &config.selection())?, Params { lead: config.lead }))
}
