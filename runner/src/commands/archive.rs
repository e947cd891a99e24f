//! `archive`: a script with everything it needs, in one tar. Prints nothing on stdout.

use std::{
    collections::BTreeMap,
    io::Write,
    time::{SystemTime, UNIX_EPOCH},
};

use super::{Loaded, config_file, file_wait, load, system_env};
use crate::{
    archive::Contents,
    cli,
    exit::{Failure, code},
    logging::reason,
    options::View,
    process::Outside,
    state::RunState,
};

/// Loads the script, merges and checks the options, writes the archive.
pub(super) fn run(args: &cli::Archive, outside: &Outside) -> Result<(), Failure> {
    let state = RunState::new(outside.logger.clone(), outside.secrets.clone());
    let file = config_file(outside)?;
    let wait = file_wait(outside, &state)?;
    let found = load::find(&args.script, &args.runtime, &system_env(outside), &wait)?;
    let loaded = Loaded::load(found, &state)?;
    let consolidated = loaded.consolidate(outside, file.options, args.options.clone(), false)?;
    consolidated.thresholds(&args.runtime, &loaded.registry, outside)?;

    let script = &loaded.found.script;
    // As it was said: shortcuts stay shortcuts, so that whoever runs it can still override them.
    let options = consolidated.resolved.options.to_json(View::Given);
    let env: BTreeMap<String, String> = if args.runtime.include_system_env_vars {
        script.env().iter().cloned().collect()
    } else {
        loaded.found.explicit_env.iter().cloned().collect()
    };
    let contents = Contents {
        options: &options,
        filename: script.url(),
        pwd: script.pwd(),
        env: (!args.exclude_env_vars).then_some(&env),
        compatibility_mode: args.runtime.compatibility.as_str(),
        script: &script.source(),
        files: &script.files().all(),
        modified: SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |d| d.as_secs()),
    };
    let tar = contents.to_tar();
    let failed = |error: std::io::Error| {
        let path = &args.archive_out;
        Failure::new(
            code::OTHER,
            format!(
                "could not write the archive to '{path}': {}; name another place with -O",
                reason(&error)
            ),
        )
    };
    if args.archive_out == "-" {
        let mut stdout = std::io::stdout().lock();
        return stdout
            .write_all(&tar)
            .and_then(|()| stdout.flush())
            .map_err(failed);
    }
    std::fs::write(&args.archive_out, tar).map_err(failed)
}
