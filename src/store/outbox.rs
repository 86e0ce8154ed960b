//! The outbox: received events and observed answers, written once.

use sqlx::types::time::OffsetDateTime;
use sqlx::{FromRow, PgConnection};

use super::db::{StoreError, column};
use crate::domain::evidence::Fetched;

/// An event to store.
#[derive(Clone, Debug)]
pub struct NewEvent {
    /// Stripe's id.
    pub event_id: String,
    /// Its own `created`; the epoch where that can't be read.
    pub created: OffsetDateTime,
    /// `snapshot` or `thin`.
    pub kind: &'static str,
    /// Stripe's type.
    pub event_type: String,
    /// The connected account it came from.
    pub account: Option<String>,
    /// Whom it rings for.
    pub subject_kind: Option<&'static str>,
    /// Which one.
    pub subject: Option<String>,
    /// Live or test mode.
    pub livemode: bool,
    /// The API version its object is rendered in.
    pub api_version: Option<String>,
    /// Why nothing is done with it.
    pub ignored: Option<&'static str>,
    /// When it arrived.
    pub received_at: OffsetDateTime,
    /// How its delivery was signed; none where it was read from Stripe's list.
    pub signed: Option<Signed>,
    /// The raw bytes.
    pub payload: bytes::Bytes,
}

/// How a delivery was signed.
#[derive(Clone, Debug)]
pub struct Signed {
    /// The `Stripe-Signature` header.
    pub header: String,
    /// The label of the secret that matched.
    pub secret_label: Option<String>,
}

/// An answer of Stripe's API, kept as evidence.
#[derive(Clone, Debug)]
pub struct Observation<'a> {
    /// A fresh id, `obs_…`.
    pub id: String,
    /// What was seen: `account`, `topup`, `balance_transaction`, `transfer`, `account.unreachable` …
    pub event_type: &'static str,
    /// Whom it is about.
    pub subject_kind: &'static str,
    /// Which one.
    pub subject: &'a str,
    /// Live or test mode.
    pub livemode: bool,
    /// When the call began.
    pub observed_from: OffsetDateTime,
    /// The last seq handed out when the call began.
    pub after_seq: i64,
    /// When the answer was there.
    pub received_at: OffsetDateTime,
    /// The answer's body.
    pub payload: &'a [u8],
}

/// An event as the flows read it.
#[derive(Clone, Debug, FromRow)]
pub struct StoredEvent {
    /// Stripe's id.
    pub event_id: String,
    /// Its own `created`.
    pub created: OffsetDateTime,
    /// Order of receipt.
    pub seq: i64,
    /// `snapshot`, `thin` or `observation`.
    pub kind: String,
    /// Stripe's type.
    #[sqlx(rename = "type")]
    pub event_type: String,
    /// The API version its object is rendered in.
    pub api_version: Option<String>,
    /// The raw bytes.
    pub payload: Vec<u8>,
    /// Of an answer of Stripe's API: the last seq handed out when the call began.
    pub after_seq: Option<i64>,
}

impl StoredEvent {
    /// Of an answer of Stripe's API: from when it is true.
    pub fn fetched(&self) -> Option<Fetched> {
        self.after_seq.map(|after_seq| Fetched { at: self.created, after_seq })
    }
}

/// Stores a batch and rings a bell for each new event that is acted on, in one statement; returns the ids
/// that were new. The batch must be sorted by id: two batches that cross would deadlock.
pub async fn insert_new(conn: &mut PgConnection, batch: &[NewEvent]) -> Result<Vec<String>, StoreError> {
    const SQL: &str = "-- insert_new
        with incoming as materialized (
            select * from unnest($1::text[], $2::timestamptz[], $3::text[], $4::text[], $5::text[], $6::text[],
                $7::text[], $8::bool[], $9::text[], $10::text[], $11::timestamptz[], $12::text[], $13::text[],
                $14::bytea[])
                as t (event_id, created, kind, type, account, subject_kind, subject, livemode, api_version,
                      ignored, received_at, signature, secret_label, payload)
        ), stored as (
            insert into outbox (source, event_id, created, kind, type, account, subject_kind, subject, livemode,
                api_version, ignored, received_at, signature, secret_label, payload)
            select case when signature is null then 'api' else 'webhook' end, * from incoming
            on conflict (event_id, created) do nothing
            returning event_id, created, seq, subject_kind, subject, livemode, ignored, received_at,
                octet_length(payload) as bytes
        ), rung as (
            insert into tasks (id, kind, subject, livemode, event_id, event_created, received_at, run_at, alone, bytes)
            select seq, subject_kind, subject, livemode, event_id, created, received_at, received_at, false, bytes
            from stored where ignored is null
        )
        select event_id from stored";
    let new = sqlx::query_scalar(SQL)
        .bind(column(batch, |e| e.event_id.as_str()))
        .bind(column(batch, |e| e.created))
        .bind(column(batch, |e| e.kind))
        .bind(column(batch, |e| e.event_type.as_str()))
        .bind(column(batch, |e| e.account.as_deref()))
        .bind(column(batch, |e| e.subject_kind))
        .bind(column(batch, |e| e.subject.as_deref()))
        .bind(column(batch, |e| e.livemode))
        .bind(column(batch, |e| e.api_version.as_deref()))
        .bind(column(batch, |e| e.ignored))
        .bind(column(batch, |e| e.received_at))
        .bind(column(batch, |e| e.signed.as_ref().map(|signed| signed.header.as_str())))
        .bind(column(batch, |e| e.signed.as_ref().and_then(|signed| signed.secret_label.as_deref())))
        .bind(column(batch, |e| e.payload.as_ref()))
        .fetch_all(conn)
        .await?;
    Ok(new)
}

/// Keeps an answer of Stripe's API.
pub async fn insert_observation(conn: &mut PgConnection, seen: &Observation<'_>) -> Result<(), StoreError> {
    insert_observations(conn, std::slice::from_ref(seen)).await
}

/// Keeps answers of Stripe's API.
pub async fn insert_observations(
    conn: &mut PgConnection,
    seen: &[Observation<'_>],
) -> Result<(), StoreError> {
    const SQL: &str = "-- insert_observations
        insert into outbox (source, kind, event_id, created, type, subject_kind, subject, livemode, received_at,
            observed_from, after_seq, payload)
        select 'api', 'observation', id, observed_from, type, subject_kind, subject, livemode, received_at, observed_from,
            after_seq, payload
        from unnest($1::text[], $2::timestamptz[], $3::text[], $4::text[], $5::text[], $6::boolean[],
            $7::timestamptz[], $8::bigint[], $9::bytea[])
            as o (id, observed_from, type, subject_kind, subject, livemode, received_at, after_seq, payload)";
    sqlx::query(SQL)
        .bind(seen.iter().map(|o| o.id.as_str()).collect::<Vec<_>>())
        .bind(seen.iter().map(|o| o.observed_from).collect::<Vec<_>>())
        .bind(seen.iter().map(|o| o.event_type).collect::<Vec<_>>())
        .bind(seen.iter().map(|o| o.subject_kind).collect::<Vec<_>>())
        .bind(seen.iter().map(|o| o.subject).collect::<Vec<_>>())
        .bind(seen.iter().map(|o| o.livemode).collect::<Vec<_>>())
        .bind(seen.iter().map(|o| o.received_at).collect::<Vec<_>>())
        .bind(seen.iter().map(|o| o.after_seq).collect::<Vec<_>>())
        .bind(seen.iter().map(|o| o.payload).collect::<Vec<_>>())
        .execute(conn)
        .await?;
    Ok(())
}

/// Keeps an answer of Stripe's API that is yet to be folded in, and rings for it.
pub async fn insert_rung_observation(
    conn: &mut PgConnection,
    seen: &Observation<'_>,
) -> Result<(), StoreError> {
    const SQL: &str = "-- insert_rung_observation
        with stored as (
            insert into outbox (source, kind, event_id, created, type, subject_kind, subject, livemode, received_at,
                observed_from, after_seq, payload)
            values ('api', 'observation', $1, $2, $3, $4, $5, $6, $7, $2, $8, $9)
            returning seq, subject_kind, subject, livemode, event_id, created, received_at, octet_length(payload) as bytes
        )
        insert into tasks (id, kind, subject, livemode, event_id, event_created, received_at, run_at, alone, bytes)
        select seq, subject_kind, subject, livemode, event_id, created, received_at, received_at, false, bytes
        from stored";
    sqlx::query(SQL)
        .bind(&seen.id)
        .bind(seen.observed_from)
        .bind(seen.event_type)
        .bind(seen.subject_kind)
        .bind(seen.subject)
        .bind(seen.livemode)
        .bind(seen.received_at)
        .bind(seen.after_seq)
        .bind(seen.payload)
        .execute(conn)
        .await?;
    Ok(())
}

/// The last sequence number handed out: everything received so far has this one or a lower.
pub async fn last_seq(conn: &mut PgConnection) -> Result<i64, StoreError> {
    const SQL: &str = "-- last_seq
        select last_value from outbox_seq";
    Ok(sqlx::query_scalar(SQL).fetch_one(conn).await?)
}

/// The events with these keys, oldest `created` first.
///
/// The arrays stand in sub-selects here and in other statements that run all the time: Postgres would count their
/// elements and plan each call anew, which over all partitions takes longer than to look a few keys up.
pub async fn list_by_keys(
    conn: &mut PgConnection,
    keys: &[(String, OffsetDateTime)],
) -> Result<Vec<StoredEvent>, StoreError> {
    const SQL: &str = "-- list_by_keys
        select o.event_id, o.created, o.seq, o.kind, o.type, o.api_version, o.payload, o.after_seq
        from unnest((select $1::text[]), (select $2::timestamptz[])) as k (event_id, created)
        join outbox o on o.event_id = k.event_id and o.created = k.created
        order by o.created, o.seq";
    let ids: Vec<&str> = keys.iter().map(|(id, _)| id.as_str()).collect();
    let times: Vec<OffsetDateTime> = keys.iter().map(|(_, created)| *created).collect();
    Ok(sqlx::query_as(SQL).bind(ids).bind(times).fetch_all(conn).await?)
}

/// The same by their seqs: those that came one after another lie side by side, however large the table is.
pub async fn list_by_seqs(
    conn: &mut PgConnection,
    keys: &[(i64, OffsetDateTime)],
) -> Result<Vec<StoredEvent>, StoreError> {
    const SQL: &str = "-- list_by_seqs
        select o.event_id, o.created, o.seq, o.kind, o.type, o.api_version, o.payload, o.after_seq
        from unnest((select $1::bigint[]), (select $2::timestamptz[])) as k (seq, created)
        join outbox o on o.seq = k.seq and o.created = k.created
        order by o.created, o.seq";
    let query =
        sqlx::query_as(SQL).bind(column(keys, |(seq, _)| *seq)).bind(column(keys, |(_, created)| *created));
    Ok(query.fetch_all(conn).await?)
}

/// Makes the weekly partitions around this instant; returns how many were new. Whoever holds the outbox in use is not
/// waited for, since all deliveries would wait behind this: that is an error to try again after. In a transaction of its
/// own, since it locks the table until that ends.
pub async fn ensure_partitions(conn: &mut PgConnection, now: OffsetDateTime) -> Result<i32, StoreError> {
    const SQL: &str = "-- ensure_partitions
        select outbox_ensure_partitions($1)";
    limit_lock_waits(conn).await?;
    Ok(sqlx::query_scalar(SQL).bind(now).fetch_one(conn).await?)
}

/// For the rest of the transaction, a lock that is not there within 200 ms is not waited for.
pub(super) async fn limit_lock_waits(conn: &mut PgConnection) -> Result<(), StoreError> {
    const SQL: &str = "-- limit_lock_waits
        select set_config('lock_timeout', '200', true)";
    sqlx::query(SQL).execute(conn).await?;
    Ok(())
}

/// How many bodies that are no events are kept.
const QUARANTINE_SIZE: i64 = 1_000;

/// Keeps a body with a good signature that is no Stripe event, and lets the oldest beyond a thousand go.
pub async fn quarantine(
    conn: &mut PgConnection,
    received_at: OffsetDateTime,
    secret_label: Option<&str>,
    signature: &str,
    problem: &str,
    payload: &[u8],
) -> Result<(), StoreError> {
    const SQL: &str = "-- quarantine
        with kept as (
            insert into quarantine (received_at, secret_label, signature, problem, payload)
            values ($1, $2, $3, $4, $5) returning id
        )
        delete from quarantine where id <= (select id from kept) - $6";
    sqlx::query(SQL)
        .bind(received_at)
        .bind(secret_label)
        .bind(signature)
        .bind(problem)
        .bind(payload)
        .bind(QUARANTINE_SIZE)
        .execute(conn)
        .await?;
    Ok(())
}
