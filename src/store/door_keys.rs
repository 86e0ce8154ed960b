//! The secrets that seal the tickets of onboarding's doors.

use sqlx::types::time::OffsetDateTime;
use sqlx::{FromRow, PgConnection};

use super::db::StoreError;
use crate::domain::onboarding::SealKey;

#[derive(FromRow)]
struct Row {
    id: i32,
    secret: Vec<u8>,
}

impl Row {
    fn read(self) -> Result<SealKey, StoreError> {
        let secret = self.secret.try_into();
        let secret =
            secret.map_err(|_| StoreError::Unreadable(format!("door key {}: its length", self.id)))?;
        Ok(SealKey { id: self.id, secret })
    }
}

/// The key that seals: the newest that is not retired.
pub async fn find_newest(conn: &mut PgConnection) -> Result<Option<SealKey>, StoreError> {
    const SQL: &str = "-- find_newest_door_key
        select id, secret from door_keys where retired_at is null order by id desc limit 1";
    let row: Option<Row> = sqlx::query_as(SQL).fetch_optional(conn).await?;
    row.map(Row::read).transpose()
}

/// A key that opens what it sealed, unless it is retired.
pub async fn find(conn: &mut PgConnection, id: i32) -> Result<Option<SealKey>, StoreError> {
    const SQL: &str = "-- find_door_key
        select id, secret from door_keys where id = $1 and retired_at is null";
    let row: Option<Row> = sqlx::query_as(SQL).bind(id).fetch_optional(conn).await?;
    row.map(Row::read).transpose()
}

/// Adds a key. Of two that are added at once, both open and the later seals.
pub async fn insert(
    conn: &mut PgConnection,
    secret: &[u8; 32],
    now: OffsetDateTime,
) -> Result<SealKey, StoreError> {
    const SQL: &str = "-- insert_door_key
        insert into door_keys (secret, created_at) values ($1, $2) returning id, secret";
    let row: Row = sqlx::query_as(SQL).bind(secret.as_slice()).bind(now).fetch_one(conn).await?;
    row.read()
}
