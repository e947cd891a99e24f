//! `http.url`: a URL whose tags show the template that it was made of.

use std::{any::Any, rc::Rc};

use rquickjs::{Array, Ctx, Exception, IntoJs, Object, Result as JsResult, Value, function::Rest};
use volley_net as net;

use super::{
    native::{self, Kind},
    request::Problem,
};
use crate::{engine, engine::LazyFields, error, state::VuState};

pub(super) const FIELDS: &[&str] = &["name", "url", "clean_url"];

/// A URL and its name.
#[derive(Debug)]
struct Template {
    name: Rc<str>,
    url: net::Url,
}

impl LazyFields for Template {
    fn get<'js>(&self, ctx: &Ctx<'js>, index: usize) -> JsResult<Value<'js>> {
        match FIELDS[index] {
            "name" => (&*self.name).into_js(ctx),
            "url" => self.url.as_str().into_js(ctx),
            _ => (&*self.url.masked()).into_js(ctx),
        }
    }

    fn assigned(&self, _index: usize, _value: &Value<'_>) {}

    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// `` http.url`http://host/items/${id}` ``.
pub(super) fn template<'js>(
    ctx: &Ctx<'js>,
    state: &VuState,
    pieces: Option<&Value<'js>>,
    holes: &Rest<Value<'js>>,
) -> JsResult<Object<'js>> {
    let Some(pieces) = pieces.and_then(Value::as_array) else {
        let text = "could not convert function call parameter 0: http.url is a tag of template \
                    literals: http.url`http://host/${id}`";
        return Err(Exception::throw_type(ctx, text));
    };
    let pieces = texts(pieces)?;
    let mut url = String::new();
    for (index, piece) in pieces.iter().enumerate() {
        url.push_str(piece);
        if let Some(hole) = holes.0.get(index).filter(|_| index + 1 < pieces.len()) {
            url.push_str(&error::to_text(hole));
        }
    }
    let url = net::Url::parse(&url).map_err(|e| error::throw(ctx, &e.to_string()))?;
    let name = pieces.join("${}").into();
    native::make(ctx, state, Kind::Template, Rc::new(Template { name, url }))
}

fn texts(pieces: &Array<'_>) -> JsResult<Vec<String>> {
    pieces
        .iter::<Value<'_>>()
        .map(|piece| piece.map(|piece| error::to_text(&piece)))
        .collect()
}

/// Whether the value is one of `http.url`.
pub(super) fn is_template(state: &VuState, value: &Value<'_>) -> bool {
    native::behind(state, Kind::Template, value).is_some()
}

/// The URL argument of a request, and its name when it has one.
pub(super) fn parse(
    state: &VuState,
    url: Option<&Value<'_>>,
) -> Result<(net::Url, Option<Rc<str>>), Problem> {
    if let Some(text) = url.and_then(|url| url.as_string()) {
        let text = engine::rust_string(text);
        return match net::Url::cached(&text) {
            Ok(url) => Ok((url, None)),
            Err(error) => Err(Problem::url(format!("invalid URL: {error}"))),
        };
    }
    let behind = url.and_then(|url| native::behind(state, Kind::Template, url));
    let template = behind.as_ref().and_then(|f| f.as_any().downcast_ref());
    match template {
        Some(Template { name, url }) => Ok((url.clone(), Some(name.clone()))),
        None => {
            let shown = url.map_or_else(|| "undefined".to_owned(), error::to_text);
            Err(Problem::url(format!("invalid URL: '#{shown}'")))
        }
    }
}
