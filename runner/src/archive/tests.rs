//! The stored archive of k6 2.2 byte by byte, archives of other makers, and damage.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::options::{Options, View};

/// Written by k6 2.2: a module, a text and a binary file, one variable, a threshold.
const STORED: &[u8] = include_bytes!("../../testdata/archive-k6-2.2.tar");
/// When that was.
const STORED_AT: u64 = 0o15300525142;

type Files = BTreeMap<String, Arc<[u8]>>;

fn files(list: &[(&str, &[u8])]) -> Files {
    let list = list.iter();
    list.map(|(url, content)| ((*url).to_owned(), (*content).into()))
        .collect()
}

fn contents<'a>(filename: &'a str, files: &'a Files) -> Contents<'a> {
    Contents {
        options: &Value::Null,
        filename,
        pwd: "file:///scripts",
        env: None,
        compatibility_mode: "extended",
        script: b"main",
        files,
        modified: 7,
    }
}

/// Names and kinds of the entries, as any other program lists them.
fn listed(tar: &[u8]) -> Vec<String> {
    tar::Archive::new(tar)
        .entries()
        .expect("a tar file")
        .map(|entry| {
            let entry = entry.expect("an entry");
            let kind = char::from(entry.header().entry_type().as_byte());
            let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            match entry.link_name().expect("a link") {
                Some(target) => format!("{kind} {name} -> {}", target.display()),
                None => format!("{kind} {name}"),
            }
        })
        .collect()
}

fn metadata_of(tar: &[u8]) -> String {
    let mut archive = tar::Archive::new(tar);
    let mut entries = archive.entries().expect("a tar file");
    let mut entry = entries.next().expect("an entry").expect("a good one");
    assert_eq!(&*entry.path_bytes(), b"metadata.json");
    let mut text = String::new();
    entry.read_to_string(&mut text).expect("text");
    text
}

/// An archive as other tools pack it.
fn packed(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o600);
        builder
            .append_data(&mut header, name, *content)
            .expect("it can be packed");
    }
    builder.into_inner().expect("a tar file")
}

const PLAIN: &[u8] = br#"{"filename": "file:///s/main.js"}"#;

#[track_caller]
fn refused(bytes: &[u8], words: &[&str]) {
    let text = Archive::read(bytes).expect_err("it cannot be read");
    for word in words {
        assert!(text.contains(word), "{word:?} is not in {text:?}");
    }
}

// === Reading ===

#[test]
fn the_stored_archive_is_read() {
    let archive = Archive::read(STORED).expect("a good archive");
    assert_eq!(archive.filename, "file:///scripts/main.js");
    assert_eq!(
        archive.env,
        BTreeMap::from([("STAGE".to_owned(), "test".to_owned())])
    );
    let sizes: Vec<(&str, usize)> = archive
        .files
        .iter()
        .map(|(url, content)| (url.as_str(), content.len()))
        .collect();
    assert_eq!(
        sizes,
        [
            ("file:///scripts/data/blob.bin", 5),
            ("file:///scripts/data/users.json", 29),
            ("file:///scripts/lib/target.js", 44),
            ("file:///scripts/main.js", 650),
        ]
    );
    assert_eq!(archive.files["file:///scripts/main.js"], archive.data);
    let (options, warnings) = Options::from_script(&archive.options).expect("good options");
    assert_eq!(warnings, []);
    let scenarios = options.scenarios.expect("scenarios");
    assert_eq!(scenarios["main"].executor(), "shared-iterations");
}

#[test]
fn archives_packed_by_hand_are_read() {
    let long = format!("file/{}a.js", "folder/".repeat(40));
    let archive = Archive::read(&packed(&[
        ("./file/s/lib/./a.js", b"a"),
        (&long, b"long"),
        ("https/cdn.test:8443/x y/b.js", b"b"),
        ("file/s/ü/€.txt", b"name"),
        ("./data", b"main"),
        ("file/s/main.js", b"old"),
        ("file/s/lib/a.js", b"again"),
        ("metadata.json", PLAIN),
    ]))
    .expect("a good archive");
    let long = format!("file:///{}a.js", "folder/".repeat(40));
    assert_eq!(
        archive,
        Archive {
            env: BTreeMap::new(),
            options: Value::Null,
            filename: "file:///s/main.js".to_owned(),
            data: b"main"[..].into(),
            files: files(&[
                (&long, b"long"),
                // The later entry of a name replaces the earlier one, as in any tar file.
                ("file:///s/lib/a.js", b"again"),
                ("file:///s/ü/€.txt", b"name"),
                // What is run is always `data`.
                ("file:///s/main.js", b"main"),
                ("https://cdn.test:8443/x y/b.js", b"b"),
            ]),
        }
    );
}

/// A name that only an extended header gives.
#[test]
fn extended_headers_are_read() {
    let mut tar = Writer {
        bytes: Vec::new(),
        modified: 0,
    };
    let name = format!("file/{}/ü.js", "x".repeat(300));
    tar.file(METADATA, PLAIN);
    tar.file(DATA, b"main");
    tar.file(&name, b"long");
    let bytes = tar.finish();
    let kinds: Vec<u8> = tar::Archive::new(&bytes[..])
        .entries()
        .expect("a tar file")
        .raw(true)
        .map(|entry| entry.expect("an entry").header().entry_type().as_byte())
        .collect();
    assert_eq!(kinds, b"00x0");
    let archive = Archive::read(&bytes).expect("a good archive");
    let url = format!("file:///{}/ü.js", "x".repeat(300));
    assert_eq!(archive.files[&url], b"long"[..].into());
}

#[test]
fn folders_and_links_are_passed_over() {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, kind) in [
        ("elsewhere", tar::EntryType::Directory),
        ("elsewhere/link", tar::EntryType::Symlink),
        ("file/s/main.js", tar::EntryType::Link),
        ("pipe", tar::EntryType::Fifo),
    ] {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(0);
        builder
            .append_link(&mut header, name, "data")
            .expect("it can be packed");
    }
    for (name, content) in [("data", &b"main"[..]), ("metadata.json", PLAIN)] {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        builder
            .append_data(&mut header, name, content)
            .expect("it can be packed");
    }
    let archive = Archive::read(&builder.into_inner().expect("a tar file"));
    assert_eq!(
        archive.expect("a good archive").files,
        files(&[("file:///s/main.js", b"main")])
    );
}

#[test]
fn prefixes_of_old_versions_are_understood() {
    for (name, url) in [
        ("scripts/_/s/a.js", "file:///s/a.js"),
        ("files/_/s/a.txt", "file:///s/a.txt"),
        ("files/_/home/me/a.txt", "file:///home/nobody/a.txt"),
        ("scripts/_/C:/s/a.js", "file:///C:/s/a.js"),
        ("scripts/_C:/s/a.js", "file:///C:/s/a.js"),
        ("scripts/cdn.test/a.js", "https://cdn.test/a.js"),
        ("files/cdn.test/a.txt", "https://cdn.test/a.txt"),
        ("file/Users/me/a.js", "file:///Users/nobody/a.js"),
        ("file/_/a.js", "file:///_/a.js"),
    ] {
        let archive = Archive::read(&packed(&[
            ("metadata.json", PLAIN),
            ("data", b"main"),
            (name, b"a"),
        ]))
        .expect(name);
        assert_eq!(archive.files[url], b"a"[..].into(), "{name}");
    }
    // They wrote the script's path, not its URL.
    for (written, stored, url) in [
        ("/s/main.js", "scripts/_/s/main.js", "file:///s/main.js"),
        (
            "cdn.test/main.js",
            "scripts/cdn.test/main.js",
            "https://cdn.test/main.js",
        ),
        ("main.js", "data", "file:///main.js"),
        (
            "https://cdn.test/main.js",
            "data",
            "https://cdn.test/main.js",
        ),
    ] {
        let metadata = json!({"filename": written}).to_string();
        let archive = Archive::read(&packed(&[
            (stored, b"main"),
            ("data", b"main"),
            ("metadata.json", metadata.as_bytes()),
        ]))
        .expect(written);
        assert_eq!(archive.filename, url);
        assert_eq!(archive.files, files(&[(url, b"main")]), "{written}");
    }
}

#[test]
fn what_is_missing_is_named_with_a_remedy() {
    refused(
        &packed(&[("data", b"main")]),
        &["no metadata.json", "make it again from its script"],
    );
    refused(
        &packed(&[("metadata.json", PLAIN)]),
        &["no entry 'data'", "make it again from its script"],
    );
    refused(
        &packed(&[("metadata.json", b"{}"), ("data", b"")]),
        &["no 'filename'", "make it again from its script"],
    );
    for broken in [
        &b"{"[..],
        b"[]",
        b"",
        br#"{"filename": 1}"#,
        br#"{"filename": "file:///a.js", "env": {"A": 1}}"#,
    ] {
        refused(
            &packed(&[("metadata.json", broken), ("data", b"")]),
            &["metadata.json cannot be understood: "],
        );
    }
    refused(
        &packed(&[
            (
                "metadata.json",
                br#"{"filename": "file:///a.js", "type": "go"}"#,
            ),
            ("data", b""),
        ]),
        &["type 'go'", "only 'js'"],
    );
    for (name, prefix) in [
        ("other/a.js", "'other'"),
        ("README", "'README'"),
        ("http/x", "'http'"),
        ("file", "'file'"),
    ] {
        refused(
            &packed(&[("metadata.json", PLAIN), ("data", b""), (name, b"")]),
            &["unknown file prefix", prefix, name],
        );
    }
    let long = vec![b' '; LONGEST_METADATA as usize + 1];
    refused(
        &packed(&[("metadata.json", &long), ("data", b"")]),
        &["metadata.json has 16777217 bytes"],
    );
}

/// Wherever an archive is cut, that is what is said, also between two entries.
#[test]
fn cut_archives_are_refused() {
    // The second of the two empty blocks at the end may be missing.
    let end = STORED.len() - BLOCK;
    assert!(Archive::read(&STORED[..end]).is_ok());
    for length in (0..end).step_by(64) {
        refused(&STORED[..length], &["cut off", "Copy it again"]);
    }
}

#[test]
fn sizes_that_cannot_be_are_refused() {
    for size in [1_u64 << 20, 1 << 40, u64::MAX >> 1, u64::MAX - 1023] {
        let mut header = tar::Header::new_gnu();
        header.set_path("metadata.json").expect("a short name");
        header.set_size(size);
        header.set_cksum();
        let mut bytes = header.as_bytes().to_vec();
        bytes.resize(4 * BLOCK, 0);
        refused(&bytes, &["cut off"]);
    }
    // More would not even be a position in a file.
    let mut header = tar::Header::new_gnu();
    header.set_path("data").expect("a short name");
    header.set_size(u64::MAX);
    header.set_cksum();
    refused(header.as_bytes(), &["damaged"]);
}

#[test]
fn garbage_is_refused() {
    for garbage in [
        &[0_u8; 2048][..],
        &[0xff; 2048],
        b"export default function () {}",
    ] {
        let text = Archive::read(garbage).expect_err("not an archive");
        assert!(!text.is_empty());
    }
    let mut damaged = STORED.to_vec();
    damaged[2560] ^= 1;
    refused(&damaged, &["damaged", "checksum"]);
    let mut bytes = packed(&[("metadata.json", PLAIN), ("data", b"")]);
    // A name that is no text; its header's sum is made right again.
    let mut header = tar::Header::new_gnu();
    header.as_old_mut().name[..6].copy_from_slice(b"file/\xff");
    header.set_size(0);
    header.set_cksum();
    bytes.splice(..0, header.as_bytes().iter().copied());
    refused(&bytes, &["name", "not text"]);
}

// === Writing ===

/// Not a byte differs from what k6 2.2 writes.
#[test]
fn the_stored_archive_is_written_again() {
    let archive = Archive::read(STORED).expect("a good archive");
    let (options, _) = Options::from_script(&archive.options).expect("good options");
    let written = Contents {
        options: &options.to_json(View::Given),
        filename: &archive.filename,
        pwd: "file:///scripts",
        env: Some(&archive.env),
        compatibility_mode: "extended",
        script: &archive.data,
        files: &archive.files,
        modified: STORED_AT,
    }
    .to_tar();
    assert_eq!(
        metadata_of(&written),
        metadata_of(STORED).replace("\"linux\"", &format!("\"{}\"", std::env::consts::OS))
    );
    if cfg!(target_os = "linux") {
        let differs = (0..STORED.len()).find(|&at| written.get(at) != Some(&STORED[at]));
        assert_eq!((differs, written.len()), (None, STORED.len()));
    }
}

#[test]
fn metadata_says_what_was_given() {
    let no_files = Files::new();
    let env = BTreeMap::from([
        ("B".to_owned(), "<&>".to_owned()),
        ("A".to_owned(), String::new()),
    ]);
    let options = json!({"z": 1, "a": {"list": [], "p(95)": "<500"}});
    let tar = Contents {
        options: &options,
        env: Some(&env),
        compatibility_mode: "base",
        pwd: "file:///home/me",
        ..contents("file:///home/me/my tests/100%.js", &no_files)
    }
    .to_tar();
    let goos = if cfg!(target_os = "macos") {
        "darwin"
    } else {
        std::env::consts::OS
    };
    assert_eq!(
        metadata_of(&tar),
        r#"{
  "type": "js",
  "options": {
    "z": 1,
    "a": {
      "list": [],
      "p(95)": "<500"
    }
  },
  "filename": "file:///home/nobody/my%20tests/100%25.js",
  "pwd": "file:///home/nobody",
  "env": {
    "A": "",
    "B": "<&>"
  },
  "compatibilityMode": "base",
  "k6version": "2.2.0",
  "goos": "GOOS",
  "dependencies": {
    "k6": "*"
  }
}
"#
        .replace("GOOS", goos)
    );
    let tar = contents("file:///s/main.js", &no_files).to_tar();
    assert!(metadata_of(&tar).contains("\n  \"env\": null,\n"));
    assert_eq!(
        Archive::read(&tar).expect("a good archive").env,
        BTreeMap::new()
    );
}

#[test]
fn entries_are_sorted_by_scheme_folders_before_files() {
    let files = files(&[
        ("https://host.test:8443/mod/b.js", b"b"),
        ("https://host.test:8443/mod/a.js", b"a"),
        ("file:///scripts/lib/deep/c.js", b"c"),
        ("file:///scripts/a.js", b"a"),
        ("file:///scripts/main.js", b"not this"),
        ("file:///top.txt", b"t"),
        ("http://host.test/left-out.js", b""),
        ("k6/http", b""),
    ]);
    let tar = contents("file:///scripts/main.js", &files).to_tar();
    assert_eq!(
        listed(&tar),
        [
            "0 metadata.json",
            "0 data",
            "5 file",
            "5 file/scripts",
            "5 file/scripts/lib",
            "5 file/scripts/lib/deep",
            "0 file/scripts/a.js",
            "0 file/scripts/lib/deep/c.js",
            "1 file/scripts/main.js -> data",
            "0 file/top.txt",
            "5 https",
            "5 https/host.test:8443",
            "5 https/host.test:8443/mod",
            "0 https/host.test:8443/mod/a.js",
            "0 https/host.test:8443/mod/b.js",
        ]
    );
    let read = Archive::read(&tar).expect("a good archive");
    assert_eq!(read.files["file:///scripts/main.js"], b"main"[..].into());
    assert_eq!(read.files.len(), 6);
}

#[test]
fn home_folders_are_anonymous() {
    let files = files(&[
        ("file:///home/me/lib/a.js", b"1"),
        ("file:///Users/me/a.js", b"2"),
        ("file:///Documents and Settings/me/a.js", b"3"),
        ("file:///C:/Users/me/a.js", b"4"),
        ("file:///srv/home/me/a.js", b"5"),
        ("https://home/me/a.js", b"6"),
    ]);
    let tar = contents("file:///home/me/main.js", &files).to_tar();
    let found: Vec<String> = listed(&tar)
        .into_iter()
        .filter(|entry| !entry.starts_with('5'))
        .collect();
    assert_eq!(
        found[2..],
        [
            "0 file/C:/Users/nobody/a.js",
            "0 file/Documents and Settings/nobody/a.js",
            "0 file/Users/nobody/a.js",
            "0 file/home/nobody/lib/a.js",
            "1 file/home/nobody/main.js -> data",
            "0 file/srv/home/me/a.js",
            "0 https/home/me/a.js",
        ]
    );
    assert_eq!(
        Archive::read(&tar).expect("a good archive").filename,
        "file:///home/nobody/main.js"
    );
    for (folder, anonymous) in [
        ("file:///home/me", "file:///home/nobody"),
        ("file:///home/me/", "file:///home/nobody/"),
        ("file:///home/me/x", "file:///home/nobody/x"),
        ("file:///home", "file:///home"),
        ("file:///", "file:///"),
        ("file:///d:/Users/me", "file:///d:/Users/nobody"),
        ("https://host/home/me", "https://host/home/me"),
    ] {
        assert_eq!(anonymous_folder(folder), anonymous);
    }
}

#[test]
fn a_script_from_standard_input_has_the_root_for_a_folder() {
    let files = files(&[("file:///work/users.json", b"[]")]);
    let tar = Contents {
        pwd: "file:///work",
        ..contents("file:///-", &files)
    }
    .to_tar();
    assert_eq!(
        listed(&tar)[2..],
        [
            "5 file",
            "5 file/work",
            "1 file/- -> data",
            "0 file/work/users.json",
        ]
    );
    let metadata = metadata_of(&tar);
    assert!(metadata.contains("\"filename\": \"file:///-\",\n  \"pwd\": \"file:///work\","));
    assert_eq!(
        Archive::read(&tar).expect("a good archive").filename,
        "file:///-"
    );
}

#[test]
fn names_too_long_for_a_header_are_kept() {
    let names = [
        // As long as the name field.
        "a".repeat(100 - "file/".len()),
        // A folder in the other field.
        format!("{}/{}", "b".repeat(150), "c".repeat(100)),
        // Too long for both.
        format!("{}/{}", "d".repeat(151), "e".repeat(100)),
        format!("f/{}", "g".repeat(101)),
        "h".repeat(300),
        "folder/".repeat(200) + "i",
        "ünï cödé/€.js".to_owned(),
    ];
    let files: Files = names
        .iter()
        .map(|name| (format!("file:///{name}"), name.as_bytes().into()))
        .collect();
    let main = format!("file:///{}/main.js", "m".repeat(180));
    let tar = contents(&main, &files).to_tar();
    let read = Archive::read(&tar).expect("a good archive");
    assert_eq!(read.filename, main);
    let mut expected = files.clone();
    expected.insert(main, b"main"[..].into());
    assert_eq!(read.files, expected);
    let kinds: Vec<u8> = tar::Archive::new(&tar[..])
        .entries()
        .expect("a tar file")
        .raw(true)
        .map(|entry| entry.expect("an entry").header().entry_type().as_byte())
        .collect();
    // All but the first two names, and the link of the main script.
    let extended = |kind| {
        let pairs = kinds.windows(2);
        pairs.filter(|pair| **pair == [b'x', kind]).count()
    };
    assert_eq!((extended(b'0'), extended(b'1')), (5, 1));
}

#[test]
fn records_of_extended_headers_count_themselves() {
    assert_eq!(pax_record("path", "abc"), "12 path=abc\n");
    for length in 0..1200 {
        let record = pax_record("path", &"x".repeat(length));
        let (count, _) = record.split_once(' ').expect("a count");
        assert_eq!(count.parse(), Ok(record.len()));
    }
}

// === URLs ===

#[test]
fn urls_are_escaped_and_plain_again() {
    for (plain, escaped) in [
        (
            "file:///s/a-b_c.d~e$f&g+h,i:j;k=l@m.js",
            "file:///s/a-b_c.d~e$f&g+h,i:j;k=l@m.js",
        ),
        ("file:///my tests/ü.js", "file:///my%20tests/%C3%BC.js"),
        ("file:///100%/a?b#c", "file:///100%25/a%3Fb%23c"),
        ("https://host/a%20b", "https://host/a%20b"),
    ] {
        assert_eq!(escape(plain), escaped);
        assert_eq!(read_url(escaped, &Files::new()), plain);
    }
    for (path, plain) in [
        ("a%zz%2", "a%zz%2"),
        ("%", "%"),
        ("%41%4", "A%4"),
        ("%e2%82%ac", "€"),
    ] {
        assert_eq!(unescape(path), plain);
    }
}

/// Paths as they come in scripts, now and then long, or nobody's.
fn paths() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        "[a-zA-Z0-9 _.%+-]{1,12}",
        "\\PC{1,8}",
        "[a-z]{90,120}",
        Just("home".to_owned()),
    ];
    prop::collection::vec(part, 1..8).prop_map(|parts| {
        let parts: Vec<String> = parts.iter().map(|part| part.replace('/', "-")).collect();
        segments(&parts.join("/")).join("/")
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn whatever_is_written_is_read_back(
        main in paths(),
        others in prop::collection::btree_map((any::<bool>(), paths()), prop::collection::vec(any::<u8>(), 0..700), 0..6),
        script in prop::collection::vec(any::<u8>(), 0..700),
        env in prop::option::of(prop::collection::btree_map("\\PC{0,8}", "\\PC{0,8}", 0..3)),
    ) {
        prop_assume!(!main.is_empty());
        let main = format!("file:///{main}");
        let files: Files = others
            .into_iter()
            .filter(|((_, path), _)| !path.is_empty())
            .map(|((remote, path), content)| {
                let url = if remote { format!("https://{path}") } else { format!("file:///{path}") };
                (url, content.into())
            })
            .collect();
        let tar = Contents { script: &script, env: env.as_ref(), ..contents(&main, &files) }.to_tar();
        prop_assert_eq!(tar.len() % BLOCK, 0);
        let read = Archive::read(&tar);
        let mut expected: Files = files
            .iter()
            .map(|(url, content)| (anonymous(url), content.clone()))
            .collect();
        expected.insert(anonymous(&main), script.as_slice().into());
        prop_assert_eq!(read, Ok(Archive {
            env: env.unwrap_or_default(),
            options: Value::Null,
            filename: anonymous(&main),
            data: script.as_slice().into(),
            files: expected,
        }));
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..4096)) {
        let read = Archive::read(&bytes);
        prop_assert!(read.is_err(), "random bytes have no checksum");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2048))]

    /// Damage that the sums of the headers do not show.
    #[test]
    fn no_damaged_header_panics(
        changes in prop::collection::vec((0_usize..10, 0_usize..BLOCK, any::<u8>()), 1..24),
        kind in prop::option::of(prop::sample::select(&b"0157xgLKS"[..])),
        sparse in any::<bool>(),
    ) {
        let mut bytes = STORED.to_vec();
        let starts = [0, 2560, 4096, 4608, 5120, 5632, 6144, 7168, 8192, 9216];
        for &(entry, at, byte) in &changes {
            bytes[starts[entry] + at] = byte;
        }
        if let Some(kind) = kind {
            bytes[starts[changes[0].0] + 156] = kind;
        }
        if sparse {
            let header = starts[changes[0].0];
            bytes[header + 156] = b'S';
            bytes[header + 257..header + 265].copy_from_slice(b"ustar  \0");
            bytes[header + 482] = changes[0].2;
        }
        for start in starts {
            let header = &mut bytes[start..start + BLOCK];
            header[148..156].fill(b' ');
            let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
            header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
        if let Ok(archive) = Archive::read(&bytes) {
            let total: usize = archive.files.values().map(|content| content.len()).sum();
            prop_assert!(total <= bytes.len(), "more than there was");
        }
    }
}
