//! `/v1/accounts`: connected accounts and their readiness.

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use super::{instant, maybe, second};
use crate::domain::account::{Flags, Policy};
use crate::domain::ids::AccountId;
use crate::domain::reason::{Reason, codes};
use crate::flows::project_account;
use crate::http::auth::Reader;
use crate::http::error::Problem;
use crate::http::extract::Id;
use crate::http::query::Params;
use crate::http::state::Shared;
use crate::store::views::{self, Account, AccountChange};

/// `GET /v1/accounts/{acct}/readiness`
pub(in crate::http) async fn readiness(
    State(state): State<Shared>,
    Reader(actor): Reader,
    Id(id): Id,
    mut params: Params,
) -> Result<Json<Value>, Problem> {
    let refresh = params.flag("refresh").unwrap_or(false);
    params.finish()?;
    let id = AccountId::parse(&id).map_err(|_| Problem::account_unknown())?;
    if refresh {
        tracing::info!(account = %id, by = actor.id, "asked to fetch an account");
        project_account::refresh(&state.ctx, &id).await?;
        state.wake.notify_one();
    }
    let account = get(&state, &id).await?;
    Ok(Json(readiness_of(&account, &state.ctx.policy)))
}

/// `GET /v1/accounts/{acct}`
pub(in crate::http) async fn show(
    State(state): State<Shared>,
    _: Reader,
    Id(id): Id,
    params: Params,
) -> Result<Json<Value>, Problem> {
    params.finish()?;
    let id = AccountId::parse(&id).map_err(|_| Problem::account_unknown())?;
    let account = get(&state, &id).await?;
    let mut conn = state.connect().await?;
    let history = views::list_account_changes(&mut conn, state.ctx.livemode, id.as_str()).await?;
    let mut body = described(&account, &state.ctx.policy);
    body["history"] = history.iter().map(change).collect();
    Ok(Json(body))
}

/// `GET /v1/accounts`
pub(in crate::http) async fn list(
    State(state): State<Shared>,
    _: Reader,
    mut params: Params,
) -> Result<Json<Value>, Problem> {
    let page = params.page("accounts", |key| AccountId::parse(key).is_ok());
    let ready = params.flag("ready");
    let reason = params.optional("reason", |text| {
        Reason::parse(text).ok_or_else(|| "must be a code of an account's `reasons`".to_owned())
    });
    params.finish()?;
    let (policy, code) = (&state.ctx.policy, reason.map(Reason::code));
    let mut conn = state.connect().await?;
    let accounts = views::list_accounts(
        &mut conn,
        state.ctx.livemode,
        ready,
        code,
        page.after.as_deref(),
        page.to_read(),
    );
    // The filters went by what was stored; a line that no longer says what was asked for is left out.
    let shown = |account: &Account| {
        let reasons = account.known.reasons(policy);
        let asked = ready.is_none_or(|ready| ready == reasons.is_empty())
            && reason.is_none_or(|reason| reasons.contains(&reason));
        asked.then(|| described(account, policy))
    };
    Ok(Json(page.of(accounts.await?, |account| account.id.clone(), shown)))
}

async fn get(state: &Shared, id: &AccountId) -> Result<Account, Problem> {
    let mut conn = state.connect().await?;
    let account = views::find_account(&mut conn, state.ctx.livemode, id.as_str()).await?;
    account.filter(is_shown).ok_or_else(Problem::account_unknown)
}

/// An account of which only the id was heard is unknown; one that left without ever being described is not.
fn is_shown(account: &Account) -> bool {
    account.known.flags.is_some() || account.known.deauthorized()
}

fn readiness_of(account: &Account, policy: &Policy) -> Value {
    let none = Flags::default();
    let flags = account.known.flags.as_ref().unwrap_or(&none);
    let reasons = account.known.reasons(policy);
    json!({
        "account": account.id,
        "livemode": account.livemode,
        "ready": reasons.is_empty(),
        "reasons": codes(&reasons),
        "details_submitted": flags.details_submitted,
        "charges_enabled": flags.charges_enabled,
        "payouts_enabled": flags.payouts_enabled,
        "transfers_capability": flags.transfers_capability,
        "deauthorized": account.known.deauthorized(),
        "requirements": flags.requirements,
        "as_of": second(account.as_of),
        "source": account.source,
    })
}

fn described(account: &Account, policy: &Policy) -> Value {
    let flags = account.known.flags.as_ref();
    let mut body = readiness_of(account, policy);
    body["country"] = json!(flags.and_then(|flags| flags.country.as_deref()));
    body["default_currency"] = json!(flags.and_then(|flags| flags.default_currency.as_deref()));
    body["deauthorized_at"] = maybe(account.known.deauthorized_at);
    body["confirmed_at"] = maybe(account.known.confirmed_at);
    body["first_seen"] = instant(account.first_seen);
    body["updated_at"] = instant(account.updated_at);
    body
}

fn change(change: &AccountChange) -> Value {
    json!({
        "at": instant(change.at), "as_of": second(change.as_of), "source": change.source,
        "ready": change.reasons.is_empty(), "reasons": change.reasons, "state": change.state,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::account::Known;
    use time::macros::datetime;

    fn account(flags: Option<Flags>, deauthorized: bool) -> Account {
        let at = datetime!(2026-11-22 10:00:00.5 UTC);
        Account {
            id: "acct_1".into(),
            livemode: false,
            known: Known { flags, deauthorized_at: deauthorized.then_some(at), confirmed_at: None },
            as_of: at,
            source: "evt_1".into(),
            first_seen: at,
            updated_at: at,
        }
    }

    #[test]
    fn readiness_has_the_promised_shape() {
        let flags = Flags {
            details_submitted: Some(true),
            charges_enabled: Some(false),
            payouts_enabled: Some(false),
            transfers_capability: Some("active".into()),
            ..Flags::default()
        };
        assert_eq!(
            readiness_of(&account(Some(flags), false), &Policy::default()),
            json!({
                "account": "acct_1", "livemode": false, "ready": false, "reasons": ["charges_disabled"],
                "details_submitted": true, "charges_enabled": false, "payouts_enabled": false,
                "transfers_capability": "active", "deauthorized": false,
                "requirements": {"currently_due": [], "past_due": [], "eventually_due": [],
                    "pending_verification": [], "disabled_reason": null, "current_deadline": null},
                "as_of": "2026-11-22T10:00:00Z", "source": "evt_1",
            })
        );
    }

    #[test]
    fn an_account_is_shown_once_something_described_it_or_it_left() {
        assert!(!is_shown(&account(None, false)));
        assert!(is_shown(&account(None, true)));
        assert!(is_shown(&account(Some(Flags::default()), false)));
        let left = readiness_of(&account(None, true), &Policy::default());
        assert_eq!(
            (&left["reasons"], &left["deauthorized"]),
            (&json!(["account_deauthorized"]), &json!(true))
        );
    }
}
