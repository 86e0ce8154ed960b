//! Entity tags: what the caller has already is not sent again.

use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::error::Problem;

/// What is shown, with its tag; only the tag, where the caller has what it names.
pub(super) fn tagged(asked: &HeaderMap, shown: &impl Serialize) -> Result<Response, Problem> {
    let body = serde_json::to_vec(shown).map_err(|error| Problem::internal(&error))?;
    let tag = tag_of(&body);
    // Kept by whoever asked alone, and never used without asking.
    let header = HeaderValue::from_str(&tag).map_err(|error| Problem::internal(&error))?;
    let headers = [(ETAG, header), (CACHE_CONTROL, HeaderValue::from_static("private, no-cache"))];
    if has(asked, &tag) {
        return Ok((StatusCode::NOT_MODIFIED, headers).into_response());
    }
    Ok((headers, [(CONTENT_TYPE, "application/json")], body).into_response())
}

/// A strong tag: other bytes have another.
fn tag_of(body: &[u8]) -> String {
    let [tag, _] = *Sha256::digest(body).as_chunks::<16>().0 else { return String::new() };
    format!("\"{}\"", hex::encode(tag))
}

/// Whether the caller has what this tag names (RFC 9110, 13.1.2); the comparison is the weak one.
fn has(asked: &HeaderMap, tag: &str) -> bool {
    let values = asked.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    values
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .any(|one| one == "*" || one.trim_start_matches("W/") == tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_found_in_every_way_it_may_be_written() {
        let tag = tag_of(b"{}");
        assert_eq!(tag.len(), 34);
        let asked = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(IF_NONE_MATCH, HeaderValue::from_str(value).unwrap());
            }
            has(&headers, &tag)
        };
        let (weak, listed) = (format!("W/{tag}"), format!("\"a\",{tag}"));
        for same in [vec![tag.as_str()], vec![&weak], vec![&listed], vec!["\"a\"", &tag], vec!["*"]] {
            assert!(asked(&same), "{same:?}");
        }
        for other in [vec![], vec![""], vec!["\"a\""], vec![tag.trim_matches('"')], vec!["w/*"]] {
            assert!(!asked(&other), "{other:?}");
        }
    }
}
