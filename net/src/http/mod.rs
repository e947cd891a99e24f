//! HTTP: a request goes in, an exchange comes out.

pub(crate) mod client;
mod connection;
pub(crate) mod exchange;
mod head;
mod pool;
mod redirect;
mod trip;
pub(crate) mod wire;
