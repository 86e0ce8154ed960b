//! One HTTP exchange with Stripe: headers, bounds, and what a failure on the wire proves.
//!
//! Follows no redirect (a 3xx is no answer of Stripe's), repeats nothing, and reads no more than a bounded body.
//! The API key is in one sensitive header and in no text.

use std::error::Error as _;
use std::net::IpAddr;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{RequestBuilder, Url, redirect, retry};
use secrecy::{ExposeSecret, SecretString};
use tokio::time::Instant;

use super::API_VERSION;
use super::error::{Failure, FailureKind};

/// The longest body that is read, in bytes. Stripe's pages of a hundred objects are far below it.
const MAX_BODY: usize = 8 * 1024 * 1024;
/// The longest key that Stripe takes, in bytes.
const MAX_KEY: usize = 255;
/// Shorter than servers keep an idle connection: a request on one that is just being closed has an unknown end.
const IDLE: Duration = Duration::from_secs(20);

/// Why no client can be made.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The base is no plain `http` or `https` URL.
    #[error("the API base must be a URL like https://api.stripe.com, without user, query or fragment")]
    Base,
    /// A live key would go over the network in clear text.
    #[error("a live key needs an https API base (http goes only to this machine)")]
    LiveInClear,
    /// The key can't be put into a header.
    #[error("the API key is empty or has white space or other characters that no key has")]
    Key,
    /// TLS or the resolver could not be set up.
    #[error("the HTTP client can't be set up: {0}")]
    Http(String),
}

/// A call to make. Paths are absolute and hold no query.
#[derive(Debug, Clone, Copy)]
pub(super) enum Call<'a> {
    /// Reads.
    Get { path: &'a str, query: &'a str },
    /// Changes something.
    Post { path: &'a str, body: &'a str, idempotency_key: &'a str },
}

impl<'a> Call<'a> {
    pub(super) fn method(self) -> &'static str {
        match self {
            Self::Get { .. } => "GET",
            Self::Post { .. } => "POST",
        }
    }

    pub(super) fn path(self) -> &'a str {
        match self {
            Self::Get { path, .. } | Self::Post { path, .. } => path,
        }
    }
}

/// A 2xx, unread.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

/// A pool of connections to one base, with the key.
pub(super) struct Transport {
    http: reqwest::Client,
    base: String,
    secret: SecretString,
}

impl Transport {
    pub(super) fn new(
        base: &str,
        secret: SecretString,
        connect_timeout: Duration,
        live: bool,
    ) -> Result<Self, BuildError> {
        let url = Url::parse(base).map_err(|_| BuildError::Base)?;
        let plain = url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none();
        if !plain || !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
            return Err(BuildError::Base);
        }
        if live && url.scheme() == "http" && !is_this_machine(&url) {
            return Err(BuildError::LiveInClear);
        }
        let key = secret.expose_secret();
        if key.is_empty() || !key.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(BuildError::Key);
        }
        let mut authorization =
            HeaderValue::from_str(&format!("Bearer {key}")).map_err(|_| BuildError::Key)?;
        authorization.set_sensitive(true);
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, authorization);
        headers.insert("stripe-version", HeaderValue::from_static(API_VERSION));
        // Some other part of the process may have chosen already; then that choice holds.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = reqwest::Client::builder()
            .default_headers(headers)
            .user_agent(concat!("sluicegate/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::none())
            .retry(retry::never())
            .connect_timeout(connect_timeout)
            .pool_idle_timeout(IDLE);
        if is_this_machine(&url) {
            builder = builder.no_proxy();
        }
        let http = builder.build().map_err(|error| BuildError::Http(in_full(&error)))?;
        Ok(Self { http, base: base.trim_end_matches('/').to_owned(), secret })
    }

    pub(super) fn base(&self) -> &str {
        &self.base
    }

    /// Makes the call once and reads the answer until the deadline.
    pub(super) async fn exchange(&self, call: Call<'_>, deadline: Instant) -> Result<Reply, Box<Failure>> {
        let request = self.request(call).map_err(|message| Failure::local(FailureKind::Refused, message))?;
        let result = exchange(request.timeout(deadline.saturating_duration_since(Instant::now()))).await;
        result.map_err(|failure| failure.without(self.secret.expose_secret()))
    }

    /// The request, or why none may be made.
    fn request(&self, call: Call<'_>) -> Result<RequestBuilder, &'static str> {
        // Ids come from outside; one that bends the path must not lead to another endpoint.
        let well_formed = |path: &str| {
            (path.starts_with("/v1/") || path.starts_with("/v2/"))
                && path.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'/'))
                && !path.contains("//")
                && !path.ends_with('/')
        };
        if !well_formed(call.path()) {
            return Err("not a path of Stripe's API: nothing was sent");
        }
        let url = format!("{}{}", self.base, call.path());
        match call {
            Call::Get { query: "", .. } => Ok(self.http.get(url)),
            Call::Get { query, .. } => Ok(self.http.get(format!("{url}?{query}"))),
            Call::Post { body, idempotency_key, .. } => {
                let sendable = (1..=MAX_KEY).contains(&idempotency_key.len())
                    && idempotency_key.bytes().all(|b| b.is_ascii_graphic());
                if !sendable {
                    let message =
                        "an idempotency key must have 1 to 255 visible characters: nothing was sent";
                    return Err(message);
                }
                let request = self.http.post(url).header("idempotency-key", idempotency_key);
                Ok(request.header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(body.to_owned()))
            }
        }
    }
}

async fn exchange(request: RequestBuilder) -> Result<Reply, Box<Failure>> {
    let mut response = request.send().await.map_err(broken)?;
    let status = response.status();
    let headers = std::mem::take(response.headers_mut());
    let mut body = BytesMut::new();
    let cut = loop {
        match response.chunk().await {
            Ok(Some(chunk)) if body.len() + chunk.len() <= MAX_BODY => body.extend_from_slice(&chunk),
            Ok(Some(_)) => break Some("an answer of more than 8 MiB".to_owned()),
            Ok(None) => break None,
            Err(error) => break Some(in_full(&error.without_url())),
        }
    };
    if let Some(message) = cut {
        let mut failure = Failure::local(FailureKind::NoAnswer, message);
        failure.status = Some(status.as_u16());
        failure.take_headers(&headers);
        return Err(failure);
    }
    if !status.is_success() {
        return Err(Failure::of_answer(status.as_u16(), &headers, &body));
    }
    Ok(Reply { status: status.as_u16(), headers, body: body.freeze() })
}

/// Sorts a broken exchange. Only a connection that never came to be proves that nothing was sent.
fn broken(error: reqwest::Error) -> Box<Failure> {
    let never_sent = error.is_connect() || error.is_builder();
    let kind = if never_sent { FailureKind::NotSent } else { FailureKind::NoAnswer };
    Failure::local(kind, in_full(&error.without_url()))
}

/// The error with its causes: reqwest keeps what matters in them.
fn in_full(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}

fn is_this_machine(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}
