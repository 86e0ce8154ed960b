//! The API within this process: the same router as behind the network, over the configured database and Stripe
//! key, called without a listener. So what the shell orders is checked, repeated, refused and put on record exactly
//! as what a program orders, and there is one description of it.

use std::sync::{Arc, RwLock};

use anyhow::Context as _;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::header::CONTENT_TYPE;
use axum::http::{Method, Request, StatusCode};
use serde_json::{Map, Value};
use sqlx::PgPool;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

use super::person;
use super::problem::{Names, Problem};
use crate::cli::database::{self, Database};
use crate::cli::{Failed, serve, service, settings};
use crate::clock::Clock;
use crate::config::Flags;
use crate::flows::bell::Bell;
use crate::flows::receive::Intake;
use crate::flows::{Actor, Context, upkeep};
use crate::http::{self, AppState, Door, Live};
use crate::store::{controls, db, tasks};
use crate::telemetry;

/// Connections to the database at most: one answer takes two.
const CONNECTIONS: u32 = 3;
/// What the shell logs unless told otherwise: it is not the service, and what it does shows anyway.
const LOGGED: &str = "warn";
/// Far beyond any page; a listing is bounded by its pages.
const LONGEST_ANSWER: usize = 64 << 20;

/// What a command can't do without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// The database: what is the same in test and live mode.
    Database,
    /// The Stripe key as well, from which the mode is read.
    Mode,
}

/// The API, for one person.
pub struct Api {
    router: Router,
    pool: PgPool,
    database: Database,
}

/// A 2xx.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The body as it came.
    pub text: String,
    /// What was asked is done; not so where its outcome is still unknown (202).
    pub is_final: bool,
}

impl Answer {
    /// The body, read.
    pub fn value(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_default()
    }
}

/// Opens the API, has `work` done with it, and closes it.
pub async fn with<T>(
    flags: &Flags,
    needs: Needs,
    work: impl AsyncFnOnce(&Api) -> Result<T, Failed>,
) -> Result<T, Failed> {
    let api = Api::open(flags, needs).await?;
    let done = work(&api).await;
    api.close().await;
    done
}

/// Opens what flows work with: the database that the service has, and Stripe's API where there is a key.
pub async fn open(flags: &Flags, needs: Needs) -> Result<(Context, Database), Failed> {
    let settings = settings(flags)?;
    telemetry::init(settings.log_format, Some(settings.log_filter.as_deref().unwrap_or(LOGGED)));
    let plan = match needs {
        Needs::Mode => serve::plan(&settings, String::new(), false)?,
        Needs::Database => serve::plan_without_stripe(&settings)?,
    };
    let (data_dir, bin_dir) = (settings.data_dir, settings.pg_bin_dir);
    let database = database::reach(settings.database_url.as_ref(), data_dir, bin_dir).await?;
    match connect(&database.url).await {
        Ok(pool) => Ok((service::context(&plan, pool, Clock::system())?, database)),
        Err(error) => {
            database.stop().await;
            Err(error.into())
        }
    }
}

/// Connects, at once or not at all: whoever waits at a prompt wants to know.
async fn connect(url: &str) -> anyhow::Result<PgPool> {
    let mend = "can't connect to Postgres: check DATABASE_URL, and that the server runs";
    let pool = db::connect(url, CONNECTIONS).await.context(mend)?;
    let migrated = db::is_ready(&pool).await.unwrap_or(false);
    anyhow::ensure!(
        migrated,
        "the database lacks tables of this version: run `sluicegate migrate`, or start the service, which applies \
         the migrations"
    );
    Ok(pool)
}

impl Api {
    async fn open(flags: &Flags, needs: Needs) -> Result<Self, Failed> {
        let (ctx, database) = open(flags, needs).await?;
        let pool = ctx.pool.clone();
        let bell = Arc::new(Bell::default());
        // Nothing is delivered here: there are no secrets, and no route that leads to it.
        let ourselves = Arc::new(RwLock::default());
        let intake = Intake::open(pool.clone(), Vec::new(), 0, ourselves, Arc::clone(&bell));
        let (closing, signals) = (CancellationToken::new(), watch::channel(0).1);
        let live = Live::start(&ctx, &signals, &closing, &TaskTracker::new());
        let (door, metrics) = (Door::default(), Arc::new(String::new));
        let (onboarding, console) = (Arc::default(), Arc::default());
        let state = AppState {
            ctx,
            intake,
            admin_key: None,
            door,
            live,
            closing,
            metrics,
            bell,
            onboarding,
            console,
        };
        let caller = Actor { id: person::on_record() };
        Ok(Self { router: http::in_process(state, caller), pool, database })
    }

    async fn close(self) {
        drop(self.router);
        self.pool.close().await;
        self.database.stop().await;
    }

    /// Asks.
    pub async fn get(&self, path: &[&str], query: &[(&str, String)], names: Names) -> Result<Answer, Failed> {
        let uri = uri(path, query);
        let asked = Request::builder().method(Method::GET).uri(uri).body(Body::empty());
        self.call(asked.context("the request can't be written")?)
            .await?
            .map_err(|problem| problem.tell(names))
    }

    /// Orders, under this Idempotency-Key.
    pub async fn post(
        &self,
        path: &[&str],
        key: &str,
        body: Map<String, Value>,
        names: Names,
    ) -> Result<Answer, Failed> {
        self.order(path, key, body).await?.map_err(|problem| problem.tell(names))
    }

    /// The same, for who tells a problem in other words.
    pub async fn order(
        &self,
        path: &[&str],
        key: &str,
        body: Map<String, Value>,
    ) -> Result<Result<Answer, Problem>, Failed> {
        let asked = Request::builder()
            .method(Method::POST)
            .uri(uri(path, &[]))
            .header(CONTENT_TYPE, "application/json")
            .header("idempotency-key", key)
            .body(Body::from(Value::Object(body).to_string()))
            .context("--idempotency-key must have 1 to 255 printable ASCII characters")?;
        let answer = self.call(asked).await?;
        if answer.is_ok() {
            self.ring().await;
        }
        Ok(answer)
    }

    /// Takes back.
    pub async fn delete(&self, path: &[&str]) -> Result<Answer, Failed> {
        let asked = Request::builder().method(Method::DELETE).uri(uri(path, &[])).body(Body::empty());
        self.call(asked.context("the request can't be written")?).await?.map_err(|problem| problem.tell(&[]))
    }

    async fn call(&self, request: Request<Body>) -> anyhow::Result<Result<Answer, Problem>> {
        // The router's own error type says that it has none.
        let Ok(response) = self.router.clone().oneshot(request).await;
        let status = response.status();
        let body = to_bytes(response.into_body(), LONGEST_ANSWER).await.context("the answer broke off")?;
        let text = String::from_utf8(body.to_vec()).context("the answer is not text")?;
        match status {
            StatusCode::OK | StatusCode::CREATED | StatusCode::ACCEPTED => {
                Ok(Ok(Answer { text, is_final: status != StatusCode::ACCEPTED }))
            }
            _ => Ok(Err(Problem::read(status.as_u16(), &text))),
        }
    }

    /// Whether a service runs on the database. Where that can't be told, nothing is said of it.
    pub async fn is_served(&self) -> bool {
        let Ok(mut conn) = self.pool.acquire().await else { return true };
        let since = Clock::system().now() - upkeep::ALIVE_FOR;
        controls::count_alive(&mut conn, since).await.map_or(true, |alive| alive > 0)
    }

    /// Wakes the workers of other processes; without it they would find the order half a second later.
    async fn ring(&self) {
        if let Ok(mut conn) = self.pool.acquire().await {
            let _ = tasks::announce(&mut conn).await;
        }
    }
}

/// A path whose segments may hold anything, and its query.
fn uri(path: &[&str], query: &[(&str, String)]) -> String {
    // A base that is well formed, so that it can always be extended.
    let Ok(mut url) = reqwest::Url::parse("http://shell/v1") else { return "/".to_owned() };
    if let Ok(mut segments) = url.path_segments_mut() {
        segments.extend(path);
    }
    if !query.is_empty() {
        url.query_pairs_mut().extend_pairs(query);
    }
    let query = url.query().map(|query| format!("?{query}")).unwrap_or_default();
    format!("{}{query}", url.path())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_typed_stays_within_its_segment_or_parameter() {
        assert_eq!(uri(&["transfers", "a/../b?c"], &[]), "/v1/transfers/a%2F..%2Fb%3Fc");
        assert_eq!(uri(&["events"], &[("type", "a&b=c+d".to_owned())]), "/v1/events?type=a%26b%3Dc%2Bd");
    }
}
