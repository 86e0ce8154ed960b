//! An answer with its headers, and a way to say bytes that no HTTP client would.

use reqwest::header::HeaderMap;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::world::Api;

/// An answer.
#[derive(Debug)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, as text where it is no JSON.
    pub body: Value,
}

impl Reply {
    /// A header's text; empty where it is missing.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The pointers of all wrong fields.
    pub fn pointers(&self) -> Vec<&str> {
        let errors = self.body["errors"].as_array().map(Vec::as_slice).unwrap_or_default();
        errors.iter().filter_map(|error| error["pointer"].as_str()).collect()
    }

    /// Holds the answer to be a problem of this status and code.
    #[track_caller]
    pub fn must_be(&self, status: u16, code: &str, of: &str) {
        assert_eq!((self.status, self.body["code"].as_str()), (status, Some(code)), "{of}: {self:?}");
        assert_eq!(self.header("content-type"), "application/problem+json", "{of}: {self:?}");
        assert_eq!(self.body["status"], Value::from(status), "{of}: {self:?}");
        for text in ["type", "title", "detail", "request_id"] {
            assert!(
                self.body[text].as_str().is_some_and(|text| !text.is_empty()),
                "{of}: {text} of {self:?}"
            );
        }
        assert_eq!(self.header("x-request-id"), self.body["request_id"].as_str().unwrap(), "{of}");
    }
}

/// Sends a request.
pub async fn ask(request: reqwest::RequestBuilder) -> Reply {
    let answer = request.send().await.unwrap();
    let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
    let text = answer.text().await.unwrap();
    Reply { status, headers, body: serde_json::from_str(&text).unwrap_or(Value::String(text)) }
}

/// Says exactly these bytes over a connection of their own; answers with everything that comes back.
pub async fn say(api: &Api, head: &str, body: &[u8]) -> String {
    let mut stream = TcpStream::connect(api.base.trim_start_matches("http://")).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    // The service may have answered and gone before it heard all.
    let _ = stream.write_all(body).await;
    let mut heard = Vec::new();
    let _ = stream.read_to_end(&mut heard).await;
    String::from_utf8_lossy(&heard).into_owned()
}
