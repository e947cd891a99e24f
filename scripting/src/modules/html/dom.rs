//! A parsed document: an arena of nodes that html5ever's tree builder fills.
//!
//! Nodes are numbers into one vector, so a document is one allocation to drop, however deep it
//! nests, and everything here walks it in loops.

use std::{
    borrow::Cow,
    cell::{Cell, RefCell},
    num::NonZeroU32,
    rc::Rc,
};

use html5ever::{
    Attribute, LocalName, ParseOpts, QualName,
    interface::{ElemName, ElementFlags, NodeOrText, QuirksMode, TreeSink},
    ns, parse_document,
    tendril::{StrTendril, TendrilSink},
};

/// How deep elements may nest. Parts of the algorithm that HTML prescribes are quadratic in it;
/// the reference has the same limit, and this text.
const MAX_DEPTH: u32 = 512;
const TOO_DEEP: &str = "html: open stack of elements exceeds 512 nodes";

/// Misnested formatting elements are made anew in each block, so a short text can ask for any
/// number of nodes. Honest pages have one node for every dozen bytes.
const NODES_PER_BYTE: usize = 1;
const SPARE_NODES: usize = 4096;
const TOO_MANY: &str = "html: the document makes too many nodes for its size";

/// How many attributes an element may have; later `<html>` and `<body>` tags add to the first.
const MAX_ATTRIBUTES: usize = 4096;
const TOO_MANY_ATTRIBUTES: &str = "html: an element has more than 4096 attributes";

/// How much is parsed between two looks at the limits, and before a neighbour may run.
const CHUNK: usize = 4096;

/// A node of a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct NodeId(NonZeroU32);

impl NodeId {
    /// The document itself.
    pub(super) const ROOT: Self = Self(NonZeroU32::MIN);

    pub(super) fn index(self) -> usize {
        self.0.get() as usize - 1
    }
}

/// What a node is.
#[derive(Debug)]
pub(super) enum Data {
    Document,
    Doctype(Box<Doctype>),
    Text(StrTendril),
    Comment(StrTendril),
    Element(Box<Element>),
}

/// `<!DOCTYPE name PUBLIC public_id system_id>`
#[derive(Debug)]
pub(super) struct Doctype {
    pub(super) name: StrTendril,
    public_id: StrTendril,
    system_id: StrTendril,
}

/// What an element has beside its place in the tree.
#[derive(Debug)]
pub(super) struct Element {
    pub(super) name: QualName,
    pub(super) attributes: Vec<Attribute>,
}

#[derive(Debug)]
struct Node {
    parent: Option<NodeId>,
    previous: Option<NodeId>,
    next: Option<NodeId>,
    first: Option<NodeId>,
    last: Option<NodeId>,
    depth: u32,
    data: Data,
}

/// A document, which never changes after it has been parsed.
#[derive(Debug)]
pub(super) struct Document {
    nodes: Vec<Node>,
}

impl Document {
    /// Parses a text as browsers do: there is always `html`, `head` and `body`. `between` is
    /// called every few thousand bytes; an error of it ends the parsing.
    ///
    /// # Errors
    /// When the document nests too deep or makes too many nodes, and when `between` fails.
    pub(super) fn parse<E: From<&'static str>>(
        source: &str,
        mut between: impl FnMut() -> Result<(), E>,
    ) -> Result<Self, E> {
        let most = source.len() * NODES_PER_BYTE + SPARE_NODES;
        let mut parser = parse_document(Sink::default(), ParseOpts::default());
        let mut rest = source;
        while !rest.is_empty() {
            let mut end = CHUNK.min(rest.len());
            while !rest.is_char_boundary(end) {
                end -= 1;
            }
            let (chunk, after) = rest.split_at(end);
            rest = after;
            parser.process(StrTendril::from_slice(chunk));
            let sink = &parser.tokenizer.sink.sink;
            if sink.deepest.get() > MAX_DEPTH {
                return Err(TOO_DEEP.into());
            }
            if sink.attributes.get() > MAX_ATTRIBUTES {
                return Err(TOO_MANY_ATTRIBUTES.into());
            }
            if sink.document.borrow().nodes.len() > most {
                return Err(TOO_MANY.into());
            }
            between()?;
        }
        Ok(parser.finish())
    }

    fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.index()]
    }

    pub(super) fn data(&self, id: NodeId) -> &Data {
        &self.node(id).data
    }

    pub(super) fn parent(&self, id: NodeId) -> Option<NodeId> {
        self.node(id).parent
    }

    pub(super) fn next_sibling(&self, id: NodeId) -> Option<NodeId> {
        self.node(id).next
    }

    pub(super) fn previous_sibling(&self, id: NodeId) -> Option<NodeId> {
        self.node(id).previous
    }

    pub(super) fn first_child(&self, id: NodeId) -> Option<NodeId> {
        self.node(id).first
    }

    pub(super) fn last_child(&self, id: NodeId) -> Option<NodeId> {
        self.node(id).last
    }

    /// The element of a node that is one.
    pub(super) fn element(&self, id: NodeId) -> Option<&Element> {
        match self.data(id) {
            Data::Element(element) => Some(element),
            _ => None,
        }
    }

    /// The tag of an element; the empty string for other nodes.
    pub(super) fn tag(&self, id: NodeId) -> &str {
        self.element(id).map_or("", |element| &element.name.local)
    }

    pub(super) fn is_element(&self, id: NodeId) -> bool {
        matches!(self.data(id), Data::Element(_))
    }

    /// The value of an attribute.
    pub(super) fn attribute(&self, id: NodeId, name: &str) -> Option<&str> {
        self.element(id)?.attribute(name)
    }

    /// Children of all kinds.
    pub(super) fn children(&self, id: NodeId) -> impl Iterator<Item = NodeId> {
        std::iter::successors(self.first_child(id), |child| self.next_sibling(*child))
    }

    /// Children that are elements.
    pub(super) fn element_children(&self, id: NodeId) -> impl Iterator<Item = NodeId> {
        self.children(id).filter(|child| self.is_element(*child))
    }

    /// Parent, its parent, and so on to the document.
    pub(super) fn ancestors(&self, id: NodeId) -> impl Iterator<Item = NodeId> {
        std::iter::successors(self.parent(id), |node| self.parent(*node))
    }

    /// Everything below a node, in document order.
    pub(super) fn descendants(&self, id: NodeId) -> impl Iterator<Item = NodeId> {
        let mut at = self.first_child(id);
        std::iter::from_fn(move || {
            let node = at?;
            at = self.first_child(node).or_else(|| self.after(node, id));
            Some(node)
        })
    }

    /// The node that follows `node` and all below it, as long as that is still below `root`.
    fn after(&self, mut node: NodeId, root: NodeId) -> Option<NodeId> {
        loop {
            if node == root {
                return None;
            }
            if let Some(next) = self.next_sibling(node) {
                return Some(next);
            }
            node = self.parent(node)?;
        }
    }

    /// Whether `node` is somewhere below `ancestor`.
    pub(super) fn is_below(&self, node: NodeId, ancestor: NodeId) -> bool {
        self.ancestors(node).any(|one| one == ancestor)
    }

    /// Appends the text of a node and of all below it.
    pub(super) fn push_text(&self, id: NodeId, out: &mut String) {
        if let Data::Text(text) = self.data(id) {
            out.push_str(text);
        }
        for node in self.descendants(id) {
            if let Data::Text(text) = self.data(node) {
                out.push_str(text);
            }
        }
    }

    /// The text of a node and of all below it.
    pub(super) fn text(&self, id: NodeId) -> String {
        let mut out = String::new();
        self.push_text(id, &mut out);
        out
    }

    /// The markup of everything below a node.
    pub(super) fn inner_html(&self, id: NodeId) -> String {
        let mut out = String::new();
        for child in self.children(id) {
            self.push_html(child, &mut out);
        }
        out
    }

    /// The markup of a node, in the form that the reference's library writes.
    pub(super) fn push_html(&self, root: NodeId, out: &mut String) {
        let mut node = root;
        loop {
            self.push_opening(node, out);
            if let Some(child) = self.first_child(node) {
                node = child;
                continue;
            }
            loop {
                self.push_closing(node, out);
                if node == root {
                    return;
                }
                if let Some(next) = self.next_sibling(node) {
                    node = next;
                    break;
                }
                match self.parent(node) {
                    Some(parent) => node = parent,
                    None => return,
                }
            }
        }
    }

    fn push_opening(&self, id: NodeId, out: &mut String) {
        match self.data(id) {
            Data::Document => {}
            Data::Doctype(doctype) => doctype.push_html(out),
            Data::Comment(text) => {
                out.push_str("<!--");
                for piece in text.chars() {
                    match piece {
                        '&' => out.push_str("&amp;"),
                        '>' => out.push_str("&gt;"),
                        other => out.push(other),
                    }
                }
                out.push_str("-->");
            }
            Data::Text(text) => {
                let raw = self.parent(id).is_some_and(|p| is_raw(self.tag(p)));
                if raw {
                    out.push_str(text);
                } else {
                    push_escaped(text, out);
                }
            }
            Data::Element(element) => {
                let tag: &str = &element.name.local;
                out.push('<');
                out.push_str(tag);
                for attribute in &element.attributes {
                    out.push(' ');
                    if let Some(prefix) = &attribute.name.prefix {
                        out.push_str(prefix);
                        out.push(':');
                    }
                    out.push_str(&attribute.name.local);
                    out.push_str("=\"");
                    push_escaped(&attribute.value, out);
                    out.push('"');
                }
                out.push_str(if is_void(tag) { "/>" } else { ">" });
                // A line feed right after these tags is not content: one more keeps the first.
                if matches!(tag, "pre" | "listing" | "textarea")
                    && let Some(child) = self.first_child(id)
                    && let Data::Text(text) = self.data(child)
                    && text.starts_with('\n')
                {
                    out.push('\n');
                }
            }
        }
    }

    fn push_closing(&self, id: NodeId, out: &mut String) {
        let tag = self.tag(id);
        if !tag.is_empty() && !is_void(tag) {
            out.push_str("</");
            out.push_str(tag);
            out.push('>');
        }
    }
}

impl Element {
    /// The value of an attribute.
    pub(super) fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes
            .iter()
            .find(|attribute| &*attribute.name.local == name)
            .map(|attribute| &*attribute.value)
    }
}

impl Doctype {
    fn push_html(&self, out: &mut String) {
        out.push_str("<!DOCTYPE ");
        push_escaped(&self.name, out);
        if !self.public_id.is_empty() {
            out.push_str(" PUBLIC ");
            push_quoted(&self.public_id, out);
            if !self.system_id.is_empty() {
                out.push(' ');
                push_quoted(&self.system_id, out);
            }
        } else if !self.system_id.is_empty() {
            out.push_str(" SYSTEM ");
            push_quoted(&self.system_id, out);
        }
        out.push('>');
    }
}

fn push_quoted(text: &str, out: &mut String) {
    let quote = if text.contains('"') { '\'' } else { '"' };
    out.push(quote);
    out.push_str(text);
    out.push(quote);
}

fn push_escaped(text: &str, out: &mut String) {
    for piece in text.chars() {
        match piece {
            '&' => out.push_str("&amp;"),
            '\'' => out.push_str("&#39;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&#34;"),
            '\r' => out.push_str("&#13;"),
            other => out.push(other),
        }
    }
}

fn is_void(tag: &str) -> bool {
    matches!(
        tag,
        "area"
            | "base"
            | "br"
            | "col"
            | "embed"
            | "hr"
            | "img"
            | "input"
            | "keygen"
            | "link"
            | "meta"
            | "param"
            | "source"
            | "track"
            | "wbr"
    )
}

/// Elements whose text is not escaped.
fn is_raw(tag: &str) -> bool {
    matches!(
        tag,
        "iframe" | "noembed" | "noframes" | "noscript" | "plaintext" | "script" | "style" | "xmp"
    )
}

// === What the tree builder does to it ===

/// A node in the tree builder's hands. It asks for names all the time, so they travel along.
#[derive(Debug, Clone)]
struct Handle {
    id: NodeId,
    name: Option<Rc<QualName>>,
}

#[derive(Debug)]
struct Name<'a>(&'a QualName);

impl ElemName for Name<'_> {
    fn ns(&self) -> &html5ever::Namespace {
        &self.0.ns
    }

    fn local_name(&self) -> &LocalName {
        &self.0.local
    }
}

struct Sink {
    document: RefCell<Document>,
    deepest: Cell<u32>,
    /// The most that an element has.
    attributes: Cell<usize>,
    /// What a node that is no element would be called; never asked for.
    nameless: QualName,
}

impl Default for Sink {
    fn default() -> Self {
        let document = RefCell::new(Document { nodes: Vec::new() });
        document.borrow_mut().add(Data::Document);
        Self {
            document,
            deepest: Cell::new(0),
            attributes: Cell::new(0),
            nameless: QualName::new(None, ns!(), LocalName::default()),
        }
    }
}

impl Document {
    fn add(&mut self, data: Data) -> NodeId {
        // Numbers start at 1, so that "no node" takes no room; `parse` stops long before the last.
        let number = u32::try_from(self.nodes.len() + 1).unwrap_or(u32::MAX);
        let id = NodeId(NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN));
        self.nodes.push(Node {
            parent: None,
            previous: None,
            next: None,
            first: None,
            last: None,
            depth: 0,
            data,
        });
        id
    }

    fn at(&mut self, id: NodeId) -> &mut Node {
        &mut self.nodes[id.index()]
    }

    /// Puts a detached node below `parent`, before `next` or last; answers its depth.
    fn insert(&mut self, parent: NodeId, child: NodeId, next: Option<NodeId>) -> u32 {
        self.detach(child);
        let previous = match next {
            Some(next) => self.at(next).previous.replace(child),
            None => self.at(parent).last.replace(child),
        };
        match previous {
            Some(previous) => self.at(previous).next = Some(child),
            None => self.at(parent).first = Some(child),
        }
        let depth = self.node(parent).depth + 1;
        let node = self.at(child);
        (node.parent, node.previous, node.next) = (Some(parent), previous, next);
        node.depth = depth;
        depth
    }

    fn detach(&mut self, id: NodeId) {
        let node = self.at(id);
        let (previous, next) = (node.previous.take(), node.next.take());
        let Some(parent) = node.parent.take() else {
            return;
        };
        match previous {
            Some(previous) => self.at(previous).next = next,
            None => self.at(parent).first = next,
        }
        match next {
            Some(next) => self.at(next).previous = previous,
            None => self.at(parent).last = previous,
        }
    }

    /// Adds text below `parent`, before `next` or last, to the text that ends there if there is one.
    fn insert_text(&mut self, parent: NodeId, text: StrTendril, next: Option<NodeId>) {
        let before = match next {
            Some(next) => self.node(next).previous,
            None => self.node(parent).last,
        };
        if let Some(before) = before
            && let Data::Text(known) = &mut self.at(before).data
        {
            known.push_tendril(&text);
            return;
        }
        let child = self.add(Data::Text(text));
        self.insert(parent, child, next);
    }
}

/// Menus, as they were until 2025: `<select>` holds options and their text, and other tags in it
/// are as if they were not there. The reference still reads it so; html5ever, like browsers now,
/// takes any markup.
impl Document {
    fn flatten_menus(&mut self) {
        let numbers = 1..=u32::try_from(self.nodes.len()).unwrap_or(u32::MAX);
        let menus: Vec<NodeId> = numbers
            .filter_map(|number| NonZeroU32::new(number).map(NodeId))
            .filter(|node| self.is_html(*node, &["select"]))
            .collect();
        for menu in menus {
            let others: Vec<NodeId> = self
                .descendants(menu)
                .filter(|node| self.is_element(*node) && !self.is_html(*node, KEPT_IN_MENUS))
                .collect();
            others.into_iter().for_each(|node| self.unwrap(node));
        }
    }

    fn is_html(&self, id: NodeId, tags: &[&str]) -> bool {
        let element = self.element(id);
        element.is_some_and(|e| e.name.ns == ns!(html) && tags.contains(&&*e.name.local))
    }

    /// Puts the children of a node in its place.
    fn unwrap(&mut self, id: NodeId) {
        let Some(parent) = self.parent(id) else {
            return;
        };
        while let Some(child) = self.first_child(id) {
            self.move_before(parent, child, Some(id));
        }
        let next = self.next_sibling(id);
        self.detach(id);
        // Two texts that meet are one.
        if let Some(next) = next {
            let after = self.next_sibling(next);
            self.move_before(parent, next, after);
        }
    }

    fn move_before(&mut self, parent: NodeId, child: NodeId, next: Option<NodeId>) {
        self.detach(child);
        if let Data::Text(text) = &mut self.at(child).data {
            let text = std::mem::take(text);
            self.insert_text(parent, text, next);
        } else {
            self.insert(parent, child, next);
        }
    }
}

const KEPT_IN_MENUS: &[&str] = &["option", "optgroup", "hr", "script", "template"];

impl Sink {
    fn place(&self, parent: NodeId, child: NodeOrText<Handle>, next: Option<NodeId>) {
        let mut document = self.document.borrow_mut();
        match child {
            NodeOrText::AppendText(text) => document.insert_text(parent, text, next),
            NodeOrText::AppendNode(child) => {
                let depth = document.insert(parent, child.id, next);
                self.deepest.set(self.deepest.get().max(depth));
            }
        }
    }

    fn handle(&self, data: Data) -> Handle {
        let id = self.document.borrow_mut().add(data);
        Handle { id, name: None }
    }
}

impl TreeSink for Sink {
    type Handle = Handle;
    type Output = Document;
    type ElemName<'a> = Name<'a>;

    fn finish(self) -> Document {
        let mut document = self.document.into_inner();
        document.flatten_menus();
        document.nodes.shrink_to_fit();
        document
    }

    fn parse_error(&self, _message: Cow<'static, str>) {}

    fn get_document(&self) -> Handle {
        Handle {
            id: NodeId::ROOT,
            name: None,
        }
    }

    fn elem_name<'a>(&'a self, target: &'a Handle) -> Name<'a> {
        Name(target.name.as_deref().unwrap_or(&self.nameless))
    }

    fn create_element(
        &self,
        name: QualName,
        attributes: Vec<Attribute>,
        _flags: ElementFlags,
    ) -> Handle {
        self.attributes
            .set(self.attributes.get().max(attributes.len()));
        let shared = Rc::new(name.clone());
        let element = Element { name, attributes };
        Handle {
            name: Some(shared),
            ..self.handle(Data::Element(Box::new(element)))
        }
    }

    fn create_comment(&self, text: StrTendril) -> Handle {
        self.handle(Data::Comment(text))
    }

    fn create_pi(&self, _target: StrTendril, data: StrTendril) -> Handle {
        self.handle(Data::Comment(data))
    }

    fn append(&self, parent: &Handle, child: NodeOrText<Handle>) {
        self.place(parent.id, child, None);
    }

    fn append_based_on_parent_node(
        &self,
        element: &Handle,
        previous: &Handle,
        child: NodeOrText<Handle>,
    ) {
        let parent = self.document.borrow().parent(element.id);
        match parent {
            Some(parent) => self.place(parent, child, Some(element.id)),
            None => self.place(previous.id, child, None),
        }
    }

    fn append_doctype_to_document(
        &self,
        name: StrTendril,
        public_id: StrTendril,
        system_id: StrTendril,
    ) {
        let node = self.handle(Data::Doctype(Box::new(Doctype {
            name,
            public_id,
            system_id,
        })));
        self.place(NodeId::ROOT, NodeOrText::AppendNode(node), None);
    }

    // As the reference: what a template holds are its children.
    fn get_template_contents(&self, target: &Handle) -> Handle {
        target.clone()
    }

    fn same_node(&self, a: &Handle, b: &Handle) -> bool {
        a.id == b.id
    }

    fn set_quirks_mode(&self, _mode: QuirksMode) {}

    fn append_before_sibling(&self, sibling: &Handle, child: NodeOrText<Handle>) {
        let parent = self.document.borrow().parent(sibling.id);
        if let Some(parent) = parent {
            self.place(parent, child, Some(sibling.id));
        }
    }

    fn add_attrs_if_missing(&self, target: &Handle, attributes: Vec<Attribute>) {
        let mut document = self.document.borrow_mut();
        if let Data::Element(element) = &mut document.at(target.id).data {
            for attribute in attributes {
                if !element.attributes.iter().any(|a| a.name == attribute.name) {
                    element.attributes.push(attribute);
                }
            }
            let most = self.attributes.get().max(element.attributes.len());
            self.attributes.set(most);
        }
    }

    fn remove_from_parent(&self, target: &Handle) {
        self.document.borrow_mut().detach(target.id);
    }

    fn reparent_children(&self, node: &Handle, new_parent: &Handle) {
        let mut document = self.document.borrow_mut();
        while let Some(child) = document.first_child(node.id) {
            document.insert(new_parent.id, child, None);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Document, NodeId, TOO_DEEP, TOO_MANY, TOO_MANY_ATTRIBUTES};

    fn parse(source: &str) -> Result<Document, &'static str> {
        Document::parse(source, || Ok(()))
    }

    fn rendered(source: &str) -> String {
        parse(source).unwrap().inner_html(NodeId::ROOT)
    }

    #[test]
    fn markup_is_written_in_the_references_form() {
        for (source, expected) in [
            ("", "<html><head></head><body></body></html>"),
            (
                "<!doctype html><p class=a>x<br>&amp;&lt;'\"\u{a0}<!-- a>b -->",
                "<!DOCTYPE html><html><head></head><body><p class=\"a\">x<br/>&amp;&lt;&#39;&#34;\u{a0}<!-- a&gt;b --></p></body></html>",
            ),
            (
                "<!DOCTYPE html PUBLIC \"-//W3C//DTD HTML 4.01//EN\" \"http://www.w3.org/TR/html4/strict.dtd\">",
                "<!DOCTYPE html PUBLIC \"-//W3C//DTD HTML 4.01//EN\" \"http://www.w3.org/TR/html4/strict.dtd\"><html><head></head><body></body></html>",
            ),
            (
                "<script>a<b&&c</script><pre>\n\nx</pre><template><i>t</i></template>",
                "<html><head><script>a<b&&c</script></head><body><pre>\n\nx</pre><template><i>t</i></template></body></html>",
            ),
            (
                "<table><tr><td>a</table><b>1<p>2</b>3",
                "<html><head></head><body><table><tbody><tr><td>a</td></tr></tbody></table><b>1</b><p><b>2</b>3</p></body></html>",
            ),
            (
                "<select>a<div>b<p>c</p>d</div>e<option><b>x</b> <i>y<u>z</u></i><hr><optgroup><option>o</select>",
                "<html><head></head><body><select>abcde<option>x yz</option><hr/><optgroup><option>o</option></optgroup></select></body></html>",
            ),
            (
                "<svg><select><g>1</g></select></svg>",
                "<html><head></head><body><svg><select><g>1</g></select></svg></body></html>",
            ),
            (
                "<svg><a xlink:href='#x'/></svg>",
                "<html><head></head><body><svg><a xlink:href=\"#x\"></a></svg></body></html>",
            ),
        ] {
            assert_eq!(rendered(source), expected, "{source}");
        }
    }

    #[test]
    fn what_nests_too_deep_or_grows_without_end_is_refused() {
        assert!(parse(&"<div>".repeat(500)).is_ok());
        for source in ["<div>", "<b>", "<ul><li>", "<svg>", "<table><td>"] {
            assert_eq!(
                parse(&source.repeat(100_000)).err(),
                Some(TOO_DEEP),
                "{source}"
            );
        }
        let names = |before: &str| {
            (0..5000)
                .map(|i| format!("{before} a{i}"))
                .collect::<String>()
        };
        for source in [
            format!("<p {}>", names("")),
            format!("{}>", names("><html")),
        ] {
            assert_eq!(parse(&source).err(), Some(TOO_MANY_ATTRIBUTES));
        }
        let formatting: String = (0..400).map(|i| format!("<b a{i}>")).collect();
        let source = format!("<p>{formatting}{}", "<p>x".repeat(100_000));
        assert_eq!(parse(&source).err(), Some(TOO_MANY));
    }

    #[test]
    fn an_error_between_two_chunks_ends_the_parsing() {
        let mut calls = 0;
        let result = Document::parse(&"<p>x".repeat(10_000), || {
            calls += 1;
            if calls == 3 { Err("stop") } else { Ok(()) }
        });
        assert_eq!((result.err(), calls), (Some("stop"), 3));
    }

    /// Pieces of markup that get tree builders into trouble.
    fn markup() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            "[a-z<>&/=\"' \\n]{0,8}",
            "</?(a|b|i|p|table|tr|td|tbody|select|option|form|input|template|svg|math|script|textarea|frameset|body|html|head|title|li|ul|button|nobr|font)( [a-z]=[a-z])?>",
            any::<char>().prop_map(String::from),
        ];
        proptest::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn any_markup_becomes_a_tree(source in markup()) {
            let document = parse(&source).unwrap();
            let below: Vec<NodeId> = document.descendants(NodeId::ROOT).collect();
            prop_assert!(below.len() <= document.nodes.len());
            for node in &below {
                let parent = document.parent(*node).unwrap();
                prop_assert!(document.children(parent).any(|child| child == *node));
                prop_assert_eq!(document.last_child(parent), document.children(parent).last());
                prop_assert!(document.is_below(*node, NodeId::ROOT));
            }
            document.inner_html(NodeId::ROOT);
        }

        #[test]
        fn any_bytes_are_parsed(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let source = String::from_utf8_lossy(&bytes);
            parse(&source).unwrap().text(NodeId::ROOT);
        }
    }
}
