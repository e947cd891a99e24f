//! What each scenario and each group measured for itself: the sections of the full summary.
//!
//! Only kept when somebody asks for it ([`crate::CollectorConfig::breakdown`]). A sample of a
//! scenario that is not called `default` belongs to that scenario, and to the group it was
//! taken in below that scenario; any other sample belongs to its group below the root. A group
//! has the samples taken directly in it, not those of the groups inside it.
//!
//! Memory is bounded: there are [`MOST_PARTS`] scenarios and groups at most, and once all trends
//! here hold [`EXACT_VALUES`] values, those that go on growing become histograms.

use std::collections::BTreeMap;

use rustc_hash::FxHashMap;

use crate::{
    Breakdown, Check, MetricId, MetricSnapshot, Part, Registry, TagSet, builtin, recorder::Delta,
    sink::Sink,
};

/// How many scenarios and groups are told apart. Who makes more has put something into the name
/// of a group that does not belong there, and nobody reads that many sections.
pub(crate) const MOST_PARTS: usize = 1000;
/// How many values the trends of all parts keep exactly, before the larger ones are folded: 16 MB.
const EXACT_VALUES: usize = 2 << 20;
/// A trend of fewer values is smaller than its histogram would be.
const WORTH_FOLDING: usize = 1024;

/// The part that is no scenario: its groups are the sections of their own.
const ROOT: u32 = 0;
/// The scenario whose samples are not told apart: the one that shortcuts make.
const DEFAULT_SCENARIO: &str = "default";

/// All parts of a run.
#[derive(Debug)]
pub(crate) struct Parts {
    parts: Vec<Node>,
    scenarios: BTreeMap<String, u32>,
    groups: FxHashMap<(u32, String), u32>,
    /// By series: where its samples go.
    spots: Vec<Box<[Spot]>>,
    /// Values that the trends hold exactly.
    exact: usize,
    warned: bool,
}

#[derive(Debug, Default)]
struct Node {
    name: String,
    /// In the order in which they were first seen, as the two below.
    metrics: Vec<(MetricId, Sink)>,
    checks: Vec<Check>,
    groups: Vec<u32>,
    checks_by_name: FxHashMap<String, u32>,
}

/// Where the samples of a series go in one part.
#[derive(Debug)]
struct Spot {
    part: u32,
    metric: u32,
    check: Option<u32>,
}

impl Default for Parts {
    fn default() -> Self {
        Self {
            parts: vec![Node::default()],
            scenarios: BTreeMap::new(),
            groups: FxHashMap::default(),
            spots: Vec::new(),
            exact: 0,
            warned: false,
        }
    }
}

impl Parts {
    /// Finds the places of the next series; answers what the user should be told.
    pub(crate) fn place(
        &mut self,
        metric: MetricId,
        tags: &TagSet,
        registry: &Registry,
    ) -> Option<String> {
        let scenario = tags
            .get("scenario")
            .filter(|name| *name != DEFAULT_SCENARIO);
        let group = tags.get("group").unwrap_or_default();
        let check = tags.get("check").filter(|_| metric == builtin::CHECKS);

        let mut found = Vec::new();
        let mut full = false;
        let parent = match scenario.map(|name| self.scenario(name)) {
            None => Some(ROOT),
            Some(Some(part)) => {
                found.push(part);
                Some(part)
            }
            Some(None) => {
                full = true;
                None
            }
        };
        // What `setup` and `teardown` do themselves is in the totals only.
        if !matches!(group, "" | "::setup" | "::teardown")
            && let Some(parent) = parent
        {
            match self.group(parent, group) {
                Some(part) => found.push(part),
                None => full = true,
            }
        }
        // Never shown, in no summary; the group is there all the same.
        let shown = found
            .into_iter()
            .filter(|_| metric != builtin::GROUP_DURATION);
        let spots = shown.map(|part| {
            let node = &mut self.parts[part as usize];
            Spot {
                part,
                metric: node.metric(metric, registry),
                check: check.map(|name| node.check(name, group)),
            }
        });
        let spots = spots.collect();
        self.spots.push(spots);
        (full && !std::mem::replace(&mut self.warned, full)).then(|| {
            format!(
                "The test has more than {MOST_PARTS} groups and scenarios: the full summary shows the first ones, its \
                 totals have all. Names of groups should not contain values such as unique IDs."
            )
        })
    }

    /// Adds what a series gained to the parts it belongs to; series count from 0 in the order
    /// of [`Self::place`].
    pub(crate) fn fold(&mut self, series: u32, delta: &Delta) {
        for spot in &self.spots[series as usize] {
            let node = &mut self.parts[spot.part as usize];
            let sink = &mut node.metrics[spot.metric as usize].1;
            let before = exact_values(sink);
            sink.fold(delta);
            if let Sink::Trend(trend) = sink
                && self.exact >= EXACT_VALUES
                && trend.exact_len() > WORTH_FOLDING
            {
                trend.fold();
            }
            self.exact = self.exact + exact_values(sink) - before;
            if let (Some(check), &Delta::Rate { trues, total, .. }) = (spot.check, delta) {
                let check = &mut node.checks[check as usize];
                check.passes += trues;
                check.fails += total - trues;
            }
        }
    }

    /// The parts as they are after `run_seconds` of the run clock.
    pub(crate) fn snapshot(&self, registry: &Registry, run_seconds: f64) -> Breakdown {
        let part = |part: u32| self.part(part, registry, run_seconds);
        let scenarios = self.scenarios.values().copied();
        let groups = self.parts[ROOT as usize].groups.iter().copied();
        Breakdown {
            groups: groups.map(part).collect(),
            scenarios: scenarios.map(part).collect(),
        }
    }

    fn part(&self, part: u32, registry: &Registry, run_seconds: f64) -> Part {
        let node = &self.parts[part as usize];
        let metric = |(metric, sink): &(MetricId, Sink)| {
            let info = registry.info(*metric);
            MetricSnapshot {
                name: info.name,
                parent: None,
                kind: info.kind,
                contains: info.contains,
                values: sink.values(run_seconds),
                thresholds: Vec::new(),
                tainted: None,
            }
        };
        let below = node.groups.iter();
        Part {
            name: node.name.clone(),
            metrics: node.metrics.iter().map(metric).collect(),
            checks: node.checks.clone(),
            groups: below
                .map(|&group| self.part(group, registry, run_seconds))
                .collect(),
        }
    }

    fn scenario(&mut self, name: &str) -> Option<u32> {
        if let Some(&known) = self.scenarios.get(name) {
            return Some(known);
        }
        let part = self.add(name)?;
        self.scenarios.insert(name.to_owned(), part);
        Some(part)
    }

    /// The group of a path such as `::outer::inner`, with its parents.
    fn group(&mut self, root: u32, path: &str) -> Option<u32> {
        let mut parent = root;
        for name in path.strip_prefix("::").unwrap_or(path).split("::") {
            let key = (parent, name.to_owned());
            parent = match self.groups.get(&key) {
                Some(&known) => known,
                None => {
                    let part = self.add(name)?;
                    self.parts[parent as usize].groups.push(part);
                    self.groups.insert(key, part);
                    part
                }
            };
        }
        Some(parent)
    }

    fn add(&mut self, name: &str) -> Option<u32> {
        // The root is none of them.
        if self.parts.len() > MOST_PARTS {
            return None;
        }
        let name = name.to_owned();
        self.parts.push(Node {
            name,
            ..Node::default()
        });
        u32::try_from(self.parts.len() - 1).ok()
    }
}

impl Node {
    fn metric(&mut self, metric: MetricId, registry: &Registry) -> u32 {
        let known = self.metrics.iter().position(|(known, _)| *known == metric);
        let position = known.unwrap_or_else(|| {
            let sink = Sink::new(registry.info(metric).kind);
            self.metrics.push((metric, sink));
            self.metrics.len() - 1
        });
        position as u32
    }

    /// The check of that name: in a scenario one entry, whatever its group.
    fn check(&mut self, name: &str, group: &str) -> u32 {
        if let Some(&known) = self.checks_by_name.get(name) {
            return known;
        }
        let position = self.checks.len() as u32;
        self.checks_by_name.insert(name.to_owned(), position);
        self.checks.push(Check {
            name: name.to_owned(),
            path: format!("{group}::{name}"),
            passes: 0,
            fails: 0,
        });
        position
    }
}

fn exact_values(sink: &Sink) -> usize {
    match sink {
        Sink::Trend(trend) => trend.exact_len(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{TagTable, Values};

    struct Run {
        registry: Registry,
        tags: TagTable,
        parts: Parts,
    }

    impl Run {
        fn new() -> Self {
            Self {
                registry: Registry::new(),
                tags: TagTable::new(),
                parts: Parts::default(),
            }
        }

        fn add(
            &mut self,
            metric: MetricId,
            tags: &[(&str, &str)],
            delta: &Delta,
        ) -> Option<String> {
            let tags = self.tags.get(self.tags.intern(tags));
            let series = self.parts.spots.len() as u32;
            let warning = self.parts.place(metric, &tags, &self.registry);
            self.parts.fold(series, delta);
            warning
        }

        fn count(&mut self, scenario: &str, group: &str, sum: f64) {
            let delta = Delta::Counter {
                sum,
                raised: sum,
                negatives: 0,
                time: 1,
            };
            let tags = [("scenario", scenario), ("group", group)];
            let tags = tags.into_iter().filter(|(_, value)| *value != "-");
            let tags: Vec<_> = tags.collect();
            self.add(builtin::HTTP_REQS, &tags, &delta);
        }

        fn check(&mut self, tags: &[(&str, &str)], trues: u64, total: u64) {
            let sum = trues as f64;
            let delta = Delta::Rate {
                trues,
                total,
                sum,
                time: 1,
            };
            self.add(builtin::CHECKS, tags, &delta);
        }

        fn snapshot(&self) -> Breakdown {
            let run = Duration::from_secs(2).as_secs_f64();
            self.parts.snapshot(&self.registry, run)
        }
    }

    /// A part as one line: `name=count[children]`.
    fn outline(parts: &[Part]) -> String {
        let one = |part: &Part| {
            let count = match part.metrics.first().map(|metric| &metric.values) {
                Some(Values::Counter { count, rate }) => {
                    assert_eq!(*rate, count / 2.0);
                    count.to_string()
                }
                None => "-".to_owned(),
                Some(other) => panic!("{other:?}"),
            };
            let below = match outline(&part.groups) {
                text if text.is_empty() => text,
                text => format!("[{text}]"),
            };
            format!("{}={count}{below}", part.name)
        };
        parts.iter().map(one).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn samples_belong_to_their_scenario_and_to_the_innermost_group() {
        let mut run = Run::new();
        // The default scenario, setup and teardown, and samples of none.
        run.count("default", "", 1.0);
        run.count("default", "::zeta::inner", 2.0);
        run.count("default", "::alpha", 4.0);
        run.count("default", "::zeta", 8.0);
        run.count("-", "::alpha", 16.0);
        run.count("-", "::setup", 32.0);
        run.count("-", "::teardown", 64.0);
        run.count("-", "::setup::nested", 128.0);
        run.count("-", "-", 256.0);
        // Scenarios with a name.
        run.count("web", "", 1.0);
        run.count("web", "::login", 2.0);
        run.count("web", "::login::form", 4.0);
        run.count("api", "::login", 8.0);

        let breakdown = run.snapshot();
        assert_eq!(
            outline(&breakdown.groups),
            "zeta=8[inner=2] alpha=20 setup=-[nested=128]"
        );
        assert_eq!(
            outline(&breakdown.scenarios),
            "api=8[login=8] web=7[login=2[form=4]]"
        );
    }

    #[test]
    fn checks_are_told_apart_by_name_and_groups_need_no_metric() {
        let mut run = Run::new();
        let tags = |group: &'static str, check: &'static str| {
            [("scenario", "web"), ("group", group), ("check", check)]
        };
        run.check(&tags("::a", "same"), 1, 2);
        run.check(&tags("", "other"), 1, 1);
        run.check(&tags("::b", "same"), 3, 3);
        let duration = Delta::Trend {
            values: vec![1.0],
            time: 0,
        };
        run.add(
            builtin::GROUP_DURATION,
            &[("group", "::only a duration")],
            &duration,
        );

        let breakdown = run.snapshot();
        let checks = |part: &Part| -> Vec<(String, u64, u64)> {
            let checks = part.checks.iter();
            checks
                .map(|check| (check.path.clone(), check.passes, check.fails))
                .collect()
        };
        let [web] = &breakdown.scenarios[..] else {
            panic!("{breakdown:?}")
        };
        assert_eq!(
            checks(web),
            [("::a::same".into(), 4, 1), ("::other".into(), 1, 0)]
        );
        assert_eq!(checks(&web.groups[0]), [("::a::same".into(), 1, 1)]);
        assert_eq!(checks(&web.groups[1]), [("::b::same".into(), 3, 0)]);
        assert_eq!(outline(&breakdown.groups), "only a duration=-");
    }

    #[test]
    fn there_are_only_so_many_parts_and_one_warning() {
        let mut run = Run::new();
        let delta = Delta::Counter {
            sum: 1.0,
            raised: 1.0,
            negatives: 0,
            time: 1,
        };
        let mut warnings = Vec::new();
        for n in 0..MOST_PARTS + 5 {
            let group = format!("::{n}");
            warnings.extend(run.add(builtin::HTTP_REQS, &[("group", &group)], &delta));
        }
        // No scenario fits any more, nor a group of it.
        let tags = [("scenario", "web"), ("group", "::1")];
        warnings.extend(run.add(builtin::HTTP_REQS, &tags, &delta));
        // What is known goes on to count.
        warnings.extend(run.add(builtin::HTTP_REQS, &[("group", "::7")], &delta));
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        let breakdown = run.snapshot();
        assert_eq!(breakdown.groups.len(), MOST_PARTS);
        assert_eq!(outline(&breakdown.groups[7..8]), "7=2");
        assert!(breakdown.scenarios.is_empty());
    }

    #[test]
    fn trends_of_many_parts_do_not_keep_every_value() {
        let mut run = Run::new();
        let values: Vec<f64> = (0..8000).map(f64::from).collect();
        let delta = Delta::Trend { values, time: 0 };
        let groups = EXACT_VALUES / 8000 + 20;
        for n in 0..groups {
            let group = format!("::{n}");
            run.add(builtin::HTTP_REQ_DURATION, &[("group", &group)], &delta);
        }
        let few = Delta::Trend {
            values: vec![1.0, 2.0],
            time: 0,
        };
        run.add(builtin::HTTP_REQ_DURATION, &[("group", "::few")], &few);
        assert!(
            run.parts.exact <= EXACT_VALUES + 8000,
            "{}",
            run.parts.exact
        );
        let breakdown = run.snapshot();
        let trend = |part: usize| match &breakdown.groups[part].metrics[0].values {
            Values::Trend(trend) => trend.clone(),
            other => panic!("{other:?}"),
        };
        let (first, last, few) = (trend(0), trend(groups - 1), trend(groups));
        assert_eq!((first.count(), last.count()), (8000, 8000));
        assert_eq!(first.percentile(0.5), 3999.5);
        assert!((last.percentile(0.5) - 3999.5).abs() < 3999.5 * 0.004);
        assert_eq!(few.percentile(0.5), 1.5);
        // The books agree with what is held.
        let held = run.parts.parts.iter().flat_map(|node| &node.metrics);
        assert_eq!(
            held.map(|(_, sink)| exact_values(sink)).sum::<usize>(),
            run.parts.exact
        );
    }
}
