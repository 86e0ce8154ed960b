//! Money: whole minor units of one of the currencies Stripe pays in.
//!
//! Stripe's idea of a minor unit differs from ISO 4217 for some currencies, so the table is Stripe's:
//! <https://docs.stripe.com/currencies> (zero-decimal, three-decimal and special-case currencies).

use std::fmt;

/// A currency Stripe knows, as its lower-case ISO 4217 code.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Currency([u8; 3]);

/// Every presentment and settlement currency of Stripe's list.
const KNOWN: &str = "aed afn all amd ang aoa ars aud awg azn bam bbd bdt bgn bhd bif bmd bnd bob brl bsd bwp byn bzd \
    cad cdf chf clp cny cop crc cve czk djf dkk dop dzd egp etb eur fjd fkp gbp gel ghs gip gmd gnf gtq gyd hkd hnl \
    hrk htg huf idr ils inr isk jmd jod jpy kes kgs khr kmf krw kwd kyd kzt lak lbp lkr lrd lsl mad mdl mga mkd mmk \
    mnt mop mro mur mvr mwk mxn myr mzn nad ngn nio nok npr nzd omr pab pen pgk php pkr pln pyg qar ron rsd rub rwf \
    sar sbd scr sek sgd shp sle sll sos srd std szl thb tjs tnd top try ttd twd tzs uah ugx usd uyu uzs vnd vuv \
    wst xaf xcd xcg xof xpf yer zar zmw";

/// Minor units are thousandths, and Stripe wants the last digit zero.
const THREE_DECIMAL: &str = "bhd jod kwd omr tnd";
/// Passed with two decimals although they have none, so a multiple of one hundred.
const WHOLE_HUNDREDS: &str = "isk ugx";
/// The steps that follow, in minor units.
const COARSE: [(&str, i64); 2] = [(THREE_DECIMAL, 10), (WHOLE_HUNDREDS, 100)];

/// The largest amount of one transfer: Stripe's widest limit is twelve digits (IDR).
pub const MAX_AMOUNT_MINOR: i64 = 999_999_999_999;

/// Why a currency or an amount is not one that can be paid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MoneyError {
    /// Not a code of Stripe's list.
    #[error("must be a three-letter lower-case ISO currency code that Stripe supports, like `usd`")]
    UnknownCurrency,
    /// Zero, negative, or beyond twelve digits.
    #[error("must be a whole number of minor units from 1 to {MAX_AMOUNT_MINOR}")]
    OutOfRange,
    /// Stripe takes only multiples in this currency.
    #[error("must be a multiple of {step} in {currency}: Stripe takes no finer amount")]
    TooFine {
        /// The currency with the coarser step.
        currency: Currency,
        /// The smallest step, in minor units.
        step: i64,
    },
}

impl Currency {
    /// Takes a lower-case code that Stripe knows.
    pub fn parse(text: &str) -> Result<Self, MoneyError> {
        match <[u8; 3]>::try_from(text.as_bytes()) {
            Ok(code) if listed(KNOWN, text) => Ok(Self(code)),
            _ => Err(MoneyError::UnknownCurrency),
        }
    }

    /// The lower-case ISO code.
    pub fn as_str(&self) -> &str {
        // Always three ASCII letters: `parse` is the only door and takes only listed codes.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// The smallest step of an amount in this currency, in minor units.
    pub fn step_minor(&self) -> i64 {
        COARSE.into_iter().find(|(list, _)| listed(list, self.as_str())).map_or(1, |(_, step)| step)
    }

    /// Takes an amount to pay in this currency: positive, bounded, and no finer than Stripe allows.
    pub fn amount_to_pay(self, amount_minor: i64) -> Result<i64, MoneyError> {
        let step = self.step_minor();
        if !(1..=MAX_AMOUNT_MINOR).contains(&amount_minor) {
            return Err(MoneyError::OutOfRange);
        }
        if amount_minor % step != 0 {
            return Err(MoneyError::TooFine { currency: self, step });
        }
        Ok(amount_minor)
    }
}

/// The code of every currency.
pub fn codes() -> impl Iterator<Item = &'static str> {
    KNOWN.split_ascii_whitespace()
}

/// The codes whose amounts have a coarser step than one minor unit, with that step.
pub fn coarse_codes() -> impl Iterator<Item = (impl Iterator<Item = &'static str>, i64)> {
    COARSE.into_iter().map(|(list, step)| (list.split_ascii_whitespace(), step))
}

fn listed(list: &str, code: &str) -> bool {
    list.split_ascii_whitespace().any(|known| known == code)
}

impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl serde::Serialize for Currency {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_currency_is_lower_case_and_known() {
        assert_eq!(Currency::parse("usd").map(|c| c.to_string()), Ok("usd".into()));
        for bad in ["USD", "us", "usdd", "xxx", "", "u d", "usdc"] {
            assert_eq!(Currency::parse(bad), Err(MoneyError::UnknownCurrency), "{bad:?}");
        }
    }

    #[test]
    fn an_amount_keeps_to_stripes_steps_and_bounds() {
        let pay = |code: &str, amount| Currency::parse(code).and_then(|c| c.amount_to_pay(amount));
        assert_eq!(pay("usd", 1), Ok(1));
        assert_eq!(pay("jpy", 7), Ok(7));
        assert_eq!(pay("kwd", 1_230), Ok(1_230));
        assert!(matches!(pay("kwd", 1_235), Err(MoneyError::TooFine { step: 10, .. })));
        assert!(matches!(pay("isk", 150), Err(MoneyError::TooFine { step: 100, .. })));
        for out in [0, -1, i64::MIN, MAX_AMOUNT_MINOR + 1, i64::MAX] {
            assert_eq!(pay("usd", out), Err(MoneyError::OutOfRange));
        }
    }
}
