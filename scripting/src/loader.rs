//! How import specifiers become modules: files, built-in names, archives.
//!
//! Each file is read once per process, by whoever needs it first; after the first init the set of
//! files is closed, so that an archive holds everything a run needs.

use std::{
    collections::BTreeMap,
    io,
    path::Path,
    rc::Rc,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use rquickjs::{
    Ctx, Error, Module, Result as JsResult, Value,
    loader::{ImportAttributes, Loader, Resolver},
    module::Declared,
};

use crate::{engine, error, modules, state::VuState};

/// Where scripts find their files: the disk, or an archive that holds them all.
pub struct Files {
    cache: Mutex<BTreeMap<String, Arc<[u8]>>>,
    /// What was looked for in vain, and whether it is a directory: VUs made later get the same
    /// answer as the first.
    missing: Mutex<BTreeMap<String, bool>>,
    disk: bool,
    closed: AtomicBool,
}

/// Why a file could not be had.
#[derive(Debug)]
pub enum FileError {
    /// There is nothing of that name.
    NotFound,
    /// It is a directory.
    Directory,
    /// It was not read during the first init, and now it is too late.
    Closed,
    /// Reading failed.
    Io(io::Error),
}

impl Files {
    /// Files of the local disk.
    pub fn disk() -> Self {
        Self {
            cache: Mutex::default(),
            missing: Mutex::default(),
            disk: true,
            closed: AtomicBool::new(false),
        }
    }

    /// The files of an archive, by URL; the disk is never looked at.
    pub fn archive(files: BTreeMap<String, Arc<[u8]>>) -> Self {
        Self {
            cache: Mutex::new(files),
            missing: Mutex::default(),
            disk: false,
            closed: AtomicBool::new(false),
        }
    }

    /// The content of a file by its URL (`file:///dir/name`).
    ///
    /// # Errors
    /// When it does not exist, is a directory, cannot be read, or is asked for too late.
    pub fn read(&self, url: &str) -> Result<Arc<[u8]>, FileError> {
        let key = if self.disk {
            url.to_owned()
        } else {
            anonymous(url)
        };
        if let Some(known) = self.lock().get(&key) {
            return Ok(known.clone());
        }
        if self.closed.load(Ordering::Acquire) {
            let missing = self.missing.lock().unwrap_or_else(|e| e.into_inner());
            return Err(match missing.get(&key) {
                Some(true) => FileError::Directory,
                Some(false) => FileError::NotFound,
                None => FileError::Closed,
            });
        }
        let found = self.look_up(url);
        if let Err(problem @ (FileError::NotFound | FileError::Directory)) = &found {
            let directory = matches!(problem, FileError::Directory);
            let mut missing = self.missing.lock().unwrap_or_else(|e| e.into_inner());
            missing.insert(key, directory);
        } else if let Ok(content) = &found {
            self.lock().insert(key, content.clone());
        }
        found
    }

    /// Reads from the disk.
    fn look_up(&self, url: &str) -> Result<Arc<[u8]>, FileError> {
        if !self.disk {
            return Err(FileError::NotFound);
        }
        let path = Path::new(url.strip_prefix("file://").unwrap_or(url));
        // Looked at first: reading a directory fails in words of the platform.
        match std::fs::metadata(path) {
            Ok(data) if data.is_dir() => return Err(FileError::Directory),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(FileError::NotFound);
            }
            Err(error) => return Err(FileError::Io(error)),
        }
        std::fs::read(path).map(Into::into).map_err(FileError::Io)
    }

    /// Puts a file there without reading it: the main script.
    pub fn insert(&self, url: &str, content: Arc<[u8]>) {
        let key = if self.disk {
            url.to_owned()
        } else {
            anonymous(url)
        };
        self.lock().insert(key, content);
    }

    /// Everything read so far, by URL: what an archive must hold.
    pub fn all(&self) -> BTreeMap<String, Arc<[u8]>> {
        self.lock().clone()
    }

    /// From here on only files that were read before are found.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Arc<[u8]>>> {
        self.cache.lock().unwrap_or_else(|e| e.into_inner())
    }
}

/// Archives replace the user's part of home folders by `nobody`; look-ups follow.
fn anonymous(url: &str) -> String {
    let Some(path) = url.strip_prefix("file://") else {
        return url.to_owned();
    };
    for home in ["/home/", "/Users/", "/Documents and Settings/"] {
        if let Some((_, rest)) = path.strip_prefix(home).and_then(|p| p.split_once('/')) {
            return format!("file://{home}nobody/{rest}");
        }
    }
    url.to_owned()
}

/// What a failed local look-up says, as k6 says it.
pub fn not_found_text(specifier: &str) -> String {
    format!(
        "The moduleSpecifier \"{specifier}\" couldn't be found on local disk. Make sure that you've \
         specified the right path to the file. If you're running k6 using the Docker image make \
         sure you have mounted the local directory (-v /local/path/:/inside/docker/path) containing \
         your script and modules so that they're accessible by k6 from inside of the container, see \
         https://grafana.com/docs/k6/latest/using-k6/modules/#use-modules-with-docker."
    )
}

/// Resolves `specifier` against the URL of a folder (`file:///dir`), collapsing dots.
pub fn join(folder: &str, specifier: &str) -> String {
    if specifier.starts_with("file://") {
        return normalise(specifier);
    }
    if specifier.starts_with('/') {
        return normalise(&format!("file://{specifier}"));
    }
    normalise(&format!("{folder}/{specifier}"))
}

/// The folder of a URL: everything before its last slash.
pub fn folder_of(url: &str) -> &str {
    match url.rfind('/') {
        Some(at) if at > "file://".len() => &url[..at],
        _ => "file:///",
    }
}

fn normalise(url: &str) -> String {
    let (scheme, path) = match url.split_once("://") {
        Some((scheme, path)) => (scheme, path),
        None => ("file", url),
    };
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            other => parts.push(other),
        }
    }
    format!("{scheme}:///{}", parts.join("/"))
}

/// What the loader found wrong while the module graph was loaded.
#[derive(Default)]
pub(crate) struct LoadProblems {
    /// The text of the first module that could not be loaded.
    pub(crate) failure: Option<String>,
    /// Built-in names that nobody knows.
    pub(crate) unknown: Vec<String>,
}

/// The resolver and loader of one VU.
pub(crate) struct VuLoader {
    pub(crate) state: Rc<VuState>,
    pub(crate) problems: Rc<std::cell::RefCell<LoadProblems>>,
}

impl VuLoader {
    fn fail(&self, ctx: &Ctx<'_>, text: String) -> Error {
        let error = error::throw(ctx, &text);
        self.problems.borrow_mut().failure.get_or_insert(text);
        error
    }
}

/// The URL a specifier means in a module, or why it means none.
pub(crate) fn resolve(base: &str, name: &str) -> Result<String, String> {
    if name.starts_with("file:///") || name.starts_with('/') || name.starts_with('.') {
        // Scripts from standard input import relative to the root.
        let folder = if base == "file:///-" {
            "file:///"
        } else {
            folder_of(base)
        };
        return Ok(join(folder, name));
    }
    if name.starts_with("https://") {
        return Err(format!(
            "remote modules are not supported yet: \"{name}\". Download it and import it from the disk"
        ));
    }
    if let Some((scheme, _)) = name.split_once("://") {
        return Err(format!(
            "only supported schemes for imports are file and https, {name} has `{scheme}`"
        ));
    }
    Err(format!(
        "The moduleSpecifier \"{name}\" couldn't be recognised as something k6 supports."
    ))
}

fn is_builtin(name: &str) -> bool {
    name == "k6" || name.starts_with("k6/")
}

impl Resolver for VuLoader {
    fn resolve<'js>(
        &mut self,
        ctx: &Ctx<'js>,
        base: &str,
        name: &str,
        attributes: Option<ImportAttributes<'js>>,
    ) -> JsResult<String> {
        if attributes.is_some() {
            let text = format!("import attributes are not supported, as in k6: \"{name}\"");
            return Err(self.fail(ctx, text));
        }
        if is_builtin(name) || name == self.state.script.url() {
            return Ok(name.to_owned());
        }
        if engine::has_nul(name) {
            return Err(self.fail(ctx, format!("invalid moduleSpecifier {name:?}")));
        }
        resolve(base, name).map_err(|text| self.fail(ctx, text)).and_then(|url| {
            // The specifier as written belongs into the message, and here it is known.
            match self.state.script.files().read(&url) {
                Ok(_) => Ok(url),
                Err(problem) => {
                    let text = match problem {
                        FileError::NotFound => not_found_text(name),
                        FileError::Directory => {
                            format!("read {}: is a directory", url.trim_start_matches("file://"))
                        }
                        FileError::Closed => format!(
                            "the module \"{name}\" was not previously resolved during initialization (__VU==0)"
                        ),
                        FileError::Io(error) => format!("{name}: {error}"),
                    };
                    Err(self.fail(ctx, text))
                }
            }
        })
    }
}

impl Loader for VuLoader {
    fn load<'js>(
        &mut self,
        ctx: &Ctx<'js>,
        name: &str,
        _attributes: Option<ImportAttributes<'js>>,
    ) -> JsResult<Module<'js, Declared>> {
        if is_builtin(name) {
            return match modules::find(name) {
                modules::Found::Module(module) => (module.declare)(ctx, name),
                modules::Found::Refused(text) => Err(self.fail(ctx, text)),
                modules::Found::Unknown => {
                    // Loading goes on, so that all unknown names are reported together.
                    self.problems.borrow_mut().unknown.push(name.to_owned());
                    Module::declare(ctx.clone(), name, "throw 0")
                }
            };
        }
        let script = self.state.script.clone();
        if let Some(code) = script.compiled(name) {
            return engine::load(ctx, &code);
        }
        let source = script
            .files()
            .read(name)
            .map_err(|_| Error::new_loading(name))?;
        let text = source.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&source);
        match engine::compile(ctx, name, text) {
            Ok((module, code)) => {
                script.keep_compiled(name, code);
                Ok(module)
            }
            Err(error) => {
                // Already known when an import of this module failed to resolve.
                if self.problems.borrow().failure.is_some() {
                    return Err(error);
                }
                let text = syntax_text(name, &error::thrown(ctx, error));
                Err(self.fail(ctx, text))
            }
        }
    }
}

/// `<url>: Line L:C <message>` for a module that does not parse.
fn syntax_text(url: &str, thrown: &Value<'_>) -> String {
    let message = error::to_text(thrown);
    let message = message.strip_prefix("SyntaxError: ").unwrap_or(&message);
    let place = error::describe(thrown)
        .lines()
        .skip(1)
        .find_map(|line| {
            let (_, at) = line.split_once(url)?;
            let mut numbers = at.trim_start_matches(':').split([':', '(']);
            let line: u32 = numbers.next()?.parse().ok()?;
            let column: u32 = numbers.next()?.parse().ok()?;
            Some(format!("Line {line}:{column} "))
        })
        .unwrap_or_default();
    format!("{url}: {place}{message}")
}

#[cfg(test)]
mod tests {
    use super::{anonymous, folder_of, join, resolve};

    #[test]
    fn specifiers_resolve_against_the_importing_file() {
        assert_eq!(
            resolve("file:///a/b.js", "./c.js").unwrap(),
            "file:///a/c.js"
        );
        assert_eq!(
            resolve("file:///a/b/c.js", "../d.js").unwrap(),
            "file:///a/d.js"
        );
        assert_eq!(resolve("file:///b.js", "./c.js").unwrap(), "file:///c.js");
        assert_eq!(
            resolve("file:///a/b.js", "/x/y.js").unwrap(),
            "file:///x/y.js"
        );
        assert_eq!(resolve("file:///-", "./c.js").unwrap(), "file:///c.js");
        assert!(
            resolve("file:///a.js", "lodash")
                .unwrap_err()
                .contains("lodash")
        );
        assert!(
            resolve("file:///a.js", "ftp://x/y")
                .unwrap_err()
                .contains("`ftp`")
        );
    }

    #[test]
    fn folders_and_homes() {
        assert_eq!(folder_of("file:///a.js"), "file:///");
        assert_eq!(folder_of("file:///a/b.js"), "file:///a");
        assert_eq!(join("file:///a", "b/./c/../d"), "file:///a/b/d");
        assert_eq!(
            anonymous("file:///home/me/a.js"),
            "file:///home/nobody/a.js"
        );
        assert_eq!(anonymous("file:///scripts/a.js"), "file:///scripts/a.js");
    }
}
