//! A JSON schema from a protobuf description, for an API that is published in no
//! other form that a package carries.

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};

/// The schema of a message that is an object of the API.
pub fn schema(proto: &str, message: &str) -> Result<Value> {
    let mut definitions = Map::new();
    let mut open: Option<(String, Map<String, Value>)> = None;
    for line in proto.lines().map(str::trim).filter(|line| !line.starts_with("//")) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match (words.as_slice(), &mut open) {
            (["message", name, "{"], _) => open = Some(((*name).to_owned(), Map::new())),
            (["}"], _) => {
                if let Some((name, fields)) = open.take() {
                    definitions.insert(name, object(fields));
                }
            }
            (["optional", kind, name, "=", ..], Some((_, fields))) => {
                fields.insert((*name).to_owned(), nullable(&value(kind)));
            }
            (["repeated", kind, name, "=", ..], Some((_, fields))) => {
                let list = json!({ "type": "array", "items": value(kind) });
                fields.insert((*name).to_owned(), nullable(&list));
            }
            _ => {}
        }
    }
    let fields =
        definitions.get_mut(message).and_then(|object| object["properties"].as_object_mut());
    let fields = fields.with_context(|| format!("no message {message}"))?;
    // Those two are not on the wire of protobuf.
    for name in ["apiVersion", "kind"] {
        fields.insert(name.to_owned(), json!({ "type": "string" }));
    }
    Ok(json!({ "$ref": format!("#/$defs/{message}"), "$defs": definitions }))
}

fn object(fields: Map<String, Value>) -> Value {
    json!({ "type": "object", "properties": fields, "additionalProperties": false })
}

fn nullable(schema: &Value) -> Value {
    json!({ "anyOf": [schema, { "type": "null" }] })
}

fn value(kind: &str) -> Value {
    match kind {
        "bool" => json!({ "type": "boolean" }),
        "int32" | "int64" => json!({ "type": "integer" }),
        "string" | "bytes" => json!({ "type": "string" }),
        // Messages of other packages, like ObjectMeta.
        _ if kind.contains('.') => json!({ "type": "object" }),
        message => json!({ "$ref": format!("#/$defs/{message}") }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROTO: &str = "syntax = 'proto2';
message Range {
  optional int64 min = 1;
}
// Says what.
message Thing {
  // optional string commented = 9;
  optional k8s.io.ObjectMeta metadata = 1;
  repeated string users = 2;
  optional Range range = 3;
  optional bool on = 4;
}
";

    #[test]
    fn fields_and_their_kinds() {
        let validator = jsonschema::validator_for(&schema(PROTO, "Thing").unwrap()).unwrap();
        let table = [
            (json!({ "metadata": {}, "users": ["a"], "range": { "min": 1 }, "on": true }), true),
            (json!({ "kind": "Thing", "range": null }), true),
            (json!({ "users": [1] }), false),
            (json!({ "range": { "max": 1 } }), false),
            (json!({ "on": "yes" }), false),
            (json!({ "commented": "x" }), false),
        ];
        for (object, expected) in table {
            assert_eq!(validator.is_valid(&object), expected, "{object}");
        }
        assert!(schema(PROTO, "Other").is_err());
    }
}
