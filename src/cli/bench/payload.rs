//! What is delivered: signed events of the mix a platform receives, made from the templates in `benches/payloads`.
//!
//! Everything about an event follows from its number, so that what was delivered last about an account is known
//! without keeping it. No two events of one subject have the same second, so none of them leads to a fetch.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context as _;
use time::OffsetDateTime;

use crate::stripe::signature::{self, SigningSecret};

/// The secret that every event is signed with.
pub const SECRET: &str = "whsec_benchbenchbenchbenchbench";
/// Of twenty events fourteen are an account's, three a top-up's and three a transfer's.
pub const ROUND: u64 = 20;
const OF_ACCOUNTS: u64 = 14;
const OF_TOPUPS: u64 = 3;
/// A top-up's or transfer's second event comes this many such events after its first.
const APART: u64 = 1_000;
/// How long before now the first events happened, in seconds: later ones of a subject follow second by second.
const BEGAN_BEFORE: i64 = 6 * 60 * 60;

const HEAD: &str = "POST /webhooks/stripe HTTP/1.1\r\nhost: sluicegate.bench\r\naccept: */*\r\n\
    user-agent: Stripe/1.0 (+https://stripe.com/docs/webhooks)\r\n\
    content-type: application/json; charset=utf-8\r\n\
    stripe-signature: t={{SIGNED}},v1={{SIGNATURE}}\r\ncontent-length: {{LENGTH}}\r\n\r\n";

/// The texts, and how many of forty events are made from each.
const TEXTS: [(&str, &str, u32); 5] = [
    ("account_updated", include_str!("../../../benches/payloads/account.updated.json"), 28),
    ("topup_created", include_str!("../../../benches/payloads/topup.created.json"), 3),
    ("topup_canceled", include_str!("../../../benches/payloads/topup.canceled.json"), 3),
    ("transfer_created", include_str!("../../../benches/payloads/transfer.created.json"), 3),
    ("transfer_updated", include_str!("../../../benches/payloads/transfer.updated.json"), 3),
];

/// What differs from event to event, and how many bytes it takes, always the same.
const PLACES: [(&str, Field, usize); 6] = [
    ("{{EVENT}}", Field::Event, 28),
    ("{{ACCOUNT}}", Field::Account, 21),
    ("{{OBJECT}}", Field::Object, 24),
    ("{{CREATED}}", Field::Created, 10),
    ("{{SIGNED}}", Field::Signed, 10),
    ("{{SIGNATURE}}", Field::Signature, 64),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Event,
    Account,
    Object,
    Created,
    Signed,
    Signature,
}

/// A whole request with places to fill.
struct Template {
    bytes: Vec<u8>,
    body_at: usize,
    places: Vec<(usize, Field)>,
}

impl Template {
    fn new(text: &str, charges: bool, payouts: bool) -> Self {
        let body = text
            .trim_end()
            .replace("{{CHARGES}}", &charges.to_string())
            .replace("{{PAYOUTS}}", &payouts.to_string());
        let (blank, _) = blanked(&body);
        let head = HEAD.replace("{{LENGTH}}", &blank.len().to_string());
        let (head_blank, _) = blanked(&head);
        let (bytes, places) = blanked(&format!("{head}{body}"));
        Self { bytes, body_at: head_blank.len(), places }
    }
}

/// The text with blanks for what differs, and where they are.
fn blanked(text: &str) -> (Vec<u8>, Vec<(usize, Field)>) {
    let (mut bytes, mut places, mut rest) = (Vec::new(), Vec::new(), text);
    while let Some(at) = rest.find("{{") {
        bytes.extend_from_slice(&rest.as_bytes()[..at]);
        rest = &rest[at..];
        let known = PLACES.iter().find(|(mark, _, _)| rest.starts_with(mark));
        let Some((mark, field, width)) = known else { break };
        places.push((bytes.len(), *field));
        bytes.resize(bytes.len() + width, b'.');
        rest = &rest[mark.len()..];
    }
    bytes.extend_from_slice(rest.as_bytes());
    (bytes, places)
}

/// Whom an event is about, and the how many-th about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum About {
    Account(u64, u64),
    Topup(u64, u64),
    Transfer(u64, u64),
}

/// The accounts, top-ups and transfers of one run, and the events about them.
pub struct Cast {
    run: u32,
    accounts: u64,
    began: i64,
    secret: SigningSecret,
    next: AtomicU64,
    accounts_texts: [Template; 4],
    topups: [Template; 2],
    transfers: [Template; 2],
}

impl Cast {
    /// A cast with so many accounts, of ids that no other cast has.
    pub fn new(accounts: u64) -> anyhow::Result<Arc<Self>> {
        let [account, created, canceled, made, changed] = TEXTS.map(|(_, text, _)| text);
        let flags = [(true, true), (false, true), (true, false), (false, false)];
        Ok(Arc::new(Self {
            run: fastrand::u32(0..1 << 28),
            accounts: accounts.max(1),
            began: OffsetDateTime::now_utc().unix_timestamp() - BEGAN_BEFORE,
            secret: SigningSecret::parse(SECRET).context("the secret of the bench")?,
            next: AtomicU64::new(0),
            accounts_texts: flags.map(|(charges, payouts)| Template::new(account, charges, payouts)),
            topups: [created, canceled].map(|text| Template::new(text, true, true)),
            transfers: [made, changed].map(|text| Template::new(text, true, true)),
        }))
    }

    /// The next `count` events, signed now. A signature is good for five minutes.
    pub fn deliveries(self: &Arc<Self>, count: u64) -> Deliveries {
        let first = self.next.fetch_add(count, Ordering::Relaxed);
        self.signed(first..first + count)
    }

    /// The next event about an account, signed now: its request, the account and the event's id.
    pub fn account_event(self: &Arc<Self>) -> (Vec<u8>, String, String) {
        let number = loop {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            if matches!(self.about(number), About::Account(..)) {
                break number;
            }
        };
        let mut request = Vec::new();
        self.signed(number..number + 1).next(&mut request);
        (request, self.account_of(number), self.event_id(number))
    }

    fn signed(self: &Arc<Self>, numbers: std::ops::Range<u64>) -> Deliveries {
        let signed_at = OffsetDateTime::now_utc().unix_timestamp();
        let mut request = Vec::new();
        let sign = |number| {
            let template = self.template(number);
            self.fill(number, template, signed_at, &[b'.'; 64], &mut request);
            let header = signature::sign(&request[template.body_at..], &self.secret, signed_at);
            let mut signature = [b'.'; 64];
            // `t=…,v1=` and 64 digits, as `sign` writes it.
            signature.copy_from_slice(&header.as_bytes()[header.len() - 64..]);
            (number, signature)
        };
        let signed: Vec<_> = numbers.map(sign).collect();
        Deliveries { cast: Arc::clone(self), signed_at, signed: signed.into_iter() }
    }

    /// The ids of the accounts and events that come last among the events before `end`: at most `most` of them, each
    /// of another account.
    pub fn last_before(&self, end: u64, most: u64) -> Vec<(String, String)> {
        let of_accounts = (0..end).rev().filter(|number| matches!(self.about(*number), About::Account(..)));
        let most = usize::try_from(most.min(self.accounts)).unwrap_or(usize::MAX);
        of_accounts.take(most).map(|number| (self.account_of(number), self.event_id(number))).collect()
    }

    /// How many events were made.
    pub fn made(&self) -> u64 {
        self.next.load(Ordering::Relaxed)
    }

    fn about(&self, number: u64) -> About {
        let (round, rank) = (number / ROUND, number % ROUND);
        let pair = |ordinal: u64| {
            let (block, within) = (ordinal / (2 * APART), ordinal % (2 * APART));
            (block * APART + within % APART, within / APART)
        };
        let of_transfers = ROUND - OF_ACCOUNTS - OF_TOPUPS;
        if rank < OF_ACCOUNTS {
            let ordinal = round * OF_ACCOUNTS + rank;
            About::Account(ordinal % self.accounts, ordinal / self.accounts)
        } else if rank < OF_ACCOUNTS + OF_TOPUPS {
            let (subject, nth) = pair(round * OF_TOPUPS + rank - OF_ACCOUNTS);
            About::Topup(subject, nth)
        } else {
            let (subject, nth) = pair(round * of_transfers + rank - OF_ACCOUNTS - OF_TOPUPS);
            About::Transfer(subject, nth)
        }
    }

    fn template(&self, number: u64) -> &Template {
        let of = |nth: u64, count: u64| usize::try_from(nth % count).unwrap_or(0);
        match self.about(number) {
            // Each event of an account has news: one of its two flags has changed.
            About::Account(_, nth) => &self.accounts_texts[of(nth, 4)],
            About::Topup(_, nth) => &self.topups[of(nth, 2)],
            About::Transfer(_, nth) => &self.transfers[of(nth, 2)],
        }
    }

    /// Ids come in no order, as Stripe's end: an index must not be flattered.
    fn event_id(&self, number: u64) -> String {
        let scattered = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        format!("evt_1{:07x}{scattered:016x}", self.run)
    }

    fn account_id(&self, account: u64) -> String {
        format!("acct_1{:05x}{account:010}", self.run >> 8)
    }

    fn account_of(&self, number: u64) -> String {
        match self.about(number) {
            About::Account(account, _) => self.account_id(account),
            About::Topup(subject, _) | About::Transfer(subject, _) => {
                self.account_id(subject % self.accounts)
            }
        }
    }

    fn fill(&self, number: u64, template: &Template, signed_at: i64, signature: &[u8], into: &mut Vec<u8>) {
        let (object, nth) = match self.about(number) {
            About::Account(account, nth) => (self.account_id(account), nth),
            About::Topup(subject, nth) => (format!("tu_1{:07x}{subject:013}", self.run), nth),
            About::Transfer(subject, nth) => (format!("tr_1{:07x}{subject:013}", self.run), nth),
        };
        let created = self.began.saturating_add_unsigned(nth);
        let (event, account) = (self.event_id(number), self.account_of(number));
        let (created, signed) = (format!("{created:010}"), format!("{signed_at:010}"));
        into.clear();
        into.extend_from_slice(&template.bytes);
        for (at, field) in &template.places {
            let text = match field {
                Field::Event => event.as_bytes(),
                Field::Account => account.as_bytes(),
                Field::Object => object.as_bytes(),
                Field::Created => created.as_bytes(),
                Field::Signed => signed.as_bytes(),
                Field::Signature => signature,
            };
            into[*at..*at + text.len()].copy_from_slice(text);
        }
    }
}

/// What a load is made of: one request after another.
pub trait Requests {
    /// Writes the next request in place of what `into` holds; false where there is none.
    fn next(&mut self, into: &mut Vec<u8>) -> bool;
}

/// Signed deliveries, each sent once.
pub struct Deliveries {
    cast: Arc<Cast>,
    signed_at: i64,
    signed: std::vec::IntoIter<(u64, [u8; 64])>,
}

impl Requests for Deliveries {
    fn next(&mut self, into: &mut Vec<u8>) -> bool {
        let Some((number, signature)) = self.signed.next() else { return false };
        self.cast.fill(number, self.cast.template(number), self.signed_at, &signature, into);
        true
    }
}

/// One body of each kind with its name and its share of forty, for the yardsticks that store constants.
pub fn samples() -> anyhow::Result<Vec<(&'static str, String, u32)>> {
    let cast = Cast::new(1)?;
    let filled = TEXTS.map(|(name, text, share)| {
        let (template, mut request) = (Template::new(text, true, true), Vec::new());
        cast.fill(0, &template, cast.began, &[b'.'; 64], &mut request);
        (name, String::from_utf8_lossy(&request[template.body_at..]).into_owned(), share)
    });
    Ok(filled.into())
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::stripe::wire::Envelope;

    /// Reads a request as a server does: the signature header and the body.
    fn parts(request: &[u8]) -> (String, &[u8]) {
        let at = request.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
        let head = std::str::from_utf8(&request[..at]).unwrap();
        let value = |name: &str| {
            head.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim_start_matches(": ").to_owned()
        };
        assert_eq!(value("content-length").parse::<usize>().unwrap(), request.len() - at);
        (value("stripe-signature"), &request[at..])
    }

    #[test]
    fn deliveries_are_signed_events_of_the_mix_and_need_no_fetch() {
        let cast = Cast::new(500).unwrap();
        let secrets = [SigningSecret::parse(SECRET).unwrap()];
        let now = OffsetDateTime::now_utc().unix_timestamp();
        let (mut ids, mut types, mut seconds) = (BTreeSet::new(), BTreeMap::new(), BTreeSet::new());
        let (mut bytes, mut request) = (0, Vec::new());
        let mut deliveries = cast.deliveries(40_000);
        while deliveries.next(&mut request) {
            let (header, body) = parts(&request);
            signature::verify(body, &header, &secrets, now, 300).unwrap();
            let event = Envelope::parse(body).unwrap();
            let object: serde_json::Value = serde_json::from_str(event.data_object.unwrap().get()).unwrap();
            let subject = object["id"].as_str().unwrap().to_owned();
            assert!(seconds.insert((subject, event.created.unwrap())), "two of one second");
            assert!(event.created.unwrap().unix_timestamp() <= now);
            assert!(ids.insert(event.id.to_string()));
            let kind = event.event_type.split('.').next().unwrap().to_owned();
            *types.entry(kind).or_insert(0) += 1;
            bytes += body.len();
        }
        assert_eq!(types.get("account"), Some(&28_000));
        assert_eq!((types.get("topup"), types.get("transfer")), (Some(&6_000), Some(&6_000)));
        assert!((2_900..3_030).contains(&(bytes / 40_000)), "{}", bytes / 40_000);
    }

    #[test]
    fn the_last_event_of_an_account_is_known() {
        let cast = Cast::new(7).unwrap();
        let (mut deliveries, mut request) = (cast.deliveries(95), Vec::new());
        let mut last = BTreeMap::new();
        while deliveries.next(&mut request) {
            let (_, body) = parts(&request);
            let event = Envelope::parse(body).unwrap();
            if let Some(account) = event.account {
                last.insert(account.to_string(), event.id.to_string());
            }
        }
        assert_eq!(cast.last_before(cast.made(), 100).into_iter().collect::<BTreeMap<_, _>>(), last);
        assert_eq!(last.len(), 7);
    }
}
