//! Which flow answers which bell.

use time::OffsetDateTime;

use crate::domain::ids::{AccountId, ReversalId, StripeTransferId, TopupId, TopupIntentId, TransferId};
use crate::domain::money::Currency;
use crate::domain::task::Kind;
use crate::flows::{
    self, Context, FlowError, apply_events, backfill, catch_up, forecast, fund_transfers, observe_transfer,
    project_account, reconcile, release_transfer, request_topup, resolve_link, reverse_transfer, track_topup,
    watch_balance, watch_platform,
};
use crate::store::tasks::Lease;

/// One piece of work: everything that was claimed about one subject.
#[derive(Debug)]
pub struct Work {
    /// What it is about.
    pub kind: Kind,
    /// Which one.
    pub subject: String,
    /// The events about it; empty for a timer.
    pub events: Vec<(String, OffsetDateTime)>,
    /// The right to do it.
    pub lease: Lease,
    /// Until when.
    pub leased_until: OffsetDateTime,
    /// How often it failed in a row.
    pub attempts: i32,
}

impl Work {
    /// An event's work, as against a timer's.
    pub fn of_events(&self) -> bool {
        !self.events.is_empty()
    }

    /// Whether it may store fresh events: those that Stripe tells of when it is asked.
    pub fn may_store_events(&self) -> bool {
        matches!(self.kind, Kind::Backfill | Kind::Reconcile)
    }
}

/// Does the work; returns when to do it again.
pub async fn run(ctx: &Context, work: &Work) -> Result<Option<OffsetDateTime>, FlowError> {
    let events = flows::events(ctx, &work.events).await?;
    let subject = work.subject.as_str();
    let no_id = |what: &str| FlowError::Unreadable(format!("the event names no {what}"));
    match work.kind {
        Kind::Account => {
            let id = AccountId::parse(subject).map_err(|_| no_id("account"))?;
            if work.of_events() {
                apply_events::alone(ctx, work.kind, subject, &events).await?;
                return Ok(None);
            }
            project_account::confirm(ctx, &id).await
        }
        Kind::Topup => {
            let id = TopupId::parse(subject).map_err(|_| no_id("top-up"))?;
            if work.of_events() {
                apply_events::alone(ctx, work.kind, subject, &events).await?;
                return Ok(None);
            }
            track_topup::look(ctx, &id).await
        }
        Kind::StripeTransfer => {
            let id = StripeTransferId::parse(subject).map_err(|_| no_id("transfer"))?;
            observe_transfer::apply(ctx, &id, &events).await?;
            Ok(None)
        }
        Kind::Transfer => {
            let id = TransferId::parse(subject).map_err(|_| no_id("transfer of ours"))?;
            release_transfer::advance(ctx, &work.lease, &id).await
        }
        Kind::Reversal => {
            let id = ReversalId::parse(subject).map_err(|_| no_id("reversal of ours"))?;
            reverse_transfer::advance(ctx, &work.lease, &id).await
        }
        Kind::Funds => {
            let currency = Currency::parse(subject).map_err(|_| no_id("currency"))?;
            fund_transfers::serve(ctx, currency).await?;
            Ok(None)
        }
        Kind::Balance => {
            if work.of_events() {
                watch_balance::wake(ctx).await?;
                return Ok(None);
            }
            watch_balance::read(ctx).await
        }
        Kind::Forecast => {
            let currency = Currency::parse(subject).map_err(|_| no_id("currency"))?;
            forecast::foresee(ctx, currency).await?;
            Ok(None)
        }
        Kind::Backfill => backfill::advance(ctx).await,
        Kind::Reconcile => reconcile::advance(ctx, subject).await,
        Kind::CatchUp => catch_up::advance(ctx).await,
        Kind::TopupIntent => {
            let id = TopupIntentId::parse(subject).map_err(|_| no_id("intent of ours"))?;
            request_topup::watch(ctx, &id).await
        }
        Kind::LinkReturn => {
            for id in resolve_link::whose(ctx, &events).await? {
                project_account::confirm_v2(ctx, &id).await?;
            }
            Ok(None)
        }
        Kind::Platform => {
            if work.of_events() {
                watch_platform::apply(ctx, &events).await?;
                return Ok(None);
            }
            watch_platform::look(ctx).await
        }
    }
}
