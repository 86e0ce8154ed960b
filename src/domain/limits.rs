//! The limits an operator sets on what goes out, in minor units by currency; a currency that is not named has
//! none.

use std::collections::BTreeMap;

use super::money::Currency;

/// Which transfers need a second person, and how much goes out in a UTC day.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Larger transfers wait for an approval by another key than the creator's.
    pub approval_above: BTreeMap<Currency, i64>,
    /// The most that is reserved in a day.
    pub daily_cap: BTreeMap<Currency, i64>,
    /// The same for each destination.
    pub daily_cap_per_destination: BTreeMap<Currency, i64>,
}

/// Which transfer is served first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReleaseOrder {
    /// A ready transfer that the money does not reach makes later ones of its source wait.
    #[default]
    Fifo,
    /// The same order, passing over what the money does not reach; one passed over for 24 hours blocks.
    BestFit,
}
