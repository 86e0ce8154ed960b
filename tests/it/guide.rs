//! Stripe's guide "Pay out money", step by step and in its order: what a platform does from an account that nobody
//! has begun to money that is at a connected account. Each test is named after its step.
//!
//! The steps are held in full elsewhere (`onboarding`, `topups`, `funding`, `platform`, `corridors`); here each shows
//! the outcome that the guide is about.

use std::time::Duration;

use serde_json::{Value, json};
use sluicegate::sandbox::AccountSpec;

use crate::audit;
use crate::onboarding::{Browser, door, link, links_made, shown};
use crate::support::reply::ask_elsewhere;
use crate::support::world::{STRIPE_KEY, World};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const DONE: &str = "https://answers.example.com/payouts";

impl World {
    /// A writer's account, with what the platform knows of them.
    async fn writer(&self) -> String {
        let known = json!({
            "type": "express", "country": "US", "email": "jenny@example.com", "business_type": "individual",
            "individual": {"first_name": "Jenny", "last_name": "Rosen"},
            "business_profile": {"product_description": "answers questions"},
        });
        let (status, made) = self.api.post("/v1/accounts", "writer-7", &known).await;
        assert_eq!(status, 201, "{made}");
        made["account"].as_str().unwrap().to_owned()
    }

    /// An account as Stripe shows it to the platform.
    async fn account_at_stripe(&self, account: &str) -> Value {
        let url = format!("{}/v1/accounts/{account}", self.sandbox.url());
        let request = self.api.http.get(url).basic_auth(STRIPE_KEY, Some(""));
        ask_elsewhere(request.header("Stripe-Version", sluicegate::sandbox::API_VERSION)).await.body
    }

    /// Orders a top-up; the answer.
    async fn add_funds(&self, more: Value) -> Value {
        let mut body = json!({"amount": 200_000, "currency": "usd"});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let (status, made) = self.api.post("/v1/topups", &format!("add-{body}"), &body).await;
        assert_eq!(status, 201, "{made}");
        made
    }
}

/// Where the API shows a top-up.
fn of(topup: &Value) -> String {
    format!("/v1/topups/{}", topup["id"].as_str().unwrap())
}

/// A world whose bank takes five days to pay, and Stripe another to make the money available.
async fn with_a_slow_bank() -> World {
    World::with(|setting| {
        setting.stripe.settle_after = 5 * DAY;
        setting.stripe.available_after = DAY;
    })
    .await
}

#[tokio::test]
async fn connected_account_is_created_with_what_is_known() {
    let world = World::start().await;
    let account = world.writer().await;
    let at_stripe = world.account_at_stripe(&account).await;
    assert_eq!(
        (&at_stripe["type"], &at_stripe["email"], &at_stripe["country"]),
        (&json!("express"), &json!("jenny@example.com"), &json!("US"))
    );
    assert_eq!(at_stripe["individual"]["last_name"], json!("Rosen"), "prefilled, for its holder to confirm");
    assert_eq!(world.writer().await, account, "asked for again, it is the same account");
    let shown = shown(&world, &account).await;
    assert_eq!((&shown["ready"], &shown["next_step"]["action"]), (&json!(false), &json!("onboarding_link")));
}

#[tokio::test]
async fn account_link_opens_once_and_is_kept_nowhere() {
    let world = World::start().await;
    let (browser, account) = (Browser::new(), world.writer().await);
    let url = link(&world.api, &account, json!({"return_url": DONE})).await;
    let again = link(&world.api, &account, json!({"return_url": DONE})).await;
    assert_ne!(url, again, "each is for one visit");
    assert_eq!(browser.get(&url).await.status, 200);
    assert_eq!(browser.get(&url).await.header("location"), door(&world, "refresh"), "its second visit");
    let rows = audit::log(&world).await;
    let made: Vec<_> = rows.iter().filter(|row| row.entry.action == "onboarding_link.created").collect();
    assert_eq!(made.len(), 2, "on record is that it was made");
    assert!(made.iter().all(|row| !row.entry.details.contains(&url) && !row.entry.details.contains(&again)));
    // From now on the person's data is the person's alone.
    assert_eq!(world.account_at_stripe(&account).await.get("individual"), None);
}

#[tokio::test]
async fn return_url_says_only_that_the_flow_was_left_and_stripe_is_asked_for_the_rest() {
    let world = World::start().await;
    // Nothing is told of either: what is known of them is what was asked.
    world.stripe.hold_events(true);
    let browser = Browser::new();
    let (finished, left) = (world.stripe.create_account(AccountSpec::default()), world.writer().await);
    for (account, button, ready) in [(&finished, "finish", true), (&left, "leave", false)] {
        let url = link(&world.api, account, json!({"return_url": DONE})).await;
        browser.get(&url).await;
        let back = browser.press(&url, button).await;
        let sent = browser.get(&back).await;
        assert_eq!(sent.header("location"), format!("{DONE}?account={account}&ready={ready}"));
        assert_eq!(shown(&world, account).await["details_submitted"], json!(ready), "{button}");
    }
}

#[tokio::test]
async fn refresh_url_makes_a_new_link_with_the_same_parameters_and_redirects() {
    let world = World::start().await;
    let (browser, account) = (Browser::new(), world.writer().await);
    let url = link(&world.api, &account, json!({"return_url": DONE, "fields": "eventually_due"})).await;
    world.stripe.advance(Duration::from_secs(10 * 60));
    let expired = browser.get(&url).await;
    let renewed = browser.get(expired.header("location")).await;
    assert_eq!(renewed.status, 303, "{renewed:?}");
    let next = renewed.header("location");
    assert_ne!(next, url);
    assert_eq!(browser.get(next).await.status, 200, "it opens");
    let made = links_made(&world);
    assert_eq!((made.len(), &made[1].body), (2, &made[0].body));
}

#[tokio::test]
async fn not_finished_people_are_prompted_and_offered_another_link_later() {
    let world = World::start().await;
    let (browser, account) = (Browser::new(), world.writer().await);
    let url = link(&world.api, &account, json!({"return_url": DONE})).await;
    browser.get(&url).await;
    browser.get(&browser.press(&url, "leave").await).await;
    let prompt = shown(&world, &account).await;
    assert_eq!(
        (&prompt["details_submitted"], &prompt["charges_enabled"]),
        (&json!(false), &json!(false)),
        "the two that the guide has one read"
    );
    assert_eq!(prompt["reasons"][0], json!("details_not_submitted"));
    let step = &prompt["next_step"];
    assert_eq!(
        (&step["action"], &step["fields"]),
        (&json!("onboarding_link"), &prompt["requirements"]["currently_due"])
    );
    let later = link(&world.api, &account, json!({"return_url": DONE})).await;
    browser.get(&later).await;
    browser.press(&later, "finish").await;
    // The person closes the browser before they are back: the event tells all the same.
    world.until_ready(&account).await;
    assert_eq!(shown(&world, &account).await["next_step"]["action"], json!("none"));
}

#[tokio::test]
async fn http_return_urls_work_in_test_mode_only() {
    let plain = json!({"return_url": "http://localhost:3000/payouts"});
    let test = World::start().await;
    let account = test.stripe.create_account(AccountSpec::default());
    link(&test.api, &account, plain.clone()).await;
    assert!(door(&test, "return").starts_with("http://"));
    let live = World::with(|setting| {
        (setting.plan.livemode, setting.stripe.livemode) = (true, true);
        setting.plan.public_url = Some("https://pay.example.com".to_owned());
    })
    .await;
    let account = live.stripe.create_account(AccountSpec::default());
    let (status, refused) =
        live.api.post(&format!("/v1/accounts/{account}/onboarding-links"), "k", &plain).await;
    assert_eq!((status, &refused["errors"][0]["pointer"]), (422, &json!("/return_url")), "{refused}");
    link(&live.api, &account, json!({"return_url": DONE})).await;
    assert!(door(&live, "return").starts_with("https://") && door(&live, "refresh").starts_with("https://"));
}

#[tokio::test]
async fn add_funds_from_the_bank_by_the_api_or_in_the_dashboard() {
    let world = World::start().await;
    let asked = json!({"description": "November's revenue", "statement_descriptor": "Weekly top-up"});
    let made = world.add_funds(asked.clone()).await;
    assert_eq!(
        (&made["amount"], &made["status"], &made["statement_descriptor"]),
        (&json!(200_000), &json!("pending"), &json!("Weekly top-up"))
    );
    assert_eq!(world.add_funds(asked).await["id"], made["id"], "the bank is debited once");
    // An administrator adds some in the Dashboard: the webhook tells.
    let dashboard = world.stripe.create_topup("usd", 50_000);
    world.api.until(&format!("/v1/topups/{dashboard}"), |topup| topup["amount"] == json!(50_000)).await;
    world.api.until("/v1/funds", |funds| funds["data"][0]["pending"] == json!(250_000)).await;
    assert_eq!(world.funds("usd").await["available"], json!(0), "asked for is not had");
}

#[tokio::test]
async fn view_funds_each_top_up_has_an_id_and_a_detailed_view() {
    let world = with_a_slow_bank().await;
    let made = world.add_funds(json!({"description": "November's revenue"})).await;
    assert!(made["id"].as_str().unwrap().starts_with("tu_"), "{made}");
    let listed = world.api.get("/v1/topups?status=pending&currency=usd").await.1;
    assert_eq!((&listed["data"][0]["id"], &listed["next"]), (&made["id"], &json!(null)));
    let detail = world.api.get(&of(&made)).await.1;
    assert_eq!(detail["description"], json!("November's revenue"));
    assert_eq!(detail["history"][0]["steps"], json!(["created"]));
    assert!(detail["explanation"].as_str().unwrap().ends_with('.'), "in words: {detail}");
    let arrival = &world.funds("usd").await["arrivals"][0];
    assert_eq!((&arrival["topup"], &arrival["amount"]), (&made["id"], &json!(200_000)));
    assert_eq!(arrival["expected_at"], detail["expected_availability_date"]);
}

#[tokio::test]
async fn settlement_timing_added_money_may_be_paid_once_it_is_available_and_no_day_sooner() {
    let world = with_a_slow_bank().await;
    let made = world.add_funds(json!({})).await;
    let account = world.ready_account().await;
    let transfer = world.transfer(&account, 10_000, json!({})).await;
    world.until_waiting_on(&transfer, &["funds_insufficient"]).await;
    world.clock.advance(time::Duration::days(5));
    let paid = world.api.until(&of(&made), |topup| topup["status"] == json!("succeeded")).await;
    assert_eq!(paid["settled"], json!(false), "the bank has paid, and the money is not there yet");
    world.until_idle().await;
    assert_eq!(world.times_at_stripe(&transfer), 0);
    world.clock.advance(time::Duration::days(1));
    world.api.until(&of(&made), |topup| topup["settled"] == json!(true)).await;
    world.until_status(&transfer, "released").await;
    world.assert_books_hold().await;
}

#[tokio::test]
async fn pay_out_available_funds_are_transferred_to_the_connected_account_once() {
    let world = World::start().await;
    let (browser, account) = (Browser::new(), world.writer().await);
    let made = world.add_funds(json!({})).await;
    let share = json!({"destination": account, "amount": 12_345, "currency": "usd",
                       "description": "her share of November"});
    let (status, asked) = world.api.post("/v1/transfers", "november-writer-7", &share).await;
    assert_eq!((status, &asked["status"]), (201, &json!("waiting")), "{asked}");
    let id = asked["id"].as_str().unwrap();
    world.stripe.make_available(made["id"].as_str().unwrap()).unwrap();
    world.api.until(&of(&made), |topup| topup["settled"] == json!(true)).await;
    let waits = ["details_not_submitted", "charges_disabled", "transfers_inactive"];
    world.until_waiting_on(id, &waits).await;
    let url = link(&world.api, &account, json!({"return_url": DONE})).await;
    browser.get(&url).await;
    browser.press(&url, "finish").await;
    let paid = world.until_status(id, "released").await;
    let books = world.stripe.books();
    let at_stripe = books.transfers.iter().find(|one| json!(one.id) == paid["stripe_transfer"]).unwrap();
    assert_eq!((&*at_stripe.destination, at_stripe.amount), (&*account, 12_345));
    assert_eq!(world.api.post("/v1/transfers", "november-writer-7", &share).await.1["id"], json!(id));
    assert_eq!((world.times_at_stripe(id), books.transfers.len()), (1, 1));
    assert_eq!(world.funds("usd").await["available"], json!(200_000 - 12_345));
    world.assert_books_hold().await;
}

#[tokio::test]
async fn best_practice_a_manual_payout_schedule_keeps_added_funds_and_an_automatic_one_is_warned_of() {
    let world = World::start().await;
    world.until_none_due().await;
    let manual = |platform: &Value| platform["payouts"]["automatic"] == json!(false);
    let platform = world.api.until("/v1/platform", manual).await;
    assert_eq!(platform["warnings"], json!([]));
    world.schedule_payouts("daily");
    let automatic = |platform: &Value| platform["payouts"]["automatic"] == json!(true);
    let platform = world.api.until("/v1/platform", automatic).await;
    assert_eq!(platform["warnings"][0]["code"], json!("automatic_payouts"));
    assert!(platform["warnings"][0]["mend"].as_str().unwrap().contains("manual"), "{platform}");
}

#[tokio::test]
async fn borders_an_account_beyond_the_platforms_region_waits_and_says_so_instead_of_failing() {
    let world = World::start().await;
    world.until_none_due().await;
    world.settled_topup("usd", 10_000).await;
    let (far, near) = (world.account_in("JP"), world.account_in("CA"));
    world.until_ready(&near).await;
    let reason = "corridor_unsupported";
    let path = format!("/v1/accounts/{far}");
    let shown = world.api.until(&path, |shown| shown["reasons"] == json!([reason])).await;
    assert_eq!(shown["next_step"]["action"], json!("pay_otherwise"));
    let (beyond, across) =
        (world.transfer(&far, 100, json!({})).await, world.transfer(&near, 100, json!({})).await);
    world.until_status(&across, "released").await;
    world.until_waiting_on(&beyond, &[reason]).await;
    assert_eq!(world.times_at_stripe(&beyond), 0);
}

#[tokio::test]
async fn testing_with_test_bank_tokens_simulates_each_way_that_adding_funds_can_go() {
    let world = World::start().await;
    for (token, status, code) in [
        ("btok_us_verified", "succeeded", json!(null)),
        ("btok_us_verified_noAccount", "failed", json!("no_account")),
        ("btok_us_verified_insufficientFunds", "failed", json!("insufficient_funds")),
    ] {
        let made = world.add_funds(json!({"source": token})).await;
        assert_eq!(made["status"], json!("pending"), "the bank answers later: {made}");
        world.stripe.settle_topup(made["id"].as_str().unwrap()).unwrap();
        let ended = world.api.until(&of(&made), |topup| topup["status"] == json!(status)).await;
        assert_eq!(ended["failure"]["code"], code, "{ended}");
    }
    assert_eq!(world.funds("usd").await["pending"], json!(200_000), "what failed is no money");
}
