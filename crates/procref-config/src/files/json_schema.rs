//! The JSON schema of a configuration file, for editors.
//!
//! Editors read TOML files with such a schema if a comment `#:schema URL` names it.

use serde_json::{Map, Value, json};

use super::find::FILE_NAME;
use super::keys::{self, Form, Key};

/// Returns the schema.
pub fn json_schema() -> Value {
    let mut file = object(&keys::FILE);
    file.insert(
        "$schema".to_owned(),
        json!("http://json-schema.org/draft-07/schema#"),
    );
    file.insert("title".to_owned(), json!(FILE_NAME));
    file.insert(
        "description".to_owned(),
        json!("Services that processes share. https://docs.rs/procref"),
    );
    let mut service = object(&keys::SERVICE);
    service.insert("required".to_owned(), json!(["start"]));
    let mut cluster = object(&keys::CLUSTER);
    cluster.insert("required".to_owned(), json!(["url"]));
    file.insert(
        "definitions".to_owned(),
        json!({ "service": service, "cluster": cluster }),
    );
    Value::Object(file)
}

fn object(keys: &[Key]) -> Map<String, Value> {
    let properties: Map<String, Value> = keys
        .iter()
        .map(|key| {
            let mut value = form(&key.form);
            value["description"] = json!(key.about);
            (key.name.to_owned(), value)
        })
        .collect();
    let mut object = Map::new();
    object.insert("type".to_owned(), json!("object"));
    object.insert("properties".to_owned(), Value::Object(properties));
    object.insert("additionalProperties".to_owned(), json!(false));
    object
}

fn form(form: &Form) -> Value {
    let text = json!({ "type": "string" });
    match form {
        Form::Boolean => json!({ "type": "boolean" }),
        Form::Text => text,
        Form::NonEmptyText => json!({ "type": "string", "minLength": 1 }),
        Form::Choice(texts) => json!({ "type": "string", "enum": texts }),
        Form::Pattern(pattern, examples) => {
            json!({ "type": "string", "pattern": pattern, "examples": examples })
        }
        Form::Time => json!({
            "type": "string",
            "pattern": "^[^A-Za-z]*[0-9]",
            "examples": ["500ms", "2s", "1m 30s"],
        }),
        Form::Port => json!({
            "anyOf": [
                { "type": "integer", "minimum": 1, "maximum": 65535 },
                { "type": "string", "pattern": "^(auto|\\+?[0-9]+)$" },
            ],
        }),
        Form::Command | Form::Names => json!({
            "anyOf": [
                { "type": "string", "minLength": 1 },
                { "type": "array", "items": text, "minItems": 1 },
            ],
        }),
        Form::Texts => json!({ "anyOf": [text, { "type": "array", "items": text }] }),
        Form::Variables => json!({
            "type": "object",
            "additionalProperties": { "type": ["string", "number", "boolean"] },
        }),
        Form::Services => json!({
            "type": "object",
            "additionalProperties": { "$ref": "#/definitions/service" },
        }),
        Form::Clusters => json!({
            "type": "object",
            "additionalProperties": { "$ref": "#/definitions/cluster" },
        }),
    }
}

#[cfg(test)]
mod tests {
    use regex_lite::Regex;

    use super::*;
    use crate::files::File;
    use crate::files::find::Trust;

    /// Values of all types, as TOML.
    const VALUES: [&str; 32] = [
        "''",
        "'text'",
        "'5s'",
        "'1m 30s'",
        "'SIGINT'",
        "'usr1'",
        "'auto'",
        "'8000'",
        "'tcp'",
        "'http:/x'",
        "'log:x'",
        "'cmd:x'",
        "'ready'",
        "'join'",
        "'maybe'",
        "'manual'",
        "'etcd://h'",
        "0",
        "1",
        "70000",
        "-1",
        "1.5",
        "true",
        "[]",
        "['other']",
        "['other', 1]",
        "[[]]",
        "{}",
        "{ A = 'b' }",
        "{ A = 1 }",
        "{ A = { B = 'c' } }",
        "{ start = 'x' }",
    ];

    /// Returns `true` if the schema accepts a value. Implements the keywords that the schema uses.
    fn accepts(root: &Value, schema: &Value, value: &Value) -> bool {
        let rules = schema.as_object().expect("an object");
        rules.iter().all(|(keyword, rule)| match keyword.as_str() {
            "type" if rule.is_array() => {
                let mut types = rule.as_array().into_iter().flatten();
                types.any(|one| accepts(root, &json!({ "type": one }), value))
            }
            "type" => match rule.as_str().expect("a type") {
                "boolean" => value.is_boolean(),
                "number" => value.is_number(),
                "string" => value.is_string(),
                "integer" => value.is_i64(),
                "array" => value.is_array(),
                "object" => value.is_object(),
                other => panic!("unknown type {other}"),
            },
            "enum" => rule.as_array().expect("texts").contains(value),
            "pattern" => value.as_str().is_some_and(|text| {
                let pattern = rule.as_str().expect("a pattern");
                Regex::new(pattern).expect("a pattern").is_match(text)
            }),
            "minLength" => {
                let length = value.as_str().map(str::len);
                length
                    >= rule
                        .as_u64()
                        .map(|least| usize::try_from(least).expect("a length"))
            }
            "minItems" => {
                let length = value.as_array().map(Vec::len);
                length
                    >= rule
                        .as_u64()
                        .map(|least| usize::try_from(least).expect("a length"))
            }
            "minimum" => value.as_i64() >= rule.as_i64(),
            "maximum" => value.as_i64() <= rule.as_i64(),
            "items" => {
                let items = value.as_array().map(Vec::as_slice).unwrap_or_default();
                items.iter().all(|item| accepts(root, rule, item))
            }
            "anyOf" => {
                let schemas = rule.as_array().expect("schemas");
                schemas.iter().any(|schema| accepts(root, schema, value))
            }
            "properties" => value.as_object().into_iter().flatten().all(|(key, value)| {
                rule.get(key)
                    .is_none_or(|schema| accepts(root, schema, value))
            }),
            "additionalProperties" => {
                value.as_object().into_iter().flatten().all(|(key, value)| {
                    let is_known = schema["properties"].get(key).is_some();
                    is_known || rule.is_object() && accepts(root, rule, value)
                })
            }
            "required" => {
                let keys = rule.as_array().expect("keys");
                keys.iter()
                    .all(|key| value.get(key.as_str().expect("a key")).is_some())
            }
            "$ref" => {
                let path = rule.as_str().and_then(|path| path.strip_prefix('#'));
                let schema = root.pointer(path.expect("a path")).expect("a schema");
                accepts(root, schema, value)
            }
            "description" | "examples" | "$schema" | "title" | "definitions" => true,
            other => panic!("the test does not know the keyword {other}"),
        })
    }

    fn is_accepted_by_schema(text: &str) -> bool {
        let value: Value = toml::from_str(text).expect(text);
        let schema = json_schema();
        accepts(&schema, &schema, &value)
    }

    fn is_accepted_by_parser(text: &str) -> bool {
        let path = "/project/procref.toml".into();
        File::parse(
            path,
            "/project".into(),
            text,
            Trust::Named,
            false,
            &["other"],
        )
        .is_ok()
    }

    /// Asserts that parser and schema agree about a file. Only the parser knows the syntax of texts, and whether the
    /// files of `env-file` exist.
    fn assert_agree(text: &str, key: &str, value: &str) {
        let (parser, schema) = (is_accepted_by_parser(text), is_accepted_by_schema(text));
        match value.starts_with('\'') || key == "env-file" {
            true => assert!(schema || !parser, "the schema rejects a valid file: {text}"),
            false => assert_eq!(parser, schema, "parser and schema disagree: {text}"),
        }
    }

    #[test]
    fn schema_and_parser_agree_about_keys_and_values() {
        let mut accepted = Vec::new();
        for key in keys::OF_SERVICE {
            for value in VALUES {
                // Some keys need others.
                let needed = match *key {
                    "start" => "",
                    "init" => "start = 'x'\ndata = 'd'",
                    "health-timeout" => "start = 'x'\nport = 1\nhealth = 'tcp'",
                    "mismatch" => "start = 'x'\nfingerprint = '1'",
                    "ready" | "health" => "start = 'x {port}'",
                    "advertise" | "takeover" | "at" => "start = 'x'\ncluster = 'etcd://h'",
                    _ => "start = 'x'",
                };
                let text = format!("[services.s]\n{needed}\n{key} = {value}\n");
                assert_agree(&text, key, value);
                if is_accepted_by_parser(&text) {
                    accepted.push(*key);
                }
            }
        }
        accepted.dedup();
        assert_eq!(
            accepted,
            keys::OF_SERVICE,
            "each key accepts one of the values"
        );
        for key in keys::OF_FILE {
            for value in VALUES {
                assert_agree(&format!("{key} = {value}\n"), key, value);
            }
        }
        for text in [
            "[services.s]\n",
            "[services.s]\nstart = 'x'\nno-such-key = 1\n",
            "port = 1\n",
        ] {
            assert!(!is_accepted_by_schema(text), "{text}");
            assert!(!is_accepted_by_parser(text), "{text}");
        }
    }

    #[test]
    fn schema_accepts_each_recipe() {
        for recipe in crate::recipes::RECIPES {
            assert!(is_accepted_by_schema(recipe.text), "{}", recipe.name);
        }
        assert!(is_accepted_by_schema(crate::recipes::SKELETON));
    }
}
