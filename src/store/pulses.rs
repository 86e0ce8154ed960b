//! How the intake went, minute by minute.

use sqlx::types::time::OffsetDateTime;
use sqlx::{FromRow, PgConnection};

use super::db::StoreError;

/// One minute.
#[derive(Clone, Debug, PartialEq, Eq, FromRow)]
pub struct Pulse {
    /// Which.
    pub minute: OffsetDateTime,
    /// Deliveries stored.
    pub events: i64,
    /// How long the oldest event that was not applied yet had waited, in milliseconds.
    pub lag_ms: i64,
    /// Events that could not be applied.
    pub dead_letters: i64,
}

/// Notes this minute, unless somebody did; counts what was received since the last one, but not before `since`.
pub async fn note_once(
    conn: &mut PgConnection,
    livemode: bool,
    minute: OffsetDateTime,
    since: OffsetDateTime,
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    const DEAD: &str = "-- count_dead_letters
        select count(*) from dead_letters where livemode = $1";
    const SQL: &str = "-- note_pulse_once
        with newest as (select seq from outbox order by seq desc limit 1),
        last as (select up_to_seq from event_minutes where livemode = $1 order by minute desc limit 1),
        bounds as (select coalesce((select up_to_seq from last), (select seq from newest), 0) as above,
            coalesce((select seq from newest), 0) as up_to)
        insert into event_minutes (livemode, minute, events, lag_ms, dead_letters, up_to_seq)
        select $1, $2,
            (select count(*) from outbox o
                where o.seq > b.above and o.seq <= b.up_to and o.livemode = $1 and o.source = 'webhook'
                    and o.received_at >= $3),
            coalesce((select greatest(extract(epoch from $4 - t.received_at) * 1000, 0)::bigint from tasks t
                where t.event_id is not null and t.livemode = $1 order by t.id limit 1), 0),
            $5, b.up_to
        from bounds b
        on conflict do nothing";
    let dead: i64 = sqlx::query_scalar(DEAD).bind(livemode).fetch_one(&mut *conn).await?;
    sqlx::query(SQL).bind(livemode).bind(minute).bind(since).bind(now).bind(dead).execute(conn).await?;
    Ok(())
}

/// Forgets minutes from before.
pub async fn delete_before(conn: &mut PgConnection, before: OffsetDateTime) -> Result<(), StoreError> {
    const SQL: &str = "-- delete_pulses_before
        delete from event_minutes where minute < $1";
    sqlx::query(SQL).bind(before).execute(conn).await?;
    Ok(())
}

/// The minutes since, oldest first; a thousand at most.
pub async fn list_since(
    conn: &mut PgConnection,
    livemode: bool,
    since: OffsetDateTime,
) -> Result<Vec<Pulse>, StoreError> {
    const SQL: &str = "-- list_pulses_since
        select minute, events, lag_ms, dead_letters from event_minutes
        where livemode = $1 and minute >= $2 order by minute limit 1000";
    Ok(sqlx::query_as(SQL).bind(livemode).bind(since).fetch_all(conn).await?)
}
