//! `volley demo`: the main job on embedded defaults, with no network and no cluster.

mod target;

pub(crate) use target::Target;

/// The script that the demo runs.
pub(crate) const SCRIPT: &str = include_str!("script.js");
