//! Events as Stripe would send them, made from the recorded ones, and what became of them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::{Value, json};
use sluicegate::sandbox::Call;

use super::world::{CONNECT_SECRET, PATIENCE, PLATFORM_SECRET, World, eventually};

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/stripe/events")
}

/// A recorded event by its file's name, without `.json`.
pub fn recorded(name: &str) -> Value {
    let path = folder().join(format!("{name}.json"));
    serde_json::from_slice(&std::fs::read(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"))).unwrap()
}

/// Every recorded event's bytes, by its file's name.
pub fn all_recorded() -> BTreeMap<String, Vec<u8>> {
    let files = std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path());
    let named = files.map(|path| (path.file_stem().unwrap().to_str().unwrap().to_owned(), path));
    named.map(|(name, path)| (name, std::fs::read(path).unwrap())).collect()
}

/// An event id that was never used.
pub fn fresh_id() -> String {
    format!("evt_{}", uuid::Uuid::new_v4().simple())
}

/// A recorded event made anew: another id, at this second.
pub fn renewed(name: &str, created: i64) -> Value {
    let mut event = recorded(name);
    (event["id"], event["created"]) = (json!(fresh_id()), json!(created));
    event
}

/// A recorded event about a connected account, made anew about this one.
pub fn about_account(name: &str, account: &str, created: i64) -> Value {
    let mut event = renewed(name, created);
    event["account"] = json!(account);
    match event["type"].as_str() {
        Some("account.updated") => event["data"]["object"]["id"] = json!(account),
        Some("capability.updated") => event["data"]["object"]["account"] = json!(account),
        _ => {}
    }
    event
}

/// A recorded event about a top-up, made anew about this one.
pub fn about_topup(name: &str, topup: &str, created: i64) -> Value {
    let mut event = renewed(name, created);
    event["data"]["object"]["id"] = json!(topup);
    event
}

/// A thin event about this object, created now.
pub fn thin(world: &World, event_type: &str, context: Option<&str>, object: Option<(&str, &str)>) -> Value {
    let created = world.clock.now().format(&time::format_description::well_known::Rfc3339).unwrap();
    let mut event = json!({
        "id": fresh_id(), "object": "v2.core.event", "type": event_type, "livemode": false,
        "created": created, "context": context, "reason": null,
    });
    if let Some((kind, id)) = object {
        event["related_object"] = json!({"id": id, "type": kind, "url": format!("/{id}")});
    }
    event
}

/// An event's id.
pub fn id_of(event: &Value) -> &str {
    event["id"].as_str().unwrap()
}

impl World {
    /// The whole second it is now.
    pub fn second(&self) -> i64 {
        self.clock.now().unix_timestamp()
    }

    /// Delivers an event through the endpoint its kind belongs to; it is taken, and new.
    pub async fn tell(&self, event: &Value) {
        let answer = self.send(event).await;
        assert_eq!(answer, (200, json!({"received": true, "duplicate": false})), "{event}");
    }

    /// Delivers an event through the endpoint its kind belongs to.
    pub async fn send(&self, event: &Value) -> (u16, Value) {
        let connected = event["account"].is_string() || event["context"].is_string();
        let secret = if connected { CONNECT_SECRET } else { PLATFORM_SECRET };
        self.deliver(event.to_string().as_bytes(), secret).await
    }

    /// An event as the API shows it.
    pub async fn event(&self, event: &Value) -> Value {
        let (status, shown) = self.api.get(&format!("/v1/events/{}", id_of(event))).await;
        assert_eq!(status, 200, "{shown}");
        shown
    }

    /// Waits until an event is worked off.
    pub async fn until_settled(&self, event: &Value) -> Value {
        self.api.until(&format!("/v1/events/{}", id_of(event)), |e| e["status"] != json!("pending")).await
    }

    /// Waits until nothing about a subject is due or under way: no event, and no doubt that a fetch settles.
    pub async fn until_quiet_about(&self, subject: &str) {
        self.until_none("select count(*) from tasks where subject = $1", subject).await;
    }

    /// Waits until every event is worked off.
    pub async fn until_events_done(&self) {
        self.until_none("select count(*) from tasks where event_id is not null and $1 = ''", "").await;
    }

    async fn until_none(&self, sql: &'static str, bound: &str) {
        let none = || async { (self.count(sql, bound).await == 0).then_some(()) };
        if eventually(none).await.is_none() {
            let left: Vec<(String, String, Option<String>, Option<String>)> =
                sqlx::query_as("select kind, subject, event_id, failure from tasks")
                    .fetch_all(self.pool())
                    .await
                    .unwrap();
            panic!("still there after {PATIENCE:?}: {left:?}");
        }
    }

    /// Counts with one text bound.
    pub async fn count(&self, sql: &'static str, bound: &str) -> i64 {
        sqlx::query_scalar(sql).bind(bound).fetch_one(self.pool()).await.unwrap()
    }

    /// How many rows a table has.
    pub async fn rows(&self, table: &'static str) -> i64 {
        let sql = sqlx::AssertSqlSafe(format!("select count(*) from {table}"));
        sqlx::query_scalar(sql).fetch_one(self.pool()).await.unwrap()
    }

    /// How many events were received.
    pub async fn received(&self) -> i64 {
        self.count("select count(*) from outbox where source = $1", "webhook").await
    }

    /// The GETs of a path that Stripe was asked for, oldest first.
    pub fn asked(&self, path: &str) -> Vec<Call> {
        let calls = self.stripe.calls();
        calls.into_iter().filter(|call| call.method == "GET" && call.path == path).collect()
    }

    /// Waits until the stand-in was called like this.
    pub async fn until_called(&self, like: impl Fn(&Call) -> bool) -> Call {
        let found = || async { self.stripe.calls().into_iter().find(&like) };
        eventually(found).await.expect("the call was never made")
    }

    /// Waits until nothing is due by the world's own clock.
    pub async fn until_idle(&self) {
        let idle = || async {
            let due: i64 =
                sqlx::query_scalar("select count(*) from tasks where token is not null or run_at <= $1")
                    .bind(self.clock.now())
                    .fetch_one(self.pool())
                    .await
                    .unwrap();
            (due == 0).then_some(())
        };
        assert!(eventually(idle).await.is_some(), "the worker never came to rest");
    }

    /// Waits until the calls of the start are over: the platform is known and the balance was read. The platform's
    /// timer is set once what was read is written down.
    pub async fn until_none_due(&self) {
        let known = || async {
            let done = |path: &str| self.asked(path).iter().any(|call| call.outcome.status == Some(200));
            let asked = done("/v1/account") && done("/v1/balance");
            (asked && self.rows("tasks where kind = 'platform'").await > 0).then_some(())
        };
        assert!(eventually(known).await.is_some(), "the calls of the start: {:?}", self.stripe.calls());
        self.until_none_now().await;
    }

    /// Waits until the worker has nothing due or under way.
    pub async fn until_none_now(&self) {
        let idle = || async {
            (self.rows("tasks where token is not null or run_at <= now()").await == 0).then_some(())
        };
        assert!(eventually(idle).await.is_some(), "the worker never came to rest");
    }
}
