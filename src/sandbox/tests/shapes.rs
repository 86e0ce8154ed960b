//! Every object the sandbox shows has all the keys of Stripe's own fixture of it.

use super::*;

fn fixture(name: &str) -> Value {
    let path = format!("{}/tests/fixtures/stripe/{name}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn assert_covers(ours: &Value, theirs: &Value, what: &str) {
    let missing: Vec<&String> =
        theirs.as_object().unwrap().keys().filter(|key| ours.get(key.as_str()).is_none()).collect();
    assert!(missing.is_empty(), "{what} lacks {missing:?}");
    assert_eq!(ours["object"], theirs["object"], "{what}");
}

#[tokio::test]
async fn objects_have_the_keys_of_stripes_fixtures() {
    let (bench, account) = Bench::funded().await;
    let get = async |path: String| bench.get(&path).await.body;
    let transfer = bench.transfer("k1", &account, 10).await;
    let reversal = bench.post(&format!("/v1/transfers/{}/reversals", transfer.id()), "r1", "amount=1").await;
    let topup = bench.post("/v1/topups", "t1", "amount=5&currency=usd").await;
    let ask =
        format!("account={account}&type=account_onboarding&return_url=http://x/r&refresh_url=http://x/f");
    let link = bench.post("/v1/account_links", "l1", &ask).await.body;
    let hook =
        bench.post("/v1/webhook_endpoints", "w1", "url=http://127.0.0.1:9&enabled_events[]=none").await;
    let entry = transfer.body["balance_transaction"].as_str().unwrap();
    assert_covers(
        &get(format!("/v1/balance_transactions/{entry}")).await,
        &fixture("balance_transaction"),
        "entry",
    );
    assert_covers(&get("/v1/balance".into()).await, &fixture("balance"), "balance");
    assert_covers(&get(format!("/v1/accounts/{account}")).await, &fixture("account"), "account");
    assert_covers(&transfer.body, &fixture("transfer"), "transfer");
    assert_covers(&reversal.body, &fixture("transfer_reversal"), "reversal");
    assert_covers(&topup.body, &fixture("topup"), "topup");
    assert_covers(&link, &fixture("account_link"), "link");
    assert_covers(&hook.body, &fixture("webhook_endpoint"), "endpoint");
    let events = bench.control.events();
    let of = |kind: &str| events.iter().find(|event| event["type"] == kind).unwrap();
    assert_covers(of("capability.updated"), &fixture("events/capability.updated.transfers_active"), "event");
    assert_covers(&of("capability.updated")["data"]["object"], &fixture("capability"), "capability");
    assert_covers(of("transfer.reversed"), &fixture("events/transfer.reversed.partial"), "event");
    assert_covers(of("topup.created"), &fixture("events/topup.created"), "event");
}
