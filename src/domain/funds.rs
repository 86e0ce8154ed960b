//! Which waiting transfers the settled money reaches, and from which lots it is taken.
//!
//! A lot is the money of one top-up. It is first for the transfers tied to it; what they leave is the pool.
//! The line is served in order: a transfer that the money does not reach keeps later ones of its own source
//! from overtaking it, so that a large one is not starved by small ones.

use time::Duration;

/// What is left of one top-up's money.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lot {
    /// The top-up's id.
    pub name: String,
    /// Settled and neither reserved nor released, in minor units; negative after a top-up was reversed
    /// whose money had gone out.
    pub available_minor: i64,
    /// The sum of the waiting transfers that are tied to it, in minor units.
    pub claimed_minor: i64,
}

/// Part of a reservation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    /// The lot it is taken from.
    pub lot: String,
    /// How much, in minor units.
    pub amount_minor: i64,
}

/// The settled money of one currency while the line is served, oldest lot first.
#[derive(Clone, Debug)]
pub struct Purse {
    lots: Vec<Lot>,
    pool_blocked: bool,
    blocked_lots: Vec<String>,
}

/// What a transfer asks of the purse.
#[derive(Clone, Copy, Debug)]
pub struct Claim<'a> {
    /// How much, in minor units.
    pub amount_minor: i64,
    /// The top-up it must be paid from; `None` draws on the pool.
    pub topup: Option<&'a str>,
    /// Where the money does not reach it, later ones of its source wait.
    pub blocks: bool,
}

impl Purse {
    /// A purse of these lots, in the order in which they settled.
    pub fn new(lots: Vec<Lot>) -> Self {
        Self { lots, pool_blocked: false, blocked_lots: Vec::new() }
    }

    /// Takes the money for the next in line, or says that it does not reach.
    pub fn take(&mut self, claim: Claim<'_>) -> Option<Vec<Share>> {
        // What the pool may take leaves the waiting tied ones theirs, a hole elsewhere notwithstanding.
        let kept_minor = if claim.topup.is_some() { 0 } else { self.claimed() };
        let covered = claim.amount_minor <= self.total() - kept_minor;
        let shares = match claim.topup {
            Some(name) => self.shares_of_lot(name, claim.amount_minor),
            None => self.shares_of_pool(claim.amount_minor),
        };
        match shares {
            Some(shares) if covered => {
                self.draw(&shares, claim.topup.is_some());
                Some(shares)
            }
            _ => {
                if claim.blocks {
                    self.block(claim.topup);
                }
                None
            }
        }
    }

    /// What is free for one source (a top-up, or the pool), whoever stands in its line.
    pub fn free_minor(&self, topup: Option<&str>) -> i64 {
        let free = match topup {
            Some(name) => self.lots.iter().find(|lot| lot.name == name).map_or(0, |lot| lot.available_minor),
            None => {
                let unclaimed = |lot: &Lot| (lot.available_minor - lot.claimed_minor).max(0);
                self.lots.iter().map(unclaimed).sum::<i64>().min(self.total() - self.claimed())
            }
        };
        free.min(self.total()).max(0)
    }

    /// Whether more went out, or is set aside, than has settled: money was taken back that had been counted on.
    pub fn is_overdrawn(&self) -> bool {
        self.total() < 0
    }

    /// What is left.
    pub fn into_lots(self) -> Vec<Lot> {
        self.lots
    }

    /// Nobody later of this source (a top-up, or the pool) overtakes one that the money did not reach.
    pub fn block(&mut self, topup: Option<&str>) {
        match topup {
            Some(name) => self.blocked_lots.push(name.to_owned()),
            None => self.pool_blocked = true,
        }
    }

    /// All lots together, a reversed top-up's hole included.
    fn total(&self) -> i64 {
        self.lots.iter().map(|lot| lot.available_minor).sum()
    }

    /// What the waiting tied ones can still get from their lots.
    fn claimed(&self) -> i64 {
        self.lots.iter().map(|lot| lot.claimed_minor.clamp(0, lot.available_minor.max(0))).sum()
    }

    fn shares_of_lot(&self, name: &str, amount_minor: i64) -> Option<Vec<Share>> {
        if self.blocked_lots.iter().any(|blocked| blocked == name) {
            return None;
        }
        let lot = self.lots.iter().find(|lot| lot.name == name)?;
        (lot.available_minor >= amount_minor).then(|| vec![Share { lot: name.to_owned(), amount_minor }])
    }

    fn shares_of_pool(&self, amount_minor: i64) -> Option<Vec<Share>> {
        if self.pool_blocked {
            return None;
        }
        let mut missing = amount_minor;
        let mut shares = Vec::new();
        for lot in &self.lots {
            let free = (lot.available_minor - lot.claimed_minor).clamp(0, missing);
            if free > 0 {
                shares.push(Share { lot: lot.name.clone(), amount_minor: free });
                missing -= free;
            }
        }
        (missing == 0).then_some(shares)
    }

    fn draw(&mut self, shares: &[Share], tied: bool) {
        for share in shares {
            for lot in self.lots.iter_mut().filter(|lot| lot.name == share.lot) {
                lot.available_minor -= share.amount_minor;
                if tied {
                    lot.claimed_minor = (lot.claimed_minor - share.amount_minor).max(0);
                }
            }
        }
    }
}

/// When to ask for Stripe's balance again, after this many readings since it refused for lack of funds: 15
/// seconds, doubling to five minutes.
pub fn next_balance_check(checks: i32) -> Duration {
    let doublings = u32::try_from(checks).unwrap_or(0).min(8);
    (Duration::seconds(15) * 2_i32.pow(doublings)).min(Duration::minutes(5))
}

/// Compares what Stripe says is available with what the ledger expects there: settled money that has not
/// gone out, reserved or not. In minor units; negative means that Stripe holds less than was counted on.
pub fn drift_minor(stripe_available_minor: i64, available_minor: i64, reserved_minor: i64) -> i64 {
    stripe_available_minor.saturating_sub(available_minor.saturating_add(reserved_minor))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lot(name: &str, available_minor: i64, claimed_minor: i64) -> Lot {
        Lot { name: name.into(), available_minor, claimed_minor }
    }

    fn pooled(amount_minor: i64) -> Claim<'static> {
        Claim { amount_minor, topup: None, blocks: true }
    }

    fn tied(amount_minor: i64, topup: &str) -> Claim<'_> {
        Claim { amount_minor, topup: Some(topup), blocks: true }
    }

    #[test]
    fn the_pool_is_taken_oldest_first_and_leaves_what_is_claimed() {
        let mut purse = Purse::new(vec![lot("tu_1", 100, 60), lot("tu_2", 100, 0)]);
        let shares = purse.take(pooled(90)).unwrap();
        assert_eq!(
            shares,
            [Share { lot: "tu_1".into(), amount_minor: 40 }, Share { lot: "tu_2".into(), amount_minor: 50 }]
        );
        assert_eq!(purse.take(tied(60, "tu_1")), Some(vec![Share { lot: "tu_1".into(), amount_minor: 60 }]));
        assert_eq!(purse.take(pooled(51)), None);
    }

    #[test]
    fn a_tied_transfer_never_draws_on_another_lot() {
        let mut purse = Purse::new(vec![lot("tu_1", 100, 101), lot("tu_2", 1_000, 0)]);
        assert_eq!(purse.take(tied(101, "tu_1")), None);
        assert_eq!(purse.take(tied(1, "tu_3")), None);
    }

    #[test]
    fn one_that_the_money_does_not_reach_keeps_later_ones_of_its_source_waiting() {
        let mut purse = Purse::new(vec![lot("tu_1", 100, 30), lot("tu_2", 10, 0)]);
        assert_eq!(purse.take(pooled(81)), None);
        assert_eq!(purse.take(pooled(1)), None, "a later pooled one");
        assert!(purse.take(tied(30, "tu_1")).is_some(), "a tied one has its own money");
        assert_eq!(purse.take(tied(11, "tu_2")), None);
        assert_eq!(purse.take(tied(1, "tu_2")), None, "a later one of the same top-up");
    }

    #[test]
    fn what_is_free_is_what_the_first_in_line_could_take() {
        let lots = || vec![lot("tu_1", 100, 30), lot("tu_2", 50, 0), lot("tu_3", -40, 0)];
        for topup in [None, Some("tu_1"), Some("tu_2"), Some("tu_3"), Some("tu_4")] {
            let free = Purse::new(lots()).free_minor(topup);
            let takes =
                |amount_minor| Purse::new(lots()).take(Claim { amount_minor, topup, blocks: true }).is_some();
            assert!(free == 0 || takes(free), "{topup:?}: {free}");
            assert!(!takes(free + 1), "{topup:?}: {free}");
        }
        assert_eq!(Purse::new(lots()).free_minor(None), 80);
    }

    #[test]
    fn one_that_does_not_block_is_passed_over() {
        let mut purse = Purse::new(vec![lot("tu_1", 100, 0)]);
        assert_eq!(purse.take(Claim { blocks: false, ..pooled(101) }), None);
        assert!(purse.take(pooled(60)).is_some(), "a later one that the money reaches");
        assert_eq!(purse.take(pooled(41)), None);
        assert_eq!(purse.take(pooled(1)), None, "the one before blocks");
    }

    #[test]
    fn a_hole_left_by_a_reversed_topup_stops_the_currency() {
        let mut purse = Purse::new(vec![lot("tu_1", -100, 0), lot("tu_2", 150, 40)]);
        assert_eq!(purse.take(pooled(11)), None, "the tied 40 are kept");
        assert_eq!(purse.take(tied(51, "tu_2")), None);
        let mut purse = Purse::new(vec![lot("tu_1", -100, 0), lot("tu_2", 90, 0)]);
        assert_eq!(purse.take(pooled(1)), None);
    }

    #[test]
    fn drift_is_what_stripe_holds_beyond_what_has_not_gone_out() {
        assert_eq!(drift_minor(480, 200, 300), -20);
        assert_eq!(drift_minor(5_000, 5_000, 0), 0);
    }

    #[test]
    fn the_balance_is_asked_for_ever_more_slowly() {
        assert_eq!(
            [0, 1, 4, 5, i32::MAX].map(|n| next_balance_check(n).whole_seconds()),
            [15, 30, 240, 300, 300]
        );
    }

    proptest! {
        #[test]
        fn never_more_is_taken_than_is_there(
            lots in proptest::collection::vec((-50_i64..200, 0_i64..100), 1..5),
            claims in proptest::collection::vec((1_i64..80, proptest::option::of(0_usize..5)), 1..20),
        ) {
            let names: Vec<String> = (0..5).map(|i| format!("tu_{i}")).collect();
            let lots: Vec<Lot> = lots.iter().enumerate().map(|(i, (a, c))| lot(&names[i], *a, *c)).collect();
            let settled: i64 = lots.iter().map(|l| l.available_minor).sum();
            let mut purse = Purse::new(lots.clone());
            let mut out = 0;
            for (amount_minor, topup) in claims {
                let topup = topup.map(|i| names[i].as_str());
                if let Some(shares) = purse.take(Claim { amount_minor, topup, blocks: amount_minor % 2 == 0 }) {
                    prop_assert_eq!(shares.iter().map(|s| s.amount_minor).sum::<i64>(), amount_minor);
                    prop_assert!(topup.is_none_or(|name| shares.iter().all(|s| s.lot == name)));
                    out += amount_minor;
                }
                prop_assert!(purse.lots.iter().zip(&lots).all(|(now, then)| now.available_minor >= then.available_minor.min(0)));
            }
            prop_assert!(out <= settled.max(0));
        }
    }
}
