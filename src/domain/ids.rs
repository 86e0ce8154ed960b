//! Identifiers, parsed once at the edge and then carried as their own types.
//!
//! Stripe promises no more about an id than its prefix and that it may grow to 255 characters, so that is
//! all that is checked. Sluicegate's own ids are a prefix and a time-ordered 128-bit number in Crockford's
//! base 32.

use std::fmt;

use sha2::{Digest, Sha256};
use uuid::Uuid;

/// The longest id Stripe says it will ever send, in bytes.
pub const MAX_LEN: usize = 255;

/// Why a text is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("must start with `{prefix}`, followed by letters, digits, `_` or `-`, {MAX_LEN} characters at most")]
pub struct InvalidId {
    /// The prefix the id should have had; empty where any is allowed.
    pub prefix: &'static str,
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident = $prefix:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(String);

        impl $name {
            /// What every id of this kind starts with.
            pub const PREFIX: &'static str = $prefix;

            /// Takes the text as an id of this kind, or says what is wrong with it.
            pub fn parse(text: &str) -> Result<Self, InvalidId> {
                let well_formed = text.len() <= MAX_LEN
                    && text.len() > Self::PREFIX.len()
                    && text.starts_with(Self::PREFIX)
                    && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
                if well_formed { Ok(Self(text.to_owned())) } else { Err(InvalidId { prefix: Self::PREFIX }) }
            }

            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }
    )*};
}

ids! {
    /// A connected account at Stripe.
    AccountId = "acct_";
    /// A top-up at Stripe.
    TopupId = "tu_";
    /// A transfer as Stripe names it.
    StripeTransferId = "tr_";
    /// A reversal as Stripe names it.
    StripeReversalId = "trr_";
    /// A transfer as Sluicegate names it.
    TransferId = "xfer_";
    /// A reversal as Sluicegate names it.
    ReversalId = "xrev_";
    /// A top-up that was ordered here, before and beside Stripe's own id for it.
    TopupIntentId = "tpi_";
    /// Money counted in or out by hand.
    AdjustmentId = "adj_";
    /// An API key of Sluicegate's.
    KeyId = "key_";
    /// A Stripe event, snapshot or thin. Stripe's own all start with `evt_`; no rule says they must.
    EventId = "";
}

/// How many characters at the end of an id follow from the caller's Idempotency-Key.
const MARK: usize = 12;

macro_rules! ids_of_keys {
    ($($name:ident)*) => {$(
        impl $name {
            /// A new id: the time of a time-ordered 128-bit number (UUID version 7), and in place of its random
            /// tail what the caller's Idempotency-Key hashes to. A database that was restored from a backup thus
            /// knows by the id, which Stripe keeps, that a key was used before.
            pub fn for_key(uuid: Uuid, key: &str) -> Self {
                let tail = u64::from_be_bytes(hash_of_key(key));
                let number = (uuid.as_u128() >> 64 << 64) | u128::from(tail);
                Self(format!("{}{}", Self::PREFIX, base32(Uuid::from_u128(number))))
            }

            /// The end of every id that was made for the key this one was made for.
            pub fn mark(&self) -> &str {
                &self.0[self.0.len().saturating_sub(MARK)..]
            }
        }
    )*};
}

ids_of_keys! { TransferId ReversalId TopupIntentId }

impl TransferId {
    /// The end of every id that was made for this key.
    pub fn mark_of_key(key: &str) -> String {
        Self::for_key(Uuid::nil(), key).mark().to_owned()
    }

    /// A new id for one of a batch that was sent with this key. `first` is the same number for all of the batch,
    /// so that their ids are in its order; a line break is in no caller's key, so no single transfer's id ends
    /// like one of these.
    pub fn in_batch(first: Uuid, key: &str, place: u32) -> Self {
        let number = first.as_u128().saturating_add(u128::from(place) << 64);
        Self::for_key(Uuid::from_u128(number), &format!("{key}\n{place}"))
    }
}

fn hash_of_key(key: &str) -> [u8; 8] {
    let mut tail = [0; 8];
    tail.copy_from_slice(&Sha256::digest(key.as_bytes())[..8]);
    tail
}

impl AdjustmentId {
    /// A new id from a time-ordered 128-bit number (UUID version 7).
    pub fn from_uuid(uuid: Uuid) -> Self {
        Self(format!("{}{}", Self::PREFIX, base32(uuid)))
    }
}

impl KeyId {
    /// A new id from a time-ordered 128-bit number (UUID version 7).
    pub fn from_uuid(uuid: Uuid) -> Self {
        Self(format!("{}{}", Self::PREFIX, base32(uuid)))
    }
}

/// 26 characters of Crockford's base 32, most significant first, so that text order is number order.
fn base32(uuid: Uuid) -> String {
    const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    let number = uuid.as_u128();
    (0..26).rev().map(|i| char::from(ALPHABET[((number >> (5 * i)) & 31) as usize])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_taken_by_prefix_length_and_alphabet_alone() {
        assert!(AccountId::parse("acct_1SGconnexpress0001").is_ok());
        assert!(EventId::parse("evt_test_65SGthin").is_ok());
        for bad in
            ["", "acct_", "tu_1", "acct_1\0", "acct_ä", "acct_1/../2", &format!("acct_{}", "x".repeat(251))]
        {
            assert!(AccountId::parse(bad).is_err(), "{bad:?}");
        }
        assert!(AccountId::parse(&format!("acct_{}", "x".repeat(250))).is_ok());
    }

    #[test]
    fn own_ids_sort_by_their_time() {
        let early = TransferId::for_key(Uuid::from_u128(1 << 80), "b");
        let late = TransferId::for_key(Uuid::from_u128(2 << 80), "a");
        assert!(early < late);
        assert_eq!(early.as_str().len(), "xfer_".len() + 26);
        assert_eq!(KeyId::from_uuid(Uuid::max()).as_str(), "key_7ZZZZZZZZZZZZZZZZZZZZZZZZZ");
        assert!(TransferId::parse(early.as_str()).is_ok());
    }

    #[test]
    fn an_id_shows_which_key_it_was_made_for() {
        let (one, two) = (Uuid::from_u128(1 << 80), Uuid::from_u128(2 << 80));
        let mark = TransferId::mark_of_key("order-17");
        assert!(TransferId::for_key(one, "order-17").as_str().ends_with(&mark));
        assert!(TransferId::for_key(two, "order-17").as_str().ends_with(&mark));
        assert!(!TransferId::for_key(one, "order-18").as_str().ends_with(&mark));
        // Fixed: an id of one version must be known again by every later one.
        assert_eq!(mark, "5A8EMFD8PQEG");
    }

    #[test]
    fn those_of_a_batch_are_in_its_order_and_each_has_a_mark_of_its_own() {
        let all_ones = Uuid::from_u128((0xfff << 64) | (7 << 76) | (1 << 80));
        for first in [Uuid::from_u128(7 << 76), all_ones] {
            let ids: Vec<TransferId> = (0..1_000).map(|i| TransferId::in_batch(first, "b", i)).collect();
            assert!(ids.is_sorted());
            let mut marks: Vec<&str> = ids.iter().map(TransferId::mark).collect();
            marks.sort_unstable();
            marks.dedup();
            assert_eq!(marks.len(), ids.len());
        }
        let again = TransferId::in_batch(Uuid::from_u128(9 << 80), "b", 17);
        assert_eq!(again.mark(), TransferId::in_batch(Uuid::nil(), "b", 17).mark());
        assert_ne!(again.mark(), TransferId::mark_of_key("b"));
        // Fixed, as above.
        assert_eq!(again.mark(), "E6F0HG3JEZS5");
    }
}
