//! What a page's address asks for. A filter that was left empty, as browsers send it, narrows nothing.

use axum::extract::{FromRequestParts, Query};
use axum::http::request::Parts;

use crate::http::error::Problem;
use crate::http::query::Params;
use crate::http::state::Shared;

/// The filled-in parameters of an address.
#[derive(Debug)]
pub(in crate::http) struct Asked(Vec<(String, String)>);

impl FromRequestParts<Shared> for Asked {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Shared) -> Result<Self, Problem> {
        let pairs = Query::<Vec<(String, String)>>::try_from_uri(&parts.uri);
        let Query(mut pairs) = pairs.map_err(|_| Problem::field("/query", "must be `name=value&…`"))?;
        pairs.retain(|(_, value)| !value.trim().is_empty());
        Ok(Self(pairs))
    }
}

impl Asked {
    /// Takes a parameter.
    pub(super) fn take(&mut self, name: &str) -> Option<String> {
        let at = self.0.iter().position(|(key, _)| key == name)?;
        Some(self.0.remove(at).1)
    }

    /// What is asked for under a name, left where it is; empty where nothing is.
    pub(super) fn get(&self, name: &str) -> String {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone()).unwrap_or_default()
    }

    /// The rest, to be read as strictly as the API reads it.
    pub(super) fn strictly(self) -> Params {
        Params::of(self.0)
    }

    /// The same address, for the pages that follow.
    pub(super) fn below(&self) -> Below {
        Below(self.0.iter().filter(|(name, _)| name != "after").cloned().collect())
    }
}

/// The address of a list, without a place in it.
#[derive(Clone, Debug)]
pub(super) struct Below(Vec<(String, String)>);

impl Below {
    /// The query of all that is in it, with its `?`; nothing where nothing narrows it.
    pub(super) fn whole(&self) -> String {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query.extend_pairs(self.0.iter().filter(|(name, _)| name != "limit"));
        let query = query.finish();
        if query.is_empty() { query } else { format!("?{query}") }
    }

    /// The query of the page that begins below this place.
    pub(super) fn to(&self, after: &str) -> String {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query.extend_pairs(&self.0).append_pair("after", after);
        query.finish()
    }
}
