//! Between the generated types and those of the machine: each message is turned once, and what is missing or
//! malformed in it is named.

use std::str::FromStr;
use std::time::Duration;

use bytes::Bytes;
use model::{Digest, Name, UnitId};
use proto::gateway::v1 as delivery;
use proto::gateway::v1::deliver_request::Message as FromServer;
use proto::gateway::v1::deliver_response::Message as ForServer;
use proto::session::v1 as session;
use proto::session::v1::attach_response::Event;
use session_core::gateway::{ClientEvent, Failure};
use session_core::message::{AttachRefusal, Cursor, Response, Resume, Secret, ToGateway, ToServer};
use session_core::{Credit, Edition, Refusal, RefusalKind, UnitInfo};
pub(crate) use svc_kit::wire::{Malformed, fence_message, session, session_name, unit, unit_name};
use svc_kit::wire::{from_fence, session_bytes, session_id, shown};

use crate::cursor;

/// The secret that a client shows.
pub(crate) fn secret(field: &'static str, text: &str) -> Result<Secret, Malformed> {
    let bits = (text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit()))
        .then(|| u128::from_str_radix(text, 16).ok());
    bits.flatten().map(Secret::new).ok_or_else(|| Malformed::new(field, "is not the secret of a session"))
}

/// The secret as its client gets it.
pub(crate) fn secret_text(secret: Secret) -> String {
    format!("{:032x}", secret.bits())
}

/// What an attached client is told.
pub(crate) enum Told {
    /// In the words of the contract.
    Event(session::AttachResponse),
    /// These, each of them a [`response`].
    Responses(Vec<Response>),
    /// Why its stream ends.
    Over(Failure),
}

pub(crate) fn told(event: ClientEvent) -> Told {
    let event = match event {
        ClientEvent::Serving { server, fence, takeover, requests_lost, stalled } => {
            let (server, fence) = (server.to_string(), fence.counter());
            Event::Serving(session::Serving { server, fence, takeover, requests_lost, stalled })
        }
        ClientEvent::Merged => Event::Merged(session::Merged {}),
        ClientEvent::Rebuilt => Event::Rebuilt(session::Rebuilt {}),
        ClientEvent::Responses(responses) => return Told::Responses(responses),
        ClientEvent::Over(failure) => return Told::Over(failure),
    };
    Told::Event(session::AttachResponse { event: Some(event) })
}

/// A response as its client gets it.
pub(crate) fn response(response: Response, write: impl FnOnce(Cursor) -> Bytes) -> session::AttachResponse {
    let Response { cursor, payload, last } = response;
    let (number, requests_applied) = (cursor.responses, cursor.requests);
    let response = session::Response { number, payload, cursor: write(cursor), requests_applied, last };
    session::AttachResponse { event: Some(Event::Response(response)) }
}

/// A content unit, for clients.
pub(crate) fn content_unit(info: UnitInfo) -> session::ContentUnit {
    session::ContentUnit {
        name: unit_name(&info.unit),
        title: info.title,
        media_type: info.media_type,
        duration: prost_types::Duration::try_from(info.duration).ok(),
        size_bytes: info.size,
        edition: info.edition.number,
    }
}

/// A content server's hello.
pub(crate) struct Hello {
    pub(crate) cluster: Name,
    pub(crate) server: Name,
    pub(crate) gateway: Name,
    pub(crate) gateway_boot: u64,
}

impl TryFrom<delivery::DeliverRequest> for Hello {
    type Error = Malformed;

    fn try_from(request: delivery::DeliverRequest) -> Result<Hello, Malformed> {
        let Some(FromServer::Hello(hello)) = request.message else {
            return Err(Malformed::new("hello", "comes first"));
        };
        Ok(Hello {
            cluster: parse("hello.cluster", &hello.cluster)?,
            server: parse("hello.server", &hello.server)?,
            gateway: parse("hello.gateway", &hello.gateway)?,
            gateway_boot: hello.gateway_boot,
        })
    }
}

/// Reads what a content server says after its hello, and adds it to what it `said` before.
pub(crate) fn from_server(
    request: delivery::DeliverRequest,
    said: &mut Vec<ToGateway>,
) -> Result<(), Malformed> {
    said.push(match request.message.ok_or_else(|| Malformed::missing("message"))? {
        FromServer::Hello(_) => return Err(Malformed::new("hello", "comes once")),
        FromServer::Claim(it) => ToGateway::Claim {
            unit: unit_id("claim.unit", &it.unit)?,
            session: session_id("claim.session", &it.session)?,
            fence: from_fence("claim.fence", it.fence)?,
            requests: number("claim.requests", it.requests)?,
        },
        FromServer::Started(it) => ToGateway::Started {
            session: session_id("started.session", &it.session)?,
            stream: it.stream,
            requests_lost: it.requests_lost,
            cursor: from_cursor("started.cursor", it.cursor)?,
            uncertain: it.uncertain,
            merged: it.merged,
            rebuilt: it.rebuilt,
        },
        FromServer::Response(it) => {
            let session = session_id("response.session", &it.session)?;
            let cursor = from_cursor("response.cursor", it.cursor)?;
            let response = Response { cursor, payload: it.payload, last: it.last };
            ToGateway::respond(said, session, it.stream, response);
            return Ok(());
        }
        FromServer::Applied(it) => ToGateway::Applied {
            session: session_id("applied.session", &it.session)?,
            stream: it.stream,
            number: number("applied.number", it.number)?,
            outcome: it.refusal.map(refusal).transpose()?.map_or(Ok(()), Err),
            cursor: from_cursor("applied.cursor", it.cursor)?,
        },
        FromServer::Rests(it) => ToGateway::Rests {
            session: session_id("rests.session", &it.session)?,
            stream: it.stream,
            time: it.time.map(|time| duration("rests.time", time)).transpose()?,
        },
        FromServer::Suspended(it) => {
            ToGateway::Suspended { session: session_id("suspended.session", &it.session)? }
        }
        FromServer::Ended(it) => ToGateway::Ended { session: session_id("ended.session", &it.session)? },
        FromServer::Refused(it) => ToGateway::Refused {
            session: session_id("refused.session", &it.session)?,
            reason: attach_refusal(it.reason())?,
        },
        FromServer::Moved(it) => ToGateway::Moved { session: session_id("moved.session", &it.session)? },
        FromServer::Units(it) => ToGateway::Units {
            query: it.query,
            units: it.units.into_iter().map(unit_info).collect::<Result<_, _>>()?,
        },
    });
    Ok(())
}

/// What a content server is told.
pub(crate) fn for_server(message: ToServer) -> delivery::DeliverResponse {
    let message = match message {
        ToServer::Serve { session, fence, stream, resume, credit, repeats_from } => {
            ForServer::Serve(delivery::Serve {
                session: session_bytes(session),
                fence: Some(fence_message(fence)),
                stream,
                resume: resume_message(resume),
                attached: credit.is_some(),
                credit: credit.map_or(0, |credit| credit.responses),
                credit_bytes: credit.map_or(0, |credit| credit.bytes),
                repeats_from,
            })
        }
        ToServer::Credit { session, stream, up_to } => {
            let (session, Credit { responses: up_to, bytes: bytes_up_to }) = (session_bytes(session), up_to);
            ForServer::Credit(delivery::Credit { session, stream, up_to, bytes_up_to })
        }
        ToServer::Fenced { session, fence } => ForServer::Fenced(delivery::Fenced {
            session: session_bytes(session),
            fence: Some(fence_message(fence)),
        }),
        ToServer::Unknown { session } => {
            ForServer::Unknown(delivery::Unknown { session: session_bytes(session) })
        }
    };
    delivery::DeliverResponse { message: Some(message) }
}

fn resume_message(resume: Resume) -> Option<delivery::serve::Resume> {
    match resume {
        Resume::Beginning => Some(delivery::serve::Resume::Beginning(delivery::Beginning {})),
        Resume::After(cursor) => Some(delivery::serve::Resume::After(cursor_message(cursor))),
        Resume::Anywhere => None,
    }
}

fn cursor_message(cursor: Cursor) -> delivery::Cursor {
    let Cursor { responses, requests, context } = cursor;
    delivery::Cursor { responses, requests, context }
}

fn from_cursor(field: &'static str, cursor: Option<delivery::Cursor>) -> Result<Cursor, Malformed> {
    let delivery::Cursor { responses, requests, context } =
        cursor.ok_or_else(|| Malformed::missing(field))?;
    // It is kept for as long as the session has nothing newer. A slice would keep all that was received with it.
    let context = Bytes::copy_from_slice(&context);
    Ok(Cursor { responses: number(field, responses)?, requests: number(field, requests)?, context })
}

/// A count that can be added to.
fn number(field: &'static str, number: u64) -> Result<u64, Malformed> {
    let sane = number <= cursor::NUMBER_MAX;
    sane.then_some(number).ok_or_else(|| Malformed::new(field, format!("{number} is not a count")))
}

fn refusal(refusal: delivery::Refusal) -> Result<Refusal, Malformed> {
    let kind = match refusal.kind() {
        delivery::RefusalKind::Malformed => RefusalKind::Malformed,
        delivery::RefusalKind::OutOfRange => RefusalKind::OutOfRange,
        delivery::RefusalKind::Precondition => RefusalKind::Precondition,
        delivery::RefusalKind::Failed => RefusalKind::Failed,
        delivery::RefusalKind::Unspecified => return Err(Malformed::missing("applied.refusal.kind")),
    };
    Ok(Refusal { kind, message: refusal.message })
}

fn attach_refusal(reason: delivery::AttachRefusal) -> Result<AttachRefusal, Malformed> {
    match reason {
        delivery::AttachRefusal::Unknown => Ok(AttachRefusal::Unknown),
        delivery::AttachRefusal::Ended => Ok(AttachRefusal::Ended),
        delivery::AttachRefusal::WrongSecret => Ok(AttachRefusal::WrongSecret),
        delivery::AttachRefusal::Elsewhere => Ok(AttachRefusal::Elsewhere),
        delivery::AttachRefusal::BadCursor => Ok(AttachRefusal::BadCursor),
        delivery::AttachRefusal::Forgotten => Ok(AttachRefusal::Forgotten),
        delivery::AttachRefusal::Failed => Ok(AttachRefusal::Failed),
        delivery::AttachRefusal::Unspecified => Err(Malformed::missing("refused.reason")),
    }
}

fn unit_info(info: delivery::UnitInfo) -> Result<UnitInfo, Malformed> {
    let length = info.duration.ok_or_else(|| Malformed::missing("units.duration"))?;
    Ok(UnitInfo {
        unit: unit_id("units.unit", &info.unit)?,
        edition: Edition { number: info.edition, digest: Digest::new(info.digest) },
        title: info.title,
        media_type: info.media_type,
        duration: duration("units.duration", length)?,
        size: info.size_bytes,
    })
}

fn duration(field: &'static str, duration: prost_types::Duration) -> Result<Duration, Malformed> {
    Duration::try_from(duration).map_err(|_| Malformed::new(field, "is negative"))
}

fn unit_id(field: &'static str, id: &str) -> Result<UnitId, Malformed> {
    UnitId::new(id).ok_or_else(|| Malformed::new(field, format!("{} is not a unit id", shown(id))))
}

fn parse<T: FromStr<Err: std::fmt::Display>>(field: &'static str, text: &str) -> Result<T, Malformed> {
    text.parse().map_err(|error: T::Err| Malformed::new(field, error.to_string()))
}

#[cfg(test)]
mod tests {
    use model::SessionId;

    use super::*;

    #[test]
    fn a_secret_reads_back() {
        let shown = Secret::new(42);
        assert_eq!(secret("secret", &secret_text(shown)), Ok(shown));
        for bad in ["", "+0000000000000000000000000000001", "0"] {
            assert!(secret("secret", bad).is_err(), "{bad}");
        }
    }

    fn request(message: FromServer) -> delivery::DeliverRequest {
        delivery::DeliverRequest { message: Some(message) }
    }

    #[test]
    fn a_malformed_message_of_a_server_is_named() {
        let session = Bytes::from(vec![7; 16]);
        let fence = Some(delivery::Fence::default());
        let claim = delivery::Claim { unit: "film".into(), session: session.clone(), fence, requests: 0 };
        assert!(from_server(request(FromServer::Claim(claim.clone())), &mut Vec::new()).is_ok());
        let cursor = delivery::Cursor { responses: u64::MAX, ..delivery::Cursor::default() };
        for (message, field) in [
            (None, "message"),
            (Some(FromServer::Hello(delivery::ServerHello::default())), "hello"),
            (Some(FromServer::Claim(delivery::Claim { fence: None, ..claim.clone() })), "claim.fence"),
            (
                Some(FromServer::Claim(delivery::Claim { session: Bytes::new(), ..claim.clone() })),
                "claim.session",
            ),
            (Some(FromServer::Claim(delivery::Claim { unit: "No".into(), ..claim })), "claim.unit"),
            (
                Some(FromServer::Response(delivery::Response {
                    session: session.clone(),
                    cursor: Some(cursor),
                    ..delivery::Response::default()
                })),
                "response.cursor",
            ),
            (Some(FromServer::Refused(delivery::Refused { session, reason: 99 })), "refused.reason"),
        ] {
            let malformed = from_server(delivery::DeliverRequest { message }, &mut Vec::new()).unwrap_err();
            assert_eq!(malformed.field, field);
        }
    }

    #[test]
    fn corrupted_messages_of_servers_are_refused_or_read() {
        let session = Bytes::from(vec![7; 16]);
        let fence =
            delivery::Fence { counter: 3, configuration_counter: 2, configuration_digest: 9, position: 1 };
        let cursor =
            || Some(delivery::Cursor { responses: 41, requests: 3, context: Bytes::from_static(b"context") });
        let refusal =
            delivery::Refusal { kind: delivery::RefusalKind::OutOfRange.into(), message: "too far".into() };
        let unit = delivery::UnitInfo {
            unit: "film-1".into(),
            title: "A film".into(),
            media_type: "video/mp4".into(),
            duration: Some(prost_types::Duration { seconds: 60, nanos: 5 }),
            size_bytes: 1 << 20,
            edition: 2,
            digest: 7,
        };
        let samples = [
            FromServer::Hello(delivery::ServerHello {
                cluster: "handover".into(),
                server: "server-1".into(),
                gateway: "gateway-1".into(),
                gateway_boot: 7,
            }),
            FromServer::Claim(delivery::Claim {
                unit: "film-1".into(),
                session: session.clone(),
                fence: Some(fence),
                requests: 2,
            }),
            FromServer::Started(delivery::Started {
                uncertain: true,
                merged: true,
                rebuilt: true,
                session: session.clone(),
                stream: 4,
                requests_lost: 2,
                cursor: cursor(),
            }),
            FromServer::Response(delivery::Response {
                session: session.clone(),
                stream: 4,
                cursor: cursor(),
                payload: Bytes::from_static(b"payload"),
                last: false,
            }),
            FromServer::Applied(delivery::Applied {
                session: session.clone(),
                stream: 4,
                number: 9,
                refusal: Some(refusal),
                cursor: cursor(),
            }),
            FromServer::Refused(delivery::Refused { session, reason: delivery::AttachRefusal::Ended.into() }),
            FromServer::Units(delivery::Units { query: 5, units: vec![unit] }),
        ]
        .map(request);
        fuzz::messages(fuzz::target!(), &samples, |request| {
            let is_hello = Hello::try_from(request.clone()).is_ok();
            from_server(request, &mut Vec::new()).is_ok() || is_hello
        });
    }

    #[test]
    fn corrupted_names_are_refused_or_read_back() {
        let samples = [session_name(&UnitId::new("film-1").unwrap(), SessionId::new(0xabc)).into_bytes()];
        fuzz::bytes(fuzz::target!(), &samples, |bytes| {
            let text = String::from_utf8_lossy(bytes);
            let (parent, shown) = (unit("parent", &text), secret("secret", &text));
            match session("name", &text) {
                Ok((unit, id)) => {
                    assert_eq!(session("name", &session_name(&unit, id)), Ok((unit, id)));
                    true
                }
                Err(_) => parent.is_ok() || shown.is_ok(),
            }
        });
    }
}
