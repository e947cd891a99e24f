//! The client of one VU: the whole life of a request, from hop to hop.

use std::{
    borrow::Cow,
    cell::{Cell, RefCell},
    net::IpAddr,
    pin::pin,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::future::{Either, FutureExt, select};
use tokio::sync::MutexGuard;

use super::{
    auth::{Auth, Rounds},
    coding,
    connection::{self, Connection, Opened},
    exchange::{Exchange, Hop, Request, Response},
    head::{self, Outgoing},
    http2,
    pool::{Gate, Pool},
    redirect::{self, Next},
    trip::Trip,
    watch::{Watch, Watcher},
    wire::Meter,
};
use crate::{
    config::ClientConfig,
    cookie::CookieJar,
    error::{Error, ErrorKind},
};

/// Sends requests over connections of its own. One per VU; not for more than one thread.
#[derive(Debug)]
pub struct Client {
    config: Arc<ClientConfig>,
    pool: Pool,
    jar: RefCell<Rc<CookieJar>>,
    meter: Rc<Meter>,
    watch: Watch,
    /// The address to send from, if it matters.
    local: Option<IpAddr>,
    /// Bytes taken by [`Client::take_data`] so far.
    taken: Cell<(u64, u64)>,
}

impl Client {
    /// A client without connections or cookies.
    pub fn new(config: Arc<ClientConfig>) -> Self {
        Self {
            config,
            pool: Pool::default(),
            jar: RefCell::default(),
            meter: Rc::default(),
            watch: Watch::default(),
            local: None,
            taken: Cell::default(),
        }
    }

    /// The same, as the client with this number, which decides what address it sends from.
    pub fn numbered(mut self, number: u64) -> Self {
        self.local = self.config.local_ips.of(number);
        self
    }

    pub(super) fn config(&self) -> &ClientConfig {
        &self.config
    }

    /// Shows every message from now on to `watcher`, with bodies if it wants them. For debugging:
    /// it costs copies of everything.
    pub fn watch(&self, watcher: Watcher, bodies: bool) {
        self.watch.set(watcher, bodies);
    }

    /// The jar that requests use which bring none of their own.
    pub fn jar(&self) -> Rc<CookieJar> {
        self.jar.borrow().clone()
    }

    /// Takes an empty jar as the client's own. Whoever holds the old one keeps it and its cookies.
    pub fn reset_cookies(&self) {
        let mut jar = self.jar.borrow_mut();
        if Rc::strong_count(&jar) == 1 {
            jar.reset();
        } else {
            *jar = Rc::default();
        }
    }

    /// Closes the connections that no request uses.
    pub fn close_idle(&self) {
        self.pool.clear();
    }

    /// Bytes sent and received on all sockets of this client since the last call, TLS included.
    pub fn take_data(&self) -> (u64, u64) {
        let (sent, received) = (self.meter.sent.get(), self.meter.received.get());
        let (sent_before, received_before) = self.taken.replace((sent, received));
        (sent - sent_before, received - received_before)
    }

    /// Sends a request, follows its redirects and reads the response.
    ///
    /// Failures are part of the exchange. Dropping the future closes the connection in use and
    /// leaves the client usable.
    pub async fn send(&self, request: Request) -> Exchange {
        // Far away is as good as never, and a deadline must not overflow.
        const LONGEST: Duration = Duration::from_secs(86400 * 365);
        let mut deadline = tokio::time::Instant::now() + request.timeout.min(LONGEST);
        let jar = request.jar.clone().unwrap_or_else(|| self.jar());
        let mut exchange = Exchange::begin(request);
        let mut next = Next::first(&exchange.request);
        let mut rounds = Rounds::default();
        // NTLM is about a connection: its steps must have one of their own.
        let mut held = None;
        loop {
            if let Some(pace) = &self.config.pace {
                // The turn comes before all phases, and is no part of the time a request may take.
                deadline += pace.turn().await;
            }
            let watched = self.watch.begin();
            let outgoing = Outgoing::new(&self.config, &exchange.request, &jar, &next);
            if next.hop == 0 {
                exchange.cookie = outgoing.cookie.clone();
                exchange.user_agent = outgoing.user_agent.map(str::to_owned);
            }
            let discard = exchange.request.discard_body && !self.watch.wants_bodies();
            let mut trip = Trip::begin(discard);
            let ran = if exchange.request.timeout.is_zero() {
                // The timer's grain would let a quick one through.
                Err(ErrorKind::Timeout.into())
            } else {
                let attempt =
                    pin!(self.attempt(&outgoing, &mut trip, &mut held, watched.as_deref()));
                let late = pin!(tokio::time::sleep_until(deadline));
                match select(late, attempt).await {
                    Either::Left(_) => Err(ErrorKind::Timeout.into()),
                    Either::Right((ran, _)) => ran,
                }
            };
            let (mut hop, mut response) =
                trip.end(outgoing.method.clone(), outgoing.url.clone(), ran);
            drop(outgoing);
            let Some(head) = response.as_ref().filter(|_| hop.error.is_none()) else {
                exchange.finish(hop, response);
                return exchange;
            };
            if let Some(id) = &watched {
                self.watch.response(id, head);
            }
            for line in head.headers.get_all(http::header::SET_COOKIE) {
                jar.set_from_response(&hop.url, &String::from_utf8_lossy(line.as_bytes()));
            }
            let auth = exchange.request.auth;
            if let Some(answer) = rounds.answer(auth, &next, head) {
                hop.handshake = true;
                exchange.earlier.push(hop);
                next.authorization = Some(answer);
                continue;
            }
            if let Some(connection) = held.take() {
                self.pool.put(connection, &self.config);
            }
            match redirect::after(&exchange.request, &next, head) {
                redirect::Decision::Done => {}
                redirect::Decision::Limit => exchange.redirect_limit_reached = true,
                redirect::Decision::Broken(text) => {
                    let error = Error::new(ErrorKind::Other(text)).of(&hop.method, &hop.url);
                    hop.fail(error);
                }
                redirect::Decision::Follow(following) => {
                    exchange.earlier.push(hop);
                    next = following;
                    rounds = Rounds::default();
                    continue;
                }
            }
            if hop.error.is_none()
                && let Some(response) = &mut response
                && response
                    .headers
                    .contains_key(http::header::CONTENT_ENCODING)
                && let begun = Instant::now()
                && let Some(outcome) = coding::unpack(&response.headers, &response.body)
            {
                // Receiving ends when the body can be read.
                let took = begun.elapsed();
                hop.timings.receiving += took;
                hop.end += took;
                response.body = outcome.unwrap_or_else(|(partial, text)| {
                    hop.fail(ErrorKind::Decompress(text).into());
                    partial
                });
            }
            exchange.finish(hop, response);
            return exchange;
        }
    }

    /// One round trip; a second one when a connection kept from before turns out to be dead and
    /// nothing can have been done twice.
    async fn attempt(
        &self,
        outgoing: &Outgoing<'_>,
        trip: &mut Trip,
        held: &mut Option<Connection>,
        watched: Option<&str>,
    ) -> Result<(), Error> {
        let named = |error: Error| error.of(&outgoing.method, outgoing.url);
        check(outgoing).map_err(named)?;
        // Built before there is a connection: a header that cannot be sent costs none.
        let mut request = head::request(&self.config, outgoing).map_err(named)?;
        if let Some(id) = watched {
            self.watch.request(id, &request, outgoing);
        }
        let kept = match held.take() {
            Some(mut connection) => {
                connection.reused = true;
                Some(connection)
            }
            None => self.pool.take(outgoing.url).await,
        };
        if let Some(kept) = kept {
            let outcome = self.over(kept, &request, outgoing, trip, held).await;
            match outcome {
                Err(_) if trip.may_retry(outgoing) => trip.again(),
                outcome => return outcome,
            }
            request = head::request(&self.config, outgoing).map_err(named)?;
        }
        if outgoing.url.scheme() == "https" {
            return self.secure(request, outgoing, trip, held).await;
        }
        match self.open(outgoing, trip).await? {
            Opened::Http1(connection) => {
                self.over(connection, &request, outgoing, trip, held).await
            }
            Opened::Http2(_) => unreachable!("only TLS agrees on it"),
        }
    }

    /// Opens a connection while others wait at the gate, unless it stands open.
    async fn dial_past(
        &self,
        gate: &Gate,
        passed: &mut Option<MutexGuard<'_, ()>>,
        outgoing: &Outgoing<'_>,
        trip: &mut Trip,
    ) -> Result<Opened, Error> {
        if gate.is_open() {
            *passed = None;
        }
        let opened = self.open(outgoing, trip).await;
        // A dial that has failed leaves nothing to wait for: the others may try at the same time.
        gate.set_open(!matches!(opened, Ok(Opened::Http2(_))));
        opened
    }

    async fn open(&self, outgoing: &Outgoing<'_>, trip: &mut Trip) -> Result<Opened, Error> {
        connection::open(&self.config, outgoing.url, self.local, &self.meter, trip)
            .await
            .map_err(|error| error.of(&outgoing.method, outgoing.url))
    }

    /// A round trip over TLS without a kept connection of HTTP/1: a stream of a connection that
    /// others have, or a new connection.
    async fn secure(
        &self,
        mut request: http::Request<()>,
        outgoing: &Outgoing<'_>,
        trip: &mut Trip,
        held: &mut Option<Connection>,
    ) -> Result<(), Error> {
        let named = |error: Error| error.of(&outgoing.method, outgoing.url);
        let gate = self.pool.gate(outgoing.url);
        let (mut passed, mut retried) = (None, false);
        loop {
            let shared = if self.config.no_connection_reuse {
                None
            } else {
                self.pool.multiplexed(outgoing.url).await
            };
            let connection = match shared {
                Some(shared) => {
                    passed = None;
                    shared
                }
                None if passed.is_none() && !gate.is_open() && !self.config.no_connection_reuse => {
                    let waits = gate.pass();
                    passed = Some(match waits.now_or_never() {
                        Some(guard) => guard,
                        None => {
                            trip.waited();
                            gate.pass().await
                        }
                    });
                    continue;
                }
                None => match self.dial_past(&gate, &mut passed, outgoing, trip).await? {
                    Opened::Http1(connection) => {
                        drop(passed);
                        return self.over(connection, &request, outgoing, trip, held).await;
                    }
                    Opened::Http2(connection) => {
                        if !self.config.no_connection_reuse {
                            self.pool.share(connection.clone());
                        }
                        passed = None;
                        connection
                    }
                },
            };
            let outcome = connection
                .exchange(request, outgoing, &self.meter, trip)
                .await;
            match outcome {
                Err(error)
                    if !retried && (http2::untouched(&error) || trip.may_retry(outgoing)) =>
                {
                    retried = true;
                    self.pool.forget(&connection);
                    trip.again();
                    request = head::request(&self.config, outgoing).map_err(named)?;
                }
                outcome => return outcome,
            }
        }
    }

    async fn over(
        &self,
        mut connection: Connection,
        request: &http::Request<()>,
        outgoing: &Outgoing<'_>,
        trip: &mut Trip,
        held: &mut Option<Connection>,
    ) -> Result<(), Error> {
        trip.connected(&connection);
        connection
            .exchange(request, outgoing, trip)
            .await
            .map_err(|error| match trip.answered() {
                true => error,
                false => error.of(&outgoing.method, outgoing.url),
            })?;
        if outgoing.request.auth == Auth::Ntlm && connection.reusable() {
            *held = Some(connection);
        } else if !self.config.no_connection_reuse {
            self.pool.put(connection, &self.config);
        }
        Ok(())
    }
}

/// What Go's client refuses before it connects.
fn check(outgoing: &Outgoing<'_>) -> Result<(), Error> {
    let url = outgoing.url;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(ErrorKind::UnsupportedScheme(url.scheme().to_owned()).into());
    }
    if url.host().is_empty() {
        return Err(ErrorKind::Other("http: no Host in request URL".into()).into());
    }
    Ok(())
}

impl Exchange {
    fn begin(request: Request) -> Self {
        let last = Hop::blank(Cow::Borrowed(""), request.url.clone());
        Self {
            request,
            cookie: None,
            user_agent: None,
            earlier: Vec::new(),
            last,
            response: None,
            redirect_limit_reached: false,
        }
    }

    fn finish(&mut self, hop: Hop, response: Option<Response>) {
        self.last = hop;
        self.response = response;
    }
}

#[cfg(test)]
mod tests;
