//! Who is at an order while Stripe is asked: a caller's Idempotency-Key, kept outside of any transaction.

use sqlx::PgConnection;
use sqlx::types::Uuid;
use sqlx::types::time::OffsetDateTime;

use super::db::StoreError;

/// Whether somebody with another token is at the order with this key.
pub async fn is_held(
    conn: &mut PgConnection,
    owner: &str,
    key: &str,
    token: Option<Uuid>,
    now: OffsetDateTime,
) -> Result<bool, StoreError> {
    const SQL: &str = "-- is_order_claimed
        select exists (select 1 from order_claims
            where owner = $1 and key = $2 and held_until > $4 and token is distinct from $3)";
    let query = sqlx::query_scalar(SQL).bind(owner).bind(key).bind(token).bind(now);
    Ok(query.fetch_one(conn).await?)
}

/// Keeps a key that nobody holds any more; the caller has it locked.
pub async fn take(
    conn: &mut PgConnection,
    owner: &str,
    key: &str,
    token: Uuid,
    until: OffsetDateTime,
) -> Result<(), StoreError> {
    const SQL: &str = "-- claim_order
        insert into order_claims (owner, key, token, held_until) values ($1, $2, $3, $4)
        on conflict (owner, key) do update set token = excluded.token, held_until = excluded.held_until";
    sqlx::query(SQL).bind(owner).bind(key).bind(token).bind(until).execute(conn).await?;
    Ok(())
}

/// Gives a key back, if it is still held with this token.
pub async fn release(conn: &mut PgConnection, owner: &str, key: &str, token: Uuid) -> Result<(), StoreError> {
    const SQL: &str = "-- release_order
        delete from order_claims where owner = $1 and key = $2 and token = $3";
    sqlx::query(SQL).bind(owner).bind(key).bind(token).execute(conn).await?;
    Ok(())
}

/// Lets those go whose holder died, and who nobody repeated.
pub async fn delete_expired(conn: &mut PgConnection, now: OffsetDateTime) -> Result<(), StoreError> {
    const SQL: &str = "-- delete_expired_claims
        delete from order_claims where held_until <= $1";
    sqlx::query(SQL).bind(now).execute(conn).await?;
    Ok(())
}
