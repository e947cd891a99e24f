//! Secrets that a server has: one request each, not too many a minute, repeated when it fails.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use serde::Deserialize;
use serde_json::Value as Json;
use volley_net::{Client, ClientConfig, Request, Url};

use super::{Env, Source};
use crate::{duration::GoDuration, logging::reason, network::USER_AGENT};

/// Longest wait between two attempts, whatever the settings say.
const LONGEST_BACKOFF: f64 = 3600.0;

/// What a configuration file may say; the same names are settings of the flag.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Settings {
    url_template: Option<String>,
    method: Option<String>,
    headers: BTreeMap<String, String>,
    response_path: Option<String>,
    timeout: Option<String>,
    requests_per_minute_limit: Option<u32>,
    requests_burst: Option<u32>,
    max_retries: Option<u32>,
    retry_backoff: Option<String>,
}

impl Settings {
    /// The variables of the environment.
    const VARIABLES: [(&'static str, &'static str); 8] = [
        ("K6_SECRET_SOURCE_URL_URL_TEMPLATE", "urlTemplate"),
        ("K6_SECRET_SOURCE_URL_METHOD", "method"),
        ("K6_SECRET_SOURCE_URL_RESPONSE_PATH", "responsePath"),
        ("K6_SECRET_SOURCE_URL_TIMEOUT", "timeout"),
        (
            "K6_SECRET_SOURCE_URL_REQUESTS_PER_MINUTE_LIMIT",
            "requestsPerMinuteLimit",
        ),
        ("K6_SECRET_SOURCE_URL_REQUESTS_BURST", "requestsBurst"),
        ("K6_SECRET_SOURCE_URL_MAX_RETRIES", "maxRetries"),
        ("K6_SECRET_SOURCE_URL_RETRY_BACKOFF", "retryBackoff"),
    ];

    /// Variables that start like this are headers; hyphens are underscores there.
    const HEADER: &'static str = "K6_SECRET_SOURCE_URL_HEADER_";

    fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        let number = || {
            let parsed = value.parse::<u32>();
            parsed
                .map(Some)
                .map_err(|_| format!("{key} is not a number: {value:?}"))
        };
        let text = || Some(value.to_owned());
        match key {
            "urlTemplate" => self.url_template = text(),
            "method" => self.method = text(),
            "responsePath" => self.response_path = text(),
            "timeout" => self.timeout = text(),
            "retryBackoff" => self.retry_backoff = text(),
            "requestsPerMinuteLimit" => self.requests_per_minute_limit = number()?,
            "requestsBurst" => self.requests_burst = number()?,
            "maxRetries" => self.max_retries = number()?,
            _ => match key.strip_prefix("headers.") {
                Some(name) => {
                    self.headers
                        .retain(|known, _| !known.eq_ignore_ascii_case(name));
                    self.headers.insert(name.to_owned(), value.to_owned());
                }
                None => return Err(format!("unknown setting {key:?}")),
            },
        }
        Ok(())
    }

    /// What a later layer says counts.
    fn overlay(&mut self, later: Self) {
        let Self {
            url_template,
            method,
            headers,
            response_path,
            timeout,
            requests_per_minute_limit,
            requests_burst,
            max_retries,
            retry_backoff,
        } = later;
        self.url_template = url_template.or(self.url_template.take());
        self.method = method.or(self.method.take());
        self.response_path = response_path.or(self.response_path.take());
        self.timeout = timeout.or(self.timeout.take());
        self.requests_per_minute_limit =
            requests_per_minute_limit.or(self.requests_per_minute_limit);
        self.requests_burst = requests_burst.or(self.requests_burst);
        self.max_retries = max_retries.or(self.max_retries);
        self.retry_backoff = retry_backoff.or(self.retry_backoff.take());
        for (name, value) in headers {
            self.headers
                .retain(|known, _| !known.eq_ignore_ascii_case(&name));
            self.headers.insert(name, value);
        }
    }
}

/// A server that has secrets.
pub(super) struct Server {
    template: String,
    method: String,
    headers: Vec<(String, String)>,
    path: Option<String>,
    timeout: Duration,
    retries: u32,
    backoff: Duration,
    pace: Pace,
    network: Arc<ClientConfig>,
}

/// `url=urlTemplate=…,…`. Weakest first: the environment, a file, the flag.
pub(super) fn open(items: &[&str], env: Env<'_>) -> Result<Source, String> {
    let mut settings = Settings::default();
    for (variable, key) in Settings::VARIABLES {
        if let Some(value) = env.get(variable).filter(|value| !value.is_empty()) {
            let set = settings.set(key, value);
            set.map_err(|problem| format!("{variable}: {problem}"))?;
        }
    }
    for (variable, value) in env {
        if let Some(header) = variable.strip_prefix(Settings::HEADER) {
            let header = header.replace('_', "-").to_lowercase();
            settings.set(&format!("headers.{header}"), value)?;
        }
    }
    let mut inline = Settings::default();
    for item in items {
        let (key, value) = item
            .split_once('=')
            .ok_or_else(|| format!("{item:?} is not of the form setting=value"))?;
        if key == "config" {
            let text = std::fs::read_to_string(value)
                .map_err(|error| format!("{value}: {}", reason(&error)))?;
            let file = serde_json::from_str(&text).map_err(|error| format!("{value}: {error}"))?;
            settings.overlay(file);
        } else {
            inline.set(key, value)?;
        }
    }
    settings.overlay(inline);
    Server::new(settings).map(Source::Url)
}

fn duration(name: &str, text: Option<&str>, default: Duration) -> Result<Duration, String> {
    let Some(text) = text else {
        return Ok(default);
    };
    let parsed = GoDuration::parse_extended(text);
    Ok(parsed
        .map_err(|problem| format!("{name}: {problem}"))?
        .to_std())
}

impl Server {
    fn new(settings: Settings) -> Result<Self, String> {
        let template = settings.url_template.ok_or("urlTemplate is missing")?;
        if !template.contains("{key}") {
            return Err("urlTemplate has no {key}".to_owned());
        }
        if !["http://", "https://"]
            .iter()
            .any(|scheme| template.starts_with(scheme))
        {
            return Err("urlTemplate must start with http:// or https://".to_owned());
        }
        Url::parse(&template.replace("{key}", "key"))
            .map_err(|problem| format!("urlTemplate: {problem}"))?;
        let per_minute = settings.requests_per_minute_limit.unwrap_or(300);
        let burst = settings.requests_burst.unwrap_or(10);
        if per_minute == 0 || burst == 0 {
            return Err("requestsPerMinuteLimit and requestsBurst must be above 0".to_owned());
        }
        let mut config = ClientConfig::default();
        config.user_agent = Some(USER_AGENT.to_owned());
        Ok(Self {
            template,
            method: settings.method.unwrap_or_else(|| "GET".to_owned()),
            headers: settings.headers.into_iter().collect(),
            path: settings.response_path.filter(|path| !path.is_empty()),
            timeout: duration(
                "timeout",
                settings.timeout.as_deref(),
                Duration::from_secs(30),
            )?,
            retries: settings.max_retries.unwrap_or(3),
            backoff: duration(
                "retryBackoff",
                settings.retry_backoff.as_deref(),
                Duration::from_secs(1),
            )?,
            pace: Pace::new(f64::from(per_minute) / 60.0, f64::from(burst)),
            network: Arc::new(config),
        })
    }

    /// Asks for one secret.
    pub(super) async fn fetch(&self, key: &str) -> Result<String, String> {
        let mut attempt = 0;
        loop {
            tokio::time::sleep(self.pace.wait(Instant::now())).await;
            let problem = match self.ask(key).await {
                Ok(body) => return self.extract(&body),
                Err(problem) => problem,
            };
            if !problem.passing || attempt >= self.retries {
                return Err(problem.text);
            }
            attempt += 1;
            tokio::time::sleep(self.pause(attempt, jitter())).await;
        }
    }

    /// How long to wait before the n-th repetition; `jitter` is below a second.
    fn pause(&self, attempt: u32, jitter: f64) -> Duration {
        let power = self.backoff.as_secs_f64().powf(f64::from(attempt));
        Duration::from_secs_f64(power.min(LONGEST_BACKOFF) + jitter)
    }

    async fn ask(&self, key: &str) -> Result<Vec<u8>, Problem> {
        let url = self.template.replace("{key}", &escaped(key));
        let url = Url::parse(&url).map_err(|problem| Problem {
            text: format!("failed to get the secret: {problem}"),
            passing: false,
        })?;
        let mut request = Request::new(self.method.clone(), url);
        request.headers.clone_from(&self.headers);
        request.timeout = self.timeout;
        // A client of its own: what VUs send and receive does not include this.
        let exchange = Client::new(self.network.clone()).send(request).await;
        if let Some(error) = &exchange.last.error {
            return Err(Problem {
                text: format!("failed to get the secret: {}", error.raw()),
                passing: true,
            });
        }
        match exchange.last.status {
            200..300 => Ok(exchange
                .response
                .map_or_else(Vec::new, |response| response.body.to_vec())),
            status => Err(Problem {
                text: format!("failed to get the secret: the server answered with status {status}"),
                passing: status >= 500 || status == 429,
            }),
        }
    }

    /// The secret in an answer. What goes wrong is told without showing the answer.
    fn extract(&self, body: &[u8]) -> Result<String, String> {
        let Some(path) = &self.path else {
            return String::from_utf8(body.to_vec())
                .map_err(|_| "failed to get the secret: the response is not UTF-8".to_owned());
        };
        let json: Json = serde_json::from_slice(body)
            .map_err(|_| "failed to get the secret: the response is not JSON".to_owned())?;
        let found = path.split('.').try_fold(&json, |value, part| match value {
            Json::Object(members) => members.get(part),
            Json::Array(items) => items.get(part.parse::<usize>().ok()?),
            _ => None,
        });
        match found {
            None | Some(Json::Null) => Err(format!(
                "failed to get the secret: the response has nothing at {path:?}"
            )),
            Some(Json::String(text)) => Ok(text.clone()),
            Some(other) => Ok(other.to_string()),
        }
    }
}

/// Why there is no answer, and whether there may be one later.
struct Problem {
    text: String,
    passing: bool,
}

/// The key as one segment of a path.
fn escaped(key: &str) -> String {
    let mut out = String::with_capacity(key.len());
    for byte in key.bytes() {
        match byte {
            b'A'..=b'Z'
            | b'a'..=b'z'
            | b'0'..=b'9'
            | b'-'
            | b'_'
            | b'.'
            | b'~'
            | b'$'
            | b'&'
            | b'+'
            | b':'
            | b'='
            | b'@' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// Somewhere between 0 and 1. The hasher of the standard library is seeded at random.
fn jitter() -> f64 {
    use std::hash::{BuildHasher as _, RandomState};
    (RandomState::new().hash_one(0) >> 11) as f64 / (1u64 << 53) as f64
}

/// How many requests there may be: a bucket of tokens that fills at a steady rate.
struct Pace {
    per_second: f64,
    burst: f64,
    /// What was left, and when.
    left: Mutex<(f64, Option<Instant>)>,
}

impl Pace {
    fn new(per_second: f64, burst: f64) -> Self {
        Self {
            per_second,
            burst,
            left: Mutex::new((burst, None)),
        }
    }

    /// Takes a token; answers how long it is until it is there.
    fn wait(&self, now: Instant) -> Duration {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        let (tokens, since) = *left;
        let passed = since.map_or(0.0, |since| {
            now.saturating_duration_since(since).as_secs_f64()
        });
        let tokens = (tokens + passed * self.per_second).min(self.burst) - 1.0;
        *left = (tokens, Some(now));
        Duration::from_secs_f64((-tokens / self.per_second).max(0.0))
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{Json, Pace, Server, Settings, Source, escaped, open};

    fn server(items: &[&str], env: &[(&str, &str)]) -> Result<Server, String> {
        let env = env
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        match open(items, &env.collect())? {
            Source::Url(server) => Ok(server),
            Source::Fixed(_) => Err("not a server".to_owned()),
        }
    }

    #[test]
    fn the_flag_beats_the_file_and_the_file_beats_the_environment() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("c.json");
        let text = r#"{"urlTemplate":"http://file/{key}","headers":{"authorization":"file","X-B":"b"},"timeout":"5s","maxRetries":7}"#;
        std::fs::write(&file, text).unwrap();
        let config = format!("config={}", file.display());
        let found = server(
            &["timeout=2s", &config, "headers.X-A=a=b"],
            &[
                ("K6_SECRET_SOURCE_URL_URL_TEMPLATE", "http://env/{key}"),
                ("K6_SECRET_SOURCE_URL_METHOD", "POST"),
                ("K6_SECRET_SOURCE_URL_HEADER_AUTHORIZATION", "env"),
                ("K6_SECRET_SOURCE_URL_HEADER_X_API_KEY", "env"),
                ("K6_SECRET_SOURCE_URL_MAX_RETRIES", "1"),
            ],
        )
        .unwrap();
        assert_eq!(found.template, "http://file/{key}");
        assert_eq!(found.method, "POST");
        assert_eq!(found.timeout, Duration::from_secs(2));
        assert_eq!(found.retries, 7);
        let mut headers = found.headers;
        headers.sort();
        let expected = [
            ("X-A", "a=b"),
            ("X-B", "b"),
            ("authorization", "file"),
            ("x-api-key", "env"),
        ];
        assert_eq!(
            headers,
            expected.map(|(name, value)| (name.to_owned(), value.to_owned()))
        );
    }

    #[test]
    fn settings_that_mean_nothing_are_refused() {
        for (items, problem) in [
            (&[][..], "urlTemplate is missing"),
            (&["urlTemplate=http://h/"], "urlTemplate has no {key}"),
            (&["urlTemplate={key}"], "urlTemplate must start with http"),
            (&["urlTemplate=http://a b/{key}"], "urlTemplate: "),
            (&["nonsense=1"], "unknown setting \"nonsense\""),
            (&["timeout"], "\"timeout\" is not of the form"),
            (&["maxRetries=-1"], "maxRetries is not a number"),
            (
                &["urlTemplate=http://h/{key}", "timeout=soon"],
                "timeout: time: invalid duration",
            ),
            (
                &["urlTemplate=http://h/{key}", "requestsBurst=0"],
                "must be above 0",
            ),
            (&["config=/no/such/file"], "/no/such/file: no such file"),
        ] {
            let found = server(items, &[]).err().expect(problem);
            assert!(found.contains(problem), "{found}");
        }
        assert!(serde_json::from_str::<Settings>(r#"{"nonsense":1}"#).is_err());
    }

    #[test]
    fn secrets_are_found_in_answers() {
        let with = |path: &str| {
            let path = format!("responsePath={path}");
            server(&["urlTemplate=http://h/{key}", &path], &[]).unwrap()
        };
        let body = serde_json::json!({"data": {"value": "s", "n": 5, "list": [{"a": "x"}], "none": Json::Null}}).to_string();
        let extract = |path: &str| with(path).extract(body.as_bytes());
        assert_eq!(extract("data.value").unwrap(), "s");
        assert_eq!(extract("data.n").unwrap(), "5");
        assert_eq!(extract("data.list.0.a").unwrap(), "x");
        assert_eq!(extract("").unwrap(), body);
        for path in ["data.no", "data.none", "data.value.x", "data.list.7"] {
            assert!(extract(path).unwrap_err().contains("nothing at"), "{path}");
        }
        assert!(with("a").extract(b"{").unwrap_err().contains("not JSON"));
        assert!(with("").extract(b"\xff").unwrap_err().contains("not UTF-8"));
    }

    #[test]
    fn waits_grow_with_each_attempt() {
        let backoff = |text: &str| server(&["urlTemplate=http://h/{key}", text], &[]).unwrap();
        let two = backoff("retryBackoff=2s");
        assert_eq!(two.pause(1, 0.5), Duration::from_millis(2_500));
        assert_eq!(two.pause(3, 0.0), Duration::from_secs(8));
        assert_eq!(two.pause(1000, 0.0), Duration::from_secs(3600));
        let half = backoff("retryBackoff=500ms");
        assert_eq!(half.pause(2, 0.0), Duration::from_millis(250));
    }

    #[test]
    fn a_burst_is_free_and_what_follows_is_paced() {
        let pace = Pace::new(5.0, 2.0);
        let start = Instant::now();
        let wait = |ms: u64| pace.wait(start + Duration::from_millis(ms)).as_millis();
        assert_eq!([wait(0), wait(0), wait(0), wait(0)], [0, 0, 200, 400]);
        // Two seconds later the bucket is full, and not fuller.
        assert_eq!([wait(2000), wait(2000), wait(2000)], [0, 0, 200]);
    }

    #[test]
    fn keys_are_one_segment_of_a_path() {
        assert_eq!(escaped("a/b c?é~"), "a%2Fb%20c%3F%C3%A9~");
    }
}
