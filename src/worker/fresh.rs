//! Applies fresh events as they come, many in one transaction, and knows from where on to look for them.

use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::wake::{POLL, Wake};
use crate::flows::Context;
use crate::flows::apply_events::{self, Taken};

/// How far behind the last one found it looks: ids are handed out before their rows are committed, by a few batches
/// of every process that takes in deliveries.
const LOOK_BACK: i64 = 4_096;
/// How often everything is looked through, for what came later than that.
const RESCAN: Duration = Duration::from_secs(1);
/// And at most this part of the time is spent on it: one divided by this.
const RESCAN_SHARE: u32 = 20;

/// Fewer than these at a time cost several times as much each.
const FEW: usize = 32;
/// So far apart are looks that bring few: what comes meanwhile is applied with the next.
const LINGER: Duration = Duration::from_millis(2);

async fn linger(began: Instant, stop: &CancellationToken) {
    let _ = tokio::time::timeout(LINGER.saturating_sub(began.elapsed()), stop.cancelled()).await;
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

    /// Notes what a look brought that began with `from_id` and took that long.
    fn looked(&mut self, from_id: i64, taken: Option<&Taken>, now: Instant, took: Duration) {
        let found = taken.map(|taken| taken.first_id.saturating_sub(LOOK_BACK));
        if from_id == i64::MIN {
            self.rescan_at = now + RESCAN.max(took * RESCAN_SHARE);
            // Stragglers behind the mark take it back: there may be more of them than one look brings.
            self.from_id = found.unwrap_or(self.from_id);
        } else {
            self.from_id = found.unwrap_or(self.from_id).max(self.from_id);
        }
    }
}

/// Runs until `stop`; a batch under way is finished first.
pub async fn run(ctx: Context, wake: Wake, stop: CancellationToken) {
    let mut mark = Mark::new(Instant::now());
    while !stop.is_cancelled() {
        let began = Instant::now();
        let from_id = mark.at(began);
        match apply_events::fresh(&ctx, from_id).await {
            Ok(taken) => {
                mark.looked(from_id, taken.as_ref(), Instant::now(), began.elapsed());
                if let Some(taken) = taken {
                    // What it rang for may be due now.
                    wake.ring();
                    if taken.events < FEW {
                        linger(began, &stop).await;
                    }
                    continue;
                }
                tokio::select! {
                    () = wake.wait_fresh() => {}
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
        Taken { events: 1, left_alone: 0, first_id }
    }

    #[test]
    fn the_mark_follows_what_was_found_and_everything_is_looked_through_now_and_then() {
        let (start, short) = (Instant::now(), Duration::from_millis(1));
        let mut mark = Mark::new(start);
        assert_eq!(mark.at(start), i64::MIN);
        mark.looked(i64::MIN, Some(&taken(10_000)), start, short);
        assert_eq!(mark.at(start), 10_000 - LOOK_BACK);
        mark.looked(10_000 - LOOK_BACK, Some(&taken(20_000)), start, short);
        assert_eq!(mark.at(start), 20_000 - LOOK_BACK);
        let later = start + RESCAN;
        assert_eq!(mark.at(later), i64::MIN, "a second later");
        mark.looked(i64::MIN, Some(&taken(5_000)), later, Duration::from_millis(400));
        assert_eq!(mark.at(later), 5_000 - LOOK_BACK, "a straggler takes it back");
        mark.looked(5_000 - LOOK_BACK, None, later, short);
        assert_eq!(mark.at(later + Duration::from_secs(7)), 5_000 - LOOK_BACK, "a dear look waits longer");
        assert_eq!(mark.at(later + Duration::from_secs(8)), i64::MIN);
    }
}
