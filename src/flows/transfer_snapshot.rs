//! Everything but money that decides whether a transfer may go out, read in one transaction.
//!
//! The deciding flows share it, so that the reasons shown to a caller, the line for money and the check
//! before each send are one and the same question.

use sqlx::PgConnection;
use time::{Duration, OffsetDateTime};

use super::Context;
use crate::domain::limits::{Used, day_of};
use crate::domain::reason::Reason;
use crate::domain::task::Kind;
use crate::domain::transfer::{Circumstances, Status};
use crate::store::accounts::{self, Account, Lock};
use crate::store::db::StoreError;
use crate::store::transfers::Transfer;
use crate::store::{caps, controls, heartbeats, tasks, topups};

/// An account that is taken to have left, but a transfer waits for, is asked for this often.
const DEAUTHORIZED_LOOK: Duration = Duration::minutes(5);

/// What was read.
#[derive(Debug)]
pub struct Snapshot {
    paused: bool,
    used: Used,
    account: Option<Account>,
    topup: Option<Reason>,
    topup_unheard_of: bool,
}

impl Snapshot {
    /// Reads it; the account and the emergency stop stay as they are until the transaction ends.
    pub async fn load(
        conn: &mut PgConnection,
        ctx: &Context,
        transfer: &Transfer,
    ) -> Result<Self, StoreError> {
        let stopped = controls::is_paused_locked(conn, ctx.livemode).await?;
        let paused = stopped || heartbeats::is_catching_up(conn, ctx.livemode).await?;
        let destination = transfer.destination.as_str();
        let account = accounts::find_locked(conn, ctx.livemode, destination, Lock::Share).await?;
        let used = used_today(conn, ctx, transfer).await?;
        let (mut topup, mut topup_unheard_of) = (None, false);
        if let Some(id) = &transfer.topup {
            let found = topups::find_for_share(conn, ctx.livemode, id.as_str()).await?;
            topup_unheard_of = found.as_ref().is_none_or(|found| !found.known || found.standing.doubted);
            topup = match found {
                // Its money is in another currency: no transfer of this one can ever be paid from it.
                Some(found) if found.known && found.currency != Some(transfer.currency) => {
                    Some(Reason::TopupFailed)
                }
                Some(found) => {
                    found.known().map_or(Some(Reason::TopupUnknown), |known| known.waiting(found.settled))
                }
                None => Some(Reason::TopupUnknown),
            };
        }
        Ok(Self { paused, used, account, topup, topup_unheard_of })
    }

    /// Every reason to wait that comes before money, in order. An account that was last described too long ago,
    /// or that is in doubt, counts as [`Reason::StripeUnavailable`] until it has been fetched.
    pub fn reasons(&self, ctx: &Context, transfer: &Transfer, now: OffsetDateTime) -> Vec<Reason> {
        let circumstances = Circumstances {
            controls: transfer.controls(self.paused, &ctx.limits, self.used),
            account: self.account.as_ref().map(|account| &account.known),
            topup: self.topup,
        };
        let mut reasons = circumstances.reasons(&ctx.policy, now);
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
        self.account
            .as_ref()
            .is_some_and(|account| account.standing.doubted || account.as_of + ctx.max_age < now)
    }

    /// Rings for what Stripe must be asked about before this transfer can go on.
    pub async fn ring_for_missing(
        &self,
        conn: &mut PgConnection,
        ctx: &Context,
        transfer: &Transfer,
        now: OffsetDateTime,
    ) -> Result<(), StoreError> {
        if self.account.is_none() || self.is_stale(ctx, now) {
            tasks::ring(conn, Kind::Account, ctx.livemode, &[transfer.destination.as_str()], now).await?;
        }
        if self.account.as_ref().is_some_and(|account| account.known.deauthorized()) {
            // It may come back without a word; a fetch that succeeds shows it.
            let later = now + DEAUTHORIZED_LOOK;
            tasks::ring(conn, Kind::Account, ctx.livemode, &[transfer.destination.as_str()], later).await?;
        }
        if let (Some(id), true) = (&transfer.topup, self.topup_unheard_of) {
            tasks::ring(conn, Kind::Topup, ctx.livemode, &[id.as_str()], now).await?;
        }
        Ok(())
    }
}

/// What was reserved today: exact for whoever holds the currency, and for others as true as a look can be.
async fn used_today(conn: &mut PgConnection, ctx: &Context, transfer: &Transfer) -> Result<Used, StoreError> {
    if transfer.status != Status::Waiting || !ctx.limits.caps(transfer.currency) {
        return Ok(Used::default());
    }
    let (today, destination) = (day_of(ctx.clock.now()), transfer.destination.as_str());
    caps::find_used(conn, ctx.livemode, transfer.currency, today, destination).await
}
