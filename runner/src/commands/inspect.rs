//! `inspect`: the options of a script or archive, as JSON and nothing but JSON on stdout.

use super::{Loaded, config_file, file_wait, load, system_env, warn};
use crate::{
    cli, display::print, exit::Failure, inspect, options::Options, process::Outside,
    state::RunState,
};

/// Loads the script and prints its options; merged, checked and with what the run will need if
/// that is asked for.
pub(super) fn run(args: &cli::Inspect, outside: &Outside) -> Result<(), Failure> {
    let state = RunState::new(outside.logger.clone(), outside.secrets.clone());
    let wait = file_wait(outside, &state)?;
    let found = load::find(&args.script, &args.runtime, &system_env(outside), &wait)?;
    let loaded = Loaded::load(found, &state)?;
    if !args.execution_requirements {
        let (options, warnings) = loaded.script_options()?;
        for warning in &warnings {
            warn(outside, warning);
        }
        print(&inspect::given(&options));
        return Ok(());
    }
    let file = config_file(outside)?;
    let consolidated = loaded.consolidate(outside, file.options, Options::default(), false)?;
    consolidated.thresholds(&args.runtime, &loaded.registry, outside)?;
    print(&inspect::with_requirements(&consolidated.resolved));
    Ok(())
}
