//! Between the generated types and those of the machine: each message is turned once, and what is missing or
//! malformed in it is named.

use std::vec;

use bytes::Bytes;
use model::{Name, SessionId, Time, UnitId};
use proto::gateway::v1 as pb;
use proto::gateway::v1::deliver_request::Message as ForGateway;
use proto::gateway::v1::deliver_response::Message as FromGateway;
use session_core::message::{AttachRefusal, Cursor, GatewayId, Response, Resume, ToGateway, ToServer};
use session_core::{Credit, Refusal, RefusalKind, UnitInfo};
pub(crate) use svc_kit::wire::{Malformed, session, session_name, unit, unit_name};
use svc_kit::wire::{fence_message, from_fence, session_bytes, session_id};

/// As [`session`], or the session alone if the unit is `-`.
pub(crate) fn session_of_any(
    field: &'static str,
    name: &str,
) -> Result<(Option<UnitId>, SessionId), Malformed> {
    match name.strip_prefix("contentUnits/-/sessions/") {
        Some(id) => {
            let malformed = |_| Malformed::name(field, name, "contentUnits/-/sessions/{session}");
            Ok((None, id.parse().map_err(malformed)?))
        }
        None => session(field, name).map(|(unit, session)| (Some(unit), session)),
    }
}

/// A time of the wall clock.
pub(crate) fn timestamp(time: Time) -> prost_types::Timestamp {
    let since = std::time::Duration::from_micros(time.as_micros());
    prost_types::Timestamp::from(std::time::UNIX_EPOCH + since)
}

/// The name of the server that `servers/{server}` names.
pub(crate) fn server(field: &'static str, name: &str) -> Result<Name, Malformed> {
    let server = name.strip_prefix("servers/").and_then(|name| name.parse().ok());
    server.ok_or_else(|| Malformed::name(field, name, "servers/{server}"))
}

/// The first message to a gateway.
pub(crate) fn hello(cluster: Name, server: Name, gateway: &GatewayId) -> pb::DeliverRequest {
    let hello = pb::ServerHello {
        cluster: cluster.to_string(),
        server: server.to_string(),
        gateway: gateway.name.to_string(),
        gateway_boot: gateway.boot.number(),
    };
    pb::DeliverRequest { message: Some(ForGateway::Hello(hello)) }
}

/// Whether this is how a gateway begins.
pub(crate) fn is_hello(response: &pb::DeliverResponse) -> bool {
    matches!(response.message, Some(FromGateway::Hello(_)))
}

/// What a gateway is told, in the words of the contract, where each response is a message.
pub(crate) enum Told {
    Once(Option<ForGateway>),
    Responses { session: Bytes, stream: u64, responses: vec::IntoIter<Response> },
}

impl Iterator for Told {
    type Item = pb::DeliverRequest;

    fn next(&mut self) -> Option<pb::DeliverRequest> {
        let message = match self {
            Told::Once(message) => message.take()?,
            Told::Responses { session, stream, responses } => {
                let Response { cursor, payload, last } = responses.next()?;
                let (session, stream, cursor) = (session.clone(), *stream, Some(cursor_message(cursor)));
                ForGateway::Response(pb::Response { session, stream, cursor, payload, last })
            }
        };
        Some(pb::DeliverRequest { message: Some(message) })
    }
}

/// What a gateway is told. Payloads and contexts are handed on, not copied.
pub(crate) fn for_gateway(message: ToGateway) -> Told {
    Told::Once(Some(match message {
        ToGateway::Responses { session, stream, responses } => {
            let (session, responses) = (session_bytes(session), responses.into_iter());
            return Told::Responses { session, stream, responses };
        }
        ToGateway::Claim { unit, session, fence, requests } => ForGateway::Claim(pb::Claim {
            unit: unit.to_string(),
            session: session_bytes(session),
            fence: Some(fence_message(fence)),
            requests,
        }),
        ToGateway::Started { session, stream, requests_lost, cursor, uncertain, merged, rebuilt } => {
            let (session, cursor) = (session_bytes(session), Some(cursor_message(cursor)));
            ForGateway::Started(pb::Started {
                session,
                stream,
                requests_lost,
                cursor,
                uncertain,
                merged,
                rebuilt,
            })
        }
        ToGateway::Applied { session, stream, number, outcome, cursor } => {
            let (session, cursor) = (session_bytes(session), Some(cursor_message(cursor)));
            let refusal = outcome.err().map(refusal_message);
            ForGateway::Applied(pb::Applied { session, stream, number, refusal, cursor })
        }
        ToGateway::Rests { session, stream, time } => ForGateway::Rests(pb::Rests {
            session: session_bytes(session),
            stream,
            time: time.and_then(|time| prost_types::Duration::try_from(time).ok()),
        }),
        ToGateway::Suspended { session } => {
            ForGateway::Suspended(pb::Suspended { session: session_bytes(session) })
        }
        ToGateway::Ended { session } => ForGateway::Ended(pb::Ended { session: session_bytes(session) }),
        ToGateway::Refused { session, reason } => ForGateway::Refused(pb::Refused {
            session: session_bytes(session),
            reason: attach_refusal(reason).into(),
        }),
        ToGateway::Moved { session } => ForGateway::Moved(pb::Moved { session: session_bytes(session) }),
        ToGateway::Units { query, units } => {
            let units = units.into_iter().map(unit_info).collect();
            ForGateway::Units(pb::Units { query, units })
        }
    }))
}

/// What a gateway says after its hello.
pub(crate) fn from_gateway(response: pb::DeliverResponse) -> Result<ToServer, Malformed> {
    Ok(match response.message.ok_or_else(|| Malformed::missing("message"))? {
        FromGateway::Hello(_) => return Err(Malformed::new("hello", "comes once")),
        FromGateway::Serve(it) => ToServer::Serve {
            session: session_id("serve.session", &it.session)?,
            fence: from_fence("serve.fence", it.fence)?,
            stream: it.stream,
            resume: it.resume.map_or(Resume::Anywhere, from_resume),
            credit: it.attached.then_some(Credit { responses: it.credit, bytes: it.credit_bytes }),
            repeats_from: it.repeats_from,
        },
        FromGateway::Credit(it) => ToServer::Credit {
            session: session_id("credit.session", &it.session)?,
            stream: it.stream,
            up_to: Credit { responses: it.up_to, bytes: it.bytes_up_to },
        },
        FromGateway::Fenced(it) => ToServer::Fenced {
            session: session_id("fenced.session", &it.session)?,
            fence: from_fence("fenced.fence", it.fence)?,
        },
        FromGateway::Unknown(it) => {
            ToServer::Unknown { session: session_id("unknown.session", &it.session)? }
        }
    })
}

fn from_resume(resume: pb::serve::Resume) -> Resume {
    match resume {
        pb::serve::Resume::After(cursor) => Resume::After(from_cursor(cursor)),
        pb::serve::Resume::Beginning(pb::Beginning {}) => Resume::Beginning,
    }
}

fn cursor_message(cursor: Cursor) -> pb::Cursor {
    let Cursor { responses, requests, context } = cursor;
    pb::Cursor { responses, requests, context }
}

fn from_cursor(cursor: pb::Cursor) -> Cursor {
    let pb::Cursor { responses, requests, context } = cursor;
    Cursor { responses, requests, context }
}

fn refusal_message(refusal: Refusal) -> pb::Refusal {
    let kind = match refusal.kind {
        RefusalKind::Malformed => pb::RefusalKind::Malformed,
        RefusalKind::OutOfRange => pb::RefusalKind::OutOfRange,
        RefusalKind::Precondition => pb::RefusalKind::Precondition,
        RefusalKind::Failed => pb::RefusalKind::Failed,
    };
    pb::Refusal { kind: kind.into(), message: refusal.message }
}

fn attach_refusal(reason: AttachRefusal) -> pb::AttachRefusal {
    match reason {
        AttachRefusal::Unknown => pb::AttachRefusal::Unknown,
        AttachRefusal::Ended => pb::AttachRefusal::Ended,
        AttachRefusal::WrongSecret => pb::AttachRefusal::WrongSecret,
        AttachRefusal::Elsewhere => pb::AttachRefusal::Elsewhere,
        AttachRefusal::BadCursor => pb::AttachRefusal::BadCursor,
        AttachRefusal::Forgotten => pb::AttachRefusal::Forgotten,
        AttachRefusal::Failed => pb::AttachRefusal::Failed,
    }
}

fn unit_info(info: UnitInfo) -> pb::UnitInfo {
    pb::UnitInfo {
        unit: info.unit.to_string(),
        title: info.title,
        media_type: info.media_type,
        duration: prost_types::Duration::try_from(info.duration).ok(),
        size_bytes: info.size,
        edition: info.edition.number,
        digest: info.edition.digest.bits(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_malformed_message_of_a_gateway_is_named() {
        let session = Bytes::from(vec![7; 16]);
        let serve = pb::Serve {
            session: session.clone(),
            fence: Some(pb::Fence {
                counter: 3,
                configuration_counter: 2,
                configuration_digest: 0xbeef,
                position: 1,
            }),
            attached: true,
            credit: 16,
            credit_bytes: 1 << 20,
            ..pb::Serve::default()
        };
        let read = |message| from_gateway(pb::DeliverResponse { message });
        let ToServer::Serve { fence, resume, .. } = read(Some(FromGateway::Serve(serve.clone()))).unwrap()
        else {
            panic!("a grant is a grant")
        };
        assert_eq!((fence.to_string().as_str(), resume), ("f3@v2.beef+1", Resume::Anywhere));
        for (message, field) in [
            (None, "message"),
            (Some(FromGateway::Hello(pb::GatewayHello {})), "hello"),
            (Some(FromGateway::Serve(pb::Serve { fence: None, ..serve.clone() })), "serve.fence"),
            (Some(FromGateway::Serve(pb::Serve { session: Bytes::new(), ..serve })), "serve.session"),
            (Some(FromGateway::Fenced(pb::Fenced { session, fence: None })), "fenced.fence"),
            (Some(FromGateway::Credit(pb::Credit::default())), "credit.session"),
        ] {
            assert_eq!(read(message).unwrap_err().field, field);
        }
    }

    #[test]
    fn names_read_back_and_what_is_none_is_named() {
        assert_eq!(server("server", "servers/server-2"), Ok(Name::literal("server-2")));
        for bad in ["server-2", "servers/", "servers/Server 2"] {
            let malformed = server("server", bad).unwrap_err().to_string();
            assert_eq!(malformed, format!("server: {bad:?} is not of the form servers/{{server}}"));
        }
        let (unit, id) = (UnitId::new("film-1").unwrap(), SessionId::new(7));
        assert_eq!(session_of_any("parent", &session_name(&unit, id)), Ok((Some(unit), id)));
        assert_eq!(session_of_any("parent", &format!("contentUnits/-/sessions/{id}")), Ok((None, id)));
        for bad in ["contentUnits/-/sessions/7", "contentUnits/film-1", "7"] {
            assert_eq!(session_of_any("parent", bad).unwrap_err().field, "parent", "{bad}");
        }
    }

    #[test]
    fn a_payload_is_handed_on_without_a_copy() {
        let payload = Bytes::from(vec![1; 1000]);
        let cursor = Cursor { responses: 1, requests: 0, context: Bytes::new() };
        let session = SessionId::new(1);
        let response = Response { cursor, payload: payload.clone(), last: false };
        let responses = ToGateway::Responses { session, stream: 1, responses: vec![response; 2] };
        let told: Vec<_> = for_gateway(responses).map(|told| told.message).collect();
        let [Some(ForGateway::Response(first)), Some(ForGateway::Response(second))] = &told[..] else {
            panic!("two responses")
        };
        assert_eq!([&first.payload, &second.payload].map(|it| it.as_ptr()), [payload.as_ptr(); 2]);
    }

    #[test]
    fn corrupted_messages_of_gateways_are_refused_or_read() {
        let session = Bytes::from(vec![7; 16]);
        let fence = pb::Fence { counter: 3, configuration_counter: 2, configuration_digest: 9, position: 1 };
        let cursor = pb::Cursor { responses: 41, requests: 3, context: Bytes::from_static(b"context") };
        let serve = |resume| pb::Serve {
            session: session.clone(),
            fence: Some(fence),
            stream: 4,
            resume,
            attached: true,
            credit: 16,
            credit_bytes: 1 << 20,
            repeats_from: 2,
        };
        let samples = [
            FromGateway::Hello(pb::GatewayHello {}),
            FromGateway::Serve(serve(Some(pb::serve::Resume::After(cursor)))),
            FromGateway::Serve(serve(Some(pb::serve::Resume::Beginning(pb::Beginning {})))),
            FromGateway::Serve(serve(None)),
            FromGateway::Credit(pb::Credit {
                session: session.clone(),
                stream: 4,
                up_to: 70_000,
                bytes_up_to: 1 << 20,
            }),
            FromGateway::Fenced(pb::Fenced { session: session.clone(), fence: Some(fence) }),
            FromGateway::Unknown(pb::Unknown { session }),
        ]
        .map(|message| pb::DeliverResponse { message: Some(message) });
        fuzz::messages(fuzz::target!(), &samples, |response| from_gateway(response).is_ok());
    }
}
