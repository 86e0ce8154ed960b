//! What is measured, as the text that Prometheus reads: what the process counts, and what the database says now.
//!
//! The second part is written anew at each scrape and is absent where the database does not answer, so that no
//! number is shown that was true once. Its labels are words of closed lists: kinds, states, reasons, currencies.

use std::fmt::{Display, Write as _};
use std::time::Duration;

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use time::OffsetDateTime;

use super::refusals::{Anything, Refuses};
use super::state::{AppState, Shared};
use crate::store::views::{self, Gauges};

/// Less than Prometheus waits by itself, which is ten seconds.
const PATIENCE: Duration = Duration::from_secs(4);

/// Measurements for Prometheus
///
/// Without the database, what the process itself counts is still told.
#[utoipa::path(
    get, path = "/metrics", tag = "service", operation_id = "get_metrics",
    responses(
        (status = 200, description = "Prometheus text.", body = String, content_type = "text/plain"),
        Refuses<Anything>,
    ),
)]
pub(super) async fn metrics(State(state): State<Shared>) -> impl IntoResponse {
    let now = state.ctx.clock.now();
    let measuring = views::gauges(&state.ctx.pool, state.ctx.livemode, now);
    let measured = match tokio::time::timeout(PATIENCE, measuring).await {
        Ok(Ok(gauges)) => Some(gauges),
        Ok(Err(error)) => {
            tracing::warn!(%error, "the database could not be measured");
            None
        }
        Err(_) => {
            tracing::warn!("the database was too slow to be measured");
            None
        }
    };
    let mut page = Page((state.metrics)());
    of_the_process(&mut page, &state);
    page.one(
        "database_up",
        "Whether the database answered this scrape in time",
        u8::from(measured.is_some()),
    );
    if let Some(gauges) = &measured {
        work(&mut page, gauges, now);
        transfers(&mut page, gauges);
        money(&mut page, gauges);
        lists(&mut page, gauges);
    }
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], page.0)
}

/// Prometheus text that grows.
struct Page(String);

type Labels<'a> = &'a [(&'a str, &'a str)];

impl Page {
    /// A gauge with one value.
    fn one(&mut self, name: &str, help: &str, value: impl Display) {
        self.family(name, help, |line| line(&[], &value));
    }

    /// A gauge with a value for each set of labels that `tell` hands over.
    fn family(
        &mut self,
        name: &str,
        help: &str,
        tell: impl FnOnce(&mut dyn FnMut(Labels<'_>, &dyn Display)),
    ) {
        let text = &mut self.0;
        // Writing to a String can't fail.
        let _ = write!(text, "# HELP sluicegate_{name} {help}\n# TYPE sluicegate_{name} gauge\n");
        tell(&mut |labels, value| {
            let named = |(key, word): &(&str, &str)| format!("{key}=\"{}\"", escaped(word));
            let labels: Vec<String> = labels.iter().map(named).collect();
            let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
            let _ = writeln!(text, "sluicegate_{name}{labels} {value}");
        });
        text.push('\n');
    }

    /// A gauge that is there only where something is known.
    fn maybe(&mut self, name: &str, help: &str, value: Option<impl Display>) {
        if let Some(value) = value {
            self.one(name, help, value);
        }
    }
}

fn escaped(word: &str) -> String {
    word.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// Seconds since 1970; what is not there yet is 0.
fn unix(at: Option<OffsetDateTime>) -> i64 {
    at.map_or(0, OffsetDateTime::unix_timestamp)
}

fn of_the_process(page: &mut Page, state: &AppState) {
    let queue = state.intake.queue();
    page.one("intake_queue_events", "Deliveries that wait for their commit", queue.events);
    page.one("intake_queue_bytes", "Bytes of all deliveries under way, out of 16777216", queue.bytes);
    let pool = &state.ctx.pool;
    let idle = u32::try_from(pool.num_idle()).unwrap_or(u32::MAX);
    page.family("pool_connections", "Connections to Postgres, by state (idle, busy)", |line| {
        line(&[("state", "idle")], &idle);
        line(&[("state", "busy")], &pool.size().saturating_sub(idle));
    });
    let most = pool.options().get_max_connections();
    page.one("pool_max_connections", "The most connections to Postgres that this process opens", most);
}

fn work(page: &mut Page, gauges: &Gauges, now: OffsetDateTime) {
    let waited = gauges.waited.as_secs_f64();
    page.one("pool_wait_seconds", "How long this scrape waited for a connection to Postgres", waited);
    let lag = gauges.oldest_due.map_or(0.0, |due| (now - due).as_seconds_f64().max(0.0));
    page.one("event_lag_seconds", "Age of the oldest event that is not applied yet", lag);
    page.one("dead_letters", "Events that failed for a fault of their own", gauges.dead_letters);
    page.family("tasks", "Tasks, by kind and state (due, leased, later)", |line| {
        for tasks in &gauges.tasks {
            line(&[("kind", &tasks.kind), ("state", &tasks.state)], &tasks.count);
        }
    });
    let heartbeat = gauges.heartbeat.map(OffsetDateTime::unix_timestamp);
    let help = "When the service last kept its heartbeat in the database";
    page.maybe("heartbeat_timestamp_seconds", help, heartbeat);
}

fn transfers(page: &mut Page, gauges: &Gauges) {
    let help = "Transfers by status; the released are counted by sluicegate_release_seconds";
    page.family("transfers", help, |line| {
        for status in ["waiting", "releasing", "failed", "canceled", "reversed", "partially_reversed"] {
            let counted = gauges.statuses.iter().find(|row| row.status == status);
            line(&[("status", status)], &counted.map_or(0, |row| row.count));
        }
    });
    let help = "Waiting transfers, by reason and currency; one that waits for several is counted in each";
    page.family("transfers_waiting", help, |line| {
        for waiting in &gauges.waiting {
            line(&[("reason", &waiting.reason), ("currency", &waiting.currency)], &waiting.count);
        }
    });
    let help = "Money of waiting transfers in the currency's minor units, by reason and currency";
    page.family("transfers_waiting_minor_units", help, |line| {
        for waiting in &gauges.waiting {
            line(&[("reason", &waiting.reason), ("currency", &waiting.currency)], &waiting.amount);
        }
    });
    let help = "Transfers that were sent to Stripe and have no definite outcome yet";
    page.one("transfers_unknown", help, gauges.unknown.count);
    let help = "When the oldest of those without a definite outcome was first sent; 0 without one";
    page.one("transfers_unknown_since_timestamp_seconds", help, unix(gauges.unknown.since));
    let help = "Orders for top-ups of which it is not known what came of them";
    page.one("topups_unknown", help, gauges.unknown_topups);
    let help = "1 while the emergency stop holds all releases";
    page.one("releases_paused", help, u8::from(gauges.paused));
    let help = "1 while Stripe's transfers are matched after a restore and nothing is released";
    page.one("catching_up", help, u8::from(gauges.catching_up));
}

fn money(page: &mut Page, gauges: &Gauges) {
    let help = "Money in the currency's minor units, by state: settled, reserved, released, available and pending as \
                booked; stripe_available as Stripe last said, drift as that differs from the books";
    page.family("funds_minor_units", help, |line| {
        for funds in &gauges.funds {
            let states = [
                ("settled", Some(funds.settled)),
                ("reserved", Some(funds.reserved)),
                ("released", Some(funds.released)),
                ("available", Some(funds.available())),
                ("pending", Some(funds.pending)),
                ("stripe_available", funds.stripe_available),
                ("drift", funds.drift),
            ];
            for (state, amount) in states {
                let Some(amount) = amount else { continue };
                line(&[("currency", &funds.currency), ("state", state)], &amount);
            }
        }
    });
    let help = "1 where Stripe pays the platform's own balance out by itself, added money included";
    page.maybe("platform_payouts_automatic", help, gauges.payouts_automatic.map(u8::from));
}

fn lists(page: &mut Page, gauges: &Gauges) {
    let complete_to = gauges.events_complete_to.map(OffsetDateTime::unix_timestamp);
    let help = "Every event that Stripe created up to then has been received or searched for";
    page.maybe("events_complete_to_timestamp_seconds", help, complete_to);
    let help = "When the latest walk through a list of Stripe's began";
    page.family("sweep_started_timestamp_seconds", help, |line| {
        for sweep in &gauges.sweeps {
            line(&[("list", &sweep.name)], &sweep.started_at.unix_timestamp());
        }
    });
    page.family("sweep_runs", "Walks through a list of Stripe's that came to its end", |line| {
        for sweep in &gauges.sweeps {
            line(&[("list", &sweep.name)], &sweep.runs);
        }
    });
    let help = "Entries of the latest walk through a list of Stripe's, by state (read, found to differ)";
    page.family("sweep_entries", help, |line| {
        for sweep in &gauges.sweeps {
            line(&[("list", &sweep.name), ("state", "read")], &sweep.seen);
            line(&[("list", &sweep.name), ("state", "found")], &sweep.found);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_has_its_help_its_type_and_a_line_for_each_value() {
        let mut page = Page("before 1\n\n".to_owned());
        page.family("things", "Things, by word", |line| {
            line(&[("word", "plain"), ("other", "x")], &i64::MAX);
            line(&[("word", "a \"quoted\\\n")], &0.5);
        });
        page.maybe("absent", "Not there", None::<i64>);
        page.one("one", "One", 1.0);
        let expected = "before 1\n\n\
            # HELP sluicegate_things Things, by word\n\
            # TYPE sluicegate_things gauge\n\
            sluicegate_things{word=\"plain\",other=\"x\"} 9223372036854775807\n\
            sluicegate_things{word=\"a \\\"quoted\\\\\\n\"} 0.5\n\n\
            # HELP sluicegate_one One\n\
            # TYPE sluicegate_one gauge\n\
            sluicegate_one 1\n\n";
        assert_eq!(page.0, expected);
    }
}
