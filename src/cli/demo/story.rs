//! The story: what happens at Stripe and what the platform asks for, on a timetable.

use std::time::{Duration, Instant};

use serde_json::json;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::watch::{self, Api, Seen, dollars};
use crate::sandbox::{AccountChange, AccountSpec, Control};

/// Who plays.
pub struct Cast {
    /// Name and account id.
    pub accounts: Vec<(&'static str, String)>,
    /// The top-up's id.
    pub topup: String,
    /// A title and the transfer's id.
    pub transfers: Vec<(String, String)>,
}

/// The top-up, in minor units: a little more than the five transfers.
const TOPUP_MINOR: i64 = 26_000;
const TICK: Duration = Duration::from_millis(100);

/// How long the story gives whoever watches.
#[derive(Clone, Copy, Debug)]
pub enum Pace {
    /// No longer than it needs.
    Brisk,
    /// Time to open the console, and to see why the third transfer waits.
    ForWatching,
}

/// What happens at Stripe and in the office, and how many seconds after the start.
fn timetable(pace: Pace) -> [(f64, Act); 7] {
    let cleo = match pace {
        Pace::Brisk => 10.0,
        Pace::ForWatching => 45.0,
    };
    [
        (1.0, Act::Submits("Ada")),
        (1.5, Act::Submits("Ben")),
        (2.5, Act::Verified("Ada")),
        (3.0, Act::Verified("Ben")),
        (5.0, Act::Submits("Cleo")),
        (14.0, Act::Resume),
        (cleo, Act::Verified("Cleo")),
    ]
}

#[derive(Clone, Copy, Debug)]
enum Act {
    Submits(&'static str),
    Verified(&'static str),
    Resume,
}

/// Tells the story until every transfer is out.
pub async fn tell(api: &Api, stripe: &Control, pace: Pace, patience: Duration) -> anyhow::Result<Cast> {
    let cast = begin(api, stripe).await?;
    let mut timetable = timetable(pace);
    timetable.sort_by(|(one, _), (other, _)| one.total_cmp(other));
    let (started, mut seen, mut acts) = (Instant::now(), Seen::default(), timetable.iter().peekable());
    loop {
        while let Some((_, act)) = acts.next_if(|(at, _)| started.elapsed().as_secs_f64() >= *at) {
            perform(api, stripe, &cast, *act).await?;
        }
        if watch(api, &cast, &mut seen).await? && acts.peek().is_none() {
            return Ok(cast);
        }
        anyhow::ensure!(
            started.elapsed() < patience,
            "the story did not end within {} s",
            patience.as_secs()
        );
        tokio::time::sleep(TICK).await;
    }
}

async fn begin(api: &Api, stripe: &Control) -> anyhow::Result<Cast> {
    let accounts: Vec<(&str, String)> =
        ["Ada", "Ben", "Cleo"].map(|name| (name, stripe.create_account(AccountSpec::default()))).to_vec();
    for (name, id) in &accounts {
        api.say(name, &format!("starts onboarding at Stripe as {id}"));
    }
    let topup = stripe.create_topup("usd", TOPUP_MINOR);
    api.say("top-up", &format!("{} asked of the bank as {topup}", dollars(TOPUP_MINOR)));
    let later = (OffsetDateTime::now_utc() + time::Duration::seconds(12)).format(&Rfc3339)?;
    let orders = [
        ("Ada", 5_000, json!({"description": "Answers, week 46"})),
        ("Ben", 6_000, json!({"topup": topup, "description": "From this top-up alone"})),
        ("Cleo", 4_500, json!({"description": "Her first answers"})),
        ("Ada", 3_000, json!({"release_after": later, "description": "On a date"})),
        ("Ben", 6_500, json!({"priority": -1, "description": "To be looked at first"})),
    ];
    let mut transfers = Vec::new();
    for (number, (name, amount_minor, mut order)) in (1..).zip(orders) {
        let destination = accounts.iter().find(|(known, _)| *known == name).map(|(_, id)| id.as_str());
        order["destination"] = json!(destination);
        order["amount"] = json!(amount_minor);
        order["currency"] = json!("usd");
        let made = api.post("/v1/transfers", &format!("demo-{number}"), &order).await?;
        let id = made["id"].as_str().unwrap_or_default().to_owned();
        transfers.push((format!("{number}: {} to {name}", dollars(amount_minor)), id));
    }
    let cast = Cast { accounts, topup, transfers };
    if let Some((title, id)) = cast.transfers.last() {
        api.post(&format!("/v1/transfers/{id}/hold"), "demo-hold", &json!({})).await?;
        api.say(title, "held by an operator");
    }
    Ok(cast)
}

async fn perform(api: &Api, stripe: &Control, cast: &Cast, act: Act) -> anyhow::Result<()> {
    let account =
        |name| cast.accounts.iter().find(|(known, _)| *known == name).map_or("", |(_, id)| id.as_str());
    match act {
        Act::Submits(name) => {
            let change = AccountChange {
                details_submitted: Some(true),
                transfers: Some("pending".to_owned()),
                ..AccountChange::default()
            };
            stripe.change_account(account(name), &change)?;
            api.say(name, "submits the form at Stripe");
        }
        Act::Verified(name) => {
            stripe.change_account(account(name), &AccountChange::ready())?;
            api.say(name, "is verified by Stripe");
        }
        Act::Resume => {
            if let Some((title, id)) = cast.transfers.last() {
                api.post(&format!("/v1/transfers/{id}/resume"), "demo-resume", &json!({})).await?;
                api.say(title, "let go by the operator");
            }
        }
    }
    Ok(())
}

/// Prints what changed; true when every transfer is out.
async fn watch(api: &Api, cast: &Cast, seen: &mut Seen) -> anyhow::Result<bool> {
    for (name, id) in &cast.accounts {
        let readiness = api.get(&format!("/v1/accounts/{id}/readiness")).await?;
        api.say_if_new(seen, name, watch::account(readiness.as_ref()));
    }
    let topup = api.get(&format!("/v1/topups/{}", cast.topup)).await?;
    api.say_if_new(seen, "top-up", watch::topup(topup.as_ref()));
    let mut all_out = true;
    for (title, id) in &cast.transfers {
        let transfer = api.get(&format!("/v1/transfers/{id}")).await?.unwrap_or_default();
        all_out &= transfer["status"] == json!("released");
        api.say_if_new(seen, title, watch::transfer(&transfer));
    }
    Ok(all_out)
}
