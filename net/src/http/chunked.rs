//! The chunked coding of bodies (RFC 9112, 7.1), as it comes in.

use super::trip::Trip;
use crate::error::ErrorKind;

/// Longest line with the length of a chunk, and all trailers together: Go's buffer is of this
/// size, and what does not fit is refused.
const LINE_MAX: usize = 4096;

/// Where in a chunked body we are.
#[derive(Debug, Default)]
pub(super) struct Chunked {
    place: Place,
    /// Length of the chunk as far as it was read, then what is missing of its data.
    size: u64,
    /// Bytes of the line, or of all trailers, so far.
    seen: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    /// At the hexadecimal length of a chunk.
    #[default]
    Size,
    /// Behind it: white space and extensions, to the end of the line.
    Extension,
    Data,
    /// The two bytes behind the data.
    DataCr,
    DataLf,
    /// At the start of a line of trailers, and within one.
    TrailerStart,
    Trailer,
    /// Behind the CR of the empty line.
    End,
    Done,
}

impl Chunked {
    pub(super) fn is_done(&self) -> bool {
        self.place == Place::Done
    }

    /// Takes what belongs to the body and returns the rest.
    pub(super) fn feed<'a>(
        &mut self,
        mut bytes: &'a [u8],
        trip: &mut Trip,
    ) -> Result<&'a [u8], ErrorKind> {
        while let Some((&byte, rest)) = bytes.split_first() {
            match self.place {
                Place::Done => return Ok(bytes),
                Place::Data => {
                    let part = bytes
                        .len()
                        .min(usize::try_from(self.size).unwrap_or(usize::MAX));
                    trip.push_slice(&bytes[..part]);
                    bytes = &bytes[part..];
                    self.size -= part as u64;
                    if self.size == 0 {
                        self.place = Place::DataCr;
                    }
                    continue;
                }
                _ => self.place = self.step(byte)?,
            }
            bytes = rest;
        }
        Ok(bytes)
    }

    /// The place behind a byte that is not data.
    fn step(&mut self, byte: u8) -> Result<Place, ErrorKind> {
        let wrong = |text: &str| Err(ErrorKind::Other(text.to_owned()));
        self.seen += 1;
        if self.seen > LINE_MAX {
            return wrong(match self.place {
                Place::TrailerStart | Place::Trailer | Place::End => {
                    "http: suspiciously long trailer after chunked body"
                }
                _ => "http chunked line too long",
            });
        }
        match (self.place, byte) {
            (Place::Size, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                if self.size >> 60 != 0 {
                    return wrong("http chunk length too large");
                }
                let digit = (byte as char).to_digit(16).unwrap_or_default();
                self.size = self.size << 4 | u64::from(digit);
                Ok(Place::Size)
            }
            (Place::Size, b'\r' | b'\n' | b' ' | b'\t' | b';') if self.seen == 1 => {
                wrong("empty hex number for chunk length")
            }
            (Place::Size | Place::Extension, b'\n') => {
                self.seen = 0;
                Ok(if self.size == 0 {
                    Place::TrailerStart
                } else {
                    Place::Data
                })
            }
            (Place::Size, b'\r' | b' ' | b'\t' | b';') | (Place::Extension, _) => {
                Ok(Place::Extension)
            }
            (Place::Size, _) => wrong("invalid byte in chunk length"),
            (Place::DataCr, b'\r') => Ok(Place::DataLf),
            (Place::DataLf, b'\n') => {
                self.seen = 0;
                Ok(Place::Size)
            }
            (Place::DataCr | Place::DataLf, _) => wrong("malformed chunked encoding"),
            (Place::TrailerStart, b'\r') => Ok(Place::End),
            (Place::TrailerStart | Place::End, b'\n') => Ok(Place::Done),
            (Place::Trailer, b'\n') => Ok(Place::TrailerStart),
            (Place::TrailerStart | Place::Trailer | Place::End, _) => Ok(Place::Trailer),
            (Place::Data | Place::Done, _) => unreachable!("handled by the caller"),
        }
    }
}
