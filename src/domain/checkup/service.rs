//! The state that the service left in its database, in one mode.

use time::{Duration, OffsetDateTime};

use super::Finding;
use crate::domain::count::counted;

/// A service that was away for longer looks at Stripe's transfers before it releases any.
const AWAY: Duration = Duration::minutes(15);

/// What is held.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// Processes that run.
    pub replicas: i64,
    /// When one of them last said so.
    pub heartbeat: Option<OffsetDateTime>,
    /// Releases are stopped: why, and by whom.
    pub paused: Option<(String, String)>,
    /// Stripe's transfers since then are being matched; how many were.
    pub catching_up: Option<(OffsetDateTime, i64)>,
    /// The platform's account, as far as it is known.
    pub platform: Option<String>,
    /// Events that could not be applied.
    pub dead_letters: i64,
    /// API keys that count.
    pub keys: i64,
}

/// Every check of it; `told` is the account that Stripe says the key belongs to.
pub fn state(state: &State, told: Option<&str>, now: OffsetDateTime) -> Vec<Finding> {
    vec![
        running(state, now),
        releases(state),
        restore(state, now),
        platform(state, told),
        dead_letters(state),
    ]
}

fn running(state: &State, now: OffsetDateTime) -> Finding {
    const CHECK: &str = "service";
    match (state.replicas, state.heartbeat) {
        (0, None) => Finding::ok(CHECK, "has not run on this database yet"),
        (0, Some(last)) => Finding::warn(
            CHECK,
            format!("does not run; it last did {}", ago(now - last)),
            "`sluicegate serve` starts it",
        ),
        (1, _) => Finding::ok(CHECK, "runs"),
        (replicas, _) => Finding::ok(CHECK, format!("runs in {replicas} processes")),
    }
}

fn releases(state: &State) -> Finding {
    const CHECK: &str = "releases";
    match &state.paused {
        None => Finding::ok(CHECK, "not stopped"),
        Some((cause, by)) => Finding::warn(
            CHECK,
            format!("stopped by {by}: {cause}"),
            "once the cause is gone, `sluicegate releases resume` lets them go on",
        ),
    }
}

fn restore(state: &State, now: OffsetDateTime) -> Finding {
    const CHECK: &str = "restore_guard";
    if let Some((from, seen)) = state.catching_up {
        let found = format!(
            "nothing is released before Stripe's transfers since {} were matched; {} so far",
            from.date(),
            counted(seen, "was", "were")
        );
        return Finding::warn(
            CHECK,
            found,
            "let it run; a service that does not run has to be started for that",
        );
    }
    match state.heartbeat {
        Some(last) if now - last > AWAY => Finding::warn(
            CHECK,
            format!("the last heartbeat is of {}: a restored database, or a long stop", ago(now - last)),
            "the next start matches Stripe's transfers since then before it releases any",
        ),
        _ => Finding::ok(CHECK, "nothing to catch up with"),
    }
}

fn platform(state: &State, told: Option<&str>) -> Finding {
    const CHECK: &str = "platform";
    match (&state.platform, told) {
        (Some(held), Some(told)) if held != told => Finding::fail(
            CHECK,
            format!("the database is that of {held}, and the key belongs to {told}"),
            "use that platform's key, or a database of its own for this one",
        ),
        (Some(held), _) => Finding::ok(CHECK, held),
        (None, Some(told)) => Finding::ok(CHECK, format!("{told}; the first start keeps it")),
        (None, None) => Finding::warn(
            CHECK,
            "unknown: its own events can't be told from those of connected accounts by their account",
            "let the key read the account (GET /v1/account)",
        ),
    }
}

fn dead_letters(state: &State) -> Finding {
    const CHECK: &str = "dead_letters";
    match state.dead_letters {
        0 => Finding::ok(CHECK, "none"),
        count => Finding::warn(
            CHECK,
            format!("{} not be applied", counted(count, "event could", "events could")),
            "`sluicegate events list --status failed` says why; `sluicegate replay --failed` tries them again",
        ),
    }
}

/// A span in the largest unit that says enough.
fn ago(span: Duration) -> String {
    let (count, unit) = match span {
        span if span >= Duration::days(2) => (span.whole_days(), "days"),
        span if span >= Duration::hours(2) => (span.whole_hours(), "hours"),
        span if span >= Duration::minutes(2) => (span.whole_minutes(), "minutes"),
        span => return format!("{} ago", counted(span.whole_seconds().max(0), "second", "seconds")),
    };
    format!("{count} {unit} ago")
}

#[cfg(test)]
mod tests {
    use super::super::Verdict::{Fail, Ok, Warn};
    use super::*;

    const NOW: OffsetDateTime = time::macros::datetime!(2026-11-22 10:00 UTC);

    fn found(check: &str, held: &State, told: Option<&str>) -> Finding {
        state(held, told, NOW).into_iter().find(|finding| finding.check == check).unwrap()
    }

    #[test]
    fn what_keeps_money_back_or_waits_for_somebody_is_told() {
        let well =
            State { replicas: 1, heartbeat: Some(NOW), platform: Some("acct_1".into()), ..State::default() };
        assert!(state(&well, Some("acct_1"), NOW).iter().all(|finding| finding.verdict == Ok));
        let with = |change: fn(&mut State)| {
            let mut changed = well.clone();
            change(&mut changed);
            changed
        };
        let stopped = with(|s| (s.replicas, s.heartbeat) = (0, Some(NOW - Duration::minutes(16))));
        let rows = [
            ("service", with(|s| s.replicas = 3), Ok, "3 processes"),
            ("service", State::default(), Ok, "not run on this database yet"),
            ("service", stopped.clone(), Warn, "16 minutes ago"),
            ("restore_guard", stopped, Warn, "last heartbeat"),
            ("restore_guard", with(|s| s.catching_up = Some((NOW, 7))), Warn, "7 were"),
            (
                "releases",
                with(|s| s.paused = Some(("month end".into(), "key_1".into()))),
                Warn,
                "by key_1: month end",
            ),
            ("dead_letters", with(|s| s.dead_letters = 2), Warn, "2 events"),
        ];
        for (check, held, verdict, says) in rows {
            let finding = found(check, &held, Some("acct_1"));
            assert!(finding.verdict == verdict && finding.found.contains(says), "{finding:?}");
        }
    }

    #[test]
    fn a_database_belongs_to_one_platform() {
        let held =
            |platform: Option<&str>| State { platform: platform.map(str::to_owned), ..State::default() };
        let rows = [
            (Some("acct_1"), Some("acct_1"), Ok),
            (Some("acct_1"), Some("acct_2"), Fail),
            (Some("acct_1"), None, Ok),
            (None, Some("acct_1"), Ok),
            (None, None, Warn),
        ];
        for (kept, told, verdict) in rows {
            assert_eq!(found("platform", &held(kept), told).verdict, verdict, "{kept:?} {told:?}");
        }
    }

    #[test]
    fn a_span_is_told_in_one_unit() {
        let rows = [
            (1, "1 second ago"),
            (5, "5 seconds ago"),
            (150, "2 minutes ago"),
            (7_300, "2 hours ago"),
            (200_000, "2 days ago"),
        ];
        for (seconds, words) in rows {
            assert_eq!(ago(Duration::seconds(seconds)), words);
        }
    }
}
