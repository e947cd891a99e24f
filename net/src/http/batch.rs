//! Several requests of one client at a time.

use std::collections::{HashMap, VecDeque};

use futures_util::stream::{FuturesUnordered, StreamExt};

use super::{
    client::Client,
    exchange::{Exchange, Request},
};
use crate::url::Url;

impl Client {
    /// Sends all requests, no more of them at a time than the configuration says for all hosts
    /// (`max_idle`) and for one host and port (`max_idle_per_host`). `done` sees each exchange
    /// when it is over; the result has them in the order of the requests.
    pub async fn send_all(
        &self,
        requests: Vec<Request>,
        mut done: impl FnMut(usize, &Exchange),
    ) -> Vec<Exchange> {
        let limit = |configured: usize| match configured {
            0 => usize::MAX,
            limit => limit,
        };
        let (at_once, per_host) = (
            limit(self.config().max_idle),
            limit(self.config().max_idle_per_host),
        );
        let mut exchanges: Vec<Option<Exchange>> = requests.iter().map(|_| None).collect();
        let mut hosts = Hosts::default();
        let mut waiting: VecDeque<(usize, usize, Request)> = requests
            .into_iter()
            .enumerate()
            .map(|(index, request)| (index, hosts.number(&request.url), request))
            .collect();
        let mut running = FuturesUnordered::new();
        loop {
            // In order, but one whose host is busy lets those behind it go first.
            let mut at = 0;
            while at < waiting.len() && running.len() < at_once {
                if hosts.running[waiting[at].1] >= per_host {
                    at += 1;
                } else if let Some((index, host, request)) = waiting.remove(at) {
                    hosts.running[host] += 1;
                    running.push(async move { (index, host, self.send(request).await) });
                }
            }
            let Some((index, host, exchange)) = running.next().await else {
                break;
            };
            hosts.running[host] -= 1;
            done(index, &exchange);
            exchanges[index] = Some(exchange);
        }
        exchanges.into_iter().flatten().collect()
    }
}

/// How many requests each host and port serves now.
#[derive(Default)]
struct Hosts {
    numbers: HashMap<String, usize>,
    running: Vec<usize>,
}

impl Hosts {
    fn number(&mut self, url: &Url) -> usize {
        let port = url.port().unwrap_or_default();
        let key = format!("{}:{port}", url.host().to_ascii_lowercase());
        let next = self.running.len();
        let number = *self.numbers.entry(key).or_insert(next);
        if number == next {
            self.running.push(0);
        }
        number
    }
}
