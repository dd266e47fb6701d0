//! Whether a service that makes one context of two does so by the rules: replicas merge what they have in different
//! orders, and more than once.

use session_core::{ContentId, ContentService};

use crate::fault::What;

/// Checks the hook of a service, if it has one, on all that can be made of three of these contexts. Two instances of the
/// service take turns.
pub(crate) fn obeys<S: ContentService>(
    services: [&S; 2],
    content: &ContentId,
    contexts: &[S::Context],
) -> Result<(), What> {
    let broken = |law, expected: &Option<S::Context>, found: &Option<S::Context>| {
        let (expected, found) = (format!("{expected:?}"), format!("{found:?}"));
        Err(What::Merge { law, expected, found })
    };
    let [here, there] = services.map(|service| |one: &_, other: &_| service.merge(content, one, other));
    for one in contexts {
        let again = here(one, one);
        if again.as_ref().is_some_and(|again| again != one) {
            return broken("a context with itself is that context", &Some(one.clone()), &again);
        }
        for other in contexts {
            let (both, turned) = (here(one, other), there(other, one));
            if both != turned {
                return broken("which of two comes first makes no difference", &both, &turned);
            }
            let Some(both) = both else { continue };
            for third in contexts {
                let (left, right) = (here(&both, third), there(other, third).and_then(|it| there(one, &it)));
                if left != right {
                    return broken("which two of three are merged first makes no difference", &left, &right);
                }
            }
        }
    }
    Ok(())
}
