//! The platform's money: balance transactions, and per currency what is available and what is on its way.
//!
//! Every change of a balance is a balance transaction; the purses are their running sums.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::lists::{Listed, Shelf};

/// One currency's money in minor units.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Purse {
    pub available: i64,
    pub pending: i64,
}

/// A balance transaction.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub id: String,
    pub kind: &'static str,
    pub amount: i64,
    pub currency: String,
    pub source: Option<String>,
    pub description: Option<String>,
    pub created_us: i64,
    /// When the money counts as available, sandbox time in microseconds.
    pub available_us: i64,
    pub pending: bool,
}

impl Listed for Entry {
    const NOUN: &'static str = "balance transaction";
    fn id(&self) -> &str {
        &self.id
    }
    fn created_us(&self) -> i64 {
        self.created_us
    }
}

impl Entry {
    pub fn json(&self) -> Value {
        json!({
            "id": self.id, "object": "balance_transaction", "amount": self.amount, "net": self.amount,
            "currency": self.currency, "fee": 0, "fee_details": [], "exchange_rate": null,
            "created": self.created_us.div_euclid(1_000_000),
            "available_on": self.available_us.div_euclid(1_000_000),
            "status": if self.pending { "pending" } else { "available" },
            "type": self.kind, "reporting_category": self.kind, "balance_type": "payments",
            "source": self.source, "description": self.description,
        })
    }
}

/// All balance transactions and their sums.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    entries: Shelf<Entry>,
    purses: BTreeMap<String, Purse>,
    maturing: Vec<String>,
}

impl Ledger {
    /// Books an entry, into pending or available as the entry says.
    pub fn book(&mut self, entry: Entry) {
        let purse = self.purses.entry(entry.currency.clone()).or_default();
        if entry.pending {
            purse.pending += entry.amount;
            self.maturing.push(entry.id.clone());
        } else {
            purse.available += entry.amount;
        }
        self.entries.push(entry);
    }

    /// Makes available what is due; true where money came in by it.
    pub fn mature(&mut self, now_us: i64) -> bool {
        let entries = &self.entries;
        let is_due = |id: &String| entries.get(id).is_some_and(|entry| entry.available_us <= now_us);
        let (due, later): (Vec<String>, Vec<String>) =
            std::mem::take(&mut self.maturing).into_iter().partition(is_due);
        self.maturing = later;
        let mut came_in = false;
        for id in due {
            let Some(entry) = self.entries.get_mut(&id) else { continue };
            entry.pending = false;
            came_in |= entry.amount > 0;
            let purse = self.purses.entry(entry.currency.clone()).or_default();
            purse.pending -= entry.amount;
            purse.available += entry.amount;
        }
        came_in
    }

    /// Brings the availability of everything that came from `source` forward to `now_us`.
    pub fn hasten(&mut self, source: &str, now_us: i64) {
        for id in &self.maturing {
            if let Some(entry) = self.entries.get_mut(id)
                && entry.source.as_deref() == Some(source)
            {
                entry.available_us = now_us;
            }
        }
    }

    pub fn entries(&self) -> &Shelf<Entry> {
        &self.entries
    }

    /// What is available in a currency; nothing where it never had money.
    pub fn available(&self, currency: &str) -> i64 {
        self.purses.get(currency).map_or(0, |purse| purse.available)
    }

    pub fn purses(&self) -> impl Iterator<Item = (&str, Purse)> {
        self.purses.iter().map(|(currency, purse)| (currency.as_str(), *purse))
    }
}
