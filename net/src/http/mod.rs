//! HTTP: a request goes in, an exchange comes out.

mod age;
pub(crate) mod auth;
mod batch;
mod chunked;
pub(crate) mod client;
pub(crate) mod coding;
pub(crate) mod connection;
pub(crate) mod exchange;
pub(crate) mod head;
pub(crate) mod http2;
mod pool;
mod redirect;
pub(crate) mod reply;
pub(crate) mod trip;
pub(crate) mod watch;
pub(crate) mod wire;
