//! The content service itself: the texts held here, and how one token after the other is drawn.

use std::collections::BTreeMap;
use std::time::Duration;

use model::{Level, Time};
use serde_json::json;
use session_core::{ContentId, ContentService, Next, Refusal, UnitInfo};

use crate::context::{Context, Request};
use crate::text::Text;

/// A longer request is refused unread.
const REQUEST_BYTES_MAX: usize = 1024;
/// Until chance is asked again when there is none to be had.
const NO_CHANCE: Duration = Duration::from_secs(1);

const ALLOWED: &str =
    r#"{"prompt":{"text":"The light","tokens":50}}, {"pace":{"milliseconds":40}} and {"stop":{}}"#;

/// Texts that go on by themselves.
#[derive(Clone, Debug)]
pub struct Tokens {
    texts: BTreeMap<ContentId, Text>,
    /// Where chance comes from.
    draw: fn() -> Option<u64>,
}

impl Tokens {
    /// Serves these texts. What is said is left to the operating system's random numbers.
    pub fn new(texts: BTreeMap<ContentId, Text>) -> Tokens {
        Tokens { texts, draw: || getrandom::u64().ok() }
    }

    /// The text. The framework asks only for what [`ContentService::units`] names.
    fn text(&self, content: &ContentId) -> &Text {
        let Some(text) = self.texts.get(content) else {
            panic!("asked to serve {content}, which is not held here")
        };
        text
    }
}

impl ContentService for Tokens {
    type Context = Context;

    fn units(&self) -> Vec<UnitInfo> {
        let info = |(content, text): (&ContentId, &Text)| UnitInfo {
            size: text.size,
            edition: content.edition,
            ..UnitInfo::new(content.unit.clone(), &text.title, "application/json")
        };
        self.texts.iter().map(info).collect()
    }

    fn open(&self, _: &ContentId) -> Context {
        Context::new()
    }

    fn apply(&self, content: &ContentId, context: &mut Context, request: &[u8]) -> Result<(), Refusal> {
        let malformed = |what: &dyn std::fmt::Display| {
            Refusal::malformed(format_args!("not a request for tokens: {what}; requests are {ALLOWED}"))
        };
        if request.len() > REQUEST_BYTES_MAX {
            return Err(malformed(&format_args!("{} bytes are too many", request.len())));
        }
        let request: Request = serde_json::from_slice(request).map_err(|error| malformed(&error))?;
        context.apply(self.text(content), request)
    }

    /// The next word cannot be told from the context: nobody may be told it before the session group has it.
    fn commit(&self, _: &ContentId) -> Option<Level> {
        Some(Level::Safe)
    }

    fn next(&self, content: &ContentId, context: &mut Context, now: Time) -> Next {
        if context.left == 0 {
            return Next::Idle;
        }
        if now < context.due {
            return Next::At(context.due);
        }
        let Some(drawn) = (self.draw)() else { return Next::At(now + NO_CHANCE) };
        let text = self.text(content);
        let followers = text.followers(context.at);
        let place =
            usize::try_from(drawn % followers.len().max(1) as u64).ok().and_then(|it| followers.get(it));
        let Some((place, word)) = place.and_then(|place| Some((*place, text.word(*place)?))) else {
            return Next::Idle;
        };
        context.at = Some(place);
        context.left -= 1;
        context.said += 1;
        context.chain = context.chain.and(word);
        // The schedule is absolute; after a pause a new one begins.
        let begin = if now.since(context.due) > NO_CHANCE { now } else { context.due };
        context.due = begin + context.pace;
        let token = json!({ "position": context.said, "text": word, "chain": context.chain.to_string() });
        Next::Respond { payload: json!({ "token": token }).to_string().into(), last: context.left == 0 }
    }
}

#[cfg(test)]
mod tests;
