//! Lists: page after page, up to what was asked for.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::Shown;
use super::api::{Api, Needs, with};
use crate::cli::Failed;
use crate::cli::output::{Column, progress};

/// The most lines that one call gives.
const PAGE: usize = 100;

/// How much of a list is shown.
#[derive(clap::Args, Debug)]
pub struct Listing {
    /// Lines at most
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub limit: usize,
    /// Every line there is
    #[arg(long, conflicts_with = "limit")]
    pub all: bool,
    /// Go on where an earlier list ended: its `next`
    #[arg(long, value_name = "CURSOR")]
    pub after: Option<String>,
    #[command(flatten)]
    pub shown: Shown,
}

/// A filter of a list: the parameter's name, and its value if it was given.
pub type Filter<'a> = (&'a str, Option<String>);

#[derive(Deserialize)]
struct Page {
    data: Vec<Box<RawValue>>,
    next: Option<String>,
}

/// Shows the list at a path.
pub async fn list(
    listing: &Listing,
    needs: Needs,
    path: &[&str],
    filters: &[Filter<'_>],
    columns: &[Column],
) -> Result<(), Failed> {
    let (items, next) =
        with(&listing.shown.flags, needs, async |api: &Api| read(api, path, filters, listing).await).await?;
    listing.shown.form().list(&items, next.as_deref(), columns);
    if next.is_some() && !listing.all {
        eprintln!("there are more: --all shows them, --limit N so many");
    }
    Ok(())
}

/// Reads a list, and where it goes on.
pub async fn read(
    api: &Api,
    path: &[&str],
    filters: &[Filter<'_>],
    listing: &Listing,
) -> Result<(Vec<Box<RawValue>>, Option<String>), Failed> {
    let given = filters.iter().filter_map(|(name, value)| Some((*name, value.clone()?)));
    let given: Vec<(&str, String)> = given.collect();
    let most = if listing.all { usize::MAX } else { listing.limit };
    let (mut items, mut next) = (Vec::new(), listing.after.clone());
    let mut progress = None;
    loop {
        let wanted = most.saturating_sub(items.len()).min(PAGE);
        // A limit of none is for the API to refuse.
        let mut query = vec![("limit", wanted.to_string())];
        query.extend(given.iter().cloned());
        query.extend(next.take().map(|after| ("after", after)));
        let answer = api.get(path, &query, &[]).await?;
        let page: Page = serde_json::from_str(&answer.text).map_err(anyhow::Error::from)?;
        items.extend(page.data);
        next = page.next;
        if next.is_none() || items.len() >= most {
            return Ok((items, next));
        }
        // One page is there before anybody wonders.
        let progress = progress.get_or_insert_with(|| progress::counter("reading"));
        progress.tell(format!("{} read", items.len()));
    }
}
