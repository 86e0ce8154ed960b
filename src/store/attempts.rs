//! What was sent to Stripe for a transfer, a reversal or a top-up, and every answer about it.

use std::collections::BTreeMap;

use sqlx::types::time::OffsetDateTime;
use sqlx::{FromRow, PgConnection};

use super::db::StoreError;
use crate::domain::release;

/// One idempotency key's use, as stored.
#[derive(Clone, Debug, FromRow)]
pub struct Attempt {
    /// The transfer, reversal or top-up it is for.
    pub subject: String,
    /// N of `xfer_….N`, `xrev_….N` or `tpi_….N`.
    pub n: i32,
    /// The frozen form body.
    pub body: String,
    /// When it was frozen.
    pub prepared_at: OffsetDateTime,
    /// How often it was sent.
    pub sends: i32,
    first_sent_at: Option<OffsetDateTime>,
    last_sent_at: Option<OffsetDateTime>,
    last_ended_at: Option<OffsetDateTime>,
    in_flight: bool,
    answered: bool,
    look_up_due: bool,
    empty_look_ups: i32,
    last_look_up_at: Option<OffsetDateTime>,
    not_before: Option<OffsetDateTime>,
    outcome: Option<String>,
}

impl Attempt {
    /// When it was first sent.
    pub fn first_sent_at(&self) -> Option<OffsetDateTime> {
        self.first_sent_at
    }

    /// Whether a call with it may be under way at this moment.
    pub fn is_under_way(&self, longest_call: time::Duration, now: OffsetDateTime) -> bool {
        self.in_flight && self.last_sent_at.is_some_and(|sent_at| now < sent_at + longest_call)
    }

    /// The domain's view. A call whose end was never recorded (the process died) may have gone on until
    /// `longest_call` after its start.
    pub fn view(&self, longest_call: time::Duration) -> release::Attempt {
        let ended_at = match (self.in_flight, self.last_sent_at) {
            (true, Some(sent_at)) => Some(sent_at + longest_call),
            _ => self.last_ended_at.or(self.last_sent_at),
        };
        let quiet_since = if self.in_flight { self.last_sent_at } else { ended_at };
        release::Attempt {
            n: self.n,
            sends: self.sends,
            first_sent_at: self.first_sent_at,
            quiet_since,
            ended_at,
            not_before: self.not_before,
            answered: self.answered,
            look_up_due: self.look_up_due,
            // Of one that is still under way: what was made is not what was asked for.
            made_another: self.outcome.as_deref() == Some("created"),
            empty_look_ups: self.empty_look_ups,
            last_look_up_at: self.last_look_up_at,
        }
    }
}

/// The attempt with this N.
pub async fn find(conn: &mut PgConnection, subject: &str, n: i32) -> Result<Option<Attempt>, StoreError> {
    Ok(find_all(conn, &[(subject, n)]).await?.remove(subject))
}

/// The attempts of these subjects, each with this N, by subject; those that are not there are left out.
pub async fn find_all(
    conn: &mut PgConnection,
    keys: &[(&str, i32)],
) -> Result<BTreeMap<String, Attempt>, StoreError> {
    const SQL: &str = "-- find_attempts
        select a.* from unnest($1::text[], $2::integer[]) as k (subject, n) join attempts a using (subject, n)";
    let (subjects, ns): (Vec<&str>, Vec<i32>) = keys.iter().copied().unzip();
    let found: Vec<Attempt> = sqlx::query_as(SQL).bind(subjects).bind(ns).fetch_all(conn).await?;
    Ok(found.into_iter().map(|attempt| (attempt.subject.clone(), attempt)).collect())
}

/// What is to be sent under a key, for good.
#[derive(Clone, Debug)]
pub struct Frozen<'a> {
    /// The transfer, reversal or top-up.
    pub subject: &'a str,
    /// N of its key.
    pub n: i32,
    /// The form body.
    pub body: &'a str,
    /// It is not sent before a look-up found nothing.
    pub look_up_first: bool,
}

/// Freezes the body for this N; one that was frozen before stays as it is. `look_up_first` keeps it from being sent
/// before a look-up found nothing.
pub async fn freeze(
    conn: &mut PgConnection,
    subject: &str,
    n: i32,
    body: &str,
    look_up_first: bool,
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    freeze_all(conn, &[Frozen { subject, n, body, look_up_first }], now).await
}

/// Freezes bodies: see [`freeze`].
pub async fn freeze_all(
    conn: &mut PgConnection,
    frozen: &[Frozen<'_>],
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    const SQL: &str = "-- freeze
        insert into attempts (subject, n, body, look_up_due, prepared_at)
        select subject, n, body, look_up_due, $5
        from unnest($1::text[], $2::integer[], $3::text[], $4::boolean[]) as f (subject, n, body, look_up_due)
        on conflict do nothing";
    sqlx::query(SQL)
        .bind(frozen.iter().map(|f| f.subject).collect::<Vec<_>>())
        .bind(frozen.iter().map(|f| f.n).collect::<Vec<_>>())
        .bind(frozen.iter().map(|f| f.body).collect::<Vec<_>>())
        .bind(frozen.iter().map(|f| f.look_up_first).collect::<Vec<_>>())
        .bind(now)
        .execute(conn)
        .await?;
    Ok(())
}

/// Writes down that a send begins, before it does.
pub async fn begin_send(
    conn: &mut PgConnection,
    subject: &str,
    n: i32,
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    begin_sends(conn, &[(subject, n)], now).await
}

/// Writes down that sends begin, before they do.
pub async fn begin_sends(
    conn: &mut PgConnection,
    keys: &[(&str, i32)],
    now: OffsetDateTime,
) -> Result<(), StoreError> {
    const SQL: &str = "-- begin_sends
        update attempts a set sends = a.sends + 1, first_sent_at = coalesce(a.first_sent_at, $3), last_sent_at = $3,
            in_flight = true, empty_look_ups = 0, last_look_up_at = null, not_before = null,
            look_up_due = a.look_up_due and a.sends > 0
        from unnest($1::text[], $2::integer[]) as k (subject, n)
        where a.subject = k.subject and a.n = k.n";
    let (subjects, ns): (Vec<&str>, Vec<i32>) = keys.iter().copied().unzip();
    sqlx::query(SQL).bind(subjects).bind(ns).bind(now).execute(conn).await?;
    Ok(())
}

/// What the end of a send showed.
#[derive(Clone, Copy, Debug, Default)]
pub struct SendEnd {
    /// Stripe answered with a 5xx that it keeps for this key.
    pub answered: bool,
    /// No more sends before a look-up.
    pub look_up_due: bool,
    /// Nothing before this.
    pub not_before: Option<OffsetDateTime>,
    /// A definite end: `created` or `refused`.
    pub outcome: Option<&'static str>,
}

/// A send that ended.
#[derive(Clone, Copy, Debug)]
pub struct Ended<'a> {
    /// The transfer, reversal or top-up.
    pub subject: &'a str,
    /// N of its key.
    pub n: i32,
    /// The how many-th send of that key it was.
    pub sends: i32,
    /// When it ended.
    pub at: OffsetDateTime,
}

/// Writes down how sends ended, and returns of how many; where there was another since, that one is not touched.
pub async fn end_sends(
    conn: &mut PgConnection,
    sends: &[Ended<'_>],
    end: SendEnd,
) -> Result<usize, StoreError> {
    const SQL: &str = "-- end_sends
        update attempts a set in_flight = false, last_ended_at = e.at, answered = a.answered or $5,
            empty_look_ups = 0, last_look_up_at = null,
            look_up_due = a.look_up_due or $6, not_before = $7, outcome = coalesce($8, a.outcome)
        from unnest($1::text[], $2::integer[], $3::integer[], $4::timestamptz[]) as e (subject, n, sends, at)
        where a.subject = e.subject and a.n = e.n and a.sends = e.sends";
    let ended = sqlx::query(SQL)
        .bind(sends.iter().map(|e| e.subject).collect::<Vec<_>>())
        .bind(sends.iter().map(|e| e.n).collect::<Vec<_>>())
        .bind(sends.iter().map(|e| e.sends).collect::<Vec<_>>())
        .bind(sends.iter().map(|e| e.at).collect::<Vec<_>>())
        .bind(end.answered)
        .bind(end.look_up_due)
        .bind(end.not_before)
        .bind(end.outcome)
        .execute(conn)
        .await?;
    Ok(usize::try_from(ended.rows_affected()).unwrap_or(usize::MAX))
}

/// Takes back a send that was written down but not made. An earlier one may have died in its call: it counts
/// as under way until the latest end that it can have.
pub async fn undo_send(conn: &mut PgConnection, subject: &str, n: i32, sends: i32) -> Result<(), StoreError> {
    const SQL: &str = "-- undo_send
        update attempts set in_flight = sends > 1, sends = sends - 1,
            first_sent_at = case when sends = 1 then null else first_sent_at end,
            last_sent_at = case when sends = 1 then null else last_sent_at end
        where subject = $1 and n = $2 and in_flight and sends = $3";
    sqlx::query(SQL).bind(subject).bind(n).bind(sends).execute(conn).await?;
    Ok(())
}

/// Counts a complete look-up that found nothing, unless something was sent since it began.
pub async fn record_empty_look_up(
    conn: &mut PgConnection,
    subject: &str,
    n: i32,
    sends: i32,
    began_at: OffsetDateTime,
) -> Result<(), StoreError> {
    const SQL: &str = "-- record_empty_look_up
        update attempts set empty_look_ups = empty_look_ups + 1, last_look_up_at = $3, not_before = null
        where subject = $1 and n = $2 and sends = $4";
    sqlx::query(SQL).bind(subject).bind(n).bind(began_at).bind(sends).execute(conn).await?;
    Ok(())
}

/// Puts everything about this N off: a look-up failed, or Stripe asked for patience.
pub async fn put_off(
    conn: &mut PgConnection,
    subject: &str,
    n: i32,
    until: OffsetDateTime,
) -> Result<(), StoreError> {
    const SQL: &str = "-- put_off
        update attempts set not_before = $3 where subject = $1 and n = $2";
    sqlx::query(SQL).bind(subject).bind(n).bind(until).execute(conn).await?;
    Ok(())
}

/// A look-up found something that carries our id, but is not what was asked for: as long as it does, no look-up
/// counts as empty.
pub async fn bar(
    conn: &mut PgConnection,
    subject: &str,
    n: i32,
    until: OffsetDateTime,
) -> Result<(), StoreError> {
    const SQL: &str = "-- bar
        update attempts set not_before = $3, empty_look_ups = 0, last_look_up_at = null
        where subject = $1 and n = $2";
    sqlx::query(SQL).bind(subject).bind(n).bind(until).execute(conn).await?;
    Ok(())
}

/// Marks the end of this N: `created`, `refused` or `superseded`.
pub async fn close(
    conn: &mut PgConnection,
    subject: &str,
    n: i32,
    outcome: &str,
) -> Result<Option<OffsetDateTime>, StoreError> {
    const SQL: &str = "-- close
        update attempts set outcome = $3, in_flight = false where subject = $1 and n = $2 returning prepared_at";
    Ok(sqlx::query_scalar(SQL).bind(subject).bind(n).bind(outcome).fetch_optional(conn).await?)
}

/// Evidence of one call.
#[derive(Clone, Debug)]
pub struct Call<'a> {
    /// `create` or `look_up`.
    pub kind: &'static str,
    /// When it began.
    pub started_at: OffsetDateTime,
    /// When it ended.
    pub ended_at: OffsetDateTime,
    /// What it showed, in one word.
    pub outcome: &'a str,
    /// HTTP status.
    pub status: Option<u16>,
    /// Stripe's error code.
    pub code: Option<&'a str>,
    /// Stripe's text.
    pub message: Option<&'a str>,
    /// Stripe's request id.
    pub request_id: Option<&'a str>,
}

impl Call<'_> {
    /// A call that showed nothing yet.
    pub fn begun(kind: &'static str, started_at: OffsetDateTime, ended_at: OffsetDateTime) -> Self {
        let (status, code, message, request_id) = (Some(200), None, None, None);
        Self { kind, started_at, ended_at, outcome: "not_found", status, code, message, request_id }
    }
}

/// Keeps the evidence of a call.
pub async fn insert_call(
    conn: &mut PgConnection,
    subject: &str,
    n: i32,
    call: &Call<'_>,
) -> Result<(), StoreError> {
    insert_calls(conn, &[(subject, n, call)]).await
}

/// Keeps the evidence of calls, each with the subject and N it was about.
pub async fn insert_calls(
    conn: &mut PgConnection,
    calls: &[(&str, i32, &Call<'_>)],
) -> Result<(), StoreError> {
    const SQL: &str = "-- insert_calls
        insert into calls (subject, n, kind, started_at, ended_at, outcome, status, code, message, request_id)
        select * from unnest($1::text[], $2::integer[], $3::text[], $4::timestamptz[], $5::timestamptz[], $6::text[],
            $7::integer[], $8::text[], $9::text[], $10::text[])";
    sqlx::query(SQL)
        .bind(calls.iter().map(|(subject, ..)| *subject).collect::<Vec<_>>())
        .bind(calls.iter().map(|(_, n, _)| *n).collect::<Vec<_>>())
        .bind(calls.iter().map(|(.., call)| call.kind).collect::<Vec<_>>())
        .bind(calls.iter().map(|(.., call)| call.started_at).collect::<Vec<_>>())
        .bind(calls.iter().map(|(.., call)| call.ended_at).collect::<Vec<_>>())
        .bind(calls.iter().map(|(.., call)| call.outcome).collect::<Vec<_>>())
        .bind(calls.iter().map(|(.., call)| call.status.map(i32::from)).collect::<Vec<_>>())
        .bind(calls.iter().map(|(.., call)| call.code).collect::<Vec<_>>())
        .bind(calls.iter().map(|(.., call)| call.message).collect::<Vec<_>>())
        .bind(calls.iter().map(|(.., call)| call.request_id).collect::<Vec<_>>())
        .execute(conn)
        .await?;
    Ok(())
}
