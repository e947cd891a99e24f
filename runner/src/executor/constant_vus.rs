//! `constant-vus`: a fixed number of VUs loop for a duration.

use super::{BoxFuture, Job, Kind, Numbers, Run, looping};
use crate::{options::ScenarioKind, progress::time_column};

pub(super) const KIND: Kind = Kind {
    name: "constant-vus",
    run,
    columns: |scenario, tuple, progress| {
        let ScenarioKind::ConstantVus(config) = &scenario.kind else {
            return Vec::new();
        };
        let duration = config.duration().to_std();
        let vus = tuple.scale(config.vus()).max(0) as u64;
        vec![
            looping::vus_column(vus),
            time_column(progress.spent(), duration),
        ]
    },
};

fn run(run: Run) -> BoxFuture<Result<(), String>> {
    Box::pin(async move {
        let ScenarioKind::ConstantVus(config) = &run.scenario.kind else {
            return Err("not a constant-vus scenario".to_owned());
        };
        let vus = run.tuple.scale(config.vus()).max(0) as u64;
        let start = tokio::time::Instant::now();
        let share = looping::elapsed_share(config.duration().to_std());
        let _ = run.progress.share.set(share);
        let pace = looping::Until(start + config.duration().to_std());
        let job = Job::new(
            run.progress.clone(),
            Numbers::new(run.tuple.clone()),
            Box::new(pace),
        );
        looping::run(
            &run,
            vus,
            config.duration().to_std(),
            run.scenario.graceful_stop().to_std(),
            job,
        )
        .await
    })
}
