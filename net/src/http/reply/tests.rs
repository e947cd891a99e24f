use http::Method;
use proptest::prelude::*;

use super::*;
use crate::url::Url;

/// What a reply came to: status, reason, body, whether the connection stays.
#[derive(Clone, Debug, PartialEq)]
struct Read {
    status: u16,
    reason: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    keeps: bool,
}

/// Feeds pieces and, unless the reply is done by then, the end of the connection.
fn read<'a>(
    method: &Method,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> Result<Read, ErrorKind> {
    let mut trip = Trip::begin(false);
    let mut reply = Reply::to(method);
    let mut begun = false;
    for piece in pieces {
        begun |= !piece.is_empty();
        reply.feed(piece, &mut trip)?;
    }
    let keeps = reply.keeps_connection();
    if !reply.is_done() {
        reply.end(begun)?;
    }
    let url = Url::parse("http://test/").expect("a URL");
    let (_, response) = trip.end("GET".into(), url, Ok(()));
    let response = response.expect("a head");
    let headers = response.headers.iter();
    Ok(Read {
        status: response.status,
        reason: response.reason.into_owned(),
        headers: headers
            .map(|(name, value)| {
                let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
                (name.to_string(), value)
            })
            .collect(),
        body: response.body.to_vec(),
        keeps,
    })
}

fn get(text: &str) -> Result<Read, ErrorKind> {
    read(&Method::GET, [text.as_bytes()])
}

#[test]
fn a_body_ends_where_its_head_says() {
    for (text, body, keeps) in [
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody",
            "body",
            true,
        ),
        ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "", true),
        ("HTTP/1.1 200 OK\nContent-Length: 4\n\nbody", "body", true),
        ("HTTP/1.1 200 OK\r\n\r\nto the end", "to the end", false),
        (
            "HTTP/1.1 204 No Content\r\nContent-Length: 4\r\n\r\n",
            "",
            true,
        ),
        (
            "HTTP/1.1 304 Not Modified\r\nContent-Length: 4\r\n\r\n",
            "",
            true,
        ),
        ("HTTP/1.1 101 Switching Protocols\r\n\r\n", "", false),
        (
            "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n1",
            "1",
            true,
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: x, Close\r\n\r\n1",
            "1",
            false,
        ),
        ("HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\n1", "1", false),
        (
            "HTTP/1.0 200 OK\r\nContent-Length: 1\r\nConnection: keep-alive\r\n\r\n1",
            "1",
            true,
        ),
        // Two equal lengths are one; chunks beat a length; HTTP/1.0 has no chunks.
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n1",
            "1",
            true,
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
            "x",
            true,
        ),
        (
            "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx",
            "1\r\nx",
            false,
        ),
        // Bytes that nobody asked for.
        ("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n12", "1", false),
        // Extensions, white space, capitals and trailers.
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\nA ;a=b\r\n0123456789\r\n00\r\nX: y\r\nZ: w\r\n\r\n",
            "0123456789",
            true,
        ),
    ] {
        let read = get(text).unwrap_or_else(|error| panic!("{text:?}: {error:?}"));
        assert_eq!(String::from_utf8_lossy(&read.body), body, "{text:?}");
        assert_eq!(read.keeps, keeps, "{text:?}");
    }
    let head = read(
        &Method::HEAD,
        [&b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n"[..]],
    )
    .expect("a response");
    assert_eq!((head.body.len(), head.keeps), (0, true));
}

#[test]
fn the_head_is_kept_as_it_came() {
    let read = get(
        "HTTP/1.1 200 Fine \u{e4}\r\nX-A:  1 \r\nset-cookie: a=b\r\nSet-Cookie: c=\u{e4}\r\n\r\n",
    )
    .expect("a response");
    let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
    assert_eq!(
        read.headers,
        [
            ("x-a", "1"),
            ("set-cookie", "a=b"),
            ("set-cookie", "c=\u{e4}")
        ]
        .map(owned)
    );
    assert_eq!(get("HTTP/1.1 200\r\n\r\n").expect("a response").reason, "");
    assert_eq!(
        get("HTTP/1.1 299 Odd\r\n\r\n").expect("a response").reason,
        "Odd"
    );
    let many: String = (0..2_000).map(|n| format!("X-{n}: {n}\r\n")).collect();
    let read = get(&format!("HTTP/1.1 200 OK\r\n{many}\r\n")).expect("a response");
    assert_eq!(read.headers.len(), 2_000);
    assert_eq!(read.headers[1_999], owned(("x-1999", "1999")));
}

#[test]
fn what_is_wrong_is_said_in_gos_words() {
    let malformed = |text: &str| ErrorKind::Malformed(text.into());
    let other = |text: &str| ErrorKind::Other(text.into());
    let chunks =
        |text: &str| format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{text}");
    let long = "x".repeat(5_000);
    for (text, expected) in [
        (String::new(), ErrorKind::Eof),
        ("HTTP/1.1 200 OK\r\n".into(), ErrorKind::UnexpectedEof),
        (
            "HTTP/1.1 100 Continue\r\n\r\n".into(),
            ErrorKind::UnexpectedEof,
        ),
        (
            "SSH-2.0-nope\r\n".into(),
            malformed("malformed HTTP response \"SSH-2.0-nope\""),
        ),
        (
            "HTTP/1.1\r\n\r\n".into(),
            malformed("malformed HTTP response \"HTTP/1.1\""),
        ),
        (
            "HTTP/3.1 200 OK\r\n\r\n".into(),
            malformed("malformed HTTP version \"HTTP/3.1\""),
        ),
        (
            "HTTP/1.1 2x0 OK\r\n\r\n".into(),
            malformed("malformed HTTP status code \"2x0\""),
        ),
        (
            "HTTP/1.1 099 OK\r\n\r\n".into(),
            malformed("malformed HTTP response \"HTTP/1.1 099 OK\""),
        ),
        (
            "HTTP/1.1 200 OK\r\nA: b\r\nno colon\r\n\r\n".into(),
            malformed("malformed MIME header line: no colon"),
        ),
        (
            "HTTP/1.1 200 OK\r\nA: \u{1}\r\n\r\n".into(),
            malformed("malformed MIME header line: A: \u{1}"),
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\n".into(),
            malformed("bad Content-Length \"+1\""),
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n".into(),
            malformed("bad Content-Length \"99999999999999999999\""),
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n".into(),
            malformed(
                "http: message cannot contain multiple Content-Length headers; got [\"1\" \"2\"]",
            ),
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n".into(),
            malformed("unsupported transfer encoding \"gzip\""),
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nbody".into(),
            ErrorKind::UnexpectedEof,
        ),
        (chunks("5\r\nbody"), ErrorKind::UnexpectedEof),
        (chunks("4\r\nbody\r\n"), ErrorKind::UnexpectedEof),
        (chunks("4\r\nbody\r\n0\r\n"), ErrorKind::UnexpectedEof),
        (chunks("x\r\n"), other("invalid byte in chunk length")),
        (chunks("\r\n"), other("empty hex number for chunk length")),
        (
            chunks("10000000000000000\r\n"),
            other("http chunk length too large"),
        ),
        (chunks("4\r\nbodyX"), other("malformed chunked encoding")),
        (
            chunks(&format!("4;{long}\r\n")),
            other("http chunked line too long"),
        ),
        (
            chunks(&format!("0\r\nX: {long}\r\n")),
            other("http: suspiciously long trailer after chunked body"),
        ),
    ] {
        assert_eq!(get(&text), Err(expected), "{text:?}");
    }
}

#[test]
fn a_head_without_end_is_refused_before_it_fills_the_memory() {
    let mut trip = Trip::begin(false);
    let mut reply = Reply::to(&Method::GET);
    let mut fed = reply.feed(b"HTTP/1.1 200 OK\r\n", &mut trip);
    let line = format!("X: {}\r\n", "y".repeat(60_000));
    let mut pieces = 0;
    while fed.is_ok() && pieces < 1_000 {
        fed = reply.feed(line.as_bytes(), &mut trip);
        pieces += 1;
    }
    let text = "net/http: server response headers exceeded 10485760 bytes; aborted";
    assert_eq!(fed, Err(ErrorKind::Other(text.into())));
    assert!(pieces < 200);
}

/// A response that is right, with its body.
fn responses() -> impl Strategy<Value = (String, String)> {
    let chunk = "[ -~\r\n]{1,40}";
    let chunks = prop::collection::vec(chunk, 0..6).prop_map(|chunks| {
        let coded: String = chunks
            .iter()
            .map(|chunk| format!("{:x};ext\r\n{chunk}\r\n", chunk.len()))
            .collect();
        let head =
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        (format!("{head}{coded}0\r\nT: v\r\n\r\n"), chunks.concat())
    });
    let length = "[ -~\r\n]{0,200}".prop_map(|body: String| {
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nX: y\r\n\r\n",
            body.len()
        );
        (format!("{head}{body}"), body)
    });
    prop_oneof![chunks, length]
}

proptest! {
    #[test]
    fn how_it_is_cut_does_not_matter(
        (text, body) in responses(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let whole = get(&text);
        let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(text.len())).collect();
        at.extend([0, text.len()]);
        at.sort_unstable();
        let pieces = at.windows(2).map(|pair| &text.as_bytes()[pair[0]..pair[1]]);
        let read = read(&Method::GET, pieces);
        prop_assert_eq!(&read, &whole);
        let read = read.expect("a response");
        prop_assert_eq!(read.body, body.into_bytes());
        prop_assert!(read.keeps);
    }

    #[test]
    fn nothing_that_comes_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = read(&Method::GET, [&bytes[..]]);
        let mut text = b"HTTP/1.1 200 OK\r\n".to_vec();
        text.extend(bytes);
        let _ = read(&Method::GET, text.chunks(7));
    }
}
