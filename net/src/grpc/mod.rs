//! gRPC: messages of bytes, over streams of HTTP/2 to methods of a server.
//!
//! The protocol is a thin one (PROTOCOL-HTTP2.md of the gRPC project): a path, a handful of
//! headers, five bytes before each message, a status in the trailers. It is written here on `h2`,
//! which the tree has anyway, and not taken from tonic: there it would bring tower, a pool and a
//! task for each connection, and neither our dial with its rules and its count of bytes, nor the
//! connection that is driven by whoever waits for it (`http/http2.rs`).
//!
//! - `channel.rs`: a server to call; connects, and again when a connection has ended.
//! - `call.rs`: one call, from its head to its status; streams of messages both ways.
//! - `frame.rs`: messages in the data of a stream.
//! - `metadata.rs`: headers and trailers as callers see them.
//! - `status.rs`: how calls end, in the words of Go's library, which scripts and people know.
//!
//! What the bytes of a message mean is nothing that is known here.

mod call;
mod channel;
mod frame;
mod metadata;
mod status;

pub use self::{
    call::{Call, CallRequest, Event, Outcome},
    channel::{Channel, ChannelOptions, ChannelTls, Reply},
    metadata::Metadata,
    status::{Status, StatusCode},
};

#[cfg(test)]
mod tests;
