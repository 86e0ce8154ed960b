//! What the story leaves to do for whoever looks at the console: a large transfer that waits for an approval, with the
//! money for it, and an event that can't be applied.

use anyhow::Context as _;
use serde_json::json;
use time::OffsetDateTime;

use super::story::Cast;
use super::watch::{Api, dollars};
use crate::sandbox::Control;
use crate::stripe::signature::{SigningSecret, sign};

/// In minor units: what is larger waits for an approval. The story itself is made of smaller ones.
pub const APPROVAL_ABOVE_MINOR: i64 = 500_000;
const LARGE_MINOR: i64 = 750_000;

/// Asks for the large one with another key than the operator's, and delivers the odd event.
pub async fn leave(api: &Api, stripe: &Control, cast: &Cast, secret: &SigningSecret) -> anyhow::Result<()> {
    let (name, account) = cast.accounts.first().context("somebody plays")?;
    let made = api.post("/v1/keys", "demo-key", &json!({"name": "payroll", "scope": "operate"})).await?;
    let payroll = api.with_key(made["secret"].as_str().context("a new key has a secret")?);
    let topup = stripe.create_topup("usd", LARGE_MINOR);
    api.say("top-up", &format!("{} asked of the bank as {topup}", dollars(LARGE_MINOR)));
    let order = json!({"destination": account, "amount": LARGE_MINOR, "currency": "usd", "description": "A large one"});
    payroll.post("/v1/transfers", "demo-large", &order).await?;
    api.say(&format!("6: {} to {name}", dollars(LARGE_MINOR)), "waits for an approval by another key");
    let told = stripe.events().into_iter().rev().find(|event| event["type"] == "topup.succeeded");
    let mut odd = told.context("a top-up succeeded")?;
    odd["id"] = json!("evt_demo_odd");
    odd["data"]["object"]["id"] = json!("odd");
    let body = odd.to_string();
    let signature = sign(body.as_bytes(), secret, OffsetDateTime::now_utc().unix_timestamp());
    api.deliver(body, &signature).await?;
    api.say("evt_demo_odd", "says that a top-up succeeded, but not which: it becomes a dead letter");
    Ok(())
}
