//! The server that another process runs in a data directory: where it listens, once it answers.
//!
//! Postgres itself writes that down in `postmaster.pid`, so nothing has to be agreed on between the two processes.
//! Whoever may open the folder may connect: the socket in it asks for no password.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use super::cluster::url_of;

const LOOK_EVERY: Duration = Duration::from_millis(50);
/// A server that replays its log after a crash may need longer; then the command says so and can be repeated.
const LOOKS: u32 = 600;

/// A server that somebody else owns: it may end at any time, and is not ended by us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attached {
    socket: PathBuf,
}

impl Attached {
    /// The address of a database, as [`super::Cluster::url`] gives it.
    pub fn url(&self, db: &str) -> String {
        url_of(&self.socket, db)
    }
}

/// Waits until the server of this data directory lets connections in. None where its owner went away meanwhile, or
/// where it takes too long.
pub(super) fn attach(dir: &Path) -> Option<Attached> {
    for _ in 0..LOOKS {
        if !is_held(dir) {
            return None;
        }
        if let Some(attached) = running(dir) {
            return Some(attached);
        }
        thread::sleep(LOOK_EVERY);
    }
    None
}

/// Whether a process holds the folder: without one, a file of a killed server may still say that it is ready.
pub(super) fn is_held(dir: &Path) -> bool {
    let lock = fs::File::options().write(true).open(dir.join("lock"));
    lock.is_ok_and(|lock| lock.try_lock().is_err())
}

/// The server as its file describes it: line 5 is the folder of its socket, line 8 says that it is ready.
pub(super) fn running(dir: &Path) -> Option<Attached> {
    let text = fs::read_to_string(dir.join("data/postmaster.pid")).ok()?;
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    match lines.as_slice() {
        [_, _, _, _, socket, _, _, "ready", ..] if !socket.is_empty() => {
            Some(Attached { socket: PathBuf::from(socket) })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_reached_only_once_it_is_ready() {
        let dir = std::env::temp_dir().join(format!("sluicegate-attach-{}", std::process::id()));
        fs::create_dir_all(dir.join("data")).unwrap();
        let written = |text: &str| {
            fs::write(dir.join("data/postmaster.pid"), text).unwrap();
            running(&dir).map(|attached| attached.url("db"))
        };
        let head = "42\n/d/data\n1760000000\n5432\n/d/a sock\n\n  1  2\n";
        assert_eq!(written(head), None);
        assert_eq!(written(&format!("{head}starting\n")), None);
        assert_eq!(
            written(&format!("{head}ready   \n")).as_deref(),
            Some("postgresql://postgres@localhost/db?host=/d/a%20sock")
        );
        assert_eq!(attach(&dir.join("nowhere")), None);
        fs::remove_dir_all(&dir).unwrap();
    }
}
