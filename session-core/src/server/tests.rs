//! Scripts: a few servers in groups that never fail them, and what they do then. The gateway is played by the test.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::time::Duration;

use bytes::Bytes;
use model::{
    Address, Boot, ConfigurationId, DaemonId, Fence, GroupName, GroupView, GroupViewId, Level, Machine,
    Member, ProcessId, SessionId, Time, UnitId,
};

use super::*;
use crate::credit::Credit;
use crate::edition::{ContentId, Head, encode_context};
use crate::message::{
    ContentMessage, Cursor, GatewayId, Response, Resume, Secret, ServiceMessage, SessionMessage, ToGateway,
    ToServer, encode,
};
use crate::service::{Next, Refusal, RefusalKind, UnitInfo};
use crate::unit_db::{Components, Ordered, Policy, PolicyChange};
use shown::shown;

/// Counts: responses are the numbers from where the last request, a number, put it. A response is due each second
/// from the first one on, if `paced`.
#[derive(Clone, Debug)]
struct Counter {
    units: Vec<UnitId>,
    /// Of each of them.
    editions: Vec<Edition>,
    paced: bool,
    /// From one number to the next: left to chance, as far as others know.
    step: u32,
    commit: Option<Level>,
    /// Of two contexts the greater number counts.
    merges: bool,
}

impl ContentService for Counter {
    type Context = (u32, Option<Time>);

    fn units(&self) -> Vec<UnitInfo> {
        let info = |unit: &UnitId, edition: &Edition| UnitInfo {
            unit: unit.clone(),
            edition: *edition,
            title: "Numbers".into(),
            media_type: "text/plain".into(),
            duration: Duration::ZERO,
            size: 0,
        };
        let of_unit = |unit| self.editions.iter().map(move |edition| info(unit, edition));
        self.units.iter().flat_map(of_unit).collect()
    }

    fn open(&self, _: &ContentId) -> Self::Context {
        (0, None)
    }

    fn apply(&self, _: &ContentId, context: &mut Self::Context, request: &[u8]) -> Result<(), Refusal> {
        let number = core::str::from_utf8(request).ok().and_then(|text| text.parse().ok());
        let refusal = || Refusal { kind: RefusalKind::Malformed, message: "not a number".into() };
        context.0 = number.ok_or_else(refusal)?;
        Ok(())
    }

    fn next(&self, _: &ContentId, context: &mut Self::Context, now: Time) -> Next {
        let due = match context.1 {
            Some(last) if self.paced => last + Duration::from_secs(1),
            Some(_) | None => now,
        };
        if now < due {
            return Next::At(due);
        }
        *context = (context.0 + self.step, Some(due));
        if context.0 == UNLUCKY {
            return Next::Fail { why: "unlucky".into() };
        }
        let zeros = if context.0 == ENDLESS { ENDLESS as usize } else { 0 };
        Next::Respond { payload: Bytes::from("0".repeat(zeros) + &context.0.to_string()), last: false }
    }

    fn commit(&self, _: &ContentId) -> Option<Level> {
        self.commit
    }

    fn merge(&self, _: &ContentId, one: &Self::Context, other: &Self::Context) -> Option<Self::Context> {
        self.merges.then(|| *one.max(other))
    }

    /// Even numbers are.
    fn is_essential(&self, _: &ContentId, response: &[u8]) -> bool {
        response.last().is_some_and(|digit| digit % 2 == 0)
    }
}

mod claims;
mod commit;
mod content;
mod faults;
mod shown;
mod sides;
mod told;
mod uncertain;

/// Of two idle servers, the tie for this session falls to `a`.
const SESSION: SessionId = SessionId::new(4);
const SECRET: Secret = Secret::new(1);
const PERIOD: Duration = Duration::from_millis(500);
const TTL: Duration = Duration::from_secs(60);

/// The number with which [`Counter`] cannot go on, and one that comes after as many zeros.
const UNLUCKY: u32 = 1313;
const ENDLESS: u32 = 1 << 20;

fn unit() -> UnitId {
    UnitId::new("u").unwrap()
}

fn counter() -> Counter {
    let (units, editions) = (Vec::from([unit()]), Vec::from([Edition::ONLY]));
    Counter { units, editions, paced: false, step: 1, commit: None, merges: false }
}

fn gateway(name: &str) -> GatewayId {
    GatewayId { name: name.parse().unwrap(), boot: Boot::new(1), address: Address::new("localhost:1") }
}

fn process(name: &str) -> ProcessId {
    ProcessId::new(DaemonId::new(name.parse().unwrap(), Boot::new(1)), 1)
}

fn context(number: u32) -> Bytes {
    encode_context(Head::new(Edition::ONLY), &(number, Some(Time::ZERO)))
}

/// Servers, the groups that they are in, and all multicasts in one order.
struct Cluster {
    servers: BTreeMap<&'static str, Server<Counter>>,
    groups: BTreeMap<GroupName, BTreeSet<&'static str>>,
    views: u64,
    multicasts: VecDeque<(ProcessId, GroupName, Bytes)>,
    /// How many of them servers have made.
    said: usize,
    now: Time,
    /// What servers did, other than in groups: `a: started 1 at 0`.
    seen: Vec<String>,
    fence: Fence,
}

impl Cluster {
    fn new(names: &[&'static str], service: &Counter) -> Cluster {
        let policy = Policy { period: PERIOD, ..Policy::default() };
        let params = Params { policy, detach_ttl: TTL, ..Params::default() };
        let mut cluster = Cluster {
            servers: BTreeMap::new(),
            groups: BTreeMap::new(),
            views: 0,
            multicasts: VecDeque::new(),
            said: 0,
            now: Time::ZERO,
            seen: Vec::new(),
            fence: Fence::NONE,
        };
        for &name in names {
            cluster.servers.insert(name, Server::new(service.clone(), params.clone()));
            cluster.tell(name, Input::Attached(process(name)));
        }
        cluster.seen.clear();
        cluster
    }

    /// `a` is the primary of [`SESSION`] at gateway `g`, and `b` its backup; both have a stream to `g`.
    fn playing() -> Cluster {
        Cluster::playing_with(&counter())
    }

    fn playing_with(service: &Counter) -> Cluster {
        Cluster::playing_among(&["a", "b"], service)
    }

    fn playing_among(names: &[&'static str], service: &Counter) -> Cluster {
        let mut cluster = Cluster::new(names, service);
        let (session, secret) = (SESSION, SECRET);
        cluster.multicast(ContentMessage::Start { session, secret, gateway: gateway("g") });
        let known = cluster.status("a").session;
        assert_eq!(known.primary, Some(process("a")), "where the tie falls");
        cluster.fence = known.fence;
        cluster.seen.clear();
        cluster.tell("b", Input::GatewayUp(gateway("g")));
        let up = cluster.tell("a", Input::GatewayUp(gateway("g")));
        assert_eq!(up, ["a: claim 0"]);
        cluster
    }

    fn multicast(&mut self, message: ContentMessage) -> Vec<String> {
        let group = Purpose::Content(unit()).group();
        self.multicasts.push_back((process("g"), group, encode(&message)));
        self.run()
    }

    fn request(&mut self, number: u64, operation: &'static str) -> Vec<String> {
        let message = SessionMessage::Request { number, operation: Bytes::from_static(operation.as_bytes()) };
        let group = Purpose::Session(unit(), SESSION).group();
        self.multicasts.push_back((process("g"), group, encode(&message)));
        self.run()
    }

    /// Tells a server, and lets the groups do what follows. Returns what was seen.
    fn tell(&mut self, name: &'static str, input: Input<Counter>) -> Vec<String> {
        self.step(name, input);
        self.run()
    }

    fn step(&mut self, name: &'static str, input: Input<Counter>) {
        let out = self.handle(name, input);
        self.perform(name, out);
    }

    fn handle(&mut self, name: &'static str, input: Input<Counter>) -> Vec<Output> {
        let mut out = Vec::new();
        // The dead are in some groups until all have been told.
        if let Some(server) = self.servers.get_mut(name) {
            server.handle(self.now, input, &mut out);
        }
        out
    }

    fn perform(&mut self, name: &'static str, out: Vec<Output>) {
        for output in out {
            match output {
                Output::Join(groups) => groups.into_iter().for_each(|group| self.change(group, name, true)),
                Output::Leave(groups) => groups.into_iter().for_each(|group| self.change(group, name, false)),
                Output::Multicast { group, payload, .. } => {
                    self.multicasts.push_back((process(name), group, payload));
                    self.said += 1;
                }
                Output::Dial(gateway) => self.seen.push(format!("{name}: dial {}", gateway.name)),
                Output::Hangup(gateway) => self.seen.push(format!("{name}: hang up on {}", gateway.name)),
                Output::Send(_, message) => {
                    self.seen.extend(shown(message).into_iter().map(|shown| format!("{name}: {shown}")));
                }
                Output::Failed { fault, .. } => self.seen.push(format!("{name}: {fault}")),
                Output::Stalled { to, .. } => self.seen.push(format!("{name}: stalled, {}", to.is_some())),
                Output::RoleChanged { role, .. } => self.seen.push(format!("{name}: {role:?}")),
                Output::Refused { error, .. } => self.seen.push(format!("{name}: {error}")),
                Output::Drained => self.seen.push(format!("{name}: drained")),
                Output::Ordered { ticket, outcome } => {
                    let outcome = outcome.map(|done| match done {
                        Ordered::Moved(moved) => moved.to.daemon().name().to_string(),
                        Ordered::Published(edition) => edition.to_string(),
                        Ordered::Held => "held".into(),
                        Ordered::Founded => "founded".into(),
                        Ordered::Intended | Ordered::Dismissed => "done".into(),
                        Ordered::Adjusted(Policy { backups, period, .. }) => format!("{backups}, {period:?}"),
                    });
                    self.seen.push(format!("{name}: order {ticket}: {outcome:?}"));
                }
                Output::Trace(_) | Output::Happened { .. } => {}
            }
        }
    }

    /// A server joins or leaves a group, in its place among the multicasts.
    fn change(&mut self, group: GroupName, name: &'static str, joins: bool) {
        self.deliver();
        let before = self.groups.entry(group.clone()).or_default().clone();
        let members = self.groups.entry(group.clone()).or_default();
        if !(if joins { members.insert(name) } else { members.remove(name) }) {
            return;
        }
        let members = members.clone();
        self.views += 1;
        let id = GroupViewId { configuration: ConfigurationId::new(1, 0), position: self.views };
        for &member in &members {
            let known = before.contains(member);
            let processes = |names: &BTreeSet<&'static str>| names.iter().map(|it| process(it)).collect();
            let along: BTreeSet<_> = if known { &before & &members } else { BTreeSet::from([member]) };
            let new: BTreeSet<_> = if known { &members - &before } else { members.clone() };
            let gone: BTreeSet<_> = if known { &before - &members } else { BTreeSet::new() };
            let view = GroupView {
                group: group.clone(),
                id,
                members: members
                    .iter()
                    .map(|it| Member { process: process(it), name: it.parse().unwrap() })
                    .collect(),
                joined: processes(&new),
                left: processes(&gone),
                transitional: processes(&along),
                primary: false,
            };
            self.step(member, Input::Views(Vec::from([view])));
        }
    }

    /// Delivers all multicasts. What follows from one of them comes after it for everybody.
    fn deliver(&mut self) {
        while let Some((sender, group, payload)) = self.multicasts.pop_front() {
            let mut follows = Vec::new();
            for member in self.groups.get(&group).cloned().unwrap_or_default() {
                let (group, payload) = (group.clone(), payload.clone());
                let message = Input::Message { group, sender, payload, level: Level::Agreed };
                follows.push((member, self.handle(member, message)));
            }
            follows.into_iter().for_each(|(member, out)| self.perform(member, out));
        }
    }

    fn run(&mut self) -> Vec<String> {
        self.deliver();
        core::mem::take(&mut self.seen)
    }

    /// A server is killed: it is out of all its groups.
    fn kill(&mut self, name: &'static str) -> Vec<String> {
        self.servers.remove(name);
        for group in self.groups.keys().cloned().collect::<Vec<_>>() {
            self.change(group, name, false);
        }
        self.run()
    }

    /// Lets time pass, at all servers.
    fn wait(&mut self, time: Duration) -> Vec<String> {
        let end = self.now + time;
        loop {
            let due =
                |(name, server): (&&'static str, &Server<Counter>)| Some((server.next_wake()?.0, *name));
            let Some((at, name)) = self.servers.iter().filter_map(due).min().filter(|(at, _)| *at <= end)
            else {
                break;
            };
            self.now = self.now.max(at);
            let mut out = Vec::new();
            if let Some(server) = self.servers.get_mut(name) {
                server.wake(self.now, &mut out);
            }
            self.perform(name, out);
            self.deliver();
        }
        self.now = end;
        self.run()
    }

    /// The gateway grants a claim, for a client that has room for so many responses; without any, there is no client.
    fn grant(&mut self, name: &'static str, stream: u64, resume: Resume, credit: u64) -> Vec<String> {
        self.grant_and_repeat(name, stream, resume, credit, u64::MAX)
    }

    fn grant_and_repeat(
        &mut self,
        name: &'static str,
        stream: u64,
        resume: Resume,
        credit: u64,
        repeats_from: u64,
    ) -> Vec<String> {
        let credit = (credit > 0).then(|| Credit::responses(credit));
        self.grant_with(name, stream, resume, credit, repeats_from)
    }

    fn grant_with(
        &mut self,
        name: &'static str,
        stream: u64,
        resume: Resume,
        credit: Option<Credit>,
        repeats_from: u64,
    ) -> Vec<String> {
        let fence = self.fence;
        let serve = ToServer::Serve { session: SESSION, fence, stream, resume, credit, repeats_from };
        self.tell(name, Input::Gateway(gateway("g"), serve))
    }

    fn credit(&mut self, name: &'static str, stream: u64, up_to: u64) -> Vec<String> {
        let up_to = Credit::responses(up_to);
        let credit = ToServer::Credit { session: SESSION, stream, up_to };
        self.tell(name, Input::Gateway(gateway("g"), credit))
    }

    fn fenced(&mut self, name: &'static str) -> Vec<String> {
        let fenced = ToServer::Fenced { session: SESSION, fence: self.fence };
        self.tell(name, Input::Gateway(gateway("g"), fenced))
    }

    /// An operator asks `name` to move [`SESSION`].
    fn order(&mut self, name: &'static str, to: Option<&str>) -> Vec<String> {
        let to = to.map(|to| to.parse().unwrap());
        self.tell(name, Input::Move { ticket: 7, unit: unit(), session: SESSION, to })
    }

    fn status(&self, name: &str) -> SessionStatus<'_> {
        self.servers[name].sessions().next().unwrap()
    }
}

fn after(responses: u64, requests: u64, number: u32) -> Resume {
    Resume::After(Cursor { responses, requests, context: context(number) })
}

const NOTHING: [&str; 0] = [];

#[test]
fn a_primary_sends_as_much_as_it_may() {
    let mut cluster = Cluster::playing();
    assert_eq!(
        cluster.grant("a", 1, Resume::Beginning, 2),
        ["a: start 1 after 0/0", "a: response 1 is 1", "a: response 2 is 2"]
    );
    assert_eq!(cluster.credit("a", 1, 3), ["a: response 3 is 3"]);
    assert_eq!(cluster.credit("a", 1, 3), NOTHING);
    assert_eq!(cluster.credit("a", 9, 8), NOTHING, "another stream");
}

#[test]
fn responses_are_sent_when_they_are_due() {
    let mut cluster = Cluster::playing_with(&Counter { paced: true, ..counter() });
    assert_eq!(cluster.grant("a", 1, Resume::Beginning, 9).len(), 2);
    assert_eq!(cluster.wait(Duration::from_millis(999)), NOTHING);
    assert_eq!(cluster.wait(Duration::from_millis(1)), ["a: response 2 is 2"]);
    assert_eq!(cluster.wait(Duration::from_secs(2)), ["a: response 3 is 3", "a: response 4 is 4"]);
}

#[test]
fn a_request_is_applied_at_primary_and_backup_and_acknowledged_by_the_primary() {
    let mut cluster = Cluster::playing();
    cluster.grant("a", 1, Resume::Beginning, 1);
    assert_eq!(cluster.request(1, "70"), ["a: applied 1"]);
    assert_eq!(cluster.request(1, "90"), ["a: applied 1"], "a repetition");
    assert_eq!(cluster.request(2, "x"), ["a: refused 2"]);
    assert_eq!(cluster.request(2, "x"), ["a: refused 2"]);
    assert_eq!(cluster.request(4, "80"), NOTHING, "the third is missing");
    assert_eq!(cluster.request(3, "75"), ["a: applied 3", "a: applied 4"]);
    assert_eq!(cluster.credit("a", 1, 2), ["a: response 2 is 81"]);
    assert_eq!((cluster.status("a").requests, cluster.status("b").requests), (4, 4));
}

#[test]
fn requests_are_applied_and_acknowledged_while_no_client_is_attached() {
    let mut cluster = Cluster::playing();
    assert_eq!(cluster.grant("a", 1, Resume::Beginning, 0), ["a: start 1 after 0/0"]);
    assert_eq!(cluster.request(1, "70"), ["a: applied 1"]);
}

#[test]
fn contexts_are_propagated_at_the_start_and_then_each_period() {
    let mut cluster = Cluster::playing();
    cluster.grant("a", 1, Resume::Beginning, 1);
    cluster.wait(Duration::ZERO);
    assert_eq!((cluster.status("b").responses, cluster.servers["a"].untold_since()), (1, None));
    let since = cluster.now;
    cluster.credit("a", 1, 4);
    cluster.wait(PERIOD - Duration::from_millis(1));
    assert_eq!((cluster.status("a").responses, cluster.status("b").responses), (4, 1));
    assert_eq!(cluster.servers["a"].untold_since(), Some(since));
    cluster.wait(Duration::from_millis(1));
    assert_eq!((cluster.status("b").responses, cluster.servers["a"].untold_since()), (4, None));
}

#[test]
fn a_backup_takes_over_from_where_the_client_is() {
    let mut cluster = Cluster::playing();
    cluster.grant("a", 1, Resume::Beginning, 1);
    cluster.wait(Duration::ZERO);
    cluster.request(1, "70");
    cluster.credit("a", 1, 3);
    assert_eq!(cluster.kill("a"), ["b: Primary", "b: claim 1"]);
    cluster.fence = cluster.status("b").session.fence;
    // The client has the response that was sent before the request: the request is applied to that again.
    assert_eq!(
        cluster.grant("b", 2, after(1, 0, 1), 2),
        ["b: start 2 after 1/0", "b: applied 1", "b: response 2 is 71", "b: response 3 is 72"]
    );
    assert_eq!(cluster.request(1, "70"), ["b: applied 1"]);
    assert_eq!(cluster.credit("b", 2, 4), ["b: response 4 is 73"]);
}

#[test]
fn what_was_granted_to_a_primary_before_counts_for_nothing() {
    let mut cluster = Cluster::playing();
    assert_eq!(cluster.kill("a"), ["b: Primary", "b: claim 0"]);
    assert_eq!(cluster.grant("b", 2, Resume::Beginning, 2), NOTHING, "the fence is the old one");
}

#[test]
fn after_a_break_of_the_stream_the_session_is_claimed_again() {
    let mut cluster = Cluster::playing();
    cluster.grant("a", 1, Resume::Beginning, 2);
    assert_eq!(cluster.tell("a", Input::GatewayDown(gateway("g"))), NOTHING);
    assert_eq!(cluster.credit("a", 1, 9), NOTHING);
    assert_eq!(cluster.tell("a", Input::GatewayUp(gateway("g"))), ["a: claim 0"]);
    assert_eq!(cluster.grant("a", 2, after(1, 0, 1), 1), ["a: start 2 after 1/0", "a: response 2 is 2"]);
}

#[test]
fn a_session_whose_gateway_does_not_come_back_ends_and_the_gateway_is_given_up() {
    let mut cluster = Cluster::playing();
    cluster.grant("a", 1, Resume::Beginning, 2);
    cluster.tell("a", Input::GatewayDown(gateway("g")));
    cluster.tell("b", Input::GatewayDown(gateway("g")));
    cluster.wait(TTL - Duration::from_millis(1));
    assert!(cluster.servers["a"].sessions().next().is_some());
    let seen = cluster.wait(2 * TTL);
    assert_eq!(seen, ["a: None", "b: None", "b: hang up on g", "a: hang up on g"]);
    assert_eq!(cluster.servers["a"].sessions().count(), 0);
    assert_eq!(cluster.servers["a"].next_wake(), None);
}

#[test]
fn a_client_that_moves_takes_its_session_along() {
    let mut cluster = Cluster::playing();
    cluster.grant("a", 1, Resume::Beginning, 1);
    let attach = |name| ContentMessage::Attach { session: SESSION, secret: SECRET, gateway: gateway(name) };
    assert_eq!(cluster.multicast(attach("h")), ["a: dial h", "a: moved", "b: dial h", "b: moved"]);
    assert_eq!(cluster.credit("a", 1, 9), NOTHING, "it is not at that gateway any more");
    assert_eq!(cluster.tell("a", Input::GatewayUp(gateway("h"))), ["a: claim 0"]);
    assert_eq!(cluster.multicast(attach("h")), ["a: claim 0"], "the claim may have been lost");
}

#[test]
fn one_server_answers_who_asks_for_what_is_not_there() {
    let mut cluster = Cluster::playing();
    let (session, secret, gateway) = (SessionId::new(99), Secret::new(99), gateway("g"));
    let inquire = |session, secret: u128| ContentMessage::Inquire {
        session,
        secret: Secret::new(secret),
        gateway: gateway.clone(),
        fence: Fence::NONE,
    };
    assert_eq!(cluster.multicast(inquire(session, 1)), ["a: Unknown"]);
    assert_eq!(cluster.multicast(inquire(SESSION, 2)), ["a: WrongSecret"]);
    assert_eq!(cluster.multicast(inquire(SESSION, 1)), ["a: claim 0"]);
    let attach = ContentMessage::Attach { session, secret, gateway: gateway.clone() };
    assert_eq!(cluster.multicast(attach), ["a: Unknown"]);
    let end = ContentMessage::End { session: SESSION, secret: SECRET, gateway: Some(gateway.clone()) };
    assert_eq!(cluster.multicast(end.clone()), ["a: None", "a: ended", "b: None"]);
    assert_eq!(cluster.multicast(end), ["a: Ended"]);
    let start = ContentMessage::Start { session: SESSION, secret, gateway };
    assert_eq!(cluster.multicast(start), ["a: Ended"], "it does not come back to life");
}

#[test]
fn another_server_answers_each_question_about_the_units() {
    let mut cluster = Cluster::playing();
    let mut ask = |query| {
        let message = ServiceMessage::List { gateway: gateway("g"), query };
        cluster.multicasts.push_back((process("g"), Purpose::Service.group(), encode(&message)));
        cluster.run()
    };
    assert_eq!(ask(1), ["b: answer 1: 1 units"]);
    assert_eq!(ask(2), ["a: answer 2: 1 units"]);
}

#[test]
fn a_newcomer_answers_once_it_has_heard_of_all_units() {
    let mut cluster = Cluster::playing();
    let params = cluster.servers["a"].params.clone();
    let nothing = Counter { units: Vec::new(), ..counter() };
    cluster.servers.insert("c", Server::new(nothing, params));
    cluster.step("c", Input::Attached(process("c")));
    // It is asked after it came, and before the others tell it what they hold.
    let message = ServiceMessage::List { gateway: gateway("g"), query: 2 };
    let question = (process("g"), Purpose::Service.group(), encode(&message));
    cluster.multicasts.push_front(question);
    assert_eq!(cluster.run(), ["c: dial g"], "it is the turn of the newcomer");
    assert_eq!(cluster.tell("c", Input::GatewayUp(gateway("g"))), ["c: answer 2: 1 units"]);
}

#[test]
fn a_server_that_drains_serves_until_others_have_taken_over() {
    let mut cluster = Cluster::playing();
    cluster.grant("a", 1, Resume::Beginning, 2);
    assert_eq!(cluster.tell("a", Input::Drain), ["b: Primary", "b: claim 0"]);
    assert_eq!(cluster.credit("a", 1, 3), ["a: response 3 is 3"], "it goes on");
    assert_eq!(cluster.status("b").responses, 2, "what it said when it left");
    assert_eq!(cluster.fenced("a"), ["a: None", "a: drained"]);
    assert_eq!(cluster.wait(Duration::from_secs(1)), ["b: claim 0", "b: claim 0"]);
}

/// Nobody else holds the unit when `a` is to end. Whoever comes then has to find the session.
#[test]
fn a_server_that_drains_alone_waits_for_somebody_who_takes_over() {
    let mut cluster = Cluster::playing();
    cluster.grant("a", 1, Resume::Beginning, 2);
    cluster.kill("b");
    assert_eq!(cluster.tell("a", Input::Drain), Vec::<String>::new());
    assert_eq!(cluster.credit("a", 1, 3), ["a: response 3 is 3"], "it goes on");
    cluster.servers.insert("b", Server::new(counter(), Params::default()));
    let came = cluster.tell("b", Input::Attached(process("b")));
    assert!(came.iter().any(|it| it == "b: Primary"), "{came:?}");
    assert_eq!(cluster.status("b").responses, 3, "what it said when it left");
    assert_eq!(cluster.fenced("a"), ["a: None", "a: drained"]);
}

#[test]
fn a_server_with_nothing_to_serve_has_drained_at_once() {
    let mut cluster = Cluster::playing();
    let drained = cluster.tell("b", Input::Drain);
    assert_eq!(drained, ["b: None", "b: drained"]);
    assert_eq!(cluster.tell("b", Input::Attached(process("b"))), ["b: hang up on g"]);
    assert!(cluster.groups[&Purpose::Content(unit()).group()].iter().eq(&["a"]), "it does not come back");
}

#[test]
fn a_server_that_loses_its_daemon_hangs_up() {
    let mut cluster = Cluster::playing();
    cluster.grant("a", 1, Resume::Beginning, 2);
    assert_eq!(cluster.tell("a", Input::Detached), ["a: hang up on g"]);
    assert_eq!(cluster.servers["a"].next_wake(), None);
}

#[test]
fn a_newcomer_takes_sessions_over_and_the_one_before_it_has_the_last_word() {
    let service = counter();
    let mut cluster = Cluster::new(&["a"], &service);
    for session in [SESSION, SessionId::new(SESSION.bits() + 1)] {
        cluster.multicast(ContentMessage::Start { session, secret: SECRET, gateway: gateway("g") });
    }
    cluster.tell("a", Input::GatewayUp(gateway("g")));
    cluster.fence = cluster.status("a").session.fence;
    cluster.grant("a", 1, Resume::Beginning, 2);
    let params = cluster.servers["a"].params.clone();
    cluster.servers.insert("b", Server::new(service, params));
    let seen = cluster.tell("b", Input::Attached(process("b")));
    assert!(seen.contains(&"b: Primary".into()), "{seen:?}");
    let moved = cluster.status("b");
    assert_eq!((moved.id, moved.role), (SESSION, Role::Primary), "the first of two equals");
    assert_eq!(moved.responses, 2, "what the server before had sent");
}

#[test]
fn a_cursor_with_a_context_that_is_none_is_refused() {
    let mut cluster = Cluster::playing();
    let resume = Resume::After(Cursor { responses: 3, requests: 0, context: Bytes::from_static(&[0xff; 3]) });
    assert_eq!(cluster.grant("a", 1, resume, 2), ["a: BadCursor"]);
    assert_eq!(cluster.wait(Duration::from_millis(500)), ["a: claim 0"]);
}

#[test]
fn what_is_not_a_message_is_refused() {
    let mut cluster = Cluster::playing();
    for group in [Purpose::Service, Purpose::Content(unit()), Purpose::Session(unit(), SESSION)] {
        for (payload, complaint) in
            [(&[][..], "malformed message: empty"), (&[9, 1], "message of version 9, expected 1")]
        {
            let payload = Bytes::copy_from_slice(payload);
            let (group, sender) = (group.group(), process("g"));
            let seen = cluster.tell("a", Input::Message { group, sender, payload, level: Level::Agreed });
            assert_eq!(seen, [format!("a: {complaint}")]);
        }
    }
}

#[test]
fn a_primary_that_is_moved_away_from_serves_until_the_next_one_does() {
    let mut cluster = Cluster::playing();
    cluster.grant("a", 1, Resume::Beginning, 2);
    let (was, answer) = (cluster.fence, "b: order 7: Ok(\"b\")".into());
    let mut seen = cluster.order("b", Some("b"));
    seen.sort();
    assert_eq!(seen, [String::from("b: Primary"), "b: claim 0".into(), answer]);
    assert_eq!(cluster.credit("a", 1, 3), ["a: response 3 is 3"], "it goes on");
    assert_eq!(cluster.request(1, "70"), ["a: applied 1"]);
    assert_eq!(cluster.credit("a", 1, 4), ["a: response 4 is 71"]);
    assert_eq!(cluster.wait(PERIOD), ["b: claim 1"]);
    assert_eq!(cluster.status("b").session.responses, 4, "and says how far it got");
    assert_eq!(cluster.fenced("a"), ["a: Backup"]);
    assert_eq!(cluster.credit("a", 1, 9), NOTHING, "it serves no more");
    cluster.fence = cluster.status("b").session.fence;
    assert!(cluster.fence > was);
    let begun = cluster.grant("b", 2, after(4, 1, 71), 1);
    assert_eq!(begun, ["b: start 2 after 4/1", "b: response 5 is 72"]);
    cluster.wait(Duration::ZERO);
    assert_eq!((cluster.status("a").role, cluster.status("a").responses), (Role::Backup, 5));
}

#[test]
fn a_primary_that_is_moved_away_from_ends_by_what_its_successor_says() {
    let mut cluster = Cluster::playing();
    cluster.grant("a", 1, Resume::Beginning, 2);
    cluster.order("a", None);
    cluster.fence = cluster.status("b").session.fence;
    cluster.grant("b", 2, after(2, 0, 2), 1);
    assert_eq!(cluster.wait(Duration::ZERO), ["a: Backup"], "the gateway's word is late");
    assert_eq!(cluster.status("a").responses, 3);
}

#[test]
fn a_primary_that_is_moved_away_from_ends_with_its_gateway() {
    for tell in [
        |cluster: &mut Cluster| cluster.tell("a", Input::GatewayDown(gateway("g"))),
        |cluster: &mut Cluster| {
            let gateway = gateway("h");
            cluster.multicast(ContentMessage::Attach { session: SESSION, secret: SECRET, gateway })
        },
    ] {
        let mut cluster = Cluster::playing();
        cluster.grant("a", 1, Resume::Beginning, 2);
        cluster.order("a", None);
        let seen = tell(&mut cluster);
        assert!(seen.contains(&"a: Backup".into()), "{seen:?}");
        assert!(!seen.iter().any(|line| line.starts_with("a: claim")), "{seen:?}");
        assert_eq!(cluster.credit("a", 1, 9), NOTHING);
    }
}

#[test]
fn a_primary_that_is_moved_away_from_serves_on_if_the_next_one_dies() {
    let mut cluster = Cluster::playing();
    cluster.grant("a", 1, Resume::Beginning, 2);
    cluster.order("a", Some("b"));
    assert_eq!(cluster.kill("b"), ["a: Primary", "a: claim 0"]);
    cluster.fence = cluster.status("a").session.fence;
    assert_eq!(cluster.grant("a", 2, after(2, 0, 2), 1), ["a: start 2 after 2/0", "a: response 3 is 3"]);
}

#[test]
fn orders_that_make_no_sense_are_refused_at_once_or_in_their_turn() {
    let mut cluster = Cluster::playing();
    assert_eq!(cluster.order("a", Some("z")), ["a: order 7: Err(UnknownServer)"]);
    assert_eq!(cluster.order("b", Some("a")), ["b: order 7: Err(AlreadyPrimary)"]);
    let nowhere = UnitId::new("v").unwrap();
    let order = Input::Move { ticket: 8, unit: nowhere, session: SESSION, to: None };
    assert_eq!(cluster.tell("a", order), ["a: order 8: Err(UnknownUnit)"]);
    let order = Input::Move { ticket: 9, unit: unit(), session: SessionId::new(99), to: None };
    assert_eq!(cluster.tell("a", order), ["a: order 9: Err(UnknownSession)"]);
    let order = Input::Move { ticket: 10, unit: unit(), session: SESSION, to: None };
    cluster.step("b", order);
    cluster.step("b", Input::Detached);
    assert!(cluster.run().contains(&"b: order 10: Err(Unsettled)".into()), "nobody will tell it");
    cluster.tell("a", Input::Drain);
    assert_eq!(cluster.order("a", None), ["a: order 7: Err(Unsettled)"]);
}

#[test]
fn another_policy_holds_at_once_for_backups_and_for_what_waits_to_be_propagated() {
    let mut cluster = Cluster::playing();
    cluster.grant("a", 1, Resume::Beginning, 1);
    cluster.wait(Duration::ZERO);
    let adjust = |cluster: &mut Cluster, backups, period| {
        let change = PolicyChange { backups, period, ..PolicyChange::default() };
        let mut seen = cluster.tell("b", Input::Adjust { ticket: 8, unit: unit(), change });
        seen.sort();
        seen
    };
    let minute = Duration::from_secs(60);
    assert_eq!(adjust(&mut cluster, None, Some(minute)), ["b: order 8: Ok(\"1, 60s\")"]);
    cluster.credit("a", 1, 2);
    cluster.wait(PERIOD * 2);
    assert_eq!(cluster.status("b").session.responses, 1, "it is propagated once a minute");
    adjust(&mut cluster, None, Some(PERIOD));
    cluster.wait(PERIOD);
    assert_eq!(cluster.status("b").session.responses, 2, "and no later than the new period says");
    assert_eq!(adjust(&mut cluster, Some(0), None), ["b: None", "b: order 8: Ok(\"0, 500ms\")"]);
    assert_eq!(cluster.request(1, "70"), ["a: applied 1"], "the primary serves as before");
    assert_eq!(adjust(&mut cluster, Some(1), None), ["b: Backup", "b: order 8: Ok(\"1, 500ms\")"]);
    assert_eq!(cluster.status("b").responses, 2);
    let nowhere = UnitId::new("v").unwrap();
    let order = Input::Adjust { ticket: 9, unit: nowhere, change: PolicyChange::default() };
    assert_eq!(cluster.tell("a", order), ["a: order 9: Err(UnknownUnit)"]);
}

#[test]
fn a_unit_that_only_the_primary_component_serves_is_silent_outside_of_it() {
    let mut cluster = Cluster::playing();
    cluster.grant("a", 1, Resume::Beginning, 1);
    let adjust = |cluster: &mut Cluster, components| {
        let change = PolicyChange { components: Some(components), ..PolicyChange::default() };
        cluster.tell("b", Input::Adjust { ticket: 8, unit: unit(), change })
    };
    let seen = adjust(&mut cluster, Components::Primary);
    assert!(seen.contains(&"a: suspended".into()), "without a rule, there is no primary component: {seen:?}");
    assert!(!cluster.servers["a"].may_serve(&unit()));
    assert_eq!(cluster.credit("a", 1, 9), NOTHING);
    assert_eq!(cluster.request(1, "70"), NOTHING, "nothing is acknowledged");
    assert_eq!(cluster.grant("a", 2, after(1, 0, 1), 1), NOTHING, "what it claimed before it takes no more");

    cluster.tell("b", Input::Primary(true));
    assert_eq!(cluster.tell("a", Input::Primary(true)), NOTHING, "views may come first");
    let retry = Params::default().claim_retry;
    assert_eq!(cluster.wait(retry), ["a: claim 1"]);
    assert_eq!(cluster.grant("a", 3, after(1, 0, 1), 1).len(), 3, "it starts, acknowledges and responds");
    assert_eq!(cluster.tell("a", Input::Primary(false)), ["a: suspended"]);

    cluster.kill("a");
    cluster.fence = cluster.status("b").session.fence;
    assert_eq!(cluster.grant("b", 4, after(2, 1, 71), 1).len(), 2, "who is in the primary component serves");
    cluster.tell("b", Input::Primary(false));
    adjust(&mut cluster, Components::Any);
    assert_eq!(cluster.wait(retry), ["b: claim 1"], "an operator may give up on the primary component");
}
