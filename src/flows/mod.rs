//! One file a story: load, decide, record.
//!
//! A flow reads what it needs (store or Stripe), asks one pure function of `domain`, and writes the outcome
//! in one transaction. No call to Stripe happens inside a transaction. Flows never call each other; what one
//! leaves for another is a rung bell.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use sqlx::PgPool;

use crate::clock::Clock;
use crate::domain::account::Policy;
use crate::domain::corridors::Country;
use crate::domain::declined;
use crate::domain::limits::{Limits, ReleaseOrder};
use crate::domain::refusal::Refusal;
use crate::domain::task::Fault;
use crate::domain::topup::Rule;
use crate::store::db::StoreError;
use crate::store::outbox::{self, StoredEvent};
use crate::stripe::client::Client;
use crate::stripe::error::StripeError;

pub mod account_answer;
pub mod account_evidence;
pub mod account_record;
pub mod account_view;
pub mod adjust_funds;
pub mod admit;
pub mod apply_events;
pub mod attempt_record;
pub mod backfill;
pub mod bell;
pub mod cancel_topup;
pub mod catch_up;
pub mod control_transfer;
pub mod create_account;
pub mod event_record;
pub mod examine;
pub mod explain_transfer;
pub mod forecast;
pub mod fund_transfers;
pub mod look_again;
pub mod observe_transfer;
pub mod onboard;
pub mod operate;
pub mod order;
pub mod project_account;
pub mod rebuild;
pub mod receive;
pub mod reconcile;
pub mod release_transfer;
pub mod request_topup;
pub mod request_transfer;
pub mod resolve_link;
pub mod retire_events;
pub mod reverse_transfer;
pub mod rings;
pub mod sign_in;
pub mod subscribe;
pub mod take_pulse;
pub mod together;
pub mod topup_evidence;
pub mod topup_record;
pub mod track_topup;
pub mod transfer_evidence;
pub mod transfer_snapshot;
pub mod upkeep;
pub mod watch_balance;
pub mod watch_platform;

/// What every flow works with: the database, Stripe, the time, and the platform's rules.
#[derive(Clone, Debug)]
pub struct Context {
    /// The database.
    pub pool: PgPool,
    /// Stripe.
    pub stripe: Arc<Client>,
    /// The time; a flow that calls Stripe needs to know it before and after.
    pub clock: Clock,
    /// The key's mode: true for live.
    pub livemode: bool,
    /// Which conditions make an account ready, wherever the platform is: see [`Self::policy`].
    pub conditions: Policy,
    /// Where the platform is, once Stripe told.
    pub home: Home,
    /// When a top-up's money counts as settled.
    pub rule: Rule,
    /// An account last confirmed longer ago is fetched before it is paid.
    pub max_age: time::Duration,
    /// How long after the last call a look-up counts as proof.
    pub grace: time::Duration,
    /// `source_type` sent with transfers, if any.
    pub source_type: Option<String>,
    /// What needs an approval, and how much goes out in a day.
    pub limits: Limits,
    /// Which transfer is served first.
    pub release_order: ReleaseOrder,
    /// How often Stripe's event list is searched for what never arrived; `None`: only by order.
    pub backfill_every: Option<time::Duration>,
    /// How often a page of Stripe's lists is compared with what is held; `None`: never.
    pub reconcile_every: Option<time::Duration>,
    /// How long settled events are kept.
    pub retention: time::Duration,
    /// No call to Stripe takes longer; shorter than a lease.
    pub longest_call: Duration,
    /// Where releases that happen at the same moment meet.
    pub releases: Arc<release_transfer::Company>,
    /// Where people reach onboarding's doors, without trailing slash; `None`: live mode, and nobody said.
    pub public_url: Option<String>,
}

/// The platform's country, as far as this process knows: it asks at its start, and an account at Stripe never moves.
#[derive(Clone, Debug, Default)]
pub struct Home(Arc<RwLock<Option<Country>>>);

impl Home {
    /// Keeps it, where it is told.
    pub fn learn(&self, country: Option<&str>) {
        if let Some(country) = country.and_then(Country::parse) {
            *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(country);
        }
    }

    fn country(&self) -> Option<Country> {
        *self.0.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Context {
    /// Which conditions make an account ready, from where the platform is.
    pub fn policy(&self) -> Policy {
        self.conditions.at_home(self.home.country())
    }
}

/// Who does something, for the record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor {
    /// The API key's id; `admin` for the bootstrap key; `shell:NAME` for a person at the command line.
    pub id: String,
}

/// The caller's Idempotency-Key and what it was sent with.
#[derive(Clone, Debug)]
pub struct Once {
    /// The key.
    pub key: String,
    /// SHA-256 of method, path and body.
    pub request_hash: Vec<u8>,
}

/// Why a flow did not finish.
#[derive(Debug, thiserror::Error)]
pub enum FlowError {
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Stripe.
    #[error("Stripe: {0}")]
    Stripe(#[from] StripeError),
    /// What was received can't be applied.
    #[error("{0}")]
    Unreadable(String),
    /// The lease ran out; somebody else goes on.
    #[error("the lease was lost")]
    LeaseLost,
}

impl From<sqlx::Error> for FlowError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

impl FlowError {
    /// How long Stripe asked to be left alone, an hour at most.
    pub fn patience(&self) -> Option<time::Duration> {
        match self {
            Self::Stripe(error) => error.failure().patience(),
            Self::Store(_) | Self::Unreadable(_) | Self::LeaseLost => None,
        }
    }

    /// Whose fault it is, and so whether trying again is bounded.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Store(StoreError::Unavailable(_)) | Self::LeaseLost => Fault::Passing,
            Self::Store(StoreError::Refused(_) | StoreError::Unreadable(_)) | Self::Unreadable(_) => {
                Fault::Own
            }
            Self::Stripe(StripeError::Retry(_) | StripeError::Unknown(_)) => Fault::Passing,
            // A refused key or permission is our configuration's fault, and it is mended without the event.
            Self::Stripe(StripeError::Refused(failure)) => match failure.status {
                Some(401 | 403) => Fault::Passing,
                _ => Fault::Own,
            },
        }
    }
}

/// Why what a caller ordered was not set up at Stripe.
#[derive(Debug, thiserror::Error)]
pub enum NotDone {
    /// Stripe declined.
    #[error("Stripe declined: {message}")]
    Declined {
        /// Who can mend it.
        fault: declined::Fault,
        /// Stripe's text. It may repeat what was sent: for the caller, not for the log.
        message: String,
        /// Stripe had said so before, for the same key, and says so again whatever has changed since.
        replayed: bool,
    },
    /// Stripe gave no definite answer.
    #[error("Stripe gave no definite answer")]
    Unanswered,
    /// In live mode nobody said where people come back to.
    #[error("nobody said where people come back to")]
    NoPublicUrl,
    /// The operating system gave no random bits.
    #[error("no randomness: {0}")]
    Randomness(String),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<sqlx::Error> for NotDone {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

impl From<StripeError> for NotDone {
    fn from(error: StripeError) -> Self {
        let StripeError::Refused(failure) = error else { return Self::Unanswered };
        let refusal = Refusal {
            status: failure.status.unwrap_or_default(),
            error_type: failure.error_type,
            code: failure.code,
            param: failure.param,
            message: failure.message,
            told_to_repeat: failure.should_retry == Some(true),
        };
        let fault = declined::sort(&refusal);
        Self::Declined { fault, message: refusal.message, replayed: failure.replayed }
    }
}

/// The events with these keys, oldest first, as the stories read them.
pub async fn events(
    ctx: &Context,
    keys: &[(String, time::OffsetDateTime)],
) -> Result<Vec<StoredEvent>, FlowError> {
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let mut conn = ctx.pool.acquire().await?;
    Ok(outbox::list_by_keys(&mut conn, keys).await?)
}

/// A fresh id for an answer of Stripe's API that is kept in the outbox.
fn observation_id() -> String {
    format!("obs_{}", uuid::Uuid::now_v7().simple())
}

/// An instant from Stripe's Unix seconds, where it is one.
fn instant(unix_s: Option<i64>) -> Option<time::OffsetDateTime> {
    unix_s.and_then(|s| time::OffsetDateTime::from_unix_timestamp(s).ok())
}
