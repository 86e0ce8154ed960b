//! `setup-webhooks`: both endpoints at Stripe, made or mended.
//!
//! New secrets go to standard output, once, in the form that the service takes them in.

use std::net::IpAddr;

use anyhow::Context as _;
use reqwest::Url;
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use super::output::{Column, Output, Show, say};
use super::shell::Shown;
use super::{Failed, serve, settings};
use crate::config::{Mode, Settings};
use crate::domain::endpoint::PATH;
use crate::flows::subscribe::{self, Done, Subscriptions};
use crate::stripe::client::Client;
use crate::stripe::error::StripeError;
use crate::telemetry;

/// What the command is called with.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// Where Stripe reaches the service, like https://pay.example.com; SLUICEGATE_PUBLIC_URL without it.
    /// `/webhooks/stripe` is added where it has no path
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    #[command(flatten)]
    shown: Shown,
}

const COLUMNS: &[Column] = &[
    Column("ENDPOINT", Show::Text("/endpoint")),
    Column("ID", Show::Text("/id")),
    Column("IS NOW", Show::State("/done")),
];

/// Makes or mends the endpoints.
pub async fn run(args: &Args) -> Result<(), Failed> {
    let settings = settings(&args.shown.flags)?;
    telemetry::init(settings.log_format, Some(settings.log_filter.as_deref().unwrap_or("warn")));
    let plan = serve::plan(&settings, String::new(), false)?;
    let given = args.url.as_deref().or(settings.public_url.as_deref());
    let url = address(given, settings.mode()).map_err(|mend| {
        eprintln!("error: --url {mend}");
        Failed::Usage
    })?;
    let client = Client::new(plan.stripe).context("STRIPE_API_BASE")?;
    let set_up = subscribe::subscribe(&client, url.as_str()).await.map_err(|error| failed(&error))?;
    show(args.shown.form(), &url, &set_up);
    advise(&url, &set_up, &settings);
    Ok(())
}

/// The endpoint's whole address; `Err` is the mend.
fn address(given: Option<&str>, mode: Option<Mode>) -> Result<Url, &'static str> {
    let given = given.ok_or("is needed: where Stripe reaches the service, like https://pay.example.com")?;
    let url = Url::parse(given).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    let mut url = url.ok_or("must be a whole URL, like https://pay.example.com")?;
    if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
        return Err("must have no user, password or fragment");
    }
    if mode == Some(Mode::Live) && url.scheme() != "https" {
        return Err("must be https:// with a live key: Stripe delivers live events nowhere else");
    }
    if matches!(url.path(), "" | "/") {
        url.set_path(PATH);
    }
    Ok(url)
}

fn failed(error: &StripeError) -> anyhow::Error {
    match error {
        StripeError::Refused(failure) if failure.status == Some(403) => anyhow::anyhow!(
            "Stripe: {failure}\nlet the restricted key write webhook endpoints, or use the secret key for this command"
        ),
        StripeError::Refused(failure) if failure.status == Some(401) => {
            anyhow::anyhow!("Stripe: {failure}\ncheck STRIPE_SECRET_KEY")
        }
        StripeError::Refused(failure) => anyhow::anyhow!("Stripe: {failure}"),
        StripeError::Retry(failure) | StripeError::Unknown(failure) => {
            anyhow::anyhow!("Stripe: {failure}\nrun it again: it finds what it made")
        }
    }
}

/// The line for the service's environment, of the endpoints that were made just now.
fn secrets(set_up: &Subscriptions) -> Option<String> {
    let made = set_up.endpoints.iter().filter_map(|endpoint| {
        let secret = endpoint.secret.as_ref()?;
        Some(format!("{}={}", endpoint.scope.as_str(), secret.expose_secret()))
    });
    let made: Vec<String> = made.collect();
    (!made.is_empty()).then(|| made.join(","))
}

fn show(form: Output, url: &Url, set_up: &Subscriptions) {
    let endpoints = set_up.endpoints.iter().map(|endpoint| {
        json!({"endpoint": endpoint.scope.as_str(), "id": endpoint.id, "done": endpoint.done.as_str()})
    });
    let endpoints: Vec<Value> = endpoints.collect();
    let aside = set_up.aside.iter();
    let aside: Vec<Value> =
        aside.map(|one| json!({"id": one.id, "url": one.url, "advice": one.advice})).collect();
    let secrets = secrets(set_up);
    match form {
        Output::Json => say(&json!({
            "url": url.as_str(), "data": endpoints, "aside": aside, "STRIPE_WEBHOOK_SECRETS": secrets,
        })
        .to_string()),
        Output::Table => {
            form.whole(&json!({"data": endpoints}).to_string(), COLUMNS);
            if let Some(secrets) = secrets {
                say(&format!("\nSTRIPE_WEBHOOK_SECRETS={secrets}"));
            }
        }
    }
}

/// What is left to do, on standard error.
fn advise(url: &Url, set_up: &Subscriptions, settings: &Settings) {
    if secrets(set_up).is_some() {
        let beside = if settings.webhook_secrets.is_empty() {
            "the secrets are shown this once: put them into the service's environment"
        } else {
            "the secrets are shown this once: put them into STRIPE_WEBHOOK_SECRETS before those that are in it, and \
             take these out once their endpoints are gone"
        };
        eprintln!("{beside}, and start it again");
    }
    for endpoint in set_up.endpoints.iter().filter(|endpoint| endpoint.secret.is_none()) {
        let (word, id) = (endpoint.scope.as_str(), &endpoint.id);
        match endpoint.done {
            Done::Created => eprintln!("Stripe gave {id} ({word}) no secret: reveal it in the Dashboard"),
            Done::Repaired | Done::Unchanged => eprintln!(
                "the secret of {id} ({word}) was shown when it was made; the Dashboard shows it again: Developers, \
                 Webhooks, the endpoint, Signing secret"
            ),
        }
    }
    for one in &set_up.aside {
        eprintln!("{} ({}) {}", one.id, one.url, one.advice);
    }
    if is_local(url) {
        eprintln!("Stripe can't reach {url}: for a machine of your own use `stripe listen --forward-to`");
    }
    eprintln!(
        "accounts of Stripe's v2 tell of themselves through an event destination, which only the Dashboard makes: \
         Developers, Webhooks, Add destination, thin payload, v2.core.account events, to the same URL"
    );
}

fn is_local(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let private = |address: IpAddr| match address {
        IpAddr::V4(four) => four.is_loopback() || four.is_private() || four.is_unspecified(),
        IpAddr::V6(six) => six.is_loopback() || six.is_unspecified(),
    };
    host == "localhost" || host.ends_with(".local") || host.parse().is_ok_and(private)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_whole_and_safe_in_live_mode() {
        let of = |given, mode| address(Some(given), Some(mode)).map(|url| url.to_string());
        let whole = "https://pay.example.com/webhooks/stripe";
        assert_eq!(of("https://pay.example.com", Mode::Live).as_deref(), Ok(whole));
        assert_eq!(of(whole, Mode::Live).as_deref(), Ok(whole));
        assert_eq!(of("http://h/own?a=b", Mode::Test).as_deref(), Ok("http://h/own?a=b"));
        for bad in ["pay.example.com", "ftp://h", "https://u@h", "https://h/#x", "http://h"] {
            assert!(of(bad, Mode::Live).is_err(), "{bad}");
        }
        assert!(address(None, None).is_err_and(|mend| mend.contains("is needed")));
    }

    #[test]
    fn a_local_address_is_one_that_stripe_cant_reach() {
        for (url, local) in [
            ("http://localhost:8080", true),
            ("http://127.0.0.1", true),
            ("http://[::1]:1", true),
            ("https://192.168.1.5", true),
            ("https://box.local", true),
            ("https://pay.example.com", false),
            ("https://8.8.8.8", false),
        ] {
            assert_eq!(is_local(&Url::parse(url).unwrap()), local, "{url}");
        }
    }
}
