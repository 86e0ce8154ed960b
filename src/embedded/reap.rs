//! Deals with what a killed owner may have left in a data directory: a server still shutting down, or a
//! `postmaster.pid` that names a process which is not a server.
//!
//! Called only by the holder of the directory's lock, so whatever server is found has no owner any more.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use super::error::EmbeddedError;
use super::tether::signal;

const LOOK_EVERY: Duration = Duration::from_millis(10);
const LOOKS_PER_SECOND: u32 = 100;
/// From which second on which signal. A death signal has usually begun a fast shutdown already; a second
/// SIGINT does no harm.
const PATIENCE: [(u32, i32); 3] = [(0, libc::SIGINT), (20, libc::SIGQUIT), (30, libc::SIGKILL)];
const GIVE_UP_AFTER_S: u32 = 40;

/// Waits until no server runs in `data`, pressing harder with time, then removes a pid file that would keep
/// the next one from starting.
pub(super) fn clear(data: &Path) -> Result<(), EmbeddedError> {
    for look in 0..GIVE_UP_AFTER_S * LOOKS_PER_SECOND {
        let servers = servers_in(data);
        if servers.is_empty() {
            remove_stale_pid_file(data);
            return Ok(());
        }
        let (second, rest) = (look / LOOKS_PER_SECOND, look % LOOKS_PER_SECOND);
        let due = PATIENCE.iter().find(|(from, _)| rest == 0 && *from == second);
        if let Some((_, number)) = due {
            tracing::info!(?servers, signal = number, "ending a postgres whose owner is gone");
            // Only the postmaster takes orders; to its children SIGINT means "cancel the query". Without a
            // postmaster they end by themselves, and when patience is over all are killed alike.
            let postmaster = pid_in(data);
            let all = *number == libc::SIGKILL;
            servers
                .iter()
                .filter(|pid| all || Some(**pid) == postmaster)
                .for_each(|pid| signal(*pid, *number));
        }
        thread::sleep(LOOK_EVERY);
    }
    let pid = servers_in(data).first().copied().unwrap_or_default();
    Err(EmbeddedError::Undead { data: data.to_owned(), pid })
}

/// The pid in the first line of `postmaster.pid`.
fn pid_in(data: &Path) -> Option<i32> {
    let text = fs::read_to_string(data.join("postmaster.pid")).ok()?;
    text.lines().next()?.trim().parse().ok().map(i32::abs)
}

/// Postgres refuses to start while the pid in its file is taken, even by a zombie or by a stranger who got the
/// number later. A file whose pid is free is left for Postgres itself, which then also makes sure that no
/// child of the dead server still holds its shared memory.
fn remove_stale_pid_file(data: &Path) {
    if pid_in(data).is_some_and(is_taken) {
        drop(fs::remove_file(data.join("postmaster.pid")));
    }
}

/// Live postgres processes (servers and their children) that work in `data`. Zombies hold nothing.
#[cfg(target_os = "linux")]
pub(super) fn servers_in(data: &Path) -> Vec<i32> {
    let Ok(data) = data.canonicalize() else { return Vec::new() };
    let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
    processes
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| {
            let proc = Path::new("/proc").join(pid.to_string());
            // A zombie's cwd cannot be read, so it is left out here.
            fs::read_link(proc.join("cwd")).is_ok_and(|cwd| cwd == data)
                && fs::read_to_string(proc.join("comm")).is_ok_and(|comm| comm.trim() == "postgres")
        })
        .collect()
}

/// Without /proc only the server named in the pid file can be asked about.
#[cfg(not(target_os = "linux"))]
pub(super) fn servers_in(data: &Path) -> Vec<i32> {
    let is_server = |pid: &i32| {
        let line = ps(*pid);
        line.contains("postgres") && !line.trim_start().starts_with('Z')
    };
    pid_in(data).filter(is_server).into_iter().collect()
}

#[cfg(target_os = "linux")]
fn is_taken(pid: i32) -> bool {
    Path::new("/proc").join(pid.to_string()).exists()
}

#[cfg(not(target_os = "linux"))]
fn is_taken(pid: i32) -> bool {
    !ps(pid).trim().is_empty()
}

#[cfg(not(target_os = "linux"))]
fn ps(pid: i32) -> String {
    let output =
        std::process::Command::new("ps").args(["-o", "stat=,comm=", "-p", &pid.to_string()]).output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default()
}
