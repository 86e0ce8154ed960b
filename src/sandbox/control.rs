//! What can be done to a sandbox beyond Stripe's API, from within the process.
//!
//! Each method takes effect before it returns; events it causes are queued for delivery by then.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::broadcast;

use super::Shared;
use super::accounts::{merge, open};
use super::balance::Entry;
use super::books::{Books, Movement};
use super::call::Call;
use super::faults::Fault;
use super::lists::Listed;
use super::moments::Moment;
use super::pump::deliver_now;
use super::state::{Origin, unix_us};
use super::topups::Status;
use super::webhooks::Attempt;
use crate::stripe::signature::{SecretError, SigningSecret};

/// The in-process controls of one sandbox. Cheap to clone.
#[derive(Clone)]
pub struct Control {
    pub(super) shared: Arc<Shared>,
}

/// A control that the named object's state does not allow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{id} does not exist or is in no state for this")]
pub struct NotPossible {
    /// The object that was named.
    pub id: String,
}

/// A connected account to add.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AccountSpec {
    /// Two letters; none: `US`.
    pub country: Option<String>,
    /// `express` (the default), `custom` or `standard`.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// Onboarding is finished: all flags true, `transfers` active, nothing required.
    pub ready: bool,
    /// What differs from that.
    pub change: AccountChange,
}

/// A step of onboarding, or back. What is none stays as it is.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AccountChange {
    /// The form was submitted.
    pub details_submitted: Option<bool>,
    /// Stripe's summary flag for charges.
    pub charges_enabled: Option<bool>,
    /// Whether it can pay out to its bank.
    pub payouts_enabled: Option<bool>,
    /// The `transfers` capability: `active`, `pending`, `inactive`.
    pub transfers: Option<String>,
    /// Laid over `requirements`, key by key.
    pub requirements: Option<Value>,
    /// Laid over the whole object last, key by key.
    pub other: Option<Value>,
}

impl AccountChange {
    /// Everything that a finished onboarding sets.
    pub fn ready() -> Self {
        let mut account = json!({"capabilities": {}});
        open(&mut account);
        Self { other: Some(account), ..Self::default() }
    }

    fn apply(&self, account: &mut Value) {
        let flags = [
            ("details_submitted", self.details_submitted),
            ("charges_enabled", self.charges_enabled),
            ("payouts_enabled", self.payouts_enabled),
        ];
        for (name, flag) in flags {
            if let Some(flag) = flag {
                account[name] = json!(flag);
            }
        }
        if let Some(status) = &self.transfers {
            account["capabilities"]["transfers"] = json!(status);
        }
        if let Some(requirements) = &self.requirements {
            merge(&mut account["requirements"], requirements);
        }
        // Anything but an object would replace the account as a whole.
        if let Some(other) = self.other.as_ref().filter(|other| other.is_object()) {
            merge(account, other);
        }
    }
}

impl Control {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Adds a connected account; returns its id.
    pub fn create_account(&self, spec: AccountSpec) -> String {
        let kind = spec.kind.as_deref().unwrap_or("express");
        let country = spec.country.as_deref().unwrap_or("US");
        let fill = |account: &mut Value| {
            account["capabilities"]["transfers"] = json!("inactive");
            if spec.ready {
                open(account);
            }
            spec.change.apply(account);
        };
        self.shared.lock().new_account(kind, country, fill, &Origin::default())
    }

    /// Adds an Express account of the US that may receive transfers; returns its id.
    pub fn create_ready_account(&self) -> String {
        self.create_account(AccountSpec { ready: true, ..AccountSpec::default() })
    }

    /// Changes an account, the platform's own included; events follow where anything changed.
    pub fn change_account(&self, id: &str, change: &AccountChange) -> Result<(), NotPossible> {
        let done = self.shared.lock().change_account(id, &Origin::default(), |account| change.apply(account));
        possible(id, done)
    }

    /// The holder revokes the platform's access.
    pub fn deauthorize(&self, id: &str) -> Result<(), NotPossible> {
        possible(id, self.shared.lock().deauthorize(id))
    }

    /// Makes an account answer 403 without any event, or visible again (also after a deauthorization).
    pub fn deny(&self, id: &str, denied: bool) -> Result<(), NotPossible> {
        let mut world = self.shared.lock();
        let account = world.accounts.get_mut(id);
        let found = account.is_some();
        if let Some(account) = account {
            account.denied = denied;
            account.deauthorized &= denied;
        }
        possible(id, found)
    }

    /// The account object as it is now, visible to the API or not.
    pub fn account(&self, id: &str) -> Option<Value> {
        let world = self.shared.lock();
        let account = if id == world.platform.id() { Some(&world.platform) } else { world.accounts.get(id) };
        account.map(|account| account.json.clone())
    }

    /// The platform's own account id.
    pub fn platform(&self) -> String {
        self.shared.lock().platform.id().to_owned()
    }

    /// Moves the sandbox's time forward; what falls due happens before this returns.
    pub fn advance(&self, by: Duration) {
        self.shared.lock().advance(by);
    }

    /// The sandbox's time in whole seconds since 1970.
    pub fn now(&self) -> i64 {
        self.shared.lock().now_s()
    }

    /// Starts a top-up, as from the Dashboard; returns its id.
    pub fn create_topup(&self, currency: &str, amount: i64) -> String {
        let mut world = self.shared.lock();
        let topup = world.new_topup(amount, currency.to_owned());
        let id = topup.id.clone();
        world.record_topup(topup, &Origin::default());
        id
    }

    /// Settles a pending top-up now; with a failing bank token it fails.
    pub fn settle_topup(&self, id: &str) -> Result<(), NotPossible> {
        let mut world = self.shared.lock();
        let now = world.now_us();
        possible(id, world.settle_topup_at(id, now))
    }

    /// Makes a top-up's money available now, settling it first where it is pending.
    pub fn make_available(&self, id: &str) -> Result<(), NotPossible> {
        let mut world = self.shared.lock();
        let now = world.now_us();
        world.settle_topup_at(id, now);
        let succeeded = world.topups.get(id).is_some_and(|topup| topup.status == Status::Succeeded);
        world.ledger.hasten(id, now);
        world.tick();
        possible(id, succeeded)
    }

    /// Fails a pending top-up with a failure code, for example `insufficient_funds`.
    pub fn fail_topup(&self, id: &str, code: &str) -> Result<(), NotPossible> {
        possible(id, self.shared.lock().fail_topup(id, code))
    }

    /// The bank takes a succeeded top-up back; the balance may go negative.
    pub fn reverse_topup(&self, id: &str) -> Result<(), NotPossible> {
        possible(id, self.shared.lock().reverse_topup(id))
    }

    /// Puts money straight into the available balance, or takes it out.
    pub fn add_balance(&self, currency: &str, amount: i64) {
        let mut world = self.shared.lock();
        let (id, now) = (world.new_id("txn_"), world.now_us());
        world.ledger.book(Entry {
            id,
            kind: "adjustment",
            amount,
            currency: currency.to_owned(),
            source: None,
            description: Some("Added by hand".to_owned()),
            created_us: now,
            available_us: now,
            pending: false,
        });
        if amount > 0 {
            let balance = world.balance_json();
            world.emit(&Origin::default(), "balance.available", balance, None, None);
        }
    }

    /// Pays all that is available in a currency out to the platform's own bank, as an automatic schedule does;
    /// returns how much that was.
    pub fn pay_out(&self, currency: &str) -> i64 {
        self.shared.lock().pay_out(currency)
    }

    /// Lets the next matching calls run into a fault.
    pub fn fault(&self, fault: Fault) {
        self.shared.lock().faults.add(fault);
    }

    /// The faults not used up yet.
    pub fn faults(&self) -> Vec<Fault> {
        self.shared.lock().faults.waiting().to_vec()
    }

    /// Removes every fault.
    pub fn clear_faults(&self) {
        self.shared.lock().faults.clear();
    }

    /// Forgets every answered idempotency key, as Stripe may after 24 hours.
    pub fn forget_keys(&self) {
        self.shared.lock().keys.forget();
    }

    /// Takes a restricted key from now on, which lacks these permissions, like `transfers:read`.
    pub fn restrict_key(&self, key: &str, lacks: &[&str]) {
        self.shared.lock().restrictions.add(key, lacks);
    }

    /// Adds a webhook endpoint for every event of its kind; returns its id.
    ///
    /// # Errors
    /// The secret is no `whsec_…`.
    pub fn add_endpoint(&self, url: &str, secret: &str, connect: bool) -> Result<String, SecretError> {
        let secret = SigningSecret::parse(secret)?;
        Ok(self.shared.lock().add_endpoint(url, secret, connect))
    }

    /// Holds deliveries of events from now on back, or stops holding (what is held stays held).
    pub fn hold_events(&self, hold: bool) {
        self.shared.lock().deliveries.holding = hold;
    }

    /// Ids and types of the events held back, oldest first.
    pub fn held_events(&self) -> Vec<(String, String)> {
        let world = self.shared.lock();
        let kind = |id: &str| world.events.get(id).map(|event| event.kind.clone()).unwrap_or_default();
        world.deliveries.held().into_iter().map(|id| (kind(&id), id)).map(|(kind, id)| (id, kind)).collect()
    }

    /// Lets held events go, in this order; all where none is named. Returns how many deliveries that were.
    pub fn release(&self, events: &[String]) -> usize {
        let mut world = self.shared.lock();
        let now = unix_us(&world.clock);
        let released = world.deliveries.release(events, now);
        world.bell.notify_one();
        released
    }

    /// Delivers an event once, now, held or not, delivered before or not; the status of each endpoint.
    pub async fn deliver(&self, event: &str) -> Result<Vec<Option<u16>>, NotPossible> {
        deliver_now(&self.shared, event).await.ok_or_else(|| NotPossible { id: event.to_owned() })
    }

    /// The next events reach no endpoint; only Stripe's event list has them.
    pub fn lose_events(&self, count: u32) {
        self.shared.lock().deliveries.lose(count);
    }

    /// Every event, oldest first, accounts' events included.
    pub fn events(&self) -> Vec<Value> {
        self.shared.lock().events.iter().map(|event| event.json()).collect()
    }

    /// Every delivery attempt, oldest first.
    pub fn attempts(&self) -> Vec<Attempt> {
        self.shared.lock().deliveries.attempts.iter().cloned().collect()
    }

    /// Waits until every delivery that is not held was made or given up; false where time ran out first.
    pub async fn delivered(&self, within: Duration) -> bool {
        let quiet = async {
            while !self.shared.lock().deliveries.is_quiet() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(within, quiet).await.is_ok()
    }

    /// The moments of every call from now on, as they pass.
    pub fn moments(&self) -> broadcast::Receiver<Moment> {
        self.shared.moments.subscribe()
    }

    /// Every movement of the platform's money, in the order they were made.
    pub fn movements(&self) -> Vec<Movement> {
        let mut world = self.shared.lock();
        world.tick();
        world.movements()
    }

    /// The platform's money and every transfer.
    pub fn books(&self) -> Books {
        let mut world = self.shared.lock();
        world.tick();
        world.books()
    }

    /// The calls to the API, oldest first (the newest hundred thousand).
    pub fn calls(&self) -> Vec<Call> {
        self.shared.lock().calls.iter().cloned().collect()
    }

    /// Forgets the log of calls.
    pub fn clear_calls(&self) {
        self.shared.lock().calls.clear();
    }
}

fn possible(id: &str, done: bool) -> Result<(), NotPossible> {
    if done { Ok(()) } else { Err(NotPossible { id: id.to_owned() }) }
}
