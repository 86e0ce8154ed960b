//! Transfers, compared with the orders on record and with what Stripe showed of them.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use sqlx::PgConnection;

use super::{Report, Subject};
use crate::domain::audit::{Action, Row};
use crate::domain::ids::{AccountId, StripeTransferId, TransferId};
use crate::domain::task::Kind;
use crate::domain::transfer::Status;
use crate::flows::{FlowError, transfer_evidence};
use crate::store::outbox::StoredEvent;
use crate::store::rebuild;
use crate::store::retention::{self, TransferBaseline};
use crate::store::transfers::Transfer;
use crate::store::{audit, db::StoreError};
use crate::stripe::wire::{self, Object};

/// Rows of the audit log read at once.
const PAGE: i64 = 1_000;

/// What Stripe showed of a transfer, all evidence together.
struct Shown {
    ours: Option<TransferId>,
    amount_minor: i64,
    currency: String,
    destination: Option<AccountId>,
    reversed_minor: i64,
    open: bool,
}

impl Shown {
    fn of(seen: &wire::Transfer) -> Self {
        Self {
            ours: None,
            amount_minor: seen.amount,
            currency: seen.currency.clone(),
            destination: seen.destination.clone(),
            reversed_minor: 0,
            open: false,
        }
    }

    /// What is kept of one whose events were dropped.
    fn kept(baseline: &TransferBaseline) -> Option<(StripeTransferId, Self)> {
        let shown = Self {
            ours: TransferId::parse(&baseline.transfer).ok(),
            amount_minor: baseline.amount,
            currency: baseline.currency.clone(),
            destination: AccountId::parse(&baseline.destination).ok(),
            reversed_minor: baseline.amount_reversed,
            open: false,
        };
        Some((StripeTransferId::parse(&baseline.stripe_transfer).ok()?, shown))
    }
}

pub(super) async fn check(
    tx: &mut PgConnection,
    livemode: bool,
    report: &mut Report,
) -> Result<(), FlowError> {
    check_orders(tx, livemode, report).await?;
    for (id, missing) in rebuild::list_unrecorded(tx, livemode).await? {
        let subject = Subject { livemode, kind: "transfer", id: &id };
        report.differs(&subject, &missing, json!("held"), json!("not on record"));
    }
    let mut shown = shown_by_stripe(tx, livemode).await?;
    let mut after = String::new();
    loop {
        let page = rebuild::page_transfers(tx, livemode, &after).await?;
        let Some(last) = page.last() else { break };
        after = last.id.to_string();
        for transfer in &page {
            report.transfers += 1;
            check_one(transfer, &mut shown, report);
        }
    }
    // What is left carries an id of ours, and no transfer of ours was recorded for it.
    for (at_stripe, shown) in shown.iter().filter(|(_, shown)| !shown.open) {
        if let Some(id) = &shown.ours {
            compare_unbooked(tx, livemode, id, at_stripe, shown, report).await?;
        }
    }
    Ok(())
}

/// Each request on record against the row it made.
async fn check_orders(tx: &mut PgConnection, livemode: bool, report: &mut Report) -> Result<(), FlowError> {
    let mut after = 0;
    loop {
        let rows = audit::list(tx, after, PAGE).await?;
        let Some(last) = rows.last() else { return Ok(()) };
        after = last.id;
        let requests: Vec<&Row> = rows
            .iter()
            .filter(|row| row.entry.livemode == livemode && is_of_transfer(&row.entry.action))
            .collect();
        let ids: Vec<&str> = requests.iter().map(|row| row.entry.subject.as_str()).collect();
        let found = rebuild::list_transfers(tx, &ids).await?;
        let found: BTreeMap<&str, &Transfer> = found.iter().map(|t| (t.id.as_str(), t)).collect();
        for row in requests {
            let id = row.entry.subject.as_str();
            let subject = Subject { livemode, kind: "transfer", id };
            let Some(transfer) = found.get(id) else {
                report.differs(&subject, "row", json!("missing"), json!(row.entry.action));
                continue;
            };
            compare_with_order(&subject, transfer, row, report)?;
        }
    }
}

fn is_of_transfer(action: &str) -> bool {
    [Action::TransferRequested, Action::TransferAdopted, Action::TransferCanceled]
        .iter()
        .any(|known| known.as_str() == action)
}

fn compare_with_order(
    subject: &Subject<'_>,
    transfer: &Transfer,
    row: &Row,
    report: &mut Report,
) -> Result<(), StoreError> {
    if row.entry.action == Action::TransferCanceled.as_str() {
        // Money that went out all the same is booked, whatever was ordered.
        let stands = transfer.status == Status::Canceled || transfer.stripe_transfer.is_some();
        report.differs(subject, "canceled", json!(stands), json!(true));
        return Ok(());
    }
    let order: Value = serde_json::from_str(&row.entry.details)
        .map_err(|error| StoreError::Unreadable(format!("audit row {}: {error}", row.id)))?;
    let held = json!({
        "destination": transfer.destination,
        "amount": transfer.amount_minor,
        "currency": transfer.currency,
        "topup": transfer.topup,
        "transfer_group": transfer.transfer_group,
        "description": transfer.description,
        "metadata": transfer.metadata,
        "priority": transfer.priority,
    });
    for (field, held) in held.as_object().into_iter().flatten() {
        // An adopted transfer was described by Stripe, in fewer words.
        if let Some(asked) = order.get(field) {
            report.differs(subject, field, held.clone(), asked.clone());
        }
    }
    Ok(())
}

async fn shown_by_stripe(
    tx: &mut PgConnection,
    livemode: bool,
) -> Result<BTreeMap<StripeTransferId, Shown>, FlowError> {
    let mut shown: BTreeMap<StripeTransferId, Shown> = BTreeMap::new();
    let mut beyond = String::new();
    loop {
        let page = retention::page_transfers(tx, livemode, &beyond).await?;
        let Some(last) = page.last() else { break };
        beyond.clone_from(&last.stripe_transfer);
        shown.extend(page.iter().filter_map(Shown::kept));
    }
    rebuild::open_evidence(tx, livemode, Kind::StripeTransfer.as_str()).await?;
    loop {
        let page = rebuild::next_evidence(tx).await?;
        if page.is_empty() {
            break;
        }
        for evidence in page.iter().filter(|evidence| !evidence.dead) {
            let Some(seen) = read(&evidence.event) else { continue };
            let ours = transfer_evidence::our_id(&seen);
            let entry = shown.entry(seen.id.clone()).or_insert_with(|| Shown::of(&seen));
            entry.ours = entry.ours.take().or(ours);
            entry.reversed_minor = entry.reversed_minor.max(seen.amount_reversed);
            entry.open |= evidence.open;
        }
    }
    rebuild::close_evidence(tx).await?;
    Ok(shown)
}

/// The transfer in an event, or in an answer of Stripe's API; none where it had to be fetched.
fn read(event: &StoredEvent) -> Option<wire::Transfer> {
    if event.kind == "observation" {
        return wire::Transfer::from_json(std::str::from_utf8(&event.payload).ok()?).ok();
    }
    let envelope = wire::Envelope::parse(&event.payload).ok()?;
    let object = envelope.data_object.filter(|_| wire::readable(event.api_version.as_deref()))?;
    wire::Transfer::from_json(object.get()).ok()
}

fn check_one(transfer: &Transfer, shown: &mut BTreeMap<StripeTransferId, Shown>, report: &mut Report) {
    let subject = Subject { livemode: transfer.livemode, kind: "transfer", id: transfer.id.as_str() };
    let Some(at_stripe) = &transfer.stripe_transfer else { return };
    let Some(shown) = shown.remove(at_stripe) else {
        report.differs(&subject, "stripe_transfer", json!(at_stripe), json!("no evidence was kept"));
        return;
    };
    if shown.open {
        report.left_out += 1;
        return;
    }
    let reversed_minor = shown.reversed_minor.min(transfer.amount_minor);
    report.differs(&subject, "amount_reversed", json!(transfer.amount_reversed_minor), json!(reversed_minor));
    report.differs(&subject, "amount", json!(transfer.amount_minor), json!(shown.amount_minor));
    report.differs(&subject, "destination", json!(transfer.destination), json!(shown.destination));
    let status = Status::after_reversal(transfer.amount_minor, reversed_minor);
    report.differs(&subject, "status", json!(transfer.status.as_str()), json!(status.as_str()));
}

/// Evidence of a transfer with our id that is booked for none: a difference, unless it is not what was asked for.
async fn compare_unbooked(
    tx: &mut PgConnection,
    livemode: bool,
    id: &TransferId,
    at_stripe: &StripeTransferId,
    shown: &Shown,
    report: &mut Report,
) -> Result<(), StoreError> {
    let found = rebuild::list_transfers(tx, &[id.as_str()]).await?;
    let fits = |transfer: &&Transfer| {
        transfer.stripe_transfer.is_none()
            && transfer.amount_minor == shown.amount_minor
            && transfer.currency.as_str() == shown.currency
            && shown.destination.as_ref() == Some(&transfer.destination)
    };
    if found.iter().any(|transfer| fits(&transfer)) {
        let subject = Subject { livemode, kind: "transfer", id: id.as_str() };
        report.differs(&subject, "stripe_transfer", Value::Null, json!(at_stripe));
    }
    Ok(())
}
