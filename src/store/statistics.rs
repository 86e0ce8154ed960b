//! What Postgres knows of the tables when it makes its plans.

use sqlx::{AssertSqlSafe, PgConnection};

use super::db::StoreError;

/// Below this many rows any plan will do.
const FEW: i64 = 1_000;

/// The tables that hold more than twice the rows that Postgres plans for, ready to stand in a statement. Only those that
/// this user may have analyzed: their owner may, or who belongs to the owner's role.
pub async fn list_outgrown(conn: &mut PgConnection) -> Result<Vec<String>, StoreError> {
    const SQL: &str = "-- list_outgrown
        select format('%I.%I', s.schemaname, s.relname) from pg_stat_user_tables s join pg_class c on c.oid = s.relid
        where s.schemaname = current_schema() and s.n_live_tup > $1 and s.n_live_tup > 2 * c.reltuples
            and pg_has_role(c.relowner, 'usage')
        order by 1";
    Ok(sqlx::query_scalar(SQL).bind(FEW).fetch_all(conn).await?)
}

/// Has Postgres look at a table anew, and with it make all plans anew that were made of it, unless somebody has it do
/// so just now. For the rest of the transaction it looks at a tenth of the rows that it else would: how many rows there
/// are is what matters here, and a look at 30,000 wide ones takes a core for a second.
pub async fn analyze(conn: &mut PgConnection, table: &str) -> Result<(), StoreError> {
    const SAMPLE: &str = "-- sample_few
        set local default_statistics_target = 10";
    let sql = format!("-- analyze\nanalyze (skip_locked) {table}");
    sqlx::query(SAMPLE).execute(&mut *conn).await?;
    sqlx::query(AssertSqlSafe(sql)).persistent(false).execute(conn).await?;
    Ok(())
}
