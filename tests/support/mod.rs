//! What the tests of the whole program share: processes, a client, servers to aim at.
//!
//! Everything that is started here ends with the value that stands for it, also when a test
//! panics. Every wait looks again and again until a deadline; nothing waits for a fixed time.

// Each test target takes what it needs.
#![allow(dead_code, unused_imports)]

pub(crate) mod arrived;
pub(crate) mod frames;
mod http;
mod logfmt;
pub(crate) mod manifests;
#[path = "../../metrics/src/outputs/otlp.rs"]
pub(crate) mod otlp;
mod peers;
mod process;
#[path = "../../metrics/src/outputs/receiver.rs"]
mod receiver;
#[path = "../../runner/src/demo/target.rs"]
mod target;

use std::{
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU16, Ordering},
    time::{Duration, Instant},
};

pub(crate) use http::{Reply, request};
pub(crate) use logfmt::LogLine;
pub(crate) use peers::{Influx, Nginx, Prometheus, Proxy, installed};
pub(crate) use process::{Finished, Launch, Running};
pub(crate) use receiver::{Answer, Received, Receiver};
pub(crate) use target::Target;

/// How long anything may take before a test fails: a bound for hangs, far above what is needed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(5);

/// Looks until there is something; panics with `what` when there is nothing for too long.
#[track_caller]
pub(crate) fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "waited too long for {what}");
        std::thread::sleep(PAUSE);
    }
}

/// A folder of the test's own, removed with the value.
pub(crate) struct Folder(tempfile::TempDir);

impl Folder {
    /// An empty one.
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary folder"))
    }

    /// One that holds a file.
    pub(crate) fn with(name: &str, content: &str) -> Self {
        let folder = Self::new();
        folder.write(name, content);
        folder
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// The path of a file in it, whether or not it exists.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// Writes a file, making the folders above it.
    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.file(name);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).expect("a folder");
        }
        std::fs::write(&path, content).expect("a file");
        path
    }

    /// Reads a file as text.
    #[track_caller]
    pub(crate) fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.file(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    /// Reads a file as JSON.
    #[track_caller]
    pub(crate) fn json(&self, name: &str) -> serde_json::Value {
        serde_json::from_str(&self.read(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }
}

/// A port that nobody listens on.
///
/// It lies below the range from which the system takes ports for connections and for port 0, so
/// that no load of a test running beside this one can take it before it is bound again.
pub(crate) fn free_port() -> u16 {
    const FIRST: u16 = 10_000;
    const COUNT: u16 = 22_000;
    static TAKEN: AtomicU16 = AtomicU16::new(0);
    // Test targets may run at the same time: each starts at a place of its own.
    let start = (u64::from(std::process::id()) * 211 % u64::from(COUNT)) as u16;
    loop {
        let port = FIRST + (start + TAKEN.fetch_add(1, Ordering::Relaxed)) % COUNT;
        let everywhere = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port));
        if everywhere.is_ok() {
            return port;
        }
    }
}
