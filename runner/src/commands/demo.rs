//! `demo`: the main job on embedded defaults, with no network and no cluster.

use super::{load, run};
use crate::{
    cli,
    demo::{SCRIPT, Target},
    exit::{Failure, code},
    logging::Level,
    process::Outside,
};

/// Starts the server, and runs the script against it with the Prometheus output.
pub(super) fn run(mut run: cli::Run, outside: &Outside) -> Result<u8, Failure> {
    let target = Target::start().map_err(|e| {
        Failure::new(
            code::OTHER,
            format!("could not start the server of the demo: {e}"),
        )
    })?;
    run.out
        .get_or_insert_with(|| vec!["prometheus=namespace=k6".to_owned()]);
    let url = target.url();
    let code = run::run(&run, outside, move |script, runtime, _, _| {
        let mut env = vec![("TARGET".to_owned(), url.clone())];
        env.extend(runtime.env.iter().cloned());
        Ok(load::embedded(script, SCRIPT, env))
    })?;
    let answered = format!(
        "the server of the demo answered {} requests",
        target.requests()
    );
    outside.logger.log(Level::Debug, &answered, &[]);
    Ok(code)
}
