//! `response.json(path)`: the first line is the path, the rest is the body.

#![no_main]

use libfuzzer_sys::fuzz_target;
use volley_fuzz::{first_line, limited};
use volley_scripting::fuzzing::select;

fuzz_target!(|input: &[u8]| limited(128 << 20, || {
    let (path, body) = first_line(input);
    if let Some(found) = select(body, path) {
        let _: Box<serde_json::value::RawValue> = serde_json::from_str(&found).expect("JSON");
    }
}));
