//! `http.batch`: several requests at a time, as many as the options `batch` and `batchPerHost` let.

use std::{borrow::Cow, rc::Rc};

use rquickjs::{Array, Ctx, Filter, IntoJs, Object, Result as JsResult, Value, function::Rest};

use super::{
    request::{self, Arguments, Call, Meta, Problem},
    response,
};
use crate::{engine, error, globals::go_type_name, host::Level, state::VuState};

/// Sends the requests and waits for all of them; the result has the shape of the argument.
pub(super) fn batch<'js>(
    ctx: &Ctx<'js>,
    state: &Rc<VuState>,
    arguments: &Rest<Value<'js>>,
) -> JsResult<Value<'js>> {
    if state.in_init() {
        return Err(error::throw(
            ctx,
            "Using batch in the init context is not supported",
        ));
    }
    state.guard(ctx)?;
    let list = match &arguments.0[..] {
        [] => {
            return Err(error::throw(
                ctx,
                "no argument was provided to http.batch()",
            ));
        }
        [list] => list,
        _ => {
            return Err(error::throw(
                ctx,
                "http.batch() accepts only an array or an object of requests",
            ));
        }
    };
    let Some(mut slots) = Slots::of(list)? else {
        let text = format!("invalid http.batch() argument type {}", go_type_name(list));
        return Err(error::throw(ctx, &text));
    };

    let (mut requests, mut metas) = (Vec::new(), Vec::<Meta>::new());
    while let Some((key, element)) = slots.next()? {
        match element_call(ctx, state, &key, &element)? {
            Ok(Call { request, meta }) => {
                requests.push(request);
                metas.push(meta);
            }
            Err(problem) => return cancel(ctx, state, &slots, requests.len(), problem),
        }
    }

    let all = state.client.send_all(requests, |index, exchange| {
        request::finish(state, &metas[index], exchange);
    });
    let exchanges = match state.wait(all) {
        Ok(exchanges) => exchanges,
        Err(engine::Stopped) => return Err(engine::throw_uncatchable(ctx)),
    };
    let mut both = metas.iter().zip(&exchanges);
    if let Some(text) = both.find_map(|(meta, exchange)| request::thrown(meta, exchange)) {
        return Err(error::throw(ctx, &text));
    }
    let result = slots.result(ctx)?;
    for (index, (meta, exchange)) in metas.iter().zip(exchanges).enumerate() {
        let response = request::respond(ctx, state, meta, exchange)?;
        slots.put(&result, index, response)?;
    }
    result.into_js(ctx)
}

/// One bad element and nothing is sent: the Responses before it are blank, its own has the error,
/// and none follow.
fn cancel<'js>(
    ctx: &Ctx<'js>,
    state: &Rc<VuState>,
    slots: &Slots<'js>,
    bad: usize,
    problem: Problem,
) -> JsResult<Value<'js>> {
    if state.settings.throw {
        return Err(error::throw(ctx, &problem.text));
    }
    let fields = [("error", problem.text.as_str())];
    state.log(Level::Warning, "A batch request failed", &fields);
    let result = slots.result(ctx)?;
    for index in 0..bad {
        let blank = response::parse_error(ctx, state, Problem::default())?;
        slots.put(&result, index, blank)?;
    }
    slots.put(&result, bad, response::parse_error(ctx, state, problem)?)?;
    result.into_js(ctx)
}

/// The elements of the argument, and where their Responses go.
struct Slots<'js> {
    source: Object<'js>,
    /// Of an object; an array has indexes.
    keys: Option<Vec<String>>,
    length: usize,
    next: usize,
}

impl<'js> Slots<'js> {
    /// `None` for what is neither an array nor a plain object.
    fn of(list: &Value<'js>) -> JsResult<Option<Self>> {
        let Some(source) = list.as_object().filter(|_| !list.is_function()) else {
            return Ok(None);
        };
        let (keys, length) = match source.as_array() {
            Some(array) => (None, array.len()),
            None if crate::json::class_of(list.ctx(), source) == "Object" => {
                let keys = source.own_keys::<String>(Filter::new().string().enum_only());
                let keys = keys.collect::<JsResult<Vec<_>>>()?;
                let length = keys.len();
                (Some(keys), length)
            }
            None => return Ok(None),
        };
        Ok(Some(Self {
            source: source.clone(),
            keys,
            length,
            next: 0,
        }))
    }

    fn key(&self, index: usize) -> String {
        match &self.keys {
            Some(keys) => keys[index].clone(),
            None => index.to_string(),
        }
    }

    fn next(&mut self) -> JsResult<Option<(String, Value<'js>)>> {
        if self.next == self.length {
            return Ok(None);
        }
        let key = self.key(self.next);
        self.next += 1;
        let value = self.source.get(key.as_str())?;
        Ok(Some((key, value)))
    }

    fn result(&self, ctx: &Ctx<'js>) -> JsResult<Object<'js>> {
        if self.keys.is_some() {
            return Object::new(ctx.clone());
        }
        let array = Array::new(ctx.clone())?.into_object();
        array.set("length", self.length)?;
        Ok(array)
    }

    fn put(&self, result: &Object<'js>, index: usize, response: Object<'js>) -> JsResult<()> {
        match &self.keys {
            Some(keys) => result.set(keys[index].as_str(), response),
            None => result.set(index as u32, response),
        }
    }
}

/// One element: a URL, `[method, url, body?, params?]`, or an object with these as members.
fn element_call<'js>(
    ctx: &Ctx<'js>,
    state: &Rc<VuState>,
    key: &str,
    element: &Value<'js>,
) -> JsResult<Result<Call, Problem>> {
    let nullish = |value: &Value<'js>| value.is_undefined() || value.is_null();
    if element.is_string() || super::url::is_template(state, element) {
        let arguments = Arguments {
            method: Cow::Borrowed("GET"),
            url: Some(element),
            body: None,
            params: None,
        };
        return request::prepare(ctx, state, &arguments);
    }
    let Some(object) = element.as_object().filter(|_| !element.is_function()) else {
        let text = format!("invalid batch request '{}'", error::to_text(element));
        return Ok(Err(Problem::new(text)));
    };
    let is_list = element.is_array();
    let member = |name: &str, index: u32| -> JsResult<Value<'js>> {
        if is_list {
            object.get(index)
        } else {
            object.get(name)
        }
    };
    let method = member("method", 0)?;
    let mut method = match method.as_string() {
        Some(text) => engine::rust_string(text),
        None if nullish(&method) && !is_list => String::new(),
        None => {
            let text = format!("invalid method type '{}'", error::to_text(&method));
            return Ok(Err(Problem::new(text)));
        }
    };
    if method.is_empty() {
        "GET".clone_into(&mut method);
    }
    let url = member("url", 1)?;
    if url.is_undefined() {
        let text = format!("batch request {key} doesn't have a url key");
        return Ok(Err(Problem::new(text)));
    }
    let (mut body, params) = (member("body", 2)?, member("params", 3)?);
    if !is_list {
        method.make_ascii_uppercase();
        if matches!(method.as_str(), "GET" | "HEAD") {
            body = Value::new_undefined(ctx.clone());
        }
    }
    let arguments = Arguments {
        method: Cow::Owned(method),
        url: Some(&url),
        body: Some(&body),
        params: Some(&params),
    };
    request::prepare(ctx, state, &arguments)
}
