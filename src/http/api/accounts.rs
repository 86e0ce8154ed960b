//! `/v1/accounts`: connected accounts and their readiness.

mod create;
pub(in crate::http) mod readiness;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::domain::account::{Policy, Requirements};
use crate::domain::ids;
use crate::domain::next_step::{NextStep, next_step};
use crate::domain::reason::Reason;
use crate::http::auth::Reader;
use crate::http::error::Problem;
use crate::http::extract::Id;
use crate::http::query::{List, Paging, Params};
use crate::http::refusals::{AccountUnknown, AnyCall, Refuses};
use crate::http::state::{AppState, Shared};
use crate::http::words::{AccountId, Instant, NextAction, ReasonCode};
use crate::store::views::{self, Account, AccountChange};

pub(in crate::http) use self::create::{__path_create, create};

/// An account with its history, and what to do about it next
#[utoipa::path(
    get, path = "/v1/accounts/{acct}", tag = "accounts", operation_id = "get_account",
    params(("acct" = AccountId, Path, description = "The account.")),
    responses(
        (status = 200, description = "The account.", body = AccountWithHistory),
        Refuses<(AnyCall, AccountUnknown)>,
    ),
    security(("key" = ["read"])),
)]
pub(in crate::http) async fn show(
    State(state): State<Shared>,
    _: Reader,
    Id(id): Id,
    params: Params,
) -> Result<Json<AccountWithHistory>, Problem> {
    params.finish()?;
    let id = ids::AccountId::parse(&id).map_err(|_| Problem::account_unknown())?;
    let account = get(&state, &id).await?;
    let mut conn = state.connect().await?;
    let history = views::list_account_changes(&mut conn, state.ctx.livemode, id.as_str()).await?;
    Ok(Json(AccountWithHistory::of(&account, history, &state.ctx.policy())))
}

/// Accounts, by id
#[utoipa::path(
    get, path = "/v1/accounts", tag = "accounts", operation_id = "list_accounts",
    params(
        Paging,
        ("ready" = Option<bool>, Query, description = "Only those that may be paid, or only the others."),
        ("reason" = Option<ReasonCode>, Query, description = "Only those with this code among their `reasons`."),
    ),
    responses((status = 200, description = "A page of them.", body = List<Described>), Refuses<AnyCall>),
    security(("key" = ["read"])),
)]
pub(in crate::http) async fn list(
    State(state): State<Shared>,
    _: Reader,
    mut params: Params,
) -> Result<Json<List<Described>>, Problem> {
    let page = params.page("accounts", |key| ids::AccountId::parse(key).is_ok());
    let ready = params.flag("ready");
    let reason = params.optional("reason", |text| {
        Reason::parse(text).ok_or_else(|| "must be a code of an account's `reasons`".to_owned())
    });
    params.finish()?;
    let (policy, code) = (&state.ctx.policy(), reason.map(Reason::code));
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
        asked.then(|| Described::of(account, policy))
    };
    Ok(Json(page.of(accounts.await?, |account| account.id.clone(), shown)))
}

async fn get(state: &AppState, id: &ids::AccountId) -> Result<Account, Problem> {
    let account = state.live.lookups.find(id).await?;
    account.filter(is_shown).ok_or_else(Problem::account_unknown)
}

/// An account's readiness, for those who listen; none while it is unknown.
pub(in crate::http) fn readiness_of(account: &Account, policy: &Policy) -> Option<Readiness> {
    is_shown(account).then(|| Readiness::of(account, policy))
}

/// An account of which only the id was heard is unknown; one that is gone without ever being described is not.
pub(in crate::http) fn is_shown(account: &Account) -> bool {
    account.known.says_something()
}

/// Whether an account may be paid, and what that rests on.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct Readiness {
    #[schema(value_type = AccountId)]
    account: String,
    livemode: bool,
    /// Whether it may be paid: exactly when there are no `reasons`.
    ready: bool,
    #[schema(value_type = Vec<ReasonCode>)]
    reasons: Vec<Reason>,
    /// Stripe's flag; null where Stripe's account has none, as those of version 2.
    details_submitted: Option<bool>,
    /// Stripe's flag, the same.
    charges_enabled: Option<bool>,
    /// Stripe's flag, the same.
    payouts_enabled: Option<bool>,
    /// `active`, `pending`, `inactive`, of an account of v2 also `restricted`, `unsupported`, `rejected`, or what else
    /// Stripe says.
    #[schema(example = "active")]
    transfers_capability: Option<String>,
    /// Whether the account left the platform, or Stripe no longer shows it.
    deauthorized: bool,
    #[schema(value_type = RequirementsShown)]
    requirements: Requirements,
    /// When this was so.
    as_of: Instant,
    /// The event that told, or `api` where Stripe was asked.
    #[schema(example = "evt_1RVbKzLkdIwHu7ix")]
    source: String,
}

/// What Stripe wants from the account's holder, in Stripe's words.
#[expect(dead_code, reason = "the schema of `domain::account::Requirements`, which knows of no documents")]
#[derive(ToSchema)]
#[schema(as = Requirements)]
struct RequirementsShown {
    /// Needed by `current_deadline` to stay enabled.
    currently_due: Vec<String>,
    /// Missed: what depends on them is disabled.
    past_due: Vec<String>,
    /// Needed once some threshold is reached.
    eventually_due: Vec<String>,
    /// Submitted, being verified by Stripe.
    pending_verification: Vec<String>,
    /// Why the account is disabled.
    disabled_reason: Option<String>,
    /// When what is currently due becomes past due.
    current_deadline: Option<Instant>,
}

impl Readiness {
    fn of(account: &Account, policy: &Policy) -> Self {
        let flags = account.known.flags.clone().unwrap_or_default();
        let reasons = account.known.reasons(policy);
        Self {
            account: account.id.clone(),
            livemode: account.livemode,
            ready: reasons.is_empty(),
            reasons,
            details_submitted: flags.details_submitted,
            charges_enabled: flags.charges_enabled,
            payouts_enabled: flags.payouts_enabled,
            transfers_capability: flags.transfers_capability,
            deauthorized: account.known.deauthorized(),
            requirements: flags.requirements,
            as_of: Instant::second(account.as_of),
            source: account.source.clone(),
        }
    }
}

/// A connected account.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Account)]
pub(in crate::http) struct Described {
    #[serde(flatten)]
    readiness: Readiness,
    /// Two letters.
    #[schema(example = "DE")]
    country: Option<String>,
    /// The account's own.
    #[schema(example = "eur")]
    default_currency: Option<String>,
    /// When it left, if it did.
    deauthorized_at: Option<Instant>,
    /// When Stripe last showed it, asked or unasked.
    confirmed_at: Option<Instant>,
    /// When it was first heard of.
    first_seen: Instant,
    /// When anything about it last changed here.
    updated_at: Instant,
}

impl Described {
    fn of(account: &Account, policy: &Policy) -> Self {
        let flags = account.known.flags.as_ref();
        Self {
            readiness: Readiness::of(account, policy),
            country: flags.and_then(|flags| flags.country.clone()),
            default_currency: flags.and_then(|flags| flags.default_currency.clone()),
            deauthorized_at: Instant::maybe(account.known.deauthorized_at),
            confirmed_at: Instant::maybe(account.known.confirmed_at),
            first_seen: Instant::of(account.first_seen),
            updated_at: Instant::of(account.updated_at),
        }
    }
}

/// A connected account, what to do about it next, and what it was before.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct AccountWithHistory {
    #[serde(flatten)]
    account: Described,
    next_step: NextStepShown,
    /// Its latest changes, oldest first.
    history: Vec<Change>,
}

impl AccountWithHistory {
    fn of(account: &Account, history: Vec<AccountChange>, policy: &Policy) -> Self {
        Self {
            account: Described::of(account, policy),
            next_step: NextStepShown::of(next_step(&account.known, policy)),
            history: history.into_iter().map(Change::of).collect(),
        }
    }
}

/// What to do about an account next; for people who came back without having finished, another onboarding link.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = NextStep)]
struct NextStepShown {
    #[schema(value_type = NextAction)]
    action: &'static str,
    /// What it is about, in Stripe's names: what is to be given, or what is being verified.
    #[schema(example = json!(["external_account"]))]
    fields: Vec<String>,
    /// By when.
    deadline: Option<Instant>,
    /// The same in words.
    detail: &'static str,
}

impl NextStepShown {
    fn of(step: NextStep) -> Self {
        let deadline = Instant::maybe(step.deadline);
        Self { action: step.action.as_str(), fields: step.fields, deadline, detail: step.detail }
    }
}

/// What an account became, and by what evidence.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AccountChange)]
struct Change {
    /// When it was noted.
    at: Instant,
    /// When it was so.
    as_of: Instant,
    /// The event that told, or `api`.
    source: String,
    ready: bool,
    /// By the conditions of that time.
    #[schema(value_type = Vec<ReasonCode>)]
    reasons: Vec<String>,
    /// Stripe's flags; null while nothing described the account.
    #[schema(value_type = Option<Object>)]
    state: Value,
}

impl Change {
    fn of(change: AccountChange) -> Self {
        Self {
            at: Instant::of(change.at),
            as_of: Instant::second(change.as_of),
            source: change.source,
            ready: change.reasons.is_empty(),
            reasons: change.reasons,
            state: change.state,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::account::{Flags, Known};
    use serde_json::json;
    use time::macros::datetime;

    fn account(flags: Option<Flags>, deauthorized: bool) -> Account {
        let at = datetime!(2026-11-22 10:00:00.5 UTC);
        Account {
            id: "acct_1".into(),
            livemode: false,
            known: Known {
                flags,
                deauthorized_at: deauthorized.then_some(at),
                confirmed_at: None,
                closed_at: None,
            },
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
            json!(Readiness::of(&account(Some(flags), false), &Policy::default())),
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
        let left = json!(Readiness::of(&account(None, true), &Policy::default()));
        assert_eq!(
            (&left["reasons"], &left["deauthorized"]),
            (&json!(["account_deauthorized"]), &json!(true))
        );
    }
}
