//! Sessions for operators: in pages, filtered, in the order of their names or any other.

use model::{SessionId, UnitId};
use proto::server::v1 as pb;
use session_core::{Server, SessionStatus};
use svc_kit::driver::Clock;
use svc_kit::status::bad_field;
use tonic::Status;

use crate::Service;
use crate::filter::Filter;
use crate::order_by::{OrderBy, Place};
use crate::status::session_status;
use crate::wire;

/// Sessions on a page, if nothing is said.
const PAGE_DEFAULT: usize = 100;
/// Sessions on a page, at most.
const PAGE_MAX: usize = 1000;

/// Which page of which sessions.
#[derive(Clone, Debug)]
pub(crate) struct Page {
    /// Of this unit; of all that are held here.
    pub(crate) unit: Option<UnitId>,
    filter: Filter,
    start: Start,
    size: usize,
}

/// Where a page begins.
#[derive(Clone, Debug)]
enum Start {
    /// After this session, in the order in which they are kept.
    After(Option<(UnitId, SessionId)>),
    /// After this place, in an order of the operator's own.
    Ordered(OrderBy, Option<Place>),
}

impl Start {
    fn of(order_by: &str, token: &str) -> Result<Start, Status> {
        let order = OrderBy::parse(order_by).map_err(|it| bad_field("order_by", it.to_string()))?;
        let is_first = token.is_empty();
        if order.is_empty() {
            let after = (!is_first).then(|| wire::session("page_token", token));
            return Ok(Start::After(after.transpose()?));
        }
        let place = (!is_first).then(|| serde_json::from_str::<Place>(token).ok().filter(|it| order.has(it)));
        match place {
            Some(None) => Err(bad_field("page_token", "it is not of a page in this order")),
            place => Ok(Start::Ordered(order, place.flatten())),
        }
    }
}

impl Page {
    /// What an operator asks for.
    pub(crate) fn of(request: &pb::ListSessionsRequest) -> Result<Page, Status> {
        let unit = match request.parent.as_str() {
            "" | "contentUnits/-" => None,
            parent => Some(wire::unit("parent", parent)?),
        };
        let filter = Filter::parse(&request.filter).map_err(|it| bad_field("filter", it.to_string()))?;
        let start = Start::of(&request.order_by, &request.page_token)?;
        let size = page_size(request.page_size)?;
        Ok(Page { unit, filter, start, size })
    }

    /// The page, as this server knows the sessions.
    pub(crate) fn look<S: Service>(&self, server: &Server<S>, clock: Clock) -> pb::ListSessionsResponse {
        let now = clock.now();
        let is_ahead = |it: &SessionStatus<'_>| match &self.start {
            Start::After(Some((unit, id))) => (it.unit, it.id) > (unit, *id),
            Start::After(None) | Start::Ordered(..) => true,
        };
        let wanted = server
            .sessions()
            .filter(|it| self.unit.as_ref().is_none_or(|unit| unit == it.unit) && is_ahead(it))
            .map(|it| session_status(now, &it))
            .filter(|it| self.filter.admits(it));
        let mut sessions: Vec<_> = match &self.start {
            Start::After(_) => wanted.take(self.size + 1).collect(),
            Start::Ordered(order, after) => self.ordered(wanted, order, after.as_ref()),
        };
        let has_more = sessions.len() > self.size;
        sessions.truncate(self.size);
        let last = sessions.last().filter(|_| has_more);
        let next_page_token = last.map(|session| self.token(session)).unwrap_or_default();
        pb::ListSessionsResponse { sessions, next_page_token }
    }

    /// The page, and one session more, if there is one.
    fn ordered(
        &self,
        wanted: impl Iterator<Item = pb::SessionStatus>,
        order: &OrderBy,
        after: Option<&Place>,
    ) -> Vec<pb::SessionStatus> {
        let placed = wanted.map(|it| (order.place(&it), it));
        let is_ahead = |place: &Place| after.is_none_or(|it| order.compare_places(place, it).is_gt());
        let mut ahead: Vec<_> = placed.filter(|(place, _)| is_ahead(place)).collect();
        ahead.sort_unstable_by(|(one, _), (other, _)| order.compare_places(one, other));
        ahead.into_iter().map(|(_, session)| session).take(self.size + 1).collect()
    }

    /// What asks for the page after this session.
    fn token(&self, last: &pb::SessionStatus) -> String {
        match &self.start {
            Start::After(_) => last.name.clone(),
            // Texts and numbers are JSON always.
            Start::Ordered(order, _) => serde_json::to_string(&order.place(last)).unwrap_or_default(),
        }
    }
}

/// How many there are to be on a page.
pub(crate) fn page_size(given: i32) -> Result<usize, Status> {
    match usize::try_from(given) {
        Ok(0) => Ok(PAGE_DEFAULT),
        Ok(size) if size <= PAGE_MAX => Ok(size),
        Ok(_) | Err(_) => Err(bad_field("page_size", format!("must be between 0 and {PAGE_MAX}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_of_bounded_size_and_of_names_that_make_sense() {
        let request = |parent: &str, page_size, page_token: &str| pb::ListSessionsRequest {
            parent: parent.into(),
            page_size,
            page_token: page_token.into(),
            filter: String::new(),
            order_by: String::new(),
        };
        let after = "contentUnits/life/sessions/0000000000000000000000000000000a";
        assert_eq!(Page::of(&request("", 0, "")).unwrap().size, PAGE_DEFAULT);
        assert_eq!(Page::of(&request("contentUnits/-", 1000, after)).unwrap().size, PAGE_MAX);
        for (bad, field) in [
            (request("units/life", 0, ""), "parent"),
            (request("", -1, ""), "page_size"),
            (request("", 1001, ""), "page_size"),
            (request("", 0, "next"), "page_token"),
            (pb::ListSessionsRequest { filter: "unit".into(), ..request("", 0, "") }, "filter"),
            (pb::ListSessionsRequest { order_by: "colour".into(), ..request("", 0, "") }, "order_by"),
            (pb::ListSessionsRequest { order_by: "unit".into(), ..request("", 0, after) }, "page_token"),
        ] {
            let refused = Page::of(&bad).unwrap_err();
            assert!(refused.message().starts_with(field), "{field}: {refused}");
        }
    }
}
