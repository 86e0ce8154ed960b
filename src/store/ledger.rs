//! The double-entry ledger. Rows are only ever added; the database keeps the balances and refuses an entry
//! that does not sum to zero.

use sqlx::types::time::OffsetDateTime;
use sqlx::{FromRow, PgConnection};

use super::db::StoreError;
use crate::domain::funds::{Lot, Share};
use crate::domain::ledger::{Entry, Place};
use crate::domain::money::Currency;

/// Books an entry. The caller holds the currency's lock (`controls::lock_funds`). A second entry of the same
/// kind and reference is refused by the database.
pub async fn post(
    conn: &mut PgConnection,
    livemode: bool,
    currency: Currency,
    entry: &Entry,
    at: OffsetDateTime,
) -> Result<(), StoreError> {
    const ACCOUNTS: &str = "-- ensure_ledger_accounts
        insert into ledger_accounts (livemode, currency, kind, lot)
        select $1, $2, kind, lot from unnest($3::text[], $4::text[]) as l (kind, lot)
        on conflict do nothing";
    const SQL: &str = "-- post_entry
        with lines as materialized (
            select a.id as account, l.amount
            from unnest($7::text[], $8::text[], $9::bigint[]) as l (kind, lot, amount)
            join ledger_accounts a on a.livemode = $5 and a.currency = $6 and a.kind = l.kind and a.lot = l.lot
        ), entry as (
            insert into ledger_entries (kind, reference, transfer, at) select $1, $2, $3, $4
            where (select count(*) from lines) = cardinality($7::text[]) returning id
        )
        insert into ledger_postings (entry, account, amount)
        select entry.id, lines.account, lines.amount from entry, lines";
    let kinds: Vec<&str> = entry.postings.iter().map(|p| p.place.as_str()).collect();
    let lots: Vec<&str> = entry.postings.iter().map(|p| p.lot.as_str()).collect();
    let amounts: Vec<i64> = entry.postings.iter().map(|p| p.amount_minor).collect();
    let book = || {
        sqlx::query(SQL)
            .bind(entry.kind.as_str())
            .bind(&entry.reference)
            .bind(entry.transfer.as_ref().map(|id| id.as_str()))
            .bind(at)
            .bind(livemode)
            .bind(currency.as_str())
            .bind(&kinds)
            .bind(&lots)
            .bind(&amounts)
    };
    // Nearly always all of its accounts are there; where one is not, nothing was written.
    let booked = book().execute(&mut *conn).await?.rows_affected();
    if booked > 0 || entry.postings.is_empty() {
        return Ok(());
    }
    let accounts = sqlx::query(ACCOUNTS).bind(livemode).bind(currency.as_str()).bind(&kinds).bind(&lots);
    accounts.execute(&mut *conn).await?;
    book().execute(conn).await?;
    Ok(())
}

/// The lots of a currency with what is left of them and what waiting transfers claim, oldest first.
pub async fn list_lots(
    conn: &mut PgConnection,
    livemode: bool,
    currency: Currency,
) -> Result<Vec<Lot>, StoreError> {
    const SQL: &str = "-- list_lots
        select a.lot, a.balance, coalesce(claims.amount, 0)::bigint
        from ledger_accounts a
        left join lateral (
            select sum(t.amount) as amount from transfers t
            where t.livemode = $1 and t.topup = a.lot and t.currency = $2 and t.status = 'waiting'
        ) claims on true
        where a.livemode = $1 and a.currency = $2 and a.kind = 'available' and a.balance <> 0
        order by a.id";
    let rows: Vec<(String, i64, i64)> =
        sqlx::query_as(SQL).bind(livemode).bind(currency.as_str()).fetch_all(conn).await?;
    let lot = |(name, available_minor, claimed_minor)| Lot { name, available_minor, claimed_minor };
    Ok(rows.into_iter().map(lot).collect())
}

/// What of a transfer's money stands in `place` now, by lot, oldest first.
pub async fn list_shares(
    conn: &mut PgConnection,
    transfer: &str,
    place: Place,
) -> Result<Vec<Share>, StoreError> {
    const SQL: &str = "-- list_shares
        select a.lot, sum(p.amount)::bigint
        from ledger_entries e
        join ledger_postings p on p.entry = e.id
        join ledger_accounts a on a.id = p.account
        where e.transfer = $1 and a.kind = $2
        group by a.id, a.lot having sum(p.amount) <> 0
        order by a.id";
    let rows: Vec<(String, i64)> =
        sqlx::query_as(SQL).bind(transfer).bind(place.as_str()).fetch_all(conn).await?;
    Ok(rows.into_iter().map(|(lot, amount_minor)| Share { lot, amount_minor }).collect())
}

/// One currency's balances, in minor units.
#[derive(Clone, Debug, FromRow)]
pub struct Balances {
    /// The currency.
    pub currency: String,
    /// All that settled.
    pub settled: i64,
    /// Settled and free.
    pub available: i64,
    /// Set aside for transfers under way.
    pub reserved: i64,
    /// At connected accounts.
    pub released: i64,
}

/// The balances of one currency.
pub async fn balances_of(
    conn: &mut PgConnection,
    livemode: bool,
    currency: Currency,
) -> Result<Balances, StoreError> {
    const SQL: &str = "-- balances_of
        select $2 as currency,
            coalesce(-sum(balance) filter (where kind = 'money_in'), 0)::bigint as settled,
            coalesce(sum(balance) filter (where kind = 'available'), 0)::bigint as available,
            coalesce(sum(balance) filter (where kind = 'reserved'), 0)::bigint as reserved,
            coalesce(sum(balance) filter (where kind = 'released'), 0)::bigint as released
        from ledger_accounts where livemode = $1 and currency = $2";
    Ok(sqlx::query_as(SQL).bind(livemode).bind(currency.as_str()).fetch_one(conn).await?)
}

/// A line of an entry, as it was booked.
#[derive(Clone, Debug, FromRow)]
pub struct Posting {
    /// The entry's number.
    pub entry: i64,
    /// The account's number.
    pub account: i64,
    /// When it was booked.
    pub at: OffsetDateTime,
    /// What happened.
    pub kind: String,
    /// To what; with the kind it stands once.
    pub reference: String,
    /// The transfer that moved it.
    pub transfer: Option<String>,
    /// Live or test mode.
    pub livemode: bool,
    /// Of this currency.
    pub currency: String,
    /// Where the money came to, or went from.
    pub place: String,
    /// The top-up or adjustment that it came with.
    pub lot: String,
    /// In minor units; negative where it went.
    #[sqlx(rename = "amount")]
    pub amount_minor: i64,
}

/// The lines behind this entry's of this account, in order, five hundred at most.
pub async fn list_postings(conn: &mut PgConnection, after: (i64, i64)) -> Result<Vec<Posting>, StoreError> {
    const SQL: &str = "-- list_postings
        select p.entry, p.account, e.at, e.kind, e.reference, e.transfer, a.livemode, a.currency, a.kind as place,
            a.lot, p.amount
        from (
            select entry, account, amount from ledger_postings
            where (entry, account) > ($1, $2) order by entry, account limit 500
        ) p
        join ledger_entries e on e.id = p.entry
        join ledger_accounts a on a.id = p.account
        order by p.entry, p.account";
    Ok(sqlx::query_as(SQL).bind(after.0).bind(after.1).fetch_all(conn).await?)
}
