//! `__ENV`: the environment stays in Rust, once for the process, and what a VU has changed of it
//! beside the VU. In a cluster it has hundreds of variables, of which a script reads two.

use std::{cell::RefCell, collections::BTreeMap, rc::Rc, sync::Arc};

use rquickjs::{
    Ctx, Result as JsResult, Value,
    object::{Accessor, Property},
};

use crate::{
    error,
    live_map::{self, LiveMap},
    script::Script,
    state::VuState,
};

/// Defines `__ENV` anew: the process-wide values with `overlay` over them. The object is made when
/// a VU first looks at it.
pub(crate) fn install<'js>(
    ctx: &Ctx<'js>,
    state: &Rc<VuState>,
    overlay: &[(String, String)],
) -> JsResult<()> {
    let overlay: Rc<[(String, String)]> = overlay.into();
    let script = state.script.clone();
    let get = move |ctx: Ctx<'js>| -> JsResult<Value<'js>> {
        let changes = overlay.iter().cloned();
        let environment = Environment {
            script: script.clone(),
            changes: RefCell::new(changes.map(|(key, value)| (key, Some(value))).collect()),
        };
        let shown = live_map::proxy(&ctx, Rc::new(environment))?;
        settle(&ctx, shown.clone())?;
        Ok(shown)
    };
    let set = |ctx: Ctx<'js>, value: Value<'js>| settle(&ctx, value);
    ctx.globals()
        .prop("__ENV", Accessor::new(get, set).configurable().enumerable())
}

/// From the first look on it is an ordinary property.
fn settle<'js>(ctx: &Ctx<'js>, value: Value<'js>) -> JsResult<()> {
    ctx.globals().prop(
        "__ENV",
        Property::from(value).configurable().enumerable().writable(),
    )
}

/// The environment of one VU.
struct Environment {
    script: Arc<Script>,
    /// What differs from the process's: a value, or nothing where it was deleted.
    changes: RefCell<BTreeMap<String, Option<String>>>,
}

impl LiveMap for Environment {
    fn get(&self, key: &str) -> Option<String> {
        if let Some(changed) = self.changes.borrow().get(key) {
            return changed.clone();
        }
        let env = self.script.env();
        let found = env.binary_search_by(|(name, _)| name.as_str().cmp(key));
        found.ok().map(|at| env[at].1.clone())
    }

    fn keys(&self) -> Vec<String> {
        let changes = self.changes.borrow();
        let mut keys: BTreeMap<&str, bool> = BTreeMap::new();
        keys.extend(
            self.script
                .env()
                .iter()
                .map(|(key, _)| (key.as_str(), true)),
        );
        keys.extend(
            changes
                .iter()
                .map(|(key, value)| (key.as_str(), value.is_some())),
        );
        let present = keys.into_iter().filter(|(_, present)| *present);
        present.map(|(key, _)| key.to_owned()).collect()
    }

    /// What a script assigns becomes text, as in a real environment.
    fn set(&self, key: &str, value: &Value<'_>) -> Result<(), String> {
        let text = error::to_text(value);
        self.changes.borrow_mut().insert(key.to_owned(), Some(text));
        Ok(())
    }

    fn remove(&self, key: &str) {
        self.changes.borrow_mut().insert(key.to_owned(), None);
    }
}
