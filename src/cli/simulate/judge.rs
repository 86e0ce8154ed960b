//! Whether a run was right, judged by Stripe's side of it.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::PgPool;
use time::OffsetDateTime;

use super::play::Played;
use super::schedule::{REVENUE, Schedule};
use crate::domain::account::Policy;
use crate::domain::count::counted;
use crate::domain::topup::Rule;
use crate::flows::rebuild::{self, Rules};
use crate::sandbox::{Attempt, Call, Movement, TransferBook};
use crate::store::inspect;

/// The pair that names our transfer in Stripe's metadata.
const METADATA_KEY: &str = "sluicegate_transfer";
/// A call may have been checked, and been under way, when the account stopped being ready.
const UNDER_WAY_US: i64 = 600_000;

/// Everything that is not as it must be, one line each.
pub async fn judge(schedule: &Schedule, played: &Played) -> anyhow::Result<Vec<String>> {
    let mut findings = played.findings.clone();
    let books = played.control.books();
    findings.extend(sent_twice(&books.transfers));
    findings.extend(more_out_than_settled(&played.control.movements()));
    findings.extend(missing(schedule, played, &books.transfers));
    let mut conn = played.pool.acquire().await?;
    let readiness = inspect::list_readiness(&mut conn).await?;
    findings.extend(sent_to_the_unready(&readiness, &played.control.calls()));
    let (accepted, answered): (Vec<String>, Vec<OffsetDateTime>) =
        first_answers(&played.control.attempts()).into_iter().unzip();
    for event in inspect::list_lost(&mut conn, &accepted, &answered).await? {
        findings.push(format!("event {event} was accepted before it was stored"));
    }
    let (_, dead) = inspect::count_unapplied(&mut conn).await?;
    if dead > 0 {
        findings.push(format!("{} not be applied", counted(dead, "event could", "events could")));
    }
    drop(conn);
    findings.extend(rebuilt(&played.pool).await?);
    findings.extend(books_differ(played, &books.transfers));
    Ok(findings)
}

/// When each event was accepted for the first time.
fn first_answers(attempts: &[Attempt]) -> BTreeMap<String, OffsetDateTime> {
    let mut first = BTreeMap::new();
    for attempt in attempts.iter().filter(|attempt| attempt.status.is_some_and(|s| (200..300).contains(&s))) {
        let at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(attempt.ended_us) * 1_000);
        first.entry(attempt.event.clone()).or_insert(at.unwrap_or(OffsetDateTime::UNIX_EPOCH));
    }
    first
}

fn ours(transfer: &TransferBook) -> Option<&str> {
    transfer.metadata.get(METADATA_KEY)?.as_str()
}

fn sent_twice(transfers: &[TransferBook]) -> Vec<String> {
    let mut times: BTreeMap<&str, u32> = BTreeMap::new();
    for id in transfers.iter().filter_map(ours) {
        *times.entry(id).or_default() += 1;
    }
    let twice = times.into_iter().filter(|(_, times)| *times > 1);
    twice.map(|(id, times)| format!("{id} was sent {times} times")).collect()
}

/// In the order of the movements: no transfer may leave less than the platform's own revenue, which is no money to
/// release. What the bank takes back later may.
fn more_out_than_settled(movements: &[Movement]) -> Vec<String> {
    let mut timeline: Vec<(i64, usize, &Movement)> = movements
        .iter()
        .enumerate()
        .filter_map(|(place, movement)| {
            let at = if movement.kind == "topup" { movement.available_us? } else { movement.created_us };
            Some((at, place, movement))
        })
        .collect();
    timeline.sort_by_key(|(at, place, _)| (*at, *place));
    let mut left: BTreeMap<&str, i64> = BTreeMap::new();
    let mut findings = Vec::new();
    for (_, _, movement) in timeline {
        let left = left.entry(&movement.currency).or_insert(0);
        *left += movement.amount;
        let floor = if movement.currency == "usd" { REVENUE } else { 0 };
        if movement.kind == "transfer" && *left < floor {
            let (missing, currency) = (floor - *left, &movement.currency);
            findings.push(format!("a transfer went out with {missing} {currency} less settled than out"));
        }
    }
    findings
}

fn missing(schedule: &Schedule, played: &Played, transfers: &[TransferBook]) -> Vec<String> {
    let out: BTreeSet<&str> = transfers.iter().filter_map(ours).collect();
    (0..schedule.asks.len())
        .filter(|ask| schedule.goes_out(*ask) != out.contains(played.cast.transfers[*ask].as_str()))
        .map(|ask| {
            format!(
                "transfer {ask} ({}) should go out: {}",
                played.cast.transfers[ask],
                schedule.goes_out(ask)
            )
        })
        .collect()
}

/// Calls that would send money to an account that the service already knew not to be ready.
fn sent_to_the_unready(readiness: &[(String, OffsetDateTime, Vec<String>)], calls: &[Call]) -> Vec<String> {
    let us = |at: &OffsetDateTime| i64::try_from(at.unix_timestamp_nanos() / 1_000).unwrap_or(i64::MAX);
    let mut findings = Vec::new();
    for call in calls.iter().filter(|call| call.method == "POST" && call.path == "/v1/transfers") {
        let to = |account: &str| call.body.split('&').any(|pair| pair == format!("destination={account}"));
        // The last that was known of it a while before the call came in.
        let mut known =
            readiness.iter().filter(|(account, at, _)| to(account) && us(at) + UNDER_WAY_US < call.at_us);
        let since = readiness.iter().filter(|(account, at, _)| to(account) && us(at) <= call.at_us);
        let never_ready_since = since
            .filter(|(_, at, _)| us(at) + UNDER_WAY_US >= call.at_us)
            .all(|(_, _, reasons)| !reasons.is_empty());
        match known.next_back() {
            Some((account, _, reasons)) if !reasons.is_empty() && never_ready_since => {
                findings.push(format!("call {} went to {account}, known as {reasons:?}", call.number));
            }
            Some(_) | None => {}
        }
    }
    findings
}

/// What is held follows from what was kept, the ledger's sums included.
async fn rebuilt(pool: &PgPool) -> anyhow::Result<Vec<String>> {
    let rules = Rules { policy: Policy::default(), rule: Rule::BalanceAvailable };
    let report = rebuild::check(pool, &rules).await?;
    let told = report.told.iter().map(|difference| {
        let (kind, subject, field) = (&difference.kind, &difference.subject, &difference.field);
        format!("{kind} {subject}: {field} is {}, and follows as {}", difference.held, difference.rebuilt)
    });
    Ok(told.collect())
}

/// What the ledger says has gone out and come in, beside Stripe's own account of it.
fn books_differ(played: &Played, transfers: &[TransferBook]) -> Vec<String> {
    let out: i64 = transfers.iter().map(|transfer| transfer.amount - transfer.amount_reversed).sum();
    let settled: i64 = played
        .control
        .movements()
        .iter()
        .filter(|movement| movement.available_us.is_some())
        .filter(|movement| ["topup", "topup_reversal"].contains(&movement.kind.as_str()))
        .map(|movement| movement.amount)
        .sum();
    let held = played.ending.funds.get("usd").cloned().unwrap_or_default();
    let expected = vec![settled, 0, out, settled - out];
    if held == expected {
        return Vec::new();
    }
    vec![format!("settled, reserved, released, available are {held:?}, and by Stripe's books {expected:?}")]
}
