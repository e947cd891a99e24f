//! Authentication that takes more than one round trip: digest and NTLM.
//!
//! The first round trip goes out as usual, with basic credentials for digest and without any for
//! NTLM; when its answer is a 401 with a challenge that we can meet, the next one carries the
//! answer to it.

mod challenge;
mod digest;
mod ntlm;

use http::header::WWW_AUTHENTICATE;
use ring::rand::{SecureRandom, SystemRandom};

use self::challenge::Challenge;
use super::{exchange::Response, redirect::Next};

/// How a request shows who it comes from, when its URL has credentials.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Auth {
    /// `Authorization: Basic` from the start.
    #[default]
    Basic,
    /// Digest (RFC 7616), after a 401.
    Digest,
    /// NTLM, bare or inside Negotiate, after a 401.
    Ntlm,
}

/// The rounds of one hop so far.
#[derive(Debug, Default)]
pub(super) struct Rounds(u8);

impl Rounds {
    /// The `Authorization` that answers a 401; `None` when it is the last word.
    pub(super) fn answer(
        &mut self,
        auth: Auth,
        made: &Next,
        response: &Response,
    ) -> Option<String> {
        if response.status != 401 || auth == Auth::Basic {
            return None;
        }
        let (user, word) = made.credentials()?;
        let word = word.unwrap_or_default();
        let round = self.0;
        self.0 += 1;
        let lines = response.headers.get_all(WWW_AUTHENTICATE).iter();
        let challenges: Vec<Challenge> = lines
            .flat_map(|line| challenge::parse(&String::from_utf8_lossy(line.as_bytes())))
            .collect();
        match (auth, round) {
            (Auth::Digest, 0) => {
                let target = made.url.target();
                let request = digest::Asked {
                    method: &made.method,
                    target: &target,
                };
                digest::answer(&challenges, user, word, &request)
            }
            (Auth::Ntlm, 0) => ntlm::greet(&challenges),
            (Auth::Ntlm, 1) => ntlm::answer(&challenges, user, word),
            _ => None,
        }
    }
}

pub(super) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    SystemRandom::new()
        .fill(&mut bytes)
        .expect("the system has random bytes");
    bytes
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
