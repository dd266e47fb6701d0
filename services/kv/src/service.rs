//! The content service itself: the stores held here, and how what came of a request is answered.

use std::collections::{BTreeMap, VecDeque};

use model::Time;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use session_core::{ContentId, ContentService, Next, Refusal, SharedState, UnitInfo};

use crate::store::{Answer, Store};

/// Stores as they are founded.
#[derive(Clone, Debug)]
pub struct Kv {
    stores: BTreeMap<ContentId, (String, Store)>,
}

/// A client: what it is to be answered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Context {
    due: VecDeque<Answer>,
}

impl Kv {
    /// Serves these stores, each with its title.
    pub fn new(stores: BTreeMap<ContentId, (String, Store)>) -> Kv {
        Kv { stores }
    }
}

impl ContentService for Kv {
    type Context = Context;

    fn units(&self) -> Vec<UnitInfo> {
        let info = |(content, (title, _)): (&ContentId, &(String, Store))| UnitInfo {
            edition: content.edition,
            ..UnitInfo::new(content.unit.clone(), title, "application/json")
        };
        self.stores.iter().map(info).collect()
    }

    fn open(&self, _: &ContentId) -> Context {
        Context::default()
    }

    fn shared(&self, content: &ContentId) -> Option<Box<dyn SharedState>> {
        let (_, store) = self.stores.get(content)?;
        Some(Box::new(store.clone()))
    }

    fn restore(&self, _: &ContentId, snapshot: &[u8]) -> Option<Box<dyn SharedState>> {
        let store: Store = postcard::from_bytes(snapshot).ok()?;
        Some(Box::new(store))
    }

    /// What is applied came from the store.
    fn apply(&self, _: &ContentId, context: &mut Context, result: &[u8]) -> Result<(), Refusal> {
        let carried: Result<Answer, Refusal> = postcard::from_bytes(result).map_err(Refusal::malformed)?;
        context.due.push_back(carried?);
        Ok(())
    }

    fn next(&self, _: &ContentId, context: &mut Context, _: Time) -> Next {
        let Some(answer) = context.due.pop_front() else { return Next::Idle };
        Next::Respond { payload: told(answer).to_string().into(), last: false }
    }
}

/// An answer, as `proto/handover/kv/v1` describes it.
fn told(answer: Answer) -> Value {
    let Answer { revision, key, value, done } = answer;
    let mut told = json!({ "revision": revision, "key": key, "done": done });
    if let Some(value) = value {
        told["value"] = value.into();
    }
    json!({ "answer": told })
}

#[cfg(test)]
mod tests;
