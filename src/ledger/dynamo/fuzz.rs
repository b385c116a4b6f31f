//! The decoders of the DynamoDB ledger as the fuzzer calls them, on items of any shape.

use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;
use serde_json::Value;

use super::item::{self, Item};

/// JSON as attributes: text, numbers as they stand (also such that DynamoDB would refuse), lists, maps, NULL; an object
/// `{"B": "..."}` as bytes.
fn attribute(value: &Value) -> AttributeValue {
    match value {
        Value::Null => AttributeValue::Null(true),
        Value::Bool(value) => AttributeValue::Bool(*value),
        Value::Number(number) => AttributeValue::N(number.to_string()),
        Value::String(text) => AttributeValue::S(text.clone()),
        Value::Array(items) => AttributeValue::L(items.iter().map(attribute).collect()),
        Value::Object(map) => match map.iter().next() {
            Some((key, Value::String(bytes))) if key == "B" => AttributeValue::B(Blob::new(bytes.as_bytes())),
            Some((key, Value::String(digits))) if key == "N" => AttributeValue::N(digits.clone()),
            _ => AttributeValue::M(map.iter().map(|(key, value)| (key.clone(), attribute(value))).collect()),
        },
    }
}

/// All of them over the same item.
pub(crate) fn decode(bytes: &[u8]) {
    let Ok(Value::Object(map)) = serde_json::from_slice(bytes) else { return };
    let item: Item = map.iter().map(|(key, value)| (key.clone(), attribute(value))).collect();
    let _any = item::decode_version_key("table", &item);
    let _any = item::decode_version("table", &item);
    let _any = item::decode_tag("table", &item);
    let _any = item::decode_event("table", &item);
    let _any = (item::add_id(&item), item::tag_of_history(&item), item::row_name("table", &item));
}
