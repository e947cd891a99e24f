//! The objects that only Rust can make: responses, files, URL templates, jars, expected statuses,
//! and the module itself.
//!
//! Their classes are made when the first object of the kind is.

use std::{
    cell::{OnceCell, RefCell},
    ffi::CStr,
    rc::Rc,
};

use rquickjs::{Ctx, Object, Result as JsResult, Value};

use super::{expected::Verdict, file, jar, response, url};
use crate::{
    engine::{LazyClass, LazyFields},
    state::VuState,
};

/// A kind of object.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    Response,
    FileData,
    Template,
    CookieJar,
    Expected,
    Module,
}

impl Kind {
    fn definition(self) -> (&'static CStr, &'static [&'static str]) {
        match self {
            Self::Response => (c"Response", response::FIELDS),
            Self::FileData => (c"FileData", file::FIELDS),
            Self::Template => (c"URL", url::FIELDS),
            Self::CookieJar => (c"CookieJar", jar::FIELDS),
            Self::Expected => (c"ExpectedStatuses", &[]),
            Self::Module => (c"Object", super::MEMBERS),
        }
    }
}

/// What the module keeps for its VU.
#[derive(Default)]
pub(crate) struct Natives {
    classes: [OnceCell<LazyClass>; 6],
    /// What `setResponseCallback` was given last.
    pub(super) verdict: RefCell<Verdict>,
}

impl Natives {
    /// Those of the VU; the module has made them when it was evaluated.
    pub(super) fn of(state: &VuState) -> JsResult<Rc<Self>> {
        let natives = state.http.borrow().clone();
        natives.ok_or(rquickjs::Error::Unknown)
    }

    fn class(&self, ctx: &Ctx<'_>, kind: Kind) -> JsResult<&LazyClass> {
        let cell = &self.classes[kind as usize];
        if cell.get().is_none() {
            let (name, fields) = kind.definition();
            let class = match kind {
                Kind::Module => LazyClass::register_open(ctx, name, fields)?,
                _ => LazyClass::register(ctx, name, fields)?,
            };
            // Nobody else can have set it: registering runs no script.
            let _ = cell.set(class);
        }
        cell.get().ok_or(rquickjs::Error::Unknown)
    }
}

/// A new object of that kind.
pub(super) fn make<'js>(
    ctx: &Ctx<'js>,
    state: &VuState,
    kind: Kind,
    fields: Rc<dyn LazyFields>,
) -> JsResult<Object<'js>> {
    Natives::of(state)?.class(ctx, kind)?.make(ctx, fields)
}

/// What is behind the value, when it is an object of that kind.
pub(super) fn behind(state: &VuState, kind: Kind, value: &Value<'_>) -> Option<Rc<dyn LazyFields>> {
    if !value.is_object() {
        return None;
    }
    let natives = state.http.borrow().clone()?;
    natives.classes[kind as usize].get()?.behind(value)
}
