//! HTTP/2 as bytes (RFC 9113, and the part of RFC 7541 that needs no tables): a server made of
//! these can say what a library would not let it say.

use std::io::{self, Read};

/// What a client says first.
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Types of frames.
pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PUSH_PROMISE: u8 = 5;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

/// Flags: the same bit is an acknowledgement in SETTINGS and PING.
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const ACK: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;
pub(crate) const PADDED: u8 = 8;

/// Settings.
pub(crate) const INITIAL_WINDOW_SIZE: u16 = 4;

/// What a frame may hold as long as nobody has agreed on more.
const FRAME_MAX: usize = 16_384;

/// A frame that has come.
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    /// The next one of a stream.
    ///
    /// # Errors
    /// When the stream ends, or fails.
    pub(crate) fn read(from: &mut impl Read) -> io::Result<Self> {
        let mut head = [0; 9];
        from.read_exact(&mut head)?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        from.read_exact(&mut payload)?;
        Ok(Self {
            kind: head[3],
            flags: head[4],
            stream: u32::from_be_bytes([head[5] & 0x7f, head[6], head[7], head[8]]),
            payload,
        })
    }

    /// The number at the end of its first so many bytes.
    pub(crate) fn number(&self, end: usize) -> u32 {
        let bytes = self.payload.get(end - 4..end);
        bytes.map_or(0, |b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]))
    }
}

/// Any frame.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a short frame");
    let mut bytes = length.to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// SETTINGS with these.
pub(crate) fn settings(all: &[(u16, u32)]) -> Vec<u8> {
    let mut payload = Vec::new();
    for (name, value) in all {
        payload.extend(name.to_be_bytes());
        payload.extend(value.to_be_bytes());
    }
    frame(SETTINGS, 0, 0, &payload)
}

/// RST_STREAM.
pub(crate) fn reset(stream: u32, code: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &code.to_be_bytes())
}

/// GOAWAY: the last stream that something was or may be done about.
pub(crate) fn goaway(last: u32, code: u32) -> Vec<u8> {
    let payload = [last.to_be_bytes(), code.to_be_bytes()].concat();
    frame(GOAWAY, 0, 0, &payload)
}

/// WINDOW_UPDATE; stream 0 is the connection.
pub(crate) fn window(stream: u32, more: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, &more.to_be_bytes())
}

/// DATA, as many frames as it takes; the last of them may end the stream.
pub(crate) fn data(stream: u32, body: &[u8], end: bool) -> Vec<u8> {
    split(body, |part, last| {
        frame(DATA, u8::from(end && last) * END_STREAM, stream, part)
    })
}

/// HEADERS, and CONTINUATION where it takes more; the stream may end with them.
pub(crate) fn head(stream: u32, headers: &[(&str, &str)], end: bool) -> Vec<u8> {
    let flags = u8::from(end) * END_STREAM;
    let mut kind = HEADERS;
    split(&block(headers), |part, last| {
        let first = u8::from(kind == HEADERS) * flags;
        let made = frame(kind, first | (u8::from(last) * END_HEADERS), stream, part);
        kind = CONTINUATION;
        made
    })
}

fn split(all: &[u8], mut each: impl FnMut(&[u8], bool) -> Vec<u8>) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut left = all;
    loop {
        let (part, rest) = left.split_at(left.len().min(FRAME_MAX));
        left = rest;
        bytes.extend(each(part, left.is_empty()));
        if left.is_empty() {
            return bytes;
        }
    }
}

/// A block of headers, each written out: a literal with a new name that enters no table.
pub(crate) fn block(headers: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, value) in headers {
        bytes.push(0);
        for text in [name, value] {
            integer(text.len(), &mut bytes);
            bytes.extend(text.as_bytes());
        }
    }
    bytes
}

/// An integer with a prefix of seven bits (RFC 7541, 5.1), the bit before it 0: no Huffman code.
fn integer(mut value: usize, bytes: &mut Vec<u8>) {
    if value < 127 {
        bytes.push(value as u8);
        return;
    }
    bytes.push(127);
    value -= 127;
    while value >= 128 {
        bytes.push((value % 128) as u8 | 128);
        value /= 128;
    }
    bytes.push(value as u8);
}
