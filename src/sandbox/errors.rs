//! Refusals and answers as Stripe words them: status, type, code, message, parameter.
//!
//! A refusal knows whether it came before execution began, because only what came after is kept for the
//! idempotency key: <https://docs.stripe.com/api/idempotent_requests>.

use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode, header};
use serde_json::{Value, json};

/// A call refused, and whether the refusal is kept for the call's idempotency key.
#[derive(Debug, Clone)]
pub(super) struct Refusal {
    pub status: u16,
    /// Stripe's `type`; v2 has none.
    pub kind: &'static str,
    pub code: Option<String>,
    pub message: String,
    pub param: Option<String>,
    /// True where execution had begun.
    pub kept: bool,
}

impl Refusal {
    /// A parameter that does not pass validation: nothing was executed.
    pub fn invalid(param: &str, code: Option<&str>, message: impl Into<String>) -> Self {
        Self {
            status: 400,
            kind: "invalid_request_error",
            code: code.map(str::to_owned),
            message: message.into(),
            param: Some(param.to_owned()),
            kept: false,
        }
    }

    /// A whole call that is not acceptable, with its status: nothing was executed.
    pub fn call(status: u16, code: Option<&str>, message: impl Into<String>) -> Self {
        Self { param: None, status, ..Self::invalid("", code, message) }
    }

    /// A refusal by the operation itself, kept for the idempotency key.
    pub fn executed(status: u16, code: Option<&str>, message: impl Into<String>) -> Self {
        Self { kept: true, ..Self::call(status, code, message) }
    }

    /// An object named in the path or a list cursor that does not exist.
    pub fn missing(status: u16, param: &str, noun: &str, id: &str) -> Self {
        Self { status, ..Self::invalid(param, Some("resource_missing"), format!("No such {noun}: '{id}'")) }
    }

    /// An account the key cannot see; Stripe does not tell a foreign account from an unknown one.
    pub fn account_invalid(id: &str) -> Self {
        let message = format!(
            "The provided key does not have access to account '{id}' (or that account does not exist). \
             Application access may have been revoked."
        );
        Self::call(403, Some("account_invalid"), message)
    }

    /// A refusal of v2, which has a code and no type.
    pub fn v2(status: u16, code: &str, message: &str) -> Self {
        Self { kind: "", ..Self::call(status, Some(code), message) }
    }

    /// The same refusal, naming a parameter.
    pub fn about(mut self, param: &str) -> Self {
        self.param = Some(param.to_owned());
        self
    }

    /// The same refusal, kept for the idempotency key.
    pub fn kept(mut self) -> Self {
        self.kept = true;
        self
    }

    /// The answer that carries it.
    pub fn answer(&self) -> Answer {
        if self.kind.is_empty() {
            return Answer::json(
                self.status,
                &json!({"error": {"code": self.code, "message": self.message}}),
            );
        }
        let mut error = json!({"message": self.message, "type": self.kind});
        if let Some(code) = &self.code {
            error["code"] = json!(code);
            error["doc_url"] =
                json!(format!("https://stripe.com/docs/error-codes/{}", code.replace('_', "-")));
        }
        if let Some(param) = &self.param {
            error["param"] = json!(param);
        }
        Answer::json(self.status, &json!({"error": error}))
    }
}

/// One HTTP answer, as it is kept for an idempotency key.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    pub status: u16,
    pub content_type: &'static str,
    pub headers: Vec<(&'static str, String)>,
    pub body: String,
}

impl Answer {
    /// A JSON answer.
    pub fn json(status: u16, body: &Value) -> Self {
        Self { status, content_type: "application/json", headers: Vec::new(), body: body.to_string() }
    }

    /// An HTML answer, as a gateway or the onboarding page gives it.
    pub fn html(status: u16, body: impl Into<String>) -> Self {
        Self { status, content_type: "text/html; charset=utf-8", headers: Vec::new(), body: body.into() }
    }

    /// Sends the browser elsewhere.
    pub fn redirect(url: &str) -> Self {
        Self::html(303, "").with("location", url)
    }

    /// The same answer with one more header.
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// The answer for the wire. A header value that HTTP can't carry is left out.
    pub fn into_response(self) -> Response<Body> {
        let mut response = Response::new(Body::from(self.body));
        *response.status_mut() = StatusCode::from_u16(self.status).unwrap_or(StatusCode::IM_A_TEAPOT);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(self.content_type));
        for (name, value) in self.headers {
            if let Ok(value) = HeaderValue::from_str(&value) {
                headers.insert(name, value);
            }
        }
        response
    }
}
