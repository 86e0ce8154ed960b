//! `sandbox`: the stand-in for Stripe alone.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;

use super::told_to_stop;
use crate::sandbox::{self, Config, Endpoint};

/// How the stand-in is run.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// A loopback address to listen on; port 0 picks a free one
    #[arg(long, default_value = "127.0.0.1:12111")]
    listen: SocketAddr,
    /// An endpoint for the platform's events, as URL=whsec_…; may be repeated
    #[arg(long, value_name = "URL=SECRET")]
    webhook: Vec<String>,
    /// An endpoint for connected accounts' events, as URL=whsec_…; may be repeated
    #[arg(long, value_name = "URL=SECRET")]
    connect_webhook: Vec<String>,
    /// Seconds until a top-up has succeeded
    #[arg(long, value_name = "SECONDS", default_value_t = 5.0)]
    settle_after: f64,
    /// Seconds until a succeeded top-up's money is available
    #[arg(long, value_name = "SECONDS", default_value_t = 5.0)]
    available_after: f64,
    /// Where the platform is: two letters
    #[arg(long, default_value = "US")]
    country: String,
    /// Decides ids and reordering; random unless given
    #[arg(long)]
    seed: Option<u64>,
}

/// Runs the stand-in until it is told to stop.
pub async fn run(args: Args) -> anyhow::Result<bool> {
    let platform = args.webhook.iter().map(|given| endpoint(given, false));
    let connect = args.connect_webhook.iter().map(|given| endpoint(given, true));
    let mut seed = [0; 8];
    getrandom::fill(&mut seed)
        .map_err(|error| anyhow::anyhow!("the system gives no random numbers: {error}"))?;
    let config = Config {
        listen: args.listen,
        webhook_urls: platform.chain(connect).collect::<Result<_, _>>()?,
        settle_after: seconds(args.settle_after).context("--settle-after")?,
        available_after: seconds(args.available_after).context("--available-after")?,
        country: args.country,
        seed: args.seed.unwrap_or(u64::from_be_bytes(seed)),
        ..Config::default()
    };
    let running = sandbox::start(config).await?;
    println!("listening on {}", running.url());
    told_to_stop().await;
    running.stop().await;
    Ok(true)
}

fn endpoint(given: &str, connect: bool) -> anyhow::Result<Endpoint> {
    let (url, secret) =
        given.rsplit_once("=whsec_").context("an endpoint is written URL=whsec_…, its URL and its secret")?;
    Ok(Endpoint { url: url.to_owned(), secret: format!("whsec_{secret}"), connect })
}

fn seconds(given: f64) -> anyhow::Result<Duration> {
    Duration::try_from_secs_f64(given).context("must be a number of seconds, zero or more")
}
