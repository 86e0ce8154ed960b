//! What a call may answer instead of what was asked for, as its documentation lists it.
//!
//! A handler names its refusals by type, `Refuses<(AnyCall, AccountUnknown)>`; codes of one status share its
//! entry in the document.

use std::collections::BTreeMap;
use std::marker::PhantomData;

use serde_json::{Value, json};
use utoipa::IntoResponses;
use utoipa::openapi::extensions::Extensions;
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::response::{Response, ResponseBuilder};
use utoipa::openapi::{ContentBuilder, Ref, RefOr};

use super::error::Code;

/// One code, or several.
pub(super) trait Refusals {
    /// The codes.
    fn codes() -> Vec<Code>;
}

macro_rules! refusals {
    ($($name:ident)*) => {$(
        /// The code of this name.
        #[derive(Debug)]
        pub(super) enum $name {}

        impl Refusals for $name {
            fn codes() -> Vec<Code> {
                vec![Code::$name]
            }
        }
    )*};
}

refusals! {
    SignatureInvalid EventMalformed JsonMalformed IdempotencyKeyRequired IdempotencyKeyInvalid Unauthorized Forbidden
    ApprovalByCreator AccountUnknown TopupUnknown TransferUnknown EventUnknown KeyUnknown IdempotencyKeyReused
    TransferState TopupState EventState StripeRefused StripeUnavailable PublicUrlMissing BodyTooLarge BodyIncomplete Validation
    Internal Unavailable Timeout
}

macro_rules! several {
    ($(($($name:ident)*))*) => {$(
        impl<$($name: Refusals),*> Refusals for ($($name,)*) {
            fn codes() -> Vec<Code> {
                [$($name::codes()),*].concat()
            }
        }
    )*};
}

several! { (A B) (A B C) (A B C D) (A B C D E) (A B C D E F) }

/// Whoever calls, for whatever.
pub(super) type Anything = (Internal, Unavailable, Timeout);
/// Every call with a key: its query is read strictly.
pub(super) type AnyCall = (Anything, Unauthorized, Forbidden, Validation);
/// Every POST with a key: it may have a body and an Idempotency-Key.
pub(super) type AnyOrder =
    (AnyCall, JsonMalformed, BodyIncomplete, BodyTooLarge, IdempotencyKeyInvalid, IdempotencyKeyReused);

/// These refusals, as a part of a call's documented answers.
#[derive(Debug)]
pub(super) struct Refuses<R>(PhantomData<R>);

impl<R: Refusals> IntoResponses for Refuses<R> {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let mut by_status: BTreeMap<u16, Vec<Code>> = BTreeMap::new();
        for code in R::codes() {
            let of_status = by_status.entry(code.status().as_u16()).or_default();
            if !of_status.contains(&code) {
                of_status.push(code);
            }
        }
        by_status
            .into_iter()
            .map(|(status, codes)| (status.to_string(), RefOr::T(refused(status, &codes))))
            .collect()
    }
}

fn refused(status: u16, codes: &[Code]) -> Response {
    let lines: Vec<String> =
        codes.iter().map(|code| format!("`{}`: {}.", code.as_str(), code.title())).collect();
    let words: Vec<Value> = codes.iter().map(|code| code.as_str().into()).collect();
    let problem = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
    let answer = ResponseBuilder::new()
        .description(lines.join(" "))
        .content("application/problem+json", problem)
        .extensions(Some([("x-codes", json!(words))].into_iter().collect::<Extensions>()));
    match status {
        401 => answer.header("WWW-Authenticate", header("Bearer, and the realm.", json!({"type": "string"}))),
        503 => {
            answer.header("Retry-After", header("Seconds to wait.", json!({"type": "integer", "minimum": 0})))
        }
        _ => answer,
    }
    .build()
}

fn header(description: &str, schema: Value) -> utoipa::openapi::Header {
    HeaderBuilder::new().schema(Some(super::words::schema(schema))).description(Some(description)).build()
}
