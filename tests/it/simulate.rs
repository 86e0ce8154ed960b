//! The simulator: well where the service is right, and not where it is wrong.

use std::process::Stdio;

use serde_json::Value;
use tokio::process::Command;

/// What the command said at its end, and whether it was content.
async fn simulate(seeds: &str, more: &[&str]) -> (Value, bool, String) {
    let logs = std::env::temp_dir().join(format!("simulated-{}", uuid::Uuid::new_v4()));
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluicegate"));
    command.args([
        "simulate",
        "--seeds",
        seeds,
        "--replicas",
        "3",
        "--side-by-side",
        "4",
        "--output",
        "json",
    ]);
    command.arg("--logs").arg(&logs).args(more);
    let done = command.stdin(Stdio::null()).kill_on_drop(true).output().await.unwrap();
    let told = String::from_utf8_lossy(&done.stderr).into_owned();
    let _ = std::fs::remove_dir_all(&logs);
    let tally = serde_json::from_slice(&done.stdout).unwrap_or_else(|error| panic!("{error}: {told}"));
    (tally, done.status.success(), told)
}

#[tokio::test]
async fn the_service_stands_whatever_goes_wrong() {
    let (tally, content, told) = simulate("1..8", &[]).await;
    assert!(content, "{told}");
    assert_eq!(tally["failed"], serde_json::json!([]));
    for what in ["runs", "transfers", "faults", "kills"] {
        assert!(tally[what].as_i64().unwrap() >= 8, "{what}: {tally}");
    }
}

/// Each is caught within twenty runs; else the simulator would prove nothing.
#[tokio::test]
async fn bugs_that_are_planted_are_caught() {
    for bug in sluicegate::planted::Bug::ALL {
        let planted = ["--fail-fast", "--planted", bug.as_str()];
        let (tally, content, told) = simulate("1..20", &planted).await;
        assert!(!content, "{} was not caught: {tally}", bug.as_str());
        let what_it_does = match bug.as_str() {
            "skip_recheck" => "known as [",
            "answer_before_commit" => "accepted before it was stored",
            "settle_early" => "less settled than out",
            // Twice or more often, as the seed has it.
            _ => "was sent ",
        };
        assert!(told.contains(what_it_does), "{}: {told}", bug.as_str());
        assert!(told.contains("replay: sluicegate simulate --seeds "), "{told}");
    }
}
