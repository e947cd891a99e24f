//! Modules: CommonJS, views between the kinds, `import.meta`, removed names.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use super::{Rig, load_error, on_worker};
use crate::{FileWait, Files, Script, ScriptSource};

/// Loads a script with files, runs one iteration of VU 1, answers the log of both inits and of the
/// iteration.
fn run(source: &str, files: &[(&str, &str)]) -> Vec<String> {
    on_worker(async {
        let rig = Rig::with_files(source, files);
        rig.load().await.unwrap();
        let mut vu = rig.vu().await.unwrap();
        vu.activate(Rig::activation(None)).await;
        vu.iterate(0, 0).await;
        vu.close().await;
        rig.lines()
    })
}

/// The log of a script whose top level alone matters: that of the first init, which must be that
/// of the second.
fn init(source: &str, files: &[(&str, &str)]) -> Vec<String> {
    let mut first = run(&format!("{source}\nexport default function () {{}}"), files);
    let second = first.split_off(first.len() / 2);
    assert_eq!(first, second);
    first
}

#[test]
fn a_commonjs_file_runs_once_whatever_the_route() {
    let lines = init(
        "import c, { n, gone } from './c.js'; import * as all from './c.js';
         import mixed, * as both from './c.js';
         console.log(c === require('./c.js'), n, gone, Object.keys(all).join(), all.default === c);
         console.log(mixed === c, both.n, require('../dir/c.js') === c);",
        &[(
            "file:///dir/c.js",
            "console.log('run', this === exports, typeof require); exports.n = 1; exports.m = 2;",
        )],
    );
    assert_eq!(
        lines,
        [
            "run true function",
            "true 1 undefined n,m,default true",
            "true 1 true"
        ]
    );
}

#[test]
fn the_default_of_commonjs_is_its_default_or_all_of_it() {
    let lines = init(
        "import a from './a.js'; import b from './b.js'; import f from './f.js'; import n from './n.js';
         console.log(a, JSON.stringify(b), f(), n, require('./f.js').extra);
         try { require('./null.js') } catch (e) { console.log(String(e)) }",
        &[
            (
                "file:///dir/a.js",
                "exports.__esModule = true; exports.default = 'a';",
            ),
            ("file:///dir/b.js", "exports.x = 'b';"),
            (
                "file:///dir/f.js",
                "module.exports = () => 'f'; module.exports.extra = 1; exports.lost = 2;",
            ),
            ("file:///dir/n.js", "module.exports = 5;"),
            ("file:///dir/null.js", "module.exports = null;"),
        ],
    );
    assert_eq!(
        lines,
        [
            "a {\"x\":\"b\"} f 5 1",
            "GoError: CommonJS's exports must not be null"
        ]
    );
}

#[test]
fn star_exports_of_commonjs_forward_what_it_assigns() {
    let lines = init(
        "import { a, b, own } from './all.js'; console.log(a, b, own);",
        &[
            (
                "file:///dir/all.js",
                "export * from './c.js'; export const own = 'own';",
            ),
            (
                "file:///dir/c.js",
                "exports.a = 'a'; module.exports.b = 'b';",
            ),
        ],
    );
    assert_eq!(lines, ["a b own"]);
}

#[test]
fn cycles_see_what_there_is_so_far() {
    let lines = init(
        "import a from './a.js'; console.log(a.b.seen, a.done);
         try { require('./back.js') } catch (e) { console.log(e.message) }",
        &[
            (
                "file:///dir/a.js",
                "exports.early = 1; exports.b = require('./b.js'); exports.done = true;",
            ),
            (
                "file:///dir/b.js",
                "exports.seen = JSON.stringify(require('./a.js'));",
            ),
            ("file:///dir/back.js", "import './script.js';"),
        ],
    );
    assert_eq!(
        lines,
        [
            "{\"early\":1} true",
            "require() of the module file:///dir/back.js, which is just being evaluated, is not \
             supported: import it instead"
        ]
    );
}

#[test]
fn modules_can_be_required() {
    let lines = init(
        "const m = require('./m.js');
         console.log(m.v, m.default, m === require('./m.js'));
         try { console.log(require('./waits.js').late) } catch (e) { console.log(e.name) }
         setTimeout(() => console.log(require('./waits.js').late), 5);",
        &[
            ("file:///dir/m.js", "export const v = 1; export default 2;"),
            (
                "file:///dir/waits.js",
                "await 0; export const late = 'now';",
            ),
        ],
    );
    assert_eq!(lines, ["1 2 true", "ReferenceError", "now"]);
}

#[test]
fn errors_of_require_can_be_caught_and_stay_the_same() {
    let lines = init(
        "for (const name of ['./missing.js', './broken.js', './strict.js', './throws.js',
             './throws.js', './half.js', './half.js', './names.js', '', undefined, 'lodash', 'k6/x/no',
             'k6/experimental/redis', 'ftp://a/b', './script.js\\0']) {
           try { require(name); console.log('loaded', name) } catch (e) { console.log(e.name, e.message.slice(0, 62)) }
         }",
        &[
            ("file:///dir/broken.js", "const = 5;"),
            ("file:///dir/strict.js", "let a; let a; export { a };"),
            ("file:///dir/throws.js", "throw new RangeError('thrown')"),
            ("file:///dir/half.js", "import './missing.js'; import './m.js';"),
            ("file:///dir/m.js", "export const v = 1;"),
            ("file:///dir/names.js", "import { w } from './m.js'; console.log(w);"),
        ],
    );
    let missing = "The moduleSpecifier \"./missing.js\" couldn't be found on local ";
    assert_eq!(
        lines,
        [
            &format!("GoError {missing}"),
            "GoError file:///dir/broken.js: Line 1:7 Unexpected token",
            "GoError file:///dir/strict.js: Line 1:13 invalid redefinition of globa",
            "RangeError thrown",
            "RangeError thrown",
            &format!("GoError {missing}"),
            &format!("GoError {missing}"),
            "SyntaxError The requested module \"./m.js\" does not provide an export named",
            "GoError require() can't be used with an empty specifier",
            "GoError require() can't be used with an empty specifier",
            "GoError The moduleSpecifier \"lodash\" couldn't be recognised as somethi",
            "GoError unknown modules [\"k6/x/no\"] were tried to be loaded, but could",
            "GoError k6/experimental/redis has been removed. Please migrate to the ",
            "GoError only supported schemes for imports are file and https, ftp://a",
            "GoError invalid moduleSpecifier \"./script.js\\0\"",
        ]
    );
}

#[test]
fn the_main_script_may_be_commonjs() {
    let lines = run(
        "const { sleep } = require('k6'); exports.options = { vus: 3 };
         exports.default = function () { console.log(typeof sleep, typeof module, typeof exports.options) }",
        &[],
    );
    assert_eq!(lines, ["function object object"]);
    let exports = on_worker(async {
        let rig = Rig::new("module.exports = { options: { vus: 3 }, default() {}, setup() {} }");
        rig.load().await.unwrap()
    });
    let options = exports.options.clone().unwrap();
    assert_eq!(options.to_string(), r#"{"vus":3}"#);
    assert!(exports.has("default") && exports.has("setup"));
    for source in ["module.exports = function () {}", "module.exports = 5", ""] {
        assert_eq!(load_error(source), "no exported functions in script");
    }
    assert!(load_error("module.exports = null").contains("exports must not be null"));
    // In strict mode, and line 1 is where the file begins.
    assert!(load_error("undeclared = 1").contains("undeclared"));
    assert!(
        load_error("throw new Error('x')").ends_with("\tat file:///dir/script.js:1:11(0)\n"),
        "{}",
        load_error("throw new Error('x')")
    );
    assert!(load_error("#!/bin/sh\nvar await = 1; throw await").starts_with("1\n"));
}

#[test]
fn the_names_of_commonjs_are_traps_in_modules() {
    let lines = init(
        "for (const touch of [() => module, () => typeof exports]) {
           try { touch() } catch (e) { console.log(e.name, e.message.slice(0, 48)) }
         }",
        &[],
    );
    assert_eq!(
        lines,
        [
            "GoError you are trying to access identifier \"module\", th",
            "GoError you are trying to access identifier \"exports\", t"
        ]
    );
}

#[test]
fn require_is_for_init_only() {
    let lines = run(
        "export default function () { try { require('k6') } catch (e) { console.log(e.message) } }",
        &[],
    );
    assert!(
        lines[0].starts_with("the \"require\" function is only available in the init stage"),
        "{lines:?}"
    );
}

#[test]
fn vus_require_what_the_first_init_required() {
    let lines = on_worker(async {
        let rig = Rig::with_files(
            "if (__VU === 1) { for (const f of ['./late.js', './data.js']) {
               try { require(f) } catch (e) { console.log(e.message) } } }
             else { open('data.js') }
             export default () => 1",
            &[("file:///dir/late.js", ""), ("file:///dir/data.js", "")],
        );
        rig.load().await.unwrap();
        rig.vu().await.unwrap().close().await;
        rig.lines()
    });
    let late = |name| {
        format!("the module \"{name}\" was not previously resolved during initialization (__VU==0)")
    };
    assert_eq!(lines, [late("./late.js"), late("./data.js")]);
}

#[test]
fn built_in_modules_lack_no_name() {
    let lines = init(
        "import k6, { sleep, none } from 'k6'; import * as ns from 'k6'; import http, { nope } from 'k6/http';
         export { gone } from 'k6/data';
         console.log(typeof sleep, none, nope, Object.keys(ns).join(), 'default' in ns);
         console.log(k6.sleep === sleep, require('k6') === k6, require('k6/http') === http);",
        &[],
    );
    assert_eq!(
        lines,
        [
            "function null undefined check,fail,group,randomSeed,sleep false",
            "true true true"
        ]
    );
}

#[test]
fn import_meta_resolves_and_import_calls_are_refused() {
    let lines = init(
        "import { here } from './lib/m.js';
         console.log(import.meta.resolve('./a b.js'), here, import.meta.url, open(import.meta.resolve('./a b.js')));
         try { import.meta.resolve('k6') } catch (e) { console.log(e.message) }
         import('./lib/m.js').catch((e) => console.log(e.message));",
        &[
            (
                "file:///dir/lib/m.js",
                "export const here = import.meta.resolve('../x.js');",
            ),
            ("file:///dir/a b.js", "spaced"),
        ],
    );
    assert_eq!(
        lines,
        [
            "file:///dir/a%20b.js file:///dir/x.js undefined spaced",
            "The moduleSpecifier \"k6\" couldn't be recognised as something k6 supports.",
            "dynamic modules not enabled in the host program"
        ]
    );
}

#[test]
fn experimental_names_of_old_are_the_graduated_modules() {
    let lines = run(
        "import { setTimeout as old } from 'k6/experimental/timers'; import 'k6/experimental/timers';
         import { setTimeout as now } from 'k6/timers';
         console.log(old === now, require('k6/experimental/timers').setTimeout === now);
         export default () => 1",
        &[],
    );
    assert_eq!(
        lines,
        [
            "Warning: k6/experimental/timers has been graduated, and it's now globally available as \
             defined by standard WebAPIs. You just need to remove the import.",
            "true true",
            "true true",
        ]
    );
    let text = load_error("import 'k6/experimental/tracing'; export default () => 1");
    assert!(
        text.starts_with("GoError: k6/experimental/tracing has been removed. All of it"),
        "{text}"
    );
}

#[test]
fn open_starts_at_the_file_that_is_being_evaluated() {
    let files = [
        ("file:///dir/t.txt", "dir"),
        ("file:///dir/lib/t.txt", "lib"),
        (
            "file:///dir/lib/c.js",
            "exports.top = open('t.txt'); exports.later = () => open('t.txt');",
        ),
        (
            "file:///dir/lib/m.js",
            "export const top = open('./t.txt'); export const later = () => open('./t.txt');",
        ),
    ];
    let lines = run(
        "import { top, later } from './lib/m.js'; const c = require('./lib/c.js');
         console.log(top, [1].map(later).join(), c.top, c.later(), later());
         export default () => 1",
        &files,
    );
    assert!(
        lines[0].starts_with(
            "Warning: open() was used and is currently relative to 'file:///dir/', but in the \
             future it will be aligned with how `require` and imports work and will be relative to \
             'file:///dir/lib/'."
        ),
        "{lines:?}"
    );
    assert_eq!(lines[1..], ["lib dir lib dir dir", "lib dir lib dir dir"]);
}

#[test]
fn archives_say_what_they_lack() {
    let lines = init(
        "for (const path of ['none.txt', 'data', './data/', '/dir/data/t.txt']) {
           try { console.log(open(path)) } catch (e) { console.log(String(e)) }
         }",
        &[("file:///dir/data/t.txt", "text")],
    );
    assert_eq!(
        lines,
        [
            "GoError: open /dir/none.txt: file does not exist",
            "GoError: open() can't be used with directories, path: \"/dir/data\"",
            "GoError: open() can't be used with directories, path: \"/dir/data\"",
            "text",
        ]
    );
}

#[test]
fn exceptions_of_commonjs_have_the_frames_of_the_script_alone() {
    let text = on_worker(async {
        let files = [("file:///dir/c.js", "\nnull.x")];
        let rig = Rig::with_files("import './c.js'; export default () => 1", &files);
        rig.load().await.unwrap_err().to_string()
    });
    assert!(text.starts_with("TypeError: "), "{text}");
    let frames: Vec<&str> = text.lines().skip(1).collect();
    assert_eq!(frames, ["\tat file:///dir/c.js:2:1(0)"]);
}

#[test]
fn typescript_runs_and_its_errors_are_where_they_were_written() {
    let files = [
        (
            "file:///dir/lib.ts",
            "import type { Gone } from './gone';\nexport interface Shape {\n  x: number;\n}\n\n\
             export enum Level { Low = 1, High = 10 }\n\
             export function fail(\n  text: string,\n): never {\n  const shape: Shape = { x: 1 };\n\
             \x20 const all = text + shape.x;\n\
             \x20 throw new RangeError(all);\n}\n",
        ),
        (
            "file:///dir/common.ts",
            "exports.twice = (n: number): number => n * 2;",
        ),
    ];
    let lines = run(
        "import { Level, fail } from './lib.ts'; const common = require('./common.ts');
         export default () => {
           console.log(Level.High, Level[10], common.twice(2));
           try { fail('caught ') } catch (e) { console.log(e.stack.split('\\n')[1].trim()) }
           fail('x');
         }",
        &files,
    );
    assert_eq!(
        lines,
        [
            "10 High 4",
            "at fail (file:///dir/lib.ts:12:24(0))",
            "Error: RangeError: x1\n\tat fail (file:///dir/lib.ts:12:24(0))\n\
             \tat default (file:///dir/script.js:5:12(0))\n"
        ]
    );
}

#[test]
fn source_maps_of_bundles_are_followed() {
    // Line 2 column 0 of the bundle is src/main.ts 7:2.
    let map = r#"{"version":3,"sources":["src/main.ts"],"names":[],"mappings":";AAME"}"#;
    let lines = run(
        "import { beside } from './beside.js'; import { inside } from './inside.js';
         import { lost } from './lost.js';
         export default () => { for (const f of [beside, inside, lost])
           try { f() } catch (e) { console.log(e.stack.split('\\n')[1].trim()) } }",
        &[
            (
                "file:///dir/beside.js",
                "export const beside = () => {\nthrow new Error(); };\n//# sourceMappingURL=beside.js.map",
            ),
            ("file:///dir/beside.js.map", map),
            (
                "file:///dir/inside.js",
                "export const inside = () => {\nthrow new Error(); };\n//# sourceMappingURL=data:application/json,\
                 {\"version\":3,\"sources\":[\"webpack://b/m.ts\"],\"names\":[],\"mappings\":\";AAME\"}",
            ),
            (
                "file:///dir/lost.js",
                "export const lost = () => {\nthrow new Error(); };\n//# sourceMappingURL=gone.map",
            ),
        ],
    );
    assert_eq!(
        lines,
        [
            "Warning: Couldn't load source map for file:///dir/lost.js",
            "at beside (file:///dir/src/main.ts:7:3(0))",
            "at inside (webpack://b/m.ts:7:3(0))",
            "at lost (file:///dir/lost.js:2:11(0))",
        ]
    );
}

#[test]
fn names_of_exports_may_be_any_text() {
    let lines = init(
        "import { 'a b' as ab, 'no \\u0022' as no, default as d } from './c.js';
         import { 'x y' as xy, delete as del } from 'k6';
         console.log(ab, no, JSON.stringify(d), xy, del);",
        &[("file:///dir/c.js", "exports['a b'] = 1;")],
    );
    assert_eq!(lines, ["1 undefined {\"a b\":1} null null"]);
}

#[test]
fn only_ts_files_are_typescript() {
    let error = |name: &str, text: &str| {
        on_worker(async {
            let url = format!("file:///dir/{name}");
            let script = format!("import './{name}'; export default () => 1");
            let files = [(url.as_str(), text)];
            let rig = Rig::with_files(&script, &files);
            rig.load().await.err().map(|error| error.to_string())
        })
    };
    assert_eq!(error("a.ts", "export let a: number = 1;"), None);
    for name in ["a.js", "a.mts", "a.tsx"] {
        let text = error(name, "export let a: number = 1;").unwrap();
        assert!(
            text.starts_with(&format!("file:///dir/{name}: Line 1:13 ")),
            "{text}"
        );
    }
    let text = error(
        "a.ts",
        "type A = number;\nexport const a: A = 1;\nlet b: A = ;",
    )
    .unwrap();
    assert!(
        text.starts_with("file:///dir/a.ts: Line 3:12 Unexpected"),
        "{text}"
    );
    // Found by the engine, in what was made of the text.
    let text = error(
        "a.ts",
        "type A = number;\n\nlet a: A = 1;\n  let a: A = 2; export { a }",
    )
    .unwrap();
    assert!(text.starts_with("file:///dir/a.ts: Line 4:"), "{text}");
    let text = error(
        "a.ts",
        "const d = (c: any) => c;\n@d class A {}\nexport { A }",
    )
    .unwrap();
    assert!(text.starts_with("file:///dir/a.ts: Line 2:1 "), "{text}");
}

#[test]
fn a_slow_volume_is_waited_for_once() {
    const MODULES: usize = 200;
    const VUS: u64 = 20;
    const DELAY: Duration = Duration::from_millis(20);
    let folder = tempfile::tempdir().unwrap();
    let mut source = String::new();
    for n in 0..MODULES {
        // Half of them required, half imported; each reads a file, the same for all.
        let (name, text) = if n % 2 == 0 {
            source.push_str(&format!("import './m{n}.js';\n"));
            (format!("m{n}.js"), "export const t = open('t.txt');")
        } else {
            source.push_str(&format!("require('./m{n}.cjs');\n"));
            (format!("m{n}.cjs"), "exports.t = open('t.txt');")
        };
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    std::fs::write(folder.path().join("t.txt"), "text").unwrap();
    source.push_str("export default () => 1;");
    let opened = Arc::new(AtomicUsize::new(0));
    let mut files = Files::disk(Arc::new(FileWait::none()));
    let count = opened.clone();
    files.hook = Some(Box::new(move || {
        count.fetch_add(1, Ordering::Relaxed);
        std::thread::sleep(DELAY);
    }));
    let pwd = format!("file://{}", folder.path().display());
    let mut rig = Rig::new("");
    rig.script = Script::new(ScriptSource {
        url: format!("{pwd}/script.js"),
        pwd,
        code: source.into_bytes().into(),
        files,
        env: Vec::new(),
        extended: true,
    });
    on_worker(async {
        rig.load().await.unwrap();
        let first = opened.load(Ordering::Relaxed);
        assert_eq!(first, MODULES + 1);
        let began = Instant::now();
        for _ in 0..VUS {
            rig.vu().await.unwrap().close().await;
        }
        assert_eq!(opened.load(Ordering::Relaxed), first);
        // One more load of the volume alone would take that long.
        let volume = DELAY * MODULES as u32;
        assert!(began.elapsed() < volume, "{:?}", began.elapsed());
    });
}

#[test]
fn stacks_have_the_form_of_k6() {
    let lines = run(
        "import { fail } from 'k6';
         class Mine extends TypeError { get name() { return 'Mine' } }
         function thrower(e) { throw e }
         export default function () {
           for (const make of [() => new Error('boom'), () => new Mine('m'), () => new Error()])
             try { thrower(make()) } catch (e) { console.log(JSON.stringify(e.stack)) }
           try { fail('no') } catch (e) { console.log(JSON.stringify(e.stack)) }
           try { null.x } catch (e) { console.log(e.stack.includes('property') && e.stack.split('\\n').length) }
           const plain = {}; Error.captureStackTrace(plain); console.log(JSON.stringify(plain.stack));
           throw new RangeError('last');
         }",
        &[],
    );
    let at = "\\tat default (file:///dir/script.js";
    assert_eq!(
        lines,
        [
            &format!("\"Error: boom\\n\\tat file:///dir/script.js:5:42(0)\\n{at}:6:28(0))\\n\""),
            &format!(
                "\"Mine: m\\n\\tat Mine (file:///dir/script.js:2:1(0))\\n\\tat file:///dir/script.js:5:67(0)\\n{at}:6:28(0))\\n\""
            ),
            &format!("\"Error\\n\\tat file:///dir/script.js:5:88(0)\\n{at}:6:28(0))\\n\""),
            &format!("\"GoError: no\\n{at}:7:18(0))\\n\""),
            "3",
            &format!("\"Error\\n{at}:9:54(0))\\n\""),
            "Error: RangeError: last\n\tat default (file:///dir/script.js:10:22(0))\n",
        ]
    );
}

#[test]
fn a_large_bundle_is_a_module_like_any_other() {
    let bundle = format!(
        "console.log('run', this);
         let count = 0; const next = () => ++count; function where() {{ return new Error('here').stack; }}
         export {{ next, where, next as default }};\n/*{}*/",
        "x".repeat(20_000)
    );
    let broken = format!(
        "let a = 1; export {{ a }}; throw new RangeError('top');\n/*{}*/",
        "x".repeat(20_000)
    );
    let lines = init(
        "import next, { where } from './bundle.js'; import * as all from './bundle.js';
         import { next as again } from './through.js';
         console.log(next(), all.next(), again(), Object.keys(all).join(), Object.isExtensible(all));
         console.log(where().split('\\n')[1].trim());
         const required = require('./bundle.js');
         console.log(required.next === next, required.default === next);
         for (const name of ['./names.js', './broken.js', './half.js']) {
           try { require(name) } catch (e) { console.log(e.name, e.message) }
         }",
        &[
            ("file:///dir/bundle.js", &bundle),
            ("file:///dir/broken.js", &broken),
            ("file:///dir/half.js", "import { a } from './broken.js'; console.log(a);"),
            ("file:///dir/through.js", "export * from './bundle.js';"),
            ("file:///dir/names.js", "import { gone } from './bundle.js'; console.log(gone);"),
        ],
    );
    assert_eq!(
        lines,
        [
            "run undefined",
            "1 2 3 default,next,where false",
            "at where (file:///dir/bundle.js:2:83(0))",
            "true true",
            "SyntaxError The requested module \"./bundle.js\" does not provide an export named \"gone\"",
            "RangeError top",
            "RangeError top",
        ]
    );
}

#[test]
fn what_nests_deep_is_run_and_what_nests_deeper_is_an_error() {
    let nested = |open: &str, close: &str, depth: usize| {
        let (open, close) = (open.repeat(depth), close.repeat(depth));
        format!("const n: () => any = () => {{ {open}1{close} }};")
    };
    let kinds = [
        ("(", ")"),
        ("[", "]"),
        ("{", "}"),
        ("({a:", "})"),
        ("if(0){", "}"),
        ("(a=>{", "})"),
    ];
    for (open, close) in kinds {
        // Two levels of brackets in one of these, and some around them.
        let files = [("file:///dir/deep.ts", &*nested(open, close, 2400))];
        let lines = init("import './deep.ts'; console.log('there');", &files);
        assert_eq!(lines, ["there"], "{open}");
        let files = [("file:///dir/deep.ts", &*nested(open, close, 200_000))];
        let script = "import './deep.ts'; export default function () {}";
        let error = on_worker(async { Rig::with_files(script, &files).load().await.unwrap_err() });
        let error = error.to_string();
        assert!(
            error.contains("brackets nest more than 5000 levels deep"),
            "{error}"
        );
    }
}
