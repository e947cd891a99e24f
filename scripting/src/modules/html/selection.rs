//! A Selection: some nodes of a page, and everything that finds others from there.
//!
//! The rules are those of jQuery, in the version of the reference: results keep the order in
//! which they are found, without doubles.

use std::{
    cell::RefCell,
    collections::{HashMap, HashSet},
    rc::Rc,
};

use super::{
    Page,
    css::Selectors,
    dom::{Document, NodeId},
};

/// Some nodes of a page.
pub(super) struct Selection {
    pub(super) page: Rc<Page>,
    pub(super) nodes: Vec<NodeId>,
    /// Where it was found from: what `end()` answers.
    previous: Option<Rc<Selection>>,
}

impl Drop for Selection {
    /// A script may chain without end; the chain is taken apart link by link.
    fn drop(&mut self) {
        let mut next = self.previous.take();
        while let Some(one) = next {
            next = Rc::into_inner(one).and_then(|mut one| one.previous.take());
        }
    }
}

/// What nodes are compared with.
pub(super) enum Criterion {
    /// A selector; `None` when it is not one, which matches nothing.
    Selector(Option<Selectors>),
    /// The nodes of another selection.
    Nodes(Others),
}

/// Nodes of a page, in their order and ready to be looked up.
pub(super) struct Others {
    page: Rc<Page>,
    nodes: Vec<NodeId>,
    set: HashSet<NodeId>,
}

impl Criterion {
    pub(super) fn selector(text: &str) -> Self {
        Self::Selector(Selectors::parse(text))
    }

    pub(super) fn nodes(page: Rc<Page>, nodes: Vec<NodeId>) -> Self {
        let set = nodes.iter().copied().collect();
        Self::Nodes(Others { page, nodes, set })
    }

    pub(super) fn matches(&self, page: &Rc<Page>, node: NodeId) -> bool {
        match self {
            Self::Selector(selectors) => selectors
                .as_ref()
                .is_some_and(|s| s.match_node(&page.document, node)),
            Self::Nodes(others) => Rc::ptr_eq(page, &others.page) && others.set.contains(&node),
        }
    }

    /// Everything below `root` that matches, in the order of the document or of the selection.
    fn below<'a>(
        &'a self,
        page: &'a Rc<Page>,
        root: NodeId,
    ) -> Box<dyn Iterator<Item = NodeId> + 'a> {
        let document = &page.document;
        match self {
            Self::Selector(Some(selectors)) => Box::new(selectors.below(document, root)),
            Self::Nodes(others) if Rc::ptr_eq(page, &others.page) => {
                let nodes = others.nodes.iter().copied();
                Box::new(nodes.filter(move |node| document.is_below(*node, root)))
            }
            _ => Box::new(std::iter::empty()),
        }
    }
}

/// Which way siblings are looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Next,
    Previous,
}

fn siblings(document: &Document, node: NodeId, way: Way) -> impl Iterator<Item = NodeId> {
    let step = move |node: &NodeId| match way {
        Way::Next => document.next_sibling(*node),
        Way::Previous => document.previous_sibling(*node),
    };
    std::iter::successors(step(&node), step).filter(|node| document.is_element(*node))
}

/// The ancestors that are elements, nearest first.
fn parents(document: &Document, node: NodeId) -> impl Iterator<Item = NodeId> {
    document
        .ancestors(node)
        .filter(|node| document.is_element(*node))
}

impl Selection {
    /// A selection found from nowhere.
    pub(super) fn new(page: Rc<Page>, nodes: Vec<NodeId>) -> Rc<Self> {
        Rc::new(Self {
            page,
            nodes,
            previous: None,
        })
    }

    /// Other nodes of the same page, found from here.
    fn push(self: &Rc<Self>, nodes: Vec<NodeId>) -> Rc<Self> {
        Rc::new(Self {
            page: self.page.clone(),
            nodes,
            previous: Some(self.clone()),
        })
    }

    /// What each node leads to, without doubles, and of that what passes.
    fn each_to<'a, I: IntoIterator<Item = NodeId>>(
        self: &'a Rc<Self>,
        filter: Option<&Criterion>,
        find: impl Fn(&'a Document, NodeId) -> I,
    ) -> Rc<Self> {
        self.gather(filter, false, find)
    }

    /// The same, for ways through the page: two that meet go on together to their ends, so the
    /// later one is left there.
    fn along<'a, I: IntoIterator<Item = NodeId>>(
        self: &'a Rc<Self>,
        filter: Option<&Criterion>,
        way: impl Fn(&'a Document, NodeId) -> I,
    ) -> Rc<Self> {
        self.gather(filter, true, way)
    }

    fn gather<'a, I: IntoIterator<Item = NodeId>>(
        self: &'a Rc<Self>,
        filter: Option<&Criterion>,
        ways: bool,
        find: impl Fn(&'a Document, NodeId) -> I,
    ) -> Rc<Self> {
        let mut seen = HashSet::new();
        let mut nodes = Vec::new();
        for node in &self.nodes {
            for found in find(&self.page.document, *node) {
                if seen.insert(found) {
                    if filter.is_none_or(|f| f.matches(&self.page, found)) {
                        nodes.push(found);
                    }
                } else if ways {
                    break;
                }
            }
        }
        self.push(nodes)
    }

    pub(super) fn first_node(&self) -> Option<NodeId> {
        self.nodes.first().copied()
    }

    pub(super) fn find(self: &Rc<Self>, wanted: &Criterion) -> Rc<Self> {
        self.each_to(None, |_, node| wanted.below(&self.page, node))
    }

    /// The first of what [`Self::find`] finds.
    pub(super) fn single(self: &Rc<Self>, wanted: &Criterion) -> Rc<Self> {
        let document = &self.page.document;
        let mut all = self
            .nodes
            .iter()
            .flat_map(|node| document.descendants(*node));
        let first = all.find(|node| wanted.matches(&self.page, *node));
        self.push(first.into_iter().collect())
    }

    /// With these added at the end; a selector looks in the whole page.
    pub(super) fn add(self: &Rc<Self>, more: &Criterion) -> Result<Rc<Self>, &'static str> {
        let more = match more {
            Criterion::Nodes(others) if !Rc::ptr_eq(&self.page, &others.page) => {
                return Err("nodes of different documents cannot be in one selection");
            }
            Criterion::Nodes(others) => others.nodes.clone(),
            selector => selector.below(&self.page, NodeId::ROOT).collect(),
        };
        let mut seen: HashSet<NodeId> = self.nodes.iter().copied().collect();
        let mut nodes = self.nodes.clone();
        nodes.extend(more.into_iter().filter(|node| seen.insert(*node)));
        Ok(self.push(nodes))
    }

    pub(super) fn filter(self: &Rc<Self>, mut keep: impl FnMut(usize, NodeId) -> bool) -> Rc<Self> {
        let kept = self.nodes.iter().copied().enumerate();
        let kept = kept.filter(|(index, node)| keep(*index, *node));
        self.push(kept.map(|(_, node)| node).collect())
    }

    pub(super) fn matching(self: &Rc<Self>, wanted: &Criterion) -> Rc<Self> {
        self.filter(|_, node| wanted.matches(&self.page, node))
    }

    pub(super) fn not(self: &Rc<Self>, unwanted: &Criterion) -> Rc<Self> {
        self.filter(|_, node| !unwanted.matches(&self.page, node))
    }

    pub(super) fn has(self: &Rc<Self>, inside: &Criterion) -> Rc<Self> {
        self.filter(|_, node| inside.below(&self.page, node).next().is_some())
    }

    pub(super) fn is(&self, wanted: &Criterion) -> bool {
        self.nodes.iter().any(|n| wanted.matches(&self.page, *n))
    }

    pub(super) fn closest(self: &Rc<Self>, wanted: &Criterion) -> Rc<Self> {
        self.each_to(None, |document, node| {
            std::iter::once(node)
                .chain(document.ancestors(node))
                .find(|one| wanted.matches(&self.page, *one))
        })
    }

    pub(super) fn children(self: &Rc<Self>, filter: Option<&Criterion>) -> Rc<Self> {
        self.each_to(filter, |document, node| document.element_children(node))
    }

    pub(super) fn contents(self: &Rc<Self>) -> Rc<Self> {
        self.each_to(None, |document, node| document.children(node))
    }

    pub(super) fn parent(self: &Rc<Self>, filter: Option<&Criterion>) -> Rc<Self> {
        self.each_to(filter, |document, node| {
            document.parent(node).filter(|p| document.is_element(*p))
        })
    }

    pub(super) fn parents_until(
        self: &Rc<Self>,
        until: Option<&Criterion>,
        filter: Option<&Criterion>,
    ) -> Rc<Self> {
        let goes_on = |one: &NodeId| !until.is_some_and(|u| u.matches(&self.page, *one));
        self.along(filter, |document, node| {
            parents(document, node).take_while(goes_on)
        })
    }

    pub(super) fn siblings(self: &Rc<Self>, filter: Option<&Criterion>) -> Rc<Self> {
        // After the second node of a parent all its children have been found.
        let asked = RefCell::new(HashMap::<NodeId, u32>::new());
        self.each_to(filter, |document, node| {
            let parent = document.parent(node).filter(|parent| {
                let mut asked = asked.borrow_mut();
                let times = asked.entry(*parent).or_default();
                *times += 1;
                *times <= 2
            });
            let all = parent.map(|parent| document.element_children(parent));
            all.into_iter().flatten().filter(move |one| *one != node)
        })
    }

    /// `next()` and `prev()`.
    pub(super) fn adjacent(self: &Rc<Self>, way: Way, filter: Option<&Criterion>) -> Rc<Self> {
        self.each_to(filter, |document, node| {
            siblings(document, node, way).next()
        })
    }

    /// `nextUntil()` and `prevUntil()`, and without `until` `nextAll()` and `prevAll()`.
    pub(super) fn adjacent_until(
        self: &Rc<Self>,
        way: Way,
        until: Option<&Criterion>,
        filter: Option<&Criterion>,
    ) -> Rc<Self> {
        let goes_on = |one: &NodeId| !until.is_some_and(|u| u.matches(&self.page, *one));
        self.along(filter, |document, node| {
            siblings(document, node, way).take_while(goes_on)
        })
    }

    /// From the end for a negative number.
    pub(super) fn eq(self: &Rc<Self>, index: i64) -> Rc<Self> {
        let node = absolute(index, self.nodes.len()).and_then(|i| self.nodes.get(i));
        self.push(node.copied().into_iter().collect())
    }

    pub(super) fn slice(self: &Rc<Self>, from: i64, to: Option<i64>) -> Rc<Self> {
        let length = self.nodes.len();
        let bound = |index: i64| absolute(index, length).unwrap_or(0).min(length);
        let (from, to) = (bound(from), to.map_or(length, bound));
        self.push(self.nodes[from.min(to)..to].to_vec())
    }

    pub(super) fn end(self: &Rc<Self>) -> Rc<Self> {
        match &self.previous {
            Some(previous) => previous.clone(),
            None => Self::new(self.page.clone(), Vec::new()),
        }
    }

    pub(super) fn text(&self) -> String {
        let mut out = String::new();
        for node in &self.nodes {
            self.page.document.push_text(*node, &mut out);
        }
        out
    }

    /// Where the first node stands among the elements beside it.
    pub(super) fn index(&self) -> Option<usize> {
        let first = self.first_node()?;
        Some(siblings(&self.page.document, first, Way::Previous).count())
    }

    /// Where the first node stands among what a selector finds in the page, or where the first
    /// of other nodes stands here.
    pub(super) fn index_of(&self, of: &Criterion) -> Option<usize> {
        match of {
            Criterion::Nodes(others) => {
                let first = others.nodes.first();
                let first = first.filter(|_| Rc::ptr_eq(&others.page, &self.page))?;
                self.nodes.iter().position(|node| node == first)
            }
            selector => {
                let first = self.first_node()?;
                let mut all = selector.below(&self.page, NodeId::ROOT);
                all.position(|node| node == first)
            }
        }
    }
}

/// The position that `index` means in a list, which may be behind its end; `None` before its start.
fn absolute(index: i64, length: usize) -> Option<usize> {
    match usize::try_from(index) {
        Ok(index) => Some(index),
        Err(_) => length.checked_sub(usize::try_from(index.unsigned_abs()).ok()?),
    }
}
