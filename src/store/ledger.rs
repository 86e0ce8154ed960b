//! The double-entry ledger. Rows are only ever added; the database keeps the balances and refuses an entry
//! that does not sum to zero.

use std::collections::BTreeMap;

use sqlx::types::time::OffsetDateTime;
use sqlx::{FromRow, PgConnection};

use super::db::StoreError;
use crate::domain::funds::{Lot, Share};
use crate::domain::ledger::{Entry, Place, Posting as Line};
use crate::domain::money::Currency;

/// Books an entry: see [`post_all`].
pub async fn post(
    conn: &mut PgConnection,
    livemode: bool,
    currency: Currency,
    entry: &Entry,
    at: OffsetDateTime,
) -> Result<(), StoreError> {
    post_all(conn, livemode, currency, std::slice::from_ref(entry), at).await
}

/// Books entries, all or none. The caller holds the currency's lock (`controls::lock_funds`). A second entry of the
/// same kind and reference is refused by the database.
pub async fn post_all(
    conn: &mut PgConnection,
    livemode: bool,
    currency: Currency,
    entries: &[Entry],
    at: OffsetDateTime,
) -> Result<(), StoreError> {
    const ACCOUNTS: &str = "-- ensure_ledger_accounts
        insert into ledger_accounts (livemode, currency, kind, lot)
        select distinct $1::boolean, $2::text, kind, lot from unnest($3::text[], $4::text[]) as l (kind, lot)
        on conflict do nothing";
    const SQL: &str = "-- post_entries
        with named as materialized (
            select * from unnest($4::text[], $5::text[], $6::text[]) with ordinality as n (kind, reference, transfer, place)
        ), lines as materialized (
            select l.place, a.id as account, l.amount
            from unnest($7::integer[], $8::text[], $9::text[], $10::bigint[]) as l (place, kind, lot, amount)
            join ledger_accounts a on a.livemode = $1 and a.currency = $2 and a.kind = l.kind and a.lot = l.lot
        ), entries as (
            insert into ledger_entries (kind, reference, transfer, at) select kind, reference, transfer, $3 from named
            where (select count(*) from lines) = cardinality($7::integer[]) order by place
            returning id, kind, reference
        )
        insert into ledger_postings (entry, account, amount)
        select entries.id, lines.account, lines.amount
        from entries join named using (kind, reference) join lines using (place)";
    let lines: Vec<(i32, &Line)> = (1..)
        .zip(entries)
        .flat_map(|(place, entry)| entry.postings.iter().map(move |p| (place, p)))
        .collect();
    let kinds: Vec<&str> = lines.iter().map(|(_, p)| p.place.as_str()).collect();
    let lots: Vec<&str> = lines.iter().map(|(_, p)| p.lot.as_str()).collect();
    let book = || {
        sqlx::query(SQL)
            .bind(livemode)
            .bind(currency.as_str())
            .bind(at)
            .bind(entries.iter().map(|e| e.kind.as_str()).collect::<Vec<_>>())
            .bind(entries.iter().map(|e| e.reference.as_str()).collect::<Vec<_>>())
            .bind(entries.iter().map(|e| e.transfer.as_ref().map(|id| id.as_str())).collect::<Vec<_>>())
            .bind(lines.iter().map(|(place, _)| *place).collect::<Vec<_>>())
            .bind(&kinds)
            .bind(&lots)
            .bind(lines.iter().map(|(_, p)| p.amount_minor).collect::<Vec<_>>())
    };
    // Nearly always all of their accounts are there; where one is not, nothing was written.
    let booked = book().execute(&mut *conn).await?.rows_affected();
    if booked > 0 || lines.is_empty() {
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
    Ok(list_all_shares(conn, &[transfer], place).await?.remove(transfer).unwrap_or_default())
}

/// The same for many transfers, by their ids; those with nothing there are left out.
pub async fn list_all_shares(
    conn: &mut PgConnection,
    transfers: &[&str],
    place: Place,
) -> Result<BTreeMap<String, Vec<Share>>, StoreError> {
    // Step by step (that is what the offsets are for): a plan made while the books were short would read all of them.
    const SQL: &str = "-- list_shares
        select w.transfer, a.lot, sum(p.amount)::bigint
        from unnest($1::text[]) as w (transfer)
        cross join lateral (select id from ledger_entries e where e.transfer = w.transfer offset 0) e
        cross join lateral (select account, amount from ledger_postings p where p.entry = e.id offset 0) p
        join ledger_accounts a on a.id = p.account
        where a.kind = $2
        group by w.transfer, a.id, a.lot having sum(p.amount) <> 0
        order by a.id";
    let rows: Vec<(String, String, i64)> =
        sqlx::query_as(SQL).bind(transfers).bind(place.as_str()).fetch_all(conn).await?;
    let mut shares: BTreeMap<String, Vec<Share>> = BTreeMap::new();
    for (transfer, lot, amount_minor) in rows {
        shares.entry(transfer).or_default().push(Share { lot, amount_minor });
    }
    Ok(shares)
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
