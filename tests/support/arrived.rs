//! What has arrived of a metric, read from each format of outputs.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{BufRead, Read},
    path::Path,
};

use prost::Message;
use serde_json::Value;

use super::{Received, otlp};

/// The tags of a series.
pub(crate) type Tags = BTreeMap<String, String>;

/// A metric, as an output tells of it.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Arrived {
    /// The tags of each of its series.
    pub(crate) series: BTreeSet<Tags>,
    /// The sum over all series; of a trend, how many values it has.
    pub(crate) total: f64,
    /// What samples have beside their tags, where the format has a place for it.
    pub(crate) metadata: BTreeSet<Tags>,
}

fn pairs<'a>(text: &'a str, between: char) -> impl Iterator<Item = (String, String)> + 'a {
    let parts = text.split(between).filter(|part| !part.is_empty());
    parts.map(|part| {
        let (key, value) = part.split_once('=').expect("a pair");
        (key.to_owned(), value.trim_matches('"').to_owned())
    })
}

/// The whole text of a file, unpacked where its name says that it is packed.
#[track_caller]
pub(crate) fn text(path: &Path) -> String {
    let mut file = std::fs::File::open(path).expect("a file");
    let mut text = String::new();
    let read = match path.extension().is_some_and(|end| end == "gz") {
        true => flate2::read::GzDecoder::new(file).read_to_string(&mut text),
        false => file.read_to_string(&mut text),
    };
    read.unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    text
}

/// How a value counts.
fn count(metric: &str, value: f64) -> f64 {
    // Counters have a sum; of all others each value counts.
    match metric {
        "http_reqs" | "iterations" => value,
        _ => 1.0,
    }
}

/// Every point of a file of JSON lines.
#[track_caller]
pub(crate) fn json_points(path: &Path) -> Vec<Value> {
    let text = text(path);
    let lines = text.as_bytes().lines();
    let values = lines.map(|line| serde_json::from_str(&line.expect("a line")).expect("JSON"));
    values
        .filter(|line: &Value| line["type"] == "Point")
        .collect()
}

/// From a file of JSON lines.
#[track_caller]
pub(crate) fn json(path: &Path, metric: &str) -> Arrived {
    let tags = |value: &Value| -> Option<Tags> {
        let pairs = value.as_object()?.iter();
        pairs
            .map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
            .collect()
    };
    let mut arrived = Arrived::default();
    for point in json_points(path) {
        if point["metric"] == metric {
            let data = &point["data"];
            arrived.series.insert(tags(&data["tags"]).expect("tags"));
            arrived.metadata.extend(tags(&data["metadata"]));
            arrived.total += count(metric, data["value"].as_f64().expect("a number"));
        }
    }
    arrived
}

/// From a CSV file without quotes.
#[track_caller]
pub(crate) fn csv(path: &Path, metric: &str) -> Arrived {
    let text = text(path);
    let mut lines = text.lines().map(|line| line.split(','));
    let header: Vec<&str> = lines.next().expect("a header").collect();
    let mut arrived = Arrived::default();
    for row in lines {
        let row: BTreeMap<&str, &str> = header.iter().copied().zip(row).collect();
        if row["metric_name"] == metric {
            let mut tags: Tags = pairs(row["extra_tags"], '&').collect();
            let others = ["metric_name", "timestamp", "metric_value", "extra_tags"];
            let column = |(&key, &value): (&&str, &&str)| {
                let is_tag = key != "metadata" && !others.contains(&key) && !value.is_empty();
                is_tag.then(|| (key.to_owned(), value.to_owned()))
            };
            tags.extend(row.iter().filter_map(column));
            arrived.series.insert(tags);
            let metadata: Tags = pairs(row["metadata"], '&').collect();
            arrived
                .metadata
                .extend(Some(metadata).filter(|it| !it.is_empty()));
            arrived.total += count(metric, row["metric_value"].parse().expect("a number"));
        }
    }
    arrived
}

/// From lines for InfluxDB without escapes; a line that came twice counts twice.
#[track_caller]
pub(crate) fn influx(requests: &[Received], metric: &str) -> Arrived {
    let mut arrived = Arrived::default();
    for request in requests {
        let text = std::str::from_utf8(&request.body).expect("text");
        for line in text.lines() {
            let [series, fields, _] = line.split(' ').collect::<Vec<_>>()[..] else {
                panic!("three parts: {line}")
            };
            let (name, tags) = series.split_once(',').unwrap_or((series, ""));
            if name == metric {
                arrived.series.insert(pairs(tags, ',').collect());
                let mut fields: Tags = pairs(fields, ',').collect();
                let value = fields.remove("value").expect("a value");
                arrived.total += count(metric, value.parse().expect("a number"));
                arrived
                    .metadata
                    .extend(Some(fields).filter(|it| !it.is_empty()));
            }
        }
    }
    arrived
}

#[derive(Clone, PartialEq, Message)]
struct WriteRequest {
    #[prost(message, repeated, tag = "1")]
    timeseries: Vec<TimeSeries>,
}

#[derive(Clone, PartialEq, Message)]
struct TimeSeries {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<Label>,
    #[prost(message, repeated, tag = "2")]
    samples: Vec<Sample>,
}

#[derive(Clone, PartialEq, Message)]
struct Label {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    value: String,
}

#[derive(Clone, PartialEq, Message)]
struct Sample {
    #[prost(double, tag = "1")]
    value: f64,
    #[prost(int64, tag = "2")]
    timestamp: i64,
}

/// From requests of Prometheus' remote write, the last values of a family.
#[track_caller]
pub(crate) fn remote_write(requests: &[Received], family: &str) -> Arrived {
    let mut last: BTreeMap<Tags, Sample> = BTreeMap::new();
    for request in requests {
        let body = snap::raw::Decoder::new().decompress_vec(&request.body);
        let request = WriteRequest::decode(&*body.expect("snappy")).expect("a write request");
        for series in request.timeseries {
            let labels = series.labels.into_iter();
            let mut tags: Tags = labels.map(|label| (label.name, label.value)).collect();
            let [sample] = &series.samples[..] else {
                panic!("one sample: {:?}", series.samples)
            };
            if tags.remove("__name__").as_deref() == Some(family) {
                let before = last.insert(tags, sample.clone());
                assert!(before.is_none_or(|before| before.timestamp < sample.timestamp));
            }
        }
    }
    Arrived {
        total: last.values().map(|sample| sample.value).sum(),
        series: last.into_keys().collect(),
        metadata: BTreeSet::new(),
    }
}

/// From requests in OTLP, the last values of a metric.
#[track_caller]
pub(crate) fn opentelemetry(requests: &[Received], metric: &str) -> Arrived {
    let mut arrived = Arrived::default();
    for (tags, value) in otlp::last(requests, metric) {
        arrived.series.insert(tags);
        arrived.total += match value {
            otlp::Value::Sum(value) => value,
            otlp::Value::Count(count) => count as f64,
            otlp::Value::Histogram { count, .. } => count as f64,
            otlp::Value::Gauge(_) => panic!("{metric} is a gauge"),
        };
    }
    arrived
}

/// From a page for Prometheus, the values of a family; its labels have no commas in them.
#[track_caller]
pub(crate) fn page(page: &str, family: &str) -> Arrived {
    let mut arrived = Arrived::default();
    for line in page.lines() {
        let Some(rest) = line
            .strip_prefix(family)
            .filter(|rest| rest.starts_with(['{', ' ']))
        else {
            continue;
        };
        let (labels, value) = rest.rsplit_once(' ').expect("a value");
        let labels = labels.trim_start_matches('{').trim_end_matches('}');
        let tags = pairs(labels, ',').filter(|(_, value)| !value.is_empty());
        arrived.series.insert(tags.collect());
        arrived.total += value.parse::<f64>().expect("a number");
    }
    arrived
}
