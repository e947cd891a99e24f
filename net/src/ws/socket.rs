//! An open connection: events come out, messages go in.

use std::{
    mem,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker, ready},
};

use bytes::{Bytes, BytesMut};
use tokio::io::AsyncWrite;
use tungstenite::protocol::frame::coding::{Data, OpCode};

use super::{
    close::{self, Close, Error},
    deflate,
    frames::{self, BINARY, CLOSE, Expected, Frame, PING, PONG, TEXT},
};
use crate::{
    error::{ErrorKind, Op, message},
    http::{
        connection::read,
        wire::{Marks, Wire},
    },
    tls,
};

/// How much may wait to be sent before nothing more is read that might be answered by itself, and
/// how much is read while something waits to be sent, in bytes.
const BACKLOG: usize = 1 << 20;

/// What stays allocated for the next time, in bytes.
const KEPT: usize = 1024;

/// What comes out of a socket.
#[derive(Debug)]
pub enum Event {
    /// A message of text, which is not checked to be UTF-8.
    Text(Bytes),
    /// A message of bytes.
    Binary(Bytes),
    /// A ping, with its payload. It has been answered.
    Ping(Bytes),
    /// A pong, with its payload.
    Pong(Bytes),
    /// The peer has closed, or has answered our closing. Nothing follows.
    Closed(Close),
    /// The connection has failed. Nothing follows.
    Failed(Error),
}

/// An open WebSocket. Dropping it ends the connection without a word.
#[derive(Debug)]
pub struct Socket {
    wire: Wire,
    marks: Rc<Marks>,
    /// What has come and is no whole frame yet.
    input: BytesMut,
    /// The message that has begun and not ended.
    message: Option<Message>,
    /// What has to be sent, and how much of it has gone.
    output: Vec<u8>,
    gone: usize,
    /// Bytes of messages among it.
    queued: usize,
    /// Whether the layers below may hold back what they have taken.
    unflushed: bool,
    /// Whether both ends pack messages.
    packs: bool,
    message_max: usize,
    close_sent: bool,
    /// Whether writing has failed: nobody listens any more.
    deaf: bool,
}

/// The frames of a message so far.
#[derive(Debug)]
struct Message {
    text: bool,
    packed: bool,
    data: BytesMut,
}

impl Socket {
    pub(super) fn new(
        wire: Wire,
        marks: Rc<Marks>,
        rest: Bytes,
        packs: bool,
        message_max: usize,
    ) -> Self {
        Self {
            wire,
            marks,
            input: rest.into(),
            message: None,
            output: Vec::new(),
            gone: 0,
            queued: 0,
            unflushed: false,
            packs,
            message_max,
            close_sent: false,
            deaf: false,
        }
    }

    /// Bytes of messages that the kernel has not taken yet.
    pub fn buffered(&self) -> usize {
        self.queued
    }

    /// Sends a message, as far as the kernel takes it now; [`Socket::poll_flush`] and
    /// [`Socket::poll_event`] send the rest. Answers whether there is a rest.
    ///
    /// # Errors
    /// [`Error::Closing`] after [`Socket::close`].
    pub fn send(&mut self, text: bool, payload: Vec<u8>) -> Result<bool, Error> {
        if self.close_sent {
            return Err(Error::Closing);
        }
        self.queued += payload.len();
        let opcode = if text { TEXT } else { BINARY };
        if self.packs {
            let packed = deflate::pack(&payload);
            frames::write(opcode, true, packed, &mut self.output);
        } else {
            frames::write(opcode, false, payload, &mut self.output);
        }
        Ok(self.push())
    }

    /// Sends a ping of at most 125 bytes, as [`Socket::send`] does a message.
    ///
    /// # Errors
    /// [`Error::Closing`] after [`Socket::close`].
    pub fn ping(&mut self, payload: Vec<u8>) -> Result<bool, Error> {
        if self.close_sent {
            return Err(Error::Closing);
        }
        frames::write(PING, false, payload, &mut self.output);
        Ok(self.push())
    }

    /// Says that nothing more will be sent; the peer answers with the same. Only the first time has
    /// an effect. The reason is cut to 123 bytes. Answers whether some of it could not be sent yet.
    pub fn close(&mut self, code: u16, reason: &str) -> bool {
        if !mem::replace(&mut self.close_sent, true) {
            let payload = close::payload(code, reason);
            frames::write(CLOSE, false, payload, &mut self.output);
        }
        self.push()
    }

    /// Sends what the kernel takes; answers whether there is a rest, of which nobody is told when
    /// it can go.
    fn push(&mut self) -> bool {
        let mut quiet = Context::from_waker(Waker::noop());
        self.poll_output(&mut quiet).is_pending()
    }

    /// Ready when everything has been sent, or there is nobody to send it to. A peer that does not
    /// read until it is read from is read from meanwhile, up to a limit.
    pub fn poll_flush(&mut self, task: &mut Context<'_>) -> Poll<()> {
        loop {
            if self.poll_output(task).is_ready() {
                return Poll::Ready(());
            }
            // Its end, too, is found again by who waits for events.
            if self.input.len() >= BACKLOG || !matches!(self.poll_read(task), Poll::Ready(Ok(1..)))
            {
                return Poll::Pending;
            }
        }
    }

    /// The next thing that happens. What waits to be sent is sent meanwhile. Not to be asked again
    /// after an end.
    pub fn poll_event(&mut self, task: &mut Context<'_>) -> Poll<Event> {
        loop {
            let sent = self.poll_output(task);
            if self.output.len() - self.gone > BACKLOG {
                ready!(sent);
            }
            let event = match self.next_event() {
                Ok(Some(event)) => event,
                Ok(None) => match ready!(self.poll_read(task)) {
                    Ok(0) => Event::Failed(self.gone_error()),
                    Ok(_) => continue,
                    Err(error) => Event::Failed(error),
                },
                Err(error) => {
                    if let Some(code) = error.code() {
                        self.close(code, error.reason());
                    }
                    Event::Failed(error)
                }
            };
            match &event {
                Event::Ping(payload) if !self.close_sent => {
                    frames::write(PONG, false, payload.to_vec(), &mut self.output);
                }
                Event::Closed(close) => drop(self.close(close.code, "")),
                _ => {}
            }
            let _ = self.poll_output(task);
            return Poll::Ready(event);
        }
    }

    /// What is already here.
    fn next_event(&mut self) -> Result<Option<Event>, Error> {
        loop {
            let begun = self
                .message
                .as_ref()
                .map_or(0, |message| message.data.len());
            let expected = Expected {
                within: self.message.is_some(),
                packed: self.packs,
                room: self.message_max.saturating_sub(begun),
            };
            let Some(frame) = frames::take(&mut self.input, expected)? else {
                return Ok(None);
            };
            match frame.opcode {
                PING => return Ok(Some(Event::Ping(frame.payload))),
                PONG => return Ok(Some(Event::Pong(frame.payload))),
                CLOSE => return Close::parse(&frame.payload).map(|c| Some(Event::Closed(c))),
                _ => {}
            }
            if let Some(event) = self.add(frame)? {
                return Ok(Some(event));
            }
        }
    }

    /// Adds a piece to its message; answers the message with its last piece.
    fn add(&mut self, frame: Frame) -> Result<Option<Event>, Error> {
        let (text, packed, data) = match self.message.take() {
            Some(mut message) => {
                message.data.extend_from_slice(&frame.payload);
                if !frame.last {
                    self.message = Some(message);
                    return Ok(None);
                }
                (message.text, message.packed, message.data.freeze())
            }
            None => {
                let text = frame.opcode == OpCode::Data(Data::Text);
                if !frame.last {
                    self.message = Some(Message {
                        text,
                        packed: frame.packed,
                        data: frame.payload.into(),
                    });
                    return Ok(None);
                }
                (text, frame.packed, frame.payload)
            }
        };
        let data = if packed {
            deflate::unpack(&data, self.message_max)?.into()
        } else {
            data
        };
        Ok(Some(if text {
            Event::Text(data)
        } else {
            Event::Binary(data)
        }))
    }

    /// Reads once; 0 is the end.
    fn poll_read(&mut self, task: &mut Context<'_>) -> Poll<Result<usize, Error>> {
        if self.input.is_empty() && self.input.capacity() > KEPT {
            self.input = BytesMut::new();
        }
        let input = &mut self.input;
        let read = read(&mut self.wire, task, |bytes| {
            input.extend_from_slice(bytes);
            bytes.len()
        });
        Poll::Ready(ready!(read).map_err(|e| self.failure(&e)))
    }

    /// Sends what has to be sent.
    fn poll_output(&mut self, task: &mut Context<'_>) -> Poll<()> {
        while self.gone < self.output.len() && !self.deaf {
            let rest = &self.output[self.gone..];
            match ready!(Pin::new(&mut self.wire).poll_write(task, rest)) {
                Ok(sent @ 1..) => {
                    self.gone += sent;
                    self.unflushed = true;
                }
                // What the peer has said before it went is still to be read.
                Ok(0) | Err(_) => self.deaf = true,
            }
        }
        self.gone = 0;
        self.queued = 0;
        self.output.clear();
        if self.output.capacity() > KEPT {
            self.output = Vec::new();
        }
        if self.unflushed && !self.deaf {
            if ready!(Pin::new(&mut self.wire).poll_flush(task)).is_err() {
                self.deaf = true;
            }
            self.unflushed = false;
        }
        Poll::Ready(())
    }

    /// Why nothing more comes; a reset may have been seen by who wanted to write.
    fn gone_error(&self) -> Error {
        match self.marks.socket_error() {
            Some(error) if matches!(error.kind(), ErrorKind::Socket { op: Op::Read, .. }) => {
                Error::Io(error)
            }
            _ => Error::Gone,
        }
    }

    fn failure(&self, error: &std::io::Error) -> Error {
        if let Some(error) = self.marks.socket_error() {
            return Error::Io(error);
        }
        let text = match tls::inner(error) {
            Some(error) => return Error::Io(tls::classify(error).into()),
            None => message(error),
        };
        Error::Io(ErrorKind::Other(text).into())
    }
}
