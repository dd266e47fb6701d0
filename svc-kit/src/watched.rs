//! What is in files, read again when they change. What cannot be read is told, and what was read before stays in force.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

/// How often to look whether files have changed, at most.
const LOOK: Duration = Duration::from_secs(1);

type Load<T, E> = Box<dyn Fn() -> Result<T, E> + Send + Sync>;

/// The contents of some files.
pub(crate) struct Watched<T, E> {
    /// What they are, in a word.
    what: &'static str,
    files: Vec<PathBuf>,
    load: Load<T, E>,
    seen: Mutex<Seen<T>>,
}

struct Seen<T> {
    stamps: Vec<Option<SystemTime>>,
    looked: Instant,
    loaded: T,
}

impl<T: Clone, E: fmt::Display> Watched<T, E> {
    /// What `load` makes of the files, now and whenever they have changed.
    pub(crate) fn new(
        what: &'static str,
        files: Vec<PathBuf>,
        load: impl Fn() -> Result<T, E> + Send + Sync + 'static,
    ) -> Result<Watched<T, E>, E> {
        // A change while they are read is seen at the next look.
        let stamps = stamps(&files);
        let seen = Seen { stamps, looked: Instant::now(), loaded: load()? };
        Ok(Watched { what, files, load: Box::new(load), seen: Mutex::new(seen) })
    }

    /// As they are now, give or take a second.
    pub(crate) fn current(&self) -> T {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.looked.elapsed() > LOOK {
            seen.looked = Instant::now();
            let stamps = stamps(&self.files);
            if stamps != seen.stamps {
                seen.stamps = stamps;
                match (self.load)() {
                    Ok(loaded) => {
                        seen.loaded = loaded;
                        tracing::info!("{} were read again", self.what);
                    }
                    Err(error) => tracing::warn!(%error, "{} have changed and are of no use", self.what),
                }
            }
        }
        seen.loaded.clone()
    }
}

impl<T, E> fmt::Debug for Watched<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watched")
            .field("what", &self.what)
            .field("files", &self.files)
            .finish_non_exhaustive()
    }
}

fn stamps(files: &[PathBuf]) -> Vec<Option<SystemTime>> {
    files.iter().map(|file| std::fs::metadata(file).ok()?.modified().ok()).collect()
}
