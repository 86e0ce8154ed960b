//! In and out of the console.

use reqwest::Method;
use serde_json::{Value, json};
use sluicegate::domain::network::Network;
use sqlx::types::time::OffsetDateTime;
use time::Duration;

use super::{audited, key};
use crate::support::browser::{Browser, filled};
use crate::support::world::{ADMIN_KEY, World};

#[tokio::test]
async fn a_key_is_exchanged_for_a_cookie_that_scripts_can_not_read() {
    let world = World::start().await;
    let browser = Browser::new(&world.api.base);
    let sent = browser.get("/console/transfers?status=waiting").await;
    assert_eq!(sent.leads_to(), "/console/sign-in?next=%2Fconsole%2Ftransfers%3Fstatus%3Dwaiting");
    let asked = browser.get(sent.leads_to()).await;
    let before = browser.cookie();
    let (mark, next) = (asked.hidden("mark"), asked.hidden("next"));
    let form = [("mark", mark.as_str()), ("key", ADMIN_KEY), ("next", next.as_str())];
    let entered = browser.post("/console/sign-in", &form).await;
    assert_eq!(entered.leads_to(), "/console/transfers?status=waiting");
    let set = entered.header("set-cookie");
    for part in ["sluicegate_console=", "; HttpOnly", "; SameSite=Lax", "; Path=/console", "; Max-Age=43200"]
    {
        assert!(set.contains(part), "{part}: {set}");
    }
    assert!(!set.contains("Secure"), "there is no TLS here");
    assert_ne!(browser.cookie(), before, "nobody is known by what they brought along");
    assert_eq!(browser.get("/console/transfers").await.status, 200);
    assert_eq!(browser.get("/console/sign-in").await.leads_to(), "/console", "who is in is asked no more");
    let kept: (Vec<u8>, Option<String>, Vec<u8>) =
        sqlx::query_as("select token_hash, key, admin_seal from console_sessions")
            .fetch_one(world.pool())
            .await
            .unwrap();
    let token = browser.cookie().unwrap().split_once('=').unwrap().1.to_owned();
    for secret in [hex::decode(&token).unwrap(), sha(ADMIN_KEY)] {
        assert!(kept.0 != secret && kept.2 != secret, "no secret is kept, nor the key's hash");
    }
    assert_eq!(audited(&world, "console").await, [("admin".to_owned(), "console.signed_in".to_owned())]);
}

fn sha(text: &str) -> Vec<u8> {
    use sha2::{Digest, Sha256};
    Sha256::digest(text.as_bytes()).to_vec()
}

#[tokio::test]
async fn the_cookie_is_kept_to_tls_where_the_browser_came_by_it() {
    let world = World::with(|setting| setting.plan.public_url = Some("https://pay.example.com".into())).await;
    let browser = Browser::new(&world.api.base);
    let mark = browser.get("/console/sign-in").await.hidden("mark");
    let request =
        browser.request(Method::POST, "/console/sign-in").header("Origin", "https://pay.example.com");
    let entered = browser.send(filled(request, &[("mark", &mark), ("key", ADMIN_KEY)])).await;
    let set = entered.header("set-cookie");
    assert!(
        set.starts_with("__Host-sluicegate=") && set.contains("; Path=/;") && set.contains("; Secure"),
        "{set}"
    );
    assert_eq!(browser.get("/console").await.status, 200);
}

#[tokio::test]
async fn a_session_ends_with_its_key_with_the_hour_with_the_day_and_on_leaving() {
    let world = World::start().await;
    let (secret, id) = key(&world, "operate").await;
    let start = || Browser::signed_in(&world.api.base, &secret);
    let is_in = async |browser: &Browser| match browser.get("/console").await.status {
        200 => true,
        303 => false,
        other => panic!("{other}"),
    };

    let idle = start().await;
    world.clock.advance(Duration::seconds(59 * 60));
    assert!(is_in(&idle).await, "this is use");
    world.clock.advance(Duration::seconds(59 * 60));
    assert!(is_in(&idle).await);
    world.clock.advance(Duration::seconds(30 * 60));
    let live = idle.request(Method::GET, "/console").header("x-sluicegate-live", "1");
    assert_eq!(idle.send(live).await.status, 200, "a page that keeps itself up to date");
    world.clock.advance(Duration::seconds(30 * 60));
    assert!(!is_in(&idle).await, "is not use");
    let live = idle.request(Method::GET, "/console").header("x-sluicegate-live", "1");
    assert_eq!(idle.send(live).await.status, 401);

    let busy = start().await;
    for _ in 0..15 {
        world.clock.advance(Duration::seconds(47 * 60));
        assert!(is_in(&busy).await);
    }
    world.clock.advance(Duration::seconds(30 * 60));
    assert!(!is_in(&busy).await, "twelve hours have passed");

    let leaving = start().await;
    let cookie = leaving.cookie();
    let mark = leaving.get("/console").await.hidden("mark");
    assert_eq!(leaving.post("/console/sign-out", &[("mark", &mark)]).await.leads_to(), "/console/sign-in");
    assert_eq!(leaving.cookie(), None);
    leaving.keep(cookie);
    assert!(!is_in(&leaving).await, "the session is gone, not only the cookie");

    let revoked = start().await;
    assert!(is_in(&revoked).await);
    assert_eq!(world.api.delete(&format!("/v1/keys/{id}")).await.0, 200);
    assert!(!is_in(&revoked).await);
    let actions: Vec<String> =
        audited(&world, "console").await.into_iter().map(|(_, action)| action).collect();
    assert_eq!(actions.iter().filter(|action| *action == "console.signed_out").count(), 1);
}

#[tokio::test]
async fn another_bootstrap_key_ends_the_sessions_of_the_old_one() {
    let mut world = World::start().await;
    let admin = Browser::signed_in(&world.api.base, ADMIN_KEY).await;
    world.stop_service().await;
    world.start_service().await;
    assert_eq!(admin.get("/console").await.status, 200, "a restart ends no session");
    world.stop_service().await;
    world.plan.admin_key = Some("another-admin-key-of-32-characters-or-more".to_owned().into());
    world.start_service().await;
    assert_eq!(admin.get("/console").await.status, 303);
}

#[tokio::test]
async fn whoever_guesses_keys_is_told_to_wait_and_leaves_a_row() {
    let world = World::start().await;
    let browser = Browser::new(&world.api.base);
    for _ in 0..5 {
        let page = browser.sign_in("sgk_guess").await;
        assert_eq!(page.status, 401);
        page.must_say("This key is unknown or was revoked.").must_not_say("sgk_guess");
    }
    let page = browser.sign_in(ADMIN_KEY).await;
    assert_eq!((page.status, page.header("retry-after")), (429, "60"));
    page.must_say("Wait a minute");
    world.clock.advance(Duration::seconds(60));
    assert_eq!(browser.sign_in("sgk_guess").await.status, 401);
    assert_eq!(browser.sign_in(ADMIN_KEY).await.leads_to(), "/console");
    let rows: Vec<(String, String)> =
        sqlx::query_as("select action, details from audit_log where subject = 'console' order by id")
            .fetch_all(world.pool())
            .await
            .unwrap();
    let details: Vec<Value> =
        rows.iter().map(|(_, details)| serde_json::from_str(details).unwrap()).collect();
    let failed = |n: u64| json!({"cause": "unknown", "from": "127.0.0.1", "not_recorded_before": n});
    assert_eq!(details[..2], [failed(0), failed(4)], "one row a minute, which counts the others");
    assert_eq!(rows[2].0, "console.signed_in");
}

#[tokio::test]
async fn a_crowd_of_strangers_keeps_no_operator_out_and_fills_no_log() {
    let world = World::with(|setting| {
        setting.plan.serving.proxies = [Network::parse("127.0.0.0/8").unwrap()].into();
    })
    .await;
    let browser = Browser::new(&world.api.base);
    let mark = browser.get("/console/sign-in").await.hidden("mark");
    let enter = async |from: String, key: &str| {
        let request = browser.request(Method::POST, "/console/sign-in").header("Origin", &world.api.base);
        let request = request.header("X-Forwarded-For", from);
        browser.send(filled(request, &[("mark", &mark), ("key", key)])).await
    };
    for n in 0..70 {
        assert_eq!(enter(format!("198.51.100.{n}"), "sgk_guess").await.status, 401);
    }
    assert_eq!(enter("198.51.100.1".to_owned(), ADMIN_KEY).await.status, 429, "one attempt each");
    assert_eq!(enter("192.0.2.1".to_owned(), ADMIN_KEY).await.leads_to(), "/console");
    let rows = audited(&world, "console").await;
    let failed = rows.iter().filter(|(_, action)| action == "console.sign_in_failed").count();
    assert_eq!((failed, rows.len()), (61, 62), "beyond sixty, one row stands for all");
}

#[tokio::test]
async fn a_form_of_another_site_or_another_session_does_nothing() {
    let world = World::start().await;
    let admin = Browser::signed_in(&world.api.base, ADMIN_KEY).await;
    let other = Browser::signed_in(&world.api.base, ADMIN_KEY).await;
    let path = "/console/releases/pause";
    let (mark, foreign) = (admin.get(path).await.hidden("mark"), other.get(path).await.hidden("mark"));
    let base = world.api.base.as_str();
    for (what, origin, site, mark) in [
        ("no mark", Some(base), None, ""),
        ("another session's mark", Some(base), None, foreign.as_str()),
        ("another site", Some("https://evil.example"), None, mark.as_str()),
        ("another site, by what browsers say", Some(base), Some("cross-site"), mark.as_str()),
        ("an origin that is hidden", Some("null"), None, mark.as_str()),
        ("no origin", None, None, mark.as_str()),
    ] {
        let mut request = admin.request(Method::POST, path);
        for (name, value) in [("Origin", origin), ("Sec-Fetch-Site", site)] {
            if let Some(value) = value {
                request = request.header(name, value);
            }
        }
        let page = admin.send(filled(request, &[("mark", mark)])).await;
        assert_eq!(page.status, 403, "{what}");
        page.must_say("nothing was done");
    }
    assert_eq!(audited(&world, "releases").await, []);
    assert_eq!(admin.post(path, &[("mark", &mark)]).await.status, 303, "the form itself is good");
    let stranger = Browser::new(&world.api.base);
    let page = stranger.post("/console/sign-in", &[("mark", &mark), ("key", ADMIN_KEY)]).await;
    assert_eq!(page.status, 403, "nor is anybody signed in by another site");
}

#[tokio::test]
async fn nobody_is_led_elsewhere_after_signing_in() {
    let world = World::start().await;
    for next in ["https://evil.example", "//evil.example", "/v1/keys", "/console/sign-in"] {
        let browser = Browser::new(&world.api.base);
        let query = url::form_urlencoded::byte_serialize(next.as_bytes()).collect::<String>();
        let asked = browser.get(&format!("/console/sign-in?next={query}")).await;
        assert_eq!(asked.hidden("next"), "/console");
        let form = [("mark", &*asked.hidden("mark")), ("key", ADMIN_KEY), ("next", next)];
        assert_eq!(browser.post("/console/sign-in", &form).await.leads_to(), "/console");
    }
}

#[tokio::test]
async fn a_session_that_is_over_leaves_no_row_for_long() {
    let world = World::start().await;
    Browser::signed_in(&world.api.base, ADMIN_KEY).await;
    world.clock.advance(Duration::seconds(13 * 60 * 60));
    Browser::signed_in(&world.api.base, ADMIN_KEY).await;
    let ends: Vec<OffsetDateTime> =
        sqlx::query_scalar("select ends_at from console_sessions").fetch_all(world.pool()).await.unwrap();
    assert_eq!(ends.len(), 1);
    assert!(ends[0] - world.clock.now() > Duration::hours(11));
}
