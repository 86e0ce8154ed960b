//! What the operating system says of this process, under the names that every Prometheus client library uses.
//!
//! Read from `/proc` at each scrape: a few microseconds. Where there is no `/proc`, nothing is told.

use std::fmt::Write as _;

/// Adds the process's metrics to the text.
pub fn render_into(text: &mut String) {
    let mut told = |name: &str, kind: &str, help: &str, value: f64| {
        // Writing to a String can't fail.
        let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n\n");
    };
    let read = |file: &str| std::fs::read_to_string(file).unwrap_or_default();
    let (stat, status) = (read("/proc/self/stat"), read("/proc/self/status"));
    let Some(times) = times(&stat) else { return };
    told("process_cpu_seconds_total", "counter", "User and system CPU time", times.cpu_seconds);
    if let Some(resident) = bytes(&status, "VmRSS:") {
        told("process_resident_memory_bytes", "gauge", "Resident memory", resident);
    }
    if let Some(whole) = bytes(&status, "VmSize:") {
        told("process_virtual_memory_bytes", "gauge", "Virtual memory", whole);
    }
    if let Some(boot) = boot_time(&read("/proc/stat")) {
        let started_at = boot + times.started_after_boot;
        told("process_start_time_seconds", "gauge", "When the process began, as a Unix time", started_at);
    }
    if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
        // The directory itself is open while it is counted.
        let open = u32::try_from(open.count().saturating_sub(1)).map_or(f64::INFINITY, f64::from);
        told("process_open_fds", "gauge", "Open file descriptors", open);
    }
}

/// Linux counts in hundredths of a second towards programs, whatever the kernel's own clock does.
const TICKS_PER_SECOND: f64 = 100.0;

#[derive(Debug, PartialEq)]
struct Times {
    cpu_seconds: f64,
    started_after_boot: f64,
}

/// Fields are counted from behind the program's name, which may hold anything; see proc(5).
fn times(stat: &str) -> Option<Times> {
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    // The first field here is the third of proc(5).
    let seconds = |nth: usize| Some(fields.get(nth - 3)?.parse::<f64>().ok()? / TICKS_PER_SECOND);
    Some(Times { cpu_seconds: seconds(14)? + seconds(15)?, started_after_boot: seconds(22)? })
}

/// A line like `VmRSS:  1844 kB`.
fn bytes(status: &str, name: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kilobytes: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024.0)
}

fn boot_time(stat: &str) -> Option<f64> {
    stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_systems_line_is_read_whatever_the_program_is_called() {
        let stat =
            "4242 (a) b ( c) S 1 4242 4242 0 -1 4194560 100 0 3 0 250 50 0 0 20 0 9 0 9000 104857600 2560";
        assert_eq!(times(stat), Some(Times { cpu_seconds: 3.0, started_after_boot: 90.0 }));
        assert_eq!(times("4242 (cut"), None);
        assert_eq!(bytes("VmSize:\t  20 kB\nVmRSS:\t    8 kB\n", "VmRSS:"), Some(8192.0));
        assert_eq!(boot_time("cpu 1 2\nbtime 1763712000\n"), Some(1_763_712_000.0));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_has_memory_and_began_in_the_past() {
        let mut text = String::new();
        render_into(&mut text);
        let value = |name: &str| -> f64 {
            let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name} ")));
            line.unwrap().parse().unwrap()
        };
        assert!(value("process_resident_memory_bytes") > 1_000_000.0, "{text}");
        assert!(value("process_open_fds") >= 3.0, "{text}");
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
        let age = now - value("process_start_time_seconds");
        assert!((-2.0..86_400.0).contains(&age), "it began {age} s ago");
    }
}
