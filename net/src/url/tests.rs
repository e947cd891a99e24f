//! What parses, what does not, and what is sent.

use proptest::prelude::*;

use super::*;

fn url(text: &str) -> Url {
    Url::parse(text).expect(text)
}

#[test]
fn targets_are_sent_as_they_were_written() {
    for (text, target) in [
        ("http://h", "/"),
        ("http://h?q", "/?q"),
        ("http://h/a/../b", "/a/../b"),
        ("http://h//a//", "//a//"),
        ("http://h/a%2Fb%zz?%zz", ""),
        ("http://h/a b", "/a%20b"),
        ("http://h/é", "/%C3%A9"),
        ("http://h/[;,+~]", "/[;,+~]"),
        ("http://h/a?q=x y&z=é", "/a?q=x y&z=é"),
        ("http://h/a?b#c", "/a?b"),
    ] {
        match Url::parse(text) {
            Ok(url) => assert_eq!(url.target(), target, "{text}"),
            Err(_) => assert_eq!(target, "", "{text}"),
        }
    }
}

#[test]
fn parts_are_found() {
    let full = url("HTTPS://user:p%40ss@Example.test:8443/a/b?q=1#frag");
    assert_eq!(full.scheme(), "https");
    assert_eq!(full.host(), "Example.test");
    assert_eq!(full.port(), Some(8443));
    assert_eq!(full.userinfo(), Some(("user", Some("p@ss"))));
    assert_eq!(
        (full.path(), full.query(), full.fragment()),
        ("/a/b", Some("q=1"), Some("frag"))
    );
    assert_eq!(
        full.host_header().and_then(|h| h.to_str().ok()),
        Some("Example.test:8443")
    );
    assert_eq!(url("http://h").port(), Some(80));
    assert_eq!(url("https://h").port(), Some(443));
    assert_eq!(url("http://h:99999/").port(), None);
    let six = url("http://[::1]:8080/");
    assert_eq!((six.host(), six.port()), ("::1", Some(8080)));
    assert_eq!(
        six.host_header().and_then(|h| h.to_str().ok()),
        Some("[::1]:8080")
    );
}

#[test]
fn what_go_refuses_is_refused_in_its_words() {
    for (text, reason) in [
        (
            "127.0.0.1:80/x",
            "first path segment in URL cannot contain colon",
        ),
        (":foo", "missing protocol scheme"),
        ("http://h/%zz", "invalid URL escape \"%zz\""),
        ("http://h/%2", "invalid URL escape \"%2\""),
        ("http://h:port/", "invalid port \":port\" after host"),
        ("http://[::1/", "missing ']' in host"),
        ("http://a b/", "invalid character \" \" in host name"),
        (
            "http://h/\u{1}",
            "net/url: invalid control character in URL",
        ),
    ] {
        let error = Url::parse(text).expect_err(text);
        assert_eq!(error.reason(), reason, "{text}");
        assert_eq!(
            error.to_string(),
            format!("parse {}: {reason}", quote(text)),
            "{text}"
        );
    }
}

#[test]
fn credentials_are_hidden_where_they_are_shown() {
    let both = url("http://u:p@h/x");
    assert_eq!(both.masked(), "http://****:****@h/x");
    assert_eq!(both.redacted(), "http://u:***@h/x");
    assert_eq!(both.without_userinfo(), "http://h/x");
    assert_eq!(url("http://u@h/x").masked(), "http://****@h/x");
    assert_eq!(url("http://h/x").masked(), "http://h/x");
}

#[test]
fn references_resolve_as_rfc_3986_says() {
    // RFC 3986 §5.4, without the examples that keep surplus dots.
    let base = url("http://a/b/c/d;p?q");
    for (reference, expected) in [
        ("g", "http://a/b/c/g"),
        ("./g", "http://a/b/c/g"),
        ("g/", "http://a/b/c/g/"),
        ("/g", "http://a/g"),
        ("//g", "http://g"),
        ("?y", "http://a/b/c/d;p?y"),
        ("g?y", "http://a/b/c/g?y"),
        ("#s", "http://a/b/c/d;p?q#s"),
        ("g#s", "http://a/b/c/g#s"),
        (";x", "http://a/b/c/;x"),
        ("", "http://a/b/c/d;p?q"),
        (".", "http://a/b/c/"),
        ("..", "http://a/b/"),
        ("../g", "http://a/b/g"),
        ("../../g", "http://a/g"),
        ("../../../g", "http://a/g"),
        ("/./g", "http://a/g"),
        ("https://x/y", "https://x/y"),
    ] {
        assert_eq!(
            base.join(reference).expect(reference).as_str(),
            expected,
            "{reference:?}"
        );
    }
    assert!(base.join("http://h:x/").is_err());
    assert_eq!(
        url("http://u:p@h/a").join("b").expect("a URL").as_str(),
        "http://u:p@h/b"
    );
}

#[test]
fn origins_are_compared_by_scheme_host_and_port() {
    let same = |one: &str, two: &str| url(one).same_origin(&url(two));
    assert!(same("http://H/a", "http://h:80/b"));
    assert!(!same("http://h/", "https://h/"));
    assert!(!same("http://h/", "http://h:81/"));
    assert!(!same("http://h/", "http://i/"));
}

#[test]
fn the_cache_gives_what_parsing_gives() {
    for _ in 0..2 {
        for n in 0..200 {
            let text = format!("http://h/{n}");
            assert_eq!(Url::cached(&text).expect("a URL").as_str(), text);
        }
    }
    assert!(Url::cached("http://h/%zz").is_err());
    let long = format!("http://h/{}", "x".repeat(5000));
    assert_eq!(Url::cached(&long).expect("a URL").as_str(), long);
}

proptest! {
    #[test]
    fn no_text_panics(text in "\\PC{0,40}", reference in "\\PC{0,20}") {
        if let Ok(url) = Url::parse(&text) {
            let _ = (url.target(), url.masked(), url.port(), url.join(&reference));
        }
        let _ = url("http://h/a/b?c").join(&reference);
    }

    #[test]
    fn what_parses_keeps_its_text(path in "[a-z/.%?é ]{0,20}") {
        let text = format!("http://h/{path}");
        if let Ok(url) = Url::parse(&text) {
            prop_assert_eq!(url.as_str(), text);
        }
    }
}
