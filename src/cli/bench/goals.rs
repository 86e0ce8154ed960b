//! The goals, and whether the figures meet them. All are ratios within one run, CPU an event, or latencies.

use serde_json::{Value, json};

use super::drain::{DRAIN, LAST_OF_FIRST, WORKER};
use super::figures::{
    Figures, OF_NAIVE, OF_PGBENCH, P50, P99, P999, PEAK_MIB, PER_S, POSTGRES_US, SERVER_US, WAL,
};
use super::memory::FLOOD;
use super::reads::{READS, SERVICE};
use super::releases::{BOOKS, RELEASES};
use super::turn::{PGBENCH, Subject, closed};
use super::{EMPTY, FILLED, HELD, readable, throughput};
use crate::cli::output::say;

/// A goal's side of the line.
#[derive(Clone, Copy, Debug)]
enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

/// One line.
struct Goal {
    what: String,
    bound: Bound,
    measured: Option<f64>,
}

impl Goal {
    fn met(&self) -> Option<bool> {
        self.measured.map(|measured| match self.bound {
            Bound::AtLeast(least) => measured >= least,
            Bound::AtMost(most) => measured <= most,
        })
    }

    fn wanted(&self) -> String {
        match self.bound {
            Bound::AtLeast(least) => format!("≥ {least}"),
            Bound::AtMost(most) => format!("≤ {most}"),
        }
    }
}

/// The figures of one phase, by their names.
struct Of<'a>(&'a Figures, &'static str);

impl Of<'_> {
    fn median(&self, measure: &str, subject: &str, name: &str) -> Option<f64> {
        self.0.median(self.1, measure, subject, name)
    }

    fn goal(&self, what: &str, bound: Bound, measure: &str, subject: &str, name: &str) -> Goal {
        Goal { what: format!("{}: {what}", self.1), bound, measured: self.median(measure, subject, name) }
    }
}

use Bound::{AtLeast, AtMost};

fn of_intake(of: &Of<'_>) -> Vec<Goal> {
    let sixty_four = closed(64);
    let mut goals = Vec::new();
    for (subject, pgbench, naive, cpu_us) in
        [(Subject::Intake, 2.5, 3.8, 85.0), (Subject::Whole, 1.8, 2.7, 140.0)]
    {
        let name = subject.name();
        let say = |what: &str| format!("{name}, {what}");
        let ratio = say("64 connections: acked/s ÷ pgbench, one row each");
        goals.push(of.goal(&ratio, AtLeast(pgbench), &sixty_four, name, OF_PGBENCH));
        let ratio = say("64 connections: acked/s ÷ naive handler");
        goals.push(of.goal(&ratio, AtLeast(naive), &sixty_four, name, OF_NAIVE));
        let (server, postgres) =
            (of.median(&sixty_four, name, SERVER_US), of.median(&sixty_four, name, POSTGRES_US));
        let both = server.zip(postgres).map(|(server, postgres)| server + postgres);
        let what = format!("{}: {}", of.1, say("64 connections: CPU µs an event, server + Postgres"));
        goals.push(Goal { what, bound: AtMost(cpu_us), measured: both });
        for (figure, most) in [(P99, 10.0), (P999, 25.0)] {
            let what = say(&format!("half load, open loop: {figure}"));
            goals.push(of.goal(&what, AtMost(most), throughput::HALF_LOAD, name, figure));
        }
        let one = (of.median(&closed(1), name, P50), of.median(&closed(1), PGBENCH, P50));
        let ratio = one.0.zip(one.1).map(|(ours, pgbench)| ours / pgbench);
        let what = format!("{}: {}", of.1, say("1 connection: p50 ÷ pgbench's with one client"));
        goals.push(Goal { what, bound: AtMost(1.5), measured: ratio });
        goals.push(of.goal(&say("256 connections: peak MiB"), AtMost(48.0), &closed(256), name, PEAK_MIB));
    }
    let wal = "intake, 64 connections: WAL bytes an event";
    goals.push(of.goal(wal, AtMost(2_000.0), &sixty_four, Subject::Intake.name(), WAL));
    goals
}

fn of_the_rest(of: &Of<'_>) -> Vec<Goal> {
    let whole = Subject::Whole.name();
    vec![
        of.goal("worker draining a backlog, events/s", AtLeast(20_000.0), DRAIN, WORKER, PER_S),
        of.goal("completion: WAL bytes an event", AtMost(600.0), DRAIN, WORKER, WAL),
        of.goal("200 to readable, idle: p50 ms", AtMost(3.0), readable::IDLE, whole, P50),
        of.goal("200 to readable, idle: p99 ms", AtMost(6.0), readable::IDLE, whole, P99),
        of.goal("200 to readable, half load: p50 ms", AtMost(8.0), readable::HALF_LOAD, whole, P50),
        of.goal("200 to readable, half load: p99 ms", AtMost(20.0), readable::HALF_LOAD, whole, P99),
        of.goal("GET readiness ÷ pgbench -S, 50 clients", AtLeast(0.5), READS, SERVICE, OF_PGBENCH),
        of.goal("GET readiness, 50 clients: p99 ms", AtMost(10.0), READS, SERVICE, P99),
        of.goal("transfers released/s", AtLeast(500.0), RELEASES, whole, PER_S),
        of.goal("books right after the releases (1: in every round)", AtLeast(1.0), RELEASES, whole, BOOKS),
        of.goal("bodies of 1 MB, 256 connections: peak MiB", AtMost(48.0), FLOOD, whole, PEAK_MIB),
    ]
}

/// What a filled table may cost: a tenth of any figure that has a goal.
fn of_a_filled_table(figures: &Figures) -> Vec<Goal> {
    let of = |phase| {
        let of = Of(figures, phase);
        of_intake(&of).into_iter().chain(of_the_rest(&of))
    };
    let compare = |(empty, filled): (Goal, Goal)| {
        let ratio = empty.measured.zip(filled.measured).map(|(empty, filled)| filled / empty);
        let bound = match empty.bound {
            Bound::AtLeast(_) => AtLeast(0.9),
            Bound::AtMost(_) => AtMost(1.1),
        };
        ratio.map(|ratio| Goal {
            what: format!("{}, over that on an empty one", filled.what),
            bound,
            measured: Some(ratio),
        })
    };
    of(EMPTY).zip(of(FILLED)).filter_map(compare).collect()
}

fn all(figures: &Figures) -> Vec<Goal> {
    let empty = Of(figures, EMPTY);
    let mut goals = of_intake(&empty);
    goals.extend(of_the_rest(&empty));
    goals.extend(of_a_filled_table(figures));
    let held = Of(figures, HELD);
    let pace = "worker's last ÷ first fifth";
    goals.push(held.goal(pace, AtLeast(0.9), DRAIN, WORKER, LAST_OF_FIRST));
    goals
}

/// For programs.
pub fn json(figures: &Figures) -> Value {
    let goal = |goal: &Goal| json!({"goal": goal.what, "wanted": goal.wanted(), "measured": goal.measured, "met": goal.met()});
    all(figures).iter().map(goal).collect()
}

/// For people.
pub fn print(figures: &Figures) {
    say("\ngoals");
    for goal in all(figures) {
        let verdict = match goal.met() {
            Some(true) => "met",
            Some(false) => "MISSED",
            None => "not measured",
        };
        let measured = goal.measured.map_or("–".to_owned(), |value| format!("{value:.2}"));
        say(&format!("  {verdict:<12}  {measured:>9}  {:<8}  {}", goal.wanted(), goal.what));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_goal_is_met_missed_or_not_measured() {
        let mut figures = Figures::default();
        figures.add(EMPTY, &closed(64), "intake alone", OF_PGBENCH, Some(2.6));
        figures.add(EMPTY, &closed(64), "all roles", OF_PGBENCH, Some(1.7));
        figures.add(FILLED, &closed(64), "all roles", OF_PGBENCH, Some(1.5));
        let told = json(&figures);
        let met = |what: &str| {
            let goal =
                told.as_array().unwrap().iter().find(|goal| goal["goal"].as_str().unwrap().contains(what));
            goal.unwrap()["met"].clone()
        };
        assert_eq!(met("intake alone, 64 connections: acked/s ÷ pgbench"), json!(true));
        assert_eq!(met("all roles, 64 connections: acked/s ÷ pgbench"), json!(false));
        assert_eq!(met("filled table: all roles, 64 connections: acked/s ÷ pgbench"), json!(false));
        assert_eq!(met("draining"), Value::Null);
    }
}
