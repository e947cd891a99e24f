//! Archives: a test with everything it needs in one tar file, as k6 2.2 writes and reads them.
//!
//! ```text
//! metadata.json              options, URLs of the script and its folder, environment
//! data                       the main script
//! file                       one folder per scheme, `file` before `https`
//! file/scripts/lib/a.js      every file that was read while the script loaded
//! file/scripts/main.js       the main script under its own name: a hard link to `data`
//! ```
//!
//! Home folders are anonymous in an archive (`/home/me/a.js` is `/home/nobody/a.js`), and so are
//! the names that are looked up in one. Names of entries are plain, the URLs in `metadata.json`
//! are escaped (`file:///my%20tests/main.js`); outside this file URLs are plain everywhere.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, Read},
    sync::Arc,
};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use volley_scripting::{escape, unescape};

/// The version that archives name: the one whose format this is.
pub(crate) const K6_VERSION: &str = "2.2.0";
/// The only kind of test there is.
const JS: &str = "js";
/// Schemes whose files an archive holds, in their order.
const SCHEMES: [&str; 2] = ["file", "https"];
/// The name of the entry with everything that is not a file.
const METADATA: &str = "metadata.json";
/// The name of the entry with the main script.
const DATA: &str = "data";
/// More metadata than this is damage: parsed, it would take many times its size in memory.
const LONGEST_METADATA: u64 = 16 << 20;
/// Tar counts in blocks of this many bytes.
const BLOCK: usize = 512;

/// What was read from an archive.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Archive {
    /// Variables that were given when it was made; empty when they were left out.
    pub(crate) env: BTreeMap<String, String>,
    /// The options, in the form scripts export them; they take the place of the script's.
    pub(crate) options: Value,
    /// The URL of the main script.
    pub(crate) filename: String,
    /// The main script.
    pub(crate) data: Arc<[u8]>,
    /// Every file by its URL, the main script among them.
    pub(crate) files: BTreeMap<String, Arc<[u8]>>,
}

/// What an archive is made of.
#[derive(Debug)]
pub(crate) struct Contents<'a> {
    /// The options as given, with their keys in order.
    pub(crate) options: &'a Value,
    /// The URL of the main script; `file:///-` when it came from standard input.
    pub(crate) filename: &'a str,
    /// The URL of the folder that relative paths started from: the script's, or the working
    /// directory for a script from standard input.
    pub(crate) pwd: &'a str,
    /// Variables to store; `None` stores that they were left out.
    pub(crate) env: Option<&'a BTreeMap<String, String>>,
    /// `extended` or `base`.
    pub(crate) compatibility_mode: &'a str,
    /// The main script.
    pub(crate) script: &'a [u8],
    /// Every file that was read while the script loaded, by its URL. The main script may be among
    /// them; what is neither `file:` nor `https:` is left out.
    pub(crate) files: &'a BTreeMap<String, Arc<[u8]>>,
    /// When the archive is made, in seconds since 1970: the time its entries carry.
    pub(crate) modified: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WrittenMetadata<'a> {
    r#type: &'a str,
    options: &'a Value,
    filename: String,
    pwd: String,
    env: Option<&'a BTreeMap<String, String>>,
    compatibility_mode: &'a str,
    #[serde(rename = "k6version")]
    k6_version: &'a str,
    goos: &'a str,
    dependencies: BTreeMap<&'a str, &'a str>,
}

/// Only what is used: other versions have other keys.
#[derive(Deserialize)]
struct ReadMetadata {
    r#type: Option<String>,
    #[serde(default)]
    options: Value,
    #[serde(default)]
    filename: String,
    env: Option<BTreeMap<String, String>>,
}

// === impl Archive ===

impl Archive {
    /// Reads an archive, also one that was packed by hand: folders and links are passed over,
    /// names may start with `./`, and the prefixes of old versions are understood.
    ///
    /// # Errors
    /// A sentence that says what is missing or damaged, and what to do about it.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, String> {
        let mut tar = tar::Archive::new(Source {
            rest: bytes,
            cut: false,
        });
        let entries = Entries::collect(&mut tar, bytes);
        // Whoever read past the end saw a short archive, whatever it made of that.
        if tar.into_inner().cut {
            return Err(format!(
                "it is cut off, or was never an archive: {} bytes end before the archive does. \
                 Copy it again in full",
                bytes.len()
            ));
        }
        let Entries {
            metadata,
            data,
            mut files,
        } = entries?;
        let again = "it was not written by `archive`; make it again from its script";
        let metadata = metadata.ok_or_else(|| format!("it has no {METADATA}: {again}"))?;
        let data = data.ok_or_else(|| {
            format!("it has no entry '{DATA}', which is the main script: {again}")
        })?;
        let metadata: ReadMetadata = serde_json::from_slice(metadata)
            .map_err(|error| format!("its {METADATA} cannot be understood: {error}"))?;
        match metadata.r#type.as_deref() {
            None | Some(JS) => {}
            Some(other) => {
                return Err(format!(
                    "its {METADATA} says that it is of type '{other}', but only '{JS}' can be run"
                ));
            }
        }
        if metadata.filename.is_empty() {
            return Err(format!(
                "its {METADATA} has no 'filename', the URL of the main script: {again}"
            ));
        }
        let filename = read_url(&metadata.filename, &files);
        files.insert(filename.clone(), data.clone());
        Ok(Self {
            env: metadata.env.unwrap_or_default(),
            options: metadata.options,
            filename,
            data,
            files,
        })
    }
}

/// The bytes of an archive, and whether somebody wanted more of them than there are.
///
/// The marker at an archive's end stops the reader before the bytes do, so that even one that was
/// cut between two entries is noticed.
struct Source<'a> {
    rest: &'a [u8],
    cut: bool,
}

impl Read for Source<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.cut |= self.rest.is_empty() && !buffer.is_empty();
        self.rest.read(buffer)
    }
}

/// The entries that matter.
#[derive(Default)]
struct Entries<'a> {
    metadata: Option<&'a [u8]>,
    data: Option<Arc<[u8]>>,
    files: BTreeMap<String, Arc<[u8]>>,
}

impl<'a> Entries<'a> {
    /// Takes the contents from `bytes`, so that memory is bounded by what is really there,
    /// whatever sizes the headers tell.
    fn collect(tar: &mut tar::Archive<Source<'_>>, bytes: &'a [u8]) -> Result<Self, String> {
        let damaged = |error| format!("it is damaged, or not a tar file: {error}");
        let mut found = Self::default();
        for entry in tar.entries().map_err(damaged)? {
            let entry = entry.map_err(damaged)?;
            if !entry.header().entry_type().is_file() {
                continue;
            }
            let name = String::from_utf8(entry.path_bytes().into_owned())
                .map_err(|error| format!("the name of an entry is not text: {error}"))?;
            let place = usize::try_from(entry.raw_file_position()).ok();
            let content = place
                .zip(usize::try_from(entry.size()).ok())
                .and_then(|(from, size)| bytes.get(from..from.checked_add(size)?))
                .ok_or_else(|| {
                    format!(
                        "it is cut off: '{name}' should have {} bytes. Copy it again in full",
                        entry.size()
                    )
                })?;
            match segments(&name).as_slice() {
                [METADATA] if entry.size() > LONGEST_METADATA => {
                    return Err(format!(
                        "its {METADATA} has {} bytes, and more than {LONGEST_METADATA} are not \
                         read",
                        entry.size()
                    ));
                }
                [METADATA] => found.metadata = Some(content),
                [DATA] => found.data = Some(content.into()),
                segments => {
                    let url = entry_url(segments).ok_or_else(|| {
                        format!(
                            "unknown file prefix '{}' of '{name}': beside {METADATA} and {DATA}, \
                             archives hold file/… and https/… only",
                            segments.first().unwrap_or(&"")
                        )
                    })?;
                    found.files.insert(url, content.into());
                }
            }
        }
        Ok(found)
    }
}

/// The parts of a path, dots collapsed.
fn segments(path: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts
}

/// The URL of the file that an entry of this name holds; `None` for a prefix nobody knows.
fn entry_url(segments: &[&str]) -> Option<String> {
    let (&prefix, path) = segments.split_first()?;
    let (&first, rest) = path.split_first()?;
    match (prefix, first.strip_prefix('_')) {
        ("file", _) => Some(file_url(&path.join("/"))),
        ("https", _) => Some(format!("https://{}", path.join("/"))),
        // What old versions wrote: a local path after an underscore, or else a remote one.
        ("files" | "scripts", Some("")) => Some(file_url(&rest.join("/"))),
        ("files" | "scripts", Some(drive)) => {
            let path: Vec<&str> = std::iter::once(drive).chain(rest.iter().copied()).collect();
            Some(file_url(&path.join("/")))
        }
        ("files" | "scripts", None) => Some(format!("https://{}", path.join("/"))),
        _ => None,
    }
}

fn file_url(path: &str) -> String {
    anonymous(&format!("file:///{path}"))
}

/// The plain URL of the main script. Old versions wrote a path, local or remote.
fn read_url(written: &str, files: &BTreeMap<String, Arc<[u8]>>) -> String {
    if let Some(path) = written.strip_prefix("file://") {
        return file_url(&segments(&unescape(path)).join("/"));
    }
    if written.contains("://") {
        return written.to_owned();
    }
    let remote = format!("https://{written}");
    if files.contains_key(&remote) {
        return remote;
    }
    file_url(&segments(written).join("/"))
}

// === impl Contents ===

impl Contents<'_> {
    /// The archive: the bytes of a tar file, the same for the same contents.
    pub(crate) fn to_tar(&self) -> Vec<u8> {
        let mut tar = Writer {
            bytes: Vec::new(),
            modified: self.modified,
        };
        tar.file(METADATA, &self.metadata());
        tar.file(DATA, self.script);
        let main = anonymous(self.filename);
        let mut files: BTreeMap<String, Option<&[u8]>> = self
            .files
            .iter()
            .map(|(url, content)| (anonymous(url), Some(&**content)))
            .collect();
        files.insert(main, None);
        for scheme in SCHEMES {
            let files: BTreeMap<String, Option<&[u8]>> = files
                .iter()
                .filter_map(|(url, content)| {
                    let path = url.strip_prefix(scheme)?.strip_prefix("://")?;
                    Some((format!("{scheme}/{}", segments(path).join("/")), *content))
                })
                .collect();
            let folders: BTreeSet<&str> = files.keys().flat_map(|name| folders_of(name)).collect();
            folders.into_iter().for_each(|name| tar.folder(name));
            for (name, content) in files {
                match content {
                    Some(content) => tar.file(&name, content),
                    None => tar.link_to_data(&name),
                }
            }
        }
        tar.finish()
    }

    fn metadata(&self) -> Vec<u8> {
        let metadata = WrittenMetadata {
            r#type: JS,
            options: self.options,
            filename: escape(&anonymous(self.filename)),
            pwd: escape(&anonymous_folder(self.pwd)),
            env: self.env,
            compatibility_mode: self.compatibility_mode,
            k6_version: K6_VERSION,
            goos: match std::env::consts::OS {
                "macos" => "darwin",
                os => os,
            },
            dependencies: BTreeMap::from([("k6", "*")]),
        };
        let mut json = serde_json::to_vec_pretty(&metadata)
            .expect("keys are texts, and a buffer takes everything");
        json.push(b'\n');
        json
    }
}

/// `a` and `a/b` of `a/b/c`.
fn folders_of(name: &str) -> impl Iterator<Item = &str> {
    name.match_indices('/').map(|(at, _)| &name[..at])
}

/// Writes entries one after the other, with every field as k6 writes it.
struct Writer {
    bytes: Vec<u8>,
    modified: u64,
}

impl Writer {
    fn file(&mut self, name: &str, content: &[u8]) {
        let header = entry_header(tar::EntryType::Regular, 0o644, self.modified);
        self.entry(header, name, content);
    }

    fn folder(&mut self, name: &str) {
        let header = entry_header(tar::EntryType::Directory, 0o755, self.modified);
        self.entry(header, name, &[]);
    }

    /// A hard link carries no mode and no time: they are those of its target.
    fn link_to_data(&mut self, name: &str) {
        let mut header = entry_header(tar::EntryType::Link, 0, 0);
        header.as_old_mut().linkname[..DATA.len()].copy_from_slice(DATA.as_bytes());
        self.entry(header, name, &[]);
    }

    /// Names that the header has no room for, or that are not ASCII, go into an extended header
    /// before it.
    fn entry(&mut self, mut header: tar::Header, name: &str, content: &[u8]) {
        if !(name.is_ascii() && set_name(&mut header, name)) {
            let short: String = name.chars().filter(char::is_ascii).take(100).collect();
            header.as_old_mut().name[..short.len()].copy_from_slice(short.as_bytes());
            let mut extended = entry_header(tar::EntryType::XHeader, 0, 0);
            let extended_name = b"PaxHeaders.0/name";
            extended.as_old_mut().name[..extended_name.len()].copy_from_slice(extended_name);
            self.block(extended, pax_record("path", name).as_bytes());
        }
        self.block(header, content);
    }

    fn block(&mut self, mut header: tar::Header, content: &[u8]) {
        header.set_size(content.len() as u64);
        header.set_cksum();
        let sum = header.cksum().unwrap_or_default();
        header
            .as_old_mut()
            .cksum
            .copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.bytes.extend_from_slice(header.as_bytes());
        self.bytes.extend_from_slice(content);
        let padded = self.bytes.len().next_multiple_of(BLOCK);
        self.bytes.resize(padded, 0);
    }

    /// Two empty blocks are the end.
    fn finish(mut self) -> Vec<u8> {
        self.bytes.resize(self.bytes.len() + 2 * BLOCK, 0);
        self.bytes
    }
}

fn entry_header(kind: tar::EntryType, mode: u32, modified: u64) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(modified);
    if let Some(ustar) = header.as_ustar_mut() {
        ustar.set_device_major(0);
        ustar.set_device_minor(0);
    }
    header
}

/// Puts a name into the fields for it: up to 100 bytes, or a folder of up to 155 and up to 100
/// after it. `false` when it does not fit.
fn set_name(header: &mut tar::Header, name: &str) -> bool {
    let Some(ustar) = header.as_ustar_mut() else {
        return false;
    };
    let (prefix, name) = if name.len() <= ustar.name.len() {
        ("", name)
    } else {
        let longest_prefix = name.len().min(ustar.prefix.len() + 1);
        match name[..longest_prefix].rsplit_once('/') {
            Some((prefix, _)) => (prefix, &name[prefix.len() + 1..]),
            None => return false,
        }
    };
    if name.len() > ustar.name.len() || prefix.len() > ustar.prefix.len() {
        return false;
    }
    ustar.name[..name.len()].copy_from_slice(name.as_bytes());
    ustar.prefix[..prefix.len()].copy_from_slice(prefix.as_bytes());
    true
}

/// `21 path=file/long/name\n`: the length counts itself.
fn pax_record(key: &str, value: &str) -> String {
    let rest = format!(" {key}={value}\n");
    let mut length = rest.len();
    loop {
        let record = format!("{length}{rest}");
        if record.len() == length {
            return record;
        }
        length = record.len();
    }
}

// === URLs ===

/// The URL of a file without the name of a user: `/home/me/a.js` is `/home/nobody/a.js`, and so
/// for `/Users` and `/Documents and Settings`, also after a drive letter.
fn anonymous(url: &str) -> String {
    let Some(path) = url.strip_prefix("file://") else {
        return url.to_owned();
    };
    let (drive, rest) = match path.as_bytes() {
        [b'/', letter, b':', b'/', ..] if letter.is_ascii_alphabetic() => path.split_at(3),
        _ => ("", path),
    };
    for home in ["/home/", "/Users/", "/Documents and Settings/"] {
        if let Some((_user, rest)) = rest.strip_prefix(home).and_then(|p| p.split_once('/')) {
            return format!("file://{drive}{home}nobody/{rest}");
        }
    }
    url.to_owned()
}

/// The same for the URL of a folder, which may itself be a home.
fn anonymous_folder(url: &str) -> String {
    if url.ends_with('/') {
        return anonymous(url);
    }
    let mut url = anonymous(&format!("{url}/"));
    url.pop();
    url
}

// Named, because a fuzz target takes this file too, from elsewhere (fuzz/targets/archive.rs).
#[cfg(test)]
#[path = "archive/tests.rs"]
mod tests;
