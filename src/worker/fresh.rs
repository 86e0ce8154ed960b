//! Applies fresh events as they come, many in one transaction, and knows from where on to look for them.
//!
//! There is one of it for each share of the events: while the database works for one, the other reads and decides.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio_util::sync::CancellationToken;

use super::wake::{POLL, Wake};
use crate::domain::share::{Part, Share};
use crate::flows::apply_events::{self, Taken};
use crate::flows::{Context, FlowError};

/// How far behind the last one found it looks: ids are handed out before their rows are committed, by a few batches
/// of every process that takes in deliveries.
const LOOK_BACK: i64 = 4_096;
/// How often everything is looked through, for what came later than that.
const RESCAN: Duration = Duration::from_secs(1);
/// And at most this part of the time is spent on it: one divided by this.
const RESCAN_SHARE: u32 = 20;

/// So far apart are looks that bring little, whatever they took.
const LINGER: Duration = Duration::from_millis(2);
/// A look that brings little and takes longer than this walked over what others have to take.
const LONG: Duration = Duration::from_millis(10);

/// What comes in the meantime is applied with the next look: small batches cost several times as much an event, and
/// whoever takes deliveries in needs the cores as well.
async fn rest(began: Instant, stop: &CancellationToken) {
    let took = began.elapsed();
    let pause = (took / 2).max(LINGER.saturating_sub(took));
    let _ = tokio::time::timeout(pause, stop.cancelled()).await;
}

/// From where on to look.
///
/// Rows that are done stay in the index until no transaction can see them any more. Whoever always scanned from the
/// start would walk over all of them, and slow down for as long as somebody keeps a snapshot open.
#[derive(Debug)]
struct Mark {
    from_id: i64,
    rescan_at: Instant,
}

impl Mark {
    fn new(now: Instant) -> Self {
        Self { from_id: i64::MIN, rescan_at: now }
    }

    /// The id to look from at this moment.
    fn at(&self, now: Instant) -> i64 {
        if now >= self.rescan_at { i64::MIN } else { self.from_id }
    }

    /// Notes what a look brought that began with `from_id` and took that long. `newest` is the highest id there was
    /// before it: a look that was not full has been through all up to there.
    fn looked(
        &mut self,
        from_id: i64,
        taken: Option<&Taken>,
        newest: Option<i64>,
        now: Instant,
        took: Duration,
    ) {
        let through = newest.filter(|_| taken.is_none_or(|taken| !taken.full));
        let found = through.or(taken.map(|taken| taken.first_id)).map(|id| id.saturating_sub(LOOK_BACK));
        if from_id == i64::MIN {
            self.rescan_at = now + RESCAN.max(took * RESCAN_SHARE);
            // Stragglers behind the mark take it back: there may be more of them than one look brings.
            self.from_id = found.unwrap_or(self.from_id);
        } else {
            self.from_id = found.unwrap_or(self.from_id).max(self.from_id);
        }
    }
}

/// One look. Of a backlog the parts are taken beside each other: what one connection applies in a row would leave cores
/// idle.
async fn look(ctx: &Context, share: Share, backlog: bool, from_id: i64) -> Result<Option<Taken>, FlowError> {
    if !backlog {
        return apply_events::fresh(ctx, share, Part::WHOLE, from_id).await;
    }
    let parts = share.parts_of_backlog().map(|part| apply_events::fresh(ctx, share, part, from_id));
    // One that fails does not break the others off.
    let taken = join_all(parts).await.into_iter().collect::<Result<Vec<_>, _>>()?;
    Ok(taken.into_iter().flatten().reduce(Taken::and))
}

/// Runs until `stop`; a batch under way is finished first.
pub async fn run(ctx: Context, share: Share, wake: Wake, stop: CancellationToken) {
    let mut mark = Mark::new(Instant::now());
    let mut newest = None;
    let mut backlog = false;
    while !stop.is_cancelled() {
        let began = Instant::now();
        let from_id = mark.at(began);
        wake.forget_fresh(share);
        match look(&ctx, share, backlog, from_id).await {
            Ok(taken) => {
                let took = began.elapsed();
                mark.looked(from_id, taken.as_ref(), newest.take(), Instant::now(), took);
                let full = taken.is_some_and(|taken| taken.full);
                backlog = full;
                if !full && took > LONG {
                    newest = apply_events::newest_id(&ctx).await.unwrap_or(None);
                }
                if taken.is_some() {
                    // What it rang for may be due now.
                    wake.ring_due();
                    if full {
                        continue;
                    }
                    rest(began, &stop).await;
                }
                // Whoever stored something since has left a signal.
                tokio::select! {
                    () = wake.wait_fresh(share) => {}
                    () = stop.cancelled() => {}
                }
            }
            Err(error) => {
                tracing::warn!(%error, "fresh events could not be applied; trying again");
                let _ = tokio::time::timeout(POLL, stop.cancelled()).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(first_id: i64) -> Taken {
        Taken { events: 1, left_alone: 0, first_id, full: true }
    }

    #[test]
    fn the_mark_follows_what_was_found_and_everything_is_looked_through_now_and_then() {
        let (start, short) = (Instant::now(), Duration::from_millis(1));
        let mut mark = Mark::new(start);
        assert_eq!(mark.at(start), i64::MIN);
        mark.looked(i64::MIN, Some(&taken(10_000)), None, start, short);
        assert_eq!(mark.at(start), 10_000 - LOOK_BACK);
        mark.looked(10_000 - LOOK_BACK, Some(&taken(20_000)), None, start, short);
        assert_eq!(mark.at(start), 20_000 - LOOK_BACK);
        let later = start + RESCAN;
        assert_eq!(mark.at(later), i64::MIN, "a second later");
        mark.looked(i64::MIN, Some(&taken(5_000)), None, later, Duration::from_millis(400));
        assert_eq!(mark.at(later), 5_000 - LOOK_BACK, "a straggler takes it back");
        mark.looked(5_000 - LOOK_BACK, None, None, later, short);
        assert_eq!(mark.at(later + Duration::from_secs(7)), 5_000 - LOOK_BACK, "a dear look waits longer");
        assert_eq!(mark.at(later + Duration::from_secs(8)), i64::MIN);
    }

    #[test]
    fn what_others_have_to_take_is_walked_over_once() {
        let (start, short) = (Instant::now(), Duration::from_millis(1));
        let mut mark = Mark::new(start);
        mark.looked(i64::MIN, Some(&taken(10_000)), None, start, short);
        mark.looked(10_000 - LOOK_BACK, None, Some(200_000), start, short);
        assert_eq!(mark.at(start), 200_000 - LOOK_BACK, "nothing of ours was there");
        let few = Taken { full: false, ..taken(210_000) };
        mark.looked(200_000 - LOOK_BACK, Some(&few), Some(300_000), start, short);
        assert_eq!(mark.at(start), 300_000 - LOOK_BACK, "all of ours was taken");
        mark.looked(300_000 - LOOK_BACK, Some(&taken(310_000)), Some(400_000), start, short);
        assert_eq!(mark.at(start), 310_000 - LOOK_BACK, "there may be more");
    }
}
