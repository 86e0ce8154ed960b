//! The table of payable pairs of country and currency, as its TOML file says it.
//!
//! Each problem names its line; nothing is guessed, since a pair that was meant to be there and is not keeps people
//! from being paid, and one too many is refused by Stripe for good.

use std::io;
use std::path::Path;

use serde::Deserialize;
use toml::Spanned;

use super::values::Read;
use crate::domain::corridors::{Corridor, Corridors, Country, EEA, EEA_NAME};
use crate::domain::money::Currency;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    corridor: Vec<Line>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    from: Option<Spanned<Vec<Spanned<String>>>>,
    to: Spanned<Vec<Spanned<String>>>,
    currencies: Option<Spanned<Vec<Spanned<String>>>>,
}

/// Reads the file that the variable names.
pub(super) fn load(path: &str, read: &dyn Fn(&Path) -> io::Result<String>) -> Read<Corridors> {
    let text = read(Path::new(path))
        .map_err(|error| format!("the file can't be read ({error}): mend its path or permissions"))?;
    parse(&text)
}

fn parse(text: &str) -> Read<Corridors> {
    let at = |start: usize| text.get(..start).unwrap_or_default().matches('\n').count() + 1;
    let file: File = toml::from_str(text).map_err(|error| {
        let line = error.span().map_or(1, |span| at(span.start));
        format!(
            "line {line}: {}; write [[corridor]] with `to`, and `from` and `currencies` where they matter",
            error.message()
        )
    })?;
    let lines = file.corridor.iter().map(|line| corridor(line, &at)).collect::<Read<Vec<_>>>()?;
    Ok(Corridors::Table(lines))
}

fn corridor(line: &Line, at: &dyn Fn(usize) -> usize) -> Read<Corridor> {
    let from = line.from.as_ref().map(|from| countries("from", from, at)).transpose()?;
    let currencies = line.currencies.as_ref().map(|named| currencies(named, at)).transpose()?;
    Ok(Corridor {
        from: from.unwrap_or_default(),
        to: countries("to", &line.to, at)?,
        currencies: currencies.unwrap_or_default(),
    })
}

type Named = Spanned<Vec<Spanned<String>>>;

/// An empty list would mean the opposite of what it looks like.
fn not_empty<'a>(field: &str, named: &'a Named, at: &dyn Fn(usize) -> usize) -> Read<&'a [Spanned<String>]> {
    if named.get_ref().is_empty() {
        let line = at(named.span().start);
        return Err(format!(
            "line {line}: `{field}` is empty: name one at least, or leave the field out for any"
        ));
    }
    Ok(named.get_ref())
}

fn countries(field: &str, named: &Named, at: &dyn Fn(usize) -> usize) -> Read<Vec<Country>> {
    let mut found = Vec::new();
    for name in not_empty(field, named, at)? {
        if name.get_ref() == EEA_NAME {
            found.extend(EEA.split_ascii_whitespace().filter_map(Country::parse));
            continue;
        }
        let country = Country::parse(name.get_ref()).ok_or_else(|| {
            let (line, name) = (at(name.span().start), name.get_ref());
            format!("line {line}: `{field}` names {name:?}: write a country as two upper-case letters, or {EEA_NAME}")
        })?;
        found.push(country);
    }
    Ok(found)
}

fn currencies(named: &Named, at: &dyn Fn(usize) -> usize) -> Read<Vec<Currency>> {
    let parse = |name: &Spanned<String>| {
        Currency::parse(name.get_ref()).map_err(|error| {
            let (line, name) = (at(name.span().start), name.get_ref());
            format!("line {line}: `currencies` names {name:?}: each {error}")
        })
    };
    not_empty("currencies", named, at)?.iter().map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_read_line_by_line() {
        let text = r#"
            # From the United States to the neighbours in any currency, and to Japan in yen.
            [[corridor]]
            from = ["US"]
            to = ["US", "CA", "EEA"]

            [[corridor]]
            to = ["JP"]
            currencies = ["jpy"]
        "#;
        let table = parse(text).unwrap();
        let country = |code: &str| Country::parse(code).unwrap();
        let (usd, jpy) = (Currency::parse("usd").unwrap(), Currency::parse("jpy").unwrap());
        assert!(table.carry(country("US"), country("SE"), usd));
        assert!(!table.carry(country("CA"), country("US"), usd));
        assert!(table.carry(country("CA"), country("JP"), jpy));
        assert!(!table.carry(country("US"), country("JP"), usd));
    }

    #[test]
    fn every_problem_names_its_line_and_its_mend() {
        let rows = [
            ("to = [\"US\"]", "line 1", "[[corridor]]"),
            ("[[corridor]]\nfrom = [\"US\"]", "line 1", "missing field `to`"),
            ("[[corridor]]\nto = \"US\"", "line 2", "invalid type"),
            ("[[corridor]]\nto = [1]", "line 2", "invalid type"),
            ("[[corridor]]\nto = [\"US\"]\nvia = [\"GB\"]", "line 3", "unknown field `via`"),
            ("[[corridor]]\n\nto = [\n\"US\",\n\"usa\"]", "line 5", "two upper-case letters"),
            ("[[corridor]]\nto = []", "line 2", "`to` is empty"),
            ("[[corridor]]\nfrom = []\nto = [\"US\"]", "line 2", "`from` is empty"),
            ("[[corridor]]\nto = [\"US\"]\ncurrencies = [\"USD\"]", "line 3", "lower-case"),
            ("[[corridor]\nto = [\"US\"]", "line 1", "[[corridor]]"),
            ("corridor = []", "", ""),
        ];
        for (text, line, mend) in rows {
            match parse(text) {
                Ok(table) => assert_eq!((table, line), (Corridors::Table(Vec::new()), ""), "{text}"),
                Err(error) => {
                    assert!(
                        error.contains(line) && error.contains(mend) && !line.is_empty(),
                        "{text}: {error}"
                    );
                }
            }
        }
    }
}
