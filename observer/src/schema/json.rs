//! JSON Schema of one JSON line.

use serde_json::{Map, Value, json};

use super::layout::keys;
use crate::record::FieldType;

pub(super) fn schema() -> String {
    let mut properties = Map::new();
    let mut required = Vec::new();
    for key in keys() {
        let kind = if key.kind == FieldType::String { "string" } else { "integer" };
        let kind = if key.is_always_there { json!([kind, "null"]) } else { kind.into() };
        properties.insert(key.name.into(), json!({"type": kind, "description": key.description}));
        if key.is_always_there {
            required.push(Value::from(key.name));
        }
    }
    let schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Flow record of observer",
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": false
    });
    format!("{schema:#}\n")
}
