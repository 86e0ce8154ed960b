//! Borders: what can't be paid from here waits and says so, instead of failing at Stripe.

use serde_json::{Value, json};
use sluicegate::domain::account::Policy;
use sluicegate::domain::corridors::{Corridor, Corridors, Country};
use sluicegate::domain::money::Currency;
use sluicegate::sandbox::{AccountChange, AccountSpec, Fault, FaultKind};

use crate::support::world::World;

const UNSUPPORTED: &str = "corridor_unsupported";

impl World {
    /// A connected account in this country that is ready but for where it is.
    pub fn account_in(&self, country: &str) -> String {
        let country = Some(country.to_owned());
        self.stripe.create_account(AccountSpec { country, ready: true, ..AccountSpec::default() })
    }

    async fn until_reasons(&self, account: &str, reasons: &[&str]) -> Value {
        let path = format!("/v1/accounts/{account}/readiness");
        self.api.until(&path, |shown| shown["reasons"] == json!(reasons)).await
    }

    async fn until_known_home(&self) {
        self.until_none_due().await;
    }
}

fn table(lines: &[(&[&str], &[&str])]) -> Corridors {
    let line = |(to, currencies): &(&[&str], &[&str])| Corridor {
        from: Vec::new(),
        to: to.iter().map(|code| Country::parse(code).unwrap()).collect(),
        currencies: currencies.iter().map(|code| Currency::parse(code).unwrap()).collect(),
    };
    Corridors::Table(lines.iter().map(line).collect())
}

async fn with_table(lines: &[(&[&str], &[&str])]) -> World {
    let corridors = table(lines);
    World::with(|setting| setting.plan.policy = Policy::default().with_corridors(corridors)).await
}

#[tokio::test]
async fn an_account_beyond_the_platforms_reach_is_not_ready_and_its_transfer_waits_and_says_so() {
    let world = World::start().await;
    world.until_known_home().await;
    world.settled_topup("usd", 1_000).await;
    let (far, near) = (world.account_in("JP"), world.account_in("DE"));
    let shown = world.until_reasons(&far, &[UNSUPPORTED]).await;
    assert_eq!(shown["ready"], json!(false));
    world.until_reasons(&near, &[]).await;
    let waiting = world.transfer(&far, 100, json!({})).await;
    let going = world.transfer(&near, 100, json!({})).await;
    world.until_status(&going, "released").await;
    world.until_waiting_on(&waiting, &[UNSUPPORTED]).await;
    assert_eq!(world.keys_sent(&waiting), Vec::<String>::new(), "Stripe is not even asked");
    let listed = world.api.get(&format!("/v1/accounts?reason={UNSUPPORTED}")).await.1;
    assert_eq!(listed["data"].as_array().unwrap().len(), 1, "{listed}");
    assert_eq!(listed["data"][0]["account"], json!(far));
    let history = world.api.get(&format!("/v1/accounts/{far}")).await.1["history"].clone();
    assert_eq!(history.as_array().unwrap().last().unwrap()["reasons"], json!([UNSUPPORTED]));
}

#[tokio::test]
async fn accounts_that_were_told_of_before_the_platforms_country_are_judged_by_it_afterwards() {
    let mut world = World::start().await;
    world.until_known_home().await;
    world.stop_service().await;
    // As if the service had never been told where the platform is: its first answer takes a while.
    sqlx::query("delete from platforms").execute(world.pool()).await.unwrap();
    world.stripe.fault(Fault::next(FaultKind::Delay { ms: 3_000 }).on("GET", "/v1/account"));
    let far = world.account_in("JP");
    world.start_service().await;
    world.until_reasons(&far, &[]).await;
    let id = world.transfer(&far, 100, json!({})).await;
    world.until_waiting_on(&id, &["funds_insufficient"]).await;
    world.until_reasons(&far, &[UNSUPPORTED]).await;
    world.until_waiting_on(&id, &[UNSUPPORTED]).await;
    let listed = |listed: &Value| listed["data"][0]["account"] == json!(far);
    world.api.until(&format!("/v1/accounts?ready=false&reason={UNSUPPORTED}"), listed).await;
}

#[tokio::test]
async fn a_platform_elsewhere_pays_its_own_country_alone() {
    let world = World::with(|setting| setting.stripe.country = "JP".to_owned()).await;
    world.until_known_home().await;
    let (home, abroad) = (world.account_in("JP"), world.account_in("US"));
    world.until_reasons(&home, &[]).await;
    world.until_reasons(&abroad, &[UNSUPPORTED]).await;
}

#[tokio::test]
async fn a_table_of_the_operators_own_replaces_the_built_in_one_for_country_and_currency() {
    let world = with_table(&[(&["US"], &["usd"]), (&["CA"], &["cad"])]).await;
    world.until_known_home().await;
    world.settled_topup("usd", 1_000).await;
    world.settled_topup("cad", 1_000).await;
    let (german, canadian) = (world.account_in("DE"), world.account_in("CA"));
    world.until_reasons(&german, &[UNSUPPORTED]).await;
    // The account may be paid, in its own currency: that concerns the transfer.
    world.until_reasons(&canadian, &[]).await;
    let in_usd = world.transfer(&canadian, 100, json!({})).await;
    let in_cad = world.transfer(&canadian, 100, json!({"currency": "cad"})).await;
    world.until_status(&in_cad, "released").await;
    world.until_waiting_on(&in_usd, &[UNSUPPORTED]).await;
    let shown = world.api.get(&format!("/v1/transfers/{in_usd}")).await.1;
    assert_eq!(shown["stripe_transfer"], json!(null));
    assert_eq!(world.keys_sent(&in_usd), Vec::<String>::new());
    world.assert_books_hold().await;
}

#[tokio::test]
async fn a_table_that_is_changed_lets_go_what_waited() {
    let mut world = with_table(&[(&["CA"], &[])]).await;
    world.until_known_home().await;
    world.settled_topup("usd", 1_000).await;
    let account = world.account_in("US");
    let id = world.transfer(&account, 100, json!({})).await;
    world.until_waiting_on(&id, &[UNSUPPORTED]).await;
    world.stop_service().await;
    world.plan.policy = Policy::default().with_corridors(table(&[(&["US"], &[])]));
    world.start_service().await;
    world.until_status(&id, "released").await;
    world.until_reasons(&account, &[]).await;
    // What lists and histories go by is written anew as well.
    let ready = |listed: &Value| listed["data"][0]["account"] == json!(account);
    world.api.until("/v1/accounts?ready=true", ready).await;
    let history = world.api.get(&format!("/v1/accounts/{account}")).await.1["history"].clone();
    let reasons: Vec<&Value> = history.as_array().unwrap().iter().map(|line| &line["reasons"]).collect();
    // It may begin with a capability alone, of which nothing else was known yet.
    assert_eq!(reasons[reasons.len() - 2..], [&json!([UNSUPPORTED]), &json!([])]);
}

#[tokio::test]
async fn where_the_platforms_country_is_not_known_nothing_is_held_back_and_stripes_refusal_is_final() {
    let mut world = World::start().await;
    world.until_known_home().await;
    world.stop_service().await;
    world.stripe.lose_events(1);
    let hidden = AccountChange { other: Some(json!({"country": null})), ..AccountChange::default() };
    world.stripe.change_account(&world.stripe.platform(), &hidden).unwrap();
    sqlx::query("delete from platforms").execute(world.pool()).await.unwrap();
    world.start_service().await;
    world.settled_topup("usd", 1_000).await;
    let account = world.account_in("BR");
    world.until_reasons(&account, &[]).await;
    let id = world.transfer(&account, 100, json!({})).await;
    let failed = world.until_status(&id, "failed").await;
    assert_eq!(failed["failure"]["code"], json!("transfers_not_allowed"), "{failed}");
    assert_eq!(world.funds("usd").await["reserved"], json!(0));
}
