//! Showing what goes over the wire to somebody who debugs a script (`httpDebug`).

use std::{cell::OnceCell, fmt, rc::Rc};

use super::{
    auth,
    exchange::{Response, canonical},
    head::Outgoing,
};

/// One message, as text.
#[derive(Debug)]
pub struct Message<'a> {
    /// The same for a request and its response; in the form of a random UUID.
    pub id: &'a str,
    /// Whether it comes from the server.
    pub response: bool,
    /// First line, headers, an empty line, and the body if it was asked for.
    pub text: String,
}

/// Who is shown the messages of a client.
pub type Watcher = Rc<dyn Fn(Message<'_>)>;

/// The watcher of a client, if it has one.
#[derive(Default)]
pub(super) struct Watch(OnceCell<(Watcher, bool)>);

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Watch")
            .field(&self.0.get().is_some())
            .finish()
    }
}

impl Watch {
    pub(super) fn set(&self, watcher: Watcher, bodies: bool) {
        // The first one stays.
        let _ = self.0.set((watcher, bodies));
    }

    /// Whether the bodies of responses are shown, whatever becomes of them then.
    pub(super) fn wants_bodies(&self) -> bool {
        self.0.get().is_some_and(|(_, bodies)| *bodies)
    }

    /// A name for the next round trip, if anybody watches.
    pub(super) fn begin(&self) -> Option<String> {
        self.0.get().map(|_| uuid())
    }

    pub(super) fn request(&self, id: &str, request: &http::Request<()>, outgoing: &Outgoing<'_>) {
        let Some((watcher, bodies)) = self.0.get() else {
            return;
        };
        let target = outgoing.url.target();
        let mut text = format!("{} {target} HTTP/1.1\r\n", outgoing.method);
        push_headers(&mut text, request.headers());
        let body = outgoing.body.map(|body| &body[..]).unwrap_or_default();
        if !body.is_empty() {
            text.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        text.push_str("\r\n");
        if *bodies {
            text.push_str(&String::from_utf8_lossy(body));
        }
        watcher(Message {
            id,
            response: false,
            text,
        });
    }

    pub(super) fn response(&self, id: &str, response: &Response) {
        let Some((watcher, bodies)) = self.0.get() else {
            return;
        };
        let (proto, status) = (response.proto.as_str(), response.status);
        let mut text = format!("{proto} {status} {}\r\n", response.reason);
        push_headers(&mut text, &response.headers);
        text.push_str("\r\n");
        if *bodies {
            text.push_str(&String::from_utf8_lossy(&response.body));
        }
        watcher(Message {
            id,
            response: true,
            text,
        });
    }
}

fn push_headers(text: &mut String, headers: &http::HeaderMap) {
    for (name, value) in headers {
        text.push_str(&canonical(name.as_str()));
        text.push_str(": ");
        text.push_str(&String::from_utf8_lossy(value.as_bytes()));
        text.push_str("\r\n");
    }
}

fn uuid() -> String {
    let mut bytes = auth::random::<16>();
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex = auth::hex(&bytes);
    let parts = [
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..],
    ];
    parts.join("-")
}
