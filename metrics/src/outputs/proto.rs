//! Protocol buffers, written by hand.
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
