//! Transfers, compared with what was ordered about them: the request, and each order since that changed the row.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use sqlx::PgConnection;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::{Report, Subject};
use crate::domain::audit::{Action, Row};
use crate::domain::transfer::Status;
use crate::store::rebuild::Held;
use crate::store::{audit, db::StoreError};

/// What the log says about one transfer.
#[derive(Default)]
struct Orders<'a> {
    /// The request, and where it was found at Stripe after a restore, that too; each with its details.
    asked: Vec<(&'a Row, Value)>,
    /// It was called off.
    canceled: bool,
    /// What holds it now.
    hold: Option<&'a Row>,
    /// What approved it.
    approval: Option<&'a Row>,
}

impl<'a> Orders<'a> {
    fn note(&mut self, row: &'a Row) -> Result<(), StoreError> {
        let is = |action: Action| row.entry.action == action.as_str();
        let details = || -> Result<Value, StoreError> {
            serde_json::from_str(&row.entry.details)
                .map_err(|error| StoreError::Unreadable(format!("audit row {}: {error}", row.id)))
        };
        // An order may be repeated; one that found all as it should be changed nothing.
        let changed = || details().map(|details| details["changed"] == json!(true));
        if is(Action::TransferRequested) || is(Action::TransferAdopted) {
            self.asked.push((row, details()?));
        } else if is(Action::TransferCanceled) {
            self.canceled = true;
        } else if is(Action::TransferHeld) && changed()? {
            self.hold = Some(row);
        } else if is(Action::TransferResumed) && changed()? {
            self.hold = None;
        } else if is(Action::TransferApproved) && changed()? {
            self.approval = Some(row);
        }
        Ok(())
    }
}

/// Compares a page of transfers with the orders on record about them.
pub(super) async fn check(
    tx: &mut PgConnection,
    page: &[Held],
    report: &mut Report,
) -> Result<(), StoreError> {
    let ids: Vec<&str> = page.iter().map(|held| held.transfer.id.as_str()).collect();
    let rows = audit::list_about(tx, &ids).await?;
    let mut orders: BTreeMap<&str, Orders<'_>> = BTreeMap::new();
    for row in &rows {
        orders.entry(&row.entry.subject).or_default().note(row)?;
    }
    for held in page {
        let orders = orders.remove(held.transfer.id.as_str()).unwrap_or_default();
        compare(held, &orders, report);
    }
    Ok(())
}

fn compare(held: &Held, orders: &Orders<'_>, report: &mut Report) {
    let transfer = &held.transfer;
    let subject = Subject { livemode: transfer.livemode, kind: "transfer", id: transfer.id.as_str() };
    if let Some((made_by, details)) = orders.asked.first() {
        compare_origin(&subject, held, made_by, details, report);
    }
    for (_, details) in &orders.asked {
        compare_request(&subject, held, details, report);
    }
    if orders.canceled {
        // Money that went out all the same is booked, whatever was ordered.
        let stands = transfer.status == Status::Canceled || transfer.stripe_transfer.is_some();
        report.differs(&subject, "canceled", json!(stands), json!(true));
    }
    let at = |row: Option<&Row>| shown(row.map(|row| row.entry.at));
    let by = |row: Option<&Row>| json!(row.map(|row| &row.entry.actor));
    report.differs(&subject, "held_at", shown(transfer.held_at), at(orders.hold));
    report.differs(&subject, "held_by", json!(transfer.held_by), by(orders.hold));
    report.differs(&subject, "approved_at", shown(transfer.approved_at), at(orders.approval));
    report.differs(&subject, "approved_by", json!(transfer.approved_by), by(orders.approval));
}

/// Who made the row, when and how. The first order on record did: a request that Stripe's list was matched with later
/// is still the request.
fn compare_origin(subject: &Subject<'_>, held: &Held, made_by: &Row, details: &Value, report: &mut Report) {
    let transfer = &held.transfer;
    report.differs(subject, "livemode", json!(transfer.livemode), json!(made_by.entry.livemode));
    report.differs(subject, "created_by", json!(transfer.created_by), json!(made_by.entry.actor));
    if made_by.entry.action == Action::TransferAdopted.as_str() {
        // Its request was forgotten with its key and date; that it was made is known from Stripe, to the second.
        let key = format!("adopted:{}", transfer.id);
        report.differs(subject, "idempotency_key", json!(held.idempotency_key), json!(key));
        report.differs(subject, "release_after", shown(transfer.release_after), Value::Null);
        return;
    }
    report.differs(subject, "created_at", shown(Some(transfer.created_at)), shown(Some(made_by.entry.at)));
    report.differs(
        subject,
        "idempotency_key",
        json!(held.idempotency_key),
        details["idempotency_key"].clone(),
    );
    let release_after = &details["release_after_us"];
    report.differs(subject, "release_after", shown(transfer.release_after), instant(release_after));
}

/// What was asked. An adopted transfer was described by Stripe, in fewer words.
fn compare_request(subject: &Subject<'_>, held: &Held, order: &Value, report: &mut Report) {
    let transfer = &held.transfer;
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
        if let Some(asked) = order.get(field) {
            report.differs(subject, field, held.clone(), asked.clone());
        }
    }
}

/// An instant as it is told.
fn shown(at: Option<OffsetDateTime>) -> Value {
    json!(at.and_then(|at| at.format(&Rfc3339).ok()))
}

/// An instant that stands in the log in microseconds; as it stands where it is none.
fn instant(us: &Value) -> Value {
    let nanos = us.as_str().and_then(|us| us.parse::<i128>().ok()).and_then(|us| us.checked_mul(1_000));
    let at = nanos.and_then(|nanos| OffsetDateTime::from_unix_timestamp_nanos(nanos).ok());
    if at.is_some() { shown(at) } else { us.clone() }
}
