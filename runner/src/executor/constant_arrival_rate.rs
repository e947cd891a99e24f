//! `constant-arrival-rate`: iterations start at a fixed rate, whether earlier ones have ended or not.

use super::{
    BoxFuture, Kind, Run,
    arrival_rate::{self, Plan},
    schedule::Schedule,
};
use crate::options::ScenarioKind;

pub(super) const KIND: Kind = Kind {
    name: "constant-arrival-rate",
    run,
    columns: |scenario, tuple, progress| {
        let ScenarioKind::ConstantArrivalRate(config) = &scenario.kind else {
            return Vec::new();
        };
        let max = tuple.scale(config.max_vus()).max(0) as u64;
        let regular = config.duration().to_std();
        arrival_rate::columns(progress, max, regular, config.rate_of(tuple))
    },
};

fn run(run: Run) -> BoxFuture<Result<(), String>> {
    Box::pin(async move {
        let ScenarioKind::ConstantArrivalRate(config) = &run.scenario.kind else {
            return Err("not a constant-arrival-rate scenario".to_owned());
        };
        let scaled = |vus: i64| run.tuple.scale(vus).max(0) as u64;
        let plan = Plan {
            schedule: Schedule::constant(config, run.tuple.resegment(config.max_vus())?),
            vus: (scaled(config.pre_allocated_vus()), scaled(config.max_vus())),
            regular: config.duration().to_std(),
            lasts: true,
        };
        arrival_rate::run(&run, plan).await
    })
}
