//! Fresh events among the tasks: taken many at a time under row locks, without leases. Those that can't be applied like
//! this are left to who works on one subject at a time.

use sqlx::types::time::OffsetDateTime;
use sqlx::{FromRow, PgConnection};

use super::db::StoreError;

/// A fresh event's task.
#[derive(Clone, Debug, FromRow)]
pub struct Fresh {
    /// Its id, the event's seq.
    pub id: i64,
    /// What it is about.
    pub kind: String,
    /// Which one.
    pub subject: String,
    /// The event's `created`.
    pub event_created: OffsetDateTime,
    /// When it came.
    pub received_at: Option<OffsetDateTime>,
    /// How large its payload is.
    pub bytes: Option<i32>,
}

/// Which fresh events somebody takes.
#[derive(Clone, Debug)]
pub struct Wanted<'a> {
    /// Of live or test mode.
    pub livemode: bool,
    /// Of these kinds.
    pub kinds: &'a [&'a str],
    /// Only of subjects in this part of so many, counted from 0: by the code of their last character.
    pub part: (i32, i32),
}

/// Takes fresh events in the order of their ids, from `from_id` on, and locks their rows; those that another
/// transaction works on are passed over. They are done when they are gone at the end of the transaction.
///
/// The scan begins where the caller knows that nothing is left before: while some old transaction keeps the deleted
/// rows from being cleared away, a scan from the start would walk over all of them.
pub async fn claim(
    conn: &mut PgConnection,
    wanted: &Wanted<'_>,
    now: OffsetDateTime,
    from_id: i64,
    limit: i64,
) -> Result<Vec<Fresh>, StoreError> {
    const SQL: &str = "-- claim_fresh
        select id, kind, subject, event_created, received_at, bytes from tasks
        where id >= $3 and livemode = $1 and not alone and token is null and run_at <= $5
            and kind = any ((select $2::text[])::text[])
            and ($7 = 1 or ascii(right(subject, 1)) % $7 = $6)
        order by id limit $4 for update skip locked";
    let rows = sqlx::query_as(SQL)
        .bind(wanted.livemode)
        .bind(wanted.kinds)
        .bind(from_id)
        .bind(limit)
        .bind(now)
        .bind(wanted.part.0)
        .bind(wanted.part.1);
    Ok(rows.fetch_all(conn).await?)
}

/// The highest id there is.
pub async fn find_newest_id(conn: &mut PgConnection) -> Result<Option<i64>, StoreError> {
    const SQL: &str = "-- find_newest_id
        select max(id) from tasks";
    Ok(sqlx::query_scalar(SQL).fetch_one(conn).await?)
}

/// Ends the work on fresh events whose rows this transaction has locked.
pub async fn finish(conn: &mut PgConnection, ids: &[i64]) -> Result<(), StoreError> {
    const SQL: &str = "-- finish_fresh
        delete from tasks where id = any ((select $1::bigint[])::bigint[])";
    if !ids.is_empty() {
        sqlx::query(SQL).bind(ids).execute(conn).await?;
    }
    Ok(())
}

/// Puts fresh events off whose rows this transaction has locked: they are taken again from `until` on.
pub async fn put_off(conn: &mut PgConnection, ids: &[i64], until: OffsetDateTime) -> Result<(), StoreError> {
    const SQL: &str = "-- put_fresh_off
        update tasks set run_at = $2 where id = any ((select $1::bigint[])::bigint[])";
    if !ids.is_empty() {
        sqlx::query(SQL).bind(ids).bind(until).execute(conn).await?;
    }
    Ok(())
}

/// Leaves fresh events to those who work with a lease, due at once. What is gone or leased by then stays so.
pub async fn leave_alone(
    conn: &mut PgConnection,
    ids: &[i64],
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    const SQL: &str = "-- leave_alone
        update tasks set alone = true, run_at = least(run_at, $2) where id = any ((select $1::bigint[])::bigint[]) and token is null";
    if !ids.is_empty() {
        sqlx::query(SQL).bind(ids).bind(now).execute(conn).await?;
    }
    Ok(())
}
