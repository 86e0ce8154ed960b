//! A delivery comes in: verify, route, store durably, and only then say yes.
//!
//! Concurrent deliveries share one insert and one commit. The queue in front is bounded by count and by
//! bytes; past it the sender is told to come back, since Stripe does and memory does not.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;
use sqlx::PgPool;
use time::OffsetDateTime;
use tokio::sync::{Mutex, Notify, OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use tracing::Instrument as _;

use super::bell::Bell;
use super::event_record;
use crate::domain::event::Ourselves;
use crate::domain::share::Share;
use crate::planted::{self, Bug};
use crate::store::db::StoreError;
use crate::store::outbox::{self, NewEvent, Signed};
use crate::stripe::signature::{self, SigningSecret};
use crate::trail;

/// The largest number of deliveries that wait for a commit.
const QUEUE: usize = 4_096;
/// The bytes of all deliveries under way together.
const BUDGET_BYTES: usize = 16 * 1024 * 1024;
/// The largest number of rows in one insert.
const BATCH: usize = 256;
/// No row is added to an insert of so many bytes: each is copied twice on its way to the database.
const BATCH_BYTES: usize = 2 * 1024 * 1024;
/// Two writers keep the disk busy; more were not faster.
const WRITERS: usize = 2;
/// While one writer is at work, the other leaves it at that until so many wait: an insert costs as much as ten rows.
const FEW: usize = 16;

/// A delivery that was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// It had been stored before.
    pub duplicate: bool,
}

/// Why a delivery was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReceiveError {
    /// The signature is missing, wrong or out of time.
    #[error("{0}")]
    Signature(String),
    /// Signed, but no Stripe event.
    #[error("{0}")]
    Malformed(String),
    /// Too much is waiting already.
    #[error("too many deliveries are waiting")]
    Full,
    /// The database is away.
    #[error("the database is not reachable")]
    Unavailable,
}

/// What one body takes of the budget that all deliveries under way share.
#[derive(Debug)]
pub struct Room {
    budget: Arc<Semaphore>,
    taken: Option<OwnedSemaphorePermit>,
}

impl Room {
    /// Makes room for so many bytes more, as they arrive: a slow sender takes no more than it has sent.
    pub fn grow(&mut self, bytes: usize) -> Result<(), ReceiveError> {
        let size = u32::try_from(bytes).map_err(|_| ReceiveError::Full)?;
        let more = Arc::clone(&self.budget).try_acquire_many_owned(size).map_err(|_| ReceiveError::Full)?;
        match &mut self.taken {
            Some(taken) => taken.merge(more),
            None => self.taken = Some(more),
        }
        Ok(())
    }
}

/// How much is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queue {
    /// Deliveries that wait for a writer to take them.
    pub events: usize,
    /// Bytes of all bodies that are read or wait for their commit.
    pub bytes: usize,
}

struct Waiting {
    event: NewEvent,
    answer: oneshot::Sender<Result<Receipt, ReceiveError>>,
    _room: Room,
}

/// Whether the signature of a kept delivery still fits what was kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Signature {
    /// With the secret of this label.
    Fits(Option<String>),
    /// There is no secret to verify it with.
    Unchecked,
    /// It does not, for this reason.
    Misfit(String),
}

/// The door for deliveries. Cheap to clone; the writers end when the last clone is dropped.
#[derive(Clone)]
pub struct Intake {
    secrets: Arc<Vec<SigningSecret>>,
    tolerance_s: i64,
    ourselves: Arc<RwLock<Ourselves>>,
    pool: PgPool,
    queue: mpsc::Sender<Waiting>,
    budget: Arc<Semaphore>,
}

impl Intake {
    /// Opens the door and starts its writers, which ring `bell` after each commit with new events.
    pub fn open(
        pool: PgPool,
        secrets: Vec<SigningSecret>,
        tolerance_s: i64,
        ourselves: Arc<RwLock<Ourselves>>,
        bell: Arc<Bell>,
    ) -> Self {
        let (queue, waiting) = mpsc::channel(QUEUE);
        let waiting = Arc::new(Mutex::new(waiting));
        let at_work = Arc::new(AtWork::default());
        for _ in 0..WRITERS {
            tokio::spawn(write(pool.clone(), Arc::clone(&waiting), Arc::clone(&at_work), Arc::clone(&bell)));
        }
        let budget = Arc::new(Semaphore::new(BUDGET_BYTES));
        Self { secrets: Arc::new(secrets), tolerance_s, ourselves, pool, queue, budget }
    }

    /// How full it is.
    pub fn queue(&self) -> Queue {
        Queue {
            events: QUEUE.saturating_sub(self.queue.capacity()),
            bytes: BUDGET_BYTES.saturating_sub(self.budget.available_permits()),
        }
    }

    /// Room for a body that is about to be read.
    pub fn room(&self) -> Room {
        Room { budget: Arc::clone(&self.budget), taken: None }
    }

    /// Verifies once more what was kept of a delivery, whenever it came.
    pub fn try_again(&self, payload: &[u8], header: &str) -> Signature {
        if self.secrets.is_empty() {
            return Signature::Unchecked;
        }
        match signature::verify(payload, header, &self.secrets, 0, i64::MAX) {
            Ok(secret) => Signature::Fits(secret.label.clone()),
            Err(error) => Signature::Misfit(error.to_string()),
        }
    }

    /// Takes one delivery: returns once it is durable.
    pub async fn receive(
        &self,
        room: Room,
        body: Bytes,
        header: Option<&str>,
        now: OffsetDateTime,
    ) -> Result<Receipt, ReceiveError> {
        let header = header.unwrap_or_default();
        let secret = signature::verify(&body, header, &self.secrets, now.unix_timestamp(), self.tolerance_s)
            .map_err(|error| ReceiveError::Signature(error.to_string()))?;
        let event = match self.read(&body, header, secret.label.clone(), now) {
            Ok(event) => event,
            Err(problem) => return Err(self.set_aside(&body, header, secret, problem, now).await),
        };
        let span = span_of(&event);
        async {
            let receipt = self.store(room, event).await;
            if let Ok(Receipt { duplicate }) = receipt {
                tracing::Span::current().record("duplicate", duplicate);
            }
            receipt
        }
        .instrument(span)
        .await
    }

    /// Waits until it is durable.
    async fn store(&self, room: Room, event: NewEvent) -> Result<Receipt, ReceiveError> {
        let (answer, answered) = oneshot::channel();
        let waiting = Waiting { event, answer, _room: room };
        self.queue.try_send(waiting).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => ReceiveError::Full,
            mpsc::error::TrySendError::Closed(_) => ReceiveError::Unavailable,
        })?;
        if planted::has(Bug::AnswerBeforeCommit) {
            return Ok(Receipt { duplicate: false });
        }
        answered.await.unwrap_or(Err(ReceiveError::Unavailable))
    }

    fn read(
        &self,
        body: &Bytes,
        header: &str,
        secret_label: Option<String>,
        now: OffsetDateTime,
    ) -> Result<NewEvent, String> {
        let ourselves = self.ourselves.read().unwrap_or_else(PoisonError::into_inner);
        let signed = Signed { header: header.to_owned(), secret_label };
        event_record::read(body, Some(signed), &ourselves, now)
    }

    /// Keeps what is signed but no event for a person to look at.
    async fn set_aside(
        &self,
        body: &Bytes,
        header: &str,
        secret: &SigningSecret,
        problem: String,
        now: OffsetDateTime,
    ) -> ReceiveError {
        let label = secret.label.as_deref();
        let kept = async {
            let mut conn = self.pool.acquire().await?;
            outbox::quarantine(&mut conn, now, label, header, &problem, body).await
        };
        match kept.await {
            Ok(()) => ReceiveError::Malformed(problem),
            Err(error) => {
                tracing::warn!(%error, "a body that is no event could not be kept");
                ReceiveError::Unavailable
            }
        }
    }
}

/// How many writers are storing something, and the word when one of them is done.
#[derive(Default)]
struct AtWork {
    writers: AtomicUsize,
    done: Notify,
}

/// A writer's being at work, for as long as this lives.
struct Storing<'a>(&'a AtWork);

impl<'a> Storing<'a> {
    fn begin(at_work: &'a AtWork) -> Self {
        at_work.writers.fetch_add(1, Ordering::AcqRel);
        Self(at_work)
    }
}

impl Drop for Storing<'_> {
    fn drop(&mut self) {
        self.0.writers.fetch_sub(1, Ordering::AcqRel);
        self.0.done.notify_one();
    }
}

/// What one insert stores.
#[derive(Default)]
struct Batch {
    rows: Vec<Waiting>,
    bytes: usize,
}

impl Batch {
    fn add(&mut self, row: Waiting) {
        self.bytes += row.event.payload.len();
        self.rows.push(row);
    }

    fn is_full(&self) -> bool {
        self.rows.len() >= BATCH || self.bytes >= BATCH_BYTES
    }

    /// Adds what waits, as long as there is room.
    fn fill(&mut self, waiting: &mut mpsc::Receiver<Waiting>) {
        while !self.is_full() {
            match waiting.try_recv() {
                Ok(row) => self.add(row),
                Err(_) => return,
            }
        }
    }
}

/// Takes what has gathered; `None` once the last door is closed.
async fn gather<'a>(
    waiting: &Mutex<mpsc::Receiver<Waiting>>,
    at_work: &'a AtWork,
) -> Option<(Batch, Storing<'a>)> {
    let mut waiting = waiting.lock().await;
    let mut batch = Batch::default();
    batch.add(waiting.recv().await?);
    batch.fill(&mut waiting);
    while batch.rows.len() < FEW && !batch.is_full() && at_work.writers.load(Ordering::Acquire) > 0 {
        tokio::select! {
            more = waiting.recv() => match more {
                Some(row) => batch.add(row),
                None => break,
            },
            () = at_work.done.notified() => {}
        }
        batch.fill(&mut waiting);
    }
    Some((batch, Storing::begin(at_work)))
}

/// In the trace of the event, as all that is done about it.
fn span_of(event: &NewEvent) -> tracing::Span {
    let span = tracing::debug_span!(
        "delivery",
        event = event.event_id,
        event_type = event.event_type,
        label = event.signed.as_ref().and_then(|signed| signed.secret_label.as_deref()),
        account = event.account.as_deref(),
        subject = event.subject.as_deref(),
        duplicate = tracing::field::Empty,
    );
    trail::begin(&span, &event.event_id);
    span
}

/// One writer: takes what has gathered, stores it in one statement, and answers each sender.
async fn write(
    pool: PgPool,
    waiting: Arc<Mutex<mpsc::Receiver<Waiting>>>,
    at_work: Arc<AtWork>,
    bell: Arc<Bell>,
) {
    loop {
        let Some((Batch { mut rows, .. }, storing)) = gather(&waiting, &at_work).await else { return };
        rows.sort_by(|a, b| a.event.event_id.cmp(&b.event.event_id));
        let (events, answers): (Vec<_>, Vec<_>) =
            rows.into_iter().map(|w| (w.event, (w.answer, w._room))).unzip();
        let shares: Vec<Share> = events.iter().map(|event| Share::of(event.subject_kind)).collect();
        let outcomes = store(&pool, events).await;
        drop(storing);
        let is_new =
            |outcome: &Result<Receipt, ReceiveError>| matches!(outcome, Ok(Receipt { duplicate: false }));
        let new =
            shares.into_iter().zip(&outcomes).filter_map(|(share, outcome)| is_new(outcome).then_some(share));
        let new: BTreeSet<Share> = new.collect();
        if !new.is_empty() {
            bell.ring_stored(new);
        }
        for ((answer, _), outcome) in answers.into_iter().zip(outcomes) {
            // A sender that hung up will deliver again and be told that it is a duplicate.
            let _ = answer.send(outcome);
        }
    }
}

/// Stores a batch; where the database refuses it, each row alone, so that one bad row fails no neighbour.
async fn store(pool: &PgPool, events: Vec<NewEvent>) -> Vec<Result<Receipt, ReceiveError>> {
    match store_together(pool, &events).await {
        Ok(receipts) => receipts.into_iter().map(Ok).collect(),
        Err(StoreError::Unavailable(error)) => {
            tracing::warn!(%error, "deliveries could not be stored");
            events.iter().map(|_| Err(ReceiveError::Unavailable)).collect()
        }
        Err(error) => {
            tracing::warn!(%error, rows = events.len(), "a batch was refused; storing its rows one by one");
            let mut outcomes = Vec::with_capacity(events.len());
            for event in &events {
                let outcome = store_together(pool, std::slice::from_ref(event)).await;
                outcomes.push(match outcome {
                    Ok(receipts) => receipts.first().copied().ok_or(ReceiveError::Unavailable),
                    Err(StoreError::Unavailable(_)) => Err(ReceiveError::Unavailable),
                    Err(error) => Err(ReceiveError::Malformed(format!("it can't be stored: {error}"))),
                });
            }
            outcomes
        }
    }
}

async fn store_together(pool: &PgPool, events: &[NewEvent]) -> Result<Vec<Receipt>, StoreError> {
    let mut conn = pool.acquire().await?;
    let mut new: std::collections::HashSet<String> =
        outbox::insert_new(&mut conn, events).await?.into_iter().collect();
    // Of two copies in one batch only one is new.
    Ok(events.iter().map(|event| Receipt { duplicate: !new.remove(&event.event_id) }).collect())
}
