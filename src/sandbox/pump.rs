//! The background work: signed webhook calls with bounded concurrency, and the ticking of the world.
//!
//! Each attempt is signed anew with the configured clock's time, as Stripe does, so that a retry is never
//! too old for its receiver.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::Semaphore;

use super::Shared;
use super::state::unix_us;
use super::webhooks::Job;
use crate::stripe::signature::sign;

/// How often the world looks for what has become due by time alone.
const TICK: Duration = Duration::from_millis(20);

/// Lets time pass in the world until the sandbox stops.
pub(super) async fn tick(shared: Arc<Shared>) {
    while shared.pause(TICK).await {
        shared.lock().tick();
    }
}

/// Makes queued deliveries as they become due until the sandbox stops.
pub(super) async fn pump(shared: Arc<Shared>) {
    let (bell, concurrency) = {
        let world = shared.lock();
        (world.bell.clone(), world.deliveries.settings.concurrency.max(1))
    };
    let slots = Arc::new(Semaphore::new(concurrency));
    while !shared.stopping.is_cancelled() {
        let Ok(slot) = slots.clone().acquire_owned().await else { return };
        let next = {
            let mut world = shared.lock();
            let now = unix_us(&world.clock);
            world.deliveries.take_due(now)
        };
        match next {
            Ok(job) => {
                let shared = shared.clone();
                shared.tasks.clone().spawn(async move {
                    deliver(&shared, &job).await;
                    drop(slot);
                    shared.lock().bell.notify_one();
                });
            }
            Err(wait_us) => {
                drop(slot);
                // With nothing queued the bell alone wakes; the hour only bounds a sleep that has no end.
                let wait = wait_us.and_then(|us| u64::try_from(us).ok()).unwrap_or(3_600_000_000);
                tokio::select! {
                    () = bell.notified() => {}
                    () = tokio::time::sleep(Duration::from_micros(wait)) => {}
                    () = shared.stopping.cancelled() => {}
                }
            }
        }
    }
}

async fn deliver(shared: &Shared, job: &Job) {
    let open = shared.lock().endpoints.get(&job.endpoint).is_some_and(|endpoint| endpoint.enabled);
    if !open {
        shared.lock().deliveries.drop_job(job);
        return;
    }
    let status = post(shared, &job.event, &job.endpoint).await;
    shared.lock().attempted(Some(job), &job.event, &job.endpoint, status);
}

/// One attempt now, outside the queue, at every endpoint the event belongs to. None where it is unknown.
pub(super) async fn deliver_now(shared: &Shared, event: &str) -> Option<Vec<Option<u16>>> {
    let endpoints: Vec<String> = {
        let world = shared.lock();
        let record = world.events.get(event)?;
        // A lost event has no targets; by hand it may still go where it would have belonged.
        if record.targets.is_empty() {
            world.targets(&record.kind, record.account.as_deref())
        } else {
            record.targets.iter().map(|(endpoint, _)| endpoint.clone()).collect()
        }
    };
    let mut answers = Vec::with_capacity(endpoints.len());
    for endpoint in endpoints {
        let status = post(shared, event, &endpoint).await;
        shared.lock().attempted(None, event, &endpoint, status);
        answers.push(status);
    }
    Some(answers)
}

async fn post(shared: &Shared, event: &str, endpoint: &str) -> Option<u16> {
    let (url, secret, body, timestamp) = {
        let world = shared.lock();
        let endpoint = world.endpoints.get(endpoint)?;
        let body: Value = world.events.get(event)?.json();
        let timestamp = unix_us(&world.clock).div_euclid(1_000_000);
        (endpoint.url.clone(), endpoint.secret.clone(), body.to_string(), timestamp)
    };
    let call = shared
        .http
        .post(url)
        .header("content-type", "application/json; charset=utf-8")
        .header("user-agent", "Stripe/1.0 (+https://stripe.com/docs/webhooks)")
        .header("stripe-signature", sign(body.as_bytes(), &secret, timestamp))
        .body(body);
    tokio::select! {
        answer = call.send() => answer.ok().map(|answer| answer.status().as_u16()),
        () = shared.stopping.cancelled() => None,
    }
}
