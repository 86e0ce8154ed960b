//! What the system has counted about a process: CPU and peak memory, from Linux's /proc. Elsewhere nothing is known.
//!
//! CPU of a parent and its children is exact although children end: what an ended child used is added to its
//! parent's own count the moment it is reaped, so one sum over parent and living children holds everything.

use std::fs;
use std::time::Duration;

/// /proc counts in hundredths of a second on every architecture, whatever the kernel's own tick is.
const TICK: Duration = Duration::from_millis(10);
/// How often a sum is tried until no child ended while it was made.
const TRIES: usize = 20;

/// The numbers of one line of /proc/PID/stat.
struct Stat {
    parent: u32,
    own: u64,
    reaped: u64,
}

fn stat(pid: &str) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the program's name in brackets, and may itself hold spaces and brackets.
    let (_, rest) = text.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let number = |place: usize| fields.get(place)?.parse::<u64>().ok();
    let parent = u32::try_from(number(1)?).ok()?;
    Some(Stat { parent, own: number(11)? + number(12)?, reaped: number(13)? + number(14)? })
}

fn ticks(count: u64) -> Duration {
    TICK.saturating_mul(u32::try_from(count).unwrap_or(u32::MAX))
}

/// What a process has used, all its threads together.
pub fn cpu(pid: u32) -> Option<Duration> {
    stat(&pid.to_string()).map(|stat| ticks(stat.own))
}

/// What a process and all its children have used, those that ended included.
pub fn cpu_of_family(parent: u32) -> Option<Duration> {
    let name = parent.to_string();
    let mut sum = None;
    for _ in 0..TRIES {
        let before = stat(&name)?;
        let children = fs::read_dir("/proc").ok()?.filter_map(Result::ok).filter_map(|entry| {
            let pid = entry.file_name().into_string().ok()?;
            pid.parse::<u32>().ok()?;
            stat(&pid).filter(|child| child.parent == parent)
        });
        let living: u64 = children.map(|child| child.own + child.reaped).sum();
        let after = stat(&name)?;
        sum = Some(ticks(after.own + after.reaped + living));
        if before.reaped == after.reaped {
            break;
        }
    }
    sum
}

/// What the children that this process has reaped used.
pub fn cpu_of_reaped() -> Option<Duration> {
    stat("self").map(|stat| ticks(stat.reaped))
}

/// What the calling thread has used.
pub fn cpu_of_thread() -> Option<Duration> {
    let text = fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    text.split_whitespace().next()?.parse().ok().map(Duration::from_nanos)
}

/// The parent of a process.
pub fn parent(pid: u32) -> Option<u32> {
    stat(&pid.to_string()).map(|stat| stat.parent)
}

/// The program's name, as the kernel keeps it.
pub fn name(pid: u32) -> Option<String> {
    fs::read_to_string(format!("/proc/{pid}/comm")).ok().map(|text| text.trim().to_owned())
}

/// The most memory a process has held at once (VmHWM), in MiB.
pub fn peak_mib(pid: u32) -> Option<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: f64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib / 1024.0)
}

/// The processor's name.
pub fn processor() -> Option<String> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    line.split_once(':').map(|(_, name)| name.trim().to_owned())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn what_ended_children_used_is_not_lost() {
        let me = std::process::id();
        let before = cpu_of_family(me).unwrap();
        let spin = "i=0; while [ $i -lt 60000 ]; do i=$((i+1)); done";
        for _ in 0..3 {
            assert!(std::process::Command::new("sh").args(["-c", spin]).status().unwrap().success());
        }
        let spent = cpu_of_family(me).unwrap() - before;
        assert!(spent >= Duration::from_millis(30), "{spent:?}");
        assert!(cpu_of_family(me).unwrap() >= cpu(me).unwrap() + cpu_of_reaped().unwrap());
        assert!(peak_mib(me).unwrap() > 1.0);
        assert_eq!(parent(me), stat("self").map(|stat| stat.parent));
    }
}
