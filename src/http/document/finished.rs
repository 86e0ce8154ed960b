//! What holds for every call, added to what the calls say of themselves.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};
use utoipa::openapi::OpenApi as Described;

use crate::domain::money;

/// The description with what holds for every call.
pub(in crate::http) fn finished(described: &Described) -> Value {
    // The description is plain data with texts for keys, which always has a form in JSON.
    let mut document = serde_json::to_value(described).unwrap_or_default();
    if let Some(schemas) = document["components"]["schemas"].as_object_mut() {
        name_the_lines_of_lists(schemas);
    }
    let asked = names_reached_from_requests(&document);
    if let Some(schemas) = document["components"]["schemas"].as_object_mut() {
        asked.iter().filter_map(|name| schemas.get_mut(name).map(hold_amounts_to_steps)).for_each(drop);
        let answers = schemas.iter_mut().filter(|(name, _)| !asked.contains(*name));
        answers.for_each(|(_, schema)| require_what_may_be_null(schema));
    }
    document["components"]["headers"] = json!({"RequestId": {
        "description": "The request's id: the caller's own if it was a plain word, else a new one.",
        "required": true, "schema": {"type": "string", "minLength": 1, "maxLength": 128},
    }});
    for operation in operations(&mut document) {
        for parameter in operation.get_mut("parameters").and_then(Value::as_array_mut).into_iter().flatten() {
            parameter.get_mut("schema").into_iter().for_each(refuse_null);
        }
        let body = operation.pointer_mut("/requestBody/content/application~1json/schema");
        body.into_iter().for_each(refuse_null);
        for answer in operation["responses"].as_object_mut().into_iter().flat_map(Map::values_mut) {
            let headers = answer.get_mut("headers").and_then(Value::as_object_mut);
            headers.into_iter().flat_map(Map::values_mut).for_each(|header| header["required"] = json!(true));
            answer["headers"]["X-Request-Id"] = json!({"$ref": "#/components/headers/RequestId"});
        }
    }
    document
}

/// A `List_X` repeats the schema of X; here it comes to refer to it.
fn name_the_lines_of_lists(schemas: &mut Map<String, Value>) {
    let lists: Vec<String> =
        schemas.keys().filter_map(|name| name.strip_prefix("List_")).map(str::to_owned).collect();
    for line in lists {
        let items = &mut schemas[&format!("List_{line}")]["properties"]["data"]["items"];
        let repeated = std::mem::replace(items, json!({"$ref": format!("#/components/schemas/{line}")}));
        schemas.entry(line).or_insert(repeated);
    }
}

fn operations(document: &mut Value) -> impl Iterator<Item = &mut Value> {
    let paths = document["paths"].as_object_mut().into_iter().flat_map(Map::values_mut);
    paths.flat_map(|path| path.as_object_mut().into_iter().flat_map(Map::values_mut))
}

/// The schemas that requests are made of.
fn names_reached_from_requests(document: &Value) -> BTreeSet<String> {
    let paths = document["paths"].as_object().into_iter().flat_map(Map::values);
    let operations = paths.flat_map(|path| path.as_object().into_iter().flat_map(Map::values));
    let mut open: Vec<&Value> = operations.filter_map(|operation| operation.get("requestBody")).collect();
    let mut names = BTreeSet::new();
    while let Some(value) = open.pop() {
        match value {
            Value::Object(map) => open.extend(map.values()),
            Value::Array(values) => open.extend(values),
            Value::String(text) => {
                if let Some(name) = text.strip_prefix("#/components/schemas/")
                    && names.insert(name.to_owned())
                {
                    open.push(&document["components"]["schemas"][name]);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
    names
}

/// In an answer a field that may be null is always there. One that is left out is never null, and says so
/// by `#[schema(nullable = false)]`.
fn require_what_may_be_null(schema: &mut Value) {
    for part in schema.get_mut("allOf").and_then(Value::as_array_mut).into_iter().flatten() {
        require_what_may_be_null(part);
    }
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else { return };
    let nullable = properties.iter().filter(|(_, schema)| may_be_null(schema)).map(|(name, _)| name.clone());
    let already = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let required: BTreeSet<String> = nullable.chain(already.map(str::to_owned)).collect();
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
}

fn may_be_null(schema: &Value) -> bool {
    let one_is = |value: &Value| value.as_array().is_some_and(|types| types.contains(&json!("null")));
    let choices = ["oneOf", "anyOf"].into_iter().filter_map(|word| schema.get(word)?.as_array());
    one_is(&schema["type"]) || choices.flatten().any(|choice| choice["type"] == json!("null"))
}

/// Stripe takes amounts of some currencies in coarser steps; so whoever asks for both is held to them.
fn hold_amounts_to_steps(schema: &mut Value) {
    let of = |name: &str, word: &str| {
        schema["properties"][name]["$ref"] == json!(format!("#/components/schemas/{word}"))
    };
    if !of("amount", "Amount") || !of("currency", "Currency") {
        return;
    }
    let steps = money::coarse_codes().fold(json!(true), |other, (codes, step)| {
        let codes: Vec<&str> = codes.collect();
        json!({
            "if": {"properties": {"currency": {"enum": codes}}, "required": ["currency"]},
            "then": {"properties": {"amount": {"multipleOf": step}}},
            "else": other,
        })
    });
    for (keyword, value) in steps.as_object().into_iter().flatten() {
        schema[keyword] = value.clone();
    }
}

/// A parameter is there or it is not; nothing in a URL or a header is null. A body is one or none.
fn refuse_null(schema: &mut Value) {
    if let Some(types) = schema.get_mut("type").and_then(Value::as_array_mut) {
        types.retain(|word| word != "null");
        if let [one] = types.as_slice() {
            schema["type"] = one.clone();
        }
    }
    if let Some(choices) = schema.get_mut("oneOf").and_then(Value::as_array_mut) {
        choices.retain(|choice| choice["type"] != json!("null"));
        if let [one] = choices.as_slice() {
            *schema = one.clone();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::error::Written;
    use serde::Serialize;
    use utoipa::{PartialSchema, ToSchema};

    #[derive(Serialize, ToSchema)]
    struct Answer {
        always: i64,
        maybe_null: Option<i64>,
        #[schema(value_type = Option<Written>)]
        maybe_null_by_name: Option<i64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        #[schema(nullable = false)]
        maybe_absent: Option<i64>,
    }

    #[test]
    fn in_an_answer_what_may_be_null_is_always_there() {
        let mut schema = serde_json::to_value(Answer::schema()).unwrap();
        require_what_may_be_null(&mut schema);
        assert_eq!(schema["required"], json!(["always", "maybe_null", "maybe_null_by_name"]), "{schema}");
    }

    #[test]
    fn what_is_asked_says_which_fields_it_has() {
        let document = crate::http::document();
        let asked = names_reached_from_requests(&document);
        for name in &asked {
            let schema = &document["components"]["schemas"][name];
            let open = schema.get("properties").is_some() && schema.get("additionalProperties").is_none();
            assert!(!open, "{name}: unknown fields are refused, so the document must not admit them");
        }
        assert!(asked.contains("TransferRequest"), "{asked:?}");
    }

    #[test]
    fn every_example_is_one() {
        let document = crate::http::document();
        for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
            let Some(example) = schema.get("example") else { continue };
            assert!(crate::http::document::validator(name).is_valid(example), "{name}: {example}");
        }
    }

    #[test]
    fn no_parameter_is_null() {
        let named = json!({"$ref": "#/components/schemas/Currency"});
        for (mut before, after) in [
            (json!({"type": ["boolean", "null"]}), json!({"type": "boolean"})),
            (json!({"oneOf": [{"type": "null"}, named]}), named.clone()),
            (named.clone(), named.clone()),
        ] {
            refuse_null(&mut before);
            assert_eq!(before, after);
        }
    }
}
