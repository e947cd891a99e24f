//! Shortcuts: `vus`, `duration`, `iterations` and `stages` stand for one scenario named `default`.
//!
//! An unset `vus` is 1 for every command, so that `inspect` computes with the VU that `run` will
//! use. Scripts see that 1, except in stages, where the unset start stays unset (and means 1).

use super::{
    OptionError, Options, Warning,
    kinds::{ConstantVus, PerVuIterations, RampingVus, ScenarioKind, SharedIterations},
    scenario::{Scenario, Scenarios},
    values::{ScenarioStages, Stage},
};
use crate::duration::GoDuration;

/// The scenarios that the options mean. The first row that matches wins:
///
/// | set | is |
/// |---|---|
/// | `iterations` | shared-iterations; `duration` is its limit |
/// | `duration` | constant-vus |
/// | `stages` | ramping-vus from `vus` |
/// | only `vus` | shared-iterations, as many as VUs; scenarios are replaced |
/// | `scenarios` | themselves |
/// | nothing | one iteration of one VU |
///
/// # Errors
/// Two of them that exclude each other, or a duration that is not positive.
pub(super) fn derive(options: &Options) -> Result<(Scenarios, Vec<Warning>), OptionError> {
    let stages = options.stages.as_deref().unwrap_or_default();
    let exclude = |first: &str, second: &str| {
        Err(OptionError::config(format!(
            "using `{first}` and `{second}` options simultaneously is not allowed"
        )))
    };
    let mut warnings = Vec::new();
    let vus = Some(options.vus.unwrap_or(1));
    let kind = if options.iterations.is_some() {
        if !stages.is_empty() {
            return exclude("iterations", "stages");
        }
        if options.scenarios.is_some() {
            return exclude("iterations", "scenarios");
        }
        ScenarioKind::SharedIterations(SharedIterations {
            vus,
            iterations: options.iterations,
            max_duration: options.duration,
        })
    } else if let Some(duration) = options.duration {
        if !stages.is_empty() {
            return exclude("duration", "stages");
        }
        if options.scenarios.is_some() {
            return exclude("duration", "scenarios");
        }
        if duration <= GoDuration::ZERO {
            return Err(OptionError::config(
                "`duration` option should be more than 0, for infinite duration use the \
                 externally-controlled executor",
            ));
        }
        ScenarioKind::ConstantVus(ConstantVus {
            vus,
            duration: Some(duration),
        })
    } else if !stages.is_empty() {
        if options.scenarios.is_some() {
            return exclude("stages", "scenarios");
        }
        let timed = |stage: &&Stage| stage.duration.is_some();
        ScenarioKind::RampingVus(RampingVus {
            start_vus: options.vus,
            stages: Some(ScenarioStages(
                stages.iter().filter(timed).cloned().collect(),
            )),
            graceful_ramp_down: None,
        })
    } else if let (Some(vus), None) = (options.vus, &options.stages) {
        if options.scenarios.is_some() {
            warnings.push(Warning::new(format!(
                "`vus={vus}` overrides scenarios configuration"
            )));
        }
        ScenarioKind::SharedIterations(SharedIterations {
            vus: Some(vus),
            iterations: Some(vus),
            max_duration: None,
        })
    } else {
        if let Some(scenarios) = &options.scenarios
            && !scenarios.is_empty()
        {
            return Ok((scenarios.clone(), warnings));
        }
        for (name, set) in [
            ("stages", options.stages.is_some()),
            ("scenarios", options.scenarios.is_some()),
        ] {
            if set {
                warnings.push(Warning::new(format!(
                    "`{name}` was explicitly set to an empty value, running the script with \
                     1 iteration in 1 VU"
                )));
            }
        }
        ScenarioKind::PerVuIterations(PerVuIterations::default())
    };
    let scenario = Scenario::new("default", kind);
    Ok((
        Scenarios::from([(scenario.name.clone(), scenario)]),
        warnings,
    ))
}
