//! The content beside the [films](player::films) that comes with the binary: a course, a handbook to search in, which is
//! what the repository says about
//! itself, a text to go on from, and a store.

/// A content unit as a file.
#[derive(Clone, Copy, Debug)]
pub struct ContentFile {
    /// The name of the file, which says what unit it is, and of which kind.
    pub name: &'static str,
    /// What is in it.
    pub text: &'static str,
}

/// All of it.
pub static ALL: [ContentFile; 4] = [
    ContentFile {
        name: "group-communication.course.toml",
        text: include_str!("../../content/group-communication.course.toml"),
    },
    ContentFile { name: "handbook.collection.md", text: HANDBOOK },
    ContentFile { name: "notes.kv.toml", text: include_str!("../../content/notes.kv.toml") },
    ContentFile { name: "lighthouse.tokens.txt", text: include_str!("../../content/lighthouse.tokens.txt") },
];

macro_rules! pages {
    ($title:literal, $($path:literal),* $(,)?) => {
        concat!($title, $("\n\n", include_str!(concat!("../../", $path))),*)
    };
}

const HANDBOOK: &str = pages![
    "# The handbook of Handover\n\nWhat is written down about Handover, section by section.",
    "README.md",
    "ARCHITECTURE.md",
    "docs/command.md",
    "docs/compose.md",
    "docs/content.md",
    "docs/services.md",
    "docs/writing-a-service.md",
    "docs/groups.md",
    "docs/membership.md",
    "docs/protocol.md",
    "docs/performance.md",
    "docs/testing.md",
    "docs/adr/0001-cursor-carries-the-context.md",
    "docs/adr/0002-one-program-four-services.md",
    "docs/adr/0003-group-payloads-are-postcard.md",
    "docs/adr/0004-traces-are-outputs.md",
    "docs/adr/0005-nothing-is-cast-during-a-table-exchange.md",
    "docs/adr/0006-modes-are-part-of-a-groups-name.md",
    "docs/adr/0007-safe-messages-wait-for-positions.md",
    "docs/adr/0008-a-broken-stream-is-a-question.md",
    "docs/adr/0009-search-needs-no-search-engine.md",
    "docs/adr/0010-one-server-for-all-kinds-of-content.md",
    "docs/adr/0011-servers-judge-daemons-remember.md",
    "docs/adr/0012-committed-responses-are-messages-of-the-session-group.md",
    "docs/adr/0013-a-context-belongs-to-an-edition.md",
    "docs/adr/0014-gateways-watch-primaries-say-when-they-rest.md",
    "docs/adr/0015-a-sealed-cursor-brings-a-forgotten-session-back.md",
    "docs/adr/0016-shared-state-answers-to-its-voters.md",
];

#[cfg(test)]
mod tests {
    use std::path::Path;

    use server_svc::content::{Content, Kind};

    use super::*;

    #[test]
    fn all_of_it_can_be_served() {
        for file in ALL {
            let kind = Kind::of(Path::new(file.name)).unwrap();
            let content = Content::parse(kind, file.text.into());
            let content = content.unwrap_or_else(|error| panic!("{}: {error}", file.name));
            if let Content::Collection(collection) = content {
                assert!(collection.documents.len() > 50, "{} documents", collection.documents.len());
                assert!(!collection.matching("virtual synchrony").is_empty());
            }
        }
    }

    #[test]
    fn the_handbook_has_what_the_page_on_services_asks_it() {
        let page = include_str!("../../docs/services.md");
        let asked = |verb: &str| {
            let lines = page.lines().filter_map(move |line| line.strip_prefix(verb));
            lines.map(|rest| rest.split('#').next().unwrap().trim().trim_matches('"')).collect::<Vec<_>>()
        };
        let Content::Collection(handbook) = Content::parse(Kind::Collection, HANDBOOK.into()).unwrap() else {
            panic!("it is a collection");
        };
        let found: Vec<_> = asked("find text=").into_iter().map(|text| handbook.matching(text)).collect();
        // `more set=1 after=10` shows some, and `intersect sets=[1,3]` leaves some.
        assert!(found[0].len() > 10 && !found[0].is_disjoint(&found[1]), "{found:?}");
        let refined = handbook.matching(asked("refine set=1 text=")[0]);
        assert!(!found[0].is_disjoint(&refined), "{refined:?}");
        for id in asked("open document=") {
            assert!(handbook.documents.iter().any(|it| it.id == id), "there is no document {id}");
        }
    }
}
