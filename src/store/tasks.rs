//! The bells: claim with a fencing token, finish, fail, ring.
//!
//! While a task is leased, `run_at` is the lease's end: a lease that ran out is simply a task that is due
//! again, and one index serves both.

use sqlx::types::Uuid;
use sqlx::types::time::OffsetDateTime;
use sqlx::{FromRow, PgConnection};

use super::db::{StoreError, column};
use crate::domain::task::Kind;

/// The channel on which processes tell each other that something is due.
pub const CHANNEL: &str = "sluicegate_tasks";

/// Tells all processes that something is due.
pub async fn announce(conn: &mut PgConnection) -> Result<(), StoreError> {
    announce_from(conn, "").await
}

/// The same, for one who listens and knows it already: `from` is what they know themselves by.
pub async fn announce_from(conn: &mut PgConnection, from: &str) -> Result<(), StoreError> {
    const SQL: &str = "-- announce
        select pg_notify($1, $2)";
    sqlx::query(SQL).bind(CHANNEL).bind(from).execute(conn).await?;
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

/// Claims what stands alone and is due in this mode, until `until`.
pub async fn claim_due(
    conn: &mut PgConnection,
    livemode: bool,
    token: Uuid,
    holder: i32,
    now: OffsetDateTime,
    until: OffsetDateTime,
    limit: i64,
) -> Result<Vec<Claimed>, StoreError> {
    const SQL: &str = "-- claim_due
        with due as materialized (
            select id from tasks where alone and livemode = $6 and run_at <= $1 order by run_at limit $2
            for update skip locked
        )
        update tasks set token = $3, holder = $5, run_at = $4, next_at = null from due where tasks.id = due.id
        returning tasks.id, kind, subject, livemode, event_id, event_created, attempts";
    let query = sqlx::query_as(SQL).bind(now).bind(limit).bind(token).bind(until).bind(holder).bind(livemode);
    Ok(query.fetch_all(conn).await?)
}

/// The first half of the advisory locks that processes hold for as long as they live.
const PRESENCE: i32 = 23_575;

/// Takes the lock that says this process lives, on a connection that is kept for nothing else. Postgres frees
/// it the moment the process dies, however it does. False where another process has this number.
pub async fn take_presence(conn: &mut PgConnection, holder: i32) -> Result<bool, StoreError> {
    const SQL: &str = "-- take_presence
        select pg_try_advisory_lock($1, $2)";
    Ok(sqlx::query_scalar(SQL).bind(PRESENCE).bind(holder).fetch_one(conn).await?)
}

/// Whether this connection still holds the lock of `holder`.
pub async fn keeps_presence(conn: &mut PgConnection, holder: i32) -> Result<bool, StoreError> {
    const SQL: &str = "-- keeps_presence
        select exists (select from pg_locks
            where locktype = 'advisory' and classid = $1::bigint::oid and objid = $2::bigint::oid and objsubid = 2
                and pid = pg_backend_pid())";
    let query = sqlx::query_scalar(SQL).bind(i64::from(PRESENCE)).bind(i64::from(holder));
    Ok(query.fetch_one(conn).await?)
}

/// Makes the tasks of processes that have died due at once; returns how many. Should one of them live after
/// all (it lost only its connection), its tokens are void and it can record nothing more for these tasks.
pub async fn void_orphans(conn: &mut PgConnection, now: OffsetDateTime) -> Result<u64, StoreError> {
    const SQL: &str = "-- void_orphans
        update tasks set token = null, holder = null, run_at = greatest(least(next_at, $1), not_before), next_at = null
        where token is not null and holder <> all (
            select objid::bigint::integer from pg_locks
            where locktype = 'advisory' and classid = $2::bigint::oid and objsubid = 2 and granted
                and database = (select oid from pg_database where datname = current_database()))";
    Ok(sqlx::query(SQL).bind(now).bind(i64::from(PRESENCE)).execute(conn).await?.rows_affected())
}

/// Whether the lease still holds; locks its rows, so that it holds until the transaction ends.
pub async fn hold(conn: &mut PgConnection, lease: &Lease, now: OffsetDateTime) -> Result<bool, StoreError> {
    const SQL: &str = "-- hold
        select id from tasks where id = any ((select $1::bigint[])::bigint[]) and token = $2 and run_at > $3 order by id for update";
    let held: Vec<i64> =
        sqlx::query_scalar(SQL).bind(&lease.ids).bind(lease.token).bind(now).fetch_all(conn).await?;
    Ok(held.len() == lease.ids.len())
}

/// Which of these leases still hold, in their order; locks their rows like [`hold`]. One whose row somebody else has
/// locked counts as not held: whoever locks many must not wait for another who does.
pub async fn hold_each(
    conn: &mut PgConnection,
    leases: &[&Lease],
    now: OffsetDateTime,
) -> Result<Vec<bool>, StoreError> {
    const SQL: &str = "-- hold_each
        select t.id from unnest($1::bigint[], $2::uuid[]) as l (id, token) join tasks t using (id, token)
        where t.run_at > $3 order by t.id for update of t skip locked";
    let (ids, tokens): (Vec<i64>, Vec<Uuid>) =
        leases.iter().flat_map(|lease| lease.ids.iter().map(|id| (*id, lease.token))).unzip();
    let held: Vec<i64> = sqlx::query_scalar(SQL).bind(ids).bind(tokens).bind(now).fetch_all(conn).await?;
    Ok(leases.iter().map(|lease| lease.ids.iter().all(|id| held.contains(id))).collect())
}

/// Ends the work: the rows go, unless they were rung again meanwhile or are to run `again_at`. False when
/// the lease was lost, in which case nothing changes.
pub async fn finish(
    conn: &mut PgConnection,
    lease: &Lease,
    again_at: Option<OffsetDateTime>,
    now: OffsetDateTime,
) -> Result<bool, StoreError> {
    // The rows are locked first: a ring that came in while this statement waited is then seen by both halves.
    const SQL: &str = "-- finish
        with held as materialized (
            select id, least(next_at, $4) as again_at from tasks
            where id = any ((select $1::bigint[])::bigint[]) and token = $2 and run_at > $3 order by id for update
        ), gone as (
            delete from tasks using held where tasks.id = held.id and held.again_at is null returning tasks.id
        ), again as (
            update tasks set token = null, holder = null, run_at = held.again_at, next_at = null, attempts = 0, failure = null,
                not_before = null
            from held where tasks.id = held.id and held.again_at is not null returning tasks.id
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

/// How a claimed row ends.
#[derive(Clone, Copy, Debug)]
pub struct End {
    /// The row.
    pub id: i64,
    /// What fences off whoever held it before.
    pub token: Uuid,
    /// When it is to run again; otherwise it goes, unless it was rung meanwhile.
    pub again_at: Option<OffsetDateTime>,
}

/// Ends the work on many rows like [`finish`]; tells of each whether it was ended. One whose lease was lost is not, nor
/// is one that somebody else has locked: whoever locks many must not wait for another who does.
pub async fn finish_each(
    conn: &mut PgConnection,
    ends: &[End],
    now: OffsetDateTime,
) -> Result<Vec<bool>, StoreError> {
    const SQL: &str = "-- finish_each
        with held as materialized (
            select t.id, least(t.next_at, e.again_at) as again_at
            from unnest($1::bigint[], $2::uuid[], $3::timestamptz[]) as e (id, token, again_at) join tasks t using (id, token)
            where t.run_at > $4 order by t.id for update of t skip locked
        ), gone as (
            delete from tasks using held where tasks.id = held.id and held.again_at is null returning tasks.id
        ), again as (
            update tasks set token = null, holder = null, run_at = held.again_at, next_at = null, attempts = 0, failure = null,
                not_before = null
            from held where tasks.id = held.id and held.again_at is not null returning tasks.id
        )
        select id from gone union all select id from again";
    let done: Vec<i64> = sqlx::query_scalar(SQL)
        .bind(column(ends, |end| end.id))
        .bind(column(ends, |end| end.token))
        .bind(column(ends, |end| end.again_at))
        .bind(now)
        .fetch_all(conn)
        .await?;
    Ok(ends.iter().map(|end| done.contains(&end.id)).collect())
}

/// Gives the rows back after a failure, due again at `run_at` or when they are rung, but never before
/// `not_before`: Stripe asked to be left alone until then.
pub async fn fail(
    conn: &mut PgConnection,
    lease: &Lease,
    reason: &str,
    run_at: OffsetDateTime,
    not_before: Option<OffsetDateTime>,
) -> Result<(), StoreError> {
    const SQL: &str = "-- fail
        update tasks set token = null, holder = null, run_at = greatest(least(next_at, $3), $5), next_at = null,
            not_before = $5, attempts = attempts + 1, failure = $4
        where id = any ((select $1::bigint[])::bigint[]) and token = $2";
    let query = sqlx::query(SQL).bind(&lease.ids).bind(lease.token).bind(run_at).bind(reason);
    query.bind(not_before).execute(conn).await?;
    Ok(())
}

/// Gives untouched rows back at once, for a shutdown.
pub async fn give_back(
    conn: &mut PgConnection,
    lease: &Lease,
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    const SQL: &str = "-- give_back
        update tasks set token = null, holder = null, run_at = greatest(least(next_at, $3), not_before), next_at = null
        where id = any ((select $1::bigint[])::bigint[]) and token = $2";
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
            delete from tasks where id = any ((select $1::bigint[])::bigint[]) and token = $2 and event_id is not null
            returning id, kind, subject, livemode, event_id, event_created, attempts
        )
        insert into dead_letters (id, kind, subject, livemode, event_id, event_created, attempts, reason, died_at)
        select id, kind, subject, livemode, event_id, event_created, attempts + 1, $3, $4 from dead";
    sqlx::query(SQL).bind(&lease.ids).bind(lease.token).bind(reason).bind(now).execute(conn).await?;
    Ok(())
}

/// Rings the timers of these subjects. A subject that is being worked on runs again afterwards. A timer that is due
/// early enough is only locked, so that nobody takes it before this transaction has ended: that costs no write.
pub async fn ring(
    conn: &mut PgConnection,
    kind: Kind,
    livemode: bool,
    subjects: &[&str],
    at: OffsetDateTime,
) -> Result<(), StoreError> {
    ring_each(conn, kind, livemode, subjects, &vec![at; subjects.len()]).await
}

/// The same, each at a time of its own.
pub async fn ring_each(
    conn: &mut PgConnection,
    kind: Kind,
    livemode: bool,
    subjects: &[&str],
    times: &[OffsetDateTime],
) -> Result<(), StoreError> {
    const SQL: &str = "-- ring
        insert into tasks (kind, subject, livemode, run_at)
        select $1, subject, $2, at from unnest($3::text[], $4::timestamptz[]) as s (subject, at) order by subject
        on conflict (kind, subject, livemode) where event_id is null do update set
            run_at = case when tasks.token is null then greatest(least(tasks.run_at, excluded.run_at), tasks.not_before) else tasks.run_at end,
            next_at = case when tasks.token is null then null else least(tasks.next_at, excluded.run_at) end
        where case when tasks.token is null then tasks.run_at > excluded.run_at
            else tasks.next_at is null or tasks.next_at > excluded.run_at end";
    if subjects.is_empty() {
        return Ok(());
    }
    sqlx::query(SQL).bind(kind.as_str()).bind(livemode).bind(subjects).bind(times).execute(conn).await?;
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
            run_at = case when tasks.token is null then greatest(least(tasks.run_at, excluded.run_at), tasks.not_before) else tasks.run_at end,
            next_at = case when tasks.token is null then null else least(tasks.next_at, excluded.run_at) end
        where case when tasks.token is null then tasks.run_at > excluded.run_at
            else tasks.next_at is null or tasks.next_at > excluded.run_at end";
    sqlx::query(SQL).bind(livemode).bind(at).execute(conn).await?;
    Ok(())
}

/// Puts an event's task back: a dead letter, or one that is to be applied once more. False when the event
/// is not there or is ignored; true also when its task is there already: one that
/// was to be tried later is tried now.
pub async fn replay(
    conn: &mut PgConnection,
    livemode: bool,
    event_id: &str,
    now: OffsetDateTime,
) -> Result<bool, StoreError> {
    const SQL: &str = "-- replay
        with event as (
            select seq, subject_kind, subject, livemode, event_id, created, received_at from outbox
            where event_id = $1 and livemode = $3 and kind <> 'observation' and ignored is null
        ), raised as (
            delete from dead_letters where event_id = $1 and livemode = $3
        ), rung as (
            insert into tasks (id, kind, subject, livemode, event_id, event_created, received_at, run_at)
            select seq, subject_kind, subject, livemode, event_id, created, received_at, $2 from event
            on conflict (id) do update set attempts = 0,
                run_at = greatest(least(tasks.run_at, excluded.run_at), tasks.not_before)
                where tasks.token is null
        )
        select count(*) from event";
    let found: i64 = sqlx::query_scalar(SQL).bind(event_id).bind(now).bind(livemode).fetch_one(conn).await?;
    Ok(found > 0)
}

/// When the next task of this mode that stands alone is due, if there is any.
pub async fn next_due(conn: &mut PgConnection, livemode: bool) -> Result<Option<OffsetDateTime>, StoreError> {
    const SQL: &str = "-- next_due
        select min(run_at) from tasks where alone and livemode = $1";
    Ok(sqlx::query_scalar(SQL).bind(livemode).fetch_one(conn).await?)
}
