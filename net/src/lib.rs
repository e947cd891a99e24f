//! The network engine: one HTTP client per VU, with the instants at which each phase happened.
//!
//! A leaf of the workspace: it knows no script, no metric and no scenario. It returns what
//! happened and how long it took.
