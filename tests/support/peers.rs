//! Programs that the agent works with: nginx to aim at, Prometheus to be scraped by.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use super::{Folder, Launch, Running, free_port, request, until};

/// When this is `1`, a peer that is not installed fails the test instead of ending it early.
const REQUIRE: &str = "VOLLEY_REQUIRE_PEERS";
const LIMIT: Duration = Duration::from_secs(5);

/// Where a program is, or `None` with a word about it.
pub(crate) fn installed(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let more = ["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from);
    let found = std::env::split_paths(&path)
        .chain(more)
        .map(|folder| folder.join(program))
        .find(|file| file.is_file());
    found.or_else(|| missing(program))
}

/// A word about what is not there; a failure where it has to be.
pub(crate) fn missing<T>(program: &str) -> Option<T> {
    let required = std::env::var_os(REQUIRE).is_some_and(|value| value == "1");
    assert!(!required, "{program} is not installed, and {REQUIRE}=1");
    println!("{program} is not installed: there is nothing to test against");
    None
}

/// An nginx that answers everything with `hello` and logs the path of every request.
pub(crate) struct Nginx {
    _process: Running,
    folder: Folder,
    pub(crate) port: u16,
    /// The port of the servers that a test adds.
    pub(crate) second: u16,
}

impl Nginx {
    /// Starts one; `None` when it is not installed.
    pub(crate) fn start() -> Option<Self> {
        Self::with(Folder::new(), "")
    }

    /// Starts one in a folder, with more lines in its `http` block, in which `$PORT` is a second
    /// port, the one that [`Self::second`] names.
    pub(crate) fn with(folder: Folder, more: &str) -> Option<Self> {
        let program = installed("nginx")?;
        let (port, second) = (free_port(), free_port());
        let more = more.replace("$PORT", &format!("127.0.0.1:{second}"));
        let config = format!(
            "daemon off;\nmaster_process off;\npid nginx.pid;\nerror_log error.log;\n\
             events {{ worker_connections 512; }}\n\
             http {{\n\
             log_format path '$request_uri';\n\
             log_format line '$connection $server_protocol $status $request';\n\
             access_log access.log path;\n\
             client_body_temp_path body;\nproxy_temp_path proxy;\nfastcgi_temp_path fastcgi;\n\
             uwsgi_temp_path uwsgi;\nscgi_temp_path scgi;\n\
             server {{\nlisten 127.0.0.1:{port};\nlocation / {{ return 200 'hello'; }}\n\
             location = /ready {{ access_log off; return 200 'ready'; }}\n}}\n{more}\n}}\n"
        );
        folder.write("nginx.conf", config);
        let mut process = Launch::program(program, folder.path())
            .args([Path::new("-p"), folder.path()])
            .words("-c nginx.conf -e error.log")
            .start();
        process.until("answer of nginx", |_| {
            request(port, "GET", "/ready", None, LIMIT).ok()
        });
        Some(Self {
            _process: process,
            folder,
            port,
            second,
        })
    }

    /// The lines of a log of its own.
    pub(crate) fn lines(&self, log: &str) -> Vec<String> {
        self.folder.read(log).lines().map(str::to_owned).collect()
    }

    /// How many requests it has answered.
    pub(crate) fn requests(&self) -> usize {
        self.folder.read("access.log").lines().count()
    }
}

/// A tinyproxy that lets in who has the user and the password `me` and `word`.
pub(crate) struct Proxy {
    process: Running,
    port: u16,
}

impl Proxy {
    /// Starts one; `None` when it is not installed.
    pub(crate) fn start() -> Option<Self> {
        let program = installed("tinyproxy")?;
        let (folder, port) = (Folder::new(), free_port());
        let config = format!(
            "Port {port}\nListen 127.0.0.1\nAllow 127.0.0.1\nTimeout 60\nMaxClients 50\n\
             LogLevel Connect\nBasicAuth me word\n"
        );
        folder.write("tinyproxy.conf", config);
        let mut process = Launch::program(program, folder.path())
            .words("-d -c tinyproxy.conf")
            .start();
        // It has nothing of its own to answer with but a refusal.
        process.until("answer of tinyproxy", |_| {
            request(port, "GET", "/", None, LIMIT).ok()
        });
        Some(Self { process, port })
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Where it listens, with a user and a password.
    pub(crate) fn url(&self, credentials: &str) -> String {
        format!("http://{credentials}@127.0.0.1:{}", self.port)
    }

    /// The request lines of its log.
    pub(crate) fn requests(&self) -> Vec<String> {
        let log = self.process.stdout();
        let lines = log.lines().filter(|line| line.contains("Request (file"));
        lines
            .filter_map(|line| Some(line.split_once("): ")?.1.to_owned()))
            .collect()
    }
}

/// Escapes what has a meaning in a query.
fn escape(text: &str) -> String {
    let bytes = text.bytes();
    bytes
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

/// An InfluxDB of version 1, empty.
pub(crate) struct Influx {
    _process: Running,
    _folder: Folder,
    port: u16,
}

impl Influx {
    /// Starts one; `None` when it is not installed.
    pub(crate) fn start() -> Option<Self> {
        let program = installed("influxd")?;
        let (folder, port, other) = (Folder::new(), free_port(), free_port());
        let config = format!(
            "reporting-disabled = true\nbind-address = \"127.0.0.1:{other}\"\n\
             [meta]\ndir = \"meta\"\n[data]\ndir = \"data\"\nwal-dir = \"wal\"\n\
             [http]\nbind-address = \"127.0.0.1:{port}\"\nlog-enabled = false\n"
        );
        folder.write("influxdb.conf", config);
        let mut process = Launch::program(program, folder.path())
            .words("run -config influxdb.conf")
            .start();
        process.until("readiness of InfluxDB", |_| {
            let reply = request(port, "GET", "/ping", None, LIMIT).ok()?;
            (reply.status == 204).then_some(())
        });
        Some(Self {
            _process: process,
            _folder: folder,
            port,
        })
    }

    /// Its URL without a path.
    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The first value of the first row of an answer.
    #[track_caller]
    pub(crate) fn value(&self, database: &str, query: &str) -> f64 {
        let path = format!("/query?db={database}&q={}", escape(query));
        let reply = request(self.port, "GET", &path, None, LIMIT).expect("an answer");
        assert_eq!(reply.status, 200, "{}", reply.body);
        let answer = reply.json();
        // The column before it is the time.
        let value = &answer["results"][0]["series"][0]["values"][0][1];
        value
            .as_f64()
            .unwrap_or_else(|| panic!("no value: {answer}"))
    }
}

/// A Prometheus that scrapes every two seconds.
pub(crate) struct Prometheus {
    _process: Running,
    _folder: Folder,
    port: u16,
}

impl Prometheus {
    /// Starts one that scrapes these ports; `None` when it is not installed.
    pub(crate) fn start(targets: &[u16]) -> Option<Self> {
        Self::launch(targets, "")
    }

    /// Starts one that scrapes these ports and takes native histograms; `None` when it is not
    /// installed.
    pub(crate) fn native(targets: &[u16]) -> Option<Self> {
        Self::launch(targets, "--enable-feature=native-histograms")
    }

    /// Starts one that scrapes nobody and takes remote writes; `None` when it is not installed.
    pub(crate) fn receiving() -> Option<Self> {
        Self::launch(
            &[],
            "--web.enable-remote-write-receiver --enable-feature=native-histograms",
        )
    }

    /// Where it takes remote writes.
    pub(crate) fn write_url(&self) -> String {
        format!("http://127.0.0.1:{}/api/v1/write", self.port)
    }

    fn launch(targets: &[u16], flags: &str) -> Option<Self> {
        let program = installed("prometheus")?;
        let (folder, port) = (Folder::new(), free_port());
        let targets: Vec<String> = targets
            .iter()
            .map(|port| format!("'127.0.0.1:{port}'"))
            .collect();
        let config = format!(
            "global:\n  scrape_interval: 2s\n  scrape_timeout: 2s\n\
             scrape_configs:\n  - job_name: agents\n    static_configs:\n      - targets: [{}]\n",
            targets.join(", ")
        );
        folder.write("prometheus.yml", config);
        let mut process = Launch::program(program, folder.path())
            .words("--config.file=prometheus.yml --storage.tsdb.path=data --log.level=warn")
            .words(flags)
            .args([format!("--web.listen-address=127.0.0.1:{port}")])
            .start();
        process.until("readiness of Prometheus", |_| {
            let reply = request(port, "GET", "/-/ready", None, LIMIT).ok()?;
            (reply.status == 200).then_some(())
        });
        Some(Self {
            _process: process,
            _folder: folder,
            port,
        })
    }

    /// The value of an expression that has one value at most.
    #[track_caller]
    pub(crate) fn value(&self, expression: &str) -> Option<f64> {
        let values = self.values(expression);
        assert!(values.len() <= 1, "more than one value: {values:?}");
        values.first().copied()
    }

    /// All values of an expression; native histograms have none.
    #[track_caller]
    pub(crate) fn values(&self, expression: &str) -> Vec<f64> {
        let path = format!("/api/v1/query?query={}", escape(expression));
        let reply = request(self.port, "GET", &path, None, LIMIT).expect("an answer");
        assert_eq!(reply.status, 200, "{}", reply.body);
        let answer = reply.json();
        let result = answer["data"]["result"].as_array().expect("a result");
        let values = result.iter().filter_map(|row| row["value"][1].as_str());
        values
            .map(|value| value.parse().expect("a number"))
            .collect()
    }

    /// How many values an expression has now, NaN not among them.
    #[track_caller]
    pub(crate) fn count(&self, expression: &str) -> usize {
        let values = self.values(expression).into_iter();
        values.filter(|value| !value.is_nan()).count()
    }

    /// Waits until an expression has that value.
    #[track_caller]
    pub(crate) fn until(&self, expression: &str, expected: f64) {
        let mut last = None;
        until(&format!("{expression} = {expected}"), || {
            let value = self.value(expression);
            if value != last {
                last = value;
                println!("{expression} is {value:?}");
            }
            (value == Some(expected)).then_some(())
        });
    }
}
