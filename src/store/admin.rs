//! Databases themselves: made for a demo, dropped when the next one begins.

use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use super::db::StoreError;

/// Makes a new, empty database on the server of `url`, named after `prefix`, and drops earlier ones of that
/// prefix that nobody is connected to. Returns its URL. `prefix` must be lower-case letters and underscores.
pub async fn create_fresh_database(url: &str, prefix: &str) -> Result<String, StoreError> {
    const OLD: &str = "-- list_old_databases
        select datname from pg_database d
        where datname like $1 || '\\_%' and not exists (select from pg_stat_activity a where a.datname = d.datname)";
    let plain = prefix.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    if !plain {
        return Err(StoreError::Unreadable(format!("the prefix {prefix}")));
    }
    let mut conn = PgConnection::connect_with(&url.parse::<PgConnectOptions>()?).await?;
    let old: Vec<String> = sqlx::query_scalar(OLD).bind(prefix).fetch_all(&mut conn).await?;
    for name in old.iter().filter(|name| name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')) {
        // Somebody may have connected meanwhile: then it stays until the next time.
        let drop = format!("drop database if exists {name}");
        drop_quietly(&mut conn, drop).await;
    }
    let name = format!("{prefix}_{}", uuid::Uuid::now_v7().simple());
    sqlx::query(AssertSqlSafe(format!("create database {name}"))).execute(&mut conn).await?;
    conn.close().await?;
    Ok(with_database(url, &name))
}

async fn drop_quietly(conn: &mut PgConnection, sql: String) {
    let _ = sqlx::query(AssertSqlSafe(sql)).execute(conn).await;
}

/// The same server, another database.
pub fn with_database(url: &str, name: &str) -> String {
    let (base, query) = url.split_once('?').map_or((url, None), |(base, query)| (base, Some(query)));
    let scheme_end = base.find("://").map_or(0, |at| at + 3);
    let host_end = base[scheme_end..].find('/').map_or(base.len(), |at| scheme_end + at);
    let query = query.map(|query| format!("?{query}")).unwrap_or_default();
    format!("{}/{name}{query}", &base[..host_end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_databases_name_changes() {
        let rows = [
            ("postgresql://u:p@h:5432/old?sslmode=require", "postgresql://u:p@h:5432/new?sslmode=require"),
            ("postgres://h", "postgres://h/new"),
            (
                "postgresql://postgres@localhost/db?host=/run/x",
                "postgresql://postgres@localhost/new?host=/run/x",
            ),
        ];
        for (url, other) in rows {
            assert_eq!(with_database(url, "new"), other);
        }
    }
}
