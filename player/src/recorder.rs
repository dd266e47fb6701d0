//! What a client sees, as a trace for the checkers.

use std::path::Path;

use model::trace::Event;
use model::{Boot, Digest, Name, SessionId};
use svc_kit::driver::Clock;
use svc_kit::shutdown::Failure;
use svc_kit::trace::TraceWriter;

/// Writes the trace of one client, or nothing.
pub struct Recorder {
    clock: Clock,
    writer: TraceWriter,
}

impl Recorder {
    /// Writes nothing.
    pub fn off() -> Recorder {
        Recorder { clock: Clock::start(), writer: TraceWriter::off() }
    }

    /// Writes to a new file in `dir`, if there is one.
    ///
    /// # Errors
    /// If the file cannot be created.
    pub fn create(dir: Option<&Path>, name: Name) -> Result<Recorder, Failure> {
        let clock = Clock::start();
        let boot = Boot::new(clock.now().as_micros());
        Ok(Recorder { clock, writer: TraceWriter::create(dir, name, boot)? })
    }

    /// Writes any event that the driver of a run alone sees.
    pub fn note(&mut self, event: Event) {
        self.writer.record(self.clock.now(), event);
        self.writer.flush();
    }

    pub(crate) fn attached(&mut self, session: SessionId, after: u64) {
        self.note(Event::ClientAttach { session, after });
    }

    pub(crate) fn received(&mut self, session: SessionId, response: u64, payload: &[u8]) {
        if self.writer.is_on() {
            self.note(Event::ClientReceive { session, response, digest: Digest::of(payload) });
        }
    }
}
