//! Sessions on a small course, and on the one of this repository.

use prost_reflect::{DescriptorPool, DynamicMessage};
use session_core::RefusalKind;

use model::UnitId;

use super::*;

const SMALL: &str = r#"
title = "Two and two"

[[page]]
id = "sum"
title = "Sums"
text = "Two and two are four."
links = ["product"]
[page.question]
text = "What are two and two?"
choices = [
  { text = "Five", reason = "That is one too many.", next = "again" },
  { text = "Four", reason = "So it is.", right = true, next = "product" },
]

[[page]]
id = "again"
title = "Sums again"
text = "One, two; three, four."
next = "sum"

[[page]]
id = "product"
title = "Products"
text = "Two times two are four as well."
"#;

fn content() -> ContentId {
    ContentId::only(UnitId::new("u").unwrap())
}

fn courseware(course: &str) -> Courseware {
    Courseware::new(BTreeMap::from([(content(), Course::parse(course).unwrap())]))
}

/// The course of this repository.
fn large() -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../content/group-communication.course.toml");
    std::fs::read_to_string(path).unwrap()
}

/// A learner, and the service that they learn with.
struct Learner {
    service: Courseware,
    context: Context,
}

impl Learner {
    fn new(course: &str) -> Learner {
        let service = courseware(course);
        let context = service.open(&content());
        Learner { service, context }
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

    /// The response to a request.
    fn told(&mut self, request: &str) -> Value {
        self.ask(request).unwrap();
        let told = self.hear().unwrap();
        assert_eq!(self.hear(), None, "one response to one request");
        told
    }
}

#[test]
fn answers_decide_what_comes_next() {
    let mut learner = Learner::new(SMALL);
    assert_eq!(learner.hear().unwrap()["page"]["id"], "sum");
    assert_eq!(learner.told(r#"{"answer":{"choice":1}}"#)["verdict"]["next"]["page"], "again");
    assert_eq!(learner.told(r#"{"next":{}}"#)["page"]["id"], "again");
    assert_eq!(learner.told(r#"{"next":{}}"#)["page"]["id"], "sum");
    let verdict = &learner.told(r#"{"answer":{"choice":2}}"#)["verdict"];
    assert_eq!((&verdict["right"], &verdict["reason"]), (&json!(true), &json!("So it is.")));
    let page = learner.told(r#"{"next":{}}"#);
    assert_eq!(page["page"]["id"], "product");
    let progress = json!({ "seen": 3, "pages": 3, "right": 1, "questions": 1, "finished": false });
    assert_eq!(page["page"]["progress"], progress);
    assert_eq!(learner.told(r#"{"next":{}}"#)["progress"]["finished"], true);
}

#[test]
fn what_was_learned_on_both_sides_of_a_partition_counts() {
    let mut here = Learner::new(SMALL);
    here.hear();
    let mut there = Learner { service: here.service.clone(), context: here.context.clone() };
    here.ask(r#"{"answer":{"choice":2}}"#).unwrap();
    there.ask(r#"{"answer":{"choice":1}}"#).unwrap();
    there.ask(r#"{"next":{}}"#).unwrap();
    let merge = |one: &Context, other: &Context| here.service.merge(&content(), one, other).unwrap();
    let both = merge(&here.context, &there.context);
    assert_eq!(both, merge(&there.context, &here.context));
    for known in [&both, &here.context, &there.context] {
        assert_eq!(merge(&both, known), both, "nothing is new in it");
    }
    let mut met = Learner { service: here.service.clone(), context: both };
    let page = &met.hear().unwrap()["page"];
    assert_eq!(page["id"], "again", "the later one");
    let progress = json!({ "seen": 2, "pages": 3, "right": 1, "questions": 1, "finished": false });
    assert_eq!(page["progress"], progress);
    assert_eq!(met.hear(), None);
}

#[test]
fn what_makes_no_sense_is_refused() {
    let mut learner = Learner::new(SMALL);
    for (request, kind, message) in [
        (r#"{"next":{}}"#, RefusalKind::Precondition, "question of `sum` comes first"),
        (r#"{"answer":{"choice":0}}"#, RefusalKind::OutOfRange, "1 to 2, not 0"),
        (r#"{"answer":{"choice":3}}"#, RefusalKind::OutOfRange, "1 to 2, not 3"),
        (r#"{"visit":{"page":"again"}}"#, RefusalKind::Precondition, "no link to it"),
        (r#"{"visit":{"page":"nowhere"}}"#, RefusalKind::OutOfRange, "no page `nowhere`"),
        (r#"{"skip":{}}"#, RefusalKind::Malformed, "requests are"),
        (&"x".repeat(300), RefusalKind::Malformed, "300 bytes"),
    ] {
        let refusal = learner.ask(request).unwrap_err();
        assert_eq!(refusal.kind, kind);
        assert!(refusal.message.contains(message), "{}", refusal.message);
    }
    learner.ask(r#"{"visit":{"page":"product"}}"#).unwrap();
    assert_eq!(learner.ask(r#"{"answer":{"choice":1}}"#).unwrap_err().message, "`product` asks nothing");
}

#[test]
fn responses_do_not_depend_on_the_requests_that_overtake_them() {
    let mut patient = Learner::new(SMALL);
    let mut hasty = Learner::new(SMALL);
    let requests = [r#"{"report":{}}"#, r#"{"answer":{"choice":2}}"#, r#"{"report":{}}"#, r#"{"next":{}}"#];
    let mut told = vec![patient.hear().unwrap()];
    told.extend(requests.iter().map(|request| patient.told(request)));
    requests.iter().for_each(|request| hasty.ask(request).unwrap());
    let all: Vec<_> = std::iter::from_fn(|| hasty.hear()).collect();
    assert_eq!(all, told);
}

#[test]
fn sessions_survive_hand_overs() {
    let requests = [
        r#"{"next":{}}"#,
        r#"{"next":{}}"#,
        r#"{"answer":{"choice":1}}"#,
        r#"{"answer":{"choice":2}}"#,
        r#"{"answer":{"choice":3}}"#,
        r#"{"visit":{"page":"views"}}"#,
        r#"{"visit":{"page":"sum"}}"#,
        r#"{"report":{}}"#,
    ];
    rehearsal::rehearse(|| courseware(SMALL), &requests);
    let course = Course::parse(&large()).unwrap();
    rehearsal::rehearse(|| Courseware::new(BTreeMap::from([(content(), course.clone())])), &requests);
}

/// Reads JSON as the message that describes it.
fn described(message: &str, json: &Value) {
    let pool = DescriptorPool::decode(proto::FILE_DESCRIPTOR_SET).unwrap();
    let message = pool.get_message_by_name(&format!("handover.courseware.v1.{message}")).unwrap();
    DynamicMessage::deserialize(message, json).unwrap_or_else(|error| panic!("{json}: {error}"));
}

#[test]
fn a_learner_who_is_always_right_finishes_and_all_is_said_as_it_is_described() {
    let course = Course::parse(&large()).unwrap();
    assert!(course.pages.len() >= 15, "{} pages", course.pages.len());
    let mut learner = Learner::new(&large());
    let (mut told, mut steps) = (learner.hear().unwrap(), 0);
    while told["progress"]["finished"] != true {
        described("CourseResponse", &told);
        let page = course.pages.iter().find(|page| told["page"]["id"] == page.id.as_str()).unwrap();
        if let Some(question) = &page.question {
            let right = question.choices.iter().position(|choice| choice.right).unwrap() + 1;
            let answer = json!({ "answer": { "choice": right } });
            described("CourseRequest", &answer);
            described("CourseResponse", &learner.told(&answer.to_string()));
        }
        let next = json!({ "next": {} });
        described("CourseRequest", &next);
        told = learner.told(&next.to_string());
        steps += 1;
        assert!(steps <= course.pages.len(), "the right answers lead in a circle");
    }
    described("CourseResponse", &told);
    assert_eq!(told["progress"]["right"], told["progress"]["questions"]);
}
