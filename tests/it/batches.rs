//! Many events at once: taken together, each once, and a bad one fails no neighbour.

use serde_json::{Value, json};

use crate::support::events::{about_account, about_topup, id_of, thin};
use crate::support::world::World;
use sluicegate::worker::driver;

/// A world in which events gather until the worker starts.
async fn gathering() -> World {
    World::with(|setting| setting.plan.roles.worker = false).await
}

/// The same world with so many replicas that work.
async fn work(world: &mut World, replicas: usize) -> Vec<sluicegate::cli::service::Running> {
    world.stop_service().await;
    world.plan.roles.worker = true;
    let listen = world.plan.listen;
    world.start_service().await;
    let mut others = Vec::new();
    for _ in 1..replicas {
        let worker = driver::Settings::default();
        let plan = sluicegate::cli::service::Plan { listen, worker, ..world.plan.clone() };
        let plan = sluicegate::cli::service::Plan { listen: "127.0.0.1:0".parse().unwrap(), ..plan };
        others.push(sluicegate::cli::service::start(plan, world.clock.clone()).await.unwrap());
    }
    others
}

#[tokio::test]
async fn what_gathered_is_applied_once_each_by_several_replicas() {
    let mut world = gathering().await;
    let now = world.second();
    let (accounts, rounds) = (120, 6);
    for round in 0..rounds {
        for account in 0..accounts {
            let ready = if round == rounds - 1 {
                "account.updated.03_ready_transfers_only"
            } else {
                "account.updated.02_submitted_pending"
            };
            world.tell(&about_account(ready, &format!("acct_{account}"), now - 100 + round)).await;
        }
    }
    let others = work(&mut world, 3).await;
    world.until_events_done().await;
    let page = world.api.get("/v1/accounts?ready=true&limit=100").await.1;
    assert_eq!(page["data"].as_array().unwrap().len(), 100, "all but the second page");
    assert_eq!(world.rows("accounts where ready").await, accounts);
    assert_eq!(world.rows("dead_letters").await, 0);
    let fetched = world.asked("/v1/accounts/acct_0");
    assert!(fetched.is_empty(), "a burst about one account leaves no doubt: {fetched:?}");
    for other in others {
        other.stop().await;
    }
    world.assert_books_hold().await;
}

#[tokio::test]
async fn a_backlog_is_applied_in_the_order_of_each_account() {
    let mut world = gathering().await;
    let now = world.second();
    let (accounts, rounds) = (60, 30);
    for round in 0..rounds {
        let last = round == rounds - 1;
        let kind = if last {
            "account.updated.03_ready_transfers_only"
        } else {
            "account.updated.02_submitted_pending"
        };
        for account in 0..accounts {
            world.tell(&about_account(kind, &format!("acct_{account}"), now - 100 + round)).await;
        }
    }
    work(&mut world, 1).await;
    world.until_events_done().await;
    assert_eq!(world.rows("accounts where ready").await, accounts);
    let asked = (0..accounts).filter(|n| !world.asked(&format!("/v1/accounts/acct_{n}")).is_empty()).count();
    assert_eq!(asked, 0, "no order was lost that would have had to be asked for");
    world.assert_books_hold().await;
}

#[tokio::test]
async fn one_that_the_database_refuses_takes_none_of_its_batch_with_it() {
    let mut world = gathering().await;
    let now = world.second();
    let mut poison = about_topup("topup.created", "tu_poison", now);
    poison["data"]["object"]["metadata"] = json!({"note": "a\u{0}b"});
    let good: Vec<Value> = (0..20)
        .flat_map(|n| {
            let topup = about_topup("topup.created", &format!("tu_{n}"), now);
            [topup, about_account("account.updated.03_ready_transfers_only", &format!("acct_{n}"), now)]
        })
        .collect();
    for event in good.iter().take(20).chain([&poison]).chain(good.iter().skip(20)) {
        world.tell(event).await;
    }
    work(&mut world, 1).await;
    for event in &good {
        assert_eq!(world.until_settled(event).await["status"], json!("processed"), "{}", id_of(event));
    }
    assert_eq!((world.rows("accounts where ready").await, world.rows("topups").await), (20, 20));
    assert_eq!(
        world.event(&poison).await["status"],
        json!("pending"),
        "it is tried again before it is given up"
    );
    world.assert_books_hold().await;
}

#[tokio::test]
async fn a_doubt_among_many_leads_to_its_own_fetch_and_no_other() {
    let mut world = gathering().await;
    let now = world.second();
    let doubtful = world.stripe.create_ready_account();
    for n in 0..10 {
        world
            .tell(&about_account("account.updated.03_ready_transfers_only", &format!("acct_{n}"), now))
            .await;
    }
    let event = thin(&world, "v1.account.updated", Some(&doubtful), Some(("account", &doubtful)));
    world.tell(&event).await;
    work(&mut world, 1).await;
    world.until_ready(&doubtful).await;
    world.until_events_done().await;
    // The event of its making may show it ready before the fetch that the other one led to.
    world.until_idle().await;
    assert_eq!(world.asked(&format!("/v1/accounts/{doubtful}")).len(), 1);
    assert!((0..10).all(|n| world.asked(&format!("/v1/accounts/acct_{n}")).is_empty()));
}
