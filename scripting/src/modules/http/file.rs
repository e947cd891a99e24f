//! `http.file`: data for a part of a form.

use std::{
    any::Any,
    cell::RefCell,
    rc::Rc,
    time::{SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use rquickjs::{ArrayBuffer, Ctx, IntoJs, Object, Result as JsResult, Value};

use super::native::{self, Kind};
use crate::{
    engine::{self, LazyFields},
    error,
    globals::go_type_name,
    modules::string_argument,
    state::VuState,
};

pub(super) const FIELDS: &[&str] = &["data", "filename", "content_type"];

/// What a part of a form holds.
#[derive(Debug, Clone)]
pub(super) struct File {
    pub(super) data: Bytes,
    /// Whether the script gave text, and sees text.
    text: bool,
    pub(super) name: String,
    pub(super) content_type: String,
}

struct Handle(RefCell<File>);

impl LazyFields for Handle {
    fn get<'js>(&self, ctx: &Ctx<'js>, index: usize) -> JsResult<Value<'js>> {
        // Cloned out: making JS values runs the engine, and no borrow may live then.
        let file = self.0.borrow().clone();
        match FIELDS[index] {
            "data" if file.text => engine::js_string(ctx, &file.data)?.into_js(ctx),
            "data" => engine::array_buffer(ctx, &file.data[..])?.into_js(ctx),
            "filename" => file.name.into_js(ctx),
            _ => file.content_type.into_js(ctx),
        }
    }

    fn assigned(&self, index: usize, value: &Value<'_>) {
        match FIELDS[index] {
            "data" => {
                if let Some((data, text)) = contents(value) {
                    let mut file = self.0.borrow_mut();
                    (file.data, file.text) = (data, text);
                }
            }
            field => {
                let text = error::to_text(value);
                let mut file = self.0.borrow_mut();
                if field == "filename" {
                    file.name = text;
                } else {
                    file.content_type = text;
                }
            }
        }
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

fn contents(value: &Value<'_>) -> Option<(Bytes, bool)> {
    if let Some(text) = value.as_string() {
        return Some((engine::rust_string(text).into(), true));
    }
    let buffer = ArrayBuffer::from_object(value.as_object()?.clone())?;
    Some((engine::buffer_bytes(&buffer).into(), false))
}

/// `http.file(data, filename?, contentType?)`.
pub(super) fn file<'js>(
    ctx: &Ctx<'js>,
    state: &VuState,
    data: Option<Value<'js>>,
    name: Option<Value<'js>>,
    content_type: Option<Value<'js>>,
) -> JsResult<Object<'js>> {
    let data = data.unwrap_or_else(|| Value::new_undefined(ctx.clone()));
    let Some((data, text)) = contents(&data) else {
        let text = format!(
            "invalid type {}, expected string or ArrayBuffer",
            go_type_name(&data)
        );
        return Err(error::throw(ctx, &text));
    };
    let or = |text: String, default: &dyn Fn() -> String| {
        if text.is_empty() { default() } else { text }
    };
    let now = || {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        since.unwrap_or_default().as_nanos().to_string()
    };
    let file = File {
        data,
        text,
        name: or(string_argument(name), &now),
        content_type: or(string_argument(content_type), &|| {
            "application/octet-stream".to_owned()
        }),
    };
    native::make(
        ctx,
        state,
        Kind::FileData,
        Rc::new(Handle(RefCell::new(file))),
    )
}

/// The file behind a value of `http.file`.
pub(super) fn behind(state: &VuState, value: &Value<'_>) -> Option<File> {
    let fields = native::behind(state, Kind::FileData, value)?;
    let handle = fields.as_any().downcast_ref::<Handle>()?;
    Some(handle.0.borrow().clone())
}
