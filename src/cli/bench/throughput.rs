//! Deliveries acknowledged a second and how long each takes: closed loop beside the yardsticks, turn by turn, then at
//! a constant rate of half of what the closed loop reached.

use super::figures::{APPLIED_PER_S, PER_S};
use super::load::Pace;
use super::turn::{self, Pgbenched, Subject, closed};
use super::{Bench, OPEN_CONNECTIONS};

/// How the measure at a constant rate is called.
pub const HALF_LOAD: &str = "half of its best, open loop";

/// Measures at each number of connections, then at half load.
pub async fn measure(bench: &mut Bench<'_>) -> anyhow::Result<()> {
    for connections in bench.args.connections.clone() {
        for round in 1..=bench.args.rounds {
            bench.say(&format!("{}, round {round}", closed(connections)));
            one_round(bench, connections).await?;
        }
    }
    for round in 1..=bench.args.rounds {
        for subject in [Subject::Intake, Subject::Whole] {
            let per_s = half_load(bench, subject).await?;
            bench.say(&format!("{} at {per_s:.0} a second, round {round}", subject.name()));
            let pace = Pace::Constant(per_s, bench.args.length());
            let turn = turn::take(bench, subject, OPEN_CONNECTIONS, pace).await?;
            turn.keep(bench, HALF_LOAD, subject);
        }
    }
    Ok(())
}

/// pgbench, naive, intake alone, all roles: what the machine does otherwise meets all four alike.
async fn one_round(bench: &mut Bench<'_>, connections: usize) -> anyhow::Result<()> {
    let (measure, pace) = (closed(connections), Pace::Closed(bench.args.length()));
    let mut yardsticks = None;
    if let Some(own) = &bench.yardsticks {
        let pgbench = Pgbenched::take(bench, &own.pgbench, connections).await?;
        pgbench.keep(bench, &measure);
        let naive = turn::take(bench, Subject::Naive, connections, pace).await?;
        naive.keep(bench, &measure, Subject::Naive);
        naive.keep_ratios(bench, &measure, Subject::Naive, &pgbench, &naive);
        yardsticks = Some((pgbench, naive));
    }
    for subject in [Subject::Intake, Subject::Whole] {
        let turn = turn::take(bench, subject, connections, pace).await?;
        turn.keep(bench, &measure, subject);
        if let Some((pgbench, naive)) = &yardsticks {
            turn.keep_ratios(bench, &measure, subject, pgbench, naive);
        }
    }
    Ok(())
}

/// Half of the best that a subject has kept up in this phase; a turn finds that out where none was measured.
pub async fn half_load(bench: &mut Bench<'_>, subject: Subject) -> anyhow::Result<f64> {
    let figure = if subject == Subject::Whole { APPLIED_PER_S } else { PER_S };
    if let Some(best) = bench.figures.best(bench.phase, subject.name(), figure) {
        return Ok(best / 2.0);
    }
    let turn = turn::take(bench, subject, OPEN_CONNECTIONS, Pace::Closed(bench.args.length())).await?;
    turn.keep(bench, &closed(OPEN_CONNECTIONS), subject);
    Ok(turn.sustained_per_s() / 2.0)
}
