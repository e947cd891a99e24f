//! Cookies: `Set-Cookie` lines, and the jar that each VU keeps.
//!
//! The jar follows RFC 6265 without a public suffix list, with the details of Go's
//! `net/http/cookiejar` that scripts can see: what identifies a cookie, the default path, the
//! order of sending. Most VUs never get a cookie, so an empty jar is one `Vec` without an
//! allocation and one comparison on the path of a request.

use std::{
    cell::{Cell, RefCell},
    net::IpAddr,
    time::{SystemTime, UNIX_EPOCH},
};

use crate::url::Url;

/// One cookie with its attributes, as a `Set-Cookie` line or a script gives it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SetCookie {
    /// Name.
    pub name: String,
    /// Value, without surrounding quotes.
    pub value: String,
    /// `Domain` as written; empty when absent.
    pub domain: String,
    /// `Path` as written; empty when absent.
    pub path: String,
    /// `HttpOnly`.
    pub http_only: bool,
    /// `Secure`.
    pub secure: bool,
    /// `Max-Age` in seconds; 0 when absent, -1 when it was zero or negative (delete now).
    pub max_age: i64,
    /// `Expires` in seconds since 1970; `None` when absent or unreadable.
    pub expires: Option<i64>,
}

impl SetCookie {
    /// Reads one `Set-Cookie` line; `None` when its name or value is not allowed.
    pub fn parse(line: &str) -> Option<Self> {
        let mut fields = line.split(';');
        let (name, value) = fields.next()?.trim().split_once('=')?;
        let (name, value) = (name.trim(), unquote(value.trim()));
        if name.is_empty() || !name.bytes().all(is_token) || !value.bytes().all(is_value) {
            return None;
        }
        let mut cookie = Self {
            name: name.to_owned(),
            value: value.to_owned(),
            ..Self::default()
        };
        for field in fields {
            let (key, value) = field.split_once('=').unwrap_or((field, ""));
            let (key, value) = (key.trim(), unquote(value.trim()));
            if key.eq_ignore_ascii_case("domain") {
                cookie.domain = value.to_owned();
            } else if key.eq_ignore_ascii_case("path") {
                cookie.path = value.to_owned();
            } else if key.eq_ignore_ascii_case("secure") {
                cookie.secure = true;
            } else if key.eq_ignore_ascii_case("httponly") {
                cookie.http_only = true;
            } else if key.eq_ignore_ascii_case("expires") {
                cookie.expires = parse_http_date(value);
            } else if key.eq_ignore_ascii_case("max-age")
                && let Ok(seconds) = value.parse::<i64>()
                && (value == "0" || !value.starts_with('0'))
            {
                cookie.max_age = if seconds <= 0 { -1 } else { seconds };
            }
        }
        Some(cookie)
    }
}

fn unquote(value: &str) -> &str {
    value
        .strip_prefix('"')
        .and_then(|v| v.strip_suffix('"'))
        .unwrap_or(value)
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Bytes a cookie's value may hold.
fn is_value(byte: u8) -> bool {
    (0x20..0x7f).contains(&byte) && !b"\";\\".contains(&byte)
}

/// Writes `name=value` into a `Cookie` header: bytes that are not allowed are dropped, a value
/// with a space or comma is quoted.
pub(crate) fn push_pair(header: &mut String, name: &str, value: &str) {
    if !header.is_empty() {
        header.push_str("; ");
    }
    header.extend(
        name.chars()
            .map(|c| if matches!(c, '\n' | '\r') { '-' } else { c }),
    );
    header.push('=');
    let quoted = value.contains([' ', ',']);
    if quoted {
        header.push('"');
    }
    header.extend(value.bytes().filter(|b| is_value(*b)).map(char::from));
    if quoted {
        header.push('"');
    }
}

/// Reads `Wed, 21 Oct 2037 07:28:00 GMT` (RFC 1123), also with dashes in the date; seconds
/// since 1970.
pub fn parse_http_date(text: &str) -> Option<i64> {
    const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let position =
        |names: &[&str], name: &str| names.iter().position(|n| n.eq_ignore_ascii_case(name));
    let (day_name, rest) = text.split_once(", ")?;
    position(&DAYS, day_name)?;
    let mut words = rest.split(' ');
    let mut date = words.next()?;
    let rebuilt;
    if !date.contains('-') {
        rebuilt = format!("{date}-{}-{}", words.next()?, words.next()?);
        date = &rebuilt;
    }
    let (time, zone) = (words.next()?, words.next()?);
    if words.next().is_some() || !(3..=4).contains(&zone.len()) {
        return None;
    }
    let number = |text: &str, digits: usize| -> Option<i64> {
        (text.len() == digits && text.bytes().all(|b| b.is_ascii_digit()))
            .then(|| text.parse().ok())
            .flatten()
    };
    let mut parts = date.split('-');
    let day = number(parts.next()?, 2)?;
    let month = position(&MONTHS, parts.next()?)? as i64 + 1;
    let year = number(parts.next()?, 4)?;
    let mut parts = time.split(':');
    let hour = number(parts.next()?, 2)?;
    let minute = number(parts.next()?, 2)?;
    let second = number(parts.next()?, 2)?;
    if parts.next().is_some() || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let longest = match month {
        2 => 28 + i64::from(leap),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    if !(1..=longest).contains(&day) {
        return None;
    }
    Some(days_since_1970(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second)
}

/// Days from 1970-01-01 in the Gregorian calendar; the year is counted from March, so that the
/// leap day is its last.
pub(crate) fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// The cookies of one VU, or of one jar that a script made.
#[derive(Debug, Default)]
pub struct CookieJar {
    cookies: RefCell<Vec<Stored>>,
    created: Cell<u64>,
}

#[derive(Debug)]
struct Stored {
    name: String,
    value: String,
    domain: String,
    path: String,
    host_only: bool,
    secure: bool,
    /// Seconds since 1970; `None` for a session cookie.
    expires: Option<i64>,
    created: u64,
}

impl CookieJar {
    /// An empty jar; allocates nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether no cookie is stored (expired ones count until they are met).
    pub fn is_empty(&self) -> bool {
        self.cookies.borrow().is_empty()
    }

    /// Forgets everything.
    pub fn reset(&self) {
        if !self.is_empty() {
            self.cookies.borrow_mut().clear();
        }
    }

    /// Stores the cookie of one `Set-Cookie` line of a response from `url`.
    pub fn set_from_response(&self, url: &Url, line: &str) {
        if let Some(cookie) = SetCookie::parse(line) {
            self.set(url, &cookie);
        }
    }

    /// Stores a cookie as if a response from `url` had set it; an expired one removes what it
    /// would replace. `false` when its domain does not fit the URL's host (nothing is stored).
    pub fn set(&self, url: &Url, cookie: &SetCookie) -> bool {
        self.set_at(url, cookie, now())
    }

    fn set_at(&self, url: &Url, cookie: &SetCookie, now: i64) -> bool {
        let Some(host) = jar_host(url) else {
            return false;
        };
        let Some((domain, host_only)) = domain_of(&host, &cookie.domain) else {
            return false;
        };
        let path = if cookie.path.starts_with('/') {
            cookie.path.as_str()
        } else {
            default_path(url.path())
        };
        let expires = match cookie.max_age {
            0 => cookie.expires,
            seconds if seconds < 0 => Some(i64::MIN),
            seconds => Some(now.saturating_add(seconds)),
        };
        let mut cookies = self.cookies.borrow_mut();
        let same = |c: &Stored| c.name == cookie.name && c.domain == domain && c.path == path;
        if expires.is_some_and(|at| at <= now) {
            cookies.retain(|c| !same(c));
            return true;
        }
        let (name, value) = (cookie.name.clone(), cookie.value.clone());
        match cookies.iter_mut().find(|c| same(c)) {
            // A replaced cookie keeps its age, and with it its place in the header.
            Some(old) => {
                old.value = value;
                old.host_only = host_only;
                old.secure = cookie.secure;
                old.expires = expires;
            }
            None => {
                let created = self.created.get();
                self.created.set(created + 1);
                let path = path.to_owned();
                let secure = cookie.secure;
                cookies.push(Stored {
                    name,
                    value,
                    domain,
                    path,
                    host_only,
                    secure,
                    expires,
                    created,
                });
            }
        }
        true
    }

    /// Name and value of the cookies that a request for `url` would carry, in the order of
    /// sending: longest path first, then oldest first.
    pub fn cookies_for(&self, url: &Url) -> Vec<(String, String)> {
        let mut found = Vec::new();
        self.each(url, now(), |name, value| {
            found.push((name.to_owned(), value.to_owned()))
        });
        found
    }

    /// Calls `take` for each cookie a request for `url` carries, in the order of sending.
    pub(crate) fn each_for(&self, url: &Url, take: impl FnMut(&str, &str)) {
        if !self.is_empty() {
            self.each(url, now(), take);
        }
    }

    fn each(&self, url: &Url, now: i64, mut take: impl FnMut(&str, &str)) {
        let Some(host) = jar_host(url) else { return };
        let secure = url.scheme() == "https" || is_loopback(&host);
        let path = if url.path().is_empty() {
            "/"
        } else {
            url.path()
        };
        let mut cookies = self.cookies.borrow_mut();
        cookies.retain(|c| c.expires.is_none_or(|at| at > now));
        let mut fitting: Vec<&Stored> = cookies
            .iter()
            .filter(|c| {
                let host_fits = c.domain == host || (!c.host_only && is_below(&host, &c.domain));
                host_fits && (secure || !c.secure) && path_matches(&c.path, path)
            })
            .collect();
        fitting.sort_by(|a, b| {
            b.path
                .len()
                .cmp(&a.path.len())
                .then_with(|| a.created.cmp(&b.created))
        });
        for cookie in fitting {
            take(&cookie.name, &cookie.value);
        }
    }

    /// Expires the cookies that a request for `url` would carry; only those go whose domain and
    /// path are the defaults of that URL, as in k6.
    pub fn clear(&self, url: &Url) {
        for (name, _) in self.cookies_for(url) {
            self.delete(url, &name);
        }
    }

    /// Removes the cookie of this name whose domain and path are the defaults of `url`.
    pub fn delete(&self, url: &Url, name: &str) {
        self.set(
            url,
            &SetCookie {
                name: name.to_owned(),
                max_age: -1,
                ..SetCookie::default()
            },
        );
    }
}

fn now() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.as_secs() as i64)
}

/// The host that cookies are filed under; `None` when the URL cannot have any.
fn jar_host(url: &Url) -> Option<String> {
    let known = matches!(url.scheme(), "http" | "https") && !url.host().is_empty();
    known.then(|| url.host().trim_end_matches('.').to_ascii_lowercase())
}

/// The domain a cookie is filed under and whether it is for that host alone; `None` when the
/// `Domain` attribute is not this host or a parent of it.
fn domain_of(host: &str, attribute: &str) -> Option<(String, bool)> {
    if attribute.is_empty() {
        return Some((host.to_owned(), true));
    }
    if host.parse::<IpAddr>().is_ok() {
        // An address has no parents: naming it is the same as naming nothing (RFC 6265 §5.1.3).
        return (attribute == host).then(|| (host.to_owned(), true));
    }
    let domain = attribute
        .strip_prefix('.')
        .unwrap_or(attribute)
        .to_ascii_lowercase();
    if domain.is_empty() || domain.starts_with('.') || domain.ends_with('.') {
        return None;
    }
    (host == domain || is_below(host, &domain)).then_some((domain, false))
}

fn is_below(host: &str, domain: &str) -> bool {
    host.strip_suffix(domain)
        .is_some_and(|front| front.ends_with('.'))
        && host.parse::<IpAddr>().is_err()
}

/// RFC 6265 §5.1.4: the folder of the path.
fn default_path(path: &str) -> &str {
    match path.rfind('/') {
        Some(at) if at > 0 && path.starts_with('/') => &path[..at],
        _ => "/",
    }
}

fn path_matches(cookie: &str, path: &str) -> bool {
    path.strip_prefix(cookie)
        .is_some_and(|rest| rest.is_empty() || cookie.ends_with('/') || rest.starts_with('/'))
}

fn is_loopback(host: &str) -> bool {
    host == "localhost"
        || host.ends_with(".localhost")
        || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).expect(text)
    }

    fn sent(jar: &CookieJar, to: &str, now: i64) -> String {
        let mut header = String::new();
        jar.each(&url(to), now, |name, value| {
            push_pair(&mut header, name, value)
        });
        header
    }

    fn with(lines: &[(&str, &str)]) -> CookieJar {
        let jar = CookieJar::new();
        for (from, line) in lines {
            jar.set_at(&url(from), &SetCookie::parse(line).expect(line), 1000);
        }
        jar
    }

    #[test]
    fn reads_every_attribute() {
        let line = "full=\"v 1\"; Path=/cookies; Domain=.x.y; Max-Age=600; Secure; HttpOnly; \
                    Expires=Wed, 21 Oct 2037 07:28:00 GMT; SameSite=Lax";
        let expected = SetCookie {
            name: "full".into(),
            value: "v 1".into(),
            domain: ".x.y".into(),
            path: "/cookies".into(),
            http_only: true,
            secure: true,
            max_age: 600,
            expires: Some(2_139_722_880),
        };
        assert_eq!(SetCookie::parse(line), Some(expected));
    }

    #[test]
    fn refuses_bad_names_and_values() {
        for line in ["", "novalue", "=x", "a b=c", "a=b\"c", "a=b\\c", "a=\u{e9}"] {
            assert_eq!(SetCookie::parse(line), None, "{line:?}");
        }
    }

    #[test]
    fn zero_and_negative_max_age_delete() {
        let max_age =
            |text: &str| SetCookie::parse(&format!("a=b; Max-Age={text}")).map(|c| c.max_age);
        assert_eq!(max_age("0"), Some(-1));
        assert_eq!(max_age("-5"), Some(-1));
        assert_eq!(max_age("7"), Some(7));
        assert_eq!(max_age("007"), Some(0));
        assert_eq!(max_age("x"), Some(0));
    }

    #[test]
    fn reads_http_dates() {
        for (text, expected) in [
            ("Thu, 01 Jan 1970 00:00:00 GMT", Some(0)),
            ("Wed, 21 Oct 2037 07:28:00 GMT", Some(2_139_722_880)),
            ("Wed, 21-Oct-2037 07:28:00 UTC", Some(2_139_722_880)),
            ("Thu, 29 Feb 2024 23:59:59 GMT", Some(1_709_251_199)),
            ("Mon, 03 Jan 2000 00:00:00 GMT", Some(946_857_600)),
            ("Thu, 29 Feb 2023 00:00:00 GMT", None),
            ("Wed, 21 Oct 2037 24:00:00 GMT", None),
            ("21 Oct 2037 07:28:00 GMT", None),
            ("Wed, 21 Oct 37 07:28:00 GMT", None),
            ("tomorrow", None),
        ] {
            assert_eq!(parse_http_date(text), expected, "{text}");
        }
    }

    #[test]
    fn longest_path_goes_first_then_the_oldest() {
        let base = "http://h/";
        let jar = with(&[
            (base, "b=1"),
            (base, "a=2"),
            (base, "deep=3; Path=/x/y"),
            (base, "b=4"),
        ]);
        assert_eq!(sent(&jar, "http://h/x/y/z", 1000), "deep=3; b=4; a=2");
        assert_eq!(sent(&jar, "http://h/x/yz", 1000), "b=4; a=2");
        assert_eq!(sent(&jar, "http://other/", 1000), "");
    }

    #[test]
    fn default_path_is_the_folder_of_the_url() {
        let jar = with(&[("http://h/a/b", "x=1")]);
        assert_eq!(sent(&jar, "http://h/a/c", 1000), "x=1");
        assert_eq!(sent(&jar, "http://h/a", 1000), "x=1");
        assert_eq!(sent(&jar, "http://h/", 1000), "");
    }

    #[test]
    fn domain_cookies_reach_subdomains_and_foreign_ones_are_refused() {
        let jar = with(&[
            ("http://a.x.test/", "d=1; Domain=x.test"),
            ("http://a.x.test/", "h=2"),
        ]);
        assert_eq!(sent(&jar, "http://b.x.test/", 1000), "d=1");
        assert_eq!(sent(&jar, "http://A.X.test:8080/", 1000), "d=1; h=2");
        assert_eq!(sent(&jar, "http://notx.test/", 1000), "");
        let refused = SetCookie::parse("d=1; Domain=y.test").expect("a cookie");
        assert!(!jar.set_at(&url("http://a.x.test/"), &refused, 1000));
    }

    #[test]
    fn addresses_take_only_their_own_name() {
        let jar = with(&[("http://127.0.0.1/", "a=1; Domain=127.0.0.1")]);
        assert_eq!(sent(&jar, "http://127.0.0.1/", 1000), "a=1");
        let refused = SetCookie::parse("a=1; Domain=0.0.1").expect("a cookie");
        assert!(!jar.set_at(&url("http://127.0.0.1/"), &refused, 1000));
    }

    #[test]
    fn cookies_expire() {
        let base = "http://h/";
        let jar = with(&[
            (base, "m=1; Max-Age=10"),
            (base, "e=2; Expires=Thu, 01 Jan 1970 00:20:00 GMT"),
        ]);
        assert_eq!(sent(&jar, base, 1009), "m=1; e=2");
        assert_eq!(sent(&jar, base, 1010), "e=2");
        assert_eq!(sent(&jar, base, 1200), "");
        assert!(jar.is_empty());
    }

    #[test]
    fn expired_cookie_removes_its_predecessor() {
        let base = "http://h/";
        let jar = with(&[(base, "a=1"), (base, "b=2"), (base, "a=; Max-Age=0")]);
        assert_eq!(sent(&jar, base, 1000), "b=2");
    }

    #[test]
    fn secure_cookies_go_over_tls_and_to_loopback() {
        let jar = with(&[
            ("https://h/", "s=1; Secure"),
            ("http://localhost/", "l=1; Secure"),
        ]);
        assert_eq!(sent(&jar, "https://h/", 1000), "s=1");
        assert_eq!(sent(&jar, "http://h/", 1000), "");
        assert_eq!(sent(&jar, "http://localhost/", 1000), "l=1");
    }

    #[test]
    fn clear_and_delete_reach_only_the_defaults_of_the_url() {
        let jar = CookieJar::new();
        let cookie = |line| SetCookie::parse(line).expect("a cookie");
        let (base, below) = (url("http://h/"), url("http://h/cookies/only/this"));
        jar.set(&base, &cookie("plain=1"));
        jar.set(&base, &cookie("inner=2; Path=/cookies/only"));
        jar.clear(&below);
        assert_eq!(
            jar.cookies_for(&below),
            [("plain".to_owned(), "1".to_owned())]
        );
        jar.delete(&base, "plain");
        assert!(jar.cookies_for(&below).is_empty());
    }

    #[test]
    fn values_are_made_fit_for_the_header() {
        let mut header = String::new();
        push_pair(&mut header, "a", "x y");
        push_pair(&mut header, "b\n", "1;2\"3\u{e9}");
        assert_eq!(header, "a=\"x y\"; b-=123");
    }

    #[test]
    fn hostless_urls_have_no_cookies() {
        let jar = with(&[("http://h/", "a=1")]);
        assert_eq!(sent(&jar, "/relative", 1000), "");
        assert!(!jar.set_at(
            &url("/relative"),
            &SetCookie::parse("a=1").expect("a cookie"),
            1000
        ));
    }
}
