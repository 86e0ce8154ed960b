//! The program: parses the command line, hands over to `cli`, and turns the outcome into an exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    sluicegate::cli::run()
}
