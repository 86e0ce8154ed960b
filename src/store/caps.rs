//! What was reserved in a UTC day, for the daily caps. Changed only by whoever holds the currency's lock.

use std::collections::BTreeMap;

use sqlx::PgConnection;
use sqlx::types::time::{Date, OffsetDateTime};

use super::db::StoreError;
use crate::domain::money::Currency;

/// What a day's reservations add up to, by currency and destination; an empty one stands for all of the currency.
pub async fn list_used(
    conn: &mut PgConnection,
    livemode: bool,
    day: Date,
    currencies: &[&str],
    destinations: &[&str],
) -> Result<BTreeMap<(String, String), i64>, StoreError> {
    const SQL: &str = "-- list_used
        select currency, destination, amount from cap_usage
        where livemode = $1 and day = $2 and currency = any($3) and (destination = '' or destination = any($4))";
    let query = sqlx::query_as(SQL).bind(livemode).bind(day).bind(currencies).bind(destinations);
    let rows: Vec<(String, String, i64)> = query.fetch_all(conn).await?;
    Ok(rows.into_iter().map(|(currency, destination, amount)| ((currency, destination), amount)).collect())
}

/// Counts reservations towards a day, by their destinations.
pub async fn count(
    conn: &mut PgConnection,
    livemode: bool,
    currency: Currency,
    day: Date,
    amounts_minor: &BTreeMap<String, i64>,
) -> Result<(), StoreError> {
    const SQL: &str = "-- count_use
        insert into cap_usage as u (livemode, currency, day, destination, amount)
        select $1, $2, $3, destination, amount from unnest($4::text[], $5::bigint[]) as c (destination, amount)
        on conflict (livemode, currency, day, destination) do update set amount = u.amount + excluded.amount";
    let in_all: i64 = amounts_minor.values().sum();
    let by_destination = amounts_minor.iter().map(|(to, amount)| (to.as_str(), *amount));
    let (destinations, amounts): (Vec<&str>, Vec<i64>) =
        std::iter::once(("", in_all)).chain(by_destination).unzip();
    let query = sqlx::query(SQL).bind(livemode).bind(currency.as_str()).bind(day);
    query.bind(destinations).bind(amounts).execute(conn).await?;
    Ok(())
}

/// Takes a reservation back from the day that it was counted towards.
pub async fn take_back(
    conn: &mut PgConnection,
    livemode: bool,
    currency: Currency,
    day: Date,
    destination: &str,
    amount_minor: i64,
) -> Result<(), StoreError> {
    const SQL: &str = "-- take_use_back
        update cap_usage set amount = greatest(amount - $5, 0)
        where livemode = $1 and currency = $2 and day = $3 and destination in ('', $4)";
    sqlx::query(SQL)
        .bind(livemode)
        .bind(currency.as_str())
        .bind(day)
        .bind(destination)
        .bind(amount_minor)
        .execute(conn)
        .await?;
    Ok(())
}

/// Rings the transfers of a currency that wait for another day: there is room again.
pub async fn ring_capped(
    conn: &mut PgConnection,
    livemode: bool,
    currency: Currency,
    at: OffsetDateTime,
) -> Result<(), StoreError> {
    const SQL: &str = "-- ring_capped
        insert into tasks (kind, subject, livemode, run_at)
        select 'transfer', id, livemode, $3 from transfers
        where livemode = $1 and currency = $2 and status = 'waiting' and 'daily_cap_reached' = any (waiting_on)
        order by id
        on conflict (kind, subject, livemode) where event_id is null do update set
            run_at = case when tasks.token is null then greatest(least(tasks.run_at, excluded.run_at), tasks.not_before) else tasks.run_at end,
            next_at = case when tasks.token is null then null else least(tasks.next_at, excluded.run_at) end";
    sqlx::query(SQL).bind(livemode).bind(currency.as_str()).bind(at).execute(conn).await?;
    Ok(())
}

/// Lets the counts of days before this one go, at most a thousand at a time.
pub async fn delete_before(conn: &mut PgConnection, day: Date) -> Result<u64, StoreError> {
    const SQL: &str = "-- delete_old_use
        delete from cap_usage where (livemode, currency, day, destination) in (
            select livemode, currency, day, destination from cap_usage where day < $1 limit 1000)";
    Ok(sqlx::query(SQL).bind(day).execute(conn).await?.rows_affected())
}
