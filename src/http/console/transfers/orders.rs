//! The buttons of a transfer: each asks first, and then goes the way that the API's orders go.

use axum::extract::{Path, State};
use axum::response::Response;
use serde_json::{Value, json};

use crate::domain::ids::TransferId;
use crate::domain::money::Currency;
use crate::domain::reason::Reason;
use crate::domain::transfer::Status;
use crate::flows::control_transfer::{self, Control, reverse as take_back};
use crate::flows::order::Ordered;
use crate::http::console::confirm::{AmountField, Confirm};
use crate::http::console::form::Form;
use crate::http::console::frame::Section;
use crate::http::console::session::Operator;
use crate::http::console::{onward, words};
use crate::http::error::{Code, Problem};
use crate::http::state::{AppState, Shared};
use crate::store::views::{self, Reversal, Transfer};

/// What a button orders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// See [`Control`].
    Control(Control),
    /// Money is to come back.
    Reverse,
}

/// Its word in the address, its button, what it says once done, and what will happen.
type Words = (&'static str, &'static str, &'static str, &'static str);

impl Order {
    const ALL: [Order; 6] = [
        Self::Control(Control::Approve),
        Self::Control(Control::Retry),
        Self::Control(Control::Hold),
        Self::Control(Control::Resume),
        Self::Control(Control::Cancel),
        Self::Reverse,
    ];

    fn words(self) -> Words {
        match self {
            Self::Control(Control::Approve) => (
                "approve",
                "Approve",
                "Approved.",
                "It is approved in your key's name, and goes out when it waits for nothing else.",
            ),
            Self::Control(Control::Retry) => (
                "retry",
                "Try again",
                "It is tried again.",
                "Stripe is asked first whether it exists; only if not, it is sent again under a new key.",
            ),
            Self::Control(Control::Hold) => {
                ("hold", "Hold", "It is held.", "It does not go out until somebody resumes it.")
            }
            Self::Control(Control::Resume) => {
                ("resume", "Resume", "It goes on.", "It goes out when it waits for nothing else.")
            }
            Self::Control(Control::Cancel) => (
                "cancel",
                "Call it off",
                "It was called off.",
                "It never goes out. This can't be undone; ask for a new one instead.",
            ),
            Self::Reverse => (
                "reverse",
                "Take back",
                "The money is to come back.",
                "Stripe is asked to take the money back from the account. This can't be undone.",
            ),
        }
    }

    /// Reads the word of an address.
    pub(super) fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|order| order.word() == word)
    }

    /// The word in an address.
    pub(super) fn word(self) -> &'static str {
        self.words().0
    }

    /// What the button says.
    pub(super) fn button(self) -> &'static str {
        self.words().1
    }

    /// What is said once it was done.
    pub(super) fn done(self) -> &'static str {
        self.words().2
    }

    /// Whether it can't be undone.
    pub(super) fn is_grave(self) -> bool {
        matches!(self, Self::Control(Control::Cancel) | Self::Reverse)
    }

    /// What can be ordered about a transfer where it stands. What comes too late all the same, the flow refuses.
    pub(super) fn open_for(transfer: &Transfer, reversals: &[Reversal]) -> Vec<Order> {
        let to_approve = |reasons: &[Reason]| reasons.contains(&Reason::ApprovalRequired);
        let fits = |order: &Order| match order {
            Self::Control(Control::Approve) => {
                to_approve(&transfer.waiting_on) || reversals.iter().any(|one| to_approve(&one.waiting_on))
            }
            Self::Control(Control::Retry) => transfer.status == Status::Failed,
            Self::Control(Control::Hold) => is_open(transfer) && transfer.held_at.is_none(),
            Self::Control(Control::Resume) => is_open(transfer) && transfer.held_at.is_some(),
            Self::Control(Control::Cancel) => transfer.status == Status::Waiting,
            Self::Reverse => matches!(transfer.status, Status::Released | Status::PartiallyReversed),
        };
        Self::ALL.into_iter().filter(fits).collect()
    }
}

fn is_open(transfer: &Transfer) -> bool {
    matches!(transfer.status, Status::Waiting | Status::Releasing)
}

/// Asks before something is ordered.
pub(in crate::http) async fn ask(
    State(state): State<Shared>,
    Operator(visitor): Operator,
    Path((id, word)): Path<(String, String)>,
) -> Result<Response, Problem> {
    let (transfer, order) = find(&state, &id, &word).await?;
    let (_, button, _, happens) = order.words();
    let money = |amount| words::money(amount, transfer.currency.as_str());
    let title = format!("{button}: {}?", money(transfer.amount_minor));
    let to = format!("{} to {}, {}.", money(transfer.amount_minor), transfer.destination, transfer.id);
    let page = format!("/console/transfers/{}", transfer.id);
    let frame = visitor.frame(Section::Transfers, title);
    let confirm = Confirm::of(frame, format!("{page}/{word}"), button, page);
    let amount = (order == Order::Reverse).then(|| AmountField {
        currency: transfer.currency.as_str().to_uppercase(),
        otherwise: money(transfer.amount_minor - transfer.amount_reversed_minor),
    });
    Confirm { lines: vec![to, happens.to_owned()], grave: order.is_grave(), amount, ..confirm }.answer()
}

/// Orders it.
pub(in crate::http) async fn order(
    State(state): State<Shared>,
    Operator(visitor): Operator,
    Path((id, word)): Path<(String, String)>,
    form: Form,
) -> Result<Response, Problem> {
    let (transfer, order) = find(&state, &id, &word).await?;
    let (id, once, reason) = (&transfer.id, form.once(), form.text("reason", 500)?);
    // The answer is kept for a form that is sent twice; nobody reads it.
    let kept = |transfer: &Transfer| json!({"id": transfer.id.as_str()});
    let ordered = match order {
        Order::Control(control) => {
            let (once, reason) = (once.as_ref(), reason.as_deref());
            control_transfer::control(&state.ctx, &visitor.actor, once, id, control, reason, kept).await?
        }
        Order::Reverse => {
            let amount_minor = amount(&form, transfer.currency)?;
            let request = take_back::Request { amount_minor, reason };
            let kept = |transfer: &Transfer, _: &[Reversal]| -> Value { kept(transfer) };
            take_back::reverse(&state.ctx, &visitor.actor, once.as_ref(), id, &request, kept).await?
        }
    };
    state.bell.ring_due();
    match ordered {
        Ordered::Answer(_) => Ok(onward(&format!("/console/transfers/{id}?done={word}"))),
        Ordered::KeyReused => Err(Problem::key_reused()),
    }
}

/// How much is to come back; none for all that is left.
fn amount(form: &Form, currency: Currency) -> Result<Option<i64>, Problem> {
    let Some(text) = form.text("amount", 40)? else { return Ok(None) };
    let amount = currency.read(text.trim()).and_then(|amount| currency.amount_to_pay(amount).ok());
    amount.map(Some).ok_or_else(|| {
        let example = currency.written(100_000);
        Problem::field(
            "/amount",
            format!("must be an amount in {}, like {example}", currency.as_str().to_uppercase()),
        )
    })
}

async fn find(state: &AppState, id: &str, word: &str) -> Result<(Transfer, Order), Problem> {
    let not_found =
        || Problem::new(Code::NotFound, "Check the address; the page of a transfer shows its buttons.");
    let order = Order::parse(word).ok_or_else(not_found)?;
    let id = TransferId::parse(id).map_err(|_| Problem::transfer_unknown())?;
    let mut conn = state.connect().await?;
    let found = views::find_transfer(&mut conn, state.ctx.livemode, id.as_str()).await?;
    Ok((found.ok_or_else(Problem::transfer_unknown)?, order))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_button_has_an_address_of_its_own() {
        for order in Order::ALL {
            assert_eq!(Order::parse(order.word()), Some(order));
        }
        assert_eq!(Order::parse("delete"), None);
    }
}
