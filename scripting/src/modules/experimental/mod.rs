//! The modules `k6/experimental/…`.

pub(super) mod csv;
pub(super) mod fs;
pub(super) mod streams;
