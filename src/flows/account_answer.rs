//! An answer of Stripe's about one account: what is kept of it, and what is held after it.
//!
//! Kept is what readiness is read from. The rest of an account is about a person, and is not ours to keep.

use serde_json::{Map, Value};
use sqlx::PgConnection;
use time::OffsetDateTime;

use super::account_evidence::fold_fetch;
use super::account_record::{self, Changed};
use super::account_view::Shown;
use super::rings::Rings;
use super::{Context, observation_id};
use crate::domain::evidence::Fetched;
use crate::domain::ids::AccountId;
use crate::domain::task::Kind;
use crate::store::accounts::{self, Account};
use crate::store::db::StoreError;
use crate::store::outbox::{self, Observation};

/// The fields of an account that are kept of an answer.
const KEPT: [&str; 12] = [
    "id",
    "object",
    "type",
    "created",
    "country",
    "default_currency",
    "charges_enabled",
    "details_submitted",
    "payouts_enabled",
    "capabilities",
    "requirements",
    "deleted",
];

/// An answer about one account.
#[derive(Clone, Debug)]
pub struct Seen {
    /// What it says; `None`: Stripe does not show the account.
    pub shown: Option<Shown>,
    /// What kind of answer it is.
    pub event_type: &'static str,
    /// What is kept of it.
    pub payload: Vec<u8>,
    /// Of which moment it is.
    pub fetch: Fetched,
}

/// What is kept of an account's JSON.
pub fn kept_of(account: &[u8]) -> Vec<u8> {
    let whole: Map<String, Value> = serde_json::from_slice(account).unwrap_or_default();
    let kept: Map<String, Value> =
        whole.into_iter().filter(|(name, _)| KEPT.contains(&name.as_str())).collect();
    Value::Object(kept).to_string().into_bytes()
}

/// Keeps an answer and folds it in; returns what is held now.
pub async fn take_in(
    tx: &mut PgConnection,
    ctx: &Context,
    id: &AccountId,
    seen: Seen,
    rings: &mut Rings,
    now: OffsetDateTime,
) -> Result<Account, StoreError> {
    let before = accounts::list_for_update(tx, ctx.livemode, &[id.as_str()]).await?.remove(id.as_str());
    let observation = Observation {
        id: observation_id(),
        event_type: seen.event_type,
        subject_kind: Kind::Account.as_str(),
        subject: id.as_str(),
        livemode: ctx.livemode,
        observed_from: seen.fetch.at,
        after_seq: seen.fetch.after_seq,
        received_at: now,
        payload: &seen.payload,
    };
    outbox::insert_observation(tx, &observation).await?;
    let after = fold_fetch(before.clone(), seen.shown, seen.fetch, &ctx.conditions);
    let changed = [Changed { id: id.to_string(), before, after }];
    account_record::record(tx, ctx, &changed, rings, now).await?;
    let [Changed { after, .. }] = changed;
    Ok(after)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flows::account_evidence::flags_as_they_are;
    use crate::stripe::wire::{self, Object};

    #[test]
    fn of_an_account_all_that_readiness_rests_on_is_kept_and_nothing_about_the_person() {
        let whole = serde_json::json!({
            "id": "acct_1", "object": "account", "type": "express", "country": "US", "default_currency": "usd",
            "charges_enabled": true, "details_submitted": true, "payouts_enabled": false,
            "capabilities": {"transfers": "active"}, "requirements": {"past_due": ["external_account"]},
            "email": "w@example.com", "individual": {"first_name": "Jenny", "ssn_last_4": "0000"},
            "company": {"name": "Jenny Ltd"}, "business_profile": {"name": "Jenny writes"},
            "external_accounts": {"data": [{"last4": "6789"}]}, "metadata": {"user": "jenny"},
            "tos_acceptance": {"ip": "198.51.100.7"}, "settings": {"dashboard": {"display_name": "Jenny"}},
        })
        .to_string();
        let kept = String::from_utf8(kept_of(whole.as_bytes())).unwrap();
        for personal in ["enny", "example.com", "0000", "6789", "198.51", "metadata"] {
            assert!(!kept.contains(personal), "{personal}: {kept}");
        }
        let flags = |text: &str| flags_as_they_are(&wire::Account::from_json(text).unwrap());
        assert_eq!(flags(&kept), flags(&whole));
    }
}
