//! Conversations with a small text, and with the one of this repository.

use std::cell::Cell;

use prost_reflect::{DescriptorPool, DynamicMessage};
use serde_json::Value;
use session_core::RefusalKind;

use model::UnitId;

use super::*;
use crate::{Chain, TextError};

const SMALL: &str = "# Cats\nThe cat sat on the mat. The cat ran to the door. A dog sat on the cat.";

fn content() -> ContentId {
    ContentId::only(UnitId::new("u").unwrap())
}

/// The text of this repository.
fn large() -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../content/lighthouse.tokens.txt");
    std::fs::read_to_string(path).unwrap()
}

fn tokens(text: &str) -> Tokens {
    Tokens::new(BTreeMap::from([(content(), Text::parse(text).unwrap())]))
}

/// The service without chance: as deterministic as any.
fn predictable(text: &str) -> Tokens {
    Tokens { draw: || Some(4_711), ..tokens(text) }
}

fn ask(service: &Tokens, context: &mut Context, request: &str) -> Result<(), Refusal> {
    service.apply(&content(), context, request.as_bytes())
}

/// All that is said until nothing more comes.
fn listen(service: &Tokens, context: &mut Context) -> Vec<Value> {
    let (mut now, mut said) = (Time::from_micros(1), Vec::new());
    loop {
        match service.next(&content(), context, now) {
            Next::Respond { payload, last } => {
                assert_eq!(last, context.left == 0);
                said.push(serde_json::from_slice(&payload).unwrap());
            }
            Next::At(time) => now = time,
            Next::Idle => return said,
            failed @ Next::Fail { .. } => panic!("{failed:?}"),
        }
    }
}

fn words(said: &[Value]) -> Vec<&str> {
    said.iter().map(|it| it["token"]["text"].as_str().unwrap()).collect()
}

#[test]
fn a_prompt_is_followed_by_so_many_tokens_that_follow_each_other() {
    let service = tokens(SMALL);
    let mut context = service.open(&content());
    assert_eq!(listen(&service, &mut context), Vec::<Value>::new(), "nobody asked");
    ask(&service, &mut context, r#"{"prompt":{"text":"on the","tokens":40}}"#).unwrap();
    let said = listen(&service, &mut context);
    assert_eq!(said.len(), 40);
    assert!(["mat.", "cat."].contains(&words(&said)[0]), "{said:?}");
    let follows = |pair: &[&str]| format!(" {SMALL} The A").replace('\n', " ").contains(&pair.join(" "));
    let rest: Vec<_> = words(&said).windows(2).filter(|pair| !follows(pair)).map(<[_]>::to_vec).collect();
    let known = |pair: &[&str]| pair[0].starts_with("cat") || pair[0].ends_with('.') || pair[0] == "The";
    assert!(rest.iter().all(|pair| known(pair)), "these do not follow: {rest:?}");
}

#[test]
fn the_chain_shows_what_came_before() {
    let service = tokens(&large());
    let mut context = service.open(&content());
    let mut chain = Chain::START;
    for _ in 0..2 {
        ask(&service, &mut context, r#"{"prompt":{"text":"The keeper","tokens":100}}"#).unwrap();
        for token in listen(&service, &mut context) {
            chain = chain.and(token["token"]["text"].as_str().unwrap());
            assert_eq!(token["token"]["chain"], chain.to_string());
        }
    }
    assert_eq!((context.said, context.chain), (200, chain));
    assert_ne!(Chain::START.and("a").and("b"), Chain::START.and("b").and("a"));
    assert_eq!(Chain::START.to_string(), "cbf29ce484222325");
}

#[test]
fn what_is_said_is_left_to_chance() {
    let service = tokens(&large());
    let said = || {
        let mut context = service.open(&content());
        ask(&service, &mut context, r#"{"prompt":{"text":"","tokens":200}}"#).unwrap();
        listen(&service, &mut context)
    };
    assert_ne!(said(), said());
    assert_eq!(service.commit(&content()), Some(Level::Safe));
}

#[test]
fn tokens_come_at_their_pace_and_stop_when_they_are_told_to() {
    thread_local!(static CHANCES: Cell<u32> = const { Cell::new(1) });
    let service = Tokens {
        draw: || CHANCES.replace(CHANCES.get().saturating_sub(1)).checked_sub(1).map(u64::from),
        ..tokens(SMALL)
    };
    let mut context = service.open(&content());
    for request in [r#"{"prompt":{"text":"A","tokens":9}}"#, r#"{"pace":{"milliseconds":250}}"#] {
        ask(&service, &mut context, request).unwrap();
    }
    let now = Time::from_micros(1_000_000_000);
    assert!(matches!(service.next(&content(), &mut context, now), Next::Respond { last: false, .. }));
    let due = now + Duration::from_millis(250);
    assert_eq!(service.next(&content(), &mut context, now), Next::At(due));
    assert_eq!(
        service.next(&content(), &mut context, due),
        Next::At(due + NO_CHANCE),
        "no chance is to be had"
    );
    ask(&service, &mut context, r#"{"stop":{}}"#).unwrap();
    assert_eq!(service.next(&content(), &mut context, due), Next::Idle);
}

#[test]
fn what_makes_no_sense_is_refused() {
    let service = tokens(SMALL);
    let mut context = service.open(&content());
    for (request, kind) in [
        ("", RefusalKind::Malformed),
        (r#"{"prompt":{}}"#, RefusalKind::Malformed),
        (r#"{"prompt":{"text":"a","tokens":1,"more":1}}"#, RefusalKind::Malformed),
        (&format!(r#"{{"prompt":{{"text":"{}","tokens":1}}}}"#, "a".repeat(2000)), RefusalKind::Malformed),
        (r#"{"prompt":{"text":"a","tokens":0}}"#, RefusalKind::OutOfRange),
        (r#"{"prompt":{"text":"a","tokens":10001}}"#, RefusalKind::OutOfRange),
        (r#"{"pace":{"milliseconds":10001}}"#, RefusalKind::OutOfRange),
    ] {
        assert_eq!(ask(&service, &mut context, request).unwrap_err().kind, kind, "{request}");
    }
    assert_eq!(context, service.open(&content()));
}

#[test]
fn texts_that_cannot_be_served_are_refused() {
    for (file, error) in [
        ("", TextError::NoTitle),
        ("no title\nbut words", TextError::NoTitle),
        ("# Short\none two", TextError::TooShort(2)),
        (&format!("# Long\n{}", "word ".repeat(60_001)), TextError::TooLong(60_001)),
    ] {
        assert_eq!(Text::parse(file).unwrap_err(), error);
    }
}

#[test]
fn a_context_that_somebody_made_up_is_put_up_with() {
    let service = tokens(SMALL);
    let mut context = Context { at: Some(u16::MAX), left: 3, ..service.open(&content()) };
    assert_eq!(listen(&service, &mut context).len(), 3);
}

#[test]
fn sessions_survive_hand_overs() {
    let requests = [
        r#"{"prompt":{"text":"the light","tokens":20}}"#,
        r#"{"prompt":{"text":"nobody says this","tokens":3}}"#,
        r#"{"pace":{"milliseconds":1}}"#,
        r#"{"stop":{}}"#,
        "nonsense",
    ];
    rehearsal::rehearse(|| predictable(&large()), &requests);
}

#[test]
fn it_is_said_as_the_contract_has_it() {
    let pool = DescriptorPool::decode(proto::FILE_DESCRIPTOR_SET).unwrap();
    let read = |message: &str, json: &str| {
        let descriptor = pool.get_message_by_name(&format!("handover.tokens.v1.{message}")).unwrap();
        DynamicMessage::deserialize(descriptor, &mut serde_json::Deserializer::from_str(json)).unwrap();
    };
    let service = predictable(SMALL);
    let mut context = service.open(&content());
    for request in [
        r#"{"prompt":{"text":"A","tokens":2}}"#,
        r#"{"pace":{"milliseconds":1}}"#,
        r#"{"prompt":{"text":"The","tokens":1}}"#,
    ] {
        read("TokensRequest", request);
        ask(&service, &mut context, request).unwrap();
    }
    read("TokensRequest", r#"{"stop":{}}"#);
    for token in listen(&service, &mut context) {
        read("TokensResponse", &token.to_string());
    }
}
