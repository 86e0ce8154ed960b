//! Every answer a story gets, held against the OpenAPI document: its status, its content type, its body, its code.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex};

use jsonschema::Validator;
use reqwest::Method;
use reqwest::header::HeaderMap;
use serde_json::{Value, json};

/// A document that answers can be held against.
pub struct Document {
    whole: Value,
    /// By path, method and status.
    validators: Mutex<HashMap<String, Validator>>,
}

/// The service's own.
pub static OURS: LazyLock<Document> = LazyLock::new(|| Document::of(sluicegate::http::document()));

/// What was answered.
pub struct Answer<'a> {
    /// The request's method.
    pub method: &'a Method,
    /// The request's path.
    pub path: &'a str,
    /// HTTP status.
    pub status: u16,
    /// The headers.
    pub headers: &'a HeaderMap,
    /// The bytes.
    pub text: &'a str,
}

impl Document {
    /// This document, in which no object of an answer may have a field that is not described.
    pub fn of(mut whole: Value) -> Self {
        let schemas = whole["components"]["schemas"].as_object_mut().unwrap();
        schemas.values_mut().for_each(|schema| close(schema, true));
        close(&mut whole["paths"], false);
        Self { whole, validators: Mutex::default() }
    }

    /// Fails the story where an answer departs from the document.
    #[track_caller]
    pub fn hold(&self, answer: &Answer<'_>) {
        if let Err(departs) = self.check(answer) {
            let Answer { method, path, status, text, .. } = answer;
            panic!(
                "{method} {path} answered {status}, which departs from /openapi.json: {departs}\nIt was: {text}"
            );
        }
    }

    /// How an answer departs from the document, if it does.
    pub fn check(&self, answer: &Answer<'_>) -> Result<(), String> {
        let method = answer.method.as_str().to_ascii_lowercase();
        let Some((template, item)) = self.path(answer.path) else {
            return self.nothing_there(answer, 404, "not_found");
        };
        // What is asked for the headers alone is what GET answers, without its body.
        let headers_only = method == "head" && item.get("head").is_none();
        let Some(operation) = item.get(if headers_only { "get" } else { &method }) else {
            return self.nothing_there(answer, 405, "method_not_allowed");
        };
        let described = &operation["responses"][answer.status.to_string()];
        if described.is_null() {
            return Err(format!("the status is not documented for {method} {template}"));
        }
        if !answer.headers.contains_key("x-request-id") {
            return Err("there is no X-Request-Id".to_owned());
        }
        if described["content"].is_null() {
            let empty = answer.text.is_empty() && !answer.headers.contains_key("content-type");
            return if empty { Ok(()) } else { Err("no body is documented".to_owned()) };
        }
        let content_type = answer.headers.get("content-type").and_then(|value| value.to_str().ok());
        let media = content_type.unwrap_or_default().split(';').next().unwrap_or_default();
        if described["content"].is_null() && media.is_empty() && answer.text.is_empty() {
            return Ok(());
        }
        let Some(content) = described["content"].get(media) else {
            return Err(format!(
                "the content type `{media}` is not documented for {template} {}",
                answer.status
            ));
        };
        if headers_only || !media.ends_with("json") {
            return Ok(());
        }
        let body: Value =
            serde_json::from_str(answer.text).map_err(|error| format!("it is no JSON: {error}"))?;
        self.body(&format!("{method} {template} {}", answer.status), &content["schema"], &body)?;
        let codes = described["x-codes"].as_array();
        if let Some(codes) =
            codes.filter(|codes| media == "application/problem+json" && !codes.contains(&body["code"]))
        {
            return Err(format!("the code is none of {codes:?}"));
        }
        Ok(())
    }

    /// Where there is no route, a problem says so.
    fn nothing_there(&self, answer: &Answer<'_>, status: u16, code: &str) -> Result<(), String> {
        if answer.status != status {
            return Err(format!("it has no such route, so the status must be {status}"));
        }
        let body: Value =
            serde_json::from_str(answer.text).map_err(|error| format!("it is no JSON: {error}"))?;
        if body["code"] != json!(code) {
            return Err(format!("the code must be {code}"));
        }
        self.body("nothing", &json!({"$ref": "#/components/schemas/Problem"}), &body)
    }

    fn body(&self, key: &str, schema: &Value, body: &Value) -> Result<(), String> {
        let mut validators = self.validators.lock().unwrap();
        let validator = validators.entry(key.to_owned()).or_insert_with(|| {
            let mut whole = json!({"components": self.whole["components"]});
            whole.as_object_mut().unwrap().extend(schema.as_object().unwrap().clone());
            jsonschema::options().should_validate_formats(true).build(&whole).unwrap()
        });
        let wrong: Vec<String> =
            validator.iter_errors(body).map(|error| format!("{}: {error}", error.instance_path())).collect();
        if wrong.is_empty() { Ok(()) } else { Err(wrong.join("; ")) }
    }

    /// The path of the document that a request's path is an instance of; one without parameters goes first.
    fn path(&self, path: &str) -> Option<(&str, &Value)> {
        let asked: Vec<&str> = path.split('/').collect();
        let fits = |template: &str| {
            let parts: Vec<&str> = template.split('/').collect();
            parts.len() == asked.len()
                && parts.iter().zip(&asked).all(|(part, asked)| {
                    if part.starts_with('{') { !asked.is_empty() } else { part == asked }
                })
        };
        let paths = self.whole["paths"].as_object().unwrap();
        let fitting = paths.iter().filter(|(template, _)| fits(template));
        fitting
            .min_by_key(|(template, _)| template.matches('{').count())
            .map(|(template, item)| (template.as_str(), item))
    }
}

/// Closes every object whose fields are listed, where it is used: what is a part of another (`allOf`, or a named
/// schema, which may be one) can't be closed by itself.
fn close(value: &mut Value, part: bool) {
    match value {
        Value::Object(map) => {
            let listed = ["$ref", "properties", "allOf"].iter().any(|keyword| map.contains_key(*keyword));
            for (keyword, value) in map.iter_mut() {
                match value {
                    Value::Array(parts) if keyword == "allOf" => {
                        parts.iter_mut().for_each(|one| close(one, true))
                    }
                    other => close(other, false),
                }
            }
            if listed && !part && !map.contains_key("additionalProperties") {
                map.insert("unevaluatedProperties".to_owned(), json!(false));
            }
        }
        Value::Array(values) => values.iter_mut().for_each(|value| close(value, false)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
