//! What people, and Stripe's refusals, put on a transfer: a hold, an approval, a pause before the next try.

use sqlx::PgConnection;
use sqlx::types::time::OffsetDateTime;

use super::db::StoreError;
use crate::domain::reason::Reason;

/// Keeps a transfer from being tried again before `until`.
pub async fn set_hold_off(
    conn: &mut PgConnection,
    id: &str,
    until: OffsetDateTime,
    reason: Reason,
) -> Result<(), StoreError> {
    const SQL: &str = "-- set_hold_off
        update transfers set hold_off_until = $2, hold_off_reason = $3 where id = $1";
    sqlx::query(SQL).bind(id).bind(until).bind(reason.code()).execute(conn).await?;
    Ok(())
}

/// Notes who approved a transfer.
pub async fn set_approved(
    conn: &mut PgConnection,
    id: &str,
    by: &str,
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    const SQL: &str = "-- set_approved
        update transfers set approved_by = $2, approved_at = $3, updated_at = $3 where id = $1";
    sqlx::query(SQL).bind(id).bind(by).bind(now).execute(conn).await?;
    Ok(())
}

/// Holds a transfer back (`by` whom) or lets it go on.
pub async fn set_hold(
    conn: &mut PgConnection,
    id: &str,
    by: Option<&str>,
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    const SQL: &str = "-- set_hold
        update transfers set held_by = $2, held_at = case when $2::text is not null then $3::timestamptz end, updated_at = $3
        where id = $1";
    sqlx::query(SQL).bind(id).bind(by).bind(now).execute(conn).await?;
    Ok(())
}
