//! Where a person goes to give Stripe their details, and the two doors by which they come back.
//!
//! A door's ticket says all that is needed to make the next link or to send the person on, so nothing is kept
//! of it. Its seal names the door: what opens one does not open the other. What is sealed can be read by whoever
//! holds it, and so holds nothing that the person at the door may not see.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use time::{Duration, OffsetDateTime};

use super::ids::AccountId;
use super::return_url::ReturnUrl;

/// How long the doors of a link stay open. Stripe's own link ends within minutes and leads to the refresh door
/// from then on; a person who comes back to it from a browser's history after a week asks the platform anew.
pub const OPEN_FOR: Duration = Duration::days(7);

macro_rules! words {
    ($($(#[$doc:meta])* $name:ident { $($(#[$of:meta])* $word:ident = $text:literal,)* })*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name {
            $($(#[$of])* $word,)*
        }

        impl $name {
            /// Every one.
            pub const ALL: &'static [$name] = &[$($name::$word,)*];

            /// Stripe's word for it.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$word => $text,)*
                }
            }

            /// Reads the word.
            pub fn parse(word: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|one| one.as_str() == word)
            }
        }
    )*};
}

words! {
    /// What the person is to do behind a link.
    LinkKind {
        /// Give what Stripe asks for.
        Onboarding = "account_onboarding",
        /// Change what was given; only where the platform collects the requirements, which Express does not.
        Update = "account_update",
    }
    /// How much of what Stripe will ask for is asked for now.
    Collect {
        /// What is due.
        CurrentlyDue = "currently_due",
        /// Also what will be due at some threshold, so that the person need not come back for it.
        EventuallyDue = "eventually_due",
    }
    /// Whether requirements that come into force later are asked for as well.
    Future {
        /// They are not.
        Omit = "omit",
        /// They are.
        Include = "include",
    }
    /// By which door a person comes back.
    Door {
        /// The link has ended, was used, or was previewed: another one is needed.
        Refresh = "refresh",
        /// The person left Stripe's pages, finished or not.
        Return = "return",
    }
}

/// What a link was made for, and so what the next one is made for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// Whose details.
    pub account: AccountId,
    /// Live or test mode.
    pub livemode: bool,
    /// What for.
    pub kind: LinkKind,
    /// Where the caller wants the person back.
    pub return_url: Option<ReturnUrl>,
    /// How much is asked for; `None`: as Stripe does by itself.
    pub collect: Option<Collect>,
    /// Whether later requirements are; `None`: as Stripe does by itself.
    pub future: Option<Future>,
    /// The doors are shut from then on; in whole seconds.
    pub open_until: OffsetDateTime,
}

/// What is sealed; short names, since it travels in a URL.
#[derive(Serialize, Deserialize)]
struct Sealed<'a> {
    a: &'a str,
    l: bool,
    k: &'a str,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    r: Option<&'a str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    c: Option<&'a str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    f: Option<&'a str>,
    e: i64,
}

/// A secret of this installation, by which its own tickets are known.
#[derive(Clone, PartialEq, Eq)]
pub struct SealKey {
    /// Which one: a token names the key that sealed it.
    pub id: i32,
    /// 256 random bits.
    pub secret: [u8; 32],
}

impl fmt::Debug for SealKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SealKey").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Why a token opens nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shut {
    /// It was never sealed here for this door.
    Unknown,
    /// Its time is over.
    Expired,
}

/// The longest token that is looked at, in bytes; those that are sealed here stay below half of it.
const LONGEST: usize = 4_096;

impl Ticket {
    /// The token that opens a door: which key, what was sealed, and the seal.
    pub fn seal(&self, door: Door, key: &SealKey) -> String {
        let sealed = Sealed {
            a: self.account.as_str(),
            l: self.livemode,
            k: self.kind.as_str(),
            r: self.return_url.as_ref().map(ReturnUrl::as_str),
            c: self.collect.map(Collect::as_str),
            f: self.future.map(Future::as_str),
            e: self.open_until.unix_timestamp(),
        };
        // Texts, numbers and flags always have a JSON form.
        let said = serde_json::to_vec(&sealed).unwrap_or_default();
        let mac = seal_of(door, &said, key).finalize().into_bytes();
        format!("{}.{}.{}", key.id, URL_SAFE_NO_PAD.encode(said), URL_SAFE_NO_PAD.encode(mac))
    }

    /// Reads a token back, if it was sealed with this key for this door and is still good.
    pub fn open(token: &str, door: Door, key: &SealKey, now: OffsetDateTime) -> Result<Self, Shut> {
        let (id, said, mac) = parts(token).ok_or(Shut::Unknown)?;
        let genuine = id == key.id && seal_of(door, &said, key).verify_slice(&mac).is_ok();
        if !genuine {
            return Err(Shut::Unknown);
        }
        // Sealed here, so it reads back; were it of a version that sealed otherwise, it opens nothing.
        let ticket = Self::read(&said).ok_or(Shut::Unknown)?;
        if ticket.open_until <= now { Err(Shut::Expired) } else { Ok(ticket) }
    }

    fn read(said: &[u8]) -> Option<Self> {
        let sealed: Sealed<'_> = serde_json::from_slice(said).ok()?;
        Some(Self {
            account: AccountId::parse(sealed.a).ok()?,
            livemode: sealed.l,
            kind: LinkKind::parse(sealed.k)?,
            return_url: sealed.r.map(|url| ReturnUrl::parse(url, sealed.l)).transpose().ok()?,
            collect: read_back(sealed.c, Collect::parse)?,
            future: read_back(sealed.f, Future::parse)?,
            open_until: OffsetDateTime::from_unix_timestamp(sealed.e).ok()?,
        })
    }
}

/// A word that may be absent, but must else be known.
fn read_back<T>(word: Option<&str>, parse: impl Fn(&str) -> Option<T>) -> Option<Option<T>> {
    match word {
        None => Some(None),
        Some(word) => parse(word).map(Some),
    }
}

/// Which key sealed a token, if it has the form of one.
pub fn key_of(token: &str) -> Option<i32> {
    parts(token).map(|(id, ..)| id)
}

fn parts(token: &str) -> Option<(i32, Vec<u8>, Vec<u8>)> {
    if token.len() > LONGEST {
        return None;
    }
    let mut parts = token.split('.');
    let (id, said, mac, None) = (parts.next()?, parts.next()?, parts.next()?, parts.next()) else {
        return None;
    };
    Some((id.parse().ok()?, URL_SAFE_NO_PAD.decode(said).ok()?, URL_SAFE_NO_PAD.decode(mac).ok()?))
}

fn seal_of(door: Door, said: &[u8], key: &SealKey) -> Hmac<Sha256> {
    // A key of a whole block can't be of the wrong length; HMAC itself fills a shorter one up with zeros.
    let mut block = [0; 64];
    block[..32].copy_from_slice(&key.secret);
    let mut mac = Hmac::<Sha256>::new(&block.into());
    mac.update(b"sluicegate onboarding 1 ");
    mac.update(door.as_str().as_bytes());
    mac.update(b" ");
    mac.update(said);
    mac
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    const NOON: OffsetDateTime = datetime!(2026-11-24 12:00 UTC);

    fn key(id: i32) -> SealKey {
        SealKey { id, secret: [u8::try_from(id).unwrap(); 32] }
    }

    fn ticket() -> Ticket {
        Ticket {
            account: AccountId::parse("acct_1").unwrap(),
            livemode: false,
            kind: LinkKind::Onboarding,
            return_url: Some(ReturnUrl::parse("http://app.example/done?a=1#top", false).unwrap()),
            collect: Some(Collect::EventuallyDue),
            future: None,
            open_until: NOON + OPEN_FOR,
        }
    }

    #[test]
    fn a_ticket_comes_back_whole_by_its_own_door_until_its_time_is_over() {
        for door in Door::ALL {
            let token = ticket().seal(*door, &key(1));
            assert_eq!(Ticket::open(&token, *door, &key(1), NOON), Ok(ticket()));
            assert_eq!(key_of(&token), Some(1));
            assert!(token.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b)), "{token}");
            let (last, over) = (NOON + OPEN_FOR - Duration::SECOND, NOON + OPEN_FOR);
            assert!(Ticket::open(&token, *door, &key(1), last).is_ok());
            assert_eq!(Ticket::open(&token, *door, &key(1), over), Err(Shut::Expired));
        }
        let bare = Ticket { return_url: None, collect: None, future: Some(Future::Include), ..ticket() };
        let token = bare.seal(Door::Return, &key(1));
        assert_eq!(Ticket::open(&token, Door::Return, &key(1), NOON), Ok(bare));
    }

    #[test]
    fn no_token_opens_another_door_or_comes_from_another_key() {
        let token = ticket().seal(Door::Return, &key(1));
        assert_eq!(Ticket::open(&token, Door::Refresh, &key(1), NOON), Err(Shut::Unknown));
        assert_eq!(Ticket::open(&token, Door::Return, &key(2), NOON), Err(Shut::Unknown));
        let renamed = format!("2{}", &token[1..]);
        assert_eq!(Ticket::open(&renamed, Door::Return, &key(2), NOON), Err(Shut::Unknown));
        // An expired one of another key tells nothing about its time either.
        assert_eq!(
            Ticket::open(&token, Door::Return, &key(2), NOON + Duration::days(400)),
            Err(Shut::Unknown)
        );
    }

    #[test]
    fn every_changed_letter_shuts_the_door() {
        let token = ticket().seal(Door::Refresh, &key(1));
        for (at, _) in token.char_indices() {
            let other = if &token[at..=at] == "A" { "B" } else { "A" };
            let mut mangled = token.clone();
            mangled.replace_range(at..=at, other);
            assert_eq!(Ticket::open(&mangled, Door::Refresh, &key(1), NOON), Err(Shut::Unknown), "{at}");
        }
        for odd in
            ["", ".", "..", "1", "1..", "1.e30.", "-1.e30.AA", &format!("{token}."), &"1".repeat(5_000)]
        {
            assert_eq!(Ticket::open(odd, Door::Refresh, &key(1), NOON), Err(Shut::Unknown), "{odd}");
        }
    }

    #[test]
    fn a_key_is_not_shown() {
        assert_eq!(format!("{:?}", key(7)), "SealKey { id: 7, .. }");
    }
}
