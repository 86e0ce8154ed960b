//! A stand-in for Stripe over real HTTP, for `sandbox`, `demo`, the tests and the fault simulator.
//!
//! It keeps its world in memory, speaks the subset of Stripe's API that the service may call, sends signed
//! webhooks, and settles money on an accelerated clock. It knows Stripe's signature and nothing else of the
//! service. What a person or a test may do to it beyond Stripe's API is in [`Control`] and, over HTTP, in
//! [`control_routes`].

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{ConnectInfo, State};
use axum::http::{HeaderMap, Method, Response, Uri};
use tokio::net::TcpListener;
use tokio::sync::broadcast;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::clock::Clock;
use crate::stripe::signature::{SecretError, SigningSecret};

mod accounts;
mod balance;
mod books;
mod borders;
mod call;
mod control;
pub mod control_routes;
mod cut;
mod errors;
mod events;
mod faults;
mod forms;
mod idempotency;
mod lists;
mod moments;
mod onboarding;
mod payouts;
mod permissions;
mod prefill;
mod pump;
mod routes;
mod state;
#[cfg(test)]
mod tests;
mod topups;
mod transfers;
mod v2;
mod webhooks;

pub use books::{Books, Movement, Position, TransferBook};
pub use call::{Call, Outcome};
pub use control::{AccountChange, AccountSpec, Control, NotPossible};
pub use faults::{Fault, FaultKind};
pub use moments::{Moment, Stage};
pub use v2::{V2Change, V2Spec};
pub use webhooks::Attempt;

/// The API version its objects and events follow.
pub const API_VERSION: &str = "2026-10-28.endive";

/// How a sandbox is set up. `Config::default()` settles fast, delivers once and in order of due time.
#[derive(Debug, Clone)]
pub struct Config {
    /// A loopback address; port 0 picks a free one.
    pub listen: SocketAddr,
    /// Where events go. With one endpoint only, it gets both kinds.
    pub webhook_urls: Vec<Endpoint>,
    /// Creation of a top-up to `succeeded`, in sandbox time; `Duration::MAX` is never.
    pub settle_after: Duration,
    /// `succeeded` to an available balance transaction, in sandbox time; `Duration::MAX` is never.
    pub available_after: Duration,
    /// How webhooks are delivered.
    pub deliver: Delivery,
    /// Decides ids, webhook secrets and reordering. Two sandboxes of one seed give out the same ids: who keeps
    /// what it received must not meet the same seed twice.
    pub seed: u64,
    /// When set, any other API key is answered 401.
    pub secret_key: Option<String>,
    /// The mode of every object.
    pub livemode: bool,
    /// Where the platform is: two letters.
    pub country: String,
    /// How long an idempotency key is kept, in sandbox time. Stripe promises 24 hours.
    pub key_ttl: Duration,
    /// The source type that holds the money; Stripe's transfers draw from `card` unless told otherwise.
    pub source_type: String,
    /// The clock under the sandbox's own; signatures carry its time. Shared with the service, one
    /// advance moves both; [`Control::advance`] moves the sandbox alone.
    pub clock: Clock,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            webhook_urls: Vec::new(),
            settle_after: Duration::from_secs(2),
            available_after: Duration::from_secs(2),
            deliver: Delivery::default(),
            seed: 0,
            secret_key: None,
            livemode: false,
            country: "US".to_owned(),
            key_ttl: Duration::from_secs(24 * 60 * 60),
            source_type: "card".to_owned(),
            clock: Clock::adjustable(),
        }
    }
}

/// A webhook endpoint known from the start, for every event type of its kind.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// Where events are posted.
    pub url: String,
    /// Its `whsec_…`.
    pub secret: String,
    /// True for events of connected accounts, false for the platform's own.
    pub connect: bool,
}

/// How webhooks are delivered.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// Every how many-th delivery is made twice; 0 is none.
    pub duplicate_every: u32,
    /// Throws deliveries back by up to 100 ms each, by the seed.
    pub reorder: bool,
    /// Wait before a first attempt.
    pub delay: Duration,
    /// What follows an attempt that got no 2xx.
    pub retry: Retry,
    /// How many attempts run at once; 1 keeps their order.
    pub concurrency: usize,
    /// How long an attempt waits for its answer.
    pub timeout: Duration,
}

impl Default for Delivery {
    fn default() -> Self {
        Self {
            duplicate_every: 0,
            reorder: false,
            delay: Duration::ZERO,
            retry: Retry::default(),
            concurrency: 8,
            timeout: Duration::from_secs(10),
        }
    }
}

/// Retry of webhook deliveries: doubling waits, bounded.
#[derive(Debug, Clone)]
pub struct Retry {
    /// The first wait.
    pub first: Duration,
    /// The longest wait.
    pub max: Duration,
    /// How many attempts in all before a delivery is given up.
    pub attempts: u32,
}

impl Default for Retry {
    fn default() -> Self {
        Self { first: Duration::from_millis(50), max: Duration::from_secs(2), attempts: 1_000 }
    }
}

/// Why a sandbox did not start.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// It has no protection of any kind, so it serves this machine alone.
    #[error("the sandbox listens on loopback addresses only, not on {0}: use 127.0.0.1")]
    NotLoopback(SocketAddr),
    /// The address is taken or not ours.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address that was asked for.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// An endpoint's secret is not one.
    #[error("a webhook endpoint's secret {0}")]
    Secret(#[from] SecretError),
    /// The HTTP client for webhooks could not be built.
    #[error("cannot build the client for webhooks: {0}")]
    Client(#[from] reqwest::Error),
}

/// What the server, the background tasks and the controls share.
pub(crate) struct Shared {
    world: Mutex<state::World>,
    http: reqwest::Client,
    tasks: TaskTracker,
    stopping: CancellationToken,
    moments: broadcast::Sender<Moment>,
}

impl Shared {
    /// The world. Never held across an await; a panic under the lock leaves the world usable for inspection.
    fn lock(&self) -> MutexGuard<'_, state::World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sleeps; false where the sandbox stopped meanwhile.
    async fn pause(&self, duration: Duration) -> bool {
        tokio::select! {
            () = tokio::time::sleep(duration) => true,
            () = self.stopping.cancelled() => false,
        }
    }
}

/// A running sandbox. Dropping it stops it too, without waiting.
pub struct Sandbox {
    url: String,
    shared: Arc<Shared>,
    _stop_on_drop: DropGuard,
}

impl Sandbox {
    /// Its base URL, for `STRIPE_API_BASE`.
    pub fn url(&self) -> String {
        self.url.clone()
    }

    /// The in-process controls.
    pub fn control(&self) -> Control {
        Control::new(self.shared.clone())
    }

    /// Ends the server, the deliveries and the clock, and waits for them up to two seconds.
    pub async fn stop(self) {
        self.shared.stopping.cancel();
        self.shared.tasks.close();
        // A caller that keeps its connection busy can't hold the stop up for ever.
        if tokio::time::timeout(Duration::from_secs(2), self.shared.tasks.wait()).await.is_err() {
            tracing::debug!("sandbox stopped with connections still open");
        }
    }
}

/// Starts a sandbox.
///
/// # Errors
/// The address is not a loopback one or can't be listened on, a secret is malformed, or the HTTP client can't be
/// built.
pub async fn start(config: Config) -> Result<Sandbox, SandboxError> {
    if !config.listen.ip().is_loopback() {
        return Err(SandboxError::NotLoopback(config.listen));
    }
    let failed = |source| SandboxError::Listen { address: config.listen, source };
    let listener = TcpListener::bind(config.listen).await.map_err(failed)?;
    let url = format!("http://{}", listener.local_addr().map_err(failed)?);
    // The client needs a process-wide TLS provider even for plain HTTP; one that is there already is as good.
    drop(rustls::crypto::ring::default_provider().install_default());
    let http = reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(config.deliver.timeout)
        .build()?;
    let stopping = CancellationToken::new();
    let mut world = state::World::new(&config, url.clone());
    for endpoint in &config.webhook_urls {
        world.add_endpoint(&endpoint.url, SigningSecret::parse(&endpoint.secret)?, endpoint.connect);
    }
    let shared = Arc::new(Shared {
        world: Mutex::new(world),
        http,
        tasks: TaskTracker::new(),
        stopping: stopping.clone(),
        moments: broadcast::channel(4_096).0,
    });
    let app = Router::new().fallback(serve).with_state(shared.clone());
    let server =
        axum::serve(cut::CuttableListener(listener), app.into_make_service_with_connect_info::<cut::Cut>())
            .with_graceful_shutdown(stopping.clone().cancelled_owned());
    shared.tasks.spawn(async move {
        if let Err(error) = server.await {
            tracing::error!(%error, "the sandbox's server ended");
        }
    });
    shared.tasks.spawn(pump::tick(shared.clone()));
    shared.tasks.spawn(pump::pump(shared.clone()));
    Ok(Sandbox { url, shared, _stop_on_drop: stopping.drop_guard() })
}

async fn serve(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(cut): ConnectInfo<cut::Cut>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response<axum::body::Body> {
    let path = uri.path().to_owned();
    if path.starts_with("/_sandbox") {
        return control_routes::handle(&shared, &method, &path, &body).await.into_response();
    }
    let encoded = if method == Method::GET {
        uri.query().unwrap_or_default().to_owned()
    } else {
        String::from_utf8_lossy(&body).into_owned()
    };
    let incoming = call::Incoming { method, path, encoded, headers };
    // A task of its own: a caller that hangs up does not stop what it started.
    match shared.tasks.spawn(call::run(shared.clone(), incoming)).await {
        Ok(Some(answer)) => answer.into_response(),
        Ok(None) | Err(_) => {
            cut.cut();
            errors::Answer::html(500, "").into_response()
        }
    }
}
