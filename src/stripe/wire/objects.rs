//! The objects the service reads, each reduced to the fields it uses.
//!
//! Amounts are whole minor units, times unix seconds. A field is an `Option` where Stripe's reference calls it
//! nullable or optional, or where older versions lack it.

use std::collections::BTreeMap;
use std::fmt;

use super::{Expandable, Fields, Object, Unreadable};
use crate::domain::ids::{AccountId, EventId, StripeTransferId, TopupId};

/// A connected account, or a deleted one (then only `id` and `deleted` are there).
#[derive(Debug, Clone, PartialEq)]
pub struct Account {
    /// `acct_…`.
    pub id: AccountId,
    /// Whether charges or transfers can be made to it; says not which of the two.
    pub charges_enabled: Option<bool>,
    /// Whether onboarding was submitted; says nothing about its verification.
    pub details_submitted: Option<bool>,
    /// Whether it can pay out to its bank.
    pub payouts_enabled: Option<bool>,
    /// Status by capability, like `transfers` → `active`; one never requested is not in it.
    pub capabilities: Option<BTreeMap<String, String>>,
    /// What Stripe still wants to know.
    pub requirements: Option<Requirements>,
    /// Two letters, upper case.
    pub country: Option<String>,
    /// Lower-case ISO code.
    pub default_currency: Option<String>,
    /// `express`, `standard`, `custom` or `none`.
    pub account_type: Option<String>,
    /// True in the answer about a deleted account.
    pub deleted: Option<bool>,
}

impl Object for Account {
    const NAME: &'static str = "account";

    fn read(f: &Fields<'_>) -> Result<Self, Unreadable> {
        Ok(Self {
            id: f.id("id", AccountId::parse)?,
            charges_enabled: f.may("charges_enabled"),
            details_submitted: f.may("details_submitted"),
            payouts_enabled: f.may("payouts_enabled"),
            capabilities: f.texts("capabilities"),
            requirements: f.object("requirements"),
            country: f.may("country"),
            default_currency: f.may("default_currency"),
            account_type: f.may("type"),
            deleted: f.may("deleted"),
        })
    }
}

/// An account's open requirements. Every list may be null.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Requirements {
    /// Needed by `current_deadline` to stay enabled.
    pub currently_due: Option<Vec<String>>,
    /// Missed: something is disabled until they come.
    pub past_due: Option<Vec<String>>,
    /// Needed at some later threshold.
    pub eventually_due: Option<Vec<String>>,
    /// Given, being verified.
    pub pending_verification: Option<Vec<String>>,
    /// Why the account is disabled; an open set of codes.
    pub disabled_reason: Option<String>,
    /// Unix seconds.
    pub current_deadline: Option<i64>,
}

impl Object for Requirements {
    const NAME: &'static str = "requirements";

    fn read(f: &Fields<'_>) -> Result<Self, Unreadable> {
        Ok(Self {
            currently_due: f.may("currently_due"),
            past_due: f.may("past_due"),
            eventually_due: f.may("eventually_due"),
            pending_verification: f.may("pending_verification"),
            disabled_reason: f.may("disabled_reason"),
            current_deadline: f.may("current_deadline"),
        })
    }
}

/// One capability of one account. The id is the capability's name, so it repeats across accounts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capability {
    /// Like `transfers`.
    pub id: String,
    /// Whose it is.
    pub account: Option<String>,
    /// `active`, `inactive`, `pending`, `unrequested`; an open set.
    pub status: String,
}

impl Object for Capability {
    const NAME: &'static str = "capability";

    fn read(f: &Fields<'_>) -> Result<Self, Unreadable> {
        Ok(Self { id: f.must("id")?, account: f.reference("account"), status: f.must("status")? })
    }
}

/// Money added to the platform's balance from its bank.
#[derive(Debug, Clone, PartialEq)]
pub struct Topup {
    /// `tu_…`.
    pub id: TopupId,
    /// Minor units.
    pub amount: i64,
    /// Lower-case ISO code.
    pub currency: String,
    /// `pending`, `succeeded`, `failed`, `canceled`, `reversed`; an open set.
    pub status: String,
    /// The booking in the platform's balance, which alone tells when the money can be used.
    pub balance_transaction: Option<Expandable<BalanceTransaction>>,
    /// Unix seconds; a forecast.
    pub expected_availability_date: Option<i64>,
    /// Like `insufficient_funds`; an open set.
    pub failure_code: Option<String>,
    /// The failure in words.
    pub failure_message: Option<String>,
    /// Free text.
    pub description: Option<String>,
    /// What the bank statement says.
    pub statement_descriptor: Option<String>,
    /// A label without effect.
    pub transfer_group: Option<String>,
    /// The platform's own entries; older events lack it.
    pub metadata: Option<BTreeMap<String, String>>,
    /// Unix seconds.
    pub created: Option<i64>,
    /// Live or test mode.
    pub livemode: Option<bool>,
}

impl Object for Topup {
    const NAME: &'static str = "topup";

    fn read(f: &Fields<'_>) -> Result<Self, Unreadable> {
        Ok(Self {
            id: f.id("id", TopupId::parse)?,
            amount: f.must("amount")?,
            currency: f.must("currency")?,
            status: f.must("status")?,
            balance_transaction: f.object("balance_transaction"),
            expected_availability_date: f.may("expected_availability_date"),
            failure_code: f.may("failure_code"),
            failure_message: f.may("failure_message"),
            description: f.may("description"),
            statement_descriptor: f.may("statement_descriptor"),
            transfer_group: f.may("transfer_group"),
            metadata: f.texts("metadata"),
            created: f.may("created"),
            livemode: f.may("livemode"),
        })
    }
}

/// A booking in the platform's balance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BalanceTransaction {
    /// `txn_…`.
    pub id: String,
    /// Minor units, gross.
    pub amount: i64,
    /// Minor units, after the fee.
    pub net: i64,
    /// Minor units.
    pub fee: i64,
    /// Lower-case ISO code.
    pub currency: String,
    /// `pending` or `available`: the fact, where `available_on` is the forecast.
    pub status: String,
    /// Unix seconds.
    pub available_on: Option<i64>,
    /// Like `topup`; an open set.
    pub transaction_type: Option<String>,
    /// `payments` where transfers draw on it; newer versions only.
    pub balance_type: Option<String>,
    /// The id of what was booked.
    pub source: Option<String>,
}

impl Object for BalanceTransaction {
    const NAME: &'static str = "balance_transaction";

    fn read(f: &Fields<'_>) -> Result<Self, Unreadable> {
        let (amount, fee) = (f.must("amount")?, f.or_default("fee")?);
        Ok(Self {
            id: f.must("id")?,
            amount,
            net: f.or_default::<Option<i64>>("net")?.unwrap_or_else(|| i64::saturating_sub(amount, fee)),
            fee,
            currency: f.must("currency")?,
            status: f.must("status")?,
            available_on: f.may("available_on"),
            transaction_type: f.may("type"),
            balance_type: f.may("balance_type"),
            source: f.reference("source"),
        })
    }
}

/// The platform's balance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Balance {
    /// What transfers can draw on, by currency; may be negative.
    pub available: Vec<BalanceEntry>,
    /// What is on its way, by currency.
    pub pending: Vec<BalanceEntry>,
    /// Live or test mode.
    pub livemode: Option<bool>,
}

/// The balance in one currency.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BalanceEntry {
    /// Minor units; may be negative.
    pub amount: i64,
    /// Lower-case ISO code.
    pub currency: String,
    /// Minor units by source type: `card`, `bank_account`, `fpx`.
    pub source_types: Option<BTreeMap<String, i64>>,
}

impl Object for Balance {
    const NAME: &'static str = "balance";

    fn read(f: &Fields<'_>) -> Result<Self, Unreadable> {
        let entries = |entries: Vec<&serde_json::value::RawValue>| -> Result<Vec<_>, Unreadable> {
            entries.into_iter().map(|raw| BalanceEntry::from_json(raw.get())).collect()
        };
        Ok(Self {
            available: entries(f.must("available")?)?,
            pending: entries(f.or_default("pending")?)?,
            livemode: f.may("livemode"),
        })
    }
}

impl Object for BalanceEntry {
    const NAME: &'static str = "balance entry";

    fn read(f: &Fields<'_>) -> Result<Self, Unreadable> {
        Ok(Self {
            amount: f.must("amount")?,
            currency: f.must("currency")?,
            source_types: f.may("source_types"),
        })
    }
}

/// Money moved to a connected account. It has no status: that it exists means that the money moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transfer {
    /// `tr_…`.
    pub id: StripeTransferId,
    /// Minor units.
    pub amount: i64,
    /// Minor units taken back so far.
    pub amount_reversed: i64,
    /// True only once all was taken back.
    pub reversed: Option<bool>,
    /// Lower-case ISO code.
    pub currency: String,
    /// The connected account; null in some answers, something else than an account in very old events.
    pub destination: Option<AccountId>,
    /// The platform's own entries.
    pub metadata: Option<BTreeMap<String, String>>,
    /// A label without effect, by which transfers can be listed.
    pub transfer_group: Option<String>,
    /// Unix seconds.
    pub created: Option<i64>,
    /// Live or test mode.
    pub livemode: Option<bool>,
    /// The charge that funds it, if any.
    pub source_transaction: Option<String>,
    /// Free text.
    pub description: Option<String>,
}

impl Object for Transfer {
    const NAME: &'static str = "transfer";

    fn read(f: &Fields<'_>) -> Result<Self, Unreadable> {
        Ok(Self {
            id: f.id("id", StripeTransferId::parse)?,
            amount: f.must("amount")?,
            amount_reversed: f.or_default("amount_reversed")?,
            reversed: f.may("reversed"),
            currency: f.must("currency")?,
            destination: f.reference("destination").and_then(|id| AccountId::parse(&id).ok()),
            metadata: f.texts("metadata"),
            transfer_group: f.may("transfer_group"),
            created: f.may("created"),
            livemode: f.may("livemode"),
            source_transaction: f.reference("source_transaction"),
            description: f.may("description"),
        })
    }
}

/// Money of a transfer taken back, in part or in whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransferReversal {
    /// `trr_…`.
    pub id: String,
    /// Minor units.
    pub amount: i64,
    /// Lower-case ISO code.
    pub currency: String,
    /// The transfer it takes from.
    pub transfer: Option<String>,
    /// The platform's own entries.
    pub metadata: Option<BTreeMap<String, String>>,
    /// Unix seconds.
    pub created: Option<i64>,
}

impl Object for TransferReversal {
    const NAME: &'static str = "transfer_reversal";

    fn read(f: &Fields<'_>) -> Result<Self, Unreadable> {
        Ok(Self {
            id: f.must("id")?,
            amount: f.must("amount")?,
            currency: f.must("currency")?,
            transfer: f.reference("transfer"),
            metadata: f.texts("metadata"),
            created: f.may("created"),
        })
    }
}

/// An entry of Stripe's list of events; what it says is read as a delivery is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedEvent {
    /// `evt_…`.
    pub id: String,
}

impl Object for ListedEvent {
    const NAME: &'static str = "event";

    fn read(f: &Fields<'_>) -> Result<Self, Unreadable> {
        Ok(Self { id: f.must("id")? })
    }
}

/// A one-time door into an account's onboarding. The URL opens personal data: it is never stored or logged.
#[derive(Clone, PartialEq, Eq)]
pub struct AccountLink {
    /// Where to send the person, once.
    pub url: String,
    /// Unix seconds, a few minutes ahead.
    pub expires_at: Option<i64>,
}

impl fmt::Debug for AccountLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccountLink").field("expires_at", &self.expires_at).finish_non_exhaustive()
    }
}

impl Object for AccountLink {
    const NAME: &'static str = "account_link";

    fn read(f: &Fields<'_>) -> Result<Self, Unreadable> {
        Ok(Self { url: f.must("url")?, expires_at: f.may("expires_at") })
    }
}

/// An entry of Stripe's event list: its id alone. The rest is read from the raw text by
/// [`super::Envelope::parse`], as for a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// `evt_…`.
    pub id: EventId,
}

impl Object for Event {
    const NAME: &'static str = "event";

    fn read(f: &Fields<'_>) -> Result<Self, Unreadable> {
        Ok(Self { id: f.id("id", EventId::parse)? })
    }
}
