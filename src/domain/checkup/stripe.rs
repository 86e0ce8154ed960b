//! The account at Stripe: what the key may do, what the endpoints are sent, and whose clock is right.

use time::Duration;

use super::{Finding, some};
use crate::domain::count::counted;
use crate::domain::endpoint::{Endpoint, Scope};
use crate::domain::platform::Payouts;

/// Beyond it somebody should set a clock.
const SKEWED: Duration = Duration::seconds(30);

/// What goes without a permission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Without {
    /// The service can't do its work.
    Nothing,
    /// Something is missing that can be lived without; in words.
    All(&'static str),
}

/// A read that shows whether the key has a permission, and has no effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    /// What is read. An object that does not exist serves as well: a key without the permission is refused first.
    pub path: &'static str,
    /// It is a list, of which one line is enough.
    pub list: bool,
    /// What the permission is called in Stripe's Dashboard, as near as can be.
    pub resource: &'static str,
    /// What goes without it.
    pub without: Without,
}

const fn needed(path: &'static str, resource: &'static str) -> Probe {
    Probe { path, list: true, resource, without: Without::Nothing }
}

const fn useful(path: &'static str, resource: &'static str, without: &'static str) -> Probe {
    Probe { path, list: false, resource, without: Without::All(without) }
}

/// Every permission to read that the service has use for.
pub const PROBES: [Probe; 9] = [
    needed("/v1/accounts", "Connected accounts"),
    needed("/v1/topups", "Top-ups"),
    needed("/v1/transfers", "Transfers"),
    Probe { list: false, ..needed("/v1/balance", "Balance") },
    Probe { list: false, ..needed("/v1/balance_transactions/txn_sluicegate_doctor", "Balance transactions") },
    needed("/v1/events", "Events"),
    Probe {
        list: true,
        ..useful("/v1/webhook_endpoints", "Webhook endpoints", "the endpoints can't be looked at here")
    },
    useful("/v2/core/events/evt_sluicegate_doctor", "v2 events", "events of v2 accounts can't be read"),
    useful("/v2/core/accounts/acct_sluicegatedoctor", "v2 accounts", "v2 accounts can't be read"),
];

/// How a probe was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answered {
    /// The key has the permission.
    Allowed,
    /// It has not.
    Denied,
    /// There was no telling; why.
    NotAtAll(String),
}

/// What the key may do. `restricted`: it is one that somebody gave its permissions one by one.
pub fn permissions(answers: &[(Probe, Answered)], restricted: bool) -> Finding {
    const CHECK: &str = "permissions";
    let denied = |fatal: bool| {
        let of = move |(probe, answered): &&(Probe, Answered)| {
            *answered == Answered::Denied && (probe.without == Without::Nothing) == fatal
        };
        answers.iter().filter(of).map(|(probe, _)| probe)
    };
    let missing: Vec<&str> = denied(true).map(|probe| probe.resource).collect();
    if !missing.is_empty() {
        let found = format!("the key may not read: {}", missing.join(", "));
        return Finding::fail(
            CHECK,
            found,
            "give the restricted key `read` for it, under Developers, API keys",
        );
    }
    if let Some((probe, Answered::NotAtAll(why))) =
        answers.iter().find(|(_, answered)| matches!(answered, Answered::NotAtAll(_)))
    {
        return Finding::unchecked(CHECK, format!("{}: {why}", probe.path), "run it again");
    }
    let wanting: Vec<String> = denied(false)
        .filter_map(|probe| match probe.without {
            Without::All(words) => Some(format!("{} ({words})", probe.resource)),
            Without::Nothing => None,
        })
        .collect();
    if !wanting.is_empty() {
        let found = format!(
            "the key may not read: {}; whether it may write can't be tried without effect",
            wanting.join(", ")
        );
        let mend = "give the restricted key `read` for it, where you need it; v2 takes no restricted key at all, but \
                    only a secret one";
        return Finding::warn(CHECK, found, mend);
    }
    if restricted {
        let found = "the key may read all that is needed; whether it may write can't be tried without effect";
        let mend = "see that it has `write` for Transfers, Top-ups, Connected accounts and Account links";
        return Finding::warn(CHECK, found, mend);
    }
    Finding::ok(CHECK, "a secret key may do all")
}

/// Stripe's clock, so much ahead of ours, against the tolerance for signatures.
pub fn clock(ahead: Option<Duration>, tolerance: Duration) -> Finding {
    const CHECK: &str = "clock";
    const MEND: &str = "keep this machine's clock by NTP";
    let Some(ahead) = ahead else {
        return Finding::unchecked(CHECK, "Stripe's answers carried no date", "compare the clock by hand");
    };
    let seconds = ahead.abs().whole_seconds();
    let way = if ahead.is_negative() { "ahead of" } else { "behind" };
    let found = format!("{seconds} s {way} Stripe's");
    if ahead.abs() > tolerance {
        return Finding::fail(
            CHECK,
            format!("{found}: every delivery is refused as too old or too new"),
            MEND,
        );
    }
    if ahead.abs() > SKEWED {
        return Finding::warn(CHECK, found, MEND);
    }
    Finding::ok(CHECK, "agrees with Stripe's")
}

/// The endpoint that is sent the events of a scope. `url` is where it should send them, where that is configured.
pub fn endpoint(scope: Scope, existing: &[Endpoint], url: Option<&str>, livemode: bool) -> Finding {
    let check = match scope {
        Scope::Platform => "endpoint_platform",
        Scope::Connect => "endpoint_connect",
    };
    let set_up = format!("`sluicegate setup-webhooks --url {}`", url.unwrap_or("URL"));
    let Some(best) = used(scope, existing, url) else {
        let maybe = existing.iter().find(|one| one.scope().is_none() && url.is_none_or(|url| one.url == url));
        return match maybe {
            Some(one) => Finding::warn(
                check,
                format!("{} may be it: Stripe does not show for whose events it is", one.id),
                format!("see in the Dashboard, or have {set_up} make one that can be told"),
            ),
            None => Finding::fail(
                check,
                format!("there is none for {}", scope.described()),
                format!("{set_up} makes it"),
            ),
        };
    };
    let (id, missing) = (&best.id, best.missing(scope));
    if best.livemode != livemode {
        let found = format!("{id} is of the other mode than the key");
        return Finding::fail(check, found, format!("{set_up} makes one of this mode"));
    }
    if !best.enabled {
        return Finding::fail(check, format!("{id} is disabled"), format!("{set_up} enables it"));
    }
    if !missing.is_empty() {
        let found = format!("{id} is not sent {}", some(&missing));
        return Finding::fail(check, found, format!("{set_up} adds what is missing"));
    }
    if let Some(url) = url.filter(|url| *url != best.url) {
        let found = format!("{id} sends to {}, and SLUICEGATE_PUBLIC_URL would be {url}", best.url);
        return Finding::warn(check, found, format!("if that is not the same place, {set_up} makes one"));
    }
    if !best.readable {
        let version = best.api_version.as_deref().unwrap_or("the account's default version");
        let found =
            format!("{id} writes {version}, which is not relied on: each event costs a look at Stripe");
        return Finding::warn(check, found, format!("{set_up} makes one on a version that is read"));
    }
    Finding::ok(check, format!("{id} sends all that is needed to {}", best.url))
}

/// The one that fits best.
fn used<'a>(scope: Scope, existing: &'a [Endpoint], url: Option<&str>) -> Option<&'a Endpoint> {
    let fits = existing.iter().filter(|one| one.scope() == Some(scope));
    fits.min_by_key(|one| {
        let elsewhere = url.is_some_and(|url| one.url != url);
        (elsewhere, !one.enabled, one.missing(scope).len(), !one.readable, one.mark.is_none())
    })
}

/// Whether every endpoint that delivers to the service has a secret configured.
pub fn secrets(existing: &[Endpoint], url: Option<&str>, configured: usize) -> Finding {
    const CHECK: &str = "endpoint_secrets";
    let both = Scope::ALL.into_iter().filter_map(|scope| used(scope, existing, url));
    let places: Vec<&str> = both.map(|one| one.url.as_str()).collect();
    let delivering = existing.iter().filter(|one| one.enabled && places.contains(&one.url.as_str())).count();
    let found = format!(
        "{} here, and {} configured",
        counted(delivering, "endpoint delivers", "endpoints deliver"),
        counted(configured, "secret is", "secrets are")
    );
    if delivering > configured {
        let found = format!("{found}: what is signed with another is refused");
        return Finding::fail(
            CHECK,
            found,
            "each endpoint has its own secret: add the missing one, or delete the endpoint",
        );
    }
    Finding::ok(CHECK, found)
}

/// Where the platform's balance goes by itself.
pub fn payouts(payouts: &Payouts) -> Finding {
    const CHECK: &str = "payout_schedule";
    match payouts.warnings().into_iter().next() {
        Some(warning) => Finding::warn(CHECK, warning.message, warning.mend),
        None => Finding::ok(CHECK, "manual"),
    }
}

#[cfg(test)]
mod tests;
