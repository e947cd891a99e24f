//! `open(path, mode)`: a file as text, or as bytes; only while modules are being evaluated.

use std::rc::Rc;

use rquickjs::{Coerced, Ctx, Function, IntoJs, Result as JsResult, Value, function::Opt};

use super::{init_only, require};
use crate::{
    engine, error,
    host::Level,
    loader::{self, FileError},
    state::VuState,
};

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
        return Err(error::throw(ctx, &init_only("open")));
    }
    if path.is_empty() {
        return Err(error::throw(
            ctx,
            "open() can't be used with an empty filename",
        ));
    }
    let folder = base_folder(ctx, state, path);
    if folder.starts_with("https://") && !path.starts_with('/') && !path.contains("://") {
        let text = format!(
            "open() of a relative path is not supported in a module that was loaded over https, \
             path: \"{path}\""
        );
        return Err(error::throw(ctx, &text));
    }
    let url = loader::join(&folder, path);
    let local = url.trim_start_matches("file://");
    match state.script.files().read(&url) {
        Ok(content) if binary => engine::array_buffer(ctx, &content[..])?.into_js(ctx),
        Ok(content) => engine::js_string(ctx, &content)?.into_js(ctx),
        Err(problem) => {
            let text = match problem {
                FileError::NotFound if state.script.files().is_archive() => {
                    format!("open {local}: file does not exist")
                }
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

/// The URL of the folder that relative paths of `open()` and its like start from: that of the file
/// whose top level is running, although it may be another one
/// that the call is written in.
pub(crate) fn base_folder(ctx: &Ctx<'_>, state: &VuState, path: &str) -> String {
    let folder_of = |file: Option<String>| match file {
        Some(url) if url != state.script.url() => loader::folder_of(&url).to_owned(),
        // The main script's folder may not be the folder of its URL: standard input has the cwd.
        _ => state.script.pwd().to_owned(),
    };
    let folder = folder_of(require::evaluated(ctx, state));
    if state.first_init && !path.starts_with('/') && !path.contains("://") {
        let written_in = folder_of(require::written_in(ctx));
        if written_in != folder {
            let text = format!(
                "open() was used and is currently relative to '{}/', but in the future it will be \
                 aligned with how `require` and imports work and will be relative to '{}/'. This \
                 means that in the future open will open relative path relative to the module/file \
                 it is written in. You can future proof this by using `import.meta.resolve()` to get \
                 relative paths to the file it is written in the current k6 version.",
                folder.trim_end_matches('/'),
                written_in.trim_end_matches('/')
            );
            if state.script.first_time(&text) {
                state.log(Level::Warning, &text, &[]);
            }
        }
    }
    folder
}
