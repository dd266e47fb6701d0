//! Scripts: what a gateway is told, and what it orders then, each in a few words.

mod changes;
mod limits;
mod repeats;
mod together;

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::time::Duration;

use bytes::Bytes;
use model::{Address, Boot, ConfigurationId, Fence, GroupViewId, Machine, SessionId, Time, UnitId};

use super::*;
use crate::credit::Credit;
use crate::message::{
    AttachRefusal, Cursor, Response, Resume, Secret, ServiceMessage, ToGateway, ToServer, decode,
};
use crate::service::{Refusal, RefusalKind, UnitInfo};

const SESSION: SessionId = SessionId::new(7);
const SECRET: Secret = Secret::new(42);
/// Two content servers.
const A: LinkId = LinkId(1);
const B: LinkId = LinkId(2);

fn unit() -> UnitId {
    UnitId::new("film").unwrap()
}

fn fence(counter: u64) -> Fence {
    Fence::new(GroupViewId { configuration: ConfigurationId::new(1, 0), position: 0 }, counter)
}

fn cursor(responses: u64, requests: u64) -> Cursor {
    Cursor { responses, requests, context: Bytes::from(format!("{responses}/{requests}")) }
}

fn no() -> Refusal {
    Refusal { kind: RefusalKind::OutOfRange, message: "no".into() }
}

/// A gateway, and the time.
struct Bench {
    gateway: Gateway,
    now: Time,
    tickets: u64,
}

impl Bench {
    /// A gateway with two servers, which is attached to a daemon.
    fn new() -> Bench {
        let params = GatewayParams {
            window: Credit::responses(4),
            requests_max: 3,
            sessions_max: 2,
            ..GatewayParams::default()
        };
        let name = "g".parse().unwrap();
        let id = GatewayId { name, boot: Boot::new(1), address: Address::new("localhost:1") };
        let mut bench = Bench { gateway: Gateway::new(id, params), now: Time::ZERO, tickets: 0 };
        bench.tell(Input::GroupsUp);
        bench.tell(Input::LinkUp { link: A, server: "a".parse().unwrap() });
        bench.tell(Input::LinkUp { link: B, server: "b".parse().unwrap() });
        bench
    }

    /// A session that `A` serves under fence 1, with a client that has attachment 1.
    fn playing() -> Bench {
        let mut bench = Bench::opened();
        assert_eq!(
            bench.attach(Resume::Anywhere),
            ["reply 3: attached 1", "to 1: serve 2 from beginning, 4 more"]
        );
        assert_eq!(bench.started(A, 2, 0), ["client 1: served by a"]);
        bench
    }

    /// A session that `A` serves under fence 1, without a client.
    fn opened() -> Bench {
        let mut bench = Bench::new();
        bench.list();
        assert_eq!(bench.open(SESSION), ["content/film: start"]);
        assert_eq!(bench.claim(A, 1, 0), ["reply 2: opened", "to 1: serve 1 from beginning, 0 more"]);
        bench
    }

    fn tell(&mut self, input: Input) -> Vec<String> {
        let mut out = Vec::new();
        self.gateway.handle(self.now, input, &mut out);
        out.into_iter().map(shown).collect()
    }

    /// Lets time pass.
    fn wait(&mut self, millis: u64) -> Vec<String> {
        let end = self.now + Duration::from_millis(millis);
        let mut out = Vec::new();
        while let Some((due, _)) = self.gateway.next_wake().filter(|(due, _)| *due <= end) {
            self.now = self.now.max(due);
            self.gateway.wake(self.now, &mut out);
        }
        self.now = end;
        out.into_iter().map(shown).collect()
    }

    fn ticket(&mut self) -> Ticket {
        self.tickets += 1;
        Ticket(self.tickets)
    }

    /// Learns that there is the film.
    fn list(&mut self) {
        let ticket = self.ticket();
        assert_eq!(self.tell(Input::List(ticket)), ["service: list 1"]);
        assert_eq!(self.units(1), ["reply 1: 1 units"]);
    }

    fn units(&mut self, query: u64) -> Vec<String> {
        let info = UnitInfo {
            unit: unit(),
            edition: crate::edition::Edition::ONLY,
            title: "A film".into(),
            media_type: "video/mp4".into(),
            duration: Duration::from_secs(60),
            size: 1,
        };
        self.tell(Input::Server { link: A, message: ToGateway::Units { query, units: Vec::from([info]) } })
    }

    fn open(&mut self, session: SessionId) -> Vec<String> {
        let ticket = self.ticket();
        self.tell(Input::Open { ticket, unit: unit(), session, secret: SECRET })
    }

    fn attach(&mut self, resume: Resume) -> Vec<String> {
        self.attach_from(Position { resume, resends: false, sealed: true })
    }

    fn attach_from(&mut self, from: Position) -> Vec<String> {
        let ticket = self.ticket();
        self.tell(Input::Attach { ticket, unit: unit(), session: SESSION, secret: SECRET, from })
    }

    fn detach(&mut self, attachment: u64) -> Vec<String> {
        self.tell(Input::Detach { session: SESSION, attachment: Attachment(attachment) })
    }

    fn consume(&mut self, responses: u64) -> Vec<String> {
        self.tell(Input::Consumed { session: SESSION, attachment: Attachment(1), responses, bytes: 0 })
    }

    fn request(&mut self, number: Option<u64>) -> Vec<String> {
        let (ticket, operation) = (self.ticket(), Bytes::from_static(b"x"));
        self.tell(Input::Request { ticket, session: SESSION, secret: SECRET, number, operation })
    }

    fn close(&mut self) -> Vec<String> {
        let ticket = self.ticket();
        self.tell(Input::Close { ticket, unit: unit(), session: SESSION, secret: SECRET })
    }

    fn server(&mut self, link: LinkId, message: ToGateway) -> Vec<String> {
        self.tell(Input::Server { link, message })
    }

    fn claim(&mut self, link: LinkId, counter: u64, requests: u64) -> Vec<String> {
        let claim = ToGateway::Claim { unit: unit(), session: SESSION, fence: fence(counter), requests };
        self.server(link, claim)
    }

    fn started(&mut self, link: LinkId, stream: u64, responses: u64) -> Vec<String> {
        let cursor = cursor(responses, 0);
        self.server(
            link,
            ToGateway::Started {
                session: SESSION,
                stream,
                requests_lost: 0,
                cursor,
                uncertain: false,
                merged: false,
                rebuilt: false,
            },
        )
    }

    fn respond(&mut self, link: LinkId, stream: u64, response: u64) -> Vec<String> {
        self.respond_all(link, stream, &[response])
    }

    fn applied(&mut self, number: u64, outcome: Result<(), Refusal>) -> Vec<String> {
        let (session, stream, cursor) = (SESSION, 2, cursor(0, number));
        self.server(A, ToGateway::Applied { session, stream, number, outcome, cursor })
    }

    fn refused(&mut self, link: LinkId, reason: AttachRefusal) -> Vec<String> {
        self.server(link, ToGateway::Refused { session: SESSION, reason })
    }
}

fn shown(output: Output) -> String {
    match output {
        Output::Multicast { group, payload } => shown_multicast(&Purpose::of(&group).unwrap(), &payload),
        Output::ToServer { link, message } => format!("to {}: {}", link.0, shown_order(message)),
        Output::Reply { ticket, reply: Ok(Reply::Units(units)) } => {
            format!("reply {}: {} units", ticket.0, units.len())
        }
        Output::Reply { ticket, reply: Ok(Reply::Opened) } => format!("reply {}: opened", ticket.0),
        Output::Reply { ticket, reply: Ok(Reply::Attached(attachment)) } => {
            format!("reply {}: attached {}", ticket.0, attachment.0)
        }
        Output::Reply { ticket, reply: Ok(Reply::Applied { number }) } => {
            format!("reply {}: applied {number}", ticket.0)
        }
        Output::Reply { ticket, reply: Ok(Reply::Closed) } => format!("reply {}: closed", ticket.0),
        Output::Reply { ticket, reply: Err(failure) } => format!("reply {}: {failure:?}", ticket.0),
        Output::ToClient { attachment, event, .. } => {
            format!("client {}: {}", attachment.0, shown_event(event))
        }
        Output::Stalled { server, .. } => {
            format!("stalled by {}", server.map_or_else(|| "nobody".into(), |it| format!("{it}")))
        }
        Output::Stale { link, .. } => format!("stale {}", link.0),
        Output::Displaced { before, after, .. } => format!("after {after} instead of {before}"),
        Output::TakenOver { why, gap, .. } => format!("taken over: {why:?}, after {} ms", gap.as_millis()),
        Output::Trace(event) => format!("{event:?}"),
    }
}

fn shown_multicast(purpose: &Purpose, payload: &Bytes) -> String {
    match purpose {
        Purpose::Service => match decode(payload).unwrap() {
            ServiceMessage::List { query, .. } => format!("service: list {query}"),
            ServiceMessage::Holds { .. } => panic!("gateways hold nothing"),
        },
        Purpose::Content(unit) => {
            let what = match decode(payload).unwrap() {
                ContentMessage::Start { .. } => "start",
                ContentMessage::Attach { .. } => "attach",
                ContentMessage::Inquire { .. } => "inquire",
                ContentMessage::Stalled { .. } => "stalled",
                ContentMessage::Rebuild { .. } => "rebuild",
                ContentMessage::End { .. } => "end",
                ContentMessage::Expire { .. } => "expire",
                ContentMessage::Propagate { .. }
                | ContentMessage::Move { .. }
                | ContentMessage::Adjust { .. }
                | ContentMessage::Publish { .. }
                | ContentMessage::Holds { .. }
                | ContentMessage::Found { .. }
                | ContentMessage::Intend { .. }
                | ContentMessage::Dismiss { .. }
                | ContentMessage::Fail { .. }
                | ContentMessage::Settle { .. }
                | ContentMessage::Adopt { .. }
                | ContentMessage::Update { .. }
                | ContentMessage::State { .. } => panic!("gateways know nothing"),
            };
            format!("content/{unit}: {what}")
        }
        Purpose::Session(..) => {
            let SessionMessage::Request { number, .. } = decode(payload).unwrap() else {
                unreachable!("gateways multicast nothing else in session groups")
            };
            format!("session: request {number}")
        }
    }
}

fn shown_order(order: ToServer) -> String {
    match order {
        ToServer::Serve { stream, resume, credit, .. } => {
            let from = match resume {
                Resume::Beginning => "beginning".into(),
                Resume::After(cursor) => format!("{}/{}", cursor.responses, cursor.requests),
                Resume::Anywhere => "anywhere".into(),
            };
            let more = credit.map_or(0, |credit| credit.responses);
            format!("serve {stream} from {from}, {more} more")
        }
        ToServer::Credit { stream, up_to, .. } => format!("stream {stream} up to {}", up_to.responses),
        ToServer::Fenced { fence, .. } => format!("fenced {}", fence.counter()),
        ToServer::Unknown { .. } => "unknown".into(),
    }
}

fn shown_event(event: ClientEvent) -> String {
    match event {
        ClientEvent::Serving { server, takeover: false, requests_lost: 0, .. } => {
            format!("served by {server}")
        }
        ClientEvent::Serving { server, takeover: true, stalled: true, .. } => {
            format!("taken over by {server} from one that stalled")
        }
        ClientEvent::Serving { server, takeover: true, requests_lost: 0, .. } => {
            format!("taken over by {server}")
        }
        ClientEvent::Serving { server, requests_lost, .. } => format!("{server} lost {requests_lost}"),
        ClientEvent::Responses(responses) => {
            let numbers = responses.iter().map(|response| response.cursor.responses.to_string());
            format!("response {}", numbers.collect::<Vec<_>>().join(", "))
        }
        ClientEvent::Merged => "merged".into(),
        ClientEvent::Rebuilt => "rebuilt".into(),
        ClientEvent::Over(failure) => format!("over, {failure:?}"),
    }
}

const NOTHING: [&str; 0] = [];

#[test]
fn a_session_is_open_once_a_server_claims_it() {
    let mut bench = Bench::new();
    bench.list();
    assert_eq!(bench.open(SESSION), ["content/film: start"]);
    assert_eq!(bench.wait(750), ["content/film: start", "content/film: start"]);
    assert_eq!(bench.claim(A, 1, 0), ["reply 2: opened", "to 1: serve 1 from beginning, 0 more"]);
    assert_eq!(bench.wait(500), NOTHING);
}

#[test]
fn a_session_that_nobody_claims_is_given_up() {
    let mut bench = Bench::new();
    bench.list();
    bench.open(SESSION);
    assert_eq!(bench.wait(10_000).last().unwrap(), "reply 2: NoReplica");
    assert_eq!(bench.claim(A, 1, 0), ["to 1: unknown"]);
}

#[test]
fn a_unit_that_is_not_known_is_asked_for() {
    let mut bench = Bench::new();
    assert_eq!(bench.open(SESSION), ["service: list 1"]);
    assert_eq!(bench.wait(250), ["service: list 2"]);
    assert_eq!(bench.units(1), ["content/film: start"], "slow, but an answer");
    assert_eq!(bench.units(2), NOTHING, "nobody asks any more");
    let (ticket, unit) = (bench.ticket(), UnitId::new("other").unwrap());
    let open = Input::Open { ticket, unit, session: SessionId::new(8), secret: SECRET };
    assert_eq!(bench.tell(open), ["service: list 3"]);
    assert_eq!(bench.units(3), ["reply 2: UnknownUnit"]);
}

#[test]
fn a_client_is_passed_its_window_and_what_it_takes_is_credited_by_halves() {
    let mut bench = Bench::playing();
    for response in 1..=4 {
        assert_eq!(bench.respond(A, 2, response), [format!("client 1: response {response}")]);
    }
    assert_eq!(bench.consume(1), NOTHING);
    assert_eq!(bench.consume(2), ["to 1: stream 2 up to 6"]);
    assert_eq!(bench.consume(4), ["to 1: stream 2 up to 8"]);
    assert_eq!(bench.consume(3), NOTHING, "that is no news");
    assert_eq!(bench.detach(9), NOTHING, "that is not the client");
    assert_eq!(bench.detach(1), ["to 1: serve 3 from 4/0, 0 more"]);
    assert_eq!(bench.respond(A, 2, 5), ["stale 1"]);
}

#[test]
fn neither_a_gap_nor_a_repetition_passes() {
    let mut bench = Bench::playing();
    assert_eq!(bench.respond(A, 2, 2), ["stale 1"]);
    assert_eq!(bench.respond(A, 2, 1), ["client 1: response 1"]);
    assert_eq!(bench.respond(A, 2, 1), ["stale 1"]);
    assert_eq!(bench.respond(B, 2, 2), ["stale 2"]);
    assert_eq!(bench.respond(A, 1, 2), ["stale 1"]);
    assert_eq!(bench.respond(A, 2, 2), ["client 1: response 2"]);
}

#[test]
fn a_new_primary_goes_on_where_the_client_is() {
    let mut bench = Bench::playing();
    bench.respond(A, 2, 1);
    assert_eq!(bench.claim(B, 2, 0), ["to 1: fenced 1", "to 2: serve 3 from 1/0, 3 more"]);
    assert_eq!(bench.respond(A, 2, 2), ["stale 1"]);
    assert_eq!(bench.respond(B, 3, 2), ["stale 2"], "the stream has not started");
    assert_eq!(bench.started(B, 3, 0), ["stale 2"], "that is not where the client is");
    assert_eq!(bench.started(B, 3, 1), [MOVED, "client 1: taken over by b"]);
    assert_eq!(bench.respond(B, 3, 2), ["client 1: response 2"]);
    assert_eq!(bench.claim(A, 1, 0), ["to 1: fenced 1"]);
}

#[test]
fn a_primary_that_comes_back_under_its_fence_is_not_fenced() {
    let mut bench = Bench::playing();
    // Its new stream is here before its old one is seen to be gone.
    assert_eq!(bench.claim(B, 1, 0), ["to 2: serve 3 from 0/0, 4 more"]);
    assert_eq!(bench.tell(Input::LinkDown(A)), NOTHING);
    assert_eq!(bench.started(B, 3, 0), ["client 1: served by b"]);
}

#[test]
fn no_row_of_takeovers_floods_a_client_that_does_not_read() {
    let mut bench = Bench::playing();
    let (mut stream, mut response) = (2, 0);
    for takeover in 2..=5 {
        let link = if takeover % 2 == 0 { B } else { A };
        response += 1;
        assert_eq!(bench.respond(if link == A { B } else { A }, stream, response).len(), 1);
        stream += 1;
        let orders = bench.claim(link, takeover, 0);
        let more = 4 - response;
        assert_eq!(orders[1], format!("to {}: serve {stream} from {response}/0, {more} more", link.0));
        bench.started(link, stream, response);
    }
}

#[test]
fn a_client_elsewhere_goes_on_from_the_cursor_that_it_brings() {
    let mut bench = Bench::new();
    assert_eq!(bench.attach(Resume::After(cursor(9, 3))), ["content/film: attach"]);
    let claimed = bench.claim(A, 5, 2);
    assert_eq!(claimed, ["reply 1: attached 1", "to 1: serve 2 from 9/3, 4 more"]);
    assert_eq!(bench.started(A, 2, 9), ["client 1: served by a"]);
    // The server that was told of two requests learns of the third from the cursor.
    assert_eq!(bench.request(None), ["session: request 4"]);
}

#[test]
fn of_two_clients_the_later_one_counts() {
    let mut bench = Bench::new();
    bench.attach(Resume::Anywhere);
    assert_eq!(bench.attach(Resume::Anywhere), ["reply 1: Displaced"]);
    assert_eq!(bench.claim(A, 1, 0), ["reply 2: attached 1", "to 1: serve 2 from anywhere, 4 more"]);
    assert_eq!(
        bench.attach(Resume::Anywhere),
        ["client 1: over, Displaced", "reply 3: attached 2", "to 1: serve 3 from anywhere, 4 more"]
    );
    assert_eq!(bench.detach(1), NOTHING);
}

#[test]
fn an_attachment_is_refused_for_what_the_servers_say() {
    for (reason, failure) in [
        (AttachRefusal::Unknown, "UnknownSession"),
        (AttachRefusal::Ended, "Ended"),
        (AttachRefusal::WrongSecret, "WrongSecret"),
    ] {
        let mut bench = Bench::new();
        bench.attach(Resume::Anywhere);
        assert_eq!(bench.refused(B, reason), [format!("reply 1: {failure}")]);
        assert_eq!(bench.gateway.sessions().count(), 0);
    }
}

#[test]
fn a_server_that_cannot_use_the_cursor_says_so() {
    let mut bench = Bench::playing();
    assert_eq!(bench.refused(B, AttachRefusal::BadCursor), NOTHING, "it does not serve the session");
    assert_eq!(bench.refused(A, AttachRefusal::BadCursor), ["client 1: over, BadCursor"]);
}

#[test]
fn a_request_is_acknowledged_once_to_all_who_sent_it() {
    let mut bench = Bench::playing();
    assert_eq!(bench.request(None), ["session: request 1"]);
    assert_eq!(bench.request(Some(1)), NOTHING);
    assert_eq!(bench.wait(250), ["session: request 1"]);
    assert_eq!(bench.applied(1, Ok(())), ["reply 4: applied 1", "reply 5: applied 1"]);
    assert_eq!(bench.applied(1, Ok(())), NOTHING);
    assert_eq!(bench.wait(1000), NOTHING);
}

#[test]
fn a_request_that_is_repeated_later_has_the_outcome_that_it_had() {
    let mut bench = Bench::playing();
    bench.request(None);
    assert_eq!(bench.applied(1, Err(no()))[0], format!("reply 4: {:?}", Failure::Refused(no())));
    assert_eq!(bench.request(Some(1)), ["session: request 1"], "the servers remember it");
    assert_eq!(bench.applied(1, Err(no()))[0], format!("reply 5: {:?}", Failure::Refused(no())));
    assert_eq!(bench.request(None), ["session: request 2"]);
}

#[test]
fn of_what_is_asked_again_the_first_comes_first() {
    let mut bench = Bench::new();
    bench.attach(Resume::After(cursor(9, 9)));
    bench.claim(A, 5, 9);
    for number in [5, 6, 8] {
        assert_eq!(bench.request(Some(number)), [format!("session: request {number}")]);
    }
    let full = "TooManyRequests { limit: 3 }";
    assert_eq!(bench.request(Some(9)), [format!("reply 5: {full}")]);
    assert_eq!(bench.request(Some(4)), [format!("reply 4: {full}"), "session: request 4".into()]);
    assert_eq!(bench.request(None), ["session: request 10"], "new requests have room of their own");
}

#[test]
fn requests_have_limits() {
    let mut bench = Bench::playing();
    assert_eq!(bench.request(Some(2)), ["reply 4: RequestGap { number: 2, expected: 1 }"]);
    (0..3).for_each(|_| drop(bench.request(None)));
    assert_eq!(bench.request(None), ["reply 8: TooManyRequests { limit: 3 }"]);
    (0..2).for_each(|_| drop(bench.request(Some(3))));
    assert_eq!(bench.request(Some(3)), ["reply 11: TooManyRequests { limit: 3 }"]);
    let (ticket, operation) = (bench.ticket(), Bytes::from(alloc::vec![0; 70_000]));
    let large = Input::Request { ticket, session: SESSION, secret: SECRET, number: None, operation };
    assert_eq!(bench.tell(large), ["reply 12: RequestTooLarge { size: 70000, limit: 65536 }"]);
    let (ticket, operation) = (bench.ticket(), Bytes::new());
    let wrong = Secret::new(1);
    let theirs = Input::Request { ticket, session: SESSION, secret: wrong, number: None, operation };
    assert_eq!(bench.tell(theirs), ["reply 13: WrongSecret"]);
}

#[test]
fn requests_of_a_takeover_are_sent_again_and_those_that_nobody_knows_are_reported_to_a_client() {
    let mut bench = Bench::playing();
    bench.request(None);
    bench.detach(1);
    assert_eq!(bench.claim(B, 2, 0)[1], "to 2: serve 4 from 0/0, 0 more");
    let lost = ToGateway::Started {
        session: SESSION,
        stream: 4,
        requests_lost: 2,
        cursor: cursor(0, 0),
        uncertain: false,
        merged: false,
        rebuilt: false,
    };
    assert_eq!(bench.server(B, lost), ["session: request 1"]);
    assert_eq!(bench.attach(Resume::Anywhere), ["reply 5: attached 2", "to 2: serve 5 from 0/0, 4 more"]);
    assert_eq!(bench.started(B, 5, 0), ["client 2: b lost 2", "session: request 1"]);
}

#[test]
fn a_session_is_closed_from_every_phase() {
    // Opening.
    let mut bench = Bench::new();
    bench.list();
    bench.open(SESSION);
    assert_eq!(bench.close(), ["reply 2: Ended", "content/film: end"]);
    // Attaching.
    let mut bench = Bench::new();
    bench.attach(Resume::Anywhere);
    assert_eq!(bench.close(), ["reply 1: Ended", "content/film: end"]);
    // Open, and twice.
    let mut bench = Bench::playing();
    bench.request(None);
    assert_eq!(bench.close(), ["content/film: end"]);
    assert_eq!(bench.close(), ["content/film: end"]);
    assert_eq!(bench.request(None), ["reply 7: Ended"]);
    assert_eq!(bench.attach(Resume::Anywhere), ["reply 8: Ended"]);
    assert_eq!(
        bench.server(A, ToGateway::Ended { session: SESSION }),
        ["reply 4: Ended", "reply 5: closed", "reply 6: closed", "client 1: over, Ended"]
    );
    // Never heard of here; and over already, or forgotten, as far as the servers know.
    for reason in [AttachRefusal::Ended, AttachRefusal::Unknown] {
        let mut bench = Bench::new();
        assert_eq!(bench.close(), ["content/film: end"]);
        assert_eq!(bench.refused(A, reason), ["reply 1: closed"]);
    }
    // Nobody answers.
    let mut bench = Bench::new();
    bench.close();
    assert_eq!(bench.wait(10_000).last().unwrap(), "reply 1: NoReplica");
}

#[test]
fn a_session_whose_client_stays_away_expires() {
    let mut bench = Bench::playing();
    bench.wait(50_000);
    bench.detach(1);
    assert_eq!(bench.wait(59_999), NOTHING);
    assert_eq!(bench.wait(1), ["content/film: expire"]);
    assert_eq!(bench.wait(250), ["content/film: expire"]);
    assert_eq!(bench.attach(Resume::Anywhere), ["content/film: attach"], "perhaps in time");
    assert_eq!(bench.server(A, ToGateway::Ended { session: SESSION }), ["reply 4: Ended"]);
    assert_eq!(bench.gateway.sessions().count(), 0);
}

#[test]
fn a_client_is_missed_anew_when_another_server_takes_over_for_it_may_have_been_elsewhere() {
    let mut bench = Bench::playing();
    bench.detach(1);
    bench.wait(50_000);
    bench.claim(A, 1, 0);
    bench.wait(5_000);
    bench.claim(B, 2, 0);
    assert_eq!(bench.wait(59_999), NOTHING);
    assert_eq!(bench.wait(1), ["content/film: expire"]);
}

#[test]
fn a_session_that_would_expire_but_is_elsewhere_is_let_go() {
    let mut bench = Bench::opened();
    assert_eq!(bench.wait(60_000), ["content/film: expire"]);
    assert_eq!(bench.refused(B, AttachRefusal::Elsewhere), NOTHING);
    assert_eq!(bench.gateway.sessions().count(), 0);
}

#[test]
fn a_client_without_a_server_asks_for_one_and_is_told_if_none_comes() {
    let mut bench = Bench::playing();
    bench.tell(Input::LinkDown(A));
    assert_eq!(bench.wait(250), ["content/film: inquire"]);
    let waited = bench.wait(9_750);
    assert_eq!(waited.last().unwrap(), "client 1: over, NoReplica");
    assert_eq!(bench.wait(1000), NOTHING, "without a client there is no hurry");
    assert_eq!(bench.claim(B, 2, 0), ["to 2: serve 6 from 0/0, 0 more"]);
}

#[test]
fn a_session_that_no_server_knows_any_more_is_over() {
    let mut bench = Bench::playing();
    assert_eq!(bench.refused(B, AttachRefusal::Forgotten), NOTHING, "somebody serves it");
    bench.tell(Input::LinkDown(A));
    assert_eq!(bench.refused(B, AttachRefusal::Forgotten), ["client 1: over, UnknownSession"]);
}

#[test]
fn a_session_that_moved_to_another_gateway_has_no_client_here() {
    let mut bench = Bench::playing();
    assert_eq!(bench.server(B, ToGateway::Moved { session: SESSION }), NOTHING);
    assert_eq!(bench.server(A, ToGateway::Moved { session: SESSION }), ["client 1: over, Displaced"]);
}

#[test]
fn a_client_whom_no_server_served_in_time_is_served_by_whoever_comes_next_whatever_his_fence() {
    let mut bench = Bench::playing();
    bench.claim(A, 7, 0);
    bench.tell(Input::LinkDown(A));
    bench.wait(5_000);
    assert_eq!(bench.claim(B, 2, 0), ["to 2: fenced 2"]);
    bench.wait(5_000);
    bench.attach(Resume::Anywhere);
    assert_eq!(bench.claim(B, 2, 0), ["to 2: serve 8 from 0/0, 4 more"]);
}

#[test]
fn a_stream_that_nobody_asked_for_starts_where_the_server_is_and_the_window_moves_along() {
    let uncertain = |responses| ToGateway::Started {
        session: SESSION,
        stream: 3,
        requests_lost: 0,
        cursor: cursor(responses, 0),
        uncertain: true,
        merged: responses == 1,
        rebuilt: responses == 3,
    };
    let mut bench = Bench::playing();
    for response in 1..=4 {
        bench.respond(A, 2, response);
    }
    bench.consume(4);
    bench.claim(B, 2, 0);
    bench.started(B, 3, 1);
    assert_eq!(bench.respond(B, 3, 2), ["stale 2"], "this one was asked for");
    let told = ["after 1 instead of 4", MOVED, "client 1: taken over by b", "client 1: merged"];
    assert_eq!(bench.server(B, uncertain(1)), told);
    assert_eq!(bench.respond(B, 3, 2).len(), 1, "the client has it already, and gets it again");
    assert_eq!(bench.server(B, uncertain(3)), ["after 3 instead of 2"], "nothing new about who serves");
    assert_eq!(bench.respond(B, 3, 3), ["stale 2"]);
    assert_eq!(bench.respond(B, 3, 4).len(), 1);
    assert_eq!(bench.consume(9), NOTHING, "it cannot have taken that yet");
}

/// Another server serves a client, at once.
const MOVED: &str = "taken over: Moved, after 0 ms";
const LOST: &str = "taken over: Lost, after 0 ms";
/// The server before was silent for as long as that.
const STALLED: &str = "taken over: Stalled, after 7500 ms";

/// A client that waits for a response, and a server that says nothing.
const COMPLAINT: [&str; 2] = ["content/film: stalled", "stalled by a"];

#[test]
fn a_server_that_says_nothing_although_something_is_due_is_complained_of() {
    let mut bench = Bench::playing();
    bench.wait(4000);
    bench.respond(A, 2, 1);
    assert_eq!(bench.wait(4999), NOTHING, "it was heard not long ago");
    assert_eq!(bench.wait(1), COMPLAINT);
    assert_eq!(bench.wait(2500), COMPLAINT, "and sooner the second time");
    assert_eq!(bench.gateway.sessions().next().unwrap().stalls, 2);
    bench.claim(B, 2, 0);
    assert_eq!(bench.started(B, 3, 1), [STALLED, "client 1: taken over by b from one that stalled"]);
    bench.claim(A, 3, 0);
    assert_eq!(bench.started(A, 4, 1), [MOVED, "client 1: taken over by a"], "b was not given the time");
}

#[test]
fn a_server_owes_nothing_to_a_client_that_takes_nothing_or_is_not_there() {
    let mut bench = Bench::playing();
    (1..=4).for_each(|response| drop(bench.respond(A, 2, response)));
    assert_eq!(bench.wait(60_000), NOTHING, "the window is full");
    assert_eq!(bench.consume(4), ["to 1: stream 2 up to 8"]);
    assert_eq!(bench.wait(4999), NOTHING, "from here on it counts");
    assert_eq!(bench.wait(1), COMPLAINT);
    bench.detach(1);
    assert_eq!(bench.wait(50_000), NOTHING);
}

#[test]
fn a_server_that_rests_owes_answers_alone() {
    let mut bench = Bench::playing();
    let rests = |millis: Option<u64>| ToGateway::Rests {
        session: SESSION,
        stream: 2,
        time: millis.map(Duration::from_millis),
    };
    assert_eq!(bench.server(A, rests(Some(30_000))), NOTHING);
    assert_eq!(bench.wait(34_999), NOTHING);
    assert_eq!(bench.wait(1), COMPLAINT);
    assert_eq!(bench.server(A, rests(None)), NOTHING);
    assert_eq!(bench.wait(600_000), NOTHING);
    bench.request(None);
    let complaints = bench.wait(5000).into_iter().filter(|it| it == "stalled by a").count();
    assert_eq!(complaints, 1);
    assert_eq!(bench.server(B, rests(None)), ["stale 2"]);
}

#[test]
fn a_server_that_does_not_come_is_complained_of_too() {
    let mut bench = Bench::playing();
    bench.tell(Input::LinkDown(A));
    let said = bench.wait(9000);
    assert_eq!(said.iter().filter(|it| *it == "stalled by nobody").count(), 2, "{said:?}");
}

/// A session is to be made anew; should somebody know it after all, its client is here.
const MADE_ANEW: [&str; 2] = ["content/film: rebuild", "content/film: attach"];

/// What the gateway says when servers refuse a session that waits for them.
fn forgotten(bench: &mut Bench) -> Vec<String> {
    bench.refused(A, AttachRefusal::Unknown)
}

#[test]
fn a_session_that_nobody_knows_is_made_anew_from_a_cursor_that_has_a_seal_and_from_no_other() {
    let after = || Resume::After(cursor(7, 1));
    for (resume, sealed, made) in [
        (after(), true, true),
        (after(), false, false),
        (Resume::Beginning, true, true),
        (Resume::Beginning, false, false),
        (Resume::Anywhere, true, false),
    ] {
        let mut bench = Bench::new();
        bench.attach_from(Position { resume: resume.clone(), resends: true, sealed });
        let said = if made { &MADE_ANEW[..] } else { &["reply 1: UnknownSession"] };
        assert_eq!(forgotten(&mut bench), said, "{resume:?}, {sealed}");
    }
}

#[test]
fn a_session_whose_servers_have_all_forgotten_it_is_made_anew_and_its_client_is_told() {
    let mut bench = Bench::playing();
    bench.respond(A, 2, 1);
    bench.tell(Input::LinkDown(A));
    assert_eq!(forgotten(&mut bench), MADE_ANEW);
    bench.claim(B, 2, 0);
    let started = |stream| ToGateway::Started {
        session: SESSION,
        stream,
        requests_lost: 0,
        cursor: cursor(1, 0),
        uncertain: false,
        merged: false,
        rebuilt: true,
    };
    assert_eq!(bench.server(B, started(5)), [LOST, "client 1: taken over by b", "client 1: rebuilt"]);
    // The server does not know that the client has been told.
    bench.attach(Resume::Anywhere);
    assert_eq!(bench.server(B, started(6)), ["client 2: served by b"]);
}

#[test]
fn a_session_that_is_made_anew_is_given_to_servers_that_count_from_the_beginning() {
    let mut bench = Bench::playing();
    bench.claim(A, 7, 0);
    bench.tell(Input::LinkDown(A));
    assert_eq!(bench.claim(B, 2, 0), ["to 2: fenced 2"], "it may be late");
    bench.detach(1);
    assert_eq!(forgotten(&mut bench), ["content/film: rebuild"], "the client may be elsewhere");
    assert_eq!(bench.claim(B, 2, 0), ["to 2: serve 7 from 0/0, 0 more"]);
}

#[test]
fn a_client_that_comes_back_while_nobody_serves_it_is_announced_for_it_may_have_been_elsewhere() {
    let mut bench = Bench::playing();
    bench.detach(1);
    let back = ["reply 4: attached 2", "to 1: serve 4 from 0/0, 4 more"];
    assert_eq!(bench.attach(Resume::Anywhere), back, "its server would know");
    bench.detach(2);
    bench.tell(Input::LinkDown(A));
    assert_eq!(bench.attach(Resume::Anywhere), ["reply 5: attached 3", "content/film: attach"]);
}
