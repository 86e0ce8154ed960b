//! An answer with its headers, and a way to say bytes that no HTTP client would.

use reqwest::header::HeaderMap;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::document::{self, Answer, Document};
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

/// Sends a request, and holds the answer against the document.
pub async fn ask(request: reqwest::RequestBuilder) -> Reply {
    ask_of(Some(&document::OURS), request).await.unwrap()
}

/// The same where there may be no answer at all.
pub async fn try_ask(request: reqwest::RequestBuilder) -> reqwest::Result<Reply> {
    ask_of(Some(&document::OURS), request).await
}

/// Sends a request to a door that does not serve all that the document describes.
pub async fn ask_elsewhere(request: reqwest::RequestBuilder) -> Reply {
    ask_of(None, request).await.unwrap()
}

async fn ask_of(document: Option<&Document>, request: reqwest::RequestBuilder) -> reqwest::Result<Reply> {
    let (client, request) = request.build_split();
    let request = request?;
    let (method, path) = (request.method().clone(), request.url().path().to_owned());
    let answer = client.execute(request).await?;
    let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
    let endless = headers.get("content-type").is_some_and(|media| media == "text/event-stream");
    let text = if endless { String::new() } else { answer.text().await? };
    if let Some(document) = document {
        document.hold(&Answer { method: &method, path: &path, status, headers: &headers, text: &text });
    }
    Ok(Reply { status, headers, body: serde_json::from_str(&text).unwrap_or(Value::String(text)) })
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
