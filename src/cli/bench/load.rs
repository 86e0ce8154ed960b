//! The load: many connections on one thread of their own, in a closed loop or at a constant rate.
//!
//! In a closed loop each connection sends as soon as it was answered. At a constant rate arrivals are laid down before
//! the start, and a latency counts from the moment at which its request was due: a server that stalls is not spared
//! the requests that would have come meanwhile.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::task::LocalSet;

use super::payload::Requests;
use super::proc;
use super::wire::Connection;

/// How long answers may take once the last request was due.
const PATIENCE: Duration = Duration::from_secs(10);
/// A load that fails this often measures nothing.
const MOST_FAILURES: u64 = 200;

/// What sets the pace.
#[derive(Clone, Copy, Debug)]
pub enum Pace {
    /// The answers, for so long.
    Closed(Duration),
    /// The clock: so many a second, for so long.
    Constant(f64, Duration),
    /// The answers, until all requests are made; so long at most.
    Through(Duration),
}

/// What came of a load.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Requests answered 200, or 201.
    pub acked: u64,
    /// Requests answered 503.
    pub busy: u64,
    /// Requests answered otherwise, or not.
    pub failed: u64,
    /// The first of those.
    pub problem: Option<String>,
    /// From the first request to the last answer.
    pub took: Duration,
    /// Of the requests answered 200, in ascending order, in microseconds.
    pub latencies: Vec<u32>,
    /// What the load itself used.
    pub cpu: Duration,
}

impl Outcome {
    /// Requests answered 200 in a second.
    pub fn per_s(&self) -> f64 {
        self.acked as f64 / self.took.as_secs_f64().max(f64::EPSILON)
    }

    /// The latency that this share of requests stayed within, in milliseconds.
    pub fn within_ms(&self, share: f64) -> f64 {
        within_ms(&self.latencies, share)
    }

    /// Refuses a load that did not do what it was for.
    pub fn all_well(self) -> anyhow::Result<Self> {
        let problem = self.problem.as_deref().unwrap_or("no answer");
        anyhow::ensure!(self.failed == 0, "{} requests failed, the first with: {problem}", self.failed);
        anyhow::ensure!(self.acked > 0, "no request was answered 200 in {:?}", self.took);
        Ok(self)
    }

    fn count(&mut self, status: Result<u16, String>, took: Duration) {
        match status {
            Ok(200..=299) => {
                self.acked += 1;
                self.latencies.push(u32::try_from(took.as_micros()).unwrap_or(u32::MAX));
            }
            Ok(503) => self.busy += 1,
            Ok(status) => self.fail(format!("status {status}")),
            Err(error) => self.fail(error),
        }
    }

    fn fail(&mut self, problem: String) {
        self.failed += 1;
        self.problem.get_or_insert(problem);
    }
}

/// The value that this share of ascending microseconds stays within, in milliseconds.
pub fn within_ms(ascending_us: &[u32], share: f64) -> f64 {
    let rank = (ascending_us.len() as f64 * share).ceil() as usize;
    let place = rank.clamp(1, ascending_us.len().max(1)) - 1;
    ascending_us.get(place).map_or(f64::NAN, |us| f64::from(*us) / 1_000.0)
}

/// Runs a load with so many connections.
pub async fn run(
    address: SocketAddr,
    connections: usize,
    pace: Pace,
    requests: impl Requests + Send + 'static,
) -> anyhow::Result<Outcome> {
    let (done, ended) = oneshot::channel();
    let on_its_own = move || {
        let outcome = drive(address, connections, pace, requests);
        // Whoever asked may be gone.
        let _ = done.send(outcome);
    };
    std::thread::Builder::new().name("load".to_owned()).spawn(on_its_own)?;
    ended.await.context("the load ended without an outcome")?
}

fn drive(
    address: SocketAddr,
    connections: usize,
    pace: Pace,
    requests: impl Requests + 'static,
) -> anyhow::Result<Outcome> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let before = proc::cpu_of_thread().unwrap_or_default();
    let mut outcome = LocalSet::new().block_on(&runtime, async {
        let mut open = Vec::with_capacity(connections);
        for _ in 0..connections {
            open.push(Connection::open(address).await.context("the load could not connect")?);
        }
        let requests = Rc::new(RefCell::new(requests));
        let total = Rc::new(RefCell::new(Outcome::default()));
        let began = Instant::now();
        let arrivals = Arrivals::of(pace, began)?;
        let sending = open.into_iter().map(|connection| {
            let (requests, total) = (Rc::clone(&requests), Rc::clone(&total));
            tokio::task::spawn_local(send(connection, address, arrivals.clone(), requests, total))
        });
        for ended in sending.collect::<Vec<_>>() {
            ended.await.context("a connection of the load failed")?;
        }
        let mut outcome = total.take();
        outcome.took = began.elapsed();
        Ok::<_, anyhow::Error>(outcome)
    })?;
    outcome.latencies.sort_unstable();
    outcome.cpu = proc::cpu_of_thread().unwrap_or_default().saturating_sub(before);
    Ok(outcome)
}

/// When requests are due.
#[derive(Clone)]
enum Arrivals {
    /// At once, until then.
    AtOnce(Instant),
    /// At the moments that come out here.
    Due(Rc<Mutex<mpsc::UnboundedReceiver<Instant>>>, Instant),
}

impl Arrivals {
    fn of(pace: Pace, began: Instant) -> anyhow::Result<Self> {
        match pace {
            Pace::Closed(length) | Pace::Through(length) => Ok(Self::AtOnce(began + length)),
            Pace::Constant(per_s, length) => {
                let (out, due) = mpsc::unbounded_channel();
                // Timers of the runtime have whole milliseconds; a thread that sleeps is woken within 0.1 ms.
                let ring = move || {
                    let count = (per_s * length.as_secs_f64()) as u64;
                    for number in 0..count {
                        let at = began + Duration::from_secs_f64(number as f64 / per_s);
                        std::thread::sleep(at.saturating_duration_since(Instant::now()));
                        if out.send(at).is_err() {
                            return;
                        }
                    }
                };
                std::thread::Builder::new().name("arrivals".to_owned()).spawn(ring)?;
                Ok(Self::Due(Rc::new(Mutex::new(due)), began + length + PATIENCE))
            }
        }
    }

    /// When the next request is due; `None` at the end.
    async fn next(&self) -> Option<Instant> {
        match self {
            Self::AtOnce(until) => Some(Instant::now()).filter(|now| now < until),
            Self::Due(due, until) => {
                let next = due.lock().await.recv().await;
                next.filter(|_| Instant::now() < *until)
            }
        }
    }
}

/// One connection, until there is nothing more to send.
async fn send(
    mut connection: Connection,
    address: SocketAddr,
    arrivals: Arrivals,
    requests: Rc<RefCell<impl Requests>>,
    total: Rc<RefCell<Outcome>>,
) {
    let mut request = Vec::with_capacity(8 * 1024);
    while let Some(due) = arrivals.next().await {
        if total.borrow().failed > MOST_FAILURES || !requests.borrow_mut().next(&mut request) {
            return;
        }
        let answered = tokio::time::timeout(PATIENCE, connection.exchange(&request)).await;
        let (status, closes) = match answered {
            Ok(Ok(answer)) => (Ok(answer.status), answer.closes),
            Ok(Err(error)) => (Err(error.to_string()), true),
            Err(_) => (Err(format!("no answer within {PATIENCE:?}")), true),
        };
        total.borrow_mut().count(status, due.elapsed());
        if closes {
            match Connection::open(address).await {
                Ok(opened) => connection = opened,
                Err(error) => return total.borrow_mut().fail(error.to_string()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_latencies_is_the_smallest_that_covers_it() {
        let ascending: Vec<u32> = (1..=1_000).map(|n| n * 1_000).collect();
        let row = [(0.5, 500.0), (0.99, 990.0), (0.999, 999.0), (1.0, 1_000.0), (0.0, 1.0)];
        for (share, expected) in row {
            assert_eq!(within_ms(&ascending, share), expected);
        }
        assert_eq!(within_ms(&[7_000], 0.999), 7.0);
        assert!(within_ms(&[], 0.5).is_nan());
    }

    struct Ten(u32);

    impl Requests for Ten {
        fn next(&mut self, into: &mut Vec<u8>) -> bool {
            into.clear();
            into.extend_from_slice(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n");
            self.0 += 1;
            self.0 <= 10
        }
    }

    /// A server that stalls once for 200 ms: at a constant rate all who were due meanwhile have waited.
    #[tokio::test]
    async fn a_stall_is_felt_by_everyone_who_was_due_meanwhile() {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut peer, _) = listener.accept().await.unwrap();
            let (mut heard, mut first) = ([0; 1024], true);
            while peer.read(&mut heard).await.is_ok_and(|read| read > 0) {
                if std::mem::take(&mut first) {
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
                peer.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
            }
        });
        let pace = Pace::Constant(100.0, Duration::from_millis(100));
        let outcome = run(address, 1, pace, Ten(0)).await.unwrap().all_well().unwrap();
        assert_eq!(outcome.acked, 10);
        // The last was due 90 ms after the first, which took 200.
        assert!(outcome.within_ms(0.0) >= 100.0, "{outcome:?}");
    }
}
