//! Sessions on a small collection.

use prost_reflect::{DescriptorPool, DynamicMessage};
use session_core::RefusalKind;

use model::UnitId;

use super::*;

const SEA: &str = "# Sea\n\nWater and salt.\n\n## Fish\n\nFishes swim in the water.\n\n## Ships\n\nShips sail on the \
    water, and catch fish.\n\n## Wind\n\nWind fills the sails.\n";

fn content() -> ContentId {
    ContentId::only(UnitId::new("sea").unwrap())
}

fn search() -> Search {
    Search::new(BTreeMap::from([(content(), Collection::parse(SEA).unwrap())]))
}

/// Reads JSON as the message that describes it.
fn described(message: &str, json: &Value) {
    let pool = DescriptorPool::decode(proto::FILE_DESCRIPTOR_SET).unwrap();
    let message = pool.get_message_by_name(&format!("handover.search.v1.{message}")).unwrap();
    DynamicMessage::deserialize(message, json).unwrap_or_else(|error| panic!("{json}: {error}"));
}

/// A searcher, and the service that they search with.
struct Searcher {
    service: Search,
    context: Context,
}

impl Searcher {
    fn new() -> Searcher {
        Searcher { service: search(), context: Context::default() }
    }

    fn ask(&mut self, request: &str) -> Result<(), Refusal> {
        self.service.apply(&content(), &mut self.context, request.as_bytes())
    }

    fn hear(&mut self) -> Option<Value> {
        match self.service.next(&content(), &mut self.context, Time::ZERO) {
            Next::Respond { payload, last: false } => Some(serde_json::from_slice(&payload).unwrap()),
            Next::Idle => None,
            other @ (Next::Respond { .. } | Next::At(_) | Next::Fail { .. }) => panic!("{other:?}"),
        }
    }

    /// The response to a request, both of which have to be as they are described.
    fn told(&mut self, request: Value) -> Value {
        described("SearchRequest", &request);
        self.ask(&request.to_string()).unwrap();
        let told = self.hear().unwrap();
        described("SearchResponse", &told);
        assert_eq!(self.hear(), None, "one response to one request");
        told
    }
}

/// The documents of a set, the best first.
fn documents(told: &Value) -> Vec<&str> {
    told["results"]["hits"].as_array().unwrap().iter().map(|it| it["document"].as_str().unwrap()).collect()
}

#[test]
fn later_queries_refine_and_intersect_earlier_ones() {
    let mut searcher = Searcher::new();
    assert_eq!(searcher.hear(), None, "nothing is said before anything is asked");
    let water = searcher.told(json!({ "find": { "text": "water" } }));
    assert_eq!(documents(&water), ["sea", "fish", "ships"]);
    assert_eq!(water["results"]["set"], json!({ "number": 1, "of": "find \"water\"", "size": 3 }));
    assert_eq!(
        documents(&searcher.told(json!({ "refine": { "set": 1, "text": "fish" } }))),
        ["fish", "ships"]
    );
    assert_eq!(documents(&searcher.told(json!({ "find": { "text": "sails" } }))), ["wind", "ships"]);
    let both = searcher.told(json!({ "intersect": { "sets": [3, 2] } }));
    assert_eq!(documents(&both), ["ships"]);
    assert_eq!(both["results"]["hits"][0]["line"], "Ships sail on the water, and catch fish.");
    let sets = searcher.told(json!({ "list": {} }));
    let of: Vec<_> = sets["sets"]["sets"].as_array().unwrap().iter().map(|set| &set["of"]).collect();
    assert_eq!(of, ["find \"water\"", "refine 1 \"fish\"", "find \"sails\"", "intersect 2 3"]);
}

#[test]
fn a_set_is_told_in_parts_and_a_document_as_a_whole() {
    let mut searcher = Searcher::new();
    searcher.told(json!({ "find": { "text": "water" } }));
    assert_eq!(documents(&searcher.told(json!({ "more": { "set": 1, "after": 2 } }))), ["ships"]);
    assert_eq!(documents(&searcher.told(json!({ "more": { "set": 1, "after": 9 } }))), [""; 0]);
    let document = searcher.told(json!({ "open": { "document": "fish" } }));
    let text = "Fishes swim in the water.";
    assert_eq!(document["document"], json!({ "id": "fish", "title": "Sea / Fish", "text": text }));
}

#[test]
fn what_makes_no_sense_is_refused() {
    let mut searcher = Searcher::new();
    searcher.told(json!({ "find": { "text": "whales" } }));
    let long = format!(r#"{{"find":{{"text":"{}"}}}}"#, "x".repeat(101));
    for (request, kind, message) in [
        (r#"{"find":{"text":" - "}}"#, RefusalKind::Malformed, "a query has words"),
        (&long, RefusalKind::Malformed, "at most 100 bytes"),
        (r#"{"refine":{"set":0,"text":"x"}}"#, RefusalKind::OutOfRange, "no set 0; 1 were made"),
        (r#"{"more":{"set":2,"after":0}}"#, RefusalKind::OutOfRange, "no set 2"),
        (r#"{"intersect":{"sets":[1,1]}}"#, RefusalKind::Malformed, "two sets"),
        (r#"{"open":{"document":"whales"}}"#, RefusalKind::OutOfRange, "no document `whales`"),
        (r#"{"seek":{}}"#, RefusalKind::Malformed, "requests are"),
    ] {
        let refusal = searcher.ask(request).unwrap_err();
        assert_eq!(refusal.kind, kind, "{request}");
        assert!(refusal.message.contains(message), "{}", refusal.message);
    }
}

#[test]
fn the_longest_session_fits_into_a_context() {
    let mut searcher = Searcher::new();
    let long = json!({ "find": { "text": "x".repeat(100) } }).to_string();
    let refusal = (0..).find_map(|_| searcher.ask(&long).err()).unwrap();
    assert!(refusal.message.contains("another one"), "{}", refusal.message);
    let size = serde_json::to_vec(&searcher.context.sets).unwrap().len();
    assert!(size < session_core::Params::default().context_bytes_max, "{size} bytes");
}

#[test]
fn sessions_survive_hand_overs() {
    let requests = [
        r#"{"find":{"text":"water"}}"#,
        r#"{"find":{"text":"sail"}}"#,
        r#"{"refine":{"set":1,"text":"fish"}}"#,
        r#"{"intersect":{"sets":[1,2]}}"#,
        r#"{"intersect":{"sets":[2,3,4]}}"#,
        r#"{"more":{"set":2,"after":1}}"#,
        r#"{"open":{"document":"wind"}}"#,
        r#"{"list":{}}"#,
    ];
    rehearsal::rehearse(search, &requests);
}
