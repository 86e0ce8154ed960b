//! What a caller of Stripe has to survive, and what is true behind each unclear answer.

use super::super::{Fault, FaultKind};
use super::*;

fn on_transfers(kind: FaultKind) -> Fault {
    Fault::next(kind).on("POST", "/v1/transfers")
}

#[tokio::test]
async fn an_answer_lost_after_commit_is_replayed_to_the_same_key() {
    let (bench, account) = Bench::funded().await;
    bench.control.fault(on_transfers(FaultKind::DropAfterCommit));
    assert!(bench.try_post("/v1/transfers", "k1", &form(&account, 300)).await.is_err());
    assert_eq!(bench.available(), 700);
    let retried = bench.transfer("k1", &account, 300).await;
    assert_eq!((retried.status, retried.header("idempotent-replayed")), (200, Some("true")));
    let books = bench.control.books();
    assert_eq!((books.transfers.len(), books.transfers[0].id.as_str()), (1, retried.id()));
    let calls = bench.control.calls();
    assert_eq!((calls[0].outcome.status, calls[0].outcome.committed), (None, true));
    assert!(calls[1].outcome.replayed && !calls[1].outcome.committed);
}

#[tokio::test]
async fn a_call_lost_before_commit_leaves_nothing_and_its_key_free() {
    let (bench, account) = Bench::funded().await;
    bench.control.fault(on_transfers(FaultKind::DropBeforeCommit));
    assert!(bench.try_post("/v1/transfers", "k1", &form(&account, 300)).await.is_err());
    assert_eq!(bench.available(), 1_000);
    let retried = bench.transfer("k1", &account, 300).await;
    assert_eq!((retried.status, retried.header("idempotent-replayed")), (200, None));
}

#[tokio::test]
async fn a_500_sticks_to_its_key_whether_or_not_money_moved() {
    let (bench, account) = Bench::funded().await;
    for (key, kind, left) in
        [("k1", FaultKind::Error500BeforeCommit, 1_000), ("k2", FaultKind::Error500AfterCommit, 900)]
    {
        bench.control.fault(on_transfers(kind));
        let first = bench.transfer(key, &account, 100).await;
        assert_eq!((first.status, first.header("stripe-should-retry")), (500, Some("false")));
        let again = bench.transfer(key, &account, 100).await;
        assert_eq!((again.status, again.header("idempotent-replayed")), (500, Some("true")));
        assert_eq!(again.header("stripe-should-retry"), Some("false"));
        assert_eq!(bench.available(), left);
    }
    assert_eq!(bench.control.books().transfers.len(), 1);
}

#[tokio::test]
async fn conflicts_limits_gateways_and_401_are_not_kept() {
    let (bench, account) = Bench::funded().await;
    let limited = |reason: Option<&str>| FaultKind::RateLimited { reason: reason.map(str::to_owned) };
    for (kind, status, code) in [
        (FaultKind::Conflict, 409, "idempotency_key_in_use"),
        (limited(None), 429, "lock_timeout"),
        (limited(Some("global-rate")), 429, "rate_limit"),
        (FaultKind::UnavailableBeforeCommit, 503, ""),
        (FaultKind::Unauthorized, 401, ""),
    ] {
        bench.control.fault(on_transfers(kind.clone()));
        let refused = bench.transfer("k1", &account, 100).await;
        assert_eq!((refused.status, refused.code()), (status, code), "{kind:?}");
        let limited = matches!(kind, FaultKind::RateLimited { reason: Some(_) });
        assert_eq!(refused.header("stripe-rate-limited-reason").is_some(), limited);
    }
    assert_eq!(bench.available(), 1_000);
    assert_eq!(bench.transfer("k1", &account, 100).await.header("idempotent-replayed"), None);
    assert_eq!(bench.available(), 900);
}

#[tokio::test]
async fn a_gateway_can_hide_a_success() {
    let (bench, account) = Bench::funded().await;
    bench.control.fault(on_transfers(FaultKind::UnavailableAfterCommit));
    let hidden = bench.transfer("k1", &account, 100).await;
    assert_eq!((hidden.status, hidden.body.is_null()), (503, true));
    assert_eq!(bench.available(), 900);
    assert_eq!(bench.transfer("k1", &account, 100).await.status, 200);
    assert_eq!(bench.available(), 900);
}

#[tokio::test]
async fn a_key_in_use_conflicts_and_a_caller_that_hangs_up_does_not_stop_its_call() {
    let (bench, account) = Bench::funded().await;
    bench.control.fault(on_transfers(FaultKind::Delay { ms: 1_500 }));
    let body = form(&account, 100);
    let arrived = async {
        while bench.control.calls().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        _ = bench.try_post("/v1/transfers", "k1", &body) => panic!("answered before its time"),
        () = arrived => {}
    }
    let conflict = bench.transfer("k1", &account, 100).await;
    assert_eq!((conflict.status, conflict.code()), (409, "idempotency_key_in_use"));
    let done = async {
        while bench.available() == 1_000 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(BOUND, done).await.unwrap();
    assert_eq!(bench.transfer("k1", &account, 100).await.header("idempotent-replayed"), Some("true"));
    assert_eq!(bench.available(), 900);
}

#[tokio::test]
async fn a_definite_refusal_can_be_ordered_and_is_kept() {
    let (bench, account) = Bench::funded().await;
    let refuse =
        FaultKind::Refuse { status: 400, code: "transfers_not_allowed".into(), message: "no".into() };
    bench.control.fault(on_transfers(refuse));
    assert_eq!(bench.transfer("k1", &account, 1).await.code(), "transfers_not_allowed");
    assert_eq!(bench.transfer("k1", &account, 1).await.code(), "transfers_not_allowed");
    assert_eq!(bench.transfer("k2", &account, 1).await.status, 200);
}

#[tokio::test]
async fn a_stale_list_hides_what_is_young() {
    let (bench, account) = Bench::funded().await;
    bench.transfer("k1", &account, 1).await;
    bench.control.advance(Duration::from_secs(60));
    bench.transfer("k2", &account, 1).await;
    let stale =
        |younger_than_ms| Fault::next(FaultKind::StaleList { younger_than_ms }).on("GET", "/v1/transfers");
    let mut counts = Vec::new();
    for fault in [stale(30_000), stale(u64::MAX)] {
        bench.control.fault(fault);
        counts.push(bench.get("/v1/transfers").await.body["data"].as_array().unwrap().len());
    }
    counts.push(bench.get("/v1/transfers").await.body["data"].as_array().unwrap().len());
    assert_eq!(counts, [1, 0, 2]);
}

#[tokio::test]
async fn faults_count_skip_and_match() {
    let (bench, _) = Bench::funded().await;
    let fault = Fault { skip: 1, ..Fault::next(FaultKind::Unauthorized).on("GET", "/v1/balance") };
    bench.control.fault(fault.times(Some(2)));
    let mut statuses = Vec::new();
    for path in ["/v1/account", "/v1/balance", "/v1/balance", "/v1/account", "/v1/balance", "/v1/balance"] {
        statuses.push(bench.get(path).await.status);
    }
    assert_eq!(statuses, [200, 200, 401, 200, 401, 200]);
    bench.control.fault(Fault::next(FaultKind::Unauthorized).times(None));
    assert_eq!((bench.get("/v1/balance").await.status, bench.get("/v1/account").await.status), (401, 401));
    bench.control.clear_faults();
    assert_eq!(bench.get("/v1/balance").await.status, 200);
}

#[tokio::test]
async fn the_door_wants_the_right_key_and_a_version() {
    let bench = Bench::with(Config { secret_key: Some("sk_test_right".into()), ..slow() }).await;
    assert_eq!(bench.get("/v1/balance").await.status, 401);
    let call = || bench.client.get(format!("{}/v1/balance", bench.sandbox.url()));
    let right = call().basic_auth("sk_test_right", Some("")).header("stripe-version", "x");
    assert_eq!(reply(right).await.unwrap().status, 200);
    assert_eq!(reply(call().bearer_auth("sk_test_right")).await.unwrap().status, 400);
    let public = Config { listen: ([0, 0, 0, 0], 0).into(), ..slow() };
    assert!(start(public).await.is_err());
}
