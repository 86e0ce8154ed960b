//! What happens in one run, and what goes wrong in it: all of it follows from the seed.
//!
//! The story (accounts, top-ups, transfers, orders) is such that its end is the same whatever goes wrong on the
//! way; the mess is what goes wrong.

use std::time::Duration;

use fastrand::Rng;

use super::mess;
use crate::sandbox::{Fault, FaultKind, Stage};

/// How long a replica's call to Stripe may take; a slower answer is no answer.
pub const CALL: Duration = Duration::from_millis(1_000);
/// How long after a call without an answer a look-up counts as proof. Longer than Stripe's lists lag behind here,
/// as ten minutes are there.
pub const GRACE: Duration = Duration::from_millis(1_300);
/// How long a claim on a task holds: longer than a call; or so short that slow calls outlast it.
pub const LEASES: [Duration; 2] = [Duration::from_millis(3_000), Duration::from_millis(700)];
/// The longest that a list lags behind.
pub const STALE: u64 = 800;
/// Revenue of the platform in the same balance: not money to release, though Stripe would pay from it.
pub const REVENUE: i64 = 500_000;
/// No top-up's money can be spent before this.
const SOONEST_MONEY_MS: u64 = 150;
/// More than there ever is: it waits for money to the end.
const TOO_MUCH: i64 = 1_000_000;

/// How an account fares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Ready from the start.
    Ready,
    /// Ready, then perhaps not for more than two seconds, then again.
    Falls,
    /// Ready after a while.
    Late,
    /// Never ready.
    Never,
}

/// A transfer that is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// To which account, by number.
    pub account: usize,
    /// In minor units.
    pub amount: i64,
    /// Higher goes first.
    pub priority: i64,
    /// Tied to which top-up, by number.
    pub topup: Option<usize>,
}

/// A step of the story.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// An account becomes ready, or stops being so.
    Account(usize, bool),
    /// A top-up of so many minor units is created.
    Topup(usize, i64),
    /// Its bank pays.
    Settle(usize),
    /// Its money can be spent.
    Available(usize),
    /// Its bank refuses.
    Fail(usize),
    /// A transfer is asked for.
    Ask(usize),
    /// A transfer is held, or let go on.
    Hold(usize, bool),
    /// A transfer is called off.
    Cancel(usize),
    /// All releases are stopped, or let go on.
    Pause(bool),
}

/// Something that goes wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mishap {
    /// Stripe's next calls of a kind fail.
    Stripe(Fault),
    /// Deliveries are held back.
    HoldEvents,
    /// What was held is delivered, in no order, some of it twice.
    ReleaseEvents,
    /// The next events reach nobody.
    LoseEvents(u32),
    /// A replica is killed, and started again after a pause.
    Kill(usize, Duration),
    /// Postgres is killed and started again.
    RestartPostgres,
}

/// Something goes wrong at a moment of the n-th call that would create a transfer or a reversal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AtMoment {
    /// Which of them, from 1.
    pub nth: u32,
    /// How far it has come.
    pub stage: Stage,
    /// This long after that moment.
    pub after: Duration,
    /// What.
    pub blow: Blow,
}

/// What happens at a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Blow {
    /// Whoever made the call is killed, and started again after a pause.
    Kill(Duration),
    /// An account stops being ready for so long; what is being sent gets no answer so often.
    Fall(usize, Duration, u32),
    /// So many calls are carried out, and nobody says so: no answer, no event, and an old list.
    Silence(FaultKind, u32),
}

/// How Stripe delivers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivering {
    /// Every how many-th delivery is made twice; 0 is none.
    pub duplicate_every: u32,
    /// In no order.
    pub reorder: bool,
    /// Each this late.
    pub delay: Duration,
}

/// A whole run.
#[derive(Clone, Debug)]
pub struct Schedule {
    /// What it follows from.
    pub seed: u64,
    /// Each account's fate.
    pub fates: Vec<Fate>,
    /// The transfers.
    pub asks: Vec<Ask>,
    /// The story, in order of time.
    pub steps: Vec<(Duration, Step)>,
    /// What comes back once all that can go out has gone: transfer and minor units.
    pub reversals: Vec<(usize, i64)>,
    /// The top-up that the bank takes back at the very end.
    pub bounced: Option<usize>,
    /// The top-up whose bank refuses.
    pub failing: Option<usize>,
    /// Transfers that are called off.
    pub canceled: Vec<usize>,
    /// What goes wrong, in order of time.
    pub mishaps: Vec<(Duration, Mishap)>,
    /// What goes wrong at moments of calls.
    pub blows: Vec<AtMoment>,
    /// How Stripe delivers.
    pub delivering: Delivering,
    /// How long the replicas' claims on tasks hold.
    pub lease: Duration,
    /// How many calls a second they make of Stripe together; 0: as many as they like.
    pub rate_per_s: u32,
}

impl Schedule {
    /// The run of a seed with so many replicas.
    pub fn of(seed: u64, replicas: usize) -> Self {
        // Neighbouring seeds shall have nothing in common.
        let mut rng = Rng::with_seed(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let mut schedule = story(seed, &mut rng);
        mess::make(&mut schedule, &mut rng, replicas);
        schedule
    }

    /// The same story with nothing going wrong.
    pub fn without_mess(&self) -> Self {
        let delivering = Delivering { duplicate_every: 0, reorder: false, delay: Duration::ZERO };
        Self {
            mishaps: Vec::new(),
            blows: Vec::new(),
            delivering,
            lease: LEASES[0],
            rate_per_s: 0,
            ..self.clone()
        }
    }

    /// Whether a transfer goes out in the end.
    pub fn goes_out(&self, ask: usize) -> bool {
        let Ask { account, topup, amount, .. } = &self.asks[ask];
        self.fates[*account] != Fate::Never
            && *amount < TOO_MUCH
            && (topup.is_none() || *topup != self.failing)
            && !self.canceled.contains(&ask)
    }
}

/// A time from one to the other, in milliseconds.
pub fn ms(from: u64, to: u64, rng: &mut Rng) -> Duration {
    Duration::from_millis(rng.u64(from..to))
}

fn story(seed: u64, rng: &mut Rng) -> Schedule {
    let mut fates = vec![Fate::Ready, Fate::Falls, Fate::Late, Fate::Never];
    fates.extend((0..rng.usize(0..3)).map(|_| if rng.bool() { Fate::Falls } else { Fate::Ready }));
    let mut steps: Vec<(Duration, Step)> = Vec::new();
    for (account, fate) in fates.iter().enumerate() {
        match fate {
            Fate::Late => steps.push((ms(600, 1_500, rng), Step::Account(account, true))),
            Fate::Ready | Fate::Falls | Fate::Never => {}
        }
    }
    let topups = rng.usize(2..5);
    let failing = rng.bool().then_some(topups);
    let mut asks: Vec<Ask> = (0..rng.usize(10..22))
        .map(|_| {
            let account = if rng.u8(0..10) < 7 { rng.usize(0..2) } else { rng.usize(0..fates.len()) };
            // What is tied and never goes out would keep its top-up's money from the others.
            let tied = rng.u8(0..5) == 0 && fates[account] != Fate::Never;
            let topup = tied.then(|| if rng.u8(0..4) == 0 { failing } else { Some(rng.usize(0..topups)) });
            let (amount, priority) = (rng.i64(100..1_000), rng.i64(-2..3));
            Ask { account, amount, priority, topup: topup.flatten() }
        })
        .collect();
    asks.push(Ask { account: 0, amount: TOO_MUCH, priority: -100, topup: None });
    let never = (0..asks.len()).filter(|ask| fates[asks[*ask].account] == Fate::Never);
    let canceled: Vec<usize> = never.filter(|_| rng.bool()).collect();
    let late = (0..asks.len()).filter(|ask| fates[asks[*ask].account] == Fate::Late);
    let held: Vec<usize> = late.filter(|_| rng.bool()).collect();
    for (number, ask) in asks.iter().enumerate() {
        // What is tied comes before the money of its top-up can go to others: else it's chance who gets it.
        let latest = if ask.topup.is_some() { SOONEST_MONEY_MS } else { 500 };
        let at = if ask.amount == TOO_MUCH { Duration::ZERO } else { ms(0, latest, rng) };
        steps.push((at, Step::Ask(number)));
        if canceled.contains(&number) {
            steps.push((ms(700, 1_500, rng), Step::Cancel(number)));
        }
        if held.contains(&number) {
            // While its account is not ready, so that it can't have gone out before.
            steps.push((at, Step::Hold(number, true)));
            steps.push((ms(1_600, 2_200, rng), Step::Hold(number, false)));
        }
    }
    let mut schedule = Schedule {
        seed,
        fates,
        asks,
        steps,
        reversals: Vec::new(),
        bounced: None,
        failing,
        canceled,
        mishaps: Vec::new(),
        blows: Vec::new(),
        delivering: Delivering { duplicate_every: 0, reorder: false, delay: Duration::ZERO },
        lease: LEASES[0],
        rate_per_s: 0,
    };
    bring_money(&mut schedule, topups, rng);
    if rng.u8(0..4) == 0 {
        schedule.steps.push((ms(300, 900, rng), Step::Pause(true)));
        schedule.steps.push((ms(1_000, 1_800, rng), Step::Pause(false)));
    }
    schedule.steps.sort_by_key(|(at, _)| *at);
    let out: Vec<usize> = (0..schedule.asks.len()).filter(|ask| schedule.goes_out(*ask)).collect();
    for ask in out {
        let amount = schedule.asks[ask].amount;
        if rng.u8(0..6) > 0 {
            continue;
        }
        schedule.reversals.push((ask, if rng.bool() { amount } else { rng.i64(1..amount) }));
    }
    schedule.bounced = (rng.u8(0..3) == 0).then(|| rng.usize(0..topups));
    schedule
}

/// Top-ups that bring exactly what can go out, and a little more; what is tied to one fits into it.
fn bring_money(schedule: &mut Schedule, topups: usize, rng: &mut Rng) {
    let mut amounts = vec![0; topups];
    for ask in (0..schedule.asks.len()).filter(|ask| schedule.goes_out(*ask)) {
        let Ask { topup, amount, .. } = schedule.asks[ask];
        amounts[topup.unwrap_or_else(|| rng.usize(0..topups))] += amount;
    }
    amounts[0] += rng.i64(1..100);
    for (number, amount) in amounts.into_iter().enumerate() {
        let created = ms(0, 300, rng);
        let settled = created + ms(50, 300, rng);
        let available = settled + ms(SOONEST_MONEY_MS, 900, rng);
        schedule.steps.push((created, Step::Topup(number, amount.max(1))));
        schedule.steps.push((settled, Step::Settle(number)));
        schedule.steps.push((available, Step::Available(number)));
    }
    if let Some(failing) = schedule.failing {
        let created = ms(0, 500, rng);
        schedule.steps.push((created, Step::Topup(failing, 700)));
        schedule.steps.push((created + ms(100, 900, rng), Step::Fail(failing)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_always_the_same_run_and_no_other() {
        let text = |seed| format!("{:?}", Schedule::of(seed, 3));
        assert_eq!(text(7), text(7));
        assert_ne!(text(7), text(8));
    }

    #[test]
    fn the_money_is_enough_for_all_that_can_go_out_and_for_nothing_more() {
        for seed in 1..200 {
            let schedule = Schedule::of(seed, 3);
            let settled: i64 = schedule
                .steps
                .iter()
                .filter_map(|(_, step)| match step {
                    Step::Topup(number, amount) if Some(*number) != schedule.failing => Some(*amount),
                    _ => None,
                })
                .sum();
            let out: i64 = (0..schedule.asks.len())
                .filter(|ask| schedule.goes_out(*ask))
                .map(|ask| schedule.asks[ask].amount)
                .sum();
            assert!(settled > out && settled < out + 200, "seed {seed}: {settled} {out}");
            assert!(schedule.steps.is_sorted_by_key(|(at, _)| *at));
        }
    }
}
