//! The connection behind a WebSocket: work in the background, one piece for each event.
//!
//! A piece ends with the next event, and what it leaves to do is a task of the event loop, which
//! calls the handlers and begins the next piece. So a server is read from as fast as the script
//! takes its messages, and an iteration goes on while there is a connection.

use std::{
    cell::{Cell, RefCell},
    future::{Future, poll_fn},
    pin::pin,
    rc::Rc,
    task::{Poll, Waker},
};

use rquickjs::{Ctx, Object, Persistent, Result as JsResult};
use volley_net::ws::{self, Event};

use super::socket;
use crate::{
    event_loop::{Cancelled, Completion},
    modules::ws::{
        params::header,
        session::{Labels, Pong, Session},
    },
    state::VuState,
};

/// The code of a connection that is closed without a wish for another.
pub(super) const NORMAL: u16 = 1000;

/// What `readyState` shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ready {
    Connecting,
    Open,
    Closing,
    Closed,
}

pub(super) struct Connection {
    pub(super) state: Rc<VuState>,
    pub(super) url: String,
    pub(super) ready: Cell<Ready>,
    /// The subprotocol that the server has chosen.
    pub(super) protocol: RefCell<String>,
    /// What the server has said about extensions.
    pub(super) extensions: RefCell<Vec<String>>,
    labels: Labels,
    /// Both are there while the connection is.
    socket: RefCell<Option<ws::Socket>>,
    session: RefCell<Option<Session>>,
    /// Who polls it.
    waker: RefCell<Option<Waker>>,
}

/// What a piece of the work has ended with.
pub(super) enum Happened {
    Opened,
    Refused(String),
    Event(Event, Pong),
    /// The script has closed it before it was open.
    GivenUp,
    /// The iteration has failed.
    Cancelled,
}

/// A connection at work, with the object that stands for it. If this goes before the connection
/// has ended, the VU has been stopped.
pub(super) struct Work {
    pub(super) connection: Rc<Connection>,
    pub(super) object: Persistent<Object<'static>>,
}

impl Drop for Work {
    fn drop(&mut self) {
        self.connection.end();
    }
}

impl Connection {
    pub(super) fn new(state: &Rc<VuState>, url: String, labels: Labels) -> Rc<Self> {
        Rc::new(Self {
            state: state.clone(),
            url,
            ready: Cell::new(Ready::Connecting),
            protocol: RefCell::default(),
            extensions: RefCell::default(),
            labels,
            socket: RefCell::default(),
            session: RefCell::default(),
            waker: RefCell::default(),
        })
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.borrow().as_ref() {
            waker.wake_by_ref();
        }
    }

    /// Bytes that wait to be sent.
    pub(super) fn buffered(&self) -> usize {
        self.socket
            .borrow()
            .as_ref()
            .map_or(0, ws::Socket::buffered)
    }

    /// Sends a message, the part that does not go at once later.
    pub(super) fn send(&self, text: bool, payload: Vec<u8>) {
        let (mut socket, session) = (self.socket.borrow_mut(), self.session.borrow());
        if let (Some(socket), Some(session)) = (&mut *socket, &*session)
            && let Ok(rest) = socket.send(text, payload)
        {
            session.sent();
            if rest {
                self.wake();
            }
        }
    }

    /// Sends a ping.
    pub(super) fn ping(&self) {
        let (mut socket, mut session) = (self.socket.borrow_mut(), self.session.borrow_mut());
        if let (Some(socket), Some(session)) = (&mut *socket, &mut *session)
            && let Ok(true) = socket.ping(session.ping())
        {
            self.wake();
        }
    }

    /// Begins to close: the peer has to answer.
    pub(super) fn close(&self, code: u16, reason: &str) {
        if matches!(self.ready.get(), Ready::Closing | Ready::Closed) {
            return;
        }
        self.ready.set(Ready::Closing);
        let (mut socket, session) = (self.socket.borrow_mut(), self.session.borrow());
        if let (Some(socket), Some(session)) = (&mut *socket, &*session) {
            socket.close(code, reason);
            // Odd, and the same in the reference: a close counts as a message.
            session.sent();
        }
        self.wake();
    }

    /// Ends it at once, if it has not ended: the peer is told, and not waited for.
    pub(super) fn end(&self) {
        self.ready.set(Ready::Closed);
        if let Some(mut socket) = self.socket.borrow_mut().take() {
            socket.close(NORMAL, "");
        }
        if let Some(session) = self.session.borrow_mut().take() {
            session.end();
        }
    }

    /// Opens it, and counts that.
    async fn open(&self, request: &ws::Request) -> Happened {
        let mut opened = self.state.client.open_socket(request).await;
        let session = Session::begin(&self.state, &self.labels, &opened);
        *self.protocol.borrow_mut() = header(&opened, "sec-websocket-protocol");
        if let Some(response) = &opened.response {
            let values = response.headers.get_all("sec-websocket-extensions");
            let texts = values
                .into_iter()
                .map(|v| String::from_utf8_lossy(v.as_bytes()).into());
            *self.extensions.borrow_mut() = texts.collect();
        }
        match std::mem::replace(&mut opened.socket, Err(ws::Error::Gone)) {
            Ok(socket) => {
                *self.socket.borrow_mut() = Some(socket);
                *self.session.borrow_mut() = Some(session);
                Happened::Opened
            }
            Err(error) => Happened::Refused(error.to_string()),
        }
    }

    /// The next event.
    async fn next(&self) -> Happened {
        let event = poll_fn(|task| {
            let mut socket = self.socket.borrow_mut();
            let Some(socket) = socket.as_mut() else {
                return Poll::Ready(Event::Failed(ws::Error::Gone));
            };
            socket.poll_event(task)
        })
        .await;
        let mut session = self.session.borrow_mut();
        let pong = session.as_mut().map(|session| session.happened(&event));
        Happened::Event(event, pong.unwrap_or(Pong::None))
    }
}

impl Work {
    /// Opens the connection in the background.
    pub(super) fn open(self, request: ws::Request) {
        let connection = self.connection.clone();
        self.go_on(async move {
            let opening = pin!(connection.open(&request));
            let given_up = || connection.ready.get() == Ready::Closing;
            let mut opening = opening;
            poll_fn(|task| match given_up() {
                true => Poll::Ready(Happened::GivenUp),
                false => opening.as_mut().poll(task),
            })
            .await
        });
    }

    /// Waits for the next event in the background.
    pub(super) fn watch(self) {
        let connection = self.connection.clone();
        self.go_on(async move { connection.next().await });
    }

    fn go_on(self, work: impl Future<Output = Happened> + 'static) {
        let state = self.connection.state.clone();
        let cancelled = state.events.cancelled();
        state.events.start(async move {
            let happened = self.unless(cancelled, work).await;
            let finish: Completion = Box::new(move |ctx: &Ctx<'_>| self.finish(ctx, happened));
            finish
        });
    }

    /// The work, unless the iteration fails before it is done.
    async fn unless(&self, cancelled: Cancelled, work: impl Future<Output = Happened>) -> Happened {
        let (mut cancelled, mut work) = (pin!(cancelled), pin!(work));
        poll_fn(|task| {
            let waker = &mut *self.connection.waker.borrow_mut();
            if !waker
                .as_ref()
                .is_some_and(|known| known.will_wake(task.waker()))
            {
                *waker = Some(task.waker().clone());
            }
            if cancelled.as_mut().poll(task).is_ready() {
                return Poll::Ready(Happened::Cancelled);
            }
            work.as_mut().poll(task)
        })
        .await
    }

    fn finish(self, ctx: &Ctx<'_>, happened: Happened) -> JsResult<()> {
        socket::finish(ctx, self, happened)
    }
}
