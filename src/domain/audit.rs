//! The audit log's chain: each row carries the hash of the one before, so that a row that was changed, taken
//! out or put in later shows.
//!
//! What is hashed is unambiguous: every field is preceded by its length. A chain proves what came before a
//! hash that is kept elsewhere; `audit verify` prints the last one for that.

use sha2::{Digest, Sha256};
use time::OffsetDateTime;

/// What the first row names as the hash before it.
pub const GENESIS: [u8; 32] = [0; 32];

macro_rules! actions {
    ($($(#[$doc:meta])* $name:ident = $word:literal,)*) => {
        /// What was ordered or done.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Action {
            $($(#[$doc])* $name,)*
        }

        impl Action {
            /// Every action.
            pub const ALL: &'static [Action] = &[$(Action::$name,)*];

            /// The word in the log.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Action::$name => $word,)*
                }
            }
        }
    };
}

actions! {
    /// A transfer was asked for; the details hold the whole request.
    TransferRequested = "transfer.requested",
    /// A transfer was called off.
    TransferCanceled = "transfer.canceled",
    /// A transfer was held.
    TransferHeld = "transfer.held",
    /// A held transfer was let go on.
    TransferResumed = "transfer.resumed",
    /// A large transfer was approved.
    TransferApproved = "transfer.approved",
    /// A failed transfer is to be tried once more.
    TransferRetried = "transfer.retried",
    /// A transfer that Stripe knows and the database did not was taken in.
    TransferAdopted = "transfer.adopted",
    /// Money that went out is to come back.
    ReversalRequested = "reversal.requested",
    /// A large reversal was approved.
    ReversalApproved = "reversal.approved",
    /// All releases were stopped.
    ReleasesPaused = "releases.paused",
    /// Releases were let go on.
    ReleasesResumed = "releases.resumed",
    /// Money that did not come by a top-up was counted, or counted out.
    FundsAdjusted = "funds.adjusted",
    /// The bank is to be asked for money; the details hold the whole request.
    TopupRequested = "topup.requested",
    /// A top-up is to be called off.
    TopupCancelRequested = "topup.cancel_requested",
    /// An event was applied once more.
    EventReplayed = "event.replayed",
    /// Missed events were asked for.
    BackfillOrdered = "backfill.ordered",
    /// A connected account was made.
    AccountCreated = "account.created",
    /// A link to Stripe's onboarding was made; never the link itself.
    OnboardingLinkCreated = "onboarding_link.created",
    /// A key was made.
    KeyCreated = "key.created",
    /// A key was taken back.
    KeyRevoked = "key.revoked",
    /// A key was turned away: it was taken back, or does not reach so far. Of many alike one a minute.
    CallRefused = "call.refused",
    /// Somebody signed in to the console with a key.
    ConsoleSignedIn = "console.signed_in",
    /// Somebody signed out of it.
    ConsoleSignedOut = "console.signed_out",
    /// Somebody was not let in. Of many alike one a minute.
    ConsoleSignInFailed = "console.sign_in_failed",
}

/// What a row says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// When.
    pub at: OffsetDateTime,
    /// Live or test mode.
    pub livemode: bool,
    /// Who: a key's id, `admin`, `shell:` and a person's name, or `sluicegate` itself.
    pub actor: String,
    /// What, in the log's word.
    pub action: String,
    /// About what: a transfer, a key, an event, a currency.
    pub subject: String,
    /// The rest, as JSON text; hashed as it stands.
    pub details: String,
}

/// A row of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Its place in the chain, from 1 without gaps.
    pub id: i64,
    /// What it says.
    pub entry: Entry,
    /// The hash of the row before.
    pub previous: Vec<u8>,
    /// Its own.
    pub hash: Vec<u8>,
}

impl Entry {
    /// The hash of this entry as the `id`-th row after one with the hash `previous`.
    pub fn hash(&self, id: i64, previous: &[u8]) -> [u8; 32] {
        // What Postgres keeps of an instant: microseconds.
        let at_us = (self.at.unix_timestamp_nanos() / 1_000).to_string();
        let id = id.to_string();
        let mode = if self.livemode { "live" } else { "test" };
        let texts = [&id, &at_us, mode, &self.actor, &self.action, &self.subject, &self.details];
        let mut hasher = Sha256::new();
        for field in std::iter::once(previous).chain(texts.iter().map(|text| text.as_bytes())) {
            hasher.update((field.len() as u64).to_be_bytes());
            hasher.update(field);
        }
        hasher.finalize().into()
    }
}

/// Where a chain breaks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// Rows are missing, or were put in.
    #[error("row {found} follows row {after}: rows between are missing or out of place")]
    Gap {
        /// The last good row.
        after: i64,
        /// The row found next.
        found: i64,
    },
    /// The row does not follow the one before it.
    #[error("row {0} does not continue the row before it")]
    Link(i64),
    /// The row's columns are not those that were hashed.
    #[error("row {0} was changed after it was written")]
    Changed(i64),
}

/// The end of the verified part of a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// How many rows.
    pub id: i64,
    /// The last one's hash.
    pub hash: Vec<u8>,
}

impl Default for Head {
    fn default() -> Self {
        Self { id: 0, hash: GENESIS.to_vec() }
    }
}

impl Head {
    /// Checks the next row and moves on to it.
    pub fn follow(&mut self, row: &Row) -> Result<(), Broken> {
        if row.id != self.id + 1 {
            return Err(Broken::Gap { after: self.id, found: row.id });
        }
        if row.previous != self.hash {
            return Err(Broken::Link(row.id));
        }
        if row.hash != row.entry.hash(row.id, &row.previous) {
            return Err(Broken::Changed(row.id));
        }
        (self.id, self.hash) = (row.id, row.hash.clone());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entry(subject: &str) -> Entry {
        Entry {
            at: OffsetDateTime::UNIX_EPOCH,
            livemode: false,
            actor: "admin".into(),
            action: Action::TransferHeld.as_str().into(),
            subject: subject.into(),
            details: "{}".into(),
        }
    }

    fn chain(subjects: &[String]) -> Vec<Row> {
        let mut head = Head::default();
        let mut rows = Vec::new();
        for subject in subjects {
            let entry = entry(subject);
            let hash = entry.hash(head.id + 1, &head.hash).to_vec();
            let row = Row { id: head.id + 1, entry, previous: head.hash.clone(), hash: hash.clone() };
            head = Head { id: row.id, hash };
            rows.push(row);
        }
        rows
    }

    fn verify(rows: &[Row]) -> Result<Head, Broken> {
        let mut head = Head::default();
        rows.iter().try_for_each(|row| head.follow(row)).map(|()| head)
    }

    proptest! {
        #[test]
        fn whatever_is_done_to_a_row_shows(
            subjects in proptest::collection::vec("[a-z]{1,8}", 2..8), at in 0_usize..8, how in 0_usize..6,
        ) {
            let rows = chain(&subjects);
            prop_assert_eq!(verify(&rows).map(|head| head.id), Ok(rows.len() as i64));
            let at = at % (rows.len() - 1);
            let mut bad = rows.clone();
            match how {
                0 => bad[at].entry.subject.push('x'),
                1 => bad[at].entry.at += time::Duration::MICROSECOND,
                2 => bad[at].entry.livemode = true,
                3 => { bad.remove(at); }
                4 => bad.swap(at, at + 1),
                _ => {
                    // Hashed anew: then the next row shows it.
                    bad[at].entry.details = "{\"a\":1}".into();
                    bad[at].hash = bad[at].entry.hash(bad[at].id, &bad[at].previous).to_vec();
                }
            }
            prop_assert!(verify(&bad).is_err());
        }
    }

    #[test]
    fn a_field_can_not_flow_into_the_next() {
        let mut one = entry("ab");
        one.action = "c".into();
        let mut other = entry("a");
        other.action = "bc".into();
        std::mem::swap(&mut other.action, &mut other.subject);
        std::mem::swap(&mut one.action, &mut one.subject);
        assert_ne!(one.hash(1, &GENESIS), other.hash(1, &GENESIS));
    }

    #[test]
    fn the_hash_is_what_it_was() {
        let hash = entry("xfer_1").hash(1, &GENESIS);
        assert_eq!(hex::encode(hash), HASH_OF_THE_FIRST);
    }

    /// Fixed: a log written by one version must verify under every later one.
    const HASH_OF_THE_FIRST: &str = "c77e6c39a477616929761d71ecc8c93b561c02d86b6d0458626f1e4dac907c96";

    #[test]
    fn no_two_actions_share_a_word() {
        let mut words: Vec<&str> = Action::ALL.iter().map(|action| action.as_str()).collect();
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), Action::ALL.len());
    }
}
