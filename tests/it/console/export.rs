//! Tables to take along: all of it, and nothing in it that a spreadsheet would calculate.

use serde_json::json;

use super::key;
use crate::support::browser::{Browser, Page};
use crate::support::world::World;

/// The lines of a table whose fields need no quotes.
fn lines(page: &Page) -> Vec<Vec<&str>> {
    assert_eq!(page.status, 200, "{}", page.text);
    assert_eq!(page.header("content-type"), "text/csv; charset=utf-8");
    assert_eq!(page.header("cache-control"), "no-store");
    page.text.split_terminator("\r\n").map(|line| line.split(',').collect()).collect()
}

#[tokio::test]
async fn transfers_are_exported_as_they_are_filtered_and_no_text_of_theirs_is_a_formula() {
    let world = World::start().await;
    let reader = Browser::signed_in(&world.api.base, &key(&world, "read").await.0).await;
    let account = world.ready_account().await;
    let evil = json!({"description": "=cmd|' /C calc'!A0", "transfer_group": "may"});
    let transfer = world.transfer(&account, 123_400, evil).await;
    world.transfer(&account, 1, json!({"transfer_group": "june"})).await;
    world.until_waiting_on(&transfer, &["funds_insufficient"]).await;
    let page = reader.get("/console/export/transfers.csv?transfer_group=may&status=").await;
    let table = lines(&page);
    assert_eq!(table.len(), 2, "{table:?}");
    let of = |name: &str| table[1][table[0].iter().position(|column| *column == name).unwrap()];
    for (name, value) in [
        ("id", transfer.as_str()),
        ("status", "waiting"),
        ("waiting_on", "funds_insufficient"),
        ("amount", "1234.00"),
        ("amount_minor", "123400"),
        ("currency", "usd"),
        ("description", "'=cmd|' /C calc'!A0"),
    ] {
        assert_eq!(of(name), value, "{name}");
    }
    assert!(
        page.header("content-disposition").starts_with("attachment; filename=\"sluicegate-transfers-test-")
    );
    reader
        .get("/console/transfers?transfer_group=may")
        .await
        .must_say("/console/export/transfers.csv?transfer_group=may");
    assert_eq!(reader.get("/console/export/transfers.csv?currency=dollars").await.status, 422);
    let nobody = Browser::new(&world.api.base).get("/console/export/transfers.csv").await;
    assert!(nobody.leads_to().starts_with("/console/sign-in"));
}

#[tokio::test]
async fn a_table_of_many_pages_comes_whole() {
    let world = World::start().await;
    let reader = Browser::signed_in(&world.api.base, &key(&world, "read").await.0).await;
    let account = world.ready_account().await;
    let one = json!({"destination": account, "amount": 100, "currency": "usd"});
    for (key, count) in [("a", 1_000), ("b", 1)] {
        let batch = json!({"transfers": vec![one.clone(); count]});
        assert_eq!(world.api.post("/v1/transfers/batch", key, &batch).await.0, 201);
    }
    let page = reader.get("/console/export/transfers.csv").await;
    let mut ids: Vec<&str> = lines(&page)[1..].iter().map(|line| line[0]).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 1_001);
}

#[tokio::test]
async fn the_exported_ledger_adds_up_to_nothing_and_holds_every_movement() {
    let world = World::start().await;
    let reader = Browser::signed_in(&world.api.base, &key(&world, "read").await.0).await;
    assert_eq!(
        lines(&reader.get("/console/export/ledger.csv").await).len(),
        1,
        "only the names of the columns"
    );
    let account = world.ready_account().await;
    let topup = world.settled_topup("usd", 10_000).await;
    let transfer = world.transfer(&account, 2_500, json!({})).await;
    world.until_status(&transfer, "released").await;
    let page = reader.get("/console/export/ledger.csv").await;
    let table = lines(&page);
    let column = |name: &str| table[0].iter().position(|column| *column == name).unwrap();
    let amounts = table[1..].iter().map(|line| line[column("amount_minor")].parse::<i64>().unwrap());
    assert_eq!(amounts.sum::<i64>(), 0);
    let kinds: Vec<&str> = table[1..].iter().map(|line| line[column("kind")]).collect();
    for kind in ["settlement", "reservation", "release"] {
        assert!(kinds.contains(&kind), "{kind} is not in {kinds:?}");
    }
    assert!(page.text.contains(&transfer) && page.text.contains(&topup) && page.text.contains("-100.00"));
    let topups = reader.get("/console/export/topups.csv?settled=true&currency=usd").await;
    assert!(lines(&topups)[1].starts_with(&[&topup, "succeeded", "true", "100.00", "10000", "usd"]));
}
