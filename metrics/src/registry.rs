//! Which metrics exist: names on one side, small ids on the other.
//!
//! Built-in metrics are rows of one table below and have the same id in every run, so the
//! code that emits them needs no look-up. A script's own metrics are added while its init
//! code runs. After that the registry is only read, and never on the path of a sample.

use std::{
    fmt,
    sync::{Arc, PoisonError, RwLock},
};

use rustc_hash::FxHashMap;

/// How the samples of a metric are aggregated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MetricKind {
    /// A sum.
    Counter,
    /// The last value, with the smallest and the largest.
    Gauge,
    /// The share of samples that are not zero.
    Rate,
    /// A distribution.
    Trend,
}

impl MetricKind {
    /// The name that scripts and outputs use: `counter`, `gauge`, `rate` or `trend`.
    pub fn as_str(self) -> &'static str {
        match self {
            MetricKind::Counter => "counter",
            MetricKind::Gauge => "gauge",
            MetricKind::Rate => "rate",
            MetricKind::Trend => "trend",
        }
    }
}

impl fmt::Display for MetricKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What the values of a metric are, which decides how they are displayed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ValueType {
    /// Plain numbers.
    Default,
    /// Milliseconds.
    Time,
    /// Bytes.
    Data,
}

impl ValueType {
    /// The name that outputs use: `default`, `time` or `data`.
    pub fn as_str(self) -> &'static str {
        match self {
            ValueType::Default => "default",
            ValueType::Time => "time",
            ValueType::Data => "data",
        }
    }
}

impl fmt::Display for ValueType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A metric of one [`Registry`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MetricId(u32);

impl MetricId {
    /// Position in the registry: dense, from 0.
    pub fn index(self) -> usize {
        self.0 as usize
    }

    pub(crate) fn raw(self) -> u32 {
        self.0
    }
}

/// What is known of a metric.
#[derive(Debug, Clone)]
pub struct MetricInfo {
    /// The name without namespace or unit.
    pub name: Arc<str>,
    /// How it is aggregated.
    pub kind: MetricKind,
    /// What its values are.
    pub contains: ValueType,
}

/// Why a metric could not be registered; the texts are what scripts see.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegisterError {
    /// The name breaks the rule.
    #[error(
        "Invalid metric name: '{0}'. Metric names must only include up to 128 ASCII letters, \
         numbers, or underscores and start with a letter or an underscore."
    )]
    Name(String),
    /// The name is taken by a metric of another kind.
    #[error("metric '{name}' already exists but with type {existing}, instead of {wanted}")]
    Kind {
        /// The name.
        name: String,
        /// The kind it has.
        existing: MetricKind,
        /// The kind that was asked for.
        wanted: MetricKind,
    },
    /// The name is taken by a metric whose values are something else.
    #[error("metric '{name}' already exists but with a value type {existing}, instead of {wanted}")]
    Contains {
        /// The name.
        name: String,
        /// The type its values have.
        existing: ValueType,
        /// The type that was asked for.
        wanted: ValueType,
    },
}

macro_rules! builtins {
    ($($id:ident $name:literal $kind:ident $contains:ident;)*) => {
        /// Ids of the metrics that exist in every run.
        pub mod builtin {
            use super::MetricId;
            builtins!(@ids 0u32; $($id $name;)*);
        }

        /// Every built-in metric, in the order of its id.
        const BUILTINS: &[(&str, MetricKind, ValueType)] =
            &[$(($name, MetricKind::$kind, ValueType::$contains)),*];
    };
    (@ids $next:expr; $id:ident $name:literal; $($rest:tt)*) => {
        #[doc = concat!("`", $name, "`")]
        pub const $id: MetricId = MetricId($next);
        builtins!(@ids $next + 1; $($rest)*);
    };
    (@ids $next:expr;) => {};
}

builtins! {
    VUS "vus" Gauge Default;
    VUS_MAX "vus_max" Gauge Default;
    ITERATIONS "iterations" Counter Default;
    ITERATION_DURATION "iteration_duration" Trend Time;
    DROPPED_ITERATIONS "dropped_iterations" Counter Default;
    CHECKS "checks" Rate Default;
    GROUP_DURATION "group_duration" Trend Time;
    DATA_SENT "data_sent" Counter Data;
    DATA_RECEIVED "data_received" Counter Data;
    HTTP_REQS "http_reqs" Counter Default;
    HTTP_REQ_FAILED "http_req_failed" Rate Default;
    HTTP_REQ_DURATION "http_req_duration" Trend Time;
    HTTP_REQ_BLOCKED "http_req_blocked" Trend Time;
    HTTP_REQ_CONNECTING "http_req_connecting" Trend Time;
    HTTP_REQ_TLS_HANDSHAKING "http_req_tls_handshaking" Trend Time;
    HTTP_REQ_SENDING "http_req_sending" Trend Time;
    HTTP_REQ_WAITING "http_req_waiting" Trend Time;
    HTTP_REQ_RECEIVING "http_req_receiving" Trend Time;
    WS_SESSIONS "ws_sessions" Counter Default;
    WS_CONNECTING "ws_connecting" Trend Time;
    WS_SESSION_DURATION "ws_session_duration" Trend Time;
    WS_MSGS_SENT "ws_msgs_sent" Counter Default;
    WS_MSGS_RECEIVED "ws_msgs_received" Counter Default;
    WS_PING "ws_ping" Trend Time;
    GRPC_REQ_DURATION "grpc_req_duration" Trend Time;
}

/// All metrics of a run. Shared behind an `Arc`; locked for the time of a look-up only.
#[derive(Debug)]
pub struct Registry {
    inner: RwLock<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    infos: Vec<MetricInfo>,
    by_name: FxHashMap<Arc<str>, MetricId>,
}

impl Inner {
    fn push(&mut self, name: &str, kind: MetricKind, contains: ValueType) -> MetricId {
        let id = MetricId(u32::try_from(self.infos.len()).expect("fewer than 2^32 metrics"));
        let name: Arc<str> = name.into();
        self.by_name.insert(name.clone(), id);
        self.infos.push(MetricInfo {
            name,
            kind,
            contains,
        });
        id
    }
}

impl Default for Registry {
    fn default() -> Self {
        Self::new()
    }
}

impl Registry {
    /// A registry that holds the built-in metrics.
    pub fn new() -> Self {
        let mut inner = Inner::default();
        for &(name, kind, contains) in BUILTINS {
            inner.push(name, kind, contains);
        }
        Self {
            inner: RwLock::new(inner),
        }
    }

    /// The metric of that name, created if it does not exist.
    ///
    /// # Errors
    /// The name is not allowed, or belongs to a metric of another kind or value type.
    pub fn register(
        &self,
        name: &str,
        kind: MetricKind,
        contains: ValueType,
    ) -> Result<MetricId, RegisterError> {
        if !valid_name(name) {
            return Err(RegisterError::Name(name.to_owned()));
        }
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        let Some(&id) = inner.by_name.get(name) else {
            return Ok(inner.push(name, kind, contains));
        };
        let info = &inner.infos[id.index()];
        if info.kind != kind {
            let (existing, wanted) = (info.kind, kind);
            return Err(RegisterError::Kind {
                name: name.to_owned(),
                existing,
                wanted,
            });
        }
        if info.contains != contains {
            let (existing, wanted) = (info.contains, contains);
            return Err(RegisterError::Contains {
                name: name.to_owned(),
                existing,
                wanted,
            });
        }
        Ok(id)
    }

    /// The metric of that name, if it exists.
    pub fn lookup(&self, name: &str) -> Option<MetricId> {
        self.read().by_name.get(name).copied()
    }

    /// What is known of a metric.
    ///
    /// # Panics
    /// If the id is from another registry and out of range here.
    pub fn info(&self, id: MetricId) -> MetricInfo {
        self.read().infos[id.index()].clone()
    }

    /// Appends the kinds of the metrics from position `kinds.len()` on.
    pub(crate) fn extend_kinds(&self, kinds: &mut Vec<MetricKind>) {
        let inner = self.read();
        let known = kinds.len();
        kinds.extend(inner.infos.iter().skip(known).map(|info| info.kind));
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Inner> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `^[a-zA-Z_][a-zA-Z0-9_]{1,128}$`: 2 to 129 characters, although the error text says 128.
fn valid_name(name: &str) -> bool {
    let bytes = name.as_bytes();
    (2..=129).contains(&bytes.len())
        && !bytes[0].is_ascii_digit()
        && bytes
            .iter()
            .all(|&byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn builtins_have_fixed_ids() {
        let registry = Registry::new();
        assert_eq!(registry.lookup("vus"), Some(builtin::VUS));
        assert_eq!(
            registry.lookup("grpc_req_duration"),
            Some(builtin::GRPC_REQ_DURATION)
        );
        for (index, &(name, kind, _)) in BUILTINS.iter().enumerate() {
            let id = registry.lookup(name).unwrap();
            assert_eq!(id.index(), index);
            assert_eq!(registry.info(id).kind, kind);
        }
        let sent = registry.info(builtin::DATA_SENT);
        assert_eq!(
            (sent.kind, sent.contains),
            (MetricKind::Counter, ValueType::Data)
        );
    }

    #[test]
    fn the_same_declaration_is_the_same_metric() {
        let registry = Registry::new();
        let kind = MetricKind::Counter;
        assert_eq!(
            registry.register("http_reqs", kind, ValueType::Default),
            Ok(builtin::HTTP_REQS)
        );
        let own = registry.register("own", kind, ValueType::Default).unwrap();
        assert_eq!(registry.register("own", kind, ValueType::Default), Ok(own));
    }

    #[test]
    fn errors_read_as_scripts_expect() {
        let registry = Registry::new();
        let text = |name: &str, kind, contains| {
            registry
                .register(name, kind, contains)
                .unwrap_err()
                .to_string()
        };
        for name in ["", "a", "a-b", "1a", "ä_", &"x".repeat(130)] {
            assert_eq!(
                text(name, MetricKind::Counter, ValueType::Default),
                format!(
                    "Invalid metric name: '{name}'. Metric names must only include up to 128 ASCII \
                     letters, numbers, or underscores and start with a letter or an underscore."
                )
            );
        }
        registry
            .register("dup", MetricKind::Counter, ValueType::Default)
            .unwrap();
        assert_eq!(
            text("dup", MetricKind::Gauge, ValueType::Default),
            "metric 'dup' already exists but with type counter, instead of gauge"
        );
        assert_eq!(
            text("dup", MetricKind::Counter, ValueType::Time),
            "metric 'dup' already exists but with a value type default, instead of time"
        );
        let longest = "x".repeat(129);
        assert!(
            registry
                .register(&longest, MetricKind::Gauge, ValueType::Default)
                .is_ok()
        );
    }
}
