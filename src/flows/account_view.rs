//! What Stripe's API shows of an account: v1's view, and of an account of v2 that one's beside it, as one.
//!
//! Both answers are kept as one observation, so that whoever folds what was kept folds one moment.

use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::account_evidence::flags_as_they_are;
use crate::domain::account::{Flags, Recipient, Requirements};
use crate::stripe::wire::{self, Object, Unreadable};

/// Under which name v2's answer is kept within v1's; no field of v1 has such a name.
const V2: &str = "v2.core.account";

/// An account as it was shown.
#[derive(Clone, Debug)]
pub struct Shown {
    /// Its flags, as one.
    pub flags: Flags,
    /// What v2 had to do with it.
    pub v2: View,
}

/// What v2 of the API said of an account when it was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum View {
    /// It was not asked.
    NotAsked,
    /// It was refused: what v1 says stands alone.
    Refused,
    /// It showed the account.
    Shown(Recipient),
}

impl Shown {
    /// Makes one of both views.
    pub fn of(v1: &wire::Account, v2: View) -> Self {
        let flags = flags_as_they_are(v1);
        let flags = match &v2 {
            View::Shown(recipient) => recipient.complete(flags),
            View::NotAsked | View::Refused => flags,
        };
        Self { flags, v2 }
    }

    /// Reads what [`keep`] kept.
    pub fn read(kept: &str) -> Result<Self, Unreadable> {
        let v1 = wire::Account::from_json(kept)?;
        let mut fields: Map<String, Value> = serde_json::from_str(kept).unwrap_or_default();
        let v2 = match fields.remove(V2) {
            None => View::NotAsked,
            Some(Value::Null) => View::Refused,
            Some(v2) => View::Shown(recipient(&wire::V2Account::from_json(&v2.to_string())?)),
        };
        Ok(Self::of(&v1, v2))
    }

    /// Whether only v2 could have told what matters most, and was not asked.
    pub fn is_half(&self) -> bool {
        self.v2 == View::NotAsked && self.flags.transfers_capability.is_none()
    }
}

/// Whether v1 shows an account without what every one of its own has: then it is one of v2.
pub fn looks_like_v2(v1: &wire::Account) -> bool {
    let active = v1.capabilities.as_ref().and_then(|all| all.get("transfers"));
    active.is_none() && (v1.details_submitted.is_none() || v1.charges_enabled.is_none())
}

/// Puts v2's answer, or that it was refused, beside what is kept of v1's.
pub fn keep(v1: &[u8], v2: Option<&[u8]>) -> Vec<u8> {
    let mut kept: Map<String, Value> = serde_json::from_slice(v1).unwrap_or_default();
    kept.insert(V2.to_owned(), v2.map_or(Value::Null, reduced));
    Value::Object(kept).to_string().into_bytes()
}

/// Of an account of v2, what readiness is read from. The rest is about a person, and is not ours to keep.
fn reduced(v2: &[u8]) -> Value {
    let whole: Value = serde_json::from_slice(v2).unwrap_or_default();
    let requirements = |all: &Value| {
        let entry = |entry: &Value| {
            json!({
                "description": entry["description"], "awaiting_action_from": entry["awaiting_action_from"],
                "minimum_deadline": entry["minimum_deadline"],
            })
        };
        let entries = all["entries"].as_array()?;
        let entries: Vec<Value> = entries.iter().map(entry).collect();
        Some(json!({"entries": entries, "summary": all["summary"]}))
    };
    json!({
        "id": whole["id"], "object": whole["object"], "created": whole["created"], "closed": whole["closed"],
        "applied_configurations": whole["applied_configurations"],
        "configuration": {"recipient": {
            "capabilities": whole["configuration"]["recipient"]["capabilities"],
        }},
        "requirements": requirements(&whole["requirements"]),
        "future_requirements": requirements(&whole["future_requirements"]),
    })
}

/// An account of v2, as decisions look at it. In its lists what is missed is also due, as in v1's.
pub fn recipient(v2: &wire::V2Account) -> Recipient {
    let wanted = v2.requirements.clone().unwrap_or_default();
    let mut requirements = Requirements {
        current_deadline: wanted.due_by.and_then(|at| OffsetDateTime::parse(&at, &Rfc3339).ok()),
        ..Requirements::default()
    };
    for entry in wanted.entries {
        let name = entry.description;
        if entry.awaited_from.as_deref() == Some("stripe") {
            requirements.pending_verification.push(name);
            continue;
        }
        match entry.deadline.as_deref() {
            Some("past_due") => {
                requirements.past_due.push(name.clone());
                requirements.currently_due.push(name.clone());
            }
            Some("eventually_due") => {}
            _ => requirements.currently_due.push(name.clone()),
        }
        requirements.eventually_due.push(name);
    }
    Recipient {
        transfers: v2.recipient_transfers.clone(),
        requirements,
        closed: v2.closed.unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str, deadline: &str, from: &str) -> Value {
        json!({"description": name, "minimum_deadline": {"status": deadline}, "awaiting_action_from": from,
               "errors": [{"description": "Jenny's passport"}], "reference": {"resource": "person_1"}})
    }

    fn v2() -> Value {
        json!({
            "id": "acct_1", "object": "v2.core.account", "closed": true, "contact_email": "jenny@example.com",
            "display_name": "Jenny", "identity": {"individual": {"given_name": "Jenny"}},
            "configuration": {"recipient": {"applied": true, "capabilities": {"stripe_balance": {
                "stripe_transfers": {"status": "restricted", "status_details": []}}}}},
            "requirements": {
                "entries": [
                    entry("a", "past_due", "user"), entry("b", "currently_due", "user"),
                    entry("c", "eventually_due", "user"), entry("d", "currently_due", "stripe"),
                ],
                "summary": {"minimum_deadline": {"status": "past_due", "time": "2026-11-01T00:00:00.000Z"}},
            },
        })
    }

    const V1: &str = r#"{"id": "acct_1", "object": "account", "country": "US"}"#;

    #[test]
    fn what_is_kept_of_both_answers_reads_as_both_did_and_tells_nothing_of_the_person() {
        let answer = v2().to_string();
        let kept = String::from_utf8(keep(V1.as_bytes(), Some(answer.as_bytes()))).unwrap();
        assert!(!kept.contains("enny") && !kept.contains("person_1"), "{kept}");
        let read = Shown::read(&kept).unwrap();
        let v1 = wire::Account::from_json(V1).unwrap();
        let shown = Shown::of(&v1, View::Shown(recipient(&wire::V2Account::from_json(&answer).unwrap())));
        assert_eq!((&read.flags, &read.v2), (&shown.flags, &shown.v2));
        let flags = read.flags;
        let texts = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let due = flags.requirements;
        assert_eq!(flags.transfers_capability.as_deref(), Some("restricted"));
        assert_eq!(due.past_due, texts(&["a"]));
        assert_eq!(due.currently_due, texts(&["a", "b"]));
        assert_eq!(due.eventually_due, texts(&["a", "b", "c"]));
        assert_eq!(due.pending_verification, texts(&["d"]));
        assert_eq!(due.current_deadline, Some(time::macros::datetime!(2026-11-01 00:00 UTC)));
        assert!(matches!(read.v2, View::Shown(recipient) if recipient.closed));
    }

    #[test]
    fn a_refusal_is_kept_as_one_and_is_no_half_answer() {
        let refused = String::from_utf8(keep(V1.as_bytes(), None)).unwrap();
        let refused = Shown::read(&refused).unwrap();
        assert_eq!((&refused.v2, refused.is_half()), (&View::Refused, false));
        let not_asked = Shown::read(V1).unwrap();
        assert_eq!((&not_asked.v2, not_asked.is_half()), (&View::NotAsked, true));
        let v1 = |text: &str| looks_like_v2(&wire::Account::from_json(text).unwrap());
        assert!(v1(V1));
        assert!(!v1(r#"{"id": "acct_1", "details_submitted": false, "charges_enabled": false}"#));
        assert!(!v1(r#"{"id": "acct_1", "capabilities": {"transfers": "active"}}"#));
    }
}
