//! What a POST answered, by the caller's Idempotency-Key.

use serde_json::Value;
use sqlx::types::time::OffsetDateTime;
use sqlx::{FromRow, PgConnection};

use super::db::StoreError;

/// The owner of keys for transfers, batches and top-ups: they never expire and hold across API keys.
pub const MONEY: &str = "money";

/// An answer that was given.
#[derive(Clone, Debug, FromRow)]
pub struct Kept {
    /// SHA-256 of method, path and body of the request.
    pub request_hash: Vec<u8>,
    /// HTTP status.
    pub status: i32,
    /// The body.
    pub response: Value,
}

/// Takes a key for this transaction: a concurrent request with the same key waits until it ends.
pub async fn lock(conn: &mut PgConnection, owner: &str, key: &str) -> Result<(), StoreError> {
    const SQL: &str = "-- lock_idempotency_key
        select pg_advisory_xact_lock(hashtextextended('idempotency:' || $1 || ':' || $2, 0))";
    sqlx::query(SQL).bind(owner).bind(key).execute(conn).await?;
    Ok(())
}

/// What was answered for a key; answers older than `kept_since` count only for keys that never expire.
pub async fn find(
    conn: &mut PgConnection,
    owner: &str,
    key: &str,
    kept_since: OffsetDateTime,
) -> Result<Option<Kept>, StoreError> {
    const SQL: &str = "-- find_idempotency_key
        select request_hash, status, response from idempotency_keys
        where owner = $1 and key = $2 and (owner = 'money' or created_at >= $3)";
    Ok(sqlx::query_as(SQL).bind(owner).bind(key).bind(kept_since).fetch_optional(conn).await?)
}

/// Keeps an answer.
pub async fn keep(
    conn: &mut PgConnection,
    owner: &str,
    key: &str,
    kept: &Kept,
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    const SQL: &str = "-- keep_idempotency_key
        insert into idempotency_keys (owner, key, request_hash, status, response, created_at)
        values ($1, $2, $3, $4, $5, $6)
        on conflict (owner, key) do update set request_hash = excluded.request_hash, status = excluded.status,
            response = excluded.response, created_at = excluded.created_at
            where idempotency_keys.owner <> 'money'";
    sqlx::query(SQL)
        .bind(owner)
        .bind(key)
        .bind(&kept.request_hash)
        .bind(kept.status)
        .bind(&kept.response)
        .bind(now)
        .execute(conn)
        .await?;
    Ok(())
}

/// Puts the answer in the place of one that said that the outcome was not known yet; what stands for the key then, as
/// status and body.
pub async fn settle(
    conn: &mut PgConnection,
    key: &str,
    status: i32,
    response: &Value,
) -> Result<Option<(i32, Value)>, StoreError> {
    const SQL: &str = "-- settle_idempotency_key
        update idempotency_keys
        set status = case when status = 202 then $2 else status end,
            response = case when status = 202 then $3 else response end
        where owner = 'money' and key = $1 returning status, response";
    Ok(sqlx::query_as(SQL).bind(key).bind(status).bind(response).fetch_optional(conn).await?)
}

/// Gives the key free under which a top-up was ordered that Stripe refused: only a success is kept for a key.
pub async fn free_key_of_intent(conn: &mut PgConnection, intent: &str) -> Result<(), StoreError> {
    const SQL: &str = "-- free_key_of_intent
        delete from idempotency_keys where owner = 'money' and status = 202
            and key = (select idempotency_key from topup_intents where id = $1)";
    sqlx::query(SQL).bind(intent).execute(conn).await?;
    Ok(())
}

/// Lets expired answers go, at most a thousand at a time.
pub async fn delete_expired(conn: &mut PgConnection, kept_since: OffsetDateTime) -> Result<u64, StoreError> {
    const SQL: &str = "-- delete_expired_idempotency_keys
        delete from idempotency_keys where (owner, key) in (
            select owner, key from idempotency_keys where owner <> 'money' and created_at < $1 limit 1000)";
    Ok(sqlx::query(SQL).bind(kept_since).execute(conn).await?.rows_affected())
}
