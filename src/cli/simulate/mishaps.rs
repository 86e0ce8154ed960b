//! What goes wrong, and the machines that it befalls.

use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{Mutex, broadcast, mpsc};
use tokio::time::{Instant, sleep, sleep_until};

use super::replica::Replica;
use super::schedule::{AtMoment, Blow, Mishap, STALE, Schedule};
use super::stage::Stage;
use crate::sandbox::{AccountChange, Control, Fault, FaultKind, Moment};

/// The machines, which the mishaps befall.
pub struct Machines<'a> {
    replicas: Vec<Mutex<Replica>>,
    stage: Mutex<&'a mut Stage>,
    kills: AtomicU64,
}

impl<'a> Machines<'a> {
    /// None of them runs yet.
    pub fn new(replicas: Vec<Replica>, stage: &'a mut Stage) -> Self {
        Self {
            replicas: replicas.into_iter().map(Mutex::new).collect(),
            stage: Mutex::new(stage),
            kills: AtomicU64::new(0),
        }
    }

    /// How often a replica was killed.
    pub fn kills(&self) -> u64 {
        self.kills.load(Ordering::Relaxed)
    }

    async fn kill(&self, replica: usize, pause: Duration) {
        self.kills.fetch_add(1, Ordering::Relaxed);
        self.replicas[replica].lock().await.kill().await;
        sleep(pause).await;
        self.revive().await;
    }

    /// Starts what does not run, as a service manager would.
    pub async fn revive(&self) {
        for replica in &self.replicas {
            let mut replica = replica.lock().await;
            if !replica.runs()
                && let Err(error) = replica.start().await
            {
                eprintln!("warning: {error:#}");
            }
        }
    }

    /// Ends them all.
    pub async fn stop(&self) {
        for replica in &self.replicas {
            replica.lock().await.kill().await;
        }
    }
}

/// The mishaps that have a time.
pub async fn befall(schedule: &Schedule, control: &Control, machines: &Machines<'_>, began: Instant) {
    let mut rng = fastrand::Rng::with_seed(schedule.seed);
    let mut under_way = Vec::new();
    for (at, mishap) in &schedule.mishaps {
        sleep_until(began + *at).await;
        match mishap {
            Mishap::Stripe(fault) => control.fault(fault.clone()),
            Mishap::HoldEvents => control.hold_events(true),
            Mishap::ReleaseEvents => release(control, &mut rng),
            Mishap::LoseEvents(count) => control.lose_events(*count),
            Mishap::Kill(replica, pause) => under_way.push(machines.kill(*replica, *pause)),
            Mishap::RestartPostgres => {
                if let Err(error) = machines.stage.lock().await.restart().await {
                    eprintln!("warning: Postgres could not be restarted: {error:#}");
                }
            }
        }
        // Kills go on beside the rest.
        if under_way.len() > 3 {
            futures_util::future::join_all(under_way.drain(..)).await;
        }
    }
    futures_util::future::join_all(under_way).await;
}

fn release(control: &Control, rng: &mut fastrand::Rng) {
    control.hold_events(false);
    let mut held: Vec<String> = control.held_events().into_iter().map(|(id, _)| id).collect();
    rng.shuffle(&mut held);
    if !held.is_empty() {
        control.release(&held);
    }
    for id in held.into_iter().filter(|_| rng.u8(0..3) == 0) {
        let control = control.clone();
        tokio::spawn(async move { control.deliver(&id).await });
    }
}

/// What goes wrong at moments of calls: when the n-th of those that move money has come so far.
pub async fn befall_at_moments(
    schedule: &Schedule,
    control: &Control,
    mut moments: broadcast::Receiver<Moment>,
    (keys, accounts): (&[String], &[String]),
    machines: &Machines<'_>,
) -> Infallible {
    let mut passed: Vec<(&AtMoment, u32)> = schedule.blows.iter().map(|blow| (blow, 0)).collect();
    let (out, mut coming) = mpsc::unbounded_channel::<(usize, &AtMoment)>();
    let watch = async {
        loop {
            match moments.recv().await {
                Ok(moment) => {
                    let moves_money = moment.method == "POST" && moment.path.starts_with("/v1/transfers");
                    let caller = keys.iter().position(|key| *key == moment.api_key);
                    let (true, Some(caller)) = (moves_money, caller) else { continue };
                    for (blow, count) in passed.iter_mut().filter(|(blow, _)| blow.stage == moment.stage) {
                        *count += 1;
                        if *count == blow.nth {
                            let _ = out.send((caller, blow));
                        }
                    }
                }
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
            }
        }
    };
    let strike = async {
        while let Some((caller, at)) = coming.recv().await {
            sleep(at.after).await;
            match &at.blow {
                Blow::Kill(pause) => machines.kill(caller, *pause).await,
                Blow::Fall(account, length, unanswered) => {
                    fall(control.clone(), accounts[*account].clone(), *length, *unanswered);
                }
                Blow::Silence(kind, times) => fall_silent(control, kind, *times),
            }
        }
        std::future::pending().await
    };
    tokio::select! { never = watch => never, never = strike => never }
}

/// So many calls are carried out, and nobody says so.
fn fall_silent(control: &Control, kind: &FaultKind, times: u32) {
    control.fault(Fault::next(kind.clone()).on("POST", "/v1/transfers").times(Some(times)));
    control.lose_events(times);
    let stale = Fault::next(FaultKind::StaleList { younger_than_ms: STALE });
    control.fault(stale.on("GET", "/v1/transfers").times(Some(times)));
}

/// An account stops being ready for so long, while calls that would send it money get no answer.
fn fall(control: Control, account: String, length: Duration, unanswered: u32) {
    if unanswered > 0 {
        let fault = Fault::next(FaultKind::DropBeforeCommit).on("POST", "/v1/transfers");
        control.fault(fault.times(Some(unanswered)));
    }
    tokio::spawn(async move {
        for ready in [false, true] {
            let change = AccountChange { charges_enabled: Some(ready), ..AccountChange::default() };
            if let Err(error) = control.change_account(&account, &change) {
                eprintln!("warning: {account} could not be changed: {error}");
            }
            if !ready {
                sleep(length).await;
            }
        }
    });
}
