//! Ties a server's life to this process, so that even a SIGKILL of ours leaves no Postgres behind.
//!
//! Linux sends the server a signal when its parent dies. Elsewhere a small `sh` stands between, which sees the
//! pipe from us close. All of the program's unsafe code is in this file.
#![expect(unsafe_code, reason = "prctl, getppid, pre_exec and kill have no safe form in std")]

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// How long the guarding thread sleeps between looks at a server that nobody has asked to stop.
const LOOK_EVERY: Duration = Duration::from_millis(100);
const LOOK_WHILE_STOPPING: Duration = Duration::from_millis(2);

/// Runs the server given as `"$0" "$@"`, tells its pid, and ends it once standard input closes. A background
/// job's own standard input is /dev/null in sh, hence the copy in descriptor 3.
const TETHER_SH: &str = r#"exec 3<&0
"$0" "$@" >&2 3<&- & p=$!
echo $p
exec >&2
(cat <&3 >/dev/null; kill -INT $p 2>/dev/null) & c=$!
exec 3<&- </dev/null
wait $p; s=$?
kill $c 2>/dev/null
exit $s"#;

/// How the operating system is made to end the server when we die.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tether {
    /// Linux: the kernel sends SIGINT when the thread that forked ends.
    DeathSignal,
    /// Anywhere: a pipe that the kernel closes for us.
    #[cfg_attr(
        all(target_os = "linux", not(test)),
        expect(dead_code, reason = "macOS's way; Linux runs it in a test only")
    )]
    Pipe,
}

impl Tether {
    /// What works on this system.
    #[cfg(target_os = "linux")]
    pub const NATIVE: Self = Self::DeathSignal;
    /// What works on this system.
    #[cfg(not(target_os = "linux"))]
    pub const NATIVE: Self = Self::Pipe;
}

/// A running server and the thread that forked it and alone may reap it, so that no signal ever goes to a
/// recycled pid.
#[derive(Debug)]
pub(super) struct Guarded {
    pub pid: i32,
    orders: Sender<i32>,
    gone: Receiver<ExitStatus>,
    thread: Option<JoinHandle<()>>,
}

impl Guarded {
    /// Starts the server with its output in `log`.
    pub fn spawn(mut command: Command, log: File, tether: Tether) -> io::Result<Self> {
        let (orders, orders_in) = channel();
        let (gone_out, gone) = channel();
        let (started_out, started) = channel();
        // PR_SET_PDEATHSIG fires when the forking *thread* ends; a thread of tokio's blocking pool ends when
        // idle. This one lives exactly as long as the server.
        let guard = move || match fork(&mut command, log, tether) {
            Ok((child, pid)) => {
                if started_out.send(Ok(pid)).is_ok() {
                    watch(child, pid, &orders_in, &gone_out);
                }
            }
            Err(error) => drop(started_out.send(Err(error))),
        };
        let thread = thread::Builder::new().name("postgres-guard".to_owned()).spawn(guard)?;
        let lost = || Err(io::Error::other("the thread that starts Postgres died"));
        let pid = started.recv().unwrap_or_else(|_| lost())?;
        Ok(Self { pid, orders, gone, thread: Some(thread) })
    }

    /// Whether the server has ended; true again and again is not promised.
    pub fn ended(&self) -> Option<ExitStatus> {
        self.gone.try_recv().ok()
    }

    /// Asks politely first: SIGINT disconnects clients and writes a checkpoint; SIGQUIT leaves recovery to the
    /// next start; SIGKILL cannot be refused.
    pub fn stop(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        for (signal, patience_s) in [(libc::SIGINT, 30), (libc::SIGQUIT, 10), (libc::SIGKILL, 10)] {
            // A thread that is gone takes no order, and the answer below says so.
            let _ = self.orders.send(signal);
            let answer = self.gone.recv_timeout(Duration::from_secs(patience_s));
            if !matches!(answer, Err(RecvTimeoutError::Timeout)) {
                drop(thread.join());
                return;
            }
            tracing::warn!(pid = self.pid, signal, "postgres does not end");
        }
        // A server that cannot even be killed is left to its thread rather than waited for.
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Lets a program be ended (SIGINT) with the thread that starts it, which must outlive it: no thread of tokio's blocking
/// pool does. It gets a process group of its own, so that Ctrl-C at a terminal reaches us alone. Linux only; elsewhere
/// it outlives a caller that is killed.
pub fn die_with_caller(command: &mut Command) {
    let parent = std::process::id();
    command.process_group(0);
    // SAFETY: between fork and exec the closure only makes system calls that are async-signal-safe.
    unsafe {
        command.pre_exec(move || request_death_signal(parent));
    }
}

/// Sends a signal to a server that is not our child.
pub(super) fn signal(pid: i32, signal: i32) {
    if pid > 1 {
        // SAFETY: kill has no memory effects; a pid that is gone is answered with an error nobody needs.
        unsafe { libc::kill(pid, signal) };
    }
}

/// Forks; answers with the child and the pid of the server itself, which under [`Tether::Pipe`] is the
/// child's child.
fn fork(command: &mut Command, log: File, tether: Tether) -> io::Result<(Child, i32)> {
    // Its own process group: Ctrl-C at a terminal reaches us alone, and we end the server in order.
    command.process_group(0).stderr(log.try_clone()?);
    match tether {
        Tether::DeathSignal => {
            command.stdin(Stdio::null()).stdout(log);
            die_with_caller(command);
            let child = command.spawn()?;
            let pid = child.id() as i32;
            Ok((child, pid))
        }
        Tether::Pipe => {
            command.stdin(Stdio::piped()).stdout(Stdio::piped());
            let mut child = command.spawn()?;
            let mut line = String::new();
            if let Some(stdout) = child.stdout.take() {
                BufReader::new(stdout).read_line(&mut line)?;
            }
            let pid =
                line.trim().parse().map_err(|_| io::Error::other("sh did not tell the server's pid"))?;
            Ok((child, pid))
        }
    }
}

/// The command that runs `program`, with `sh` between where the tether needs it. Arguments follow as usual.
pub(super) fn command(program: &std::path::Path, tether: Tether) -> Command {
    match tether {
        Tether::DeathSignal => Command::new(program),
        Tether::Pipe => {
            let mut command = Command::new("sh");
            command.arg("-c").arg(TETHER_SH).arg(program);
            command
        }
    }
}

/// Reaps the server, passing on signals until then. Losing the other end counts as an order to stop.
fn watch(mut child: Child, pid: i32, orders: &Receiver<i32>, gone: &Sender<ExitStatus>) {
    let mut stopping = false;
    loop {
        let pause = if stopping { LOOK_WHILE_STOPPING } else { LOOK_EVERY };
        match orders.recv_timeout(pause) {
            Ok(number) => {
                signal(pid, number);
                stopping = true;
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) if stopping => thread::sleep(pause),
            Err(RecvTimeoutError::Disconnected) => {
                signal(pid, libc::SIGINT);
                stopping = true;
            }
        }
        match child.try_wait() {
            Ok(None) => {}
            Ok(Some(status)) => {
                if !stopping {
                    tracing::error!(pid, %status, "the private postgres ended by itself");
                }
                // Nobody may be listening any more; there is nothing left to tell then.
                let _ = gone.send(status);
                return;
            }
            Err(error) => {
                tracing::error!(pid, %error, "the private postgres cannot be waited for");
                return;
            }
        }
    }
}

#[cfg(target_os = "linux")]
fn request_death_signal(parent: u32) -> io::Result<()> {
    // SAFETY: both calls only touch the process's own kernel state.
    let (failed, parent_now) =
        unsafe { (libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGINT, 0, 0, 0) != 0, libc::getppid()) };
    if failed {
        return Err(io::Error::last_os_error());
    }
    // The parent may have died before the request; then no signal will come. An error built from a number
    // alone allocates nothing, which matters between fork and exec.
    if parent_now as u32 == parent { Ok(()) } else { Err(io::Error::from_raw_os_error(libc::ESRCH)) }
}

#[cfg(not(target_os = "linux"))]
fn request_death_signal(_parent: u32) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::find::Search;
    use super::super::home::Home;
    use super::super::{Durability, Options, cluster, reap};
    use super::*;

    fn home(name: &str) -> Home {
        let options = Options {
            data_dir: std::env::temp_dir().join(format!("sluicegate-tether-{name}-{}", std::process::id())),
            pg_bin_dir: None,
            durability: Durability::Throwaway,
            allow_fetch: false,
            say: Box::new(|_| {}),
        };
        Home::claim(&options).unwrap()
    }

    /// The way of macOS, which works anywhere there is a `sh`: the pipe closes as it does when we are killed.
    #[test]
    fn the_server_behind_a_pipe_ends_in_order_once_the_pipe_closes() {
        let home = home("pipe");
        let dir = home.dir.clone();
        let Some(binaries) = Search::this_machine().installed(None) else {
            eprintln!("no Postgres installed: skipped");
            return;
        };
        cluster::init(&home, &binaries, Durability::Throwaway).unwrap();
        let mut command = command(&binaries.bin.join("postgres"), Tether::Pipe);
        home.run_as.apply(&mut command);
        command.current_dir("/").arg("-D").arg(&home.data).args(["-c", "listen_addresses="]);
        let socket = home.socket_folder().unwrap();
        command.args(["-c", &format!("unix_socket_directories={}", socket.display())]);
        let (mut child, pid) = fork(&mut command, home.fresh_log().unwrap(), Tether::Pipe).unwrap();
        let ready = || {
            std::fs::read_to_string(home.data.join("postmaster.pid")).is_ok_and(|text| text.contains("ready"))
        };
        for _ in 0..3_000 {
            if ready() {
                break;
            }
            thread::sleep(Duration::from_millis(10));
        }
        assert!(reap::servers_in(&home.data).contains(&pid));
        drop(child.stdin.take());
        assert!(child.wait().unwrap().success(), "sh passes on the server's own good end");
        assert!(reap::servers_in(&home.data).is_empty());
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_server_that_is_dropped_without_a_word_is_stopped() {
        let mut command = Command::new("sleep");
        command.arg("1000");
        let log = File::create("/dev/null").unwrap();
        let server = Guarded::spawn(command, log, Tether::NATIVE).unwrap();
        let pid = server.pid;
        assert!(server.ended().is_none());
        drop(server);
        assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
    }
}
