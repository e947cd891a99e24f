//! `k6/experimental/csv`: the first line has options, the rest is the file. A delimiter, flags
//! (`o` for objects, `s` to skip the first record), and numbers from and to: `;o 2 5`.

#![no_main]

use libfuzzer_sys::fuzz_target;
use volley_fuzz::{first_line, limited};
use volley_scripting::fuzzing::{CsvOptions, records};

fuzz_target!(|input: &[u8]| limited(64 << 20, || {
    let (line, content) = first_line(input);
    let mut words = line.split(' ');
    let flags = words.next().unwrap_or_default();
    let mut numbers = words.map(|word| word.parse().ok());
    let options = CsvOptions {
        // Scripts cannot choose these.
        delimiter: match flags.bytes().next() {
            None | Some(b'"' | b'\r' | b'\n') => b',',
            Some(delimiter) => delimiter,
        },
        as_objects: flags.get(1..).is_some_and(|flags| flags.contains('o')),
        skip_first: flags.get(1..).is_some_and(|flags| flags.contains('s')),
        from: numbers.next().flatten().unwrap_or(0),
        to: numbers.next().flatten(),
    };
    match records(content, options) {
        Ok(records) => {
            for record in records {
                let value: serde_json::Value = serde_json::from_str(&record).expect("JSON");
                assert_eq!(value.is_object(), options.as_objects, "{record}");
            }
        }
        Err(text) => assert!(text.contains("line"), "{text}"),
    }
}));
