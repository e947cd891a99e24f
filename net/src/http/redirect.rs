//! Whether a response sends the client elsewhere, and what it sends there.
//!
//! The rules are those of Go's client, which scripts see (js-api.md §2.7): 301, 302 and 303 turn
//! everything but GET and HEAD into a GET without body, 307 and 308 repeat the request;
//! credentials stay with their host.

use std::borrow::Cow;

use http::header::LOCATION;

use super::exchange::{Request, Response};
use crate::url::Url;

/// The next hop to make.
#[derive(Debug, Clone)]
pub(super) struct Next {
    /// How many redirects led here.
    pub(super) hop: u32,
    pub(super) method: Cow<'static, str>,
    pub(super) url: Url,
    /// Whether the request's body goes along.
    pub(super) keeps_body: bool,
    /// A `Host` of the script's own that still applies.
    pub(super) host: Option<String>,
    pub(super) referer: Option<String>,
    /// The answer to a challenge, sent in place of other credentials.
    pub(super) authorization: Option<String>,
    /// Whether it leads to a host that is neither the first one nor below it.
    foreign: bool,
    /// Who the first URL said to be; kept while the host stays the same.
    credentials: Option<Url>,
}

/// What to do after a response.
#[derive(Debug)]
pub(super) enum Decision {
    /// It is the answer.
    Done,
    /// It is a redirect, and the request does not follow any more of them.
    Limit,
    /// It is a redirect to nowhere; the text says why.
    Broken(String),
    /// It is a redirect to follow.
    Follow(Next),
}

impl Next {
    /// The first hop of a request.
    pub(super) fn first(request: &Request) -> Self {
        Self {
            hop: 0,
            method: request.method.clone(),
            url: request.url.clone(),
            keeps_body: true,
            host: None,
            referer: None,
            authorization: None,
            foreign: false,
            credentials: request
                .url
                .userinfo()
                .is_some()
                .then(|| request.url.clone()),
        }
    }

    /// User and password to send by basic authentication.
    pub(super) fn credentials(&self) -> Option<(&str, Option<&str>)> {
        self.url
            .userinfo()
            .or_else(|| self.credentials.as_ref()?.userinfo())
    }

    /// Whether a header of the script's does not go along any more.
    pub(super) fn withholds(&self, name: &str) -> bool {
        let is_one_of = |names: &[&str]| names.iter().any(|known| known.eq_ignore_ascii_case(name));
        (self.foreign && is_one_of(&["Authorization", "Www-Authenticate", "Cookie2"]))
            || (!self.keeps_body
                && is_one_of(&[
                    "Content-Encoding",
                    "Content-Language",
                    "Content-Location",
                    "Content-Type",
                ]))
    }
}

/// Looks for a redirect in the head of a response.
pub(super) fn after(request: &Request, made: &Next, response: &Response) -> Decision {
    if !matches!(response.status, 301 | 302 | 303 | 307 | 308) {
        return Decision::Done;
    }
    let location = response
        .headers
        .get(LOCATION)
        .map_or(&b""[..], |v| v.as_bytes());
    if location.is_empty() {
        return Decision::Done;
    }
    if made.hop >= request.redirects {
        return Decision::Limit;
    }
    let location = String::from_utf8_lossy(location);
    let url = match made.url.join(&location) {
        Ok(url) => url,
        Err(problem) => {
            return Decision::Broken(format!(
                "failed to parse Location header {}: {problem}",
                crate::url::quote(&location)
            ));
        }
    };
    let repeats = matches!(response.status, 307 | 308);
    let method = if repeats || matches!(&*made.method, "GET" | "HEAD") {
        made.method.clone()
    } else {
        Cow::Borrowed("GET")
    };
    let same_host = url.host().eq_ignore_ascii_case(made.url.host());
    // A custom Host stays for targets that do not name a host themselves.
    let relative =
        Url::parse(&location).is_ok_and(|l| !l.is_absolute() && !location.starts_with("//"));
    let own_host = match made.hop {
        0 => request.header("Host").map(str::to_owned),
        _ => made.host.clone(),
    };
    Decision::Follow(Next {
        hop: made.hop + 1,
        method,
        keeps_body: made.keeps_body && repeats,
        host: own_host.filter(|host| relative && !host.is_empty()),
        referer: referer(&made.url, &url),
        authorization: None,
        foreign: made.foreign || !covers(request.url.host(), url.host()),
        credentials: made.credentials.clone().filter(|_| same_host),
        url,
    })
}

/// The previous URL without credentials; nothing when going from TLS to plain text.
fn referer(from: &Url, to: &Url) -> Option<String> {
    let hidden = from.scheme() == "https" && to.scheme() == "http";
    (!hidden).then(|| {
        let shown = from.without_userinfo();
        // A fragment is nobody's business.
        shown.split('#').next().unwrap_or_default().to_owned()
    })
}

/// Whether credentials for the first host may go to the other: the same one, or below it.
fn covers(first: &str, other: &str) -> bool {
    let (first, other) = (first.to_ascii_lowercase(), other.to_ascii_lowercase());
    first == other
        || other
            .strip_suffix(&first)
            .is_some_and(|front| front.ends_with('.'))
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue};

    use super::*;
    use crate::http::exchange::Proto;

    fn response(status: u16, location: &str) -> Response {
        let mut headers = HeaderMap::new();
        if !location.is_empty() {
            headers.insert(LOCATION, HeaderValue::from_str(location).expect(location));
        }
        Response {
            status,
            reason: Cow::Borrowed(""),
            proto: Proto::Http11,
            headers,
            body: bytes::Bytes::new(),
        }
    }

    fn request(method: &'static str, url: &str) -> Request {
        Request::new(method, Url::parse(url).expect(url))
    }

    fn follow(request: &Request, status: u16, location: &str) -> Next {
        match after(request, &Next::first(request), &response(status, location)) {
            Decision::Follow(next) => next,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn methods_and_bodies_follow_the_status() {
        for (method, status, expected, body) in [
            ("POST", 301, "GET", false),
            ("PUT", 302, "GET", false),
            ("DELETE", 303, "GET", false),
            ("HEAD", 302, "HEAD", false),
            ("GET", 301, "GET", false),
            ("POST", 307, "POST", true),
            ("PATCH", 308, "PATCH", true),
        ] {
            let next = follow(&request(method, "http://h/a"), status, "/b");
            assert_eq!(
                (&*next.method, next.keeps_body),
                (expected, body),
                "{method} {status}"
            );
            assert_eq!(next.withholds("content-type"), !body, "{method} {status}");
        }
    }

    #[test]
    fn what_is_no_redirect_is_the_answer() {
        let request = request("GET", "http://h/");
        for (status, location) in [(200, "/x"), (304, "/x"), (302, ""), (300, "/x")] {
            let decision = after(
                &request,
                &Next::first(&request),
                &response(status, location),
            );
            assert!(matches!(decision, Decision::Done), "{status} {decision:?}");
        }
    }

    #[test]
    fn the_limit_counts_followed_redirects() {
        let mut request = request("GET", "http://h/");
        request.redirects = 1;
        let next = follow(&request, 302, "/a");
        assert_eq!(next.hop, 1);
        let decision = after(&request, &next, &response(302, "/b"));
        assert!(matches!(decision, Decision::Limit));
    }

    #[test]
    fn credentials_stay_with_their_host() {
        let request = request("GET", "http://u:p@h.test/a");
        let same = follow(&request, 302, "http://h.test/b");
        assert_eq!(same.credentials(), Some(("u", Some("p"))));
        assert!(!same.withholds("Authorization"));
        let relative = follow(&request, 302, "b");
        assert_eq!(relative.credentials(), Some(("u", Some("p"))));
        let below = follow(&request, 302, "http://sub.h.test/b");
        assert!(!below.withholds("Authorization"));
        let other = follow(&request, 302, "http://other.test/b");
        assert_eq!(other.credentials(), None);
        assert!(other.withholds("authorization"));
        // Coming back does not bring them back.
        let back = after(&request, &other, &response(302, "http://h.test/c"));
        let Decision::Follow(back) = back else {
            panic!("{back:?}")
        };
        assert!(back.withholds("Authorization"));
    }

    #[test]
    fn the_referer_hides_credentials_and_fragments() {
        let next = follow(&request("GET", "http://u:p@h/a#f"), 302, "/b");
        assert_eq!(next.referer.as_deref(), Some("http://h/a"));
        let plain = follow(&request("GET", "https://h/a"), 302, "http://h/b");
        assert_eq!(plain.referer, None);
    }

    #[test]
    fn a_custom_host_stays_for_relative_targets() {
        let mut request = request("GET", "http://h/a");
        request.headers.push(("host".into(), "virtual.test".into()));
        assert_eq!(
            follow(&request, 302, "/b").host.as_deref(),
            Some("virtual.test")
        );
        assert_eq!(follow(&request, 302, "http://h/b").host, None);
        assert_eq!(follow(&request, 302, "//h/b").host, None);
    }

    #[test]
    fn an_unusable_target_says_so() {
        let request = request("GET", "http://h/");
        let decision = after(
            &request,
            &Next::first(&request),
            &response(302, "http://h:x/"),
        );
        let Decision::Broken(text) = decision else {
            panic!("{decision:?}")
        };
        assert!(
            text.starts_with("failed to parse Location header \"http://h:x/\": parse"),
            "{text}"
        );
    }
}
