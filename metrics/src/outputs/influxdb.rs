//! `--out influxdb`: InfluxDB's version 1, its line protocol over HTTP.
//!
//! Each sample is a point. Points are made into bodies of some megabytes; those that a receiver
//! did not take for reasons of its own go once more with the next tick, which is safe, because
//! a point that comes twice is one point. What is held is bounded: beyond that, samples are
//! dropped and counted.

use std::{collections::VecDeque, fmt::Write, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue,
    header::{AUTHORIZATION, USER_AGENT},
};
use rustc_hash::FxHashMap;
use serde_json::Value;

use super::{
    OutputContext, OutputKind, Severity,
    client::{Client, Endpoint, Post, Reply, TlsOptions, Version, basic_auth, escape, unescape},
    push::{Feed, Plan, Pusher},
    settings::{Setting, Settings},
};
use crate::{Batch, Sample, TagSet, TagSetId};

/// The row of this output in [`super::OUTPUTS`].
pub(super) const KIND: OutputKind = OutputKind {
    name: "influxdb",
    open: |arg, context| Ok(Box::new(open(arg, context)?)),
};

const SETTINGS: &[Setting] = &[
    Setting {
        key: "addr",
        variable: "K6_INFLUXDB_ADDR",
    },
    Setting {
        key: "db",
        variable: "K6_INFLUXDB_DB",
    },
    Setting {
        key: "username",
        variable: "K6_INFLUXDB_USERNAME",
    },
    Setting {
        key: "password",
        variable: "K6_INFLUXDB_PASSWORD",
    },
    Setting {
        key: "insecure",
        variable: "K6_INFLUXDB_INSECURE",
    },
    Setting {
        key: "payloadSize",
        variable: "K6_INFLUXDB_PAYLOAD_SIZE",
    },
    Setting {
        key: "precision",
        variable: "K6_INFLUXDB_PRECISION",
    },
    Setting {
        key: "retention",
        variable: "K6_INFLUXDB_RETENTION",
    },
    Setting {
        key: "consistency",
        variable: "K6_INFLUXDB_CONSISTENCY",
    },
    Setting {
        key: "proxy",
        variable: "K6_INFLUXDB_PROXY",
    },
    Setting {
        key: "pushInterval",
        variable: "K6_INFLUXDB_PUSH_INTERVAL",
    },
    Setting {
        key: "concurrentWrites",
        variable: "K6_INFLUXDB_CONCURRENT_WRITES",
    },
    Setting {
        key: "tagsAsFields",
        variable: "K6_INFLUXDB_TAGS_AS_FIELDS",
    },
];

/// How long a request may take.
const LIMIT: Duration = Duration::from_secs(5);
/// From this size on points go with another request.
const CHUNK: usize = 2 << 20;
/// How many bytes of points may be held.
const BOUND: usize = 64 << 20;
/// How many requests may fail at the end before the rest is given up.
const LAST_FAILURES: usize = 3;
/// How many tag sets are kept as text.
const TAGS_BOUND: usize = 16 * 1024;

fn open(arg: &str, context: OutputContext) -> Result<Pusher, String> {
    let mut settings = Settings::read(&context, KIND.name, SETTINGS);
    read_argument(arg, &mut settings)?;
    let address = settings.text("addr");
    let address = address.unwrap_or_else(|| "http://localhost:8086".to_owned());
    let endpoint = Endpoint::parse(&address)?;
    let proxy = settings.text("proxy");
    let proxy = proxy.map(|url| Endpoint::parse(&url)).transpose()?;
    // It is a matter of UDP, which is not spoken here.
    settings.number("payloadSize")?;
    let tls = TlsOptions {
        insecure: settings.flag("insecure")?.unwrap_or(false),
        ..TlsOptions::default()
    };
    let requests = match settings.number("concurrentWrites")? {
        Some(0) => return Err("the number of concurrent writes must be at least 1".to_owned()),
        given => given.unwrap_or(4),
    };
    let interval = settings.interval("pushInterval")?;
    let plan = Plan {
        requests,
        ..Plan::every(interval.unwrap_or(Duration::from_secs(1)))
    };
    let url = endpoint.url();
    let description = format!("InfluxDBv1 ({})", url.trim_end_matches('/'));
    let feed = Influx::new(context, &settings, &endpoint)?;
    let client = Client::new(endpoint, Version::Http1, &tls, LIMIT)?.through(proxy);
    Pusher::start(description, feed, client, plan)
}

/// `http://user:password@host:8086/prefix/database?parameter=value`.
fn read_argument(arg: &str, settings: &mut Settings) -> Result<(), String> {
    if arg.is_empty() {
        return Ok(());
    }
    let (url, query) = arg.split_once('?').unwrap_or((arg, ""));
    let endpoint = Endpoint::parse(url)?;
    let (prefix, database) = endpoint.path.rsplit_once('/').unwrap_or_default();
    if !database.is_empty() {
        settings.set("db", unescape(database));
    }
    let scheme = if endpoint.https { "https" } else { "http" };
    settings.set("addr", format!("{scheme}://{}{prefix}", endpoint.authority));
    if let Some((user, password)) = endpoint.user {
        settings.set("username", user);
        settings.set("password", password);
    }
    let mut fields: Vec<Value> = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = unescape(&value.replace('+', " "));
        match key {
            "insecure" => match value.as_str() {
                "" | "true" => settings.set("insecure", "true"),
                "false" => settings.set("insecure", "false"),
                other => return Err(format!("insecure must be true or false, not {other}")),
            },
            "payload_size" => settings.set("payloadSize", value),
            "precision" => settings.set("precision", value),
            "retention" => settings.set("retention", value),
            "consistency" => settings.set("consistency", value),
            "pushInterval" => settings.set("pushInterval", value),
            "concurrentWrites" => settings.set("concurrentWrites", value),
            "tagsAsFields" => fields.push(value.into()),
            other => return Err(format!("unknown query parameter: {other}")),
        }
    }
    if !fields.is_empty() {
        settings.set("tagsAsFields", fields);
    }
    Ok(())
}

/// How a tag is written that is a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FieldKind {
    Text,
    Int,
    Float,
    Bool,
}

impl FieldKind {
    /// `tag`, or `tag:kind`.
    fn parse(text: &str) -> Result<(String, Self), String> {
        let (tag, kind) = text.split_once(':').unwrap_or((text, "string"));
        let kind = match kind {
            "string" => Self::Text,
            "int" => Self::Int,
            "float" => Self::Float,
            "bool" => Self::Bool,
            other => return Err(format!("invalid type {other:?} of the field {tag:?}")),
        };
        Ok((tag.to_owned(), kind))
    }

    /// The value as a field has it; `None` when it is none of this kind.
    fn write(self, value: &str) -> Option<String> {
        match self {
            Self::Text => Some(format!(
                "\"{}\"",
                value.replace('\\', "\\\\").replace('"', "\\\"")
            )),
            Self::Int => value.parse::<i64>().ok().map(|number| format!("{number}i")),
            Self::Float => {
                let number = value.parse::<f64>().ok();
                number
                    .filter(|number| number.is_finite())
                    .map(|number| number.to_string())
            }
            Self::Bool => match value {
                "true" | "True" | "TRUE" | "t" | "T" | "1" => Some("true".to_owned()),
                "false" | "False" | "FALSE" | "f" | "F" | "0" => Some("false".to_owned()),
                _ => None,
            },
        }
    }
}

/// How many nanoseconds the unit of timestamps has.
fn unit(precision: &str) -> Result<i64, String> {
    Ok(match precision {
        "n" | "ns" => 1,
        "u" | "us" | "µs" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        other => return Err(format!("{other:?} is no precision: ns, u, ms, s, m, h")),
    })
}

/// What all points of a tag set have in common.
#[derive(Debug, Default)]
struct Parts {
    /// `,tag=value` for each tag.
    tags: String,
    /// `field=value`, sorted.
    fields: Vec<(String, String)>,
}

/// Points that make one body.
#[derive(Debug)]
struct Chunk {
    body: Bytes,
    samples: u64,
}

/// Whether the database was asked for.
#[derive(Debug, PartialEq)]
enum Database {
    Unknown,
    Asked,
    Answered,
}

#[derive(Debug)]
enum Ticket {
    Create,
    Write(Chunk),
}

struct Influx {
    context: OutputContext,
    headers: HeaderMap,
    create: String,
    write: String,
    unit: i64,
    as_fields: FxHashMap<String, FieldKind>,
    database: Database,
    /// The names of metrics by their position in the registry.
    names: Vec<Option<Arc<str>>>,
    parts: FxHashMap<TagSetId, Arc<Parts>>,
    /// Points of the next body, and how many they are.
    text: String,
    samples: u64,
    ready: VecDeque<Chunk>,
    /// What the receiver did not take, for the next tick.
    again: Vec<Chunk>,
    /// Bytes of all bodies, those on their way included.
    held: usize,
    bound: usize,
    flying: u64,
    /// Whether a request has failed since the last tick.
    paused: bool,
    last: bool,
    failures: usize,
    error: Option<String>,
    dropped: u64,
    lost: u64,
    refused: u64,
}

impl Influx {
    fn new(
        context: OutputContext,
        settings: &Settings,
        endpoint: &Endpoint,
    ) -> Result<Self, String> {
        let mut headers = HeaderMap::new();
        headers.insert(USER_AGENT, HeaderValue::from_static("k6"));
        let user = settings.text("username");
        let password = settings.text("password").unwrap_or_default();
        let user = user.map(|user| (user, password));
        if let Some((user, password)) = user.or_else(|| endpoint.user.clone()) {
            headers.insert(AUTHORIZATION, basic_auth(&user, &password)?);
        }
        let database = settings.text("db").unwrap_or_else(|| "k6".to_owned());
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let named = match database.chars().all(plain) {
            true => database.clone(),
            false => format!(
                "\"{}\"",
                database.replace('\\', "\\\\").replace('"', "\\\"")
            ),
        };
        let prefix = endpoint.path.trim_end_matches('/');
        let precision = settings.text("precision");
        let precision = precision.unwrap_or_else(|| "ns".to_owned());
        let part = |key| escape(&settings.text(key).unwrap_or_default());
        let as_fields = settings.list("tagsAsFields");
        let as_fields =
            as_fields.unwrap_or_else(|| ["vu", "iter", "url"].map(str::to_owned).to_vec());
        Ok(Self {
            create: format!(
                "{prefix}/query?q={}",
                escape(&format!("CREATE DATABASE {named}"))
            ),
            write: format!(
                "{prefix}/write?consistency={}&db={}&precision={}&rp={}",
                part("consistency"),
                escape(&database),
                escape(&precision),
                part("retention")
            ),
            unit: unit(&precision)?,
            as_fields: as_fields
                .iter()
                .map(|field| FieldKind::parse(field))
                .collect::<Result<_, _>>()?,
            context,
            headers,
            database: Database::Unknown,
            names: Vec::new(),
            parts: FxHashMap::default(),
            text: String::new(),
            samples: 0,
            ready: VecDeque::new(),
            again: Vec::new(),
            held: 0,
            bound: BOUND,
            flying: 0,
            paused: false,
            last: false,
            failures: 0,
            error: None,
            dropped: 0,
            lost: 0,
            refused: 0,
        })
    }

    fn push(&mut self, sample: &Sample) {
        if !sample.value.is_finite() {
            self.refused += 1;
            return;
        }
        if self.held >= self.bound {
            self.dropped += 1;
            return;
        }
        let before = self.text.len();
        let parts = match self.parts.get(&sample.tags) {
            Some(parts) => parts.clone(),
            None => {
                if self.parts.len() >= TAGS_BOUND {
                    self.parts.clear();
                }
                let parts = parts_of(&self.context.tags.get(sample.tags), &self.as_fields);
                self.parts
                    .entry(sample.tags)
                    .or_insert(Arc::new(parts))
                    .clone()
            }
        };
        let index = sample.metric.index();
        if self.names.len() <= index {
            self.names.resize(index + 1, None);
        }
        let registry = &self.context.registry;
        let name = self.names[index].get_or_insert_with(|| registry.info(sample.metric).name);
        let text = &mut self.text;
        text.extend([name, &*parts.tags, " "]);
        let metadata = sample.metadata.iter().flat_map(|metadata| metadata.iter());
        let mut more: Vec<(&str, String)> = metadata
            .filter_map(|(key, value)| {
                let kind = self.as_fields.get(key)?;
                Some((key.as_str(), kind.write(value)?))
            })
            .collect();
        let value = ("value", sample.value.to_string());
        if more.is_empty() {
            // The usual case: fields are sorted, and one is put between them.
            let split = parts
                .fields
                .partition_point(|(key, _)| key.as_str() < "value");
            let (smaller, larger) = parts.fields.split_at(split);
            for (key, value) in smaller {
                text.extend([key, "=", value, ","]);
            }
            text.extend([value.0, "=", &value.1]);
            for (key, value) in larger {
                text.extend([",", key, "=", value]);
            }
        } else {
            let fields = parts.fields.iter();
            more.extend(fields.map(|(key, value)| (key.as_str(), value.clone())));
            more.push(value);
            more.sort();
            for (index, (key, value)) in more.iter().enumerate() {
                text.extend([if index > 0 { "," } else { "" }, &escaped(key), "=", value]);
            }
        }
        // Writing to a String cannot fail.
        let _ = writeln!(text, " {}", sample.time.div_euclid(self.unit));
        self.samples += 1;
        self.held += text.len() - before;
        if text.len() >= CHUNK {
            self.seal();
        }
    }

    /// Makes a body of the points there are.
    fn seal(&mut self) {
        if !self.text.is_empty() {
            let body = Bytes::from(std::mem::take(&mut self.text));
            let samples = std::mem::take(&mut self.samples);
            self.ready.push_back(Chunk { body, samples });
        }
    }

    fn complain(&mut self, message: &str, problem: &str) {
        let fields = [("error", problem), ("output", "InfluxDBv1")];
        self.context.log.say(Severity::Error, message, &fields);
    }

    fn created(&mut self, outcome: Result<Reply, String>) {
        let failed = "InfluxDB: Couldn't create database";
        match outcome {
            Ok(reply) if reply.status / 100 == 2 => self.database = Database::Answered,
            // Version 2 does not know the question, and users may lack the right: points are
            // written all the same.
            Ok(reply) => {
                self.database = Database::Answered;
                let problem = said(&reply);
                let fields = [("error", problem.as_str()), ("output", "InfluxDBv1")];
                self.context.log.say(Severity::Warning, failed, &fields);
            }
            Err(problem) => {
                self.database = Database::Unknown;
                self.paused = true;
                self.failures += usize::from(self.last);
                self.complain(failed, &problem);
                self.error = Some(problem);
            }
        }
    }

    fn written(&mut self, chunk: Chunk, outcome: Result<Reply, String>) {
        self.flying -= chunk.samples;
        let problem = match &outcome {
            Ok(reply) if reply.status / 100 == 2 => {
                self.held -= chunk.body.len();
                self.error = None;
                return;
            }
            Ok(reply) => said(reply),
            Err(problem) => problem.clone(),
        };
        if matches!(&outcome, Ok(reply) if reply.status / 100 == 4) {
            // It would not be taken a second time either.
            self.lost += chunk.samples;
            self.held -= chunk.body.len();
        } else if self.last {
            self.failures += 1;
            self.ready.push_back(chunk);
        } else {
            self.paused = true;
            self.again.push(chunk);
        }
        self.complain("InfluxDB: Couldn't write stats", &problem);
        self.error = Some(problem);
    }
}

/// What an answer says that is no good one.
fn said(reply: &Reply) -> String {
    let body = String::from_utf8_lossy(&reply.body);
    let json: Option<Value> = serde_json::from_str(&body).ok();
    let error = json.as_ref().and_then(|json| json["error"].as_str());
    let text = error.unwrap_or(body.lines().next().unwrap_or_default());
    match text {
        "" => format!("status {}", reply.status),
        text => format!("status {}: {text}", reply.status),
    }
}

fn parts_of(tags: &TagSet, as_fields: &FxHashMap<String, FieldKind>) -> Parts {
    let mut parts = Parts::default();
    for (key, value) in tags.iter().filter(|(_, value)| !value.is_empty()) {
        match as_fields.get(key) {
            Some(kind) => {
                let value = kind.write(value);
                parts
                    .fields
                    .extend(value.map(|value| (escaped(key), value)));
            }
            None => parts
                .tags
                .extend([",", &escaped(key), "=", &escaped(value)]),
        }
    }
    parts
}

/// A name, or the value of a tag: what has a meaning in a line is escaped. There is no escape for
/// the end of a line, and none for a backslash at the end of the text.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            ',' | '=' | ' ' => out.extend(['\\', character]),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            other => out.push(other),
        }
    }
    if out.ends_with('\\') {
        out.push_str("\\ ");
    }
    out
}

impl Feed for Influx {
    type Ticket = Ticket;
    const RAW: bool = true;

    fn take(&mut self, batch: &Batch) {
        for sample in batch.raw.iter() {
            self.push(sample);
        }
    }

    fn tick(&mut self, last: bool) {
        self.last = last;
        self.paused = false;
        self.seal();
        for chunk in self.again.drain(..) {
            self.ready.push_front(chunk);
        }
    }

    fn next(&mut self) -> Option<(Post, Ticket)> {
        if self.paused || self.failures >= LAST_FAILURES {
            return None;
        }
        let (path, body, ticket) = match self.database {
            Database::Unknown => {
                self.database = Database::Asked;
                (&self.create, Bytes::new(), Ticket::Create)
            }
            Database::Asked => return None,
            Database::Answered => {
                let chunk = self.ready.pop_front()?;
                self.flying += chunk.samples;
                (&self.write, chunk.body.clone(), Ticket::Write(chunk))
            }
        };
        let post = Post {
            path: path.clone(),
            headers: self.headers.clone(),
            body,
        };
        Some((post, ticket))
    }

    fn settle(&mut self, ticket: Ticket, outcome: Result<Reply, String>) {
        match ticket {
            Ticket::Create => self.created(outcome),
            Ticket::Write(chunk) => self.written(chunk, outcome),
        }
    }

    fn losses(&mut self, _: bool) -> Vec<String> {
        let held = self.ready.iter().chain(&self.again);
        let held: u64 = held.map(|chunk| chunk.samples).sum();
        let missing = self.lost + held + self.samples + self.flying;
        let mut losses = Vec::new();
        if missing > 0 {
            let reason = self.error.as_deref().unwrap_or("there was no time left");
            losses.push(format!("{missing} samples were not written: {reason}"));
        }
        if self.dropped > 0 {
            let dropped = self.dropped;
            losses.push(format!(
                "it was too slow, and {dropped} samples were dropped"
            ));
        }
        if self.refused > 0 {
            losses.push(format!(
                "{} infinite values have no form in it",
                self.refused
            ));
        }
        losses
    }
}

#[cfg(test)]
mod tests;
