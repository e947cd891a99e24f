//! `k6/html`: pages as trees, with selections in the manner of jQuery.
//!
//! `dom.rs` is the tree, `css.rs` the selectors, `selection.rs` how nodes are found from nodes,
//! `forms.rs` what a form would send; `element.rs` and this file show it all to scripts.
//!
//! A page is parsed once and shared by all selections and elements of it; it goes with the last
//! of them.

mod css;
mod dom;
mod element;
mod forms;
mod selection;

use std::rc::Rc;

use rquickjs::{
    Array, Ctx, Function, IntoJs, Object, Result as JsResult, Value,
    function::Opt,
    module::{Declarations, Exports, ModuleDef},
};

pub(crate) use self::forms::FormValue;
use self::{
    dom::{Document, NodeId},
    element::ElementNode,
    selection::{Criterion, Selection, Way},
};
use super::string_argument;
use crate::{
    error,
    globals::go_type_name,
    host_object::{self, HostObject, Method},
    state::VuState,
    vu::state_of,
};

/// The module `k6/html`.
pub(crate) struct Html;

impl ModuleDef for Html {
    fn declare(decl: &Declarations<'_>) -> JsResult<()> {
        decl.declare("parseHTML")?;
        decl.declare("default")?;
        Ok(())
    }

    fn evaluate<'js>(ctx: &Ctx<'js>, exports: &Exports<'js>) -> JsResult<()> {
        let module = Object::new(ctx.clone())?;
        let state = state_of(ctx);
        let parse = Function::new(
            ctx.clone(),
            move |ctx: Ctx<'js>, source: Opt<Value<'js>>| {
                state.guard(&ctx)?;
                let source = string_argument(source.0);
                let page = Page::parse(&ctx, &state, &source, None)?;
                host_object::wrap(&ctx, page.root())
            },
        )?;
        module.set("parseHTML", parse.with_name("parseHTML")?)?;
        super::export_all(exports, &module, &["parseHTML"])
    }
}

/// A parsed page and where it came from.
pub(crate) struct Page {
    document: Document,
    url: Option<String>,
}

/// Why a page could not be parsed.
enum ParseError {
    Refused(&'static str),
    Stopped,
}

impl From<&'static str> for ParseError {
    fn from(text: &'static str) -> Self {
        Self::Refused(text)
    }
}

/// What `submitForm` sends, and where to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct FormData {
    /// In capitals; `GET` where the form says nothing.
    pub(crate) method: String,
    /// The form's `action` as it is written, to be resolved against the URL of the response.
    pub(crate) action: Option<String>,
    /// Values of the controls, and of the control that submits.
    pub(crate) fields: Vec<(String, FormValue)>,
}

impl Page {
    /// Parses a page. Gives way to other VUs between its parts.
    ///
    /// # Errors
    /// Throws when the page nests too deep, and when the VU has been told to stop.
    pub(crate) fn parse(
        ctx: &Ctx<'_>,
        state: &VuState,
        source: &str,
        url: Option<String>,
    ) -> JsResult<Rc<Self>> {
        let parsed = Document::parse(source, || match state.fiber.interrupt() {
            true => Err(ParseError::Stopped),
            false => Ok(()),
        });
        match parsed {
            Ok(document) => Ok(Rc::new(Self { document, url })),
            Err(ParseError::Refused(text)) => Err(error::throw(ctx, text)),
            Err(ParseError::Stopped) => Err(crate::engine::throw_uncatchable(ctx)),
        }
    }

    fn root(self: &Rc<Self>) -> Rc<Selection> {
        Selection::new(self.clone(), vec![NodeId::ROOT])
    }

    /// The page as a Selection, or what a selector finds in it: `response.html(selector?)`.
    ///
    /// # Errors
    /// When the heap has no room for it.
    pub(crate) fn selection<'js>(
        self: &Rc<Self>,
        ctx: &Ctx<'js>,
        selector: Option<&str>,
    ) -> JsResult<Value<'js>> {
        let root = self.root();
        let found = match selector {
            Some(selector) => root.find(&Criterion::selector(selector)),
            None => root,
        };
        host_object::wrap(ctx, found)
    }

    /// The `href` of the first element that a selector finds: `Err` when it finds none,
    /// `Ok(None)` when that has no `href`. For `clickLink`.
    ///
    /// # Errors
    /// When nothing matches.
    pub(crate) fn link(self: &Rc<Self>, selector: &str) -> Result<Option<String>, NoMatch> {
        let found = self.root().single(&Criterion::selector(selector));
        let node = found.first_node().ok_or(NoMatch)?;
        Ok(self.document.attribute(node, "href").map(str::to_owned))
    }

    /// What the form sends that a selector finds. With a selector that finds several, as `form`
    /// does on a page with more than one, the values of all, as in the reference. For `submitForm`.
    ///
    /// # Errors
    /// When nothing matches.
    pub(crate) fn form(
        self: &Rc<Self>,
        form_selector: &str,
        submit_selector: &str,
    ) -> Result<FormData, NoMatch> {
        let document = &self.document;
        let form = self.root().find(&Criterion::selector(form_selector));
        let first = form.first_node().ok_or(NoMatch)?;
        let mut fields = forms::last_of_each(forms::fields(&form));
        let submit = form.find(&Criterion::selector(submit_selector));
        let named = submit.first_node().and_then(|submit| {
            let name = document.attribute(submit, "name")?;
            Some((name.to_owned(), forms::value(document, submit)?))
        });
        if let Some(named) = named {
            fields.push(named);
            fields = forms::last_of_each(fields);
        }
        let method = document.attribute(first, "method").unwrap_or_default();
        let method = match method {
            "" => "GET".to_owned(),
            other => other.to_uppercase(),
        };
        let action = document.attribute(first, "action").map(str::to_owned);
        Ok(FormData {
            method,
            action,
            fields,
        })
    }

    /// An address of the page in full, where the address of the page is known.
    fn resolve(&self, address: &str) -> String {
        let full = self.url.as_deref().and_then(|base| {
            let base = volley_net::Url::parse(base).ok()?;
            base.join(address).ok()
        });
        full.map_or_else(|| address.to_owned(), |url| url.as_str().to_owned())
    }
}

/// A selector found nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NoMatch;

type Call = Method<Selection>;

const METHODS: &[(&str, Call)] = &[
    ("add", |ctx, this, args| {
        let more = criterion(ctx, first(args))?;
        let all = this.add(&more).map_err(|text| error::throw(ctx, text))?;
        show(ctx, all)
    }),
    ("attr", attr),
    ("children", |ctx, this, args| {
        let filter = optional(args.first());
        show(ctx, this.children(filter.as_ref()))
    }),
    ("closest", |ctx, this, args| {
        let wanted = criterion(ctx, first(args))?;
        show(ctx, this.closest(&wanted))
    }),
    ("contents", |ctx, this, _| show(ctx, this.contents())),
    ("data", data),
    ("each", each),
    ("end", |ctx, this, _| show(ctx, this.end())),
    ("eq", |ctx, this, args| {
        show(ctx, this.eq(integer(first(args))))
    }),
    ("filter", |ctx, this, args| {
        choose(ctx, this, first(args), "filter", true)
    }),
    ("find", |ctx, this, args| {
        let wanted = criterion(ctx, first(args))?;
        show(ctx, this.find(&wanted))
    }),
    ("first", |ctx, this, _| show(ctx, this.eq(0))),
    ("get", get),
    ("has", |ctx, this, args| {
        let inside = criterion(ctx, first(args))?;
        show(ctx, this.has(&inside))
    }),
    ("html", |ctx, this, _| {
        let first = this.first_node();
        let html = first.map(|node| this.page.document.inner_html(node));
        html.unwrap_or_default().into_js(ctx)
    }),
    ("index", |ctx, this, args| {
        let found = match first(args) {
            None => this.index(),
            some => this.index_of(&criterion(ctx, some)?),
        };
        found.map_or(-1.0, |index| index as f64).into_js(ctx)
    }),
    ("is", is),
    ("last", |ctx, this, _| show(ctx, this.eq(-1))),
    ("map", map),
    ("next", |ctx, this, args| {
        adjacent(ctx, this, args, Way::Next)
    }),
    ("nextAll", |ctx, this, args| all(ctx, this, args, Way::Next)),
    ("nextUntil", |ctx, this, args| {
        until(ctx, this, args, Way::Next)
    }),
    ("not", |ctx, this, args| {
        choose(ctx, this, first(args), "not", false)
    }),
    ("parent", |ctx, this, args| {
        let filter = optional(args.first());
        show(ctx, this.parent(filter.as_ref()))
    }),
    ("parents", |ctx, this, args| {
        let filter = optional(args.first());
        show(ctx, this.parents_until(None, filter.as_ref()))
    }),
    ("parentsUntil", |ctx, this, args| {
        let (end, filter) = (optional(args.first()), optional(args.get(1)));
        show(ctx, this.parents_until(end.as_ref(), filter.as_ref()))
    }),
    ("prev", |ctx, this, args| {
        adjacent(ctx, this, args, Way::Previous)
    }),
    ("prevAll", |ctx, this, args| {
        all(ctx, this, args, Way::Previous)
    }),
    ("prevUntil", |ctx, this, args| {
        until(ctx, this, args, Way::Previous)
    }),
    ("serialize", |ctx, this, _| {
        let fields = forms::last_of_each(forms::fields(this));
        forms::url_encoded(fields).into_js(ctx)
    }),
    ("serializeArray", |ctx, this, _| {
        let list = Array::new(ctx.clone())?;
        for (index, (name, value)) in forms::fields(this).into_iter().enumerate() {
            let entry = Object::new(ctx.clone())?;
            entry.set("name", name)?;
            entry.set("value", value)?;
            list.set(index, entry)?;
        }
        list.into_js(ctx)
    }),
    ("serializeObject", |ctx, this, _| {
        let object = Object::new(ctx.clone())?;
        for (name, value) in forms::last_of_each(forms::fields(this)) {
            object.set(name, value)?;
        }
        object.into_js(ctx)
    }),
    ("siblings", |ctx, this, args| {
        let filter = optional(args.first());
        show(ctx, this.siblings(filter.as_ref()))
    }),
    ("single", |ctx, this, args| {
        let wanted = criterion(ctx, first(args))?;
        show(ctx, this.single(&wanted))
    }),
    ("size", |ctx, this, _| {
        (this.nodes.len() as f64).into_js(ctx)
    }),
    ("slice", |ctx, this, args| {
        let to = args.get(1).filter(|to| !to.is_undefined());
        let to = to.map(|to| integer(Some(to)));
        show(ctx, this.slice(integer(first(args)), to))
    }),
    ("text", |ctx, this, _| this.text().into_js(ctx)),
    ("toArray", |ctx, this, _| {
        let list = Array::new(ctx.clone())?;
        for (index, node) in this.nodes.iter().enumerate() {
            list.set(index, single(ctx, this, *node)?)?;
        }
        list.into_js(ctx)
    }),
    ("val", |ctx, this, _| {
        let first = this.first_node();
        let value = first.and_then(|node| forms::value(&this.page.document, node));
        match value {
            Some(value) => value.into_js(ctx),
            None => undefined(ctx),
        }
    }),
];

impl HostObject for Selection {
    const NAME: &'static str = "Selection";

    fn member<'js>(self: &Rc<Self>, ctx: &Ctx<'js>, name: &str) -> JsResult<Option<Value<'js>>> {
        if name == "url" {
            let url = self.page.url.as_deref().unwrap_or_default();
            return url.into_js(ctx).map(Some);
        }
        let Ok(place) = METHODS.binary_search_by(|(known, _)| (*known).cmp(name)) else {
            return Ok(None);
        };
        host_object::bound(ctx, self, name, METHODS[place].1).map(Some)
    }

    fn names(&self) -> Vec<&'static str> {
        std::iter::once("url")
            .chain(METHODS.iter().map(|(name, _)| *name))
            .collect()
    }
}

impl<'js> IntoJs<'js> for FormValue {
    fn into_js(self, ctx: &Ctx<'js>) -> JsResult<Value<'js>> {
        match self {
            Self::Text(text) => text.into_js(ctx),
            Self::Many(all) => all.into_js(ctx),
        }
    }
}

fn undefined<'js>(ctx: &Ctx<'js>) -> JsResult<Value<'js>> {
    Ok(Value::new_undefined(ctx.clone()))
}

fn show<'js>(ctx: &Ctx<'js>, selection: Rc<Selection>) -> JsResult<Value<'js>> {
    host_object::wrap(ctx, selection)
}

/// A selection of one node.
fn single<'js>(ctx: &Ctx<'js>, this: &Selection, node: NodeId) -> JsResult<Value<'js>> {
    show(ctx, Selection::new(this.page.clone(), vec![node]))
}

/// The first argument, if it is there at all.
fn first<'a, 'js>(args: &'a [Value<'js>]) -> Option<&'a Value<'js>> {
    args.first().filter(|value| !value.is_undefined())
}

/// A number as natives take it: cut towards zero, 0 for what is none.
fn integer(value: Option<&Value<'_>>) -> i64 {
    let number = value.and_then(|value| {
        let number: JsResult<rquickjs::Coerced<f64>> = value.get();
        number.ok().map(|n| n.0)
    });
    // Saturates, and is 0 for NaN.
    number.unwrap_or_default() as i64
}

/// What a selector, a Selection or an Element means; `None` for other values.
fn as_criterion(value: &Value<'_>) -> Option<Criterion> {
    if let Some(text) = value.as_string() {
        return Some(Criterion::selector(&crate::engine::rust_string(text)));
    }
    if let Some(other) = host_object::behind::<Selection>(value) {
        return Some(Criterion::nodes(other.page.clone(), other.nodes.clone()));
    }
    let element = host_object::behind::<ElementNode>(value)?;
    Some(Criterion::nodes(element.page.clone(), vec![element.id]))
}

/// The same, of an argument that must be one of these.
fn criterion(ctx: &Ctx<'_>, value: Option<&Value<'_>>) -> JsResult<Criterion> {
    let found = value.and_then(as_criterion);
    found.ok_or_else(|| {
        let name = value.map_or("<nil>", go_type_name);
        let text = format!("invalid argument, cannot use a '{name}' as a selector");
        error::throw(ctx, &text)
    })
}

/// The same, of an argument that may be left out.
fn optional(value: Option<&Value<'_>>) -> Option<Criterion> {
    let value = value.filter(|value| !value.is_undefined() && !value.is_null())?;
    Some(as_criterion(value).unwrap_or_else(|| Criterion::selector(&error::to_text(value))))
}

fn adjacent<'js>(
    ctx: &Ctx<'js>,
    this: &Rc<Selection>,
    args: &[Value<'js>],
    way: Way,
) -> JsResult<Value<'js>> {
    let filter = optional(args.first());
    show(ctx, this.adjacent(way, filter.as_ref()))
}

fn all<'js>(
    ctx: &Ctx<'js>,
    this: &Rc<Selection>,
    args: &[Value<'js>],
    way: Way,
) -> JsResult<Value<'js>> {
    let filter = optional(args.first());
    show(ctx, this.adjacent_until(way, None, filter.as_ref()))
}

fn until<'js>(
    ctx: &Ctx<'js>,
    this: &Rc<Selection>,
    args: &[Value<'js>],
    way: Way,
) -> JsResult<Value<'js>> {
    let (end, filter) = (optional(args.first()), optional(args.get(1)));
    show(ctx, this.adjacent_until(way, end.as_ref(), filter.as_ref()))
}

fn attr<'js>(ctx: &Ctx<'js>, this: &Rc<Selection>, args: &[Value<'js>]) -> JsResult<Value<'js>> {
    let name = string_argument(args.first().cloned());
    let node = this.first_node();
    let value = node.and_then(|node| this.page.document.attribute(node, &name));
    match (value, args.get(1)) {
        (Some(value), _) => value.into_js(ctx),
        (None, Some(default)) => Ok(default.clone()),
        (None, None) => undefined(ctx),
    }
}

fn get<'js>(ctx: &Ctx<'js>, this: &Rc<Selection>, args: &[Value<'js>]) -> JsResult<Value<'js>> {
    let Some(index) = first(args) else {
        let list = Array::new(ctx.clone())?;
        for (place, node) in this.nodes.iter().enumerate() {
            list.set(place, element::wrap(ctx, &this.page, *node)?)?;
        }
        return list.into_js(ctx);
    };
    let (index, length) = (integer(Some(index)), this.nodes.len() as i64);
    // As in the reference, counting from the end does not reach the first.
    let place = match index {
        0.. => index,
        _ if index > -length => length + index,
        _ => return undefined(ctx),
    };
    let node = usize::try_from(place).ok().and_then(|i| this.nodes.get(i));
    match node {
        Some(node) => element::wrap(ctx, &this.page, *node),
        None => undefined(ctx),
    }
}

/// Asks a function of the script about each node; its first exception ends the questions.
fn ask<'js>(
    ctx: &Ctx<'js>,
    this: &Rc<Selection>,
    function: &Function<'js>,
    mut answer: impl FnMut(NodeId, bool) -> bool,
) -> JsResult<()> {
    for (index, node) in this.nodes.iter().enumerate() {
        let said: Value<'js> = function.call((index as f64, single(ctx, this, *node)?))?;
        let yes: rquickjs::Coerced<bool> = said.get()?;
        if !answer(*node, yes.0) {
            break;
        }
    }
    Ok(())
}

/// `filter()` keeps what matches, `not()` the rest.
fn choose<'js>(
    ctx: &Ctx<'js>,
    this: &Rc<Selection>,
    value: Option<&Value<'js>>,
    name: &str,
    keep: bool,
) -> JsResult<Value<'js>> {
    if let Some(function) = value.and_then(|value| value.as_function()) {
        let mut said = Vec::with_capacity(this.nodes.len());
        ask(ctx, this, function, |_, yes| {
            said.push(yes);
            true
        })?;
        return show(ctx, this.filter(|index, _| said.get(index) == Some(&keep)));
    }
    if name == "filter" && value.and_then(as_criterion).is_none() {
        return Err(error::throw(
            ctx,
            "the argument to filter() must be a function, a selector or a selection",
        ));
    }
    let wanted = criterion(ctx, value)?;
    show(
        ctx,
        if keep {
            this.matching(&wanted)
        } else {
            this.not(&wanted)
        },
    )
}

fn is<'js>(ctx: &Ctx<'js>, this: &Rc<Selection>, args: &[Value<'js>]) -> JsResult<Value<'js>> {
    let value = first(args);
    if let Some(function) = value.and_then(|value| value.as_function()) {
        let mut any = false;
        ask(ctx, this, function, |_, yes| {
            any = yes;
            !yes
        })?;
        return any.into_js(ctx);
    }
    let Some(wanted) = value.and_then(as_criterion) else {
        return Err(error::throw(
            ctx,
            "the argument to is() must be a function, a selector or a selection",
        ));
    };
    this.is(&wanted).into_js(ctx)
}

fn each<'js>(ctx: &Ctx<'js>, this: &Rc<Selection>, args: &[Value<'js>]) -> JsResult<Value<'js>> {
    let Some(function) = first(args).and_then(|value| value.as_function()) else {
        return Err(error::throw(
            ctx,
            "the argument to each() must be a function",
        ));
    };
    let state = state_of(ctx);
    for (index, node) in this.nodes.iter().enumerate() {
        let element = element::wrap(ctx, &this.page, *node)?;
        if let Err(thrown) = function.call::<_, Value<'js>>((index as f64, element)) {
            // A VU that has been told to stop does not turn that into an error of the script.
            state.guard(ctx)?;
            let thrown = error::thrown(ctx, thrown);
            let described = error::describe(&thrown);
            let frame = described
                .lines()
                .find_map(|line| line.strip_prefix("\tat "));
            let mut text = format!(
                "the function passed to each() failed: {}",
                error::to_text(&thrown)
            );
            if let Some(frame) = frame {
                text.push_str(" at ");
                text.push_str(frame);
            }
            return Err(error::throw(ctx, &text));
        }
    }
    show(ctx, this.clone())
}

fn map<'js>(ctx: &Ctx<'js>, this: &Rc<Selection>, args: &[Value<'js>]) -> JsResult<Value<'js>> {
    let Some(function) = first(args).and_then(|value| value.as_function()) else {
        return Err(error::throw(
            ctx,
            "the argument to map() must be a function",
        ));
    };
    let state = state_of(ctx);
    let list = Array::new(ctx.clone())?;
    let mut length = 0;
    for (index, node) in this.nodes.iter().enumerate() {
        match function.call::<_, Value<'js>>((index as f64, single(ctx, this, *node)?)) {
            Ok(value) => {
                list.set(length, value)?;
                length += 1;
            }
            Err(thrown) => {
                state.guard(ctx)?;
                // As in the reference: what throws has no place in the result.
                error::thrown(ctx, thrown);
            }
        }
    }
    list.into_js(ctx)
}

// === data() ===

fn data<'js>(ctx: &Ctx<'js>, this: &Rc<Selection>, args: &[Value<'js>]) -> JsResult<Value<'js>> {
    let node = this.first_node();
    let Some(element) = node.and_then(|node| this.page.document.element(node)) else {
        return undefined(ctx);
    };
    if let Some(key) = first(args) {
        let name = format!("data-{}", dashed(&error::to_text(key)));
        return match element.attribute(&name) {
            Some(text) => data_value(ctx, text),
            None => undefined(ctx),
        };
    }
    let object = Object::new(ctx.clone())?;
    let mut any = false;
    for attribute in &element.attributes {
        if let Some(name) = attribute.name.local.strip_prefix("data-") {
            object.set(camel_case(name), data_value(ctx, &attribute.value)?)?;
            any = true;
        }
    }
    if any {
        object.into_js(ctx)
    } else {
        undefined(ctx)
    }
}

/// `twoWords` → `two-words`
fn dashed(key: &str) -> String {
    let mut out = String::with_capacity(key.len());
    for one in key.chars() {
        if one.is_ascii_uppercase() {
            out.push('-');
        }
        out.push(one.to_ascii_lowercase());
    }
    out
}

/// `two-words` → `twoWords`
fn camel_case(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    let mut words = name.split('-');
    out.push_str(words.next().unwrap_or_default());
    for word in words {
        let mut letters = word.chars();
        out.extend(letters.next().map(|first| first.to_ascii_uppercase()));
        out.push_str(letters.as_str());
    }
    out
}

/// The value that jQuery takes a text for.
fn data_value<'js>(ctx: &Ctx<'js>, text: &str) -> JsResult<Value<'js>> {
    match text {
        "" | "null" | "undefined" => return undefined(ctx),
        "true" => return true.into_js(ctx),
        "false" => return false.into_js(ctx),
        _ => {}
    }
    if text.starts_with(['{', '[']) {
        match ctx.json_parse(text) {
            Ok(value) => return Ok(value),
            Err(thrown) => drop(error::thrown(ctx, thrown)),
        }
    }
    // A number only if it is written as numbers are.
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() && number.to_string() == text => number.into_js(ctx),
        _ => text.into_js(ctx),
    }
}

#[cfg(test)]
mod tests;
