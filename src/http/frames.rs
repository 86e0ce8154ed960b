//! Changes as a listener hears them: server-sent events.
//!
//! An event shows its account, top-up or transfer as it is when it is told, not as it was when it changed: of several
//! changes on one page the last is told, and whoever takes the events in their order ends with what is true.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::Serialize;
use serde_json::json;
use sqlx::PgConnection;

use super::api::{accounts, topups, transfers};
use super::feed::Told;
use crate::domain::change::{Gap, KEPT_FOR, Noun, Place, Position};
use crate::flows::Context;
use crate::store::views::{self, Change, StoreError};

/// The events of these changes; `position` says how a place is kept.
pub(super) async fn of(
    conn: &mut PgConnection,
    ctx: &Context,
    changes: Vec<Change>,
    position: impl Fn(Place) -> Position,
) -> Result<Vec<Told>, StoreError> {
    let mut last: BTreeMap<(Noun, String), Place> = BTreeMap::new();
    for change in changes {
        last.insert((change.place.noun, change.subject), change.place);
    }
    let subjects = |noun: Noun| -> Vec<&str> {
        last.keys().filter(|(of, _)| *of == noun).map(|(_, subject)| subject.as_str()).collect()
    };
    let mut told = Vec::with_capacity(last.len());
    let mut tell = |noun: Noun, subject: &str, data: String| {
        if let Some(place) = last.get(&(noun, subject.to_owned())) {
            let frame = event(&position(*place), noun.as_str(), &data);
            told.push(Told { place: *place, frame, is_heartbeat: false });
        }
    };
    let policy = ctx.policy();
    for account in views::list_accounts_by_ids(conn, ctx.livemode, &subjects(Noun::Readiness)).await? {
        if let Some(readiness) = accounts::readiness_of(&account, &policy) {
            tell(Noun::Readiness, &account.id, text(&readiness));
        }
    }
    for topup in views::list_topups_by_ids(conn, ctx.livemode, &subjects(Noun::Topup)).await? {
        let id = topup.id.clone();
        tell(Noun::Topup, &id, text(&topups::shown::Topup::of(topup)));
    }
    for transfer in views::list_transfers_by_ids(conn, ctx.livemode, &subjects(Noun::Transfer)).await? {
        tell(Noun::Transfer, transfer.id.as_str(), text(&transfers::shown::Transfer::of(&transfer)));
    }
    told.sort_by_key(|told| told.place);
    Ok(told)
}

/// What is sent first: from where the listener hears everything.
pub(super) fn greeting(position: &Position) -> Bytes {
    format!("retry: 2000\nid: {position}\n\n").into()
}

/// What is sent first to one who missed something.
pub(super) fn reset(position: &Position, gap: Gap) -> Bytes {
    let detail = format!(
        "Changes were missed: read the lists again; all that changes from now on follows. Events are kept for {} days.",
        KEPT_FOR.whole_days()
    );
    let data = json!({"reason": gap.as_str(), "detail": detail});
    let frame = event(position, "reset", &data.to_string());
    [b"retry: 2000\n", frame.as_ref()].concat().into()
}

/// The connection stands, and everything up to here was told.
pub(super) fn heartbeat(position: &Position) -> Bytes {
    format!(": heartbeat\nid: {position}\n\n").into()
}

fn event(position: &Position, name: &str, data: &str) -> Bytes {
    // One line: JSON as we write it has no line breaks.
    format!("id: {position}\nevent: {name}\ndata: {data}\n\n").into()
}

fn text(shown: &impl Serialize) -> String {
    // Structs of texts, numbers and lists always have a form in JSON.
    serde_json::to_string(shown).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::OffsetDateTime;

    #[test]
    fn each_frame_ends_with_an_empty_line_and_carries_its_position() {
        let position = Position { database: 1, at: OffsetDateTime::UNIX_EPOCH, place: Place::START };
        let id = "id: 00000001.0.0.readiness.0\n";
        for frame in [greeting(&position), reset(&position, Gap::TooOld), heartbeat(&position)] {
            let text = String::from_utf8(frame.to_vec()).unwrap();
            assert!(
                text.contains(id) && text.ends_with("\n\n") && text.matches("\n\n").count() == 1,
                "{text}"
            );
        }
        assert_eq!(event(&position, "topup", "{}"), format!("{id}event: topup\ndata: {{}}\n\n").as_bytes());
        let reset = String::from_utf8(reset(&position, Gap::TooOld).to_vec()).unwrap();
        assert!(
            reset.contains("event: reset\ndata: {") && reset.contains("\"reason\":\"too_old\""),
            "{reset}"
        );
    }
}
