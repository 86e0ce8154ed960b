//! What the bench does to a database of its own, and reads from it: nothing here is run on a database that matters.

use sqlx::types::time::OffsetDateTime;
use sqlx::{AssertSqlSafe, Connection, Executor, FromRow, PgConnection};

use super::db::StoreError;

/// Sets a parameter of the whole server, for its next start. Both are plain words.
pub async fn set_server(conn: &mut PgConnection, name: &str, value: &str) -> Result<(), StoreError> {
    let statement = format!("-- set_server\nalter system set {name} = '{value}'");
    sqlx::query(AssertSqlSafe(statement)).execute(conn).await?;
    Ok(())
}

/// What the figures depend on.
#[derive(Clone, Debug, FromRow)]
pub struct Server {
    /// Like `15.14`.
    pub version: String,
    /// Like `1GB`.
    pub shared_buffers: String,
    /// Connections it lets in at once.
    pub max_connections: i32,
    /// Whether a commit waits for the disk.
    pub durable: bool,
    /// Our own backend's process.
    pub backend: i32,
}

/// The server's version and settings.
pub async fn get_server(conn: &mut PgConnection) -> Result<Server, StoreError> {
    const SQL: &str = "-- get_server
        select split_part(current_setting('server_version'), ' ', 1) as version,
            current_setting('shared_buffers') as shared_buffers,
            current_setting('max_connections')::integer as max_connections,
            current_setting('fsync')::boolean and current_setting('synchronous_commit') <> 'off'
                and current_setting('full_page_writes')::boolean as durable,
            pg_backend_pid() as backend";
    Ok(sqlx::query_as(SQL).fetch_one(conn).await?)
}

/// How many bytes of log the server has written since it was made.
pub async fn get_wal_bytes(conn: &mut PgConnection) -> Result<i64, StoreError> {
    const SQL: &str = "-- get_wal_bytes
        select (pg_current_wal_lsn() - '0/0'::pg_lsn)::bigint";
    Ok(sqlx::query_scalar(SQL).fetch_one(conn).await?)
}

/// How many bytes the database takes on disk.
pub async fn get_size(conn: &mut PgConnection) -> Result<i64, StoreError> {
    const SQL: &str = "-- get_size
        select pg_database_size(current_database())";
    Ok(sqlx::query_scalar(SQL).fetch_one(conn).await?)
}

/// The table that the yardsticks insert into: the same payload, compressed alike, and a key that refuses duplicates.
pub async fn make_yardstick(conn: &mut PgConnection) -> Result<(), StoreError> {
    const SQL: &str = "-- make_yardstick
        create table yardstick (id text primary key, payload bytea not null)";
    const COMPRESS: &str = "-- compress_yardstick
        do $$ begin
            execute 'alter table yardstick alter column payload set compression lz4';
        exception when undefined_table or feature_not_supported then null;
        end $$";
    conn.execute(SQL).await?;
    conn.execute(COMPRESS).await?;
    Ok(())
}

/// Whether an event waits to be applied.
pub async fn has_unapplied(conn: &mut PgConnection) -> Result<bool, StoreError> {
    const SQL: &str = "-- has_unapplied
        select exists (select from tasks where event_id is not null)";
    Ok(sqlx::query_scalar(SQL).fetch_one(conn).await?)
}

/// How many events wait to be applied.
pub async fn count_unapplied(conn: &mut PgConnection) -> Result<i64, StoreError> {
    const SQL: &str = "-- count_unapplied_in_trial
        select count(*) from tasks where event_id is not null";
    Ok(sqlx::query_scalar(SQL).fetch_one(conn).await?)
}

/// Whether anything is due, or being done.
pub async fn is_busy(conn: &mut PgConnection, now: OffsetDateTime) -> Result<bool, StoreError> {
    const SQL: &str = "-- is_busy
        select exists (select from tasks where run_at <= $1 or token is not null)";
    Ok(sqlx::query_scalar(SQL).bind(now).fetch_one(conn).await?)
}

/// Every so many-th of the waiting bells, in order: how many of them are gone tells how far the work has come, for
/// the price of a few index look-ups.
pub async fn list_marks(conn: &mut PgConnection, every: i64) -> Result<Vec<i64>, StoreError> {
    const SQL: &str = "-- list_marks
        select id from (
            select id, row_number() over (order by run_at, id) as place from tasks where event_id is not null
        ) as waiting where place % $1 = 0 order by place";
    Ok(sqlx::query_scalar(SQL).bind(every).fetch_all(conn).await?)
}

/// How many of these bells are still there: those about accounts, and all others.
pub async fn count_marks(conn: &mut PgConnection, marks: &[i64]) -> Result<(i64, i64), StoreError> {
    const SQL: &str = "-- count_marks
        select count(*) filter (where kind = 'account'), count(*) filter (where kind <> 'account')
        from tasks where id = any($1)";
    Ok(sqlx::query_as(SQL).bind(marks).fetch_one(conn).await?)
}

/// Takes all bells away, so that the next measure begins without.
pub async fn clear_bells(conn: &mut PgConnection) -> Result<(), StoreError> {
    const SQL: &str = "-- clear_bells
        truncate tasks";
    sqlx::query(SQL).execute(conn).await?;
    Ok(())
}

/// How many transfers have gone out.
pub async fn count_released(conn: &mut PgConnection) -> Result<i64, StoreError> {
    const SQL: &str = "-- count_released
        select count(*) from transfers where status = 'released'";
    Ok(sqlx::query_scalar(SQL).fetch_one(conn).await?)
}

/// Makes `count` accounts like the given one, named `prefix` and ten digits from 1; returns how many were new.
pub async fn multiply_account(
    conn: &mut PgConnection,
    like: &str,
    prefix: &str,
    count: i64,
) -> Result<u64, StoreError> {
    const SQL: &str = "-- multiply_account
        insert into accounts
        select made.* from accounts a, generate_series(1, $3) as n,
            jsonb_populate_record(a, jsonb_build_object('account', $2 || lpad(n::text, 10, '0'))) as made
        where a.account = $1
        on conflict do nothing";
    Ok(sqlx::query(SQL).bind(like).bind(prefix).bind(count).execute(conn).await?.rows_affected())
}

/// Stored events to make, which were applied long ago.
#[derive(Clone, Debug)]
pub struct Past<'a> {
    /// The numbers of the events, both ends included; their ids follow from them.
    pub numbers: (i64, i64),
    /// The oldest `created`.
    pub from: OffsetDateTime,
    /// How many seconds the others are spread over.
    pub over_s: i64,
    /// One body of each kind.
    pub payloads: &'a [Vec<u8>],
    /// The type of each.
    pub types: &'a [String],
    /// Which of them each of a round of events is made from, counted from 1.
    pub round: &'a [i32],
    /// Where in each body the event's id stands, counted from 1; 28 bytes.
    pub id_at: i32,
}

/// Stores past events, spread over the partitions by their `created`, each with an id of its own and a body that
/// holds it, so that no two rows are alike.
pub async fn insert_past(conn: &mut PgConnection, past: &Past<'_>) -> Result<u64, StoreError> {
    const SQL: &str = "-- insert_past
        insert into outbox (source, event_id, created, kind, type, account, subject_kind, subject, livemode,
            api_version, received_at, signature, secret_label, payload)
        select 'webhook', e.id, e.at, 'snapshot', ($6::text[])[e.sort], e.account, 'account', e.account, false,
            '2026-10-28.endive', e.at, 't=1761732000,v1=' || repeat(md5(e.id), 2), 'bench',
            overlay(($5::bytea[])[e.sort] placing convert_to(e.id, 'UTF8') from $8)
        from (
            select 'evt_1F' || left(md5(n::text), 22) as id, 'acct_1F' || lpad((n % 100000)::text, 14, '0') as account,
                $3::timestamptz + make_interval(secs => n * 7919 % $4) as at,
                ($7::integer[])[1 + n % array_length($7::integer[], 1)] as sort
            from generate_series($1::bigint, $2::bigint) as n
        ) as e";
    let query = sqlx::query(SQL)
        .bind(past.numbers.0)
        .bind(past.numbers.1)
        .bind(past.from)
        .bind(past.over_s)
        .bind(past.payloads)
        .bind(past.types)
        .bind(past.round)
        .bind(past.id_at);
    Ok(query.execute(conn).await?.rows_affected())
}

/// Tidies up after many rows were made: visibility, statistics, and all of it on disk.
pub async fn settle(conn: &mut PgConnection) -> Result<(), StoreError> {
    const VACUUM: &str = "-- vacuum_trial
        vacuum (analyze)";
    const CHECKPOINT: &str = "-- checkpoint
        checkpoint";
    conn.execute(VACUUM).await?;
    conn.execute(CHECKPOINT).await?;
    Ok(())
}

/// Opens a connection whose snapshot sees the database as it is now, for as long as it is kept open.
pub async fn hold_snapshot(url: &str) -> Result<PgConnection, StoreError> {
    const BEGIN: &str = "-- hold_snapshot
        begin isolation level repeatable read";
    const LOOK: &str = "-- look
        select from outbox limit 1";
    let mut conn = PgConnection::connect(url).await?;
    conn.execute(BEGIN).await?;
    conn.execute(LOOK).await?;
    Ok(conn)
}
