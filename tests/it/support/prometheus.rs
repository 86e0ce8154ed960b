//! Prometheus text, read as strictly as its format is written down: help and type before every family, each family
//! in one place, each series once, names and values that say what they are.

use std::collections::{BTreeMap, BTreeSet};

/// The labels of a series.
pub type Labels = BTreeMap<String, String>;

/// One metric with all its series.
#[derive(Debug, Default)]
pub struct Family {
    /// `counter`, `gauge` or `histogram`.
    pub kind: String,
    /// Name as written, labels, value.
    pub series: Vec<(String, Labels, f64)>,
}

/// What one scrape brought.
#[derive(Debug, Default)]
pub struct Scrape(pub BTreeMap<String, Family>);

impl Scrape {
    /// Reads it; panics at the first line that the format does not allow.
    pub fn read(text: &str) -> Self {
        assert!(text.ends_with('\n'), "the last line must end");
        let (mut families, mut helped) = (BTreeMap::<String, Family>::new(), BTreeSet::new());
        let mut current = String::new();
        for line in text.lines().filter(|line| !line.is_empty()) {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').expect(line);
                assert!(!help.trim().is_empty() && helped.insert(name.to_owned()), "{line}");
                current = name.to_owned();
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').expect(line);
                assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
                assert!(name == current && well_named(name), "{line}: without its help, or badly named");
                assert_eq!(name.ends_with("_total"), kind == "counter", "{line}");
                let family = Family { kind: kind.to_owned(), series: Vec::new() };
                assert!(families.insert(name.to_owned(), family).is_none(), "{line}: in two places");
            } else {
                assert!(!line.starts_with('#'), "{line}");
                let (name, labels, value) = series(line);
                let family = families.get_mut(&current).unwrap_or_else(|| panic!("{line}: has no type"));
                let endings: &[&str] =
                    if family.kind == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
                let belongs = endings.iter().any(|ending| name == format!("{current}{ending}"));
                assert!(belongs, "{line}: stands below {current}");
                assert!(family.kind != "counter" || value >= 0.0, "{line}");
                let twice = family.series.iter().any(|(n, l, _)| (n, l) == (&name, &labels));
                assert!(!twice, "{line}: twice");
                family.series.push((name, labels, value));
            }
        }
        let scrape = Self(families);
        scrape.0.iter().filter(|(_, family)| family.kind == "histogram").for_each(|(n, f)| adds_up(n, f));
        scrape
    }

    /// The value of the one series of this name with at least these labels.
    pub fn find(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let base = self.0.keys().find(|family| {
            name == *family
                || name.strip_prefix(family.as_str()).is_some_and(|rest| ["_sum", "_count"].contains(&rest))
        })?;
        let fits = |(written, found, _): &&(String, Labels, f64)| {
            written == name && labels.iter().all(|(key, word)| found.get(*key).is_some_and(|is| is == word))
        };
        let fitting: Vec<_> = self.0[base].series.iter().filter(fits).collect();
        assert!(fitting.len() < 2, "{name} {labels:?} is not one series: {fitting:?}");
        fitting.first().map(|(_, _, value)| *value)
    }

    /// The same, where it must be there.
    #[track_caller]
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.find(name, labels)
            .unwrap_or_else(|| panic!("{name} {labels:?} is not among {:?}", self.0.get(name)))
    }

    /// All series of a name added up.
    pub fn sum(&self, name: &str) -> f64 {
        self.0[name].series.iter().map(|(_, _, value)| value).sum()
    }
}

fn well_named(name: &str) -> bool {
    let first = |c: char| c.is_ascii_alphabetic() || c == '_';
    name.starts_with(first) && name.chars().all(|c| first(c) || c.is_ascii_digit())
}

/// `name{key="word",…} value`, no timestamp.
fn series(line: &str) -> (String, Labels, f64) {
    let (series, value) = line.rsplit_once(' ').expect(line);
    let value: f64 = match value {
        "+Inf" => f64::INFINITY,
        value => value.parse().expect(line),
    };
    let Some((name, rest)) = series.split_once('{') else { return (series.to_owned(), Labels::new(), value) };
    let mut rest = rest.strip_suffix('}').expect(line);
    let mut labels = Labels::new();
    while !rest.is_empty() {
        let (key, after) = rest.split_once("=\"").expect(line);
        assert!(well_named(key) && !key.contains(':'), "{line}");
        let mut word = String::new();
        let mut letters = after.char_indices();
        let end = loop {
            match letters.next().expect(line) {
                (at, '"') => break at,
                (_, '\\') => match letters.next().expect(line).1 {
                    'n' => word.push('\n'),
                    escaped => {
                        assert!(['"', '\\'].contains(&escaped), "{line}");
                        word.push(escaped);
                    }
                },
                (_, letter) => word.push(letter),
            }
        };
        assert!(labels.insert(key.to_owned(), word).is_none(), "{line}");
        rest = &after[end + 1..];
        rest = rest.strip_prefix(',').unwrap_or(rest);
    }
    (name.to_owned(), labels, value)
}

/// Buckets grow, the last holds all, and sum and count are there.
fn adds_up(name: &str, family: &Family) {
    let mut buckets: BTreeMap<Labels, Vec<(f64, f64)>> = BTreeMap::new();
    for (written, labels, value) in &family.series {
        if written.ends_with("_bucket") {
            let mut labels = labels.clone();
            let bound = labels.remove("le").unwrap_or_else(|| panic!("{name}: a bucket without a bound"));
            let bound = if bound == "+Inf" { f64::INFINITY } else { bound.parse().unwrap() };
            buckets.entry(labels).or_default().push((bound, *value));
        }
    }
    assert!(!buckets.is_empty(), "{name} has no buckets");
    for (labels, steps) in buckets {
        assert!(steps.windows(2).all(|two| two[0].0 < two[1].0 && two[0].1 <= two[1].1), "{name} {labels:?}");
        let told = |ending: &str| {
            let written = format!("{name}{ending}");
            family.series.iter().find(|(n, l, _)| *n == written && *l == labels).map(|(_, _, value)| *value)
        };
        let all = steps.last().filter(|(bound, _)| bound.is_infinite()).map(|(_, count)| *count);
        assert!(all.is_some() && all == told("_count") && told("_sum").is_some(), "{name} {labels:?}");
    }
}
