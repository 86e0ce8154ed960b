//! Every reason, every stage and every end, and what must be said of it.

use std::collections::BTreeMap;

use time::Duration;
use time::macros::datetime;

use super::*;
use crate::domain::account::{Flags, Requirements};
use crate::domain::limits::next_day;

const NOW: OffsetDateTime = datetime!(2026-11-22 10:00 UTC);
const EARLIER: OffsetDateTime = datetime!(2026-11-22 9:00 UTC);
const LATER: OffsetDateTime = datetime!(2026-11-24 0:00 UTC);

fn act() -> Act {
    Act { by: "key_1".into(), at: EARLIER }
}

fn flags() -> Flags {
    Flags {
        details_submitted: Some(true),
        charges_enabled: Some(true),
        payouts_enabled: Some(true),
        transfers_capability: Some("active".into()),
        ..Flags::default()
    }
}

fn account(flags: Option<Flags>) -> AccountFacts {
    let known = Known { flags, deauthorized_at: None, confirmed_at: None, closed_at: None };
    AccountFacts { known, as_of: EARLIER, source: "evt_1".into(), doubted: false }
}

fn wants(requirements: Requirements) -> Option<AccountFacts> {
    Some(account(Some(Flags { requirements, ..flags() })))
}

fn topup(status: Option<&'static str>) -> Option<TopupFacts> {
    let told = status.map(|_| (EARLIER, "evt_2".to_owned()));
    Some(TopupFacts { id: "tu_1".into(), status, expected_at: Some(LATER), told })
}

fn usd() -> Currency {
    Currency::parse("usd").unwrap()
}

struct Rules {
    limits: Limits,
    policy: Policy,
}

fn rules() -> Rules {
    let of = |minor| BTreeMap::from([(usd(), minor)]);
    let limits = Limits { approval_above: of(500), daily_cap: of(2_000), ..Limits::default() };
    let all = "details_submitted,charges_enabled,payouts_enabled,transfers_active,no_past_due";
    Rules { limits, policy: Policy::parse(all).unwrap() }
}

/// One that nothing stands against, and that the line has not looked at yet.
fn facts(rules: &Rules) -> Facts<'_> {
    Facts {
        now: NOW,
        status: Status::Waiting,
        reasons: vec![],
        in_line: true,
        amount_minor: 1_000,
        currency: usd(),
        asked: Act { by: "key_0".into(), at: EARLIER },
        stop: None,
        catching_up_since: None,
        held: None,
        approved: Some(act()),
        release_after: None,
        limits: &rules.limits,
        used: Used { in_all_minor: 700, for_destination_minor: 0 },
        account: Some(account(Some(flags()))),
        policy: &rules.policy,
        max_age: Duration::DAY,
        hold_off: None,
        topup: None,
        money: MoneyFacts::default(),
        attempt: None,
        expected_release_at: None,
        stripe_transfer: None,
        amount_reversed_minor: 0,
        failure: None,
        last: None,
    }
}

fn find<'a>(chain: &'a [Check], name: &str) -> &'a Check {
    chain.iter().find(|check| check.check == name).unwrap_or_else(|| panic!("no {name} in {chain:?}"))
}

const ACCOUNT: [&str; 9] = [
    "account_connected",
    "account_unblocked",
    "details_submitted",
    "charges_enabled",
    "payouts_enabled",
    "transfers_active",
    "no_past_due",
    "corridor",
    "account_fresh",
];

#[test]
fn of_one_that_nothing_stands_against_every_check_holds_in_the_promised_order() {
    let rules = rules();
    let chain = explain(&facts(&rules));
    let names: Vec<&str> = chain.iter().map(|check| check.check).collect();
    let before = ["releases", "hold", "approval", "schedule", "daily_cap", "account_known"];
    let after = ["funds", "stripe_balance", "stripe"];
    assert_eq!(names, [before.as_slice(), &ACCOUNT, &after].concat());
    for check in &chain {
        let expected = if check.check == "stripe" { None } else { Some(true) };
        assert_eq!(check.passed, expected, "{check:?}");
        assert!(
            check.code.is_none() && check.unblocked_by.is_none() && check.expected_at.is_none(),
            "{check:?}"
        );
        assert!(!check.evidence.what.is_empty(), "{check:?}");
    }
}

/// What changes; the reason and the check it falsifies; a part of what is said, and who told; when it should end.
struct Row {
    change: fn(&mut Facts<'_>),
    falsifies: (Reason, &'static str),
    said: (&'static str, Option<&'static str>),
    expected_at: Option<OffsetDateTime>,
}

fn row(
    falsifies: (Reason, &'static str),
    said: (&'static str, Option<&'static str>),
    change: fn(&mut Facts<'_>),
) -> Row {
    Row { change, falsifies, said, expected_at: None }
}

impl Row {
    fn until(self, at: OffsetDateTime) -> Self {
        Self { expected_at: Some(at), ..self }
    }
}

fn rows() -> Vec<Row> {
    use Reason::*;
    let event = Some("evt_1");
    vec![
        row((ReleasesPaused, "releases"), ("paused: month end", Some("key_1")), |f| {
            f.stop = Some((act(), "month end".into()));
        }),
        row((ReleasesPaused, "releases"), ("restored", None), |f| f.catching_up_since = Some(EARLIER)),
        row((OnHold, "hold"), ("it is held", Some("key_1")), |f| f.held = Some(act())),
        row(
            (ApprovalRequired, "approval"),
            ("10.00 USD is above the limit of 5.00 USD", Some("SLUICEGATE_APPROVAL_ABOVE")),
            |f| f.approved = None,
        ),
        row((Scheduled, "schedule"), ("its date", Some("key_0")), |f| f.release_after = Some(LATER))
            .until(LATER),
        row(
            (DailyCapReached, "daily_cap"),
            ("15.00 USD of 20.00 USD are used today, and it needs 10.00 USD", Some("SLUICEGATE_DAILY_CAP")),
            |f| f.used.in_all_minor = 1_500,
        )
        .until(next_day(NOW)),
        row((AccountUnknown, "account_known"), ("neither an event", None), |f| f.account = None),
        row((AccountUnknown, "account_known"), ("only its id", event), |f| f.account = Some(account(None))),
        row((AccountDeauthorized, "account_connected"), ("left the platform", None), |f| {
            let mut left = account(Some(flags()));
            left.known.deauthorized_at = Some(EARLIER);
            f.account = Some(left);
        }),
        row((AccountBlocked, "account_unblocked"), ("disabled_reason is listed", event), |f| {
            f.account =
                wants(Requirements { disabled_reason: Some("listed".into()), ..Requirements::default() });
        }),
        row((AccountBlocked, "account_unblocked"), ("capability is rejected, for good", event), |f| {
            let flags = Flags { transfers_capability: Some("rejected".into()), ..flags() };
            f.account = Some(account(Some(flags)));
        }),
        row((AccountBlocked, "account_unblocked"), ("closed, for good", None), |f| {
            let mut closed = account(None);
            closed.known.closed_at = Some(EARLIER);
            f.account = Some(closed);
        }),
        row(
            (DetailsNotSubmitted, "details_submitted"),
            ("details_submitted is false; Stripe wants: dob", event),
            |f| {
                let due = Requirements { currently_due: vec!["dob".into()], ..Requirements::default() };
                let flags = Flags { details_submitted: Some(false), requirements: due, ..flags() };
                f.account = Some(account(Some(flags)));
            },
        ),
        row((ChargesDisabled, "charges_enabled"), ("charges_enabled is false", event), |f| {
            f.account = Some(account(Some(Flags { charges_enabled: Some(false), ..flags() })));
        }),
        row((PayoutsDisabled, "payouts_enabled"), ("stands for it, is active", event), |f| {
            f.account = Some(account(Some(Flags { payouts_enabled: None, ..flags() })));
        }),
        row((TransfersInactive, "transfers_active"), ("capability is pending", event), |f| {
            let flags = Flags { transfers_capability: Some("pending".into()), ..flags() };
            f.account = Some(account(Some(flags)));
        }),
        row((RequirementsPastDue, "no_past_due"), ("past due: ssn", event), |f| {
            f.account = wants(Requirements { past_due: vec!["ssn".into()], ..Requirements::default() });
        }),
        row((CorridorUnsupported, "corridor"), ("the account is in BR", event), |f| {
            f.account = Some(account(Some(Flags { country: Some("BR".into()), ..flags() })));
        }),
        row((TopupUnknown, "topup"), ("has shown tu_1", None), |f| f.topup = topup(None)).until(LATER),
        row((TopupPending, "topup"), ("tu_1 is pending", Some("evt_2")), |f| {
            f.topup = topup(Some("pending"))
        })
        .until(LATER),
        row((TopupNotSettled, "topup"), ("has not settled", Some("evt_2")), |f| {
            f.topup = topup(Some("succeeded"));
        })
        .until(LATER),
        row((TopupFailed, "topup"), ("no money", Some("evt_2")), |f| f.topup = topup(Some("failed"))),
        row(
            (FundsInsufficient, "funds"),
            ("it needs 10.00 USD; 2.00 USD in the pool are free, and 3 transfers before it ask for 9.00 USD", None),
            |f| {
                f.money = MoneyFacts { free_minor: 200, ahead: (3, 900), ..MoneyFacts::default() };
                f.expected_release_at = Some(LATER);
            },
        )
        .until(LATER),
        row((StripeBalanceInsufficient, "stripe_balance"), ("its balance was 0.05 USD", Some("api")), |f| {
            f.money.stopped_at = Some(EARLIER);
            f.money.stripe_available = Some((5, EARLIER));
        }),
        row((StripeUnavailable, "account_fresh"), ("more than 24 h ago", event), |f| {
            f.account = Some(AccountFacts { as_of: NOW - Duration::days(2), ..account(Some(flags())) });
        }),
    ]
}

#[test]
fn each_reason_falsifies_its_check_alone_with_evidence_and_a_way_out() {
    let rules = rules();
    for Row { change, falsifies: (reason, name), said: (said, source), expected_at } in rows() {
        let mut facts = facts(&rules);
        change(&mut facts);
        facts.reasons = vec![reason];
        let chain = explain(&facts);
        let check = find(&chain, name);
        assert_eq!((check.passed, check.code.as_deref()), (Some(false), Some(reason.code())), "{check:?}");
        assert!(check.evidence.what.contains(said), "{check:?}");
        assert_eq!(check.evidence.source.as_deref(), source, "{check:?}");
        assert!(check.unblocked_by.is_some(), "{check:?}");
        assert_eq!(check.expected_at, expected_at, "{check:?}");
        let others = chain.iter().filter(|other| other.check != name && other.passed == Some(false)).count();
        assert_eq!(others, 0, "{reason:?}: {chain:?}");
        assert!(summary(&facts).contains(reason.words()), "{reason:?}");
    }
    let told: Vec<Reason> = rows().iter().map(|row| row.falsifies.0).collect();
    assert!(Reason::ALL.iter().all(|reason| told.contains(reason)), "every reason has a row");
}

#[test]
fn what_can_not_be_told_yet_is_neither_passed_nor_failed() {
    let rules = rules();
    let mut facts = facts(&rules);
    (facts.account, facts.reasons, facts.in_line) = (None, vec![Reason::AccountUnknown], false);
    let chain = explain(&facts);
    let open: Vec<&str> =
        chain.iter().filter(|check| check.passed.is_none()).map(|check| check.check).collect();
    assert_eq!(open, [ACCOUNT.as_slice(), &["funds", "stripe"]].concat());
}

#[test]
fn a_refusal_on_the_accounts_side_is_named_until_its_pause_is_over() {
    let rules = rules();
    let mut facts = facts(&rules);
    facts.hold_off = Some((LATER, Reason::TransfersInactive));
    facts.reasons = vec![Reason::TransfersInactive];
    let chain = explain(&facts);
    let check = find(&chain, "stripe_refusal");
    assert_eq!((check.passed, check.expected_at), (Some(false), Some(LATER)));
    facts.hold_off = Some((NOW, Reason::TransfersInactive));
    assert!(explain(&facts).iter().all(|check| check.check != "stripe_refusal"));
}

fn attempt(sends: i32) -> Attempt {
    let sent_at = (sends > 0).then_some(EARLIER);
    Attempt {
        n: 2,
        sends,
        first_sent_at: sent_at,
        quiet_since: sent_at,
        ended_at: sent_at,
        not_before: None,
        answered: false,
        look_up_due: false,
        made_another: false,
        empty_look_ups: 0,
        last_look_up_at: None,
    }
}

#[test]
fn of_one_under_way_stripe_tells_what_was_sent_and_what_comes_next() {
    let rules = rules();
    let mut facts = Facts { status: Status::Releasing, in_line: false, ..facts(&rules) };
    let another = Attempt { made_another: true, ..attempt(1) };
    let rows = [
        (attempt(0), Step::Send, "not sent yet", "it is sent", Some(NOW)),
        (attempt(1), Step::Wait(LATER), "sent once with key 2", "asked again", Some(LATER)),
        (attempt(3), Step::Send, "sent 3 times", "repeated with the same key", Some(NOW)),
        (attempt(3), Step::LookUp, "sent 3 times", "listed", Some(NOW)),
        (attempt(3), Step::NextKey, "sent 3 times", "next key", Some(NOW)),
        (attempt(0), Step::Withdraw, "not sent yet", "given back", Some(NOW)),
        (another, Step::Wait(LATER), "another transfer", "a person compares", None),
    ];
    for (attempt, step, said, next, expected_at) in rows {
        let code = (attempt.sends > 0).then_some("stripe_unavailable");
        facts.attempt = Some((attempt, step));
        let chain = explain(&facts);
        let check = find(&chain, "stripe");
        assert_eq!((check.passed, check.code.as_deref()), (None, code), "{check:?}");
        assert_eq!(check.expected_at, expected_at, "{check:?}");
        assert!(check.evidence.what.contains(said), "{check:?}");
        assert!(check.unblocked_by.as_ref().unwrap().contains(next), "{check:?}");
        assert_eq!(find(&chain, "funds").passed, Some(true), "its money is reserved");
    }
}

#[test]
fn of_one_that_is_over_it_is_told_how_it_ended() {
    let rules = rules();
    let of = |status, reversed| Facts {
        status,
        amount_reversed_minor: reversed,
        stripe_transfer: Some("tr_1".into()),
        failure: Some(("account_closed".into(), "No such destination".into())),
        last: Some((EARLIER, "evt_9".into())),
        ..facts(&rules)
    };
    let out = ("stripe", Some(true), "tr_1");
    let rows = [
        (of(Status::Released, 0), vec![out], "It went out."),
        (
            of(Status::PartiallyReversed, 300),
            vec![out, ("reversals", None, "3.00 USD of 10.00 USD came back")],
            "part of it came back",
        ),
        (
            of(Status::Reversed, 1_000),
            vec![out, ("reversals", None, "10.00 USD of 10.00 USD came back")],
            "all of it came back",
        ),
        (of(Status::Failed, 0), vec![("stripe", Some(false), "No such destination")], "refused it for good"),
        (of(Status::Canceled, 0), vec![("canceled", Some(false), "called off")], "called off"),
    ];
    for (facts, checks, said) in rows {
        let chain = explain(&facts);
        assert_eq!(chain.len(), checks.len(), "{chain:?}");
        for (check, (name, passed, what)) in chain.iter().zip(&checks) {
            assert_eq!((check.check, check.passed), (*name, *passed));
            assert!(check.evidence.what.contains(what), "{check:?}");
        }
        assert_eq!(chain.last().unwrap().evidence.at, Some(EARLIER), "{chain:?}");
        assert!(summary(&facts).contains(said));
    }
}
