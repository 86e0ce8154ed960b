//! Makes a cluster and runs its server: initdb beside the final place, one server per data folder, reached
//! through a unix socket that nobody else can open. It never listens on a network port.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use super::Durability;
use super::error::EmbeddedError;
use super::find::Binaries;
use super::home::Home;
use super::tether::{self, Guarded, Tether};

/// The database every cluster is born with, besides `postgres`.
pub const DATABASE: &str = "sluicegate";

const LOOK_EVERY: Duration = Duration::from_millis(10);

/// A running private Postgres. Stops when dropped, which blocks until the server is down.
pub struct Cluster {
    // Dropped in this order: the lock goes last, after the server no longer uses the folder.
    server: Guarded,
    socket: PathBuf,
    version: String,
    home: Home,
}

impl Cluster {
    /// The address of a database, for sqlx or any libpq: `postgresql://postgres@localhost/<db>?host=<folder>`.
    pub fn url(&self, db: &str) -> String {
        url_of(&self.socket, db)
    }

    /// The server's version as it tells it, such as `17.10`.
    pub fn server_version(&self) -> &str {
        &self.version
    }

    /// The server's process id.
    pub fn server_pid(&self) -> i32 {
        self.server.pid
    }

    /// The folder the cluster really lives in: the one asked for, or its stand-in.
    pub fn dir(&self) -> &Path {
        &self.home.dir
    }

    /// The server's log file.
    pub fn log(&self) -> &Path {
        &self.home.log
    }

    /// Ends the server: disconnects clients, writes a checkpoint, waits. Does what dropping does.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.server.stop();
        if !self.socket.starts_with(&self.home.dir) {
            drop(fs::remove_dir_all(&self.socket));
        }
    }
}

/// The address of a database on the server with its socket in this folder.
pub(super) fn url_of(socket: &Path, db: &str) -> String {
    let (db, host) = (percent(db.as_bytes()), percent(socket.as_os_str().as_encoded_bytes()));
    format!("postgresql://postgres@localhost/{db}?host={host}")
}

/// Makes the cluster if there is none yet. A killed initdb leaves only an `init-` folder.
pub(super) fn init(home: &Home, binaries: &Binaries, durability: Durability) -> Result<(), EmbeddedError> {
    let staging = home.dir.join(format!("init-{}", std::process::id()));
    home.private_folder(&staging)?;

    let mut initdb = helper(home, &binaries.bin.join("initdb"));
    // The locale C sorts alike on every machine and exists on all of them. `trust` is safe because only the
    // server's user (and root) can open the folder of the socket.
    initdb.args(["--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C"]);
    match durability {
        Durability::Durable => initdb.arg("--data-checksums"),
        Durability::ServerOnly | Durability::Throwaway => initdb.arg("--no-sync"),
    };
    initdb.arg("--pgdata").arg(&staging);
    finish(initdb, "initdb", "")?;

    // Fetched packages bring no psql; the server's single-user mode makes the database before anyone connects.
    let mut single = helper(home, &binaries.bin.join("postgres"));
    single.arg("--single").args(settings(durability)).arg("-D").arg(&staging).arg("postgres");
    let said = finish(single, "postgres --single", &format!("create database {DATABASE};\n"))?;
    if said.contains("ERROR:") || said.contains("FATAL:") {
        return Err(EmbeddedError::Program {
            program: "postgres --single".into(),
            output: last_lines(&said),
        });
    }

    fs::rename(&staging, &home.data).map_err(EmbeddedError::path("put in place", &home.data))?;
    if durability == Durability::Durable {
        let synced = File::open(&home.dir).and_then(|dir| dir.sync_all());
        synced.map_err(EmbeddedError::path("sync", &home.dir))?;
    }
    Ok(())
}

/// Starts the server and waits until it accepts connections.
pub(super) fn launch(
    home: Home,
    binaries: Binaries,
    durability: Durability,
    tether: Tether,
) -> Result<Cluster, EmbeddedError> {
    let socket = home.socket_folder()?;
    let program = binaries.bin.join("postgres");
    let mut command = tether::command(&program, tether);
    clean(&mut command, &home);
    command.arg("-D").arg(&home.data).args(settings(durability));
    // The setting is a list: quotes keep commas and blanks in the path.
    let quoted = socket.to_string_lossy().replace('"', "\"\"");
    command.args(["-c", &format!("unix_socket_directories=\"{quoted}\"")]);
    command.args(["-c", "listen_addresses=", "-c", "port=5432", "-c", "unix_socket_permissions=0700"]);
    command.args(["-c", "timezone=UTC", "-c", "log_timezone=UTC"]);

    let log = home.fresh_log()?;
    let server = Guarded::spawn(command, log, tether).map_err(EmbeddedError::path("start", &program))?;
    // From here on an early return stops the server: `Guarded` does when dropped.
    await_ready(&home, &server, durability)?;
    Ok(Cluster { server, socket, version: binaries.version, home })
}

/// Line 8 of `postmaster.pid` says `ready` once connections are let in; line 1 tells whose file it is.
fn await_ready(home: &Home, server: &Guarded, durability: Durability) -> Result<(), EmbeddedError> {
    // Replaying the log after a crash may take minutes; a throwaway cluster has nothing worth that wait.
    let patience_s = match durability {
        Durability::Durable => 300,
        Durability::ServerOnly | Durability::Throwaway => 60,
    };
    let pid = server.pid.to_string();
    for _ in 0..patience_s * 100 {
        let text = fs::read_to_string(home.data.join("postmaster.pid")).unwrap_or_default();
        let mut lines = text.lines().map(str::trim);
        if lines.next() == Some(&pid) && lines.nth(6) == Some("ready") {
            return Ok(());
        }
        if let Some(status) = server.ended() {
            return Err(failure(home, format!("ended while starting ({status})")));
        }
        thread::sleep(LOOK_EVERY);
    }
    Err(failure(home, format!("was not ready after {patience_s} s")))
}

fn failure(home: &Home, why: String) -> EmbeddedError {
    let text = fs::read(&home.log).unwrap_or_default();
    EmbeddedError::Server { why, log: home.log.clone(), tail: last_lines(&String::from_utf8_lossy(&text)) }
}

/// Tests throw the data away, so no write need reach the disk; anything else keeps Postgres's own defaults.
fn settings(durability: Durability) -> Vec<&'static str> {
    match durability {
        Durability::Durable => Vec::new(),
        Durability::ServerOnly | Durability::Throwaway => [
            "fsync=off",
            // What a killed server wrote, the system still writes out: only a waiting commit would be lost.
            if durability == Durability::ServerOnly {
                "synchronous_commit=on"
            } else {
                "synchronous_commit=off"
            },
            "full_page_writes=off",
            "autovacuum=off",
            "max_connections=200",
        ]
        .into_iter()
        .flat_map(|setting| ["-c", setting])
        .collect(),
    }
}

/// A program of Postgres's that runs to its end while we wait, and ends if we do.
fn helper(home: &Home, program: &Path) -> Command {
    let mut command = Command::new(program);
    clean(&mut command, home);
    tether::die_with_caller(&mut command);
    command
}

/// Runs as the right user, from a folder that user can be in, in English, and deaf to our own PG* variables:
/// PGDATA or PGOPTIONS are meant for somebody else's server.
fn clean(command: &mut Command, home: &Home) {
    home.run_as.apply(command);
    command.current_dir("/").env("LC_ALL", "C").env_remove("LANGUAGE");
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"PG")) {
        command.env_remove(name);
    }
}

/// Runs a helper to its end and answers with all it said.
fn finish(mut command: Command, name: &str, input: &str) -> Result<String, EmbeddedError> {
    let failed = |output: String| EmbeddedError::Program { program: name.to_owned(), output };
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| failed(error.to_string()))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A child that ends early breaks the pipe; its exit status says more than that.
        drop(stdin.write_all(input.as_bytes()));
    }
    let output = child.wait_with_output().map_err(|error| failed(error.to_string()))?;
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if output.status.success() {
        Ok(said)
    } else {
        Err(failed(format!("{} ({})", last_lines(&said), output.status)))
    }
}

fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(15)..].join("\n")
}

/// Percent-encodes all but the characters that mean nothing in a URL.
fn percent(bytes: &[u8]) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(byte);
    bytes
        .iter()
        .map(|byte| if plain(byte) { char::from(*byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}
