//! Events of types that nobody handled when they came: found by type, and told apart once they are understood.

use sqlx::types::time::OffsetDateTime;
use sqlx::{FromRow, PgConnection};

use super::db::StoreError;

/// An event that was stored and not understood.
#[derive(Clone, Debug, FromRow)]
pub struct Unhandled {
    /// Stripe's id.
    pub event_id: String,
    /// Its own `created`.
    pub created: OffsetDateTime,
    /// Order of receipt.
    pub seq: i64,
    /// The raw bytes.
    pub payload: Vec<u8>,
}

/// The types of which there are such events; an index walk from one to the next, however many there are of each.
pub async fn list_types(conn: &mut PgConnection, livemode: bool) -> Result<Vec<String>, StoreError> {
    const SQL: &str = "-- list_unhandled_types
        with recursive types (type) as (
            (select type from outbox where ignored = 'unhandled_type' and livemode = $1 order by type limit 1)
            union all
            select (select o.type from outbox o
                    where o.ignored = 'unhandled_type' and o.livemode = $1 and o.type > t.type order by o.type limit 1)
            from types t where t.type is not null
        )
        select type from types where type is not null";
    Ok(sqlx::query_scalar(SQL).bind(livemode).fetch_all(conn).await?)
}

/// The next events of a type, in order of receipt, at most `limit` and no further one once there are `bytes` of
/// payloads; those that another process looks at are left to it.
pub async fn claim_next(
    conn: &mut PgConnection,
    livemode: bool,
    event_type: &str,
    after_seq: i64,
    limit: i64,
    bytes: i64,
) -> Result<Vec<Unhandled>, StoreError> {
    const SQL: &str = "-- claim_next_unhandled
        with next as materialized (
            select event_id, created, seq, octet_length(payload) as bytes from outbox
            where ignored = 'unhandled_type' and livemode = $1 and type = $2 and seq > $3
            order by seq limit $4 for update skip locked
        ), measured as materialized (
            select event_id, created, sum(bytes) over (order by seq) - bytes as bytes_before from next
        )
        select o.event_id, o.created, o.seq, o.payload from measured join outbox o using (event_id, created)
        where bytes_before < $5 order by o.seq";
    let rows = sqlx::query_as(SQL).bind(livemode).bind(event_type).bind(after_seq).bind(limit).bind(bytes);
    Ok(rows.fetch_all(conn).await?)
}

/// Writes down what an event is now understood to be, and rings for it where it is to be acted on.
pub async fn understand(
    conn: &mut PgConnection,
    event: &Unhandled,
    subject_kind: Option<&str>,
    subject: Option<&str>,
    ignored: Option<&str>,
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    const SQL: &str = "-- understand
        with understood as (
            update outbox set subject_kind = $3, subject = $4, ignored = $5
            where event_id = $1 and created = $2
            returning seq, subject_kind, subject, livemode, event_id, created, received_at, ignored
        )
        insert into tasks (id, kind, subject, livemode, event_id, event_created, received_at, run_at, alone)
        select seq, subject_kind, subject, livemode, event_id, created, received_at, $6, false from understood
        where ignored is null";
    sqlx::query(SQL)
        .bind(&event.event_id)
        .bind(event.created)
        .bind(subject_kind)
        .bind(subject)
        .bind(ignored)
        .bind(now)
        .execute(conn)
        .await?;
    Ok(())
}
