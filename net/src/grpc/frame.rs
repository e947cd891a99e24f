//! Messages in the data of a stream: a flag, four bytes of length, the message.

use std::io::Read;

use bytes::{BufMut, Bytes, BytesMut};
use flate2::read::GzDecoder;

use super::status::{Status, StatusCode};

/// Bytes before each message.
const PREFIX: usize = 5;
/// How much memory an announced length may claim before any of it has come.
const TRUSTED_LENGTH: usize = 1 << 20;

/// A message as it goes out, or why it cannot.
pub(super) fn encode(message: &Bytes, most: usize) -> Result<Bytes, Status> {
    if message.len() > most {
        let text = format!(
            "trying to send message larger than max ({} vs. {most})",
            message.len()
        );
        return Err(Status::new(StatusCode::RESOURCE_EXHAUSTED, text));
    }
    let mut framed = BytesMut::with_capacity(PREFIX + message.len());
    framed.put_u8(0);
    // `most` is what an i32 can say.
    framed.put_u32(message.len() as u32);
    framed.put_slice(message);
    Ok(framed.freeze())
}

/// Finds messages in what a stream receives.
#[derive(Debug)]
pub(super) struct Decoder {
    received: BytesMut,
    /// Longest message that is taken, packed or not.
    most: usize,
    /// What packed messages are packed with, as `grpc-encoding` says.
    coding: Option<String>,
}

impl Decoder {
    pub(super) fn new(most: usize) -> Self {
        Self {
            received: BytesMut::new(),
            most,
            coding: None,
        }
    }

    /// What the head of the answer has said about packed messages.
    pub(super) fn packed_with(&mut self, coding: &str) {
        self.coding = Some(coding.to_owned()).filter(|coding| coding != "identity");
    }

    pub(super) fn push(&mut self, data: &[u8]) {
        self.received.extend_from_slice(data);
    }

    /// Whether there is the beginning of a message that has not ended.
    pub(super) fn is_cut(&self) -> bool {
        !self.received.is_empty()
    }

    /// The next message, once all of it has come.
    pub(super) fn next(&mut self) -> Result<Option<Bytes>, Status> {
        let Some((&[flag, a, b, c, d], rest)) = self.received.split_first_chunk::<PREFIX>() else {
            return Ok(None);
        };
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        if flag > 1 {
            let text = format!("grpc: received unexpected payload format {flag}");
            return Err(Status::new(StatusCode::INTERNAL, text));
        }
        if length > self.most {
            return Err(self.too_large(length));
        }
        if rest.len() < length {
            let missing = length - rest.len();
            self.received.reserve(missing.min(TRUSTED_LENGTH));
            return Ok(None);
        }
        let mut message = self.received.split_to(PREFIX + length).freeze();
        let message = message.split_off(PREFIX);
        if flag == 0 {
            return Ok(Some(message));
        }
        self.unpack(&message).map(Some)
    }

    fn unpack(&self, packed: &[u8]) -> Result<Bytes, Status> {
        match self.coding.as_deref() {
            Some("gzip") => {}
            None => {
                let text = "grpc: compressed flag set with identity or empty encoding";
                return Err(Status::new(StatusCode::INTERNAL, text));
            }
            Some(other) => {
                let other = crate::url::quote(other);
                let text = format!("grpc: Decompressor is not installed for grpc-encoding {other}");
                return Err(Status::new(StatusCode::UNIMPLEMENTED, text));
            }
        }
        let mut plain = Vec::new();
        let mut reader = GzDecoder::new(packed).take(self.most as u64 + 1);
        reader.read_to_end(&mut plain).map_err(|error| {
            let text = format!("grpc: failed to decompress the received message: {error}");
            Status::new(StatusCode::INTERNAL, text)
        })?;
        if plain.len() > self.most {
            return Err(self.too_large(plain.len()));
        }
        Ok(plain.into())
    }

    fn too_large(&self, length: usize) -> Status {
        let text = format!(
            "grpc: received message larger than max ({length} vs. {})",
            self.most
        );
        Status::new(StatusCode::RESOURCE_EXHAUSTED, text)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compression, write::GzEncoder};

    use super::*;

    fn packed(plain: &[u8]) -> Vec<u8> {
        let mut writer = GzEncoder::new(Vec::new(), Compression::fast());
        writer.write_all(plain).expect("packed");
        let packed = writer.finish().expect("packed");
        let mut framed = vec![1];
        framed.extend_from_slice(&(packed.len() as u32).to_be_bytes());
        framed.extend_from_slice(&packed);
        framed
    }

    #[test]
    fn messages_come_out_as_they_went_in_wherever_the_data_is_cut() {
        let messages = [&b"one"[..], b"", &[7; 300]];
        let mut wire = Vec::new();
        for message in messages {
            let framed = encode(&Bytes::from_static(b"x").slice(..0), 0).expect("empty");
            assert_eq!(framed.len(), PREFIX);
            wire.extend(encode(&message.to_vec().into(), 300).expect("a frame"));
        }
        wire.extend(packed(b"packed"));
        for size in 1..wire.len() {
            let mut decoder = Decoder::new(300);
            decoder.packed_with("gzip");
            let mut found = Vec::new();
            for part in wire.chunks(size) {
                decoder.push(part);
                while let Some(message) = decoder.next().expect("a message") {
                    found.push(message);
                }
            }
            assert_eq!(found.len(), 4, "{size}");
            assert_eq!(found[..3], messages);
            assert_eq!(found[3], "packed");
            assert!(!decoder.is_cut());
        }
    }

    #[test]
    fn what_is_too_large_or_badly_packed_says_so() {
        let fault = |wire: &[u8], coding: &str| {
            let mut decoder = Decoder::new(10);
            decoder.packed_with(coding);
            decoder.push(wire);
            let status = decoder.next().expect_err("a fault");
            (status.code.0, status.message)
        };
        assert_eq!(
            fault(&[0, 0, 0, 0, 11], "gzip"),
            (
                8,
                "grpc: received message larger than max (11 vs. 10)".into()
            )
        );
        assert_eq!(
            fault(&[2, 0, 0, 0, 1], "gzip"),
            (13, "grpc: received unexpected payload format 2".into())
        );
        assert_eq!(
            fault(&[1, 0, 0, 0, 1, 7], "identity"),
            (
                13,
                "grpc: compressed flag set with identity or empty encoding".into()
            )
        );
        assert_eq!(
            fault(&[1, 0, 0, 0, 1, 7], "br"),
            (
                12,
                "grpc: Decompressor is not installed for grpc-encoding \"br\"".into()
            )
        );
        let (code, text) = fault(&[1, 0, 0, 0, 1, 7], "gzip");
        assert_eq!(code, 13);
        assert!(text.starts_with("grpc: failed to decompress"), "{text}");
        let mut decoder = Decoder::new(60);
        decoder.packed_with("gzip");
        decoder.push(&packed(&[0; 1000]));
        let status = decoder.next().expect_err("a fault");
        assert_eq!(
            status.message,
            "grpc: received message larger than max (61 vs. 60)"
        );
        let status = encode(&Bytes::from_static(b"123"), 2).expect_err("a fault");
        assert_eq!(
            status.message,
            "trying to send message larger than max (3 vs. 2)"
        );
    }
}
