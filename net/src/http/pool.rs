//! The connections of one client that wait for their next request.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    rc::Rc,
    task::Poll,
};

use super::{connection::Connection, http2::Http2};
use crate::{config::ClientConfig, url::Url};

/// Idle connections, the one used last at the end.
#[derive(Debug, Default)]
pub(super) struct Pool {
    idle: RefCell<Vec<Connection>>,
    /// Connections of HTTP/2, also those in use.
    shared: RefCell<Vec<Rc<Http2>>>,
    /// What is known of the hosts that were reached over TLS.
    gates: RefCell<Vec<(Url, Rc<Gate>)>>,
}

/// Lets one request of several find out what a server speaks, while the others wait: if it is
/// HTTP/2, its connection is theirs too.
#[derive(Debug, Default)]
pub(super) struct Gate {
    lock: tokio::sync::Mutex<()>,
    open: Cell<bool>,
}

impl Gate {
    /// Whether there is nothing to wait for.
    pub(super) fn is_open(&self) -> bool {
        self.open.get()
    }

    /// A server that speaks HTTP/1 needs a connection for every request, so nobody waits.
    pub(super) fn set_open(&self, open: bool) {
        self.open.set(open);
    }

    pub(super) async fn pass(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.lock.lock().await
    }
}

/// How many hosts are remembered.
const GATES_MAX: usize = 64;

impl Pool {
    /// The connection to this origin that was used last and is still open.
    pub(super) async fn take(&self, url: &Url) -> Option<Connection> {
        if self.idle.borrow().is_empty() {
            return None;
        }
        poll_fn(|task| {
            loop {
                let found = {
                    let mut idle = self.idle.borrow_mut();
                    idle.retain(|kept| !kept.age.is_over());
                    let at = idle.iter().rposition(|kept| kept.url.same_origin(url));
                    at.map(|at| idle.remove(at))
                };
                let Some(mut connection) = found else {
                    return Poll::Ready(None);
                };
                if connection.usable(task) {
                    connection.reused = true;
                    return Poll::Ready(Some(connection));
                }
            }
        })
        .await
    }

    /// Keeps a connection whose exchange is over, within the limits of the configuration.
    pub(super) fn put(&self, connection: Connection, config: &ClientConfig) {
        if !connection.reusable() || connection.age.is_over() {
            return;
        }
        connection.age.rest();
        let mut idle = self.idle.borrow_mut();
        let url = connection.url.clone();
        let same = idle
            .iter()
            .filter(|kept| kept.url.same_origin(&url))
            .count();
        if config.max_idle_per_host > 0 && same >= config.max_idle_per_host {
            return;
        }
        if config.max_idle > 0 && idle.len() >= config.max_idle {
            // The one that has waited longest goes.
            idle.remove(0);
        }
        idle.push(connection);
    }

    /// A connection of HTTP/2 to this origin that takes one more request.
    pub(super) async fn multiplexed(&self, url: &Url) -> Option<Rc<Http2>> {
        if self.shared.borrow().is_empty() {
            return None;
        }
        poll_fn(|task| {
            let mut found = None;
            let mut left = false;
            for at in 0.. {
                // No borrow lives while a connection is driven: that may wake who looks at them.
                let Some(kept) = self.shared.borrow().get(at).cloned() else {
                    break;
                };
                if !kept.url.same_origin(url) {
                    continue;
                }
                if kept.usable(task) {
                    found = Some(kept);
                    break;
                }
                left |= kept.is_left();
            }
            if left {
                self.shared.borrow_mut().retain(|kept| !kept.is_left());
            }
            Poll::Ready(found)
        })
        .await
    }

    /// Keeps a connection of HTTP/2 for all that come.
    pub(super) fn share(&self, connection: Rc<Http2>) {
        self.shared.borrow_mut().push(connection);
    }

    /// Gives no more requests to it; those it has go on.
    pub(super) fn forget(&self, connection: &Rc<Http2>) {
        let mut shared = self.shared.borrow_mut();
        shared.retain(|kept| !Rc::ptr_eq(kept, connection));
    }

    /// The gate of an origin.
    pub(super) fn gate(&self, url: &Url) -> Rc<Gate> {
        let mut gates = self.gates.borrow_mut();
        if let Some((_, gate)) = gates.iter().find(|(known, _)| known.same_origin(url)) {
            return gate.clone();
        }
        if gates.len() >= GATES_MAX {
            gates.remove(0);
        }
        let gate = Rc::new(Gate::default());
        gates.push((url.clone(), gate.clone()));
        gate
    }

    /// Closes all.
    pub(super) fn clear(&self) {
        self.shared.borrow_mut().clear();
        self.idle.borrow_mut().clear();
    }
}
