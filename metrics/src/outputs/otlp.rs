//! OTLP for tests: its messages, read with a library, and a receiver that speaks gRPC.
//! The tests of the whole program use it too.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, TcpListener},
    sync::{Arc, Mutex},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use bytes::{BufMut, Bytes};
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use tokio::sync::oneshot;

use super::receiver::Received;

// === Messages ===

#[derive(Clone, PartialEq, Message)]
struct ExportRequest {
    #[prost(message, repeated, tag = "1")]
    resource_metrics: Vec<ResourceMetrics>,
}

#[derive(Clone, PartialEq, Message)]
struct ResourceMetrics {
    #[prost(message, optional, tag = "1")]
    resource: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    scope_metrics: Vec<ScopeMetrics>,
}

#[derive(Clone, PartialEq, Message)]
struct Resource {
    #[prost(message, repeated, tag = "1")]
    attributes: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct KeyValue {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(message, optional, tag = "2")]
    value: Option<AnyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct AnyValue {
    #[prost(string, optional, tag = "1")]
    string: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
struct ScopeMetrics {
    #[prost(message, optional, tag = "1")]
    scope: Option<Scope>,
    #[prost(message, repeated, tag = "2")]
    metrics: Vec<Metric>,
}

#[derive(Clone, PartialEq, Message)]
struct Scope {
    #[prost(string, tag = "1")]
    name: String,
}

#[derive(Clone, PartialEq, Message)]
struct Metric {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "3")]
    unit: String,
    #[prost(message, optional, tag = "5")]
    gauge: Option<Gauge>,
    #[prost(message, optional, tag = "7")]
    sum: Option<Sum>,
    #[prost(message, optional, tag = "9")]
    histogram: Option<HistogramMetric>,
}

#[derive(Clone, PartialEq, Message)]
struct Gauge {
    #[prost(message, repeated, tag = "1")]
    points: Vec<NumberPoint>,
}

#[derive(Clone, PartialEq, Message)]
struct Sum {
    #[prost(message, repeated, tag = "1")]
    points: Vec<NumberPoint>,
    #[prost(int32, tag = "2")]
    temporality: i32,
    #[prost(bool, tag = "3")]
    monotonic: bool,
}

#[derive(Clone, PartialEq, Message)]
struct HistogramMetric {
    #[prost(message, repeated, tag = "1")]
    points: Vec<HistogramPoint>,
    #[prost(int32, tag = "2")]
    temporality: i32,
}

#[derive(Clone, PartialEq, Message)]
struct NumberPoint {
    #[prost(fixed64, tag = "2")]
    start: u64,
    #[prost(fixed64, tag = "3")]
    time: u64,
    #[prost(double, optional, tag = "4")]
    double: Option<f64>,
    #[prost(sfixed64, optional, tag = "6")]
    int: Option<i64>,
    #[prost(message, repeated, tag = "7")]
    attributes: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct HistogramPoint {
    #[prost(fixed64, tag = "2")]
    start: u64,
    #[prost(fixed64, tag = "3")]
    time: u64,
    #[prost(fixed64, tag = "4")]
    count: u64,
    #[prost(double, optional, tag = "5")]
    sum: Option<f64>,
    #[prost(fixed64, repeated, tag = "6")]
    counts: Vec<u64>,
    #[prost(double, repeated, tag = "7")]
    bounds: Vec<f64>,
    #[prost(message, repeated, tag = "9")]
    attributes: Vec<KeyValue>,
    #[prost(double, optional, tag = "11")]
    min: Option<f64>,
    #[prost(double, optional, tag = "12")]
    max: Option<f64>,
}

#[derive(Clone, PartialEq, Message)]
struct ExportResponse {
    #[prost(message, optional, tag = "1")]
    partial_success: Option<PartialSuccess>,
}

#[derive(Clone, PartialEq, Message)]
struct PartialSuccess {
    #[prost(int64, tag = "1")]
    rejected: i64,
    #[prost(string, tag = "2")]
    message: String,
}

// === What a request holds ===

/// A value of a series at a time.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    /// Of a monotonic, cumulative sum.
    Sum(f64),
    /// The same of whole numbers.
    Count(i64),
    Gauge(f64),
    /// Of a cumulative histogram.
    Histogram {
        count: u64,
        sum: f64,
        counts: Vec<u64>,
        bounds: Vec<f64>,
        min: f64,
        max: f64,
    },
}

/// A point, with the metric it belongs to.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Point {
    pub(crate) metric: String,
    pub(crate) unit: String,
    pub(crate) attributes: BTreeMap<String, String>,
    pub(crate) start: u64,
    pub(crate) time: u64,
    pub(crate) value: Value,
}

#[track_caller]
fn pairs(attributes: Vec<KeyValue>) -> BTreeMap<String, String> {
    let count = attributes.len();
    let pair = |pair: KeyValue| {
        let value = pair.value.and_then(|value| value.string);
        assert!(!pair.key.is_empty());
        (pair.key, value.expect("a text"))
    };
    let pairs: BTreeMap<String, String> = attributes.into_iter().map(pair).collect();
    assert_eq!(pairs.len(), count, "each attribute once");
    pairs
}

/// The attributes of the resource, and the points of a request.
#[track_caller]
pub(crate) fn read(body: &[u8]) -> (BTreeMap<String, String>, Vec<Point>) {
    let mut request = ExportRequest::decode(body).expect("a request");
    let resource = request.resource_metrics.pop().expect("one resource");
    assert!(request.resource_metrics.is_empty(), "one resource");
    let [scope] = &resource.scope_metrics[..] else {
        panic!("one scope: {resource:?}")
    };
    assert_eq!(scope.scope.as_ref().expect("a scope").name, "k6");
    let mut points = Vec::new();
    for metric in &scope.metrics {
        let mut add = |attributes: &Vec<KeyValue>, start, time, value| {
            points.push(Point {
                metric: metric.name.clone(),
                unit: metric.unit.clone(),
                attributes: pairs(attributes.clone()),
                start,
                time,
                value,
            });
        };
        for point in metric.gauge.iter().flat_map(|gauge| &gauge.points) {
            let value = Value::Gauge(point.double.expect("a double"));
            add(&point.attributes, point.start, point.time, value);
        }
        if let Some(sum) = &metric.sum {
            assert!(sum.monotonic && sum.temporality == 2, "{sum:?}");
            for point in &sum.points {
                let value = match (point.double, point.int) {
                    (Some(value), None) => Value::Sum(value),
                    (None, Some(count)) => Value::Count(count),
                    other => panic!("one value: {other:?}"),
                };
                add(&point.attributes, point.start, point.time, value);
            }
        }
        if let Some(histogram) = &metric.histogram {
            assert_eq!(histogram.temporality, 2);
            for point in &histogram.points {
                let value = Value::Histogram {
                    count: point.count,
                    sum: point.sum.expect("a sum"),
                    counts: point.counts.clone(),
                    bounds: point.bounds.clone(),
                    min: point.min.expect("a minimum"),
                    max: point.max.expect("a maximum"),
                };
                add(&point.attributes, point.start, point.time, value);
            }
        }
    }
    (pairs(resource.resource.expect("it").attributes), points)
}

/// The attributes and the last values of the series of a metric. Checks that no series goes back
/// in time.
#[track_caller]
pub(crate) fn last(requests: &[Received], metric: &str) -> Vec<(BTreeMap<String, String>, Value)> {
    let mut last: BTreeMap<BTreeMap<String, String>, Point> = BTreeMap::new();
    for request in requests {
        for point in read(&request.body).1 {
            if point.metric == metric {
                let (start, time) = (point.start, point.time);
                let before = last.insert(point.attributes.clone(), point);
                let goes_on =
                    |before: &Point| before.start == start && before.time < time && start < time;
                assert!(before.is_none_or(|before| goes_on(&before)));
            }
        }
    }
    last.into_iter()
        .map(|(attributes, point)| (attributes, point.value))
        .collect()
}

// === The receiver ===

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum GrpcAnswer {
    /// It is taken.
    Taken,
    /// So many points of it are not, for that reason.
    Rejects(i64, &'static str),
    /// It ends with that code and message.
    Code(u32, &'static str),
    /// The answer is none of gRPC.
    Status(u16),
    /// None, for as long as the other side waits.
    Silence,
}

type Decide = dyn Fn(usize) -> GrpcAnswer + Send + Sync;
type Body = BoxBody<Bytes, std::convert::Infallible>;

/// A server for OTLP by gRPC, that keeps what it gets; it ends with the value.
pub(crate) struct GrpcReceiver {
    pub(crate) port: u16,
    requests: Arc<Mutex<Vec<Received>>>,
    over: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl GrpcReceiver {
    /// Starts one; `decide` gets the number of the call, from 0.
    pub(crate) fn start(decide: impl Fn(usize) -> GrpcAnswer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        let requests = Arc::<Mutex<Vec<Received>>>::default();
        let (over, ended) = oneshot::channel();
        let (shared, decide): (_, Arc<Decide>) = (requests.clone(), Arc::new(decide));
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread();
            let runtime = { runtime }.enable_all().build().unwrap();
            runtime.block_on(async {
                tokio::select! {
                    () = accept(listener, shared, decide) => {}
                    _ = ended => {}
                }
            });
        });
        Self {
            port,
            requests,
            over: Some(over),
            thread: Some(thread),
        }
    }

    /// One that takes everything.
    pub(crate) fn taking() -> Self {
        Self::start(|_| GrpcAnswer::Taken)
    }

    /// Where it is.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// All calls so far, whatever became of them; their bodies are messages.
    pub(crate) fn requests(&self) -> Vec<Received> {
        self.requests.lock().unwrap().clone()
    }

    /// Waits for so many calls.
    #[track_caller]
    pub(crate) fn until(&self, count: usize) {
        let hung = Instant::now() + Duration::from_secs(60);
        while self.requests().len() < count {
            assert!(Instant::now() < hung, "no call {count}");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for GrpcReceiver {
    fn drop(&mut self) {
        self.over = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn accept(listener: TcpListener, requests: Arc<Mutex<Vec<Received>>>, decide: Arc<Decide>) {
    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let (requests, decide) = (requests.clone(), decide.clone());
        let service = service_fn(move |request| call(request, requests.clone(), decide.clone()));
        let server = http2::Builder::new(TokioExecutor::new());
        tokio::spawn(server.serve_connection(TokioIo::new(stream), service));
    }
}

async fn call(
    request: Request<Incoming>,
    requests: Arc<Mutex<Vec<Received>>>,
    decide: Arc<Decide>,
) -> Result<Response<Body>, hyper::Error> {
    let (head, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let (prefix, message) = body.split_at(5);
    assert_eq!(prefix[0], 0, "not compressed");
    assert_eq!(prefix[1..], (message.len() as u32).to_be_bytes());
    let header = |(name, value): (&http::HeaderName, &HeaderValue)| {
        (name.to_string(), value.to_str().unwrap().to_owned())
    };
    let headers = head.headers.iter().map(header).collect();
    let line = format!("{} {}", head.method, head.uri.path());
    let number = {
        let mut requests = requests.lock().unwrap();
        requests.push(Received::new(line, headers, message.to_vec()));
        requests.len() - 1
    };
    let partial = match decide(number) {
        GrpcAnswer::Taken => None,
        GrpcAnswer::Rejects(rejected, message) => Some(PartialSuccess {
            rejected,
            message: message.to_owned(),
        }),
        // All that is said is in the head.
        GrpcAnswer::Code(code, message) => {
            let answer = Response::builder()
                .header("content-type", "application/grpc")
                .header("grpc-status", code)
                .header("grpc-message", message);
            return Ok(answer.body(Full::default().boxed()).unwrap());
        }
        GrpcAnswer::Status(status) => {
            let answer = Response::builder().status(status);
            return Ok(answer.body(Full::default().boxed()).unwrap());
        }
        GrpcAnswer::Silence => std::future::pending().await,
    };
    let message = ExportResponse {
        partial_success: partial,
    };
    let mut body = vec![0];
    body.put_u32(message.encoded_len() as u32);
    message.encode(&mut body).unwrap();
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let body = Full::new(Bytes::from(body)).with_trailers(async { Some(Ok(trailers)) });
    let answer = Response::builder().header("content-type", "application/grpc");
    Ok(answer.body(body.boxed()).unwrap())
}
