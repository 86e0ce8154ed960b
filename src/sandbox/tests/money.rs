//! Balances, top-ups, transfers, reversals, idempotency keys, lists.

use super::*;

#[tokio::test]
async fn a_transfer_moves_money_once_and_its_key_replays_the_same_answer() {
    let (bench, account) = Bench::funded().await;
    let first = bench.transfer("k1", &account, 400).await;
    assert_eq!(first.status, 200);
    assert_eq!(first.body["metadata"]["item"], "i1");
    assert_eq!(first.body["reversals"]["has_more"], false);
    assert!(first.header("request-id").unwrap().starts_with("req_"));
    assert_eq!(first.header("idempotent-replayed"), None);
    let again = bench.transfer("k1", &account, 400).await;
    assert_eq!((again.status, &again.body), (200, &first.body));
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    assert_eq!(again.header("original-request"), first.header("request-id"));
    assert_eq!(bench.available(), 600);
    let event = bench.control.events().pop().unwrap();
    assert_eq!(event["type"], "transfer.created");
    assert_eq!(event["request"]["idempotency_key"], "k1");
    bench.assert_balanced();
}

#[tokio::test]
async fn a_refusal_for_want_of_money_is_kept_for_its_key_even_when_money_came() {
    let (bench, account) = Bench::funded().await;
    assert_eq!(bench.transfer("k1", &account, 1_001).await.code(), "balance_insufficient");
    bench.control.add_balance("usd", 1_000);
    let replayed = bench.transfer("k1", &account, 1_001).await;
    assert_eq!((replayed.status, replayed.code()), (400, "balance_insufficient"));
    assert_eq!(replayed.header("idempotent-replayed"), Some("true"));
    assert_eq!(bench.transfer("k2", &account, 1_001).await.status, 200);
    assert_eq!(bench.available(), 999);
}

#[tokio::test]
async fn a_key_with_other_parameters_is_refused_in_any_state() {
    let (bench, account) = Bench::funded().await;
    bench.transfer("k1", &account, 1).await;
    let other = bench.transfer("k1", &account, 2).await;
    assert_eq!((other.status, other.body["error"]["type"].as_str().unwrap()), (400, "idempotency_error"));
    let reordered =
        format!("metadata[item]=i1&transfer_group=g1&destination={account}&currency=usd&amount=1");
    assert_eq!(bench.post("/v1/transfers", "k1", &reordered).await.status, 200);
    assert_eq!(bench.available(), 999);
}

#[tokio::test]
async fn a_validation_failure_leaves_its_key_free() {
    let (bench, account) = Bench::funded().await;
    for (bad, code) in [
        (form(&account, 0), "parameter_invalid_integer"),
        (form(&account, 1).replace("amount=1", "amount=1.5"), "parameter_invalid_integer"),
        (form(&account, 1) + "&amont=2", "parameter_unknown"),
        (format!("amount=1&destination={account}"), "parameter_missing"),
        (form(&account, 1).replace("usd", "zzz"), ""),
    ] {
        let refused = bench.post("/v1/transfers", "k1", &bad).await;
        assert_eq!((refused.status, refused.code()), (400, code), "{bad}");
    }
    assert_eq!(bench.transfer("k1", &account, 5).await.status, 200);
}

#[tokio::test]
async fn a_key_is_forgotten_after_a_day_and_pays_again() {
    let (bench, account) = Bench::funded().await;
    bench.transfer("k1", &account, 1).await;
    bench.control.advance(DAY - Duration::from_secs(60));
    bench.transfer("k1", &account, 1).await;
    assert_eq!(bench.available(), 999);
    bench.control.advance(Duration::from_secs(61));
    let again = bench.transfer("k1", &account, 1).await;
    assert_eq!((again.status, again.header("idempotent-replayed")), (200, None));
    assert_eq!(bench.available(), 998);
}

#[tokio::test]
async fn destinations_must_exist_and_have_the_capability() {
    let (bench, ready) = Bench::funded().await;
    let bare = bench.control.create_account(AccountSpec::default());
    let missing = bench.transfer("k1", "acct_none", 1).await;
    assert_eq!((missing.status, missing.code()), (400, "resource_missing"));
    assert_eq!(missing.body["error"]["param"], "destination");
    assert_eq!(bench.transfer("k2", &bare, 1).await.code(), "insufficient_capabilities_for_transfer");
    bench.control.deauthorize(&ready).unwrap();
    assert_eq!(bench.transfer("k3", &ready, 1).await.code(), "resource_missing");
    assert_eq!(bench.available(), 1_000);
}

#[tokio::test]
async fn reversals_give_money_back_up_to_the_whole_and_no_further() {
    let (bench, account) = Bench::funded().await;
    let transfer = bench.transfer("k1", &account, 1_000).await;
    let path = format!("/v1/transfers/{}/reversals", transfer.id());
    assert_eq!(bench.post(&path, "r1", "amount=400").await.body["amount"], 400);
    assert_eq!(bench.post(&path, "r1", "amount=400").await.body["amount"], 400);
    assert_eq!(bench.available(), 400);
    assert_eq!(bench.post(&path, "r2", "amount=601").await.status, 400);
    assert_eq!(bench.post(&path, "r3", "").await.body["amount"], 600);
    assert_eq!(bench.post(&path, "r4", "").await.status, 400);
    let whole = bench.get(&format!("/v1/transfers/{}", transfer.id())).await.body;
    assert_eq!((whole["amount_reversed"].as_i64(), whole["reversed"].as_bool()), (Some(1_000), Some(true)));
    assert_eq!(whole["reversals"]["data"][0]["amount"], 600);
    assert_eq!(bench.get(&path).await.body["data"].as_array().unwrap().len(), 2);
    assert_eq!(bench.available(), 1_000);
    bench.assert_balanced();
}

#[tokio::test]
async fn a_topup_settles_then_becomes_available_on_the_clock() {
    let (bench, account) = Bench::funded().await;
    let topup = bench.post("/v1/topups", "t1", "amount=5000&currency=usd&source=btok_us_verified").await;
    assert_eq!(
        (topup.body["status"].as_str(), topup.body["balance_transaction"].is_null()),
        (Some("pending"), true)
    );
    let path = format!("/v1/topups/{}?expand[]=balance_transaction", topup.id());
    let created = topup.body["created"].as_i64().unwrap();
    assert!(
        (6 * 86_400..=6 * 86_400 + 1)
            .contains(&(topup.body["expected_availability_date"].as_i64().unwrap() - created))
    );
    bench.control.advance(5 * DAY);
    let settled = bench.get(&path).await.body;
    assert_eq!(
        (settled["status"].as_str(), settled["balance_transaction"]["status"].as_str()),
        (Some("succeeded"), Some("pending"))
    );
    assert_eq!(bench.get("/v1/balance").await.body["pending"][0]["amount"], 5_000);
    assert_eq!(bench.transfer("k1", &account, 1_001).await.code(), "balance_insufficient");
    assert_eq!(bench.post(&format!("/v1/topups/{}/cancel", topup.id()), "c1", "").await.status, 400);
    bench.control.advance(DAY);
    let available = bench.get(&path).await.body;
    assert_eq!(available["balance_transaction"]["status"], "available");
    assert!(available["balance_transaction"]["available_on"].as_i64().unwrap() <= bench.control.now());
    assert_eq!(bench.get("/v1/balance").await.body["available"][0]["amount"], 6_000);
    let types: Vec<_> =
        bench.control.events().iter().map(|e| e["type"].as_str().unwrap().to_owned()).collect();
    assert_eq!(types[types.len() - 2..], ["topup.succeeded", "balance.available"]);
    bench.assert_balanced();
}

#[tokio::test]
async fn one_long_step_of_the_clock_settles_and_releases_at_once() {
    let bench = Bench::with(slow()).await;
    bench.control.create_topup("usd", 70);
    bench.control.advance(30 * DAY);
    assert_eq!(bench.available(), 70);
}

#[tokio::test]
async fn topups_fail_by_their_token_cancel_while_pending_and_reverse_below_zero() {
    let (bench, account) = Bench::funded().await;
    let make = |key: &'static str, source: &'static str| {
        let form = format!("amount=500&currency=usd&source={source}");
        let bench = &bench;
        async move { bench.post("/v1/topups", key, &form).await.id().to_owned() }
    };
    let failing = make("t1", "btok_us_verified_insufficientFunds").await;
    let canceled = make("t2", "btok_us_verified").await;
    let reversed = make("t3", "btok_us_verified").await;
    let early = make("t4", "btok_us_verified").await;
    assert_eq!(
        bench.post(&format!("/v1/topups/{canceled}/cancel"), "c1", "").await.body["status"],
        "canceled"
    );
    bench.control.advance(5 * DAY);
    let failed = bench.get(&format!("/v1/topups/{failing}")).await.body;
    assert_eq!(
        (failed["status"].as_str(), failed["failure_code"].as_str()),
        (Some("failed"), Some("insufficient_funds"))
    );
    bench.control.reverse_topup(&early).unwrap();
    bench.control.advance(DAY);
    assert_eq!(bench.available(), 1_500);
    bench.transfer("k1", &account, 1_400).await;
    bench.control.reverse_topup(&reversed).unwrap();
    assert!(bench.control.reverse_topup(&reversed).is_err());
    assert_eq!(bench.available(), -400);
    assert_eq!(bench.get("/v1/topups?status=reversed").await.status, 400);
    assert_eq!(bench.get("/v1/topups").await.body["data"].as_array().unwrap().len(), 4);
    bench.assert_balanced();
}

#[tokio::test]
async fn transfers_are_listed_newest_first_in_pages_and_by_filter() {
    let (bench, account) = Bench::funded().await;
    let mut ids = Vec::new();
    for n in 0..5 {
        ids.push(bench.transfer(&format!("k{n}"), &account, 1 + n).await.id().to_owned());
    }
    let other = bench.control.create_ready_account();
    bench.transfer("k9", &other, 9).await;
    let mut found = Vec::new();
    let mut path = format!("/v1/transfers?limit=2&destination={account}&transfer_group=g1");
    loop {
        let page = bench.get(&path).await.body;
        found.extend(page["data"].as_array().unwrap().iter().map(|t| t["id"].as_str().unwrap().to_owned()));
        if page["has_more"] == false {
            break;
        }
        path =
            format!("/v1/transfers?limit=2&destination={account}&starting_after={}", found.last().unwrap());
    }
    ids.reverse();
    assert_eq!(found, ids);
    let none = bench.get(&format!("/v1/transfers?created[gte]={}", bench.control.now() + 60)).await.body;
    assert_eq!(none["data"].as_array().unwrap().len(), 0);
    assert_eq!(
        bench.get("/v1/transfers?transfer_group=nope").await.body["data"].as_array().unwrap().len(),
        0
    );
    assert_eq!(bench.get("/v1/transfers?metadata[item]=i1").await.code(), "parameter_unknown");
}

#[tokio::test]
async fn a_source_type_without_money_is_refused() {
    let bench = Bench::with(Config { source_type: "bank_account".into(), ..slow() }).await;
    bench.control.add_balance("usd", 10);
    let account = bench.control.create_ready_account();
    assert_eq!(bench.transfer("k1", &account, 1).await.code(), "balance_insufficient");
    let card = form(&account, 1) + "&source_type=card";
    assert_eq!(
        bench.post("/v1/transfers", "k2", &card).await.code(),
        "transfer_source_balance_parameters_mismatch"
    );
    let bank = form(&account, 1) + "&source_type=bank_account";
    assert_eq!(bench.post("/v1/transfers", "k3", &bank).await.status, 200);
}
