//! Connected accounts and the history of their readiness.

use std::collections::BTreeMap;

use sqlx::postgres::PgArguments;
use sqlx::query::QueryAs;
use sqlx::types::Json;
use sqlx::types::time::OffsetDateTime;
use sqlx::{FromRow, PgConnection, Postgres};

use super::db::{StoreError, column, json_of};
use crate::domain::account::{Flags, Known, Requirements};
use crate::domain::evidence::{By, Fetched, Standing};

/// How far the evidence about a row reaches, as stored.
#[derive(Clone, Debug, FromRow)]
pub struct StandingColumns {
    standing_at: OffsetDateTime,
    standing_by: String,
    standing_seq: i64,
    fetched_at: Option<OffsetDateTime>,
    fetch_seq: Option<i64>,
    doubted: bool,
}

impl StandingColumns {
    /// The domain's view of it.
    pub fn read(&self) -> Standing {
        let fetched = self.fetched_at.zip(self.fetch_seq).map(|(at, after_seq)| Fetched { at, after_seq });
        let by = if self.standing_by == "fetch" { By::Fetch } else { By::Event };
        Standing { at: self.standing_at, by, seq: self.standing_seq, fetched, doubted: self.doubted }
    }
}

/// The word for what the latest evidence was.
pub fn by_word(by: By) -> &'static str {
    match by {
        By::Event => "event",
        By::Fetch => "fetch",
    }
}

/// An account as stored.
#[derive(Clone, Debug)]
pub struct Account {
    /// What readiness is decided upon.
    pub known: Known,
    /// It is one of v2: v1's view of it may lack what v2's has.
    pub v2: bool,
    /// How far the evidence reaches.
    pub standing: Standing,
    /// When the shown values were true.
    pub as_of: OffsetDateTime,
    /// Where they come from: an event id, or `api`.
    pub source: String,
}

#[derive(FromRow)]
pub(super) struct Row {
    account: String,
    known: bool,
    details_submitted: Option<bool>,
    charges_enabled: Option<bool>,
    payouts_enabled: Option<bool>,
    transfers_capability: Option<String>,
    requirements: Json<Requirements>,
    country: Option<String>,
    default_currency: Option<String>,
    deauthorized_at: Option<OffsetDateTime>,
    confirmed_at: Option<OffsetDateTime>,
    closed_at: Option<OffsetDateTime>,
    /// A baseline of before there was such a column has none.
    v2: Option<bool>,
    as_of: OffsetDateTime,
    source: String,
    #[sqlx(flatten)]
    standing: StandingColumns,
}

impl Row {
    fn named(mut self) -> (String, Account) {
        (std::mem::take(&mut self.account), self.read())
    }

    fn read(self) -> Account {
        let flags = Flags {
            details_submitted: self.details_submitted,
            charges_enabled: self.charges_enabled,
            payouts_enabled: self.payouts_enabled,
            transfers_capability: self.transfers_capability,
            requirements: self.requirements.0,
            country: self.country,
            default_currency: self.default_currency,
        };
        Account {
            known: Known {
                flags: self.known.then_some(flags),
                deauthorized_at: self.deauthorized_at,
                confirmed_at: self.confirmed_at,
                closed_at: self.closed_at,
            },
            v2: self.v2.unwrap_or_default(),
            standing: self.standing.read(),
            as_of: self.as_of,
            source: self.source,
        }
    }
}

/// Keeps these accounts as they are until the transaction ends, in the order in which whoever changes many takes
/// them.
pub async fn hold_all(conn: &mut PgConnection, livemode: bool, accounts: &[&str]) -> Result<(), StoreError> {
    const SQL: &str = "-- hold_accounts
        select 1 from accounts where livemode = $1 and account = any ((select $2::text[])::text[])
        order by account for share";
    sqlx::query(SQL).bind(livemode).bind(accounts).execute(conn).await?;
    Ok(())
}

/// Reads an account as it is.
pub async fn find(
    conn: &mut PgConnection,
    livemode: bool,
    account: &str,
) -> Result<Option<Account>, StoreError> {
    const SQL: &str = "-- find_account
        select * from accounts where livemode = $1 and account = $2";
    read_one(sqlx::query_as(SQL).bind(livemode).bind(account), conn).await
}

/// The account that a query of a whole row finds.
pub(super) async fn read_one(
    query: QueryAs<'_, Postgres, Row, PgArguments>,
    conn: &mut PgConnection,
) -> Result<Option<Account>, StoreError> {
    Ok(query.fetch_optional(conn).await?.map(Row::read))
}

/// Those of these accounts that have a row, by their ids, as they are.
pub async fn list_by_ids(
    conn: &mut PgConnection,
    livemode: bool,
    accounts: &[&str],
) -> Result<BTreeMap<String, Account>, StoreError> {
    const SQL: &str = "-- list_accounts_by_ids
        select * from accounts where livemode = $1 and account = any ((select $2::text[])::text[])";
    let rows: Vec<Row> = sqlx::query_as(SQL).bind(livemode).bind(accounts).fetch_all(conn).await?;
    Ok(rows.into_iter().map(Row::named).collect())
}

/// Reads these accounts and keeps others from changing them until the transaction ends, whether they have a row
/// yet or not. The ids must be sorted: two that lock crosswise would wait for each other.
pub async fn list_for_update(
    conn: &mut PgConnection,
    livemode: bool,
    ids: &[&str],
) -> Result<BTreeMap<String, Account>, StoreError> {
    // A row that is not there can't be locked, and one that is may be locked by somebody who needs no more.
    const LOCK: &str = "-- lock_accounts
        select pg_advisory_xact_lock(hashtextextended('account:' || $1::text || ':' || id, 0))
        from unnest($2::text[]) as t (id)";
    const SQL: &str = "-- list_accounts_for_update
        select * from accounts where livemode = $1 and account = any ((select $2::text[])::text[])
        order by account for no key update";
    sqlx::query(LOCK).bind(livemode).bind(ids).execute(&mut *conn).await?;
    let rows: Vec<Row> = sqlx::query_as(SQL).bind(livemode).bind(ids).fetch_all(conn).await?;
    Ok(rows.into_iter().map(Row::named).collect())
}

/// An account to write, with the reasons that follow from it.
#[derive(Clone, Copy, Debug)]
pub struct Written<'a> {
    /// Its id.
    pub id: &'a str,
    /// What is known of it.
    pub account: &'a Account,
    /// Why it may not be paid.
    pub reasons: &'a [String],
}

/// Writes whole rows.
pub async fn put_all(
    conn: &mut PgConnection,
    livemode: bool,
    rows: &[Written<'_>],
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    // Codes hold no commas, so a list of them travels as one text: arrays of arrays must all be of one length.
    const SQL: &str = "-- put_accounts
        insert into accounts (livemode, account, known, details_submitted, charges_enabled, payouts_enabled,
            transfers_capability, requirements, disabled_reason, country, default_currency, deauthorized_at,
            confirmed_at, as_of, source, standing_at, standing_by, standing_seq, fetched_at, fetch_seq, doubted,
            ready, reasons, v2, closed_at, first_seen, updated_at)
        select $1, account, known, details_submitted, charges_enabled, payouts_enabled, transfers_capability,
            requirements::jsonb, disabled_reason, country, default_currency, deauthorized_at, confirmed_at, as_of,
            source, standing_at, standing_by, standing_seq, fetched_at, fetch_seq, doubted, reasons = '',
            string_to_array(reasons, ','), v2, closed_at, $2, $2
        from unnest($3::text[], $4::bool[], $5::bool[], $6::bool[], $7::bool[], $8::text[], $9::text[], $10::text[],
            $11::text[], $12::text[], $13::timestamptz[], $14::timestamptz[], $15::timestamptz[], $16::text[],
            $17::timestamptz[], $18::text[], $19::bigint[], $20::timestamptz[], $21::bigint[], $22::bool[], $23::text[],
            $24::bool[], $25::timestamptz[])
            as t (account, known, details_submitted, charges_enabled, payouts_enabled, transfers_capability,
                requirements, disabled_reason, country, default_currency, deauthorized_at, confirmed_at, as_of, source,
                standing_at, standing_by, standing_seq, fetched_at, fetch_seq, doubted, reasons, v2, closed_at)
        on conflict (livemode, account) do update set
            known = excluded.known, details_submitted = excluded.details_submitted,
            charges_enabled = excluded.charges_enabled, payouts_enabled = excluded.payouts_enabled,
            transfers_capability = excluded.transfers_capability, requirements = excluded.requirements,
            disabled_reason = excluded.disabled_reason, country = excluded.country,
            default_currency = excluded.default_currency, deauthorized_at = excluded.deauthorized_at,
            confirmed_at = excluded.confirmed_at, as_of = excluded.as_of, source = excluded.source,
            standing_at = excluded.standing_at, standing_by = excluded.standing_by,
            standing_seq = excluded.standing_seq, fetched_at = excluded.fetched_at, fetch_seq = excluded.fetch_seq,
            doubted = excluded.doubted, ready = excluded.ready, reasons = excluded.reasons,
            v2 = excluded.v2, closed_at = excluded.closed_at, updated_at = excluded.updated_at";
    if rows.is_empty() {
        return Ok(());
    }
    let none = Flags::default();
    let flags: Vec<&Flags> =
        rows.iter().map(|row| row.account.known.flags.as_ref().unwrap_or(&none)).collect();
    let requirements = json_of(flags.iter().map(|flags| &flags.requirements))?;
    let of_rows = sqlx::query(SQL)
        .bind(livemode)
        .bind(now)
        .bind(column(rows, |row| row.id))
        .bind(column(rows, |row| row.account.known.flags.is_some()))
        .bind(column(&flags, |flags| flags.details_submitted))
        .bind(column(&flags, |flags| flags.charges_enabled))
        .bind(column(&flags, |flags| flags.payouts_enabled))
        .bind(column(&flags, |flags| flags.transfers_capability.as_deref()))
        .bind(requirements)
        .bind(column(&flags, |flags| flags.requirements.disabled_reason.as_deref()))
        .bind(column(&flags, |flags| flags.country.as_deref()))
        .bind(column(&flags, |flags| flags.default_currency.as_deref()));
    of_rows
        .bind(column(rows, |row| row.account.known.deauthorized_at))
        .bind(column(rows, |row| row.account.known.confirmed_at))
        .bind(column(rows, |row| row.account.as_of))
        .bind(column(rows, |row| row.account.source.as_str()))
        .bind(column(rows, |row| row.account.standing.at))
        .bind(column(rows, |row| by_word(row.account.standing.by)))
        .bind(column(rows, |row| row.account.standing.seq))
        .bind(column(rows, |row| row.account.standing.fetched.map(|fetch| fetch.at)))
        .bind(column(rows, |row| row.account.standing.fetched.map(|fetch| fetch.after_seq)))
        .bind(column(rows, |row| row.account.standing.doubted))
        .bind(column(rows, |row| row.reasons.join(",")))
        .bind(column(rows, |row| row.account.v2))
        .bind(column(rows, |row| row.account.known.closed_at))
        .execute(conn)
        .await?;
    Ok(())
}

/// Adds to the history of accounts.
pub async fn insert_changes(
    conn: &mut PgConnection,
    livemode: bool,
    rows: &[Written<'_>],
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    const SQL: &str = "-- insert_changes
        insert into account_changes (livemode, account, at, as_of, source, state, reasons)
        select $1, account, $2, as_of, source, state::jsonb, string_to_array(reasons, ',')
        from unnest($3::text[], $4::timestamptz[], $5::text[], $6::text[], $7::text[])
            as t (account, as_of, source, state, reasons)";
    if rows.is_empty() {
        return Ok(());
    }
    let states = json_of(rows.iter().map(|row| &row.account.known.flags))?;
    sqlx::query(SQL)
        .bind(livemode)
        .bind(now)
        .bind(column(rows, |row| row.id))
        .bind(column(rows, |row| row.account.as_of))
        .bind(column(rows, |row| row.account.source.as_str()))
        .bind(states)
        .bind(column(rows, |row| row.reasons.join(",")))
        .execute(conn)
        .await?;
    Ok(())
}

/// The countries that accounts are in.
pub async fn list_countries(conn: &mut PgConnection, livemode: bool) -> Result<Vec<String>, StoreError> {
    const SQL: &str = "-- list_countries
        select distinct country from accounts where livemode = $1 and known and country is not null limit 1000";
    Ok(sqlx::query_scalar(SQL).bind(livemode).fetch_all(conn).await?)
}

/// Accounts, by id from beyond `after`, that are in one of these countries and are not stored as beyond the platform's
/// borders, or the other way round.
pub async fn list_misplaced(
    conn: &mut PgConnection,
    livemode: bool,
    beyond: &[&str],
    after: &str,
    limit: i64,
) -> Result<Vec<String>, StoreError> {
    const SQL: &str = "-- list_misplaced
        select account from accounts
        where livemode = $1 and known and account > $3
            and coalesce(country = any($2), false) <> (reasons @> '{corridor_unsupported}')
        order by account limit $4";
    let query = sqlx::query_scalar(SQL).bind(livemode).bind(beyond).bind(after).bind(limit);
    Ok(query.fetch_all(conn).await?)
}
