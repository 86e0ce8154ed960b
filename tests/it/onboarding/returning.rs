//! Steps 3 and 5 of the guide: people come back, finished or not.

use serde_json::json;
use sluicegate::sandbox::{AccountChange, Fault, FaultKind};
use time::Duration;

use super::{Browser, door, link, must_be_a_page, new_account, no_body, sent_to, shown};
use crate::support::world::World;

#[tokio::test]
async fn the_return_door_asks_stripe_and_sends_the_person_on_with_what_is_true() {
    let world = World::start().await;
    // No event tells that the person finished: the door asks.
    world.stripe.hold_events(true);
    let (browser, account) = (Browser::new(), new_account(&world));
    let body = json!({"return_url": "https://app.example.com/pay?tab=2&ready=no#top"});
    let url = link(&world.api, &account, body).await;
    assert_eq!(browser.get(&url).await.status, 200);
    let back = browser.press(&url, "finish").await;
    assert_eq!(back, door(&world, "return"));
    for visit in 0..2 {
        let reply = browser.get(&back).await;
        let expected = format!("https://app.example.com/pay?tab=2&account={account}&ready=true#top");
        assert_eq!(sent_to(&reply), expected, "visit {visit}");
        assert_eq!(world.asked(&format!("/v1/accounts/{account}")).len(), visit + 1);
    }
    assert_eq!(shown(&world, &account).await["ready"], json!(true));
    world.assert_books_hold().await;
}

#[tokio::test]
async fn who_comes_back_without_having_finished_is_told_and_gets_another_link() {
    let world = World::start().await;
    let (browser, account) = (Browser::new(), new_account(&world));
    let url = link(&world.api, &account, json!({"return_url": "https://app.example.com/"})).await;
    browser.get(&url).await;
    let back = browser.press(&url, "leave").await;
    let reply = browser.get(&back).await;
    assert_eq!(sent_to(&reply), format!("https://app.example.com/?account={account}&ready=false"));
    let shown = shown(&world, &account).await;
    assert_eq!(shown["reasons"][0], "details_not_submitted");
    let next = &shown["next_step"];
    assert_eq!((&next["action"], &next["deadline"]), (&json!("onboarding_link"), &json!(null)));
    assert_eq!(next["fields"], shown["requirements"]["currently_due"]);
    assert!(next["detail"].as_str().unwrap().contains("onboarding link"), "{next}");

    // The second time round they do.
    let url = link(&world.api, &account, no_body()).await;
    browser.get(&url).await;
    let back = browser.press(&url, "finish").await;
    must_be_a_page(&browser.get(&back).await, 200, "You are all set");
    assert_eq!(super::shown(&world, &account).await["next_step"]["action"], "none");
}

#[tokio::test]
async fn without_a_page_of_the_callers_the_person_is_told_in_plain_words() {
    let world = World::start().await;
    let (browser, account) = (Browser::new(), new_account(&world));
    link(&world.api, &account, no_body()).await;
    let back = door(&world, "return");
    must_be_a_page(&browser.get(&back).await, 200, "Some details are still missing");
    let verifying = AccountChange {
        details_submitted: Some(true),
        transfers: Some("pending".to_owned()),
        requirements: Some(json!({"currently_due": [], "past_due": [], "eventually_due": [],
            "pending_verification": ["individual.verification.document"],
            "disabled_reason": "requirements.pending_verification"})),
        ..AccountChange::default()
    };
    world.stripe.change_account(&account, &verifying).unwrap();
    must_be_a_page(&browser.get(&back).await, 200, "Stripe is checking your details");
    world.stripe.change_account(&account, &AccountChange::ready()).unwrap();
    must_be_a_page(&browser.get(&back).await, 200, "You are all set");
    let text = browser.get(&back).await.body;
    assert!(!text.as_str().unwrap().contains(&account), "nothing about the account: {text}");
}

#[tokio::test]
async fn while_stripe_is_away_the_person_goes_on_with_what_was_last_known() {
    let world = World::start().await;
    let (browser, account) = (Browser::new(), world.ready_account().await);
    link(&world.api, &account, json!({"return_url": "https://app.example.com/"})).await;
    let back = door(&world, "return");
    let away = Fault::next(FaultKind::UnavailableBeforeCommit).on("GET", "/v1/accounts").times(None);
    world.stripe.fault(away);
    let reply = browser.get(&back).await;
    let expected = format!("https://app.example.com/?account={account}&ready=true&confirmed=false");
    assert_eq!(sent_to(&reply), expected);

    let stranger = new_account(&world);
    link(&world.api, &stranger, no_body()).await;
    must_be_a_page(&browser.get(&door(&world, "return")).await, 200, "We could not ask Stripe");
    world.stripe.clear_faults();
    let reply = browser.get(&back).await;
    assert_eq!(sent_to(&reply), format!("https://app.example.com/?account={account}&ready=true"));
}

#[tokio::test]
async fn a_door_that_is_knocked_at_all_day_does_not_hammer_stripe() {
    let world = World::start().await;
    let (browser, account) = (Browser::new(), world.ready_account().await);
    link(&world.api, &account, json!({"return_url": "https://app.example.com/"})).await;
    let back = door(&world, "return");
    let before = world.asked(&format!("/v1/accounts/{account}")).len();
    let mut last = String::new();
    for _ in 0..20 {
        last = sent_to(&browser.get(&back).await).to_owned();
    }
    let asked = || world.asked(&format!("/v1/accounts/{account}")).len() - before;
    assert_eq!(asked(), 6);
    assert!(last.ends_with("ready=true&confirmed=false"), "{last}");
    world.clock.advance(Duration::minutes(1));
    assert!(sent_to(&browser.get(&back).await).ends_with("ready=true"));
    assert_eq!(asked(), 7);
}
