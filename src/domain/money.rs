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

/// Minor units are whole units.
const ZERO_DECIMAL: &str = "bif clp djf gnf jpy kmf krw mga pyg rwf vnd vuv xaf xof xpf";
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

    /// How many digits of an amount in minor units stand behind the point.
    pub fn decimals(&self) -> usize {
        match self.as_str() {
            code if listed(ZERO_DECIMAL, code) => 0,
            code if listed(THREE_DECIMAL, code) => 3,
            _ => 2,
        }
    }

    /// An amount for reading: `1,234.50`, the currency not named.
    pub fn written(&self, amount_minor: i64) -> String {
        let (sign, digits) =
            (if amount_minor < 0 { "−" } else { "" }, amount_minor.unsigned_abs().to_string());
        let digits = format!("{digits:0>width$}", width = self.decimals() + 1);
        let (whole, fraction) = digits.split_at(digits.len() - self.decimals());
        let mut grouped = String::new();
        for (at, digit) in whole.chars().enumerate() {
            if at > 0 && (whole.len() - at) % 3 == 0 {
                grouped.push(',');
            }
            grouped.push(digit);
        }
        let point = if fraction.is_empty() { "" } else { "." };
        format!("{sign}{grouped}{point}{fraction}")
    }

    /// Reads an amount as people type it, `1234.5` or `1,234.50`, in minor units.
    pub fn read(&self, text: &str) -> Option<i64> {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let whole = whole.replace(',', "");
        let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
        let fits =
            !whole.is_empty() && digits(&whole) && digits(fraction) && fraction.len() <= self.decimals();
        let text = format!("{whole}{fraction:0<width$}", width = self.decimals());
        text.parse().ok().filter(|_| fits)
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
    fn an_amount_is_written_with_the_digits_of_its_currency() {
        let written = |code: &str, amount| Currency::parse(code).map(|c| c.written(amount)).unwrap();
        for (code, amount, text) in [
            ("usd", 0, "0.00"),
            ("usd", 5, "0.05"),
            ("usd", 123_456_789, "1,234,567.89"),
            ("usd", -100_000, "−1,000.00"),
            ("jpy", 1_234, "1,234"),
            ("jpy", 0, "0"),
            ("kwd", 1_230, "1.230"),
            ("isk", 50_000, "500.00"),
            ("eur", i64::MIN, "−92,233,720,368,547,758.08"),
        ] {
            assert_eq!(written(code, amount), text, "{code} {amount}");
        }
        let read = |code: &str, text: &str| Currency::parse(code).map(|c| c.read(text)).unwrap();
        for (code, text, amount) in [
            ("usd", "1,234.50", Some(123_450)),
            ("usd", "0.5", Some(50)),
            ("usd", "7", Some(700)),
            ("usd", "7.", Some(700)),
            ("jpy", "1,234", Some(1_234)),
            ("kwd", "1.23", Some(1_230)),
            ("jpy", "1.5", None),
            ("usd", "1.505", None),
            ("usd", ".5", None),
            ("usd", "-1", None),
            ("usd", "+1", None),
            ("usd", "", None),
            ("usd", "99999999999999999999", None),
        ] {
            assert_eq!(read(code, text), amount, "{code} {text}");
        }
        let all = codes().filter(|code| listed(ZERO_DECIMAL, code)).count();
        assert_eq!(all, ZERO_DECIMAL.split(' ').count(), "each of them is a currency that Stripe knows");
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
