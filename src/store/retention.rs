//! Old partitions of the outbox go as a whole, after what they said of each subject was kept.

use sqlx::types::time::OffsetDateTime;
use sqlx::{AssertSqlSafe, FromRow, PgConnection};

use super::accounts::{self, Account};
use super::db::StoreError;
use super::outbox::limit_lock_waits;
use super::topups::{self, Topup};

/// A weekly partition of the outbox.
#[derive(Clone, Debug, PartialEq, Eq, FromRow)]
pub struct Partition {
    /// Its table.
    pub name: String,
    /// Events created from then on are in it.
    pub begins_at: OffsetDateTime,
    /// And before then.
    pub ends_at: OffsetDateTime,
}

/// The oldest weekly partition that ended before this.
pub async fn find_oldest(
    conn: &mut PgConnection,
    before: OffsetDateTime,
) -> Result<Option<Partition>, StoreError> {
    const SQL: &str = "-- find_oldest_partition
        select name, begins_at, begins_at + interval '7 days' as ends_at
        from (select c.relname::text as name, to_timestamp(right(c.relname::text, 8) || '+00', 'YYYYMMDDTZH') as begins_at
              from pg_inherits i join pg_class c on c.oid = i.inhrelid
              where i.inhparent = 'outbox'::regclass and c.relname ~ '^outbox_[0-9]{8}$') as weeks
        where begins_at + interval '7 days' <= $1
        order by begins_at limit 1";
    Ok(sqlx::query_as(SQL).bind(before).fetch_optional(conn).await?)
}

/// How many events created in this time still wait, are worked on, or failed.
pub async fn count_unsettled(conn: &mut PgConnection, week: &Partition) -> Result<i64, StoreError> {
    const SQL: &str = "-- count_unsettled
        select (select count(*) from tasks where event_created >= $1 and event_created < $2)
             + (select count(*) from dead_letters where event_created >= $1 and event_created < $2)";
    Ok(sqlx::query_scalar(SQL).bind(week.begins_at).bind(week.ends_at).fetch_one(conn).await?)
}

/// Keeps what is held of every subject that has events in this time; returns how many.
pub async fn keep_baselines(
    conn: &mut PgConnection,
    week: &Partition,
    now: OffsetDateTime,
) -> Result<u64, StoreError> {
    const SQL: &str = "-- keep_baselines
        with subjects as materialized (
            select distinct livemode, subject_kind, subject from outbox
            where created >= $1 and created < $2 and subject is not null and ignored is null
        )
        insert into baselines (livemode, kind, subject, kept_at, state)
        select s.livemode, s.subject_kind, s.subject, $3::timestamptz, to_jsonb(a) from subjects s
            join accounts a on a.livemode = s.livemode and a.account = s.subject where s.subject_kind = 'account'
        union all
        select s.livemode, s.subject_kind, s.subject, $3::timestamptz, to_jsonb(t) from subjects s
            join topups t on t.livemode = s.livemode and t.topup = s.subject where s.subject_kind = 'topup'
        union all
        select s.livemode, s.subject_kind, s.subject, $3::timestamptz, jsonb_build_object('transfer', t.id, 'amount', t.amount,
            'currency', t.currency, 'destination', t.destination, 'amount_reversed', t.amount_reversed) from subjects s
            join transfers t on t.livemode = s.livemode and t.stripe_transfer = s.subject
            where s.subject_kind = 'stripe_transfer'
        on conflict (livemode, kind, subject) do update set kept_at = excluded.kept_at, state = excluded.state";
    let kept = sqlx::query(SQL).bind(week.begins_at).bind(week.ends_at).bind(now).execute(conn).await?;
    Ok(kept.rows_affected())
}

/// Takes the lock that changing the outbox's partitions needs, for the rest of the transaction. Whoever holds the outbox
/// in use is not waited for, since all deliveries would wait behind this: that is an error to try again after.
pub async fn lock_partitions(conn: &mut PgConnection) -> Result<(), StoreError> {
    const SQL: &str = "-- lock_partitions
        lock table outbox in access exclusive mode";
    limit_lock_waits(conn).await?;
    sqlx::query(SQL).execute(conn).await?;
    Ok(())
}

/// The highest seq in a time: it grows with every event that comes in.
pub async fn last_seq_in(conn: &mut PgConnection, week: &Partition) -> Result<Option<i64>, StoreError> {
    const SQL: &str = "-- last_seq_in
        select max(seq) from outbox where created >= $1 and created < $2";
    Ok(sqlx::query_scalar(SQL).bind(week.begins_at).bind(week.ends_at).fetch_one(conn).await?)
}

/// Drops a partition with all its events.
pub async fn drop_partition(conn: &mut PgConnection, week: &Partition) -> Result<(), StoreError> {
    // Its name was read from the catalogue, by a pattern of letters and digits.
    let sql = format!("drop table {}", week.name);
    sqlx::query(AssertSqlSafe(sql)).execute(conn).await?;
    Ok(())
}

/// What was held of an account when events about it were dropped.
pub async fn find_account(
    conn: &mut PgConnection,
    livemode: bool,
    account: &str,
) -> Result<Option<Account>, StoreError> {
    const SQL: &str = "-- find_account_baseline
        select a.* from baselines b, jsonb_populate_record(null::accounts, b.state) a
        where b.livemode = $1 and b.kind = 'account' and b.subject = $2";
    accounts::read_one(sqlx::query_as(SQL).bind(livemode).bind(account), conn).await
}

/// What was held of a top-up when events about it were dropped.
pub async fn find_topup(
    conn: &mut PgConnection,
    livemode: bool,
    topup: &str,
) -> Result<Option<Topup>, StoreError> {
    const SQL: &str = "-- find_topup_baseline
        select t.* from baselines b, jsonb_populate_record(null::topups, b.state) t
        where b.livemode = $1 and b.kind = 'topup' and b.subject = $2";
    topups::read_one(sqlx::query_as(SQL).bind(livemode).bind(topup), conn).await
}

/// Subjects of which nothing but a baseline is kept, from beyond `after`, at most a thousand.
pub async fn list_only_baselines(
    conn: &mut PgConnection,
    livemode: bool,
    kind: &str,
    after: &str,
) -> Result<Vec<String>, StoreError> {
    const SQL: &str = "-- list_only_baselines
        select b.subject from baselines b
        where b.livemode = $1 and b.kind = $2 and b.subject > $3 and not exists (select from outbox o
            where o.livemode = $1 and o.subject_kind = $2 and o.subject = b.subject and o.ignored is null)
        order by b.subject limit 1000";
    Ok(sqlx::query_scalar(SQL).bind(livemode).bind(kind).bind(after).fetch_all(conn).await?)
}

/// What the books held of a transfer at Stripe when events about it were dropped.
#[derive(Clone, Debug, FromRow)]
pub struct TransferBaseline {
    /// Its id at Stripe.
    pub stripe_transfer: String,
    /// Ours.
    pub transfer: String,
    /// In minor units.
    pub amount: i64,
    /// Its currency.
    pub currency: String,
    /// The account it went to.
    pub destination: String,
    /// What had come back, in minor units.
    pub amount_reversed: i64,
}

/// All of those, from beyond `after`, at most a thousand.
pub async fn page_transfers(
    conn: &mut PgConnection,
    livemode: bool,
    after: &str,
) -> Result<Vec<TransferBaseline>, StoreError> {
    const SQL: &str = "-- page_transfer_baselines
        select subject as stripe_transfer, state->>'transfer' as transfer, (state->>'amount')::bigint as amount,
            state->>'currency' as currency, state->>'destination' as destination,
            (state->>'amount_reversed')::bigint as amount_reversed
        from baselines where livemode = $1 and kind = 'stripe_transfer' and subject > $2 order by subject limit 1000";
    Ok(sqlx::query_as(SQL).bind(livemode).bind(after).fetch_all(conn).await?)
}
