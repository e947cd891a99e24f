//! The connections of one client that wait for their next request.

use std::{cell::RefCell, future::poll_fn, task::Poll};

use super::connection::Connection;
use crate::{config::ClientConfig, url::Url};

/// Idle connections, the one used last at the end.
#[derive(Debug, Default)]
pub(super) struct Pool {
    idle: RefCell<Vec<Connection>>,
}

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
        if !connection.reusable() {
            return;
        }
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

    /// Closes all.
    pub(super) fn clear(&self) {
        self.idle.borrow_mut().clear();
    }
}
