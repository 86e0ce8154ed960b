//! What is measured at each scrape: work that waits, money that waits, money that is there.

use sqlx::types::time::OffsetDateTime;
use sqlx::{FromRow, PgPool};

use super::{Currency, StoreError};
use crate::store::platforms;

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
    /// Stripe pays the platform's own balance out by itself; none where that is not known.
    pub payouts_automatic: Option<bool>,
}

/// Measures.
pub async fn gauges(pool: &PgPool, livemode: bool, now: OffsetDateTime) -> Result<Gauges, StoreError> {
    const LAG: &str = "-- gauge_lag
        select (select received_at from tasks where event_id is not null and livemode = $1 order by id limit 1),
            (select count(*) from dead_letters),
            (select complete_to from sweeps where livemode = $1 and name = 'events')";
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
    let mut conn = pool.acquire().await?;
    let unknown_topups = sqlx::query_scalar(UNKNOWN).bind(livemode).fetch_one(&mut *conn).await?;
    let (oldest_due, dead_letters, events_complete_to) =
        sqlx::query_as(LAG).bind(livemode).fetch_one(&mut *conn).await?;
    let tasks = sqlx::query_as(TASKS).bind(now).fetch_all(&mut *conn).await?;
    let waiting = sqlx::query_as(WAITING).bind(livemode).fetch_all(&mut *conn).await?;
    let payouts_automatic = platforms::get(&mut conn, livemode).await?.payouts().automatic();
    drop(conn);
    let funds = super::funds(pool, livemode).await?.currencies;
    Ok(Gauges {
        oldest_due,
        events_complete_to,
        dead_letters,
        tasks,
        waiting,
        funds,
        payouts_automatic,
        unknown_topups,
    })
}
