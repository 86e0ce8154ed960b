//! v2 of the API: accounts as recipients of transfers, thin events, and what moves both.
//!
//! An account of v2 is one of v1 too, and each change of it is told twice: by a thin event of the platform's, and by
//! `account.updated` of its own. What v1's view of it has is up to whoever made it.

use serde::Deserialize;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::macros::format_description;

use super::accounts::{Account, bare};
use super::control::{Control, NotPossible};
use super::errors::Refusal;
use super::routes::Request;
use super::state::{Origin, World};

/// What v2 holds of an account.
#[derive(Debug, Clone)]
pub(super) struct Recipient {
    /// The status of `stripe_balance.stripe_transfers`.
    pub transfers: String,
    pub closed: bool,
    requirements: Value,
    /// v1's view has the flags and the capability, too.
    mirrored: bool,
}

/// An account of v2 to add.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct V2Spec {
    /// Two letters; none: `US`.
    pub country: Option<String>,
    /// The status of its capability `stripe_balance.stripe_transfers`; none: `pending`.
    pub transfers: Option<String>,
    /// Whether v1's view shows flags and capability as well; else that view lacks them.
    pub in_v1: bool,
}

/// What changes of an account of v2. What is none stays as it is.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct V2Change {
    /// `active`, `pending`, `restricted`, `unsupported`, `rejected`, or a status of tomorrow.
    pub transfers: Option<String>,
    /// v2's `requirements`, whole.
    pub requirements: Option<Value>,
    /// It is closed, for good.
    pub close: bool,
}

impl Recipient {
    /// v1's word for the capability.
    pub fn in_v1(&self) -> &'static str {
        match self.transfers.as_str() {
            "active" if !self.closed => "active",
            "pending" => "pending",
            _ => "inactive",
        }
    }

    /// Makes v1's view of the account what this says.
    fn mirror(&self, v1: &mut Value) {
        if self.mirrored {
            let status = self.in_v1();
            v1["capabilities"] = json!({"transfers": status});
            v1["details_submitted"] = json!(true);
            for flag in ["charges_enabled", "payouts_enabled"] {
                v1[flag] = json!(status == "active");
            }
        } else if let Some(v1) = v1.as_object_mut() {
            for absent in
                ["capabilities", "charges_enabled", "details_submitted", "payouts_enabled", "requirements"]
            {
                v1.remove(absent);
            }
        }
    }

    /// v2's view; what was not asked for is null.
    fn json(&self, v1: &Value, livemode: bool, include: &[String]) -> Value {
        let asked = |part: &str, shown: Value| {
            if include.iter().any(|one| one == part) { shown } else { Value::Null }
        };
        let created = v1["created"].as_i64().unwrap_or_default();
        let recipient = json!({
            "applied": true,
            "capabilities": {"stripe_balance": {
                "payouts": {"status": "pending", "status_details": []},
                "stripe_transfers": {"status": self.transfers, "status_details": []},
            }},
        });
        let configuration = asked(
            "configuration.recipient",
            json!({"customer": null, "merchant": null, "recipient": recipient}),
        );
        json!({
            "id": v1["id"], "object": "v2.core.account", "applied_configurations": ["recipient"],
            "closed": self.closed, "configuration": configuration, "contact_email": v1["email"],
            "created": rfc3339(created.saturating_mul(1_000_000)), "dashboard": "express", "defaults": null,
            "display_name": null, "identity": null, "livemode": livemode, "metadata": {},
            "requirements": asked("requirements", self.requirements.clone()),
            "future_requirements": asked("future_requirements", json!({"entries": []})),
        })
    }
}

/// `GET /v2/core/accounts/{id}`.
pub(super) fn account(world: &World, request: &Request<'_>, id: &str) -> Result<Value, Refusal> {
    const PARTS: [&str; 3] = ["configuration.recipient", "requirements", "future_requirements"];
    request.params.only(&["include"])?;
    // v2 repeats the name, where v1 counts.
    let include: Vec<String> = request.params.all("include");
    if let Some(odd) = include.iter().find(|part| !PARTS.contains(&part.as_str())) {
        return Err(Refusal::v2(400, "invalid_fields", &format!("Invalid value for include: {odd}")));
    }
    let shown = world.accounts.get(id).filter(|account| account.reachable());
    match shown.and_then(|account| Some((account, account.v2.as_ref()?))) {
        Some((account, recipient)) => Ok(recipient.json(&account.json, world.settings.livemode, &include)),
        None => Err(Refusal::v2(404, "not_found", &format!("No such account: {id}"))),
    }
}

/// `GET /v2/core/events/{id}`.
pub(super) fn event(world: &World, request: &Request<'_>, id: &str) -> Result<Value, Refusal> {
    request.params.only(&[])?;
    let record = world.events.get(id).and_then(|event| Some((event, event.thin.as_ref()?)));
    let Some((event, data)) = record else {
        return Err(Refusal::v2(404, "not_found", &format!("No such event: {id}")));
    };
    let mut pulled = event.body.clone();
    (pulled["data"], pulled["changes"]) = (data.clone(), Value::Null);
    Ok(pulled)
}

/// With milliseconds, as v2 writes an instant.
fn rfc3339(unix_us: i64) -> String {
    let form = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");
    let at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(unix_us) * 1_000);
    at.ok().and_then(|at| at.format(form).ok()).unwrap_or_default()
}

impl World {
    /// Records a thin event and queues its deliveries; returns its id. `data` is what only the API tells of it.
    fn emit_thin(
        &mut self,
        kind: &str,
        object: Option<(&str, &str)>,
        data: Value,
        account: Option<&str>,
    ) -> String {
        let id = self.new_id("evt_test_");
        let mut body = json!({
            "id": id, "object": "v2.core.event", "type": kind, "livemode": self.settings.livemode,
            "created": rfc3339(self.now_us()), "context": account, "reason": null,
        });
        if let Some((noun, id)) = object {
            body["related_object"] = json!({"id": id, "type": noun, "url": format!("/{id}")});
        }
        self.record_event(&id, kind, body, Some(data), account);
        id
    }

    fn tell_of_v2(&mut self, id: &str, what: &str, data: Value) {
        self.emit_thin(&format!("v2.core.account{what}"), Some(("v2.core.account", id)), data, None);
    }

    /// v1's event of a change, which comes even where v1's view shows none of it.
    fn tell_of_v1(&mut self, id: &str) {
        let Some(v1) = self.accounts.get(id).map(|account| account.json.clone()) else { return };
        self.emit(&Origin::default(), "account.updated", v1, None, Some(id));
    }

    fn new_v2_account(&mut self, spec: &V2Spec) -> String {
        let id = self.new_id("acct_");
        let country = spec.country.as_deref().unwrap_or("US");
        let recipient = Recipient {
            transfers: spec.transfers.clone().unwrap_or_else(|| "pending".to_owned()),
            closed: false,
            requirements: json!({"entries": []}),
            mirrored: spec.in_v1,
        };
        let mut v1 = bare(&id, self.now_s(), "none", country);
        recipient.mirror(&mut v1);
        self.accounts.push(Account::of_v2(&id, self.now_us(), v1, recipient));
        self.tell_of_v2(&id, ".created", json!({}));
        self.tell_of_v1(&id);
        id
    }

    fn change_v2(&mut self, id: &str, change: &V2Change) -> bool {
        let Some(account) = self.accounts.get_mut(id) else { return false };
        let Some(recipient) = &mut account.v2 else { return false };
        let other_status = change.transfers.as_ref().is_some_and(|status| *status != recipient.transfers);
        let closes = change.close && !recipient.closed;
        if let Some(status) = &change.transfers {
            recipient.transfers.clone_from(status);
        }
        if let Some(requirements) = &change.requirements {
            recipient.requirements = requirements.clone();
        }
        recipient.closed |= change.close;
        recipient.clone().mirror(&mut account.json);
        if other_status {
            let data = json!({"updated_capability": "stripe_balance.stripe_transfers"});
            self.tell_of_v2(id, "[configuration.recipient].capability_status_updated", data);
        }
        if change.requirements.is_some() {
            self.tell_of_v2(id, "[requirements].updated", json!({}));
        }
        if closes {
            self.tell_of_v2(id, ".closed", json!({}));
        }
        self.tell_of_v1(id);
        true
    }
}

impl Control {
    /// Adds an account of v2; returns its id.
    pub fn create_v2_account(&self, spec: &V2Spec) -> String {
        self.shared.lock().new_v2_account(spec)
    }

    /// Changes an account of v2; a thin event tells of each change, and `account.updated` of all.
    pub fn change_v2(&self, id: &str, change: &V2Change) -> Result<(), NotPossible> {
        let done = self.shared.lock().change_v2(id, change);
        if done { Ok(()) } else { Err(NotPossible { id: id.to_owned() }) }
    }

    /// The person comes back from an account link of v2; the id of the event, which names nobody.
    pub fn return_link(&self, id: &str) -> Result<String, NotPossible> {
        let mut world = self.shared.lock();
        if world.accounts.get(id).is_none() {
            return Err(NotPossible { id: id.to_owned() });
        }
        let data =
            json!({"account_id": id, "configurations": ["recipient"], "use_case": "account_onboarding"});
        Ok(world.emit_thin("v2.core.account_link.returned", None, data, None))
    }

    /// Sends a thin event of any type, about an object (its noun and id) and from a connected account, if any; its id.
    pub fn tell_thinly(&self, kind: &str, object: Option<(&str, &str)>, account: Option<&str>) -> String {
        self.shared.lock().emit_thin(kind, object, json!({}), account)
    }
}
