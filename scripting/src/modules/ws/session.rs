//! What is measured of a connection.

use std::{
    collections::BTreeMap,
    rc::Rc,
    time::{Duration, Instant},
};

use volley_metrics::{MetricId, TagSetId, builtin};
use volley_net as net;

use super::params::header;
use crate::state::VuState;

/// What tells the samples of a connection from others.
pub(crate) struct Labels {
    /// The tags of the VU at the moment when the connection was asked for.
    pub(crate) base: TagSetId,
    /// Tags of the script's.
    pub(crate) tags: Vec<(String, String)>,
    /// The URL as it was given.
    pub(crate) url: String,
    /// Whether there is a tag `name`, and with it the rule that it takes the place of the URL.
    pub(crate) named: bool,
}

impl Labels {
    /// The tags of all samples of the connection that has become of it.
    fn interned(&self, state: &VuState, opened: &net::ws::Opened) -> TagSetId {
        let enabled = state.settings.system_tags;
        let mut pairs: Vec<(&str, &str)> = Vec::with_capacity(self.tags.len() + 5);
        pairs.extend(self.tags.iter().map(|(k, v)| (k.as_str(), v.as_str())));
        let own = self.tags.iter().find(|(key, _)| key == "name");
        let of_vu = match own {
            None if self.named => state.tag("name"),
            _ => None,
        };
        let shown = match own {
            Some((_, name)) if self.named => name.as_str(),
            _ => of_vu.as_deref().unwrap_or(&self.url),
        };
        if enabled.url() {
            pairs.push(("url", shown));
        }
        if enabled.name() && self.named {
            pairs.push(("name", shown));
        }
        let (status, subproto);
        if let Some(response) = &opened.response {
            status = response.status.to_string();
            subproto = header(opened, "sec-websocket-protocol");
            if enabled.status() {
                pairs.push(("status", &status));
            }
            if enabled.subproto() {
                pairs.push(("subproto", &subproto));
            }
        }
        let ip;
        if let Some(remote) = opened.remote.filter(|_| enabled.ip()) {
            ip = remote.ip().to_string();
            pairs.push(("ip", &ip));
        }
        state.worker.tags.borrow_mut().overlay(self.base, &pairs)
    }
}

/// A connection that is open.
pub(crate) struct Session {
    state: Rc<VuState>,
    tags: TagSetId,
    begun: Instant,
    pings: BTreeMap<u64, Instant>,
    pinged: u64,
}

impl Session {
    /// Counts an attempt to connect, whatever has become of it.
    pub(crate) fn begin(state: &Rc<VuState>, labels: &Labels, opened: &net::ws::Opened) -> Self {
        let session = Self {
            state: state.clone(),
            tags: labels.interned(state, opened),
            begun: opened.begun,
            pings: BTreeMap::new(),
            pinged: 0,
        };
        let took = opened.ended - opened.begun;
        state.record(builtin::WS_SESSIONS, session.tags, 1.0, opened.ended);
        state.record(builtin::WS_CONNECTING, session.tags, ms(took), opened.ended);
        session
    }

    fn record(&self, metric: MetricId, value: f64) {
        self.state.record(metric, self.tags, value, Instant::now());
    }

    /// A message has gone.
    pub(crate) fn sent(&self) {
        self.record(builtin::WS_MSGS_SENT, 1.0);
    }

    /// Something has come.
    pub(crate) fn happened(&mut self, event: &net::ws::Event) -> Pong {
        match event {
            net::ws::Event::Text(_) | net::ws::Event::Binary(_) => {
                self.record(builtin::WS_MSGS_RECEIVED, 1.0);
            }
            net::ws::Event::Pong(payload) => return self.pong(payload),
            _ => {}
        }
        Pong::None
    }

    /// The payload of the next ping, which goes now: its number.
    pub(crate) fn ping(&mut self) -> Vec<u8> {
        let number = self.pinged;
        self.pinged += 1;
        self.pings.insert(number, Instant::now());
        number.to_string().into_bytes()
    }

    fn pong(&mut self, payload: &[u8]) -> Pong {
        let text = String::from_utf8_lossy(payload);
        let sent = text
            .parse()
            .ok()
            .and_then(|number| self.pings.remove(&number));
        let Some(sent) = sent else {
            return Pong::Unknown(text.into_owned());
        };
        self.record(builtin::WS_PING, ms(sent.elapsed()));
        Pong::Known
    }

    /// The connection is closed; this is counted also after a stop, which is what closes most of
    /// them in a test of long sessions.
    pub(crate) fn end(&self) {
        let now = Instant::now();
        let took = ms(now - self.begun);
        let metric = builtin::WS_SESSION_DURATION;
        self.state.record_always(metric, self.tags, took, now);
    }
}

/// Whether an event is the answer to a ping.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Pong {
    /// It is no pong.
    None,
    /// It is.
    Known,
    /// It is a pong, and nobody has sent such a ping.
    Unknown(String),
}

fn ms(duration: Duration) -> f64 {
    duration.as_nanos() as f64 / 1e6
}
