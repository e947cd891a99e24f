//! `response.clickLink()` and `response.submitForm()`: the request that a browser would make next.

use std::{borrow::Cow, rc::Rc};

use rquickjs::{Array, Atom, Ctx, Filter, IntoJs, Object, Result as JsResult, Value};
use volley_net::Url;

use super::{
    body,
    request::{self, Arguments},
};
use crate::{
    error,
    modules::html::{FormValue, Page},
    state::VuState,
};

/// Follows the first link that the selector finds; the arguments are members of `options`.
pub(super) fn click_link<'js>(
    ctx: &Ctx<'js>,
    state: &Rc<VuState>,
    page: &Rc<Page>,
    from: &str,
    options: Option<&Object<'js>>,
) -> JsResult<Object<'js>> {
    let selector = text_option(options, "selector")?.unwrap_or_else(|| "a[href]".to_owned());
    let href = match page.link(&selector) {
        Ok(Some(href)) => href,
        Ok(None) => {
            let text = format!(
                "no valid href attribute value found on element '{selector}' in response '{from}'"
            );
            return Err(error::throw(ctx, &text));
        }
        Err(_) => {
            let text = format!("no element found for selector '{selector}' in response '{from}'");
            return Err(error::throw(ctx, &text));
        }
    };
    let url = resolved(ctx, from, &href)?;
    send(ctx, state, "GET", url.as_str(), None, options)
}

/// Submits the form that the selector finds.
pub(super) fn submit_form<'js>(
    ctx: &Ctx<'js>,
    state: &Rc<VuState>,
    page: &Rc<Page>,
    from: &str,
    options: Option<&Object<'js>>,
) -> JsResult<Object<'js>> {
    let form_selector = text_option(options, "formSelector")?.unwrap_or_else(|| "form".to_owned());
    let submit_selector =
        text_option(options, "submitSelector")?.unwrap_or_else(|| "[type=\"submit\"]".to_owned());
    let Ok(form) = page.form(&form_selector, &submit_selector) else {
        let text = format!("no form found for selector '{form_selector}' in response '{from}'");
        return Err(error::throw(ctx, &text));
    };
    let values = Object::new(ctx.clone())?;
    for (name, value) in form.fields {
        match value {
            FormValue::Text(text) => values.set(name, text)?,
            FormValue::Many(all) => {
                let list = Array::new(ctx.clone())?;
                for (index, text) in all.into_iter().enumerate() {
                    list.set(index, text)?;
                }
                values.set(name, list)?;
            }
        }
    }
    if let Some(fields) = member(options, "fields")?
        .as_ref()
        .and_then(Value::as_object)
    {
        for name in fields.own_keys::<Atom<'js>>(Filter::new().string().enum_only()) {
            let name = name?;
            let value: Value<'js> = fields.get(name.clone())?;
            values.set(name, value)?;
        }
    }
    let action = match &form.action {
        Some(action) => resolved(ctx, from, action)?,
        None => resolved(ctx, from, "")?,
    };
    if form.method == "GET" {
        let query = body::encode_form(state, &values)?;
        let (base, fragment) = match action.as_str().split_once('#') {
            Some((base, fragment)) => (base, Some(fragment)),
            None => (action.as_str(), None),
        };
        let base = base.split('?').next().unwrap_or_default();
        let mut url = format!("{base}?{query}");
        if let Some(fragment) = fragment {
            url.push('#');
            url.push_str(fragment);
        }
        return send(ctx, state, "GET", &url, None, options);
    }
    let values = values.into_value();
    send(
        ctx,
        state,
        &form.method,
        action.as_str(),
        Some(&values),
        options,
    )
}

fn send<'js>(
    ctx: &Ctx<'js>,
    state: &Rc<VuState>,
    method: &str,
    url: &str,
    body: Option<&Value<'js>>,
    options: Option<&Object<'js>>,
) -> JsResult<Object<'js>> {
    let (url, params) = (url.into_js(ctx)?, member(options, "params")?);
    let method = match method {
        "GET" => Cow::Borrowed("GET"),
        "POST" => Cow::Borrowed("POST"),
        other => Cow::Owned(other.to_owned()),
    };
    let arguments = Arguments {
        method,
        url: Some(&url),
        body,
        params: params.as_ref(),
    };
    request::send(ctx, state, &arguments)
}

/// A reference in a page, by the URL of its response; a `<base>` is not looked at, as in k6.
fn resolved(ctx: &Ctx<'_>, from: &str, reference: &str) -> JsResult<Url> {
    let joined = Url::parse(from).and_then(|from| from.join(reference));
    joined
        .map_err(|problem| error::throw(ctx, &format!("parse {reference:?}: {}", problem.reason())))
}

/// A member of the options that is neither absent nor `null`.
fn member<'js>(options: Option<&Object<'js>>, name: &str) -> JsResult<Option<Value<'js>>> {
    let Some(options) = options else {
        return Ok(None);
    };
    let value: Value<'js> = options.get(name)?;
    Ok(Some(value).filter(|value| !value.is_undefined() && !value.is_null()))
}

fn text_option(options: Option<&Object<'_>>, name: &str) -> JsResult<Option<String>> {
    Ok(member(options, name)?.as_ref().map(error::to_text))
}
