//! What goes wrong in a run.

use std::time::Duration;

use fastrand::Rng;

use super::schedule::{AtMoment, Blow, Delivering, Fate, LEASES, Mishap, STALE, Schedule, ms};
use crate::sandbox::{Fault, FaultKind, Stage};

/// Adds it to a story.
pub fn make(schedule: &mut Schedule, rng: &mut Rng, replicas: usize) {
    let mut mishaps: Vec<(Duration, Mishap)> = Vec::new();
    for _ in 0..rng.usize(4..10) {
        let fault = Fault::next(of_create(rng)).on("POST", "/v1/transfers").times(Some(rng.u32(1..4)));
        mishaps.push((ms(0, 900, rng), Mishap::Stripe(Fault { skip: rng.u32(0..5), ..fault })));
    }
    for _ in 0..rng.usize(2..7) {
        let stale = Fault::next(FaultKind::StaleList { younger_than_ms: rng.u64(300..STALE) });
        let fault = match rng.u8(0..3) {
            0 => stale.on("GET", "/v1/transfers").times(Some(rng.u32(1..4))),
            1 => Fault::next(of_read(rng)).on("GET", "/v1/transfers").times(Some(rng.u32(1..3))),
            _ => Fault::next(of_read(rng)).on("GET", "/v1/").times(Some(rng.u32(1..4))),
        };
        mishaps.push((ms(0, 2_000, rng), Mishap::Stripe(fault)));
    }
    for _ in 0..rng.usize(0..3) {
        let held = ms(0, 1_500, rng);
        mishaps.push((held, Mishap::HoldEvents));
        mishaps.push((held + ms(100, 900, rng), Mishap::ReleaseEvents));
    }
    for _ in 0..rng.usize(0..3) {
        mishaps.push((ms(0, 1_500, rng), Mishap::LoseEvents(rng.u32(1..4))));
    }
    for _ in 0..rng.usize(0..3) {
        let kill = Mishap::Kill(rng.usize(0..replicas), ms(20, 400, rng));
        mishaps.push((ms(100, 2_000, rng), kill));
    }
    if rng.u8(0..3) == 0 {
        // With a flood of events at the same time.
        let at = ms(300, 1_200, rng);
        mishaps.push((at.saturating_sub(Duration::from_millis(200)), Mishap::HoldEvents));
        mishaps.push((at, Mishap::ReleaseEvents));
        mishaps.push((at, Mishap::RestartPostgres));
    }
    mishaps.sort_by_key(|(at, _)| *at);
    schedule.mishaps = mishaps;
    let kills: Vec<Blow> = (0..rng.usize(0..5)).map(|_| Blow::Kill(ms(20, 300, rng))).collect();
    let falling = (0..schedule.fates.len()).filter(|account| schedule.fates[*account] == Fate::Falls);
    // What was being sent has to be sent again, and by then it must not be.
    let falls = falling.map(|account| Blow::Fall(account, ms(2_300, 2_800, rng), rng.u32(0..5)));
    let mut blows: Vec<Blow> = falls.chain(kills).collect();
    for _ in 0..rng.usize(0..4) {
        let kind = if rng.bool() { FaultKind::DropAfterCommit } else { FaultKind::Error500AfterCommit };
        blows.push(Blow::Silence(kind, rng.u32(1..4)));
    }
    schedule.blows = blows
        .into_iter()
        .map(|blow| AtMoment {
            nth: if matches!(blow, Blow::Kill(_)) { rng.u32(1..20) } else { rng.u32(1..6) },
            stage: [Stage::Arrived, Stage::Committed, Stage::Answered][rng.usize(0..3)],
            after: Duration::from_millis([0, 0, 2, 10][rng.usize(0..4)]),
            blow,
        })
        .collect();
    schedule.lease = LEASES[usize::from(rng.u8(0..3) == 0)];
    schedule.delivering = Delivering {
        duplicate_every: [0, 2, 3][rng.usize(0..3)],
        reorder: rng.bool(),
        delay: Duration::from_millis([0, 0, 100, 300][rng.usize(0..4)]),
    };
    // Few enough that sends wait for their turn while the world goes on.
    schedule.rate_per_s = [0, 0, 30, 60][rng.usize(0..4)];
}

/// What can befall a call that moves money.
fn of_create(rng: &mut Rng) -> FaultKind {
    match rng.u8(0..13) {
        0 => FaultKind::DropBeforeCommit,
        1 | 2 => FaultKind::DropAfterCommit,
        3 => FaultKind::Error500BeforeCommit,
        4 | 5 => FaultKind::Error500AfterCommit,
        6 => FaultKind::Conflict,
        7 => FaultKind::RateLimited { reason: None },
        8 => FaultKind::RateLimited { reason: Some("global-rate".to_owned()) },
        9 => FaultKind::UnavailableBeforeCommit,
        10 => FaultKind::UnavailableAfterCommit,
        11 => FaultKind::Delay { ms: rng.u64(50..1_800) },
        _ => FaultKind::DelayAnswer { ms: rng.u64(50..1_800) },
    }
}

/// What can befall a call that only reads.
fn of_read(rng: &mut Rng) -> FaultKind {
    match rng.u8(0..4) {
        0 => FaultKind::DropBeforeCommit,
        1 => FaultKind::UnavailableBeforeCommit,
        2 => FaultKind::RateLimited { reason: None },
        _ => FaultKind::DelayAnswer { ms: rng.u64(50..1_200) },
    }
}
