//! An event as it is stored, however it came: delivered and signed, or read from Stripe's list.

use bytes::Bytes;
use time::OffsetDateTime;

use crate::domain::event::{Envelope, Ourselves, Route, Shape};
use crate::store::outbox::{NewEvent, Signed};
use crate::stripe::wire;

/// Reads an event and decides what is done with it; an error where it is none.
pub fn read(
    body: &Bytes,
    signed: Option<Signed>,
    ourselves: &Ourselves,
    now: OffsetDateTime,
) -> Result<NewEvent, String> {
    let envelope = wire::Envelope::parse(body).map_err(|error| error.to_string())?;
    let object_id = envelope.object_id();
    let routed = Envelope {
        id: envelope.id.as_str(),
        shape: match envelope.kind {
            wire::Kind::Snapshot => Shape::Snapshot,
            wire::Kind::Thin => Shape::Thin,
        },
        event_type: &envelope.event_type,
        account: envelope.account.as_ref().map(|id| id.as_str()),
        object_id: object_id.as_deref(),
        // An event that does not say its mode fits neither.
        livemode: envelope.livemode.unwrap_or(!ourselves.livemode),
    };
    let (subject_kind, subject, ignored) = match routed.route(ourselves) {
        Route::Handle(kind, subject) => (Some(kind.as_str()), Some(subject), None),
        // The flow that can't read it says so, and a person finds it among the dead letters.
        Route::Unreadable(kind) => (Some(kind.as_str()), Some(envelope.id.to_string()), None),
        Route::Ignore(why) => (None, None, Some(why.as_str())),
    };
    Ok(NewEvent {
        event_id: envelope.id.to_string(),
        created: envelope.created.unwrap_or(OffsetDateTime::UNIX_EPOCH),
        kind: match routed.shape {
            Shape::Snapshot => "snapshot",
            Shape::Thin => "thin",
        },
        event_type: envelope.event_type.to_string(),
        account: envelope.account.as_ref().map(ToString::to_string),
        subject_kind,
        subject,
        livemode: routed.livemode,
        api_version: envelope.api_version.as_ref().map(ToString::to_string),
        ignored,
        received_at: now,
        signed,
        payload: body.clone(),
    })
}
