//! The objects of parameters. Unlike elsewhere a parameter that is not known is an error.

use std::time::Duration;

use rquickjs::{Filter, Object, Result as JsResult, Value};
use volley_net::{ChannelOptions, Metadata};

use crate::{
    binary, engine, error,
    modules::{http::parse_timeout, metrics::tag_pairs},
};

/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(60);

/// Parameters of `client.connect`.
#[derive(Debug)]
pub(super) struct ConnectParams {
    pub(super) channel: ChannelOptions,
    pub(super) timeout: Duration,
    /// What goes along with the questions about the server's services, if it is to be asked.
    pub(super) reflect: Option<Metadata>,
}

/// Parameters of a call.
#[derive(Debug, Default)]
pub(super) struct CallParams {
    pub(super) metadata: Metadata,
    pub(super) tags: Vec<(String, String)>,
    pub(super) timeout: Option<Duration>,
    pub(super) discard: bool,
}

/// A problem is the script's own exception, or text of ours.
type Parsed<T> = JsResult<Result<T, String>>;

/// Members of an object of parameters; none of what is no object.
fn members<'js>(params: Option<&Value<'js>>) -> JsResult<Vec<(String, Value<'js>)>> {
    let Some(object) = params.and_then(|params| params.as_object()) else {
        return Ok(Vec::new());
    };
    object
        .own_props::<String, Value<'js>>(Filter::new().string().enum_only())
        .collect()
}

/// Reads the parameters of `client.connect`.
pub(super) fn connect(params: Option<&Value<'_>>) -> Parsed<ConnectParams> {
    let mut parsed = ConnectParams {
        channel: ChannelOptions::default(),
        timeout: CONNECT_TIMEOUT,
        reflect: None,
    };
    let (mut reflect, mut metadata) = (false, Metadata::default());
    for (key, value) in members(params)? {
        let channel = &mut parsed.channel;
        let outcome = match key.as_str() {
            "plaintext" => flag(&key, &value).map(|flag| channel.plaintext = flag),
            "reflect" => flag(&key, &value).map(|flag| reflect = flag),
            "reflectMetadata" => match read_metadata(&value)? {
                Ok(read) => {
                    metadata = read;
                    Ok(())
                }
                Err(text) => Err(format!("invalid reflectMetadata param: {text}")),
            },
            "timeout" => timeout(&value).map(|timeout| parsed.timeout = timeout),
            "maxReceiveSize" => size(&key, &value, &mut channel.max_receive),
            "maxSendSize" => size(&key, &value, &mut channel.max_send),
            "authority" => match text_of(&value) {
                Some(name) => {
                    channel.authority = Some(name).filter(|name| !name.is_empty());
                    Ok(())
                }
                None => Err(wrong(&key, &value, "a string")),
            },
            "tls" => tls(channel, &value)?,
            other => Err(format!("unknown connect param: {other:?}")),
        };
        if let Err(text) = outcome {
            return Ok(Err(text));
        }
    }
    parsed.reflect = reflect.then_some(metadata);
    Ok(Ok(parsed))
}

/// Reads the parameters of a call.
pub(super) fn call(params: Option<&Value<'_>>) -> Parsed<CallParams> {
    let mut parsed = CallParams::default();
    for (key, value) in members(params)? {
        let outcome = match key.as_str() {
            "metadata" => match read_metadata(&value)? {
                Ok(metadata) => {
                    parsed.metadata = metadata;
                    Ok(())
                }
                Err(text) => Err(format!("invalid metadata param: {text}")),
            },
            "tags" => tag_pairs(&value)
                .map(|tags| parsed.tags = tags)
                .map_err(|text| format!("metric tags: {text}")),
            // None at all is as good as no limit.
            "timeout" => timeout(&value)
                .map(|timeout| parsed.timeout = Some(timeout).filter(|time| !time.is_zero())),
            "discardResponseMessage" => flag(&key, &value).map(|flag| parsed.discard = flag),
            other => Err(format!("unknown param: {other:?}")),
        };
        if let Err(text) = outcome {
            return Ok(Err(text));
        }
    }
    Ok(Ok(parsed))
}

fn timeout(value: &Value<'_>) -> Result<Duration, String> {
    parse_timeout(value).map_err(|text| format!("invalid timeout value: {text}"))
}

fn flag(key: &str, value: &Value<'_>) -> Result<bool, String> {
    value.as_bool().ok_or_else(|| wrong(key, value, "boolean"))
}

fn text_of(value: &Value<'_>) -> Option<String> {
    value.as_string().map(engine::rust_string)
}

/// A number of bytes; 0 leaves what is.
fn size(key: &str, value: &Value<'_>, limit: &mut usize) -> Result<(), String> {
    match value.as_number() {
        Some(number) if number.fract() == 0.0 && number < 0.0 => {
            Err(wrong(key, value, "a positive integer"))
        }
        Some(number) if number.fract() == 0.0 => {
            if number > 0.0 {
                *limit = number as usize;
            }
            Ok(())
        }
        _ => Err(wrong(key, value, "an integer")),
    }
}

fn wrong(key: &str, value: &Value<'_>, needed: &str) -> String {
    let shown = go_syntax(value, 0);
    format!("invalid {key} value: '{shown}', it needs to be {needed}")
}

/// Certificates of the connection's own.
fn tls(channel: &mut ChannelOptions, value: &Value<'_>) -> Parsed<()> {
    const PEM: &str = "a PEM formatted string";
    if value.as_object().is_none() {
        return Ok(Err(format!(
            "invalid tls value: '{}', expected (optional) keys: cert, key, password, and cacerts",
            go_syntax(value, 0)
        )));
    }
    let (mut certificate, mut key, mut password) = (None, None, None);
    for (name, value) in members(Some(value))? {
        let kept = match name.as_str() {
            "cert" => &mut certificate,
            "key" => &mut key,
            "password" => &mut password,
            "cacerts" => {
                let texts = match value.as_array() {
                    None => text_of(&value).map(|text| vec![text]),
                    Some(list) => {
                        let items = list.iter::<Value<'_>>();
                        let items = items.collect::<JsResult<Vec<_>>>()?;
                        items.iter().map(text_of).collect()
                    }
                };
                let needed = "a string or an array of PEM formatted strings";
                let outcome = texts
                    .ok_or_else(|| wrong("tls cacerts", &value, needed))
                    .and_then(|texts| channel.tls.trust(&texts));
                if let Err(text) = outcome {
                    return Ok(Err(text));
                }
                continue;
            }
            other => return Ok(Err(format!("unknown tls param: {other:?}"))),
        };
        *kept = text_of(&value);
        if kept.is_none() {
            let needed = if name == "password" { "a string" } else { PEM };
            return Ok(Err(wrong(&format!("tls {name}"), &value, needed)));
        }
    }
    if certificate.is_none() && key.is_none() {
        return Ok(Ok(()));
    }
    let (certificate, key) = (certificate.unwrap_or_default(), key.unwrap_or_default());
    Ok(channel.tls.show(&certificate, &key, password.as_deref()))
}

/// What goes along with a call: text, and bytes under names that end in `-bin`.
fn read_metadata(value: &Value<'_>) -> Parsed<Metadata> {
    let mut metadata = Metadata::default();
    if value.is_null() || value.is_undefined() {
        return Ok(Ok(metadata));
    }
    if value.as_object().is_none() || value.is_array() || value.is_function() {
        let text = "must be an object with key-value pairs";
        return Ok(Err(text.to_owned()));
    }
    for (name, value) in members(Some(value))? {
        let binary = Metadata::is_binary(&name);
        let bytes = match value.as_string() {
            Some(text) if !binary => Some(engine::rust_string(text).into_bytes()),
            None if binary => binary::data(Some(&value)).ok(),
            _ => None,
        };
        let Some(bytes) = bytes else {
            let needed = if binary { "binary" } else { "a string" };
            return Ok(Err(format!("{name:?} value must be {needed}")));
        };
        if let Err(text) = metadata.add(&name, &bytes) {
            return Ok(Err(text));
        }
    }
    Ok(Ok(metadata))
}

/// A value as Go's `%#v` shows it.
fn go_syntax(value: &Value<'_>, depth: usize) -> String {
    if let Some(text) = text_of(value) {
        return format!("{text:?}");
    }
    if value.is_null() || value.is_undefined() {
        return "<nil>".to_owned();
    }
    let nested = |object: &Object<'_>| {
        let members = members(Some(object.as_value())).unwrap_or_default();
        let array = object.is_array();
        let shown = members.iter().map(|(name, value)| {
            let value = go_syntax(value, depth + 1);
            if array {
                value
            } else {
                format!("{name:?}:{value}")
            }
        });
        let shown: Vec<String> = shown.collect();
        if array {
            format!("[]interface {{}}{{{}}}", shown.join(", "))
        } else {
            format!("map[string]interface {{}}{{{}}}", shown.join(", "))
        }
    };
    match value.as_object() {
        Some(object) if !value.is_function() && depth < 5 => nested(object),
        _ => error::to_text(value),
    }
}
