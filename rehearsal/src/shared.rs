//! The state that sessions share, if the service has one: requests are carried out on it before they are rehearsed, at two
//! servers, one of which is started again now and then.

use session_core::{ContentId, ContentService, SharedState};

use crate::fault::What;
use crate::script::{Dice, Step, shown};

/// The steps as a session sees them: with what came of each request in its place.
pub(crate) fn carried_out<S: ContentService>(
    make: &impl Fn() -> S,
    content: &ContentId,
    steps: Vec<Step>,
    dice: &mut Dice,
) -> Result<Vec<Step>, What> {
    let (one, other) = (make(), make());
    let (Some(mut state), Some(mut mirror)) = (one.shared(content), other.shared(content)) else {
        return Ok(steps);
    };
    steps
        .into_iter()
        .map(|step| match step {
            Step::Next => Ok(Step::Next),
            Step::Request(request) => {
                if dice.once_in(5) {
                    mirror = restored(&other, content, &*state)?;
                }
                let (result, mirrored) = (state.update(&request), mirror.update(&request));
                if result != mirrored || state.snapshot() != mirror.snapshot() {
                    return Err(What::SharedState { one: shown(&result), other: shown(&mirrored) });
                }
                Ok(Step::Request(result.to_vec()))
            }
        })
        .collect()
}

fn restored<S: ContentService>(
    service: &S,
    content: &ContentId,
    state: &dyn SharedState,
) -> Result<Box<dyn SharedState>, What> {
    service.restore(content, &state.snapshot()).ok_or(What::Snapshot)
}
