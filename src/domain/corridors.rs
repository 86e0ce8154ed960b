//! Which accounts a platform may pay across borders.
//!
//! Built in is what Stripe documents: the United States, Canada, the United Kingdom, the European Economic Area and
//! Switzerland pay each other, every other platform only accounts of its own country. A table of the operator's own
//! replaces that. Source: <https://docs.stripe.com/connect/cross-border-payouts>.

use std::fmt;

use super::money::Currency;

/// A country as its two upper-case letters (ISO 3166-1), which is how Stripe writes it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Country([u8; 2]);

impl Country {
    /// Takes two upper-case letters.
    pub fn parse(text: &str) -> Option<Self> {
        <[u8; 2]>::try_from(text.as_bytes())
            .ok()
            .filter(|code| code.iter().all(u8::is_ascii_uppercase))
            .map(Self)
    }

    /// The two letters.
    pub fn as_str(&self) -> &str {
        // Always two ASCII letters: `parse` is the only door.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Debug for Country {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The name that stands for all countries of [`EEA`] in a table.
pub const EEA_NAME: &str = "EEA";
/// The European Economic Area.
pub const EEA: &str =
    "AT BE BG CY CZ DE DK EE ES FI FR GR HR HU IE IS IT LI LT LU LV MT NL NO PL PT RO SE SI SK";
/// They pay each other, and the countries of [`EEA`].
const WITH_EEA: &str = "CA CH GB US";

/// One line of a table: from these countries to those, in these currencies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Corridor {
    /// The platform's country; empty: any.
    pub from: Vec<Country>,
    /// The account's country.
    pub to: Vec<Country>,
    /// The transfer's currency; empty: any.
    pub currencies: Vec<Currency>,
}

/// Which pairs of countries, and in which currencies, can be paid.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Corridors {
    /// As Stripe documents it.
    #[default]
    BuiltIn,
    /// Only what these lines name.
    Table(Vec<Corridor>),
}

impl Corridors {
    /// Whether a platform of one country may pay accounts of another at all.
    pub fn reach(&self, from: Country, to: Country) -> bool {
        self.lead(from, to, None)
    }

    /// Whether it may do so in this currency.
    pub fn carry(&self, from: Country, to: Country, currency: Currency) -> bool {
        self.lead(from, to, Some(currency))
    }

    fn lead(&self, from: Country, to: Country, currency: Option<Currency>) -> bool {
        match self {
            Self::BuiltIn => from == to || (pays_abroad(from) && pays_abroad(to)),
            Self::Table(lines) => lines.iter().any(|line| {
                let of_from = line.from.is_empty() || line.from.contains(&from);
                let of_currency = line.currencies.is_empty()
                    || currency.is_none_or(|currency| line.currencies.contains(&currency));
                of_from && line.to.contains(&to) && of_currency
            }),
        }
    }
}

fn pays_abroad(country: Country) -> bool {
    let mut all = EEA.split_ascii_whitespace().chain(WITH_EEA.split_ascii_whitespace());
    all.any(|known| known == country.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn country(code: &str) -> Country {
        Country::parse(code).unwrap()
    }

    fn usd() -> Currency {
        Currency::parse("usd").unwrap()
    }

    #[test]
    fn a_country_is_two_upper_case_letters() {
        assert_eq!(Country::parse("US").map(|country| format!("{country:?}")), Some("US".to_owned()));
        for bad in ["", "U", "USA", "us", "U1", "ÄX", "EEA"] {
            assert_eq!(Country::parse(bad), None, "{bad:?}");
        }
        let all: Vec<&str> = EEA.split_ascii_whitespace().collect();
        assert!(all.len() == 30 && all.is_sorted() && all.iter().all(|code| Country::parse(code).is_some()));
    }

    #[test]
    fn without_a_table_the_documented_countries_pay_each_other_and_others_their_own() {
        let rows = [
            ("US", "US", true),
            ("US", "CA", true),
            ("US", "GB", true),
            ("US", "DE", true),
            ("US", "IS", true),
            ("CH", "US", true),
            ("NO", "GB", true),
            ("US", "JP", false),
            ("US", "BR", false),
            ("JP", "US", false),
            ("JP", "JP", true),
            ("AU", "NZ", false),
        ];
        for (from, to, may) in rows {
            let (from, to) = (country(from), country(to));
            assert_eq!(Corridors::BuiltIn.reach(from, to), may, "{from:?} to {to:?}");
            assert_eq!(Corridors::BuiltIn.carry(from, to, usd()), may, "{from:?} to {to:?}");
        }
    }

    #[test]
    fn a_table_allows_what_it_names_and_nothing_else() {
        let cad = Currency::parse("cad").unwrap();
        let line = |from: &[&str], to: &[&str], currencies: &[Currency]| Corridor {
            from: from.iter().map(|code| country(code)).collect(),
            to: to.iter().map(|code| country(code)).collect(),
            currencies: currencies.to_vec(),
        };
        let table = Corridors::Table(vec![line(&["US"], &["US", "JP"], &[]), line(&[], &["CA"], &[cad])]);
        let (us, ca, jp, gb) = (country("US"), country("CA"), country("JP"), country("GB"));
        assert!(table.carry(us, jp, usd()) && table.carry(us, us, cad));
        assert!(!table.reach(us, gb), "not named");
        assert!(!table.reach(gb, gb), "not even at home");
        assert!(table.reach(us, ca) && table.reach(gb, ca), "from anywhere");
        assert!(table.carry(us, ca, cad) && !table.carry(us, ca, usd()), "in its currency alone");
        assert!(!Corridors::Table(Vec::new()).reach(us, us));
    }
}
