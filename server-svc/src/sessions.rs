//! Sessions for operators: in pages, filtered, in the order of their names.

use model::{SessionId, UnitId};
use proto::server::v1 as pb;
use session_core::{Server, SessionStatus};
use svc_kit::driver::Clock;
use svc_kit::status::bad_field;
use tonic::Status;

use crate::Service;
use crate::filter::Filter;
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
    after: Option<(UnitId, SessionId)>,
    size: usize,
}

impl Page {
    /// What an operator asks for.
    pub(crate) fn of(request: &pb::ListSessionsRequest) -> Result<Page, Status> {
        let unit = match request.parent.as_str() {
            "" | "contentUnits/-" => None,
            parent => Some(wire::unit("parent", parent).map_err(wire::malformed)?),
        };
        let filter = Filter::parse(&request.filter).map_err(|it| bad_field("filter", it.to_string()))?;
        let after = match request.page_token.as_str() {
            "" => None,
            token => Some(wire::session("page_token", token).map_err(wire::malformed)?),
        };
        let size = page_size(request.page_size)?;
        Ok(Page { unit, filter, after, size })
    }

    /// The page, as this server knows the sessions.
    pub(crate) fn look<S: Service>(&self, server: &Server<S>, clock: Clock) -> pb::ListSessionsResponse {
        let now = clock.now();
        let is_ahead = |it: &SessionStatus<'_>| {
            let place = (it.unit, it.id);
            self.after.as_ref().is_none_or(|(unit, id)| place > (unit, *id))
        };
        let wanted = server
            .sessions()
            .filter(|it| self.unit.as_ref().is_none_or(|unit| unit == it.unit) && is_ahead(it))
            .map(|it| session_status(now, &it))
            .filter(|it| self.filter.admits(it));
        let mut sessions: Vec<_> = wanted.take(self.size + 1).collect();
        let has_more = sessions.len() > self.size;
        sessions.truncate(self.size);
        let last = sessions.last().filter(|_| has_more);
        let next_page_token = last.map(|session| session.name.clone()).unwrap_or_default();
        pb::ListSessionsResponse { sessions, next_page_token }
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
        ] {
            let refused = Page::of(&bad).unwrap_err();
            assert!(refused.message().starts_with(field), "{field}: {refused}");
        }
    }
}
