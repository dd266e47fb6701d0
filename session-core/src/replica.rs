//! One session at one server: the context at the primary or a backup, and the requests behind it.
//!
//! Invariant: `context` is the service's context after the first `requests` requests and `responses` responses.
//! Requests are applied once each, in the order of their numbers [FK:backup]; the last ones are remembered, so that
//! an older or fresher context can take this one's place and be brought up to date.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use crate::edition::{
    ContentId, Edition, Head, History, decode_context, edition_of, encode_context, size_of,
};
use crate::message::{COUNT_MAX, Remembered};
use crate::server::Holders;
use crate::service::{ContentService, Refusal, RefusalKind, SharedState};
use crate::unit_db::Contexts;
use bytes::Bytes;
use model::UnitId;

/// What a remembered request takes beside its operation, about, in bytes.
const REQUEST_OVERHEAD: usize = 64;

/// The context of a session, as this server has it.
#[derive(Clone, Debug)]
pub(crate) struct Replica<C> {
    /// What the context is of.
    pub(crate) content: ContentId,
    /// The committed responses that led to the context.
    pub(crate) history: History,
    pub(crate) context: C,
    pub(crate) requests: u64,
    pub(crate) responses: u64,
    /// The name of the context: it changes when another context takes its place.
    pub(crate) lineage: u64,
    /// Requests by number: the last applied ones, and those that wait for one before them.
    log: BTreeMap<u64, Logged>,
}

#[derive(Clone, Debug)]
struct Logged {
    operation: Bytes,
    outcome: Option<Result<(), Refusal>>,
}

/// What became of a request that was delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Applied {
    /// It had been applied before, with this outcome if it is still known.
    Before(Option<Result<(), Refusal>>),
    /// The requests up to and including this number can be applied.
    Ready,
    /// A request before it has not come.
    Early,
    /// So far ahead of what was applied that it is not even remembered.
    TooEarly,
}

/// A request that was applied just now.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    pub(crate) number: u64,
    pub(crate) operation: Bytes,
    pub(crate) result: Result<(), Refusal>,
}

/// A context to go on from.
#[derive(Clone, Debug)]
pub(crate) struct Base<C> {
    pub(crate) content: ContentId,
    pub(crate) history: History,
    pub(crate) context: C,
    /// How many requests it reflects.
    pub(crate) requests: u64,
    /// How many responses it reflects.
    pub(crate) responses: u64,
    /// A name for it that this server has given to no other context of the session.
    pub(crate) lineage: u64,
}

/// Bounds of one replica.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) requests_kept: usize,
    pub(crate) context_bytes_max: usize,
}

impl<C> Replica<C> {
    /// A replica that remembers no request.
    pub(crate) fn new(base: Base<C>) -> Replica<C> {
        let Base { content, history, context, requests, responses, lineage } = base;
        Replica { content, history, context, requests, responses, lineage, log: BTreeMap::new() }
    }

    /// What its context travels behind.
    pub(crate) fn head(&self) -> Head {
        Head { edition: self.content.edition, history: self.history }
    }

    /// Takes in request `number`; the applying is done by [`Replica::advance`].
    pub(crate) fn accept(&mut self, number: u64, operation: Bytes, limits: Limits) -> Applied {
        if number <= self.requests {
            return Applied::Before(self.log.get(&number).and_then(|logged| logged.outcome.clone()));
        }
        if number - self.requests > limits.requests_kept as u64 {
            return Applied::TooEarly;
        }
        self.log.entry(number).or_insert(Logged { operation, outcome: None });
        if self.log.contains_key(&(self.requests + 1)) { Applied::Ready } else { Applied::Early }
    }

    /// The last requests that were delivered, the newest that fit into so many bytes.
    pub(crate) fn remembered(&self, bytes_max: usize) -> Vec<Remembered> {
        let mut bytes = 0;
        let newest = self.log.iter().rev().take_while(|(_, logged)| {
            bytes += logged.operation.len() + REQUEST_OVERHEAD;
            bytes <= bytes_max
        });
        let remembered = |(number, logged): (&u64, &Logged)| Remembered {
            number: *number,
            operation: logged.operation.clone(),
            outcome: logged.outcome.clone(),
        };
        newest.map(remembered).collect()
    }

    /// Remembers requests as the replica does whose context, with so many of them, takes the place of this one; as far as
    /// they are neither too many nor too far ahead. What became of those that are in that context, it knows.
    pub(crate) fn remember(&mut self, requests: Vec<Remembered>, reflected: u64, limits: Limits) {
        let furthest = reflected.saturating_add(limits.requests_kept as u64);
        let near = requests.into_iter().filter(|request| request.number <= furthest);
        for Remembered { number, operation, outcome } in near.take(limits.requests_kept) {
            self.log.insert(number, Logged { operation, outcome });
        }
    }

    /// The requests that can be applied next, one after the other.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = (u64, &Bytes)> {
        (self.requests + 1..).map_while(|number| Some((number, &self.log.get(&number)?.operation)))
    }

    /// Applies the next request, if it has come: that itself, or `given`, which came of it.
    pub(crate) fn advance<S>(
        &mut self,
        service: &S,
        given: Option<Result<Bytes, Refusal>>,
        limits: Limits,
    ) -> Option<Outcome>
    where
        S: ContentService<Context = C>,
        C: Clone,
    {
        let number = self.requests + 1;
        let logged = self.log.get_mut(&number)?;
        let operation = logged.operation.clone();
        let given = given.unwrap_or_else(|| Ok(operation.clone()));
        let result =
            given.and_then(|request| apply(service, &self.content, &mut self.context, &request, limits));
        logged.outcome = Some(result.clone());
        self.requests = number;
        let keep_from = number.saturating_sub(limits.requests_kept as u64);
        self.log = self.log.split_off(&keep_from);
        Some(Outcome { number, operation, result })
    }

    /// What `context` is after the requests that follow on the first `requests`, up to number `up_to`, if they are remembered.
    pub(crate) fn replay<S>(
        &self,
        mut context: C,
        requests: u64,
        up_to: u64,
        service: &S,
        limits: Limits,
    ) -> Option<C>
    where
        S: ContentService<Context = C>,
        C: Clone,
    {
        for number in requests + 1..=up_to {
            let logged = self.log.get(&number)?;
            // A refused request leaves the context as it is.
            let _ = apply(service, &self.content, &mut context, &logged.operation, limits);
        }
        Some(context)
    }

    /// Requests before `repeats_from` that have not come will not come any more: goes on without them. Returns how many
    /// those are.
    pub(crate) fn forgo(&mut self, repeats_from: u64) -> u64 {
        let known = repeats_from.saturating_sub(1).min(COUNT_MAX);
        let missing = self.requests + 1..=known;
        let remembered_from = missing.rev().take_while(|number| self.log.contains_key(number)).last();
        let resume_at = remembered_from.map_or(known, |first| first - 1).max(self.requests);
        let lost = resume_at - self.requests;
        self.requests = resume_at;
        lost
    }

    /// Puts another context in this one's place. Remembered requests that it does not reflect can be applied next, by
    /// [`Replica::advance`]; those from `repeats_from` on will be delivered again if they are not remembered. Returns
    /// how many requests that this replica knew of are lost to the new context: neither in it, nor remembered, nor
    /// repeated.
    pub(crate) fn rebase(&mut self, base: Base<C>, repeats_from: u64) -> u64 {
        let Base { content, history, context, requests, responses, lineage } = base;
        let known = self.requests.min(repeats_from.saturating_sub(1));
        self.content = content;
        self.history = history;
        self.context = context;
        self.responses = responses;
        self.lineage = lineage;
        let remembered_from =
            (requests + 1..=known).rev().take_while(|number| self.log.contains_key(number)).last();
        let resume_at = remembered_from.map_or(known.max(requests), |first| first - 1);
        self.requests = resume_at;
        resume_at - requests
    }
}

/// Applies a request to a context, which is as it was if the request is refused.
fn apply<S>(
    service: &S,
    content: &ContentId,
    context: &mut S::Context,
    operation: &[u8],
    limits: Limits,
) -> Result<(), Refusal>
where
    S: ContentService,
    S::Context: Clone,
{
    let mut after = context.clone();
    service.apply(content, &mut after, operation)?;
    fits::<S>(&after, limits)?;
    *context = after;
    Ok(())
}

fn fits<S: ContentService>(context: &S::Context, limits: Limits) -> Result<(), Refusal> {
    let size = size_of(context);
    if size <= limits.context_bytes_max {
        return Ok(());
    }
    let message = alloc::format!(
        "the session's context would take {size} bytes, and may take {}",
        limits.context_bytes_max
    );
    Err(Refusal { kind: RefusalKind::Precondition, message })
}

/// What a service makes of the bytes in the database of one unit.
pub(crate) struct ServiceContexts<'a, S> {
    pub(crate) holders: Holders<'a, S>,
    pub(crate) unit: &'a UnitId,
    pub(crate) bytes_max: usize,
}

impl<S: ContentService> Contexts for ServiceContexts<'_, S> {
    fn merge(&self, one: &[u8], other: &[u8]) -> Option<Bytes> {
        let edition = edition_of(one).filter(|edition| edition_of(other) == Some(*edition))?;
        let content = ContentId { unit: self.unit.clone(), edition };
        let (service, _) = self.holders.of(edition);
        let read = |bytes| decode_context(bytes, || service.open(&content));
        let both = service.merge(&content, &read(one)?, &read(other)?)?;
        (size_of(&both) <= self.bytes_max).then(|| encode_context(Head::new(edition), &both))
    }

    fn restore(&self, edition: Edition, snapshot: &[u8]) -> Option<Box<dyn SharedState>> {
        let (service, _) = self.holders.of(edition);
        service.restore(&ContentId { unit: self.unit.clone(), edition }, snapshot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::{Next, UnitInfo};
    use alloc::string::String;
    use model::Time;

    const LIMITS: Limits = Limits { requests_kept: 4, context_bytes_max: 16 };

    /// Remembers its requests as one text; refuses `?`.
    struct Writer;

    impl ContentService for Writer {
        type Context = String;

        fn units(&self) -> Vec<UnitInfo> {
            Vec::new()
        }

        fn open(&self, _: &ContentId) -> String {
            String::new()
        }

        fn apply(&self, _: &ContentId, context: &mut String, request: &[u8]) -> Result<(), Refusal> {
            let text = core::str::from_utf8(request).unwrap();
            context.push_str(text);
            if text == "?" {
                return Err(Refusal { kind: RefusalKind::Malformed, message: "what?".into() });
            }
            Ok(())
        }

        fn next(&self, _: &ContentId, _: &mut String, _: Time) -> Next {
            Next::Idle
        }
    }

    fn base(context: &str, requests: u64, responses: u64) -> Base<String> {
        let content = ContentId::only(UnitId::new("u").unwrap());
        let (history, lineage) = (History::NONE, 0);
        Base { content, history, context: context.into(), requests, responses, lineage }
    }

    /// A replica that was given these requests.
    fn replica(requests: &[(u64, &'static str)]) -> Replica<String> {
        let mut replica = Replica::new(base("", 0, 0));
        for (number, text) in requests {
            give(&mut replica, *number, text);
        }
        replica
    }

    fn give(replica: &mut Replica<String>, number: u64, text: &'static str) -> Applied {
        let applied = replica.accept(number, Bytes::from_static(text.as_bytes()), LIMITS);
        catch_up(replica);
        applied
    }

    fn catch_up(replica: &mut Replica<String>) {
        while replica.advance(&Writer, None, LIMITS).is_some() {}
    }

    #[test]
    fn requests_are_applied_once_and_in_order() {
        for (requests, context) in [
            (&[(1, "a"), (2, "b")][..], "ab"),
            (&[(1, "a"), (1, "x"), (2, "b"), (1, "y")], "ab"),
            (&[(2, "b"), (3, "c"), (1, "a")], "abc"),
            (&[(1, "a"), (3, "c")], "a"),
            (&[(1, "a"), (2, "?"), (3, "c")], "ac"),
        ] {
            assert_eq!(replica(requests).context, context, "{requests:?}");
        }
    }

    #[test]
    fn a_repeated_request_has_the_outcome_that_it_had() {
        let mut replica = replica(&[(1, "a"), (2, "?")]);
        assert_eq!(give(&mut replica, 1, "a"), Applied::Before(Some(Ok(()))));
        assert!(matches!(give(&mut replica, 2, "?"), Applied::Before(Some(Err(_)))));
        assert_eq!(give(&mut replica, 4, "d"), Applied::Early);
        assert_eq!(give(&mut replica, 7, "g"), Applied::TooEarly);
    }

    #[test]
    fn of_what_another_replica_remembers_nothing_is_kept_that_is_far_ahead() {
        let mut replica = replica(&[(1, "a")]);
        let remembered = |number| Remembered { number, operation: Bytes::from_static(b"x"), outcome: None };
        replica.remember([1, 2, 5, 6, u64::MAX].map(remembered).into(), 1, LIMITS);
        assert_eq!(replica.log.keys().copied().collect::<Vec<_>>(), [1, 2, 5]);
    }

    #[test]
    fn a_request_that_would_outgrow_the_context_is_refused() {
        let mut replica = replica(&[(1, "0123456789"), (2, "0123456789"), (3, "a")]);
        assert_eq!(replica.context, "0123456789a");
        assert!(matches!(give(&mut replica, 2, ""), Applied::Before(Some(Err(_)))));
    }

    #[test]
    fn another_context_is_brought_up_to_date_from_what_is_remembered() {
        let all = [(1, "a"), (2, "b"), (3, "c"), (4, "d"), (5, "e"), (6, "f"), (7, "g")];
        // Requests 3 to 7 are remembered. Rebased to `requests`, given what the gateway repeats, this many are lost.
        for (requests, repeats_from, lost, context) in [
            (7, 8, 0, "|"),
            (9, 10, 0, "|"),
            (5, 8, 0, "|fg"),
            (2, 8, 0, "|cdefg"),
            (1, 8, 1, "|cdefg"),
            (0, 8, 2, "|cdefg"),
            (1, 2, 0, "|"),
            (5, 6, 0, "|fg"),
        ] {
            let mut replica = replica(&all);
            assert_eq!(replica.rebase(base("|", requests, 3), repeats_from), lost, "{requests}");
            catch_up(&mut replica);
            assert_eq!((replica.context.as_str(), replica.responses), (context, 3), "{requests}");
        }
    }

    #[test]
    fn what_will_not_come_any_more_is_not_waited_for() {
        // Requests 1 to 3 are applied, and 6 and 7 have come.
        let come = [(1, "a"), (2, "b"), (3, "c"), (6, "f"), (7, "g")];
        for (repeats_from, lost, context) in [
            (1, 0, "abc"),
            (4, 0, "abc"),
            (5, 1, "abc"),
            (6, 2, "abcfg"),
            (7, 2, "abcfg"),
            (8, 2, "abcfg"),
            (10, 6, "abc"),
        ] {
            let mut replica = replica(&come);
            assert_eq!(replica.forgo(repeats_from), lost, "{repeats_from}");
            catch_up(&mut replica);
            assert_eq!(replica.context, context, "{repeats_from}");
        }
    }

    #[test]
    fn requests_that_the_gateway_repeats_are_not_lost() {
        let mut replica = Replica::new(base("abc", 3, 10));
        assert_eq!(replica.rebase(base("a", 1, 8), 2), 0);
        assert_eq!(give(&mut replica, 3, "c"), Applied::Early);
        assert_eq!(give(&mut replica, 2, "b"), Applied::Ready);
        assert_eq!((replica.context.as_str(), replica.requests), ("abc", 3));
    }
}
