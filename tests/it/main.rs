//! All integration tests, in one binary so that they link once and share one server.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on has failed; clippy.toml knows only functions marked #[test]"
)]

mod accounts_v2;
mod audit;
mod batch;
mod batches;
mod bench;
mod campaign;
mod connections;
mod console;
mod controls;
mod corridors;
mod crash;
mod crowd;
mod doctor;
mod document;
mod drill;
mod edges;
mod embedded;
mod emergency_stop;
mod events;
mod explanation;
mod faults;
mod funding;
mod guide;
mod idempotency;
mod input;
mod keys;
mod lifecycle;
mod lists;
mod metrics;
mod migrate;
mod onboarding;
mod plans;
mod platform;
mod readiness;
mod rebuild;
mod refused;
mod repair;
mod restore;
mod retention;
mod reversals;
mod roles;
mod shell;
mod simulate;
mod statements;
mod strangers;
mod stream;
mod support;
mod tasks;
mod topups;
mod topups_created;
mod topups_shown;
mod traces;
mod transfers;
mod webhook;
mod webhook_setup;
