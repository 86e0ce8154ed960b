//! What is measured at each scrape: work that waits, money that waits, money that is there.

use std::time::{Duration, Instant};

use sqlx::types::time::OffsetDateTime;
use sqlx::{FromRow, PgPool};

use super::{Currency, StoreError};
use crate::domain::task::EVENTS;
use crate::store::platforms;
use crate::store::sweeps::{self, Sweep};

/// Tasks of one kind and state.
#[derive(Clone, Debug, FromRow)]
pub struct Tasks {
    /// What they are about.
    pub kind: String,
    /// `due`, `leased` or `later`.
    pub state: String,
    /// How many.
    pub count: i64,
}

/// Transfers that wait for one reason in one currency. One that waits for several is counted in each.
#[derive(Clone, Debug, FromRow)]
pub struct Waiting {
    /// The code.
    pub reason: String,
    /// The currency.
    pub currency: String,
    /// How many.
    pub count: i64,
    /// How much, in minor units.
    pub amount: i64,
}

/// Transfers of one status.
#[derive(Clone, Debug, FromRow)]
pub struct OfStatus {
    /// The status; not `released`, of which there are as many as were ever paid.
    pub status: String,
    /// How many.
    pub count: i64,
}

/// Transfers that were sent and have no definite outcome yet, those under way at the moment included.
#[derive(Clone, Copy, Debug, FromRow)]
pub struct Unknown {
    /// How many.
    pub count: i64,
    /// When the oldest was first sent.
    pub since: Option<OffsetDateTime>,
}

/// All of it.
#[derive(Clone, Debug)]
pub struct Gauges {
    /// When the oldest event that is not applied yet was received.
    pub oldest_due: Option<OffsetDateTime>,
    /// Every event that Stripe created up to then has been received or searched for.
    pub events_complete_to: Option<OffsetDateTime>,
    /// Events that failed.
    pub dead_letters: i64,
    /// Work.
    pub tasks: Vec<Tasks>,
    /// Transfers.
    pub waiting: Vec<Waiting>,
    /// Money.
    pub funds: Vec<Currency>,
    /// Orders for top-ups of which it is not known what came of them.
    pub unknown_topups: i64,
    /// Transfers, by status.
    pub statuses: Vec<OfStatus>,
    /// Transfers whose outcome is not known.
    pub unknown: Unknown,
    /// The emergency stop holds all releases.
    pub paused: bool,
    /// Nothing is released until Stripe's transfers were matched after a restore.
    pub catching_up: bool,
    /// When the service last kept its heartbeat.
    pub heartbeat: Option<OffsetDateTime>,
    /// The walks through Stripe's lists.
    pub sweeps: Vec<Sweep>,
    /// How long it took to get a connection.
    pub waited: Duration,
    /// Stripe pays the platform's own balance out by itself; none where that is not known.
    pub payouts_automatic: Option<bool>,
}

/// Measures.
pub async fn gauges(pool: &PgPool, livemode: bool, now: OffsetDateTime) -> Result<Gauges, StoreError> {
    const LAG: &str = "-- gauge_lag
        select (select received_at from tasks where event_id is not null and livemode = $1 order by id limit 1),
            (select count(*) from dead_letters)";
    const TASKS: &str = "-- gauge_tasks
        select kind, case when run_at <= $1 then 'due' when token is not null then 'leased' else 'later' end as state,
            count(*) as count
        from tasks group by 1, 2";
    const WAITING: &str = "-- gauge_waiting
        select reason, currency, count(*) as count, sum(amount)::bigint as amount
        from transfers, unnest(waiting_on) as w (reason)
        where livemode = $1 and status in ('waiting', 'releasing') group by 1, 2";
    const UNKNOWN: &str = "-- gauge_unknown_topups
        select count(*) from topup_intents where livemode = $1 and status = 'open'";
    // Those that are over are few, but for the released.
    const STATUSES: &str = "-- gauge_statuses
        select status, count(*) as count from transfers
        where livemode = $1 and status in ('waiting', 'releasing') group by status
        union all
        select status, count(*) from transfers
        where livemode = $1 and status in ('failed', 'canceled', 'reversed', 'partially_reversed') group by status";
    const UNKNOWN_TRANSFERS: &str = "-- gauge_unknown_transfers
        select count(*) as count, min(a.first_sent_at) as since
        from transfers t join attempts a on a.subject = t.id and a.n = t.generation
        where t.livemode = $1 and t.status = 'releasing' and a.sends > 0 and a.outcome is null";
    const STATE: &str = "-- gauge_state
        select coalesce((select paused from release_controls where livemode = $1), false),
            exists (select from heartbeats where livemode = $1 and catch_up_from is not null),
            (select at from heartbeats where livemode = $1)";
    let asked_at = Instant::now();
    let mut conn = pool.acquire().await?;
    let waited = asked_at.elapsed();
    let statuses = sqlx::query_as(STATUSES).bind(livemode).fetch_all(&mut *conn).await?;
    let unknown = sqlx::query_as(UNKNOWN_TRANSFERS).bind(livemode).fetch_one(&mut *conn).await?;
    let (paused, catching_up, heartbeat) = sqlx::query_as(STATE).bind(livemode).fetch_one(&mut *conn).await?;
    let sweeps = sweeps::list(&mut conn, livemode).await?;
    let unknown_topups = sqlx::query_scalar(UNKNOWN).bind(livemode).fetch_one(&mut *conn).await?;
    let (oldest_due, dead_letters) = sqlx::query_as(LAG).bind(livemode).fetch_one(&mut *conn).await?;
    let tasks = sqlx::query_as(TASKS).bind(now).fetch_all(&mut *conn).await?;
    let waiting = sqlx::query_as(WAITING).bind(livemode).fetch_all(&mut *conn).await?;
    let payouts_automatic = platforms::get(&mut conn, livemode).await?.payouts().automatic();
    drop(conn);
    let funds = super::funds(pool, livemode).await?.currencies;
    Ok(Gauges {
        oldest_due,
        statuses,
        unknown,
        paused,
        catching_up,
        heartbeat,
        events_complete_to: sweeps
            .iter()
            .find(|sweep| sweep.name == EVENTS)
            .and_then(|sweep| sweep.complete_to),
        sweeps,
        waited,
        dead_letters,
        tasks,
        waiting,
        funds,
        payouts_automatic,
        unknown_topups,
    })
}
