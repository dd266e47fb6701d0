//! Traces of real runs: every event of a process as a JSON line in a file of its own, `DIR/NAME-BOOT.jsonl`.
//!
//! Events are buffered for one batch of the machine and then given to the operating system. A process that is killed
//! therefore loses at most the events of the batch that it was in, none of whose orders was performed if the effects
//! call [`TraceWriter::flush`] before they perform the others. A crash of the operating system may lose more.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use model::trace::{Event, Record};
use model::{Boot, Name, Time};

use crate::shutdown::Failure;

/// Writes the trace of one process, or nothing at all if traces are off.
pub struct TraceWriter(Option<Open>);

struct Open {
    path: PathBuf,
    file: BufWriter<File>,
}

impl TraceWriter {
    /// Traces are off: records are dropped.
    pub fn off() -> TraceWriter {
        TraceWriter(None)
    }

    /// Creates the file of process `name` in its life `boot`, if there is a directory to create it in.
    pub fn create(dir: Option<&Path>, name: Name, boot: Boot) -> Result<TraceWriter, Failure> {
        let Some(dir) = dir else { return Ok(TraceWriter::off()) };
        let path = dir.join(format!("{name}-{}.jsonl", boot.number()));
        let created = std::fs::create_dir_all(dir).and_then(|()| File::create_new(&path));
        match created {
            Ok(file) => Ok(TraceWriter(Some(Open { path, file: BufWriter::new(file) }))),
            Err(source) => Err(Failure::Write { path, source }),
        }
    }

    /// Whether records are kept: what a machine's parameter for traces is set to.
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Adds an event that happened at `at`.
    pub fn record(&mut self, at: Time, event: Event) {
        self.write(|file| {
            serde_json::to_writer(&mut *file, &Record { at, event })?;
            file.write_all(b"\n")
        });
    }

    /// Gives everything recorded so far to the operating system.
    pub fn flush(&mut self) {
        self.write(BufWriter::flush);
    }

    /// Writes; after a failure the trace ends, since a trace with a hole would accuse the innocent.
    fn write(&mut self, write: impl FnOnce(&mut BufWriter<File>) -> std::io::Result<()>) {
        let Some(open) = &mut self.0 else { return };
        if let Err(error) = write(&mut open.file) {
            tracing::error!(path = %open.path.display(), %error, "the trace ends here");
            self.0 = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::DaemonId;

    #[test]
    fn a_flushed_record_is_in_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let (name, boot) = ("machine-1".parse().unwrap(), Boot::new(7));
        let mut trace = TraceWriter::create(Some(dir.path()), name, boot).unwrap();
        let event = Event::DaemonStart { daemon: DaemonId::new(name, boot) };
        trace.record(Time::from_micros(5), event.clone());
        trace.flush();
        let text = std::fs::read_to_string(dir.path().join("machine-1-7.jsonl")).unwrap();
        assert_eq!(text, "{\"at\":5,\"event\":\"daemon_start\",\"daemon\":\"machine-1#7\"}\n");
        let read: Record = serde_json::from_str(&text).unwrap();
        assert_eq!(read, Record { at: Time::from_micros(5), event });
    }

    #[test]
    fn a_trace_of_another_life_is_not_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let (name, boot) = ("machine-1".parse().unwrap(), Boot::new(7));
        let first = TraceWriter::create(Some(dir.path()), name, boot).unwrap();
        assert!(first.is_on());
        assert!(matches!(TraceWriter::create(Some(dir.path()), name, boot), Err(Failure::Write { .. })));
    }

    #[test]
    fn without_a_directory_nothing_is_kept() {
        let mut trace = TraceWriter::create(None, "a".parse().unwrap(), Boot::new(1)).unwrap();
        assert!(!trace.is_on());
        trace.flush();
    }
}
