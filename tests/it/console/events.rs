//! What Stripe told, at the console: as it came, tried again, and applied once more.

use serde_json::json;
use time::Duration;

use super::{audited, key};
use crate::support::browser::Browser;
use crate::support::events::{about_account, about_topup, id_of};
use crate::support::world::{ADMIN_KEY, World, eventually};

#[tokio::test]
async fn an_event_is_shown_as_it_came_to_whoever_may_operate_with_its_signature_tried_again() {
    let world = World::start().await;
    let event = about_account("account.updated.03_ready_transfers_only", "acct_1", world.second());
    world.tell(&event).await;
    world.until_settled(&event).await;
    let path = format!("/console/events/{}", id_of(&event));
    let operator = Browser::signed_in(&world.api.base, &key(&world, "operate").await.0).await;
    let page = operator.get(&path).await;
    page.must_say("account.updated").must_say("Took effect").must_say("Signature fits");
    page.must_say("href=\"/console/accounts/acct_1\"")
        .must_say("&#34;object&#34;")
        .must_say("details_submitted");
    let reader = Browser::signed_in(&world.api.base, &key(&world, "read").await.0).await;
    let page = reader.get(&path).await;
    page.must_say("Signature fits").must_say("personal data").must_not_say("details_submitted");
    page.must_not_say(&format!("{path}/replay"));
    assert_eq!(reader.get(&format!("{path}/replay")).await.status, 403);
    assert_eq!(operator.get(&format!("/console/search?q={}", id_of(&event))).await.leads_to(), path);
    assert_eq!(operator.get("/console/events/evt_unknown").await.status, 404);
    sqlx::raw_sql("alter table outbox disable trigger user").execute(world.pool()).await.unwrap();
    sqlx::query("update outbox set payload = payload || ' ' where event_id = $1")
        .bind(id_of(&event))
        .execute(world.pool())
        .await
        .unwrap();
    operator.get(&path).await.must_say("Signature does not fit");
}

#[tokio::test]
async fn events_are_filtered_and_lead_to_whom_they_are_about() {
    let world = World::start().await;
    let processed = about_account("account.updated.03_ready_transfers_only", "acct_1", world.second());
    let ignored = about_account("person.updated", "acct_2", world.second());
    for event in [&processed, &ignored] {
        world.tell(event).await;
        world.until_settled(event).await;
    }
    let admin = Browser::signed_in(&world.api.base, ADMIN_KEY).await;
    for (query, shown, hidden) in [
        ("status=ignored&type=&account=", &ignored, &processed),
        ("type=account.updated", &processed, &ignored),
        ("account=acct_1", &processed, &ignored),
    ] {
        let page = admin.get(&format!("/console/events?{query}")).await;
        page.must_say(id_of(shown)).must_not_say(id_of(hidden));
    }
    let page = admin.get(&format!("/console/events/{}", id_of(&ignored))).await;
    page.must_say("Nothing is done with it").must_not_say("/replay");
    let refused = admin.press(&format!("/console/events/{}/replay", id_of(&ignored)), &[]).await;
    assert_eq!(refused.status, 409, "{}", refused.text);
    assert_eq!(admin.get("/console/events?status=odd").await.status, 422);
}

#[tokio::test]
async fn a_dead_letter_is_raised_by_a_button_and_that_is_on_record() {
    let world = World::start().await;
    let admin = Browser::signed_in(&world.api.base, ADMIN_KEY).await;
    admin.get("/console/dead-letters").await.must_say("There is none.");
    let event = about_topup("topup.succeeded", "nonsense", world.second());
    world.tell(&event).await;
    let died = || async {
        let shown = world.event(&event).await;
        world.clock.advance(Duration::seconds(5));
        (shown["status"] == json!("failed")).then_some(())
    };
    eventually(died).await.expect("it is given up");
    let (id, path) = (id_of(&event), format!("/console/events/{}/replay", id_of(&event)));
    admin.get("/console/dead-letters").await.must_say(id).must_say(&path).must_say("top-up");
    admin
        .get(&format!("/console/events/{id}"))
        .await
        .must_say("Dead letter")
        .must_say("could not be applied");
    let done = admin.press(&path, &[]).await;
    assert_eq!(done.leads_to(), format!("/console/events/{id}?done=replay"));
    admin.get(done.leads_to()).await.must_say("Handed in again.").must_say("data-unsettled");
    assert_eq!(audited(&world, id).await, [("admin".to_owned(), "event.replayed".to_owned())]);
    eventually(died).await.expect("it is given up again: it is nonsense still");
    admin.get(done.leads_to()).await.must_say("Dead letter").must_not_say("data-unsettled");
}
