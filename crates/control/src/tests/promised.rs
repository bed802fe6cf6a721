//! Version 1 of the API only grows: everything that `v1.json` beside this file has is still there, and asks for no more than it did.
//!
//! The file is the document: `V1_WRITE=1` writes it anew with what was added, unless something that it has would break. What is taken
//! away on purpose must go from the file by hand, with a line in CHANGELOG.md.

use serde_json::{Map, Value};
use std::collections::BTreeSet;
use std::path::Path;

/// What programs do not depend on.
const WORDS: [&str; 6] = [
    "description",
    "summary",
    "example",
    "examples",
    "default",
    "info",
];
/// Limits, which may become wider.
const MOST: [&str; 3] = ["maximum", "maxLength", "maxItems"];
/// What a request that was right may break when it is new.
const BOUNDS: [&str; 11] = [
    "maximum",
    "maxLength",
    "maxItems",
    "minimum",
    "minLength",
    "minItems",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "pattern",
    "enum",
    "additionalProperties",
];

/// What an older document has and a newer one does not, or asks for, by where it is.
fn broken(old: &Value, new: &Value) -> Vec<String> {
    let mut asked = BTreeSet::new();
    for item in new["paths"].as_object().into_iter().flat_map(Map::values) {
        for operation in item.as_object().into_iter().flat_map(Map::values) {
            reach(&operation["requestBody"], new, &mut asked);
        }
    }
    let mut comparison = Comparison {
        new,
        asked,
        found: Vec::new(),
    };
    comparison.compare(old, new, "");
    comparison.found
}

/// Adds the schemas that this names, and those that they name.
fn reach(value: &Value, document: &Value, reached: &mut BTreeSet<String>) {
    let mut named = Vec::new();
    super::openapi::references(value, &mut named);
    for name in named {
        let pointer = name.trim_start_matches('#');
        if reached.insert(pointer.to_owned()) {
            let schema = document.pointer(pointer).unwrap_or(&Value::Null);
            reach(schema, document, reached);
        }
    }
}

/// What a `$ref` stands for.
fn resolved<'a>(item: &'a Value, document: &'a Value) -> &'a Value {
    let target = item["$ref"]
        .as_str()
        .and_then(|name| name.strip_prefix('#'));
    target
        .and_then(|pointer| document.pointer(pointer))
        .unwrap_or(item)
}

struct Comparison<'a> {
    /// The newer document.
    new: &'a Value,
    /// Where the schemas of requests are.
    asked: BTreeSet<String>,
    found: Vec<String>,
}

impl Comparison<'_> {
    fn compare(&mut self, old: &Value, new: &Value, at: &str) {
        match (old, new) {
            (Value::Object(old), Value::Object(new)) => self.compare_fields(old, new, at),
            (Value::Array(old), Value::Array(new)) if at.ends_with("/required") => {
                self.compare_required(old, new, at);
            }
            (Value::Array(old), Value::Array(new))
                if at.ends_with("/security") && old.is_empty() && !new.is_empty() =>
            {
                self.found
                    .push(format!("{at}: nobody had to say who he is"));
            }
            (Value::Array(old), Value::Array(new)) => {
                for item in old {
                    self.compare_item(item, new, at);
                }
                for item in new {
                    let meant = resolved(item, self.new);
                    let asks = meant["in"].is_string() && meant["required"] == true;
                    if asks && !old.iter().any(|other| is_same(other, item)) {
                        let name = &meant["name"];
                        self.found.push(format!("{at}: {name} is asked for now"));
                    }
                }
            }
            (old, new) if old == new => {}
            (Value::Number(old), Value::Number(new))
                if MOST.iter().any(|most| at.ends_with(&format!("/{most}")))
                    && old.as_f64() < new.as_f64() => {}
            (old, new) => self.found.push(format!("{at}: {old} became {new}")),
        }
    }

    /// A field that a request need not have must not be required from now on, and one that an answer always has may not become rare.
    fn compare_required(&mut self, old: &[Value], new: &[Value], at: &str) {
        let lacks = |one: &[Value], other: &[Value]| one.iter().any(|name| !other.contains(name));
        if lacks(old, new) || (self.is_asked(at) && lacks(new, old)) {
            self.found
                .push(format!("{at}: {old:?} was required, {new:?} is"));
        }
    }

    fn compare_fields(&mut self, old: &Map<String, Value>, new: &Map<String, Value>, at: &str) {
        // Names of fields and schemas are no words.
        let names = at.ends_with("/properties") || at.ends_with("/schemas");
        for (name, value) in old {
            if !names && WORDS.contains(&&**name) {
                continue;
            }
            let at = format!("{at}/{name}");
            match new.get(name) {
                Some(other) => self.compare(value, other, &at),
                None => self.found.push(format!("{at} is gone")),
            }
        }
        let added = new.iter().filter(|(name, _)| !old.contains_key(*name));
        for (name, value) in added.filter(|_| !names) {
            self.look_at_new(name, value, at);
        }
    }

    /// What comes into something that was there.
    fn look_at_new(&mut self, name: &str, value: &Value, at: &str) {
        let place = format!("{at}/{name}");
        match (name, value) {
            ("required", Value::Array(required)) => self.compare_required(&[], required, &place),
            ("security", _) => self.found.push(format!("{place}: {value} is new")),
            ("required", Value::Bool(true)) => self.found.push(format!("{place}: is new")),
            ("requestBody", body) if body["required"] == true => {
                self.found.push(format!("{place}: there was none"));
            }
            _ if BOUNDS.contains(&name) && self.is_asked(&place) => {
                self.found.push(format!("{place}: {value} is new"));
            }
            _ => {}
        }
    }

    /// Whether it is of what requests say.
    fn is_asked(&self, at: &str) -> bool {
        let of_request = |schema: &String| at.starts_with(&format!("{schema}/"));
        at.contains("/requestBody/")
            || at.contains("/parameters/")
            || self.asked.iter().any(of_request)
    }

    /// An item of a list that is no list of required names: a parameter by its name, another one as it was.
    fn compare_item(&mut self, item: &Value, new: &[Value], at: &str) {
        match new.iter().find(|other| is_same(item, other)) {
            Some(other) if item["in"].is_string() => {
                self.compare(item, other, &format!("{at}/{}", item["name"]));
            }
            Some(_) => {}
            None => self.found.push(format!("{at}: {item} is gone")),
        }
    }
}

fn is_same(one: &Value, other: &Value) -> bool {
    match one["in"].is_string() {
        true => one["in"] == other["in"] && one["name"] == other["name"],
        false => broken(one, other).is_empty(),
    }
}

#[test]
fn version_1_only_grows() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/tests/v1.json");
    let now = super::openapi::document();
    let promised = std::fs::read_to_string(&path).unwrap();
    let promised: Value = serde_json::from_str(&promised).unwrap();
    assert!(promised["paths"].as_object().unwrap().len() > 50);
    let broken = broken(&promised, &now);
    assert!(
        broken.is_empty(),
        "programs written for version 1 would break:\n{}",
        broken.join("\n")
    );
    if std::env::var_os("V1_WRITE").is_some() {
        let text = serde_json::to_string(&now).unwrap();
        // One path or schema a line, so that a change of the file can be read.
        std::fs::write(&path, text.replace("},\"", "},\n\"") + "\n").unwrap();
        return;
    }
    assert!(
        promised == now,
        "{} lacks what was added: V1_WRITE=1 writes it, and what it has is promised then",
        path.display()
    );
}

#[test]
fn what_breaks_programs_is_found_and_what_is_added_is_not() {
    let old = serde_json::json!({
        "paths": {"/a": {"get": {
            "summary": "old words",
            "security": [],
            "parameters": [{"name": "x", "in": "query", "required": false, "schema": {"type": "integer", "maximum": 5}}],
            "requestBody": {"$ref": "#/s"},
            "responses": {"200": {"$ref": "#/t"}},
        }}},
        "s": {"type": "object", "properties": {"id": {"type": "integer"}, "kind": {"enum": ["a", "b"]}}, "required": ["id"]},
        "t": {"properties": {"id": {"type": "integer"}, "new": {}}, "required": ["id"]},
    });
    let changed = |pointer: &str, value: Value| {
        let mut new = old.clone();
        *new.pointer_mut(pointer).unwrap() = value;
        broken(&old, &new).len()
    };
    let get = "/paths/~1a/get";
    assert_eq!(changed(&format!("{get}/summary"), "new words".into()), 0);
    let parameters = format!("{get}/parameters");
    let most = format!("{parameters}/0/schema/maximum");
    assert_eq!((changed(&most, 9.into()), changed(&most, 4.into())), (0, 1));
    assert_eq!(
        changed(
            "/s/properties/kind/enum",
            serde_json::json!(["c", "b", "a"])
        ),
        0
    );
    assert_eq!(changed("/t/required", serde_json::json!(["new", "id"])), 0);
    let more = |required: bool| {
        let mut all = old
            .pointer(&parameters)
            .unwrap()
            .as_array()
            .unwrap()
            .clone();
        all.push(serde_json::json!({"name": "y", "in": "query", "required": required}));
        Value::from(all)
    };
    assert_eq!(changed(&parameters, more(false)), 0);
    assert_eq!(changed(&parameters, more(true)), 1);
    let mut named = old.clone();
    named["p"] = serde_json::json!({"name": "z", "in": "header", "required": true});
    let all = named.pointer_mut(&parameters).unwrap().as_array_mut();
    all.unwrap().push(serde_json::json!({"$ref": "#/p"}));
    assert_eq!(broken(&old, &named).len(), 1, "by its name");
    for (pointer, value) in [
        (format!("{parameters}/0/name"), "z".into()),
        (format!("{parameters}/0/required"), true.into()),
        (format!("{parameters}/0/schema/type"), "string".into()),
        (format!("{get}/responses"), serde_json::json!({"201": {}})),
        (
            "/s/properties".to_owned(),
            serde_json::json!({"id": {"type": "integer"}}),
        ),
        (
            "/s/properties/kind/enum".to_owned(),
            serde_json::json!(["a"]),
        ),
        ("/s/required".to_owned(), serde_json::json!(["id", "kind"])),
        ("/s/required".to_owned(), serde_json::json!([])),
        ("/t/required".to_owned(), serde_json::json!([])),
        (
            "/s/properties/id".to_owned(),
            serde_json::json!({"type": "integer", "minimum": 1}),
        ),
        (
            format!("{parameters}/0/schema"),
            serde_json::json!({"type": "integer", "maximum": 5, "pattern": "a"}),
        ),
        (
            format!("{get}/security"),
            serde_json::json!([{"token": []}]),
        ),
        (
            format!("{get}/requestBody"),
            serde_json::json!({"$ref": "#/s", "required": true}),
        ),
    ] {
        assert!(changed(&pointer, value) > 0, "{pointer}");
    }
}
