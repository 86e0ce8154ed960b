//! What was kept, read back from the beginning, and what the tables hold beside it.
//!
//! All of it is read in one snapshot, so that a service that runs meanwhile makes no difference.

use sqlx::types::time::OffsetDateTime;
use sqlx::{FromRow, PgConnection, PgPool, Postgres, Transaction};

use super::db::StoreError;
use super::outbox::StoredEvent;
use super::transfers::{Row, Transfer};

/// A piece of evidence about a subject.
#[derive(Clone, Debug, FromRow)]
pub struct Evidence {
    /// Whom it is about.
    pub subject: String,
    /// The event, or the answer of Stripe's API.
    #[sqlx(flatten)]
    pub event: StoredEvent,
    /// It waits to be applied, or is being applied.
    pub open: bool,
    /// It could not be applied.
    pub dead: bool,
}

/// Begins a transaction that sees one state of the database and changes nothing.
pub async fn begin_snapshot(pool: &PgPool) -> Result<Transaction<'static, Postgres>, StoreError> {
    const SQL: &str = "-- begin_snapshot
        set transaction isolation level repeatable read read only";
    let mut tx = super::db::begin(pool).await?;
    sqlx::query(SQL).execute(&mut *tx).await?;
    Ok(tx)
}

/// Opens the evidence about all subjects of a kind: subject by subject, in the order of receipt.
pub async fn open_evidence(conn: &mut PgConnection, livemode: bool, kind: &str) -> Result<(), StoreError> {
    const SQL: &str = "-- open_evidence
        declare evidence no scroll cursor for
        select o.subject, o.event_id, o.created, o.seq, o.kind, o.type, o.api_version, o.payload, o.after_seq,
            exists (select from tasks k where k.event_id = o.event_id and k.event_created = o.created) as open,
            exists (select from dead_letters d where d.event_id = o.event_id and d.event_created = o.created) as dead
        from outbox o
        where o.livemode = $1 and o.subject_kind = $2 and o.subject is not null and o.ignored is null
        order by o.subject, o.seq";
    sqlx::query(SQL).bind(livemode).bind(kind).execute(conn).await?;
    Ok(())
}

/// The next thousand; none at the end.
pub async fn next_evidence(conn: &mut PgConnection) -> Result<Vec<Evidence>, StoreError> {
    const SQL: &str = "-- next_evidence
        fetch 1000 from evidence";
    // Not prepared: a plan of it would outlive the cursor it was made for.
    Ok(sqlx::query_as(SQL).persistent(false).fetch_all(conn).await?)
}

/// Closes what [`open_evidence`] opened.
pub async fn close_evidence(conn: &mut PgConnection) -> Result<(), StoreError> {
    const SQL: &str = "-- close_evidence
        close evidence";
    sqlx::query(SQL).persistent(false).execute(conn).await?;
    Ok(())
}

/// Accounts and top-ups that no evidence is kept of: kind and id.
pub async fn list_unexplained(
    conn: &mut PgConnection,
    livemode: bool,
) -> Result<Vec<(String, String)>, StoreError> {
    const SQL: &str = "-- list_unexplained
        select 'account', account from accounts a where livemode = $1 and not exists (select from outbox o
            where o.subject_kind = 'account' and o.subject = a.account and o.livemode = $1)
            and not exists (select from baselines b
                where b.kind = 'account' and b.subject = a.account and b.livemode = $1)
        union all
        select 'topup', topup from topups t where livemode = $1 and not exists (select from outbox o
            where o.subject_kind = 'topup' and o.subject = t.topup and o.livemode = $1)
            and not exists (select from baselines b
                where b.kind = 'topup' and b.subject = t.topup and b.livemode = $1)
        order by 1, 2";
    Ok(sqlx::query_as(SQL).bind(livemode).fetch_all(conn).await?)
}

/// Transfers with these ids.
pub async fn list_transfers(conn: &mut PgConnection, ids: &[&str]) -> Result<Vec<Transfer>, StoreError> {
    const SQL: &str = "-- list_transfers_by_ids
        select * from transfers where id = any($1)";
    let rows: Vec<Row> = sqlx::query_as(SQL).bind(ids).fetch_all(conn).await?;
    rows.into_iter().map(Row::read).collect()
}

/// A transfer as its row holds it, with what of the row is read here alone.
#[derive(Clone, Debug)]
pub struct Held {
    /// The transfer.
    pub transfer: Transfer,
    /// The Idempotency-Key it was asked for with.
    pub idempotency_key: String,
}

#[derive(FromRow)]
struct HeldRow {
    #[sqlx(flatten)]
    row: Row,
    idempotency_key: String,
}

/// Transfers in the order of their ids, from beyond `after`.
pub async fn page_transfers(
    conn: &mut PgConnection,
    livemode: bool,
    after: &str,
) -> Result<Vec<Held>, StoreError> {
    const SQL: &str = "-- page_transfers
        select * from transfers where livemode = $1 and id > $2 order by id limit 1000";
    let rows: Vec<HeldRow> = sqlx::query_as(SQL).bind(livemode).bind(after).fetch_all(conn).await?;
    let held = |HeldRow { row, idempotency_key }| Ok(Held { transfer: Row::read(row)?, idempotency_key });
    rows.into_iter().map(held).collect()
}

/// Orders on record about transfers that are not there: the id, and what was ordered.
pub async fn list_missing(
    conn: &mut PgConnection,
    livemode: bool,
) -> Result<Vec<(String, String)>, StoreError> {
    const SQL: &str = "-- list_missing
        select subject, action from audit_log l
        where livemode = $1 and action in ('transfer.requested', 'transfer.adopted', 'transfer.canceled')
            and not exists (select from transfers t where t.id = l.subject)
        order by id";
    Ok(sqlx::query_as(SQL).bind(livemode).fetch_all(conn).await?)
}

/// Transfers without what should be on record of them: the id, and what is missing there.
pub async fn list_unrecorded(
    conn: &mut PgConnection,
    livemode: bool,
) -> Result<Vec<(String, String)>, StoreError> {
    const SQL: &str = "-- list_unrecorded
        select id, 'the request' from transfers t where livemode = $1 and not exists (select from audit_log l
            where l.subject = t.id and l.action in ('transfer.requested', 'transfer.adopted'))
        union all
        select id, 'the order to cancel it' from transfers t where livemode = $1 and status = 'canceled'
            and not exists (select from audit_log l where l.subject = t.id and l.action = 'transfer.canceled')
        order by 1, 2";
    Ok(sqlx::query_as(SQL).bind(livemode).fetch_all(conn).await?)
}

/// A number that is kept beside what it adds up from, and differs.
#[derive(Clone, Debug, FromRow)]
pub struct Sum {
    /// What kind of thing.
    pub kind: String,
    /// Which one.
    pub subject: String,
    /// Which number of it.
    pub field: String,
    /// As kept, in minor units.
    pub held: i64,
    /// As it adds up, in minor units.
    pub rebuilt: i64,
}

/// Every number that does not add up from the postings.
pub async fn list_wrong_sums(conn: &mut PgConnection, livemode: bool) -> Result<Vec<Sum>, StoreError> {
    const SQL: &str = "-- list_wrong_sums
        with of_accounts as (
            select a.id, a.currency, a.kind, a.lot, a.balance, coalesce(sum(p.amount), 0)::bigint as posted
            from ledger_accounts a left join ledger_postings p on p.account = a.id
            where a.livemode = $1 group by a.id
        ), of_entries as (
            select e.id, e.kind, e.reference, sum(p.amount)::bigint as total
            from ledger_entries e join ledger_postings p on p.entry = e.id group by e.id
        ), of_transfers as (
            select t.id,
                coalesce(sum(p.amount) filter (where a.kind = 'reserved'), 0)::bigint as reserved,
                coalesce(sum(p.amount) filter (where a.kind = 'released'), 0)::bigint as released,
                case when t.status = 'releasing' then t.amount else 0 end as should_be_reserved,
                case when t.stripe_transfer is not null then t.amount - t.amount_reversed else 0 end as should_be_out
            from transfers t
            left join ledger_entries e on e.transfer = t.id
            left join ledger_postings p on p.entry = e.id
            left join ledger_accounts a on a.id = p.account
            where t.livemode = $1 group by t.id
        ), of_lots as (
            select lot, -sum(posted)::bigint as settled from of_accounts where kind = 'money_in' group by lot
        )
        select * from (
            select 'funds' as kind, currency || ' ' || kind || ' ' || lot as subject, 'balance' as field,
                balance as held, posted as rebuilt from of_accounts
            union all select 'ledger entry', kind || ' ' || reference, 'sum', total, 0 from of_entries
            union all select 'transfer', id, 'reserved', should_be_reserved, reserved from of_transfers
            union all select 'transfer', id, 'released', should_be_out, released from of_transfers
            union all select 'topup', t.topup, 'booked', t.booked_amount, coalesce(l.settled, 0)
                from topups t left join of_lots l on l.lot = t.topup where t.livemode = $1
            union all select 'adjustment', d.id, 'amount', d.amount, coalesce(l.settled, 0)
                from adjustments d left join of_lots l on l.lot = d.id where d.livemode = $1
        ) sums
        where held <> rebuilt order by kind, subject, field";
    Ok(sqlx::query_as(SQL).bind(livemode).fetch_all(conn).await?)
}

/// When each mode was last written to; only such modes need a check.
pub async fn list_modes(conn: &mut PgConnection) -> Result<Vec<bool>, StoreError> {
    const SQL: &str = "-- list_modes
        select livemode from funds union select livemode from accounts union select livemode from topups
        union select livemode from transfers order by 1";
    Ok(sqlx::query_scalar(SQL).fetch_all(conn).await?)
}

/// Since when money counts; none before the first start.
pub async fn find_funds_since(conn: &mut PgConnection) -> Result<Option<OffsetDateTime>, StoreError> {
    const SQL: &str = "-- find_funds_since
        select funds_since from installation";
    Ok(sqlx::query_scalar(SQL).fetch_optional(conn).await?)
}
