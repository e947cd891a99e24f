//! `--out experimental-prometheus-rw`: Prometheus remote write 1.0, snappy over protocol buffers.
//!
//! Series are kept cumulative, so that a request that fails costs resolution and no total: what
//! it carried goes with the next one, and only what is missing at the end is lost. A time series
//! that Prometheus could not tell from another one (they differ in empty tags alone) is the same
//! series here. What changed since the last request is sent, never two samples of a series with
//! one timestamp.

mod sigv4;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, USER_AGENT},
};
use rustc_hash::FxHashMap;

use super::{
    OutputContext, OutputKind, Severity,
    client::{Client, Endpoint, Post, Reply, TlsOptions, Version, basic_auth},
    native::NativeHistogram,
    prometheus::label_pairs,
    proto::Message,
    push::{Feed, Pending, Plan, Pusher, unix_ms},
    settings::{Setting, Settings},
};
use crate::{
    Batch, MetricId, MetricInfo, MetricKind, TagSet, TagSetId, TrendSink, ValueType,
    recorder::{Delta, SeriesDelta, series_key},
};
use sigv4::Signer;

/// The row of this output in [`super::OUTPUTS`].
pub(super) const KIND: OutputKind = OutputKind {
    name: "experimental-prometheus-rw",
    open: |_, context| Ok(Box::new(open(context)?)),
};

const SETTINGS: &[Setting] = &[
    Setting {
        key: "url",
        variable: "K6_PROMETHEUS_RW_SERVER_URL",
    },
    Setting {
        key: "pushInterval",
        variable: "K6_PROMETHEUS_RW_PUSH_INTERVAL",
    },
    Setting {
        key: "trendStats",
        variable: "K6_PROMETHEUS_RW_TREND_STATS",
    },
    Setting {
        key: "trendAsNativeHistogram",
        variable: "K6_PROMETHEUS_RW_TREND_AS_NATIVE_HISTOGRAM",
    },
    Setting {
        key: "staleMarkers",
        variable: "K6_PROMETHEUS_RW_STALE_MARKERS",
    },
    Setting {
        key: "username",
        variable: "K6_PROMETHEUS_RW_USERNAME",
    },
    Setting {
        key: "password",
        variable: "K6_PROMETHEUS_RW_PASSWORD",
    },
    Setting {
        key: "bearerToken",
        variable: "K6_PROMETHEUS_RW_BEARER_TOKEN",
    },
    Setting {
        key: "headers",
        variable: "K6_PROMETHEUS_RW_HTTP_HEADERS",
    },
    Setting {
        key: "insecureSkipTLSVerify",
        variable: "K6_PROMETHEUS_RW_INSECURE_SKIP_TLS_VERIFY",
    },
    Setting {
        key: "tlsMinimumVersion",
        variable: "K6_PROMETHEUS_RW_TLS_MINIMUM_VERSION",
    },
    // What k6's documentation calls it.
    Setting {
        key: "tlsMinVersion",
        variable: "K6_PROMETHEUS_RW_TLS_MIN_VERSION",
    },
    Setting {
        key: "clientCertificate",
        variable: "K6_PROMETHEUS_RW_CLIENT_CERTIFICATE",
    },
    Setting {
        key: "clientCertificateKey",
        variable: "K6_PROMETHEUS_RW_CLIENT_CERTIFICATE_KEY",
    },
    Setting {
        key: "sigV4Region",
        variable: "K6_PROMETHEUS_RW_SIGV4_REGION",
    },
    Setting {
        key: "sigV4AccessKey",
        variable: "K6_PROMETHEUS_RW_SIGV4_ACCESS_KEY",
    },
    Setting {
        key: "sigV4SecretKey",
        variable: "K6_PROMETHEUS_RW_SIGV4_SECRET_KEY",
    },
];

/// A variable for each header: this, and the header's name.
const HEADERS: &str = "K6_PROMETHEUS_RW_HEADERS_";
/// How long a request may take.
const LIMIT: Duration = Duration::from_secs(5);
/// From this size on, before compression, series go with another request.
const CHUNK: usize = 2 << 20;
/// The NaN that says that a series has ended.
const STALE: u64 = 0x7ff0_0000_0000_0002;

fn open(context: OutputContext) -> Result<Pusher, String> {
    let settings = Settings::read(&context, KIND.name, SETTINGS);
    let url = settings.text("url");
    let url = url.unwrap_or_else(|| "http://localhost:9090/api/v1/write".to_owned());
    let endpoint = Endpoint::parse(&url)?;
    let interval = settings.interval("pushInterval")?;
    let tls = tls_options(&settings)?;
    let description = format!("Prometheus remote write ({})", endpoint.url());
    let feed = RemoteWrite::new(context, &settings, &endpoint)?;
    let client = Client::new(endpoint, Version::Http1, &tls, LIMIT)?;
    let plan = Plan::every(interval.unwrap_or(Duration::from_secs(5)));
    Pusher::start(description, feed, client, plan)
}

fn tls_options(settings: &Settings) -> Result<TlsOptions, String> {
    let version = |key| {
        settings.parse(key, |text| match text {
            "1.2" => Ok(false),
            "1.3" => Ok(true),
            other => Err(format!("the TLS version {other:?} is neither 1.2 nor 1.3")),
        })
    };
    let only_13 = version("tlsMinimumVersion")?.or(version("tlsMinVersion")?);
    let certificate = settings.text("clientCertificate");
    let client = match (certificate, settings.text("clientCertificateKey")) {
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (None, None) => None,
        _ => return Err("a client certificate and its key must be given together".to_owned()),
    };
    Ok(TlsOptions {
        insecure: settings.flag("insecureSkipTLSVerify")?.unwrap_or(false),
        only_13: only_13.unwrap_or(true),
        roots: None,
        client,
    })
}

fn headers(
    context: &OutputContext,
    settings: &Settings,
    endpoint: &Endpoint,
) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    let plain = HeaderValue::from_static;
    headers.insert(USER_AGENT, plain("k6-prometheus-rw-output"));
    headers.insert(CONTENT_TYPE, plain("application/x-protobuf"));
    headers.insert(CONTENT_ENCODING, plain("snappy"));
    headers.insert("x-prometheus-remote-write-version", plain("0.1.0"));
    let password = settings.text("password").unwrap_or_default();
    let user = settings.text("username").map(|user| (user, password));
    if let Some((user, password)) = user.or_else(|| endpoint.user.clone()) {
        headers.insert(AUTHORIZATION, basic_auth(&user, &password)?);
    }
    if let Some(token) = settings.text("bearerToken") {
        let value = HeaderValue::try_from(format!("Bearer {token}"));
        let mut value = value.map_err(|_| "the bearer token is no header".to_owned())?;
        value.set_sensitive(true);
        headers.insert(AUTHORIZATION, value);
    }
    let mut own = settings.pairs("headers", ':')?;
    let variables = context.env.iter();
    own.extend(variables.filter_map(|(name, value)| {
        let header = name.strip_prefix(HEADERS)?;
        Some((header.to_owned(), value.clone()))
    }));
    for (name, value) in own {
        let bad = || format!("{name:?} with the value {value:?} is no header");
        let parsed = HeaderName::try_from(&name).map_err(|_| bad())?;
        headers.insert(parsed, HeaderValue::try_from(&value).map_err(|_| bad())?);
    }
    Ok(headers)
}

/// One value of a trend.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Stat {
    Avg,
    Min,
    Max,
    Med,
    Count,
    Sum,
    /// A share from 0 to 1.
    Percentile(f64),
}

impl Stat {
    /// The stat, and the end of its series' name.
    fn parse(text: &str) -> Result<(Self, String), String> {
        let stat = match text {
            "avg" => Self::Avg,
            "min" => Self::Min,
            "max" => Self::Max,
            "med" => Self::Med,
            "count" => Self::Count,
            "sum" => Self::Sum,
            other => {
                let percent = other
                    .strip_prefix("p(")
                    .and_then(|rest| rest.strip_suffix(')'));
                let share = percent.and_then(|text| text.parse::<f64>().ok());
                let (Some(percent), Some(share @ 0.0..=100.0)) = (percent, share) else {
                    return Err(format!("invalid trend stat '{other}', unknown format"));
                };
                let name = format!("p{}", percent.replace('.', ""));
                return Ok((Self::Percentile(share / 100.0), name));
            }
        };
        Ok((stat, text.to_owned()))
    }

    fn of(self, trend: &TrendSink) -> f64 {
        match self {
            Self::Avg => trend.avg(),
            Self::Min => trend.min(),
            Self::Max => trend.max(),
            Self::Med => trend.med(),
            Self::Count => trend.count() as f64,
            Self::Sum => trend.sum(),
            Self::Percentile(share) => trend.percentile(share),
        }
    }
}

/// The labels of a tag set as they are sent, in two halves: between them is the place of the name.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Labels {
    before: Box<[u8]>,
    after: Box<[u8]>,
}

impl Labels {
    fn new(tags: &TagSet) -> Self {
        let (mut before, mut after) = (Message::default(), Message::default());
        for (name, value) in label_pairs(tags, &[]) {
            // Names and values that are empty are no labels.
            if value.is_empty() || (name == "_" && tags.get("") == Some(value)) {
                continue;
            }
            let half = match name.as_str() < NAME {
                true => &mut before,
                false => &mut after,
            };
            push_label(half, &name, value);
        }
        Self {
            before: before.0.into(),
            after: after.0.into(),
        }
    }
}

const NAME: &str = "__name__";

fn push_label(out: &mut Message, name: &str, value: &str) {
    out.message(1, |label| {
        label.bytes(1, name.as_bytes());
        label.bytes(2, value.as_bytes());
    });
}

/// What all series of a metric have in common.
#[derive(Debug)]
struct Metric {
    kind: MetricKind,
    /// What a value is divided by: milliseconds become seconds.
    divisor: f64,
    /// Its names as labels, encoded; of a trend one for each stat.
    names: Vec<Box<[u8]>>,
}

/// A time series, or, of a trend, one for each stat.
#[derive(Debug)]
struct Series {
    metric: Arc<Metric>,
    labels: Arc<Labels>,
    value: Value,
    /// When its newest sample was taken, in milliseconds since 1970.
    time: i64,
    /// The timestamp of what was sent last.
    sent: i64,
    /// Whether that was answered with an error, and has to go once more.
    failed: bool,
}

#[derive(Debug)]
enum Value {
    Counter(f64),
    Gauge { last: f64, time: i64 },
    Rate { trues: u64, total: u64 },
    Trend(Box<TrendSink>),
    Native(Box<NativeHistogram>),
}

impl Value {
    fn fold(&mut self, delta: &Delta, divisor: f64) {
        match (self, delta) {
            (Self::Counter(sum), Delta::Counter { sum: more, .. }) => *sum += more,
            (
                Self::Gauge { last, time },
                &Delta::Gauge {
                    last: new,
                    time: at,
                    ..
                },
            ) => {
                if at >= *time {
                    (*last, *time) = (new, at);
                }
            }
            (
                Self::Rate { trues, total },
                Delta::Rate {
                    trues: yes,
                    total: all,
                    ..
                },
            ) => {
                *trues += yes;
                *total += all;
            }
            (Self::Trend(trend), Delta::Trend { values, .. }) => {
                values.iter().for_each(|&value| trend.add(value));
            }
            (Self::Native(histogram), Delta::Trend { values, .. }) => {
                values
                    .iter()
                    .for_each(|&value| histogram.add(value / divisor));
            }
            _ => debug_assert!(false, "a delta of another kind than its series"),
        }
    }
}

/// What a request carries.
#[derive(Debug)]
enum Ticket {
    /// Values of the series at these positions.
    Values(Vec<u32>),
    /// The ends of so many series.
    Stale(usize),
}

struct RemoteWrite {
    context: OutputContext,
    headers: HeaderMap,
    path: String,
    signer: Option<Signer>,
    stats: Vec<(Stat, String)>,
    native: bool,
    stale_markers: bool,
    metrics: FxHashMap<MetricId, Arc<Metric>>,
    /// Labels, and which number they have, by tag set.
    labels: FxHashMap<TagSetId, (Arc<Labels>, u32)>,
    /// The numbers of labels: those of several tag sets may be the same.
    numbers: FxHashMap<Arc<Labels>, u32>,
    /// Positions of series by metric and tag set.
    index: FxHashMap<u64, u32>,
    /// Positions of series by metric and labels.
    identities: FxHashMap<(MetricId, u32), u32>,
    series: Vec<Series>,
    /// What has changed since the last tick, or could not be sent before it.
    changed: Pending,
    /// What goes with the next requests.
    sending: Pending,
    /// Series whose ends are still to be sent; `None` before their time.
    ending: Option<std::ops::Range<usize>>,
    /// How many series are on their way.
    flying: usize,
    last: bool,
    error: Option<String>,
}

impl RemoteWrite {
    fn new(
        context: OutputContext,
        settings: &Settings,
        endpoint: &Endpoint,
    ) -> Result<Self, String> {
        let stats = settings.list("trendStats");
        let stats = stats.unwrap_or_else(|| vec!["p(99)".to_owned()]);
        let legacy = settings.flag("trendAsNativeHistogram")?.unwrap_or(false);
        if legacy {
            context.log.say(
                Severity::Warning,
                "K6_PROMETHEUS_RW_TREND_AS_NATIVE_HISTOGRAM is deprecated, use the feature flag \
                 native-histograms instead",
                &[],
            );
        }
        let keys = ["sigV4Region", "sigV4AccessKey", "sigV4SecretKey"];
        let signer = match keys.map(|key| settings.text(key)) {
            [Some(region), Some(access), Some(secret)] => {
                Some(Signer::new(&region, &access, &secret, &endpoint.authority))
            }
            [None, None, None] => None,
            _ => {
                return Err(
                    "the region, the access key and the secret key of SigV4 must be given together"
                        .to_owned(),
                );
            }
        };
        Ok(Self {
            headers: headers(&context, settings, endpoint)?,
            path: endpoint.path.clone(),
            signer,
            stats: stats
                .iter()
                .map(|stat| Stat::parse(stat))
                .collect::<Result<_, _>>()?,
            native: legacy || context.native_histograms,
            stale_markers: settings.flag("staleMarkers")?.unwrap_or(false),
            context,
            metrics: FxHashMap::default(),
            labels: FxHashMap::default(),
            numbers: FxHashMap::default(),
            index: FxHashMap::default(),
            identities: FxHashMap::default(),
            series: Vec::new(),
            changed: Pending::default(),
            sending: Pending::default(),
            ending: None,
            flying: 0,
            last: false,
            error: None,
        })
    }

    fn fold(&mut self, gained: &SeriesDelta) {
        let key = series_key(gained.metric, gained.tags);
        let position = match self.index.get(&key) {
            Some(&position) => position,
            None => self.add_series(key, gained),
        };
        let series = &mut self.series[position as usize];
        series.value.fold(&gained.delta, series.metric.divisor);
        series.time = series.time.max(gained.delta.time().div_euclid(1_000_000));
        self.changed.insert(position);
    }

    #[cold]
    fn add_series(&mut self, key: u64, gained: &SeriesDelta) -> u32 {
        let metric = self.metrics.entry(gained.metric).or_insert_with(|| {
            let info = self.context.registry.info(gained.metric);
            Arc::new(Metric::new(&info, self.native, &self.stats))
        });
        let metric = metric.clone();
        let (labels, number) = self.labels.entry(gained.tags).or_insert_with(|| {
            let labels = Arc::new(Labels::new(&self.context.tags.get(gained.tags)));
            let next = self.numbers.len() as u32;
            let number = *self.numbers.entry(labels.clone()).or_insert(next);
            (labels, number)
        });
        let (labels, number) = (labels.clone(), *number);
        let next = u32::try_from(self.series.len()).expect("fewer than 2^32 series");
        let position = self.identities.entry((gained.metric, number));
        let position = *position.or_insert(next);
        if position == next {
            let value = match metric.kind {
                MetricKind::Counter => Value::Counter(0.0),
                MetricKind::Gauge => Value::Gauge {
                    last: 0.0,
                    time: i64::MIN,
                },
                MetricKind::Rate => Value::Rate { trues: 0, total: 0 },
                MetricKind::Trend if self.native => Value::Native(Box::default()),
                MetricKind::Trend => Value::Trend(Box::default()),
            };
            self.series.push(Series {
                metric,
                labels,
                value,
                time: i64::MIN,
                sent: i64::MIN,
                failed: false,
            });
        }
        self.index.insert(key, position);
        position
    }

    /// Values, as many as go with one request.
    fn values(&mut self) -> Option<(Message, Ticket)> {
        let mut body = Message::default();
        let mut positions = Vec::new();
        while body.0.len() < CHUNK
            && let Some(position) = self.sending.pop()
        {
            let series = &mut self.series[position as usize];
            if series.time > series.sent {
                series.sent = series.time;
            } else if series.failed || self.last {
                series.sent += 1;
            } else {
                // A second value with one timestamp would be refused, with all others beside it.
                self.changed.insert(position);
                continue;
            }
            series.failed = false;
            // The newest value goes: there is no change left to be sent.
            self.changed.remove(position);
            series.encode(&mut body, &self.stats);
            positions.push(position);
        }
        self.flying += positions.len();
        (!positions.is_empty()).then_some((body, Ticket::Values(positions)))
    }

    /// Ends of series, once all values have arrived.
    fn ends(&mut self) -> Option<(Message, Ticket)> {
        if !self.last || !self.stale_markers || self.changed.len() > 0 {
            return None;
        }
        let ending = self.ending.get_or_insert(0..self.series.len());
        let mut body = Message::default();
        let now = unix_ms();
        let mut count = 0;
        while body.0.len() < CHUNK
            && let Some(position) = ending.next()
        {
            let series = &self.series[position];
            series.encode_end(&mut body, now.max(series.sent) + 1);
            count += 1;
        }
        self.flying += count;
        (count > 0).then_some((body, Ticket::Stale(count)))
    }

    fn post(&mut self, body: &Message) -> Result<Post, String> {
        let packed = snap::raw::Encoder::new().compress_vec(&body.0);
        let body = Bytes::from(packed.map_err(|error| error.to_string())?);
        let mut headers = self.headers.clone();
        if let Some(signer) = &self.signer {
            signer.sign(&mut headers, &self.path, &body, unix_ms() / 1000)?;
        }
        Ok(Post {
            path: self.path.clone(),
            headers,
            body,
        })
    }

    fn failed(&mut self, ticket: Ticket, problem: String) {
        if let Ticket::Values(positions) = ticket {
            for position in positions {
                self.series[position as usize].failed = true;
                self.changed.insert(position);
            }
        }
        self.context.log.say(
            Severity::Error,
            "Failed to send the time series data to the endpoint",
            &[("error", &problem), ("output", "Prometheus remote write")],
        );
        self.error = Some(problem);
    }
}

impl Feed for RemoteWrite {
    type Ticket = Ticket;
    const RAW: bool = false;

    fn take(&mut self, batch: &Batch) {
        for gained in batch.deltas.iter() {
            self.fold(gained);
        }
    }

    fn tick(&mut self, last: bool) {
        self.last = last;
        while let Some(position) = self.changed.pop() {
            self.sending.insert(position);
        }
    }

    fn next(&mut self) -> Option<(Post, Ticket)> {
        loop {
            let (body, ticket) = self.values().or_else(|| self.ends())?;
            match self.post(&body) {
                Ok(post) => return Some((post, ticket)),
                Err(problem) => {
                    self.flying -= ticket.count();
                    self.failed(ticket, problem);
                }
            }
        }
    }

    fn settle(&mut self, ticket: Ticket, outcome: Result<Reply, String>) {
        self.flying -= ticket.count();
        match outcome {
            Ok(reply) if reply.status / 100 == 2 => self.error = None,
            Ok(reply) => {
                let said = String::from_utf8_lossy(&reply.body);
                let mut problem = format!(
                    "got status code: {} instead expected a 2xx successful status code",
                    reply.status
                );
                if let Some(line) = said.lines().next() {
                    problem.extend([": ", line]);
                }
                self.failed(ticket, problem);
            }
            Err(problem) => self.failed(ticket, problem),
        }
    }

    fn losses(&mut self, abandoned: bool) -> Vec<String> {
        let missing = self.changed.len() + self.sending.len() + self.flying;
        if missing == 0 {
            return Vec::new();
        }
        let reason = match (&self.error, abandoned) {
            (Some(error), _) => error,
            (None, true) => "there was no time left",
            (None, false) => "they were held back",
        };
        vec![format!(
            "the last values of {missing} series did not arrive: {reason}"
        )]
    }
}

impl Ticket {
    fn count(&self) -> usize {
        match self {
            Self::Values(positions) => positions.len(),
            Self::Stale(count) => *count,
        }
    }
}

impl Metric {
    fn new(info: &MetricInfo, native: bool, stats: &[(Stat, String)]) -> Self {
        let name = &info.name;
        let names: Vec<String> = match info.kind {
            MetricKind::Counter => vec![format!("k6_{name}_total")],
            MetricKind::Gauge => vec![format!("k6_{name}")],
            MetricKind::Rate => vec![format!("k6_{name}_rate")],
            MetricKind::Trend if native => vec![match info.contains {
                ValueType::Time => format!("k6_{name}_seconds"),
                ValueType::Data => format!("k6_{name}_bytes"),
                ValueType::Default => format!("k6_{name}"),
            }],
            MetricKind::Trend => stats
                .iter()
                .map(|(_, end)| format!("k6_{name}_{end}"))
                .collect(),
        };
        let label = |name: &String| {
            let mut label = Message::default();
            push_label(&mut label, NAME, name);
            label.0.into()
        };
        Self {
            kind: info.kind,
            divisor: match (info.kind, info.contains) {
                (MetricKind::Trend, ValueType::Time) => 1000.0,
                _ => 1.0,
            },
            names: names.iter().map(label).collect(),
        }
    }
}

impl Series {
    fn encode(&mut self, body: &mut Message, stats: &[(Stat, String)]) {
        let metric = self.metric.clone();
        let time = self.sent;
        let [first, ..] = &metric.names[..] else {
            // A trend without stats.
            return;
        };
        match &mut self.value {
            Value::Counter(sum) => push_sample(body, &self.labels, first, *sum, time),
            Value::Gauge { last, .. } => push_sample(body, &self.labels, first, *last, time),
            Value::Rate { trues, total } => {
                let rate = *trues as f64 / *total as f64;
                push_sample(body, &self.labels, first, rate, time);
            }
            Value::Trend(trend) => {
                trend.prepare();
                for (name, (stat, _)) in metric.names.iter().zip(stats) {
                    // Counts too, as the reference does.
                    let value = stat.of(trend) / metric.divisor;
                    push_sample(body, &self.labels, name, value, time);
                }
            }
            Value::Native(histogram) => {
                let histogram = histogram.encode(time);
                push_series(body, &self.labels, first, 4, &histogram);
            }
        }
    }

    fn encode_end(&self, body: &mut Message, time: i64) {
        for name in &self.metric.names {
            match &self.value {
                Value::Native(_) => {
                    let end = NativeHistogram::encode_end(f64::from_bits(STALE), time);
                    push_series(body, &self.labels, name, 4, &end);
                }
                _ => push_sample(body, &self.labels, name, f64::from_bits(STALE), time),
            }
        }
    }
}

fn push_sample(body: &mut Message, labels: &Labels, name: &[u8], value: f64, time: i64) {
    let mut sample = Message::default();
    sample.double(1, value);
    sample.varint(2, time as u64);
    push_series(body, labels, name, 2, &sample);
}

/// A series with one sample, or one histogram.
fn push_series(body: &mut Message, labels: &Labels, name: &[u8], field: u32, sample: &Message) {
    let mut tail = Message::default();
    tail.bytes(field, &sample.0);
    let parts = [&labels.before, name, &labels.after, &tail.0];
    body.length(1, parts.iter().map(|part| part.len()).sum());
    parts.iter().for_each(|part| body.0.extend(*part));
}

#[cfg(test)]
mod tests;
