//! What a run measured: names, tags, samples, aggregates, thresholds and outputs.
//!
//! A leaf of the workspace: it knows no script, no scenario and no clock. Time arrives with
//! each sample and each tick.
