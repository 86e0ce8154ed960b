//! Transfers and their history.

mod row;

use std::collections::BTreeMap;

use sqlx::PgConnection;
use sqlx::types::Json;
use sqlx::types::time::{Date, OffsetDateTime};

pub(super) use self::row::Row;
pub use self::row::Transfer;
use super::db::StoreError;
use crate::domain::reason::{Reason, codes};
use crate::domain::transfer::Status;

/// Stores new transfers, waiting for what each of them says.
pub async fn insert_all(
    conn: &mut PgConnection,
    transfers: &[&Transfer],
    idempotency_key: &str,
) -> Result<(), StoreError> {
    const SQL: &str = "-- insert_transfers
        insert into transfers (id, livemode, status, waiting_on, destination, amount, currency, topup,
            transfer_group, description, metadata, release_after, expected_release_at, priority, created_by,
            idempotency_key, created_at, updated_at)
        select id, livemode, 'waiting', string_to_array(waiting_on, ' '), destination, amount, currency, topup,
            transfer_group, description, metadata, release_after, expected_release_at, priority, created_by,
            $16, created_at, created_at
        from unnest($1::text[], $2::boolean[], $3::text[], $4::text[], $5::bigint[], $6::text[], $7::text[],
            $8::text[], $9::text[], $10::jsonb[], $11::timestamptz[], $12::timestamptz[], $13::integer[],
            $14::text[], $15::timestamptz[])
            as t (id, livemode, waiting_on, destination, amount, currency, topup, transfer_group, description,
                metadata, release_after, expected_release_at, priority, created_by, created_at)";
    sqlx::query(SQL)
        .bind(transfers.iter().map(|t| t.id.as_str()).collect::<Vec<_>>())
        .bind(transfers.iter().map(|t| t.livemode).collect::<Vec<_>>())
        .bind(transfers.iter().map(|t| codes(&t.waiting_on).join(" ")).collect::<Vec<_>>())
        .bind(transfers.iter().map(|t| t.destination.as_str()).collect::<Vec<_>>())
        .bind(transfers.iter().map(|t| t.amount_minor).collect::<Vec<_>>())
        .bind(transfers.iter().map(|t| t.currency.as_str()).collect::<Vec<_>>())
        .bind(transfers.iter().map(|t| t.topup.as_ref().map(|id| id.as_str())).collect::<Vec<_>>())
        .bind(transfers.iter().map(|t| t.transfer_group.as_deref()).collect::<Vec<_>>())
        .bind(transfers.iter().map(|t| t.description.as_deref()).collect::<Vec<_>>())
        .bind(transfers.iter().map(|t| Json(&t.metadata)).collect::<Vec<_>>())
        .bind(transfers.iter().map(|t| t.release_after).collect::<Vec<_>>())
        .bind(transfers.iter().map(|t| t.expected_release_at).collect::<Vec<_>>())
        .bind(transfers.iter().map(|t| t.priority).collect::<Vec<_>>())
        .bind(transfers.iter().map(|t| t.created_by.as_str()).collect::<Vec<_>>())
        .bind(transfers.iter().map(|t| t.created_at).collect::<Vec<_>>())
        .bind(idempotency_key)
        .execute(conn)
        .await?;
    Ok(())
}

/// The first line of each one's history: what it waits for from the start, and what brought it here.
pub async fn insert_first_lines(
    conn: &mut PgConnection,
    transfers: &[&Transfer],
    cause: &str,
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    let lines: Vec<Line<'_>> =
        transfers.iter().map(|t| (t.id.as_str(), Status::Waiting, codes(&t.waiting_on).join(" "))).collect();
    insert_history(conn, &lines, cause, now).await
}

/// Reads transfers as they are, by their ids; those that are not there are left out.
pub async fn list_by_ids(
    conn: &mut PgConnection,
    ids: &[&str],
) -> Result<BTreeMap<String, Transfer>, StoreError> {
    const SQL: &str = "-- list_transfers_by_ids
        select * from transfers where id = any ((select $1::text[])::text[])";
    if ids.is_empty() {
        return Ok(BTreeMap::new());
    }
    let rows: Vec<Row> = sqlx::query_as(SQL).bind(ids).fetch_all(conn).await?;
    rows.into_iter().map(|row| Row::read(row).map(|transfer| (transfer.id.to_string(), transfer))).collect()
}

/// Reads a transfer as it is.
pub async fn find(conn: &mut PgConnection, id: &str) -> Result<Option<Transfer>, StoreError> {
    const SQL: &str = "-- find_transfer
        select * from transfers where id = $1";
    let row: Option<Row> = sqlx::query_as(SQL).bind(id).fetch_optional(conn).await?;
    row.map(Row::read).transpose()
}

/// What was taken in again after a restore and was first asked for with the keys that leave these marks.
pub async fn list_adopted(
    conn: &mut PgConnection,
    livemode: bool,
    marks: &[&str],
) -> Result<Vec<Transfer>, StoreError> {
    const SQL: &str = "-- list_adopted
        select * from transfers where livemode = $1 and right(id, 12) = any($2) and created_by = 'sluicegate'";
    let rows: Vec<Row> = sqlx::query_as(SQL).bind(livemode).bind(marks).fetch_all(conn).await?;
    rows.into_iter().map(Row::read).collect()
}

/// What waits and was asked for with the key that leaves this mark.
pub async fn find_waiting_by_mark(
    conn: &mut PgConnection,
    livemode: bool,
    mark: &str,
) -> Result<Option<Transfer>, StoreError> {
    const SQL: &str = "-- find_waiting_by_mark
        select * from transfers
        where livemode = $1 and status = 'waiting' and right(id, 12) = $2 and created_by <> 'sluicegate' limit 1";
    let row: Option<Row> = sqlx::query_as(SQL).bind(livemode).bind(mark).fetch_optional(conn).await?;
    row.map(Row::read).transpose()
}

/// Reads a transfer and keeps others from changing it until the transaction ends.
pub async fn find_for_update(conn: &mut PgConnection, id: &str) -> Result<Option<Transfer>, StoreError> {
    const SQL: &str = "-- find_transfer_for_update
        select * from transfers where id = $1 for no key update";
    let row: Option<Row> = sqlx::query_as(SQL).bind(id).fetch_optional(conn).await?;
    row.map(Row::read).transpose()
}

/// These transfers, locked; one that somebody else has locked is left out.
pub async fn list_unlocked_for_update(
    conn: &mut PgConnection,
    ids: &[&str],
) -> Result<Vec<Transfer>, StoreError> {
    // By their ids alone: asked for a status as well, Postgres may read all that have it, in the order of their ids.
    const SQL: &str = "-- list_unlocked_for_update
        select * from transfers where id = any ((select $1::text[])::text[])
        order by id for no key update skip locked";
    let rows: Vec<Row> = sqlx::query_as(SQL).bind(ids).fetch_all(conn).await?;
    rows.into_iter().map(Row::read).collect()
}

/// Our transfer with this id at Stripe.
pub async fn find_id_by_stripe(
    conn: &mut PgConnection,
    stripe_transfer: &str,
) -> Result<Option<String>, StoreError> {
    const SQL: &str = "-- find_id_by_stripe
        select id from transfers where stripe_transfer = $1";
    Ok(sqlx::query_scalar(SQL).bind(stripe_transfer).fetch_optional(conn).await?)
}

/// Those of these transfers at Stripe that are known as ours.
pub async fn list_known_at_stripe(
    conn: &mut PgConnection,
    stripe_transfers: &[&str],
) -> Result<Vec<String>, StoreError> {
    const SQL: &str = "-- list_known_at_stripe
        select stripe_transfer from transfers where stripe_transfer = any ((select $1::text[])::text[])";
    if stripe_transfers.is_empty() {
        return Ok(Vec::new());
    }
    Ok(sqlx::query_scalar(SQL).bind(stripe_transfers).fetch_all(conn).await?)
}

/// Whose transfers are to be looked at again.
#[derive(Clone, Copy, Debug)]
pub enum Of<'a> {
    /// These accounts'.
    Destinations(&'a [&'a str]),
    /// Those tied to these top-ups.
    Topups(&'a [&'a str]),
}

/// The ids of transfers that wait or are under way.
pub async fn list_open_ids(
    conn: &mut PgConnection,
    livemode: bool,
    of: Of<'_>,
) -> Result<Vec<String>, StoreError> {
    const BY_DESTINATION: &str = "-- list_open_ids
        select id from transfers
        where livemode = $1 and destination = any ((select $2::text[])::text[]) and status in ('waiting', 'releasing')";
    const BY_TOPUP: &str = "-- list_open_ids
        select id from transfers
        where livemode = $1 and topup = any ((select $2::text[])::text[]) and status in ('waiting', 'releasing')";
    let (sql, of) = match of {
        Of::Destinations(accounts) => (BY_DESTINATION, accounts),
        Of::Topups(topups) => (BY_TOPUP, topups),
    };
    if of.is_empty() {
        return Ok(Vec::new());
    }
    Ok(sqlx::query_scalar(sql).bind(livemode).bind(of).fetch_all(conn).await?)
}

/// What a change of a transfer leaves behind.
#[derive(Clone, Debug)]
pub struct Change<'a> {
    /// The new status.
    pub status: Status,
    /// The new reasons to wait.
    pub waiting_on: &'a [Reason],
    /// It waits for nothing but money.
    pub fundable: bool,
    /// When it should go out.
    pub expected_release_at: Option<OffsetDateTime>,
    /// N of the key used now or next.
    pub generation: i32,
    /// How often its money was reserved.
    pub reservations: i32,
    /// The UTC day whose caps its reservation counts towards.
    pub counted_on: Option<Date>,
    /// The next key is not used before a look-up found nothing.
    pub look_up_first: bool,
    /// Its id at Stripe.
    pub stripe_transfer: Option<&'a str>,
    /// What came back, in minor units.
    pub amount_reversed_minor: i64,
    /// Stripe's refusal: code and text.
    pub failure: Option<(&'a str, &'a str)>,
}

impl<'a> Change<'a> {
    /// No change yet: the row as it is, with no reasons.
    pub fn of(transfer: &'a Transfer) -> Self {
        Self {
            status: transfer.status,
            waiting_on: &[],
            fundable: false,
            expected_release_at: transfer.expected_release_at,
            generation: transfer.generation,
            reservations: transfer.reservations,
            counted_on: transfer.counted_on,
            look_up_first: transfer.look_up_first,
            stripe_transfer: transfer.stripe_transfer.as_ref().map(|id| id.as_str()),
            amount_reversed_minor: transfer.amount_reversed_minor,
            failure: transfer.failure.as_ref().map(|(code, text)| (code.as_str(), text.as_str())),
        }
    }
}

impl Change<'_> {
    /// Whether it shows: then it stands in the history too.
    fn is_seen_in(&self, transfer: &Transfer) -> bool {
        transfer.status != self.status
            || transfer.waiting_on != self.waiting_on
            || transfer.amount_reversed_minor != self.amount_reversed_minor
    }

    /// Whether, beside what is shown, all stays as it is: most looks at a transfer end so, and its row is dear to write.
    fn changes_nothing_of(&self, transfer: &Transfer) -> bool {
        let failure = transfer.failure.as_ref().map(|(code, text)| (code.as_str(), text.as_str()));
        // Being passed over may end with any look.
        transfer.passed_over_at.is_none()
            && self.fundable == transfer.fundable
            && self.expected_release_at == transfer.expected_release_at
            && self.generation == transfer.generation
            && self.reservations == transfer.reservations
            && self.counted_on == transfer.counted_on
            && self.look_up_first == transfer.look_up_first
            && self.stripe_transfer == transfer.stripe_transfer.as_ref().map(|id| id.as_str())
            && self.failure == failure
    }
}

/// The changes of transfers that go on waiting, each for its reasons: in the line for money or not.
pub fn going_on<'a>(
    looked: &'a [(&Transfer, Vec<Reason>)],
    fundable: bool,
) -> Vec<(&'a Transfer, Change<'a>)> {
    let change = |(transfer, waiting_on): &'a (&'a Transfer, Vec<Reason>)| {
        (*transfer, Change { waiting_on, fundable, ..Change::of(transfer) })
    };
    looked.iter().map(change).collect()
}

/// Writes a change of a transfer: see [`record_changes`].
pub async fn record_change(
    conn: &mut PgConnection,
    transfer: &Transfer,
    change: &Change<'_>,
    cause: &str,
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    record_changes(conn, &[(transfer, change.clone())], cause, now).await
}

/// Writes changes of transfers that the caller has locked, each of another, and their history where status or reasons
/// differ. While its account is asked about, one that was passed over in the line goes on being so.
pub async fn record_changes(
    conn: &mut PgConnection,
    changes: &[(&Transfer, Change<'_>)],
    cause: &str,
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    const SQL: &str = "-- record_changes
        update transfers t set status = c.status, waiting_on = string_to_array(c.waiting_on, ' '), fundable = c.fundable,
            generation = c.generation, reservations = c.reservations, stripe_transfer = c.stripe_transfer,
            amount_reversed = c.amount_reversed, failure_code = c.failure_code, failure_message = c.failure_message,
            passed_over_at = case when c.fundable or (c.status = 'waiting' and c.waiting_on = 'stripe_unavailable')
                then t.passed_over_at end,
            expected_release_at = c.expected_release_at, counted_on = c.counted_on, look_up_first = c.look_up_first,
            updated_at = case when c.seen then $1 else t.updated_at end,
            released_at = case when c.stripe_transfer is not null then coalesce(t.released_at, $1) end
        from unnest($2::text[], $3::text[], $4::text[], $5::boolean[], $6::integer[], $7::integer[], $8::text[],
            $9::bigint[], $10::text[], $11::text[], $12::timestamptz[], $13::date[], $14::boolean[], $15::boolean[])
            as c (id, status, waiting_on, fundable, generation, reservations, stripe_transfer, amount_reversed,
                failure_code, failure_message, expected_release_at, counted_on, look_up_first, seen)
        where t.id = c.id";
    debug_assert!(
        changes.iter().all(|(_, c)| c.waiting_on.is_sorted()),
        "reasons are not in order: {changes:?}"
    );
    let changes: Vec<_> =
        changes.iter().filter(|(t, c)| c.is_seen_in(t) || !c.changes_nothing_of(t)).collect();
    if changes.is_empty() {
        return Ok(());
    }
    let waiting_on: Vec<String> = changes.iter().map(|(_, c)| codes(c.waiting_on).join(" ")).collect();
    sqlx::query(SQL)
        .bind(now)
        .bind(changes.iter().map(|(t, _)| t.id.as_str()).collect::<Vec<_>>())
        .bind(changes.iter().map(|(_, c)| c.status.as_str()).collect::<Vec<_>>())
        .bind(&waiting_on)
        .bind(changes.iter().map(|(_, c)| c.fundable).collect::<Vec<_>>())
        .bind(changes.iter().map(|(_, c)| c.generation).collect::<Vec<_>>())
        .bind(changes.iter().map(|(_, c)| c.reservations).collect::<Vec<_>>())
        .bind(changes.iter().map(|(_, c)| c.stripe_transfer).collect::<Vec<_>>())
        .bind(changes.iter().map(|(_, c)| c.amount_reversed_minor).collect::<Vec<_>>())
        .bind(changes.iter().map(|(_, c)| c.failure.map(|(code, _)| code)).collect::<Vec<_>>())
        .bind(changes.iter().map(|(_, c)| c.failure.map(|(_, text)| text)).collect::<Vec<_>>())
        .bind(changes.iter().map(|(_, c)| c.expected_release_at).collect::<Vec<_>>())
        .bind(changes.iter().map(|(_, c)| c.counted_on).collect::<Vec<_>>())
        .bind(changes.iter().map(|(_, c)| c.look_up_first).collect::<Vec<_>>())
        .bind(changes.iter().map(|(t, c)| c.is_seen_in(t)).collect::<Vec<_>>())
        .execute(&mut *conn)
        .await?;
    let lines: Vec<Line<'_>> = changes
        .iter()
        .zip(waiting_on)
        .filter(|((t, c), _)| c.is_seen_in(t))
        .map(|((t, c), waiting_on)| (t.id.as_str(), c.status, waiting_on))
        .collect();
    insert_history(conn, &lines, cause, now).await
}

/// The last line of a transfer's history: when, and what brought it there.
pub async fn find_last_line(
    conn: &mut PgConnection,
    transfer: &str,
) -> Result<Option<(OffsetDateTime, String)>, StoreError> {
    const SQL: &str = "-- find_last_line
        select at, cause from transfer_history where transfer = $1 order by id desc limit 1";
    Ok(sqlx::query_as(SQL).bind(transfer).fetch_optional(conn).await?)
}

/// A line of a history: whose, the status, and the reasons with spaces between them.
type Line<'a> = (&'a str, Status, String);

/// Adds to the histories of transfers.
async fn insert_history(
    conn: &mut PgConnection,
    lines: &[Line<'_>],
    cause: &str,
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    const SQL: &str = "-- insert_history
        insert into transfer_history (transfer, at, status, waiting_on, cause)
        select id, $4, status, string_to_array(waiting_on, ' '), $5
        from unnest($1::text[], $2::text[], $3::text[]) as t (id, status, waiting_on)";
    if lines.is_empty() {
        return Ok(());
    }
    sqlx::query(SQL)
        .bind(lines.iter().map(|(id, ..)| *id).collect::<Vec<_>>())
        .bind(lines.iter().map(|(_, status, _)| status.as_str()).collect::<Vec<_>>())
        .bind(lines.iter().map(|(.., waiting_on)| waiting_on.as_str()).collect::<Vec<_>>())
        .bind(now)
        .bind(cause)
        .execute(conn)
        .await?;
    Ok(())
}
