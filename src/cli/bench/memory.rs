//! Far more is sent than fits: large bodies over many connections. What is refused with 503 is sent again by Stripe;
//! what would be kept in memory would end the process.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use time::OffsetDateTime;

use super::Bench;
use super::figures::PEAK_MIB;
use super::payload::SECRET;
use super::server::Program;
use super::turn::Subject;
use super::wire::Connection;
use crate::store::trial;
use crate::stripe::signature::{self, SigningSecret};

/// How the measure is called.
pub const FLOOD: &str = "bodies of 1 MB over 256 connections";
const TAKEN: &str = "200s";
const REFUSED: &str = "503s";
const CUT: &str = "cut off";
const SECONDS: &str = "seconds";

const CONNECTIONS: usize = 256;
/// A little less than the service takes.
const BODY: usize = 1_000_000;
const PATIENCE: Duration = Duration::from_secs(120);

/// What became of the bodies.
#[derive(Default)]
struct Tally {
    taken: AtomicU64,
    refused: AtomicU64,
    cut: AtomicU64,
    other: AtomicU64,
}

/// Throws them at a fresh process with all its roles, once a round.
pub async fn measure(bench: &mut Bench<'_>) -> anyhow::Result<()> {
    let bodies = bench.args.flood.div_ceil(u64::try_from(BODY).unwrap_or(u64::MAX) / 1_000_000).max(1);
    for round in 1..=bench.args.rounds {
        bench.say(&format!("{bodies} bodies of 1 MB, round {round}"));
        let roles = Program::Serve("intake,worker,api,console");
        let server = bench.stand.serve(roles, &bench.database.url).await?;
        let (tally, left) = (Arc::new(Tally::default()), Arc::new(AtomicU64::new(bodies)));
        let began = Instant::now();
        let senders: Vec<_> = (0..CONNECTIONS)
            .map(|_| tokio::spawn(send(server.address, Arc::clone(&tally), Arc::clone(&left))))
            .collect();
        let all = async {
            for sender in senders {
                sender.await??;
            }
            anyhow::Ok(())
        };
        tokio::time::timeout(PATIENCE, all).await??;
        let took = began.elapsed();
        let peak = server.peak_mib();
        server.stop().await?;
        trial::clear_bells(&mut *bench.database.pool.acquire().await?).await?;
        let count = |of: &AtomicU64| of.load(Ordering::Relaxed);
        anyhow::ensure!(count(&tally.other) == 0, "{} bodies were answered otherwise", count(&tally.other));
        let mut add = |name, value| bench.figures.add(bench.phase, FLOOD, Subject::Whole.name(), name, value);
        add(PEAK_MIB, peak);
        add(TAKEN, Some(count(&tally.taken) as f64));
        add(REFUSED, Some(count(&tally.refused) as f64));
        add(CUT, Some(count(&tally.cut) as f64));
        add(SECONDS, Some(took.as_secs_f64()));
    }
    Ok(())
}

/// One connection: a body after another, until all are sent by somebody.
async fn send(address: SocketAddr, tally: Arc<Tally>, left: Arc<AtomicU64>) -> anyhow::Result<()> {
    let secret = SigningSecret::parse(SECRET)?;
    let mut connection = Connection::open(address).await?;
    let take = |left: u64| left.checked_sub(1);
    while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok() {
        let body = body();
        let signed = signature::sign(&body, &secret, OffsetDateTime::now_utc().unix_timestamp());
        let head = format!(
            "POST /webhooks/stripe HTTP/1.1\r\nhost: {address}\r\nstripe-signature: {signed}\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        let answer = connection.exchange_listening(head.as_bytes(), &body).await;
        let counted = match answer.as_ref().map(|answer| answer.status) {
            Ok(200) => &tally.taken,
            Ok(503) => &tally.refused,
            Ok(_) => &tally.other,
            // The answer came while the body was still on its way, and the end of the connection overtook it.
            Err(_) => &tally.cut,
        };
        counted.fetch_add(1, Ordering::Relaxed);
        // After an early answer the rest of the body is still in the pipe.
        if !answer.is_ok_and(|answer| answer.status == 200 && !answer.closes) {
            connection = Connection::open(address).await?;
        }
    }
    Ok(())
}

/// A signed event of a type that nobody handles, with an id of its own.
fn body() -> Vec<u8> {
    let id = format!("evt_1{:023}", fastrand::u64(..));
    let mut text = format!(
        r#"{{"id":"{id}","object":"event","type":"customer.updated","created":{},"livemode":false,"data":{{"object":{{"id":"cus_1","metadata":{{"x":""#,
        OffsetDateTime::now_utc().unix_timestamp()
    );
    let tail = r#""}}}}"#;
    text.extend(std::iter::repeat_n('x', BODY.saturating_sub(text.len() + tail.len())));
    text.push_str(tail);
    text.into_bytes()
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_large_body_is_an_event() {
        let body = super::body();
        assert_eq!(body.len(), super::BODY);
        let event = crate::stripe::wire::Envelope::parse(&body).unwrap();
        assert_eq!(event.event_type, "customer.updated");
    }
}
