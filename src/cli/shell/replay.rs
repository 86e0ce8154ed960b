//! `replay`: events applied once more, those that were named or every dead letter.

use serde::Deserialize;
use serde_json::{Map, json};

use super::Shown;
use super::api::{Api, Needs, with};
use super::lists::{Listing, read};
use super::orders::Order;
use crate::cli::Failed;
use crate::cli::output::{Output, progress};

/// What `replay` is called with.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The ids of stored events
    #[arg(required_unless_present = "failed", value_name = "EVENT")]
    events: Vec<String>,
    /// Every event that failed: once the cause is mended
    #[arg(long, conflicts_with = "events")]
    failed: bool,
    #[command(flatten)]
    shown: Shown,
}

#[derive(Deserialize)]
struct Listed {
    id: String,
}

/// Replays; one that can't be does not keep the others from it.
pub async fn run(args: Args) -> Result<(), Failed> {
    let Args { events, failed, shown } = args;
    let form = shown.form();
    let listing = Listing { limit: usize::MAX, all: true, after: None, shown };
    let (done, refused) = with(&listing.shown.flags, Needs::Mode, async |api: &Api| {
        let events = if failed { failed_ones(api, &listing).await? } else { events };
        replay(api, &events).await
    })
    .await?;
    tell(form, &done, refused);
    if refused == 0 { Ok(()) } else { Err(Failed::Told) }
}

async fn failed_ones(api: &Api, listing: &Listing) -> Result<Vec<String>, Failed> {
    let (items, _) = read(api, &["events"], &[("status", Some("failed".to_owned()))], listing).await?;
    let ids = items.iter().filter_map(|item| serde_json::from_str::<Listed>(item.get()).ok());
    Ok(ids.map(|listed| listed.id).collect())
}

/// Those that were replayed, and how many were not; why not is told at once.
async fn replay(api: &Api, events: &[String]) -> Result<(Vec<String>, usize), Failed> {
    let (mut done, mut refused) = (Vec::new(), 0);
    let progress = progress::bar(events.len() as u64, "replaying");
    for event in events {
        let key = Order::new_key();
        match api.order(&["events", event, "replay"], &key, Map::new()).await? {
            Ok(_) => done.push(event.clone()),
            Err(problem) => {
                refused += 1;
                progress.aside(&format!("error: {event}: {}", problem.words(&[])));
            }
        }
        progress.step();
    }
    Ok((done, refused))
}

fn tell(form: Output, done: &[String], refused: usize) {
    form.print(&json!({"replayed": done, "refused": refused}));
}
