//! `ramping-arrival-rate`: iterations start at a rate that changes from stage to stage.

use super::{
    BoxFuture, Kind, Run,
    arrival_rate::{self, Plan},
    schedule::Schedule,
};
use crate::options::ScenarioKind;

pub(super) const KIND: Kind = Kind {
    name: "ramping-arrival-rate",
    run,
    columns: |scenario, tuple, progress| {
        let ScenarioKind::RampingArrivalRate(config) = &scenario.kind else {
            return Vec::new();
        };
        let max = tuple.scale(config.max_vus()).max(0) as u64;
        arrival_rate::columns(progress, max, config.length().to_std(), progress.rate())
    },
};

fn run(run: Run) -> BoxFuture<Result<(), String>> {
    Box::pin(async move {
        let ScenarioKind::RampingArrivalRate(config) = &run.scenario.kind else {
            return Err("not a ramping-arrival-rate scenario".to_owned());
        };
        let scaled = |vus: i64| run.tuple.scale(vus).max(0) as u64;
        let plan = Plan {
            schedule: Schedule::ramping(config, run.tuple.resegment(config.max_vus())?),
            vus: (scaled(config.pre_allocated_vus()), scaled(config.max_vus())),
            regular: config.length().to_std(),
            lasts: false,
        };
        arrival_rate::run(&run, plan).await
    })
}
