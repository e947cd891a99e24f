use proptest::prelude::*;

use crate::harness::run_with_files;

const PEOPLE: &str = "name,age\nAna,31\n\"Bo, jr\",27\nCid,45\n";

/// Runs top-level code and the body of an async function on some files.
fn on(top: &str, body: &str) -> Vec<String> {
    run_with_files(
        &format!(
            "import {{ open }} from 'k6/experimental/fs'; import csv, {{ parse, Parser }} from 'k6/experimental/csv';
             const why = async (f) => {{ try {{ await f(); return 'no error'; }} catch (e) {{ return String(e); }} }};
             const lines = []; const log = (...all) => lines.push(all.join(' '));
             const show = (x) => JSON.stringify(x);
             const file = await open('people.csv'); const bad = await open('bad.csv'); const empty = await open('empty.csv');
             {top}
             export default async function () {{ for (const line of lines) console.log(line); {body} }}"
        ),
        &[
            ("file:///dir/people.csv", PEOPLE),
            ("file:///dir/bad.csv", "a,b\n1,2\n3\n4,5\n"),
            ("file:///dir/empty.csv", ""),
        ],
        1,
    )
}

#[test]
fn ranges_headers_and_objects() {
    let lines = on(
        "for (const options of [undefined, null, {}, { skipFirstLine: true }, { fromLine: 2 }, { toLine: 1 }, { toLine: 0 }, { fromLine: 1, toLine: 2 }, { fromLine: 9 },
           { toLine: 99 }, { skipFirstLine: true, fromLine: 1, toLine: 3 }, { asObjects: true, toLine: 1 }, { asObjects: true, fromLine: 0 }, { fromLine: 1.9 }])
           log(show(options), show(await parse(file, options)));
         log(show(await parse(empty)), show(await parse(empty, { asObjects: true })), show(await csv.parse(bad, { delimiter: '\\t' })));",
        "",
    );
    assert_eq!(
        lines,
        [
            r#" [["name","age"],["Ana","31"],["Bo, jr","27"],["Cid","45"]]"#,
            r#"null [["name","age"],["Ana","31"],["Bo, jr","27"],["Cid","45"]]"#,
            r#"{} [["name","age"],["Ana","31"],["Bo, jr","27"],["Cid","45"]]"#,
            r#"{"skipFirstLine":true} [["Ana","31"],["Bo, jr","27"],["Cid","45"]]"#,
            r#"{"fromLine":2} [["Bo, jr","27"],["Cid","45"]]"#,
            r#"{"toLine":1} [["name","age"],["Ana","31"]]"#,
            r#"{"toLine":0} [["name","age"]]"#,
            r#"{"fromLine":1,"toLine":2} [["Ana","31"],["Bo, jr","27"]]"#,
            r#"{"fromLine":9} []"#,
            r#"{"toLine":99} [["name","age"],["Ana","31"],["Bo, jr","27"],["Cid","45"]]"#,
            r#"{"skipFirstLine":true,"fromLine":1,"toLine":3} [["Ana","31"],["Bo, jr","27"],["Cid","45"]]"#,
            r#"{"asObjects":true,"toLine":1} [{"name":"Ana","age":"31"}]"#,
            r#"{"asObjects":true,"fromLine":0} [{"name":"Ana","age":"31"},{"name":"Bo, jr","age":"27"},{"name":"Cid","age":"45"}]"#,
            r#"{"fromLine":1.9} [["Ana","31"],["Bo, jr","27"],["Cid","45"]]"#,
            r#"[] [] [["a,b"],["1,2"],["3"],["4,5"]]"#,
        ]
    );
}

#[test]
fn wrong_use_is_told() {
    let lines = on(
        "for (const f of [() => parse(), () => parse('x'), () => parse({}), () => parse(file, { delimiter: ';;' }), () => parse(file, { delimiter: 'é' }), () => parse(file, { delimiter: '' }),
           () => parse(file, { delimiter: 5 }), () => parse(file, { delimiter: '\\n' }), () => parse(file, { fromLine: 3, toLine: 1 }), () => parse(file, { fromLine: 2, toLine: 2 }),
           () => parse(file, { fromLine: -1 }), () => parse(file, { toLine: 'x' }), () => parse(file, { asObjects: true, skipFirstLine: true }), () => parse(file, { asObjects: true, fromLine: 1 }),
           () => parse(bad), () => new Parser(), () => new Parser(null), () => new Parser(file, { delimiter: '::' })]) log(await why(f));",
        "console.log(await why(() => new Parser(file)));
         console.log((await parse(file)).length, (await parse(empty)).length);",
    );
    assert_eq!(
        lines,
        [
            "parse() failed; reason: the file argument cannot be null or undefined",
            "parse() failed; reason: the file argument must be a fs.File instance",
            "parse() failed; reason: the file argument must be a fs.File instance",
            "parse() failed; reason: delimiter must be a single byte",
            "parse() failed; reason: delimiter must be a single byte",
            "parse() failed; reason: delimiter must be a single byte",
            "parse() failed; reason: delimiter must be a string",
            "parse() failed; reason: invalid field or comment delimiter",
            "parse() failed; reason: fromLine must be less than or equal to toLine",
            "parse() failed; reason: fromLine must be less than or equal to toLine",
            "parse() failed; reason: fromLine must be a non-negative number",
            "parse() failed; reason: toLine must be a non-negative number",
            "parse() failed; reason: the 'header' option cannot be enabled when 'skipFirstLine' is true",
            "parse() failed; reason: the 'header' option cannot be enabled when 'fromLine' is set to a value greater than 0",
            "record on line 3: wrong number of fields",
            "GoError: csv Parser constructor failed; reason: the file argument cannot be null or undefined",
            "GoError: csv Parser constructor failed; reason: the file argument cannot be null or undefined",
            "GoError: csv Parser constructor failed; reason: delimiter must be a single byte",
            "GoError: csv Parser constructor must be called in the init context",
            "4 0",
        ]
    );
}

#[test]
fn parsers_go_record_by_record_each_for_itself() {
    let lines = on(
        "const a = new Parser(file), b = csv.Parser(file, { asObjects: true }), faulty = new Parser(bad, { skipFirstLine: true }), loop = new Parser(file, { fromLine: 2 });
         await file.read(new Uint8Array(9));",
        "const next = async (p) => show(await p.next());
         console.log(await next(a), await next(b), await next(a)); console.log(await next(b), await next(b), await next(b), await next(b));
         console.log(await next(faulty), await why(() => faulty.next()), await next(faulty), await next(faulty));
         const all = []; for await (const row of loop) all.push(row.join('/')); console.log(all.join(' '));
         const { next: bound } = a; console.log(show(await bound()), Object.keys(a).join());",
    );
    assert_eq!(
        lines,
        [
            r#"{"done":false,"value":["name","age"]} {"done":false,"value":{"name":"Ana","age":"31"}} {"done":false,"value":["Ana","31"]}"#,
            r#"{"done":false,"value":{"name":"Bo, jr","age":"27"}} {"done":false,"value":{"name":"Cid","age":"45"}} {"done":true,"value":[]} {"done":true,"value":[]}"#,
            r#"{"done":false,"value":["1","2"]} record on line 3: wrong number of fields {"done":false,"value":["4","5"]} {"done":true,"value":[]}"#,
            "Bo, jr/27 Cid/45",
            r#"{"done":false,"value":["Bo, jr","27"]} next"#,
        ]
    );
}

#[test]
fn rows_are_shared_and_frozen() {
    let lines = on(
        "const rows = await parse(file, { asObjects: true });",
        "console.log(Array.isArray(rows), Object.isFrozen(rows[0]), rows[0] === rows[0], rows.find((r) => r.age === '45').name, rows[9]);
         console.log((await why(() => rows.push(1))).split(':')[0], (await why(() => { rows[0].name = 'x'; })).split(':')[0]);",
    );
    assert_eq!(
        lines,
        ["true true false Cid undefined", "TypeError TypeError"]
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_text_is_parsed_or_refused(text in "[a,;\"\n\r\u{0}é{}\\\\]{0,80}") {
        let lines = run_with_files(
            "import { open } from 'k6/experimental/fs'; import { parse } from 'k6/experimental/csv';
             let said; try { const rows = await parse(await open('any.csv'), { asObjects: true }); said = rows.map((r) => typeof r).every((t) => t === 'object'); } catch (e) { said = /line/.test(e.message); }
             export default function () { console.log(said); }",
            &[("file:///dir/any.csv", &text)],
            1,
        );
        prop_assert_eq!(lines, ["true"]);
    }
}
