//! The program itself, run as an operator would run it beside a world's service.

use std::process::{Output, Stdio};

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use super::world::{ADMIN_KEY, CONNECT_SECRET, PLATFORM_SECRET, STRIPE_KEY, World};

/// How a run ended.
#[derive(Debug)]
pub struct Ended {
    /// The exit code.
    pub code: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Ended {
    fn of(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Self { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
    }

    /// It went well; what it printed, read as JSON.
    pub fn json(&self) -> Value {
        assert_eq!(self.code, 0, "{self:?}");
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// It ended with this code, and said this on standard error.
    pub fn assert_refused(&self, code: i32, says: &[&str]) {
        assert_eq!(self.code, code, "{self:?}");
        for said in says {
            assert!(self.err.contains(said), "{said} is missing: {self:?}");
        }
    }
}

/// The program with these arguments and nothing of this process's environment but where programs are.
pub fn bare(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluicegate"));
    command.args(arguments).env_clear().stdin(Stdio::null()).kill_on_drop(true);
    for name in ["PATH", "PG_BIN_DIR", "HOME"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command
}

/// Runs it to its end.
pub async fn ended(mut command: Command) -> Ended {
    Ended::of(command.output().await.unwrap())
}

impl World {
    /// The program, configured as the service of this world is.
    pub fn program(&self, arguments: &[&str]) -> Command {
        let mut command = bare(arguments);
        command.env("DATABASE_URL", &self.db.url);
        command.env("STRIPE_SECRET_KEY", STRIPE_KEY).env("STRIPE_API_BASE", self.sandbox.url());
        command
    }

    /// Runs the program to its end.
    pub async fn run(&self, arguments: &[&str]) -> Ended {
        ended(self.program(arguments)).await
    }
}

/// The program as a service, in a process of its own.
pub struct Served(Child);

impl World {
    /// Ends the service within this process and starts the program in its place: same address, database and Stripe.
    /// What belongs to a whole process, its metrics and its spans, is then this world's alone.
    pub async fn serve(&mut self, environment: &[(&str, &str)]) -> Served {
        self.stop_service().await;
        let mut command = self.program(&["serve"]);
        command.env("SLUICEGATE_LISTEN", self.api.base.trim_start_matches("http://"));
        command.env("SLUICEGATE_ADMIN_KEY", ADMIN_KEY).env("SLUICEGATE_STRIPE_RATE", "0");
        command.env("STRIPE_WEBHOOK_SECRETS", format!("platform={PLATFORM_SECRET},connect={CONNECT_SECRET}"));
        command.envs(environment.iter().copied());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut said = BufReader::new(child.stdout.take().unwrap()).lines();
        let listening = said.next_line().await.unwrap().unwrap_or_default();
        assert_eq!(listening, format!("listening on {}", self.api.base));
        Served(child)
    }
}

impl Served {
    /// Ends it as a service manager does; it must end well.
    pub async fn stop(mut self) {
        let pid = self.0.id().unwrap().to_string();
        assert!(std::process::Command::new("kill").arg(pid).status().unwrap().success());
        assert!(self.0.wait().await.unwrap().success());
    }
}
