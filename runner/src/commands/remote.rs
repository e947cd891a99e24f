//! `status`, `stats`, `pause`, `resume`, `scale`: an agent that runs elsewhere, asked and changed
//! over its REST API. k6 had these commands until version 1; what they print is YAML.

use std::{fmt::Write as _, time::Duration};

use bytes::Bytes;
use http::{Request, header};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::{net::TcpStream, time::timeout};

use crate::{
    cli::Remote,
    display::print,
    exit::{Failure, code},
    process::Outside,
};

/// Where an agent listens if nobody says.
const DEFAULT_ADDRESS: &str = "localhost:6565";
/// How long it may take to reach it.
const PATIENCE: Duration = Duration::from_secs(10);

/// Sends the request that the command is, and prints the answer.
///
/// # Errors
/// There is no agent at the address, or it refuses; in its words.
pub(super) fn run(command: &Remote, outside: &Outside) -> Result<(), Failure> {
    let address = outside
        .global
        .address
        .as_ref()
        .map_or(DEFAULT_ADDRESS, |address| &address.text);
    let text = match command {
        Remote::Status => status(&ask(address, "GET", "/v1/status", None)?),
        Remote::Stats => stats(&ask(address, "GET", "/v1/metrics", None)?),
        Remote::Pause => status(&change(address, json!({"paused": true}))?),
        Remote::Resume => status(&change(address, json!({"paused": false}))?),
        Remote::Scale { vus, max } => {
            status(&change(address, json!({"vus": vus, "vus-max": max}))?)
        }
    };
    print(&text);
    Ok(())
}

fn change(address: &str, attributes: Value) -> Result<Value, Failure> {
    let document = json!({"data": {"type": "status", "id": "default", "attributes": attributes}});
    ask(address, "PATCH", "/v1/status", Some(document.to_string()))
}

/// Sends a request; answers the document.
fn ask(address: &str, method: &str, path: &str, body: Option<String>) -> Result<Value, Failure> {
    let fail = |what: &str, error: String| {
        Failure::new(
            code::OTHER,
            format!("{method} http://{address}{path}: {what}: {error}"),
        )
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| fail("the system refuses a runtime", error.to_string()))?;
    let (status, bytes) = runtime.block_on(async {
        let advice = "no agent there (--address says where it listens, by default \
                      localhost:6565)";
        let stream = match timeout(PATIENCE, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(fail(advice, error.to_string())),
            Err(_) => return Err(fail(advice, format!("nothing within {PATIENCE:?}"))),
        };
        let broken = |error: hyper::Error| fail("the answer breaks off", error.to_string());
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(broken)?;
        tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, address)
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body.unwrap_or_default())))
            .map_err(|error| fail("this is no address", error.to_string()))?;
        // However long it takes: new VUs are made before the answer to `scale`.
        let answer = sender.send_request(request).await.map_err(broken)?;
        let status = answer.status();
        let bytes = answer
            .into_body()
            .collect()
            .await
            .map_err(broken)?
            .to_bytes();
        Ok((status, bytes))
    })?;
    let document: Option<Value> = serde_json::from_slice(&bytes).ok();
    match document {
        Some(document) if status.is_success() => Ok(document),
        Some(document) if document["errors"][0].is_object() => {
            let error = &document["errors"][0];
            let part = |name: &str| error[name].as_str().unwrap_or_default().to_owned();
            Err(Failure::new(
                code::OTHER,
                format!("{}: {}", part("title"), part("detail")),
            ))
        }
        _ => Err(fail(
            "this is no agent's answer",
            format!("status {status}"),
        )),
    }
}

/// The status in the notation of k6 1, where what may be unset is a text.
fn status(document: &Value) -> String {
    let attributes = &document["data"]["attributes"];
    let mut text = String::new();
    for (name, quoted) in [
        ("status", false),
        ("paused", true),
        ("vus", true),
        ("vus-max", true),
        ("stopped", false),
        ("running", false),
        ("tainted", false),
    ] {
        let quote = if quoted { "\"" } else { "" };
        let _ = writeln!(text, "{name}: {quote}{}{quote}", attributes[name]);
    }
    text
}

/// Each metric with its values.
fn stats(document: &Value) -> String {
    let mut text = String::new();
    for metric in document["data"].as_array().into_iter().flatten() {
        let attributes = &metric["attributes"];
        // A JSON text is a YAML text: names of sub-metrics hold braces and colons.
        let _ = writeln!(text, "- name: {}", metric["id"]);
        for name in ["type", "contains", "tainted"] {
            let _ = writeln!(text, "  {name}: {}", plain(&attributes[name]));
        }
        let _ = writeln!(text, "  sample:");
        for (name, value) in attributes["sample"].as_object().into_iter().flatten() {
            let _ = writeln!(text, "    {name}: {value}");
        }
    }
    text
}

/// A word or a number without quotes.
fn plain(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_become_yaml() {
        let document = json!({"data": {"attributes": {"status": 7, "paused": false, "vus": 1,
            "vus-max": 2, "stopped": false, "running": true, "tainted": false}}});
        assert_eq!(
            status(&document),
            "status: 7\npaused: \"false\"\nvus: \"1\"\nvus-max: \"2\"\nstopped: false\n\
             running: true\ntainted: false\n"
        );
        let document = json!({"data": [{"id": "http_reqs{a:b}", "attributes": {"type": "counter",
            "contains": "default", "tainted": null, "sample": {"count": 3, "rate": 1.5}}}]});
        assert_eq!(
            stats(&document),
            "- name: \"http_reqs{a:b}\"\n  type: counter\n  contains: default\n  tainted: null\n  \
             sample:\n    count: 3\n    rate: 1.5\n"
        );
    }
}
