//! Requests of a script to a server that answers with what it was asked.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use crate::harness::run;

/// Answers every request with its line, its headers and its body, after the milliseconds that the
/// path names: `/delay/20`. `/status/404` has that status, and `/set/a=b` sets a cookie.
struct Echo {
    address: SocketAddr,
    busy: Arc<Busy>,
}

/// How many requests are being answered, and how many at most there were.
#[derive(Default)]
struct Busy {
    now: AtomicUsize,
    most: AtomicUsize,
    all: AtomicUsize,
}

impl Echo {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let busy = Arc::new(Busy::default());
        let shared = busy.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let busy = shared.clone();
                std::thread::spawn(move || while serve(&stream, &busy).is_some() {});
            }
        });
        Self { address, busy }
    }

    /// Runs a body of the default function in which `url` is the server's.
    fn run(&self, body: &str) -> Vec<String> {
        self.run_with("", body, 1)
    }

    fn run_with(&self, top: &str, body: &str, iterations: u64) -> Vec<String> {
        let address = self.address;
        let source = format!(
            "import http from 'k6/http'; import {{ sleep }} from 'k6';
             const url = 'http://{address}'; {top}
             export default async function () {{ {body} }}"
        );
        run(&source, iterations)
    }
}

fn serve(stream: &TcpStream, busy: &Busy) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    loop {
        let before = head.len();
        reader.read_line(&mut head).ok().filter(|n| *n > 0)?;
        if &head[before..] == "\r\n" {
            break;
        }
    }
    busy.all.fetch_add(1, Ordering::SeqCst);
    let now = busy.now.fetch_add(1, Ordering::SeqCst) + 1;
    busy.most.fetch_max(now, Ordering::SeqCst);
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("content-length")
            .then(|| value.parse().ok())?
    });
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body).ok()?;
    let path = head.split(' ').nth(1)?;
    let after = |start: &str| path.strip_prefix(start).map(str::to_owned);
    if let Some(ms) = after("/delay/") {
        std::thread::sleep(Duration::from_millis(ms.parse().ok()?));
    }
    let status = after("/status/").unwrap_or_else(|| "200".to_owned());
    let cookie =
        after("/set/").map_or_else(String::new, |c| format!("Set-Cookie: {c}; Path=/\r\n"));
    let mut answer = head.replace("\r\n", "\n").into_bytes();
    answer.extend_from_slice(&body);
    let head = format!(
        "HTTP/1.1 {status} Fine\r\n{cookie}Content-Length: {}\r\n\r\n",
        answer.len()
    );
    busy.now.fetch_sub(1, Ordering::SeqCst);
    let mut stream = stream;
    stream.write_all(&[head.as_bytes(), &answer].concat()).ok()
}

#[test]
fn a_batch_keeps_the_shape_of_its_argument() {
    let lines = Echo::start().run(
        "const list = http.batch([
           `${url}/delay/60`, ['POST', `${url}/list`, 'text', { headers: { 'X-A': 'b' } }],
           { method: 'put', url: `${url}/object`, body: { a: 'b c' } },
           { method: 'GET', url: `${url}/get`, body: 'dropped' }, { url: `${url}/plain` },
         ]);
         console.log(Array.isArray(list), list.map((r) => r.body.split(' HTTP')[0]).join());
         console.log(list[1].body.includes('X-A: b') && list[1].body.endsWith('text'));
         console.log(list[2].body.endsWith('\\n\\na=b+c'), list[3].body.includes('dropped'));
         const named = http.batch({ second: `${url}/2`, first: `${url}/1` });
         console.log(Object.keys(named).join(), named.first.status, http.batch([]).length, JSON.stringify(http.batch({})));",
    );
    assert_eq!(
        lines,
        [
            "true GET /delay/60,POST /list,PUT /object,GET /get,GET /plain",
            "true",
            "true false",
            "second,first 200 0 {}",
        ]
    );
}

#[test]
fn a_batch_has_no_more_at_a_time_than_one_host_may() {
    let echo = Echo::start();
    let lines = echo.run(
        "console.log(http.batch(Array.from({ length: 20 }, () => `${url}/delay/15`)).length);",
    );
    assert_eq!(lines, ["20"]);
    assert_eq!(echo.busy.most.load(Ordering::SeqCst), 6, "batchPerHost");
}

#[test]
fn one_bad_element_cancels_the_batch() {
    let echo = Echo::start();
    let lines = echo.run(
        "for (const bad of ['127.0.0.1:80/x', 5, [7, url], { method: 7, url }, { method: 'GET' },
                            [{}, url], { method: 'POST', url, body: 5 }]) {
           const out = http.batch([url, bad, url]);
           console.log(out.length, out[0].status, out[0].error, out[0].error_code, out[1].error, out[1].error_code, out[2]);
         }
         const named = http.batch({ a: url, b: null, c: url });
         console.log(Object.keys(named).join(), named.b.error);",
    );
    let told: Vec<&str> = lines
        .iter()
        .map(String::as_str)
        .filter(|line| *line != "Warning: A batch request failed")
        .collect();
    assert_eq!(
        told,
        [
            "3 0  0 invalid URL: parse \"127.0.0.1:80/x\": first path segment in URL cannot contain colon 1020 undefined",
            "3 0  0 invalid batch request '5' 0 undefined",
            "3 0  0 invalid method type '7' 0 undefined",
            "3 0  0 invalid method type '7' 0 undefined",
            "3 0  0 batch request 1 doesn't have a url key 0 undefined",
            "3 0  0 invalid method type '[object Object]' 0 undefined",
            "3 0  0 unknown request body type int64 0 undefined",
            "a,b invalid batch request 'null'",
        ]
    );
    assert_eq!(lines.len(), 2 * told.len(), "each has its warning");
    assert_eq!(echo.busy.all.load(Ordering::SeqCst), 0, "nothing was sent");
}

#[test]
fn arguments_that_are_no_batch_are_refused() {
    let lines = Echo::start().run(
        "for (const bad of [[], [[url], 1], ['x'], [5], [null], [() => 1], [new Map()]])
           try { http.batch(...bad); console.log('?'); } catch (e) { console.log(e.name, e.message); }
         try { http.batch([url, { url: 'http://127.0.0.1:1/', params: { throw: true } }]); } catch (e) { console.log(e.message.split(': ')[1]); }",
    );
    assert_eq!(
        lines,
        [
            "GoError no argument was provided to http.batch()",
            "GoError http.batch() accepts only an array or an object of requests",
            "GoError invalid http.batch() argument type string",
            "GoError invalid http.batch() argument type int64",
            "GoError invalid http.batch() argument type <nil>",
            "GoError invalid http.batch() argument type func(sobek.FunctionCall) sobek.Value",
            "GoError invalid http.batch() argument type [][2]interface {}",
            "dial tcp 127.0.0.1:1",
        ]
    );
}

#[test]
fn promises_of_requests_are_kept_before_the_iteration_ends() {
    let lines = Echo::start().run_with(
        "",
        "const order = [];
         const slow = http.asyncRequest('GET', `${url}/delay/80`).then(() => order.push('slow'));
         const fast = http.asyncRequest('', `${url}/delay/5`).then((r) => order.push(r.body.slice(0, 3)));
         order.push('now');
         await Promise.all([slow, fast]);
         console.log(order.join());
         setTimeout(() => console.log('timer'), 10);
         http.asyncRequest('POST', `${url}/delay/40`, { a: 1 }).then((r) => console.log('late', __ITER, r.body.slice(-3)));
         console.log('end');",
        2,
    );
    let iteration = |i: u32| {
        ["now,GET,slow", "end", "timer"]
            .map(str::to_owned)
            .into_iter()
            .chain([format!("late {i} a=1")])
    };
    assert_eq!(lines, iteration(0).chain(iteration(1)).collect::<Vec<_>>());
}

#[test]
fn requests_go_on_while_the_script_waits_for_something_else() {
    let lines = Echo::start().run(
        // One after the other they would take at least 2.5 s, side by side 1.5 s.
        "const begun = Date.now();
         const first = http.asyncRequest('GET', `${url}/delay/1000`);
         sleep(0.5);
         const second = http.asyncRequest('GET', `${url}/delay/1000`);
         http.get(`${url}/delay/1000`);
         const took = Date.now() - begun;
         const [a, b] = await Promise.all([first, second]);
         console.log(a.timings.waiting < 1900 && b.timings.waiting < 1900, took < 2400, Date.now() - begun < 2400);",
    );
    assert_eq!(lines, ["true true true"]);
}

#[test]
fn promises_are_rejected_with_the_bare_text() {
    let lines = Echo::start().run(
        "const r = await http.asyncRequest('GET', '127.0.0.1:1/x');
         console.log(r.error_code);
         const f = await http.asyncRequest('GET', 'http://127.0.0.1:1/');
         console.log(f.error);
         try { await http.asyncRequest('GET', 'http://127.0.0.1:1/', null, { throw: true }); }
         catch (e) { console.log(String(e), e.stack); }
         try { http.asyncRequest('GET', url, null, { get timeout() { throw new RangeError('mine'); } }); }
         catch (e) { console.log(String(e)); }",
    );
    assert_eq!(
        lines,
        [
            "Warning: Request Failed",
            "1020",
            "Warning: Request Failed",
            "dial: connection refused",
            "Get \"http://127.0.0.1:1/\": dial tcp 127.0.0.1:1: connect: connection refused undefined",
            "RangeError: mine",
        ]
    );
}

#[test]
fn a_failed_iteration_cancels_its_requests() {
    let echo = Echo::start();
    let lines = echo.run_with(
        "",
        "http.asyncRequest('GET', `${url}/delay/60`).then((r) => console.log(__ITER, r.status, r.error_code));
         if (__ITER === 0) throw new Error('out');
         await http.asyncRequest('GET', `${url}/delay/90`); console.log('done');",
        2,
    );
    // script-runtime.md §8: what waits for it hears of it, without a line of its own in the log.
    assert_eq!(lines[0], "0 0 1000");
    assert!(lines[1].contains("Error: out"), "{lines:?}");
    assert_eq!(lines[2..], ["1 200 0", "done"]);
}

#[test]
fn forms_with_a_file_are_sent_in_parts() {
    let lines = Echo::start().run_with(
        "const bytes = new Uint8Array([104, 105]).buffer; const early = http.file('top', 'top.txt', 'text/plain');",
        "const r = http.post(url, { n: 1, list: ['a', null], 'q\"': http.file(bytes, 'a\"b\\\\c.bin'), early, none: undefined });
         const [head, body] = r.body.split(/\\n\\n([^]*)/);
         const boundary = /\\nContent-Type: multipart\\/form-data; boundary=([0-9a-f]{60})\\n/.exec(head + '\\n')[1];
         for (const part of body.split(`--${boundary}`)) console.log(JSON.stringify(part));
         const own = http.post(url, { f: early }, { headers: { 'content-type': 'x/y' } }).body;
         console.log(/Content-Type: (.*)/.exec(own)[1], own.includes('filename=\"top.txt\"'));
         const again = http.post(url, { f: early });
         console.log(again.body.includes(boundary));",
        1,
    );
    assert_eq!(
        lines,
        [
            r#""""#,
            r#""\r\nContent-Disposition: form-data; name=\"n\"\r\n\r\n1\r\n""#,
            r#""\r\nContent-Disposition: form-data; name=\"list\"\r\n\r\na\r\n""#,
            r#""\r\nContent-Disposition: form-data; name=\"list\"\r\n\r\n\r\n""#,
            r#""\r\nContent-Disposition: form-data; name=\"q\\\"\"; filename=\"a\\\"b\\\\c.bin\"\r\nContent-Type: application/octet-stream\r\n\r\nhi\r\n""#,
            r#""\r\nContent-Disposition: form-data; name=\"early\"; filename=\"top.txt\"\r\nContent-Type: text/plain\r\n\r\ntop\r\n""#,
            r#""\r\nContent-Disposition: form-data; name=\"none\"\r\n\r\n\r\n""#,
            r#""--\r\n""#,
            "x/y true",
            "false",
        ]
    );
}

#[test]
fn files_show_what_they_were_made_of() {
    let lines = Echo::start().run(
        "const f = http.file('abc', 'x.txt');
         console.log(f.filename, f.content_type, f.data, Object.keys(f).join());
         const b = http.file(new Uint8Array([1, 2]).buffer);
         console.log(/^\\d{19}$/.test(b.filename), b.data.byteLength);
         f.filename = 'y.txt'; f.data = 'new';
         console.log(http.post(url, { f }).body.includes('filename=\"y.txt\"'));
         for (const bad of [new Uint8Array(2), 5, undefined, {}, [1]])
           try { http.file(bad); } catch (e) { console.log(e.message); }
         console.log(http.post(url, { f: { ...f } }).body.includes('multipart'));",
    );
    assert_eq!(
        lines,
        [
            "x.txt application/octet-stream abc data,filename,content_type",
            "true 2",
            "true",
            "invalid type []uint8, expected string or ArrayBuffer",
            "invalid type int64, expected string or ArrayBuffer",
            "invalid type <nil>, expected string or ArrayBuffer",
            "invalid type map[string]interface {}, expected string or ArrayBuffer",
            "invalid type []interface {}, expected string or ArrayBuffer",
            "Warning: cannot urlencode a nested map[string]interface {} value in a request form body; \
             encoding it as an empty value, use JSON.stringify() to send structured data",
            "false",
        ]
    );
}

#[test]
fn templates_are_urls_with_a_name() {
    let lines = Echo::start().run_with(
        "const early = http.url`http://u:p@h.test/${1}`;",
        "const t = http.url`${url}/a/${5}?q=${'x y'}`;
         console.log(t.name, t.url === `${url}/a/5?q=x y`, Object.keys(t).join(), early.clean_url);
         console.log(http.get(t).body.split('\\n')[0], http.batch([t, { url: t }, ['POST', t]]).map((r) => r.status).join());
         try { http.url`127.0.0.1:1/${2}`; } catch (e) { console.log(e.name, e.message); }
         try { http.url('x'); } catch (e) { console.log(e.name); }
         console.log(http.get({ url }).error);",
        1,
    );
    assert_eq!(
        lines,
        [
            "${}/a/${}?q=${} true name,url,clean_url http://****:****@h.test/1",
            "GET /a/5?q=x y HTTP/1.1 200,200,200",
            "GoError parse \"127.0.0.1:1/2\": first path segment in URL cannot contain colon",
            "TypeError",
            "Warning: Request Failed",
            "invalid URL: '#[object Object]'",
        ]
    );
}

#[test]
fn statuses_and_callbacks_that_mean_nothing_are_refused() {
    let lines = Echo::start().run_with(
        "http.setResponseCallback(http.expectedStatuses(404));",
        "for (const bad of [[], ['200'], [200.5], [{ min: 3 }], [200, null], [200, [1]], [() => 1]])
           try { http.expectedStatuses(...bad); console.log('?'); } catch (e) { console.log(e.message); }
         for (const bad of [5, {}, http.file('a'), 'x'])
           try { http.setResponseCallback(bad); console.log('?'); } catch (e) { console.log(e.message); }
         http.setResponseCallback(null);
         console.log(http.get(url, { responseCallback: {} }).error);
         console.log(http.get(url, { responseCallback: null }).status, http.get(url, { responseCallback: http.expectedStatuses({ min: 1, max: 9 }, 200.0) }).status);",
        1,
    );
    let neither = |n: u32| {
        format!(
            "argument number {n} to expectedStatuses was neither an integer nor an object like {{min:100, max:329}}"
        )
    };
    let both = |n: u32| format!("both min and max need to be integers for argument number {n}");
    let refused = "unsupported argument, expected http.expectedStatuses".to_owned();
    let mut expected = vec![
        "no arguments".to_owned(),
        neither(1),
        neither(1),
        both(1),
        neither(2),
        both(2),
        neither(1),
    ];
    expected.extend([refused.clone(), refused.clone(), refused.clone(), refused]);
    expected.extend(
        [
            "Warning: Request Failed",
            "unsupported responseCallback",
            "200 200",
        ]
        .map(str::to_owned),
    );
    assert_eq!(lines, expected);
}

#[test]
fn the_jar_of_a_vu_is_a_new_one_in_each_iteration() {
    let lines = Echo::start().run_with(
        "let kept; const own = new http.CookieJar();",
        "const flat = (o) => Object.keys(o).map((k) => `${k}=${o[k]}`).join('; ');
         const jar = http.cookieJar();
         console.log(__ITER, flat(jar.cookiesForURL(url)), kept ? flat(kept.cookiesForURL(url)) : '-', flat(own.cookiesForURL(url)));
         kept = jar;
         http.get(`${url}/set/a=1`);
         http.get(`${url}/set/b=2`, { jar: own });
         const sent = (params) => /\\nCookie: (.*)/.exec(http.get(url, params).body)?.[1];
         console.log(sent(), sent({ jar: own }), sent({ jar: own, cookies: { b: { value: 'x', replace: true }, c: '3 4' } }), sent({ jar: {} }));",
        2,
    );
    assert_eq!(
        lines,
        [
            "0  - ",
            "a=1 b=2 b=x; c=\"3 4\" a=1",
            "1  a=1 b=2",
            "a=1 b=2 b=x; c=\"3 4\" a=1",
        ]
    );
}

#[test]
fn jars_are_set_read_and_cleared() {
    let lines = Echo::start().run(
        "const flat = (o) => Object.keys(o).map((k) => `${k}=${o[k]}`).join('; ');
         const jar = new http.CookieJar(), at = (path) => flat(jar.cookiesForURL(`http://h.test${path}`));
         console.log(jar.set('http://h.test/', 'plain', 'v'), Object.keys(jar).join());
         jar.set('http://h.test/a/b', 'deep', 'd');
         jar.set('http://h.test/', 'deep', 'shallow', { Path: '/', DOMAIN: 'h.test' });
         jar.set('http://h.test/', 'gone', 'x', { expires: 'Mon, 03 Jan 2000 00:00:00 GMT' });
         jar.set('http://h.test/', 'safe', 's', { secure: true, http_only: true });
         jar.set('http://h.test/', 'later', 'l', { EXPIRES: 'Wed, 21 Oct 2037 07:28:00 GMT', max_age: 60 });
         console.log(at('/'), '|', at('/a/c'), '|', flat(jar.cookiesForURL('https://h.test/')), '|', flat(jar.cookiesForURL('/a')));
         jar.delete('http://h.test/', 'later');
         jar.clear('http://h.test/a/b');
         console.log(at('/a/b'));
         for (const f of [() => jar.delete('http://h.test/', ''), () => jar.set('http://h.test/', 'n', 'v', { expires: 'soon' }), () => jar.clear('::')])
           try { f(); console.log('?'); } catch (e) { console.log(e.name, e.message); }
         const { set } = jar; set('http://h.test/', 'bound', 'b'); console.log(at('/'));",
    );
    assert_eq!(
        lines,
        [
            "true clear,cookiesForURL,delete,set",
            "plain=v; deep=shallow; later=l | deep=d,shallow; plain=v; later=l | plain=v; deep=shallow; safe=s; later=l | ",
            "plain=v; deep=shallow",
            "GoError cookie: is null",
            "GoError unable to parse \"expires\" date string \"soon\": parsing time \"soon\" as \"Mon, 02 Jan 2006 15:04:05 MST\": cannot parse \"soon\" as \"Mon\"",
            "GoError parse \"::\": missing protocol scheme",
            "plain=v; deep=shallow; bound=b",
        ]
    );
}

#[test]
fn a_length_that_is_wrong_is_told_and_not_sent() {
    let lines = Echo::start().run(
        "const send = (length) => /Content-Length: (.*)/.exec(http.post(url, 'four', { headers: { 'content-length': length } }).body)[1];
         console.log(send('4'), send('5'));",
    );
    assert!(
        lines[0].starts_with("Warning: The specified Content-Length header \"5\" in the POST request for http://127.0.0.1:")
            && lines[0].ends_with(" doesn't match the actual request body length of 4, so it will be ignored!"),
        "{lines:?}"
    );
    assert_eq!(lines[1..], ["4 4"]);
}

#[test]
fn switching_protocols_is_no_answer() {
    let lines = Echo::start().run(
        "try { http.get(`${url}/status/101`); } catch (e) { console.log(e.name, e.message); }
         try { await http.asyncRequest('GET', `${url}/status/101`); } catch (e) { console.log(e.message); }",
    );
    assert_eq!(
        lines,
        [
            "GoError unsupported response status: 101 Fine",
            "unsupported response status: 101 Fine",
        ]
    );
}

#[test]
fn requests_go_on_while_the_script_computes() {
    let lines = Echo::start().run(
        "const answer = http.asyncRequest('GET', `${url}/delay/100`);
         const begun = Date.now();
         let sum = 0; while (Date.now() - begun < 1500) sum += Math.sqrt(sum + 1);
         const { waiting, duration } = (await answer).timings;
         console.log(waiting >= 100, duration < 1300);",
    );
    assert_eq!(lines, ["true true"]);
}

#[test]
fn links_are_followed_and_forms_are_sent() {
    let lines = Echo::start().run(
        "const page = http.post(`${url}/dir/page?x=1`, `<a name=n>no</a><a id=up href='../up?y=2#f'>go</a>
           <form action=send method=post><input name=a value=1><select multiple name=m>
           <option selected>x<option selected>y</select><input type=submit name=s value=Go></form>
           <form id=q><input name=b value='c d'></form>`);
         const line = (r) => r.body.split(' HTTP')[0];
         console.log(line(page.clickLink()), line(page.clickLink({ selector: '#up', params: { tags: { name: 'n' } } })));
         const sent = page.submitForm({ formSelector: 'form[method]', fields: { a: 2, extra: 'e' } });
         console.log(line(sent), sent.body.split('\\n\\n')[1]);
         console.log(line(page.submitForm({ formSelector: '#q', params: { headers: { 'X-Y': 'z' } } })));
         console.log(page.submitForm({ formSelector: '#q', params: { headers: { 'X-Y': 'z' } } }).body.includes('X-Y: z'));
         // All forms of a page together, as k6 has it.
         console.log(page.submitForm().body.split('\\n\\n')[1]);
         for (const f of [() => page.clickLink({ selector: 'b' }), () => page.clickLink({ selector: '[name=n]' }),
           () => page.submitForm({ formSelector: '#none' })]) {
           try { f(); } catch (e) { console.log(e.message.replaceAll(url, '')); }
         }",
    );
    assert_eq!(
        lines,
        [
            "GET /up?y=2 GET /up?y=2",
            "POST /dir/send a=2&extra=e&m=x&m=y&s=Go",
            "GET /dir/page?b=c+d",
            "true",
            "a=1&b=c+d&m=x&m=y&s=Go",
            "no element found for selector 'b' in response '/dir/page?x=1'",
            "no valid href attribute value found on element '[name=n]' in response '/dir/page?x=1'",
            "no form found for selector '#none' in response '/dir/page?x=1'",
        ]
    );
}
