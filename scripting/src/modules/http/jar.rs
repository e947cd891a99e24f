//! `http.cookieJar()` and `http.CookieJar`.

use std::{any::Any, rc::Rc};

use rquickjs::{
    Array, Coerced, Ctx, Filter, Function, IntoJs, Object, Result as JsResult, Value, function::Opt,
};
use volley_net as net;

use super::native::{self, Kind};
use crate::{engine::LazyFields, error, modules::string_argument, state::VuState};

pub(super) const FIELDS: &[&str] = &["clear", "cookiesForURL", "delete", "set"];

struct Handle(Rc<net::CookieJar>);

/// A string argument, of which nothing is the empty string.
type Text<'js> = Opt<Value<'js>>;

impl LazyFields for Handle {
    fn get<'js>(&self, ctx: &Ctx<'js>, index: usize) -> JsResult<Value<'js>> {
        let (name, jar) = (FIELDS[index], self.0.clone());
        let function = match name {
            "clear" => Function::new(ctx.clone(), move |ctx: Ctx<'js>, url: Text<'js>| {
                jar.clear(&parse(&ctx, url)?);
                Ok::<_, rquickjs::Error>(())
            }),
            "cookiesForURL" => Function::new(ctx.clone(), move |ctx: Ctx<'js>, url: Text<'js>| {
                cookies_for(&ctx, &jar, &parse(&ctx, url)?)
            }),
            "delete" => Function::new(
                ctx.clone(),
                move |ctx: Ctx<'js>, url: Text<'js>, name: Text<'js>| {
                    let url = parse(&ctx, url)?;
                    let name = string_argument(name.0);
                    if name.is_empty() {
                        return Err(error::throw(&ctx, "cookie: is null"));
                    }
                    jar.delete(&url, &name);
                    Ok(())
                },
            ),
            _ => Function::new(
                ctx.clone(),
                move |ctx: Ctx<'js>,
                      url: Text<'js>,
                      name: Text<'js>,
                      value: Text<'js>,
                      options: Opt<Value<'js>>| {
                    let url = parse(&ctx, url)?;
                    let mut cookie = net::SetCookie {
                        name: string_argument(name.0),
                        value: string_argument(value.0),
                        ..net::SetCookie::default()
                    };
                    if let Some(options) = options.0.as_ref().and_then(Value::as_object) {
                        apply(&ctx, &mut cookie, options)?;
                    }
                    jar.set(&url, &cookie);
                    Ok::<_, rquickjs::Error>(true)
                },
            ),
        };
        function?.with_name(name)?.into_js(ctx)
    }

    fn assigned(&self, _index: usize, _value: &Value<'_>) {}

    fn as_any(&self) -> &dyn Any {
        self
    }
}

fn parse<'js>(ctx: &Ctx<'js>, url: Text<'js>) -> JsResult<net::Url> {
    let text = string_argument(url.0);
    net::Url::parse(&text).map_err(|e| error::throw(ctx, &e.to_string()))
}

/// `{name: [value, …]}`, in the order of sending.
fn cookies_for<'js>(ctx: &Ctx<'js>, jar: &net::CookieJar, url: &net::Url) -> JsResult<Object<'js>> {
    let object = Object::new(ctx.clone())?;
    for (name, value) in jar.cookies_for(url) {
        let list = match object.get::<_, Option<Array<'js>>>(name.as_str())? {
            Some(list) => list,
            None => {
                let list = Array::new(ctx.clone())?;
                object.set(name.as_str(), list.clone())?;
                list
            }
        };
        list.set(list.len(), value)?;
    }
    Ok(object)
}

/// The attributes of a cookie; their names in any case.
fn apply<'js>(ctx: &Ctx<'js>, cookie: &mut net::SetCookie, options: &Object<'js>) -> JsResult<()> {
    for key in options.own_keys::<String>(Filter::new().string().enum_only()) {
        let key = key?;
        let value: Value<'js> = options.get(key.as_str())?;
        let text = || string_argument(Some(value.clone()));
        match key.to_ascii_lowercase().as_str() {
            "domain" => cookie.domain = text(),
            "path" => cookie.path = text(),
            "secure" => cookie.secure = value.get::<Coerced<bool>>()?.0,
            "http_only" => cookie.http_only = value.get::<Coerced<bool>>()?.0,
            "max_age" => {
                let seconds = value.get::<Coerced<f64>>()?.0 as i64;
                cookie.max_age = if seconds < 0 { -1 } else { seconds };
            }
            "expires" => {
                let text = text();
                if text.is_empty() {
                    continue;
                }
                cookie.expires = net::parse_http_date(&text);
                if cookie.expires.is_none() {
                    let text = format!(
                        "unable to parse \"expires\" date string \"{text}\": parsing time \
                         \"{text}\" as \"Mon, 02 Jan 2006 15:04:05 MST\": cannot parse \"{text}\" \
                         as \"Mon\""
                    );
                    return Err(error::throw(ctx, &text));
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// The object that shows a jar.
pub(super) fn show<'js>(
    ctx: &Ctx<'js>,
    state: &VuState,
    jar: Rc<net::CookieJar>,
) -> JsResult<Object<'js>> {
    native::make(ctx, state, Kind::CookieJar, Rc::new(Handle(jar)))
}

/// `http.cookieJar()`: the jar of the VU in this iteration.
pub(super) fn of_vu<'js>(ctx: &Ctx<'js>, state: &VuState) -> JsResult<Object<'js>> {
    if state.in_init() {
        return Err(error::throw(
            ctx,
            "Making cookie jars in the init context is not supported",
        ));
    }
    show(ctx, state, state.client.jar())
}

/// The jar behind an object.
pub(crate) fn behind(state: &VuState, value: &Value<'_>) -> Option<Rc<net::CookieJar>> {
    let fields = native::behind(state, Kind::CookieJar, value)?;
    fields
        .as_any()
        .downcast_ref::<Handle>()
        .map(|handle| handle.0.clone())
}
