//! API keys: who may call the service, and how far.
//!
//! A key's secret never comes here, only its SHA-256.

use sqlx::types::time::OffsetDateTime;
use sqlx::{FromRow, PgConnection};

use super::db::StoreError;
use crate::domain::ids::KeyId;

/// How far a key reaches; each scope includes the lower ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// Look.
    Read,
    /// Look, and move money.
    Operate,
    /// All, and hand out keys.
    Admin,
}

impl Scope {
    /// Every scope, the lowest first.
    pub const ALL: [Scope; 3] = [Self::Read, Self::Operate, Self::Admin];

    /// The word of the API and the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Operate => "operate",
            Self::Admin => "admin",
        }
    }

    /// Reads the word back.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.as_str() == word)
    }
}

/// A key as stored, without its hash.
#[derive(Clone, Debug, FromRow)]
pub struct Key {
    /// Its id.
    pub id: String,
    /// What its owner calls it.
    pub name: String,
    #[sqlx(rename = "scope")]
    scope_word: String,
    /// When it was made.
    pub created_at: OffsetDateTime,
    /// By which key.
    pub created_by: String,
    /// When it was last used, to the minute.
    pub last_used_at: Option<OffsetDateTime>,
    /// When it was taken back.
    pub revoked_at: Option<OffsetDateTime>,
}

impl Key {
    /// How far it reaches. The database holds the three words to a check.
    pub fn scope(&self) -> Scope {
        Scope::parse(&self.scope_word).unwrap_or(Scope::Read)
    }
}

/// Stores a new key.
pub async fn insert(
    conn: &mut PgConnection,
    id: &KeyId,
    name: &str,
    scope: Scope,
    secret_hash: &[u8],
    created_by: &str,
    now: OffsetDateTime,
) -> Result<Key, StoreError> {
    const SQL: &str = "-- insert_key
        insert into api_keys (id, name, scope, secret_hash, created_by, created_at) values ($1, $2, $3, $4, $5, $6)
        returning id, name, scope, created_at, created_by, last_used_at, revoked_at";
    let query = sqlx::query_as(SQL).bind(id.as_str()).bind(name).bind(scope.as_str()).bind(secret_hash);
    Ok(query.bind(created_by).bind(now).fetch_one(conn).await?)
}

/// The key with this secret, in force or taken back.
pub async fn find_by_hash(conn: &mut PgConnection, secret_hash: &[u8]) -> Result<Option<Key>, StoreError> {
    const SQL: &str = "-- find_key_by_hash
        select id, name, scope, created_at, created_by, last_used_at, revoked_at from api_keys
        where secret_hash = $1";
    Ok(sqlx::query_as(SQL).bind(secret_hash).fetch_optional(conn).await?)
}

/// Notes that a key was used, unless that was noted after `noted_since`.
pub async fn touch_if_older(
    conn: &mut PgConnection,
    id: &str,
    now: OffsetDateTime,
    noted_since: OffsetDateTime,
) -> Result<(), StoreError> {
    const SQL: &str = "-- touch_key_if_older
        update api_keys set last_used_at = $2 where id = $1 and (last_used_at is null or last_used_at <= $3)";
    sqlx::query(SQL).bind(id).bind(now).bind(noted_since).execute(conn).await?;
    Ok(())
}

/// Takes a key back; one that was taken back before keeps its date. None where there is no such key.
pub async fn revoke(
    conn: &mut PgConnection,
    id: &KeyId,
    now: OffsetDateTime,
) -> Result<Option<Key>, StoreError> {
    const SQL: &str = "-- revoke_key
        update api_keys set revoked_at = coalesce(revoked_at, $2) where id = $1
        returning id, name, scope, created_at, created_by, last_used_at, revoked_at";
    Ok(sqlx::query_as(SQL).bind(id.as_str()).bind(now).fetch_optional(conn).await?)
}

/// Keys by id, the newest first, from below `after`.
pub async fn list(conn: &mut PgConnection, after: Option<&str>, limit: i64) -> Result<Vec<Key>, StoreError> {
    const SQL: &str = "-- list_keys
        select id, name, scope, created_at, created_by, last_used_at, revoked_at from api_keys
        where $1::text is null or id < $1 order by id desc limit $2";
    Ok(sqlx::query_as(SQL).bind(after).bind(limit).fetch_all(conn).await?)
}
