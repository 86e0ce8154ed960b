//! Accounts: who may be paid, why not, and what to do about it.

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use secrecy::ExposeSecret;
use time::OffsetDateTime;

use super::confirm::Confirm;
use super::form::Form;
use super::frame::{Frame, Section};
use super::page;
use super::query::Asked;
use super::session::{Operator, Reader};
use super::wanted;
use super::words::{self, Choice, Fact, State as Standing};
use crate::domain::account::{Known, Requirements};
use crate::domain::ids::AccountId;
use crate::domain::next_step::{Action, next_step};
use crate::domain::onboarding::{LinkKind, Ticket};
use crate::domain::reason::Reason;
use crate::flows::onboard;
use crate::http::api::accounts::is_shown;
use crate::http::error::Problem;
use crate::http::extract::Id;
use crate::http::state::{AppState, Shared};
use crate::store::views::{self, Account, AccountChange};

#[derive(Debug, Template)]
#[template(path = "console/accounts.html")]
struct List {
    frame: Frame,
    ready: Vec<Choice>,
    reasons: Vec<Choice>,
    rows: Vec<Row>,
    next: Option<String>,
}

#[derive(Debug)]
struct Row {
    id: String,
    standing: Standing,
    why: Vec<&'static str>,
    country: String,
    seen: String,
}

#[derive(Debug, Template)]
#[template(path = "console/account.html")]
struct One {
    frame: Frame,
    id: String,
    standing: Standing,
    why: Vec<Why>,
    next: String,
    fields: String,
    deadline: Option<String>,
    link: bool,
    facts: Vec<Fact>,
    wanted: Vec<Wanted>,
    history: Vec<Line>,
}

/// A reason why it may not be paid, and what ends it.
#[derive(Debug)]
struct Why {
    words: String,
    way_out: &'static str,
}

/// What Stripe wants from the holder.
#[derive(Debug)]
struct Wanted {
    when: &'static str,
    words: String,
    fields: Vec<String>,
}

#[derive(Debug)]
struct Line {
    at: String,
    standing: Standing,
    why: Vec<String>,
    as_of: String,
    source: String,
}

/// A link that was made.
#[derive(Debug, Template)]
#[template(path = "console/link.html")]
struct Link {
    frame: Frame,
    id: String,
    url: String,
    until: Option<String>,
}

/// Accounts by id.
pub(in crate::http) async fn list(
    State(state): State<Shared>,
    Reader(visitor): Reader,
    asked: Asked,
) -> Result<Response, Problem> {
    let (is_ready, why) = (asked.get("ready"), asked.get("reason"));
    let choices = [("true", "May be paid"), ("false", "May not be paid")];
    let ready = choices.map(|(value, words)| Choice::of(value, words, &is_ready)).into();
    let reasons = Reason::ALL.iter().filter(|reason| reason.of_account());
    let reasons = reasons.map(|of| Choice::of(of.code(), of.words(), &why)).collect();
    let below = asked.below();
    let mut params = asked.strictly();
    let place = params.page("accounts", |key| AccountId::parse(key).is_ok());
    let is_ready = params.flag("ready");
    let reason = params.optional("reason", |text| {
        Reason::parse(text).ok_or_else(|| "must be one of the reasons in the list".to_owned())
    });
    params.finish()?;
    let mut conn = state.connect().await?;
    let (code, after) = (reason.map(Reason::code), place.after.as_deref());
    let found =
        views::list_accounts(&mut conn, state.ctx.livemode, is_ready, code, after, place.to_read()).await?;
    let policy = state.ctx.policy();
    let row = |account: &Account| {
        let reasons = account.known.reasons(&policy);
        Some(Row {
            id: account.id.clone(),
            standing: words::readiness(reasons.is_empty()),
            why: reasons.iter().map(|reason| reason.words()).collect(),
            country: account.known.flags.as_ref().and_then(|flags| flags.country.clone()).unwrap_or_default(),
            seen: words::moment(account.updated_at),
        })
    };
    let rows = place.of(found, |account| account.id.clone(), row);
    page(&List {
        frame: visitor.frame(Section::Accounts, "Accounts"),
        ready,
        reasons,
        rows: rows.data,
        next: rows.next.map(|after| below.to(&after)),
    })
}

/// One account.
pub(in crate::http) async fn one(
    State(state): State<Shared>,
    Reader(visitor): Reader,
    Id(id): Id,
) -> Result<Response, Problem> {
    let account = find(&state, &id).await?;
    let mut conn = state.connect().await?;
    let history = views::list_account_changes(&mut conn, state.ctx.livemode, &account.id).await?;
    let policy = state.ctx.policy();
    let reasons = account.known.reasons(&policy);
    let next = next_step(&account.known, &policy);
    let why = |reason: &Reason| Why { words: words::sentence(reason.words()), way_out: reason.way_out() };
    page(&One {
        frame: visitor.frame(Section::Accounts, format!("Account {}", account.id)),
        id: account.id.clone(),
        standing: words::readiness(reasons.is_empty()),
        why: reasons.iter().map(why).collect(),
        next: next.detail.to_owned(),
        fields: wanted::in_words(&next.fields),
        deadline: next.deadline.map(words::moment),
        link: visitor.operates() && next.action == Action::OnboardingLink,
        facts: facts(&account),
        wanted: asked_for(&account.known),
        history: history.into_iter().rev().map(Line::of).collect(),
    })
}

fn facts(account: &Account) -> Vec<Fact> {
    let flags = account.known.flags.clone().unwrap_or_default();
    let said = |flag: Option<bool>| flag.map(|flag| if flag { "yes" } else { "no" }.to_owned());
    let known = [
        ("Onboarding finished", said(flags.details_submitted)),
        ("Charges enabled", said(flags.charges_enabled)),
        ("Payouts enabled", said(flags.payouts_enabled)),
        ("Receiving transfers", flags.transfers_capability),
        ("Why Stripe holds it back", flags.requirements.disabled_reason.as_deref().map(wanted::held_back)),
        ("Country", flags.country),
        ("Its currency", flags.default_currency.map(|currency| currency.to_uppercase())),
        ("Left the platform", account.known.deauthorized_at.map(words::moment)),
        ("This was so at", Some(words::moment(account.as_of))),
        ("Told by", Some(words::source(&account.source))),
        ("First heard of", Some(words::moment(account.first_seen))),
    ];
    let mut facts: Vec<Fact> =
        known.into_iter().filter_map(|(name, value)| Some(Fact::of(name, value?))).collect();
    let transfers = format!("/console/transfers?destination={}", account.id);
    facts.push(Fact::of("Its transfers", "show them").at(transfers));
    facts
}

fn asked_for(known: &Known) -> Vec<Wanted> {
    let Requirements { currently_due, past_due, eventually_due, pending_verification, .. } =
        known.flags.clone().unwrap_or_default().requirements;
    let lists = [
        ("Overdue", past_due),
        ("Due now", currently_due),
        ("Being verified by Stripe", pending_verification),
        ("Due later", eventually_due),
    ];
    let some = lists.into_iter().filter(|(_, fields)| !fields.is_empty());
    some.map(|(when, fields)| Wanted { when, words: wanted::in_words(&fields), fields }).collect()
}

impl Line {
    fn of(change: AccountChange) -> Self {
        Self {
            at: words::moment(change.at),
            standing: words::readiness(change.reasons.is_empty()),
            why: change.reasons.iter().map(|code| words::reason(code)).collect(),
            as_of: words::moment(change.as_of),
            source: words::source(&change.source),
        }
    }
}

/// Asks before a link is made.
pub(in crate::http) async fn ask_for_link(
    State(state): State<Shared>,
    Operator(visitor): Operator,
    Id(id): Id,
) -> Result<Response, Problem> {
    let account = find(&state, &id).await?;
    let back = format!("/console/accounts/{}", account.id);
    let frame = visitor.frame(Section::Accounts, "Make an onboarding link?");
    let confirm = Confirm::of(frame, format!("{back}/onboarding-link"), "Make the link", back);
    let lines = vec![
        format!("Stripe makes a link for the person behind {}.", account.id),
        "It opens their data, once, within minutes: hand it to nobody else.".to_owned(),
    ];
    Confirm { lines, reason: false, ..confirm }.answer()
}

/// Makes a link, and shows it this once.
pub(in crate::http) async fn make_link(
    State(state): State<Shared>,
    Operator(visitor): Operator,
    Id(id): Id,
    _: Form,
) -> Result<Response, Problem> {
    let account = AccountId::parse(&id).map_err(|_| Problem::account_unknown())?;
    let ticket = Ticket {
        account,
        livemode: state.ctx.livemode,
        kind: LinkKind::Onboarding,
        return_url: None,
        collect: None,
        future: None,
        open_until: OffsetDateTime::UNIX_EPOCH,
    };
    let link = onboard::make_link(&state.ctx, &visitor.actor, ticket).await?;
    state.bell.ring_due();
    page(&Link {
        frame: visitor.frame(Section::Accounts, "The onboarding link"),
        id,
        url: link.url.expose_secret().to_owned(),
        until: link.expires_at.map(words::moment),
    })
}

async fn find(state: &AppState, id: &str) -> Result<Account, Problem> {
    let id = AccountId::parse(id).map_err(|_| Problem::account_unknown())?;
    let mut conn = state.connect().await?;
    let found = views::find_account(&mut conn, state.ctx.livemode, id.as_str()).await?;
    found.filter(is_shown).ok_or_else(Problem::account_unknown)
}
