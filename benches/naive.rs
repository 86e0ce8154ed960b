//! The handler that a framework's front page suggests: verify, one INSERT, 200. Nothing is queued, applied or decided.
//!
//! The bench runs it beside the service as a yardstick. It is compiled into the bench command, and is left as one
//! writes it in an hour, the pool's defaults included.

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use sqlx::PgPool;
use time::OffsetDateTime;

use crate::stripe::signature::{self, SigningSecret};

#[derive(Clone)]
struct Naive {
    pool: PgPool,
    secret: SigningSecret,
}

#[derive(serde::Deserialize)]
struct Event<'a> {
    id: &'a str,
}

async fn receive(State(naive): State<Naive>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let header = headers.get("stripe-signature").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let now = OffsetDateTime::now_utc().unix_timestamp();
    if signature::verify(&body, header, std::slice::from_ref(&naive.secret), now, 300).is_err() {
        return StatusCode::BAD_REQUEST;
    }
    let Ok(event) = serde_json::from_slice::<Event<'_>>(&body) else { return StatusCode::BAD_REQUEST };
    let stored =
        sqlx::query("insert into yardstick (id, payload) values ($1, $2) on conflict (id) do nothing")
            .bind(event.id)
            .bind(body.as_ref())
            .execute(&naive.pool)
            .await;
    if stored.is_ok() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}

/// Serves until the process is ended.
pub async fn run(database_url: &str, secret: &str) -> anyhow::Result<()> {
    let naive = Naive { pool: PgPool::connect(database_url).await?, secret: SigningSecret::parse(secret)? };
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await?;
    println!("listening on http://{}", listener.local_addr()?);
    let router = Router::new().route("/webhooks/stripe", post(receive)).with_state(naive);
    axum::serve(listener, router).await?;
    Ok(())
}
