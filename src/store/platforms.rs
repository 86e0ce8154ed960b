//! The platform's own account, as Stripe last showed it.

use sqlx::types::time::OffsetDateTime;
use sqlx::{FromRow, PgConnection};

use super::db::StoreError;
use crate::domain::platform::Payouts;

/// What is held of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, FromRow)]
pub struct Platform {
    /// Its id; `None` while Stripe has not shown it.
    pub account: Option<String>,
    /// Two letters.
    pub country: Option<String>,
    /// Lower-case ISO code.
    pub default_currency: Option<String>,
    /// Stripe's word for its payout schedule.
    pub payout_interval: Option<String>,
    /// When the reading began that showed it.
    pub as_of: Option<OffsetDateTime>,
    /// What Stripe said when it last refused to show it.
    pub refusal: Option<String>,
    /// The latest payout to its own bank that Stripe made by itself.
    pub automatic_payout_at: Option<OffsetDateTime>,
}

impl Platform {
    /// How its balance goes to its own bank.
    pub fn payouts(&self) -> Payouts {
        Payouts { interval: self.payout_interval.clone(), automatic_at: self.automatic_payout_at }
    }
}

/// The platform in this mode; nothing known of it where there is no row.
pub async fn get(conn: &mut PgConnection, livemode: bool) -> Result<Platform, StoreError> {
    const SQL: &str = "-- get_platform
        select * from platforms where livemode = $1";
    let found: Option<Platform> = sqlx::query_as(SQL).bind(livemode).fetch_optional(conn).await?;
    Ok(found.unwrap_or_default())
}

/// What a reading shows of it.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// Its id.
    pub account: &'a str,
    /// Two letters.
    pub country: Option<&'a str>,
    /// Lower-case ISO code.
    pub default_currency: Option<&'a str>,
    /// Stripe's word for its payout schedule.
    pub payout_interval: Option<&'a str>,
    /// When the reading began.
    pub as_of: OffsetDateTime,
}

/// Keeps what a reading shows, unless a later one is kept already.
pub async fn record_if_newer(
    conn: &mut PgConnection,
    livemode: bool,
    seen: &Seen<'_>,
) -> Result<(), StoreError> {
    const SQL: &str = "-- record_platform_if_newer
        insert into platforms (livemode, account, country, default_currency, payout_interval, as_of)
        values ($1, $2, $3, $4, $5, $6)
        on conflict (livemode) do update set account = excluded.account, country = excluded.country,
            default_currency = excluded.default_currency, payout_interval = excluded.payout_interval,
            as_of = excluded.as_of, refusal = null
        where platforms.as_of is null or platforms.as_of <= excluded.as_of";
    sqlx::query(SQL)
        .bind(livemode)
        .bind(seen.account)
        .bind(seen.country)
        .bind(seen.default_currency)
        .bind(seen.payout_interval)
        .bind(seen.as_of)
        .execute(conn)
        .await?;
    Ok(())
}

/// Keeps that Stripe refused to show it, and why. What it showed earlier stays.
pub async fn record_refusal(
    conn: &mut PgConnection,
    livemode: bool,
    refusal: &str,
) -> Result<(), StoreError> {
    const SQL: &str = "-- record_platform_refusal
        insert into platforms (livemode, refusal) values ($1, $2)
        on conflict (livemode) do update set refusal = excluded.refusal";
    sqlx::query(SQL).bind(livemode).bind(refusal).execute(conn).await?;
    Ok(())
}

/// Keeps when Stripe last paid its balance out by itself.
pub async fn record_automatic_payout(
    conn: &mut PgConnection,
    livemode: bool,
    at: OffsetDateTime,
) -> Result<(), StoreError> {
    const SQL: &str = "-- record_automatic_payout
        insert into platforms (livemode, automatic_payout_at) values ($1, $2)
        on conflict (livemode) do update
            set automatic_payout_at = greatest(platforms.automatic_payout_at, excluded.automatic_payout_at)";
    sqlx::query(SQL).bind(livemode).bind(at).execute(conn).await?;
    Ok(())
}
