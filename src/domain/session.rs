//! A session of the console: what its token proves, and when it is over.
//!
//! The token is in the browser's cookie and nowhere else. Everything that has to fit it (the row in the database,
//! the mark in a form, the seal of the bootstrap key) is derived from it, and it follows from none of them.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use time::{Duration, OffsetDateTime};

/// A session lasts no longer,
pub const LASTS: Duration = Duration::hours(12);
/// and ends when nothing was done for so long.
pub const IDLE: Duration = Duration::hours(1);
/// What was done is noted at most this often.
pub const NOTED_EVERY: Duration = Duration::minutes(1);

/// What the browser shows to be known again.
#[derive(Clone, PartialEq, Eq)]
pub struct Token([u8; 32]);

impl Token {
    /// A token of these random bits.
    pub fn of(bits: [u8; 32]) -> Self {
        Self(bits)
    }

    /// Reads a cookie's value.
    pub fn parse(text: &str) -> Option<Self> {
        let mut bits = [0; 32];
        // Only as it is written: one token has one text.
        let plain = text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        hex::decode_to_slice(text, &mut bits).ok().filter(|()| plain)?;
        Some(Self(bits))
    }

    /// The cookie's value.
    pub fn reveal(&self) -> String {
        hex::encode(self.0)
    }

    /// What is kept of it.
    pub fn hash(&self) -> [u8; 32] {
        Sha256::digest(self.0).into()
    }

    /// What each form of its pages carries: another site can't know it.
    pub fn form_mark(&self) -> String {
        hex::encode(self.mac("form", b""))
    }

    /// What is kept of the bootstrap key with whose hash a session began.
    pub fn seal(&self, key_hash: &[u8; 32]) -> [u8; 32] {
        self.mac("bootstrap key", key_hash)
    }

    fn mac(&self, purpose: &str, said: &[u8]) -> [u8; 32] {
        let mut block = [0; 64];
        block[..32].copy_from_slice(&self.0);
        let mut mac = Hmac::<Sha256>::new(&block.into());
        mac.update(purpose.as_bytes());
        mac.update(&[0]);
        mac.update(said);
        mac.finalize().into_bytes().into()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

/// Whether a session is over.
pub fn is_over(seen_at: OffsetDateTime, ends_at: OffsetDateTime, now: OffsetDateTime) -> bool {
    now >= ends_at || now >= seen_at + IDLE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_has_one_text_and_nothing_derived_from_it_is_the_same() {
        let token = Token::of([7; 32]);
        assert_eq!(Token::parse(&token.reveal()), Some(token.clone()));
        let text = token.reveal();
        for bad in ["", "07", &text[2..], &format!("{text}00"), &text.replace("07", "0G")] {
            assert_eq!(Token::parse(bad), None, "{bad}");
        }
        assert_eq!(Token::parse(&hex::encode_upper([0xab; 32])), None);
        let (hash, mark) = (hex::encode(token.hash()), token.form_mark());
        let seals = [token.seal(&[1; 32]), token.seal(&[2; 32])].map(hex::encode);
        let all = [&text, &hash, &mark, &seals[0], &seals[1]];
        for (at, one) in all.iter().enumerate() {
            assert!(all[at + 1..].iter().all(|other| other != one));
        }
        assert_ne!(Token::of([8; 32]).form_mark(), mark);
        assert!(!format!("{token:?}").contains("07"));
    }

    #[test]
    fn it_is_over_at_its_end_or_after_an_idle_hour() {
        let now = OffsetDateTime::UNIX_EPOCH + Duration::days(1);
        let rows = [
            (now, now + Duration::SECOND, false),
            (now, now, true),
            (now - IDLE, now + LASTS, true),
            (now - IDLE + Duration::SECOND, now + LASTS, false),
            (now - Duration::minutes(1), now - Duration::SECOND, true),
        ];
        for (seen_at, ends_at, over) in rows {
            assert_eq!(is_over(seen_at, ends_at, now), over, "{seen_at} {ends_at}");
        }
    }
}
