//! `doctor`'s two examinations: of the account at Stripe, and of the database. Nothing is changed by either.
//!
//! Every question is bounded, and what was not answered is a finding like any other.

use std::time::Duration as Wait;

use futures_util::future::join_all;
use serde_json::{Value, json};
use sqlx::{Connection as _, PgConnection};
use time::{Duration, OffsetDateTime};
use tokio::time::timeout;

use super::Context;
use crate::clock::Clock;
use crate::domain::checkup::service::State;
use crate::domain::checkup::stripe::{Answered, PROBES, Probe};
use crate::domain::checkup::{Finding, database, stripe};
use crate::domain::endpoint::{Endpoint, Scope};
use crate::domain::platform::Payouts;
use crate::store::checkup;
use crate::store::db::{self, StoreError};
use crate::stripe::client::{Answer, Client, Lane};
use crate::stripe::error::{Failure, StripeError};
use crate::stripe::wire::{self, OwnAccount};

/// No question to the database takes longer.
const PATIENCE: Wait = Wait::from_secs(10);

/// What of the configuration the account is compared with.
#[derive(Clone, Debug)]
pub struct Expected {
    /// The key's mode: true for live.
    pub livemode: bool,
    /// The key is one that was given its permissions one by one.
    pub restricted: bool,
    /// Where deliveries should go, if that is configured.
    pub url: Option<String>,
    /// How many webhook secrets are configured.
    pub secrets: usize,
    /// How old, or how far ahead, a signature may be.
    pub tolerance: Duration,
}

/// The account at Stripe.
#[derive(Debug)]
pub struct AtStripe {
    /// What was found.
    pub findings: Vec<Finding>,
    /// Whose key it is, where Stripe told.
    pub platform: Option<String>,
}

/// Asks Stripe, everything at once.
pub async fn at_stripe(client: &Client, clock: &Clock, expected: &Expected) -> AtStripe {
    let began = clock.now();
    let own = async {
        let answer = client.own_account(Lane::Release).await;
        (answer, clock.now())
    };
    let listed = client.list_webhook_endpoints(Lane::Release);
    let ((own, ended), endpoints, answers) =
        tokio::join!(own, listed, join_all(PROBES.map(|probe| ask(client, probe))));
    let mut findings = vec![reached(&own)];
    let platform = own.as_ref().ok().map(|answer| answer.object.id.to_string());
    if is_lost(&own) {
        // The rest would say the same in other words.
        return AtStripe { findings, platform };
    }
    findings.push(stripe::permissions(&answers, expected.restricted));
    findings.push(stripe::clock(ahead(&own, began, ended), expected.tolerance));
    findings.extend(endpoint_findings(endpoints, expected));
    let interval = own.ok().and_then(|answer| answer.object.payout_interval);
    findings.push(stripe::payouts(&Payouts { interval, automatic_at: None }));
    AtStripe { findings, platform }
}

/// Whether Stripe can't be reached at all, or takes no call with this key.
fn is_lost(own: &Result<Answer<OwnAccount>, StripeError>) -> bool {
    match own {
        Ok(_) => false,
        Err(StripeError::Refused(failure)) => failure.status == Some(401),
        Err(StripeError::Retry(_) | StripeError::Unknown(_)) => true,
    }
}

fn reached(own: &Result<Answer<OwnAccount>, StripeError>) -> Finding {
    const CHECK: &str = "stripe";
    match own {
        Ok(answer) => Finding::ok(CHECK, format!("answers; the key belongs to {}", answer.object.id)),
        Err(StripeError::Refused(failure)) if failure.status == Some(401) => {
            Finding::fail(CHECK, words(failure), "set STRIPE_SECRET_KEY to a key that is not revoked")
        }
        Err(StripeError::Refused(failure)) => Finding::warn(
            CHECK,
            format!("does not show the account: {}", words(failure)),
            "let the restricted key read the account, so that the platform is known by its id",
        ),
        Err(StripeError::Retry(failure) | StripeError::Unknown(failure)) => Finding::fail(
            CHECK,
            format!("does not answer: {}", words(failure)),
            "see that this machine reaches STRIPE_API_BASE, through its proxy and firewall",
        ),
    }
}

fn words(failure: &Failure) -> String {
    failure.message.clone()
}

/// How far Stripe's clock is ahead. Its date is cut to the second, and was written between the call's two ends.
fn ahead(
    own: &Result<Answer<OwnAccount>, StripeError>,
    began: OffsetDateTime,
    ended: OffsetDateTime,
) -> Option<Duration> {
    let theirs = own.as_ref().ok()?.answered_at? + Duration::milliseconds(500);
    Some(theirs - (began + (ended - began) / 2))
}

/// A read without effect. An object that is not there answers the question as well as one that is.
async fn ask(client: &Client, probe: Probe) -> (Probe, Answered) {
    let query = if probe.list { json!({"limit": 1}) } else { Value::Null };
    let answered = match client.get::<wire::Value>(Lane::Release, probe.path, &query).await {
        Ok(_) => Answered::Allowed,
        // A key that sees only some accounts is told so of one that does not exist.
        Err(StripeError::Refused(failure))
            if failure.status == Some(403) && failure.code.as_deref() != Some("account_invalid") =>
        {
            Answered::Denied
        }
        Err(StripeError::Refused(_)) => Answered::Allowed,
        Err(StripeError::Retry(failure) | StripeError::Unknown(failure)) => {
            Answered::NotAtAll(failure.message)
        }
    };
    (probe, answered)
}

fn endpoint_findings(
    listed: Result<Vec<wire::Item<wire::WebhookEndpoint>>, StripeError>,
    expected: &Expected,
) -> Vec<Finding> {
    let url = expected.url.as_deref();
    let existing: Vec<Endpoint> = match listed {
        Ok(listed) => listed.iter().map(|item| item.object.seen()).collect(),
        Err(error) => {
            let why = words(error.failure());
            let mend = "let the key read webhook endpoints, or look in the Dashboard";
            return vec![Finding::unchecked("endpoints", why, mend)];
        }
    };
    let each = Scope::ALL.map(|scope| stripe::endpoint(scope, &existing, url, expected.livemode));
    each.into_iter().chain([stripe::secrets(&existing, url, expected.secrets)]).collect()
}

/// The database.
#[derive(Debug)]
pub struct InDatabase {
    /// What was found.
    pub findings: Vec<Finding>,
    /// What the service left there, where that could be read.
    pub state: Option<State>,
}

/// What of the service the database is looked at with.
#[derive(Clone, Copy, Debug)]
pub struct Served {
    /// The key's mode: true for live; none without a key.
    pub livemode: Option<bool>,
    /// Connections that one process takes.
    pub connections: i64,
    /// A process not heard of for this long is gone.
    pub alive_for: Duration,
}

/// Asks the database.
pub async fn in_database(url: &str, clock: &Clock, served: Served) -> InDatabase {
    let asked = async {
        let mut conn = db::connect_one(url).await?;
        let found = examine(&mut conn, clock, served).await;
        let _ = conn.close().await;
        found
    };
    let why = match timeout(PATIENCE, asked).await {
        Ok(Ok(mut found)) => {
            found.findings.extend(db::way(url).map(database::way));
            return found;
        }
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("no answer within {} s", PATIENCE.as_secs()),
    };
    let mend = "check DATABASE_URL, that the server runs, and that it lets this machine and user in";
    InDatabase { findings: vec![Finding::fail("database", why, mend)], state: None }
}

/// The same through a service's own connections.
pub async fn from_within(ctx: &Context, served: Served) -> Result<InDatabase, StoreError> {
    let mut conn = ctx.pool.acquire().await?;
    examine(&mut conn, &ctx.clock, served).await
}

async fn examine(conn: &mut PgConnection, clock: &Clock, served: Served) -> Result<InDatabase, StoreError> {
    let server = checkup::read_server(conn, || clock.now()).await?;
    let (migrations, state) = tables(conn, clock, served).await;
    let replicas = state.as_ref().map_or(0, |state| state.replicas);
    let mut findings = database::server(&server, served.connections, replicas);
    findings.push(migrations);
    Ok(InDatabase { findings, state })
}

/// Whether the tables are those of this program, and what the service left in them.
async fn tables(conn: &mut PgConnection, clock: &Clock, served: Served) -> (Finding, Option<State>) {
    let unreadable = |error: StoreError| {
        let mend = "let the user of DATABASE_URL read and write the tables, or run as their owner";
        (Finding::fail("migrations", error.to_string(), mend), None)
    };
    let applied = match checkup::list_applied(conn).await {
        Ok(applied) => applied,
        Err(error) => return unreadable(error),
    };
    let known = checkup::known();
    let migrations = database::migrations(applied.as_deref(), &known);
    let has = |version: &i64| applied.iter().flatten().any(|one| one.version == *version && one.success);
    if !known.iter().all(has) {
        return (migrations, None);
    }
    // What is the same in both modes can be read in either.
    let livemode = served.livemode.unwrap_or_default();
    match checkup::read_state(conn, livemode, clock.now() - served.alive_for).await {
        Ok(state) => (migrations, Some(state)),
        Err(error) => unreadable(error),
    }
}
