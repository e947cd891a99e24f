//! Where scripts find their files: what specifiers and paths mean, and what is behind them.
//!
//! Each file is read once per process, by whoever needs it first; after the first init the set of
//! files is closed, so that an archive holds everything a run needs.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use crate::file_wait::FileWait;

/// Where scripts find their files: the disk, or an archive that holds them all.
pub struct Files {
    cache: Mutex<BTreeMap<String, Arc<[u8]>>>,
    /// What was looked for in vain, and whether it is a directory: VUs made later get the same
    /// answer as the first.
    missing: Mutex<BTreeMap<String, bool>>,
    /// The path of the last file that was looked for in vain.
    last_missing: Mutex<Option<PathBuf>>,
    /// How the disk is looked at; `None` for an archive.
    disk: Option<Arc<FileWait>>,
    /// Whether nothing is fetched from the web.
    offline: bool,
    closed: AtomicBool,
    /// Called before the disk is looked at.
    #[cfg(test)]
    pub(crate) hook: Option<Box<dyn Fn() + Send + Sync>>,
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
    /// Files of the local disk, where those that are missing are waited for.
    pub fn disk(wait: Arc<FileWait>) -> Self {
        Self {
            cache: Mutex::default(),
            missing: Mutex::default(),
            last_missing: Mutex::default(),
            disk: Some(wait),
            offline: false,
            closed: AtomicBool::new(false),
            #[cfg(test)]
            hook: None,
        }
    }

    /// The same, and whether nothing is fetched from the web.
    #[must_use]
    pub fn offline(mut self, offline: bool) -> Self {
        self.offline = offline;
        self
    }

    /// Whether nothing is fetched from the web.
    pub(crate) fn is_offline(&self) -> bool {
        self.offline
    }

    /// The files of an archive, by URL; the disk is never looked at.
    pub fn archive(files: BTreeMap<String, Arc<[u8]>>) -> Self {
        Self {
            cache: Mutex::new(files),
            missing: Mutex::default(),
            last_missing: Mutex::default(),
            disk: None,
            offline: false,
            closed: AtomicBool::new(false),
            #[cfg(test)]
            hook: None,
        }
    }

    /// The content of a file by its URL (`file:///dir/name`). Blocks the thread while the disk
    /// does, and while a file is missing that may still appear.
    ///
    /// # Errors
    /// When it does not exist, is a directory, cannot be read, or is asked for too late.
    pub fn read(&self, url: &str) -> Result<Arc<[u8]>, FileError> {
        self.read_waiting(url, self.disk.as_deref())
    }

    /// The same for a file that nobody misses: it is there, or it is not.
    ///
    /// # Errors
    /// Those of [`Files::read`].
    pub(crate) fn read_now(&self, url: &str) -> Result<Arc<[u8]>, FileError> {
        let wait = self.disk.as_ref().map(|_| FileWait::none());
        self.read_waiting(url, wait.as_ref())
    }

    fn read_waiting(&self, url: &str, wait: Option<&FileWait>) -> Result<Arc<[u8]>, FileError> {
        let key = self.key(url);
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
        let found = self.look_up(url, wait);
        if let Err(problem @ (FileError::NotFound | FileError::Directory)) = &found {
            let directory = matches!(problem, FileError::Directory);
            let mut missing = self.missing.lock().unwrap_or_else(|e| e.into_inner());
            missing.insert(key, directory);
        } else if let Ok(content) = &found {
            self.lock().insert(key, content.clone());
        }
        found
    }

    /// Under which name the content of a URL is kept.
    fn key(&self, url: &str) -> String {
        if self.is_archive() {
            anonymous(url)
        } else {
            url.to_owned()
        }
    }

    /// The path of the last file that was looked for on the disk in vain.
    pub fn last_missing(&self) -> Option<PathBuf> {
        let missing = self.last_missing.lock().unwrap_or_else(|e| e.into_inner());
        missing.clone()
    }

    /// Whether they are those of an archive.
    pub(crate) fn is_archive(&self) -> bool {
        self.disk.is_none()
    }

    /// Whether a file has to be fetched: it is not there, and this is no archive.
    pub(crate) fn wants(&self, url: &str) -> bool {
        !self.is_archive() && !self.lock().contains_key(url)
    }

    /// Reads from the disk; an archive has none.
    fn look_up(&self, url: &str, wait: Option<&FileWait>) -> Result<Arc<[u8]>, FileError> {
        let Some(wait) = wait else {
            let inside = format!("{}/", anonymous(url).trim_end_matches('/'));
            let directory = self
                .lock()
                .range(inside.clone()..)
                .next()
                .is_some_and(|(name, _)| name.starts_with(&inside));
            return Err(if directory {
                FileError::Directory
            } else {
                FileError::NotFound
            });
        };
        #[cfg(test)]
        if let Some(hook) = &self.hook {
            hook();
        }
        let path = Path::new(url.strip_prefix("file://").unwrap_or(url));
        let content = wait.patiently(path, || {
            // Looked at first: reading a directory fails in words of the platform.
            if std::fs::metadata(path)?.is_dir() {
                return Ok(None);
            }
            std::fs::read(path).map(Some)
        });
        match content {
            Ok(Some(content)) => Ok(content.into()),
            Ok(None) => Err(FileError::Directory),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let mut last = self.last_missing.lock().unwrap_or_else(|e| e.into_inner());
                *last = Some(path.to_owned());
                Err(FileError::NotFound)
            }
            Err(error) => Err(FileError::Io(error)),
        }
    }

    /// Puts a file there without reading it: the main script.
    pub fn insert(&self, url: &str, content: Arc<[u8]>) {
        self.lock().insert(self.key(url), content);
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
        return normalise(&unescape(specifier));
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

/// The URL that a specifier means in a module, or why it means none.
pub(crate) fn resolve(base: &str, name: &str) -> Result<String, String> {
    let remote_base = base.strip_prefix("https://");
    if name.contains('\0') {
        return Err(format!("invalid moduleSpecifier {name:?}"));
    }
    if name.starts_with('/') || name.starts_with('.') {
        if let Some(base) = remote_base {
            return Ok(join_remote(base, name));
        }
        // Scripts from standard input import relative to the root.
        let folder = if base == "file:///-" {
            "file:///"
        } else {
            folder_of(base)
        };
        return Ok(join(folder, &unescape(name)));
    }
    if name.starts_with("file://") {
        if remote_base.is_some() {
            return Err(format!(
                "origin ({base}) not allowed to load local file: {name}"
            ));
        }
        return Ok(join("", name));
    }
    if let Some(rest) = name.strip_prefix("https://") {
        return Ok(join_remote(rest, ""));
    }
    if let Some((scheme, _)) = name.split_once("://") {
        return Err(format!(
            "only supported schemes for imports are file and https, {name} has `{scheme}`"
        ));
    }
    for (host, name_of, file) in [
        ("github.com", "github", "raw JavaScript"),
        ("cdnjs.com", "cdnjs", "JavaScript"),
    ] {
        if name.starts_with(host) {
            return Err(format!(
                "{host} 'special' urls are no longer supported - please use real ones. You can get \
                 yours by going to {name_of} and copy-pasting the full url to the actual {file} file"
            ));
        }
    }
    Err(format!(
        "The moduleSpecifier \"{name}\" couldn't be recognised as something k6 supports."
    ))
}

/// Resolves a path against a remote URL, both without the scheme: `host/dir/a.js` and `./b.js`. An
/// empty path means the URL itself.
fn join_remote(base: &str, name: &str) -> String {
    let whole = |text: &'_ str| text.split('#').next().unwrap_or_default().to_owned();
    let (base, name) = (whole(base), whole(name));
    let split = |text: &str| match text.split_once('?') {
        Some((path, query)) => (path.to_owned(), format!("?{query}")),
        None => (text.to_owned(), String::new()),
    };
    let (base_path, base_query) = split(&base);
    let (host, base_path) = base_path.split_once('/').unwrap_or((&base_path, ""));
    let (path, query) = if name.is_empty() {
        (base_path.to_owned(), base_query)
    } else {
        let (path, query) = split(&name);
        let folder = base_path.rsplit_once('/').map_or("", |(folder, _)| folder);
        match path.strip_prefix('/') {
            Some(absolute) => (absolute.to_owned(), query),
            None => (format!("{folder}/{path}"), query),
        }
    };
    let path = normalise(&format!("file:///{path}"));
    let path = path.strip_prefix("file://").unwrap_or_default();
    format!("https://{host}{path}{query}")
}

/// A plain URL as it is written where URLs are escaped: `file:///my%20tests/a.js`. Only those of
/// local files are kept plain.
pub fn escape(url: &str) -> String {
    let Some(path) = url.strip_prefix("file://") else {
        return url.to_owned();
    };
    let mut escaped = "file://".to_owned();
    for &byte in path.as_bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~$&+,/:;=@".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

/// The plain form of an escaped path. What is no escape stays as it is.
pub fn unescape(path: &str) -> String {
    let hex = |byte: u8| char::from(byte).to_digit(16);
    let mut plain = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if let (b'%', [high, low, after @ ..]) = (byte, after)
            && let (Some(high), Some(low)) = (hex(*high), hex(*low))
        {
            plain.push((high * 16 + low) as u8);
            rest = after;
        } else {
            plain.push(byte);
        }
    }
    String::from_utf8_lossy(&plain).into_owned()
}

#[cfg(test)]
mod tests {
    use super::{anonymous, escape, folder_of, join, resolve, unescape};

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
        assert!(
            resolve("file:///a.js", "github.com/a/b.js")
                .unwrap_err()
                .ends_with("full url to the actual raw JavaScript file")
        );
        // Queries are part of a local name, escapes are not.
        assert_eq!(
            resolve("file:///a/b.js", "./my%20lib.js?x").unwrap(),
            "file:///a/my lib.js?x"
        );
        assert_eq!(
            resolve("file:///a/b.js", "file:///x/my%20lib.js").unwrap(),
            "file:///x/my lib.js"
        );
    }

    #[test]
    fn remote_specifiers_stay_with_their_origin() {
        let resolve = |base, name| resolve(base, name).unwrap();
        assert_eq!(
            resolve("file:///a.js", "https://h:1/x/../y/a.js?v=1#f"),
            "https://h:1/y/a.js?v=1"
        );
        assert_eq!(
            resolve("https://h/y/a.js?v=1", "./b.js"),
            "https://h/y/b.js"
        );
        assert_eq!(resolve("https://h/y/a.js", "../b.js?q"), "https://h/b.js?q");
        assert_eq!(resolve("https://h/y/a.js", "/b.js"), "https://h/b.js");
        assert_eq!(resolve("https://h", "./b.js"), "https://h/b.js");
        assert_eq!(
            super::resolve("https://h/a.js", "file:///etc/passwd").unwrap_err(),
            "origin (https://h/a.js) not allowed to load local file: file:///etc/passwd"
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
        assert_eq!(escape("file:///my é.js"), "file:///my%20%C3%A9.js");
        assert_eq!(unescape("/my%20%C3%A9%zz%2"), "/my é%zz%2");
    }
}
