//! Transfers, compared with the orders on record and with what Stripe showed of them.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use sqlx::PgConnection;

use super::{Report, Subject, orders};
use crate::domain::ids::{AccountId, StripeTransferId, TransferId};
use crate::domain::task::Kind;
use crate::domain::transfer::Status;
use crate::flows::{FlowError, transfer_evidence};
use crate::store::db::StoreError;
use crate::store::outbox::StoredEvent;
use crate::store::rebuild;
use crate::store::retention::{self, TransferBaseline};
use crate::store::transfers::Transfer;
use crate::stripe::wire::{self, Object};

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
    for (id, action) in rebuild::list_missing(tx, livemode).await? {
        let subject = Subject { livemode, kind: "transfer", id: &id };
        report.differs(&subject, "row", json!("missing"), json!(action));
    }
    for (id, missing) in rebuild::list_unrecorded(tx, livemode).await? {
        let subject = Subject { livemode, kind: "transfer", id: &id };
        report.differs(&subject, &missing, json!("held"), json!("not on record"));
    }
    let mut shown = shown_by_stripe(tx, livemode).await?;
    let mut after = String::new();
    loop {
        let page = rebuild::page_transfers(tx, livemode, &after).await?;
        let Some(last) = page.last() else { break };
        after = last.transfer.id.to_string();
        orders::check(tx, &page, report).await?;
        for held in &page {
            report.transfers += 1;
            check_one(&held.transfer, &mut shown, report);
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
