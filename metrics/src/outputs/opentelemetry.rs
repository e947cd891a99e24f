//! `--out opentelemetry`: metrics in OpenTelemetry's protocol (OTLP), by gRPC or by HTTP.
//!
//! Values are cumulative from the start on, and every series goes with every export, as the SDKs
//! of OpenTelemetry do it. So an export that fails costs resolution and no total: only what is
//! missing at the end is lost. Receivers take 4 MB at once if nobody told them otherwise, so many
//! series go with several requests.

mod answer;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{AUTHORIZATION, CONTENT_TYPE, TE, USER_AGENT},
};
use rustc_hash::FxHashMap;

use super::{
    OutputContext, OutputKind, Severity,
    client::{Client, Endpoint, Post, Reply, TlsOptions, Version, basic_auth, unescape},
    proto::Message,
    push::{Feed, Pending, Plan, Pusher, unix_ns},
    settings::{Setting, Settings},
};
use crate::{
    Batch, MetricId, MetricInfo, MetricKind, TagSet, TagSetId, ValueType,
    recorder::{Delta, SeriesDelta, series_key},
};
use answer::Failure;

/// The row of this output in [`super::OUTPUTS`].
pub(super) const KIND: OutputKind = OutputKind {
    name: "opentelemetry",
    open: |_, context| Ok(Box::new(open(context)?)),
};

/// The same under its old name.
pub(super) const OLD_KIND: OutputKind = OutputKind {
    name: "experimental-opentelemetry",
    open: |_, context| {
        context.log.say(
            Severity::Warning,
            "The output 'experimental-opentelemetry' has become 'opentelemetry', and the old name \
             will be removed: use --out opentelemetry",
            &[],
        );
        Ok(Box::new(open(context)?))
    },
};

const SETTINGS: &[Setting] = &[
    // Ours wins over that of all programs.
    Setting {
        key: "serviceName",
        variable: "OTEL_SERVICE_NAME",
    },
    Setting {
        key: "serviceName",
        variable: "K6_OTEL_SERVICE_NAME",
    },
    Setting {
        key: "serviceVersion",
        variable: "K6_OTEL_SERVICE_VERSION",
    },
    Setting {
        key: "metricPrefix",
        variable: "K6_OTEL_METRIC_PREFIX",
    },
    Setting {
        key: "flushInterval",
        variable: "K6_OTEL_FLUSH_INTERVAL",
    },
    Setting {
        key: "exportInterval",
        variable: "K6_OTEL_EXPORT_INTERVAL",
    },
    Setting {
        key: "singleCounterForRate",
        variable: "K6_OTEL_SINGLE_COUNTER_FOR_RATE",
    },
    Setting {
        key: "headers",
        variable: "K6_OTEL_HEADERS",
    },
    Setting {
        key: "exporterProtocol",
        variable: "K6_OTEL_EXPORTER_PROTOCOL",
    },
    Setting {
        key: "grpcExporterEndpoint",
        variable: "K6_OTEL_GRPC_EXPORTER_ENDPOINT",
    },
    Setting {
        key: "grpcExporterInsecure",
        variable: "K6_OTEL_GRPC_EXPORTER_INSECURE",
    },
    Setting {
        key: "httpExporterEndpoint",
        variable: "K6_OTEL_HTTP_EXPORTER_ENDPOINT",
    },
    Setting {
        key: "httpExporterURLPath",
        variable: "K6_OTEL_HTTP_EXPORTER_URL_PATH",
    },
    Setting {
        key: "httpExporterInsecure",
        variable: "K6_OTEL_HTTP_EXPORTER_INSECURE",
    },
    Setting {
        key: "httpExporterUsername",
        variable: "K6_OTEL_HTTP_EXPORTER_USERNAME",
    },
    Setting {
        key: "httpExporterPassword",
        variable: "K6_OTEL_HTTP_EXPORTER_PASSWORD",
    },
    Setting {
        key: "tlsInsecureSkipVerify",
        variable: "K6_OTEL_TLS_INSECURE_SKIP_VERIFY",
    },
    Setting {
        key: "tlsCertificate",
        variable: "K6_OTEL_TLS_CERTIFICATE",
    },
    Setting {
        key: "tlsClientCertificate",
        variable: "K6_OTEL_TLS_CLIENT_CERTIFICATE",
    },
    Setting {
        key: "tlsClientKey",
        variable: "K6_OTEL_TLS_CLIENT_KEY",
    },
];

/// How long a request may take.
const LIMIT: Duration = Duration::from_secs(5);
/// From this size on series go with another request: half of what receivers take.
const CHUNK: usize = 2 << 20;
/// How many requests may fail at the end before the rest is given up.
const LAST_FAILURES: usize = 3;
/// The method that gRPC calls.
const METHOD: &str = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";
/// The upper bounds of the buckets of a trend; above the last is one more.
const BOUNDS: [f64; 15] = [
    0.0, 5.0, 10.0, 25.0, 50.0, 75.0, 100.0, 250.0, 500.0, 750.0, 1000.0, 2500.0, 5000.0, 7500.0,
    10000.0,
];
/// The attribute that tells what a rate has counted.
const CONDITION: &str = "condition";
/// `AGGREGATION_TEMPORALITY_CUMULATIVE`.
const CUMULATIVE: u64 = 2;
/// Where points have their attributes.
const NUMBER_ATTRIBUTES: u32 = 7;
const HISTOGRAM_ATTRIBUTES: u32 = 9;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Protocol {
    Grpc,
    Http,
}

impl Protocol {
    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "grpc" => Ok(Self::Grpc),
            "http/protobuf" => Ok(Self::Http),
            other => Err(format!(
                "the protocol {other:?} is neither grpc nor http/protobuf"
            )),
        }
    }
}

fn open(context: OutputContext) -> Result<Pusher, String> {
    let settings = Settings::read(&context, KIND.name, SETTINGS);
    let protocol = settings.parse("exporterProtocol", Protocol::parse)?;
    let protocol = protocol.unwrap_or(Protocol::Grpc);
    // What is measured is taken in at once: there is nothing to be flushed.
    settings.interval("flushInterval")?;
    let interval = settings.interval("exportInterval")?;
    let endpoint = endpoint(&settings, protocol)?;
    let (version, place) = match protocol {
        Protocol::Grpc => (Version::Http2, format!("grpc, {}", endpoint.authority)),
        Protocol::Http => (Version::Http1, format!("http/protobuf, {}", endpoint.url())),
    };
    let client = Client::new(endpoint.clone(), version, &tls_options(&settings)?, LIMIT)?;
    let feed = OpenTelemetry::new(context, &settings, protocol, &endpoint)?;
    let plan = Plan::every(interval.unwrap_or(Duration::from_secs(10)));
    Pusher::start(format!("opentelemetry ({place})"), feed, client, plan)
}

/// Where requests go, and whether by TLS.
fn endpoint(settings: &Settings, protocol: Protocol) -> Result<Endpoint, String> {
    let (key, insecure, default) = match protocol {
        Protocol::Grpc => (
            "grpcExporterEndpoint",
            "grpcExporterInsecure",
            "localhost:4317",
        ),
        Protocol::Http => (
            "httpExporterEndpoint",
            "httpExporterInsecure",
            "localhost:4318",
        ),
    };
    let plain = settings.flag(insecure)?.unwrap_or(false);
    // For gRPC, settings of TLS are a wish for it that goes before the other one.
    let tls = [
        "tlsInsecureSkipVerify",
        "tlsCertificate",
        "tlsClientCertificate",
    ];
    let wished = protocol == Protocol::Grpc && tls.iter().any(|key| settings.text(key).is_some());
    let scheme = match plain && !wished {
        true => "http",
        false => "https",
    };
    let path = match protocol {
        Protocol::Grpc => METHOD.to_owned(),
        Protocol::Http => {
            let path = settings.text("httpExporterURLPath");
            let path = path.unwrap_or_else(|| "/v1/metrics".to_owned());
            format!("/{}", path.trim_start_matches('/'))
        }
    };
    let read = |text: &str| match text.contains('/') {
        true => Err(format!(
            "{text:?} must be HOST:PORT, without a scheme and a path"
        )),
        false => Endpoint::parse(&format!("{scheme}://{text}{path}")),
    };
    match settings.parse(key, read)? {
        Some(endpoint) => Ok(endpoint),
        None => read(default),
    }
}

fn tls_options(settings: &Settings) -> Result<TlsOptions, String> {
    let certificate = settings.text("tlsClientCertificate");
    let client = match (certificate, settings.text("tlsClientKey")) {
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (None, None) => None,
        _ => return Err("a client certificate and its key must be given together".to_owned()),
    };
    Ok(TlsOptions {
        insecure: settings.flag("tlsInsecureSkipVerify")?.unwrap_or(false),
        only_13: false,
        roots: settings.text("tlsCertificate"),
        client,
    })
}

fn headers(settings: &Settings, protocol: Protocol) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    let agent = concat!("volley/", env!("CARGO_PKG_VERSION"));
    headers.insert(USER_AGENT, HeaderValue::from_static(agent));
    match protocol {
        Protocol::Grpc => {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
            headers.insert(TE, HeaderValue::from_static("trailers"));
        }
        Protocol::Http => {
            let protobuf = HeaderValue::from_static(answer::PROTOBUF);
            headers.insert(CONTENT_TYPE, protobuf);
            let password = settings.text("httpExporterPassword").unwrap_or_default();
            if let Some(user) = settings.text("httpExporterUsername") {
                headers.insert(AUTHORIZATION, basic_auth(&user, &password)?);
            }
        }
    }
    for (name, value) in settings.pairs("headers", '=')? {
        // Not the value: it may be a secret.
        let bad = || format!("the header {name:?} is none, or its value is not one");
        let parsed = HeaderName::try_from(&name).map_err(|_| bad())?;
        let value = HeaderValue::try_from(unescape(&value)).map_err(|_| bad())?;
        headers.insert(parsed, value);
    }
    Ok(headers)
}

/// What all series of a metric have in common.
#[derive(Debug)]
struct Metric {
    kind: MetricKind,
    /// Name and unit, encoded; of a rate that is two counters, those of both.
    heads: Vec<Message>,
    /// Positions of its series.
    series: Vec<u32>,
}

impl Metric {
    fn new(info: &MetricInfo, prefix: &str, single_rates: bool) -> Self {
        let ends: &[&str] = match info.kind {
            MetricKind::Rate if single_rates => &[".total"],
            MetricKind::Rate => &[".occurred", ".total"],
            _ => &[""],
        };
        let head = |end: &&str| {
            let mut head = Message::default();
            head.bytes(1, format!("{prefix}{}{end}", info.name).as_bytes());
            match info.contains {
                ValueType::Time => head.bytes(3, b"ms"),
                ValueType::Data => head.bytes(3, b"By"),
                ValueType::Default => {}
            }
            head
        };
        Self {
            kind: info.kind,
            heads: ends.iter().map(head).collect(),
            series: Vec::new(),
        }
    }
}

#[derive(Debug, Default)]
struct Histogram {
    counts: [u64; BOUNDS.len() + 1],
    count: u64,
    sum: f64,
    min: f64,
    max: f64,
}

impl Histogram {
    fn add(&mut self, value: f64) {
        self.counts[BOUNDS.partition_point(|&bound| bound < value)] += 1;
        (self.min, self.max) = match self.count {
            0 => (value, value),
            _ => (self.min.min(value), self.max.max(value)),
        };
        self.count += 1;
        self.sum += value;
    }
}

#[derive(Debug)]
enum Value {
    Counter(f64),
    Gauge { last: f64, time: i64 },
    Rate { trues: u64, total: u64 },
    Trend(Box<Histogram>),
}

impl Value {
    fn new(kind: MetricKind) -> Self {
        match kind {
            MetricKind::Counter => Self::Counter(0.0),
            MetricKind::Gauge => Self::Gauge {
                last: 0.0,
                time: i64::MIN,
            },
            MetricKind::Rate => Self::Rate { trues: 0, total: 0 },
            MetricKind::Trend => Self::Trend(Box::default()),
        }
    }

    fn fold(&mut self, delta: &Delta) {
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
            (Self::Trend(histogram), Delta::Trend { values, .. }) => {
                values.iter().for_each(|&value| histogram.add(value));
            }
            _ => debug_assert!(false, "a delta of another kind than its series"),
        }
    }
}

#[derive(Debug)]
struct Series {
    metric: MetricId,
    /// Fields of a point, encoded.
    attributes: Arc<[u8]>,
    value: Value,
    /// How often it has gained something.
    gains: u64,
    /// How many gains a receiver has taken.
    arrived: u64,
}

impl Series {
    /// Appends its points, for each head of its metric to one of the messages.
    fn encode(&self, points: &mut [Message], start: i64, time: i64) {
        let point = |build: &dyn Fn(&mut Message)| {
            let mut point = Message(self.attributes.to_vec());
            point.fixed64(2, start as u64);
            point.fixed64(3, time as u64);
            build(&mut point);
            point
        };
        match &self.value {
            &Value::Counter(value) | &Value::Gauge { last: value, .. } => {
                points[0].bytes(1, &point(&|point| point.double(4, value)).0);
            }
            &Value::Rate { trues, total } => match points {
                [both] => {
                    for (condition, count) in [("nonzero", trues), ("zero", total - trues)] {
                        // What has not happened is no point, as in the SDKs.
                        if count > 0 {
                            let point = point(&|point| {
                                push_attribute(point, NUMBER_ATTRIBUTES, CONDITION, condition);
                                point.fixed64(6, count);
                            });
                            both.bytes(1, &point.0);
                        }
                    }
                }
                counters => {
                    for (counter, count) in counters.iter_mut().zip([trues, total]) {
                        counter.bytes(1, &point(&|point| point.fixed64(6, count)).0);
                    }
                }
            },
            Value::Trend(histogram) => {
                let point = point(&|point| {
                    point.fixed64(4, histogram.count);
                    point.double(5, histogram.sum);
                    let counts = histogram
                        .counts
                        .iter()
                        .flat_map(|count| count.to_le_bytes());
                    point.bytes(6, &counts.collect::<Vec<u8>>());
                    let bounds = BOUNDS.iter().flat_map(|bound| bound.to_le_bytes());
                    point.bytes(7, &bounds.collect::<Vec<u8>>());
                    point.double(11, histogram.min);
                    point.double(12, histogram.max);
                });
                points[0].bytes(1, &point.0);
            }
        }
    }
}

fn push_attribute(out: &mut Message, field: u32, key: &str, value: &str) {
    out.message(field, |attribute| {
        attribute.bytes(1, key.as_bytes());
        attribute.message(2, |any| any.bytes(1, value.as_bytes()));
    });
}

fn attributes_of(tags: &TagSet, field: u32) -> Arc<[u8]> {
    let mut attributes = Message::default();
    for (key, value) in tags.iter() {
        push_attribute(&mut attributes, field, key, value);
    }
    attributes.0.into()
}

/// Positions of the series of a request, and how many gains each had.
type Ticket = Vec<(u32, u64)>;

struct OpenTelemetry {
    context: OutputContext,
    protocol: Protocol,
    path: String,
    headers: HeaderMap,
    prefix: String,
    single_rates: bool,
    /// The fields of a request before its metrics.
    resource: Message,
    scope: Message,
    start: i64,
    /// The time of the last request.
    time: i64,
    /// By their position in the registry.
    metrics: Vec<Option<Metric>>,
    /// Encoded tags, by tag set and field.
    attributes: FxHashMap<(TagSetId, u32), Arc<[u8]>>,
    /// Positions of series by metric and tag set.
    index: FxHashMap<u64, u32>,
    series: Vec<Series>,
    /// What goes with the next requests.
    sending: Pending,
    last: bool,
    failures: usize,
    error: Option<String>,
    /// How many points receivers did not take that took others, and what they said.
    rejected: u64,
    rejection: String,
}

impl OpenTelemetry {
    fn new(
        context: OutputContext,
        settings: &Settings,
        protocol: Protocol,
        endpoint: &Endpoint,
    ) -> Result<Self, String> {
        let version = env!("CARGO_PKG_VERSION");
        let text = |key, default: &str| settings.text(key).unwrap_or_else(|| default.to_owned());
        let mut resource = Message::default();
        for (key, value) in [
            ("service.name", &*text("serviceName", "k6")),
            ("service.version", &*text("serviceVersion", version)),
            ("telemetry.sdk.language", "rust"),
            ("telemetry.sdk.name", "volley"),
            ("telemetry.sdk.version", version),
        ] {
            push_attribute(&mut resource, 1, key, value);
        }
        let mut scope = Message::default();
        scope.bytes(1, b"k6");
        let single_rates = settings.flag("singleCounterForRate")?;
        Ok(Self {
            context,
            protocol,
            path: endpoint.path.clone(),
            headers: headers(settings, protocol)?,
            prefix: text("metricPrefix", ""),
            single_rates: single_rates.unwrap_or(true),
            resource,
            scope,
            start: unix_ns(),
            time: 0,
            metrics: Vec::new(),
            attributes: FxHashMap::default(),
            index: FxHashMap::default(),
            series: Vec::new(),
            sending: Pending::default(),
            last: false,
            failures: 0,
            error: None,
            rejected: 0,
            rejection: String::new(),
        })
    }

    #[cold]
    fn add_series(&mut self, key: u64, gained: &SeriesDelta) -> u32 {
        let index = gained.metric.index();
        if self.metrics.len() <= index {
            self.metrics.resize_with(index + 1, || None);
        }
        let metric = self.metrics[index].get_or_insert_with(|| {
            let info = self.context.registry.info(gained.metric);
            Metric::new(&info, &self.prefix, self.single_rates)
        });
        // An attribute has a name, and only one of each: series that differ in such tags alone
        // are the same.
        let mut tags = self.context.tags.without(gained.tags, "");
        if metric.kind == MetricKind::Rate && metric.heads.len() == 1 {
            tags = self.context.tags.without(tags, CONDITION);
        }
        let next = u32::try_from(self.series.len()).expect("fewer than 2^32 series");
        let position = *self
            .index
            .entry(series_key(gained.metric, tags))
            .or_insert(next);
        if position == next {
            let field = match metric.kind {
                MetricKind::Trend => HISTOGRAM_ATTRIBUTES,
                _ => NUMBER_ATTRIBUTES,
            };
            let attributes = self.attributes.entry((tags, field));
            let attributes =
                attributes.or_insert_with(|| attributes_of(&self.context.tags.get(tags), field));
            metric.series.push(position);
            self.series.push(Series {
                metric: gained.metric,
                attributes: attributes.clone(),
                value: Value::new(metric.kind),
                gains: 0,
                arrived: 0,
            });
        }
        self.index.insert(key, position);
        position
    }

    /// The metrics of the next request, as fields of its scope.
    fn metrics(&mut self) -> (Message, Ticket) {
        // The clock may stand still, or go back; a series goes on.
        self.time = unix_ns().max(self.time + 1);
        let (mut out, mut ticket) = (Message::default(), Ticket::new());
        // Points of series of one metric, for each of its heads.
        let mut points: Vec<Message> = Vec::new();
        let mut open: Option<MetricId> = None;
        let size = |points: &[Message]| points.iter().map(|point| point.0.len()).sum::<usize>();
        while out.0.len() + size(&points) < CHUNK
            && let Some(position) = self.sending.pop()
        {
            let series = &self.series[position as usize];
            if open != Some(series.metric) {
                self.close(open, &mut points, &mut out);
                open = Some(series.metric);
                points = vec![Message::default(); self.metric(series.metric).heads.len()];
            }
            series.encode(&mut points, self.start, self.time);
            ticket.push((position, series.gains));
        }
        self.close(open, &mut points, &mut out);
        (out, ticket)
    }

    fn metric(&self, id: MetricId) -> &Metric {
        let metric = self.metrics[id.index()].as_ref();
        metric.expect("known since its first series")
    }

    /// Makes metrics of the points there are.
    fn close(&self, metric: Option<MetricId>, points: &mut Vec<Message>, out: &mut Message) {
        let Some(id) = metric else { return };
        let metric = self.metric(id);
        let field = match metric.kind {
            MetricKind::Gauge => 5,
            MetricKind::Counter | MetricKind::Rate => 7,
            MetricKind::Trend => 9,
        };
        for (head, points) in metric.heads.iter().zip(points.drain(..)) {
            out.message(2, |out| {
                out.0.extend(&head.0);
                out.message(field, |data| {
                    *data = points;
                    if metric.kind != MetricKind::Gauge {
                        data.varint(2, CUMULATIVE);
                    }
                    if field == 7 {
                        data.varint(3, 1);
                    }
                });
            });
        }
    }

    /// A whole request.
    fn post(&self, metrics: &Message) -> Post {
        let mut request = Message::default();
        request.message(1, |resource| {
            resource.bytes(1, &self.resource.0);
            resource.message(2, |scope| {
                scope.bytes(1, &self.scope.0);
                scope.0.extend(&metrics.0);
            });
        });
        let body = match self.protocol {
            Protocol::Http => request.0,
            Protocol::Grpc => answer::frame(&request.0),
        };
        Post {
            path: self.path.clone(),
            headers: self.headers.clone(),
            body: Bytes::from(body),
        }
    }
}

impl Feed for OpenTelemetry {
    type Ticket = Ticket;
    const RAW: bool = false;

    fn take(&mut self, batch: &Batch) {
        for gained in batch.deltas.iter() {
            let key = series_key(gained.metric, gained.tags);
            let position = match self.index.get(&key) {
                Some(&position) => position,
                None => self.add_series(key, gained),
            };
            let series = &mut self.series[position as usize];
            series.value.fold(&gained.delta);
            series.gains += 1;
        }
    }

    fn tick(&mut self, last: bool) {
        self.last = last;
        for metric in self.metrics.iter().flatten() {
            for &position in &metric.series {
                self.sending.insert(position);
            }
        }
    }

    fn next(&mut self) -> Option<(Post, Ticket)> {
        let (metrics, ticket) = self.metrics();
        (!ticket.is_empty()).then(|| (self.post(&metrics), ticket))
    }

    fn settle(&mut self, ticket: Ticket, outcome: Result<Reply, String>) {
        let read = match (outcome, self.protocol) {
            (Ok(reply), Protocol::Grpc) => answer::of_grpc(&reply),
            (Ok(reply), Protocol::Http) => answer::of_http(&reply),
            (Err(text), _) => Err(Failure { text, again: true }),
        };
        let output = ("output", "OpenTelemetry");
        match read {
            Ok(rejection) => {
                self.error = None;
                for (position, gains) in ticket {
                    let series = &mut self.series[position as usize];
                    series.arrived = series.arrived.max(gains);
                }
                let Some(rejection) = rejection else { return };
                self.rejected += rejection.points;
                let points = rejection.points.to_string();
                let fields = [("points", &*points), ("error", &*rejection.text), output];
                let message = "OpenTelemetry: the receiver did not take all";
                self.context.log.say(Severity::Warning, message, &fields);
                self.rejection = rejection.text;
            }
            Err(failure) => {
                let fields = [("error", &*failure.text), output];
                let message = "OpenTelemetry: the metrics were not exported";
                self.context.log.say(Severity::Error, message, &fields);
                self.error = Some(failure.text);
                // Before the end they go with the next export in any case.
                self.failures += usize::from(self.last);
                if self.last && failure.again && self.failures < LAST_FAILURES {
                    for (position, _) in ticket {
                        self.sending.insert(position);
                    }
                }
            }
        }
    }

    fn losses(&mut self, _: bool) -> Vec<String> {
        let mut losses = Vec::new();
        let missing = self.series.iter();
        let missing = missing
            .filter(|series| series.arrived < series.gains)
            .count();
        if missing > 0 {
            let reason = self.error.as_deref().unwrap_or("there was no time left");
            losses.push(format!(
                "the last values of {missing} series did not arrive: {reason}"
            ));
        }
        if self.rejected > 0 {
            losses.push(format!(
                "{} data points were rejected: {}",
                self.rejected, self.rejection
            ));
        }
        losses
    }
}

#[cfg(test)]
mod tests;
