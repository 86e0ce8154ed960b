//! What a private Postgres is made of, or would be: a look that makes, starts and fetches nothing.

use std::path::PathBuf;

use super::error::EmbeddedError;
use super::find::{self, Search};
use super::{Attached, Options, attach, fetch, home};

/// Where the server programs come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Programs {
    /// They are there.
    Found {
        /// Like `15.14`.
        version: String,
        /// The folder of initdb and postgres.
        bin: PathBuf,
    },
    /// They would be fetched through this client.
    Fetchable(&'static str),
}

/// What was seen.
#[derive(Debug)]
pub struct Survey {
    /// The cluster's folder, where there is a cluster.
    pub cluster: Option<PathBuf>,
    /// The server that another process runs on it.
    pub running: Option<Attached>,
    /// The programs, or why there are none.
    pub programs: Result<Programs, EmbeddedError>,
}

/// Looks.
///
/// # Errors
/// The data directory can't be resolved, or there is nobody whom Postgres could run as.
pub fn survey(options: &Options) -> Result<Survey, EmbeddedError> {
    let cluster = home::find_cluster(options)?;
    let running = cluster.as_deref().filter(|dir| attach::is_held(dir)).and_then(attach::running);
    let major = cluster.as_ref().and_then(|dir| find::major_of(&dir.join("data")));
    Ok(Survey { programs: programs(options, major), cluster, running })
}

fn programs(options: &Options, major: Option<u32>) -> Result<Programs, EmbeddedError> {
    let found = match &options.pg_bin_dir {
        Some(dir) => Some(find::chosen(dir, major)?),
        None => Search::this_machine().installed(major),
    };
    if let Some(binaries) = found {
        return Ok(Programs::Found { version: binaries.version, bin: binaries.bin });
    }
    match fetch::client(major).filter(|_| options.allow_fetch) {
        Some(client) => Ok(Programs::Fetchable(client)),
        None => Err(EmbeddedError::NoPostgres { needed: find::needed(major), tried: String::new() }),
    }
}
