//! AWS Signature Version 4, with which Amazon's Prometheus service wants its requests signed.

use http::{HeaderMap, HeaderName, HeaderValue, header::AUTHORIZATION};
use ring::{digest, hmac};

use crate::format::TimeWriter;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
const DATE: HeaderName = HeaderName::from_static("x-amz-date");

/// Signs requests to one host.
pub(super) struct Signer {
    region: String,
    service: &'static str,
    access_key: String,
    secret_key: String,
    host: String,
}

impl Signer {
    pub(super) fn new(region: &str, access_key: &str, secret_key: &str, host: &str) -> Self {
        Self {
            region: region.to_owned(),
            service: "aps",
            access_key: access_key.to_owned(),
            secret_key: secret_key.to_owned(),
            host: host.to_owned(),
        }
    }

    /// Adds what a request of this second needs.
    ///
    /// # Errors
    /// A key that cannot stand in a header.
    pub(super) fn sign(
        &self,
        headers: &mut HeaderMap,
        path: &str,
        body: &[u8],
        unix_seconds: i64,
    ) -> Result<(), String> {
        let mut time = String::new();
        TimeWriter::default().push(&mut time, unix_seconds * 1_000_000_000);
        time.retain(|c| c != '-' && c != ':');
        let day = &time[..8];
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let mut query: Vec<&str> = query.split('&').collect();
        query.sort_unstable();
        let signed = "host;x-amz-date";
        let request = format!(
            "POST\n{path}\n{}\nhost:{}\nx-amz-date:{time}\n\n{signed}\n{}",
            query.join("&"),
            self.host,
            hex(digest::digest(&digest::SHA256, body).as_ref())
        );
        let request = hex(digest::digest(&digest::SHA256, request.as_bytes()).as_ref());
        let scope = format!("{day}/{}/{}/aws4_request", self.region, self.service);
        let to_sign = format!("{ALGORITHM}\n{time}\n{scope}\n{request}");
        let mut key = format!("AWS4{}", self.secret_key).into_bytes();
        for part in [day, &self.region, self.service, "aws4_request"] {
            key = mac(&key, part).as_ref().to_vec();
        }
        let signature = hex(mac(&key, &to_sign).as_ref());
        let value = format!(
            "{ALGORITHM} Credential={}/{scope}, SignedHeaders={signed}, Signature={signature}",
            self.access_key
        );
        let value = HeaderValue::try_from(value);
        let mut value = value.map_err(|_| "the access key is no header".to_owned())?;
        value.set_sensitive(true);
        headers.insert(AUTHORIZATION, value);
        // Digits and two letters.
        headers.insert(
            DATE,
            HeaderValue::try_from(time).map_err(|e| e.to_string())?,
        );
        Ok(())
    }
}

fn mac(key: &[u8], text: &str) -> hmac::Tag {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `post-vanilla` and `post-vanilla-query` of Amazon's test suite for this version.
    #[test]
    fn signatures_are_those_of_the_test_suite() {
        let mut signer = Signer::new(
            "us-east-1",
            "AKIDEXAMPLE",
            "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
            "example.amazonaws.com",
        );
        signer.service = "service";
        for (path, signature) in [
            (
                "/",
                "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b",
            ),
            (
                "/?Param1=value1",
                "28038455d6de14eafc1f9222cf5aa6f1a96197d7deb8263271d420d138af7f11",
            ),
        ] {
            let mut headers = HeaderMap::new();
            signer.sign(&mut headers, path, b"", 1_440_938_160).unwrap();
            assert_eq!(headers[DATE], "20150830T123600Z");
            assert_eq!(
                headers[AUTHORIZATION],
                format!(
                    "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/\
                     aws4_request, SignedHeaders=host;x-amz-date, Signature={signature}"
                )
            );
        }
    }
}
