//! The network: what is on its way from one daemon to another.

use std::collections::VecDeque;
use std::sync::Arc;

use gcs_core::{Epoch, Message};

/// A frame on its way.
#[derive(Clone, Hash)]
pub(super) struct Frame {
    pub epoch: Epoch,
    pub number: u64,
    pub message: Arc<Message>,
}

/// Everything that goes from one daemon to another, and the acknowledgements that come back.
#[derive(Clone, Default, Hash)]
pub(super) struct Link {
    /// The sender wants a connection.
    pub wanted: Option<Epoch>,
    /// It has it.
    pub open: bool,
    pub frames: VecDeque<Frame>,
    /// Frames of connections that the sender closed, or died with: any of the first of them may still arrive.
    pub late: VecDeque<Frame>,
    pub acks: VecDeque<(Epoch, u64)>,
}

impl Link {
    pub(super) fn want(&mut self, epoch: Epoch) {
        self.wanted = Some(epoch);
    }

    pub(super) fn is_wanted(&self) -> bool {
        self.wanted.is_some() && !self.open
    }

    /// The sender closes its connection, or is dead. What is on its way may still arrive, unless it is `lost`.
    pub(super) fn close(&mut self, lost: bool) {
        self.wanted = None;
        self.open = false;
        let frames = std::mem::take(&mut self.frames);
        if !lost {
            self.late.extend(frames);
        }
        self.acks.clear();
    }

    /// The connection is made. What comes of earlier ones is refused from here on, so it may as well be lost.
    pub(super) fn open(&mut self) {
        self.open = true;
        self.late.clear();
    }
}
