//! Protocol buffers, written and read by hand.
//!
//! What outputs send consists mostly of labels that were encoded before and are copied; messages
//! as structs would build a hundred thousand strings for each request. The tests read it with
//! a library.

/// A message under construction. A field that is 0 or empty may be left out, as in proto3.
#[derive(Debug, Default, Clone)]
pub(super) struct Message(pub(super) Vec<u8>);

impl Message {
    pub(super) fn varint(&mut self, field: u32, value: u64) {
        self.tag(field, 0);
        push_varint(&mut self.0, value);
    }

    pub(super) fn sint(&mut self, field: u32, value: i64) {
        self.varint(field, zigzag(value));
    }

    pub(super) fn double(&mut self, field: u32, value: f64) {
        self.fixed64(field, value.to_bits());
    }

    pub(super) fn fixed64(&mut self, field: u32, value: u64) {
        self.tag(field, 1);
        self.0.extend(value.to_le_bytes());
    }

    pub(super) fn bytes(&mut self, field: u32, value: &[u8]) {
        self.length(field, value.len());
        self.0.extend(value);
    }

    /// A field of bytes that the caller appends.
    pub(super) fn length(&mut self, field: u32, length: usize) {
        self.tag(field, 2);
        push_varint(&mut self.0, length as u64);
    }

    pub(super) fn message(&mut self, field: u32, build: impl FnOnce(&mut Message)) {
        let mut inner = Message::default();
        build(&mut inner);
        self.bytes(field, &inner.0);
    }

    fn tag(&mut self, field: u32, wire_type: u32) {
        push_varint(&mut self.0, u64::from(field << 3 | wire_type));
    }
}

/// The content of a field that was received.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Field<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// The fields of a message by their numbers. It ends where the bytes are no message any more.
pub(super) fn fields(mut bytes: &[u8]) -> impl Iterator<Item = (u32, Field<'_>)> {
    std::iter::from_fn(move || {
        let key = take_varint(&mut bytes)?;
        let field = match key & 7 {
            0 => Field::Number(take_varint(&mut bytes)?),
            1 => Field::Number(u64::from_le_bytes(take(&mut bytes, 8)?.try_into().ok()?)),
            2 => {
                let length = take_varint(&mut bytes)?;
                Field::Bytes(take(&mut bytes, usize::try_from(length).ok()?)?)
            }
            5 => Field::Number(u32::from_le_bytes(take(&mut bytes, 4)?.try_into().ok()?).into()),
            _ => return None,
        };
        Some((u32::try_from(key >> 3).ok()?, field))
    })
}

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(taken)
}

fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

pub(super) fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

pub(super) fn push_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read() {
        let mut message = Message::default();
        message.varint(1, 300);
        message.double(2, 0.5);
        message.bytes(3, b"text");
        message.varint(70, u64::MAX);
        message.0.extend([5 << 3 | 5, 7, 0, 0, 0]);
        let read: Vec<_> = fields(&message.0).collect();
        assert_eq!(
            read,
            [
                (1, Field::Number(300)),
                (2, Field::Number(0.5f64.to_bits())),
                (3, Field::Bytes(b"text")),
                (70, Field::Number(u64::MAX)),
                (5, Field::Number(7)),
            ]
        );
    }

    #[test]
    fn what_is_no_message_ends_it() {
        let good = [1 << 3, 1];
        for bad in [
            &b"\x08"[..],
            b"\x0b",
            b"\x0a\x05text",
            b"\x09\x01",
            &[0xff; 11],
        ] {
            let bytes = [&good[..], bad].concat();
            assert_eq!(fields(&bytes).count(), 1, "{bad:?}");
        }
    }
}
