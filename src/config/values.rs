//! How each kind of value is written: pure readers from text, each error a sentence with the mend.
//!
//! They know neither which variable they read nor where it came from, and never repeat the text they were
//! given: whoever asks knows whether it may be shown.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;

use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime, UtcOffset};

use super::{LogFormat, Role, SourceType};
use crate::domain::account::{Condition, Policy};
use crate::domain::limits::ReleaseOrder;
use crate::domain::money::Currency;
use crate::domain::network::Network;
use crate::domain::topup::Rule;

/// A value, or the mend.
pub(super) type Read<T> = Result<T, String>;

/// Beyond it an instant plus the duration could leave the calendar.
const LONGEST: Duration = Duration::days(36_500);

pub(super) fn address(text: &str) -> Read<SocketAddr> {
    text.parse().map_err(|_| {
        "write an IP address and a port, like `127.0.0.1:8080`, or `0.0.0.0:8080` for every interface"
            .to_owned()
    })
}

/// Comma-separated addresses and networks.
pub(super) fn networks(text: &str) -> Read<Vec<Network>> {
    let one = |(at, text): (usize, &str)| {
        Network::parse(text.trim()).map_err(|error| format!("entry {}: {error}", at + 1))
    };
    text.split(',').enumerate().map(one).collect()
}

pub(super) fn path(text: &str) -> Read<PathBuf> {
    Ok(PathBuf::from(text))
}

/// A base URL without its trailing slash.
pub(super) fn base_url(text: &str) -> Read<String> {
    let url = reqwest::Url::parse(text).ok().filter(|url| url.has_host());
    let url = url.filter(|url| matches!(url.scheme(), "http" | "https"));
    let url = url.ok_or("write a whole URL, like `https://pay.example.com`")?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err("leave user and password out of the URL".to_owned());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(
            "leave `?` and `#` with what follows out of the URL: it is a base that paths are added to"
                .to_owned(),
        );
    }
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

/// Whether a base URL sends in clear to another machine.
pub(super) fn in_clear(base_url: &str) -> bool {
    let host = reqwest::Url::parse(base_url).ok().and_then(|url| url.host_str().map(str::to_owned));
    let host = host.unwrap_or_default();
    let address = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
    base_url.starts_with("http://")
        && host != "localhost"
        && !address.is_ok_and(|address| address.is_loopback())
}

/// `300s`, `10m`, `24h`, `90d`, or a plain `0`.
fn duration(text: &str) -> Read<Duration> {
    let mend = "write a whole number and one unit of s, m, h, d, like `300s`, `10m`, `24h`, `90d`";
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let (digits, second) = match text.char_indices().last() {
        Some((at, 's')) => (&text[..at], 1),
        Some((at, 'm')) => (&text[..at], 60),
        Some((at, 'h')) => (&text[..at], 3_600),
        Some((at, 'd')) => (&text[..at], 86_400),
        _ => return Err(mend.to_owned()),
    };
    let seconds = whole::<i64>(digits).ok_or(mend)?.checked_mul(second).map(Duration::seconds);
    seconds
        .filter(|duration| *duration <= LONGEST)
        .ok_or_else(|| format!("at most {}d", LONGEST.whole_days()))
}

/// A duration longer than none.
pub(super) fn span(text: &str) -> Read<Duration> {
    let longer = Some(duration(text)?).filter(|span| !span.is_zero());
    longer.ok_or_else(|| "must be longer than 0, like `300s`, `10m`, `24h`".to_owned())
}

/// A duration, where `0` means never.
pub(super) fn period(text: &str) -> Read<Option<Duration>> {
    Ok(Some(duration(text)?).filter(|period| !period.is_zero()))
}

/// At least 35 days, since Stripe re-sends and lists its events for 30.
pub(super) fn retention(text: &str) -> Read<Duration> {
    let kept = duration(text)?;
    if kept < Duration::days(35) {
        return Err("must be `35d` or longer: Stripe re-sends and lists events for 30 days".to_owned());
    }
    Ok(kept)
}

/// A whole number without sign, space or separators.
fn whole<N: std::str::FromStr>(text: &str) -> Option<N> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

pub(super) fn rate(text: &str) -> Read<u32> {
    whole(text).ok_or_else(|| "write a whole number of calls a second, like `25`; `0` is off".to_owned())
}

/// An RFC 3339 instant, in UTC.
pub(super) fn instant(text: &str) -> Read<OffsetDateTime> {
    OffsetDateTime::parse(text, &Rfc3339)
        .map(|instant| instant.to_offset(UtcOffset::UTC))
        .map_err(|_| "write an RFC 3339 time with its offset, like `2026-11-22T10:00:00Z`".to_owned())
}

pub(super) fn policy(text: &str) -> Read<Policy> {
    Policy::parse(text).map_err(|_| {
        let known: Vec<_> = Condition::ALL.map(Condition::name).into();
        format!("write some of {}, comma-separated", known.join(", "))
    })
}

/// `usd:500000,jpy:1000000`, in minor units.
pub(super) fn amounts(text: &str) -> Read<BTreeMap<Currency, i64>> {
    let mut amounts = BTreeMap::new();
    for pair in text.split(',').map(str::trim) {
        let mend = "write currency and minor units, like `usd:500000,jpy:1000000`";
        let (currency, amount) = pair.split_once(':').ok_or(mend)?;
        let currency = Currency::parse(currency).map_err(|error| format!("a currency {error}"))?;
        let amount = whole::<i64>(amount).ok_or_else(|| {
            format!("the amount of {currency} must be a whole number of minor units: {mend}")
        })?;
        if amounts.insert(currency, amount).is_some() {
            return Err(format!("{currency} is there twice: leave one"));
        }
    }
    Ok(amounts)
}

/// One word of a closed list.
fn word<T: Copy>(text: &str, known: &[(&str, T)]) -> Read<T> {
    known.iter().find(|(name, _)| *name == text).map(|(_, value)| *value).ok_or_else(|| {
        let names: Vec<_> = known.iter().map(|(name, _)| format!("`{name}`")).collect();
        format!("write one of {}", names.join(", "))
    })
}

pub(super) fn settlement(text: &str) -> Read<Rule> {
    word(text, &[("balance_available", Rule::BalanceAvailable), ("topup_succeeded", Rule::TopupSucceeded)])
}

pub(super) fn release_order(text: &str) -> Read<ReleaseOrder> {
    word(text, &[("fifo", ReleaseOrder::Fifo), ("best_fit", ReleaseOrder::BestFit)])
}

pub(super) fn log_format(text: &str) -> Read<LogFormat> {
    word(text, &[("pretty", LogFormat::Pretty), ("json", LogFormat::Json)])
}

pub(super) fn source_type(text: &str) -> Read<SourceType> {
    word(text, &SourceType::ALL.map(|known| (known.as_str(), known)))
}

pub(super) fn roles(text: &str) -> Read<BTreeSet<Role>> {
    text.split(',').map(|role| word(role.trim(), &Role::ALL.map(|known| (known.as_str(), known)))).collect()
}

/// Filter directives of the log, checked and kept as they are.
pub(super) fn log_filter(text: &str) -> Read<String> {
    match tracing_subscriber::EnvFilter::builder().parse(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => {
            Err("write a level or targets with levels, like `info` or `info,sluicegate=debug`".to_owned())
        }
    }
}
