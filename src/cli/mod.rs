//! The commands: the only place that reads the configuration and wires the parts.

mod audit;
mod backfill;
mod bench;
mod completions;
pub mod database;
mod demo;
mod doctor;
mod man;
mod migrate;
mod output;
mod rebuild;
mod sandbox;
mod serve;
pub mod service;
mod setup_webhooks;
mod shell;
mod simulate;

use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use crate::config::{self, Flags, Settings};
use crate::telemetry;

/// The release and the commit it was built from, where that is known.
const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), env!("SLUICEGATE_BUILD"));

/// Pays connected accounts on Stripe from top-ups: verified webhooks in, each transfer out exactly once.
#[derive(Parser, Debug)]
#[command(name = "sluicegate", version = VERSION, arg_required_else_help = true)]
#[command(
    after_help = "Example:\n  sluicegate demo    # everything on this machine, without a Stripe account"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Take in webhooks, work off what is due and answer internal services, in one process
    #[command(
        after_help = "Example:\n  STRIPE_SECRET_KEY=sk_test_… STRIPE_WEBHOOK_SECRETS=whsec_… \\\n    DATABASE_URL=postgres://… sluicegate serve --listen 127.0.0.1:8080"
    )]
    Serve(Box<Flags>),
    /// Run the whole service on this machine with a stand-in for Stripe, and tell a story
    #[command(after_help = "Example:\n  sluicegate demo --until-done")]
    Demo {
        #[command(flatten)]
        args: demo::Args,
        #[command(flatten)]
        flags: Box<Flags>,
    },
    /// Run the stand-in for Stripe alone
    #[command(
        after_help = "Example:\n  sluicegate sandbox --listen 127.0.0.1:12111 \\\n    --webhook http://127.0.0.1:8080/webhooks/stripe=whsec_…"
    )]
    Sandbox(sandbox::Args),
    /// Apply the migrations and exit
    #[command(after_help = "Example:\n  sluicegate migrate --database-url postgres://…")]
    Migrate(shell::Shown),
    /// Recompute what the tables hold from what was kept, and report every difference; exit 1 on one
    #[command(
        after_help = "Example:\n  sluicegate rebuild --check --database-url postgres://…\n\nStart it with the SLUICEGATE_READINESS and SLUICEGATE_SETTLEMENT of the service."
    )]
    Rebuild(rebuild::Args),
    /// Search Stripe's event list for events that were never delivered, and store them
    #[command(after_help = "Example:\n  sluicegate backfill --since 2026-11-22T10:00:00Z")]
    Backfill(backfill::Args),
    /// Check the configuration, the database and the account at Stripe, one line a check; exit 1 on any fail
    #[command(after_help = "Example:\n  sluicegate doctor")]
    Doctor(shell::Shown),
    /// Make or repair both webhook endpoints at Stripe, and print new secrets once
    #[command(
        name = "setup-webhooks",
        after_help = "Example:\n  sluicegate setup-webhooks --url https://pay.example.com"
    )]
    SetupWebhooks(setup_webhooks::Args),
    #[command(flatten)]
    Shell(shell::Command),
    /// Run the service as real processes under seeded faults, kills and lost events, and check that money moved
    /// once and rightly
    #[command(after_help = "Example:\n  sluicegate simulate --seeds 1..200 --replicas 3")]
    Simulate(simulate::Args),
    /// A replica of a simulation, with its orders on standard input
    #[command(hide = true)]
    Replica,
    /// Measure the whole path under load, beside yardsticks of the same run
    #[command(
        after_help = "Example:\n  sluicegate bench --against pgbench --only throughput,drain --rounds 3\n\nNeeds a release build and no configuration. What each figure means: docs/PERFORMANCE.md."
    )]
    Bench(Box<bench::Args>),
    /// The naive handler that the bench measures beside
    #[command(hide = true)]
    Naive,
    /// Check the audit log
    #[command(subcommand, arg_required_else_help = true)]
    #[command(after_help = "Example:\n  sluicegate audit verify")]
    Audit(audit::Command),
    /// Print a script that completes commands and flags in a shell
    #[command(after_help = completions::EXAMPLES)]
    Completions(completions::Args),
    /// Print the manual, or write it to a folder
    #[command(after_help = man::EXAMPLES)]
    Man(man::Args),
}

/// Why a command did not succeed: the user's words, or the world.
enum Failed {
    /// Exit code 2: the command or its configuration is wrong, and was told so.
    Usage,
    /// Exit code 1: it was told already.
    Told,
    /// Exit code 1.
    World(anyhow::Error),
}

impl<E: Into<anyhow::Error>> From<E> for Failed {
    fn from(error: E) -> Self {
        Self::World(error.into())
    }
}

/// Runs the command that the command line names.
pub fn run() -> ExitCode {
    let cli = Cli::from_arg_matches(&whole().get_matches()).unwrap_or_else(|error| error.exit());
    // Once a process, before any client is made.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("the runtime could not be started: {error}");
            return ExitCode::FAILURE;
        }
    };
    let ended = runtime.block_on(dispatch(cli.command));
    telemetry::finish();
    match ended {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) | Err(Failed::Told) => ExitCode::FAILURE,
        Err(Failed::Usage) => ExitCode::from(2),
        Err(Failed::World(error)) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The whole command line. `-h` leaves the configuration's flags to `--help`: every command has them all.
fn whole() -> clap::Command {
    brief(Cli::command())
}

fn brief(command: clap::Command) -> clap::Command {
    let of_configuration = |arg: &clap::Arg| arg.get_help_heading() == Some("Configuration");
    command
        .mut_args(|arg| if of_configuration(&arg) { arg.hide_short_help(true) } else { arg })
        .mut_subcommands(brief)
}

async fn dispatch(command: Command) -> Result<bool, Failed> {
    match command {
        Command::Serve(flags) => {
            let settings = settings(&flags)?;
            telemetry::init_with_traces(settings.log_format, settings.log_filter.as_deref());
            serve::run(settings).await
        }
        Command::Demo { args, flags } => {
            let settings = settings(&flags)?;
            // The story is for people; what the service logs beside it only where it is asked for.
            telemetry::init(settings.log_format, Some(settings.log_filter.as_deref().unwrap_or("error")));
            Ok(demo::run(&args, settings).await?)
        }
        Command::Sandbox(args) => {
            telemetry::init(None, None);
            Ok(sandbox::run(args).await?)
        }
        Command::Migrate(shown) => migrate::run(&shown).await.map(|()| true),
        Command::Rebuild(rebuild::Args { output, flags, .. }) => {
            let settings = settings(&flags)?;
            telemetry::init(settings.log_format, settings.log_filter.as_deref());
            rebuild::run(settings, output).await
        }
        Command::Backfill(args) => backfill::run(&args).await.map(|()| true),
        Command::Doctor(shown) => doctor::run(&shown).await,
        Command::SetupWebhooks(args) => setup_webhooks::run(&args).await.map(|()| true),
        Command::Shell(command) => shell::run(command).await.map(|()| true),
        Command::Completions(args) => {
            completions::print(&args, &mut whole());
            Ok(true)
        }
        Command::Man(args) => {
            man::make(&args, whole())?;
            Ok(true)
        }
        Command::Simulate(args) => Ok(simulate::run(&args).await?),
        Command::Replica => {
            telemetry::init(None, std::env::var("RUST_LOG").ok().as_deref());
            simulate::replica::run().await?;
            Ok(true)
        }
        Command::Bench(args) => {
            telemetry::init(None, Some("error"));
            Ok(bench::run(&args).await?)
        }
        Command::Naive => {
            bench::naive().await?;
            Ok(true)
        }
        Command::Audit(audit::Command::Verify { expect, output, flags }) => {
            let settings = settings(&flags)?;
            telemetry::init(settings.log_format, settings.log_filter.as_deref());
            audit::verify(settings, &expect, output).await
        }
    }
}

/// Reads the configuration; says every problem on stderr.
fn settings(flags: &Flags) -> Result<Settings, Failed> {
    match config::load(flags, std::env::vars_os(), |path| std::fs::read_to_string(path)) {
        Ok((settings, warnings)) => {
            for warning in warnings {
                eprintln!("warning: {warning}");
            }
            Ok(settings)
        }
        Err(problems) => {
            for problem in problems {
                eprintln!("error: {problem}");
            }
            Err(Failed::Usage)
        }
    }
}

/// Waits for Ctrl-C or the signal of a service manager.
async fn told_to_stop() {
    let interrupted = tokio::signal::ctrl_c();
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let Ok(mut terminated) = signal(SignalKind::terminate()) {
            tokio::select! {
                _ = interrupted => {}
                _ = terminated.recv() => {}
            }
            return;
        }
    }
    let _ = interrupted.await;
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every command of the line, each with the words that lead to it.
    fn walk(command: &clap::Command, path: &str, found: &mut Vec<(String, clap::Command)>) {
        let path = format!("{path}{} ", command.get_name());
        found.push((path.trim_end().to_owned(), command.clone()));
        for inner in command.get_subcommands().filter(|inner| !inner.is_hide_set()) {
            walk(inner, &path, found);
        }
    }

    #[test]
    fn every_command_has_help_with_an_example_that_calls_it() {
        let mut found = Vec::new();
        walk(&whole(), "", &mut found);
        assert!(found.len() > 30, "{}", found.len());
        for (path, command) in found {
            let example = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(example.starts_with("Example"), "{path} has no example");
            let nouns = path.split(' ').take(2).collect::<Vec<_>>().join(" ");
            assert!(example.contains(&nouns) || path == "sluicegate", "{path}: {example}");
            let about = command.get_about().map(ToString::to_string).unwrap_or_default();
            assert!(!about.is_empty(), "{path} does not say what it does");
        }
    }

    #[test]
    fn the_command_line_is_well_made_and_its_short_help_short() {
        whole().debug_assert();
        let mut list = whole();
        let list = list.find_subcommand_mut("transfers").unwrap().find_subcommand_mut("list").unwrap();
        assert!(!list.render_help().to_string().contains("--database-url"));
        assert!(list.render_long_help().to_string().contains("--database-url"));
    }
}
