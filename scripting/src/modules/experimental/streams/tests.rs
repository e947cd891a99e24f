use crate::harness::run;

/// Runs the body of an async function with a `log` whose lines come out in order.
fn script(body: &str) -> Vec<String> {
    run(
        &format!(
            "import {{ ReadableStream, ReadableStreamDefaultReader, CountQueuingStrategy, WritableStream, WritableStreamDefaultWriter }} from 'k6/experimental/streams';
             import streams from 'k6/experimental/streams';
             const log = console.log; const tick = (ms = 0) => new Promise((done) => setTimeout(done, ms));
             const why = async (f) => {{ try {{ return 'no error: ' + await f(); }} catch (e) {{ return e instanceof Error ? e.name : String(e); }} }};
             const rest = async (r) => {{ const all = []; for (;;) {{ const {{ done, value }} = await r.read(); if (done) return all.join(); all.push(value); }} }};
             export default async function () {{ {body} }}"
        ),
        1,
    )
}

#[test]
fn exports_are_those_of_the_reference() {
    let lines = script(
        "log(Object.keys(streams).join(), streams.ReadableStream === ReadableStream);
         log(typeof globalThis.ReadableStream, 'pipeTo' in ReadableStream.prototype, Symbol.asyncIterator in ReadableStream.prototype);",
    );
    assert_eq!(
        lines,
        [
            "ReadableStream,ReadableStreamDefaultReader,CountQueuingStrategy,WritableStream,WritableStreamDefaultWriter true",
            "undefined false false",
        ]
    );
}

#[test]
fn arguments_are_checked() {
    let lines = script(
        "for (const f of [
           () => new ReadableStream({ type: 'bytes' }), () => new ReadableStream({ type: 'x' }), () => new ReadableStream(5),
           () => new ReadableStream({ start: 1 }), () => new ReadableStream({ cancel: null }),
           () => new ReadableStream({}, { highWaterMark: -1 }), () => new ReadableStream({}, { highWaterMark: NaN }),
           () => new ReadableStream({}, { size: 1 }), () => new ReadableStream({ start() { throw new EvalError('s'); } }),
           () => new ReadableStreamDefaultReader({}), () => new ReadableStream().getReader({ mode: 'byob' }),
           () => new CountQueuingStrategy(), () => new CountQueuingStrategy({}), () => new CountQueuingStrategy({ highWaterMark: 3 }).size(),
           () => new WritableStream({ type: 'x' }), () => new WritableStream({ write: 1 }), () => new WritableStreamDefaultWriter(1),
           () => ReadableStream.prototype.locked, () => WritableStream.prototype.close.call({}), () => ReadableStreamDefaultReader.prototype.read.call(new ReadableStream()),
         ]) log(await why(f));",
    );
    assert_eq!(
        lines,
        [
            "TypeError",
            "TypeError",
            "TypeError",
            "TypeError",
            "TypeError",
            "RangeError",
            "RangeError",
            "TypeError",
            "EvalError",
            "TypeError",
            "TypeError",
            "TypeError",
            "TypeError",
            "no error: 1",
            "RangeError",
            "TypeError",
            "TypeError",
            "TypeError",
            "TypeError",
            "TypeError",
        ]
    );
}

#[test]
fn sources_are_pulled_as_far_as_there_is_room_and_one_at_a_time() {
    let lines = script(
        "let pulls = 0, active = 0, most = 0;
         const s = new ReadableStream({ async pull(c) { pulls++; active++; most = Math.max(most, active); await tick(1); active--; c.enqueue(pulls); } }, { highWaterMark: 3 });
         await tick(20); log(pulls, most);
         const r = s.getReader(); log((await r.read()).value, (await r.read()).value); await tick(10); log(pulls, most);
         const lazy = new ReadableStream({ pull(c) { log('pulled'); c.enqueue('x'); c.close(); } }, { highWaterMark: 0 });
         await tick(1); log('before'); log(await rest(lazy.getReader()));
         const sized = new ReadableStream({ start(c) { c.enqueue('four'); log(c.desiredSize); try { c.enqueue(''); log(c.desiredSize); } catch (e) { log(e.name); } } }, { highWaterMark: 5, size: (x) => x.length });
         const bad = new ReadableStream({ start(c) { try { c.enqueue(1); } catch (e) { log(e.name, c.desiredSize); } } }, { size: () => -1 });
         log(await why(() => bad.getReader().read()));",
    );
    assert_eq!(
        lines,
        [
            "3 1",
            "1 2",
            "5 1",
            "before",
            "pulled",
            "x",
            "1",
            "1",
            "RangeError null",
            "RangeError",
        ]
    );
}

#[test]
fn ends_and_errors_reach_all_who_wait() {
    let lines = script(
        "let c; const s = new ReadableStream({ start(x) { c = x; } }); const r = s.getReader();
         const [a, b] = [r.read(), r.read()]; c.enqueue(1); c.close();
         log(JSON.stringify([await a, await b]), await r.closed, await why(() => c.enqueue(2)), await why(() => c.close()), c.desiredSize);
         let d; const t = new ReadableStream({ start(x) { d = x; d.enqueue('lost'); } }); const q = t.getReader();
         d.error('broken'); log(await why(() => q.read()), await why(() => q.closed), await why(() => q.cancel()), d.desiredSize); d.error('again');
         q.releaseLock(); log(t.locked, await why(() => q.closed), await why(() => q.read()), await why(() => q.cancel()), await why(() => t.getReader().read()));
         const late = new ReadableStream({ async pull() { throw new URIError('p'); } }).getReader(); log(await why(() => late.read()));
         const pending = new ReadableStream().getReader(); const w = pending.read(); pending.releaseLock(); log(await why(() => w));
         const start = new ReadableStream({ start: () => Promise.reject(new SyntaxError('s')) }).getReader(); log(await why(() => start.read()));",
    );
    assert_eq!(
        lines,
        [
            "[{\"value\":1,\"done\":false},{\"done\":true}] undefined TypeError TypeError 0",
            "broken broken broken null",
            "false TypeError TypeError TypeError broken",
            "URIError",
            "TypeError",
            "SyntaxError",
        ]
    );
}

#[test]
fn errors_that_nobody_waits_for_end_no_iteration() {
    let lines = script(
        "const r = new ReadableStream({ pull(c) { c.error(new Error('unseen')); } }).getReader(); r.releaseLock();
         new ReadableStream({ start(c) { c.error(1); } }).getReader();
         const w = new WritableStream({ start(c) { c.error(2); } }).getWriter(); w.releaseLock();
         await tick(5); log('done');",
    );
    assert_eq!(lines, ["done"]);
}

#[test]
fn cancelling_tells_the_source_once() {
    let lines = script(
        "const s = new ReadableStream({ start(c) { c.enqueue(1); c.enqueue(2); }, cancel(why) { log('cancel', why, this.tag); return 'ignored'; }, tag: 't' });
         log(await s.cancel('enough'), await s.cancel('twice'), await rest(s.getReader()));
         const f = new ReadableStream({ cancel() { throw new RangeError('no'); } }); log(await why(() => f.cancel()));
         const g = new ReadableStream(); const r = g.getReader(); const waiting = r.read(); await r.cancel(); log(JSON.stringify(await waiting), await r.closed);",
    );
    assert_eq!(
        lines,
        [
            "cancel enough t",
            "undefined undefined ",
            "RangeError",
            "{\"done\":true} undefined"
        ]
    );
}

#[test]
fn branches_of_a_stream_see_the_same() {
    let lines = script(
        "let n = 0; const s = new ReadableStream({ pull(c) { n++; c.enqueue(n); if (n === 3) c.close(); } });
         const [a, b] = s.tee(); log(s.locked, a instanceof ReadableStream);
         const both = await Promise.all([rest(a.getReader()), rest(b.getReader())]); log(both.join(' '));
         const e = new ReadableStream({ start(c) { c.error('x'); } }); const [p, q] = e.tee(); log(await why(() => p.getReader().read()), await why(() => q.getReader().read()));
         const k = new ReadableStream({ cancel(reasons) { log('cancelled', reasons.join()); } }); const [u, v] = k.tee(); const done = [u.cancel('u'), v.cancel('v')]; log((await Promise.all(done)).length);
         const one = new ReadableStream({ start(c) { c.enqueue('c'); c.close(); } }); const [x, y] = one.tee(); x.cancel(); log(await rest(y.getReader()));",
    );
    assert_eq!(
        lines,
        ["true true", "1,2,3 1,2,3", "x x", "cancelled u,v", "2", "c"]
    );
}

#[test]
fn writes_go_one_after_the_other_and_press_back() {
    let lines = script(
        "const got = []; const s = new WritableStream({ async write(chunk) { got.push('>' + chunk); await tick(1); got.push('<' + chunk); }, close() { got.push('close'); } }, { highWaterMark: 2 });
         const w = s.getWriter(); log(s.locked, w.desiredSize, await w.ready);
         const first = w.write('a'); w.write('b'); log(w.desiredSize); let ready = false; w.ready.then(() => { ready = true; });
         await Promise.resolve(); log(ready); await first; await w.ready; log(ready, w.desiredSize);
         await w.close(); log(got.join(), await w.closed, w.desiredSize, await why(() => w.write('c')), await why(() => w.close()));
         w.releaseLock(); log(s.locked, await why(() => w.write()), await why(() => w.desiredSize), await why(() => w.closed));
         const t = new WritableStream(); await t.close(); log(await why(() => t.close()));",
    );
    assert_eq!(
        lines,
        [
            "true 2 undefined",
            "0",
            "false",
            "true 1",
            ">a,<a,>b,<b,close undefined 0 TypeError TypeError",
            "false TypeError TypeError TypeError",
            "TypeError",
        ]
    );
}

#[test]
fn sinks_that_fail_and_writers_that_give_up() {
    let lines = script(
        "const s = new WritableStream({ write(chunk) { if (chunk === 2) throw new RangeError('two'); }, abort() { log('never'); } }); const w = s.getWriter();
         const all = [1, 2, 3].map((n) => why(() => w.write(n))); log((await Promise.all(all)).join(), await why(() => w.closed), await why(() => w.ready), w.desiredSize, await why(() => w.close()));
         let free; const a = new WritableStream({ write: () => new Promise((done) => { free = done; }), abort(why) { log('abort', why); } }); const v = a.getWriter();
         const running = v.write('x'), queued = why(() => v.write('y')); await tick(); const gone = v.abort('stop'); free();
         log(await why(() => running), await queued, await gone, await why(() => v.closed));
         let c; const e = new WritableStream({ start(x) { c = x; } }); c.error('own'); log(await why(() => e.getWriter().write(1)), await why(() => e.abort()));
         const f = new WritableStream({ close() { throw new EvalError('c'); } }); log(await why(() => f.close()));
         const l = new WritableStream(); l.getWriter(); log(await why(() => l.abort()), await why(() => l.close()), await why(() => l.getWriter()));
         const ab = new WritableStream({ abort() { throw new URIError('a'); } }); log(await why(() => ab.abort()), await why(() => ab.abort()));
         const size = new WritableStream({}, { size() { throw new SyntaxError('s'); } }).getWriter(); log(await why(() => size.write(1)));",
    );
    assert_eq!(
        lines,
        [
            "no error: undefined,RangeError,RangeError RangeError RangeError null TypeError",
            "abort stop",
            "no error: undefined stop undefined stop",
            "own TypeError",
            "EvalError",
            "TypeError TypeError TypeError",
            "URIError no error: undefined",
            "SyntaxError",
        ]
    );
}

#[test]
fn many_chunks_take_linear_time() {
    let lines = script(
        "const s = new ReadableStream({ start(c) { for (let i = 0; i < 100000; i++) c.enqueue(i); c.close(); } });
         const r = s.getReader(); let sum = 0; for (;;) { const { done, value } = await r.read(); if (done) break; sum += value; } log(sum);",
    );
    assert_eq!(lines, ["4999950000"]);
}

#[test]
fn classes_can_be_extended() {
    let lines = script(
        "class Numbers extends ReadableStream { constructor(n) { super({ start(c) { for (let i = 0; i < n; i++) c.enqueue(i); c.close(); } }); this.n = n; } twice() { return this.n * 2; } }
         const s = new Numbers(3); log(s instanceof Numbers, s instanceof ReadableStream, s.twice(), await rest(s.getReader()), Object.prototype.toString.call(s));
         log(s.constructor === Numbers, ReadableStream.name, new WritableStream().getWriter() instanceof WritableStreamDefaultWriter, Object.keys(s).join());",
    );
    assert_eq!(
        lines,
        [
            "true true 6 0,1,2 [object Object]",
            "true ReadableStream true n"
        ]
    );
}

#[test]
fn what_streams_hold_outlives_collections() {
    // Each round makes enough garbage in cycles for the collector to run while all is in flight.
    let lines = script(
        "const litter = () => { for (let i = 0; i < 200; i++) { const a = { i }, b = { a }; a.b = b; } };
         const pump = async (n) => {
           let i = 0, sum = 0;
           const source = new ReadableStream({ async pull(c) { litter(); await Promise.resolve(); if (i === 20) c.close(); else c.enqueue({ text: `${n}:${i++}`, big: new Uint8Array(1000) }); } }, { highWaterMark: 2 });
           const sink = new WritableStream({ async write(chunk) { litter(); await Promise.resolve(); sum += Number(chunk.text.split(':')[1]) + chunk.big.length; } }, { highWaterMark: 3, size: (chunk) => chunk.big.length / 1000 });
           const [one, two] = source.tee(); const writer = sink.getWriter();
           const copy = async (reader) => { for (;;) { const { done, value } = await reader.read(); if (done) return; await writer.ready; writer.write(value); } };
           await Promise.all([copy(one.getReader()), copy(two.getReader())]); await writer.close(); return sum;
         };
         const sums = await Promise.all(Array.from({ length: 30 }, (_, n) => pump(n))); log(sums.length, new Set(sums).size, sums[0]);",
    );
    assert_eq!(lines, ["30 1 40380"]);
}
