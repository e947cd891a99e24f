//! The request that turns a connection of HTTP/1.1 into a WebSocket.

use std::{
    future::poll_fn,
    rc::Rc,
    task::{Poll, ready},
};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method,
    header::{
        CONNECTION, COOKIE, HOST, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_EXTENSIONS,
        SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, SET_COOKIE, UPGRADE, USER_AGENT,
    },
};
use tokio::io::AsyncWriteExt;
use tungstenite::handshake::{client::generate_key, derive_accept_key};

use super::{Error, Request, Socket};
use crate::{
    config::ClientConfig,
    cookie::{CookieJar, push_pair},
    dial::{self, DialLog, Wishes},
    error::ErrorKind,
    http::{
        client::Client,
        connection::{failure, kind, push_name, read},
        exchange::{Response, canonical},
        head::{value, written_elsewhere},
        reply::Reply,
        trip::Trip,
        wire::{Marks, Meter, Wire},
    },
    url::{Target, Url, quote},
};

/// How much is read of the body of an answer other than 101, in bytes.
const REFUSAL_MAX: usize = 1024;

/// What is offered, and all that is spoken (RFC 7692): each message is packed for itself.
const DEFLATE: &str = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";

/// What is known so far; it outlives the handshake, which may be cut off.
#[derive(Debug)]
pub(super) struct Log {
    pub(super) dial: DialLog,
    pub(super) response: Option<Response>,
    marks: Rc<Marks>,
}

impl Log {
    pub(super) fn new(meter: Rc<Meter>) -> Self {
        Self {
            dial: DialLog::default(),
            response: None,
            marks: Marks::new(meter),
        }
    }

    /// The error of a handshake that has taken too long, by where it was.
    pub(super) fn timeout(&self) -> Error {
        let text = match self.marks.ends.get() {
            Some((local, remote)) => format!("read tcp {local}->{remote}: i/o timeout"),
            None => "dial tcp: i/o timeout".to_owned(),
        };
        Error::Connect(ErrorKind::Other(text).into())
    }
}

/// Opens a connection, and has it upgraded.
pub(super) async fn shake(
    client: &Client,
    request: &Request,
    log: &mut Log,
) -> Result<Socket, Error> {
    let config = client.config();
    let url = http_form(&request.url)?;
    let jar = request.jar.clone().unwrap_or_else(|| client.jar());
    let key = generate_key();
    // Built before there is a connection: a header that cannot be sent costs none.
    let head = head(config, request, &url, &jar, &key)?;
    let wishes = Wishes {
        upgrade: true,
        ..Wishes::default()
    };
    let wire = dial::dial_for(
        config,
        &url,
        client.local(),
        &log.marks,
        &mut log.dial,
        &wishes,
    );
    let wire = wire.await.map_err(Error::Connect)?;
    let mut conversation = Conversation::begin(wire, &log.marks);
    conversation.ask(&head, &url).await;
    let outcome = conversation.read().await;
    let (wire, response, rest) = conversation.end(&url);
    let Some(response) = response else {
        return Err(outcome.err().unwrap_or(Error::Gone));
    };
    for line in response.headers.get_all(SET_COOKIE) {
        jar.set_from_response(&url, &String::from_utf8_lossy(line.as_bytes()));
    }
    let agreed = response.status == 101 && agrees(&response.headers, &key);
    let response = log.response.insert(response);
    if !agreed {
        return Err(Error::Handshake);
    }
    let packed = packs(&response.headers)?;
    Ok(Socket::new(
        wire,
        log.marks.clone(),
        rest,
        packed,
        request.message_max,
    ))
}

/// The URL of the request that asks for the upgrade.
fn http_form(url: &Url) -> Result<Url, Error> {
    let scheme = match url.scheme() {
        "ws" => "http",
        "wss" => "https",
        _ => return Err(Error::Url),
    };
    if url.userinfo().is_some() || url.host().is_empty() {
        return Err(Error::Url);
    }
    let rest = &url.as_str()[url.scheme().len()..];
    Url::parse(&format!("{scheme}{rest}")).map_err(|_| Error::Url)
}

/// Headers that the handshake has itself.
const OWN: [HeaderName; 5] = [
    UPGRADE,
    CONNECTION,
    SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_VERSION,
    SEC_WEBSOCKET_EXTENSIONS,
];

/// The headers of the request.
fn head(
    config: &ClientConfig,
    request: &Request,
    url: &Url,
    jar: &CookieJar,
    key: &str,
) -> Result<HeaderMap, Error> {
    let mut headers = HeaderMap::new();
    let named = |name: &str| {
        let mut named = request.headers.iter().rev();
        named
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    };
    let fill = |name, text: &str| value(name, text).map_err(Error::Connect);
    match named("Host").filter(|host| !host.is_empty()) {
        Some(host) => drop(headers.insert(HOST, fill("Host", host)?)),
        None => {
            if let Some(host) = url.host_header() {
                headers.insert(HOST, host.clone());
            }
        }
    }
    let agent = named("User-Agent").or(config.user_agent.as_deref());
    if let Some(agent) = agent.filter(|agent| !agent.is_empty()) {
        headers.insert(USER_AGENT, fill("User-Agent", agent)?);
    }
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(SEC_WEBSOCKET_KEY, fill("Sec-Websocket-Key", key)?);
    headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
    if request.deflate {
        headers.insert(SEC_WEBSOCKET_EXTENSIONS, HeaderValue::from_static(DEFLATE));
    }
    for (name, text) in &request.headers {
        let parsed = HeaderName::from_bytes(name.as_bytes()).map_err(|_| {
            let text = format!("net/http: invalid header field name {}", quote(name));
            Error::Connect(ErrorKind::Other(text).into())
        })?;
        if OWN.contains(&parsed) {
            return Err(Error::Header(canonical(name)));
        }
        if !written_elsewhere(name) {
            headers.insert(parsed, fill(name, text)?);
        }
    }
    let cookie = match named("Cookie") {
        Some(own) => own.to_owned(),
        None => {
            let mut cookie = String::new();
            jar.each_for(url, |name, value| push_pair(&mut cookie, name, value));
            cookie
        }
    };
    if !cookie.is_empty() {
        headers.insert(COOKIE, fill("Cookie", &cookie)?);
    }
    Ok(headers)
}

/// The items of a header that is a list, in all its lines.
fn items(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    let lines = headers.get_all(name).into_iter();
    let lines = lines.filter_map(|line| std::str::from_utf8(line.as_bytes()).ok());
    lines.flat_map(|line| line.split(',')).map(str::trim)
}

/// Whether the head of a 101 is that of a WebSocket, made for this key.
fn agrees(headers: &HeaderMap, key: &str) -> bool {
    let has =
        |name, wanted: &str| items(headers, name).any(|item| item.eq_ignore_ascii_case(wanted));
    let accepts = headers.get(SEC_WEBSOCKET_ACCEPT).is_some_and(|accept| {
        accept.as_bytes().trim_ascii() == derive_accept_key(key.as_bytes()).as_bytes()
    });
    has(UPGRADE, "websocket") && has(CONNECTION, "upgrade") && accepts
}

/// Whether messages may be packed, by the answer to the offer.
fn packs(headers: &HeaderMap) -> Result<bool, Error> {
    for extension in items(headers, SEC_WEBSOCKET_EXTENSIONS) {
        let mut parts = extension.split(';').map(str::trim);
        if parts.next() != Some("permessage-deflate") {
            continue;
        }
        let parameters: Vec<&str> = parts
            .map(|part| part.split('=').next().unwrap_or_default().trim())
            .collect();
        let alone = ["server_no_context_takeover", "client_no_context_takeover"];
        return match alone.iter().all(|name| parameters.contains(name)) {
            true => Ok(true),
            false => Err(Error::Compression),
        };
    }
    Ok(false)
}

/// The connection while it speaks HTTP.
struct Conversation<'a> {
    wire: Wire,
    marks: &'a Marks,
    reply: Reply,
    trip: Trip,
    /// What came behind the response.
    rest: Bytes,
}

impl<'a> Conversation<'a> {
    fn begin(wire: Wire, marks: &'a Marks) -> Self {
        marks.begin();
        Self {
            wire,
            marks,
            reply: Reply::to(&Method::GET),
            trip: Trip::begin(false),
            rest: Bytes::new(),
        }
    }

    /// Sends the request. Where that fails, there may be an answer all the same.
    async fn ask(&mut self, headers: &HeaderMap, url: &Url) {
        let mut head = format!("GET {} HTTP/1.1\r\n", url.target()).into_bytes();
        if let Target::Raw(target) = url.wire_target() {
            head = [b"GET ", &target[..], b" HTTP/1.1\r\n"].concat();
        }
        for (name, value) in headers {
            push_name(&mut head, name.as_str());
            head.extend_from_slice(b": ");
            head.extend_from_slice(value.as_bytes());
            head.extend_from_slice(b"\r\n");
        }
        head.extend_from_slice(b"\r\n");
        if self.wire.write_all(&head).await.is_ok() {
            let _ = self.wire.flush().await;
        }
    }

    /// Reads the response, and as much of its body as is wanted.
    async fn read(&mut self) -> Result<(), Error> {
        let (wire, reply, trip) = (&mut self.wire, &mut self.reply, &mut self.trip);
        let (marks, rest) = (self.marks, &mut self.rest);
        let outcome = poll_fn(|task| {
            while !reply.is_done() && trip.body_length() < REFUSAL_MAX {
                let taken = read(wire, task, |bytes| match bytes {
                    [] => reply.end(marks.first_byte().is_some()),
                    bytes => reply
                        .take(bytes, trip)
                        .map(|behind| *rest = Bytes::copy_from_slice(behind)),
                });
                match ready!(taken) {
                    Ok(Ok(())) => {}
                    Ok(Err(wrong)) => return Poll::Ready(Err(kind(marks, wrong))),
                    Err(error) => return Poll::Ready(Err(failure(marks, &error))),
                }
            }
            Poll::Ready(Ok(()))
        });
        outcome.await.map_err(Error::Connect)
    }

    /// The connection, the response as far as it came, and what came behind it.
    fn end(self, url: &Url) -> (Wire, Option<Response>, Bytes) {
        let (_, response) = self.trip.end("GET".into(), url.clone(), Ok(()));
        let response = response.map(|mut response| {
            response.body.truncate(REFUSAL_MAX);
            response
        });
        (self.wire, response, self.rest)
    }
}
