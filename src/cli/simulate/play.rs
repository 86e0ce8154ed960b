//! One run: the story is told, the mishaps happen, and all is waited for.

use std::path::Path;
use std::time::Duration;

use sqlx::PgPool;
use tokio::time::{Instant, sleep};

use super::ending::Ending;
use super::mishaps::{Machines, befall, befall_at_moments};
use super::replica::{Orders, Replica};
use super::schedule::Schedule;
use super::stage::Stage;
use super::story::{Cast, Story};
use crate::clock::Clock;
use crate::domain::count::counted;
use crate::sandbox::{self, Control, Delivery, Retry, Sandbox};
use crate::store::db;

const PLATFORM_SECRET: &str = "whsec_simulatedplatform";
const CONNECT_SECRET: &str = "whsec_simulatedconnect";
/// How long a phase may take to come to its end.
const PATIENCE: Duration = Duration::from_secs(60);

/// A run that came to its end, or not; everything to judge it by.
pub struct Played {
    /// Stripe's side, still there.
    pub control: Control,
    /// The ids.
    pub cast: Cast,
    /// How it ended.
    pub ending: Ending,
    /// What went wrong in the telling itself.
    pub findings: Vec<String>,
    /// Replicas killed.
    pub kills: u64,
    /// The database.
    pub pool: PgPool,
    _sandbox: Sandbox,
}

/// Runs a schedule with so many replicas; logs go to `logs`.
pub async fn play(
    schedule: &Schedule,
    stage: &mut Stage,
    replicas: usize,
    planted: Option<&str>,
    logs: &Path,
) -> anyhow::Result<Played> {
    let database_url = stage.database().await?;
    let sandbox = sandbox::start(config(schedule)).await?;
    let control = sandbox.control();
    let mut all = Vec::new();
    for number in 0..replicas {
        let orders = Orders {
            database_url: database_url.clone(),
            listen: free_address()?,
            stripe: sandbox.url(),
            stripe_key: format!("sk_test_replica{number}"),
            secrets: vec![PLATFORM_SECRET.to_owned(), CONNECT_SECRET.to_owned()],
            lease: schedule.lease,
            rate_per_s: schedule.rate_per_s,
        };
        all.push(Replica::new(orders, &logs.join(format!("replica-{number}.log")), planted));
    }
    let urls: Vec<String> = all.iter().map(Replica::url).collect();
    let keys: Vec<String> = all.iter().map(|replica| replica.stripe_key().to_owned()).collect();
    let first = usize::try_from(schedule.seed).unwrap_or(0);
    for (number, secret, connect) in [(first, PLATFORM_SECRET, false), (first + 1, CONNECT_SECRET, true)] {
        let url = format!("{}/webhooks/stripe", urls[number % replicas]);
        control.add_endpoint(&url, secret, connect)?;
    }
    let machines = Machines::new(all, stage);
    machines.revive().await;
    let mut story = Story::new(schedule, control.clone(), urls)?;
    // The clock starts when somebody listens: what comes before would only be waiting.
    story.until_up().await?;
    let moments = control.moments();
    let accounts = story.cast.accounts.clone();
    let told = tokio::select! {
        told = tell(&mut story, &machines, &database_url) => told,
        never = befall_at_moments(schedule, &control, moments, (&keys, &accounts), &machines) => match never {},
    };
    machines.stop().await;
    let (ending, findings, pool) = told?;
    let kills = machines.kills();
    Ok(Played { control, cast: story.cast, ending, findings, kills, pool, _sandbox: sandbox })
}

fn config(schedule: &Schedule) -> sandbox::Config {
    sandbox::Config {
        settle_after: Duration::MAX,
        available_after: Duration::MAX,
        seed: schedule.seed,
        clock: Clock::system(),
        deliver: Delivery {
            duplicate_every: schedule.delivering.duplicate_every,
            reorder: schedule.delivering.reorder,
            delay: schedule.delivering.delay,
            retry: Retry { max: Duration::from_millis(400), ..Retry::default() },
            timeout: Duration::from_secs(2),
            ..Delivery::default()
        },
        ..sandbox::Config::default()
    }
}

/// An address below those that the system gives to outgoing connections: while a replica is dead, nobody may take
/// its place.
fn free_address() -> anyhow::Result<std::net::SocketAddr> {
    for _ in 0..100 {
        if let Ok(listener) = std::net::TcpListener::bind(("127.0.0.1", fastrand::u16(12_000..32_000))) {
            return Ok(listener.local_addr()?);
        }
    }
    anyhow::bail!("no port from 12000 to 32000 is free")
}

/// The story from its beginning to its end, with the mishaps beside it.
async fn tell(
    story: &mut Story<'_>,
    machines: &Machines<'_>,
    database_url: &str,
) -> anyhow::Result<(Ending, Vec<String>, PgPool)> {
    let (schedule, control) = (story.schedule, story.control.clone());
    let began = Instant::now();
    let (told, ()) = tokio::join!(story.tell(began), befall(schedule, &control, machines, began));
    let mut findings = Vec::new();
    findings.extend(told.err().map(|error| format!("an order was not taken: {error:#}")));
    if let Err(last) = wait(story, machines, database_url, |ending| ending.is_half(schedule)).await {
        let stands = last.unfinished(schedule, false);
        findings.push(format!("after {PATIENCE:?} not all had gone out that could: {stands}"));
    }
    findings.extend(story.take_back().await.err().map(|error| format!("an order was not taken: {error:#}")));
    if let Err(last) = wait(story, machines, database_url, |ending| ending.is_whole(schedule)).await {
        let stands = last.unfinished(schedule, true);
        findings.push(format!("after {PATIENCE:?} not all had come back that should: {stands}"));
    }
    control.clear_faults();
    control.hold_events(false);
    control.release(&[]);
    if !control.delivered(Duration::from_secs(20)).await {
        findings.push("events could not be delivered for 20 seconds".to_owned());
    }
    // Once more when all is quiet: reasons may still have been on their way.
    let pool = db::connect(database_url, 2).await?;
    let (ending, unapplied) = quiet(&pool, &story.cast).await?;
    if unapplied > 0 {
        findings.push(format!(
            "{} not applied within ten seconds",
            counted(unapplied, "event was", "events were")
        ));
    }
    Ok((ending, findings, pool))
}

/// Waits until nothing is unapplied and nothing changes any more; how all stood, and how many events are unapplied.
/// What the lists bring in later, as the replicas are stopped, is not counted.
async fn quiet(pool: &PgPool, cast: &Cast) -> anyhow::Result<(Ending, i64)> {
    let mut last = Ending::read(pool, cast).await?;
    let (mut same, mut left) = (0, 0);
    for _ in 0..100 {
        sleep(Duration::from_millis(100)).await;
        let (unapplied, _) = crate::store::inspect::count_unapplied(&mut *pool.acquire().await?).await?;
        left = unapplied;
        let now = Ending::read(pool, cast).await?;
        same = if now == last && unapplied == 0 { same + 1 } else { 0 };
        last = now;
        if same >= 3 {
            break;
        }
    }
    Ok((last, left))
}

/// Waits for an ending that fits; else tells how all stood at last.
async fn wait(
    story: &Story<'_>,
    machines: &Machines<'_>,
    database_url: &str,
    fits: impl Fn(&Ending) -> bool,
) -> Result<(), Ending> {
    let until = Instant::now() + PATIENCE;
    let (mut pool, mut last) = (None, Ending::default());
    while Instant::now() < until {
        if pool.is_none() {
            pool = db::connect(database_url, 1).await.ok();
        }
        if let Some(open) = &pool {
            match Ending::read(open, &story.cast).await {
                Ok(ending) if fits(&ending) => return Ok(()),
                Ok(ending) => last = ending,
                Err(_) => pool = None,
            }
        }
        machines.revive().await;
        sleep(Duration::from_millis(100)).await;
    }
    Err(last)
}
