//! Top-ups: pending, then settled or failed on the sandbox's clock, canceled while pending, reversed after.
//!
//! A top-up's money is pending in the balance when it succeeds and available some time later; the two are
//! separate steps because Stripe's are.

use serde_json::{Map, Value, json};

use super::balance::Entry;
use super::errors::Refusal;
use super::forms::Params;
use super::lists::{LIST, Listed, envelope, page};
use super::routes::Request;
use super::state::{Origin, World};

/// A top-up's life, as Stripe spells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    Pending,
    Succeeded,
    Failed,
    Canceled,
    Reversed,
}

impl Status {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Canceled => "canceled",
            Self::Reversed => "reversed",
        }
    }
}

/// A top-up.
#[derive(Debug, Clone)]
pub(super) struct Topup {
    pub id: String,
    pub amount: i64,
    pub currency: String,
    pub status: Status,
    pub created_us: i64,
    /// When it settles or fails by itself; `i64::MAX` is never.
    settle_us: i64,
    expected_us: i64,
    balance_transaction: Option<String>,
    fails_with: Option<String>,
    failure_code: Option<String>,
    description: Option<String>,
    statement_descriptor: Option<String>,
    transfer_group: Option<String>,
    metadata: Map<String, Value>,
}

impl Listed for Topup {
    const NOUN: &'static str = "topup";
    fn id(&self) -> &str {
        &self.id
    }
    fn created_us(&self) -> i64 {
        self.created_us
    }
}

/// Stripe's test tokens for bank accounts that refuse the debit, and the code each fails with.
const FAILING_TOKENS: [(&str, &str); 5] = [
    ("btok_us_verified_noAccount", "no_account"),
    ("btok_us_verified_accountClosed", "account_closed"),
    ("btok_us_verified_insufficientFunds", "insufficient_funds"),
    ("btok_us_verified_debitNotAuthorized", "debit_not_authorized"),
    ("btok_us_verified_invalidCurrency", "invalid_currency"),
];

fn failure_message(code: &str) -> String {
    match code {
        "insufficient_funds" => "Your bank account has insufficient funds to cover this top-up.".to_owned(),
        "no_account" => "The bank account could not be located.".to_owned(),
        "account_closed" => "The bank account has been closed.".to_owned(),
        "debit_not_authorized" => "Debit transactions are not approved on your bank account.".to_owned(),
        "invalid_currency" => {
            "The bank was unable to process this top-up because of its currency.".to_owned()
        }
        other => format!("The top-up failed: {other}."),
    }
}

impl Topup {
    pub fn json(&self, livemode: bool) -> Value {
        let expected = matches!(self.status, Status::Pending | Status::Succeeded | Status::Reversed)
            && self.expected_us != i64::MAX;
        json!({
            "id": self.id, "object": "topup", "amount": self.amount, "currency": self.currency,
            "status": self.status.as_str(), "balance_transaction": self.balance_transaction,
            "created": self.created_us.div_euclid(1_000_000), "description": self.description,
            "expected_availability_date": expected.then(|| self.expected_us.div_euclid(1_000_000)),
            "failure_code": self.failure_code,
            "failure_message": self.failure_code.as_deref().map(failure_message),
            "initiated_by": "user", "livemode": livemode, "metadata": self.metadata, "source": null,
            "statement_descriptor": self.statement_descriptor, "transfer_group": self.transfer_group,
        })
    }
}

/// `POST /v1/topups`.
pub(super) fn create(world: &mut World, request: &Request<'_>) -> Result<Value, Refusal> {
    let params = request.params;
    params.only(&[
        "amount",
        "currency",
        "description",
        "metadata",
        "source",
        "statement_descriptor",
        "transfer_group",
    ])?;
    let currency = params.currency("currency")?;
    params.required("amount")?;
    let amount = params.amount("amount")?.unwrap_or_default();
    let statement_descriptor = descriptor(params)?;
    let (description, transfer_group) = (params.text("description")?, params.text("transfer_group")?);
    let (metadata, source) = (params.metadata()?, params.text("source")?);
    let fails_with = FAILING_TOKENS
        .iter()
        .find(|(token, _)| Some(*token) == source.as_deref())
        .map(|(_, code)| (*code).to_owned());
    let mut topup = world.new_topup(amount, currency);
    topup.fails_with = fails_with;
    topup.description = description;
    topup.statement_descriptor = statement_descriptor;
    topup.transfer_group = transfer_group;
    topup.metadata = metadata;
    Ok(world.record_topup(topup, &request.origin))
}

fn descriptor(params: &Params) -> Result<Option<String>, Refusal> {
    let Some(text) = params.text("statement_descriptor")? else { return Ok(None) };
    let fits = text.len() <= 15 && text.is_ascii() && text.bytes().any(|byte| byte.is_ascii_alphabetic());
    if fits {
        return Ok(Some(text));
    }
    let message = "The statement descriptor must be at most 15 ASCII characters with at least one letter.";
    Err(Refusal::invalid("statement_descriptor", None, message))
}

/// `GET /v1/topups`. Stripe's `status` filter has no `reversed`.
pub(super) fn list(world: &World, request: &Request<'_>) -> Result<Value, Refusal> {
    let params = request.params;
    params.only(&[&LIST[..], &["status", "amount"]].concat())?;
    let status = params.text("status")?;
    if let Some(status) = &status
        && !["canceled", "failed", "pending", "succeeded"].contains(&status.as_str())
    {
        let message = "Invalid status: must be one of canceled, failed, pending, or succeeded";
        return Err(Refusal::invalid("status", None, message));
    }
    let amount = params.integer("amount")?;
    let (topups, more) = page(&world.topups, params, request.stale_before_us, |topup| {
        status.as_deref().is_none_or(|status| topup.status.as_str() == status)
            && amount.is_none_or(|amount| topup.amount == amount)
    })?;
    let data = topups.iter().map(|topup| topup.json(world.settings.livemode)).collect();
    Ok(envelope("/v1/topups", data, more))
}

/// `GET /v1/topups/{id}`.
pub(super) fn retrieve(world: &World, request: &Request<'_>, id: &str) -> Result<Value, Refusal> {
    request.params.only(&[])?;
    Ok(world.topups.named(id)?.json(world.settings.livemode))
}

/// `POST /v1/topups/{id}/cancel`.
pub(super) fn cancel(world: &mut World, request: &Request<'_>, id: &str) -> Result<Value, Refusal> {
    request.params.only(&[])?;
    if world.topups.named(id)?.status != Status::Pending {
        let message = "This top-up can't be canceled because it is no longer pending.";
        return Err(Refusal::executed(400, None, message));
    }
    Ok(world.move_topup(id, Status::Canceled, &request.origin, |_| {}))
}

impl World {
    /// A pending top-up with the clock's dates, not yet recorded.
    pub fn new_topup(&mut self, amount: i64, currency: String) -> Topup {
        let created_us = self.now_us();
        let settle_us = created_us.saturating_add(self.settings.settle_after_us);
        Topup {
            id: self.new_id("tu_"),
            amount,
            currency,
            status: Status::Pending,
            created_us,
            settle_us,
            expected_us: settle_us.saturating_add(self.settings.available_after_us),
            balance_transaction: None,
            fails_with: None,
            failure_code: None,
            description: None,
            statement_descriptor: None,
            transfer_group: None,
            metadata: Map::new(),
        }
    }

    /// Records a new top-up with its event.
    pub fn record_topup(&mut self, topup: Topup, origin: &Origin) -> Value {
        let object = topup.json(self.settings.livemode);
        self.topups.push(topup);
        self.emit(origin, "topup.created", object.clone(), None, None);
        object
    }

    /// Settles or fails every pending top-up whose time has come.
    pub fn settle_due_topups(&mut self, now_us: i64) {
        let due: Vec<(String, i64)> = self
            .topups
            .iter()
            .filter(|topup| topup.status == Status::Pending && topup.settle_us <= now_us)
            .map(|topup| (topup.id.clone(), topup.settle_us))
            .collect();
        for (id, settle_us) in due {
            self.settle_topup_at(&id, settle_us);
        }
    }

    /// Settles one pending top-up as of an instant: by its bank token it succeeds or fails.
    pub fn settle_topup_at(&mut self, id: &str, at_us: i64) -> bool {
        let Some(topup) = self.topups.get(id).filter(|topup| topup.status == Status::Pending).cloned() else {
            return false;
        };
        if let Some(code) = topup.fails_with {
            return self.fail_topup(id, &code);
        }
        let available_us = at_us.saturating_add(self.settings.available_after_us);
        let entry = Entry {
            id: self.new_id("txn_"),
            kind: "topup",
            amount: topup.amount,
            currency: topup.currency,
            source: Some(topup.id),
            description: topup.description,
            created_us: at_us,
            available_us,
            pending: true,
        };
        let transaction = entry.id.clone();
        self.ledger.book(entry);
        self.move_topup(id, Status::Succeeded, &Origin::default(), |topup| {
            topup.balance_transaction = Some(transaction);
            topup.expected_us = available_us;
        });
        true
    }

    /// The bank refuses a pending top-up.
    pub fn fail_topup(&mut self, id: &str, code: &str) -> bool {
        if self.topups.get(id).is_none_or(|topup| topup.status != Status::Pending) {
            return false;
        }
        self.move_topup(id, Status::Failed, &Origin::default(), |topup| {
            topup.failure_code = Some(code.to_owned());
        });
        true
    }

    /// The bank takes a succeeded top-up back; the balance may go negative.
    pub fn reverse_topup(&mut self, id: &str) -> bool {
        let Some(topup) = self.topups.get(id).filter(|topup| topup.status == Status::Succeeded).cloned()
        else {
            return false;
        };
        let now = self.now_us();
        let first = topup.balance_transaction.as_deref().and_then(|id| self.ledger.entries().get(id));
        // Money still on its way is taken back there, so that the pair becomes available together as nothing.
        let (pending, available_us) = first.map_or((false, now), |first| {
            (first.pending, if first.pending { first.available_us } else { now })
        });
        let entry = Entry {
            id: self.new_id("txn_"),
            kind: "topup_reversal",
            amount: -topup.amount,
            currency: topup.currency,
            source: Some(topup.id),
            description: None,
            created_us: now,
            available_us,
            pending,
        };
        self.ledger.book(entry);
        self.move_topup(id, Status::Reversed, &Origin::default(), |_| {});
        true
    }

    fn move_topup(
        &mut self,
        id: &str,
        to: Status,
        origin: &Origin,
        change: impl FnOnce(&mut Topup),
    ) -> Value {
        let livemode = self.settings.livemode;
        let Some(topup) = self.topups.get_mut(id) else { return Value::Null };
        topup.status = to;
        change(topup);
        let object = topup.json(livemode);
        self.emit(origin, &format!("topup.{}", to.as_str()), object.clone(), None, None);
        object
    }
}
