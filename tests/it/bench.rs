//! The bench itself: it measures everything it is there for, and leaves nothing behind.

use std::process::Stdio;

use serde_json::Value;
use sluicegate::embedded;
use tokio::process::Command;

/// What a bench of a few moments said, its folder being empty before and gone afterwards.
async fn bench(arguments: &[&str]) -> Value {
    let scratch = std::env::temp_dir().join(format!("bench-{}", uuid::Uuid::new_v4()));
    std::fs::create_dir(&scratch).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluicegate"));
    command.args(["bench", "--rounds", "1", "--seconds", "0.3", "--output", "json"]);
    command.arg("--scratch").arg(&scratch).args(arguments);
    let done = command.stdin(Stdio::null()).kill_on_drop(true).output().await.unwrap();
    let told = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(done.status.success(), "{told}");
    let left = std::fs::read_dir(&scratch).unwrap().count();
    assert_eq!(left, 0, "something was left behind in {}", scratch.display());
    std::fs::remove_dir(&scratch).unwrap();
    serde_json::from_slice(&done.stdout).unwrap_or_else(|error| panic!("{error}: {told}"))
}

fn median(told: &Value, phase: &str, measure: &str, subject: &str, figure: &str) -> f64 {
    let wanted = told["figures"].as_array().unwrap().iter().find(|one| {
        one["phase"] == phase
            && one["measure"] == measure
            && one["subject"] == subject
            && one["figure"] == figure
    });
    wanted.unwrap_or_else(|| panic!("no {phase}, {measure}, {subject}, {figure}: {told}"))["median"]
        .as_f64()
        .unwrap()
}

#[tokio::test]
async fn every_measure_brings_its_figures() {
    let small = "--connections 2 --accounts 50 --backlog 200 --stored 200 --transfers 5 --flood 3";
    let mut arguments: Vec<&str> = small.split(' ').collect();
    // A Postgres that was fetched has none.
    let pgbench = embedded::tool("pgbench", None).is_some();
    if pgbench {
        arguments.extend(["--against", "pgbench"]);
    }
    let told = bench(&arguments).await;
    let of = |measure, subject, figure| median(&told, "empty table", measure, subject, figure);
    let closed = "2 connections, closed loop";
    for subject in ["intake alone", "all roles"] {
        assert!(of(closed, subject, "per s") > 1.0);
        assert!(of(closed, subject, "p50 ms") <= of(closed, subject, "p99.9 ms"));
        assert!(of(closed, subject, "WAL bytes") > 500.0);
        assert!(of("half of its best, open loop", subject, "p99 ms") > 0.0);
        if cfg!(target_os = "linux") {
            assert!(of(closed, subject, "server µs") > 0.0);
            assert!(of(closed, subject, "peak MiB") > 1.0);
        }
    }
    if pgbench {
        assert!(of(closed, "pgbench", "per s") > 1.0);
        assert!(of(closed, "naive", "per s") > 1.0);
        assert!(of(closed, "intake alone", "÷ pgbench") > 0.0);
        assert!(of(closed, "all roles", "÷ naive") > 0.0);
        assert!(of("GET readiness, 50 clients", "pgbench -S", "per s") > 1.0);
    }
    let drain = "worker draining a backlog";
    assert!(of(drain, "worker and API", "per s") > 1.0);
    assert_eq!(of(drain, "worker and API", "fetches"), 0.0, "its events need none");
    for measure in ["200 to readable, idle", "200 to readable, at half load"] {
        assert!(of(measure, "all roles", "events") >= 1.0);
    }
    assert!(of("GET readiness, 50 clients", "GET readiness", "per s") > 1.0);
    let releases = "transfers released, stand-in without delay";
    assert!(of(releases, "all roles", "per s") > 0.1);
    assert_eq!(of(releases, "all roles", "books right"), 1.0);
    let flood = "bodies of 1 MB over 256 connections";
    assert_eq!(of(flood, "all roles", "200s") + of(flood, "all roles", "503s"), 3.0);
    assert!(told["goals"].as_array().unwrap().iter().any(|goal| goal["met"] != Value::Null));
}

#[tokio::test]
async fn a_drain_is_repeated_on_a_filled_table_and_under_a_snapshot() {
    let told = bench(&[
        "--only",
        "drain",
        "--accounts",
        "50",
        "--backlog",
        "200",
        "--rows",
        "700",
        "--open-transaction",
    ])
    .await;
    for phase in ["empty table", "filled table", "snapshot held open"] {
        assert!(median(&told, phase, "worker draining a backlog", "worker and API", "per s") > 1.0);
    }
    let stored = told["notes"]
        .as_array()
        .unwrap()
        .iter()
        .any(|note| note.as_str().unwrap().starts_with("700 past events stored"));
    assert!(stored, "{told}");
}
