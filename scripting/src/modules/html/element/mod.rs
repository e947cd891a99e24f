//! Elements and other nodes, as scripts see them: the members all have, and those of their kinds.
//!
//! Most members show an attribute in one form or another; they are rows of tables, one table for
//! each kind of element.

mod kinds;

use std::rc::Rc;

use rquickjs::{Array, Ctx, Function, IntoJs, Object, Result as JsResult, Value, object::Accessor};

use super::{
    Page, criterion,
    dom::{Data, Document, NodeId},
    first,
    selection::{Criterion, Selection},
    undefined,
};
use crate::{
    host_object::{self, HostObject, Method},
    modules::string_argument,
};

/// A node of a page.
pub(super) struct ElementNode {
    pub(super) page: Rc<Page>,
    pub(super) id: NodeId,
    /// What else `querySelector` found, whose text the reference counts as this element's, too.
    more: Vec<NodeId>,
}

type Call = Method<ElementNode>;

/// How a member gets its answer.
#[derive(Clone, Copy)]
enum Member {
    /// The attribute as it is; empty without it.
    Text(&'static str),
    /// The attribute, or `undefined`.
    TextOrNone(&'static str),
    /// The attribute, or this.
    TextOr(&'static str, &'static str),
    /// Whether the attribute is there.
    Flag(&'static str),
    /// The attribute as a whole number, or this.
    Int(&'static str, i32),
    /// The attribute as an address, in full where the page's own is known.
    Address(&'static str),
    /// The words of the attribute.
    Words(&'static str),
    /// The attribute if it is one of these, in lower case; otherwise the first.
    OneOf(&'static str, &'static [&'static str]),
    /// Always this.
    Fixed(&'static str),
    Do(Call),
}

use Member::{Address, Do, Fixed, Flag, Int, OneOf, Text, TextOr, TextOrNone, Words};

type Table = &'static [(&'static str, Member)];

/// The object that shows a node.
pub(super) fn wrap<'js>(ctx: &Ctx<'js>, page: &Rc<Page>, id: NodeId) -> JsResult<Value<'js>> {
    let page = page.clone();
    let more = Vec::new();
    host_object::wrap(ctx, Rc::new(ElementNode { page, id, more }))
}

fn wrap_all<'js>(
    ctx: &Ctx<'js>,
    page: &Rc<Page>,
    all: impl IntoIterator<Item = NodeId>,
) -> JsResult<Value<'js>> {
    let list = Array::new(ctx.clone())?;
    for (index, node) in all.into_iter().enumerate() {
        list.set(index, wrap(ctx, page, node)?)?;
    }
    list.into_js(ctx)
}

fn wrap_some<'js>(ctx: &Ctx<'js>, page: &Rc<Page>, node: Option<NodeId>) -> JsResult<Value<'js>> {
    match node {
        Some(node) => wrap(ctx, page, node),
        None => undefined(ctx),
    }
}

impl ElementNode {
    fn document(&self) -> &Document {
        &self.page.document
    }

    fn attribute(&self, name: &str) -> Option<&str> {
        self.document().attribute(self.id, name)
    }

    fn text(&self) -> String {
        self.document().text(self.id)
    }

    fn tag(&self) -> &str {
        self.document().tag(self.id)
    }

    /// What a selector finds below it.
    fn below(&self, selector: &str) -> Vec<NodeId> {
        let here = Selection::new(self.page.clone(), vec![self.id]);
        here.find(&Criterion::selector(selector)).nodes.clone()
    }

    fn below_with_tag<'a>(&'a self, tags: &'a [&'a str]) -> impl Iterator<Item = NodeId> + 'a {
        let document = self.document();
        let all = document.descendants(self.id);
        all.filter(move |node| tags.contains(&document.tag(*node)))
    }

    fn children_with_tag<'a>(&'a self, tags: &'a [&'a str]) -> impl Iterator<Item = NodeId> + 'a {
        let document = self.document();
        let all = document.children(self.id);
        all.filter(move |node| tags.contains(&document.tag(*node)))
    }

    fn ancestor(&self, tags: &[&str]) -> Option<NodeId> {
        let document = self.document();
        document
            .ancestors(self.id)
            .find(|node| tags.contains(&document.tag(*node)))
    }

    fn at(&self, id: NodeId) -> Self {
        Self {
            page: self.page.clone(),
            id,
            more: Vec::new(),
        }
    }

    /// The form of a control: the one it names, or the one it is in.
    fn form(&self) -> Option<NodeId> {
        match self.attribute("form") {
            Some(id) => {
                by_id(self.document(), id).filter(|node| self.document().tag(*node) == "form")
            }
            None => self.ancestor(&["form"]),
        }
    }

    /// The labels of a control, in the order of the page.
    fn labels(&self) -> Vec<NodeId> {
        let document = self.document();
        let id = self.attribute("id").filter(|id| !id.is_empty());
        let all = document.descendants(NodeId::ROOT);
        all.filter(|node| document.tag(*node) == "label")
            .filter(|label| match document.attribute(*label, "for") {
                Some(of) => Some(of) == id,
                None => document.is_below(self.id, *label),
            })
            .collect()
    }

    fn options(&self) -> Vec<NodeId> {
        self.below_with_tag(&["option"]).collect()
    }

    fn selected_options(&self) -> Vec<NodeId> {
        let document = self.document();
        let selected = |node: &NodeId| document.attribute(*node, "selected").is_some();
        self.options().into_iter().filter(selected).collect()
    }

    fn option_value(&self) -> String {
        self.attribute("value")
            .map_or_else(|| self.text(), str::to_owned)
    }

    /// The rows of a table, head first and foot last.
    fn rows(&self) -> Vec<NodeId> {
        let document = self.document();
        let mut rows = Vec::new();
        let mut section = |wanted: &[&str]| {
            for child in self.children_with_tag(wanted) {
                if document.tag(child) == "tr" {
                    rows.push(child);
                } else {
                    rows.extend(
                        document
                            .children(child)
                            .filter(|r| document.tag(*r) == "tr"),
                    );
                }
            }
        };
        section(&["thead"]);
        section(&["tbody", "tr"]);
        section(&["tfoot"]);
        rows
    }

    /// The address of a link in its parts.
    fn url(&self) -> Option<volley_net::Url> {
        let href = self.page.resolve(self.attribute("href")?);
        volley_net::Url::parse(&href).ok()
    }

    fn number(&self, name: &str) -> Option<f64> {
        self.attribute(name)?.trim().parse().ok()
    }
}

fn by_id(document: &Document, id: &str) -> Option<NodeId> {
    document
        .descendants(NodeId::ROOT)
        .find(|node| document.attribute(*node, "id") == Some(id))
}

impl HostObject for ElementNode {
    const NAME: &'static str = "Element";

    fn member<'js>(self: &Rc<Self>, ctx: &Ctx<'js>, name: &str) -> JsResult<Option<Value<'js>>> {
        let Some(member) = find(self.tag(), name) else {
            return Ok(None);
        };
        if let Do(call) = member {
            return host_object::bound(ctx, self, name, call).map(Some);
        }
        let this = self.clone();
        let function = Function::new(ctx.clone(), move |ctx: Ctx<'js>| this.show(&ctx, member))?;
        Ok(Some(function.with_name(name)?.into_value()))
    }

    fn names(&self) -> Vec<&'static str> {
        let own = kinds::tables(self.tag())
            .iter()
            .flat_map(|table| table.iter());
        let mut names: Vec<&'static str> = own.chain(COMMON).map(|(name, _)| *name).collect();
        names.sort_unstable();
        names.dedup();
        names
    }
}

impl ElementNode {
    /// The answer of a member that shows an attribute.
    fn show<'js>(&self, ctx: &Ctx<'js>, member: Member) -> JsResult<Value<'js>> {
        match member {
            Text(name) => self.attribute(name).unwrap_or_default().into_js(ctx),
            TextOrNone(name) => match self.attribute(name) {
                Some(text) => text.into_js(ctx),
                None => undefined(ctx),
            },
            TextOr(name, default) => self.attribute(name).unwrap_or(default).into_js(ctx),
            Flag(name) => self.attribute(name).is_some().into_js(ctx),
            Int(name, default) => self
                .attribute(name)
                .and_then(|text| text.trim().parse().ok())
                .unwrap_or(default)
                .into_js(ctx),
            Address(name) => self
                .attribute(name)
                .map(|address| self.page.resolve(address))
                .unwrap_or_default()
                .into_js(ctx),
            Words(name) => words(self.attribute(name)).into_js(ctx),
            OneOf(name, known) => {
                let value = self
                    .attribute(name)
                    .unwrap_or_default()
                    .to_ascii_lowercase();
                let known = known.iter().find(|one| **one == value).or(known.first());
                known.copied().unwrap_or_default().into_js(ctx)
            }
            Fixed(text) => text.into_js(ctx),
            Do(_) => undefined(ctx),
        }
    }
}

fn words(text: Option<&str>) -> Vec<&str> {
    text.unwrap_or_default().split_whitespace().collect()
}

fn find(tag: &str, name: &str) -> Option<Member> {
    kinds::tables(tag)
        .iter()
        .chain([&COMMON])
        .find_map(|table| table.iter().find(|(known, _)| *known == name))
        .map(|(_, member)| *member)
}

// === What all nodes have ===

const COMMON: Table = &[
    ("attributes", Do(attributes)),
    (
        "childElementCount",
        Do(|ctx, this, _| {
            let count = this.document().element_children(this.id).count();
            (count as f64).into_js(ctx)
        }),
    ),
    (
        "childNodes",
        Do(|ctx, this, _| wrap_all(ctx, &this.page, this.document().children(this.id))),
    ),
    (
        "children",
        Do(|ctx, this, _| wrap_all(ctx, &this.page, this.document().element_children(this.id))),
    ),
    ("classList", Words("class")),
    ("className", TextOrNone("class")),
    (
        "contains",
        Do(|ctx, this, args| {
            let other = first(args).and_then(host_object::behind::<ElementNode>);
            let inside = other.is_some_and(|other| {
                Rc::ptr_eq(&other.page, &this.page) && this.document().is_below(other.id, this.id)
            });
            inside.into_js(ctx)
        }),
    ),
    (
        "firstChild",
        Do(|ctx, this, _| wrap_some(ctx, &this.page, this.document().first_child(this.id))),
    ),
    (
        "firstElementChild",
        Do(|ctx, this, _| {
            let found = this.document().element_children(this.id).next();
            wrap_some(ctx, &this.page, found)
        }),
    ),
    (
        "getAttribute",
        Do(|ctx, this, args| {
            let name = string_argument(args.first().cloned());
            match this.attribute(&name) {
                Some(value) => value.into_js(ctx),
                None => undefined(ctx),
            }
        }),
    ),
    (
        "getAttributeNode",
        Do(|ctx, this, args| {
            let name = string_argument(args.first().cloned());
            match this.attribute(&name) {
                Some(_) => attribute_node(ctx, this, &name),
                None => undefined(ctx),
            }
        }),
    ),
    (
        "getElementsByClassName",
        Do(|ctx, this, args| {
            let wanted = string_argument(args.first().cloned());
            let wanted = words(Some(&wanted));
            let document = this.document();
            let found = document.descendants(this.id).filter(|node| {
                let has = words(document.attribute(*node, "class"));
                !wanted.is_empty() && wanted.iter().all(|word| has.contains(word))
            });
            wrap_all(ctx, &this.page, found)
        }),
    ),
    (
        "getElementsByTagName",
        Do(|ctx, this, args| {
            let wanted = string_argument(args.first().cloned());
            let document = this.document();
            let found = document.descendants(this.id).filter(|node| {
                document.is_element(*node)
                    && (wanted == "*" || document.tag(*node).eq_ignore_ascii_case(&wanted))
            });
            wrap_all(ctx, &this.page, found)
        }),
    ),
    (
        "hasAttribute",
        Do(|ctx, this, args| {
            let name = string_argument(args.first().cloned());
            this.attribute(&name).is_some().into_js(ctx)
        }),
    ),
    (
        "hasAttributes",
        Do(|ctx, this, _| {
            let element = this.document().element(this.id);
            element
                .is_some_and(|e| !e.attributes.is_empty())
                .into_js(ctx)
        }),
    ),
    (
        "hasChildNodes",
        Do(|ctx, this, _| this.document().first_child(this.id).is_some().into_js(ctx)),
    ),
    ("id", Text("id")),
    (
        "innerHTML",
        Do(|ctx, this, _| this.document().inner_html(this.id).into_js(ctx)),
    ),
    (
        "isDefaultNamespace",
        Do(|ctx, this, _| (namespace(this) == HTML_NAMESPACE).into_js(ctx)),
    ),
    (
        "isEqualNode",
        Do(|ctx, this, args| {
            let other = first(args).and_then(host_object::behind::<ElementNode>);
            let markup = |node: &ElementNode| {
                let mut out = String::new();
                node.document().push_html(node.id, &mut out);
                out
            };
            other
                .is_some_and(|other| markup(&other) == markup(this))
                .into_js(ctx)
        }),
    ),
    (
        "isSameNode",
        Do(|ctx, this, args| {
            let other = first(args).and_then(host_object::behind::<ElementNode>);
            other
                .is_some_and(|other| Rc::ptr_eq(&other.page, &this.page) && other.id == this.id)
                .into_js(ctx)
        }),
    ),
    ("lang", TextOrNone("lang")),
    (
        "lastChild",
        Do(|ctx, this, _| wrap_some(ctx, &this.page, this.document().last_child(this.id))),
    ),
    (
        "lastElementChild",
        Do(|ctx, this, _| {
            let found = this.document().element_children(this.id).last();
            wrap_some(ctx, &this.page, found)
        }),
    ),
    (
        "matches",
        Do(|ctx, this, args| {
            let wanted = criterion(ctx, first(args))?;
            wanted.matches(&this.page, this.id).into_js(ctx)
        }),
    ),
    (
        "namespaceURI",
        Do(|ctx, this, _| namespace(this).into_js(ctx)),
    ),
    (
        "nextElementSibling",
        Do(|ctx, this, _| beside(ctx, this, true, true)),
    ),
    (
        "nextSibling",
        Do(|ctx, this, _| beside(ctx, this, true, false)),
    ),
    (
        "nodeName",
        Do(|ctx, this, _| {
            let name = match this.document().data(this.id) {
                Data::Document => "#document",
                Data::Text(_) => "#text",
                Data::Comment(_) => "#comment",
                Data::Doctype(doctype) => &doctype.name,
                Data::Element(element) => &element.name.local,
            };
            name.into_js(ctx)
        }),
    ),
    (
        "nodeType",
        Do(|ctx, this, _| {
            let number = match this.document().data(this.id) {
                Data::Element(_) => 1,
                Data::Text(_) => 3,
                Data::Comment(_) => 8,
                Data::Document => 9,
                Data::Doctype(_) => 10,
            };
            number.into_js(ctx)
        }),
    ),
    (
        "nodeValue",
        Do(|ctx, this, _| match this.document().data(this.id) {
            // The value of a comment is empty in the reference, too.
            Data::Text(_) | Data::Comment(_) => this.text().into_js(ctx),
            _ => undefined(ctx),
        }),
    ),
    (
        "ownerDocument",
        Do(|ctx, this, _| match this.id {
            NodeId::ROOT => undefined(ctx),
            _ => wrap(ctx, &this.page, NodeId::ROOT),
        }),
    ),
    (
        "parentElement",
        Do(|ctx, this, _| {
            let document = this.document();
            let parent = document.parent(this.id).filter(|p| document.is_element(*p));
            wrap_some(ctx, &this.page, parent)
        }),
    ),
    (
        "parentNode",
        Do(|ctx, this, _| wrap_some(ctx, &this.page, this.document().parent(this.id))),
    ),
    (
        "previousElementSibling",
        Do(|ctx, this, _| beside(ctx, this, false, true)),
    ),
    (
        "previousSibling",
        Do(|ctx, this, _| beside(ctx, this, false, false)),
    ),
    (
        "querySelector",
        Do(|ctx, this, args| {
            let selector = string_argument(args.first().cloned());
            let mut found = this.below(&selector).into_iter();
            let Some(id) = found.next() else {
                return undefined(ctx);
            };
            let element = ElementNode {
                page: this.page.clone(),
                id,
                more: found.collect(),
            };
            host_object::wrap(ctx, Rc::new(element))
        }),
    ),
    (
        "querySelectorAll",
        Do(|ctx, this, args| {
            let selector = string_argument(args.first().cloned());
            wrap_all(ctx, &this.page, this.below(&selector))
        }),
    ),
    (
        "selection",
        Do(|ctx, this, _| host_object::wrap(ctx, Selection::new(this.page.clone(), vec![this.id]))),
    ),
    (
        "textContent",
        Do(|ctx, this, _| {
            let mut text = this.text();
            for node in &this.more {
                this.document().push_text(*node, &mut text);
            }
            text.into_js(ctx)
        }),
    ),
    ("toString", Fixed("[object html.Node]")),
];

const HTML_NAMESPACE: &str = "http://www.w3.org/1999/xhtml";

fn namespace(this: &ElementNode) -> &str {
    let element = this.document().element(this.id);
    element.map_or(HTML_NAMESPACE, |element| &element.name.ns)
}

fn beside<'js>(
    ctx: &Ctx<'js>,
    this: &ElementNode,
    forward: bool,
    elements: bool,
) -> JsResult<Value<'js>> {
    let document = this.document();
    let step = |node: &NodeId| {
        if forward {
            document.next_sibling(*node)
        } else {
            document.previous_sibling(*node)
        }
    };
    let found = std::iter::successors(step(&this.id), step)
        .find(|node| !elements || document.is_element(*node));
    wrap_some(ctx, &this.page, found)
}

fn attributes<'js>(
    ctx: &Ctx<'js>,
    this: &Rc<ElementNode>,
    _args: &[Value<'js>],
) -> JsResult<Value<'js>> {
    let object = Object::new(ctx.clone())?;
    if let Some(element) = this.document().element(this.id) {
        for attribute in &element.attributes {
            let name: &str = &attribute.name.local;
            object.set(name, attribute_node(ctx, this, name)?)?;
        }
    }
    object.into_js(ctx)
}

/// An attribute as a node of its own.
fn attribute_node<'js>(ctx: &Ctx<'js>, this: &Rc<ElementNode>, name: &str) -> JsResult<Value<'js>> {
    let element = this.document().element(this.id);
    let attribute = element.and_then(|element| {
        let mut all = element.attributes.iter();
        all.find(|attribute| &*attribute.name.local == name)
    });
    let Some(attribute) = attribute else {
        return undefined(ctx);
    };
    let object = Object::new(ctx.clone())?;
    object.set("name", name)?;
    object.set("value", &*attribute.value)?;
    // Made when it is asked for: an object for each attribute is enough.
    let owner = this.clone();
    let owner = move |ctx: Ctx<'js>| wrap(&ctx, &owner.page, owner.id);
    object.prop("owner_element", Accessor::from(owner).enumerable())?;
    let prefix = attribute.name.prefix.as_deref().unwrap_or_default();
    for (method, answer) in [
        ("prefix", prefix),
        ("namespaceURI", &*attribute.name.ns),
        ("localName", name),
    ] {
        let answer = answer.to_owned();
        let function = Function::new(ctx.clone(), move || answer.clone())?;
        object.set(method, function.with_name(method)?)?;
    }
    object.into_js(ctx)
}
