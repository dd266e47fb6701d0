//! Sessions on a small store.

use prost_reflect::{DescriptorPool, DynamicMessage};
use session_core::RefusalKind;

use model::UnitId;

use super::*;
use crate::StoreError;

const SMALL: &str = "title = 'Notes'\n[entries]\na = '1'\n";

fn content() -> ContentId {
    ContentId::only(UnitId::new("u").unwrap())
}

fn kv() -> Kv {
    Kv::new(BTreeMap::from([(content(), Store::parse(SMALL).unwrap())]))
}

/// A session on a store that nobody else uses.
struct Client {
    service: Kv,
    store: Box<dyn SharedState>,
    context: Context,
}

impl Client {
    fn new() -> Client {
        let service = kv();
        let (store, context) = (service.shared(&content()).unwrap(), service.open(&content()));
        Client { service, store, context }
    }

    /// The answer to a request.
    fn ask(&mut self, request: &str) -> Result<Value, Refusal> {
        let result = self.store.update(request.as_bytes());
        self.service.apply(&content(), &mut self.context, &result)?;
        let next = self.service.next(&content(), &mut self.context, Time::ZERO);
        let Next::Respond { payload, last: false } = next else { panic!("an answer is due") };
        assert_eq!(self.service.next(&content(), &mut self.context, Time::ZERO), Next::Idle);
        Ok(serde_json::from_slice(&payload).unwrap())
    }
}

#[test]
fn requests_are_answered_with_what_the_key_has_now() {
    let mut client = Client::new();
    for (request, value, done) in [
        (r#"{"get":{"key":"a"}}"#, Some("1"), true),
        (r#"{"get":{"key":"b"}}"#, None, true),
        (r#"{"put":{"key":"b","value":"2"}}"#, Some("2"), true),
        (r#"{"compare_and_put":{"key":"b","expected":"1","value":"3"}}"#, Some("2"), false),
        (r#"{"compareAndPut":{"key":"b","expected":"2","value":"3"}}"#, Some("3"), true),
        (r#"{"compare_and_put":{"key":"b","value":"4"}}"#, Some("3"), false),
        (r#"{"delete":{"key":"b"}}"#, None, true),
        (r#"{"delete":{"key":"b"}}"#, None, true),
        (r#"{"compare_and_put":{"key":"b","value":"4"}}"#, Some("4"), true),
        (r#"{"put":{"key":"b","value":""}}"#, Some(""), true),
    ] {
        let answer = client.ask(request).unwrap();
        assert_eq!(
            (answer["answer"]["value"].as_str(), &answer["answer"]["done"]),
            (value, &done.into()),
            "{request}"
        );
    }
    assert_eq!(client.ask(r#"{"get":{"key":"a"}}"#).unwrap()["answer"]["revision"], 11);
}

#[test]
fn what_makes_no_sense_is_refused_and_has_its_place_all_the_same() {
    let mut client = Client::new();
    let before = client.store.snapshot();
    let long = |key: usize, value: usize| {
        format!(r#"{{"put":{{"key":"{}","value":"{}"}}}}"#, "k".repeat(key), "v".repeat(value))
    };
    for (request, kind) in [
        ("", RefusalKind::Malformed),
        (r#"{"put":{"key":"a"}}"#, RefusalKind::Malformed),
        (r#"{"get":{"key":"a","more":1}}"#, RefusalKind::Malformed),
        (&long(1, 30_000), RefusalKind::Malformed),
        (&long(0, 1), RefusalKind::OutOfRange),
        (&long(257, 1), RefusalKind::OutOfRange),
        (&long(1, 2049), RefusalKind::OutOfRange),
        (r#"{"get":{"key":""}}"#, RefusalKind::OutOfRange),
    ] {
        assert_eq!(client.ask(request).unwrap_err().kind, kind, "{request}");
    }
    let [before, after]: [Store; 2] =
        [before, client.store.snapshot()].map(|bytes| postcard::from_bytes(&bytes).unwrap());
    assert_eq!(format!("{after:?}"), format!("{before:?}").replace("revision: 0", "revision: 8"));
    assert!(client.ask(&long(256, 2048)).is_ok());
}

#[test]
fn a_store_is_full_at_some_time() {
    let entries: String = (0..10_000).map(|number| format!("k{number} = ''\n")).collect();
    let (_, mut store) = Store::parse(&format!("title = 'Full'\n[entries]\n{entries}")).unwrap();
    let mut ask =
        |request: &[u8]| postcard::from_bytes::<Result<Answer, Refusal>>(&store.update(request)).unwrap();
    let refused = ask(br#"{"put":{"key":"more","value":""}}"#).unwrap_err();
    assert_eq!(refused.kind, RefusalKind::Precondition);
    assert!(ask(br#"{"put":{"key":"k1","value":"x"}}"#).is_ok());
    assert!(ask(br#"{"delete":{"key":"k1"}}"#).is_ok());
    assert!(ask(br#"{"put":{"key":"more","value":""}}"#).is_ok());
}

#[test]
fn files_that_are_no_stores_are_refused() {
    assert!(matches!(Store::parse("no store"), Err(StoreError::Toml(_))));
    assert!(matches!(Store::parse("title = ''\nmore = 1"), Err(StoreError::Toml(_))));
    assert!(matches!(Store::parse("title = ''\n[entries]\n\"\" = ''"), Err(StoreError::Entry(_))));
}

#[test]
fn what_did_not_come_from_a_store_is_put_up_with() {
    let (service, mut context) = (kv(), Context::default());
    assert!(service.apply(&content(), &mut context, b"nonsense").is_err());
    assert!(service.restore(&content(), b"nonsense").is_none());
    assert_eq!(context, Context::default());
}

#[test]
fn sessions_survive_hand_overs() {
    let requests = [
        r#"{"get":{"key":"a"}}"#,
        r#"{"put":{"key":"b","value":"2"}}"#,
        r#"{"delete":{"key":"b"}}"#,
        r#"{"compare_and_put":{"key":"a","expected":"1","value":"3"}}"#,
        "nonsense",
    ];
    rehearsal::rehearse(kv, &requests);
}

#[test]
fn it_is_said_as_the_contract_has_it() {
    let pool = DescriptorPool::decode(proto::FILE_DESCRIPTOR_SET).unwrap();
    let read = |message: &str, json: &str| {
        let descriptor = pool.get_message_by_name(&format!("handover.kv.v1.{message}")).unwrap();
        DynamicMessage::deserialize(descriptor, &mut serde_json::Deserializer::from_str(json)).unwrap();
    };
    let mut client = Client::new();
    for request in [
        r#"{"get":{"key":"a"}}"#,
        r#"{"put":{"key":"b","value":"2"}}"#,
        r#"{"compareAndPut":{"key":"b","expected":"2","value":"3"}}"#,
        r#"{"delete":{"key":"b"}}"#,
    ] {
        read("KvRequest", request);
        read("KvResponse", &client.ask(request).unwrap().to_string());
    }
}
