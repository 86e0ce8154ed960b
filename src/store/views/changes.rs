//! What changed, for those who follow it: lines of the histories in the order of the transactions that wrote them.
//!
//! A line is shown only once no older transaction is left that could still write one. What commits out of order
//! is thus neither missed nor shown twice.

use sqlx::types::time::OffsetDateTime;
use sqlx::{FromRow, PgConnection};

use super::StoreError;
use crate::domain::change::{Noun, Place, Present, mark};

/// A line of a history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Where it stands.
    pub place: Place,
    /// Which account, top-up or transfer.
    pub subject: String,
}

#[derive(FromRow)]
struct Row {
    noun: String,
    xid: String,
    id: i64,
    subject: String,
}

impl Row {
    fn read(self) -> Result<Change, StoreError> {
        let odd = || StoreError::Unreadable(format!("line {} of the changes", self.id));
        let noun = Noun::parse(&self.noun).ok_or_else(odd)?;
        let place = Place { xid: self.xid.parse().map_err(|_| odd())?, noun, row: self.id };
        Ok(Change { place, subject: self.subject })
    }
}

/// A noun's number in these statements.
fn number(noun: Noun) -> i32 {
    match noun {
        Noun::Readiness => 1,
        Noun::Topup => 2,
        Noun::Transfer => 3,
    }
}

/// At most `limit` changes that follow `after`, in order.
pub async fn list_changes(
    conn: &mut PgConnection,
    livemode: bool,
    after: Place,
    limit: i64,
) -> Result<Vec<Change>, StoreError> {
    const SQL: &str = "-- list_changes
        with bound as materialized (select pg_snapshot_xmin(pg_current_snapshot()) as xid)
        select noun, xid::text, id, subject from (
            (select 1 as place, 'readiness' as noun, xid, id, account as subject from account_changes
            where livemode = $1 and xid >= $2::text::xid8 and xid < (select xid from bound)
                and (xid, 1, id) > ($2::text::xid8, $3, $4)
            order by xid, id limit $5)
            union all
            (select 2, 'topup', xid, id, topup from topup_changes
            where livemode = $1 and xid >= $2::text::xid8 and xid < (select xid from bound)
                and (xid, 2, id) > ($2::text::xid8, $3, $4)
            order by xid, id limit $5)
            union all
            (select 3, 'transfer', h.xid, h.id, h.transfer from transfer_history h
            join transfers t on t.id = h.transfer
            where t.livemode = $1 and h.xid >= $2::text::xid8 and h.xid < (select xid from bound)
                and (h.xid, 3, h.id) > ($2::text::xid8, $3, $4)
            order by h.xid, h.id limit $5)
        ) every order by every.xid, place, id limit $5";
    let rows: Vec<Row> = sqlx::query_as(SQL)
        .bind(livemode)
        .bind(after.xid.to_string())
        .bind(number(after.noun))
        .bind(after.row)
        .bind(limit)
        .fetch_all(conn)
        .await?;
    rows.into_iter().map(Row::read).collect()
}

/// The last change that can be told by now.
pub async fn last_change(conn: &mut PgConnection, livemode: bool) -> Result<Option<Change>, StoreError> {
    const SQL: &str = "-- last_change
        with bound as materialized (select pg_snapshot_xmin(pg_current_snapshot()) as xid)
        select noun, xid::text, id, subject from (
            (select 1 as place, 'readiness' as noun, xid, id, account as subject from account_changes
            where livemode = $1 and xid < (select xid from bound) order by xid desc, id desc limit 1)
            union all
            (select 2, 'topup', xid, id, topup from topup_changes
            where livemode = $1 and xid < (select xid from bound) order by xid desc, id desc limit 1)
            union all
            (select 3, 'transfer', h.xid, h.id, h.transfer from transfer_history h
            join transfers t on t.id = h.transfer
            where t.livemode = $1 and h.xid < (select xid from bound) order by h.xid desc, h.id desc limit 1)
        ) every order by every.xid desc, place desc, id desc limit 1";
    let row: Option<Row> = sqlx::query_as(SQL).bind(livemode).fetch_optional(conn).await?;
    row.map(Row::read).transpose()
}

/// The database as it is now, as far as it concerns somebody who stopped at `place`.
pub async fn present(
    conn: &mut PgConnection,
    place: Place,
    now: OffsetDateTime,
) -> Result<Present, StoreError> {
    const SQL: &str = "-- present
        select i.first_started,
            case $2::integer when 1 then exists (select from account_changes where id = $3 and xid = $1::text::xid8)
                when 2 then exists (select from topup_changes where id = $3 and xid = $1::text::xid8)
                else exists (select from transfer_history where id = $3 and xid = $1::text::xid8) end,
            greatest(
                (select at from account_changes where xid < $1::text::xid8 order by xid desc, id desc limit 1),
                (select at from topup_changes where xid < $1::text::xid8 order by xid desc, id desc limit 1),
                (select at from transfer_history where xid < $1::text::xid8 order by xid desc, id desc limit 1))
        from installation i";
    let (first_started, is_there, last_before): (OffsetDateTime, bool, Option<OffsetDateTime>) =
        sqlx::query_as(SQL)
            .bind(place.xid.to_string())
            .bind(number(place.noun))
            .bind(place.row)
            .fetch_one(conn)
            .await?;
    Ok(Present { now, database: mark(first_started), is_there, last_before })
}

/// When the service first started on this database.
pub async fn first_started(conn: &mut PgConnection) -> Result<OffsetDateTime, StoreError> {
    crate::store::controls::get_first_started(conn).await
}
