//! Connected accounts as the API shows them.

use sqlx::types::Json;
use sqlx::types::time::OffsetDateTime;
use sqlx::{FromRow, PgConnection};

use super::{HISTORY, StoreError};
use crate::domain::account::{Flags, Known, Requirements};

/// An account.
#[derive(Clone, Debug)]
pub struct Account {
    /// Stripe's id.
    pub id: String,
    /// Live or test mode.
    pub livemode: bool,
    /// What readiness is decided upon.
    pub known: Known,
    /// When the shown values were true.
    pub as_of: OffsetDateTime,
    /// Where they come from: an event id, or `api`.
    pub source: String,
    /// When it was first heard of.
    pub first_seen: OffsetDateTime,
    /// When the row last changed.
    pub updated_at: OffsetDateTime,
}

#[derive(FromRow)]
struct Row {
    account: String,
    livemode: bool,
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
    as_of: OffsetDateTime,
    source: String,
    first_seen: OffsetDateTime,
    updated_at: OffsetDateTime,
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
        let known = Known {
            flags: self.known.then_some(flags),
            deauthorized_at: self.deauthorized_at,
            confirmed_at: self.confirmed_at,
            closed_at: self.closed_at,
        };
        Account {
            id: self.account,
            livemode: self.livemode,
            known,
            as_of: self.as_of,
            source: self.source,
            first_seen: self.first_seen,
            updated_at: self.updated_at,
        }
    }
}

/// Those of these accounts that anything was heard of.
pub async fn list_accounts_by_ids(
    conn: &mut PgConnection,
    livemode: bool,
    ids: &[&str],
) -> Result<Vec<Account>, StoreError> {
    const SQL: &str = "-- view_accounts_by_ids
        select * from accounts where livemode = $1 and account = any ((select $2::text[])::text[])";
    let rows: Vec<Row> = sqlx::query_as(SQL).bind(livemode).bind(ids).fetch_all(conn).await?;
    Ok(rows.into_iter().map(Row::read).collect())
}

/// This account, if anything was heard of it.
pub async fn find_account(
    conn: &mut PgConnection,
    livemode: bool,
    id: &str,
) -> Result<Option<Account>, StoreError> {
    Ok(list_accounts_by_ids(conn, livemode, &[id]).await?.pop())
}

/// Those of these accounts that are not as they were `seen`, by when they last changed.
pub async fn list_accounts_changed(
    conn: &mut PgConnection,
    livemode: bool,
    ids: &[&str],
    seen: &[Option<OffsetDateTime>],
) -> Result<Vec<Account>, StoreError> {
    const SQL: &str = "-- list_accounts_changed
        select a.* from unnest($2::text[], $3::timestamptz[]) as watched (account, seen)
        join accounts a on a.livemode = $1 and a.account = watched.account
        where a.updated_at is distinct from watched.seen";
    let rows: Vec<Row> = sqlx::query_as(SQL).bind(livemode).bind(ids).bind(seen).fetch_all(conn).await?;
    Ok(rows.into_iter().map(Row::read).collect())
}

/// Accounts that something described or that left, by id, from above `after`. The filters go by the
/// readiness stored at each account's last change.
pub async fn list_accounts(
    conn: &mut PgConnection,
    livemode: bool,
    ready: Option<bool>,
    reason: Option<&str>,
    after: Option<&str>,
    limit: i64,
) -> Result<Vec<Account>, StoreError> {
    const SQL: &str = "-- list_accounts
        select * from accounts
        where livemode = $1 and (known or deauthorized_at is not null or closed_at is not null)
            and ($2::bool is null or ready = $2)
            and ($3::text is null or not ready and reasons @> array[$3])
            and ($4::text is null or account > $4)
        order by account limit $5";
    let query = sqlx::query_as(SQL).bind(livemode).bind(ready).bind(reason).bind(after).bind(limit);
    let rows: Vec<Row> = query.persistent(false).fetch_all(conn).await?;
    Ok(rows.into_iter().map(Row::read).collect())
}

/// What an account became, and by what evidence.
#[derive(Clone, Debug, FromRow)]
pub struct AccountChange {
    /// When it was recorded.
    pub at: OffsetDateTime,
    /// When it was true.
    pub as_of: OffsetDateTime,
    /// An event id, or `api`.
    pub source: String,
    /// The flags; null while nothing described it.
    pub state: serde_json::Value,
    /// The reasons under the policy of that time.
    pub reasons: Vec<String>,
}

/// The latest changes of an account, oldest first.
pub async fn list_account_changes(
    conn: &mut PgConnection,
    livemode: bool,
    id: &str,
) -> Result<Vec<AccountChange>, StoreError> {
    const SQL: &str = "-- list_account_changes
        select at, as_of, source, state, reasons from account_changes
        where livemode = $1 and account = $2 order by id desc limit $3";
    let query = sqlx::query_as(SQL).bind(livemode).bind(id).bind(HISTORY);
    let mut changes: Vec<AccountChange> = query.fetch_all(conn).await?;
    changes.reverse();
    Ok(changes)
}
