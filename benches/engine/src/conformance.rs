//! Which language features work, from source text and from bytecode, and what stops a script.

use std::{cell::Cell, fs, path::Path, rc::Rc};

use rquickjs::{
    CatchResultExt, CaughtError, Context, Ctx, Error, Exception, Function, Module, Object, Result,
    Runtime, Value,
    loader::{Loader, Resolver},
    module::Declared,
    qjs,
};

use crate::engine;

/// Name, and the text of a module that passes when its default export is `true` after all jobs
/// ran, or, for a question, shows the string that it exports.
const FEATURES: &[(&str, &str)] = &[
    (
        "async generators, for await",
        "let s = 0; async function* g() { yield 1; yield 2; } for await (const v of g()) s += v; export default s === 3;",
    ),
    (
        "top-level await",
        "const v = await Promise.resolve(7); export default v === 7;",
    ),
    (
        "logical assignment, ?., ??, numeric separators",
        "let a = null; a ??= 1_000; a &&= a?.valueOf(); export default a === 1000;",
    ),
    (
        "class fields, private methods, static blocks, #x in o",
        "class A { #x = 1; static n = 0; static { A.n = 5; } #m() { return this.#x; } static has(o) { return #x in o; } m() { return this.#m(); } } export default A.has(new A()) && !A.has({}) && A.n === 5 && new A().m() === 1;",
    ),
    (
        "destructuring, spread, generators, Proxy, BigInt",
        "function* g() { const x = yield 1; return x; } const i = g(); i.next(); const { a, ...r } = { a: 1, b: 2, c: 3 }; const p = new Proxy({}, { get: (_, k) => k }); export default i.next(4).value === 4 && r.c === 3 && p.foo === 'foo' && 2n ** 64n === 18446744073709551616n;",
    ),
    (
        "explicit resource management (using)",
        "let log = ''; { using x = { [Symbol.dispose]() { log += 'd'; } }; log += 'b'; } export default log === 'bd';",
    ),
    (
        "await using",
        "let log = ''; { await using x = { async [Symbol.asyncDispose]() { log += 'd'; } }; log += 'b'; } export default log === 'bd';",
    ),
    (
        "decorators",
        "const d = (v) => v; class A { @d m() { return 1; } } export default new A().m() === 1;",
    ),
    (
        "RegExp: lookbehind, named groups, s, y, u, d flags",
        "const m = /(?<=\\$)(?<n>\\d+)/du.exec('a$42'); export default m.groups.n === '42' && m.indices[0][0] === 2;",
    ),
    (
        "RegExp v flag",
        "export default /^[\\p{L}--[a-z]]+$/v.test('ABC') && !/^[\\p{L}--[a-z]]+$/v.test('abc');",
    ),
    (
        "RegExp duplicate named groups",
        "export default /(?<y>a)|(?<y>b)/.exec('b').groups.y === 'b';",
    ),
    (
        "RegExp modifiers (?i:)",
        "export default /^(?i:a)b$/.test('Ab') && !/^(?i:a)b$/.test('AB');",
    ),
    (
        "RegExp.escape",
        "export default RegExp.escape('a.b') === '\\\\x61\\\\.b';",
    ),
    (
        "iterator helpers",
        "export default Iterator.from([1, 2, 3]).map((x) => x * 2).filter((x) => x > 2).take(5).toArray().join() === '4,6';",
    ),
    (
        "Iterator.concat",
        "export default [...Iterator.concat([1], [2])].join() === '1,2';",
    ),
    (
        "Iterator.zip",
        "export default [...Iterator.zip([[1, 2], [3, 4]])].join() === '1,3,2,4';",
    ),
    (
        "Array.fromAsync",
        "async function* g() { yield 1; yield 2; } export default (await Array.fromAsync(g())).join() === '1,2';",
    ),
    (
        "Array findLast, at, toSorted, with, groupBy",
        "export default [1, 2].findLast((x) => x) === 2 && [1].at(-1) === 1 && [2, 1].toSorted().with(0, 9).join() === '9,2' && Object.groupBy([1, 2], (x) => x % 2 ? 'o' : 'e').o[0] === 1;",
    ),
    (
        "Set methods",
        "export default new Set([1, 2]).union(new Set([3])).size === 3;",
    ),
    (
        "Map.prototype.getOrInsert",
        "export default new Map().getOrInsert('a', 1) === 1;",
    ),
    (
        "Promise.try, withResolvers, any, allSettled",
        "const { promise, resolve } = Promise.withResolvers(); resolve(1); export default await Promise.try(() => 2) === 2 && await promise === 1 && await Promise.any([3]) === 3;",
    ),
    (
        "Error.cause, AggregateError",
        "export default new Error('a', { cause: 1 }).cause === 1 && new AggregateError([1], 'm').errors[0] === 1;",
    ),
    (
        "Error.isError",
        "export default Error.isError(new Error()) && !Error.isError({});",
    ),
    (
        "Error.captureStackTrace",
        "const o = {}; Error.captureStackTrace(o); export default typeof o.stack === 'string';",
    ),
    (
        "ArrayBuffer resize, transfer",
        "const b = new ArrayBuffer(8, { maxByteLength: 16 }); b.resize(12); export default b.byteLength === 12 && b.transfer(4).byteLength === 4;",
    ),
    (
        "Float16Array",
        "export default new Float16Array([1.5])[0] === 1.5;",
    ),
    (
        "Math.sumPrecise",
        "export default Math.sumPrecise([1e20, 0.1, -1e20]) === 0.1;",
    ),
    (
        "Uint8Array base64, hex",
        "export default Uint8Array.fromBase64('aGk=').toHex() === '6869';",
    ),
    (
        "JSON.rawJSON, source text in revivers",
        "export default JSON.stringify(JSON.rawJSON('1e1000')) === '1e1000' && JSON.parse('1.0', (k, v, c) => c.source) === '1.0';",
    ),
    (
        "String isWellFormed, replaceAll, normalize",
        "export default 'a'.isWellFormed() && 'aa'.replaceAll('a', 'b') === 'bb' && 'e\\u0301'.normalize('NFC') === '\\u00e9';",
    ),
    ("Temporal", "export default typeof Temporal === 'object';"),
    ("Intl", "export default typeof Intl === 'object';"),
    (
        "WeakRef (not among the VU's intrinsics)",
        "export default typeof WeakRef === 'function' && typeof FinalizationRegistry === 'function';",
    ),
    ("atob, btoa", "export default atob(btoa('hi')) === 'hi';"),
    (
        "import attributes, JSON modules",
        "import data from 'data.json' with { type: 'json' }; export default data.a === 1;",
    ),
    (
        "dynamic import, import.meta",
        "const m = await import('other'); export default m.two === 2 && typeof import.meta === 'object';",
    ),
    (
        "localeCompare: a before B",
        "export default 'a'.localeCompare('B') < 0;",
    ),
    (
        "localeCompare: accents are normalised",
        "export default 'e\\u0301'.localeCompare('\\u00e9') === 0;",
    ),
    (
        "toLocaleString groups digits",
        "export default (1234567.5).toLocaleString() === '1,234,567.5';",
    ),
    (
        "Date parses ISO, RFC 2822 and a US date",
        "export default Date.parse('2026-01-02T03:04:05Z') === 1767323045000 && Date.parse('Fri, 02 Jan 2026 03:04:05 GMT') === 1767323045000 && !isNaN(Date.parse('1/2/2026'));",
    ),
    (
        "sort is stable",
        "const a = Array.from({ length: 600 }, (_, i) => ({ k: i % 3, i })); a.sort((x, y) => x.k - y.k); export default a.every((x, i) => i === 0 || a[i - 1].k < x.k || a[i - 1].i < x.i);",
    ),
    (
        "tagged template: the strings are frozen",
        "const same = () => ((x) => x)`fixed${1}`; export default Object.isFrozen(same()) && Object.isFrozen(same().raw);",
    ),
    (
        "tagged template: one object per place",
        "const same = () => ((x) => x)`fixed`; export default same() === same() && same().raw[0] === 'fixed';",
    ),
    (
        "a regular expression, BigInt, float and string constant",
        "export default /a+/y.exec('aa')[0] === 'aa' && 123456789012345678901234567890n % 97n === 52n && 1.5e300 > 1 && 'h\\u00e9\\u4e2d'.length === 3;",
    ),
    (
        "BigInt.asUintN of 64 bits",
        "export default BigInt.asUintN(64, -1n) === 18446744073709551615n;",
    ),
    (
        "export of a destructured array",
        "import * as self from 'test.js'; export const [first] = [5]; export default 'first' in self && self.first === 5;",
    ),
    (
        "function names survive",
        "const f = () => 1; class K { static #p() {} m() {} } export default f.name === 'f' && K.name === 'K' && K.prototype.m.name === 'm';",
    ),
    (
        "getters, setters, computed and super members",
        "const k = 'x'; class B { get [k]() { return 1; } } class C extends B { get x() { return super.x + 1; } } export default new C().x === 2;",
    ),
    (
        "labels, switch, finally",
        "let n = 0; outer: for (let i = 0; i < 3; i++) { for (;;) { try { continue outer; } finally { n++; } } } export default n === 3;",
    ),
    (
        "endless recursion ends in a RangeError that can be caught",
        "let name; const f = () => f() + 1; try { f(); } catch (e) { name = e.name; } export default name === 'RangeError';",
    ),
    (
        "catch binding with a bad regular expression at run time",
        "let name; try { new RegExp('('); } catch (e) { name = e.name; } export default name === 'SyntaxError';",
    ),
    (
        "question: stack of an error",
        "function inner() {\n  const padding = 1;    throw new Error('x');\n}\nlet s; try {\n  inner();\n} catch (e) { s = e.stack; } export default JSON.stringify(s);",
    ),
    (
        "question: Function.prototype.toString",
        "function shown(a) { return a; } export default JSON.stringify(shown.toString());",
    ),
    (
        "question: message of a TypeError",
        "let o = { a: {} }, m; try { o.a.b.c(); } catch (e) { m = e.message; } export default JSON.stringify(m);",
    ),
    (
        "question: message of calling what is no function",
        "let o = { a: {} }, m; try { o.a.b(); } catch (e) { m = e.message; } export default JSON.stringify(m);",
    ),
    (
        "question: message of a bad JSON text",
        "let m; try { JSON.parse('{\"a\": oops}'); } catch (e) { m = e.message; } export default JSON.stringify(m);",
    ),
    (
        "question: message of recursion without end",
        "let m; const f = () => f() + 1; try { f(); } catch (e) { m = e.message; } export default JSON.stringify(m);",
    ),
];

struct Modules;

impl Resolver for Modules {
    #[cfg(not(import_attributes))]
    fn resolve<'js>(&mut self, _: &Ctx<'js>, _: &str, name: &str) -> Result<String> {
        Ok(name.to_owned())
    }
    #[cfg(import_attributes)]
    fn resolve<'js>(
        &mut self,
        _: &Ctx<'js>,
        _: &str,
        name: &str,
        _: Option<rquickjs::loader::ImportAttributes<'js>>,
    ) -> Result<String> {
        Ok(name.to_owned())
    }
}

fn declare<'js>(ctx: &Ctx<'js>, name: &str) -> Result<Module<'js, Declared>> {
    match name {
        "other" => Module::declare(ctx.clone(), name, "export const two = 2;"),
        "data.json" => Module::declare(ctx.clone(), name, "export default { a: 1 };"),
        _ => Err(Error::new_loading(name)),
    }
}

impl Loader for Modules {
    #[cfg(not(import_attributes))]
    fn load<'js>(&mut self, ctx: &Ctx<'js>, name: &str) -> Result<Module<'js, Declared>> {
        declare(ctx, name)
    }
    #[cfg(import_attributes)]
    fn load<'js>(
        &mut self,
        ctx: &Ctx<'js>,
        name: &str,
        _: Option<rquickjs::loader::ImportAttributes<'js>>,
    ) -> Result<Module<'js, Declared>> {
        declare(ctx, name)
    }
}

fn fresh() -> (Runtime, Context) {
    let runtime = engine::runtime("mimalloc");
    runtime.set_loader(Modules, Modules);
    let context = engine::context(&runtime, "volley");
    (runtime, context)
}

fn describe(error: CaughtError<'_>) -> String {
    let text = match error {
        CaughtError::Exception(e) => e.message().unwrap_or_default(),
        other => other.to_string(),
    };
    text.replace(['\n', '\t'], " ")
}

fn feature(source: &str, bytecode: bool) -> String {
    let (_runtime, context) = fresh();
    context
        .with(|ctx| {
            let declared = if bytecode {
                let code = {
                    let (_other, other) = fresh();
                    other.with(|ctx| {
                        engine::compile(&ctx, "test.js", source, true)
                            .catch(&ctx)
                            .map_err(describe)
                    })
                };
                match code {
                    Ok(code) => engine::load(&ctx, &code),
                    Err(text) => return text,
                }
            } else {
                Module::declare(ctx.clone(), "test.js", source)
            };
            let result = (|| -> Result<Value<'_>> {
                let (module, promise) = declared?.eval()?;
                promise.finish::<()>()?;
                module.get("default")
            })();
            match result.catch(&ctx) {
                Ok(value) => match value.as_bool() {
                    Some(true) => "yes".to_owned(),
                    Some(false) => "no".to_owned(),
                    None => value
                        .as_string()
                        .and_then(|s| s.to_string().ok())
                        .unwrap_or_default(),
                },
                Err(error) => format!("no: {}", describe(error)),
            }
        })
        .replace('\t', " ")
}

/// Each in a process of its own, since some versions die of some.
pub fn features() {
    let program = std::env::current_exe().expect("a path");
    for (index, (name, _)) in FEATURES.iter().enumerate() {
        let output = std::process::Command::new(&program)
            .args(["feature", &index.to_string()])
            .output()
            .expect("this program starts");
        let text = String::from_utf8_lossy(&output.stdout);
        let died = if output.status.success() { "" } else { "dies" };
        println!("{name}\t{}{died}", text.trim_end());
    }
}

/// One of them.
pub fn one_feature(index: usize) {
    let (_, source) = FEATURES[index];
    let (from_source, from_code) = (feature(source, false), feature(source, true));
    if from_source == from_code {
        println!("{from_source}");
    } else {
        println!("{from_source}; from bytecode: {from_code}");
    }
}

/// Name, and a script in which `halt()` throws the uncatchable error. `after()` must not be called.
const STOPPING: &[(&str, &str)] = &[
    ("try, catch", "try { halt(); } catch { after(); }"),
    ("try, finally", "try { halt(); } finally { after(); }"),
    (
        "after new Promise(executor)",
        "new Promise(() => { halt(); }); after();",
    ),
    (
        "catch of new Promise(executor)",
        "new Promise(() => { halt(); }).catch(after);",
    ),
    (
        "thenable",
        "Promise.resolve({ then() { halt(); } }).catch(after);",
    ),
    (
        "reaction of a promise",
        "Promise.resolve().then(() => halt()).catch(after);",
    ),
    (
        "async function, catch inside",
        "(async () => { try { halt(); } catch { after(); } })();",
    ),
    (
        "async function, after the call",
        "(async () => { halt(); })(); after();",
    ),
    (
        "async function, catch outside",
        "(async () => { halt(); })().catch(after);",
    ),
    (
        "async function, after an await",
        "(async () => { await null; try { halt(); } catch { after(); } })().catch(after);",
    ),
    (
        "Promise.all over an iterator",
        "Promise.all((function* () { halt(); })()).catch(after); after();",
    ),
    ("Promise.try", "Promise.try(() => halt()).catch(after);"),
    (
        "for of closes its iterator",
        "const it = { [Symbol.iterator]() { return { next: () => ({ done: false }), return() { after(); return {}; } }; } }; for (const x of it) halt();",
    ),
    (
        "Array.from closes its iterator",
        "const it = { [Symbol.iterator]() { return { next: () => ({ done: false }), return() { after(); return {}; } }; } }; Array.from(it, () => halt());",
    ),
    (
        "generator's finally",
        "function* g() { try { yield 1; halt(); } finally { after(); } } for (const x of g());",
    ),
    (
        "async generator's catch",
        "(async () => { async function* g() { try { halt(); } catch { after(); } yield 1; } for await (const x of g()) after(); })();",
    ),
    (
        "sort, forEach, replace, JSON.parse callbacks",
        "try { [1, 2].sort(() => halt()); } catch { after(); }",
    ),
    (
        "getter, Proxy trap, toString",
        "try { `${{ toString() { halt(); } }}`; } catch { after(); }",
    ),
    (
        "using disposes",
        "globalThis.f = new Function('{ using x = { [Symbol.dispose]() { after(); } }; halt(); }'); f();",
    ),
];

/// How often `after()` ran, when `halt` is the uncatchable error thrown by a native, and when it is
/// an endless loop that the interrupt handler ends.
pub fn stopping() {
    for (name, source) in STOPPING {
        let [native, handler] = [false, true].map(|by_handler| {
            let (runtime, context) = fresh();
            let ran = Rc::new(Cell::new(0));
            let halted = Rc::new(Cell::new(false));
            {
                let halted = halted.clone();
                // Not sticky on purpose: the question is what the engine does by itself.
                runtime.set_interrupt_handler(Some(Box::new(move || halted.take())));
            }
            let mut problem = None;
            context.with(|ctx| {
                let seen = ran.clone();
                let after = Function::new(ctx.clone(), move || seen.set(seen.get() + 1)).unwrap();
                ctx.globals().set("after", after).unwrap();
                if by_handler {
                    let arm = Function::new(ctx.clone(), move || halted.set(true)).unwrap();
                    ctx.globals().set("arm", arm).unwrap();
                    ctx.eval::<(), _>("globalThis.halt = () => { arm(); for (;;); }")
                        .unwrap();
                } else {
                    let halt = Function::new(ctx.clone(), |ctx: Ctx<'_>| -> Result<()> {
                        Err(throw_uncatchable(&ctx))
                    });
                    ctx.globals().set("halt", halt.unwrap()).unwrap();
                }
                let result = ctx.eval::<Value<'_>, _>(*source);
                if let Err(error) = result.catch(&ctx) {
                    let text = describe(error);
                    if !text.contains("interrupted") {
                        problem = Some(text);
                    }
                }
            });
            engine::drain(&context);
            match problem {
                Some(text) => text,
                None if ran.get() == 0 => "stops".to_owned(),
                None => "runs on".to_owned(),
            }
        });
        println!("{name}\t{native}; by the handler: {handler}");
    }
}

fn throw_uncatchable(ctx: &Ctx<'_>) -> Error {
    let error = Exception::from_message(ctx.clone(), "interrupted").unwrap();
    let value = error.into_object().into_value();
    // SAFETY: a live Error object of this context.
    unsafe { qjs::JS_SetUncatchableError(ctx.as_raw().as_ptr(), value.as_raw()) };
    ctx.throw(value)
}

/// Loads modules beside the script from the disk.
struct Disk;

fn beside(base: &str, name: &str) -> String {
    let folder = Path::new(base).parent().unwrap_or(Path::new(""));
    folder.join(name).to_string_lossy().into_owned()
}

fn read<'js>(ctx: &Ctx<'js>, name: &str) -> Result<Module<'js, Declared>> {
    let text = fs::read(name).map_err(|_| Error::new_loading(name))?;
    Module::declare(ctx.clone(), name, text)
}

impl Resolver for Disk {
    #[cfg(not(import_attributes))]
    fn resolve<'js>(&mut self, _: &Ctx<'js>, base: &str, name: &str) -> Result<String> {
        Ok(beside(base, name))
    }
    #[cfg(import_attributes)]
    fn resolve<'js>(
        &mut self,
        _: &Ctx<'js>,
        base: &str,
        name: &str,
        _: Option<rquickjs::loader::ImportAttributes<'js>>,
    ) -> Result<String> {
        Ok(beside(base, name))
    }
}

impl Loader for Disk {
    #[cfg(not(import_attributes))]
    fn load<'js>(&mut self, ctx: &Ctx<'js>, name: &str) -> Result<Module<'js, Declared>> {
        read(ctx, name)
    }
    #[cfg(import_attributes)]
    fn load<'js>(
        &mut self,
        ctx: &Ctx<'js>,
        name: &str,
        _: Option<rquickjs::loader::ImportAttributes<'js>>,
    ) -> Result<Module<'js, Declared>> {
        read(ctx, name)
    }
}

/// Runs one script file, for the engine's own regression tests: prints `yes` or why not.
pub fn script(path: &str) {
    let runtime = engine::runtime("mimalloc");
    runtime.set_loader(Disk, Disk);
    let context = engine::context(&runtime, "full");
    let text = fs::read_to_string(path).expect("a file");
    let outcome = context.with(|ctx| {
        let print = Function::new(ctx.clone(), |_: Value<'_>| {}).unwrap();
        ctx.globals().set("print", print).unwrap();
        let global: Object<'_> = ctx.globals();
        let gc = Function::new(ctx.clone(), |ctx: Ctx<'_>| ctx.run_gc()).unwrap();
        global.set("gc", gc).unwrap();
        let is_module = text
            .lines()
            .any(|line| line.starts_with("import ") || line.starts_with("export "));
        let result = if is_module {
            Module::declare(ctx.clone(), path, text)
                .and_then(|module| module.eval())
                .and_then(|(_, promise)| promise.finish::<()>())
        } else {
            let mut options = rquickjs::context::EvalOptions::default();
            options.strict = false;
            ctx.eval_with_options::<(), _>(text, options)
        };
        match result.catch(&ctx) {
            Ok(()) => "yes".to_owned(),
            Err(error) => format!("no: {}", describe(error)),
        }
    });
    engine::drain(&context);
    println!("{outcome}");
}
