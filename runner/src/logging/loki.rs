//! `--log-output loki`: lines go to a Grafana Loki server, some at a time.
//!
//! A thread of its own sends what has come since the last time. Who logs never waits for it: lines
//! beyond the limit of a period are counted and dropped, and so is what a server did not take.
//! What goes wrong here cannot be logged here; it is said on the error stream, once and at the end.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde_json::{Map, Value, json};
use volley_net::{Client, ClientConfig, HeaderName, HeaderValue, Request, Url};

use super::{Level, Threshold};
use crate::duration::GoDuration;

const DEFAULT_URL: &str = "http://127.0.0.1:3100/loki/api/v1/push";
/// How long a server may take with one request.
const REQUEST_LIMIT: Duration = Duration::from_secs(10);

/// Where and how lines are sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LokiOptions {
    url: String,
    /// From one request to the next.
    period: GoDuration,
    /// Lines that are sent in a period, at most.
    limit: usize,
    /// Bytes of a message; what is longer is cut.
    longest: usize,
    pub(super) level: Threshold,
    /// Which labels a stream may have; the others are appended to the message.
    allowed: Option<BTreeSet<String>>,
    /// Labels of every line.
    labels: BTreeMap<String, String>,
    headers: Vec<(String, String)>,
}

impl LokiOptions {
    /// Parses `loki[=URL][,key=value…]`; a value in brackets is a list.
    ///
    /// # Errors
    /// A text for the user: an unknown key, or a value that does not fit.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut options = Self {
            url: DEFAULT_URL.to_owned(),
            period: GoDuration::from_secs(1),
            limit: 100,
            longest: 1 << 20,
            level: Threshold(Some(Level::Debug)),
            allowed: None,
            labels: BTreeMap::new(),
            headers: Vec::new(),
        };
        for pair in parts(text) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let number = || {
                let parsed = value.parse::<usize>().ok().filter(|n| *n > 0);
                parsed.ok_or_else(|| {
                    format!("loki {key} needs to be a whole number above 0, not '{value}'")
                })
            };
            match key {
                "loki" if value.is_empty() => {}
                "loki" => options.url = value.to_owned(),
                "pushPeriod" => {
                    options.period = GoDuration::parse(value)
                        .ok()
                        .filter(|period| *period > GoDuration::ZERO)
                        .ok_or_else(|| {
                            format!("couldn't parse the loki pushPeriod '{value}' as a duration")
                        })?;
                }
                "limit" => options.limit = number()?,
                "msgMaxSize" => options.longest = number()?,
                "level" => options.level = Threshold::parse(value)?,
                "allowedLabels" => {
                    let list = value
                        .strip_prefix('[')
                        .and_then(|list| list.strip_suffix(']'))
                        .unwrap_or(value);
                    let names = list
                        .split(',')
                        .map(str::trim)
                        .filter(|name| !name.is_empty());
                    options.allowed = Some(names.map(str::to_owned).collect());
                }
                // It would print how long sending took.
                "profile" => {}
                key => match (key.strip_prefix("label."), key.strip_prefix("header.")) {
                    (Some(label), _) => {
                        options.labels.insert(label.to_owned(), value.to_owned());
                    }
                    (_, Some(header)) => {
                        options.headers.push((header.to_owned(), value.to_owned()));
                    }
                    _ => return Err(format!("unknown loki config key {key}")),
                },
            }
        }
        Url::parse(&options.url)
            .map_err(|problem| format!("loki: '{}' is no URL: {problem}", options.url))?;
        for (name, value) in &options.headers {
            if HeaderName::try_from(name.as_str()).is_err()
                || HeaderValue::try_from(value.as_str()).is_err()
            {
                return Err(format!("loki: '{name}: {value}' cannot be a header"));
            }
        }
        Ok(options)
    }

    /// The line that a server gets: its labels and its message.
    fn line(&self, level: Level, message: &str, fields: &[(&str, &str)]) -> Line {
        let mut labels = self.labels.clone();
        labels.extend(
            fields
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
        );
        labels.insert("level".to_owned(), level.name().to_owned());
        let mut text = message.to_owned();
        if let Some(allowed) = &self.allowed {
            let (kept, rest) = labels
                .into_iter()
                .partition(|(name, _)| allowed.contains(name));
            labels = kept;
            let rest: BTreeMap<String, String> = rest;
            for (name, value) in rest {
                text.push_str(&format!(" {name}={value}"));
            }
        }
        if text.len() > self.longest {
            let end = (0..=self.longest)
                .rev()
                .find(|at| text.is_char_boundary(*at))
                .unwrap_or(0);
            text.truncate(end);
        }
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        Line {
            labels,
            nanos: since.unwrap_or_default().as_nanos(),
            text,
        }
    }
}

/// The pairs of a configuration; commas between brackets separate nothing.
fn parts(text: &str) -> Vec<&str> {
    let mut depth = 0_i32;
    let separates = move |c: char| {
        match c {
            '[' => depth += 1,
            ']' => depth -= 1,
            _ => {}
        }
        c == ',' && depth <= 0
    };
    text.split(separates).collect()
}

#[derive(Debug)]
struct Line {
    labels: BTreeMap<String, String>,
    /// Since the epoch.
    nanos: u128,
    text: String,
}

/// The sender.
#[derive(Debug)]
pub(super) struct Loki {
    options: LokiOptions,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    pending: Mutex<Pending>,
    /// Signalled when somebody waits for the end, and when everything is sent.
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Pending {
    lines: Vec<Line>,
    /// Lines over the limit of the present period.
    over: u64,
    /// Lines that no server took, so far.
    lost: u64,
    sending: bool,
    hurry: bool,
    closed: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Loki {
    /// Starts the thread that sends.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub(super) fn start(options: LokiOptions) -> Result<Self, String> {
        let shared = Arc::new(Shared::default());
        let (theirs, settings) = (shared.clone(), options.clone());
        thread::Builder::new()
            .name("log-loki".to_owned())
            .spawn(move || send_pending(&theirs, &settings))
            .map_err(|error| format!("could not start the log's thread: {error}"))?;
        Ok(Self { options, shared })
    }

    /// Takes a line for the next request.
    pub(super) fn push(&self, level: Level, message: &str, fields: &[(&str, &str)]) {
        let line = self.options.line(level, message, fields);
        let mut pending = self.shared.lock();
        if pending.lines.len() >= self.options.limit {
            pending.over += 1;
            return;
        }
        pending.lines.push(line);
    }

    /// Waits until all is sent, `patience` at most; whether it is.
    pub(super) fn flush(&self, patience: Duration) -> bool {
        let mut pending = self.shared.lock();
        pending.hurry = true;
        self.shared.changed.notify_all();
        let busy = |p: &mut Pending| p.sending || !p.lines.is_empty() || p.over > 0;
        let (mut pending, timeout) = self
            .shared
            .changed
            .wait_timeout_while(pending, patience, busy)
            .unwrap_or_else(PoisonError::into_inner);
        let lost = std::mem::take(&mut pending.lost);
        if lost > 0 {
            eprintln!("Loki did not take {lost} log lines");
        }
        !timeout.timed_out()
    }
}

impl Drop for Loki {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.changed.notify_all();
    }
}

fn send_pending(shared: &Shared, options: &LokiOptions) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return eprintln!("no log lines go to Loki: {error}"),
    };
    let network = Arc::new(ClientConfig::default());
    let client = Client::new(network);
    let mut complained = false;
    loop {
        let (lines, over) = {
            let pending = shared.lock();
            let idle = |p: &mut Pending| !p.hurry && !p.closed;
            let waited = shared
                .changed
                .wait_timeout_while(pending, options.period.to_std(), idle);
            let (mut pending, _) = waited.unwrap_or_else(PoisonError::into_inner);
            if pending.closed && pending.lines.is_empty() {
                return;
            }
            pending.hurry = false;
            pending.sending = true;
            let over = std::mem::take(&mut pending.over);
            (std::mem::take(&mut pending.lines), over)
        };
        let count = lines.len() as u64;
        let problem = if count == 0 && over == 0 {
            None
        } else {
            let body = document(lines, (over > 0).then(|| notice(options, over)));
            runtime.block_on(push(&client, options, body)).err()
        };
        let mut pending = shared.lock();
        pending.sending = false;
        if let Some(problem) = problem {
            pending.lost += count + over;
            if !complained {
                complained = true;
                eprintln!("Loki does not take log lines: {problem}");
            }
        }
        drop(pending);
        shared.changed.notify_all();
    }
}

/// The line about lines that were too many.
fn notice(options: &LokiOptions, over: u64) -> Line {
    let text = format!(
        "{over} log lines were dropped because they were above the limit of {} lines in {}",
        options.limit, options.period
    );
    options.line(Level::Warning, &text, &[])
}

/// The body of a request: lines with equal labels are a stream.
fn document(lines: Vec<Line>, notice: Option<Line>) -> String {
    let mut streams: BTreeMap<BTreeMap<String, String>, Vec<(u128, String)>> = BTreeMap::new();
    for Line {
        labels,
        nanos,
        text,
    } in lines.into_iter().chain(notice)
    {
        streams.entry(labels).or_default().push((nanos, text));
    }
    let stream = |(labels, mut values): (BTreeMap<String, String>, Vec<(u128, String)>)| {
        values.sort_by_key(|(nanos, _)| *nanos);
        let labels: Map<String, Value> = labels
            .into_iter()
            .map(|(name, value)| (name, Value::from(value)))
            .collect();
        let values: Vec<Value> = values
            .into_iter()
            .map(|(nanos, text)| json!([nanos.to_string(), text]))
            .collect();
        json!({"stream": labels, "values": values})
    };
    let streams: Vec<Value> = streams.into_iter().map(stream).collect();
    json!({ "streams": streams }).to_string()
}

async fn push(client: &Client, options: &LokiOptions, body: String) -> Result<(), String> {
    let url = Url::parse(&options.url).map_err(|problem| problem.to_string())?;
    let mut request = Request::new("POST".to_owned(), url);
    request.headers = vec![("Content-Type".to_owned(), "application/json".to_owned())];
    request.headers.extend(options.headers.iter().cloned());
    request.body = Some(body.into());
    request.timeout = REQUEST_LIMIT;
    let exchange = client.send(request).await;
    match (&exchange.last.error, exchange.last.status) {
        (Some(error), _) => Err(error.raw()),
        (None, 200..300) => Ok(()),
        (None, status) => Err(format!("the server answered with status {status}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_and_what_is_wrong_is_named() {
        let plain = LokiOptions::parse("loki").expect("defaults");
        assert_eq!(plain.url, DEFAULT_URL);
        assert_eq!((plain.limit, plain.longest), (100, 1 << 20));
        let all = LokiOptions::parse(
            "loki=https://h:1/p,pushPeriod=5s32ms,limit=32,msgMaxSize=1231,level=warning,\
             allowedLabels=[level,app],label.app=k6,header.X-Scope=a,profile",
        )
        .expect("all of them");
        assert_eq!(all.url, "https://h:1/p");
        assert_eq!(all.period, GoDuration::parse("5s32ms").expect("a duration"));
        assert_eq!((all.limit, all.longest), (32, 1231));
        assert!(all.level.accepts(Level::Warning) && !all.level.accepts(Level::Info));
        assert_eq!(all.labels["app"], "k6");
        assert_eq!(all.headers, [("X-Scope".to_owned(), "a".to_owned())]);
        for (text, problem) in [
            ("loki,foo=1", "unknown loki config key foo"),
            (
                "loki,limit=0",
                "loki limit needs to be a whole number above 0, not '0'",
            ),
            (
                "loki,pushPeriod=x",
                "couldn't parse the loki pushPeriod 'x' as a duration",
            ),
            ("loki,level=zzz", "unknown log level zzz"),
        ] {
            assert_eq!(LokiOptions::parse(text).err().as_deref(), Some(problem));
        }
        assert!(LokiOptions::parse("loki=http://[").is_err());
        assert!(LokiOptions::parse("loki,header.a b=c").is_err());
    }

    #[test]
    fn labels_that_are_not_allowed_end_up_in_the_message() {
        let text = "loki,allowedLabels=[level,app],label.app=k6,label.z=1,msgMaxSize=24";
        let options = LokiOptions::parse(text).expect("settings");
        let fields = [("scenario", "s"), ("error", "é")];
        let line = options.line(Level::Error, "no luck", &fields);
        // Cut at 24 bytes.
        assert_eq!(line.text, "no luck error=é scenari");
        let labels = [("app", "k6"), ("level", "error")];
        assert_eq!(
            line.labels,
            labels.map(|(k, v)| (k.to_owned(), v.to_owned())).into()
        );
    }
}
