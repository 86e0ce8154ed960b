//! Received events as the API shows them, with what became of each.

use sqlx::types::time::OffsetDateTime;
use sqlx::{FromRow, PgConnection};

use super::StoreError;

/// What became of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventStatus {
    /// Its task is still there.
    Pending,
    /// It took effect.
    Processed,
    /// Nothing is done with it.
    Ignored,
    /// It could not be applied through a fault of its own.
    Failed,
}

impl EventStatus {
    /// Every status.
    pub const ALL: [EventStatus; 4] = [Self::Pending, Self::Processed, Self::Ignored, Self::Failed];

    /// The word of the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Processed => "processed",
            Self::Ignored => "ignored",
            Self::Failed => "failed",
        }
    }

    /// Reads the word back.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == word)
    }
}

/// An event without its payload.
#[derive(Clone, Debug, FromRow)]
pub struct Event {
    /// Stripe's id.
    pub event_id: String,
    /// Order of receipt.
    pub seq: i64,
    /// `webhook` or `api`.
    pub source: String,
    /// `snapshot` or `thin`.
    pub kind: String,
    /// Stripe's type.
    #[sqlx(rename = "type")]
    pub event_type: String,
    /// The connected account it came from.
    pub account: Option<String>,
    /// Whom it is about.
    pub subject: Option<String>,
    /// Live or test mode.
    pub livemode: bool,
    /// The API version its object is rendered in.
    pub api_version: Option<String>,
    /// Its own `created`.
    pub created: OffsetDateTime,
    /// When it arrived.
    pub received_at: OffsetDateTime,
    /// The label of the webhook secret that matched.
    pub secret_label: Option<String>,
    ignored: Option<String>,
    died_of: Option<String>,
    waits: bool,
}

impl Event {
    /// What became of it.
    pub fn status(&self) -> EventStatus {
        match (&self.died_of, self.waits, &self.ignored) {
            (Some(_), _, _) => EventStatus::Failed,
            (None, true, _) => EventStatus::Pending,
            (None, false, Some(_)) => EventStatus::Ignored,
            (None, false, None) => EventStatus::Processed,
        }
    }

    /// Why it was ignored or failed.
    pub fn reason(&self) -> Option<&str> {
        match self.status() {
            EventStatus::Failed => self.died_of.as_deref(),
            EventStatus::Ignored => self.ignored.as_deref(),
            EventStatus::Pending | EventStatus::Processed => None,
        }
    }
}

/// Which events are asked for; an absent field asks for all.
#[derive(Clone, Debug, Default)]
pub struct EventFilter {
    /// With this status.
    pub status: Option<EventStatus>,
    /// Of this type.
    pub event_type: Option<String>,
    /// From this connected account.
    pub account: Option<String>,
}

/// One statement a status: those few that wait or failed are found from their own tables, whatever the
/// size of the outbox.
macro_rules! list_sql {
    ($name:literal, $tasks:literal, $dead:literal, $where:literal) => {
        concat!(
            "-- ",
            $name,
            "
        select o.event_id, o.seq, o.source, o.kind, o.type, o.account, o.subject, o.livemode, o.api_version,
            o.created, o.received_at, o.secret_label, o.ignored, d.reason as died_of, t.id is not null as waits
        from outbox o ",
            $tasks,
            " tasks t on t.id = o.seq and t.event_id is not null ",
            $dead,
            " dead_letters d on d.id = o.seq
        where o.kind <> 'observation' and ",
            $where,
            "
            and ($1::bigint is null or o.seq < $1)
            and ($2::text is null or (o.type = $2 and ($2 = 'account.updated' or o.type <> 'account.updated')))
            and ($3::text is null or o.account = $3)
        order by o.seq desc limit $4"
        )
    };
}

/// Events by receipt, the newest first, from below the seq `after`.
pub async fn list_events(
    conn: &mut PgConnection,
    filter: &EventFilter,
    after: Option<i64>,
    limit: i64,
) -> Result<Vec<Event>, StoreError> {
    const ALL: &str = list_sql!("list_events", "left join", "left join", "true");
    const PENDING: &str = list_sql!("list_events_pending", "join", "left join", "d.id is null");
    const FAILED: &str = list_sql!("list_events_failed", "left join", "join", "true");
    const IGNORED: &str = list_sql!(
        "list_events_ignored",
        "left join",
        "left join",
        "o.ignored is not null and t.id is null and d.id is null"
    );
    const PROCESSED: &str = list_sql!(
        "list_events_processed",
        "left join",
        "left join",
        "o.ignored is null and t.id is null and d.id is null"
    );
    let sql = match filter.status {
        None => ALL,
        Some(EventStatus::Pending) => PENDING,
        Some(EventStatus::Failed) => FAILED,
        Some(EventStatus::Ignored) => IGNORED,
        Some(EventStatus::Processed) => PROCESSED,
    };
    let query = sqlx::query_as(sql).bind(after).bind(&filter.event_type).bind(&filter.account).bind(limit);
    Ok(query.persistent(false).fetch_all(conn).await?)
}

/// The event with this id; of several, which only an unreadable `created` brings about, the latest.
pub async fn find_event(conn: &mut PgConnection, id: &str) -> Result<Option<Event>, StoreError> {
    const SQL: &str = "-- view_event
        select o.event_id, o.seq, o.source, o.kind, o.type, o.account, o.subject, o.livemode, o.api_version,
            o.created, o.received_at, o.secret_label, o.ignored, d.reason as died_of, t.id is not null as waits
        from outbox o
        left join tasks t on t.id = o.seq and t.event_id is not null
        left join dead_letters d on d.id = o.seq
        where o.event_id = $1 and o.kind <> 'observation' order by o.seq desc limit 1";
    Ok(sqlx::query_as(SQL).bind(id).fetch_optional(conn).await?)
}

/// An event's raw bytes, and the same in base 64.
pub async fn find_payload(
    conn: &mut PgConnection,
    event: &Event,
) -> Result<Option<(Vec<u8>, String)>, StoreError> {
    const SQL: &str = "-- find_payload
        select payload, translate(encode(payload, 'base64'), e'\\n', '') from outbox
        where event_id = $1 and created = $2";
    Ok(sqlx::query_as(SQL).bind(&event.event_id).bind(event.created).fetch_optional(conn).await?)
}

/// The header that came with an event; none where it was read from Stripe's list.
pub async fn find_signature(conn: &mut PgConnection, event: &Event) -> Result<Option<String>, StoreError> {
    const SQL: &str = "-- find_signature
        select signature from outbox where event_id = $1 and created = $2";
    let found: Option<Option<String>> =
        sqlx::query_scalar(SQL).bind(&event.event_id).bind(event.created).fetch_optional(conn).await?;
    Ok(found.flatten())
}
