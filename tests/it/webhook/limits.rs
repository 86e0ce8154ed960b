//! Too many copies, too large a body, too much at once, no database: what the door does at its limits.

use std::path::PathBuf;

use futures_util::future::join_all;
use serde_json::json;
use sluicegate::embedded::{self, Cluster, Durability, Options};

use super::{MIB, padded, post, signed};
use crate::support::events::{about_account, id_of, renewed};
use crate::support::reply::{ask, say};
use crate::support::world::{CONNECT_SECRET, World, eventually};

#[tokio::test]
async fn of_many_copies_of_one_event_one_is_new_and_it_takes_effect_once() {
    let world = World::start().await;
    let account = world.stripe.create_ready_account();
    world.until_ready(&account).await;
    world.until_quiet_about(&account).await;
    let (received, changes) = (world.received().await, world.rows("account_changes").await);
    let event =
        about_account("account.updated.05_transfers_revoked_after_ready", &account, world.second() + 2);
    let body = event.to_string();
    // Stripe signs every attempt anew.
    let headers: Vec<String> =
        (0..60).map(|i| signed(body.as_bytes(), CONNECT_SECRET, world.second() - i % 7)).collect();
    // Nothing is stored until most of them wait together: then they meet in one insert.
    let mut tx = world.pool().begin().await.unwrap();
    sqlx::query("lock table outbox in access exclusive mode").execute(&mut *tx).await.unwrap();
    // One keeps a writer busy; the other writer leaves it at that until sixteen wait.
    let fillers: Vec<_> = (0..17).map(|_| renewed("person.updated", world.second())).collect();
    let fill = async {
        let others = async {
            until_writers_wait(&world, 1).await;
            join_all(fillers[1..].iter().map(|event| world.send(event))).await
        };
        tokio::join!(world.send(&fillers[0]), others)
    };
    let copies = async {
        until_writers_wait(&world, 2).await;
        let all = join_all(headers.iter().map(|header| world.deliver_signed(body.as_bytes(), header)));
        let open = async {
            for _ in 0..100 {
                world.api.get("/healthz").await;
            }
            tx.rollback().await.unwrap();
        };
        tokio::join!(all, open).0
    };
    let (_, answers) = tokio::join!(fill, copies);
    let new =
        answers.iter().filter(|answer| answer.1 == json!({"received": true, "duplicate": false})).count();
    let again =
        answers.iter().filter(|answer| answer.1 == json!({"received": true, "duplicate": true})).count();
    assert!(answers.iter().all(|answer| answer.0 == 200), "{answers:?}");
    assert_eq!((new, again), (1, 59));
    let received = received + fillers.len() as i64;
    assert_eq!(world.received().await, received + 1);
    world.until_quiet_about(&account).await;
    assert_eq!(world.rows("account_changes").await, changes + 1, "one effect");
    // What differs between deliveries of one event does not make it another.
    let mut later = event.clone();
    later["pending_webhooks"] = json!(0);
    assert_eq!(world.send(&later).await, (200, json!({"received": true, "duplicate": true})));
    assert_eq!(world.received().await, received + 1);
}

/// Waits until so many of the service's inserts wait for a lock.
async fn until_writers_wait(world: &World, writers: i64) {
    let waiting = || async {
        let sql = "select count(*) from pg_stat_activity
            where datname = current_database() and wait_event_type = 'Lock' and query like '-- insert_new%' and $1 = ''";
        (world.count(sql, "").await >= writers).then_some(())
    };
    assert!(eventually(waiting).await.is_some(), "the writers do not wait");
}

#[tokio::test]
async fn a_body_of_a_mebibyte_is_taken_and_one_byte_more_is_not() {
    let world = World::start().await;
    let account = world.stripe.create_ready_account();
    world.until_ready(&account).await;
    world.until_quiet_about(&account).await;
    let received = world.received().await;
    let event =
        || about_account("account.updated.05_transfers_revoked_after_ready", &account, world.second() + 2);
    let large = padded(&event(), MIB + 1);
    let header = signed(&large, CONNECT_SECRET, world.second());
    post(&world, &large, &[header.as_bytes()]).await.must_be(413, "body_too_large", "announced");
    post(&world, &large, &[]).await.must_be(413, "body_too_large", "announced, and not even signed");
    let head = format!(
        "POST /webhooks/stripe HTTP/1.1\r\nHost: x\r\nConnection: close\r\nStripe-Signature: {header}\r\n\
         Transfer-Encoding: chunked\r\n\r\n"
    );
    let heard = say(&world.api, &head, &chunked(&large)).await;
    assert!(heard.starts_with("HTTP/1.1 413 ") && heard.contains("body_too_large"), "{heard}");
    assert_eq!(world.received().await, received);
    let (fits, also) = (padded(&event(), MIB), padded(&event(), MIB - 1));
    let header = signed(&fits, CONNECT_SECRET, world.second());
    let head = format!(
        "POST /webhooks/stripe HTTP/1.1\r\nHost: x\r\nConnection: close\r\nStripe-Signature: {header}\r\n\
         Transfer-Encoding: chunked\r\n\r\n"
    );
    let heard = say(&world.api, &head, &chunked(&fits)).await;
    assert!(heard.starts_with("HTTP/1.1 200 "), "{heard}");
    assert_eq!(world.deliver(&also, CONNECT_SECRET).await.0, 200);
    assert_eq!(world.received().await, received + 2);
    world
        .api
        .until(&format!("/v1/accounts/{account}/readiness"), |readiness| readiness["ready"] == json!(false))
        .await;
}

fn chunked(body: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(body.len() + 1_000);
    for chunk in body.chunks(64 * 1024) {
        text.extend(format!("{:x}\r\n", chunk.len()).into_bytes());
        text.extend(chunk);
        text.extend(b"\r\n");
    }
    text.extend(b"0\r\n\r\n");
    text
}

#[tokio::test]
async fn when_too_much_waits_the_sender_is_told_to_come_back_and_every_yes_is_stored() {
    let world = World::start().await;
    world.until_none_due().await;
    let received = world.received().await;
    // A table that is locked keeps every delivery waiting for its commit.
    let mut tx = world.pool().begin().await.unwrap();
    sqlx::query("lock table outbox in access exclusive mode").execute(&mut *tx).await.unwrap();
    let events: Vec<Vec<u8>> =
        (0..24).map(|_| padded(&renewed("person.updated", world.second()), MIB - 1)).collect();
    let sent = join_all(events.iter().map(|body| async {
        let header = signed(body, CONNECT_SECRET, world.second());
        post(&world, body, &[header.as_bytes()]).await
    }));
    let refused_then_free = async {
        let full = || async {
            let metrics = world.api.get("/metrics").await.1;
            metrics.as_str().unwrap().contains("outcome=\"full\"").then_some(())
        };
        let full = eventually(full).await;
        tx.rollback().await.unwrap();
        full
    };
    let (replies, full) = tokio::join!(sent, refused_then_free);
    assert!(full.is_some(), "24 MiB at once are more than may wait");
    let taken = replies.iter().filter(|reply| reply.status == 200).count();
    for reply in replies.iter().filter(|reply| reply.status != 200) {
        reply.must_be(503, "unavailable", "the queue is full");
        assert!(reply.header("retry-after").parse::<u32>().is_ok_and(|s| s > 0), "{reply:?}");
    }
    assert!(taken > 0 && taken < 24, "{taken}");
    assert_eq!(world.received().await, received + taken as i64);
    for body in &events {
        assert_eq!(world.deliver(body, CONNECT_SECRET).await.0, 200, "Stripe comes again");
    }
    assert_eq!(world.received().await, received + 24);
}

/// A database server of the test's own, gone with it.
struct OwnServer {
    cluster: Option<Cluster>,
    dir: PathBuf,
}

impl OwnServer {
    async fn start() -> Self {
        let dir = std::env::temp_dir().join(format!("sluicegate-away-{}", uuid::Uuid::new_v4().simple()));
        let mut own = Self { cluster: None, dir };
        own.on().await;
        own
    }

    async fn on(&mut self) {
        let options = Options {
            data_dir: self.dir.clone(),
            pg_bin_dir: std::env::var_os("PG_BIN_DIR").map(PathBuf::from),
            durability: Durability::Throwaway,
            allow_fetch: true,
            say: Box::new(|line| eprintln!("{line}")),
        };
        self.cluster = Some(tokio::task::spawn_blocking(|| embedded::start(options).unwrap()).await.unwrap());
    }

    async fn off(&mut self) {
        let cluster = self.cluster.take().unwrap();
        tokio::task::spawn_blocking(|| cluster.stop()).await.unwrap();
    }
}

impl Drop for OwnServer {
    fn drop(&mut self) {
        drop(self.cluster.take());
        drop(embedded::remove_unused(&self.dir));
        drop(std::fs::remove_dir_all(&self.dir));
    }
}

#[tokio::test]
async fn without_a_database_stripe_is_told_to_come_back_and_nothing_is_lost() {
    let mut server = OwnServer::start().await;
    let url = server.cluster.as_ref().unwrap().url(embedded::DATABASE);
    let world = World::with(|setting| setting.plan.database_url = url).await;
    let account = world.stripe.create_ready_account();
    world.until_ready(&account).await;
    server.off().await;
    let event =
        about_account("account.updated.05_transfers_revoked_after_ready", &account, world.second() + 60);
    let body = event.to_string().into_bytes();
    let header = signed(&body, CONNECT_SECRET, world.second());
    for what in ["at first", "and again"] {
        let reply = post(&world, &body, &[header.as_bytes()]).await;
        reply.must_be(503, "unavailable", what);
        assert!(reply.header("retry-after").parse::<u32>().is_ok_and(|s| s > 0), "{reply:?}");
    }
    let header = signed(b"no event", CONNECT_SECRET, world.second());
    post(&world, b"no event", &[header.as_bytes()]).await.must_be(
        503,
        "unavailable",
        "nor can it be kept apart",
    );
    let ready = ask(world.api.http.get(world.api.url("/readyz"))).await;
    assert_eq!((ready.status, &ready.body["database"]), (503, &json!("unavailable")));
    assert_eq!(ask(world.api.http.get(world.api.url("/healthz"))).await.status, 200);
    server.on().await;
    // Connections of before may still stand in the pool: Stripe comes more than once.
    let taken = || async { (world.send(&event).await.0 == 200).then_some(()) };
    assert!(eventually(taken).await.is_some(), "it never came back");
    let shown = world
        .api
        .until(&format!("/v1/accounts/{account}/readiness"), |readiness| readiness["ready"] == json!(false))
        .await;
    assert_eq!(shown["source"], json!(id_of(&event)));
}
