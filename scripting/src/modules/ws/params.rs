//! What both modules of WebSockets are told about a connection.

use std::rc::Rc;

use rquickjs::{Filter, Result as JsResult, Value};
use volley_net as net;

use crate::{error, modules::http, modules::metrics::tag_pairs, state::VuState};

/// The params object.
#[derive(Default)]
pub(crate) struct Params {
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) tags: Vec<(String, String)>,
    pub(crate) jar: Option<Rc<net::CookieJar>>,
    pub(crate) deflate: bool,
}

/// What is wrong with it.
pub(crate) enum Fault {
    /// The tags; the words say why.
    Tags(String),
    /// The algorithm of `compression`.
    Compression(String),
    /// A member that means nothing.
    Unknown(String),
}

impl Params {
    /// Reads it; what is no object is empty. `strict` is whether members that mean nothing are a
    /// fault.
    pub(crate) fn read(
        state: &VuState,
        params: Option<&Value<'_>>,
        strict: bool,
    ) -> JsResult<Result<Self, Fault>> {
        let mut read = Self::default();
        let Some(object) = params.and_then(|params| params.as_object()) else {
            return Ok(Ok(read));
        };
        for key in object.own_keys::<String>(Filter::new().string().enum_only()) {
            let key = key?;
            let value: Value<'_> = object.get(key.as_str())?;
            match read.member(state, key, &value)? {
                Ok(()) => {}
                Err(Fault::Unknown(_)) if !strict => {}
                Err(fault) => return Ok(Err(fault)),
            }
        }
        Ok(Ok(read))
    }

    fn member(
        &mut self,
        state: &VuState,
        key: String,
        value: &Value<'_>,
    ) -> JsResult<Result<(), Fault>> {
        match key.as_str() {
            "headers" => {
                if let Some(headers) = value.as_object() {
                    http::parse_headers(headers, &mut self.headers)?;
                }
            }
            "tags" => match tag_pairs(value) {
                Ok(tags) => self.tags = tags,
                Err(text) => return Ok(Err(Fault::Tags(text))),
            },
            "jar" => self.jar = http::cookie_jar(state, value),
            "compression" if value.is_undefined() || value.is_null() => {}
            "compression" => match error::to_text(value).as_str() {
                "" => {}
                "deflate" => self.deflate = true,
                other => return Ok(Err(Fault::Compression(other.to_owned()))),
            },
            _ => return Ok(Err(Fault::Unknown(key))),
        }
        Ok(Ok(()))
    }

    /// The request with these settings.
    pub(crate) fn request(self, url: net::Url) -> (net::ws::Request, Vec<(String, String)>) {
        let mut request = net::ws::Request::new(url);
        request.headers = self.headers;
        request.jar = self.jar;
        request.deflate = self.deflate;
        (request, self.tags)
    }
}

/// The text about a `compression` that there is not.
pub(crate) fn compression_text(algorithm: &str) -> String {
    format!("unsupported compression algorithm '{algorithm}', supported algorithm is 'deflate'")
}

/// The value of a header of an answer; empty without one.
pub(crate) fn header(response: &net::ws::Opened, name: &str) -> String {
    let response = response.response.as_ref();
    let value = response.and_then(|response| response.headers.get(name));
    value.map_or_else(String::new, |value| {
        String::from_utf8_lossy(value.as_bytes()).into_owned()
    })
}
