//! One who listens: first what they missed, then what is new, until they leave, are too slow, or may no longer.

use std::time::Duration;

use bytes::Bytes;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

use super::auth::Pass;
use super::feed::{Seat, Told};
use super::state::Shared;
use crate::domain::change::Place;

/// Events on their way to one listener.
pub(super) const ON_THE_WAY: usize = 16;
/// Whoever takes no event for this long is cut off; they can go on from the last one they have.
const SLOWEST: Duration = Duration::from_secs(30);
/// So often it is asked whether their key still holds.
const CHECKED_EVERY: Duration = Duration::from_secs(2);
/// After a page could not be read.
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// Somebody who listens.
pub(super) struct Listener {
    /// What they are served with.
    pub(super) state: Shared,
    /// Their place among the listeners, for as long as this lives.
    pub(super) _seat: Seat,
    /// The key they came with.
    pub(super) pass: Pass,
    /// Where the text goes.
    pub(super) out: mpsc::Sender<Bytes>,
    /// How far they were told.
    pub(super) place: Place,
}

/// Why a listener is left.
struct Gone;

impl Listener {
    /// Tells them everything from their place on.
    pub(super) async fn serve(mut self, greeting: Bytes) {
        let (closing, out, state, pass) =
            (self.state.closing.clone(), self.out.clone(), self.state.clone(), self.pass.clone());
        let allowed = async {
            let mut tick = tokio::time::interval(CHECKED_EVERY);
            tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                tick.tick().await;
                if !pass.holds(&state).await {
                    return;
                }
            }
        };
        let told = async {
            let _ = self.send(greeting).await;
            while let Ok(()) = self.tell().await {}
        };
        tokio::select! {
            () = closing.cancelled() => {}
            () = out.closed() => {}
            () = allowed => {}
            () = told => {}
        }
    }

    /// What they missed, then what is new; ends well where they fell behind, to read what they missed.
    async fn tell(&mut self) -> Result<(), Gone> {
        let feed = self.state.live.feed.clone();
        // First: what is told while the pages are read is heard after them.
        let mut news = feed.listen().await;
        loop {
            match feed.catch_up(self.place).await {
                Ok(page) => {
                    for told in page.told {
                        self.pass_on(told).await?;
                    }
                    self.place = page.end;
                    if !page.more {
                        break;
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "the changes could not be read for a listener; trying again");
                    tokio::time::sleep(TRY_AGAIN).await;
                }
            }
        }
        loop {
            match news.recv().await {
                Ok(told) => self.pass_on(told).await?,
                Err(RecvError::Lagged(_)) => return Ok(()),
                Err(RecvError::Closed) => return Err(Gone),
            }
        }
    }

    /// Tells them what they were not told before; a heartbeat, which is at a place they have, as well.
    async fn pass_on(&mut self, told: Told) -> Result<(), Gone> {
        if told.place < self.place || (told.place == self.place && !told.is_heartbeat) {
            return Ok(());
        }
        self.place = told.place;
        self.send(told.frame).await
    }

    async fn send(&self, frame: Bytes) -> Result<(), Gone> {
        self.out.send_timeout(frame, SLOWEST).await.map_err(|_| Gone)
    }
}
