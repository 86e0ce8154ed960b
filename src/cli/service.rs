//! Puts the parts together: the only place where intake, worker and API meet.
//!
//! Used by `serve`, by `demo` and by the tests, which all run the same program.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use anyhow::Context as _;
use secrecy::SecretString;
use sqlx::PgPool;
use time::OffsetDateTime;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock::Clock;
use crate::domain::account::Policy;
use crate::domain::limits::{Limits, ReleaseOrder};
use crate::domain::share::Share;
use crate::domain::topup::Rule;
use crate::flows::receive::Intake;
use crate::flows::{Context, Home, catch_up, upkeep};
use crate::http::{self, AdminKey, AppState, Door, Live, Served, Serving};
use crate::store::db;
use crate::stripe::client::{Client, ClientConfig};
use crate::stripe::signature::SigningSecret;
use crate::telemetry;
use crate::worker::wake::Wake;
use crate::worker::{self, driver, fresh};

/// Which parts run in this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Roles {
    /// Takes in webhooks.
    pub intake: bool,
    /// Works off what is due.
    pub worker: bool,
    /// Answers internal services.
    pub api: bool,
    /// Shows operators their pages.
    pub console: bool,
}

impl Roles {
    /// Every part.
    pub const ALL: Roles = Roles { intake: true, worker: true, api: true, console: true };
}

/// Everything the service is made from.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where Postgres is.
    pub database_url: String,
    /// Connections to it at most.
    pub connections: u32,
    /// Where to listen; port 0 picks a free one.
    pub listen: SocketAddr,
    /// Where to listen for everything but webhooks, onboarding's doors and probes, if apart.
    pub ops_listen: Option<SocketAddr>,
    /// Where people reach onboarding's doors, without trailing slash; `None`: in test mode, where it listens.
    pub public_url: Option<String>,
    /// The bootstrap key.
    pub admin_key: Option<SecretString>,
    /// How Stripe is called; its timeout is the longest call.
    pub stripe: ClientConfig,
    /// The key's mode: true for live.
    pub livemode: bool,
    /// The secrets of the webhook endpoints.
    pub webhook_secrets: Vec<SigningSecret>,
    /// How old, or how far ahead, a signature may be.
    pub tolerance: Duration,
    /// Which conditions make an account ready.
    pub policy: Policy,
    /// When money counts as settled.
    pub rule: Rule,
    /// An account last confirmed longer ago is fetched before it is paid.
    pub max_age: Duration,
    /// How long after the last call a look-up counts as proof.
    pub grace: Duration,
    /// `source_type` sent with transfers.
    pub source_type: Option<String>,
    /// Arrivals before this are not money to release.
    pub funds_since: Option<OffsetDateTime>,
    /// What needs an approval, and how much goes out in a day.
    pub limits: Limits,
    /// Which transfer is served first.
    pub release_order: ReleaseOrder,
    /// How often stale objects are compared with Stripe; `None`: never.
    pub reconcile_every: Option<Duration>,
    /// How often Stripe's event list is searched for what never arrived; `None`: never.
    pub backfill_every: Option<Duration>,
    /// How long settled events are kept.
    pub retention: Duration,
    /// Which parts run.
    pub roles: Roles,
    /// How connections are served.
    pub serving: Serving,
    /// How the worker runs.
    pub worker: driver::Settings,
}

/// A service that runs.
#[derive(Debug)]
pub struct Running {
    /// The bound address.
    pub address: SocketAddr,
    /// The bound address of the operations' side, if apart.
    pub ops_address: Option<SocketAddr>,
    scheme: &'static str,
    stop: CancellationToken,
    parts: TaskTracker,
    pool: PgPool,
}

/// How long settled events are kept where nothing else is said.
pub const RETENTION: Duration = Duration::from_secs(90 * 24 * 60 * 60);
/// How long the database may be away at the start.
const DATABASE_PATIENCE: Duration = Duration::from_secs(30);

/// Starts the service and returns once it listens.
pub async fn start(plan: Plan, clock: Clock) -> anyhow::Result<Running> {
    anyhow::ensure!(
        plan.worker.outlasts(plan.stripe.timeout),
        "a lease of {} must outlast the longest call to Stripe by 20 s: shorten the call or lengthen the lease",
        plan.worker.lease
    );
    let pool = connect(&plan.database_url, plan.connections).await?;
    db::migrate(&pool).await.context("the migrations could not be applied")?;
    let mut ctx = context(&plan, pool.clone(), clock)?;
    // Before anything can be released: this database may be one that was restored from a backup.
    let heartbeat = catch_up::beat(&ctx, None).await.context("the heartbeat could not be kept")?;
    upkeep::begin(&ctx, plan.funds_since).await.context("the first rows could not be written")?;

    let (stop, parts, wake) = (CancellationToken::new(), TaskTracker::new(), Wake::default());
    let ourselves = Arc::new(RwLock::new(upkeep::ourselves(&ctx).await?));
    let listener = bind(plan.listen).await?;
    let ops_listener = match plan.ops_listen {
        Some(address) => Some(bind(address).await?),
        None => None,
    };
    ctx.public_url = public_url(&plan, listener.local_addr()?);
    let running = Running {
        address: listener.local_addr()?,
        ops_address: ops_listener.as_ref().map(TcpListener::local_addr).transpose()?,
        scheme: scheme(&plan),
        stop: stop.clone(),
        parts: parts.clone(),
        pool: pool.clone(),
    };
    parts.spawn(wake.clone().run(pool.clone(), stop.clone()));
    let (presence, holder) = (worker::upkeep::appear(&pool, plan.worker.holder).await?, plan.worker.holder);
    let keep = worker::upkeep::run(
        ctx.clone(),
        Arc::clone(&ourselves),
        presence,
        holder,
        heartbeat,
        wake.clone(),
        stop.clone(),
    );
    parts.spawn(keep);
    if plan.roles.worker {
        parts.spawn(driver::run(ctx.clone(), plan.worker.clone(), wake.clone(), stop.clone()));
        for share in Share::ALL {
            parts.spawn(fresh::run(ctx.clone(), share, wake.clone(), stop.clone()));
        }
    }
    let tolerance_s = i64::try_from(plan.tolerance.as_secs()).unwrap_or(i64::MAX);
    // Taken now: what is counted before there is a recorder is lost.
    let metrics = telemetry::metrics();
    let intake = Intake::open(pool, plan.webhook_secrets, tolerance_s, ourselves, wake.bell());
    let live = Live::start(&ctx, &wake.signals(), &stop, &parts);
    let state = AppState {
        ctx,
        intake,
        admin_key: plan.admin_key.as_ref().map(AdminKey::of),
        door: Door::default(),
        live,
        closing: stop.clone(),
        metrics: Arc::new(move || metrics.render()),
        bell: wake.bell(),
        onboarding: Arc::default(),
        console: Arc::default(),
    };
    let doors = doors(listener, ops_listener, plan.roles, state);
    // Together they open no more files than there are; who crowds at one keeps nobody out of the other.
    let most = plan.serving.most / doors.len();
    for (listener, router) in doors {
        let serving = Serving { most, ..plan.serving.clone() };
        let served = http::serve(listener, router, serving, stop.clone());
        parts.spawn(async move {
            if let Err(error) = served.await {
                tracing::error!(%error, "the HTTP server ended");
            }
        });
    }
    parts.close();
    Ok(running)
}

/// Which routes are served where.
fn doors(
    listener: TcpListener,
    ops_listener: Option<TcpListener>,
    roles: Roles,
    state: AppState,
) -> Vec<(TcpListener, axum::Router)> {
    let served = Served { intake: roles.intake, api: roles.api, console: roles.console };
    match ops_listener {
        Some(ops) => {
            vec![(listener, http::public(state.clone(), served)), (ops, http::operations(state, served))]
        }
        None => vec![(listener, http::whole(state, served))],
    }
}

async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("can't listen on {address}: choose a free address"))
}

/// Connects, waiting a while for a database that is still starting.
pub async fn connect(url: &str, connections: u32) -> anyhow::Result<PgPool> {
    let since = std::time::Instant::now();
    loop {
        match db::connect(url, connections).await {
            Ok(pool) => return Ok(pool),
            Err(db::StoreError::Unavailable(error)) if since.elapsed() < DATABASE_PATIENCE => {
                tracing::warn!(%error, "the database does not answer; trying again");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            Err(error) => return Err(error).context("DATABASE_URL: can't connect to Postgres"),
        }
    }
}

/// What every flow works with, after a plan.
pub(super) fn context(plan: &Plan, pool: PgPool, clock: Clock) -> anyhow::Result<Context> {
    // A hundred years is for ever, and stays within what dates can be added to.
    let for_ever = time::Duration::days(36_500);
    let long = |length: Duration| time::Duration::try_from(length).map_or(for_ever, |l| l.min(for_ever));
    Ok(Context {
        pool,
        stripe: Arc::new(Client::new(plan.stripe.clone())?),
        clock,
        livemode: plan.livemode,
        conditions: plan.policy.clone(),
        home: Home::default(),
        rule: plan.rule,
        max_age: long(plan.max_age),
        grace: long(plan.grace),
        source_type: plan.source_type.clone(),
        limits: plan.limits.clone(),
        release_order: plan.release_order,
        backfill_every: plan.backfill_every.map(long),
        reconcile_every: plan.reconcile_every.map(long),
        retention: long(plan.retention),
        longest_call: plan.stripe.timeout,
        releases: Arc::default(),
        public_url: public_url(plan, plan.listen),
    })
}

/// Where people come back to from Stripe's pages. On a developer's machine that is where the service listens;
/// live mode never guesses.
fn public_url(plan: &Plan, address: SocketAddr) -> Option<String> {
    let here = || {
        let host =
            if address.ip().is_unspecified() { "localhost".to_owned() } else { bracketed(address.ip()) };
        format!("{}://{host}:{}", scheme(plan), address.port())
    };
    plan.public_url.clone().or_else(|| (!plan.livemode).then(here))
}

fn scheme(plan: &Plan) -> &'static str {
    if plan.serving.tls.is_some() { "https" } else { "http" }
}

fn bracketed(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    }
}

impl Running {
    /// Where it listens, as a URL.
    pub fn url(&self) -> String {
        format!("{}://{}", self.scheme(), self.address)
    }

    /// `https`, or `http`.
    pub fn scheme(&self) -> &'static str {
        self.scheme
    }

    /// Takes no more, finishes what is under way, and ends.
    pub async fn stop(self) {
        self.stop.cancel();
        self.parts.wait().await;
        self.pool.close().await;
    }
}
