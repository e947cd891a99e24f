//! The settings of each executor: its keys, defaults, checks, VU needs and description. One type
//! per executor, and a row in [`EXECUTORS`]. How they run is the business of `executor/`.

use super::{
    fields::{Fields, fields},
    plan::Step,
    ramping,
    values::{ScenarioStages, Stage},
};
use crate::{duration::GoDuration, segment::Tuple};

/// Makes an executor whose settings are all unset.
type Unset = fn() -> ScenarioKind;

/// Every executor, under the name scripts use for it.
pub(crate) const EXECUTORS: &[(&str, Unset)] = &[
    ("shared-iterations", || {
        ScenarioKind::SharedIterations(SharedIterations::default())
    }),
    ("per-vu-iterations", || {
        ScenarioKind::PerVuIterations(PerVuIterations::default())
    }),
    ("constant-vus", || {
        ScenarioKind::ConstantVus(ConstantVus::default())
    }),
    ("ramping-vus", || {
        ScenarioKind::RampingVus(RampingVus::default())
    }),
    ("constant-arrival-rate", || {
        ScenarioKind::ConstantArrivalRate(ConstantArrivalRate::default())
    }),
    ("ramping-arrival-rate", || {
        ScenarioKind::RampingArrivalRate(RampingArrivalRate::default())
    }),
    ("externally-controlled", || {
        ScenarioKind::ExternallyControlled(ExternallyControlled::default())
    }),
];

/// An executor and its settings.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum ScenarioKind {
    /// A number of iterations, shared by VUs as they are free.
    SharedIterations(SharedIterations),
    /// A number of iterations for each VU.
    PerVuIterations(PerVuIterations),
    /// VUs that loop for a time.
    ConstantVus(ConstantVus),
    /// A changing number of VUs that loop.
    RampingVus(RampingVus),
    /// Iterations started at a constant rate.
    ConstantArrivalRate(ConstantArrivalRate),
    /// Iterations started at a changing rate.
    RampingArrivalRate(RampingArrivalRate),
    /// VUs that loop; how many is said from outside while they do.
    ExternallyControlled(ExternallyControlled),
}

impl ScenarioKind {
    /// The name scripts use.
    pub(crate) fn name(&self) -> &'static str {
        self.config().name()
    }

    /// The settings, whichever executor they are for.
    pub(super) fn config(&self) -> &dyn Config {
        match self {
            Self::SharedIterations(config) => config,
            Self::PerVuIterations(config) => config,
            Self::ConstantVus(config) => config,
            Self::RampingVus(config) => config,
            Self::ConstantArrivalRate(config) => config,
            Self::RampingArrivalRate(config) => config,
            Self::ExternallyControlled(config) => config,
        }
    }

    /// The settings, to be filled.
    pub(super) fn config_mut(&mut self) -> &mut dyn Config {
        match self {
            Self::SharedIterations(config) => config,
            Self::PerVuIterations(config) => config,
            Self::ConstantVus(config) => config,
            Self::RampingVus(config) => config,
            Self::ConstantArrivalRate(config) => config,
            Self::RampingArrivalRate(config) => config,
            Self::ExternallyControlled(config) => config,
        }
    }
}

/// What every executor's settings can tell.
pub(super) trait Config: Fields {
    /// The name scripts use.
    fn name(&self) -> &'static str;
    /// Adds what is wrong, in the order of the keys.
    fn check(&self, problems: &mut Vec<String>);
    /// VUs over time from the executor's start, for this instance.
    fn requirements(&self, tuple: &Tuple, graceful_stop: GoDuration) -> Vec<Step>;
    /// Whether this instance has anything to do.
    fn has_work(&self, tuple: &Tuple) -> bool;
    /// The header's text, and its first detail.
    fn describe(&self, tuple: &Tuple) -> (String, Option<String>);
}

const DEFAULT_MAX_DURATION: GoDuration = GoDuration::from_secs(600);
const DEFAULT_TIME_UNIT: GoDuration = GoDuration::from_secs(1);
const SHORTEST_DURATION: GoDuration = GoDuration::from_secs(1);

fn plus(a: GoDuration, b: GoDuration) -> GoDuration {
    GoDuration(a.0.saturating_add(b.0))
}

fn refuse(problems: &mut Vec<String>, wrong: bool, text: &str) {
    if wrong {
        problems.push(text.to_owned());
    }
}

fn check_span(problems: &mut Vec<String>, what: &str, span: GoDuration) {
    if span < SHORTEST_DURATION {
        problems.push(format!("the {what} must be at least 1s, but is {span}"));
    }
}

fn check_duration(problems: &mut Vec<String>, duration: Option<GoDuration>) {
    match duration {
        None => problems.push("the duration is unspecified".to_owned()),
        Some(duration) => check_span(problems, "duration", duration),
    }
}

const TOO_FEW_VUS: &str = "the number of VUs must be more than 0";

/// The needs of executors that hold their VUs from start to end.
fn constant_needs(vus: i64, regular: GoDuration, graceful_stop: GoDuration) -> Vec<Step> {
    vec![
        Step::planned(GoDuration::ZERO, vus),
        Step::planned(plus(regular, graceful_stop), 0),
    ]
}

fields! {
    /// Settings of shared-iterations.
    SharedIterations {
        /// VUs over all instances.
        vus: i64 = "vus",
        /// Iterations over all instances.
        iterations: i64 = "iterations",
        /// When to stop although iterations are left.
        max_duration: GoDuration = "maxDuration",
    }
}

impl SharedIterations {
    /// VUs over all instances; default 1.
    pub(crate) fn vus(&self) -> i64 {
        self.vus.unwrap_or(1)
    }

    /// Iterations over all instances; default 1.
    pub(crate) fn iterations(&self) -> i64 {
        self.iterations.unwrap_or(1)
    }

    /// The regular end; default 10 minutes.
    pub(crate) fn max_duration(&self) -> GoDuration {
        self.max_duration.unwrap_or(DEFAULT_MAX_DURATION)
    }

    /// This instance's share of the iterations: in proportion to its VUs, 0 without any.
    pub(crate) fn share(&self, tuple: &Tuple) -> i64 {
        tuple
            .resegment(self.vus())
            .map_or(0, |tuple| tuple.scale(self.iterations()))
    }
}

impl Config for SharedIterations {
    fn name(&self) -> &'static str {
        "shared-iterations"
    }

    fn check(&self, problems: &mut Vec<String>) {
        refuse(problems, self.vus() <= 0, TOO_FEW_VUS);
        if self.iterations() < self.vus() {
            problems.push(format!(
                "the number of iterations ({}) can't be less than the number of VUs ({})",
                self.iterations(),
                self.vus()
            ));
        }
        check_span(problems, "maxDuration", self.max_duration());
    }

    fn requirements(&self, tuple: &Tuple, graceful_stop: GoDuration) -> Vec<Step> {
        match tuple.scale(self.vus()) {
            0 => vec![Step::planned(GoDuration::ZERO, 0)],
            vus => constant_needs(vus, self.max_duration(), graceful_stop),
        }
    }

    fn has_work(&self, tuple: &Tuple) -> bool {
        tuple.scale(self.vus()) > 0 && self.share(tuple) > 0
    }

    fn describe(&self, tuple: &Tuple) -> (String, Option<String>) {
        let text = format!(
            "{} iterations shared among {} VUs",
            self.share(tuple),
            tuple.scale(self.vus())
        );
        (text, Some(format!("maxDuration: {}", self.max_duration())))
    }
}

fields! {
    /// Settings of per-vu-iterations.
    PerVuIterations {
        /// VUs over all instances.
        vus: i64 = "vus",
        /// Iterations of each VU.
        iterations: i64 = "iterations",
        /// When to stop although iterations are left.
        max_duration: GoDuration = "maxDuration",
    }
}

impl PerVuIterations {
    /// VUs over all instances; default 1.
    pub(crate) fn vus(&self) -> i64 {
        self.vus.unwrap_or(1)
    }

    /// Iterations of each VU, the same on every instance; default 1.
    pub(crate) fn iterations(&self) -> i64 {
        self.iterations.unwrap_or(1)
    }

    /// The regular end; default 10 minutes.
    pub(crate) fn max_duration(&self) -> GoDuration {
        self.max_duration.unwrap_or(DEFAULT_MAX_DURATION)
    }
}

impl Config for PerVuIterations {
    fn name(&self) -> &'static str {
        "per-vu-iterations"
    }

    fn check(&self, problems: &mut Vec<String>) {
        refuse(problems, self.vus() <= 0, TOO_FEW_VUS);
        refuse(
            problems,
            self.iterations() <= 0,
            "the number of iterations must be more than 0",
        );
        check_span(problems, "maxDuration", self.max_duration());
    }

    fn requirements(&self, tuple: &Tuple, graceful_stop: GoDuration) -> Vec<Step> {
        constant_needs(tuple.scale(self.vus()), self.max_duration(), graceful_stop)
    }

    fn has_work(&self, tuple: &Tuple) -> bool {
        tuple.scale(self.vus()) > 0 && self.iterations() > 0
    }

    fn describe(&self, tuple: &Tuple) -> (String, Option<String>) {
        let text = format!(
            "{} iterations for each of {} VUs",
            self.iterations(),
            tuple.scale(self.vus())
        );
        (text, Some(format!("maxDuration: {}", self.max_duration())))
    }
}

fields! {
    /// Settings of constant-vus.
    ConstantVus {
        /// VUs over all instances.
        vus: i64 = "vus",
        /// The regular end.
        duration: GoDuration = "duration",
    }
}

impl ConstantVus {
    /// VUs over all instances; default 1.
    pub(crate) fn vus(&self) -> i64 {
        self.vus.unwrap_or(1)
    }

    /// The regular end; validation has seen that it is there.
    pub(crate) fn duration(&self) -> GoDuration {
        self.duration.unwrap_or_default()
    }
}

impl Config for ConstantVus {
    fn name(&self) -> &'static str {
        "constant-vus"
    }

    fn check(&self, problems: &mut Vec<String>) {
        refuse(problems, self.vus() <= 0, TOO_FEW_VUS);
        check_duration(problems, self.duration);
    }

    fn requirements(&self, tuple: &Tuple, graceful_stop: GoDuration) -> Vec<Step> {
        constant_needs(tuple.scale(self.vus()), self.duration(), graceful_stop)
    }

    fn has_work(&self, tuple: &Tuple) -> bool {
        tuple.scale(self.vus()) > 0
    }

    fn describe(&self, tuple: &Tuple) -> (String, Option<String>) {
        let vus = tuple.scale(self.vus());
        (format!("{vus} looping VUs for {}", self.duration()), None)
    }
}

/// The checks that stages have in both ramping executors.
fn check_stages(problems: &mut Vec<String>, stages: &[Stage]) {
    refuse(
        problems,
        stages.is_empty(),
        "at least one stage has to be specified",
    );
    for (number, stage) in (1..).zip(stages) {
        match stage.duration {
            None => problems.push(format!("stage {number} doesn't have a duration")),
            Some(duration) if duration < GoDuration::ZERO => {
                problems.push(format!("the duration for stage {number} can't be negative"));
            }
            Some(_) => {}
        }
        match stage.target {
            None => problems.push(format!("stage {number} doesn't have a target")),
            Some(target) if target < 0 => {
                problems.push(format!("the target for stage {number} can't be negative"));
            }
            Some(_) => {}
        }
    }
}

fn stages_of(stages: Option<&ScenarioStages>) -> &[Stage] {
    stages.map_or(&[], |stages| &stages.0)
}

/// The sum of the stages' durations.
fn length_of(stages: &[Stage]) -> GoDuration {
    let durations = stages.iter().filter_map(|stage| stage.duration);
    durations.fold(GoDuration::ZERO, plus)
}

fn highest(start: i64, stages: &[Stage]) -> i64 {
    let targets = stages.iter().filter_map(|stage| stage.target);
    targets.fold(start, i64::max)
}

fields! {
    /// Settings of ramping-vus.
    RampingVus {
        /// VUs at the start, over all instances.
        start_vus: i64 = "startVUs",
        /// The ramps.
        stages: ScenarioStages = "stages",
        /// How long a VU may finish its iteration when the ramp no longer needs it.
        graceful_ramp_down: GoDuration = "gracefulRampDown",
    }
}

/// More VUs than this are a typing error.
const MOST_VUS: i64 = 100_000_000;

impl RampingVus {
    /// VUs at the start, over all instances; default 1.
    pub(crate) fn start_vus(&self) -> i64 {
        self.start_vus.unwrap_or(1)
    }

    /// The ramps; validation has seen that they are complete.
    pub(crate) fn stages(&self) -> &[Stage] {
        stages_of(self.stages.as_ref())
    }

    /// The sum of the stages.
    pub(crate) fn length(&self) -> GoDuration {
        length_of(self.stages())
    }

    /// How long a VU may finish its iteration after a ramp down; default 30 s, negative is 0.
    pub(crate) fn graceful_ramp_down(&self) -> GoDuration {
        let given = self.graceful_ramp_down.unwrap_or(GoDuration::from_secs(30));
        given.max(GoDuration::ZERO)
    }

    /// The most VUs of any moment, over all instances.
    pub(crate) fn highest(&self) -> i64 {
        highest(self.start_vus(), self.stages())
    }

    /// The VU counts of this instance over time, ending with 0.
    pub(crate) fn schedule(&self, tuple: &Tuple) -> Vec<Step> {
        let mut steps = ramping::raw_steps(self.start_vus(), self.stages(), tuple);
        if steps.last().is_some_and(|last| last.planned != 0) {
            steps.push(Step::planned(self.length(), 0));
        }
        steps
    }
}

impl Config for RampingVus {
    fn name(&self) -> &'static str {
        "ramping-vus"
    }

    fn check(&self, problems: &mut Vec<String>) {
        let start = self.start_vus();
        refuse(
            problems,
            start < 0,
            "the number of start VUs can't be negative",
        );
        refuse(
            problems,
            highest(start, self.stages()) <= 0,
            "either startVUs or one of the stages' target values must be greater than 0",
        );
        check_stages(problems, self.stages());
        if start > MOST_VUS {
            problems.push(format!("the startVUs exceed max limit of {MOST_VUS}"));
        }
        for (number, stage) in (1..).zip(self.stages()) {
            if stage.target.is_some_and(|target| target > MOST_VUS) {
                problems.push(format!(
                    "target for stage {number} exceeds max limit of {MOST_VUS}"
                ));
            }
        }
    }

    fn requirements(&self, tuple: &Tuple, graceful_stop: GoDuration) -> Vec<Step> {
        ramping::requirements(
            &ramping::raw_steps(self.start_vus(), self.stages(), tuple),
            self.graceful_ramp_down(),
            plus(self.length(), graceful_stop),
        )
    }

    fn has_work(&self, tuple: &Tuple) -> bool {
        tuple.scale(self.highest()) > 0
    }

    fn describe(&self, tuple: &Tuple) -> (String, Option<String>) {
        let text = format!(
            "Up to {} looping VUs for {} over {} stages",
            tuple.scale(self.highest()),
            self.length(),
            self.stages().len()
        );
        let extra = format!("gracefulRampDown: {}", self.graceful_ramp_down());
        (text, Some(extra))
    }
}

/// The VU checks that both arrival-rate executors have.
fn check_pool(problems: &mut Vec<String>, pre_allocated: Option<i64>, max: Option<i64>) {
    match pre_allocated {
        None => problems.push("the number of preAllocatedVUs isn't specified".to_owned()),
        Some(vus) => refuse(
            problems,
            vus < 0,
            "the number of preAllocatedVUs can't be negative",
        ),
    }
    let pre_allocated = pre_allocated.unwrap_or(0);
    refuse(
        problems,
        max.unwrap_or(pre_allocated) < pre_allocated,
        "maxVUs can't be less than preAllocatedVUs",
    );
}

/// The needs of both arrival-rate executors.
fn pool_needs(pre_allocated: i64, max: i64, end: GoDuration) -> Vec<Step> {
    vec![
        Step {
            offset: GoDuration::ZERO,
            planned: pre_allocated,
            unplanned: max - pre_allocated,
        },
        Step::planned(end, 0),
    ]
}

/// `maxVUs: 5`, or `maxVUs: 5-10` when more may be made during the run.
fn pool_text(pre_allocated: i64, max: i64, range: bool) -> String {
    if range {
        format!("maxVUs: {pre_allocated}-{max}")
    } else {
        format!("maxVUs: {max}")
    }
}

fields! {
    /// Settings of constant-arrival-rate.
    ConstantArrivalRate {
        /// Iterations per time unit, over all instances.
        rate: i64 = "rate",
        /// What the rate counts in.
        time_unit: GoDuration = "timeUnit",
        /// The regular end.
        duration: GoDuration = "duration",
        /// VUs made before the run, over all instances.
        pre_allocated_vus: i64 = "preAllocatedVUs",
        /// VUs there may be, over all instances.
        max_vus: i64 = "maxVUs",
    }
}

impl ConstantArrivalRate {
    /// Iterations per time unit, over all instances; validation has seen that it is there.
    pub(crate) fn rate(&self) -> i64 {
        self.rate.unwrap_or(0)
    }

    /// What the rate counts in; default 1 s.
    pub(crate) fn time_unit(&self) -> GoDuration {
        self.time_unit.unwrap_or(DEFAULT_TIME_UNIT)
    }

    /// This instance's iterations per second: its share is that of the VUs it may have.
    pub(crate) fn rate_of(&self, tuple: &Tuple) -> f64 {
        let share = match self.max_vus() {
            1.. => tuple.scale(self.max_vus()) as f64 / self.max_vus() as f64,
            _ => 0.0,
        };
        per_second(self.rate(), self.time_unit()) * share
    }

    /// The regular end; validation has seen that it is there.
    pub(crate) fn duration(&self) -> GoDuration {
        self.duration.unwrap_or_default()
    }

    /// VUs made before the run, over all instances.
    pub(crate) fn pre_allocated_vus(&self) -> i64 {
        self.pre_allocated_vus.unwrap_or(0)
    }

    /// VUs there may be, over all instances; default those made before the run.
    pub(crate) fn max_vus(&self) -> i64 {
        self.max_vus.unwrap_or(self.pre_allocated_vus())
    }
}

impl Config for ConstantArrivalRate {
    fn name(&self) -> &'static str {
        "constant-arrival-rate"
    }

    fn check(&self, problems: &mut Vec<String>) {
        match self.rate {
            None => problems.push("the iteration rate isn't specified".to_owned()),
            Some(rate) => refuse(
                problems,
                rate <= 0,
                "the iteration rate must be more than 0",
            ),
        }
        refuse(
            problems,
            self.time_unit() <= GoDuration::ZERO,
            "the timeUnit must be more than 0",
        );
        check_duration(problems, self.duration);
        check_pool(problems, self.pre_allocated_vus, self.max_vus);
    }

    fn requirements(&self, tuple: &Tuple, graceful_stop: GoDuration) -> Vec<Step> {
        pool_needs(
            tuple.scale(self.pre_allocated_vus()),
            tuple.scale(self.max_vus()),
            plus(self.duration(), graceful_stop),
        )
    }

    fn has_work(&self, tuple: &Tuple) -> bool {
        tuple.scale(self.max_vus()) > 0
    }

    fn describe(&self, tuple: &Tuple) -> (String, Option<String>) {
        let (pre_allocated, max) = (
            tuple.scale(self.pre_allocated_vus()),
            tuple.scale(self.max_vus()),
        );
        let text = format!(
            "{:.2} iterations/s for {}",
            self.rate_of(tuple),
            self.duration()
        );
        let extra = pool_text(pre_allocated, max, max > pre_allocated);
        (text, Some(extra))
    }
}

/// A rate per time unit as a rate per second.
fn per_second(rate: i64, time_unit: GoDuration) -> f64 {
    rate as f64 * 1e9 / time_unit.nanos() as f64
}

fields! {
    /// Settings of ramping-arrival-rate.
    RampingArrivalRate {
        /// Iterations per time unit at the start, over all instances.
        start_rate: i64 = "startRate",
        /// What rates count in.
        time_unit: GoDuration = "timeUnit",
        /// The ramps.
        stages: ScenarioStages = "stages",
        /// VUs made before the run, over all instances.
        pre_allocated_vus: i64 = "preAllocatedVUs",
        /// VUs there may be, over all instances.
        max_vus: i64 = "maxVUs",
    }
}

impl RampingArrivalRate {
    /// Iterations per time unit at the start, over all instances; default 0.
    pub(crate) fn start_rate(&self) -> i64 {
        self.start_rate.unwrap_or(0)
    }

    /// What rates count in; default 1 s.
    pub(crate) fn time_unit(&self) -> GoDuration {
        self.time_unit.unwrap_or(DEFAULT_TIME_UNIT)
    }

    /// The ramps; validation has seen that they are complete.
    pub(crate) fn stages(&self) -> &[Stage] {
        stages_of(self.stages.as_ref())
    }

    /// The sum of the stages.
    pub(crate) fn length(&self) -> GoDuration {
        length_of(self.stages())
    }

    /// VUs made before the run, over all instances.
    pub(crate) fn pre_allocated_vus(&self) -> i64 {
        self.pre_allocated_vus.unwrap_or(0)
    }

    /// VUs there may be, over all instances; default those made before the run.
    pub(crate) fn max_vus(&self) -> i64 {
        self.max_vus.unwrap_or(self.pre_allocated_vus())
    }
}

impl Config for RampingArrivalRate {
    fn name(&self) -> &'static str {
        "ramping-arrival-rate"
    }

    fn check(&self, problems: &mut Vec<String>) {
        refuse(
            problems,
            self.start_rate() < 0,
            "the startRate value can't be negative",
        );
        refuse(
            problems,
            self.time_unit() <= GoDuration::ZERO,
            "the timeUnit must be more than 0",
        );
        check_stages(problems, self.stages());
        check_pool(problems, self.pre_allocated_vus, self.max_vus);
    }

    fn requirements(&self, tuple: &Tuple, graceful_stop: GoDuration) -> Vec<Step> {
        pool_needs(
            tuple.scale(self.pre_allocated_vus()),
            tuple.scale(self.max_vus()),
            plus(self.length(), graceful_stop),
        )
    }

    fn has_work(&self, tuple: &Tuple) -> bool {
        tuple.scale(self.max_vus()) > 0
    }

    fn describe(&self, tuple: &Tuple) -> (String, Option<String>) {
        let highest = highest(self.start_rate(), self.stages());
        let text = format!(
            "Up to {:.2} iterations/s for {} over {} stages",
            per_second(highest, self.time_unit()) * tuple.length(),
            self.length(),
            self.stages().len()
        );
        // The range is shown for the unscaled numbers, unlike that of the constant rate.
        let extra = pool_text(
            tuple.scale(self.pre_allocated_vus()),
            tuple.scale(self.max_vus()),
            self.max_vus() > self.pre_allocated_vus(),
        );
        (text, Some(extra))
    }
}

fields! {
    /// Settings of externally-controlled.
    ExternallyControlled {
        /// VUs at the start, over all instances.
        vus: i64 = "vus",
        /// The regular end; 0 is never.
        duration: GoDuration = "duration",
        /// VUs made before the run, over all instances.
        max_vus: i64 = "maxVUs",
    }
}

impl ExternallyControlled {
    /// VUs at the start, over all instances; default none.
    pub(crate) fn vus(&self) -> i64 {
        self.vus.unwrap_or(0)
    }

    /// VUs made before the run, over all instances; default those of the start.
    pub(crate) fn max_vus(&self) -> i64 {
        self.max_vus.unwrap_or(self.vus())
    }

    /// The end, when there is one.
    pub(crate) fn duration(&self) -> Option<GoDuration> {
        self.duration
            .filter(|duration| *duration > GoDuration::ZERO)
    }

    /// What is wrong with numbers of VUs.
    pub(crate) fn check_vus(vus: i64, max_vus: i64) -> Option<String> {
        if vus < 0 {
            return Some("the number of VUs can't be negative".to_owned());
        }
        (max_vus < vus).then(|| {
            format!(
                "the number of active VUs ({vus}) must be less than or equal to the number of \
                 maxVUs ({max_vus})"
            )
        })
    }
}

impl Config for ExternallyControlled {
    fn name(&self) -> &'static str {
        "externally-controlled"
    }

    fn check(&self, problems: &mut Vec<String>) {
        problems.extend(Self::check_vus(self.vus(), self.max_vus()));
        match self.duration {
            None => problems
                .push("the duration must be specified, for infinite duration use 0".to_owned()),
            Some(duration) => refuse(
                problems,
                duration < GoDuration::ZERO,
                "the duration can't be negative, for infinite duration use 0",
            ),
        }
    }

    fn requirements(&self, tuple: &Tuple, _: GoDuration) -> Vec<Step> {
        let mut steps = vec![Step::planned(GoDuration::ZERO, tuple.scale(self.max_vus()))];
        steps.extend(self.duration().map(|end| Step::planned(end, 0)));
        steps
    }

    fn has_work(&self, _: &Tuple) -> bool {
        true
    }

    fn describe(&self, tuple: &Tuple) -> (String, Option<String>) {
        let duration = self
            .duration()
            .map_or_else(|| "infinite".to_owned(), |duration| duration.to_string());
        let text = format!(
            "Externally controlled execution with {} VUs, {} max VUs, {duration} duration",
            tuple.scale(self.vus()),
            tuple.scale(self.max_vus())
        );
        (text, None)
    }
}
