//! Requests to the service's own API, whole and ready to be sent.

use std::net::SocketAddr;

use anyhow::Context as _;
use serde::de::DeserializeOwned;

use super::server::ADMIN_KEY;
use super::wire::Connection;

/// A GET.
pub fn get(host: SocketAddr, path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {ADMIN_KEY}\r\n\r\n")
}

/// A POST with an idempotency key.
pub fn post(host: SocketAddr, path: &str, key: &str, body: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {ADMIN_KEY}\r\nidempotency-key: {key}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// The path of an account's readiness.
pub fn readiness(account: &str) -> String {
    format!("/v1/accounts/{account}/readiness")
}

/// The service's API over one connection.
pub struct Api {
    connection: Connection,
    host: SocketAddr,
}

impl Api {
    /// Connects.
    pub async fn open(host: SocketAddr) -> anyhow::Result<Self> {
        Ok(Self { connection: Connection::open(host).await?, host })
    }

    /// What a GET answers; `None` where there is nothing yet (404).
    pub async fn get<T: DeserializeOwned>(&mut self, path: &str) -> anyhow::Result<Option<T>> {
        let answer = self.connection.exchange(get(self.host, path).as_bytes()).await?;
        match answer.status {
            200 => {
                let read = serde_json::from_slice(self.connection.body(&answer));
                read.map(Some).with_context(|| format!("what GET {path} answers can't be read"))
            }
            404 => Ok(None),
            status => anyhow::bail!("GET {path} was answered {status}"),
        }
    }

    /// A POST that must succeed.
    pub async fn post(&mut self, path: &str, key: &str, body: &str) -> anyhow::Result<()> {
        let answer = self.connection.exchange(post(self.host, path, key, body).as_bytes()).await?;
        let told = String::from_utf8_lossy(self.connection.body(&answer)).into_owned();
        anyhow::ensure!(
            (200..300).contains(&answer.status),
            "POST {path} was answered {}: {told}",
            answer.status
        );
        Ok(())
    }

    /// Which event an account's readiness comes from; `None` while no event has shown the account.
    pub async fn source(&mut self, account: &str) -> anyhow::Result<Option<String>> {
        #[derive(serde::Deserialize)]
        struct Readiness {
            source: String,
        }
        let readiness: Option<Readiness> = self.get(&readiness(account)).await?;
        Ok(readiness.map(|readiness| readiness.source))
    }
}
