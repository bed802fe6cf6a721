//! Whether a value is what a schema of the API's document says: the part of JSON Schema (2020-12) that stands there.
//!
//! Stricter than the standard in two ways: a keyword that is not known here is an error, and so is a field that the
//! schema does not mention, for a document that says less than what is answered is not complete.

use serde_json::{Map, Value};
use std::collections::BTreeSet;

/// Keywords that say nothing about which values fit.
const WORDS: [&str; 6] = [
    "description",
    "default",
    "example",
    "examples",
    "format",
    "title",
];

/// Checks `value`, and says where it differs.
pub fn check(document: &Value, schema: &Value, value: &Value) -> Result<(), String> {
    fits(document, schema, value, "")?;
    closed(document, schema, value, "")
}

fn resolve<'a>(document: &'a Value, schema: &'a Value) -> &'a Value {
    let Some(target) = schema.get("$ref") else {
        return schema;
    };
    let pointer = target.as_str().unwrap().strip_prefix('#').unwrap();
    let found = document.pointer(pointer);
    resolve(
        document,
        found.unwrap_or_else(|| panic!("{target} is missing")),
    )
}

fn is_type(value: &Value, name: &str) -> bool {
    match name {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("{other} is no type of JSON"),
    }
}

fn fits(document: &Value, schema: &Value, value: &Value, at: &str) -> Result<(), String> {
    let schema = resolve(document, schema);
    let Value::Object(schema) = schema else {
        return Err(format!("{at}: {schema} is no schema"));
    };
    for (keyword, says) in schema {
        let fine = match keyword.as_str() {
            "type" => match says {
                Value::Array(names) => names
                    .iter()
                    .any(|name| is_type(value, name.as_str().unwrap())),
                name => is_type(value, name.as_str().unwrap()),
            },
            "enum" => says.as_array().unwrap().contains(value),
            "const" => says == value,
            "minimum" => value
                .as_f64()
                .is_none_or(|have| have >= says.as_f64().unwrap()),
            "maximum" => value
                .as_f64()
                .is_none_or(|have| have <= says.as_f64().unwrap()),
            "allOf" => {
                for part in says.as_array().unwrap() {
                    fits(document, part, value, at)?;
                }
                true
            }
            "oneOf" => {
                let parts = says.as_array().unwrap().iter();
                parts
                    .filter(|part| fits(document, part, value, at).is_ok())
                    .count()
                    == 1
            }
            "items" => {
                for (index, item) in value.as_array().into_iter().flatten().enumerate() {
                    fits(document, says, item, &format!("{at}/{index}"))?;
                }
                true
            }
            "required" => value.as_object().is_none_or(|object| {
                let mut names = says.as_array().unwrap().iter();
                names.all(|name| object.contains_key(name.as_str().unwrap()))
            }),
            "properties" | "additionalProperties" => {
                fields(document, schema, keyword, value, at)?;
                true
            }
            "propertyNames" => says == &serde_json::json!({"type": "string"}),
            word if WORDS.contains(&word) => true,
            _ => return Err(format!("{at}: keyword {keyword} is not known here")),
        };
        if !fine {
            return Err(format!("{at}: {value} does not fit {keyword} {says}"));
        }
    }
    Ok(())
}

/// The fields of an object that `keyword` is about.
fn fields(
    document: &Value,
    schema: &Map<String, Value>,
    keyword: &str,
    value: &Value,
    at: &str,
) -> Result<(), String> {
    let known = schema.get("properties").and_then(Value::as_object);
    for (name, field) in value.as_object().into_iter().flatten() {
        let at = format!("{at}/{name}");
        let own = known.and_then(|known| known.get(name));
        match (own, keyword, &schema[keyword]) {
            (Some(own), "properties", _) => fits(document, own, field, &at)?,
            (None, "additionalProperties", Value::Bool(true)) => {}
            (None, "additionalProperties", Value::Bool(false)) => {
                return Err(format!("{at} is not allowed"));
            }
            (None, "additionalProperties", rest) => fits(document, rest, field, &at)?,
            _ => {}
        }
    }
    Ok(())
}

/// Names of all fields that a schema mentions; `None` where it allows any.
fn mentioned(document: &Value, schema: &Value) -> Option<BTreeSet<String>> {
    let schema = resolve(document, schema);
    if !matches!(
        schema.get("additionalProperties"),
        None | Some(Value::Bool(false))
    ) {
        return None;
    }
    let own = schema.get("properties").and_then(Value::as_object);
    let mut names: BTreeSet<String> = own
        .into_iter()
        .flatten()
        .map(|(name, _)| name.clone())
        .collect();
    let parts = ["allOf", "oneOf"].map(|word| schema.get(word).and_then(Value::as_array));
    for part in parts.into_iter().flatten().flatten() {
        names.extend(mentioned(document, part)?);
    }
    Some(names)
}

/// Refuses fields that are not mentioned, at any depth.
fn closed(document: &Value, schema: &Value, value: &Value, at: &str) -> Result<(), String> {
    let schema = resolve(document, schema);
    if let (Value::Object(object), Some(names)) = (value, mentioned(document, schema)) {
        let odd = object.keys().find(|name| !names.contains(*name));
        if let Some(name) = odd {
            return Err(format!("{at}/{name} is not described"));
        }
    }
    for part in ["allOf", "oneOf"] {
        for part in schema
            .get(part)
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            // What one part does not mention another may.
            for (name, field) in value.as_object().into_iter().flatten() {
                let own = resolve(document, part).pointer(&format!("/properties/{name}"));
                if let Some(own) = own {
                    closed(document, own, field, &format!("{at}/{name}"))?;
                }
            }
        }
    }
    for (name, field) in value.as_object().into_iter().flatten() {
        let own = schema.get("properties").and_then(|known| known.get(name));
        if let Some(own) = own {
            closed(document, own, field, &format!("{at}/{name}"))?;
        }
    }
    let items = schema.get("items").into_iter();
    for items in items {
        for (index, item) in value.as_array().into_iter().flatten().enumerate() {
            closed(document, items, item, &format!("{at}/{index}"))?;
        }
    }
    Ok(())
}
