//! What a gateway is told, in a few words.

use super::*;

/// Each response by itself: which of them go together, the tests are not about.
pub(super) fn shown(message: ToGateway) -> Vec<String> {
    let shown = match message {
        ToGateway::Claim { requests, .. } => format!("claim {requests}"),
        ToGateway::Started { stream, requests_lost: 0, cursor, uncertain, merged, .. } => {
            let start = if uncertain { "uncertain" } else { "start" };
            let merged = if merged { ", merged" } else { "" };
            format!("{start} {stream} after {}/{}{merged}", cursor.responses, cursor.requests)
        }
        ToGateway::Started { stream, requests_lost, .. } => format!("start {stream}, {requests_lost} lost"),
        ToGateway::Responses { responses, .. } => {
            let shown = |Response { cursor, payload, .. }: Response| {
                format!("response {} is {}", cursor.responses, core::str::from_utf8(&payload).unwrap())
            };
            return responses.into_iter().map(shown).collect();
        }
        ToGateway::Applied { number, outcome: Ok(()), .. } => format!("applied {number}"),
        ToGateway::Applied { number, outcome: Err(_), .. } => format!("refused {number}"),
        ToGateway::Rests { time, .. } => format!("rests for {time:?}"),
        ToGateway::Suspended { .. } => "suspended".into(),
        ToGateway::Ended { .. } => "ended".into(),
        ToGateway::Refused { reason, .. } => format!("{reason:?}"),
        ToGateway::Moved { .. } => "moved".into(),
        ToGateway::Units { query, units } => format!("answer {query}: {} units", units.len()),
    };
    Vec::from([shown])
}
