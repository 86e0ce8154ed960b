//! Who is signed in to the console. A token never comes here, only its SHA-256.

use sqlx::types::time::OffsetDateTime;
use sqlx::{FromRow, PgConnection};

use super::db::StoreError;
use super::keys::Scope;

/// A session that begins.
#[derive(Clone, Copy, Debug)]
pub struct New<'a> {
    /// SHA-256 of its token.
    pub token_hash: &'a [u8; 32],
    /// The API key it is exchanged for; none for the bootstrap key.
    pub key: Option<&'a str>,
    /// The bootstrap key's seal.
    pub admin_seal: Option<&'a [u8; 32]>,
    /// When it ends at the latest.
    pub ends_at: OffsetDateTime,
}

/// A session with what is known of its key.
#[derive(Clone, Debug, FromRow)]
pub struct Session {
    /// The API key; none for the bootstrap key.
    pub key: Option<String>,
    /// What the key's owner calls it.
    pub name: Option<String>,
    scope: Option<String>,
    /// When the key was taken back.
    pub revoked_at: Option<OffsetDateTime>,
    /// The bootstrap key's seal.
    pub admin_seal: Option<Vec<u8>>,
    /// When its owner last did something.
    pub seen_at: OffsetDateTime,
    /// When it ends at the latest.
    pub ends_at: OffsetDateTime,
}

impl Session {
    /// How far the key reaches. The database holds the three words to a check.
    pub fn scope(&self) -> Scope {
        self.scope.as_deref().and_then(Scope::parse).unwrap_or(Scope::Read)
    }
}

/// Keeps a new session.
pub async fn insert(
    conn: &mut PgConnection,
    session: &New<'_>,
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    const SQL: &str = "-- insert_session
        insert into console_sessions (token_hash, key, admin_seal, began_at, seen_at, ends_at)
        values ($1, $2, $3, $4, $4, $5)";
    let query = sqlx::query(SQL).bind(session.token_hash.as_slice()).bind(session.key);
    let query = query.bind(session.admin_seal.map(|seal| seal.as_slice())).bind(now).bind(session.ends_at);
    query.execute(conn).await?;
    Ok(())
}

/// The session with this token, over or not.
pub async fn find(conn: &mut PgConnection, token_hash: &[u8; 32]) -> Result<Option<Session>, StoreError> {
    const SQL: &str = "-- find_session
        select s.key, k.name, k.scope, k.revoked_at, s.admin_seal, s.seen_at, s.ends_at
        from console_sessions s left join api_keys k on k.id = s.key where s.token_hash = $1";
    Ok(sqlx::query_as(SQL).bind(token_hash.as_slice()).fetch_optional(conn).await?)
}

/// Notes that its owner did something.
pub async fn touch(
    conn: &mut PgConnection,
    token_hash: &[u8; 32],
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    const SQL: &str = "-- touch_session
        update console_sessions set seen_at = $2 where token_hash = $1 and seen_at < $2";
    sqlx::query(SQL).bind(token_hash.as_slice()).bind(now).execute(conn).await?;
    Ok(())
}

/// Forgets a session; false where there was none.
pub async fn delete(conn: &mut PgConnection, token_hash: &[u8; 32]) -> Result<bool, StoreError> {
    const SQL: &str = "-- delete_session
        delete from console_sessions where token_hash = $1";
    Ok(sqlx::query(SQL).bind(token_hash.as_slice()).execute(conn).await?.rows_affected() > 0)
}

/// Forgets sessions whose end has passed.
pub async fn delete_ended(conn: &mut PgConnection, now: OffsetDateTime) -> Result<(), StoreError> {
    const SQL: &str = "-- delete_ended_sessions
        delete from console_sessions where ends_at < $1";
    sqlx::query(SQL).bind(now).execute(conn).await?;
    Ok(())
}
