//! The books: every movement of money as lines that sum to zero.
//!
//! Per lot there are four accounts: the outside the money came in from, and on our side what is available,
//! reserved and released. An entry's kind and reference together say what happened, so that it is booked once.

use super::funds::Share;
use super::ids::{AdjustmentId, TopupId, TransferId};

/// Where money can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Place {
    /// Outside; its balance is the negative of all that came in.
    MoneyIn,
    /// Settled and free.
    Available,
    /// Set aside for a transfer under way.
    Reserved,
    /// At connected accounts.
    Released,
}

impl Place {
    /// The word in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::MoneyIn => "money_in",
            Self::Available => "available",
            Self::Reserved => "reserved",
            Self::Released => "released",
        }
    }
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A top-up's money arrived.
    Settlement,
    /// A top-up's money was taken back.
    SettlementReversal,
    /// Money was set aside for a transfer.
    Reservation,
    /// It was given back, the transfer not having gone out.
    ReservationReturn,
    /// The transfer exists at Stripe.
    Release,
    /// Part or all of a transfer came back.
    TransferReversal,
    /// Money was counted in or out by hand.
    Adjustment,
}

impl Kind {
    /// The word in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Settlement => "settlement",
            Self::SettlementReversal => "settlement_reversal",
            Self::Reservation => "reservation",
            Self::ReservationReturn => "reservation_return",
            Self::Release => "release",
            Self::TransferReversal => "transfer_reversal",
            Self::Adjustment => "adjustment",
        }
    }
}

/// One line of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Posting {
    /// Which account.
    pub place: Place,
    /// Of which lot.
    pub lot: String,
    /// Added to its balance, in minor units.
    pub amount_minor: i64,
}

/// One movement of money.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What happened.
    pub kind: Kind,
    /// What makes it unique within its kind.
    pub reference: String,
    /// The transfer it is about, if any.
    pub transfer: Option<TransferId>,
    /// Lines that sum to zero.
    pub postings: Vec<Posting>,
}

impl Entry {
    /// Brings what is booked for a top-up from one amount to another; `booking` counts its bookings.
    pub fn settlement(topup: &TopupId, booking: i32, from_minor: i64, to_minor: i64) -> Self {
        let kind = if to_minor >= from_minor { Kind::Settlement } else { Kind::SettlementReversal };
        let share = Share { lot: topup.as_str().to_owned(), amount_minor: to_minor - from_minor };
        let postings = moved(&[share], Place::MoneyIn, Place::Available);
        Self { kind, reference: format!("{topup}:{booking}"), transfer: None, postings }
    }

    /// Counts money in, or with a negative amount out: a lot of its own.
    pub fn adjustment(id: &AdjustmentId, amount_minor: i64) -> Self {
        let share = Share { lot: id.as_str().to_owned(), amount_minor };
        let postings = moved(&[share], Place::MoneyIn, Place::Available);
        Self { kind: Kind::Adjustment, reference: id.as_str().to_owned(), transfer: None, postings }
    }

    /// Sets a transfer's money aside; `reservation` counts its reservations.
    pub fn reservation(transfer: &TransferId, reservation: i32, shares: &[Share]) -> Self {
        Self {
            kind: Kind::Reservation,
            reference: format!("{transfer}:{reservation}"),
            transfer: Some(transfer.clone()),
            postings: moved(shares, Place::Available, Place::Reserved),
        }
    }

    /// Gives that reservation back.
    pub fn reservation_return(transfer: &TransferId, reservation: i32, shares: &[Share]) -> Self {
        Self {
            kind: Kind::ReservationReturn,
            reference: format!("{transfer}:{reservation}"),
            transfer: Some(transfer.clone()),
            postings: moved(shares, Place::Reserved, Place::Available),
        }
    }

    /// The transfer went out. Its reference is the transfer alone: a second one cannot be booked.
    pub fn release(transfer: &TransferId, shares: &[Share]) -> Self {
        Self {
            kind: Kind::Release,
            reference: transfer.as_str().to_owned(),
            transfer: Some(transfer.clone()),
            postings: moved(shares, Place::Reserved, Place::Released),
        }
    }

    /// Part of it came back, `total_minor` in all by now, and returns to the lots it was booked against.
    pub fn transfer_reversal(transfer: &TransferId, total_minor: i64, shares: &[Share]) -> Self {
        Self {
            kind: Kind::TransferReversal,
            reference: format!("{transfer}:{total_minor}"),
            transfer: Some(transfer.clone()),
            postings: moved(shares, Place::Released, Place::Available),
        }
    }
}

/// The part of these shares that returns when `amount_minor` comes back: the last share first, so that the
/// oldest money stays spent.
pub fn returning(shares: &[Share], amount_minor: i64) -> Vec<Share> {
    let mut left = amount_minor;
    let mut back = Vec::new();
    for share in shares.iter().rev() {
        let part = share.amount_minor.clamp(0, left.max(0));
        if part > 0 {
            back.push(Share { lot: share.lot.clone(), amount_minor: part });
            left -= part;
        }
    }
    back
}

fn moved(shares: &[Share], from: Place, to: Place) -> Vec<Posting> {
    let line = |place, share: &Share, sign: i64| Posting {
        place,
        lot: share.lot.clone(),
        amount_minor: sign * share.amount_minor,
    };
    let nonzero = shares.iter().filter(|share| share.amount_minor != 0);
    nonzero.flat_map(|share| [line(from, share, -1), line(to, share, 1)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shares(amounts: &[i64]) -> Vec<Share> {
        let named = amounts.iter().enumerate();
        named.map(|(i, amount)| Share { lot: format!("tu_{i}"), amount_minor: *amount }).collect()
    }

    proptest! {
        #[test]
        fn every_entry_sums_to_zero(amounts in proptest::collection::vec(1_i64..1_000_000, 1..6), to in 0_i64..1_000) {
            let (xfer, topup) = (TransferId::parse("xfer_1").unwrap(), TopupId::parse("tu_1").unwrap());
            let shares = shares(&amounts);
            for entry in [
                Entry::settlement(&topup, 1, 500, to),
                Entry::reservation(&xfer, 1, &shares),
                Entry::reservation_return(&xfer, 1, &shares),
                Entry::release(&xfer, &shares),
                Entry::transfer_reversal(&xfer, 5, &shares),
                Entry::adjustment(&AdjustmentId::parse("adj_1").unwrap(), -to - 1),
            ] {
                prop_assert_eq!(entry.postings.iter().map(|p| p.amount_minor).sum::<i64>(), 0);
            }
        }

        #[test]
        fn what_returns_is_what_came_back(amounts in proptest::collection::vec(1_i64..1_000, 1..6), cut in 0.0_f64..=1.0) {
            let shares = shares(&amounts);
            let total: i64 = amounts.iter().sum();
            let amount = (total as f64 * cut) as i64;
            let back = returning(&shares, amount);
            prop_assert_eq!(back.iter().map(|s| s.amount_minor).sum::<i64>(), amount);
            prop_assert!(back.iter().all(|b| shares.iter().any(|s| s.lot == b.lot && s.amount_minor >= b.amount_minor)));
        }
    }

    #[test]
    fn a_top_up_taken_back_is_a_settlement_reversal() {
        let topup = TopupId::parse("tu_1").unwrap();
        let entry = Entry::settlement(&topup, 2, 500, 0);
        assert_eq!((entry.kind, entry.reference.as_str()), (Kind::SettlementReversal, "tu_1:2"));
        assert_eq!(
            entry.postings[1],
            Posting { place: Place::Available, lot: "tu_1".into(), amount_minor: -500 }
        );
    }
}
