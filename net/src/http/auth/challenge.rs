//! What `WWW-Authenticate` says (RFC 9110, 11.6.1).

/// One challenge of a server.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Challenge {
    /// Its scheme, in lower case.
    pub(super) scheme: String,
    /// What follows the scheme, when it is one word: the message of NTLM.
    pub(super) token: String,
    parameters: Vec<(String, String)>,
}

impl Challenge {
    /// The value of a parameter.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let mut named = self.parameters.iter();
        named
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }
}

/// All challenges of one line.
pub(super) fn parse(line: &str) -> Vec<Challenge> {
    let mut all: Vec<Challenge> = Vec::new();
    for item in items(line) {
        let item = item.trim();
        if item.is_empty() {
            continue;
        }
        // A parameter is a name, an equals sign, a value; everything else begins a challenge.
        let name = item.split('=').next().unwrap_or_default();
        let rest = match name.trim().split_once([' ', '\t']) {
            None if item.contains('=') && !all.is_empty() => item,
            _ => {
                let (scheme, rest) = item.split_once([' ', '\t']).unwrap_or((item, ""));
                all.push(Challenge {
                    scheme: scheme.to_ascii_lowercase(),
                    token: String::new(),
                    parameters: Vec::new(),
                });
                rest.trim()
            }
        };
        let Some(challenge) = all.last_mut() else {
            continue;
        };
        match rest.split_once('=') {
            // The padding of base64 is no parameter.
            Some((name, value)) if !value.trim_matches('=').is_empty() => {
                let pair = (name.trim().to_owned(), unquoted(value.trim()));
                challenge.parameters.push(pair);
            }
            _ => rest.clone_into(&mut challenge.token),
        }
    }
    all
}

/// Splits at commas outside of quotes.
fn items(line: &str) -> Vec<&str> {
    let (mut items, mut start) = (Vec::new(), 0);
    let (mut quoted, mut escaped) = (false, false);
    for (at, c) in line.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            ',' if !quoted => {
                items.push(&line[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    items.push(&line[start..]);
    items
}

fn unquoted(value: &str) -> String {
    let Some(inside) = value.strip_prefix('"') else {
        return value.to_owned();
    };
    let mut out = String::with_capacity(inside.len());
    let mut chars = inside.chars();
    while let Some(c) = chars.next() {
        match c {
            '"' => break,
            '\\' => out.extend(chars.next()),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_told_apart() {
        let all = parse(
            "Basic realm=\"a, \\\"b\\\"\", Digest realm=\"k\", qop=\"auth,auth-int\" , nonce=n==, NTLM, Negotiate TlRMTVNTUA==",
        );
        let schemes: Vec<&str> = all.iter().map(|c| c.scheme.as_str()).collect();
        assert_eq!(schemes, ["basic", "digest", "ntlm", "negotiate"]);
        assert_eq!(all[0].get("Realm"), Some("a, \"b\""));
        assert_eq!(all[1].get("qop"), Some("auth,auth-int"));
        assert_eq!(all[1].get("nonce"), Some("n=="));
        assert_eq!(
            (all[2].token.as_str(), all[3].token.as_str()),
            ("", "TlRMTVNTUA==")
        );
    }

    #[test]
    fn nonsense_is_no_challenge_that_anybody_meets() {
        for line in ["", ",,", "=", "a=b", "\"", "Digest", "Digest realm", "\\"] {
            for challenge in parse(line) {
                assert_eq!(challenge.get("nonce"), None, "{line}");
            }
        }
    }
}
