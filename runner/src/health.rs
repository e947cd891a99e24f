//! Whether the generator itself keeps up: how late starts were, how far the workers' loops were
//! behind, and what the system did to the process.
//!
//! A test whose generator is short of CPU measures the generator. So these numbers are always
//! taken: they are on `/metrics` under `volley_…`, and a summary that is not to be trusted says so
//! in one line. k6's own metrics are untouched.

use std::{
    fs,
    sync::{Arc, LazyLock, OnceLock},
    time::Duration,
};

use volley_metrics::{Bounds, Exposition, FamilyKind};

use crate::{cgroup, executor::Progress, lateness::Lateness};

/// Later than this is late.
const LATE: Duration = Duration::from_millis(10);
/// A loop that is further behind than this delays whatever its VUs measure.
const BEHIND: Duration = Duration::from_millis(50);
/// One hiccup of a machine proves nothing.
const FEW: u64 = 5;

/// The upper bounds of the histograms on `/metrics`, in seconds.
const BOUNDS: [f64; 16] = [
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 10.0,
];

/// Which part of which test this instance runs.
#[derive(Debug)]
pub(crate) struct RunInfo {
    /// Its part of the whole, `0:1/3`.
    pub(crate) segment: String,
    /// How many instances there are to be.
    pub(crate) instances: usize,
    /// What they run.
    pub(crate) script_sha256: String,
}

/// What is known of the generator's own state.
#[derive(Default)]
pub(crate) struct Health {
    /// How late the workers' ticks were.
    pub(crate) loops: Lateness,
    scenarios: OnceLock<Vec<Arc<Progress>>>,
    info: OnceLock<RunInfo>,
    /// When the load began.
    before: OnceLock<Pressure>,
}

impl Health {
    /// Names the scenarios whose starts count.
    pub(crate) fn watch(&self, scenarios: Vec<Arc<Progress>>) {
        let _ = self.scenarios.set(scenarios);
    }

    /// Says what the run is.
    pub(crate) fn describe(&self, info: RunInfo) {
        let _ = self.info.set(info);
    }

    /// The load begins: what happened before does not count.
    pub(crate) fn begin(&self) {
        let _ = self.before.set(Pressure::now());
    }

    fn starts(&self) -> impl Iterator<Item = (&Progress, &Lateness)> {
        let scenarios = self.scenarios.get().into_iter().flatten();
        scenarios.filter_map(|s| Some((&**s, &**s.lateness.get()?)))
    }

    /// The line of a summary that is not to be trusted, and why.
    pub(crate) fn verdict(&self, run: Duration) -> Option<String> {
        let pressure = self
            .before
            .get()
            .map(|before| Pressure::now().since(before));
        let pressure = pressure.unwrap_or_default();
        let mut signs = Vec::new();
        let worst = self
            .starts()
            .filter(|(_, late)| too_many(late, LATE))
            .max_by_key(|(_, late)| late.quantile(0.99));
        if let Some((_, late)) = worst {
            signs.push(format!(
                "starts were up to {} late (1 % more than {})",
                short(late.max()),
                short(late.quantile(0.99))
            ));
        }
        if too_many(&self.loops, BEHIND) {
            let text = format!("workers were up to {} behind", short(self.loops.max()));
            signs.push(text);
        }
        let throttled = pressure.throttled.unwrap_or_default();
        // Kubernetes throttles in periods of 100 ms: a tenth of the time is several of them a second.
        if throttled * 10 > run && throttled > Duration::from_millis(500) {
            signs.push(format!("the CPU quota stopped it for {}", short(throttled)));
        } else if !signs.is_empty() && pressure.waited * 10 > run {
            signs.push(format!(
                "they waited {} for a processor",
                short(pressure.waited)
            ));
        }
        let verdict = format!("generator saturated: {}", signs.join(", "));
        (!signs.is_empty()).then_some(verdict)
    }

    /// Adds the families to a page for Prometheus, without those that it has already.
    pub(crate) fn expose(&self, page: &mut Exposition) {
        if self.starts().next().is_some()
            && begin(
                page,
                "volley_start_lateness_seconds",
                "Time between the scheduled and the actual start of iterations.",
                FamilyKind::Histogram,
            )
        {
            for (scenario, late) in self.starts() {
                histogram(page, Some(("scenario", &scenario.name)), late);
            }
        }
        if begin(
            page,
            "volley_worker_lag_seconds",
            "How late the event loops of the workers were for their ticks.",
            FamilyKind::Histogram,
        ) {
            histogram(page, None, &self.loops);
        }
        if begin(
            page,
            "volley_dropped_iterations_total",
            "Iterations that were due and could not be started.",
            FamilyKind::Counter,
        ) {
            for scenario in self.scenarios.get().into_iter().flatten() {
                let labels = page.labels([("scenario", &*scenario.name)]);
                page.value(&labels, scenario.dropped() as f64);
            }
        }
        if let Some(info) = self.info.get()
            && begin(
                page,
                "volley_run_info",
                "Which part of which test this instance runs; always 1.",
                FamilyKind::Gauge,
            )
        {
            let labels = page.labels([
                ("segment", &*info.segment),
                ("instances", &info.instances.to_string()),
                ("script_sha256", &info.script_sha256),
                ("version", env!("CARGO_PKG_VERSION")),
            ]);
            page.value(&labels, 1.0);
        }
        let now = Pressure::now();
        let values = [
            (
                "volley_cpu_throttled_seconds_total",
                "Time for which the CPU quota of the control group stopped the process.",
                now.throttled.map(|time| time.as_secs_f64()),
            ),
            (
                "volley_cpu_throttled_periods_total",
                "Periods in which the CPU quota of the control group stopped the process.",
                now.periods.map(|count| count as f64),
            ),
            (
                "volley_cpu_wait_seconds_total",
                "Time that the workers were ready to run and had no processor.",
                Some(now.waited.as_secs_f64()),
            ),
        ];
        for (name, help, value) in values {
            if let Some(value) = value
                && begin(page, name, help, FamilyKind::Counter)
            {
                let none = page.labels([]);
                page.value(&none, value);
            }
        }
    }
}

/// Whether one in a hundred, and more than a few, were later than the limit.
fn too_many(late: &Lateness, limit: Duration) -> bool {
    let all = late.count();
    let over = all - late.at_most(limit).min(all);
    over >= FEW && over * 100 > all
}

/// Begins a family, unless the page has one of that name: a script's own metric keeps it.
fn begin(page: &mut Exposition, name: &str, help: &str, kind: FamilyKind) -> bool {
    let is_free = !page.has(name);
    if is_free {
        page.family(name, help, kind);
    }
    is_free
}

fn histogram(page: &mut Exposition, labels: Option<(&str, &str)>, times: &Lateness) {
    static PRINTED: LazyLock<Bounds> = LazyLock::new(|| Bounds::new(BOUNDS));
    // Asked first, so that no bucket is ahead of the count.
    let below = BOUNDS.map(|bound| times.at_most(Duration::from_secs_f64(bound)));
    let labels = page.labels(labels);
    let (sum, count) = (times.sum().as_secs_f64(), times.count());
    page.histogram(&labels, &PRINTED, &below, sum, count);
}

/// `41 ms`, `1.3 s`
fn short(time: Duration) -> String {
    match time.as_secs_f64() {
        s if s >= 1.0 => format!("{s:.1} s"),
        s if s >= 0.001 => format!("{:.0} ms", s * 1e3),
        s => format!("{:.0} µs", s * 1e6),
    }
}

/// What the system withheld from the process, since it began.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Pressure {
    /// By a CPU quota; `None` where no control group counts it.
    throttled: Option<Duration>,
    /// Periods with such a stop.
    periods: Option<u64>,
    /// By other threads: the workers were ready and had no processor.
    waited: Duration,
}

impl Pressure {
    fn now() -> Self {
        let stat = cgroup_stat().unwrap_or_default();
        let field = |name: &str| -> Option<u64> {
            let line = stat.lines().find_map(|line| line.strip_prefix(name))?;
            line.trim().parse().ok()
        };
        // Version 2 counts in microseconds, version 1 in nanoseconds.
        let throttled = field("throttled_usec ")
            .map(Duration::from_micros)
            .or_else(|| field("throttled_time ").map(Duration::from_nanos));
        Self {
            throttled,
            periods: field("nr_throttled "),
            waited: waited(),
        }
    }

    fn since(self, before: &Self) -> Self {
        let less = |now: Option<Duration>, before: Option<Duration>| {
            Some(now?.saturating_sub(before.unwrap_or_default()))
        };
        Self {
            throttled: less(self.throttled, before.throttled),
            periods: self.periods,
            waited: self.waited.saturating_sub(before.waited),
        }
    }
}

/// `cpu.stat` of the process's own control group.
fn cgroup_stat() -> Option<String> {
    let mut found = cgroup::read("cpu", "cpu.stat").into_iter();
    found.find(|stat| stat.contains("nr_throttled"))
}

/// How long the workers have waited for a processor, as the scheduler counts it.
fn waited() -> Duration {
    let tasks = fs::read_dir("/proc/self/task")
        .into_iter()
        .flatten()
        .flatten();
    let nanos = tasks.filter_map(|task| {
        let name = fs::read_to_string(task.path().join("comm")).ok()?;
        if !name.starts_with("volley-worker") {
            return None;
        }
        let stat = fs::read_to_string(task.path().join("schedstat")).ok()?;
        stat.split_whitespace().nth(1)?.parse::<u64>().ok()
    });
    Duration::from_nanos(nanos.sum())
}

#[cfg(test)]
mod tests {
    use volley_metrics::PageFormat;

    use super::*;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    fn late(health: &Health, times: &[(u64, u64)]) {
        let scenario = Progress::new("a \"b\"", "constant-arrival-rate");
        let lateness = Arc::new(Lateness::default());
        for (count, millis) in times {
            (0..*count).for_each(|_| lateness.record(ms(*millis)));
        }
        let _ = scenario.lateness.set(lateness);
        health.watch(vec![Progress::new("other", "constant-vus"), scenario]);
    }

    #[test]
    fn a_healthy_generator_says_nothing() {
        let health = Health::default();
        // A few hiccups in many starts, and loops that are a little behind.
        late(&health, &[(1_000, 0), (9, 30)]);
        (0..100).for_each(|_| health.loops.record(ms(20)));
        (0..4).for_each(|_| health.loops.record(ms(200)));
        assert_eq!(health.verdict(ms(10_000)), None);
    }

    #[test]
    fn late_starts_are_told_with_their_size() {
        let health = Health::default();
        late(&health, &[(100, 1), (10, 41)]);
        let verdict = health.verdict(ms(10_000)).unwrap();
        assert!(
            verdict
                .starts_with("generator saturated: starts were up to 41 ms late (1 % more than "),
            "{verdict}"
        );
        (0..10).for_each(|_| health.loops.record(ms(1_300)));
        let verdict = health.verdict(ms(10_000)).unwrap();
        assert!(
            verdict.contains(", workers were up to 1.3 s behind"),
            "{verdict}"
        );
    }

    #[test]
    fn the_page_has_every_family_once() {
        let health = Health::default();
        late(&health, &[(3, 0), (2, 30)]);
        health.loops.record(ms(1));
        health.describe(RunInfo {
            segment: "1/4:1/2".to_owned(),
            instances: 4,
            script_sha256: "5e1f".to_owned(),
        });
        let info = format!(
            r#"volley_run_info{{segment="1/4:1/2",instances="4",script_sha256="5e1f",version="{}"}} 1"#,
            env!("CARGO_PKG_VERSION")
        );
        let page = |health: &Health, before: &str| {
            let mut page = Exposition::new(PageFormat::Text);
            if !before.is_empty() {
                page.family(before, "of the script", FamilyKind::Gauge);
            }
            health.expose(&mut page);
            String::from_utf8(page.finish()).unwrap()
        };
        let text = page(&health, "");
        for line in [
            "# TYPE volley_start_lateness_seconds histogram",
            r#"volley_start_lateness_seconds_bucket{scenario="a \"b\"",le="0.01"} 3"#,
            r#"volley_start_lateness_seconds_bucket{scenario="a \"b\"",le="+Inf"} 5"#,
            r#"volley_start_lateness_seconds_sum{scenario="a \"b\""} 0.06"#,
            r#"volley_start_lateness_seconds_count{scenario="a \"b\""} 5"#,
            r#"volley_worker_lag_seconds_bucket{le="0.005"} 1"#,
            "volley_worker_lag_seconds_sum 0.001",
            r#"volley_dropped_iterations_total{scenario="other"} 0"#,
            "# TYPE volley_cpu_wait_seconds_total counter",
            "# TYPE volley_run_info gauge",
            &info,
        ] {
            assert!(text.lines().any(|l| l == line), "{line}\n{text}");
        }
        // A script's own metric of that name keeps it.
        let text = page(&health, "volley_worker_lag_seconds");
        assert!(!text.contains("volley_worker_lag_seconds_sum"));
        assert!(text.contains("volley_dropped_iterations_total"));
    }
}
