//! What Stripe declined to set up, as callers see it: by who can mend it.
//!
//! Stripe's own text goes to the caller, whose request it speaks of, and not to the log: it may repeat what was
//! sent about a person.

use super::error::{Code, Problem};
use crate::domain::declined::{Fault, pointer};
use crate::flows::NotDone;

impl From<NotDone> for Problem {
    fn from(error: NotDone) -> Self {
        match error {
            NotDone::Declined { fault: Fault::Parameter(param), message, replayed } => {
                Self::field(&pointer(&param), with_mend(&message, replayed))
            }
            NotDone::Declined { fault: Fault::Account, .. } => {
                let detail =
                    "Stripe does not show this account to the platform. Check the id; it may have left.";
                Self::new(Code::AccountUnknown, detail)
            }
            NotDone::Declined { fault: Fault::Key, message, .. } => {
                tracing::error!(
                    "Stripe refuses STRIPE_SECRET_KEY for something it is needed for: doctor tells more"
                );
                let detail = format!("An operator has to mend STRIPE_SECRET_KEY; Stripe says: {message}");
                Self::new(Code::StripeRefused, detail)
            }
            NotDone::Declined { fault: Fault::Platform, message, replayed } => {
                tracing::warn!("Stripe refuses the platform what a caller asked for");
                let detail = format!("Stripe says: {}", with_mend(&message, replayed));
                Self::new(Code::StripeRefused, detail)
            }
            NotDone::Unanswered => {
                let detail = "It is not known whether it was done. Repeat the request, with the same Idempotency-Key \
                              if it had one.";
                Self::new(Code::StripeUnavailable, detail)
            }
            NotDone::NoPublicUrl => {
                let detail = "An operator has to set SLUICEGATE_PUBLIC_URL to the https:// address under which people \
                              reach this service.";
                Self::new(Code::PublicUrlMissing, detail)
            }
            NotDone::Randomness(_) => Self::internal(&error),
            NotDone::Store(error) => error.into(),
        }
    }
}

/// Stripe repeats for a day what it said for a key, whatever was mended since.
fn with_mend(message: &str, replayed: bool) -> String {
    let message = if message.is_empty() { "Stripe refuses it." } else { message };
    if replayed {
        return format!(
            "{message} (Stripe said so before for this Idempotency-Key: after a mend, use a new one.)"
        );
    }
    message.to_owned()
}
