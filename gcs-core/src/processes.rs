//! The local processes, and what they have handed in that is not cast yet.
//!
//! Requests wait in one queue while the window is full, a configuration is being left, or group tables are being
//! merged, and are cast in the order in which they came. The queue is bounded: at half its limit the host is told to
//! hold, at a quarter to go on, and at the limit requests are rejected. Only the news that a process is gone is
//! always taken, once for each process.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;

use bytes::Bytes;
use model::{GroupName, Name, Terms};

use crate::fault::Rejection;
use crate::message::Payload;
use crate::params::{Limit, Params};
use crate::port::Throttle;

/// An attached process.
#[derive(Clone, Debug, Hash)]
struct Process {
    name: Name,
    /// Multicasts accepted so far.
    multicasts: u64,
    standing: Standing,
}

/// Whether other daemons may know a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Standing {
    /// It never asked to join a group.
    Unknown,
    /// It did: when it is gone, the others must be told.
    Known,
}

/// The local processes and the queue.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Processes {
    attached: BTreeMap<u32, Process>,
    waiting: VecDeque<Payload>,
    waiting_bytes: usize,
    throttle: Throttle,
    limit: Limit,
    payload_bytes_max: usize,
    groups_per_request_max: usize,
    connections_max: usize,
}

impl Processes {
    pub(crate) fn new(params: &Params) -> Processes {
        Processes {
            attached: BTreeMap::new(),
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            throttle: Throttle::Go,
            limit: params.queue,
            payload_bytes_max: params.payload_bytes_max,
            groups_per_request_max: params.groups_per_request_max,
            connections_max: params.connections_max,
        }
    }

    /// The connections of all processes.
    pub(crate) fn connections(&self) -> impl Iterator<Item = u32> {
        self.attached.keys().copied()
    }

    pub(crate) fn attached(&self, connection: u32) -> bool {
        self.attached.contains_key(&connection)
    }

    pub(crate) fn attach(&mut self, connection: u32, name: Name) -> Result<(), Rejection> {
        if self.attached(connection) {
            return Err(Rejection::AlreadyAttached);
        }
        if self.attached.len() >= self.connections_max {
            return Err(Rejection::TooManyConnections { max: self.connections_max });
        }
        self.attached.insert(connection, Process { name, multicasts: 0, standing: Standing::Unknown });
        Ok(())
    }

    /// The process is gone. What it handed in before stays.
    pub(crate) fn detach(&mut self, connection: u32) -> Result<(), Rejection> {
        let process = self.attached.remove(&connection).ok_or(Rejection::NotAttached)?;
        match process.standing {
            Standing::Known => self.push(Payload::Gone { connection }),
            Standing::Unknown => {}
        }
        Ok(())
    }

    pub(crate) fn join(&mut self, connection: u32, groups: Vec<GroupName>) -> Result<(), Rejection> {
        self.check_groups(&groups)?;
        self.check_room()?;
        let process = self.attached.get_mut(&connection).ok_or(Rejection::NotAttached)?;
        process.standing = Standing::Known;
        let name = process.name;
        self.push(Payload::Join { connection, name, groups: groups.into() });
        Ok(())
    }

    pub(crate) fn leave(&mut self, connection: u32, groups: Vec<GroupName>) -> Result<(), Rejection> {
        self.check_groups(&groups)?;
        self.check_room()?;
        if !self.attached(connection) {
            return Err(Rejection::NotAttached);
        }
        self.push(Payload::Leave { connection, groups: groups.into() });
        Ok(())
    }

    /// Takes a multicast and returns its number.
    pub(crate) fn multicast(
        &mut self,
        connection: u32,
        group: GroupName,
        bytes: Bytes,
        terms: Terms,
    ) -> Result<u64, Rejection> {
        self.check_payload(bytes.len())?;
        self.check_room()?;
        let process = self.attached.get_mut(&connection).ok_or(Rejection::NotAttached)?;
        process.multicasts += 1;
        let number = process.multicasts;
        self.push(Payload::Multicast { connection, number, group, bytes, terms });
        Ok(number)
    }

    /// Takes a part of a state.
    pub(crate) fn state(&mut self, connection: u32, state: Payload, bytes: usize) -> Result<(), Rejection> {
        self.check_payload(bytes)?;
        self.check_room()?;
        if !self.attached(connection) {
            return Err(Rejection::NotAttached);
        }
        self.push(state);
        Ok(())
    }

    /// Numbers a multicast that is not taken.
    pub(crate) fn pass_over(&mut self, connection: u32) -> Result<u64, Rejection> {
        let process = self.attached.get_mut(&connection).ok_or(Rejection::NotAttached)?;
        process.multicasts += 1;
        Ok(process.multicasts)
    }

    fn check_payload(&self, bytes: usize) -> Result<(), Rejection> {
        let max = self.payload_bytes_max;
        if bytes > max { Err(Rejection::PayloadTooLong { bytes, max }) } else { Ok(()) }
    }

    fn check_groups(&self, groups: &[GroupName]) -> Result<(), Rejection> {
        match groups.len() {
            0 => Err(Rejection::NoGroups),
            count if count > self.groups_per_request_max => {
                Err(Rejection::TooManyGroupsInRequest { max: self.groups_per_request_max })
            }
            _ => Ok(()),
        }
    }

    fn check_room(&self) -> Result<(), Rejection> {
        if self.limit.reached(self.waiting.len(), self.waiting_bytes) {
            return Err(Rejection::Overloaded);
        }
        Ok(())
    }

    /// Queues what is taken however full the queue is.
    pub(crate) fn push(&mut self, mut payload: Payload) {
        // A member that stops in many groups one by one takes one place.
        if let Payload::Stopped { connection, groups } = &mut payload
            && let Some(Payload::Stopped { connection: before, groups: stopped }) = self.waiting.back()
            && before == connection
        {
            *groups = stopped.iter().chain(groups.iter()).cloned().collect();
            self.pop_back();
        }
        self.waiting_bytes += payload.cost();
        self.waiting.push_back(payload);
    }

    fn pop_back(&mut self) {
        if let Some(payload) = self.waiting.pop_back() {
            self.waiting_bytes -= payload.cost();
        }
    }

    /// The next payload to cast.
    pub(crate) fn pop(&mut self) -> Option<Payload> {
        let payload = self.waiting.pop_front()?;
        self.waiting_bytes -= payload.cost();
        Some(payload)
    }

    /// Whether something waits that belongs to this configuration: a message to a strict group, or the word that a
    /// member has stopped.
    pub(crate) fn tied(&self) -> bool {
        self.waiting.iter().any(|payload| match payload {
            Payload::Multicast { group, .. } => group.is_strict(),
            Payload::Stopped { .. } => true,
            Payload::Join { .. }
            | Payload::Leave { .. }
            | Payload::State { .. }
            | Payload::Uninformed { .. }
            | Payload::Gone { .. }
            | Payload::Table(_) => false,
        })
    }

    /// How many payloads wait.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// What to tell the host if that changed.
    pub(crate) fn throttle(&mut self) -> Option<Throttle> {
        let (entries, bytes) = (self.waiting.len(), self.waiting_bytes);
        let wanted = match self.throttle {
            Throttle::Go if self.limit.over(2).reached(entries, bytes) => Throttle::Hold,
            Throttle::Hold if !self.limit.over(4).reached(entries, bytes) => Throttle::Go,
            unchanged @ (Throttle::Go | Throttle::Hold) => unchanged,
        };
        (core::mem::replace(&mut self.throttle, wanted) != wanted).then_some(wanted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn processes() -> Processes {
        let queue = Limit { entries: 8, bytes: 1 << 20 };
        let params = Params { queue, connections_max: 2, payload_bytes_max: 10, ..Params::lan() };
        let mut processes = Processes::new(&params);
        processes.attach(1, "p".parse().unwrap()).unwrap();
        processes
    }

    fn group() -> GroupName {
        GroupName::new("g").unwrap()
    }

    #[test]
    fn what_cannot_be_is_rejected_with_its_reason() {
        let mut p = processes();
        let name: Name = "q".parse().unwrap();
        assert_eq!(p.attach(1, name), Err(Rejection::AlreadyAttached));
        p.attach(2, name).unwrap();
        assert_eq!(p.attach(3, name), Err(Rejection::TooManyConnections { max: 2 }));
        assert_eq!(p.join(1, [].into()), Err(Rejection::NoGroups));
        assert_eq!(p.join(3, [group()].into()), Err(Rejection::NotAttached));
        let long = Bytes::from_static(b"elevenbytes");
        assert_eq!(
            p.multicast(1, group(), long, Terms::default()),
            Err(Rejection::PayloadTooLong { bytes: 11, max: 10 })
        );
        assert_eq!(p.detach(3), Err(Rejection::NotAttached));
        assert_eq!(p.waiting(), 0);
    }

    #[test]
    fn the_queue_holds_the_host_at_half_and_rejects_when_full() {
        let mut p = processes();
        let mut throttled = Vec::new();
        for _ in 0..8 {
            p.multicast(1, group(), Bytes::new(), Terms::default()).unwrap();
            throttled.extend(p.throttle());
        }
        assert_eq!(throttled, [Throttle::Hold]);
        assert_eq!(p.multicast(1, group(), Bytes::new(), Terms::default()), Err(Rejection::Overloaded));
        p.pop().unwrap();
        p.join(1, [group()].into()).unwrap();
        p.detach(1).unwrap();
        assert_eq!(p.waiting(), 9, "that a process is gone is always taken");
        while p.pop().is_some() {
            throttled.extend(p.throttle());
        }
        assert_eq!(throttled, [Throttle::Hold, Throttle::Go]);
    }

    #[test]
    fn only_a_process_that_others_know_leaves_a_word_behind() {
        let mut p = processes();
        p.detach(1).unwrap();
        assert_eq!(p.pop(), None);
        p.attach(2, "q".parse().unwrap()).unwrap();
        p.join(2, [group()].into()).unwrap();
        p.detach(2).unwrap();
        p.pop().unwrap();
        assert_eq!(p.pop(), Some(Payload::Gone { connection: 2 }));
    }

    #[test]
    fn multicasts_are_numbered_for_each_process() {
        let mut p = processes();
        p.attach(2, "q".parse().unwrap()).unwrap();
        let numbers = [1, 2, 1]
            .map(|connection| p.multicast(connection, group(), Bytes::new(), Terms::default()).unwrap());
        assert_eq!(numbers, [1, 1, 2]);
    }
}
