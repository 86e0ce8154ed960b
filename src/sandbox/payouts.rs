//! Payouts of the platform's balance to its own bank, as an automatic schedule makes them.

use serde_json::{Value, json};

use super::balance::Entry;
use super::state::{Origin, World};

impl World {
    /// Stripe pays all that is available in a currency out to the platform's bank; returns how much that was.
    pub fn pay_out(&mut self, currency: &str) -> i64 {
        let amount = self.ledger.available(currency);
        if amount <= 0 {
            return 0;
        }
        let (id, transaction, now) = (self.new_id("po_"), self.new_id("txn_"), self.now_us());
        self.ledger.book(Entry {
            id: transaction.clone(),
            kind: "payout",
            amount: -amount,
            currency: currency.to_owned(),
            source: Some(id.clone()),
            description: Some("STRIPE PAYOUT".to_owned()),
            created_us: now,
            available_us: now,
            pending: false,
        });
        let payout = self.payout_json(&id, amount, currency, &transaction);
        self.emit(&Origin::default(), "payout.created", payout, None, None);
        amount
    }

    fn payout_json(&self, id: &str, amount: i64, currency: &str, transaction: &str) -> Value {
        json!({
            "id": id, "object": "payout", "amount": amount, "currency": currency, "automatic": true,
            "arrival_date": self.now_s(), "balance_transaction": transaction, "created": self.now_s(),
            "description": "STRIPE PAYOUT", "destination": null, "failure_balance_transaction": null,
            "failure_code": null, "failure_message": null, "livemode": self.settings.livemode, "metadata": {},
            "method": "standard", "original_payout": null, "reconciliation_status": "in_progress",
            "reversed_by": null, "source_type": self.settings.source_type, "statement_descriptor": null,
            "status": "in_transit", "type": "bank_account",
        })
    }
}
