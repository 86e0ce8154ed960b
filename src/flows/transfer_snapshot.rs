//! Everything but money that decides whether a transfer may go out, read in one transaction.
//!
//! The deciding flows share it, so that the reasons shown to a caller, the line for money and the check
//! before each send are one and the same question.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::PgConnection;
use time::{Duration, OffsetDateTime};

use super::Context;
use super::rings::Rings;
use crate::domain::limits::{Used, day_of};
use crate::domain::reason::Reason;
use crate::domain::task::Kind;
use crate::domain::transfer::{Circumstances, Status};
use crate::store::accounts::{self, Account};
use crate::store::db::StoreError;
use crate::store::topups::Topup;
use crate::store::transfers::Transfer;
use crate::store::{caps, controls, heartbeats, topups};

/// An account that is taken to have left, but a transfer waits for, is asked for this often.
const DEAUTHORIZED_LOOK: Duration = Duration::minutes(5);

/// What is dated further ahead than clocks differ was dated by a wrong one, and may be of any age.
const AHEAD: Duration = Duration::minutes(5);

/// What was read.
#[derive(Debug)]
pub struct Snapshot {
    paused: bool,
    /// What was reserved today.
    pub used: Used,
    /// The destination, where anything was heard of it.
    pub account: Option<Account>,
    topup: Tie,
}

/// The top-up a transfer is tied to, if it is tied to one.
#[derive(Clone, Copy, Debug, Default)]
struct Tie {
    /// Why it keeps the transfer.
    waiting: Option<Reason>,
    /// Stripe has to be asked about it.
    unheard_of: bool,
}

impl Tie {
    fn of(transfer: &Transfer, found: Option<&Topup>) -> Self {
        let waiting = match found {
            // Its money is in another currency: no transfer of this one can ever be paid from it.
            Some(found) if found.known && found.lands_in() != Some(transfer.currency) => {
                Some(Reason::TopupFailed)
            }
            Some(found) => {
                found.known().map_or(Some(Reason::TopupUnknown), |known| known.waiting(found.settled))
            }
            None => Some(Reason::TopupUnknown),
        };
        Self { waiting, unheard_of: found.is_none_or(|found| !found.known || found.standing.doubted) }
    }
}

impl Snapshot {
    /// Reads it; everything it was read from stays as it is until the transaction ends.
    pub async fn hold(
        conn: &mut PgConnection,
        ctx: &Context,
        transfer: &Transfer,
        now: OffsetDateTime,
    ) -> Result<Self, StoreError> {
        Self::hold_all(conn, ctx, std::slice::from_ref(transfer)).await?;
        let read = Self::look(conn, ctx, &[transfer], now).await?.pop();
        read.ok_or_else(|| StoreError::Unreadable(format!("nothing was read about {}", transfer.id)))
    }

    /// For whoever decides on many in one transaction: keeps all that [`Self::look`] will read as it is, in the one
    /// order in which it is changed: the emergency stop, top-ups, accounts.
    pub async fn hold_all(
        conn: &mut PgConnection,
        ctx: &Context,
        transfers: &[Transfer],
    ) -> Result<(), StoreError> {
        controls::hold_pause(conn, ctx.livemode).await?;
        let tied: BTreeSet<&str> =
            transfers.iter().filter_map(|t| Some(t.topup.as_ref()?.as_str())).collect();
        topups::hold_all(conn, ctx.livemode, &Vec::from_iter(tied)).await?;
        let destinations: Vec<&str> = transfers.iter().map(|t| t.destination.as_str()).collect();
        accounts::hold_all(conn, ctx.livemode, &destinations).await
    }

    /// Reads it for many at once and locks nothing: as true as a look can be, and exact for whoever holds all.
    pub async fn look(
        conn: &mut PgConnection,
        ctx: &Context,
        transfers: &[&Transfer],
        now: OffsetDateTime,
    ) -> Result<Vec<Self>, StoreError> {
        let paused = heartbeats::are_releases_stopped(conn, ctx.livemode).await?;
        let destinations: Vec<&str> = transfers.iter().map(|t| t.destination.as_str()).collect();
        let accounts = accounts::list_by_ids(conn, ctx.livemode, &destinations).await?;
        let tied: Vec<&str> = transfers.iter().filter_map(|t| Some(t.topup.as_ref()?.as_str())).collect();
        let topups = topups::list_by_ids(conn, ctx.livemode, &tied).await?;
        let mut capped: Vec<&str> =
            transfers.iter().filter(|t| counts(ctx, t)).map(|t| t.currency.as_str()).collect();
        capped.dedup();
        let today = day_of(now);
        let used = match capped.is_empty() {
            true => BTreeMap::new(),
            false => caps::list_used(conn, ctx.livemode, today, &capped, &destinations).await?,
        };
        let used_of = |transfer: &Transfer| {
            let of = |destination: &str| {
                used.get(&(transfer.currency.to_string(), destination.to_owned())).copied().unwrap_or(0)
            };
            Used { in_all_minor: of(""), for_destination_minor: of(transfer.destination.as_str()) }
        };
        let look = |transfer: &&Transfer| Self {
            paused,
            used: used_of(transfer),
            account: accounts.get(transfer.destination.as_str()).cloned(),
            topup: transfer
                .topup
                .as_ref()
                .map(|id| Tie::of(transfer, topups.get(id.as_str())))
                .unwrap_or_default(),
        };
        Ok(transfers.iter().map(look).collect())
    }

    /// Counts what was reserved since this was read.
    pub fn count_in(&mut self, more: &Used) {
        self.used.in_all_minor += more.in_all_minor;
        self.used.for_destination_minor += more.for_destination_minor;
    }

    /// Every reason to wait that comes before money, in order. An account that was last described too long ago,
    /// or that is in doubt, counts as [`Reason::StripeUnavailable`] until it has been fetched.
    pub fn reasons(&self, ctx: &Context, transfer: &Transfer, now: OffsetDateTime) -> Vec<Reason> {
        let circumstances = Circumstances {
            controls: transfer.controls(self.paused, &ctx.limits, self.used),
            account: self.account.as_ref().map(|account| &account.known),
            currency: transfer.currency,
            topup: self.topup.waiting,
        };
        let mut reasons = circumstances.reasons(&ctx.policy(), now);
        if let Some((until, reason)) = transfer.hold_off {
            let held_off = now < until
                && !reasons
                    .iter()
                    .any(|r| (Reason::AccountUnknown..=Reason::CorridorUnsupported).contains(r));
            reasons.extend(held_off.then_some(reason));
        }
        if reasons.is_empty() && self.is_stale(ctx, now) {
            reasons.push(Reason::StripeUnavailable);
        }
        reasons.sort_unstable();
        reasons.dedup();
        reasons
    }

    fn is_stale(&self, ctx: &Context, now: OffsetDateTime) -> bool {
        self.account.as_ref().is_some_and(|account| {
            account.standing.doubted || account.as_of + ctx.max_age < now || account.as_of > now + AHEAD
        })
    }

    /// Rings for what Stripe must be asked about before this transfer can go on.
    pub fn ring_for_missing(
        &self,
        ctx: &Context,
        transfer: &Transfer,
        rings: &mut Rings,
        now: OffsetDateTime,
    ) {
        if self.account.is_none() || self.is_stale(ctx, now) {
            rings.add(Kind::Account, transfer.destination.as_str(), now);
        }
        if self.account.as_ref().is_some_and(|account| account.known.deauthorized()) {
            // It may come back without a word; a fetch that succeeds shows it.
            rings.add(Kind::Account, transfer.destination.as_str(), now + DEAUTHORIZED_LOOK);
        }
        if let (Some(id), true) = (&transfer.topup, self.topup.unheard_of) {
            rings.add(Kind::Topup, id.as_str(), now);
        }
    }
}

/// Whether the day's caps matter to it; once its money is reserved, it is counted itself.
fn counts(ctx: &Context, transfer: &Transfer) -> bool {
    transfer.status == Status::Waiting && ctx.limits.caps(transfer.currency)
}
