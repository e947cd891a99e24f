use crate::harness::{load_error, run, sockets::Server};

/// Runs the body of an iteration, in which `at` is the URL of a server that echoes (`/close/N`
/// closes with that code, `/refuse` refuses), and answers the log.
fn script(body: &str) -> Vec<String> {
    let server = Server::start();
    run(
        &format!(
            "import ws from 'k6/ws';
             const at = 'ws://{}';
             const text = (f) => {{ try {{ return f() }} catch (e) {{ return String(e) }} }};
             export default function () {{ {body} }}",
            server.address
        ),
        1,
    )
}

#[test]
fn arguments_that_mean_nothing_are_refused() {
    let lines = script(
        "console.log(text(() => ws.connect()));
         console.log(text(() => ws.connect(at)));
         console.log(text(() => ws.connect(at, {}, () => 1, 2)));
         console.log(text(() => ws.connect(at, {})));
         console.log(text(() => ws.connect(at, null, 5)));
         console.log(text(() => ws.connect(at, { tags: { a: [] } }, () => 1)));
         console.log(text(() => ws.connect(at, { compression: 'gzip' }, () => 1)));",
    );
    assert_eq!(
        lines,
        [
            "GoError: invalid number of arguments to ws.connect",
            "GoError: invalid number of arguments to ws.connect",
            "GoError: invalid number of arguments to ws.connect",
            "GoError: last argument to ws.connect must be a function",
            "GoError: last argument to ws.connect must be a function",
            "GoError: invalid ws.connect() metric tags: invalid value for metric tag 'a': only \
             String, Boolean and Number types are accepted as a metric tag values",
            "GoError: unsupported compression algorithm 'gzip', supported algorithm is 'deflate'",
        ]
    );
    let text = load_error("import ws from 'k6/ws'; ws.connect('ws://a.test', () => 1)");
    assert!(text.contains("GoError: using websockets in the init context is not supported"));
}

#[test]
fn what_was_not_opened_says_why() {
    let lines = script(
        "const shown = (r) => console.log(JSON.stringify({ ...r, headers: Object.keys(r.headers).join() }));
         shown(ws.connect('http://a.test/', () => console.log('never')));
         shown(ws.connect('ws://%zz/', () => console.log('never')));
         shown(ws.connect('ws://127.0.0.1:1/', () => console.log('never')));
         shown(ws.connect(`${at}/refuse`, () => console.log('never')));",
    );
    assert_eq!(
        lines,
        [
            r#"{"url":"","status":0,"headers":"","body":"","error":"malformed ws or wss URL"}"#,
            r#"{"url":"","status":0,"headers":"","body":"","error":"parse \"ws://%zz/\": invalid URL escape \"%zz\""}"#,
            r#"{"url":"","status":0,"headers":"","body":"","error":"dial tcp 127.0.0.1:1: connect: connection refused"}"#,
            r#"{"url":"","status":403,"headers":"X-Why,Content-Length","body":"no entry","error":""}"#,
        ]
    );
}

#[test]
fn events_come_in_their_order_and_connect_answers_at_the_end() {
    let lines = script(
        "const log = [];
         const r = ws.connect(at, { headers: { 'Sec-WebSocket-Protocol': 'kit' } }, (s) => {
           log.push('callback');
           s.on('open', () => { log.push('open'); s.send('a'); s.sendBinary(new Uint8Array([1, 2]).buffer); s.ping(); s.send(null); });
           s.on('message', (m) => log.push(`text:${m}`));
           s.on('binaryMessage', (b) => log.push(b.constructor.name + new Uint8Array(b).join()));
           s.on('pong', () => { log.push('pong'); s.setTimeout(() => { s.close(); s.close(3000) }, 1) });
           s.on('close', (code) => log.push(`close:${code}`));
           s.on('error', (e) => log.push(`error:${e}`));
           s.on('nothing', () => 1); s.on('open', 5); s.on();
         });
         console.log(log.join(' '));
         console.log(r.url === at, r.status, r.headers['Sec-Websocket-Protocol'], r.body === '', r.error === '');",
    );
    assert_eq!(
        lines,
        [
            "callback open text:a ArrayBuffer1,2 pong text: close:1001",
            "true 101 kit true true"
        ]
    );
}

#[test]
fn a_peer_that_closes_says_why() {
    let lines = script(
        "for (const code of [1000, 1001, 4001, 1006]) {
           const log = [];
           ws.connect(`${at}/close/${code}`, (s) => {
             s.on('error', (e) => log.push(String(e), e.error() === String(e)));
             s.on('close', (c) => log.push(c));
           });
           console.log(log.join(' '));
         }",
    );
    assert_eq!(
        lines,
        [
            "1000",
            "1001",
            "websocket: close 4001: bye true 4001",
            "websocket: close 1006 (abnormal closure): unexpected EOF true 1006",
        ]
    );
}

#[test]
fn members_of_the_socket_check_their_arguments() {
    let lines = script(
        "ws.connect(at, (s) => {
           for (const given of [[], [undefined], [null], [5], ['x'], [new Uint8Array(1)], [{}]])
             console.log(text(() => s.sendBinary(...given)));
           console.log(text(() => s.setTimeout(() => 1, 0)));
           console.log(text(() => s.setInterval(() => 1, -1.5)));
           console.log(text(() => s.setTimeout(() => 1)));
           console.log(text(() => s.setTimeout(5, 1)));
           s.on('error', (e) => console.log('error', e));
           s.close();
           s.send('late');
           s.ping();
         });",
    );
    assert_eq!(
        lines,
        [
            "GoError: missing argument, expected ArrayBuffer",
            "GoError: expected ArrayBuffer as argument, received: undefined",
            "GoError: expected ArrayBuffer as argument, received: null",
            "GoError: expected ArrayBuffer as argument, received: Number",
            "GoError: expected ArrayBuffer as argument, received: String",
            "GoError: expected ArrayBuffer as argument, received: Uint8Array",
            "GoError: expected ArrayBuffer as argument, received: Object",
            "GoError: setTimeout requires a >0 timeout parameter, received 0.00",
            "GoError: setInterval requires a >0 timeout parameter, received -1.50",
            "GoError: setTimeout requires a >0 timeout parameter, received 0.00",
            "TypeError: could not convert function call parameter 0: not a function",
            "error websocket: close sent",
            "error websocket: close sent",
        ]
    );
}

#[test]
fn timers_run_inside_and_global_ones_do_not() {
    let lines = script(
        "setTimeout(() => console.log('global'), 1);
         Promise.resolve().then(() => console.log('promise'));
         let n = 0;
         ws.connect(at, (s) => {
           s.setInterval(() => { n += 1; if (n === 3) s.close() }, 2);
           s.setTimeout(() => console.log('once'), 1);
         });
         console.log('after', n);",
    );
    assert_eq!(lines, ["once", "after 3", "promise", "global"]);
}

#[test]
fn an_exception_closes_the_socket_and_leaves_connect() {
    let server = Server::start();
    let lines = run(
        &format!(
            "import ws from 'k6/ws';
             const at = 'ws://{}';
             const told = (f) => {{ try {{ ws.connect(at, f); }} catch (e) {{ console.log(String(e)) }} }};
             export default function () {{
               told(() => {{ throw new Error('callback') }});
               told((s) => s.on('open', () => {{ throw new Error('open') }}));
               told((s) => {{ s.on('message', () => {{ throw new Error('message') }}); s.send('x') }});
               told((s) => s.setTimeout(() => {{ throw new Error('timer') }}, 1));
               told((s) => {{ s.on('close', () => {{ throw new Error('close') }}); s.close(3333) }});
             }}",
            server.address
        ),
        1,
    );
    assert_eq!(
        lines,
        [
            "Error: callback",
            "Error: open",
            "Error: message",
            "Error: timer",
            "Error: close"
        ]
    );
    let mut codes = server.closed(5);
    codes.sort_unstable();
    assert_eq!(codes, [1001, 1001, 1001, 1001, 3333]);
}

#[test]
fn compression_is_agreed_on_and_messages_survive_it() {
    let lines = script(
        "const r = ws.connect(`${at}/deflate`, { compression: 'deflate' }, (s) => {
           s.on('open', () => s.send('ab'.repeat(1000)));
           s.on('message', (m) => { console.log(m.length, m.slice(0, 4)); s.close() });
         });
         console.log(r.headers['Sec-Websocket-Extensions']);",
    );
    assert_eq!(
        lines,
        [
            "2000 abab",
            "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
        ]
    );
}
