//! A service that panics, or says more than can be sent: what becomes of the session in which it does, and of the others.

use bytes::Bytes;
use model::{SessionId, Time, UnitId};
use proto::gateway::v1 as pb;
use proto::gateway::v1::deliver_request::Message as Said;
use proto::gateway::v1::deliver_response::Message as Say;
use session_core::message::{ContentMessage, Secret, SessionMessage};
use session_core::{ContentId, ContentService, Next, Refusal, UnitInfo};

use crate::bed::Bed;
use crate::daemon::{Daemon, Process};
use crate::gateway::{Delivery, Gateway};
use crate::serving::{CONTENT, grant};

/// Says `well` without end, until it is asked for something worse.
struct Moody;

impl ContentService for Moody {
    type Context = u8;

    fn units(&self) -> Vec<UnitInfo> {
        vec![UnitInfo::new(UnitId::new("life").unwrap(), "Life", "text/plain")]
    }

    fn open(&self, _: &ContentId) -> u8 {
        0
    }

    fn apply(&self, _: &ContentId, context: &mut u8, request: &[u8]) -> Result<(), Refusal> {
        *context = match request {
            b"panic later" => 1,
            b"say too much" => 2,
            _ => panic!("not this"),
        };
        Ok(())
    }

    fn next(&self, _: &ContentId, context: &mut u8, _: Time) -> Next {
        let payload = match context {
            0 => Bytes::from_static(b"well"),
            1 => panic!("no more"),
            _ => Bytes::from(vec![0; (1 << 20) + 1]),
        };
        Next::Respond { payload, last: false }
    }
}

/// Two sessions that a server of [`Moody`] serves on one stream.
struct Stage {
    bed: Bed,
    process: Process,
    stream: Delivery,
    /// What goes on with its daemon and its gateway would end with them.
    _others: (Daemon, Gateway),
}

const SESSIONS: [SessionId; 2] = [SessionId::new(7), SessionId::new(8)];

impl Stage {
    async fn set() -> Stage {
        let (mut daemon, mut gateway) = (Daemon::start().await, Gateway::start().await);
        let bed = Bed::of(&daemon.address, |_| Ok(Moody)).await;
        let mut process = daemon.process().await;
        process.does("join content/life").await;
        let mut stream = None;
        for session in SESSIONS {
            let (secret, at) = (Secret::new(1), gateway.id());
            process.deliver(CONTENT, &ContentMessage::Start { session, secret, gateway: at }).await;
            let stream = match &mut stream {
                Some(stream) => stream,
                None => stream.insert(gateway.stream().await),
            };
            let claim = stream.claimed().await;
            stream.say(grant(&claim, 1, 0)).await;
            assert!(matches!(stream.said().await, Some(Said::Started(_))));
        }
        Stage { bed, process, stream: stream.unwrap(), _others: (daemon, gateway) }
    }

    async fn ask(&self, session: SessionId, operation: &'static str) {
        let message =
            SessionMessage::Request { number: 1, operation: Bytes::from_static(operation.as_bytes()) };
        self.process.deliver(&format!("session/life/{session}"), &message).await;
    }

    async fn let_respond(&self, session: SessionId) {
        let (session, bytes_up_to) = (bytes_of(session), u64::MAX);
        self.stream.say(Say::Credit(pb::Credit { session, stream: 1, up_to: 1, bytes_up_to })).await;
    }

    /// The next thing that the server says, but for its claims.
    async fn says(&mut self) -> Said {
        loop {
            let said = self.stream.said().await.expect("its stream is open");
            if !matches!(said, Said::Claim(_)) {
                return said;
            }
        }
    }

    /// The second session goes on, and the server knows of so many.
    async fn goes_on(&mut self, sessions: usize) {
        self.let_respond(SESSIONS[1]).await;
        let Said::Response(response) = self.says().await else { panic!("the other session goes on") };
        assert_eq!((response.session, &response.payload[..]), (bytes_of(SESSIONS[1]), &b"well"[..]));
        assert_eq!(self.bed.status().await.units[0].sessions.len(), sessions);
        assert!(!self.bed.running.is_finished());
    }
}

fn bytes_of(session: SessionId) -> Bytes {
    Bytes::copy_from_slice(&session.bits().to_be_bytes())
}

#[tokio::test]
async fn where_a_service_panics_on_a_request_that_is_refused_and_its_session_goes_on() {
    let mut stage = Stage::set().await;
    stage.ask(SESSIONS[0], "what?").await;
    let Said::Applied(applied) = stage.says().await else { panic!("a request is answered") };
    assert_eq!(applied.refusal.map(|it| it.kind()), Some(pb::RefusalKind::Failed));
    stage.let_respond(SESSIONS[0]).await;
    let Said::Response(response) = stage.says().await else { panic!("the session goes on") };
    assert_eq!((response.session, &response.payload[..]), (bytes_of(SESSIONS[0]), &b"well"[..]));
    stage.goes_on(2).await;
}

#[tokio::test]
async fn where_a_service_panics_or_says_too_much_that_session_alone_is_over_and_its_client_is_told() {
    for operation in ["panic later", "say too much"] {
        let mut stage = Stage::set().await;
        stage.ask(SESSIONS[0], operation).await;
        assert!(matches!(stage.says().await, Said::Applied(_)));
        stage.let_respond(SESSIONS[0]).await;
        let Said::Refused(refused) = stage.says().await else { panic!("its client is told") };
        assert_eq!(
            (refused.session.clone(), refused.reason()),
            (bytes_of(SESSIONS[0]), pb::AttachRefusal::Failed)
        );
        stage.goes_on(1).await;
    }
}

#[tokio::test]
async fn a_service_that_can_open_no_session_is_not_served() {
    struct Closed;
    impl ContentService for Closed {
        type Context = ();
        fn units(&self) -> Vec<UnitInfo> {
            Moody.units()
        }
        fn open(&self, _: &ContentId) {
            panic!("no")
        }
        fn apply(&self, _: &ContentId, (): &mut (), _: &[u8]) -> Result<(), Refusal> {
            Ok(())
        }
        fn next(&self, _: &ContentId, (): &mut (), _: Time) -> Next {
            Next::Idle
        }
    }
    let daemon = Daemon::start().await;
    let config = crate::bed::config(&daemon.address, std::path::Path::new("."));
    let listener = svc_kit::serve::Listener::bind(config.listen, None).await.unwrap();
    let served =
        server_svc::serve(config, listener, tokio_util::sync::CancellationToken::new(), |_| Ok(Closed));
    let failure = crate::bed::soon(served).await.unwrap_err();
    assert!(failure.to_string().contains("panicked: no"), "{failure}");
}
