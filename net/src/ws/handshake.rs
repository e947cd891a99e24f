//! The request that turns a connection of HTTP/1.1 into a WebSocket.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll, Waker},
};

use bytes::{Bytes, BytesMut};
use http::{
    HeaderMap, HeaderName, HeaderValue, StatusCode, Uri,
    header::{
        CONNECTION, COOKIE, HOST, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_EXTENSIONS,
        SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, SET_COOKIE, UPGRADE, USER_AGENT,
    },
};
use http_body::Body as _;
use http_body_util::Full;
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use tungstenite::handshake::{client::generate_key, derive_accept_key};

use super::{Error, Request, Socket};
use crate::{
    config::ClientConfig,
    cookie::{CookieJar, push_pair},
    dial::{self, DialLog, Purpose},
    error::ErrorKind,
    http::{
        client::Client,
        connection::{body_failure, failure},
        exchange::{Response, canonical},
        head::{value, written_elsewhere},
        trip,
        wire::{Marks, Meter, Wire},
    },
    url::{Target, Url, quote},
};

/// How much is read of the body of an answer other than 101, in bytes.
const REFUSAL_MAX: usize = 1024;

/// What is offered, and all that is spoken (RFC 7692): each message is packed for itself.
const DEFLATE: &str = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";

type Driver = http1::Connection<TokioIo<Wire>, Full<Bytes>>;

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
    let wire = dial::dial(
        config,
        &url,
        Purpose::Upgrade,
        client.local(),
        &log.marks,
        &mut log.dial,
    );
    let wire = wire.await.map_err(Error::Connect)?;
    let mut conversation = Conversation::begin(wire, &log.marks).await?;
    if let Target::Raw(bytes) = url.wire_target() {
        log.marks.rewrite_target("GET", bytes);
    }
    let (parts, body) = conversation.ask(head).await?.into_parts();
    for line in parts.headers.get_all(SET_COOKIE) {
        jar.set_from_response(&url, &String::from_utf8_lossy(line.as_bytes()));
    }
    let switches = parts.status == StatusCode::SWITCHING_PROTOCOLS;
    let agreed = switches && agrees(&parts.headers, &key);
    let response = log.response.insert(trip::response(parts));
    if !agreed {
        if !switches {
            response.body = conversation.read(body).await;
        }
        return Err(Error::Handshake);
    }
    let packed = packs(&response.headers)?;
    let (wire, rest) = conversation.end().await?;
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

/// The request as hyper takes it.
fn head(
    config: &ClientConfig,
    request: &Request,
    url: &Url,
    jar: &CookieJar,
    key: &str,
) -> Result<http::Request<Full<Bytes>>, Error> {
    let mut head = http::Request::new(Full::default());
    *head.uri_mut() = match url.wire_target() {
        Target::Plain(uri) => uri.clone(),
        Target::Raw(_) => Uri::from_static("/"),
    };
    let named = |name: &str| {
        let mut named = request.headers.iter().rev();
        named
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    };
    let fill = |name, text: &str| value(name, text).map_err(Error::Connect);
    let headers = head.headers_mut();
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
    Ok(head)
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

/// hyper's connection, polled in the future of the handshake (see `http/connection.rs`).
struct Conversation<'a> {
    sender: http1::SendRequest<Full<Bytes>>,
    driver: Driver,
    /// Whether hyper is done with the connection.
    over: bool,
    marks: &'a Marks,
}

impl<'a> Conversation<'a> {
    async fn begin(wire: Wire, marks: &'a Marks) -> Result<Self, Error> {
        marks.begin();
        let made = http1::Builder::new()
            .title_case_headers(true)
            .handshake(TokioIo::new(wire))
            .await;
        let (sender, driver) = made.map_err(|e| Error::Connect(failure(marks, &e)))?;
        Ok(Self {
            sender,
            driver,
            over: false,
            marks,
        })
    }

    /// Sends the request and waits for the head of the response.
    async fn ask(
        &mut self,
        request: http::Request<Full<Bytes>>,
    ) -> Result<http::Response<Incoming>, Error> {
        let mut response = pin!(self.sender.send_request(request));
        let (driver, over, marks) = (&mut self.driver, &mut self.over, self.marks);
        poll_fn(|task| {
            drive(driver, over, task);
            match response.as_mut().poll(&mut quiet()) {
                Poll::Ready(outcome) => {
                    Poll::Ready(outcome.map_err(|e| Error::Connect(failure(marks, &e))))
                }
                Poll::Pending if *over => Poll::Ready(Err(Error::Connect(ErrorKind::Eof.into()))),
                Poll::Pending => Poll::Pending,
            }
        })
        .await
    }

    /// Reads the beginning of a body; where it breaks off it ends.
    async fn read(&mut self, mut body: Incoming) -> Bytes {
        let mut read = BytesMut::new();
        let (driver, over, marks) = (&mut self.driver, &mut self.over, self.marks);
        poll_fn(|task| {
            loop {
                drive(driver, over, task);
                match Pin::new(&mut body).poll_frame(&mut quiet()) {
                    Poll::Ready(Some(Ok(frame))) => {
                        if let Ok(data) = frame.into_data() {
                            read.extend_from_slice(&data);
                        }
                        if read.len() >= REFUSAL_MAX {
                            return Poll::Ready(());
                        }
                    }
                    Poll::Ready(Some(Err(error))) => {
                        let _ = body_failure(marks, &error);
                        return Poll::Ready(());
                    }
                    Poll::Ready(None) => return Poll::Ready(()),
                    Poll::Pending if *over => return Poll::Ready(()),
                    Poll::Pending => return Poll::Pending,
                }
            }
        })
        .await;
        read.truncate(REFUSAL_MAX);
        read.freeze()
    }

    /// Takes the connection back, with what hyper has read behind the response.
    async fn end(mut self) -> Result<(Wire, Bytes), Error> {
        let (driver, over) = (&mut self.driver, &mut self.over);
        poll_fn(|task| {
            drive(driver, over, task);
            if *over {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
        let parts = self.driver.into_parts();
        Ok((parts.io.into_inner(), parts.read_buf))
    }
}

/// Lets hyper work until the socket has nothing more for it.
fn drive(driver: &mut Driver, over: &mut bool, task: &mut Context<'_>) {
    if !*over {
        // Its errors reach the request as well, and there they mean more.
        *over = driver.poll_without_shutdown(task).is_ready();
    }
}

/// For what only the connection wakes.
fn quiet() -> Context<'static> {
    Context::from_waker(Waker::noop())
}
