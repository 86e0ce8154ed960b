//! Charts as plain shapes: bars over days or minutes, drawn here, so that a page needs no script for them. Each
//! stands beside its table, which says the same in words.

use crate::http::console::words;

/// A chart's drawing area, in its own units.
pub(super) const WIDTH: f64 = 640.0;
/// The same.
pub(super) const HEIGHT: f64 = 160.0;
/// Room for the words beneath.
const BASE: f64 = 136.0;
/// Room for the largest value above.
const TOP: f64 = 18.0;

/// One bar.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Bar {
    pub(super) x: f64,
    pub(super) y: f64,
    pub(super) width: f64,
    pub(super) height: f64,
    /// Of which series; also the name of its colour.
    pub(super) series: &'static str,
    /// What it says when one points at it.
    pub(super) says: String,
}

/// A word under the bars.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Tick {
    pub(super) x: f64,
    pub(super) text: String,
}

/// A chart and its table.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Chart {
    /// What it shows.
    pub(super) title: String,
    /// The largest value, in words.
    pub(super) most: String,
    pub(super) bars: Vec<Bar>,
    pub(super) ticks: Vec<Tick>,
    /// The colours and what they stand for.
    pub(super) legend: Vec<(&'static str, &'static str)>,
    /// The table's first heading.
    pub(super) head: &'static str,
    /// A row a point: when, and the values in the order of the legend.
    pub(super) rows: Vec<(String, Vec<String>)>,
}

impl Chart {
    /// Where the axis lies.
    pub(super) fn base(&self) -> f64 {
        BASE
    }

    /// The size of the whole, as the drawing says it.
    pub(super) fn area(&self) -> String {
        format!("0 0 {WIDTH} {HEIGHT}")
    }

    /// The right end of the axis.
    pub(super) fn width(&self) -> f64 {
        WIDTH
    }
}

/// A point of a chart.
#[derive(Clone, Debug)]
pub(super) struct Point {
    /// When, as the table says it.
    pub(super) at: String,
    /// The same, short enough to stand under a bar.
    pub(super) short: String,
    /// A value for each series.
    pub(super) values: Vec<i64>,
}

/// A series: its colour, and what it is.
pub(super) type Series = (&'static str, &'static str);

/// Draws points of several series beside each other; `write` puts a value in words.
pub(super) fn bars(
    title: String,
    head: &'static str,
    series: &[Series],
    points: &[Point],
    write: impl Fn(i64) -> String,
) -> Chart {
    let most = points.iter().flat_map(|point| &point.values).copied().max().unwrap_or(0).max(0);
    let step = WIDTH / as_f64(points.len().max(1));
    let gap = (step * 0.2).min(6.0);
    let wide = (step - gap) / as_f64(series.len().max(1));
    let every = points.len().div_ceil(8).max(1);
    let (mut drawn, mut ticks, mut rows) = (Vec::new(), Vec::new(), Vec::new());
    for (at, point) in points.iter().enumerate() {
        let left = as_f64(at) * step + gap / 2.0;
        for (of, (value, (colour, name))) in point.values.iter().zip(series).enumerate() {
            if *value <= 0 {
                continue;
            }
            let height = ((BASE - TOP) * share(*value, most)).max(1.5);
            drawn.push(Bar {
                x: round(left + as_f64(of) * wide),
                y: round(BASE - height),
                width: round(wide.min(28.0)),
                height: round(height),
                series: colour,
                says: format!("{}: {} {}", point.at, name.to_lowercase(), write(*value)),
            });
        }
        if at % every == 0 {
            ticks.push(Tick { x: round(left), text: point.short.clone() });
        }
        rows.push((point.at.clone(), point.values.iter().map(|value| write(*value)).collect()));
    }
    let legend = series.to_vec();
    Chart { title, most: write(most), bars: drawn, ticks, legend, head, rows }
}

#[expect(clippy::cast_precision_loss, reason = "a place on a screen")]
fn as_f64(n: usize) -> f64 {
    n as f64
}

#[expect(clippy::cast_precision_loss, reason = "a share of the height of a bar")]
fn share(value: i64, most: i64) -> f64 {
    if most > 0 { value as f64 / most as f64 } else { 0.0 }
}

fn round(x: f64) -> f64 {
    (x * 10.0).round() / 10.0
}

/// A day for a chart: `2026-11-25`, and `25 Nov` beneath the bars.
pub(super) fn day(day: time::Date) -> (String, String) {
    let month = day.month().to_string();
    (day.to_string(), format!("{} {}", day.day(), month.get(..3).unwrap_or_default()))
}

/// Writes amounts of a currency.
pub(super) fn money_of(currency: &str) -> impl Fn(i64) -> String {
    move |amount_minor| words::money(amount_minor, currency)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_bar_fills_the_height_and_all_stay_inside() {
        let point =
            |at: &str, values: &[i64]| Point { at: at.into(), short: at.into(), values: values.to_vec() };
        let points = [point("a", &[10, 0]), point("b", &[5, 20]), point("c", &[0, -3])];
        let chart = bars("t".into(), "Day", &[("one", "One"), ("two", "Two")], &points, |n| n.to_string());
        assert_eq!(chart.bars.len(), 3, "nothing is drawn where there is nothing");
        assert_eq!(chart.most, "20");
        let tallest = chart.bars.iter().map(|bar| bar.height).fold(0.0, f64::max);
        assert!((tallest - (BASE - TOP)).abs() < 0.1);
        for bar in &chart.bars {
            assert!(
                bar.x >= 0.0 && bar.x + bar.width <= WIDTH && bar.y >= TOP - 0.1 && bar.y < BASE,
                "{bar:?}"
            );
        }
        assert_eq!(chart.rows[2], ("c".to_owned(), vec!["0".to_owned(), "-3".to_owned()]));
        let none = bars("t".into(), "Day", &[("one", "One")], &[], |n| n.to_string());
        assert!(none.bars.is_empty() && none.rows.is_empty());
    }
}
