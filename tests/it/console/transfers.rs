//! Transfers at the console: why one waits, and the buttons that let it go or not.

use serde_json::json;
use sluicegate::domain::money::Currency;

use super::{audited, key};
use crate::support::browser::Browser;
use crate::support::world::{ADMIN_KEY, World, eventually};

#[tokio::test]
async fn the_page_of_a_transfer_says_why_it_is_not_out_and_how_it_went() {
    let world = World::start().await;
    let reader = Browser::signed_in(&world.api.base, &key(&world, "read").await.0).await;
    let account = world.ready_account().await;
    let transfer = world.transfer(&account, 123_400, json!({"description": "<b>May</b>"})).await;
    world.until_waiting_on(&transfer, &["funds_insufficient"]).await;
    let path = format!("/console/transfers/{transfer}");
    let funds_asked = || async {
        let page = reader.get(&path).await;
        page.text.contains("It goes on when money is added").then_some(page)
    };
    let page = eventually(funds_asked).await.expect("the line was served, and it did not reach the transfer");
    page.must_say("1,234.00 USD").must_say("Why is it not out?").must_say("Stops it");
    page.must_say("&#60;b&#62;May").must_not_say("<b>May").must_say("Nothing was sent yet.");
    page.must_not_say(&format!("{path}/hold"));
    world.settled_topup("usd", 200_000).await;
    let released = world.until_status(&transfer, "released").await;
    let page = reader.get(&path).await;
    page.must_say("Paid out").must_say(released["stripe_transfer"].as_str().unwrap());
    page.must_say(released["attempts"][0]["calls"][0]["request_id"].as_str().unwrap());
    page.must_say(&format!("{transfer}.1")).must_say("Made at Stripe");
}

#[tokio::test]
async fn the_list_is_filtered_as_the_api_filters_and_comes_in_pages() {
    let world = World::start().await;
    let admin = Browser::signed_in(&world.api.base, ADMIN_KEY).await;
    let account = world.ready_account().await;
    for n in 0..21 {
        world.transfer(&account, 100 + n, json!({"transfer_group": "may"})).await;
    }
    let other = world.transfer(&account, 7_777, json!({"release_after": "2099-01-01T00:00:00Z"})).await;
    world.until_waiting_on(&other, &["scheduled"]).await;
    let page = admin.get("/console/transfers?status=&waiting_on=scheduled&currency=usd&destination=").await;
    page.must_say(&other).must_say("its release date has not come").must_not_say("Older ones");
    assert_eq!(page.text.matches("<tr>").count(), 2);
    let first = admin.get("/console/transfers?transfer_group=may").await;
    let next = first.text.split("href=\"/console/transfers?transfer_group=may&").nth(1).expect("a next page");
    let next = next.split('"').next().unwrap().trim_start_matches("#38;").trim_start_matches("amp;");
    let second = admin.get(&format!("/console/transfers?transfer_group=may&{next}")).await;
    assert_eq!((first.text.matches("<tr>").count(), second.text.matches("<tr>").count()), (21, 2));
    let wrong = admin.get("/console/transfers?currency=dollars").await;
    assert_eq!(wrong.status, 422);
    wrong.must_say("currency").must_say("three-letter");
}

#[tokio::test]
async fn a_transfer_is_held_resumed_and_called_off_by_buttons_that_ask_first() {
    let world = World::start().await;
    let (secret, id) = key(&world, "operate").await;
    let operator = Browser::signed_in(&world.api.base, &secret).await;
    let account = world.ready_account().await;
    let transfer = world.transfer(&account, 5_000, json!({})).await;
    let path = format!("/console/transfers/{transfer}");
    let asked = operator.get(&format!("{path}/hold")).await;
    asked.must_say("50.00 USD").must_say(&account);
    let done = operator.press(&format!("{path}/hold"), &[("reason", "asked by Ann")]).await;
    assert_eq!(done.leads_to(), format!("{path}?done=hold"));
    operator.get(done.leads_to()).await.must_say("It is held.").must_say(&format!("{path}/resume"));
    world.until_waiting_on(&transfer, &["on_hold"]).await;
    operator.press(&format!("{path}/resume"), &[]).await.leads_to();
    world.until_waiting_on(&transfer, &["funds_insufficient"]).await;
    operator.press(&format!("{path}/cancel"), &[]).await.leads_to();
    world.until_status(&transfer, "canceled").await;
    let late = operator.press(&format!("{path}/hold"), &[]).await;
    assert_eq!(late.status, 409);
    late.must_say("canceled");
    let rows = audited(&world, &transfer).await;
    let by = |actor: &str, action: &str| (actor.to_owned(), action.to_owned());
    let expected = ["transfer.held", "transfer.resumed", "transfer.canceled"].map(|action| by(&id, action));
    assert_eq!(rows[0], by("admin", "transfer.requested"));
    assert_eq!(rows[1..], expected);
    let noted: String = sqlx::query_scalar("select details from audit_log where action = 'transfer.held'")
        .fetch_one(world.pool())
        .await
        .unwrap();
    assert!(noted.contains("asked by Ann"), "{noted}");
}

#[tokio::test]
async fn a_large_transfer_is_approved_by_another_key_than_asked_for_it() {
    let world = World::with(|setting| {
        let usd = Currency::parse("usd").unwrap();
        setting.plan.limits.approval_above.insert(usd, 10_000);
    })
    .await;
    let account = world.ready_account().await;
    world.settled_topup("usd", 100_000).await;
    let transfer = world.transfer(&account, 20_000, json!({})).await;
    world.until_waiting_on(&transfer, &["approval_required"]).await;
    let path = format!("/console/transfers/{transfer}/approve");
    let creator = Browser::signed_in(&world.api.base, ADMIN_KEY).await;
    let refused = creator.press(&path, &[]).await;
    assert_eq!(refused.status, 403);
    refused.must_say("another API key");
    let other = Browser::signed_in(&world.api.base, &key(&world, "operate").await.0).await;
    other.press(&path, &[]).await.leads_to();
    world.until_status(&transfer, "released").await;
}

#[tokio::test]
async fn a_form_that_is_sent_twice_takes_money_back_once() {
    let world = World::start().await;
    let admin = Browser::signed_in(&world.api.base, ADMIN_KEY).await;
    let account = world.ready_account().await;
    world.settled_topup("usd", 10_000).await;
    let transfer = world.transfer(&account, 9_000, json!({})).await;
    world.until_status(&transfer, "released").await;
    let path = format!("/console/transfers/{transfer}/reverse");
    let asked = admin.get(&path).await;
    asked.must_say("all that is left, 90.00 USD");
    let (mark, once) = (asked.hidden("mark"), asked.hidden("once"));
    let form = [("mark", mark.as_str()), ("once", once.as_str()), ("amount", "12.50")];
    for _ in 0..2 {
        admin.post(&path, &form).await.leads_to();
    }
    let changed = [form[0], form[1], ("amount", "13")];
    assert_eq!(admin.post(&path, &changed).await.status, 409, "the same form, filled in otherwise");
    let shown = world.until_status(&transfer, "partially_reversed").await;
    assert_eq!(shown["amount_reversed"], json!(1_250));
    assert_eq!(shown["reversals"].as_array().unwrap().len(), 1);
    for wrong in ["0", "-1", "1.234", "ten", "99999"] {
        let page = admin.press(&path, &[("amount", wrong)]).await;
        assert_eq!(page.status, 422, "{wrong}");
    }
    admin
        .get(&format!("/console/transfers/{transfer}"))
        .await
        .must_say("Partly taken back")
        .must_say("12.50 USD");
    world.assert_books_hold().await;
}

#[tokio::test]
async fn whoever_may_only_look_has_no_buttons_and_can_not_press_them_all_the_same() {
    let world = World::start().await;
    let (secret, id) = key(&world, "read").await;
    let reader = Browser::signed_in(&world.api.base, &secret).await;
    let account = world.ready_account().await;
    let transfer = world.transfer(&account, 5_000, json!({})).await;
    let overview = reader.get("/console").await;
    overview.must_not_say("Pause all releases");
    let mark = overview.hidden("mark");
    for path in [format!("/console/transfers/{transfer}/hold"), "/console/releases/pause".to_owned()] {
        let page = reader.get(&path).await;
        assert_eq!(page.status, 403, "{path}");
        page.must_say("scope read");
        let page = reader.post(&path, &[("mark", &mark)]).await;
        assert_eq!(page.status, 403, "{path}");
        page.must_say("operate");
    }
    assert_eq!(world.until_status(&transfer, "waiting").await["waiting_on"], json!(["funds_insufficient"]));
    let refused = audited(&world, "POST /console/transfers/{id}/{order}").await;
    assert_eq!(refused, [(id, "call.refused".to_owned())]);
}
