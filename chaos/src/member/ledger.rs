//! What one attachment of a group process is told, held against what a member may be told.
//!
//! Nothing here knows how the service works. Every group process checks alone that views follow each other as views
//! do, that messages are what their senders sent, in order, once, in the view that it is in and on the terms that the
//! sender set, that it is given all its own, and told what it asked about them; what it reports of each view lets the
//! runner check that all who go from one view to the next were given the same.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use gcs_client::Event;
use model::{Digest, GroupName, GroupView, GroupViewId, Level, MessageId, Outcome, ProcessId, Terms};

use crate::report::{Move, Rest, View};

/// Whether a process has asked to be in a group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Wish {
    /// It has not, or has asked to leave since.
    #[default]
    Out,
    /// It has.
    In,
}

/// How things stand in one group.
#[derive(Debug, Default)]
struct Standing {
    wish: Wish,
    /// How often it asked to join.
    asked: u64,
    /// How many of these joins have come about.
    joined: u64,
    view: Option<Current>,
    /// The last message of each sender.
    last: BTreeMap<ProcessId, u64>,
    /// Its own messages that it is to be given, in order: after which of its joins each was sent, and which it is.
    owed: VecDeque<(u64, u64)>,
}

/// The view that it is in.
#[derive(Debug)]
struct Current {
    id: GroupViewId,
    members: BTreeSet<ProcessId>,
    messages: u64,
    digest: Digest,
}

/// Everything about one attachment.
#[derive(Debug)]
pub struct Ledger {
    me: ProcessId,
    sent: u64,
    groups: BTreeMap<GroupName, Standing>,
    /// Its own messages of which it may be told what became of them: to whom, and on what terms.
    open: BTreeMap<u64, (GroupName, Terms)>,
    /// The strict groups in which it was asked to stop.
    blocked: BTreeSet<GroupName>,
}

/// What was told and may not be.
pub type Wrong = String;

impl Ledger {
    /// Nothing was told to `me` yet.
    pub fn new(me: ProcessId) -> Ledger {
        Ledger { me, sent: 0, groups: BTreeMap::new(), open: BTreeMap::new(), blocked: BTreeSet::new() }
    }

    /// Whether the process has asked to be in `group`.
    pub fn is_in(&self, group: &GroupName) -> bool {
        self.groups.get(group).is_some_and(|standing| standing.wish == Wish::In)
    }

    /// The process asked to join.
    pub fn joins(&mut self, group: &GroupName) {
        let standing = self.groups.entry(group.clone()).or_default();
        if standing.wish == Wish::Out {
            standing.wish = Wish::In;
            standing.asked += 1;
        }
    }

    /// The process asked to leave.
    pub fn leaves(&mut self, group: &GroupName) {
        self.groups.entry(group.clone()).or_default().wish = Wish::Out;
    }

    /// Whether the process may not send to `group`.
    pub fn is_blocked(&self, group: &GroupName) -> bool {
        self.blocked.contains(group)
    }

    /// The view of `group` that it is in.
    pub fn view_of(&self, group: &GroupName) -> Option<GroupViewId> {
        self.groups.get(group)?.view.as_ref().map(|view| view.id)
    }

    /// What the next message to `group` is to contain, filled up to about `length` bytes.
    pub fn draft(&self, group: &GroupName, terms: Terms, length: usize) -> Bytes {
        content(group, MessageId::new(self.me, self.sent + 1), terms, length)
    }

    /// The next message was sent to `group`.
    pub fn sends(&mut self, group: &GroupName, terms: Terms) {
        self.sent += 1;
        if terms.report || terms.only_in.is_some() {
            self.open.insert(self.sent, (group.clone(), terms));
        }
        let standing = self.groups.entry(group.clone()).or_default();
        // Into a strict group one comes when its members have stopped; what was sent until then was sent from outside.
        let inside = standing.view.is_some() || !group.is_strict();
        if standing.wish == Wish::In && inside {
            standing.owed.push_back((standing.asked, self.sent));
        }
    }

    /// The process was told something. Returns the steps from view to view that this means.
    pub fn hears(&mut self, event: &Event) -> Result<Vec<Move>, Wrong> {
        match event {
            Event::Views(views) => {
                let mut moves = Vec::new();
                for view in views {
                    moves.extend(
                        self.views(view)
                            .map_err(|wrong| format!("{} of {}: {wrong}", view.id, view.group))?,
                    );
                }
                Ok(moves)
            }
            Event::Message { group, id, view, level, payload } => {
                let given = self.given(group, *id, *view, *level, payload);
                given.map_err(|wrong| format!("{id} to {group}: {wrong}"))?;
                Ok(Vec::new())
            }
            Event::Block(groups) => {
                let new = groups.iter().all(|group| group.is_strict() && self.blocked.insert(group.clone()));
                new.then(Vec::new)
                    .ok_or_else(|| format!("blocked twice, or where it is not strict: {groups:?}"))
            }
            Event::Unblock(groups) => {
                let known = groups.iter().all(|group| self.blocked.remove(group));
                known.then(Vec::new).ok_or_else(|| format!("unblocked and was not blocked: {groups:?}"))
            }
            Event::StateWanted { group, view }
            | Event::State { group, view, .. }
            | Event::UpToDate { group, view } => {
                let current = self.view_of(group) == Some(*view) && group.transfers_state();
                current.then(Vec::new).ok_or_else(|| format!("{event:?} is not of its view"))
            }
            Event::Outcome { number, outcome } => {
                let told = self.outcome(*number, *outcome);
                told.map_err(|wrong| format!("{outcome:?} of message {number}: {wrong}"))?;
                Ok(Vec::new())
            }
            // No cluster of these runs has a rule for that.
            Event::Primary(_) => Err("told of a primary component".to_owned()),
            Event::Lost(_) => Ok(Vec::new()),
        }
    }

    /// How things stand.
    pub fn rest(&self) -> Rest {
        let view = |(group, standing): (&GroupName, &Standing)| {
            let view = standing.view.as_ref()?;
            let members = view.members.iter().copied().collect();
            Some((group.clone(), View { id: view.id, members }))
        };
        let owed = self.groups.values().map(|standing| standing.owed.len()).sum();
        let unreported = self.open.values().filter(|(_, terms)| terms.report).count();
        Rest { process: self.me, owed, unreported, views: self.groups.iter().filter_map(view).collect() }
    }

    fn views(&mut self, view: &GroupView) -> Result<Option<Move>, Wrong> {
        let me = self.me;
        let standing = self.groups.get_mut(&view.group).ok_or("it never asked to join")?;
        let members: BTreeSet<ProcessId> = view.members.iter().map(|member| member.process).collect();
        let first = view.joined.contains(&me);
        if view.group.is_strict() && !first && !self.blocked.contains(&view.group) {
            return Err("it was not blocked".to_owned());
        }
        if members.len() != view.members.len() || !members.contains(&me) {
            return Err("it is not in it, or somebody is in it twice".to_owned());
        }
        let step = if first { standing.enter(view)? } else { Some(standing.go_on(me, view, &members)?) };
        standing.view = Some(Current { id: view.id, members, messages: 0, digest: Digest::EMPTY });
        Ok(step)
    }

    fn given(
        &mut self,
        group: &GroupName,
        id: MessageId,
        view: GroupViewId,
        level: Level,
        payload: &Bytes,
    ) -> Result<(), Wrong> {
        let standing = self.groups.get_mut(group).ok_or("it never asked to join")?;
        let current = standing.view.as_mut().ok_or("it was told no view")?;
        if current.id != view {
            return Err(format!("given in {view}, while its view is {}", current.id));
        }
        let terms = terms_in(payload).filter(|terms| *payload == content(group, id, *terms, payload.len()));
        let terms = terms.ok_or("is not what was sent")?;
        if terms.only_in.is_some_and(|only| only != view)
            || (level == Level::Safe && terms.level != Level::Safe)
        {
            return Err(format!("is not given on its terms, {terms:?}, but as {level:?} in {view}"));
        }
        let last = standing.last.entry(id.sender()).or_default();
        if id.number() <= *last {
            return Err(format!("comes after number {last} of its sender"));
        }
        *last = id.number();
        current.messages += 1;
        current.digest = current.digest.and(id.to_string().as_bytes()).and(b" ");
        if id.sender() == self.me {
            // What was sent to a strict group from outside is not owed, and given to a sender who has come in meanwhile.
            let is_owed = standing.owed.iter().any(|(_, owed)| *owed == id.number());
            if is_owed || !group.is_strict() {
                standing.settle(id.number())?;
            }
            // Whoever asked for no report is told of failures alone.
            if !terms.report {
                self.open.remove(&id.number());
            }
        }
        Ok(())
    }

    /// It was told what became of one of its own messages.
    fn outcome(&mut self, number: u64, outcome: Outcome) -> Result<(), Wrong> {
        let (group, terms) = self.open.remove(&number).ok_or("it did not ask, or was told already")?;
        let standing = self.groups.entry(group).or_default();
        let is_owed = standing.owed.iter().any(|(_, owed)| *owed == number);
        match outcome {
            Outcome::Delivered { .. } if is_owed => Err("it was not given it, and is a member".to_owned()),
            Outcome::Delivered { view, level } => {
                let as_asked = terms.report
                    && terms.only_in.is_none_or(|only| only == view)
                    && (level == Level::Agreed || terms.level == Level::Safe);
                as_asked.then_some(()).ok_or_else(|| format!("it asked for {terms:?}"))
            }
            Outcome::OtherView { view } if terms.only_in.is_none() || terms.only_in == view => {
                Err(format!("it asked for {terms:?}"))
            }
            Outcome::OtherView { .. } if is_owed => standing.settle(number),
            Outcome::NoMembers if is_owed => Err("it is a member itself".to_owned()),
            Outcome::OtherView { .. } | Outcome::NoMembers => Ok(()),
            Outcome::Blocked => Err("it sends nothing while it is blocked".to_owned()),
        }
    }
}

impl Standing {
    /// Message `number` is not owed any more. It was the next that was.
    fn settle(&mut self, number: u64) -> Result<(), Wrong> {
        match self.owed.pop_front() {
            Some((_, owed)) if owed == number => Ok(()),
            owed => Err(format!("is its own, and what it is to be given next is {owed:?}")),
        }
    }

    /// A join came about.
    fn enter(&mut self, view: &GroupView) -> Result<Option<Move>, Wrong> {
        self.joined += 1;
        if self.joined > self.asked {
            return Err(format!("it joined {} times, and asked {} times", self.joined, self.asked));
        }
        if let Some((join, number)) = self.owed.front().filter(|(join, _)| *join < self.joined) {
            return Err(format!(
                "its message {number}, sent after join {join}, was not given to it before it left"
            ));
        }
        if !view.left.is_empty() {
            return Err(format!("{:?} left a view that it was never told", view.left));
        }
        Ok(None)
    }

    /// The view follows another one.
    fn go_on(
        &mut self,
        me: ProcessId,
        view: &GroupView,
        members: &BTreeSet<ProcessId>,
    ) -> Result<Move, Wrong> {
        let before = self.view.as_ref().ok_or("it is the first, and does not say that it joined")?;
        let set = |processes: &[ProcessId]| processes.iter().copied().collect::<BTreeSet<_>>();
        let (joined, left, along) = (set(&view.joined), set(&view.left), set(&view.transitional));
        let rules = [
            (view.id > before.id, "does not come after its view"),
            (joined == members - &before.members, "those who joined are not those who are new"),
            (left == &before.members - members, "those who left are not those who are missing"),
            (along.contains(&me), "it did not come along with itself"),
            (along.is_subset(&(members & &before.members)), "somebody came along who is not in both views"),
        ];
        if let Some((_, wrong)) = rules.iter().find(|(holds, _)| !holds) {
            return Err(format!("{wrong}: {view:?} after {before:?}"));
        }
        Ok(Move {
            process: me,
            group: view.group.clone(),
            from: before.id,
            to: view.id,
            messages: before.messages,
            digest: before.digest,
        })
    }
}

/// The content of message `id` to `group`: who reads it can tell whether it is that message. `length` bytes, or a few
/// more.
fn content(group: &GroupName, id: MessageId, terms: Terms, length: usize) -> Bytes {
    let level = if terms.level == Level::Safe { "safe" } else { "agreed" };
    let report = if terms.report { "report" } else { "silent" };
    let only_in = terms.only_in.map_or("any".to_owned(), |view| view.to_string());
    let mut content = format!("{level} {report} {only_in} {group} {id} ").into_bytes();
    let filler = b'a' + (id.number() % 26) as u8;
    content.resize(length.max(content.len()), filler);
    content.into()
}

/// The terms that a content names.
fn terms_in(content: &[u8]) -> Option<Terms> {
    let mut words = content.split(|byte| *byte == b' ').map(std::str::from_utf8);
    let mut next = || words.next()?.ok();
    let level = if next()? == "safe" { Level::Safe } else { Level::Agreed };
    let report = next()? == "report";
    let only_in = match next()? {
        "any" => None,
        view => {
            let (configuration, position) = view.split_once('+')?;
            Some(GroupViewId { configuration: configuration.parse().ok()?, position: position.parse().ok()? })
        }
    };
    Some(Terms { level, only_in, report })
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{ConfigurationId, Member};

    fn process(number: u32) -> ProcessId {
        ProcessId::new("machine-1#7".parse().unwrap(), number)
    }

    fn group() -> GroupName {
        GroupName::new("g").unwrap()
    }

    fn id(position: u64) -> GroupViewId {
        GroupViewId { configuration: ConfigurationId::new(1, 1), position }
    }

    /// View number `position` of processes `members`, as process 1 is told it.
    fn view(position: u64, members: &[u32], joined: &[u32], left: &[u32], along: &[u32]) -> Event {
        let all = |numbers: &[u32]| numbers.iter().copied().map(process).collect::<Vec<_>>();
        let member = |process| Member { process, name: "m".parse().unwrap() };
        Event::Views(vec![GroupView {
            group: group(),
            id: id(position),
            members: all(members).into_iter().map(member).collect(),
            joined: all(joined),
            left: all(left),
            transitional: all(along),
            primary: false,
        }])
    }

    fn message(sender: u32, number: u64, position: u64) -> Event {
        message_on(Terms::default(), sender, number, position)
    }

    fn message_on(terms: Terms, sender: u32, number: u64, position: u64) -> Event {
        let (group, id_of) = (group(), MessageId::new(process(sender), number));
        let payload = content(&group, id_of, terms, 90);
        Event::Message { group, id: id_of, view: id(position), level: Level::Agreed, payload }
    }

    fn only_in(position: u64) -> Terms {
        Terms { only_in: Some(id(position)), ..Terms::default() }
    }

    /// Process 1, which has joined a group with process 2 in view 1.
    fn member() -> Ledger {
        let mut ledger = Ledger::new(process(1));
        ledger.joins(&group());
        assert_eq!(ledger.hears(&view(1, &[1, 2], &[1, 2], &[], &[1])), Ok(Vec::new()));
        ledger
    }

    fn wrong(ledger: &mut Ledger, event: &Event) -> String {
        ledger.hears(event).expect_err("it may not be told")
    }

    fn strict() -> GroupName {
        GroupName::new("strict:g").unwrap()
    }

    /// The same view, of a strict group.
    fn of_strict(event: Event) -> Event {
        let Event::Views(mut views) = event else { unreachable!("a view") };
        views.iter_mut().for_each(|view| view.group = strict());
        Event::Views(views)
    }

    #[test]
    fn views_of_a_strict_group_come_while_it_is_blocked() {
        let first = of_strict(view(1, &[1, 2], &[1, 2], &[], &[1]));
        let second = of_strict(view(2, &[1, 3], &[3], &[2], &[1]));
        let member = || {
            let mut ledger = Ledger::new(process(1));
            ledger.joins(&strict());
            ledger.hears(&first).unwrap();
            ledger
        };
        assert!(wrong(&mut member(), &second).contains("not blocked"));
        let mut blocked = member();
        blocked.hears(&Event::Block(vec![strict()])).unwrap();
        assert!(blocked.is_blocked(&strict()));
        blocked.hears(&second).unwrap();
        blocked.hears(&Event::Unblock(vec![strict()])).unwrap();
        assert!(!blocked.is_blocked(&strict()));
        assert!(wrong(&mut blocked, &Event::Unblock(vec![strict()])).contains("was not blocked"));
        assert!(wrong(&mut blocked, &Event::Block(vec![group()])).contains("not strict"));
    }

    #[test]
    fn steps_from_view_to_view_are_reported_with_what_was_given() {
        let digest = |order: [(u32, u64); 2]| {
            let mut ledger = member();
            for (sender, number) in order {
                ledger.hears(&message(sender, number, 1)).unwrap();
            }
            let moves = ledger.hears(&view(2, &[1, 3], &[3], &[2], &[1])).unwrap();
            assert_eq!((moves[0].from, moves[0].to, moves[0].messages), (id(1), id(2), 2));
            moves[0].digest
        };
        assert_eq!(digest([(2, 1), (3, 1)]), digest([(2, 1), (3, 1)]));
        assert_ne!(digest([(2, 1), (3, 1)]), digest([(3, 1), (2, 1)]), "the order counts");
    }

    #[test]
    fn what_was_sent_to_a_strict_group_from_outside_may_be_given_inside() {
        let mut ledger = Ledger::new(process(1));
        ledger.joins(&strict());
        ledger.sends(&strict(), Terms::default());
        assert_eq!(ledger.rest().owed, 0);
        ledger.hears(&of_strict(view(1, &[1], &[1], &[], &[1]))).unwrap();
        let sent = MessageId::new(process(1), 1);
        let payload = content(&strict(), sent, Terms::default(), 90);
        let (group, level) = (strict(), Level::Agreed);
        let given = Event::Message { group, id: sent, view: id(1), level, payload };
        ledger.hears(&given).unwrap();
        assert!(wrong(&mut ledger, &given).contains("comes after number 1"));
    }

    #[test]
    fn its_own_messages_are_owed_to_a_member() {
        let mut ledger = member();
        ledger.sends(&group(), Terms::default());
        ledger.sends(&group(), Terms::default());
        assert_eq!(ledger.rest().owed, 2);
        ledger.hears(&message(1, 1, 1)).unwrap();
        assert_eq!(ledger.rest().owed, 1);
        ledger.leaves(&group());
        ledger.sends(&group(), Terms::default());
        assert_eq!(ledger.rest().owed, 1, "who has left is given nothing");
        ledger.joins(&group());
        let again = view(2, &[1, 2], &[1, 2], &[], &[1]);
        assert!(wrong(&mut ledger, &again).contains("its message 2, sent after join 1"));
    }

    #[test]
    fn messages_that_no_member_may_be_given_are_found() {
        for (event, what) in [
            (message(2, 1, 2), "while its view is"),
            (message(1, 1, 1), "is its own"),
            (message_on(only_in(2), 2, 1, 1), "not given on its terms"),
        ] {
            assert!(wrong(&mut member(), &event).contains(what));
        }
        let Event::Message { group: of, view, level, payload, .. } = message(2, 1, 1) else {
            panic!("a message")
        };
        let other = Event::Message { group: of, id: MessageId::new(process(2), 2), view, level, payload };
        assert!(wrong(&mut member(), &other).contains("not what was sent"));
        let mut ledger = member();
        ledger.hears(&message(2, 2, 1)).unwrap();
        assert!(wrong(&mut ledger, &message(2, 2, 1)).contains("comes after number 2"));
        assert!(wrong(&mut Ledger::new(process(1)), &message(2, 1, 1)).contains("never asked"));
    }

    #[test]
    fn views_that_no_member_may_be_told_are_found() {
        for (event, what) in [
            (view(2, &[2], &[], &[1], &[1]), "it is not in it"),
            (view(1, &[1, 2], &[], &[], &[1]), "does not come after"),
            (view(2, &[1, 2, 3], &[], &[], &[1]), "who joined"),
            (view(2, &[1], &[], &[], &[1]), "who left"),
            (view(2, &[1, 2], &[], &[], &[2]), "with itself"),
            (view(2, &[1, 2], &[], &[], &[1, 3]), "not in both"),
            (view(2, &[1, 2], &[1, 2], &[], &[1]), "asked 1 times"),
        ] {
            assert!(wrong(&mut member(), &event).contains(what), "{what}");
        }
    }

    #[test]
    fn what_became_of_its_messages_is_told_once_and_fits_what_it_asked() {
        let outcome = |number, outcome| Event::Outcome { number, outcome };
        let delivered = Outcome::Delivered { view: id(1), level: Level::Agreed };
        let elsewhere = Outcome::OtherView { view: Some(id(2)) };
        let report = Terms { report: true, ..Terms::default() };
        for (terms, given, told, what) in [
            (report, false, delivered, "it was not given it"),
            (report, true, Outcome::Delivered { view: id(1), level: Level::Safe }, "it asked for"),
            (report, false, elsewhere, "it asked for"),
            (report, false, Outcome::NoMembers, "it is a member itself"),
            (Terms::default(), true, delivered, "it did not ask"),
            (only_in(1), true, delivered, "it did not ask"),
            (only_in(2), false, elsewhere, "it asked for"),
            (report, true, Outcome::Blocked, "while it is blocked"),
        ] {
            let mut ledger = member();
            ledger.sends(&group(), terms);
            if given {
                ledger.hears(&message_on(terms, 1, 1, 1)).unwrap();
            }
            assert!(wrong(&mut ledger, &outcome(1, told)).contains(what), "{terms:?} {told:?}");
        }
        let mut ledger = member();
        ledger.sends(&group(), only_in(1));
        ledger.sends(&group(), report);
        ledger.hears(&outcome(1, elsewhere)).unwrap();
        ledger.hears(&message_on(report, 1, 2, 1)).unwrap();
        assert_eq!((ledger.rest().owed, ledger.rest().unreported), (0, 1));
        ledger.hears(&outcome(2, delivered)).unwrap();
        assert_eq!(ledger.rest().unreported, 0);
        assert!(wrong(&mut ledger, &outcome(2, delivered)).contains("told already"));
    }
}
