//! NTLM version 2 (MS-NLMP), as far as HTTP needs it: no signing, no sealing.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use md4::{Digest, Md4};
use md5::Md5;

use super::{challenge::Challenge, random};

const SIGNATURE: &[u8; 8] = b"NTLMSSP\0";
/// Unicode, target name wanted, NTLM, always sign, extended session security, target information,
/// 128 and 56 bits: what a client says that knows version 2 only.
const FLAGS: u32 = 0x1 | 0x4 | 0x200 | 0x8000 | 0x8_0000 | 0x80_0000 | 0x2000_0000 | 0x8000_0000;
/// The server's time in the target information (`MsvAvTimestamp`).
const TIMESTAMP: u16 = 7;
/// From 1601 to 1970, in units of 100 ns.
const EPOCH: u64 = 116_444_736_000_000_000;

/// The scheme under which a server speaks NTLM.
fn offered(challenges: &[Challenge]) -> Option<(&'static str, &Challenge)> {
    [("ntlm", "NTLM"), ("negotiate", "Negotiate")]
        .into_iter()
        .find_map(|(scheme, name)| {
            let mut offers = challenges.iter();
            let offer = offers.find(|challenge| challenge.scheme == scheme)?;
            Some((name, offer))
        })
}

/// The first message.
pub(super) fn greet(challenges: &[Challenge]) -> Option<String> {
    let (scheme, _) = offered(challenges)?;
    let mut message = SIGNATURE.to_vec();
    message.extend_from_slice(&1u32.to_le_bytes());
    message.extend_from_slice(&FLAGS.to_le_bytes());
    // Neither domain nor workstation: two empty fields.
    message.extend_from_slice(&[0; 16]);
    Some(format!("{scheme} {}", STANDARD.encode(message)))
}

/// The message that answers the server's challenge.
pub(super) fn answer(challenges: &[Challenge], user: &str, word: &str) -> Option<String> {
    let (scheme, challenge) = offered(challenges)?;
    let challenge = STANDARD.decode(&challenge.token).ok()?;
    let (domain, user) = user.split_once('\\').unwrap_or(("", user));
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = since.unwrap_or_default().as_nanos() as u64 / 100 + EPOCH;
    let message = authenticate(&challenge, domain, user, word, random(), now)?;
    Some(format!("{scheme} {}", STANDARD.encode(message)))
}

fn authenticate(
    challenge: &[u8],
    domain: &str,
    user: &str,
    word: &str,
    mine: [u8; 8],
    now: u64,
) -> Option<Vec<u8>> {
    if challenge.get(..8)? != SIGNATURE || challenge.get(8..12)? != 2u32.to_le_bytes() {
        return None;
    }
    let flags = u32::from_le_bytes(challenge.get(20..24)?.try_into().ok()?);
    let theirs: [u8; 8] = challenge.get(24..32)?.try_into().ok()?;
    let target = field(challenge, 40).unwrap_or_default();
    let stamp = timestamp(target);
    let key = key(domain, user, word);
    let answers = respond(&key, theirs, mine, stamp.unwrap_or(now), target);
    // A server that says its time wants no answer in the old form.
    let old = if stamp.is_some() {
        vec![0; 24]
    } else {
        answers.old
    };
    let parts = [
        old,
        answers.new,
        utf16(domain),
        utf16(user),
        Vec::new(),
        Vec::new(),
    ];
    let mut message = SIGNATURE.to_vec();
    message.extend_from_slice(&3u32.to_le_bytes());
    let mut offset = 12 + 8 * parts.len() + 4;
    for part in &parts {
        let length = u16::try_from(part.len()).ok()?;
        message.extend_from_slice(&length.to_le_bytes());
        message.extend_from_slice(&length.to_le_bytes());
        message.extend_from_slice(&u32::try_from(offset).ok()?.to_le_bytes());
        offset += part.len();
    }
    message.extend_from_slice(&(FLAGS & flags).to_le_bytes());
    for part in &parts {
        message.extend_from_slice(part);
    }
    Some(message)
}

/// The bytes that a length, a room and an offset at `at` point to.
fn field(message: &[u8], at: usize) -> Option<&[u8]> {
    let length = u16::from_le_bytes(message.get(at..at + 2)?.try_into().ok()?);
    let offset = u32::from_le_bytes(message.get(at + 4..at + 8)?.try_into().ok()?);
    let start = usize::try_from(offset).ok()?;
    message.get(start..start.checked_add(usize::from(length))?)
}

fn timestamp(mut target: &[u8]) -> Option<u64> {
    loop {
        let id = u16::from_le_bytes(target.get(..2)?.try_into().ok()?);
        let length = usize::from(u16::from_le_bytes(target.get(2..4)?.try_into().ok()?));
        let value = target.get(4..4 + length)?;
        match id {
            0 => return None,
            TIMESTAMP => return Some(u64::from_le_bytes(value.try_into().ok()?)),
            _ => target = &target[4 + length..],
        }
    }
}

fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

fn hmac(key: &[u8], parts: &[&[u8]]) -> [u8; 16] {
    let mut mac = Hmac::<Md5>::new_from_slice(key).expect("any length will do");
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

/// `NTOWFv2`.
fn key(domain: &str, user: &str, word: &str) -> [u8; 16] {
    let word = Md4::digest(utf16(word));
    hmac(&word, &[&utf16(&user.to_uppercase()), &utf16(domain)])
}

struct Answers {
    old: Vec<u8>,
    new: Vec<u8>,
}

fn respond(key: &[u8; 16], theirs: [u8; 8], mine: [u8; 8], time: u64, target: &[u8]) -> Answers {
    let mut blob = vec![1, 1, 0, 0, 0, 0, 0, 0];
    blob.extend_from_slice(&time.to_le_bytes());
    blob.extend_from_slice(&mine);
    blob.extend_from_slice(&[0; 4]);
    blob.extend_from_slice(target);
    blob.extend_from_slice(&[0; 4]);
    let mut new = hmac(key, &[&theirs, &blob]).to_vec();
    new.extend_from_slice(&blob);
    let mut old = hmac(key, &[&theirs, &mine]).to_vec();
    old.extend_from_slice(&mine);
    Answers { old, new }
}

#[cfg(test)]
mod tests {
    use super::{super::hex, *};

    const THEIRS: [u8; 8] = [0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef];
    const MINE: [u8; 8] = [0xaa; 8];

    fn pair(id: u16, value: &[u8]) -> Vec<u8> {
        [
            &id.to_le_bytes(),
            &(value.len() as u16).to_le_bytes(),
            value,
        ]
        .concat()
    }

    fn target() -> Vec<u8> {
        [
            pair(2, &utf16("Domain")),
            pair(1, &utf16("Server")),
            pair(0, &[]),
        ]
        .concat()
    }

    /// A server's message with this target information at its end.
    fn challenge(target: &[u8]) -> Vec<u8> {
        let mut message = SIGNATURE.to_vec();
        message.extend_from_slice(&2u32.to_le_bytes());
        message.extend_from_slice(&[0; 8]);
        message.extend_from_slice(&0xe28a_8233_u32.to_le_bytes());
        message.extend_from_slice(&THEIRS);
        message.extend_from_slice(&[0; 8]);
        let length = target.len() as u16;
        message.extend_from_slice(&length.to_le_bytes());
        message.extend_from_slice(&length.to_le_bytes());
        message.extend_from_slice(&48u32.to_le_bytes());
        message.extend_from_slice(target);
        message
    }

    /// MS-NLMP, 4.2.4.
    #[test]
    fn the_examples_of_the_specification_hold() {
        let key = key("Domain", "User", "Password");
        assert_eq!(hex(&key), "0c868a403bfd7a93a3001ef22ef02e3f");
        let answers = respond(&key, THEIRS, MINE, 0, &target());
        assert_eq!(
            hex(&answers.old),
            "86c35097ac9cec102554764a57cccc19aaaaaaaaaaaaaaaa"
        );
        assert_eq!(hex(&answers.new[..16]), "68cd0ab851e51c96aabc927bebef6a1c");
    }

    #[test]
    fn messages_hold_what_their_fields_point_to() {
        let message = authenticate(&challenge(&target()), "Domain", "User", "Password", MINE, 0)
            .expect("a good challenge");
        assert_eq!(
            hex(field(&message, 12).expect("old")),
            "86c35097ac9cec102554764a57cccc19aaaaaaaaaaaaaaaa"
        );
        assert!(
            hex(field(&message, 20).expect("new")).starts_with("68cd0ab851e51c96aabc927bebef6a1c")
        );
        assert_eq!(field(&message, 28), Some(&utf16("Domain")[..]));
        assert_eq!(field(&message, 36), Some(&utf16("User")[..]));
        let dated = [pair(TIMESTAMP, &5u64.to_le_bytes()), target()].concat();
        let message =
            authenticate(&challenge(&dated), "", "User", "Password", MINE, 9).expect("good");
        assert_eq!(field(&message, 12), Some(&[0; 24][..]));
        let new = field(&message, 20).expect("new");
        assert_eq!(new[24..32], 5u64.to_le_bytes(), "the server's time");
    }

    #[test]
    fn broken_challenges_are_not_answered() {
        let whole = challenge(&target());
        for length in 0..32 {
            assert_eq!(
                authenticate(&whole[..length], "", "u", "p", MINE, 0),
                None,
                "{length}"
            );
        }
        for length in 32..whole.len() {
            // The target information is missing or cut; there is nothing to read past the end.
            let _ = authenticate(&whole[..length], "", "u", "p", MINE, 0);
        }
        let mut wrong = whole;
        wrong[8] = 3;
        assert_eq!(authenticate(&wrong, "", "u", "p", MINE, 0), None);
    }
}
