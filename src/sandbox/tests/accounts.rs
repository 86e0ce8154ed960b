//! Accounts, onboarding links, and the controls over HTTP.

use super::super::AccountChange;
use super::*;

#[tokio::test]
async fn an_express_account_is_onboarded_through_its_single_use_link() {
    let bench = Bench::with(slow()).await;
    let form =
        "type=express&country=US&email=w%40example.com&capabilities[transfers][requested]=true&metadata[u]=1";
    let account = bench.post("/v1/accounts", "a1", form).await;
    assert_eq!(
        (account.body["email"].as_str(), account.body["metadata"]["u"].as_str()),
        (Some("w@example.com"), Some("1"))
    );
    assert_eq!(account.body["capabilities"]["transfers"], "inactive");
    assert_eq!(account.body["requirements"]["disabled_reason"], "requirements.past_due");
    let ask = format!(
        "account={}&type=account_onboarding&return_url=http://x/return&refresh_url=http://x/refresh",
        account.id()
    );
    let link = bench.post("/v1/account_links", "l1", &ask).await.body["url"].as_str().unwrap().to_owned();
    let browser =
        reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    let page = browser.get(&link).send().await.unwrap().text().await.unwrap();
    assert!(page.contains(account.id()));
    let place = |answer: reqwest::Response| answer.headers()["location"].to_str().unwrap().to_owned();
    assert_eq!(place(browser.get(&link).send().await.unwrap()), "http://x/refresh");
    assert_eq!(place(browser.post(format!("{link}/finish")).send().await.unwrap()), "http://x/return");
    assert_eq!(place(browser.post(format!("{link}/finish")).send().await.unwrap()), "http://x/refresh");
    let done = bench.get(&format!("/v1/accounts/{}", account.id())).await.body;
    assert_eq!(
        (done["details_submitted"].as_bool(), done["capabilities"]["transfers"].as_str()),
        (Some(true), Some("active"))
    );
    assert_eq!(done["requirements"]["past_due"].as_array().unwrap().len(), 0);
    let events = bench.control.events();
    assert_eq!(events[events.len() - 1]["data"]["previous_attributes"]["status"], "inactive");
    assert_eq!(events[events.len() - 2]["data"]["previous_attributes"]["charges_enabled"], false);
}

#[tokio::test]
async fn an_expired_link_leads_to_the_refresh_url_and_live_mode_wants_https() {
    let bench = Bench::with(slow()).await;
    let account = bench.control.create_account(AccountSpec::default());
    let ask =
        format!("account={account}&type=account_onboarding&return_url=http://x/r&refresh_url=http://x/f");
    let link = bench.post("/v1/account_links", "l1", &ask).await.body["url"].as_str().unwrap().to_owned();
    bench.control.advance(Duration::from_secs(301));
    let browser =
        reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    assert_eq!(browser.get(&link).send().await.unwrap().headers()["location"], "http://x/f");
    let live = Bench::with(Config { livemode: true, ..slow() }).await;
    let account = live.control.create_account(AccountSpec::default());
    let ask =
        format!("account={account}&type=account_onboarding&return_url=http://x/r&refresh_url=https://x/f");
    assert_eq!(live.post("/v1/account_links", "l1", &ask).await.status, 400);
}

#[tokio::test]
async fn a_step_back_and_a_revoked_account_show_at_once() {
    let (bench, account) = Bench::funded().await;
    let back = AccountChange {
        transfers: Some("inactive".into()),
        payouts_enabled: Some(false),
        ..AccountChange::default()
    };
    bench.control.change_account(&account, &back).unwrap();
    assert_eq!(bench.transfer("k1", &account, 1).await.code(), "insufficient_capabilities_for_transfer");
    let path = format!("/v1/accounts/{account}");
    assert_eq!(bench.get(&path).await.body["payouts_enabled"], false);
    bench.control.deny(&account, true).unwrap();
    let denied = bench.get(&path).await;
    assert_eq!((denied.status, denied.code()), (403, "account_invalid"));
    assert_eq!(bench.get("/v1/accounts").await.body["data"].as_array().unwrap().len(), 0);
    bench.control.deny(&account, false).unwrap();
    assert_eq!(bench.get(&path).await.status, 200);
    assert_eq!(bench.get("/v1/account").await.body["settings"]["payouts"]["schedule"]["interval"], "manual");
}

#[tokio::test]
async fn unknown_routes_and_expansions_are_named() {
    let bench = Bench::with(slow()).await;
    assert_eq!(bench.get("/v1/charges").await.status, 404);
    assert_eq!(bench.get("/v1/topups?expand[]=source").await.status, 400);
    assert_eq!(bench.get("/v1/transfers/tr_none").await.code(), "resource_missing");
    assert_eq!(bench.post("/v1/accounts", "a1", "tpye=express").await.code(), "parameter_unknown");
}

#[tokio::test]
async fn the_controls_work_over_http() {
    let bench = Bench::with(slow()).await;
    let control = |path: &str, body: &str| {
        let call =
            bench.client.post(format!("{}/_sandbox/{path}", bench.sandbox.url())).body(body.to_owned());
        async move { reply(call).await.unwrap() }
    };
    let account = control("accounts", r#"{"ready":true,"change":{"payouts_enabled":false}}"#).await;
    assert_eq!(account.body["payouts_enabled"], false);
    let topup = control("topups", r#"{"currency":"usd","amount":900}"#).await;
    assert_eq!(control(&format!("topups/{}/available", topup.id()), "").await.status, 200);
    assert_eq!(control(&format!("topups/{}/fail", topup.id()), r#"{"code":"x"}"#).await.status, 409);
    let fault = r#"{"kind":"rate_limited","reason":"global-rate","method":"post","path":"/v1/transfers"}"#;
    assert_eq!(control("faults", fault).await.status, 200);
    assert_eq!(bench.transfer("k1", account.id(), 5).await.status, 429);
    assert_eq!(bench.transfer("k1", account.id(), 5).await.status, 200);
    assert!(control("clock/advance", r#"{"seconds":60}"#).await.body["now"].is_i64());
    for bad in ["[]", "{", r#"{"seconds":-1}"#] {
        assert_eq!(control("clock/advance", bad).await.status, 400, "{bad}");
    }
    assert_eq!(control("nothing", "").await.status, 404);
    let books =
        reply(bench.client.get(format!("{}/_sandbox/books", bench.sandbox.url()))).await.unwrap().body;
    assert_eq!(books["currencies"]["usd"]["available"], 895);
    assert_eq!(books["transfers"][0]["metadata"]["item"], "i1");
}
