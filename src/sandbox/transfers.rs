//! Transfers to connected accounts and their reversals: money moves at once, or the call is refused.
//!
//! Validation comes first and is not kept for an idempotency key; destination, capability and balance are
//! execution, and what they refuse is kept.

use serde_json::{Map, Value, json};

use super::balance::Entry;
use super::borders;
use super::errors::Refusal;
use super::forms::merge_metadata;
use super::lists::{LIST, Listed, Shelf, envelope, page};
use super::routes::Request;
use super::state::{World, previous_attributes};

/// A transfer. It has no status: that it exists means that the money moved.
#[derive(Debug)]
pub(super) struct Transfer {
    pub id: String,
    pub amount: i64,
    pub amount_reversed: i64,
    pub currency: String,
    pub destination: String,
    pub created_us: i64,
    pub metadata: Map<String, Value>,
    pub transfer_group: Option<String>,
    description: Option<String>,
    source_type: String,
    balance_transaction: String,
    destination_payment: String,
    reversals: Shelf<Reversal>,
}

/// A full or partial reversal of a transfer.
#[derive(Debug)]
struct Reversal {
    id: String,
    amount: i64,
    created_us: i64,
    balance_transaction: String,
    metadata: Map<String, Value>,
}

impl Listed for Transfer {
    const NOUN: &'static str = "transfer";
    fn id(&self) -> &str {
        &self.id
    }
    fn created_us(&self) -> i64 {
        self.created_us
    }
}

impl Listed for Reversal {
    const NOUN: &'static str = "transfer reversal";
    fn id(&self) -> &str {
        &self.id
    }
    fn created_us(&self) -> i64 {
        self.created_us
    }
}

impl Transfer {
    pub fn json(&self, livemode: bool) -> Value {
        let newest: Vec<Value> =
            self.reversals.iter().rev().take(10).map(|reversal| self.reversal_json(reversal)).collect();
        let more = self.reversals.len() > newest.len();
        json!({
            "id": self.id, "object": "transfer", "amount": self.amount,
            "amount_reversed": self.amount_reversed, "reversed": self.amount_reversed == self.amount,
            "balance_transaction": self.balance_transaction,
            "created": self.created_us.div_euclid(1_000_000), "currency": self.currency,
            "description": self.description, "destination": self.destination,
            "destination_payment": self.destination_payment, "livemode": livemode,
            "metadata": self.metadata, "source_transaction": null, "source_type": self.source_type,
            "transfer_group": self.transfer_group,
            "reversals": envelope(&format!("/v1/transfers/{}/reversals", self.id), newest, more),
        })
    }

    fn reversal_json(&self, reversal: &Reversal) -> Value {
        json!({
            "id": reversal.id, "object": "transfer_reversal", "amount": reversal.amount,
            "balance_transaction": reversal.balance_transaction,
            "created": reversal.created_us.div_euclid(1_000_000), "currency": self.currency,
            "destination_payment_refund": null, "metadata": reversal.metadata,
            "source_refund": null, "transfer": self.id,
        })
    }
}

/// `POST /v1/transfers`.
pub(super) fn create(world: &mut World, request: &Request<'_>) -> Result<Value, Refusal> {
    let params = request.params;
    params.only(&[
        "amount",
        "currency",
        "description",
        "destination",
        "metadata",
        "source_transaction",
        "source_type",
        "transfer_group",
    ])?;
    let currency = params.currency("currency")?;
    params.required("amount")?;
    let amount = params.amount("amount")?.unwrap_or_default();
    let destination = params.required("destination")?;
    let (metadata, description) = (params.metadata()?, params.text("description")?);
    let transfer_group = params.text("transfer_group")?;
    let asked_source = params.text("source_type")?;
    if let Some(other) = asked_source.as_deref().filter(|asked| !SOURCE_TYPES.contains(asked)) {
        let message = format!("Invalid source_type: must be one of {}; got {other}", SOURCE_TYPES.join(", "));
        return Err(Refusal::invalid("source_type", None, message));
    }
    if let Some(charge) = params.text("source_transaction")? {
        return Err(Refusal::missing(400, "source_transaction", "charge", &charge).kept());
    }
    check_destination(world, &destination)?;
    let source_type = check_source(world, asked_source)?;
    // Without money under the drawn source type, the platform is as poor as with none at all.
    let drawable =
        if source_type == world.settings.source_type { world.ledger.available(&currency) } else { 0 };
    if drawable < amount {
        return Err(Refusal::executed(400, Some("balance_insufficient"), INSUFFICIENT));
    }
    let id = world.new_id("tr_");
    let balance_transaction = book(world, "transfer", -amount, &currency, &id);
    let transfer = Transfer {
        balance_transaction,
        destination_payment: world.new_id("py_"),
        created_us: world.now_us(),
        id,
        amount,
        amount_reversed: 0,
        currency,
        destination,
        metadata,
        transfer_group,
        description,
        source_type,
        reversals: Shelf::default(),
    };
    let object = transfer.json(world.settings.livemode);
    world.transfers.push(transfer);
    world.emit(&request.origin, "transfer.created", object.clone(), None, None);
    Ok(object)
}

const SOURCE_TYPES: [&str; 3] = ["bank_account", "card", "fpx"];
const INSUFFICIENT: &str = "You have insufficient available funds in your Stripe account. Try adding funds directly \
    to your available balance by creating Charges using the 4000000000000077 test card. See: \
    https://stripe.com/docs/testing#available-balance";

fn check_destination(world: &World, id: &str) -> Result<(), Refusal> {
    let missing = || Refusal::missing(400, "destination", "destination", id).kept();
    let account = world.accounts.get(id).filter(|account| account.reachable()).ok_or_else(missing)?;
    if account.transfers_status() != Some("active") {
        let message = "Your destination account needs to have at least one of the following capabilities enabled: \
            transfers, crypto_transfers, legacy_payments";
        return Err(Refusal::executed(400, Some("insufficient_capabilities_for_transfer"), message));
    }
    let country = account.country();
    if !borders::may_send(world.platform.country(), country) {
        let message = format!(
            "Funds can't be sent to accounts located in {country} because it's restricted outside of your platform's \
             region."
        );
        return Err(Refusal::executed(400, Some("transfers_not_allowed"), message));
    }
    Ok(())
}

/// The source type to draw from. Stripe's default is `card`; naming one that holds no money is refused as such.
fn check_source(world: &World, asked: Option<String>) -> Result<String, Refusal> {
    match asked {
        Some(asked) if asked != world.settings.source_type => {
            let message = format!("Your platform's balance holds no funds of the source type {asked}.");
            let code = Some("transfer_source_balance_parameters_mismatch");
            Err(Refusal::executed(400, code, message).about("source_type"))
        }
        Some(asked) => Ok(asked),
        None => Ok("card".to_owned()),
    }
}

fn book(world: &mut World, kind: &'static str, amount: i64, currency: &str, source: &str) -> String {
    let now = world.now_us();
    let id = world.new_id("txn_");
    world.ledger.book(Entry {
        id: id.clone(),
        kind,
        amount,
        currency: currency.to_owned(),
        source: Some(source.to_owned()),
        description: None,
        created_us: now,
        available_us: now,
        pending: false,
    });
    id
}

/// `GET /v1/transfers`.
pub(super) fn list(world: &World, request: &Request<'_>) -> Result<Value, Refusal> {
    let params = request.params;
    params.only(&[&LIST[..], &["destination", "transfer_group"]].concat())?;
    let (destination, group) = (params.text("destination")?, params.text("transfer_group")?);
    let (transfers, more) = page(&world.transfers, params, request.stale_before_us, |transfer| {
        destination.as_deref().is_none_or(|id| transfer.destination == id)
            && group.as_deref().is_none_or(|group| transfer.transfer_group.as_deref() == Some(group))
    })?;
    let data = transfers.iter().map(|transfer| transfer.json(world.settings.livemode)).collect();
    Ok(envelope("/v1/transfers", data, more))
}

/// `GET /v1/transfers/{id}`.
pub(super) fn retrieve(world: &World, request: &Request<'_>, id: &str) -> Result<Value, Refusal> {
    request.params.only(&[])?;
    Ok(world.transfers.named(id)?.json(world.settings.livemode))
}

/// `POST /v1/transfers/{id}`: description and metadata.
pub(super) fn update(world: &mut World, request: &Request<'_>, id: &str) -> Result<Value, Refusal> {
    let params = request.params;
    params.only(&["description", "metadata"])?;
    let (metadata, description) = (params.metadata()?, params.text("description")?);
    let before = world.transfers.named(id)?.json(world.settings.livemode);
    let livemode = world.settings.livemode;
    let Some(transfer) = world.transfers.get_mut(id) else { return Ok(Value::Null) };
    merge_metadata(&mut transfer.metadata, metadata);
    if description.is_some() {
        transfer.description = description;
    }
    let object = transfer.json(livemode);
    let previous = previous_attributes(&before, &object);
    if previous != json!({}) {
        world.emit(&request.origin, "transfer.updated", object.clone(), Some(previous), None);
    }
    Ok(object)
}

/// `POST /v1/transfers/{id}/reversals`.
pub(super) fn reverse(world: &mut World, request: &Request<'_>, id: &str) -> Result<Value, Refusal> {
    let params = request.params;
    params.only(&["amount", "description", "metadata", "refund_application_fee"])?;
    let asked = params.amount("amount")?;
    let metadata = params.metadata()?;
    let transfer = world.transfers.named(id)?;
    let left = transfer.amount - transfer.amount_reversed;
    let currency = transfer.currency.clone();
    let amount = asked.unwrap_or(left);
    if left == 0 {
        return Err(Refusal::executed(400, None, format!("Transfer {id} is already fully reversed.")));
    }
    if amount > left {
        let message =
            format!("Reversal amount ({amount}) is greater than unreversed amount on transfer ({left})");
        return Err(Refusal::executed(400, None, message).about("amount"));
    }
    let reversal_id = world.new_id("trr_");
    let balance_transaction = book(world, "transfer_refund", amount, &currency, &reversal_id);
    let (now, livemode) = (world.now_us(), world.settings.livemode);
    let reversal = Reversal { id: reversal_id, amount, created_us: now, balance_transaction, metadata };
    let Some(transfer) = world.transfers.get_mut(id) else { return Ok(Value::Null) };
    let object = transfer.reversal_json(&reversal);
    let mut previous = json!({"amount_reversed": transfer.amount_reversed});
    transfer.amount_reversed += amount;
    if transfer.amount_reversed == transfer.amount {
        previous["reversed"] = json!(false);
    }
    transfer.reversals.push(reversal);
    let whole = transfer.json(livemode);
    world.emit(&request.origin, "transfer.reversed", whole, Some(previous), None);
    Ok(object)
}

/// `GET /v1/transfers/{id}/reversals`.
pub(super) fn list_reversals(world: &World, request: &Request<'_>, id: &str) -> Result<Value, Refusal> {
    request.params.only(&LIST[..3])?;
    let transfer = world.transfers.named(id)?;
    let (reversals, more) = page(&transfer.reversals, request.params, request.stale_before_us, |_| true)?;
    let data = reversals.iter().map(|reversal| transfer.reversal_json(reversal)).collect();
    Ok(envelope(&format!("/v1/transfers/{id}/reversals"), data, more))
}
