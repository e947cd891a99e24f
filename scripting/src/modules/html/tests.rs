use std::{cell::Cell, rc::Rc};

use super::{FormData, FormValue, METHODS, NoMatch, Page, dom::Document, forms};
use crate::harness::{run, run_http};

/// Runs statements on `d`, the parsed `markup`.
fn on(markup: &str, body: &str) -> Vec<String> {
    let markup = serde_json::to_string(markup).unwrap();
    run(
        &format!(
            "import {{ parseHTML }} from 'k6/html'; import exec from 'k6/execution'; const d = parseHTML({markup});
             const caught = (f) => {{ try {{ return f(); }} catch (e) {{ return String(e); }} }};
             export default function () {{ {body} }}"
        ),
        1,
    )
}

fn page(markup: &str) -> Rc<Page> {
    let document = Document::parse(markup, || Ok::<_, &str>(())).unwrap();
    Rc::new(Page {
        document,
        url: None,
    })
}

#[test]
fn methods_are_in_the_order_in_which_they_are_searched() {
    assert!(METHODS.is_sorted_by(|(a, _), (b, _)| a < b));
}

#[test]
fn arguments_that_are_no_selectors_are_named() {
    let lines = on(
        "<p>a</p><a href=/x>l</a>",
        "console.log(caught(() => d.find(5)));
         console.log(caught(() => d.add()));
         console.log(caught(() => d.closest({})));
         console.log(caught(() => d.filter(1)));
         console.log(caught(() => d.is(null)));
         console.log(caught(() => d.each('x')));
         console.log(caught(() => d.map()));
         const a = d.find('a').get(0);
         console.log(d.find('*').filter(a).size(), d.find('*').not(a).size(), d.find('body').has(a).size(), d.find('a').is(a), d.find('*').index(a));
         console.log(caught(() => d.find('p').add(parseHTML('<i>').find('i'))));",
    );
    assert_eq!(
        lines,
        [
            "GoError: invalid argument, cannot use a 'int64' as a selector",
            "GoError: invalid argument, cannot use a '<nil>' as a selector",
            "GoError: invalid argument, cannot use a 'map[string]interface {}' as a selector",
            "GoError: the argument to filter() must be a function, a selector or a selection",
            "GoError: the argument to is() must be a function, a selector or a selection",
            "GoError: the argument to each() must be a function",
            "GoError: the argument to map() must be a function",
            "1 4 1 true 4",
            "GoError: nodes of different documents cannot be in one selection",
        ]
    );
}

#[test]
fn functions_of_the_script_are_asked_and_their_exceptions_handled() {
    let lines = on(
        "<p>a</p><p>b</p><p>c</p>",
        "const p = d.find('p');
         console.log(p.filter((i, s) => s.text() > 'a').text(), p.not((i) => i === 1).text(), p.is((i, s) => s.text() === 'c'));
         console.log(p.map((i, s) => { if (i === 1) throw new Error('skipped'); return i + s.text(); }).join());
         const e = caught(() => p.each((i, el) => { if (i === 1) throw new TypeError('bad'); }));
         console.log(e.split(' at ')[0], /at .*script.js:/.test(e), caught(() => p.each(() => { throw 'a\\nb'; })).endsWith(': a\\nb'));
         console.log(p.each((i, el) => el.nodeName()).size(), caught(() => p.filter(() => { throw new Error('out'); })));",
    );
    assert_eq!(
        lines,
        [
            "bc ac true",
            "0a,2c",
            "GoError: the function passed to each() failed: TypeError: bad true true",
            "3 Error: out",
        ]
    );
}

#[test]
fn positions_count_from_both_ends() {
    let lines = on(
        "<p>0</p><p>1</p><p>2</p><i></i>",
        "const p = d.find('p'); const t = (s) => s.text() || '-';
         console.log(t(p.eq(-1)), t(p.eq(-3)), t(p.eq(-4)), t(p.eq(3)), t(p.eq('1')), t(p.eq(1.9)));
         console.log(t(p.slice(5)), t(p.slice(-2)), t(p.slice(2, 1)), t(p.slice(0, -1)), t(p.slice(-9, 1)), t(p.slice(0, undefined)));
         const n = (e) => e === undefined ? 'none' : e.textContent();
         console.log(n(p.get(0)), n(p.get(-1)), n(p.get(-2)), n(p.get(-3)), n(p.get(3)), p.get().length);
         console.log(p.index(), p.last().index(), p.index('i'), d.find('i').index('p, i'), p.index(p.eq(2)), d.find('x').index());
         console.log(t(p.first().end()), p.end().end().size(), p.end().end().end().size());",
    );
    assert_eq!(
        lines,
        [
            "2 0 - - 1 1",
            "- 12 - 01 0 012",
            "0 2 1 none none 3",
            "0 2 -1 3 2 -1",
            "012 0 0",
        ]
    );
}

#[test]
fn members_are_bound_and_listed_and_not_added() {
    let lines = on(
        "<p id=x>a</p>",
        "const { find } = d; const { id, toString } = find('p').get(0);
         console.log(id(), toString(), String(d.find('p').get(0)), `${d}`, d.url === '');
         console.log('find' in d, 'nope' in d, d.nope, Object.keys(d).includes('serialize'), JSON.stringify(d.find('p')).length > 2);
         console.log(caught(() => { d.foo = 1; }), caught(() => { d.find('p').get(0).id = 1; }));
         console.log(d.hasOwnProperty('find'), d[Symbol('find')], d['\\ud800'], d[0], typeof d.constructor, caught(() => d.find.call(undefined, 'p').size()));",
    );
    assert_eq!(
        lines,
        [
            "x [object html.Node] [object html.Node] [object Object] true",
            "true false undefined true true",
            "TypeError: Cannot assign to property foo of a host object TypeError: Cannot assign to property id of a host object",
            "true undefined undefined undefined function 1",
        ]
    );
}

#[test]
fn links_of_a_response_are_resolved_against_its_url() {
    let body = "<a href=\"../b?q#f\">l</a><form action=send></form><img src=//o.test/i.png>";
    let reply = format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let lines = run_http(
        reply.leak().as_bytes(),
        "const r = http.get(url + 'x/y/z'); const d = r.html(); const a = r.html('a').get(0);
         console.log(a.href().slice(url.length), a.pathname(), a.search(), a.hash(), a.protocol(), String(a) === a.href(), d.url === r.url);
         console.log(d.find('form').get(0).action().slice(url.length), d.find('img').get(0).src(), d.find('a').attr('href'));
         r.body = '<p>assigned</p>'; console.log(r.html('p').text());
         const none = http.get(url, { responseType: 'none' });
         try { none.html(); } catch (e) { console.log(String(e)); }",
    );
    assert_eq!(
        lines,
        [
            "x/b?q#f /x/b ?q #f http true true",
            "x/y/send http://o.test/i.png ../b?q#f",
            "assigned",
            "GoError: the body is null so we can't transform it to HTML - this likely was because of a request error getting the response",
        ]
    );
}

#[test]
fn wide_pages_are_walked_in_linear_time() {
    let lines = on(
        "",
        "const d = parseHTML('<ul>' + '<li>x</li>'.repeat(20000) + '</ul>'), li = d.find('li');
         console.log(li.siblings().size(), li.nextAll().size(), li.prevUntil('ul').size(), li.parents().size(), li.next().size(), li.first().siblings().size());
         console.log(d.find('li:first-child').size(), d.find('li:nth-child(3)').size(), d.find('li:nth-last-child(-n+2)').size(), li.not(li.eq(5)).size(), li.add(li).size());",
    );
    assert_eq!(
        lines,
        ["20000 19999 19999 3 19999 19999", "1 1 2 19999 20000"]
    );
}

#[test]
fn pages_that_nest_too_deep_throw() {
    let lines = on(
        "",
        "console.log(caught(() => parseHTML('<div>'.repeat(600))));
         console.log(parseHTML('<div>'.repeat(500)).find('div').size());",
    );
    assert_eq!(
        lines,
        [
            "GoError: html: open stack of elements exceeds 512 nodes",
            "500"
        ]
    );
}

#[test]
fn chains_without_end_are_taken_apart_without_recursion() {
    let mut chain = page("<p>a</p>").root();
    for _ in 0..500_000 {
        chain = chain.eq(0);
    }
    assert_eq!(chain.end().end().text(), "a");
    // On the small stack of a test.
    drop(chain);
}

#[test]
fn less_common_members_of_elements() {
    let lines = on(
        "<form id=f><input id=i type=radio name=r><label>x<select id=s><option>1</select></label>
         <button>b</button><textarea>t</textarea><meter id=m></meter><progress></progress>
         <ol></ol><canvas></canvas></form><input id=o form=f formmethod=POST><map name=m><area></map><img usemap=#m>
         <video src=v muted><track></video><a href=':bad:'>x</a><svg><circle/></svg><!doctype html>",
        "const g = (s) => d.find(s).get(0);
         console.log(g('#i').autocomplete(), g('#i').maxLength(), g('#o').form().id(), g('#o').formMethod(), g('#o').formEnctype());
         console.log(g('#s').selectedIndex(), JSON.stringify(g('#s').value()), g('#s').labels().length, g('label').control().id(), g('button').type());
         console.log(g('#m').min(), g('#m').max(), g('#m').optimum(), g('progress').position(), g('ol').start(), g('canvas').width());
         console.log(g('map').areas().length, g('map').images().length, g('video').muted(), g('video').textTracks()[0].kind(), g('button').value(), g('a').hash() === '', g('circle').namespaceURI());
         console.log(g('p') === undefined, g('ol').lang(), g('ol').className(), g('html').parentElement(), g('#i').isEqualNode(5), g('#i').contains(), g('body').matches('form'), caught(() => g('body').matches(3)));
         console.log(g('#f').querySelectorAll('[').length, g('#f').getElementsByTagName('*').length > 5, g('#f').getElementsByTagName('INPUT').length, g('#f').getElementsByClassName('').length);",
    );
    assert_eq!(
        lines,
        [
            "on -1 f post application/x-www-form-urlencoded",
            "-1 \"\" 1 s submit",
            "0 1 0.5 -1 1 150",
            "1 1 true subtitles b true http://www.w3.org/2000/svg",
            "true undefined undefined undefined false false false GoError: invalid argument, cannot use a 'int64' as a selector",
            "0 true 1 0",
        ]
    );
}

#[test]
fn what_a_form_sends_and_where_to() {
    let page = page(
        "<form id=a method=post action='/send?x=1'><input name=q value=1><input name=q value=2>
         <select name=m multiple><option selected>a<option selected>b</select>
         <button type=submit name=go value=yes></button></form><form><input name=other></form>",
    );
    let text = |name: &str, value: &str| (name.to_owned(), FormValue::Text(value.to_owned()));
    let many = FormValue::Many(vec!["a".to_owned(), "b".to_owned()]);
    let form = page.form("#a", "[type=\"submit\"]").unwrap();
    assert_eq!(
        forms::url_encoded(form.fields.clone()),
        "go=yes&m=a&m=b&q=2"
    );
    assert_eq!(
        form,
        FormData {
            method: "POST".to_owned(),
            action: Some("/send?x=1".to_owned()),
            fields: vec![text("q", "2"), ("m".to_owned(), many), text("go", "yes")],
        }
    );
    let all = page.form("form", "#none").unwrap();
    assert!(all.fields.contains(&text("other", "")) && all.method == "POST");
    let second = page.form("form:nth-of-type(2)", "button").unwrap();
    assert_eq!((second.method.as_str(), second.action), ("GET", None));
    assert_eq!(page.form("#none", "x"), Err(NoMatch));
}

#[test]
fn the_link_to_click() {
    let page = page("<a>none</a><a href=/first></a><a href=/second></a>");
    assert_eq!(page.link("a[href]"), Ok(Some("/first".to_owned())));
    assert_eq!(page.link("a"), Ok(None));
    assert_eq!(page.link("a["), Err(NoMatch));
}

#[test]
fn a_page_goes_with_the_last_that_shows_it() {
    let page = page("<p>a</p>");
    let weak = Rc::downgrade(&page);
    let found = page.root().find(&super::Criterion::selector("p"));
    drop(page);
    assert!(weak.upgrade().is_some());
    drop(found);
    assert!(weak.upgrade().is_none());
}

#[test]
fn a_stop_in_a_function_of_the_script_is_no_exception() {
    for how in ["map", "each", "filter", "not", "is"] {
        let lines = on(
            "<p>1</p><p>2</p>",
            &format!(
                "try {{ d.find('p').{how}((i) => {{ console.log(i); exec.test.abort('enough'); }}); }} catch (e) {{ console.log('caught'); }} finally {{ console.log('finally'); }}
                 console.log('went on');"
            ),
        );
        assert_eq!(lines, ["0"], "{how}");
    }
}

thread_local! {
    /// Pages of this thread that are gone.
    static GONE: Cell<usize> = const { Cell::new(0) };
}

impl Drop for Page {
    fn drop(&mut self) {
        GONE.set(GONE.get() + 1);
    }
}

#[test]
fn pages_go_with_what_the_script_holds_of_them() {
    let before = GONE.get();
    let lines = run(
        "import { parseHTML } from 'k6/html'; const kept = [];
         export default function () {
           for (let i = 0; i < 20; i++) {
             const p = parseHTML('<p>a</p>').find('p'); const cycle = { p, text: p.text, element: p.get(0) }; cycle.self = cycle;
             kept.push(p.filter(() => cycle !== null));
           }
           kept.length = 5; console.log(kept.length);
         }",
        3,
    );
    assert_eq!(lines, ["5", "5", "5"]);
    assert_eq!(GONE.get() - before, 60);
}
