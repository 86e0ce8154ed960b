//! Each finding about Stripe, by a row that leads to it.

use super::super::Verdict::{Fail, Ok, Warn};
use super::*;

const URL: &str = "https://pay.example.com/webhooks/stripe";

fn right(scope: Scope) -> Endpoint {
    Endpoint {
        id: format!("we_{}", scope.as_str()),
        url: URL.to_owned(),
        enabled: true,
        types: scope.needed().into_iter().map(str::to_owned).collect(),
        api_version: Some("2026-10-28.endive".to_owned()),
        readable: true,
        livemode: false,
        mark: Some(scope),
        of_application: false,
    }
}

#[test]
fn each_fault_of_an_endpoint_is_found() {
    let elsewhere = "https://old.example.com/webhooks/stripe";
    type Change = fn(&mut Endpoint);
    let rows: [(Change, _, &str); 8] = [
        (|_| {}, Ok, "sends all that is needed"),
        (|one| one.enabled = false, Fail, "is disabled"),
        (|one| one.types.retain(|name| name != "capability.updated"), Fail, "is not sent capability.updated"),
        (|one| one.types = vec!["*".into()], Ok, "sends all"),
        (|one| one.readable = false, Warn, "is not relied on"),
        (|one| (one.readable, one.api_version) = (false, None), Warn, "the account's default version"),
        (|one| one.livemode = true, Fail, "other mode"),
        (|one| one.mark = None, Ok, "sends all that is needed"),
    ];
    for (change, verdict, says) in rows {
        let mut endpoint = right(Scope::Connect);
        change(&mut endpoint);
        let finding = super::endpoint(Scope::Connect, &[right(Scope::Platform), endpoint], Some(URL), false);
        assert!(finding.verdict == verdict && finding.found.contains(says), "{finding:?}");
        assert_eq!(finding.mend.is_some(), verdict != Ok);
    }
    let moved = super::endpoint(Scope::Connect, &[right(Scope::Connect)], Some(elsewhere), false);
    assert!(moved.verdict == Warn && moved.found.contains(elsewhere), "{moved:?}");
    let unset = super::endpoint(Scope::Connect, &[right(Scope::Connect)], None, false);
    assert_eq!(unset.verdict, Ok, "where no URL is configured, any will do");
}

#[test]
fn an_endpoint_that_is_missing_or_cannot_be_told_is_said_so() {
    let none = super::endpoint(Scope::Platform, &[right(Scope::Connect)], Some(URL), false);
    assert!(none.verdict == Fail && none.found.contains("there is none"), "{none:?}");
    assert!(none.mend.unwrap().contains(&format!("setup-webhooks --url {URL}")));
    let by_hand = Endpoint { mark: None, types: vec!["*".into()], ..right(Scope::Platform) };
    let maybe = super::endpoint(Scope::Platform, &[by_hand], None, false);
    assert!(maybe.verdict == Warn && maybe.found.contains("may be it"), "{maybe:?}");
    let worn = Endpoint { id: "we_a".into(), enabled: false, ..right(Scope::Platform) };
    let better = super::endpoint(Scope::Platform, &[worn, right(Scope::Platform)], Some(URL), false);
    assert_eq!(better.verdict, Ok, "{better:?}");
}

#[test]
fn every_delivering_endpoint_has_its_secret() {
    let both = [right(Scope::Platform), right(Scope::Connect)];
    assert_eq!(secrets(&both, None, 2).verdict, Ok);
    assert_eq!(secrets(&both, None, 3).verdict, Ok, "one may be the old one");
    let short = secrets(&both, None, 1);
    assert!(short.verdict == Fail && short.found.contains("2 endpoints deliver here, and 1"), "{short:?}");
    let third = Endpoint { id: "we_3".into(), mark: None, types: vec!["*".into()], ..both[0].clone() };
    assert_eq!(secrets(&[both[0].clone(), both[1].clone(), third], None, 2).verdict, Fail);
    let foreign = Endpoint { url: "https://shop.example.com".into(), mark: None, ..both[0].clone() };
    assert_eq!(secrets(&[both[0].clone(), both[1].clone(), foreign], Some(URL), 2).verdict, Ok);
}

#[test]
fn each_permission_that_is_missing_is_named() {
    let answers = |denied: &[&str], silent: &[&str]| {
        let of = |probe: Probe| {
            let answered = if denied.contains(&probe.resource) {
                Answered::Denied
            } else if silent.contains(&probe.resource) {
                Answered::NotAtAll("no answer".into())
            } else {
                Answered::Allowed
            };
            (probe, answered)
        };
        PROBES.map(of).to_vec()
    };
    let rows = [
        (answers(&[], &[]), false, Ok, "may do all"),
        (answers(&[], &[]), true, Warn, "can't be tried without effect"),
        (answers(&["Transfers", "v2 events"], &[]), true, Fail, "may not read: Transfers"),
        (answers(&["v2 events"], &[]), true, Warn, "events of v2 accounts can't be read"),
        (answers(&["Balance"], &["Events"]), true, Fail, "Balance"),
        (answers(&[], &["Events"]), false, Warn, "not checked: /v1/events: no answer"),
    ];
    for (answers, restricted, verdict, says) in rows {
        let finding = permissions(&answers, restricted);
        assert!(finding.verdict == verdict && finding.found.contains(says), "{finding:?}");
    }
}

#[test]
fn a_clock_may_be_off_by_little() {
    let rows = [
        (Some(2), Ok, "agrees"),
        (Some(31), Warn, "31 s behind"),
        (Some(-31), Warn, "31 s ahead of"),
        (Some(-301), Fail, "every delivery is refused"),
        (None, Warn, "not checked"),
    ];
    for (seconds, verdict, says) in rows {
        let finding = clock(seconds.map(Duration::seconds), Duration::seconds(300));
        assert!(finding.verdict == verdict && finding.found.contains(says), "{finding:?}");
    }
}

#[test]
fn a_schedule_that_carries_added_money_away_is_warned_of() {
    let of = |interval: &str| payouts(&Payouts { interval: Some(interval.to_owned()), automatic_at: None });
    assert_eq!((of("manual").verdict, of("daily").verdict), (Ok, Warn));
}
