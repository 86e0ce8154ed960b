//! A transfer as its row holds it.

use std::collections::BTreeMap;

use sqlx::FromRow;
use sqlx::types::Json;
use sqlx::types::time::{Date, OffsetDateTime};

use crate::domain::ids::{AccountId, StripeTransferId, TopupId, TransferId};
use crate::domain::limits::{Limits, Used};
use crate::domain::money::Currency;
use crate::domain::reason::Reason;
use crate::domain::transfer::{Controls, Status};
use crate::store::db::StoreError;

/// A transfer as stored.
#[derive(Clone, Debug)]
pub struct Transfer {
    /// Ours.
    pub id: TransferId,
    /// Live or test mode.
    pub livemode: bool,
    /// Where it stands.
    pub status: Status,
    /// Why it waits.
    pub waiting_on: Vec<Reason>,
    /// Whom it pays.
    pub destination: AccountId,
    /// How much, in minor units.
    pub amount_minor: i64,
    /// In which currency.
    pub currency: Currency,
    /// The top-up it must be paid from.
    pub topup: Option<TopupId>,
    /// The caller's label; none means its own id.
    pub transfer_group: Option<String>,
    /// The caller's text.
    pub description: Option<String>,
    /// The caller's pairs.
    pub metadata: BTreeMap<String, String>,
    /// Not before this.
    pub release_after: Option<OffsetDateTime>,
    /// It waits for nothing but money.
    pub fundable: bool,
    /// Since when later ones got money while it stayed in the line.
    pub passed_over_at: Option<OffsetDateTime>,
    /// Higher goes first.
    pub priority: i32,
    /// Since when it is held.
    pub held_at: Option<OffsetDateTime>,
    /// By which key.
    pub held_by: Option<String>,
    /// Which key asked for it.
    pub created_by: String,
    /// When another key approved it.
    pub approved_at: Option<OffsetDateTime>,
    /// Which key that was.
    pub approved_by: Option<String>,
    /// The UTC day whose caps its reservation counts towards.
    pub counted_on: Option<Date>,
    /// The next key is not used before a look-up found nothing.
    pub look_up_first: bool,
    /// N of the idempotency key used now or next.
    pub generation: i32,
    /// How often its money was reserved.
    pub reservations: i32,
    /// Not tried again before this, for this reason: Stripe refused it for a cause on the account's side.
    pub hold_off: Option<(OffsetDateTime, Reason)>,
    /// When it should go out, as far as that is known.
    pub expected_release_at: Option<OffsetDateTime>,
    /// Its id at Stripe.
    pub stripe_transfer: Option<StripeTransferId>,
    /// What came back, in minor units.
    pub amount_reversed_minor: i64,
    /// Stripe's refusal: code and text.
    pub failure: Option<(String, String)>,
    /// When it was asked for.
    pub created_at: OffsetDateTime,
    /// When it last changed.
    pub updated_at: OffsetDateTime,
}

impl Transfer {
    /// One that was just asked for, with nothing but what it must have.
    pub fn new(
        id: TransferId,
        livemode: bool,
        destination: AccountId,
        (amount_minor, currency): (i64, Currency),
        created_by: &str,
        now: OffsetDateTime,
    ) -> Self {
        Self {
            id,
            livemode,
            status: Status::Waiting,
            waiting_on: Vec::new(),
            destination,
            amount_minor,
            currency,
            topup: None,
            transfer_group: None,
            description: None,
            metadata: BTreeMap::new(),
            release_after: None,
            fundable: false,
            passed_over_at: None,
            priority: 0,
            held_at: None,
            held_by: None,
            created_by: created_by.to_owned(),
            approved_at: None,
            approved_by: None,
            counted_on: None,
            look_up_first: false,
            generation: 1,
            reservations: 0,
            hold_off: None,
            expected_release_at: None,
            stripe_transfer: None,
            amount_reversed_minor: 0,
            failure: None,
            created_at: now,
            updated_at: now,
        }
    }

    /// What operators and the caller decided about it.
    pub fn controls(&self, paused: bool, limits: &Limits, used: Used) -> Controls {
        // Once its own money is reserved, it is counted: it can't be in its own way.
        let counts = self.status == Status::Waiting;
        Controls {
            paused,
            held: self.held_at.is_some(),
            unapproved: self.approved_at.is_none() && limits.needs_approval(self.currency, self.amount_minor),
            capped: counts && limits.cap_reached(self.currency, self.amount_minor, used),
            release_after: self.release_after,
        }
    }

    /// The label it carries at Stripe, by which a lost answer is found again.
    pub fn group_at_stripe(&self) -> &str {
        self.transfer_group.as_deref().unwrap_or(self.id.as_str())
    }
}

/// A row of `transfers`, for any query that selects all of it.
#[derive(FromRow)]
pub(in crate::store) struct Row {
    id: String,
    livemode: bool,
    status: String,
    waiting_on: Vec<String>,
    destination: String,
    amount: i64,
    currency: String,
    topup: Option<String>,
    transfer_group: Option<String>,
    description: Option<String>,
    metadata: Json<BTreeMap<String, String>>,
    release_after: Option<OffsetDateTime>,
    fundable: bool,
    passed_over_at: Option<OffsetDateTime>,
    priority: i32,
    held_at: Option<OffsetDateTime>,
    held_by: Option<String>,
    created_by: String,
    approved_at: Option<OffsetDateTime>,
    approved_by: Option<String>,
    counted_on: Option<Date>,
    look_up_first: bool,
    generation: i32,
    reservations: i32,
    hold_off_until: Option<OffsetDateTime>,
    hold_off_reason: Option<String>,
    expected_release_at: Option<OffsetDateTime>,
    stripe_transfer: Option<String>,
    amount_reversed: i64,
    failure_code: Option<String>,
    failure_message: Option<String>,
    created_at: OffsetDateTime,
    updated_at: OffsetDateTime,
}

impl Row {
    pub(in crate::store) fn read(self) -> Result<Transfer, StoreError> {
        let odd = |what: &str| StoreError::Unreadable(format!("transfer {}: {what}", self.id));
        Ok(Transfer {
            status: Status::parse(&self.status).ok_or_else(|| odd("status"))?,
            destination: AccountId::parse(&self.destination).map_err(|_| odd("destination"))?,
            currency: Currency::parse(&self.currency).map_err(|_| odd("currency"))?,
            topup: self.topup.as_deref().map(TopupId::parse).transpose().map_err(|_| odd("topup"))?,
            stripe_transfer: match self.stripe_transfer.as_deref() {
                Some(id) => Some(StripeTransferId::parse(id).map_err(|_| odd("stripe_transfer"))?),
                None => None,
            },
            id: TransferId::parse(&self.id).map_err(|_| odd("id"))?,
            livemode: self.livemode,
            waiting_on: self.waiting_on.iter().filter_map(|code| Reason::parse(code)).collect(),
            amount_minor: self.amount,
            transfer_group: self.transfer_group,
            description: self.description,
            metadata: self.metadata.0,
            release_after: self.release_after,
            fundable: self.fundable,
            passed_over_at: self.passed_over_at,
            priority: self.priority,
            held_at: self.held_at,
            held_by: self.held_by,
            created_by: self.created_by,
            approved_at: self.approved_at,
            approved_by: self.approved_by,
            counted_on: self.counted_on,
            look_up_first: self.look_up_first,
            generation: self.generation,
            reservations: self.reservations,
            hold_off: self.hold_off_until.zip(self.hold_off_reason.as_deref().and_then(Reason::parse)),
            expected_release_at: self.expected_release_at,
            amount_reversed_minor: self.amount_reversed,
            failure: self.failure_code.map(|code| (code, self.failure_message.unwrap_or_default())),
            created_at: self.created_at,
            updated_at: self.updated_at,
        })
    }
}
