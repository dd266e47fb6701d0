//! What is typed, and what is printed.

use prost_types::value::Kind;
use prost_types::{ListValue, Struct, Value};
use serde_json::Value as Json;

/// The request that a line means; nothing if it is empty.
///
/// # Errors
/// If it is neither a JSON object nor a verb with arguments.
pub fn request(line: &str) -> Result<Option<Struct>, String> {
    let line = line.trim();
    if line.is_empty() {
        return Ok(None);
    }
    if line.starts_with('{') {
        let json: Json = serde_json::from_str(line).map_err(|error| format!("this is not JSON: {error}"))?;
        return Ok(Some(object(json)));
    }
    let mut words = words(line)?.into_iter();
    let verb = words.next().unwrap_or_default();
    let argument = |word: String| match word.split_once('=') {
        Some((name, value)) => {
            let value = serde_json::from_str(value).unwrap_or_else(|_| Json::from(value));
            Ok((name.to_owned(), value))
        }
        None => Err(format!("`{word}` is no argument: arguments are NAME=VALUE, after a verb")),
    };
    let arguments = words.map(argument).collect::<Result<serde_json::Map<_, _>, _>>()?;
    Ok(Some(object(serde_json::json!({ verb: arguments }))))
}

/// The words of a line. What stands in double quotes is not taken apart.
fn words(line: &str) -> Result<Vec<String>, String> {
    let (mut words, mut quoted) = (vec![String::new()], false);
    for letter in line.chars() {
        match letter {
            '"' => quoted = !quoted,
            ' ' | '\t' if !quoted => words.push(String::new()),
            _ => words.iter_mut().last().into_iter().for_each(|word| word.push(letter)),
        }
    }
    words.retain(|word| !word.is_empty());
    if quoted { Err("a quotation mark is not closed".to_owned()) } else { Ok(words) }
}

/// A response on one line, or on several that are easier to read.
pub fn response(payload: &[u8], pretty: bool) -> String {
    let Ok(text) = std::str::from_utf8(payload) else {
        return format!("({} bytes)", payload.len());
    };
    match serde_json::from_str::<Json>(text) {
        Ok(json) if pretty => format!("{json:#}"),
        Ok(_) | Err(_) => text.chars().map(harmless).collect(),
    }
}

/// A character, or how it is spelt if it would do something to a terminal.
fn harmless(letter: char) -> String {
    if letter.is_control() { letter.escape_default().to_string() } else { letter.to_string() }
}

/// A JSON object as the contract has it. Anything else is empty.
pub fn object(json: Json) -> Struct {
    match json {
        Json::Object(fields) => {
            Struct { fields: fields.into_iter().map(|(name, json)| (name, value(json))).collect() }
        }
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) | Json::Array(_) => Struct::default(),
    }
}

fn value(json: Json) -> Value {
    let kind = match json {
        Json::Null => Kind::NullValue(0),
        Json::Bool(it) => Kind::BoolValue(it),
        Json::Number(it) => Kind::NumberValue(it.as_f64().unwrap_or_default()),
        Json::String(it) => Kind::StringValue(it),
        Json::Array(items) => Kind::ListValue(ListValue { values: items.into_iter().map(value).collect() }),
        Json::Object(_) => Kind::StructValue(object(json)),
    };
    Value { kind: Some(kind) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_json_or_a_verb_with_arguments() {
        let read = |line: &str| request(line).unwrap();
        for (line, json) in [
            ("pause", r#"{"pause":{}}"#),
            ("  seek position_ms=30000 ", r#"{"seek":{"position_ms":30000}}"#),
            (r#"find text="virtual synchrony""#, r#"{"find":{"text":"virtual synchrony"}}"#),
            ("intersect sets=[1,2]", r#"{"intersect":{"sets":[1,2]}}"#),
            (r#"{"add":5}"#, r#"{"add":5}"#),
        ] {
            assert_eq!(read(line), Some(object(serde_json::from_str(json).unwrap())), "{line}");
        }
        assert_eq!(read("   "), None);
    }

    #[test]
    fn a_line_that_is_neither_says_why() {
        for (line, reason) in [
            ("{", "not JSON"),
            ("seek 30", "`30` is no argument"),
            (r#"find text="virtual"#, "quotation mark"),
        ] {
            assert!(request(line).unwrap_err().contains(reason), "{line}");
        }
    }

    #[test]
    fn a_response_is_one_line_that_does_nothing_to_the_terminal() {
        assert_eq!(response(br#"{"sum":5}"#, false), r#"{"sum":5}"#);
        assert_eq!(response(br#"{"sum":5}"#, true), "{\n  \"sum\": 5\n}");
        assert_eq!(response(b"a\n\x1b[2J", false), "a\\n\\u{1b}[2J");
        assert_eq!(response(&[0xff; 3], false), "(3 bytes)");
    }
}
