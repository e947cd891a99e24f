//! Selectors, in the dialect of the reference: CSS 3 and `:contains()`, `:matches(regex)`,
//! `:has()`, `:haschild()`, `:input`, `[a!=v]`, `[a#=regex]`.
//!
//! The regular expressions are why this is not a library: they are no CSS, and the selector
//! libraries there are build on CSS's tokens. Matching takes no recursion but that of nested
//! `:not()` and `:has()`, and no exponential time: what looks at much of the page is asked once
//! about each node.

use std::cell::RefCell;

use regex_lite::Regex;

use super::dom::{Data, Document, NodeId};

/// How deep `:not()` and `:has()` may nest.
const MAX_NESTING: u32 = 16;

/// A list of selectors; an element matches when it matches one of them. It keeps what it has found
/// out about nodes, so it is for one document.
#[derive(Debug, Clone)]
pub(super) struct Selectors(Vec<Complex>);

/// Compounds from the right to the left, each with what binds it to the one before it here.
#[derive(Debug, Clone)]
struct Complex(Vec<(Combinator, Compound)>);

type Compound = Vec<Simple>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Combinator {
    Descendant,
    Child,
    NextSibling,
    LaterSibling,
}

#[derive(Debug, Clone)]
enum Simple {
    Tag(String),
    Attribute(String, Test),
    Not(Selectors),
    Has(Vec<(Combinator, Selectors)>),
    Contains {
        text: String,
        own: bool,
    },
    Matches {
        regex: Regex,
        own: bool,
    },
    Nth(Nth),
    Only {
        of_type: bool,
    },
    Input,
    Empty,
    Root,
    Link,
    Lang(String),
    Enabled,
    Disabled,
    Checked,
    /// What only a browser knows, such as `:hover`.
    Never,
    /// Another one, that looks at much of the page.
    Costly(Box<Simple>, Answers),
}

/// What has been found out about nodes, by their numbers.
#[derive(Debug, Clone, Default)]
struct Answers(RefCell<Vec<Option<bool>>>);

impl Answers {
    fn about(&self, node: NodeId, find_out: impl FnOnce() -> bool) -> bool {
        let index = node.index();
        let known = self.0.borrow().get(index).copied().flatten();
        known.unwrap_or_else(|| {
            let answer = find_out();
            let mut all = self.0.borrow_mut();
            if all.len() <= index {
                all.resize(index + 1, None);
            }
            all[index] = Some(answer);
            answer
        })
    }
}

#[derive(Debug, Clone)]
enum Test {
    Exists,
    Is(String),
    IsNot(String),
    Includes(String),
    Dash(String),
    Prefix(String),
    Suffix(String),
    Substring(String),
    Regex(Regex),
    /// Another test, of values in lower case.
    IgnoreCase(Box<Test>),
}

/// An operator, and the test it means.
type Operator = (&'static str, fn(String) -> Test);

/// `an+b`
#[derive(Debug, Clone, Copy)]
struct Nth {
    a: i64,
    b: i64,
    last: bool,
    of_type: bool,
}

/// How far a mismatch reaches: what further candidates cannot change it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Matched,
    TryLaterSibling,
    TryDescendant,
    Hopeless,
}

impl Selectors {
    /// Reads a list of selectors; `None` when it is not one.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut parser = Parser { rest: text };
        let selectors = parser.list(0)?;
        parser.rest.is_empty().then_some(selectors)
    }

    /// Whether a node is an element that matches.
    pub(super) fn match_node(&self, document: &Document, node: NodeId) -> bool {
        self.0
            .iter()
            .any(|one| one.matches(document, node, 0) == Outcome::Matched)
    }

    /// All elements below `root` that match, in document order.
    pub(super) fn below<'a>(
        &'a self,
        document: &'a Document,
        root: NodeId,
    ) -> impl Iterator<Item = NodeId> + 'a {
        document
            .descendants(root)
            .filter(|node| self.match_node(document, *node))
    }
}

impl Complex {
    fn matches(&self, document: &Document, node: NodeId, at: usize) -> Outcome {
        let (combinator, compound) = &self.0[at];
        let fits = document.is_element(node) && compound.iter().all(|s| s.matches(document, node));
        if !fits {
            return Outcome::TryLaterSibling;
        }
        if at + 1 == self.0.len() {
            return Outcome::Matched;
        }
        let upwards = matches!(combinator, Combinator::Child | Combinator::Descendant);
        let step = |node| {
            if upwards {
                document.parent(node)
            } else {
                previous_element(document, node)
            }
        };
        let mut next = step(node);
        while let Some(candidate) = next {
            let outcome = self.matches(document, candidate, at + 1);
            match (outcome, combinator) {
                (Outcome::Matched | Outcome::Hopeless, _) | (_, Combinator::NextSibling) => {
                    return outcome;
                }
                (_, Combinator::Child) => return Outcome::TryDescendant,
                (Outcome::TryDescendant, Combinator::LaterSibling) => return outcome,
                _ => next = step(candidate),
            }
        }
        if upwards {
            Outcome::Hopeless
        } else {
            Outcome::TryDescendant
        }
    }
}

fn previous_element(document: &Document, node: NodeId) -> Option<NodeId> {
    std::iter::successors(document.previous_sibling(node), |n| {
        document.previous_sibling(*n)
    })
    .find(|n| document.is_element(*n))
}

fn next_elements(document: &Document, node: NodeId) -> impl Iterator<Item = NodeId> {
    std::iter::successors(document.next_sibling(node), |n| document.next_sibling(*n))
        .filter(|n| document.is_element(*n))
}

impl Simple {
    fn matches(&self, document: &Document, node: NodeId) -> bool {
        let has = |name: &str| document.attribute(node, name).is_some();
        match self {
            Self::Tag(tag) => document.tag(node) == tag,
            Self::Attribute(name, test) => test.matches(document.attribute(node, name)),
            Self::Not(inner) => !inner.match_node(document, node),
            Self::Has(inner) => inner.iter().any(|(combinator, list)| match combinator {
                Combinator::Descendant => list.below(document, node).next().is_some(),
                Combinator::Child => document
                    .children(node)
                    .any(|child| list.match_node(document, child)),
                Combinator::NextSibling => next_elements(document, node)
                    .next()
                    .is_some_and(|next| list.match_node(document, next)),
                Combinator::LaterSibling => {
                    next_elements(document, node).any(|next| list.match_node(document, next))
                }
            }),
            Self::Contains { text, own } => text_of(document, node, *own)
                .to_lowercase()
                .contains(&**text),
            Self::Matches { regex, own } => regex.is_match(&text_of(document, node, *own)),
            Self::Nth(nth) => nth.matches(document, node),
            Self::Only { of_type } => {
                let parent = document.parent(node);
                parent.is_some_and(|parent| {
                    let tag = document.tag(node);
                    document
                        .element_children(parent)
                        .all(|c| c == node || (*of_type && document.tag(c) != tag))
                })
            }
            Self::Input => matches!(
                document.tag(node),
                "input" | "select" | "textarea" | "button"
            ),
            Self::Empty => document
                .children(node)
                .all(|child| match document.data(child) {
                    Data::Element(_) => false,
                    Data::Text(text) => text.trim().is_empty(),
                    _ => true,
                }),
            Self::Root => document.parent(node) == Some(NodeId::ROOT),
            Self::Link => matches!(document.tag(node), "a" | "area" | "link") && has("href"),
            Self::Lang(lang) => std::iter::once(node)
                .chain(document.ancestors(node))
                .filter_map(|one| document.attribute(one, "lang"))
                .any(|value| Test::Dash(lang.clone()).matches(Some(value))),
            Self::Enabled => match document.tag(node) {
                "a" | "area" | "link" => has("href"),
                "optgroup" | "menuitem" | "fieldset" => !has("disabled"),
                "button" | "input" | "select" | "textarea" | "option" => {
                    !has("disabled") && !in_disabled_fieldset(document, node)
                }
                _ => false,
            },
            Self::Disabled => match document.tag(node) {
                "optgroup" | "menuitem" | "fieldset" => has("disabled"),
                "button" | "input" | "select" | "textarea" | "option" => {
                    has("disabled") || in_disabled_fieldset(document, node)
                }
                _ => false,
            },
            Self::Checked => match document.tag(node) {
                "input" | "menuitem" => {
                    let kind = document.attribute(node, "type").unwrap_or_default();
                    has("checked")
                        && (kind.eq_ignore_ascii_case("checkbox")
                            || kind.eq_ignore_ascii_case("radio"))
                }
                "option" => has("selected"),
                _ => false,
            },
            Self::Never => false,
            Self::Costly(inner, answers) => answers.about(node, || inner.matches(document, node)),
        }
    }

    /// Whether it looks at more than the node and its ancestors.
    fn is_costly(&self) -> bool {
        matches!(
            self,
            Self::Not(_)
                | Self::Has(_)
                | Self::Contains { .. }
                | Self::Matches { .. }
                | Self::Nth(_)
                | Self::Only { .. }
        )
    }
}

fn text_of(document: &Document, node: NodeId, own: bool) -> String {
    if !own {
        return document.text(node);
    }
    let mut out = String::new();
    for child in document.children(node) {
        if let Data::Text(text) = document.data(child) {
            out.push_str(text);
        }
    }
    out
}

fn in_disabled_fieldset(document: &Document, node: NodeId) -> bool {
    let mut child = node;
    for parent in document.ancestors(node) {
        // The first legend of a fieldset stays usable.
        let exempt = document.tag(child) == "legend"
            && document
                .children(parent)
                .find(|c| document.tag(*c) == "legend")
                == Some(child);
        let disabled =
            document.tag(parent) == "fieldset" && document.attribute(parent, "disabled").is_some();
        if disabled && !exempt {
            return true;
        }
        child = parent;
    }
    false
}

impl Test {
    fn matches(&self, value: Option<&str>) -> bool {
        let Some(value) = value else {
            return matches!(self, Self::IsNot(_))
                || matches!(self, Self::IgnoreCase(inner) if inner.matches(None));
        };
        // As the reference: a blank value has no beginning, middle and end.
        let filled = || !value.trim().is_empty();
        match self {
            Self::Exists => true,
            Self::Is(wanted) => value == wanted,
            Self::IsNot(wanted) => value != wanted,
            Self::Includes(wanted) => value
                .split([' ', '\t', '\r', '\n', '\x0c'])
                .any(|word| !word.is_empty() && word == wanted),
            Self::Dash(wanted) => value
                .strip_prefix(&**wanted)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('-')),
            Self::Prefix(wanted) => filled() && value.starts_with(&**wanted),
            Self::Suffix(wanted) => filled() && value.ends_with(&**wanted),
            Self::Substring(wanted) => filled() && value.contains(&**wanted),
            Self::Regex(regex) => regex.is_match(value),
            Self::IgnoreCase(inner) => inner.matches(Some(&value.to_lowercase())),
        }
    }
}

impl Nth {
    const FIRST: Self = Self {
        a: 0,
        b: 1,
        last: false,
        of_type: false,
    };

    fn matches(&self, document: &Document, node: NodeId) -> bool {
        let step = |n: &NodeId| {
            if self.last {
                document.next_sibling(*n)
            } else {
                document.previous_sibling(*n)
            }
        };
        let tag = document.tag(node);
        // With no `n` that grows, nothing behind `b` matches, and nobody needs to count further.
        let enough = match usize::try_from(self.b) {
            Ok(b) if self.a <= 0 => b,
            _ if self.a <= 0 => return false,
            _ => usize::MAX,
        };
        let position = 1 + std::iter::successors(step(&node), step)
            .filter(|n| document.is_element(*n) && (!self.of_type || document.tag(*n) == tag))
            .take(enough)
            .count() as i64;
        let offset = position.saturating_sub(self.b);
        match self.a {
            0 => offset == 0,
            a => offset.checked_rem(a) == Some(0) && offset.checked_div(a).is_some_and(|n| n >= 0),
        }
    }
}

// === Reading selectors ===

struct Parser<'a> {
    rest: &'a str,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    fn skip(&mut self, one: char) {
        self.rest = &self.rest[one.len_utf8()..];
    }

    fn eat(&mut self, wanted: &str) -> bool {
        match self.rest.strip_prefix(wanted) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    /// Skips spaces and comments; says whether there were any.
    fn space(&mut self) -> bool {
        let before = self.rest.len();
        loop {
            self.rest = self
                .rest
                .trim_start_matches([' ', '\t', '\r', '\n', '\x0c']);
            let comment = self
                .rest
                .strip_prefix("/*")
                .and_then(|r| r.split_once("*/"));
            match comment {
                Some((_, rest)) => self.rest = rest,
                None => return self.rest.len() != before,
            }
        }
    }

    fn list(&mut self, nesting: u32) -> Option<Selectors> {
        if nesting > MAX_NESTING {
            return None;
        }
        let mut all = vec![self.complex(nesting)?];
        while self.eat(",") {
            all.push(self.complex(nesting)?);
        }
        Some(Selectors(all))
    }

    fn complex(&mut self, nesting: u32) -> Option<Complex> {
        self.space();
        let mut parts = vec![(Combinator::Descendant, self.compound(nesting)?)];
        loop {
            let spaced = self.space();
            let combinator = self.combinator();
            if combinator.is_none() && (!spaced || matches!(self.peek(), None | Some(',' | ')'))) {
                break;
            }
            let combinator = combinator.unwrap_or(Combinator::Descendant);
            self.space();
            parts.push((combinator, self.compound(nesting)?));
        }
        // Each combinator was read before its right side; it belongs to the step from there.
        parts.reverse();
        Some(Complex(parts))
    }

    fn combinator(&mut self) -> Option<Combinator> {
        let found = match self.peek()? {
            '>' => Combinator::Child,
            '+' => Combinator::NextSibling,
            '~' => Combinator::LaterSibling,
            _ => return None,
        };
        self.rest = &self.rest[1..];
        Some(found)
    }

    fn compound(&mut self, nesting: u32) -> Option<Compound> {
        let mut parts = Vec::new();
        match self.peek()? {
            '*' => self.rest = &self.rest[1..],
            '#' | '.' | '[' | ':' => {}
            _ => parts.push(Simple::Tag(self.identifier()?.to_ascii_lowercase())),
        }
        loop {
            let part = if self.eat("#") {
                Simple::Attribute("id".to_owned(), Test::Is(self.name()?))
            } else if self.eat(".") {
                Simple::Attribute("class".to_owned(), Test::Includes(self.identifier()?))
            } else if self.eat("[") {
                self.attribute()?
            } else if self.eat(":") {
                let simple = self.pseudo_class(nesting)?;
                match simple.is_costly() {
                    true => Simple::Costly(Box::new(simple), Answers::default()),
                    false => simple,
                }
            } else {
                return Some(parts);
            };
            parts.push(part);
        }
    }

    fn attribute(&mut self) -> Option<Simple> {
        self.space();
        let name = self.identifier()?.to_ascii_lowercase();
        self.space();
        if self.eat("]") {
            return Some(Simple::Attribute(name, Test::Exists));
        }
        if self.eat("#=") {
            self.space();
            let regex = self.regex()?;
            self.space();
            return self
                .eat("]")
                .then_some(Simple::Attribute(name, Test::Regex(regex)));
        }
        let tests: [Operator; 7] = [
            ("=", Test::Is),
            ("!=", Test::IsNot),
            ("~=", Test::Includes),
            ("|=", Test::Dash),
            ("^=", Test::Prefix),
            ("$=", Test::Suffix),
            ("*=", Test::Substring),
        ];
        let (_, test) = tests.into_iter().find(|(operator, _)| self.eat(operator))?;
        self.space();
        let value = self.string_or_identifier()?;
        self.space();
        let ignore_case = self.eat("i") || self.eat("I");
        self.space();
        let test = if ignore_case {
            Test::IgnoreCase(Box::new(test(value.to_lowercase())))
        } else {
            test(value)
        };
        self.eat("]").then_some(Simple::Attribute(name, test))
    }

    fn pseudo_class(&mut self, nesting: u32) -> Option<Simple> {
        let name = self.identifier()?.to_ascii_lowercase();
        let nth = |last, of_type| Nth {
            last,
            of_type,
            ..Nth::FIRST
        };
        let simple = match &*name {
            "not" => {
                self.open()?;
                let inner = self.list(nesting + 1)?;
                self.close()?;
                Simple::Not(inner)
            }
            "has" | "haschild" => {
                let default = match &*name {
                    "has" => Combinator::Descendant,
                    _ => Combinator::Child,
                };
                self.open()?;
                let mut inner = Vec::new();
                loop {
                    self.space();
                    let combinator = self.combinator().unwrap_or(default);
                    if nesting >= MAX_NESTING {
                        return None;
                    }
                    let one = self.complex(nesting + 1)?;
                    inner.push((combinator, Selectors(vec![one])));
                    if !self.eat(",") {
                        break;
                    }
                }
                self.close()?;
                Simple::Has(inner)
            }
            "contains" | "containsown" => {
                self.open()?;
                let text = self.string_or_identifier()?.to_lowercase();
                self.close()?;
                let own = name.ends_with("own");
                Simple::Contains { text, own }
            }
            "matches" | "matchesown" => {
                self.open()?;
                let regex = self.regex()?;
                self.close()?;
                let own = name.ends_with("own");
                Simple::Matches { regex, own }
            }
            "nth-child" | "nth-last-child" | "nth-of-type" | "nth-last-of-type" => {
                self.open()?;
                let (a, b) = self.nth()?;
                self.close()?;
                let base = nth(name.contains("-last-"), name.ends_with("-of-type"));
                Simple::Nth(Nth { a, b, ..base })
            }
            "lang" => {
                self.open()?;
                let lang = self.identifier()?;
                self.close()?;
                Simple::Lang(lang)
            }
            "first-child" => Simple::Nth(nth(false, false)),
            "last-child" => Simple::Nth(nth(true, false)),
            "first-of-type" => Simple::Nth(nth(false, true)),
            "last-of-type" => Simple::Nth(nth(true, true)),
            "only-child" => Simple::Only { of_type: false },
            "only-of-type" => Simple::Only { of_type: true },
            "input" => Simple::Input,
            "empty" => Simple::Empty,
            "root" => Simple::Root,
            "link" => Simple::Link,
            "enabled" => Simple::Enabled,
            "disabled" => Simple::Disabled,
            "checked" => Simple::Checked,
            "visited" | "hover" | "active" | "focus" | "target" => Simple::Never,
            _ => return None,
        };
        Some(simple)
    }

    fn open(&mut self) -> Option<()> {
        let open = self.eat("(");
        self.space();
        open.then_some(())
    }

    fn close(&mut self) -> Option<()> {
        self.space();
        self.eat(")").then_some(())
    }

    /// `odd`, `even`, `3`, `-n+2` and the like.
    fn nth(&mut self) -> Option<(i64, i64)> {
        let end = self.rest.find(')')?;
        let (text, rest) = self.rest.split_at(end);
        let text = text.trim().to_ascii_lowercase();
        let found = match &*text {
            "odd" => (2, 1),
            "even" => (2, 0),
            _ => match text.split_once('n') {
                None => (0, number(&text)?),
                Some((a, b)) => {
                    let a = match a {
                        "" | "+" => 1,
                        "-" => -1,
                        a => number(a)?,
                    };
                    let b: String = b.split_ascii_whitespace().collect();
                    match &*b {
                        "" => (a, 0),
                        b if b.starts_with(['+', '-']) => (a, number(b)?),
                        _ => return None,
                    }
                }
            },
        };
        self.rest = rest;
        Some(found)
    }

    /// A regular expression, up to the bracket that closes what it stands in.
    fn regex(&mut self) -> Option<Regex> {
        let mut open = 0;
        let mut escaped = false;
        let end = self.rest.find(|c| {
            match c {
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                '(' | '[' => open += 1,
                ')' | ']' => open -= 1,
                _ => {}
            }
            open < 0
        })?;
        let (text, rest) = self.rest.split_at(end);
        let regex = Regex::new(text.trim_end()).ok()?;
        self.rest = rest;
        Some(regex)
    }

    fn string_or_identifier(&mut self) -> Option<String> {
        match self.peek()? {
            quote @ ('"' | '\'') => {
                self.skip(quote);
                self.string(quote)
            }
            _ => self.identifier(),
        }
    }

    /// The rest of a quoted string.
    fn string(&mut self, quote: char) -> Option<String> {
        let mut out = String::new();
        loop {
            let one = self.peek()?;
            match one {
                _ if one == quote => {
                    self.skip(one);
                    return Some(out);
                }
                '\n' | '\r' | '\x0c' => return None,
                '\\' => {
                    let after = &self.rest[1..];
                    // An escaped line break is none.
                    let broken = ["\r\n", "\n", "\r", "\x0c"]
                        .iter()
                        .find_map(|line| after.strip_prefix(line));
                    match broken {
                        Some(rest) => self.rest = rest,
                        None => out.push(self.escape()?),
                    }
                }
                _ => {
                    self.skip(one);
                    out.push(one);
                }
            }
        }
    }

    fn identifier(&mut self) -> Option<String> {
        let body = self.rest.trim_start_matches('-');
        let starts = body
            .chars()
            .next()
            .is_some_and(|c| c == '\\' || is_name(c) && !c.is_ascii_digit());
        if starts { self.name() } else { None }
    }

    fn name(&mut self) -> Option<String> {
        let mut out = String::new();
        while let Some(one) = self.peek() {
            if is_name(one) {
                self.skip(one);
                out.push(one);
            } else if one == '\\' {
                out.push(self.escape()?);
            } else {
                break;
            }
        }
        (!out.is_empty()).then_some(out)
    }

    /// `\` and what it stands for.
    fn escape(&mut self) -> Option<char> {
        self.rest = self.rest.strip_prefix('\\')?;
        let digits = self
            .rest
            .bytes()
            .take(6)
            .take_while(u8::is_ascii_hexdigit)
            .count();
        if digits == 0 {
            let one = self.peek().filter(|c| !matches!(c, '\n' | '\r' | '\x0c'))?;
            self.skip(one);
            return Some(one);
        }
        let (hex, rest) = self.rest.split_at(digits);
        self.rest = rest;
        if !self.eat("\r\n")
            && let Some(one @ (' ' | '\t' | '\n' | '\r' | '\x0c')) = self.peek()
        {
            self.skip(one);
        }
        let code = u32::from_str_radix(hex, 16).ok()?;
        Some(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER))
    }
}

fn is_name(one: char) -> bool {
    one.is_ascii_alphanumeric() || one == '_' || one == '-' || !one.is_ascii()
}

fn number(text: &str) -> Option<i64> {
    let digits = text.trim_start_matches(['+', '-']);
    let plain = digits.len() + 1 >= text.len() && digits.bytes().all(|b| b.is_ascii_digit());
    // Nobody has more children than that.
    plain
        .then(|| text.strip_prefix('+').unwrap_or(text).parse().ok())?
        .filter(|n: &i64| n.unsigned_abs() < 1 << 32)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::dom::NodeId, Document, Selectors};

    const PAGE: &str = "<body lang=en-GB><div id=d class='a b'><p class=x title='Big Cat'>one</p>\
        <p id=p2 data-n=12>two <b>BOLD</b></p><p class='x y'> </p><!-- c --></div>\
        <form><fieldset disabled><legend><input id=i1></legend><input id=i2 type=Radio checked></fieldset>\
        <select><option selected>1<option>2</select><a href=/x>l</a><a>n</a></form><i:z>q</i:z></body>";

    fn found(selector: &str) -> Option<Vec<String>> {
        let page = Document::parse(PAGE, || Ok::<_, &str>(())).unwrap();
        let selectors = Selectors::parse(selector)?;
        let name = |node| {
            let id = page.attribute(node, "id").map(|id| format!("#{id}"));
            id.unwrap_or_else(|| page.tag(node).to_owned())
        };
        Some(selectors.below(&page, NodeId::ROOT).map(name).collect())
    }

    #[test]
    fn the_dialect_selects_what_the_reference_does() {
        for (selector, expected) in [
            ("DIV > P.x", "p p"),
            ("p:not(.x)", "#p2"),
            ("p:not(.x, .y) b", "b"),
            ("div p + p", "#p2 p"),
            ("div p ~ p.y", "p"),
            ("body p:nth-child(2n+1)", "p p"),
            ("p:nth-child( -n + 2 )", "p #p2"),
            ("p:nth-last-of-type(1), p:first-of-type", "p p"),
            ("p:nth-child(even)", "#p2"),
            ("b:only-child", "b"),
            ("p:empty", "p"),
            ("p:contains(bold), p:contains(\"ONE\")", "p #p2"),
            ("p:containsOwn(bold)", ""),
            ("p:matches(^tw. [A-Z]+$)", "#p2"),
            ("p:matches((one|BOLD))", "p #p2"),
            ("p:matchesOwn(BOLD)", ""),
            ("[data-n#=^[0-9]+$]", "#p2"),
            ("p[title='big cat' i]", "p"),
            ("p[title='big cat']", ""),
            ("p[title^=Big]", "p"),
            ("p[title!='Big Cat']", "#p2 p"),
            ("p[class~=y]", "p"),
            ("p[title$=Cat], p[title*='g C']", "p"),
            ("[lang|=en]", "body"),
            ("b:lang(en)", "b"),
            ("div:has(b)", "#d"),
            ("div:has(> b)", ""),
            ("p:has(+ #p2)", "p"),
            ("div:haschild(b), p:haschild(b)", "#p2"),
            ("fieldset :input:disabled", "#i2"),
            (":input:enabled", "#i1 select"),
            (":checked", "#i2 option"),
            (":link", "a"),
            (":root", "html"),
            ("a:hover", ""),
            ("#\\70 2", "#p2"),
            ("/* c */ b /* d */", "b"),
            ("body *:contains(l):not(:has(*))", "b a"),
        ] {
            assert_eq!(
                found(selector).map(|f| f.join(" ")).as_deref(),
                Some(expected),
                "{selector}"
            );
        }
    }

    #[test]
    fn what_is_no_selector_is_none() {
        for selector in [
            "",
            " ",
            "p[",
            "::",
            "::before",
            "p >",
            "> p",
            "#",
            ".",
            "a:nope",
            "p,",
            ",p",
            "p)",
            "[a=1]",
            "[a='x]",
            "p:not(",
            "p:not()",
            "p:nth-child()",
            "p:nth-child(x)",
            "p:nth-child(99999999999999999999)",
            "p:matches([)",
            "p:first",
            ":eq(1)",
            "1p",
            "p::text",
            "p:has()",
            "\\",
            "p:nth-child(2n3)",
        ] {
            assert!(Selectors::parse(selector).is_none(), "{selector}");
        }
        assert!(Selectors::parse(&format!("p{}", ":not(a".repeat(10_000))).is_none());
    }

    #[test]
    fn matching_is_not_exponential() {
        let page = "<div>".repeat(400) + &"<p></p>".repeat(400);
        let page = Document::parse(&page, || Ok::<_, &str>(())).unwrap();
        for selector in [
            format!("x {}p", "div ".repeat(40)),
            format!("x ~ {}p", "p ~ ".repeat(40)),
            format!("x > {}p", "div ".repeat(40)),
            format!("x + {}p", "div > div ".repeat(20)),
        ] {
            let selectors = Selectors::parse(&selector).unwrap();
            assert_eq!(
                selectors.below(&page, NodeId::ROOT).count(),
                0,
                "{selector}"
            );
        }
    }

    #[test]
    fn nested_selectors_ask_about_each_node_once() {
        let nested = "<div>".repeat(400);
        let beside = "<p>a".repeat(2000);
        let repeated = |text: &str, times: usize| text.repeat(times);
        for (page, selector) in [
            (&nested, repeated("div:has(", 15) + "x" + &repeated(")", 15)),
            (
                &nested,
                repeated("div:not(:has(", 7) + "div:has(x)" + &repeated("))", 7) + " x",
            ),
            (&beside, repeated("p:has(~ ", 4) + "x" + &repeated(")", 4)),
            (
                &beside,
                "x ~ ".to_owned() + &repeated("p:nth-last-child(n):contains(a) ~ ", 5) + "p",
            ),
        ] {
            let page = Document::parse(page, || Ok::<_, &str>(())).unwrap();
            let selectors = Selectors::parse(&selector).unwrap();
            assert_eq!(
                selectors.below(&page, NodeId::ROOT).count(),
                0,
                "{selector}"
            );
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_selector_or_none(text in "[a-z#.:\\[\\]()>+~,*='\"\\\\ 0-9n|^$!é-]{0,40}") {
            found(&text);
        }

        #[test]
        fn regular_expressions_of_any_kind(text in ".{0,30}") {
            found(&format!("p:matches({text})"));
            found(&format!("[title#={text}]"));
        }
    }
}
