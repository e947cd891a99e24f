//! The modules `k6/experimental/…`.

pub(crate) mod csv;
pub(super) mod fs;
pub(super) mod streams;
