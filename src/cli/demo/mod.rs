//! The whole service on one machine with no Stripe account: a private Postgres, the stand-in for Stripe, and
//! a story of three accounts, a top-up and five transfers.

mod closing;
mod leftover;
mod story;
mod watch;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use secrecy::SecretString;

use super::{database, service};
use crate::clock::Clock;
use crate::config::Settings;
use crate::domain::account::Policy;
use crate::domain::limits::{Limits, ReleaseOrder};
use crate::domain::money::Currency;
use crate::domain::topup::Rule;
use crate::sandbox::{self, Delivery};
use crate::store::admin;
use crate::stripe::client::ClientConfig;
use crate::stripe::signature::SigningSecret;
use crate::worker::driver;

/// How the demo is run.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Exit once the story's money has arrived: 0 when every book agrees, 1 when not
    #[arg(long)]
    until_done: bool,
}

/// The stand-in's own key; it guards nothing.
const STRIPE_KEY: &str = "sk_test_demo";
/// How long the story may take.
const PATIENCE: Duration = Duration::from_secs(90);

/// Runs the demo; true when the story ended well.
pub async fn run(args: &Args, settings: Settings) -> anyhow::Result<bool> {
    let database =
        database::provide(settings.database_url.as_ref(), settings.data_dir, settings.pg_bin_dir).await?;
    // Each run meets a new Stripe, so it keeps its books in a new database on the same server.
    let url = admin::create_fresh_database(&database.url, "sluicegate_demo").await.context(
        "the demo needs a database of its own: let the user of DATABASE_URL create databases, or unset it",
    )?;
    let seed = u64::from_be_bytes(random()?);
    let stripe = sandbox::start(sandbox::Config {
        seed,
        settle_after: Duration::from_secs(3),
        available_after: Duration::from_secs(4),
        deliver: Delivery { duplicate_every: 3, reorder: true, ..Delivery::default() },
        secret_key: Some(STRIPE_KEY.to_owned()),
        ..sandbox::Config::default()
    })
    .await?;
    let admin_key = hex::encode(random::<24>()?);
    let secrets = ["platform", "connect"].map(|label| format!("{label}=whsec_demo_{label}_{seed:016x}"));
    let plan = plan(settings.listen, &url, &stripe.url(), &admin_key, &secrets)?;
    let service = match service::start(plan.clone(), Clock::system()).await {
        Err(error) if is_taken(&error) => {
            let listen = SocketAddr::new(settings.listen.ip(), 0);
            service::start(service::Plan { listen, ..plan }, Clock::system()).await?
        }
        other => other?,
    };
    let webhooks = format!("{}/webhooks/stripe", service.url());
    for (secret, connect) in secrets.iter().zip([false, true]) {
        let secret = secret.split_once('=').map_or(secret.as_str(), |(_, secret)| secret);
        stripe.control().add_endpoint(&webhooks, secret, connect)?;
    }
    let control = stripe.control();
    let api = watch::Api::new(service.url(), &admin_key);
    println!("Sluicegate is listening on {}", service.url());
    println!("Its API key for this run is {admin_key}\n");
    println!("Sign in with it at {}/console\n", service.url());
    let pace = if args.until_done { story::Pace::Brisk } else { story::Pace::ForWatching };
    let well = tokio::select! {
        told = story::tell(&api, &control, pace, PATIENCE) => match told {
            Ok(cast) => {
                let agree = closing::settle(&api, &control, &cast).await?;
                if !args.until_done {
                    leftover::leave(&api, &control, &cast, &SigningSecret::parse(&secrets[0])?).await?;
                }
                agree
            }
            Err(error) => {
                eprintln!("{error:#}");
                false
            }
        },
        _ = tokio::signal::ctrl_c() => false,
    };
    if !args.until_done {
        println!("\nIt goes on running; Ctrl-C ends it. Ask it yourself:\n");
        println!("  curl -s -H 'Authorization: Bearer {admin_key}' {}/v1/accounts\n", service.url());
        let _ = tokio::signal::ctrl_c().await;
    }
    service.stop().await;
    stripe.stop().await;
    database.stop().await;
    Ok(well)
}

fn plan(
    listen: SocketAddr,
    database_url: &str,
    stripe: &str,
    admin_key: &str,
    secrets: &[String],
) -> anyhow::Result<service::Plan> {
    Ok(service::Plan {
        database_url: database_url.to_owned(),
        connections: 24,
        listen,
        ops_listen: None,
        public_url: None,
        admin_key: Some(SecretString::from(admin_key.to_owned())),
        stripe: ClientConfig {
            base: stripe.to_owned(),
            secret_key: SecretString::from(STRIPE_KEY.to_owned()),
            rate_per_s: 25,
            timeout: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(5),
        },
        livemode: false,
        webhook_secrets: SigningSecret::parse_list(&secrets.join(","))?,
        tolerance: Duration::from_secs(300),
        policy: Policy::default(),
        rule: Rule::default(),
        max_age: Duration::from_secs(24 * 60 * 60),
        grace: Duration::from_secs(10 * 60),
        source_type: None,
        funds_since: None,
        limits: Limits {
            approval_above: BTreeMap::from([(Currency::parse("usd")?, leftover::APPROVAL_ABOVE_MINOR)]),
            ..Limits::default()
        },
        release_order: ReleaseOrder::default(),
        reconcile_every: None,
        backfill_every: None,
        retention: service::RETENTION,
        roles: service::Roles::ALL,
        serving: crate::http::Serving::default(),
        worker: driver::Settings::default(),
    })
}

fn is_taken(error: &anyhow::Error) -> bool {
    let io = error.downcast_ref::<std::io::Error>();
    io.is_some_and(|io| io.kind() == std::io::ErrorKind::AddrInUse)
}

fn random<const N: usize>() -> anyhow::Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)
        .map_err(|error| anyhow::anyhow!("the system gives no random numbers: {error}"))?;
    Ok(bytes)
}
