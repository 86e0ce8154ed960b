//! The sandbox's own account of the platform's money, to hold the service's books against.
//!
//! Summed anew from the objects on each look, beside the running balance, so that the two check each other.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value};

use super::balance::Entry;
use super::state::World;

/// Everything that moved, and what is left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Books {
    /// By lower-case currency code.
    pub currencies: BTreeMap<String, Position>,
    /// Every transfer, oldest first.
    pub transfers: Vec<TransferBook>,
}

/// One currency's money, minor units. `available` is always
/// `topped_up_available + added + reversed - transferred - topups_reversed`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Position {
    /// Top-ups whose money became available, those reversed later included.
    pub topped_up_available: i64,
    /// Put into the balance by hand.
    pub added: i64,
    /// Transfers, gross.
    pub transferred: i64,
    /// Taken back from transfers by reversals.
    pub reversed: i64,
    /// Top-ups taken back by the bank, once that counts against what is available.
    pub topups_reversed: i64,
    /// The balance that transfers may draw on.
    pub available: i64,
    /// Succeeded top-ups not yet available.
    pub pending: i64,
}

/// One transfer as the books show it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TransferBook {
    /// `tr_…`.
    pub id: String,
    /// The connected account.
    pub destination: String,
    /// Lower-case currency code.
    pub currency: String,
    /// Minor units.
    pub amount: i64,
    /// Minor units taken back.
    pub amount_reversed: i64,
    /// The label it was created with.
    pub transfer_group: Option<String>,
    /// The metadata it has now.
    pub metadata: Map<String, Value>,
    /// Sandbox time of creation, microseconds since 1970.
    pub created_us: i64,
}

/// A movement of the platform's money: a balance transaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Movement {
    /// Stripe's type, like `topup` or `transfer`.
    pub kind: String,
    /// Lower-case currency code.
    pub currency: String,
    /// Minor units; negative where money goes out.
    pub amount: i64,
    /// Sandbox time of its making, microseconds since 1970.
    pub created_us: i64,
    /// From when the money could be spent; none while it can't.
    pub available_us: Option<i64>,
}

impl World {
    /// Every movement, in order.
    pub(super) fn movements(&self) -> Vec<Movement> {
        let movement = |entry: &Entry| Movement {
            kind: entry.kind.to_owned(),
            currency: entry.currency.clone(),
            amount: entry.amount,
            created_us: entry.created_us,
            available_us: (!entry.pending).then_some(entry.available_us),
        };
        self.ledger.entries().iter().map(movement).collect()
    }

    /// The books as of now.
    pub(super) fn books(&self) -> Books {
        let mut currencies: BTreeMap<String, Position> = BTreeMap::new();
        for (currency, purse) in self.ledger.purses() {
            let position = currencies.entry(currency.to_owned()).or_default();
            position.available = purse.available;
            position.pending = purse.pending;
        }
        for entry in self.ledger.entries().iter().filter(|entry| !entry.pending) {
            count(currencies.entry(entry.currency.clone()).or_default(), entry);
        }
        let transfers = self
            .transfers
            .iter()
            .map(|transfer| TransferBook {
                id: transfer.id.clone(),
                destination: transfer.destination.clone(),
                currency: transfer.currency.clone(),
                amount: transfer.amount,
                amount_reversed: transfer.amount_reversed,
                transfer_group: transfer.transfer_group.clone(),
                metadata: transfer.metadata.clone(),
                created_us: transfer.created_us,
            })
            .collect();
        Books { currencies, transfers }
    }
}

fn count(position: &mut Position, entry: &Entry) {
    match entry.kind {
        "topup" => position.topped_up_available += entry.amount,
        "topup_reversal" => position.topups_reversed -= entry.amount,
        "transfer" => position.transferred -= entry.amount,
        "transfer_refund" => position.reversed += entry.amount,
        _ => position.added += entry.amount,
    }
}
