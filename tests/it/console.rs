//! The console: who gets in, how far, and what its pages and buttons do. Over real HTTP, with a cookie.

mod events;
mod export;
mod keys;
mod money_in;
mod signing_in;
mod transfers;

use reqwest::Method;
use serde_json::json;

use crate::reversals::{reverse, until_reversal};
use crate::support::browser::Browser;
use crate::support::world::{ADMIN_KEY, World};

/// A key of this scope, and its id.
async fn key(world: &World, scope: &str) -> (String, String) {
    let (status, made) = world.api.post("/v1/keys", scope, &json!({"name": scope, "scope": scope})).await;
    assert_eq!(status, 201, "{made}");
    (made["secret"].as_str().unwrap().to_owned(), made["id"].as_str().unwrap().to_owned())
}

/// The actions about a subject in the audit log, in order, with who did them.
async fn audited(world: &World, subject: &str) -> Vec<(String, String)> {
    sqlx::query_as("select actor, action from audit_log where subject = $1 order by id")
        .bind(subject)
        .fetch_all(world.pool())
        .await
        .unwrap()
}

#[tokio::test]
async fn every_answer_keeps_the_browser_from_loading_showing_or_keeping_anything_else() {
    let world = World::start().await;
    let admin = Browser::signed_in(&world.api.base, ADMIN_KEY).await;
    let account = world.ready_account().await;
    let transfer = world.transfer(&account, 100, json!({})).await;
    let one = format!("/console/transfers/{transfer}");
    let nobody = Browser::new(&world.api.base);
    let mut pages = vec![nobody.get("/console").await, nobody.get("/console/sign-in").await];
    for path in [
        "/console",
        "/console/",
        "/console/transfers",
        one.as_str(),
        &format!("{one}/hold"),
        "/console/releases/pause",
        "/console/search?q=nothing",
        "/console/nowhere",
        "/console/transfers?status=odd",
        "/console/transfers/xfer_0",
        "/console/assets/console.css",
        "/console/assets/console.js",
        "/console/assets/icon.svg",
    ] {
        let page = admin.get(path).await;
        let status = match path {
            "/console/search?q=nothing" | "/console/nowhere" | "/console/transfers/xfer_0" => 404,
            "/console/transfers?status=odd" => 422,
            _ => 200,
        };
        assert_eq!(page.status, status, "{path}: {}", page.text);
        for outside in ["http://", "https://", "style=", "onclick", "javascript:"] {
            let svg = path.ends_with(".svg");
            assert!(svg || !page.text.contains(outside), "{path} has {outside}");
        }
        pages.push(page);
    }
    for page in pages {
        let policy = page.header("content-security-policy");
        assert!(policy.starts_with("default-src 'none';") && policy.contains("frame-ancestors 'none'"));
        assert!(!policy.contains("unsafe") && policy.contains("form-action 'self'"), "{policy}");
        assert_eq!(page.header("x-content-type-options"), "nosniff");
        assert_eq!(page.header("x-frame-options"), "DENY");
        assert_eq!(page.header("referrer-policy"), "same-origin");
        let kept = page.header("cache-control");
        let asset = !page.header("content-type").starts_with("text/html") && page.status == 200;
        assert_eq!(kept, if asset { "public, max-age=300" } else { "no-store" });
    }
}

#[tokio::test]
async fn the_console_stands_beside_the_api_and_is_no_part_of_its_document() {
    let apart = World::with(|setting| setting.plan.ops_listen = Some("127.0.0.1:0".parse().unwrap())).await;
    assert_eq!(Browser::new(&apart.api.base).get("/console").await.status, 404, "the door to the outside");
    let inside = Browser::new(&apart.ops_url()).get("/console").await;
    assert_eq!(inside.leads_to(), "/console/sign-in?next=%2Fconsole");
    let without = World::with(|setting| setting.plan.roles.console = false).await;
    assert_eq!(Browser::new(&without.api.base).get("/console").await.status, 404);
    let document = without.api.get("/openapi.json").await.1;
    assert!(!document.to_string().contains("/console"));
}

#[tokio::test]
async fn the_overview_shows_the_money_what_waits_and_what_is_to_come() {
    let world = World::start().await;
    let admin = Browser::signed_in(&world.api.base, ADMIN_KEY).await;
    admin.get("/console").await.must_say("No money has been added yet.").must_say("Nothing waits.");
    world.settled_topup("usd", 1_234_550).await;
    world.settled_topup("jpy", 5_000).await;
    let account = world.ready_account().await;
    let large = world.transfer(&account, 9_000_000, json!({})).await;
    world.until_waiting_on(&large, &["funds_insufficient"]).await;
    let page = admin.get("/console").await;
    page.must_say("12,345.50 USD").must_say("5,000 JPY").must_say("no settled money is left for it");
    page.must_say("90,000.00 USD").must_say("What arrives and what will be missing, USD");
    page.must_say("77,654.50 USD").must_say("money is added and settles");
}

#[tokio::test]
async fn releases_are_paused_and_go_on_by_a_button_that_asks_first() {
    let world = World::start().await;
    let admin = Browser::signed_in(&world.api.base, ADMIN_KEY).await;
    let done = admin.press("/console/releases/pause", &[("reason", "audit day")]).await;
    assert_eq!(done.leads_to(), "/console?done=paused");
    let page = admin.get(done.leads_to()).await;
    page.must_say("All releases are paused.").must_say("audit day").must_say("Resume releases");
    let account = world.ready_account().await;
    world.settled_topup("usd", 1_000).await;
    let transfer = world.transfer(&account, 100, json!({})).await;
    world.until_waiting_on(&transfer, &["releases_paused"]).await;
    assert_eq!(admin.press("/console/releases/resume", &[]).await.leads_to(), "/console?done=resumed");
    world.until_status(&transfer, "released").await;
    let rows = audited(&world, "releases").await;
    let expected = ["releases.paused", "releases.resumed"];
    assert_eq!(rows, expected.map(|action| ("admin".to_owned(), action.to_owned())));
}

#[tokio::test]
async fn any_id_leads_to_its_page() {
    let world = World::start().await;
    let reader = Browser::signed_in(&world.api.base, &key(&world, "read").await.0).await;
    let account = world.ready_account().await;
    world.settled_topup("usd", 1_000).await;
    let transfer = world.transfer(&account, 100, json!({})).await;
    let released = world.until_status(&transfer, "released").await;
    let page = format!("/console/transfers/{transfer}");
    assert_eq!(reverse(&world.api, &transfer, json!({"amount": 10})).await.0, 200);
    let shown = until_reversal(&world, &transfer, "reversed").await;
    let reversal = &shown["reversals"][0];
    let at_stripe = reversal["stripe_reversal"].as_str().unwrap();
    let ids = [&transfer, released["stripe_transfer"].as_str().unwrap(), at_stripe];
    for id in ids.into_iter().chain(reversal["id"].as_str()) {
        let found = reader.get(&format!("/console/search?q=%20{id}%20")).await;
        assert_eq!(found.leads_to(), page, "{id}");
    }
    for unknown in ["tr_0", "trr_0", "xrev_0"] {
        assert_eq!(reader.get(&format!("/console/search?q={unknown}")).await.status, 404, "{unknown}");
    }
    assert_eq!(reader.get("/console/search").await.status, 404);
}

#[tokio::test]
async fn changes_are_told_to_whoever_is_signed_in() {
    let world = World::start().await;
    let reader = Browser::signed_in(&world.api.base, &key(&world, "read").await.0).await;
    let request = reader.request(Method::GET, "/console/stream").header("Accept", "text/event-stream");
    let mut stream = request.send().await.unwrap();
    assert_eq!(stream.headers()["content-type"], "text/event-stream");
    let account = world.ready_account().await;
    let transfer = world.transfer(&account, 100, json!({})).await;
    let mut heard = String::new();
    while !(heard.contains("event: transfer") && heard.contains(&transfer)) {
        let chunk = stream.chunk().await.unwrap().expect("the stream goes on");
        heard.push_str(&String::from_utf8_lossy(&chunk));
    }
    let nobody = Browser::new(&world.api.base).get("/console/stream").await;
    assert_eq!(nobody.leads_to(), "/console/sign-in?next=%2Fconsole%2Fstream");
}
