//! `open(path, mode)`: a file as text, or as bytes; only while modules are being evaluated.

use std::rc::Rc;

use rquickjs::{Coerced, Ctx, Function, IntoJs, Result as JsResult, Value, function::Opt};

use crate::{
    engine, error,
    loader::{self, FileError},
    state::VuState,
};

const LATE: &str = "the \"open\" function is only available in the init stage (i.e. the global \
    scope), see https://grafana.com/docs/k6/latest/using-k6/test-lifecycle/ for more information";

pub(crate) fn install<'js>(ctx: &Ctx<'js>, state: &Rc<VuState>) -> JsResult<()> {
    let state = state.clone();
    let open = Function::new(
        ctx.clone(),
        move |ctx: Ctx<'js>, path: Opt<Coerced<String>>, mode: Opt<Value<'js>>| {
            let path = path.0.map(|p| p.0).unwrap_or_default();
            let binary = mode.0.is_some_and(|m| error::to_text(&m) == "b");
            open_file(&ctx, &state, &path, binary)
        },
    )?
    .with_name("open")?;
    ctx.globals().set("open", open)
}

fn open_file<'js>(
    ctx: &Ctx<'js>,
    state: &VuState,
    path: &str,
    binary: bool,
) -> JsResult<Value<'js>> {
    if !state.in_init() {
        return Err(error::throw(ctx, LATE));
    }
    if path.is_empty() {
        return Err(error::throw(
            ctx,
            "open() can't be used with an empty filename",
        ));
    }
    let folder = caller_folder(ctx, state);
    let url = loader::join(&folder, path);
    let local = url.trim_start_matches("file://");
    match state.script.files().read(&url) {
        Ok(content) if binary => engine::array_buffer(ctx, &content[..])?.into_js(ctx),
        Ok(content) => engine::js_string(ctx, &content)?.into_js(ctx),
        Err(problem) => {
            let text = match problem {
                FileError::NotFound => format!("stat {local}: no such file or directory"),
                FileError::Directory => {
                    format!("open() can't be used with directories, path: \"{local}\"")
                }
                FileError::Closed => format!(
                    "open() can't be used with files that weren't previously opened during \
                     initialization (__VU==0), path: \"{path}\""
                ),
                FileError::Io(io) => format!("open {local}: {io}"),
            };
            Err(error::throw(ctx, &text))
        }
    }
}

/// Relative paths start at the module at the bottom of the call stack, the one being evaluated.
fn caller_folder(ctx: &Ctx<'_>, state: &VuState) -> String {
    let mut outermost = None;
    for level in 0..128 {
        let Some(name) = ctx.script_or_module_name(level) else {
            break;
        };
        match name.to_string() {
            Ok(name) if name.starts_with("file://") => outermost = Some(name),
            _ => {}
        }
    }
    match outermost {
        Some(url) if url != state.script.url() => loader::folder_of(&url).to_owned(),
        // The main script's folder may not be the folder of its URL: standard input has the cwd.
        _ => state.pwd.clone(),
    }
}
