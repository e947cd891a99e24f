//! Digest authentication (RFC 7616): MD5 and SHA-256, also in their session forms, with `qop=auth`
//! or without `qop`.

use md5::{Digest as _, Md5};

use super::{challenge::Challenge, hex, random};

/// The request that is asked for.
pub(super) struct Asked<'a> {
    pub(super) method: &'a str,
    pub(super) target: &'a str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Algorithm {
    sha256: bool,
    session: bool,
}

impl Algorithm {
    fn of(challenge: &Challenge) -> Option<Self> {
        let name = challenge.get("algorithm").unwrap_or("MD5");
        let (base, session) = match name
            .len()
            .checked_sub(5)
            .and_then(|at| name.split_at_checked(at))
        {
            Some((base, end)) if end.eq_ignore_ascii_case("-sess") => (base, true),
            _ => (name, false),
        };
        let sha256 = base.eq_ignore_ascii_case("SHA-256");
        (sha256 || base.eq_ignore_ascii_case("MD5")).then_some(Self { sha256, session })
    }

    fn hash(self, text: &str) -> String {
        if self.sha256 {
            hex(ring::digest::digest(&ring::digest::SHA256, text.as_bytes()).as_ref())
        } else {
            hex(&Md5::digest(text.as_bytes()))
        }
    }
}

/// `Digest …` for the first challenge that can be met.
pub(super) fn answer(
    challenges: &[Challenge],
    user: &str,
    word: &str,
    asked: &Asked<'_>,
) -> Option<String> {
    let mut digests = challenges.iter().filter(|c| c.scheme == "digest");
    digests.find_map(|challenge| meet(challenge, user, word, asked, &hex(&random::<8>())))
}

fn meet(
    challenge: &Challenge,
    user: &str,
    word: &str,
    asked: &Asked<'_>,
    cnonce: &str,
) -> Option<String> {
    const COUNT: &str = "00000001";
    let algorithm = Algorithm::of(challenge)?;
    let (realm, nonce) = (
        challenge.get("realm").unwrap_or_default(),
        challenge.get("nonce")?,
    );
    let with_qop = match challenge.get("qop") {
        None => false,
        Some(list)
            if list
                .split(',')
                .any(|qop| qop.trim().eq_ignore_ascii_case("auth")) =>
        {
            true
        }
        Some(_) => return None,
    };
    let mut who = algorithm.hash(&format!("{user}:{realm}:{word}"));
    if algorithm.session {
        who = algorithm.hash(&format!("{who}:{nonce}:{cnonce}"));
    }
    let what = algorithm.hash(&format!("{}:{}", asked.method, asked.target));
    let response = if with_qop {
        algorithm.hash(&format!("{who}:{nonce}:{COUNT}:{cnonce}:auth:{what}"))
    } else {
        algorithm.hash(&format!("{who}:{nonce}:{what}"))
    };
    let mut header = format!(
        "Digest username=\"{}\", realm=\"{}\", nonce=\"{}\", uri=\"{}\", response=\"{response}\"",
        escaped(user),
        escaped(realm),
        escaped(nonce),
        asked.target.replace('"', "%22"),
    );
    if let Some(name) = challenge.get("algorithm") {
        header.push_str(&format!(", algorithm={name}"));
    }
    if with_qop {
        header.push_str(&format!(", qop=auth, nc={COUNT}"));
    }
    if with_qop || algorithm.session {
        header.push_str(&format!(", cnonce=\"{cnonce}\""));
    }
    if let Some(opaque) = challenge.get("opaque") {
        header.push_str(&format!(", opaque=\"{}\"", escaped(opaque)));
    }
    Some(header)
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}

#[cfg(test)]
mod tests {
    use super::{super::challenge, *};

    fn response(
        line: &str,
        user: &str,
        word: &str,
        asked: &Asked<'_>,
        cnonce: &str,
    ) -> Option<String> {
        let header = meet(&challenge::parse(line)[0], user, word, asked, cnonce)?;
        let parsed = challenge::parse(&header);
        parsed[0].get("response").map(str::to_owned)
    }

    /// RFC 7616, 3.9.1.
    #[test]
    fn the_examples_of_the_rfc_hold() {
        let asked = Asked {
            method: "GET",
            target: "/dir/index.html",
        };
        let line = |algorithm: &str| {
            format!(
                "Digest realm=\"http-auth@example.org\", qop=\"auth, auth-int\", algorithm={algorithm}, \
                 nonce=\"7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v\", \
                 opaque=\"FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS\""
            )
        };
        let cnonce = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ";
        let of = |algorithm| response(&line(algorithm), "Mufasa", "Circle of Life", &asked, cnonce);
        assert_eq!(
            of("MD5").as_deref(),
            Some("8ca523f5e9506fed4657c9700eebdbec")
        );
        assert_eq!(
            of("SHA-256").as_deref(),
            Some("753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1")
        );
    }

    /// RFC 2069, 2.4 as its erratum 749 corrects it.
    #[test]
    fn challenges_without_qop_are_met() {
        let line = "Digest realm=\"testrealm@host.com\", nonce=\"dcd98b7102dd2f0e8b11d0f600bfb0c093\", opaque=\"5ccc069c403ebaf9f0171e9517f40e41\"";
        let asked = Asked {
            method: "GET",
            target: "/dir/index.html",
        };
        assert_eq!(
            response(line, "Mufasa", "CircleOfLife", &asked, "").as_deref(),
            Some("1949323746fe6a43ef61f9606e7febea")
        );
    }

    #[test]
    fn what_cannot_be_met_is_left() {
        let asked = Asked {
            method: "GET",
            target: "/",
        };
        for line in [
            "Digest realm=\"a\"",
            "Digest realm=\"a\", nonce=\"b\", qop=\"auth-int\"",
            "Digest realm=\"a\", nonce=\"b\", algorithm=SHA-512-256",
        ] {
            assert_eq!(response(line, "u", "p", &asked, ""), None, "{line}");
        }
        let session = "Digest realm=\"a\", nonce=\"b\", algorithm=md5-SESS, qop=auth";
        let plain = "Digest realm=\"a\", nonce=\"b\", algorithm=MD5, qop=auth";
        let of = |line| response(line, "u", "p", &asked, "c").expect(line);
        assert_ne!(of(session), of(plain));
    }
}
