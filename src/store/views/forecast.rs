//! What a forecast is made from: money that is there, money that comes, and who waits for it.

use sqlx::PgPool;
use sqlx::types::time::OffsetDateTime;

use super::StoreError;
use crate::domain::forecast::Coming;

/// One currency's.
#[derive(Clone, Debug)]
pub struct Outlook {
    /// The currency.
    pub currency: String,
    /// Settled and free, in minor units.
    pub available_minor: i64,
    /// What is on its way and has a date.
    pub coming: Vec<Coming>,
    /// The amounts that wait, by the day from which they may go out.
    pub waiting: Vec<(i64, Option<OffsetDateTime>)>,
}

/// Reads it for every currency, from one snapshot.
pub async fn outlook(pool: &PgPool, livemode: bool, now: OffsetDateTime) -> Result<Vec<Outlook>, StoreError> {
    const AVAILABLE: &str = "-- outlook_available
        select named.currency, coalesce(sum(a.balance), 0)::bigint
        from (select currency from funds where livemode = $1
            union select coalesce(proof_currency, currency) from topups
            where livemode = $1 and known and not settled and status in ('pending', 'succeeded')) as named
        left join ledger_accounts a on a.livemode = $1 and a.currency = named.currency and a.kind = 'available'
        group by 1 order by 1 limit 200";
    const COMING: &str = "-- outlook_coming
        select coalesce(proof_currency, currency), min(topup), sum(coalesce(proof_amount, amount))::bigint,
            max(coalesce(proof_available_on, expected_availability_date)) as at
        from topups
        where livemode = $1 and known and not settled and status in ('pending', 'succeeded')
            and coalesce(proof_available_on, expected_availability_date) is not null
        group by 1, date_trunc('day', coalesce(proof_available_on, expected_availability_date), 'UTC')
        order by 1, 4 limit 10000";
    const WAITING: &str = "-- outlook_waiting
        select currency, sum(amount)::bigint, max(nullif(release_after, least(release_after, $2))) as at
        from transfers where livemode = $1 and status = 'waiting'
        group by 1, date_trunc('day', nullif(release_after, least(release_after, $2)), 'UTC')
        order by 1, 3 limit 10000";
    let mut tx = super::snapshot(pool).await?;
    let available: Vec<(String, i64)> = sqlx::query_as(AVAILABLE).bind(livemode).fetch_all(&mut *tx).await?;
    let coming: Vec<(String, String, i64, OffsetDateTime)> =
        sqlx::query_as(COMING).bind(livemode).fetch_all(&mut *tx).await?;
    let waiting: Vec<(String, i64, Option<OffsetDateTime>)> =
        sqlx::query_as(WAITING).bind(livemode).bind(now).fetch_all(&mut *tx).await?;
    tx.commit().await?;
    let outlook = |(currency, available_minor): (String, i64)| Outlook {
        available_minor,
        coming: coming
            .iter()
            .filter(|(of, ..)| *of == currency)
            .map(|(_, topup, amount_minor, at)| Coming {
                topup: topup.clone(),
                amount_minor: *amount_minor,
                at: *at,
            })
            .collect(),
        waiting: waiting
            .iter()
            .filter(|(of, ..)| *of == currency)
            .map(|(_, amount_minor, at)| (*amount_minor, *at))
            .collect(),
        currency,
    };
    Ok(available.into_iter().map(outlook).collect())
}
