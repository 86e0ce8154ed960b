//! The audit log: rows are only ever added, each chained to the one before.

use sqlx::PgConnection;
use sqlx::types::time::OffsetDateTime;

use super::db::StoreError;
use crate::domain::audit::{Entry, Head, Row};

/// Adds an entry. Call it last before the commit: it holds the end of the chain until the transaction ends,
/// and whoever appends next waits for it.
pub async fn append(conn: &mut PgConnection, entry: &Entry) -> Result<(), StoreError> {
    append_all(conn, std::slice::from_ref(entry)).await
}

/// Adds entries in their order; the same holds as for one.
pub async fn append_all(conn: &mut PgConnection, entries: &[Entry]) -> Result<(), StoreError> {
    const HEAD: &str = "-- lock_audit_head
        select id, hash from audit_head for update";
    const SQL: &str = "-- append_audit
        with appended as (
            insert into audit_log (id, at, livemode, actor, action, subject, details, previous, hash)
            select * from unnest($1::bigint[], $2::timestamptz[], $3::boolean[], $4::text[], $5::text[],
                $6::text[], $7::text[], $8::bytea[], $9::bytea[])
        )
        update audit_head set id = $10, hash = $11";
    if entries.is_empty() {
        return Ok(());
    }
    let (id, hash): (i64, Vec<u8>) = sqlx::query_as(HEAD).fetch_one(&mut *conn).await?;
    let mut head = Head { id, hash };
    let (mut ids, mut before, mut hashes) = (Vec::new(), Vec::new(), Vec::new());
    for entry in entries {
        let hash = entry.hash(head.id + 1, &head.hash).to_vec();
        ids.push(head.id + 1);
        before.push(head.hash);
        hashes.push(hash.clone());
        head = Head { id: head.id + 1, hash };
    }
    let column = |text: fn(&Entry) -> &str| entries.iter().map(text).collect::<Vec<_>>();
    sqlx::query(SQL)
        .bind(ids)
        .bind(entries.iter().map(|entry| entry.at).collect::<Vec<_>>())
        .bind(entries.iter().map(|entry| entry.livemode).collect::<Vec<_>>())
        .bind(column(|entry| &entry.actor))
        .bind(column(|entry| &entry.action))
        .bind(column(|entry| &entry.subject))
        .bind(column(|entry| &entry.details))
        .bind(before)
        .bind(hashes)
        .bind(head.id)
        .bind(head.hash)
        .execute(conn)
        .await?;
    Ok(())
}

type Columns = (i64, OffsetDateTime, bool, String, String, String, String, Vec<u8>, Vec<u8>);

fn row((id, at, livemode, actor, action, subject, details, previous, hash): Columns) -> Row {
    Row { id, entry: Entry { at, livemode, actor, action, subject, details }, previous, hash }
}

/// Rows of the chain, the oldest first, from beyond `after`.
pub async fn list(conn: &mut PgConnection, after: i64, limit: i64) -> Result<Vec<Row>, StoreError> {
    const SQL: &str = "-- list_audit
        select id, at, livemode, actor, action, subject, details, previous, hash
        from audit_log where id > $1 order by id limit $2";
    let rows: Vec<Columns> = sqlx::query_as(SQL).bind(after).bind(limit).fetch_all(conn).await?;
    Ok(rows.into_iter().map(row).collect())
}

/// All rows about these subjects, the oldest first.
pub async fn list_about(conn: &mut PgConnection, subjects: &[&str]) -> Result<Vec<Row>, StoreError> {
    const SQL: &str = "-- list_audit_about
        select id, at, livemode, actor, action, subject, details, previous, hash
        from audit_log where subject = any ((select $1::text[])::text[]) order by id";
    let rows: Vec<Columns> = sqlx::query_as(SQL).bind(subjects).fetch_all(conn).await?;
    Ok(rows.into_iter().map(row).collect())
}

/// Rows of one mode, the newest first, from below `after`; with a subject only those about it.
pub async fn list_newest(
    conn: &mut PgConnection,
    livemode: bool,
    subject: Option<&str>,
    after: Option<i64>,
    limit: i64,
) -> Result<Vec<Row>, StoreError> {
    const SQL: &str = "-- list_newest_audit
        select id, at, livemode, actor, action, subject, details, previous, hash from audit_log
        where livemode = $1 and ($2::text is null or subject = $2) and ($3::bigint is null or id < $3)
        order by id desc limit $4";
    let query = sqlx::query_as(SQL).bind(livemode).bind(subject).bind(after).bind(limit);
    let rows: Vec<Columns> = query.persistent(false).fetch_all(conn).await?;
    Ok(rows.into_iter().map(row).collect())
}

/// The end of the chain, as kept beside it.
pub async fn get_head(conn: &mut PgConnection) -> Result<Head, StoreError> {
    const SQL: &str = "-- get_audit_head
        select id, hash from audit_head";
    let (id, hash) = sqlx::query_as(SQL).fetch_one(conn).await?;
    Ok(Head { id, hash })
}
