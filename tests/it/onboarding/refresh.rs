//! Step 4 of the guide: a link that has ended, was used or was previewed leads to another one.

use axum::http::StatusCode;
use reqwest::Method;
use serde_json::{Value, json};
use sluicegate::sandbox::AccountChange;
use time::Duration;

use super::{Browser, door, link, links_made, must_be_a_page, must_be_unseen, new_account, no_body, sent_to};
use crate::audit::{log, said};
use crate::support::reply::{ask, ask_elsewhere};
use crate::support::world::World;

#[tokio::test]
async fn the_refresh_door_makes_another_link_with_the_same_parameters() {
    let world = World::start().await;
    let (browser, account) = (Browser::new(), new_account(&world));
    let body = json!({"return_url": "https://app.example.com/", "fields": "eventually_due"});
    let url = link(&world.api, &account, body).await;
    // Stripe's link ends within minutes.
    world.stripe.advance(std::time::Duration::from_secs(600));
    let ended = browser.get(&url).await;
    assert_eq!(ended.header("location"), door(&world, "refresh"));
    let mut door_to_knock_at = ended.header("location").to_owned();
    for visit in 1..3 {
        let reply = browser.get(&door_to_knock_at).await;
        let next = sent_to(&reply).to_owned();
        assert_ne!(next, url);
        let calls = links_made(&world);
        assert_eq!((calls.len(), &calls[visit].body), (visit + 1, &calls[0].body), "the same parameters");
        assert_eq!(browser.get(&next).await.status, 200, "it opens");
        door_to_knock_at = browser.get(&next).await.header("location").to_owned();
    }
    let rows = log(&world).await;
    let made = ("sluicegate", "onboarding_link.created", account.as_str());
    assert_eq!(said(&rows), [("admin", made.1, made.2), made, made]);
    let details: Value = serde_json::from_str(&rows[1].entry.details).unwrap();
    assert_eq!(details["door"], "refresh");
}

#[tokio::test]
async fn who_only_looks_uses_no_link_up() {
    let world = World::start().await;
    // Nothing but the doors may ask Stripe about the account.
    world.stripe.hold_events(true);
    let (browser, account) = (Browser::new(), new_account(&world));
    link(&world.api, &account, no_body()).await;
    let knock = door(&world, "refresh");
    let get = || browser.0.get(&knock);
    let looks = [
        (
            "a preview",
            get().header("user-agent", "Slackbot-LinkExpanding 1.0 (+https://api.slack.com/robots)"),
        ),
        ("a prefetch", get().header("sec-purpose", "prefetch;prerender")),
        ("an older prefetch", get().header("x-moz", "prefetch")),
    ];
    for (what, request) in looks {
        let page = ask(request).await;
        must_be_a_page(&page, 200, "<a href=\"refresh\"");
        assert_eq!(links_made(&world).len(), 1, "{what}");
    }
    let head = ask(browser.0.request(Method::HEAD, &knock)).await;
    assert_eq!((head.status, &head.body), (StatusCode::OK.as_u16(), &json!("")));
    must_be_unseen(&head);
    let asked = world.asked(&format!("/v1/accounts/{account}")).len();
    must_be_a_page(
        &ask(browser.0.get(door(&world, "return")).header("purpose", "prefetch")).await,
        200,
        "Continue",
    );
    assert_eq!(world.asked(&format!("/v1/accounts/{account}")).len(), asked, "nor is Stripe asked");
    assert_eq!(links_made(&world).len(), 1);
    // The button leads to the same address, and then a person stands there.
    let there = url::Url::parse(&knock).unwrap().join("refresh").unwrap();
    assert_eq!(there.as_str(), knock);
    sent_to(&browser.get(&knock).await);
    assert_eq!(links_made(&world).len(), 2);
}

#[tokio::test]
async fn a_door_that_got_into_the_wrong_hands_makes_few_links() {
    let world = World::start().await;
    let (browser, account, other) = (Browser::new(), new_account(&world), new_account(&world));
    link(&world.api, &account, no_body()).await;
    let knock = door(&world, "refresh");
    for _ in 0..6 {
        sent_to(&browser.get(&knock).await);
    }
    for _ in 0..5 {
        let reply = browser.get(&knock).await;
        must_be_a_page(&reply, 429, "Wait a minute");
        assert_eq!(reply.header("retry-after"), "60");
    }
    assert_eq!(links_made(&world).len(), 7);
    link(&world.api, &other, no_body()).await;
    sent_to(&browser.get(&door(&world, "refresh")).await);
    world.clock.advance(Duration::minutes(1));
    sent_to(&browser.get(&knock).await);
}

#[tokio::test]
async fn an_account_that_no_link_helps_is_told_so_and_not_led_in_a_circle() {
    let world = World::start().await;
    let browser = Browser::new();
    let rejected = AccountChange {
        requirements: Some(json!({"disabled_reason": "rejected.fraud"})),
        ..AccountChange::default()
    };
    let account = new_account(&world);
    link(&world.api, &account, no_body()).await;
    let knock = door(&world, "refresh");
    world.stripe.change_account(&account, &rejected).unwrap();
    let path = format!("/v1/accounts/{account}/readiness");
    world.api.until(&path, |r| r["reasons"][0] == "account_blocked").await;
    must_be_a_page(&browser.get(&knock).await, 403, "ask the company that sent you");
    assert_eq!(links_made(&world).len(), 1);
    // What is known may be old: Stripe is asked before anybody is turned away.
    world.stripe.hold_events(true);
    let cleared =
        AccountChange { requirements: Some(json!({"disabled_reason": null})), ..AccountChange::default() };
    world.stripe.change_account(&account, &cleared).unwrap();
    sent_to(&browser.get(&knock).await);

    let gone = new_account(&world);
    link(&world.api, &gone, no_body()).await;
    let knock = door(&world, "refresh");
    world.stripe.deny(&gone, true).unwrap();
    for _ in 0..2 {
        must_be_a_page(&browser.get(&knock).await, 403, "ask the company that sent you");
    }
}

#[tokio::test]
async fn a_token_opens_its_own_door_for_a_week_and_nothing_else() {
    let world = World::start().await;
    let (browser, account) = (Browser::new(), new_account(&world));
    link(&world.api, &account, no_body()).await;
    let (refresh, back) = (door(&world, "refresh"), door(&world, "return"));
    let exchanged = refresh.replace("/refresh", "/return");
    must_be_a_page(&browser.get(&exchanged).await, 404, "does not work");
    must_be_a_page(&browser.get(&back.replace("/return", "/refresh")).await, 404, "does not work");
    let half = &refresh[..refresh.len() - "/refresh".len() - 3];
    for odd in [
        format!("{half}/refresh"),
        world.api.url("/onboarding/1.e30.AA/return"),
        world.api.url("/onboarding/x/refresh"),
    ] {
        let page = browser.get(&odd).await;
        must_be_a_page(&page, 404, "does not work");
        assert!(!page.body.as_str().unwrap().contains(&account));
    }
    assert_eq!(ask(browser.0.post(&refresh)).await.status, 405);
    assert_eq!(links_made(&world).len(), 1);

    // Another key seals from now on; the old one opens what it sealed until it is retired.
    let rotate = "insert into door_keys (secret, created_at)
        values (sha256(convert_to(gen_random_uuid()::text, 'utf8')), now())";
    sqlx::raw_sql(rotate).execute(world.pool()).await.unwrap();
    sent_to(&browser.get(&refresh).await);
    must_be_a_page(&browser.get(&back).await, 200, "missing");
    let (newer, newer_back) = (door(&world, "refresh"), door(&world, "return"));
    assert_ne!(newer, refresh);
    sqlx::raw_sql("update door_keys set retired_at = now() where id = 1")
        .execute(world.pool())
        .await
        .unwrap();
    must_be_a_page(&browser.get(&back).await, 404, "does not work");

    world.clock.advance(Duration::days(7) - Duration::minutes(1));
    sent_to(&browser.get(&newer).await);
    world.clock.advance(Duration::minutes(2));
    must_be_a_page(&browser.get(&newer).await, 410, "has ended");
    must_be_a_page(&browser.get(&newer_back).await, 410, "has ended");
    must_be_a_page(&browser.get(&door(&world, "refresh")).await, 410, "has ended");
}

#[tokio::test]
async fn the_doors_are_on_the_public_address_and_the_calls_are_not() {
    let mut world = World::with(|setting| {
        setting.plan.ops_listen = Some("127.0.0.1:0".parse().unwrap());
        setting.plan.public_url = Some("https://pay.example.com".to_owned());
    })
    .await;
    let account = new_account(&world);
    let public = world.api.clone();
    let call = ask_elsewhere(public.http.post(public.url("/v1/accounts")).json(&json!({}))).await;
    assert_eq!(call.status, 404, "the public side has no API");
    world.api.base = world.ops_url();
    link(&world.api, &account, no_body()).await;
    let knock = door(&world, "refresh").replace("https://pay.example.com", &public.base);
    let browser = Browser::new();
    sent_to(&browser.get(&knock).await);
    let inside = ask_elsewhere(browser.0.get(knock.replace(&public.base, &world.api.base))).await;
    assert_eq!(inside.status, 404, "and the operations' side no doors");
}
