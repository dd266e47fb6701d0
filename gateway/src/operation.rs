//! A client's request as the service gets it: JSON bytes, the same for the same request, however it was written.
//!
//! Keys are in the order of their text, no space is wasted, and numbers without a fraction are integers.

use prost_types::value::Kind;
use prost_types::{ListValue, Struct, Value as ProtoValue};
use serde_json::{Map, Number, Value};

/// How deep objects and lists may be nested.
const DEPTH_MAX: usize = 16;
/// Up to here every integer has a number of its own.
const EXACT_MAX: f64 = 9_007_199_254_740_992.0;

/// Why an operation has no JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum OperationError {
    #[error("is nested deeper than {DEPTH_MAX} levels")]
    TooDeep,
    #[error("has a number that is not finite")]
    NotFinite,
    #[error("has a value without a kind")]
    NoKind,
}

/// The JSON of an operation.
pub(crate) fn json(operation: Struct) -> Result<Vec<u8>, OperationError> {
    let value = object(operation, DEPTH_MAX)?;
    let encoded = serde_json::to_vec(&value);
    assert!(encoded.is_ok(), "JSON values have a text");
    Ok(encoded.unwrap_or_default())
}

fn object(operation: Struct, depth: usize) -> Result<Value, OperationError> {
    let depth = depth.checked_sub(1).ok_or(OperationError::TooDeep)?;
    let fields = operation.fields.into_iter().map(|(key, it)| Ok((key, value(it, depth)?)));
    Ok(Value::Object(fields.collect::<Result<Map<_, _>, _>>()?))
}

fn list(list: ListValue, depth: usize) -> Result<Value, OperationError> {
    let depth = depth.checked_sub(1).ok_or(OperationError::TooDeep)?;
    let items = list.values.into_iter().map(|it| value(it, depth));
    Ok(Value::Array(items.collect::<Result<_, _>>()?))
}

fn value(value: ProtoValue, depth: usize) -> Result<Value, OperationError> {
    Ok(match value.kind.ok_or(OperationError::NoKind)? {
        Kind::NullValue(_) => Value::Null,
        Kind::BoolValue(it) => Value::Bool(it),
        Kind::StringValue(it) => Value::String(it),
        Kind::NumberValue(it) => Value::Number(number(it)?),
        Kind::StructValue(it) => object(it, depth)?,
        Kind::ListValue(it) => list(it, depth)?,
    })
}

fn number(number: f64) -> Result<Number, OperationError> {
    if number.fract() == 0.0 && number.abs() <= EXACT_MAX {
        return Ok(Number::from(number as i64));
    }
    Number::from_f64(number).ok_or(OperationError::NotFinite)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proto(value: &Value) -> ProtoValue {
        let kind = match value {
            Value::Null => Kind::NullValue(0),
            Value::Bool(it) => Kind::BoolValue(*it),
            Value::Number(it) => Kind::NumberValue(it.as_f64().unwrap()),
            Value::String(it) => Kind::StringValue(it.clone()),
            Value::Array(it) => Kind::ListValue(ListValue { values: it.iter().map(proto).collect() }),
            Value::Object(_) => Kind::StructValue(operation(value)),
        };
        ProtoValue { kind: Some(kind) }
    }

    fn operation(value: &Value) -> Struct {
        let fields = value.as_object().unwrap();
        Struct { fields: fields.iter().map(|(key, it)| (key.clone(), proto(it))).collect() }
    }

    fn text(operation: Struct) -> Result<String, OperationError> {
        json(operation).map(|bytes| String::from_utf8(bytes).unwrap())
    }

    #[test]
    fn the_same_request_has_the_same_bytes() {
        for (written, canonical) in [
            (r#"{"seek": {"position_ms": 30000.0}}"#, r#"{"seek":{"position_ms":30000}}"#),
            (r#"{"b": [1, 1.5, -2, true, null], "a": "x"}"#, r#"{"a":"x","b":[1,1.5,-2,true,null]}"#),
            (r#"{"zero": -0.0, "large": 1e300}"#, r#"{"large":1e+300,"zero":0}"#),
            ("{}", "{}"),
        ] {
            let written: Value = serde_json::from_str(written).unwrap();
            assert_eq!(text(operation(&written)).unwrap(), canonical);
        }
    }

    #[test]
    fn what_has_no_json_is_refused() {
        let with = |kind| Struct { fields: [("x".to_owned(), ProtoValue { kind })].into() };
        assert_eq!(text(with(None)), Err(OperationError::NoKind));
        assert_eq!(text(with(Some(Kind::NumberValue(f64::NAN)))), Err(OperationError::NotFinite));
        let nested =
            |levels| (1..levels).fold(Struct::default(), |inner, _| with(Some(Kind::StructValue(inner))));
        assert!(text(nested(DEPTH_MAX)).is_ok());
        assert_eq!(text(nested(DEPTH_MAX + 1)), Err(OperationError::TooDeep));
    }
}
