//! A problem of the API in the words of the shell: fields by their flags, mends by commands.

use serde_json::Value;

use crate::cli::Failed;

/// Which flag a field of a request is, where it is not named like it: a pointer's beginning, and the flag.
pub type Names = &'static [(&'static str, &'static str)];

/// What the API answered instead of doing it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    status: u16,
    code: String,
    title: String,
    detail: String,
    /// Pointers and mends.
    errors: Vec<(String, String)>,
}

impl Problem {
    /// Reads a problem's body.
    pub fn read(status: u16, body: &str) -> Self {
        let body: Value = serde_json::from_str(body).unwrap_or_default();
        let text = |value: &Value, name: &str| value[name].as_str().unwrap_or_default().to_owned();
        let errors = body["errors"].as_array().into_iter().flatten();
        Self {
            status,
            code: text(&body, "code"),
            title: text(&body, "title"),
            detail: text(&body, "detail"),
            errors: errors.map(|error| (text(error, "pointer"), text(error, "detail"))).collect(),
        }
    }

    /// Tells it on standard error; the way the program ends because of it.
    pub fn tell(&self, names: Names) -> Failed {
        eprintln!("error: {}", self.words(names));
        // 400 and 422: what was typed is wrong, whatever the state of the world.
        if matches!(self.status, 400 | 422) { Failed::Usage } else { Failed::Told }
    }

    /// The problem in one line, and a line for every wrong field.
    pub fn words(&self, names: Names) -> String {
        if self.errors.is_empty() {
            return format!("{}: {}", self.title, self.mend());
        }
        let fields =
            self.errors.iter().map(|(pointer, detail)| format!("\n  {} {detail}", flag(pointer, names)));
        format!("{}:{}", self.title, fields.collect::<String>())
    }

    /// The mend; the API's own speaks of headers and paths in some.
    fn mend(&self) -> &str {
        match self.code.as_str() {
            "account_unknown" => {
                "check the id; `sluicegate accounts show ID --refresh` asks Stripe for an account not heard of"
            }
            "transfer_unknown" => "check the id; `sluicegate transfers list` shows what there is",
            "topup_unknown" => "check the id; `sluicegate topups list` shows what there is",
            "event_unknown" => "check the id; `sluicegate events list` shows what was received",
            "key_unknown" => "check the id; `sluicegate keys list` shows the keys",
            "approval_by_creator" => "somebody else than who asked for it has to approve it",
            "idempotency_key_reused" => {
                "repeat the order that this --idempotency-key was first used for, or leave the key out"
            }
            "unavailable" => "the database or Stripe does not answer at the moment; try again",
            "timeout" => "it is not known whether it was done: repeat it with the same --idempotency-key",
            "internal" => "a fault of this program's; what happened stands in the log above",
            _ => &self.detail,
        }
    }
}

/// The flag that a JSON pointer leads to: `/query/` and the body alike, `_` as `-`, what lies deeper after it.
fn flag(pointer: &str, names: Names) -> String {
    for (beginning, flag) in names {
        if let Some(rest) = pointer.strip_prefix(beginning) {
            return format!("{flag}{}", deeper(rest));
        }
    }
    let field = pointer.strip_prefix("/query").unwrap_or(pointer).trim_start_matches('/');
    let (name, rest) = field.split_at(field.find('/').unwrap_or(field.len()));
    format!("--{}{}", name.replace('_', "-"), deeper(rest))
}

/// `/a/b` of an object under a flag, as the flag takes it: ` a.b`.
fn deeper(rest: &str) -> String {
    let path = rest.trim_start_matches('/').replace('/', ".").replace("~1", "/").replace("~0", "~");
    if path.is_empty() { path } else { format!(" {path}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_named_by_its_flag() {
        let rows = [
            ("/amount", "--amount"),
            ("/query/created_from", "--created-from"),
            ("/metadata/a~1b", "--metadata a/b"),
            ("/since", "--from"),
        ];
        for (pointer, named) in rows {
            assert_eq!(flag(pointer, &[("/since", "--from")]), named);
        }
        assert_eq!(flag("/individual/email", &[("", "--param")]), "--param individual.email");
    }

    #[test]
    fn a_problem_tells_every_field_or_the_mend() {
        let body = r#"{"title":"Invalid","code":"validation","detail":"x",
            "errors":[{"pointer":"/amount","detail":"is required"},{"pointer":"/query/limit","detail":"is big"}]}"#;
        let problem = Problem::read(422, body);
        assert_eq!(problem.words(&[]), "Invalid:\n  --amount is required\n  --limit is big");
        assert!(matches!(problem.tell(&[]), Failed::Usage));
        let unknown =
            Problem::read(404, r#"{"title":"Unknown key","code":"key_unknown","detail":"GET /v1/keys"}"#);
        assert_eq!(unknown.words(&[]), "Unknown key: check the id; `sluicegate keys list` shows the keys");
        assert!(matches!(unknown.tell(&[]), Failed::Told));
        let unknown =
            Problem::read(404, r#"{"title":"Unknown top-up","code":"topup_unknown","detail":"GET it"}"#);
        assert!(unknown.words(&[]).contains("`sluicegate topups list`"));
    }
}
