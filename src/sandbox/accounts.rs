//! Connected accounts: created bare, onboarded step by step, revoked; and the platform's own account.
//!
//! An account is kept as the JSON object that Stripe shows, because callers may prefill any part of it.

use serde_json::{Map, Value, json};

use super::errors::Refusal;
use super::lists::{LIST, Listed, envelope, page};
use super::prefill::{PREFILL, check, person, prefill};
use super::routes::Request;
use super::state::{Origin, World, previous_attributes};
use super::v2::Recipient;

/// An account and whether the platform may still see it.
#[derive(Debug, Clone, Default)]
pub(super) struct Account {
    id: String,
    created_us: i64,
    pub json: Value,
    /// What was prefilled about the person; Stripe shows it until the first link is made.
    pub person: Map<String, Value>,
    pub denied: bool,
    pub deauthorized: bool,
    /// What v2 holds of it, where it is one of v2.
    pub v2: Option<Recipient>,
}

impl Listed for Account {
    const NOUN: &'static str = "account";
    fn id(&self) -> &str {
        &self.id
    }
    fn created_us(&self) -> i64 {
        self.created_us
    }
}

/// What onboarding still asks of a fresh account.
const FRESH_DUE: [&str; 5] =
    ["business_profile.url", "business_type", "external_account", "tos_acceptance.date", "tos_acceptance.ip"];

impl Account {
    /// The platform's own account, with the manual payout schedule that Stripe advises.
    pub fn platform(id: &str, country: &str, now_s: i64) -> Self {
        let mut json = bare(id, now_s, "standard", country);
        open(&mut json);
        json["capabilities"] = json!({"card_payments": "active", "transfers": "active"});
        json["controller"] = json!({"type": "account"});
        json["settings"]["payouts"]["schedule"] = json!({"delay_days": 2, "interval": "manual"});
        Self { id: id.to_owned(), created_us: now_s * 1_000_000, json, ..Self::default() }
    }

    /// An account of v2, with v1's view of it.
    pub fn of_v2(id: &str, created_us: i64, json: Value, recipient: Recipient) -> Self {
        Self { id: id.to_owned(), created_us, json, v2: Some(recipient), ..Self::default() }
    }

    /// Whether the platform's key may see it.
    pub fn reachable(&self) -> bool {
        !self.denied && !self.deauthorized
    }

    /// Where it is: two letters.
    pub fn country(&self) -> &str {
        self.json["country"].as_str().unwrap_or_default()
    }

    /// The state of its `transfers` capability; none where it was never requested.
    pub fn transfers_status(&self) -> Option<&str> {
        match &self.v2 {
            Some(recipient) => Some(recipient.in_v1()),
            None => self.json["capabilities"]["transfers"].as_str(),
        }
    }
}

fn no_requirements() -> Value {
    json!({"alternatives": [], "current_deadline": null, "currently_due": [], "disabled_reason": null,
           "errors": [], "eventually_due": [], "past_due": [], "pending_verification": []})
}

pub(super) fn bare(id: &str, now_s: i64, kind: &str, country: &str) -> Value {
    let mut requirements = no_requirements();
    for list in ["currently_due", "eventually_due", "past_due"] {
        requirements[list] = json!(FRESH_DUE);
    }
    requirements["disabled_reason"] = json!("requirements.past_due");
    json!({
        "id": id, "object": "account", "type": kind, "country": country, "created": now_s,
        "default_currency": currency_of(country), "email": null, "business_type": null,
        "business_profile": {"mcc": null, "name": null, "product_description": null, "support_email": null,
                             "support_phone": null, "support_url": null, "url": null},
        "capabilities": {}, "charges_enabled": false, "payouts_enabled": false, "details_submitted": false,
        "controller": {"type": "application", "is_controller": true, "requirement_collection": "stripe",
                       "fees": {"payer": "application_express"}, "losses": {"payments": "application"},
                       "stripe_dashboard": {"type": "express"}},
        "external_accounts": {"object": "list", "data": [], "has_more": false,
                              "url": format!("/v1/accounts/{id}/external_accounts")},
        "requirements": requirements, "future_requirements": no_requirements(), "metadata": {},
        "settings": {"dashboard": {"display_name": null, "timezone": "Etc/UTC"},
                     "payouts": {"debit_negative_balances": true, "statement_descriptor": null,
                                 "schedule": {"delay_days": 2, "interval": "daily"}}},
        "tos_acceptance": {"date": null, "ip": null, "user_agent": null},
    })
}

fn currency_of(country: &str) -> &'static str {
    match country {
        "GB" => "gbp",
        "CA" => "cad",
        "JP" => "jpy",
        "AU" => "aud",
        "CH" => "chf",
        "NO" => "nok",
        "SE" => "sek",
        "DK" => "dkk",
        "AT" | "BE" | "DE" | "ES" | "FI" | "FR" | "IE" | "IT" | "LU" | "NL" | "PT" => "eur",
        _ => "usd",
    }
}

/// What a finished onboarding leaves behind.
pub(super) fn open(account: &mut Value) {
    for flag in ["details_submitted", "charges_enabled", "payouts_enabled"] {
        account[flag] = json!(true);
    }
    account["requirements"] = no_requirements();
    if let Some(capabilities) = account["capabilities"].as_object_mut() {
        for status in capabilities.values_mut() {
            *status = json!("active");
        }
    }
    account["capabilities"]["transfers"] = json!("active");
}

/// `POST /v1/accounts`.
pub(super) fn create(world: &mut World, request: &Request<'_>) -> Result<Value, Refusal> {
    let params = request.params;
    params.only(&[&PREFILL[..], &["type", "country"]].concat())?;
    let kind = params.text("type")?;
    if let Some(kind) = &kind
        && !["express", "custom", "standard"].contains(&kind.as_str())
    {
        return Err(Refusal::invalid("type", None, format!("Invalid type: {kind}")));
    }
    if kind.is_some() && params.get("controller").is_some() {
        let message = "You can only specify one of these parameters: controller, type.";
        return Err(Refusal::invalid("type", None, message));
    }
    check(params)?;
    let country = params.text("country")?.unwrap_or_else(|| "US".to_owned());
    let kind = kind.unwrap_or_else(|| "standard".to_owned());
    let id = world.new_account(&kind, &country, |json| prefill(json, params.tree()), &request.origin);
    if let Some(account) = world.accounts.get_mut(&id) {
        account.person = person(params.tree());
    }
    retrieve_json(world, &id)
}

/// `POST /v1/accounts/{id}`.
pub(super) fn update(world: &mut World, request: &Request<'_>, id: &str) -> Result<Value, Refusal> {
    request.params.only(&PREFILL)?;
    check(request.params)?;
    retrieve_json(world, id)?;
    world.change_account(id, &request.origin, |json| prefill(json, request.params.tree()));
    retrieve_json(world, id)
}

/// `GET /v1/accounts/{id}`.
pub(super) fn retrieve(world: &World, request: &Request<'_>, id: &str) -> Result<Value, Refusal> {
    request.params.only(&[])?;
    retrieve_json(world, id)
}

fn retrieve_json(world: &World, id: &str) -> Result<Value, Refusal> {
    let account = if id == world.platform.id { Some(&world.platform) } else { world.accounts.get(id) };
    match account {
        Some(account) if account.reachable() => {
            let mut shown = account.json.clone();
            for (name, value) in &account.person {
                shown[name.as_str()] = value.clone();
            }
            Ok(shown)
        }
        _ => Err(Refusal::account_invalid(id)),
    }
}

/// `GET /v1/account`.
pub(super) fn own(world: &World, request: &Request<'_>) -> Result<Value, Refusal> {
    request.params.only(&[])?;
    Ok(world.platform.json.clone())
}

/// `GET /v1/accounts`: the connected accounts the platform still sees.
pub(super) fn list(world: &World, request: &Request<'_>) -> Result<Value, Refusal> {
    request.params.only(&LIST)?;
    let (accounts, more) =
        page(&world.accounts, request.params, request.stale_before_us, Account::reachable)?;
    let data = accounts.iter().map(|account| account.json.clone()).collect();
    Ok(envelope("/v1/accounts", data, more))
}

/// Lays one tree over another: objects key by key, everything else whole.
pub(super) fn merge(target: &mut Value, over: &Value) {
    match over {
        Value::Object(over) if target.is_object() => {
            for (key, value) in over {
                merge(&mut target[key.as_str()], value);
            }
        }
        _ => *target = over.clone(),
    }
}

impl World {
    /// Adds an account, shaped by `fill`, with the events Stripe sends for a new one.
    pub fn new_account(
        &mut self,
        kind: &str,
        country: &str,
        fill: impl FnOnce(&mut Value),
        origin: &Origin,
    ) -> String {
        let id = self.new_id("acct_");
        let mut json = bare(&id, self.now_s(), kind, country);
        fill(&mut json);
        let account =
            Account { id: id.clone(), created_us: self.now_us(), json: json.clone(), ..Account::default() };
        self.accounts.push(account);
        let mut before = json.clone();
        before["capabilities"] = json!({});
        self.announce(&id, &before, &json, origin);
        id
    }

    /// Changes an account; events follow where anything changed. False where there is no such account.
    pub fn change_account(&mut self, id: &str, origin: &Origin, change: impl FnOnce(&mut Value)) -> bool {
        let is_platform = id == self.platform.id;
        let account = if is_platform { Some(&mut self.platform) } else { self.accounts.get_mut(id) };
        let Some(account) = account else { return false };
        let before = account.json.clone();
        change(&mut account.json);
        let after = account.json.clone();
        if before == after {
            return true;
        }
        if is_platform {
            // Of the platform's own account: told on its own endpoint, without naming an account.
            let previous = previous_attributes(&before, &after);
            self.emit(origin, "account.updated", after, Some(previous), None);
        } else {
            self.announce(id, &before, &after, origin);
        }
        true
    }

    fn announce(&mut self, id: &str, before: &Value, after: &Value, origin: &Origin) {
        let previous = previous_attributes(before, after);
        self.emit(origin, "account.updated", after.clone(), Some(previous), Some(id));
        for (name, status) in after["capabilities"].as_object().into_iter().flatten() {
            let old = &before["capabilities"][name.as_str()];
            if old == status {
                continue;
            }
            let capability = json!({
                "id": name, "object": "capability", "account": id, "requested": true,
                "requested_at": after["created"], "status": status,
                "requirements": no_requirements(), "future_requirements": no_requirements(),
            });
            let previous =
                Some(json!({"status": if old.is_null() { json!("unrequested") } else { old.clone() }}));
            self.emit(origin, "capability.updated", capability, previous, Some(id));
        }
    }

    /// The holder revokes the platform's access: from now on the account is unreachable.
    pub fn deauthorize(&mut self, id: &str) -> bool {
        let Some(account) = self.accounts.get_mut(id) else { return false };
        account.deauthorized = true;
        let application = json!({"id": "ca_1Ssandbox", "object": "application", "name": "Sandbox platform"});
        self.emit(&Origin::default(), "account.application.deauthorized", application, None, Some(id));
        true
    }
}
