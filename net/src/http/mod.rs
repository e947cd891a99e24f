//! HTTP: a request goes in, an exchange comes out.

pub(crate) mod auth;
mod batch;
mod chunked;
pub(crate) mod client;
pub(crate) mod coding;
mod connection;
pub(crate) mod exchange;
mod head;
mod http2;
mod pool;
mod redirect;
mod reply;
mod trip;
pub(crate) mod watch;
pub(crate) mod wire;
