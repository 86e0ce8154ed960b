//! Connected accounts and the history of their readiness.

use std::collections::BTreeMap;

use sqlx::types::Json;
use sqlx::types::time::OffsetDateTime;
use sqlx::{FromRow, PgConnection};

use super::db::StoreError;
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
    /// How far the evidence reaches.
    pub standing: Standing,
    /// When the shown values were true.
    pub as_of: OffsetDateTime,
    /// Where they come from: an event id, or `api`.
    pub source: String,
}

#[derive(FromRow)]
struct Row {
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
    as_of: OffsetDateTime,
    source: String,
    #[sqlx(flatten)]
    standing: StandingColumns,
}

impl Row {
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
            },
            standing: self.standing.read(),
            as_of: self.as_of,
            source: self.source,
        }
    }
}

/// How to lock a row that is read to be decided upon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lock {
    /// It will be changed.
    Update,
    /// It must stay as it is until the transaction ends.
    Share,
}

/// Reads an account and locks it. Absent rows can't be locked: the insert that follows waits for another's.
pub async fn find_locked(
    conn: &mut PgConnection,
    livemode: bool,
    account: &str,
    lock: Lock,
) -> Result<Option<Account>, StoreError> {
    const FOR_UPDATE: &str = "-- find_locked
        select * from accounts where livemode = $1 and account = $2 for no key update";
    const FOR_SHARE: &str = "-- find_locked
        select * from accounts where livemode = $1 and account = $2 for share";
    let sql = match lock {
        Lock::Update => FOR_UPDATE,
        Lock::Share => FOR_SHARE,
    };
    let row: Option<Row> = sqlx::query_as(sql).bind(livemode).bind(account).fetch_optional(conn).await?;
    Ok(row.map(Row::read))
}

/// Reads an account as it is.
pub async fn find(
    conn: &mut PgConnection,
    livemode: bool,
    account: &str,
) -> Result<Option<Account>, StoreError> {
    const SQL: &str = "-- find_account
        select * from accounts where livemode = $1 and account = $2";
    let row: Option<Row> = sqlx::query_as(SQL).bind(livemode).bind(account).fetch_optional(conn).await?;
    Ok(row.map(Row::read))
}

/// Those of these accounts that have a row, by their ids, as they are.
pub async fn list_by_ids(
    conn: &mut PgConnection,
    livemode: bool,
    accounts: &[&str],
) -> Result<BTreeMap<String, Account>, StoreError> {
    const SQL: &str = "-- list_accounts_by_ids
        select * from accounts where livemode = $1 and account = any($2)";
    let rows: Vec<Row> = sqlx::query_as(SQL).bind(livemode).bind(accounts).fetch_all(conn).await?;
    Ok(rows.into_iter().map(|mut row| (std::mem::take(&mut row.account), row.read())).collect())
}

/// Makes one writer at a time of an account that has no row to lock yet.
pub async fn lock_absent(conn: &mut PgConnection, livemode: bool, account: &str) -> Result<(), StoreError> {
    const SQL: &str = "-- lock_absent
        select pg_advisory_xact_lock(hashtextextended('account:' || $1::text || ':' || $2, 0))";
    sqlx::query(SQL).bind(livemode).bind(account).execute(conn).await?;
    Ok(())
}

/// Writes an account's whole row.
pub async fn put(
    conn: &mut PgConnection,
    livemode: bool,
    id: &str,
    account: &Account,
    reasons: &[String],
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    const SQL: &str = "-- put_account
        insert into accounts (livemode, account, known, details_submitted, charges_enabled, payouts_enabled,
            transfers_capability, requirements, disabled_reason, country, default_currency, deauthorized_at,
            confirmed_at, as_of, source, standing_at, standing_by, standing_seq, fetched_at, fetch_seq, doubted,
            ready, reasons, first_seen, updated_at)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21,
            $22, $23, $24, $24)
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
            updated_at = excluded.updated_at";
    let none = Flags::default();
    let flags = account.known.flags.as_ref().unwrap_or(&none);
    let standing = &account.standing;
    sqlx::query(SQL)
        .bind(livemode)
        .bind(id)
        .bind(account.known.flags.is_some())
        .bind(flags.details_submitted)
        .bind(flags.charges_enabled)
        .bind(flags.payouts_enabled)
        .bind(&flags.transfers_capability)
        .bind(Json(&flags.requirements))
        .bind(&flags.requirements.disabled_reason)
        .bind(&flags.country)
        .bind(&flags.default_currency)
        .bind(account.known.deauthorized_at)
        .bind(account.known.confirmed_at)
        .bind(account.as_of)
        .bind(&account.source)
        .bind(standing.at)
        .bind(by_word(standing.by))
        .bind(standing.seq)
        .bind(standing.fetched.map(|f| f.at))
        .bind(standing.fetched.map(|f| f.after_seq))
        .bind(standing.doubted)
        .bind(reasons.is_empty())
        .bind(reasons)
        .bind(now)
        .execute(conn)
        .await?;
    Ok(())
}

/// Adds to the history of an account.
pub async fn insert_change(
    conn: &mut PgConnection,
    livemode: bool,
    id: &str,
    account: &Account,
    reasons: &[String],
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    const SQL: &str = "-- insert_change
        insert into account_changes (livemode, account, at, as_of, source, state, reasons)
        values ($1, $2, $3, $4, $5, $6, $7)";
    sqlx::query(SQL)
        .bind(livemode)
        .bind(id)
        .bind(now)
        .bind(account.as_of)
        .bind(&account.source)
        .bind(Json(&account.known.flags))
        .bind(reasons)
        .execute(conn)
        .await?;
    Ok(())
}
