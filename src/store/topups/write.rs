//! Top-ups are written many at once: whole rows, and their history.

use sqlx::PgConnection;
use sqlx::types::time::OffsetDateTime;

use super::Topup;
use crate::domain::topup::Proof;
use crate::domain::topup::story::{Face, Step, in_words};
use crate::store::accounts::by_word;
use crate::store::db::{StoreError, column, json_of};

/// A top-up to write.
#[derive(Clone, Copy, Debug)]
pub struct Written<'a> {
    /// Its id.
    pub id: &'a str,
    /// What is known of it.
    pub topup: &'a Topup,
}

/// What is to be added to a top-up's history.
#[derive(Clone, Debug)]
pub struct ChangedFace<'a> {
    /// Its id.
    pub id: &'a str,
    /// What is known of it.
    pub topup: &'a Topup,
    /// What its history shows of it.
    pub face: Face,
    /// How it became that.
    pub steps: Vec<Step>,
}

/// Writes whole rows.
pub async fn put_all(
    conn: &mut PgConnection,
    livemode: bool,
    rows: &[Written<'_>],
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    const SQL: &str = "-- put_topups
        insert into topups (livemode, first_seen, updated_at, topup, known, status, amount, currency,
            balance_transaction, expected_availability_date, failure_code, failure_message, description,
            statement_descriptor, transfer_group, metadata, stripe_created, as_of, source, standing_at, standing_by,
            standing_seq, fetched_at, fetch_seq, doubted, proof_status, proof_available_on, proof_amount,
            proof_currency, proof_at, watched_since, settled, settled_at, excluded, booked_amount, booked_currency,
            bookings, on_its_way_at)
        select $1, $2, $2, topup, known, status, amount, currency, balance_transaction, expected_availability_date,
            failure_code, failure_message, description, statement_descriptor, transfer_group, metadata::jsonb,
            stripe_created, as_of, source, standing_at, standing_by, standing_seq, fetched_at, fetch_seq, doubted,
            proof_status, proof_available_on, proof_amount, proof_currency, proof_at, watched_since, settled,
            settled_at, excluded, booked_amount, booked_currency, bookings, on_its_way_at
        from unnest($3::text[], $4::bool[], $5::text[], $6::bigint[], $7::text[], $8::text[], $9::timestamptz[],
            $10::text[], $11::text[], $12::text[], $13::text[], $14::text[], $15::text[], $16::timestamptz[],
            $17::timestamptz[], $18::text[], $19::timestamptz[], $20::text[], $21::bigint[], $22::timestamptz[],
            $23::bigint[], $24::bool[], $25::text[], $26::timestamptz[], $27::bigint[], $28::text[], $29::timestamptz[],
            $30::timestamptz[], $31::bool[], $32::timestamptz[], $33::bool[], $34::bigint[], $35::text[], $36::int[],
            $37::timestamptz[])
            as t (topup, known, status, amount, currency, balance_transaction, expected_availability_date,
                failure_code, failure_message, description, statement_descriptor, transfer_group, metadata,
                stripe_created, as_of, source, standing_at, standing_by, standing_seq, fetched_at, fetch_seq, doubted,
                proof_status, proof_available_on, proof_amount, proof_currency, proof_at, watched_since, settled,
                settled_at, excluded, booked_amount, booked_currency, bookings, on_its_way_at)
        on conflict (livemode, topup) do update set
            known = excluded.known, status = excluded.status, amount = excluded.amount, currency = excluded.currency,
            balance_transaction = excluded.balance_transaction,
            expected_availability_date = excluded.expected_availability_date, failure_code = excluded.failure_code,
            failure_message = excluded.failure_message, description = excluded.description,
            statement_descriptor = excluded.statement_descriptor, transfer_group = excluded.transfer_group,
            metadata = excluded.metadata, stripe_created = excluded.stripe_created, as_of = excluded.as_of,
            source = excluded.source, standing_at = excluded.standing_at, standing_by = excluded.standing_by,
            standing_seq = excluded.standing_seq, fetched_at = excluded.fetched_at, fetch_seq = excluded.fetch_seq,
            doubted = excluded.doubted, proof_status = excluded.proof_status,
            proof_available_on = excluded.proof_available_on, proof_amount = excluded.proof_amount,
            proof_currency = excluded.proof_currency, proof_at = excluded.proof_at,
            watched_since = excluded.watched_since, settled = excluded.settled, settled_at = excluded.settled_at,
            excluded = excluded.excluded, booked_amount = excluded.booked_amount,
            booked_currency = excluded.booked_currency, bookings = excluded.bookings,
            on_its_way_at = excluded.on_its_way_at, updated_at = excluded.updated_at";
    if rows.is_empty() {
        return Ok(());
    }
    let proof =
        |of: fn(&Proof) -> Option<OffsetDateTime>| column(rows, |row| row.topup.proof.as_ref().and_then(of));
    let described = sqlx::query(SQL)
        .bind(livemode)
        .bind(now)
        .bind(column(rows, |row| row.id))
        .bind(column(rows, |row| row.topup.known))
        .bind(column(rows, |row| row.topup.status.as_str()))
        .bind(column(rows, |row| row.topup.amount_minor))
        .bind(column(rows, |row| row.topup.currency.map(|c| c.to_string()).unwrap_or_default()))
        .bind(column(rows, |row| row.topup.balance_transaction.as_deref()))
        .bind(column(rows, |row| row.topup.expected_availability_date))
        .bind(column(rows, |row| row.topup.failure_code.as_deref()))
        .bind(column(rows, |row| row.topup.failure_message.as_deref()))
        .bind(column(rows, |row| row.topup.description.as_deref()))
        .bind(column(rows, |row| row.topup.statement_descriptor.as_deref()))
        .bind(column(rows, |row| row.topup.transfer_group.as_deref()))
        .bind(json_of(rows.iter().map(|row| &row.topup.metadata))?)
        .bind(column(rows, |row| row.topup.stripe_created));
    let proven = described
        .bind(column(rows, |row| row.topup.as_of))
        .bind(column(rows, |row| row.topup.source.as_str()))
        .bind(column(rows, |row| row.topup.standing.at))
        .bind(column(rows, |row| by_word(row.topup.standing.by)))
        .bind(column(rows, |row| row.topup.standing.seq))
        .bind(column(rows, |row| row.topup.standing.fetched.map(|fetch| fetch.at)))
        .bind(column(rows, |row| row.topup.standing.fetched.map(|fetch| fetch.after_seq)))
        .bind(column(rows, |row| row.topup.standing.doubted))
        .bind(column(rows, |row| {
            row.topup.proof.as_ref().map(|proof| if proof.available { "available" } else { "pending" })
        }))
        .bind(proof(|proof| proof.available_on))
        .bind(column(rows, |row| row.topup.proof.as_ref().map(|proof| proof.amount_minor)))
        .bind(column(rows, |row| row.topup.proof.as_ref().map(|proof| proof.currency.to_string())))
        .bind(column(rows, |row| row.topup.proof_at));
    proven
        .bind(column(rows, |row| row.topup.watched_since))
        .bind(column(rows, |row| row.topup.settled))
        .bind(column(rows, |row| row.topup.settled_at))
        .bind(column(rows, |row| row.topup.excluded))
        .bind(column(rows, |row| row.topup.booked_minor))
        .bind(column(rows, |row| row.topup.booked_currency.map(|c| c.to_string())))
        .bind(column(rows, |row| row.topup.bookings))
        .bind(column(rows, |row| row.topup.on_its_way_at))
        .execute(conn)
        .await?;
    Ok(())
}

/// Adds to the history of top-ups.
pub async fn insert_changes(
    conn: &mut PgConnection,
    livemode: bool,
    rows: &[ChangedFace<'_>],
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    // Codes hold no commas, so a list of them travels as one text: arrays of arrays must all be of one length.
    const SQL: &str = "-- insert_topup_changes
        insert into topup_changes (livemode, at, topup, as_of, source, status, available, settled, amount, currency,
            steps, reason)
        select $1, $2, topup, as_of, source, status, available, settled, amount, currency,
            string_to_array(steps, ','), reason
        from unnest($3::text[], $4::timestamptz[], $5::text[], $6::text[], $7::bool[], $8::bool[], $9::bigint[],
            $10::text[], $11::text[], $12::text[])
            as t (topup, as_of, source, status, available, settled, amount, currency, steps, reason)";
    if rows.is_empty() {
        return Ok(());
    }
    let codes = |steps: &[Step]| steps.iter().map(|step| step.code()).collect::<Vec<_>>().join(",");
    sqlx::query(SQL)
        .bind(livemode)
        .bind(now)
        .bind(column(rows, |row| row.id))
        .bind(column(rows, |row| row.topup.as_of))
        .bind(column(rows, |row| row.topup.source.as_str()))
        .bind(column(rows, |row| row.face.status.as_str()))
        .bind(column(rows, |row| row.face.available))
        .bind(column(rows, |row| row.face.settled))
        .bind(column(rows, |row| row.face.amount_minor))
        .bind(column(rows, |row| row.face.currency.to_string()))
        .bind(column(rows, |row| codes(&row.steps)))
        .bind(column(rows, |row| in_words(&row.steps)))
        .execute(conn)
        .await?;
    Ok(())
}
