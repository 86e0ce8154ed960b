//! Those who come to do the same at the same time do it together.
//!
//! Whoever comes first goes at once, alone; those who come meanwhile are done by one of them as soon as that is over.
//! So nothing waits for company, and the busier it is, the more share one transaction.

use std::sync::{Mutex, PoisonError};

use tokio::sync::{Mutex as Turn, oneshot};

/// A place where they meet.
#[derive(Debug)]
pub struct Together<T, R> {
    waiting: Mutex<Vec<(T, oneshot::Sender<R>)>>,
    turn: Turn<()>,
}

impl<T, R> Default for Together<T, R> {
    fn default() -> Self {
        Self { waiting: Mutex::default(), turn: Turn::default() }
    }
}

impl<T, R> Together<T, R> {
    /// What `all` made of `mine`, here or in whoever's turn it was; `None` where that one ended before it was through.
    /// `all` answers in the order in which it was asked.
    pub async fn join(&self, mine: T, all: impl AsyncFnOnce(&[T]) -> Vec<R>) -> Option<R> {
        let (answer, mut answered) = oneshot::channel();
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).push((mine, answer));
        tokio::select! {
            biased;
            done = &mut answered => return done.ok(),
            _turn = self.turn.lock() => {
                let waiting = std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
                let (asked, answers): (Vec<T>, Vec<_>) = waiting.into_iter().unzip();
                if !asked.is_empty() {
                    for (answer, result) in answers.into_iter().zip(all(&asked).await) {
                        // Somebody who no longer waits has been stopped.
                        let _ = answer.send(result);
                    }
                }
            }
        }
        answered.await.ok()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::Semaphore;

    use super::*;

    #[tokio::test]
    async fn who_comes_while_one_is_at_work_is_done_with_all_the_others_who_did() {
        let (place, gate) = (Arc::new(Together::<u32, (u32, usize)>::default()), Arc::new(Semaphore::new(0)));
        let come = |mine: u32| {
            let (place, gate) = (Arc::clone(&place), Arc::clone(&gate));
            tokio::spawn(async move {
                let all = async |asked: &[u32]| {
                    gate.acquire().await.unwrap().forget();
                    asked.iter().map(|one| (one * 10, asked.len())).collect()
                };
                place.join(mine, all).await
            })
        };
        let first = come(1);
        while place.turn.try_lock().is_ok() {
            tokio::task::yield_now().await;
        }
        let rest: Vec<_> = (2..=5).map(come).collect();
        while place.waiting.lock().unwrap().len() < 4 {
            tokio::task::yield_now().await;
        }
        gate.add_permits(2);
        assert_eq!(first.await.unwrap(), Some((10, 1)));
        for (mine, one) in (2..).zip(rest) {
            assert_eq!(one.await.unwrap(), Some((mine * 10, 4)));
        }
    }

    #[tokio::test]
    async fn who_waits_while_one_is_stopped_is_done_by_the_next() {
        let place = Arc::new(Together::<u32, u32>::default());
        let begun = Arc::new(Semaphore::new(0));
        let stuck = tokio::spawn({
            let (place, begun) = (Arc::clone(&place), Arc::clone(&begun));
            async move {
                place
                    .join(1, async |_: &[u32]| {
                        begun.add_permits(1);
                        std::future::pending().await
                    })
                    .await
            }
        });
        begun.acquire().await.unwrap().forget();
        let (answer, answered) = oneshot::channel();
        place.waiting.lock().unwrap().push((2, answer));
        stuck.abort();
        assert!(stuck.await.unwrap_err().is_cancelled());
        assert_eq!(place.join(3, async |asked: &[u32]| asked.to_vec()).await, Some(3));
        assert_eq!(answered.await, Ok(2));
    }
}
