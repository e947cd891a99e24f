//! CPU time of small programs: the best of several rounds, of one thread.

use std::time::Duration;

use rquickjs::{Ctx, Function, Object, Value};

use crate::engine;

/// Name, and source of `globalThis.work`.
const CASES: &[(&str, &str)] = &[
    (
        "fib(27)",
        "globalThis.work = () => { const f = (n) => n < 2 ? n : f(n - 1) + f(n - 2); return f(27); }",
    ),
    (
        "json+regex+sort, 20k objects",
        r#"globalThis.work = () => {
        const rows = [];
        for (let i = 0; i < 20000; i++) rows.push({ id: i, name: "user-" + (i * 7919 % 20011), tags: ["a", "b" + i % 10], nested: { score: i * 1.5, ok: i % 3 === 0 } });
        const back = JSON.parse(JSON.stringify(rows));
        const re = /^user-(\d+)$/;
        let sum = 0;
        for (const row of back) { const m = re.exec(row.name); if (m) sum += +m[1]; }
        back.sort((a, b) => a.name < b.name ? -1 : a.name > b.name ? 1 : 0);
        return sum + back[7].id;
    }"#,
    ),
    (
        "JSON.parse of 20 KB, x100",
        r#"
        const text = JSON.stringify(Array.from({ length: 190 }, (_, i) => ({ id: i, name: "user-" + i, email: "user" + i + "@example.com", score: i * 1.25, active: i % 2 === 0, tags: ["x", "y"] })));
        globalThis.work = () => { let n = 0; for (let i = 0; i < 100; i++) n += JSON.parse(text).length; return n + text.length; }"#,
    ),
    (
        "property reads and writes, 1M",
        r#"globalThis.work = () => {
        const o = { a: 1, b: 2, c: 3, d: { e: 4 } }; let s = 0;
        for (let i = 0; i < 1000000; i++) { o.a = i; s += o.a + o.b + o.d.e; }
        return s;
    }"#,
    ),
    (
        "native call, 1M",
        "globalThis.work = () => { for (let i = 0; i < 1000000; i++) empty(); }",
    ),
    (
        "native call with 2 arguments, 1M",
        "globalThis.work = () => { for (let i = 0; i < 1000000; i++) two('x', i); }",
    ),
    (
        "object of 8 properties from Rust, 100k",
        "globalThis.work = () => { for (let i = 0; i < 100000; i++) object(); }",
    ),
    (
        "string building, 100k",
        r#"globalThis.work = () => {
        let s = ""; for (let i = 0; i < 100000; i++) s += "line " + i + "\n";
        return s.split("\n").map((l) => l.slice(5)).join(",").length;
    }"#,
    ),
    (
        "objects and closures, 300k",
        r#"globalThis.work = () => {
        const seen = new Map(); let n = 0;
        for (let i = 0; i < 300000; i++) { const o = { i, f: () => i, a: [i, i + 1] }; n += o.f() + o.a.length; seen.set(i % 1000, o); }
        return n + seen.size;
    }"#,
    ),
    (
        "an iteration's own script, 20k",
        r#"
        const check = (v, sets) => { let ok = true; for (const [name, f] of Object.entries(sets)) ok = !!f(v) && ok && name.length > 0; return ok; };
        globalThis.work = () => { let n = 0; for (let i = 0; i < 20000; i++) {
            const params = { headers: { "Content-Type": "application/json", Authorization: `Bearer ${i}` }, tags: { name: "login" } };
            const body = JSON.stringify({ user: `u${i}`, password: "secret", ids: [1, 2, 3] });
            const res = { status: 200, body: '{"token":"abc","user":{"id":7}}', timings: { duration: i % 50 }, params, sent: body };
            if (check(res, { "status is 200": (r) => r.status === 200, "has token": (r) => JSON.parse(r.body).token === "abc", fast: (r) => r.timings.duration < 100 })) n++;
        } return n; }"#,
    ),
    (
        "async functions, 100k awaits",
        r#"globalThis.work = () => { let n = 0;
        const one = async (i) => { await null; n += i; };
        (async () => { for (let i = 0; i < 100000; i++) await one(i); })(); return n; }"#,
    ),
];

pub fn list() {
    for (name, _) in CASES {
        println!("{name}");
    }
}

fn natives(ctx: &Ctx<'_>) -> rquickjs::Result<()> {
    let globals = ctx.globals();
    globals.set("empty", Function::new(ctx.clone(), || {})?)?;
    globals.set(
        "two",
        Function::new(ctx.clone(), |_name: Value<'_>, _n: i32| {})?,
    )?;
    globals.set("object", Function::new(ctx.clone(), object)?)
}

fn object<'js>(ctx: Ctx<'js>) -> rquickjs::Result<Object<'js>> {
    let object = Object::new(ctx)?;
    object.set("status", 200)?;
    object.set("status_text", "200 OK")?;
    object.set("url", "http://localhost/")?;
    object.set("proto", "HTTP/1.1")?;
    object.set("remote_ip", "127.0.0.1")?;
    object.set("remote_port", 80)?;
    object.set("error", "")?;
    object.set("error_code", 0)?;
    Ok(object)
}

pub fn run(alloc: &str, case: &str, rounds: usize) {
    for (name, source) in CASES {
        if case != "all" && case != *name {
            continue;
        }
        let runtime = engine::runtime(alloc);
        let context = engine::context(&runtime, "volley");
        context.with(|ctx| {
            natives(&ctx).unwrap();
            ctx.eval::<(), _>(*source).unwrap();
        });
        let mut best = Duration::MAX;
        for _ in 0..rounds {
            let start = engine::cpu();
            context.with(|ctx| {
                let work: Function<'_> = ctx.globals().get("work").unwrap();
                work.call::<_, Value<'_>>(()).unwrap();
            });
            engine::drain(&context);
            best = best.min(engine::cpu() - start);
        }
        println!("{name}, ms\t{:.2}", best.as_secs_f64() * 1e3);
    }
}
