//! What a server and its database say of themselves, for `doctor`: settings, privileges, and what the service left.

use std::collections::HashMap;

use sqlx::types::time::OffsetDateTime;
use sqlx::{FromRow, PgConnection};

use super::db::{MIGRATIONS, StoreError};
use super::{controls, heartbeats, platforms};
use crate::domain::checkup::database::{Applied, Server};
use crate::domain::checkup::service::State;

#[derive(FromRow)]
struct ServerRow {
    version_num: i32,
    version: String,
    encoding: String,
    read_only: bool,
    fsync: bool,
    full_page_writes: bool,
    lz4: bool,
    may_create: bool,
    owns_tables: Option<bool>,
    connections: i64,
    clock: OffsetDateTime,
}

/// The server's own account of itself, and its clock beside `before` and `after`, between which it was asked.
pub async fn read_server(
    conn: &mut PgConnection,
    clock: impl Fn() -> OffsetDateTime,
) -> Result<Server, StoreError> {
    const SQL: &str = "-- read_server
        select current_setting('server_version_num')::int as version_num,
            split_part(current_setting('server_version'), ' ', 1) as version,
            current_setting('server_encoding') as encoding,
            pg_is_in_recovery() or current_setting('default_transaction_read_only')::bool as read_only,
            current_setting('fsync')::bool as fsync,
            current_setting('full_page_writes')::bool as full_page_writes,
            coalesce((select 'lz4' = any(enumvals) from pg_settings where name = 'default_toast_compression'), false)
                as lz4,
            coalesce(has_schema_privilege(current_schema(), 'create'), false) as may_create,
            (select bool_and(pg_has_role(relowner, 'usage')) from pg_class
             where oid in (to_regclass('outbox'), to_regclass('transfers'))) as owns_tables,
            least(
                current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
                    - coalesce(current_setting('reserved_connections', true)::int, 0),
                (select nullif(rolconnlimit, -1) from pg_roles where rolname = current_user),
                (select nullif(datconnlimit, -1) from pg_database where datname = current_database())
            )::bigint as connections,
            clock_timestamp() as clock";
    let before = clock();
    let row: ServerRow = sqlx::query_as(SQL).fetch_one(conn).await?;
    let midway = before + (clock() - before) / 2;
    Ok(Server {
        version_num: row.version_num,
        version: row.version,
        encoding: row.encoding,
        read_only: row.read_only,
        fsync: row.fsync,
        full_page_writes: row.full_page_writes,
        lz4: row.lz4,
        may_create: row.may_create,
        owns_tables: row.owns_tables,
        connections: row.connections,
        ahead: row.clock - midway,
    })
}

/// The migrations that were applied; none where nothing ever was.
pub async fn list_applied(conn: &mut PgConnection) -> Result<Option<Vec<Applied>>, StoreError> {
    const ANY: &str = "-- is_migrated
        select to_regclass('_sqlx_migrations') is not null";
    const SQL: &str = "-- list_applied
        select version, success, checksum from _sqlx_migrations order by version limit 10000";
    if !sqlx::query_scalar::<_, bool>(ANY).fetch_one(&mut *conn).await? {
        return Ok(None);
    }
    let ours: HashMap<i64, &[u8]> = MIGRATIONS.iter().map(|one| (one.version, &*one.checksum)).collect();
    let rows: Vec<(i64, bool, Vec<u8>)> = sqlx::query_as(SQL).fetch_all(conn).await?;
    let applied = rows.into_iter().map(|(version, success, checksum)| Applied {
        version,
        success,
        same: ours.get(&version).map(|our| *our == checksum.as_slice()),
    });
    Ok(Some(applied.collect()))
}

/// The migrations of this program.
pub fn known() -> Vec<i64> {
    MIGRATIONS.iter().map(|one| one.version).collect()
}

/// What the service left in a database that has every migration. A process is alive that beat since `alive_since`.
pub async fn read_state(
    conn: &mut PgConnection,
    livemode: bool,
    alive_since: OffsetDateTime,
) -> Result<State, StoreError> {
    const SQL: &str = "-- read_state
        select (select count(*) from replicas where seen_at >= $2),
            (select at from heartbeats where livemode = $1),
            (select count(*) from dead_letters where livemode = $1),
            (select count(*) from api_keys where revoked_at is null)";
    type Row = (i64, Option<OffsetDateTime>, i64, i64);
    let query = sqlx::query_as::<_, Row>(SQL).bind(livemode).bind(alive_since);
    let (replicas, heartbeat, dead_letters, keys) = query.fetch_one(&mut *conn).await?;
    let pause = controls::find_pause(conn, livemode).await?.filter(|pause| pause.paused);
    let catch_up = heartbeats::find_catch_up(conn, livemode).await?;
    Ok(State {
        replicas,
        heartbeat,
        paused: pause.map(|pause| (pause.cause.unwrap_or_default(), pause.paused_by.unwrap_or_default())),
        catching_up: catch_up.map(|catch_up| (catch_up.from, catch_up.seen)),
        platform: platforms::get(conn, livemode).await?.account,
        dead_letters,
        keys,
    })
}
