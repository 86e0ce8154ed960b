//! The moments of a call, told as they pass, for whoever wants to pull a plug at one of them.

use serde::Serialize;

/// How far a call has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// It has come in; nothing was executed.
    Arrived,
    /// It was executed, or refused; nothing was answered.
    Committed,
    /// Its answer is on its way, or its connection is cut.
    Answered,
}

/// A call that has come so far.
#[derive(Debug, Clone)]
pub struct Moment {
    /// How far.
    pub stage: Stage,
    /// HTTP method.
    pub method: String,
    /// Path without the query.
    pub path: String,
    /// The API key it came with, which tells callers apart.
    pub api_key: String,
}
