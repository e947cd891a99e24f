//! What the kernel says about this process: processor time, memory and descriptors.
//!
//! Read from `/proc` at each request, under the names of Prometheus's client libraries. What
//! cannot be read is left out.

use std::fs;

/// Name, help and type of each value, in the order of [`values`].
const METRICS: [(&str, &str, &str); 6] = [
    (
        "process_cpu_seconds_total",
        "Total user and system CPU time spent in seconds.",
        "counter",
    ),
    (
        "process_max_fds",
        "Maximum number of open file descriptors.",
        "gauge",
    ),
    (
        "process_open_fds",
        "Number of open file descriptors.",
        "gauge",
    ),
    (
        "process_resident_memory_bytes",
        "Resident memory size in bytes.",
        "gauge",
    ),
    (
        "process_threads",
        "Number of OS threads in the process.",
        "gauge",
    ),
    (
        "process_virtual_memory_bytes",
        "Virtual memory size in bytes.",
        "gauge",
    ),
];

/// Every value that could be read.
pub(super) fn values() -> Vec<(&'static str, f64)> {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let open = fs::read_dir("/proc/self/fd").ok().map(Iterator::count);
    #[expect(clippy::cast_precision_loss, reason = "a few thousand descriptors")]
    let read = [
        cpu_seconds(&stat),
        field(&limits, "Max open files")
            .and_then(|limits| limits.split_whitespace().next()?.parse().ok()),
        open.map(|open| open as f64),
        kilobytes(&status, "VmRSS:"),
        field(&status, "Threads:").and_then(|threads| threads.trim().parse().ok()),
        kilobytes(&status, "VmSize:"),
    ];
    METRICS
        .iter()
        .zip(read)
        .filter_map(|((name, ..), value)| Some((*name, value?)))
        .collect()
}

/// The values in Prometheus's text format.
pub(super) fn exposition() -> String {
    let mut text = String::new();
    for (name, value) in values() {
        for (_, help, kind) in METRICS.iter().filter(|(known, ..)| *known == name) {
            text.push_str(&format!(
                "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n"
            ));
        }
    }
    text
}

/// User and system time. The kernel counts both in hundredths of a second on every Linux platform.
fn cpu_seconds(stat: &str) -> Option<f64> {
    const TICKS_PER_SECOND: f64 = 100.0;
    // Fields count from behind the program's name, which may hold spaces and parentheses.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) / TICKS_PER_SECOND)
}

fn kilobytes(text: &str, name: &str) -> Option<f64> {
    let kilobytes: f64 = field(text, name)?
        .trim()
        .strip_suffix("kB")?
        .trim()
        .parse()
        .ok()?;
    Some(kilobytes * 1024.0)
}

/// The rest of the line that begins with `name`.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_can_be_read() {
        let values = values();
        assert_eq!(values.len(), METRICS.len());
        let of = |name: &str| values.iter().find(|(known, _)| *known == name).unwrap().1;
        assert!(of("process_resident_memory_bytes") > 100_000.0);
        assert!(of("process_open_fds") >= 3.0);
        assert!(of("process_virtual_memory_bytes") >= of("process_resident_memory_bytes"));
        assert!(exposition().contains("# TYPE process_open_fds gauge\nprocess_open_fds "));
    }

    #[test]
    fn processor_time_is_found_behind_any_program_name() {
        let stat = "1 (a) b) S 1 1 1 0 -1 4194560 1 2 3 4 250 50 7 8 20 0 1 0";
        assert_eq!(cpu_seconds(stat), Some(3.0));
        assert_eq!(cpu_seconds("nothing"), None);
    }
}
