//! `k6/experimental/fs`: files whose content is in memory once, whatever the number of VUs.

use std::{cell::Cell, rc::Rc, sync::Arc};

use rquickjs::{
    Ctx, Function, IntoJs, Object, Result as JsResult, TypedArray, Value,
    function::Opt,
    module::{Declarations, Exports, ModuleDef},
};

use crate::{
    engine, error,
    host_object::{self, HostObject, Method},
    loader::{self, FileError},
    modules::export_all,
    promise::{Rejection, settled},
    state::VuState,
    vu::state_of,
};

/// Where an offset counts from.
const SEEK_MODES: [(&str, i32); 3] = [("Start", 0), ("Current", 1), ("End", 2)];

/// The module `k6/experimental/fs`.
pub(crate) struct Fs;

impl ModuleDef for Fs {
    fn declare(decl: &Declarations<'_>) -> JsResult<()> {
        for name in ["open", "SeekMode", "default"] {
            decl.declare(name)?;
        }
        Ok(())
    }

    fn evaluate<'js>(ctx: &Ctx<'js>, exports: &Exports<'js>) -> JsResult<()> {
        let module = Object::new(ctx.clone())?;
        let state = state_of(ctx);
        let open = Function::new(ctx.clone(), move |ctx: Ctx<'js>, path: Opt<Value<'js>>| {
            state.guard(&ctx)?;
            match open(&state, path.0.as_ref()) {
                Ok(file) => settled(&ctx, Ok(host_object::wrap(&ctx, Rc::new(file))?)),
                Err(rejection) => settled(&ctx, Err(rejection)),
            }
        })?;
        module.set("open", open.with_name("open")?)?;
        let modes = Object::new(ctx.clone())?;
        for (name, mode) in SEEK_MODES {
            modes.set(name, mode)?;
        }
        module.set("SeekMode", modes)?;
        export_all(exports, &module, &["open", "SeekMode"])
    }
}

/// An opened file. The position is its own, the content is the process's.
pub(crate) struct File {
    path: String,
    content: Arc<[u8]>,
    position: Cell<usize>,
}

impl File {
    /// Where it lies.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// All of it.
    pub(super) fn content(&self) -> &Arc<[u8]> {
        &self.content
    }

    fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or_default()
    }

    fn read(&self, into: Option<&Value<'_>>) -> Result<Option<usize>, Rejection> {
        let Some(into) = into.filter(|v| !v.is_undefined() && !v.is_null()) else {
            return Err(Rejection::type_error(
                "read() failed; reason: into argument cannot be null or undefined",
            ));
        };
        let Ok(array) = TypedArray::<u8>::from_value(into.clone()) else {
            return Err(Rejection::type_error(
                "read() failed; reason: into argument must be a Uint8Array",
            ));
        };
        let rest = &self.content[self.position.get()..];
        if rest.is_empty() {
            return Ok(None);
        }
        let read = engine::fill_array(&array, rest);
        self.position.set(self.position.get() + read);
        Ok(Some(read))
    }

    fn seek(
        &self,
        offset: Option<&Value<'_>>,
        whence: Option<&Value<'_>>,
    ) -> Result<usize, Rejection> {
        let failed =
            |reason: &str| Rejection::type_error(format!("seek() failed; reason: {reason}"));
        let given =
            |value: Option<&Value<'_>>| value.is_some_and(|v| !v.is_undefined() && !v.is_null());
        if !given(offset) {
            return Err(failed("the offset argument cannot be null or undefined"));
        }
        let Some(offset) = offset.and_then(|o| o.as_number()).filter(|o| !o.is_nan()) else {
            return Err(failed("the offset argument must be a number"));
        };
        if !given(whence) {
            return Err(failed("the whence argument cannot be null or undefined"));
        }
        let whence = whence.and_then(|w| w.as_number());
        let mode = SEEK_MODES
            .iter()
            .find(|(_, mode)| whence == Some(f64::from(*mode)));
        // Saturates; no file is as long as that.
        let offset = offset as i64;
        let base = match mode {
            Some(("Start", _)) if offset < 0 => {
                return Err(Rejection::type_error(
                    "offset cannot be negative when using SeekModeStart",
                ));
            }
            Some(("Start", _)) => 0,
            Some(("Current", _)) => self.position.get(),
            Some(_) if offset > 0 => {
                return Err(Rejection::type_error(
                    "offset cannot be positive when using SeekModeEnd",
                ));
            }
            // The last byte, not the end: as the reference counts.
            Some(_) => self.content.len().saturating_sub(1),
            None => return Err(failed("the whence argument must be a SeekMode")),
        };
        let Some(position) = (base as i64).checked_add(offset).filter(|p| *p >= 0) else {
            return Err(Rejection::type_error(if offset < 0 {
                "seeking before start of file"
            } else {
                "seeking beyond end of file"
            }));
        };
        match usize::try_from(position) {
            Ok(position) if position <= self.content.len() => {
                self.position.set(position);
                Ok(position)
            }
            _ => Err(Rejection::type_error("seeking beyond end of file")),
        }
    }
}

const METHODS: [(&str, Method<File>); 3] = [
    ("read", |ctx, this, args| {
        let read = this.read(args.first());
        let read = match read {
            Ok(Some(count)) => Ok((count as f64).into_js(ctx)?),
            Ok(None) => Ok(Value::new_null(ctx.clone())),
            Err(rejection) => Err(rejection),
        };
        settled(ctx, read)
    }),
    ("seek", |ctx, this, args| {
        let position = match this.seek(args.first(), args.get(1)) {
            Ok(position) => Ok((position as f64).into_js(ctx)?),
            Err(rejection) => Err(rejection),
        };
        settled(ctx, position)
    }),
    ("stat", |ctx, this, _| {
        let info = Object::new(ctx.clone())?;
        info.set("name", this.name())?;
        info.set("size", this.content.len() as f64)?;
        settled(ctx, Ok(info.into_value()))
    }),
];

impl HostObject for File {
    const NAME: &'static str = "File";

    fn member<'js>(self: &Rc<Self>, ctx: &Ctx<'js>, name: &str) -> JsResult<Option<Value<'js>>> {
        if name == "path" {
            return self.path.as_str().into_js(ctx).map(Some);
        }
        match METHODS.iter().find(|(known, _)| *known == name) {
            Some((name, method)) => host_object::bound(ctx, self, name, *method).map(Some),
            None => Ok(None),
        }
    }

    fn names(&self) -> Vec<&'static str> {
        std::iter::once("path")
            .chain(METHODS.iter().map(|(name, _)| *name))
            .collect()
    }
}

fn open(state: &VuState, path: Option<&Value<'_>>) -> Result<File, Rejection> {
    let failed = |reason: &str| format!("open() failed; reason: {reason}");
    if !state.in_init() {
        return Err(Rejection::new(
            "ForbiddenError",
            failed("opening a file is allowed only in the Init context"),
        ));
    }
    let Some(path) = path.filter(|p| !p.is_undefined() && !p.is_null()) else {
        return Err(Rejection::type_error(failed(
            "path cannot be null or undefined",
        )));
    };
    let path = error::to_text(path);
    if path.is_empty() {
        return Err(Rejection::type_error(failed("path cannot be empty")));
    }
    // Always from the main script, unlike the global `open()`.
    let url = loader::join(&state.pwd, &path);
    let local = url.trim_start_matches("file://").to_owned();
    match state.script.files().read(&url) {
        Ok(content) => Ok(File {
            path: local,
            content,
            position: Cell::new(0),
        }),
        Err(FileError::NotFound) => Err(Rejection::new(
            "NotFoundError",
            format!("no such file or directory \"{local}\""),
        )),
        Err(FileError::Directory) => Err(Rejection::new(
            "InvalidResourceError",
            format!("cannot open \"{local}\": opening a directory is not supported"),
        )),
        Err(FileError::Closed) => Err(Rejection::new(
            "ForbiddenError",
            failed(&format!(
                "\"{local}\" was not opened during initialization (__VU==0)"
            )),
        )),
        Err(FileError::Io(io)) => Err(Rejection::new(
            "InvalidResourceError",
            format!("cannot open \"{local}\": {io}"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use crate::harness::run_with_files;

    #[test]
    fn files_are_read_in_pieces_by_each_vu_for_itself() {
        let lines = run_with_files(
            "import fs, { open, SeekMode } from 'k6/experimental/fs';
             const f = await open('file:///dir/a.txt'); const same = await fs.open('a.txt');
             const text = (b, n) => String.fromCharCode(...b.subarray(0, n));
             export default async function () {
               const b = new Uint8Array(new ArrayBuffer(8), 2, 4);
               console.log(f.path, JSON.stringify(await f.stat()), Object.keys(f).join(), JSON.stringify(SeekMode));
               let n; while ((n = await f.read(b)) !== null) console.log(n, text(b, n));
               console.log(await same.read(b), b.buffer.byteLength, new Uint8Array(b.buffer)[0], await f.seek(0, SeekMode.Start));
               console.log(await f.seek(-5, 2), await f.seek(0, 2), await f.read(b), text(b, 1), await f.read(b), await f.read(new Uint8Array(0)));
               for (const bad of [() => f.seek(NaN, 0), () => f.seek(1e300, 0), () => f.seek(-1e300, 1), () => f.seek(1e300, 1), () => f.seek(0, 1.5),
                 () => f.read(new Uint16Array(1)), () => f.read(new Uint8ClampedArray(1)), () => open('b.txt')]) {
                 try { console.log('no error', await bad()); } catch (e) { console.log(String(e), e instanceof Error); }
               }
             }",
            &[("file:///dir/a.txt", "abcdef")],
            1,
        );
        assert_eq!(
            lines,
            [
                "/dir/a.txt {\"name\":\"a.txt\",\"size\":6} path,read,seek,stat {\"Start\":0,\"Current\":1,\"End\":2}",
                "4 abcd",
                "2 ef",
                "4 8 0 0",
                "0 5 1 f null null",
                "TypeError: seek() failed; reason: the offset argument must be a number true",
                "TypeError: seeking beyond end of file true",
                "TypeError: seeking before start of file true",
                "TypeError: seeking beyond end of file true",
                "TypeError: seek() failed; reason: the whence argument must be a SeekMode true",
                "TypeError: read() failed; reason: into argument must be a Uint8Array true",
                "TypeError: read() failed; reason: into argument must be a Uint8Array true",
                "ForbiddenError: open() failed; reason: opening a file is allowed only in the Init context true",
            ]
        );
    }
}
