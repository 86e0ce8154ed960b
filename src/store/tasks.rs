//! The bells: claim with a fencing token, finish, fail, ring.
//!
//! While a task is leased, `run_at` is the lease's end: a lease that ran out is simply a task that is due
//! again, and one index serves both.

use sqlx::types::Uuid;
use sqlx::types::time::OffsetDateTime;
use sqlx::{FromRow, PgConnection};

use super::db::StoreError;
use crate::domain::task::Kind;

/// The channel on which processes tell each other that something is due.
pub const CHANNEL: &str = "sluicegate_tasks";

/// Tells other processes that something is due.
pub async fn announce(conn: &mut PgConnection) -> Result<(), StoreError> {
    const SQL: &str = "-- announce
        select pg_notify($1, '')";
    sqlx::query(SQL).bind(CHANNEL).execute(conn).await?;
    Ok(())
}

/// A claimed task.
#[derive(Clone, Debug, FromRow)]
pub struct Claimed {
    /// Its id; for an event's task, the event's seq.
    pub id: i64,
    /// What it is about.
    pub kind: String,
    /// Which one.
    pub subject: String,
    /// Live or test mode.
    pub livemode: bool,
    /// The event's id; none for a timer.
    pub event_id: Option<String>,
    /// The event's `created`.
    pub event_created: Option<OffsetDateTime>,
    /// How often it failed in a row.
    pub attempts: i32,
}

/// The right to work on some tasks for a while.
#[derive(Clone, Debug)]
pub struct Lease {
    /// The claimed rows.
    pub ids: Vec<i64>,
    /// What fences off whoever held them before.
    pub token: Uuid,
}

/// Claims what is due, until `until`.
pub async fn claim_due(
    conn: &mut PgConnection,
    token: Uuid,
    now: OffsetDateTime,
    until: OffsetDateTime,
    limit: i64,
) -> Result<Vec<Claimed>, StoreError> {
    const SQL: &str = "-- claim_due
        with due as materialized (
            select id from tasks where run_at <= $1 order by run_at limit $2 for update skip locked
        )
        update tasks set token = $3, run_at = $4, next_at = null from due where tasks.id = due.id
        returning tasks.id, kind, subject, livemode, event_id, event_created, attempts";
    Ok(sqlx::query_as(SQL).bind(now).bind(limit).bind(token).bind(until).fetch_all(conn).await?)
}

/// Whether the lease still holds; locks its rows, so that it holds until the transaction ends.
pub async fn hold(conn: &mut PgConnection, lease: &Lease, now: OffsetDateTime) -> Result<bool, StoreError> {
    const SQL: &str = "-- hold
        select id from tasks where id = any($1) and token = $2 and run_at > $3 order by id for update";
    let held: Vec<i64> =
        sqlx::query_scalar(SQL).bind(&lease.ids).bind(lease.token).bind(now).fetch_all(conn).await?;
    Ok(held.len() == lease.ids.len())
}

/// Ends the work: the rows go, unless they were rung again meanwhile or are to run `again_at`. False when
/// the lease was lost, in which case nothing changes.
pub async fn finish(
    conn: &mut PgConnection,
    lease: &Lease,
    again_at: Option<OffsetDateTime>,
    now: OffsetDateTime,
) -> Result<bool, StoreError> {
    const SQL: &str = "-- finish
        with gone as (
            delete from tasks where id = any($1) and token = $2 and run_at > $3
                and next_at is null and $4::timestamptz is null returning id
        ), again as (
            update tasks set token = null, run_at = least(next_at, $4), next_at = null, attempts = 0, failure = null
            where id = any($1) and token = $2 and run_at > $3 and (next_at is not null or $4 is not null)
            returning id
        )
        select (select count(*) from gone) + (select count(*) from again)";
    let done: i64 = sqlx::query_scalar(SQL)
        .bind(&lease.ids)
        .bind(lease.token)
        .bind(now)
        .bind(again_at)
        .fetch_one(conn)
        .await?;
    Ok(usize::try_from(done).is_ok_and(|done| done == lease.ids.len()))
}

/// Gives the rows back after a failure, due again at `run_at` or when they were rung meanwhile.
pub async fn fail(
    conn: &mut PgConnection,
    lease: &Lease,
    reason: &str,
    run_at: OffsetDateTime,
) -> Result<(), StoreError> {
    const SQL: &str = "-- fail
        update tasks set token = null, run_at = least(next_at, $3), next_at = null, attempts = attempts + 1,
            failure = $4
        where id = any($1) and token = $2";
    sqlx::query(SQL).bind(&lease.ids).bind(lease.token).bind(run_at).bind(reason).execute(conn).await?;
    Ok(())
}

/// Gives untouched rows back at once, for a shutdown.
pub async fn give_back(
    conn: &mut PgConnection,
    lease: &Lease,
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    const SQL: &str = "-- give_back
        update tasks set token = null, run_at = least(next_at, $3), next_at = null
        where id = any($1) and token = $2";
    sqlx::query(SQL).bind(&lease.ids).bind(lease.token).bind(now).execute(conn).await?;
    Ok(())
}

/// Moves events that can't be applied out of the way, with the reason.
pub async fn bury(
    conn: &mut PgConnection,
    lease: &Lease,
    reason: &str,
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    const SQL: &str = "-- bury
        with dead as (
            delete from tasks where id = any($1) and token = $2 and event_id is not null
            returning id, kind, subject, livemode, event_id, event_created, attempts
        )
        insert into dead_letters (id, kind, subject, livemode, event_id, event_created, attempts, reason, died_at)
        select id, kind, subject, livemode, event_id, event_created, attempts + 1, $3, $4 from dead";
    sqlx::query(SQL).bind(&lease.ids).bind(lease.token).bind(reason).bind(now).execute(conn).await?;
    Ok(())
}

/// Rings the timers of these subjects. A subject that is being worked on runs again afterwards.
pub async fn ring(
    conn: &mut PgConnection,
    kind: Kind,
    livemode: bool,
    subjects: &[&str],
    at: OffsetDateTime,
) -> Result<(), StoreError> {
    const SQL: &str = "-- ring
        insert into tasks (kind, subject, livemode, run_at)
        select $1, subject, $2, $3 from unnest($4::text[]) as s (subject) order by subject
        on conflict (kind, subject, livemode) where event_id is null do update set
            run_at = case when tasks.token is null then least(tasks.run_at, excluded.run_at) else tasks.run_at end,
            next_at = case when tasks.token is null then null else least(tasks.next_at, excluded.run_at) end";
    if subjects.is_empty() {
        return Ok(());
    }
    sqlx::query(SQL).bind(kind.as_str()).bind(livemode).bind(at).bind(subjects).execute(conn).await?;
    Ok(())
}

/// Rings every transfer that waits or is under way: a rule or the emergency stop changed.
pub async fn ring_open_transfers(
    conn: &mut PgConnection,
    livemode: bool,
    at: OffsetDateTime,
) -> Result<(), StoreError> {
    const SQL: &str = "-- ring_open_transfers
        insert into tasks (kind, subject, livemode, run_at)
        select 'transfer', id, livemode, $2 from transfers
        where livemode = $1 and status in ('waiting', 'releasing') order by id
        on conflict (kind, subject, livemode) where event_id is null do update set
            run_at = case when tasks.token is null then least(tasks.run_at, excluded.run_at) else tasks.run_at end,
            next_at = case when tasks.token is null then null else least(tasks.next_at, excluded.run_at) end";
    sqlx::query(SQL).bind(livemode).bind(at).execute(conn).await?;
    Ok(())
}

/// Puts an event's task back: a dead letter, or one that is to be applied once more. False when the event
/// is not there or is ignored; true also when its task is already due.
pub async fn replay(
    conn: &mut PgConnection,
    event_id: &str,
    now: OffsetDateTime,
) -> Result<bool, StoreError> {
    const SQL: &str = "-- replay
        with event as (
            select seq, subject_kind, subject, livemode, event_id, created from outbox
            where event_id = $1 and kind <> 'observation' and ignored is null
        ), raised as (
            delete from dead_letters where event_id = $1
        ), rung as (
            insert into tasks (id, kind, subject, livemode, event_id, event_created, run_at)
            select seq, subject_kind, subject, livemode, event_id, created, $2 from event
            on conflict (id) do nothing
        )
        select count(*) from event";
    let found: i64 = sqlx::query_scalar(SQL).bind(event_id).bind(now).fetch_one(conn).await?;
    Ok(found > 0)
}

/// When the next task is due, if there is any.
pub async fn next_due(conn: &mut PgConnection) -> Result<Option<OffsetDateTime>, StoreError> {
    const SQL: &str = "-- next_due
        select min(run_at) from tasks";
    Ok(sqlx::query_scalar(SQL).fetch_one(conn).await?)
}
