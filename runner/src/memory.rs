//! Whether the VUs of a run fit into the memory that the process may use, told while they are made:
//! a process that takes more is killed without a word, and with it goes all that it has measured.

use std::fs;

use crate::cgroup;

/// The limit, for whoever knows it better than the control group: bytes, 0 for none.
pub(crate) const LIMIT: &str = "VOLLEY_MEMORY_LIMIT";

/// From so many VUs on the growth so far foretells the rest.
const ENOUGH: u64 = 16;
/// VUs grow while they run: connections, responses, what the script keeps.
const TIGHT: f64 = 0.8;

const MIB: f64 = 1024.0 * 1024.0;

/// A forecast of the memory that VUs take.
pub(crate) struct Forecast {
    /// Bytes that the process may use.
    limit: Option<u64>,
    /// VUs to make before the start, and VUs that there may be in all.
    planned: u64,
    possible: u64,
    /// The first look: VUs made, bytes in use.
    first: Option<(u64, u64)>,
    next: u64,
}

/// What a look has shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outlook {
    /// They fit, or it is too early to say.
    Fine,
    /// They are made, and leave little.
    Tight(String),
    /// They do not fit.
    Hopeless(String),
}

impl Forecast {
    /// For so many VUs before the start, and so many in all.
    pub(crate) fn new(limit: Option<u64>, planned: u64, possible: u64) -> Self {
        Self {
            limit,
            planned,
            possible,
            first: None,
            next: 1,
        }
    }

    /// Looks at what is in use now that so many VUs are made; cheap where there is nothing to see.
    pub(crate) fn look(&mut self, made: u64, in_use: impl Fn() -> Option<u64>) -> Outlook {
        let Some(limit) = self.limit else {
            return Outlook::Fine;
        };
        let last = made >= self.planned;
        if made < self.next && !last {
            return Outlook::Fine;
        }
        // At doubling numbers: a large script is known early, and looks stay few.
        self.next = (made * 2).max(1);
        let Some(used) = in_use() else {
            return Outlook::Fine;
        };
        let (before, first) = *self.first.get_or_insert((made, used));
        let grown = used.saturating_sub(first) as f64;
        let each = grown / made.saturating_sub(before).max(1) as f64;
        let needed = |vus: u64| used as f64 + each * vus.saturating_sub(made) as f64;
        let limit = limit as f64;
        let sure = made >= ENOUGH || used as f64 > limit / 2.0;
        let text = |vus: u64| {
            format!(
                "{vus} VUs of this script need about {:.0} MiB ({:.2} MiB each), and the process may \
                 use {:.0} MiB: raise the memory limit, split the load over more instances, or use \
                 fewer VUs",
                needed(vus) / MIB,
                each / MIB,
                limit / MIB
            )
        };
        if sure && needed(self.planned) > limit {
            return Outlook::Hopeless(text(self.planned));
        }
        if last && needed(self.possible) > limit * TIGHT {
            return Outlook::Tight(text(self.possible));
        }
        Outlook::Fine
    }
}

/// Bytes that the process may use: what the environment says, else the lowest limit of its control
/// groups; `None` without one.
///
/// # Errors
/// When the variable is no number.
pub(crate) fn limit(env: impl Fn(&str) -> Option<String>) -> Result<Option<u64>, String> {
    if let Some(text) = env(LIMIT).filter(|text| !text.is_empty()) {
        let parsed = text.parse::<u64>();
        let bytes =
            parsed.map_err(|_| format!("{LIMIT} has to be a number of bytes, not '{text}'"))?;
        return Ok((bytes > 0).then_some(bytes));
    }
    let second = cgroup::read("memory", "memory.max");
    let second = second.iter().filter_map(|text| text.trim().parse().ok());
    let first = cgroup::read("memory", "memory.stat");
    let first = first.iter().filter_map(|stat| {
        let line = stat
            .lines()
            .find_map(|line| line.strip_prefix("hierarchical_memory_limit "))?;
        line.trim().parse().ok()
    });
    // Version 1 has no word for "none", only a number near the largest.
    Ok(second.chain(first).filter(|bytes| *bytes < 1 << 60).min())
}

/// Bytes of memory that the process has to itself: what a limit counts and cannot be reclaimed.
pub(crate) fn in_use() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"))?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    /// Looks after each VU; answers the first outlook that is not fine, and the VUs made by then.
    fn outlook(limit: u64, planned: u64, possible: u64, each: u64) -> Option<(u64, Outlook)> {
        let mut forecast = Forecast::new(Some(limit * MIB), planned, possible);
        (1..=planned).find_map(|made| {
            let found = forecast.look(made, || Some(30 * MIB + made * each));
            (found != Outlook::Fine).then_some((made, found))
        })
    }

    #[test]
    fn what_does_not_fit_is_known_early() {
        assert_eq!(outlook(1_000, 1_000, 1_000, MIB / 2), None);
        let (made, found) = outlook(1_000, 10_000, 10_000, MIB / 2).expect("too many");
        assert_eq!(made, 16);
        let text = "10000 VUs of this script need about 5030 MiB (0.50 MiB each), and the process \
                    may use 1000 MiB: raise the memory limit, split the load over more instances, \
                    or use fewer VUs";
        assert_eq!(found, Outlook::Hopeless(text.to_owned()));
        // A few large ones are known before they are many.
        let (made, found) = outlook(1_000, 12, 12, 200 * MIB).expect("too large");
        assert!(matches!(found, Outlook::Hopeless(_)));
        assert_eq!(made, 4);
    }

    #[test]
    fn what_leaves_little_is_a_warning_at_the_end() {
        let (made, found) = outlook(1_000, 1_700, 1_700, MIB / 2).expect("880 MiB");
        assert_eq!(made, 1_700);
        assert!(matches!(found, Outlook::Tight(_)));
        // VUs that may come later count, and refuse nothing.
        let (made, found) = outlook(1_000, 100, 5_000, MIB / 2).expect("2,530 MiB");
        assert_eq!(made, 100);
        assert!(matches!(found, Outlook::Tight(text) if text.starts_with("5000 VUs")));
    }

    #[test]
    fn the_environment_knows_better() {
        let with = |text: &str| limit(|name| (name == LIMIT).then(|| text.to_owned()));
        assert_eq!(with("1048576"), Ok(Some(1_048_576)));
        assert_eq!(with("0"), Ok(None));
        assert!(with("1GB").unwrap_err().contains("'1GB'"));
        assert!(limit(|_| None).is_ok());
        assert!(in_use().expect("the kernel counts it") > 1 << 20);
    }
}
