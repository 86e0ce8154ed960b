//! Whoever listens hears every change once, also across a lost connection, and knows when something was missed.

use std::collections::BTreeMap;
use std::time::Duration;

use reqwest::header::HeaderMap;
use serde_json::{Value, json};
use sluicegate::domain::change::Position;
use sluicegate::sandbox::{AccountChange, AccountSpec};

use crate::support::events::about_account;
use crate::support::reply::ask;
use crate::support::world::{Api, PATIENCE, World};

/// Something that was heard.
#[derive(Clone, Debug, PartialEq)]
pub struct Heard {
    id: String,
    /// The event's name.
    pub name: String,
    /// What it tells.
    pub data: Value,
}

impl Heard {
    /// Which account, top-up or transfer.
    fn subject(&self) -> &str {
        self.data["account"].as_str().or(self.data["id"].as_str()).unwrap_or_default()
    }
}

/// A listener's side of a stream.
pub struct Stream {
    answer: reqwest::Response,
    text: String,
    /// The last id that was heard, in whatever frame.
    pub last_id: String,
}

impl Stream {
    pub async fn open(api: &Api, last_id: Option<&str>) -> Stream {
        let mut request = api.http.get(api.url("/v1/stream")).bearer_auth(&api.key);
        if let Some(id) = last_id {
            request = request.header("Last-Event-ID", id);
        }
        let answer = request.send().await.unwrap();
        let header = |headers: &HeaderMap, name: &str| headers[name].to_str().unwrap().to_owned();
        assert_eq!(
            (answer.status().as_u16(), &*header(answer.headers(), "content-type")),
            (200, "text/event-stream")
        );
        let mut stream = Stream { answer, text: String::new(), last_id: String::new() };
        // The greeting: from here on everything is heard.
        if last_id.is_none() {
            assert_eq!(stream.frame().await.unwrap(), None);
        }
        stream
    }

    /// The next frame: an event, or none for one that tells nothing; an error where the stream is over.
    async fn frame(&mut self) -> Result<Option<Heard>, ()> {
        loop {
            if let Some((frame, rest)) = self.text.split_once("\n\n") {
                let field = |name: &str| {
                    let line = frame.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
                    line.map(str::to_owned)
                };
                let (id, name, data) = (field("id").unwrap_or_default(), field("event"), field("data"));
                self.text = rest.to_owned();
                if !id.is_empty() {
                    assert!(Position::parse(&id).is_some(), "{id}");
                    self.last_id.clone_from(&id);
                }
                let data = data.map(|data| serde_json::from_str(&data).unwrap());
                return Ok(name.zip(data).map(|(name, data)| Heard { id, name, data }));
            }
            let chunk =
                tokio::time::timeout(PATIENCE, self.answer.chunk()).await.expect("nothing is heard any more");
            match chunk {
                Ok(Some(chunk)) => self.text.push_str(std::str::from_utf8(&chunk).unwrap()),
                Ok(None) | Err(_) => return Err(()),
            }
        }
    }

    /// The next event.
    pub async fn next(&mut self) -> Heard {
        loop {
            if let Some(heard) = self.frame().await.expect("the stream is over") {
                return heard;
            }
        }
    }

    /// Every event up to one that fits, which is the last.
    pub async fn until(&mut self, fits: impl Fn(&Heard) -> bool) -> Vec<Heard> {
        let mut all = Vec::new();
        loop {
            let heard = self.next().await;
            let last = fits(&heard);
            all.push(heard);
            if last {
                return all;
            }
        }
    }

    /// Waits until the other side ends it.
    pub async fn until_over(&mut self) {
        while self.frame().await.is_ok() {}
    }
}

fn is(name: &str, subject: &str, field: &str, value: Value) -> impl Fn(&Heard) -> bool {
    move |heard| heard.name == name && heard.subject() == subject && heard.data[field] == value
}

#[tokio::test]
async fn every_change_is_told_as_its_own_get_shows_it() {
    let world = World::start().await;
    let mut stream = Stream::open(&world.api, None).await;
    let account = world.ready_account().await;
    let topup = world.settled_topup("usd", 1_000).await;
    let id = world.transfer(&account, 600, json!({"metadata": {"a": "b"}})).await;
    world.until_status(&id, "released").await;
    let heard = stream.until(is("transfer", &id, "status", json!("released"))).await;
    let mut last: BTreeMap<&str, &Heard> = BTreeMap::new();
    for event in &heard {
        last.insert(event.subject(), event);
    }
    let shown = async |path: String| world.api.get(&path).await.1;
    assert_eq!(last[account.as_str()].name, "readiness");
    assert_eq!(last[account.as_str()].data, shown(format!("/v1/accounts/{account}/readiness")).await);
    assert_eq!(last[topup.as_str()].name, "topup");
    let mut money_in = shown(format!("/v1/topups/{topup}")).await;
    money_in.as_object_mut().unwrap().remove("history");
    assert_eq!(last[topup.as_str()].data, money_in);
    let mut transfer = shown(format!("/v1/transfers/{id}")).await;
    for more in ["history", "reversals", "attempts"] {
        transfer.as_object_mut().unwrap().remove(more);
    }
    assert_eq!(last[id.as_str()].data, transfer);
    let places: Vec<_> = heard.iter().map(|event| Position::parse(&event.id).unwrap().place).collect();
    assert!(places.windows(2).all(|pair| pair[0] < pair[1]), "in order, and each once: {places:?}");
}

#[tokio::test]
async fn who_comes_back_hears_what_they_missed_and_nothing_twice() {
    let mut world = World::start().await;
    let mut stream = Stream::open(&world.api, None).await;
    let first = world.ready_account().await;
    world.until_quiet_about(&first).await;
    let after_it = world.ready_account().await;
    stream.until(is("readiness", &after_it, "ready", json!(true))).await;
    let last_id = stream.last_id.clone();
    drop(stream);
    let mut missed = Vec::new();
    for _ in 0..3 {
        missed.push(world.ready_account().await);
    }
    // The service may be another one by then.
    world.stop_service().await;
    world.start_service().await;
    let mut stream = Stream::open(&world.api, Some(&last_id)).await;
    let heard = stream.until(is("readiness", &missed[2], "ready", json!(true))).await;
    let subjects: Vec<&str> = heard.iter().map(Heard::subject).collect();
    assert!(missed.iter().all(|account| subjects.contains(&account.as_str())), "{subjects:?}");
    assert!(!subjects.contains(&first.as_str()), "told before: {subjects:?}");
    // And goes on with what is new; a second listener from the same id hears the same.
    let new = world.ready_account().await;
    let more = stream.until(is("readiness", &new, "ready", json!(true))).await;
    let mut other = Stream::open(&world.api, Some(&last_id)).await;
    let all = other.until(is("readiness", &new, "ready", json!(true))).await;
    let once: Vec<Heard> = heard.into_iter().chain(more).collect();
    let of = |events: &[Heard]| {
        events.iter().map(|e| e.subject().to_owned()).collect::<std::collections::BTreeSet<_>>()
    };
    assert_eq!(of(&all), of(&once));
}

#[tokio::test]
async fn what_commits_late_is_neither_lost_nor_overtaken() {
    let world = World::start().await;
    let (slow, fast) = (world.ready_account().await, world.ready_account().await);
    let mut stream = Stream::open(&world.api, None).await;
    let mut tx = world.pool().begin().await.unwrap();
    sqlx::query(
        "insert into account_changes (livemode, account, at, as_of, source, state, reasons)
         values (false, $1, $2, $2, 'evt_late', 'null', '{}')",
    )
    .bind(&slow)
    .bind(world.clock.now())
    .execute(&mut *tx)
    .await
    .unwrap();
    // Commits first, although it began later.
    let change = AccountChange { charges_enabled: Some(false), ..AccountChange::default() };
    world.stripe.change_account(&fast, &change).unwrap();
    let path = format!("/v1/accounts/{fast}/readiness");
    world.api.until(&path, |readiness| readiness["ready"] == json!(false)).await;
    tx.commit().await.unwrap();
    let heard = stream.until(is("readiness", &fast, "ready", json!(false))).await;
    let subjects: Vec<&str> = heard.iter().map(Heard::subject).collect();
    // What was true of both before may have been told only now.
    assert!(
        subjects.ends_with(&[slow.as_str(), fast.as_str()]),
        "the older transaction's first: {subjects:?}"
    );
}

#[tokio::test]
async fn of_the_other_mode_nothing_is_told() {
    let world = World::start().await;
    let mut stream = Stream::open(&world.api, None).await;
    let account = world.ready_account().await;
    stream.until(is("readiness", &account, "ready", json!(true))).await;
    let copy =
        "insert into accounts select (jsonb_populate_record(a, '{\"livemode\": true}')).* from accounts a;
        insert into account_changes (livemode, account, at, as_of, source, state, reasons)
            select livemode, account, updated_at, as_of, source, 'null', '{}' from accounts where livemode";
    sqlx::raw_sql(copy).execute(world.pool()).await.unwrap();
    let other = world.ready_account().await;
    let heard = stream.until(is("readiness", &other, "ready", json!(true))).await;
    assert!(heard.iter().all(|event| event.subject() == other), "{heard:?}");
}

#[tokio::test]
async fn who_can_not_go_on_where_they_stopped_is_told_so_first() {
    let world = World::start().await;
    let mut stream = Stream::open(&world.api, None).await;
    let account = world.ready_account().await;
    stream.until(is("readiness", &account, "ready", json!(true))).await;
    let good = stream.last_id.clone();
    let elsewhere = {
        let mut position = Position::parse(&good).unwrap();
        position.database ^= 1;
        position.to_string()
    };
    let ahead = {
        let mut position = Position::parse(&good).unwrap();
        position.place.xid += 1_000_000;
        position.to_string()
    };
    world.clock.advance(time::Duration::days(7) - time::Duration::minutes(5));
    let mut still = Stream::open(&world.api, Some(&good)).await;
    let next = world.ready_account().await;
    let heard = still.until(is("readiness", &next, "ready", json!(true))).await;
    assert!(heard.iter().all(|event| event.name != "reset"), "seven days are kept: {heard:?}");
    let reset = async |id: &str, reason: &str| {
        let mut stream = Stream::open(&world.api, Some(id)).await;
        let first = stream.next().await;
        assert_eq!((first.name.as_str(), &first.data["reason"]), ("reset", &json!(reason)), "{id}");
        let account = world.ready_account().await;
        // From then on it tells what is new.
        stream.until(is("readiness", &account, "ready", json!(true))).await;
    };
    for (id, reason) in [("nonsense", "unknown"), (&elsewhere, "foreign"), (&ahead, "undone")] {
        reset(id, reason).await;
    }
    world.clock.advance(time::Duration::minutes(6));
    reset(&good, "too_old").await;
}

#[tokio::test]
async fn a_shutdown_waits_for_nobody_who_listens_or_waits() {
    let mut world = World::start().await;
    let account = world.stripe.create_account(AccountSpec::default());
    world.tell(&about_account("account.updated.01_new_express", &account, world.second())).await;
    let path = format!("/v1/accounts/{account}/readiness");
    world.api.until(&path, |readiness| readiness["ready"] == json!(false)).await;
    let mut stream = Stream::open(&world.api, None).await;
    let api = world.api.clone();
    let waits = tokio::spawn(async move { api.get(&format!("{path}?wait=60&until=ready")).await });
    // It waits by the time its own look has come.
    let looked = "select count(*) from pg_stat_activity where query like '-- list_accounts_changed%' and datname = current_database() and $1 = ''";
    let seen =
        crate::support::world::eventually(|| async { (world.count(looked, "").await > 0).then_some(()) });
    assert!(seen.await.is_some(), "nobody looks for who waits");
    let started = std::time::Instant::now();
    world.stop_service().await;
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    stream.until_over().await;
    let (status, answer) = waits.await.unwrap();
    assert_eq!((status, &answer["ready"]), (200, &json!(false)));
}

#[tokio::test]
async fn a_heartbeat_comes_while_nothing_changes_and_a_key_taken_back_hears_no_more() {
    let world = World::start().await;
    let (_, made) = world.api.post("/v1/keys", "k", &json!({"name": "n", "scope": "read"})).await;
    let mut stream = Stream::open(&world.api.with_key(made["secret"].as_str().unwrap()), None).await;
    let greeted = Position::parse(&stream.last_id).unwrap();
    assert_eq!(stream.frame().await, Ok(None), "a heartbeat");
    let beaten = Position::parse(&stream.last_id).unwrap();
    assert!(beaten.at > greeted.at && beaten.place == greeted.place, "{beaten:?}");
    assert_eq!(world.api.delete(&format!("/v1/keys/{}", made["id"].as_str().unwrap())).await.0, 200);
    stream.until_over().await;
}

#[tokio::test]
async fn a_stream_needs_a_key_and_takes_no_parameters() {
    let world = World::start().await;
    let ask_for = |path: &str| world.api.http.get(world.api.url(path));
    ask(ask_for("/v1/stream")).await.must_be(401, "unauthorized", "without a key");
    let odd = ask(ask_for("/v1/stream?since=1").bearer_auth(&world.api.key)).await;
    assert_eq!((odd.status, odd.pointers()), (422, vec!["/query/since"]));
}
