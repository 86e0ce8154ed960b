//! Readiness as it is asked for: of one account, at once or when it has come, and of many.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use serde::Serialize;
use tokio::time::Instant;
use utoipa::ToSchema;

use super::{Readiness, get, is_shown};
use crate::domain::ids;
use crate::flows::project_account;
use crate::http::auth::{Pass, Reader};
use crate::http::error::Problem;
use crate::http::etag::tagged;
use crate::http::extract::{Body, Fields, Id};
use crate::http::query::Params;
use crate::http::refusals::{AccountUnknown, AnyCall, BodyIncomplete, BodyTooLarge, JsonMalformed, Refuses};
use crate::http::state::{AppState, Shared};
use crate::http::words::{AccountId, Until, WaitSeconds};
use crate::store::views::{self, Account};

/// Nobody waits longer.
pub(in crate::http) const LONGEST_WAIT_S: u64 = 60;
/// Accounts in one question.
const MOST: usize = 1_000;
/// Between two looks at one account for one caller, where the first was not what it seemed.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Whether an account may be paid, and if not, why
///
/// With `wait` and `until=ready` the answer comes when the account is ready, or after so many seconds as it is then. With
/// the `ETag` of an earlier answer in `If-None-Match` it is 304 where nothing that is shown has changed, also after
/// a wait.
#[utoipa::path(
    get, path = "/v1/accounts/{acct}/readiness", tag = "accounts", operation_id = "get_readiness",
    params(
        ("acct" = AccountId, Path, description = "The account."),
        ("refresh" = Option<bool>, Query, description = "Whether to ask Stripe first."),
        ("wait" = Option<WaitSeconds>, Query, description = "How many seconds to wait at most; with `until`."),
        ("until" = Option<Until>, Query, description = "For what to wait; with `wait`."),
        ("If-None-Match" = Option<String>, Header, description = "The `ETag` of what the caller has."),
    ),
    responses(
        (status = 200, description = "Its readiness.", body = Readiness,
            headers(("ETag" = String, description = "Changes with anything that is shown."))),
        (status = 304, description = "It is as the caller has it.",
            headers(("ETag" = String, description = "As it was."))),
        Refuses<(AnyCall, AccountUnknown)>,
    ),
    security(("key" = ["read"])),
)]
pub(in crate::http) async fn one(
    State(state): State<Shared>,
    pass: Pass,
    Id(id): Id,
    mut params: Params,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let refresh = params.flag("refresh").unwrap_or(false);
    let wait = wait(&mut params);
    params.finish()?;
    let id = ids::AccountId::parse(&id).map_err(|_| Problem::account_unknown())?;
    if refresh {
        tracing::info!(account = %id, by = pass.actor.id, "asked to fetch an account");
        project_account::refresh(&state.ctx, &id).await?;
        state.bell.ring_due();
    }
    let account = match wait {
        None => get(&state, &id).await?,
        Some(wait) => {
            let account = when_ready(&state, &id, Instant::now() + wait).await?;
            pass.check(&state).await?;
            account
        }
    };
    tagged(&headers, &Readiness::of(&account, &state.ctx.policy()))
}

/// How long the caller waits, if they do.
fn wait(params: &mut Params) -> Option<Duration> {
    let seconds = params.optional("wait", |text| {
        let digits = text.bytes().all(|b| b.is_ascii_digit());
        let seconds = text.parse::<u64>().ok().filter(|s| digits && *s <= LONGEST_WAIT_S);
        let seconds = seconds.ok_or_else(|| format!("must be whole seconds, {LONGEST_WAIT_S} at most"));
        seconds.map(Duration::from_secs)
    });
    let asked = params.has("until");
    let until = params.optional("until", |text| match text {
        "ready" => Ok(()),
        _ => Err("must be `ready`".to_owned()),
    });
    match (seconds, until) {
        (Some(_), None) if !asked => params.wrong("until", "must say for what to wait: `ready`"),
        (None, Some(())) if !params.is_wrong("wait") => {
            params.wrong("wait", format!("must say how many seconds to wait, {LONGEST_WAIT_S} at most"));
        }
        _ => {}
    }
    seconds.filter(|_| until.is_some())
}

/// The account once it is ready, or at the latest at `deadline`, or when the service ends, as it is then.
async fn when_ready(state: &AppState, id: &ids::AccountId, deadline: Instant) -> Result<Account, Problem> {
    let ready = |account: &Account| account.known.reasons(&state.ctx.policy()).is_empty();
    loop {
        let account = get(state, id).await?;
        if ready(&account) || Instant::now() >= deadline || state.closing.is_cancelled() {
            return Ok(account);
        }
        tokio::select! {
            waited = state.live.waits.until(id, ready) => waited?,
            () = tokio::time::sleep_until(deadline) => continue,
            () = state.closing.cancelled() => continue,
        }
        let now_ready = get(state, id).await?;
        if ready(&now_ready) {
            return Ok(now_ready);
        }
        // It was ready for a moment only.
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// Whether many accounts may be paid
///
/// A question, not an order: with the same Idempotency-Key it is answered anew.
#[utoipa::path(
    post, path = "/v1/accounts/readiness", tag = "accounts", operation_id = "get_readiness_of_many",
    request_body = AskedFor,
    responses(
        (status = 200, description = "Their readiness.", body = ReadinessOfMany),
        Refuses<(AnyCall, JsonMalformed, BodyIncomplete, BodyTooLarge)>,
    ),
    security(("key" = ["read"])),
)]
pub(in crate::http) async fn many(
    State(state): State<Shared>,
    _: Reader,
    params: Params,
    Body(body): Body,
) -> Result<Json<ReadinessOfMany>, Problem> {
    params.finish()?;
    let mut fields = Fields::of(body);
    let asked = fields.required_list("accounts", 0, MOST).map(|accounts| ids(&mut fields, &accounts));
    let asked = fields.finish(asked)?;
    let mut conn = state.connect().await?;
    let ids: Vec<&str> = asked.iter().map(ids::AccountId::as_str).collect();
    let found = views::list_accounts_by_ids(&mut conn, state.ctx.livemode, &ids).await?;
    let found: HashMap<&str, &Account> = found
        .iter()
        .filter(|account| is_shown(account))
        .map(|account| (account.id.as_str(), account))
        .collect();
    let policy = state.ctx.policy();
    let mut answer = ReadinessOfMany { data: Vec::new(), unknown: Vec::new() };
    for id in asked {
        match found.get(id.as_str()) {
            Some(account) => answer.data.push(Readiness::of(account, &policy)),
            None => answer.unknown.push(id),
        }
    }
    Ok(Json(answer))
}

/// The ids that are asked for, each once, in their order.
fn ids(fields: &mut Fields, accounts: &[serde_json::Value]) -> Vec<ids::AccountId> {
    let mut seen = HashSet::new();
    let mut asked = Vec::with_capacity(accounts.len());
    for (place, account) in accounts.iter().enumerate() {
        let read = account.as_str().ok_or_else(|| "must be a string".to_owned());
        match read.and_then(|text| ids::AccountId::parse(text).map_err(|error| error.to_string())) {
            Ok(id) if seen.insert(id.clone()) => asked.push(id),
            Ok(_) => {}
            Err(detail) => fields.wrong(format!("/accounts/{place}"), detail),
        }
    }
    asked
}

/// Which accounts are asked for.
#[expect(dead_code, reason = "the schema of a body that is read by hand")]
#[derive(ToSchema)]
#[schema(as = AskedAccounts)]
#[serde(deny_unknown_fields)]
struct AskedFor {
    #[schema(value_type = Vec<AccountId>, max_items = 1000)]
    accounts: (),
}

/// The readiness of many accounts.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct ReadinessOfMany {
    /// In the order in which they were asked for, each once.
    data: Vec<Readiness>,
    /// Those that no event or call has shown yet.
    #[schema(value_type = Vec<AccountId>)]
    unknown: Vec<ids::AccountId>,
}
