//! The small pages at onboarding's doors, for the person who stands there: plain words, no script, nothing that
//! loads, nothing about the account.

use std::sync::LazyLock;

use askama::Template;
use axum::http::header::{
    CONTENT_SECURITY_POLICY, CONTENT_TYPE, LOCATION, REFERRER_POLICY, RETRY_AFTER, X_FRAME_OPTIONS,
};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

const STYLE: &str = include_str!("../../../templates/onboarding.css");

/// The browser may apply the page's own style and do nothing else.
static POLICY: LazyLock<String> = LazyLock::new(|| {
    let style = STANDARD.encode(Sha256::digest(STYLE.as_bytes()));
    format!(
        "default-src 'none'; style-src 'sha256-{style}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
});

/// A page.
#[derive(Debug, Template)]
#[template(path = "onboarding.html")]
pub(super) struct Page {
    #[template(skip)]
    status: StatusCode,
    title: &'static str,
    lines: &'static [&'static str],
    button: Option<(&'static str, &'static str)>,
    style: &'static str,
}

impl Page {
    const fn of(status: StatusCode, title: &'static str, lines: &'static [&'static str]) -> Self {
        Self { status, title, lines, button: None, style: STYLE }
    }

    /// For programs that look at a link before the person does: opening it would use it up.
    pub(super) const fn before_the_door(door: &'static str) -> Self {
        Self {
            button: Some(("Continue", door)),
            ..Self::of(
                StatusCode::OK,
                "Continue to your account",
                &["Your details are asked for by Stripe, which pays you out."],
            )
        }
    }

    /// The token opens nothing.
    pub(super) const fn unknown() -> Self {
        Self::of(
            StatusCode::NOT_FOUND,
            "This link does not work",
            &[
                "It may have been cut short on its way. Go back to where you found it and begin again from there.",
            ],
        )
    }

    /// It did once.
    pub(super) const fn expired() -> Self {
        Self::of(
            StatusCode::GONE,
            "This link has ended",
            &[
                "For your safety it works for a few days only. Go back to where you found it and begin again from there.",
            ],
        )
    }

    /// No link can be made for this account.
    pub(super) const fn barred() -> Self {
        Self::of(
            StatusCode::FORBIDDEN,
            "This can't be continued here",
            &[
                "Your account can't be set up with this link. Please ask the company that sent you here; they can see why.",
            ],
        )
    }

    /// Too many links in a short time.
    pub(super) const fn too_often() -> Self {
        Self::of(
            StatusCode::TOO_MANY_REQUESTS,
            "One moment, please",
            &["This link was opened many times in a short while. Wait a minute, then reload this page."],
        )
    }

    /// Stripe or the database is away.
    pub(super) const fn away() -> Self {
        Self::of(
            StatusCode::SERVICE_UNAVAILABLE,
            "That did not work just now",
            &["Nothing is lost. Wait a minute, then reload this page."],
        )
    }

    /// All is given, and the account may be paid.
    pub(super) const fn finished() -> Self {
        Self::of(StatusCode::OK, "You are all set", &["Stripe has what it needs. You can close this page."])
    }

    /// Something is still missing.
    pub(super) const fn unfinished() -> Self {
        Self::of(
            StatusCode::OK,
            "Some details are still missing",
            &["What you gave is kept. To go on, go back to where you came from and begin again from there."],
        )
    }

    /// All is given, and Stripe is on with it.
    pub(super) const fn in_review() -> Self {
        Self::of(
            StatusCode::OK,
            "Thank you",
            &[
                "Stripe is checking your details. There is nothing more to do for now; you can close this page.",
            ],
        )
    }

    /// Stripe could not be asked.
    pub(super) const fn not_known() -> Self {
        Self::of(
            StatusCode::OK,
            "Thank you",
            &[
                "We could not ask Stripe about your details just now. You can close this page; nothing is lost.",
            ],
        )
    }

    /// The answer, for a browser.
    pub(super) fn answer(&self) -> Response {
        let Ok(text) = self.render() else { return StatusCode::INTERNAL_SERVER_ERROR.into_response() };
        let mut response = (self.status, text).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
        if let Ok(policy) = HeaderValue::from_str(&POLICY) {
            headers.insert(CONTENT_SECURITY_POLICY, policy);
        }
        headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
        if matches!(self.status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("60"));
        }
        unseen(response)
    }
}

/// Sends the browser on; 303, so that it always arrives with a GET.
pub(super) fn onward(url: &str) -> Response {
    match HeaderValue::from_str(url) {
        Ok(mut location) => {
            location.set_sensitive(true);
            let mut response = StatusCode::SEE_OTHER.into_response();
            response.headers_mut().insert(LOCATION, location);
            unseen(response)
        }
        // Stripe's links and the caller's addresses are ASCII; one that is not can't be gone to.
        Err(_) => Page::away().answer(),
    }
}

/// Neither the next page nor a search engine learns of the address, which is a key of its own.
fn unseen(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(HeaderName::from_static("x-robots-tag"), HeaderValue::from_static("noindex, nofollow"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_page_is_whole_and_loads_nothing() {
        let pages = [
            Page::before_the_door("refresh"),
            Page::unknown(),
            Page::expired(),
            Page::barred(),
            Page::too_often(),
            Page::away(),
            Page::finished(),
            Page::unfinished(),
            Page::in_review(),
            Page::not_known(),
        ];
        for page in pages {
            let text = page.render().unwrap();
            let title = page.title.replace('\'', "&#39;");
            assert!(text.contains(&title) && text.contains(STYLE), "{text}");
            assert!(text.contains("viewport") && text.contains("lang=\"en\""), "{text}");
            for never in ["<script", "src=", "http:", "https:", "<link", "<form", "@import", "url("] {
                assert!(!text.contains(never), "{never}: {text}");
            }
            assert_eq!(text.contains("href="), page.button.is_some(), "{text}");
            let answer = page.answer();
            assert_eq!(answer.headers()["referrer-policy"], "no-referrer");
            let policy = answer.headers()["content-security-policy"].to_str().unwrap();
            assert!(policy.starts_with("default-src 'none'; style-src 'sha256-"), "{policy}");
        }
    }
}
