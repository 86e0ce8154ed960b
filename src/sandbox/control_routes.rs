//! The controls over HTTP: JSON in, JSON out, no authentication (the sandbox serves this machine alone).
//!
//! `docs/SANDBOX.md` lists the routes; each is one of [`Control`]'s methods.

use std::sync::Arc;
use std::time::Duration;

use axum::http::Method;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::control::{AccountChange, AccountSpec, Control, NotPossible};
use super::errors::Answer;
use super::faults::Fault;
use super::v2::{V2Change, V2Spec};
use super::{Shared, onboarding};
use crate::stripe::signature::SecretError;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Money {
    currency: String,
    amount: i64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Address {
    url: String,
    secret: String,
    #[serde(default)]
    connect: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Thin {
    #[serde(rename = "type")]
    kind: String,
    object: Option<Named>,
    account: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Named {
    #[serde(rename = "type")]
    noun: String,
    id: String,
}

/// Why a control was not carried out.
enum Failed {
    Body(serde_json::Error),
    Secret(SecretError),
    State(NotPossible),
    Unknown,
}

impl From<serde_json::Error> for Failed {
    fn from(error: serde_json::Error) -> Self {
        Self::Body(error)
    }
}

impl From<SecretError> for Failed {
    fn from(error: SecretError) -> Self {
        Self::Secret(error)
    }
}

impl From<NotPossible> for Failed {
    fn from(error: NotPossible) -> Self {
        Self::State(error)
    }
}

pub(super) async fn handle(shared: &Arc<Shared>, method: &Method, path: &str, body: &[u8]) -> Answer {
    let segments: Vec<&str> = path.trim_matches('/').split('/').skip(1).collect();
    if let ["onboarding", token, step @ ..] = segments.as_slice() {
        let mut world = shared.lock();
        world.tick();
        return onboarding::visit(&mut world, method, token, step.first().copied());
    }
    let control = Control::new(shared.clone());
    let done = match (method.as_str(), segments.as_slice()) {
        ("GET", what) => look(&control, what),
        ("POST", ["events", id, "deliver"]) => {
            control.deliver(id).await.map(|statuses| json!({"statuses": statuses})).map_err(Failed::from)
        }
        ("POST", ["events", what]) => events(&control, what, body),
        ("POST", ["accounts", what @ ..]) => accounts(&control, what, body),
        ("POST", ["topups", what @ ..]) => topups(&control, what, body),
        ("POST", what) => others(&control, what, body),
        _ => Err(Failed::Unknown),
    };
    match done {
        Ok(value) => Answer::json(200, &value),
        Err(Failed::Body(error)) => Answer::json(400, &json!({"error": error.to_string()})),
        Err(Failed::Secret(error)) => Answer::json(400, &json!({"error": format!("the secret {error}")})),
        Err(Failed::State(error)) => Answer::json(409, &json!({"error": error.to_string()})),
        Err(Failed::Unknown) => Answer::json(404, &json!({"error": format!("no control {method} {path}")})),
    }
}

/// The body as JSON; an empty one is an empty object.
fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Failed> {
    Ok(serde_json::from_slice(if body.is_empty() { b"{}" } else { body })?)
}

/// One named field of the body.
fn field<T: DeserializeOwned>(body: &[u8], name: &str) -> Result<T, Failed> {
    let mut whole: serde_json::Map<String, Value> = read(body)?;
    Ok(serde_json::from_value(whole.remove(name).unwrap_or_default())?)
}

fn look(control: &Control, what: &[&str]) -> Result<Value, Failed> {
    Ok(match what {
        ["books"] => json!(control.books()),
        ["calls"] => json!(control.calls()),
        ["events"] => json!(control.events()),
        ["attempts"] => json!(control.attempts()),
        ["faults"] => json!(control.faults()),
        ["events", "held"] => {
            let held = control.held_events();
            json!(held.iter().map(|(id, kind)| json!({"id": id, "type": kind})).collect::<Vec<_>>())
        }
        _ => return Err(Failed::Unknown),
    })
}

fn accounts(control: &Control, what: &[&str], body: &[u8]) -> Result<Value, Failed> {
    let id = match what {
        [] => control.create_account(read::<AccountSpec>(body)?),
        ["v2"] => control.create_v2_account(&read::<V2Spec>(body)?),
        [id] => {
            control.change_account(id, &read::<AccountChange>(body)?)?;
            (*id).to_owned()
        }
        [id, "onboard"] => {
            control.change_account(id, &AccountChange::ready())?;
            (*id).to_owned()
        }
        [id, "v2"] => {
            control.change_v2(id, &read::<V2Change>(body)?)?;
            (*id).to_owned()
        }
        [id, "return_link"] => return Ok(json!({"event": control.return_link(id)?})),
        [id, "deauthorize"] => {
            control.deauthorize(id)?;
            (*id).to_owned()
        }
        [id, "deny"] => {
            control.deny(id, field(body, "denied")?)?;
            (*id).to_owned()
        }
        _ => return Err(Failed::Unknown),
    };
    Ok(control.account(&id).unwrap_or_default())
}

fn topups(control: &Control, what: &[&str], body: &[u8]) -> Result<Value, Failed> {
    let id = match what {
        [] => {
            let money: Money = read(body)?;
            control.create_topup(&money.currency, money.amount)
        }
        [id, step] => {
            match *step {
                "settle" => control.settle_topup(id)?,
                "available" => control.make_available(id)?,
                "reverse" => control.reverse_topup(id)?,
                "fail" => control.fail_topup(id, &field::<String>(body, "code")?)?,
                _ => return Err(Failed::Unknown),
            }
            (*id).to_owned()
        }
        _ => return Err(Failed::Unknown),
    };
    Ok(json!({"id": id}))
}

fn events(control: &Control, what: &str, body: &[u8]) -> Result<Value, Failed> {
    match what {
        "hold" => control.hold_events(field(body, "hold")?),
        "thin" => {
            let Thin { kind, object, account } = read(body)?;
            let object = object.as_ref().map(|named| (named.noun.as_str(), named.id.as_str()));
            return Ok(json!({"id": control.tell_thinly(&kind, object, account.as_deref())}));
        }
        "lose" => control.lose_events(field(body, "count")?),
        "release" => {
            let ids: Option<Vec<String>> = field(body, "ids")?;
            return Ok(json!({"released": control.release(&ids.unwrap_or_default())}));
        }
        _ => return Err(Failed::Unknown),
    }
    Ok(json!({}))
}

fn others(control: &Control, what: &[&str], body: &[u8]) -> Result<Value, Failed> {
    match what {
        ["clock", "advance"] => {
            control.advance(Duration::from_secs(field(body, "seconds")?));
            return Ok(json!({"now": control.now()}));
        }
        ["balance"] => {
            let money: Money = read(body)?;
            control.add_balance(&money.currency, money.amount);
        }
        ["payout"] => {
            let amount = control.pay_out(&field::<String>(body, "currency")?);
            return Ok(json!({"amount": amount}));
        }
        ["faults"] => control.fault(read::<Fault>(body)?),
        ["faults", "clear"] => control.clear_faults(),
        ["keys", "forget"] => control.forget_keys(),
        ["keys", "restrict"] => {
            let lacks: Vec<String> = field(body, "lacks")?;
            let lacks: Vec<&str> = lacks.iter().map(String::as_str).collect();
            control.restrict_key(&field::<String>(body, "key")?, &lacks);
        }
        ["calls", "clear"] => control.clear_calls(),
        ["endpoints"] => {
            let address: Address = read(body)?;
            let id = control.add_endpoint(&address.url, &address.secret, address.connect)?;
            return Ok(json!({"id": id}));
        }
        _ => return Err(Failed::Unknown),
    }
    Ok(json!({}))
}
