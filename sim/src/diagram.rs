//! A run as text that reads like a protocol diagram.

use model::Time;
use model::trace::Event;

use crate::packet::{Node, Packet};

/// Lines so far.
#[derive(Default)]
pub struct Diagram {
    lines: Vec<String>,
}

impl Diagram {
    /// A packet was sent.
    pub fn sent(&mut self, at: Time, from: Node, to: Node, packet: &Packet) {
        self.lines.push(format!("{at} {from} -> {to} {packet:?}"));
    }

    /// A host saw something.
    pub fn seen(&mut self, at: Time, node: Node, event: &Event) {
        self.lines.push(format!("{at} {node} {event:?}"));
    }

    /// A remark.
    pub fn note(&mut self, at: Time, text: &str) {
        self.lines.push(format!("{at} {text}"));
    }

    /// The lines since the last call.
    pub fn take(&mut self) -> Vec<String> {
        std::mem::take(&mut self.lines)
    }
}
