//! Accounts and top-ups at the console, and how the intake goes.

use serde_json::json;
use sluicegate::sandbox::AccountSpec;
use sluicegate::store::pulses;
use time::Duration;

use super::{audited, key};
use crate::support::browser::Browser;
use crate::support::world::{World, eventually};

#[tokio::test]
async fn an_account_says_why_it_may_not_be_paid_and_what_to_do() {
    let world = World::start().await;
    let (secret, id) = key(&world, "operate").await;
    let operator = Browser::signed_in(&world.api.base, &secret).await;
    let reader = Browser::signed_in(&world.api.base, &key(&world, "read").await.0).await;
    let account = world.stripe.create_account(AccountSpec::default());
    let path = format!("/console/accounts/{account}");
    let page =
        eventually(|| async { Some(operator.get(&path).await).filter(|page| page.status == 200) }).await;
    let page = page.expect("the account");
    page.must_say("Not ready").must_say("Onboarding is not finished").must_say("It goes on when the account");
    page.must_say("Next onboarding link").must_say("Onboarding finished");
    reader.get(&path).await.must_not_say("Next onboarding link");
    let made = operator.press(&format!("{path}/onboarding-link"), &[]).await;
    assert_eq!((made.status, made.header("cache-control")), (200, "no-store"));
    made.must_say("It is not shown again.").must_say("readonly value=\"http");
    let rows = audited(&world, &account).await;
    assert_eq!(rows, [(id, "onboarding_link.created".to_owned())]);
    assert_eq!(reader.get(&format!("{path}/onboarding-link")).await.status, 403);

    let ready = world.ready_account().await;
    let page = reader.get("/console/accounts?ready=true&reason=").await;
    page.must_say(&ready).must_say("May be paid").must_not_say(&account);
    let page = reader.get("/console/accounts?reason=details_not_submitted").await;
    page.must_say(&account).must_not_say(&ready);
    reader.get(&format!("/console/accounts/{ready}")).await.must_say("Nothing: it may be paid.");
    assert_eq!(reader.get("/console/accounts/acct_0").await.status, 404);
    assert_eq!(
        reader.get(&format!("/console/search?q={ready}")).await.leads_to(),
        format!("/console/accounts/{ready}")
    );
}

#[tokio::test]
async fn a_top_up_is_followed_from_created_to_settled() {
    let world = World::start().await;
    let reader = Browser::signed_in(&world.api.base, &key(&world, "read").await.0).await;
    let topup = world.settled_topup("jpy", 5_000).await;
    let page = reader.get(&format!("/console/topups/{topup}")).await;
    page.must_say("5,000 JPY").must_say("Money is there").must_say("The money is there and may be released.");
    let steps = page.text.split("From the order to the money").nth(1).unwrap();
    let place = |words: &str| steps.find(words).unwrap_or_else(|| panic!("{words:?} is not in {steps}"));
    assert!(place("he bank has paid") < place("ts money may be released"), "in the order in which it went");
    reader.get("/console/topups?settled=true&currency=jpy").await.must_say(&topup);
    reader.get("/console/topups?status=pending").await.must_say("No top-up fits.");
    assert_eq!(reader.get("/console/topups/tu_0").await.status, 404);
}

#[tokio::test]
async fn a_pending_top_up_is_called_off_by_a_button() {
    let world = World::start().await;
    let (secret, id) = key(&world, "operate").await;
    let operator = Browser::signed_in(&world.api.base, &secret).await;
    let body = json!({"amount": 700, "currency": "usd"});
    let (status, made) = world.api.post("/v1/topups", "t", &body).await;
    assert_eq!(status, 201, "{made}");
    let (topup, intent) = (made["id"].as_str().unwrap(), made["intent"].as_str().unwrap());
    let found = operator.get(&format!("/console/search?q={intent}")).await;
    let page = operator.get(found.leads_to()).await;
    let path = format!("/console/topups/{topup}");
    assert_eq!(page.leads_to(), path);
    operator.get(&path).await.must_say("Call it off").must_say("Asked of the bank");
    let done = operator.press(&format!("{path}/cancel"), &[("reason", "typo")]).await;
    assert_eq!(done.leads_to(), format!("{path}?done=cancel"));
    operator
        .get(done.leads_to())
        .await
        .must_say("The top-up was called off.")
        .must_not_say(&format!("{path}/cancel"));
    let rows = audited(&world, topup).await;
    assert!(rows.contains(&(id, "topup.cancel_requested".to_owned())), "{rows:?}");
    let late = operator.get(&format!("{path}/cancel")).await;
    let form = [("mark", &*late.hidden("mark")), ("once", &*late.hidden("once"))];
    assert_eq!(operator.post(&format!("{path}/cancel"), &form).await.status, 303, "it stays called off");
}

#[tokio::test]
async fn how_the_intake_goes_is_drawn_minute_by_minute() {
    let world = World::start().await;
    let reader = Browser::signed_in(&world.api.base, &key(&world, "read").await.0).await;
    let noted = eventually(|| async {
        let page = reader.get("/console").await;
        Some(page).filter(|page| page.text.contains("Events received, a minute"))
    });
    noted.await.expect("the first minute is noted at the start").must_say("Oldest event not yet worked off");
    world.ready_account().await;
    let before = world.clock.now();
    world.clock.advance(Duration::seconds(60));
    let (now, since) = (world.clock.now(), before - Duration::minutes(5));
    let mut conn = world.pool().acquire().await.unwrap();
    for _ in 0..2 {
        pulses::note_once(&mut conn, false, now.truncate_to_minute(), since, now).await.unwrap();
    }
    let (noted, minutes, up_to): (i64, i64, i64) =
        sqlx::query_as("select sum(events)::bigint, count(*), max(up_to_seq) from event_minutes")
            .fetch_one(world.pool())
            .await
            .unwrap();
    let received: i64 =
        sqlx::query_scalar("select count(*) from outbox where source = 'webhook' and seq <= $1")
            .bind(up_to)
            .fetch_one(world.pool())
            .await
            .unwrap();
    assert_eq!((noted, minutes), (received, 2), "each event is counted once");
    assert!(received > 0);
}
