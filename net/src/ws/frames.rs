//! Frames: what goes before each piece of a message, and what is wrong with some.

use std::io::Cursor;

use bytes::{Buf, Bytes, BytesMut};
use tungstenite::{
    error::ProtocolError,
    protocol::frame::{
        Frame as Written, FrameHeader,
        coding::{Control, Data, OpCode},
    },
};

use super::close::Error;

/// The longest payload of a frame that is not part of a message, in bytes.
pub(super) const CONTROL_MAX: usize = 125;

/// Whole frames of a peer.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) opcode: OpCode,
    /// Whether it is the last one of its message.
    pub(super) last: bool,
    /// Whether it begins a packed message.
    pub(super) packed: bool,
    pub(super) payload: Bytes,
}

/// What frames may look like at this moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Expected {
    /// Whether a message has begun that has not ended.
    pub(super) within: bool,
    /// Whether messages may be packed.
    pub(super) packed: bool,
    /// The most that the payload of a piece of a message may hold, in bytes.
    pub(super) room: usize,
}

/// Takes the next frame out of what has come, if all of it is there.
///
/// # Errors
/// When the peer does not keep to the protocol, or sends more than there is room for; known as
/// soon as the header is there.
pub(super) fn take(input: &mut BytesMut, expected: Expected) -> Result<Option<Frame>, Error> {
    let mut cursor = Cursor::new(&input[..]);
    let (header, length) = match FrameHeader::parse(&mut cursor) {
        Ok(Some(parsed)) => parsed,
        Ok(None) => return Ok(None),
        Err(tungstenite::Error::Protocol(ProtocolError::InvalidOpcode(code))) => {
            return Err(Error::Protocol(format!("bad opcode {code}")));
        }
        Err(error) => return Err(Error::Protocol(error.to_string())),
    };
    let start = cursor.position() as usize;
    check(&header, length, expected)?;
    let room = match header.opcode {
        OpCode::Control(_) => CONTROL_MAX,
        OpCode::Data(_) => expected.room,
    };
    let length = usize::try_from(length).ok();
    let length = length
        .filter(|length| *length <= room)
        .ok_or(Error::TooLarge)?;
    if input.len() - start < length {
        return Ok(None);
    }
    input.advance(start);
    Ok(Some(Frame {
        opcode: header.opcode,
        last: header.is_final,
        packed: header.rsv1,
        payload: input.split_to(length).freeze(),
    }))
}

/// Looks for all that is wrong with a header.
fn check(header: &FrameHeader, length: u64, expected: Expected) -> Result<(), Error> {
    let control = matches!(header.opcode, OpCode::Control(_));
    let continues = header.opcode == OpCode::Data(Data::Continue);
    let begins = !control && !continues;
    let wrong = [
        (header.rsv1 && !(expected.packed && begins), "RSV1 set"),
        (header.rsv2, "RSV2 set"),
        (header.rsv3, "RSV3 set"),
        (
            control && length > CONTROL_MAX as u64,
            "len > 125 for control",
        ),
        (control && !header.is_final, "FIN not set on control"),
        (begins && expected.within, "data before FIN"),
        (continues && !expected.within, "continuation after FIN"),
        (header.mask.is_some(), "bad MASK"),
    ];
    let wrong: Vec<&str> = wrong
        .into_iter()
        .filter_map(|(is, text)| is.then_some(text))
        .collect();
    if wrong.is_empty() {
        return Ok(());
    }
    Err(Error::Protocol(wrong.join(", ")))
}

/// A frame as clients send it: whole messages, masked.
pub(super) fn write(opcode: OpCode, packed: bool, payload: Vec<u8>, output: &mut Vec<u8>) {
    let header = FrameHeader {
        is_final: true,
        rsv1: packed,
        opcode,
        mask: Some(rand::random()),
        ..FrameHeader::default()
    };
    // The longest header has 14 bytes.
    output.reserve(payload.len() + 14);
    // Writing to memory does not fail.
    let _ = Written::from_payload(header, payload.into()).format(output);
}

/// The kinds of frames that stand alone.
pub(super) const CLOSE: OpCode = OpCode::Control(Control::Close);
pub(super) const PING: OpCode = OpCode::Control(Control::Ping);
pub(super) const PONG: OpCode = OpCode::Control(Control::Pong);
/// Those that begin a message.
pub(super) const TEXT: OpCode = OpCode::Data(Data::Text);
pub(super) const BINARY: OpCode = OpCode::Data(Data::Binary);
