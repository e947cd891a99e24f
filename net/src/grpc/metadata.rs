//! Headers and trailers of calls. Values of names that end in `-bin` are bytes, which travel in
//! base64; all others are printable ASCII.

use base64::{
    Engine,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use http::{HeaderMap, HeaderName, HeaderValue};

/// Written without padding and read either way, as the protocol asks.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_encode_padding(false)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Names that belong to the protocol. Callers cannot set them, and of those that are received only
/// the `content-type` is shown.
const RESERVED: [&str; 9] = [
    "content-type",
    "user-agent",
    "grpc-message-type",
    "grpc-encoding",
    "grpc-message",
    "grpc-status",
    "grpc-timeout",
    "grpc-accept-encoding",
    "te",
];

/// Names and values that go with a call or its answer; a name may have several.
#[derive(Clone, Debug, Default)]
pub struct Metadata(HeaderMap);

impl Metadata {
    /// Whether values of that name are bytes.
    pub fn is_binary(name: &str) -> bool {
        name.len() > 4 && name[name.len() - 4..].eq_ignore_ascii_case("-bin")
    }

    /// Adds a value: text, or bytes if the name ends in `-bin`. Names are the same in upper and
    /// lower case; those that belong to the protocol are passed over.
    ///
    /// # Errors
    /// That the name or the value cannot be sent.
    pub fn add(&mut self, name: &str, value: &[u8]) -> Result<(), String> {
        let quoted = crate::url::quote(name);
        let key = HeaderName::from_bytes(name.to_ascii_lowercase().as_bytes())
            .map_err(|_| format!("header key {quoted} contains illegal characters"))?;
        let made = if Self::is_binary(name) {
            HeaderValue::try_from(BASE64.encode(value))
        } else {
            HeaderValue::from_bytes(value)
        };
        let printable = |value: &HeaderValue| value.to_str().is_ok();
        let value = made.ok().filter(printable).ok_or_else(|| {
            format!("header key {quoted} contains value with non-printable ASCII characters")
        })?;
        if !RESERVED.contains(&key.as_str()) {
            self.0.append(key, value);
        }
        Ok(())
    }

    /// What was received, without what belongs to the protocol.
    pub(super) fn received(headers: HeaderMap) -> Self {
        let hidden = |name: &HeaderName| RESERVED[1..].contains(&name.as_str());
        // Removing names from a map would change the order of those that stay.
        let mut shown = HeaderMap::with_capacity(headers.len());
        for name in headers.keys().filter(|name| !hidden(name)) {
            for value in headers.get_all(name) {
                shown.append(name, value.clone());
            }
        }
        Self(shown)
    }

    pub(super) fn headers(&self) -> &HeaderMap {
        &self.0
    }

    /// Names with their values, in the order in which they came; bytes that are not what their name
    /// promises are as they came.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Vec<Vec<u8>>)> {
        self.0.keys().map(|name| {
            let values = self.0.get_all(name).iter();
            let plain = |value: &HeaderValue| value.as_bytes().to_vec();
            let values = values.map(|value| match Self::is_binary(name.as_str()) {
                true => BASE64.decode(value).unwrap_or_else(|_| plain(value)),
                false => plain(value),
            });
            (name.as_str(), values.collect())
        })
    }

    /// The first value of that name.
    pub fn get(&self, name: &str) -> Option<Vec<u8>> {
        let mut all = self.iter();
        let (_, values) = all.find(|(known, _)| *known == name)?;
        values.into_iter().next()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_travel_in_base64_and_text_as_it_is() {
        let mut metadata = Metadata::default();
        metadata.add("X-Text", b"a b").expect("text");
        metadata.add("x-text", b"c").expect("text");
        metadata.add("X-Data-Bin", &[0, 255, 1, 2]).expect("bytes");
        metadata.add("Grpc-Timeout", b"1S").expect("passed over");
        let sent = metadata.headers().iter();
        let sent: Vec<_> = sent.map(|(n, v)| (n.as_str(), v.as_bytes())).collect();
        assert_eq!(
            sent,
            [
                ("x-text", &b"a b"[..]),
                ("x-text", b"c"),
                ("x-data-bin", b"AP8BAg")
            ]
        );
        let mut headers = metadata.headers().clone();
        for (name, value) in [
            ("content-type", "application/grpc"),
            ("grpc-encoding", "gzip"),
            ("y-bin", "AA=="),
            ("z-bin", "no!"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        let received = Metadata::received(headers);
        let all: Vec<_> = received.iter().collect();
        assert_eq!(
            all,
            [
                ("x-text", vec![b"a b".to_vec(), b"c".to_vec()]),
                ("x-data-bin", vec![vec![0, 255, 1, 2]]),
                ("content-type", vec![b"application/grpc".to_vec()]),
                ("y-bin", vec![vec![0]]),
                ("z-bin", vec![b"no!".to_vec()]),
            ]
        );
    }

    #[test]
    fn what_cannot_be_sent_is_refused() {
        let mut metadata = Metadata::default();
        assert_eq!(
            metadata.add("a b", b"c").unwrap_err(),
            "header key \"a b\" contains illegal characters"
        );
        for bad in ["é", "a\nb"] {
            assert_eq!(
                metadata.add("a", bad.as_bytes()).unwrap_err(),
                "header key \"a\" contains value with non-printable ASCII characters"
            );
        }
    }
}
