//! What a stapled OCSP response says (RFC 6960). Its signature is not checked, as in the reference:
//! it is shown, and decides nothing.

use std::cell::Cell;

use super::der::{Der, ENUMERATED, OCTETS, SEQUENCE, TIME, context};
use crate::cookie::days_since_1970;

/// A stapled OCSP response. Times are seconds since 1970, 0 where there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ocsp {
    /// When it was signed.
    pub produced_at: i64,
    /// Since when it is known to be right.
    pub this_update: i64,
    /// When there will be a newer one.
    pub next_update: i64,
    /// When the certificate was revoked.
    pub revoked_at: i64,
    /// Why, for example `key_compromise`; empty for a certificate that is good.
    pub reason: &'static str,
    /// `good`, `revoked` or `unknown`.
    pub status: &'static str,
}

/// The reasons of RFC 5280, by their numbers.
const REASONS: [&str; 11] = [
    "unspecified",
    "key_compromise",
    "ca_compromise",
    "affiliation_changed",
    "superseded",
    "cessation_of_operation",
    "certificate_hold",
    "",
    "remove_from_crl",
    "privilege_withdrawn",
    "aa_compromise",
];

impl Ocsp {
    pub(super) fn parse(response: &[u8]) -> Option<Self> {
        let mut response = Der(response).expect(SEQUENCE)?.inside();
        if response.expect(ENUMERATED)?.content != [0] {
            return None;
        }
        let mut bytes = response.expect(context(0))?.inside();
        let mut bytes = bytes.expect(SEQUENCE)?.inside();
        bytes.next()?;
        let basic = bytes.expect(OCTETS)?.content;
        let mut data = Der(basic).expect(SEQUENCE)?.inside();
        let mut data = data.expect(SEQUENCE)?.inside();
        data.optional(context(0));
        data.next()?;
        let produced_at = time(data.expect(TIME)?.content)?;
        let mut single = data.expect(SEQUENCE)?.inside();
        let mut single = single.expect(SEQUENCE)?.inside();
        single.expect(SEQUENCE)?;
        let certificate = single.next()?;
        let (mut revoked_at, mut reason) = (0, "");
        let status = match certificate.tag & 0x1f {
            0 => "good",
            1 => {
                let mut revoked = certificate.inside();
                revoked_at = time(revoked.expect(TIME)?.content)?;
                let number = revoked.optional(context(0));
                let number = number.and_then(|number| number.inside().expect(ENUMERATED));
                let number = number.and_then(|number| number.content.first().copied());
                let known = REASONS.get(usize::from(number.unwrap_or(0)));
                reason = known.copied().unwrap_or_default();
                "revoked"
            }
            _ => "unknown",
        };
        let this_update = time(single.expect(TIME)?.content)?;
        let next_update = single.optional(context(0));
        let next_update = next_update.and_then(|next| time(next.inside().expect(TIME)?.content));
        Some(Self {
            produced_at,
            this_update,
            next_update: next_update.unwrap_or(0),
            revoked_at,
            reason,
            status,
        })
    }
}

/// `20260102030405Z`.
pub(super) fn time(text: &[u8]) -> Option<i64> {
    let digits = text
        .strip_suffix(b"Z")
        .filter(|digits| digits.len() == 14)?;
    let number = |from: usize, to: usize| -> Option<i64> {
        std::str::from_utf8(&digits[from..to]).ok()?.parse().ok()
    };
    let days = days_since_1970(number(0, 4)?, number(4, 6)?, number(6, 8)?);
    Some(days * 86_400 + number(8, 10)? * 3600 + number(10, 12)? * 60 + number(12, 14)?)
}

thread_local! {
    /// What the certificate that was verified last on this thread came with: a verifier serves all
    /// connections and knows none of them, but it is called while one is polled.
    static STAPLE: Cell<Option<Ocsp>> = const { Cell::new(None) };
}

/// Notes the staple of the certificate being verified.
pub(super) fn note(response: &[u8]) {
    if !response.is_empty() {
        STAPLE.set(Ocsp::parse(response));
    }
}

/// What has been noted since the last call, on this thread.
pub(crate) fn noted() -> Option<Ocsp> {
    STAPLE.take()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    // Made by `openssl ocsp` for a certificate with the serial number 0x1234.
    pub(crate) const GOOD: &str = "308201010a0100a081fb3081f806092b06010505073001010481ea3081e730818ea11430123110300e06035504030c0774657374206361180f32303236313132343133313731365a30653063303b300906052b0e03021a050004148354ba4e003afdaac51e79c7f3397c5804c8e17b041404ca1c90ecbdfc84636c9cbff00de56cee4c4d8e020212348000180f32303236313132343133313731365aa011180f32303236313232343133313731365a300a06082a8648ce3d040302034800304502210087c42c20abd205e03398621e5585dffe4e9bfc6abc92917c5f46560500ee864d02206ec070742097305ade4d537227e366ea82b15cc158f1144095c30bbb1479264f";
    const REVOKED: &str = "308201180a0100a08201113082010d06092b06010505073001010481ff3081fc3081a4a11430123110300e06035504030c0774657374206361180f32303236313132343133313731365a307b3079303b300906052b0e03021a050004148354ba4e003afdaac51e79c7f3397c5804c8e17b041404ca1c90ecbdfc84636c9cbff00de56cee4c4d8e02021234a116180f32303236303130323033303430355aa0030a0101180f32303236313132343133313731365aa011180f32303236313232343133313731365a300a06082a8648ce3d0403020347003044022006548640f86b8c332cc18b4d2b2c541c0ec9aa2141aa8ced2694862357627ac502204e423049074f591d4cb0d420d40d43f0952d170758d1e450427eca3253793834";

    pub(crate) fn bytes(hex: &str) -> Vec<u8> {
        (0..hex.len() / 2)
            .map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).expect("hex"))
            .collect()
    }

    #[test]
    fn responses_are_read() {
        let (now, later) = (1_795_526_236, 1_798_118_236);
        let good = Ocsp {
            produced_at: now,
            this_update: now,
            next_update: later,
            revoked_at: 0,
            reason: "",
            status: "good",
        };
        assert_eq!(Ocsp::parse(&bytes(GOOD)), Some(good));
        let revoked = Ocsp {
            revoked_at: 1_767_323_045,
            reason: "key_compromise",
            status: "revoked",
            ..good
        };
        assert_eq!(Ocsp::parse(&bytes(REVOKED)), Some(revoked));
    }

    #[test]
    fn broken_responses_are_none() {
        let whole = bytes(GOOD);
        for length in 0..whole.len() {
            assert_eq!(Ocsp::parse(&whole[..length]), None, "{length}");
        }
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 0xff;
            // Whatever comes of it, it comes without a panic.
            let _ = Ocsp::parse(&changed);
        }
        // The responder asks to try later.
        assert_eq!(Ocsp::parse(&[0x30, 3, 0x0a, 1, 3]), None);
    }
}
