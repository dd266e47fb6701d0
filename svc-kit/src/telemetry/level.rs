//! What is logged, changed while the process runs. There is one log in a process, and so one of these.

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::task::AbortHandle;
use tracing_subscriber::reload::{self, Handle};
use tracing_subscriber::{EnvFilter, Registry};

use super::{NoFilter, filter};

static LOG: OnceLock<Levels> = OnceLock::new();

/// What is logged, and how to change it.
pub(crate) struct Levels {
    configured: String,
    filter: Handle<EnvFilter, Registry>,
    present: Mutex<Present>,
}

struct Present {
    level: String,
    /// What will go back to the configured level.
    end: Option<AbortHandle>,
}

/// The level of the log of this process, once it logs.
pub(crate) fn levels() -> Option<&'static Levels> {
    LOG.get()
}

/// A filter that can be changed.
pub(super) type Changeable = reload::Layer<EnvFilter, Registry>;

/// A filter that can be changed, and what to [keep](keep) of it.
pub(super) fn changeable(filter: EnvFilter, configured: String) -> (Changeable, Levels) {
    let (layer, filter) = reload::Layer::new(filter);
    let present = Mutex::new(Present { level: configured.clone(), end: None });
    (layer, Levels { configured, filter, present })
}

/// This is the log of the process from here on.
pub(super) fn keep(levels: Levels) {
    // Whoever came first is the one: there is no second log.
    let _ = LOG.set(levels);
}

impl Levels {
    fn present(&self) -> MutexGuard<'_, Present> {
        self.present.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As it was set when the process started.
    pub(crate) fn configured(&self) -> &str {
        &self.configured
    }

    /// As it is.
    pub(crate) fn level(&self) -> String {
        self.present().level.clone()
    }

    /// Logs by another filter from here on; for this long, if a time is given.
    pub(crate) fn set(&'static self, level: &str, time: Option<Duration>) -> Result<(), NoFilter> {
        // What the process started with was good enough then, whoever gave it.
        let is_configured = level == self.configured;
        let filter = if is_configured { EnvFilter::builder().parse(level)? } else { filter(level)? };
        let mut present = self.present();
        present.end.take().iter().for_each(AbortHandle::abort);
        self.apply(&mut present, filter, level);
        present.end = time.map(|time| {
            let ends = async move {
                tokio::time::sleep(time).await;
                self.reset();
            };
            tokio::spawn(ends).abort_handle()
        });
        Ok(())
    }

    fn reset(&self) {
        if let Ok(filter) = EnvFilter::builder().parse(&self.configured) {
            let mut present = self.present();
            present.end = None;
            self.apply(&mut present, filter, &self.configured);
        }
    }

    fn apply(&self, present: &mut Present, filter: EnvFilter, level: &str) {
        // It fails only where the log is gone.
        if self.filter.reload(filter).is_ok() {
            level.clone_into(&mut present.level);
        }
    }
}
