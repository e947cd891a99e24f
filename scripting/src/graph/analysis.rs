//! What the text of a script says about itself: which kind of module it is, and what it imports.

use oxc_allocator::Allocator;
use oxc_ast::ast::Statement;
use oxc_parser::{ParseOptions, Parser};
use oxc_span::SourceType;
use oxc_syntax::module_record::{
    ExportImportName, ImportImportName, ModuleRecord, RequestedModule,
};

/// How a file is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It has an `import`, an `export`, or an `await` at its top level.
    Module,
    /// Everything else: a function of `module` and `exports`.
    CommonJs,
}

/// What an import or a re-export wants of a module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// To be run: `import './a.js'`.
    Nothing,
    /// One export by its name, `default` among them.
    Name(String),
    /// All of it as one object: `import * as all`. From the `*` up to the local name; `None` when
    /// something else is imported in the same statement.
    Namespace(Option<(usize, usize)>),
    /// All of it under the same names, or as one object under a name: `export *`.
    Star,
}

/// One import or re-export.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Use {
    pub(crate) specifier: String,
    /// Where the specifier stands in the text, with its quotes.
    pub(crate) place: (usize, usize),
    pub(crate) wanted: Wanted,
}

/// What a text says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Analysis {
    pub(crate) kind: Kind,
    pub(crate) uses: Vec<Use>,
    /// Whether it asks for `import.meta`.
    pub(crate) meta: bool,
}

/// Why a text is no script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SyntaxProblem {
    /// Line and column, from 1.
    pub(crate) place: (usize, usize),
    pub(crate) message: String,
}

/// How deep brackets may nest. The libraries that read scripts call themselves for each level, and
/// nothing stops them at the end of the stack; real scripts stay below a hundred.
const MAX_NESTING: usize = 5000;

/// Looks at a text that should be JavaScript.
///
/// # Errors
/// When it cannot be parsed.
pub(crate) fn analyse(text: &str) -> Result<Analysis, SyntaxProblem> {
    guarded(|| look_at(text))
}

/// The libraries that read scripts panic on some texts with errors: a script must not be able to
/// end the process.
pub(crate) fn guarded<T>(
    read: impl FnOnce() -> Result<T, SyntaxProblem>,
) -> Result<T, SyntaxProblem> {
    // Nothing that was made meanwhile is looked at after a panic.
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(read)).unwrap_or_else(|_| {
        Err(SyntaxProblem {
            place: (1, 1),
            message: "the file has an error that the parser cannot place".to_owned(),
        })
    })
}

fn look_at(text: &str) -> Result<Analysis, SyntaxProblem> {
    let common = Analysis {
        kind: Kind::CommonJs,
        uses: Vec::new(),
        meta: false,
    };
    // Without these words there is nothing that makes a module; bundles are large.
    if !["import", "export", "await"]
        .iter()
        .any(|word| text.contains(word))
    {
        return Ok(common);
    }
    let allocator = Allocator::default();
    let parsed = match parse(&allocator, text, SourceType::unambiguous()) {
        Ok(parsed) if parsed.program.source_type.is_module() => parsed,
        Ok(_) => return Ok(common),
        // Only a module may wait at its top level.
        Err(problem) => parse(&allocator, text, SourceType::mjs()).map_err(|_| problem)?,
    };
    for statement in &parsed.program.body {
        let clause = match statement {
            Statement::ImportDeclaration(it) => it.with_clause.as_ref(),
            Statement::ExportNamedDeclaration(it) => it.with_clause.as_ref(),
            Statement::ExportAllDeclaration(it) => it.with_clause.as_ref(),
            _ => None,
        };
        if let Some(clause) = clause {
            return Err(problem_at(
                text,
                clause.span.start,
                "Unexpected import attributes: as in k6 there are none",
            ));
        }
    }
    Ok(Analysis {
        kind: Kind::Module,
        uses: uses(text, &parsed.module_record),
        meta: !parsed.module_record.import_metas.is_empty(),
    })
}

/// Whether a text parses as a script of either kind.
///
/// # Errors
/// When it does not.
pub(crate) fn check(text: &str) -> Result<(), SyntaxProblem> {
    guarded(|| {
        let allocator = Allocator::default();
        parse(&allocator, text, SourceType::unambiguous()).map(|_| ())
    })
}

/// Parses, or says where and why that is not possible.
pub(crate) fn parse<'a>(
    allocator: &'a Allocator,
    text: &'a str,
    source_type: SourceType,
) -> Result<oxc_parser::ParserReturn<'a>, SyntaxProblem> {
    if let Some(offset) = too_deep(text) {
        let offset = u32::try_from(offset).unwrap_or(u32::MAX);
        let message = format!("brackets nest more than {MAX_NESTING} levels deep");
        return Err(problem_at(text, offset, &message));
    }
    let parsed = Parser::new(allocator, text, source_type)
        .with_options(ParseOptions {
            allow_return_outside_function: true,
            ..ParseOptions::default()
        })
        .parse();
    match parsed.errors.first() {
        None => Ok(parsed),
        Some(error) => Err(problem(text, error, parsed.errors.len())),
    }
}

/// Where brackets nest deeper than they may.
fn too_deep(text: &str) -> Option<usize> {
    // Nearly always it is enough to count; brackets in strings may mislead that.
    let bytes = text.bytes().enumerate();
    let counted = deeper_than_allowed(bytes);
    counted.and_then(|_| deeper_than_allowed(Code::new(text)))
}

/// Where the brackets among some bytes nest deeper than they may.
fn deeper_than_allowed(bytes: impl Iterator<Item = (usize, u8)>) -> Option<usize> {
    let mut depth = 0usize;
    for (at, byte) in bytes {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MAX_NESTING {
            return Some(at);
        }
    }
    None
}

/// The bytes of a text that are neither in a string nor in a comment. Regular expressions count as
/// code: telling them from a division would take a parser.
struct Code<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Code<'a> {
    fn new(text: &'a str) -> Self {
        let bytes = text.as_bytes();
        Self { bytes, at: 0 }
    }

    /// Goes to behind the next of these, or to the end.
    fn skip_past(&mut self, end: &[u8]) {
        let rest = &self.bytes[self.at..];
        let found = rest.windows(end.len()).position(|window| window == end);
        self.at = found.map_or(self.bytes.len(), |found| self.at + found + end.len());
    }

    /// Goes to behind the quote that ends a string; only one in back quotes has more than a line.
    fn skip_string(&mut self, quote: u8) {
        while let Some(byte) = self.bytes.get(self.at) {
            self.at += 1;
            match byte {
                b'\\' => self.at += 1,
                b'\n' if quote != b'`' => return,
                byte if *byte == quote => return,
                _ => {}
            }
        }
        self.at = self.bytes.len();
    }
}

impl Iterator for Code<'_> {
    type Item = (usize, u8);

    fn next(&mut self) -> Option<(usize, u8)> {
        let at = self.at;
        let byte = *self.bytes.get(at)?;
        self.at += 1;
        match (byte, self.bytes.get(self.at)) {
            (b'"' | b'\'' | b'`', _) => self.skip_string(byte),
            (b'/', Some(b'/')) => self.skip_past(b"\n"),
            (b'/', Some(b'*')) => self.skip_past(b"*/"),
            _ => {}
        }
        Some((at, byte))
    }
}

/// The first of some errors, in the form of k6.
pub(crate) fn problem(
    text: &str,
    error: &oxc_diagnostics::OxcDiagnostic,
    count: usize,
) -> SyntaxProblem {
    let offset = error
        .labels
        .as_ref()
        .and_then(|labels| labels.first())
        .map_or(0, |label| label.offset());
    let mut message = error.message.to_string();
    if count > 1 {
        message.push_str(&format!(" (and {} more errors)", count - 1));
    }
    problem_at(text, u32::try_from(offset).unwrap_or(u32::MAX), &message)
}

fn problem_at(text: &str, offset: u32, message: &str) -> SyntaxProblem {
    let before = text.get(..offset as usize).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let start = before.rfind('\n').map_or(0, |at| at + 1);
    let column = before[start..].encode_utf16().count() + 1;
    SyntaxProblem {
        place: (line, column),
        message: message.to_owned(),
    }
}

fn uses(text: &str, record: &ModuleRecord<'_>) -> Vec<Use> {
    let mut uses = Vec::new();
    let mut named: Vec<u32> = Vec::new();
    for entry in &record.import_entries {
        named.push(entry.statement_span.start);
        let wanted = match &entry.import_name {
            ImportImportName::Name(name) => Wanted::Name(name.name.to_string()),
            ImportImportName::Default(_) => Wanted::Name("default".to_owned()),
            ImportImportName::NamespaceObject => {
                let alone = record
                    .import_entries
                    .iter()
                    .filter(|other| other.statement_span == entry.statement_span)
                    .count()
                    == 1;
                let start = entry.statement_span.start as usize;
                let end = entry.local_name.span.start as usize;
                let star = text.get(start..end).and_then(|head| head.find('*'));
                Wanted::Namespace(star.filter(|_| alone).map(|star| (start + star, end)))
            }
        };
        uses.push(Use {
            specifier: entry.module_request.name.to_string(),
            place: place(entry.module_request.span),
            wanted,
        });
    }
    let exports = record.indirect_export_entries.iter();
    for entry in exports.chain(&record.star_export_entries) {
        let Some(request) = &entry.module_request else {
            continue;
        };
        named.push(entry.statement_span.start);
        let wanted = match &entry.import_name {
            ExportImportName::Name(name) => Wanted::Name(name.name.to_string()),
            _ => Wanted::Star,
        };
        uses.push(Use {
            specifier: request.name.to_string(),
            place: place(request.span),
            wanted,
        });
    }
    for (specifier, requests) in &record.requested_modules {
        for RequestedModule {
            statement_span,
            span,
            ..
        } in requests
        {
            if !named.contains(&statement_span.start) {
                uses.push(Use {
                    specifier: specifier.to_string(),
                    place: place(*span),
                    wanted: Wanted::Nothing,
                });
            }
        }
    }
    // In the order of the text, in which problems are reported.
    uses.sort_by_key(|one| one.place);
    uses
}

fn place(span: oxc_span::Span) -> (usize, usize) {
    (span.start as usize, span.end as usize)
}

/// Names that a CommonJS text assigns to its exports, as far as one can see: what `export *` of it
/// forwards. The engine wants to know names before anything runs.
pub(crate) fn likely_exports(text: &str) -> Vec<String> {
    let mut names: Vec<&str> = Vec::new();
    // exports.a = …, also of module.exports.
    for (at, word) in text.match_indices("exports.") {
        let (name, after) = identifier(&text[at + word.len()..]);
        if is_assignment(after) {
            names.push(name);
        }
    }
    // Object.defineProperty(exports, 'a', …)
    for (at, word) in text.match_indices("defineProperty(exports,") {
        let rest = text[at + word.len()..].trim_start();
        if let Some(rest) = rest.strip_prefix(['"', '\'']) {
            let (name, after) = identifier(rest);
            if after.starts_with(['"', '\'']) {
                names.push(name);
            }
        }
    }
    // module.exports = { a, b: c, …: as far as members are names.
    for (at, word) in text.match_indices("module.exports") {
        let rest = text[at + word.len()..].trim_start();
        let Some(mut rest) = rest
            .strip_prefix('=')
            .and_then(|rest| rest.trim_start().strip_prefix('{'))
        else {
            continue;
        };
        loop {
            let (name, after) = identifier(rest.trim_start());
            if name.is_empty() {
                break;
            }
            let after = after.trim_start();
            if !after.starts_with([',', ':', '}', '(']) {
                break;
            }
            names.push(name);
            let after = match after.strip_prefix(':') {
                Some(value) => identifier(value.trim_start()).1.trim_start(),
                None => after,
            };
            match after.strip_prefix(',') {
                Some(more) => rest = more,
                None => break,
            }
        }
    }
    names.retain(|name| *name != "default" && !name.starts_with(|c: char| c.is_ascii_digit()));
    names.sort_unstable();
    names.dedup();
    names
        .into_iter()
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect()
}

/// The name that a text begins with, and what follows.
fn identifier(text: &str) -> (&str, &str) {
    let end = text
        .find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '$'))
        .unwrap_or(text.len());
    text.split_at(end)
}

fn is_assignment(text: &str) -> bool {
    let text = text.trim_start();
    text.starts_with('=') && !text.starts_with("==")
}

#[cfg(test)]
mod tests {
    use super::{Kind, SyntaxProblem, Wanted, analyse, likely_exports};

    #[test]
    fn modules_are_told_from_commonjs() {
        let kind = |text| analyse(text).unwrap().kind;
        assert_eq!(kind("import 'k6'"), Kind::Module);
        assert_eq!(kind("export default 1"), Kind::Module);
        assert_eq!(kind("await 1"), Kind::Module);
        assert_eq!(kind("exports.default = () => 1"), Kind::CommonJs);
        assert_eq!(kind("// import x from 'y'\nvar a = 1"), Kind::CommonJs);
        assert_eq!(kind("const f = async () => { await 1 }"), Kind::CommonJs);
        assert_eq!(kind("import('x')"), Kind::CommonJs);
        assert_eq!(kind("var await = 1; exports.a = await"), Kind::CommonJs);
        assert_eq!(kind("if (exports) return 5; // export"), Kind::CommonJs);
        assert_eq!(kind(""), Kind::CommonJs);
    }

    #[test]
    fn uses_come_in_the_order_of_the_text() {
        let text = "import './z.js';\nimport d, { a as b } from './y.js';\nimport * as all from 'k6';\n\
                    export { q } from './x.js';\nexport * from './w.js';\nexport * as v from './v.js';";
        let found = analyse(text).unwrap();
        let uses: Vec<(&str, Wanted)> = found
            .uses
            .iter()
            .map(|one| (one.specifier.as_str(), one.wanted.clone()))
            .collect();
        let name = |name: &str| Wanted::Name(name.to_owned());
        let star = text.find("* as all").unwrap();
        assert_eq!(
            uses,
            [
                ("./z.js", Wanted::Nothing),
                ("./y.js", name("default")),
                ("./y.js", name("a")),
                ("k6", Wanted::Namespace(Some((star, star + 5)))),
                ("./x.js", name("q")),
                ("./w.js", Wanted::Star),
                ("./v.js", Wanted::Star),
            ]
        );
        for one in &found.uses {
            let (start, end) = one.place;
            assert_eq!(&text[start + 1..end - 1], one.specifier);
        }
        assert!(!found.meta);
        assert!(
            analyse("export const u = import.meta.resolve('x')")
                .unwrap()
                .meta
        );
    }

    #[test]
    fn syntax_errors_have_a_place() {
        let problem = |text| {
            let SyntaxProblem { place, message } = analyse(text).unwrap_err();
            assert!(message.starts_with("Unexpected"), "{message}");
            place
        };
        assert_eq!(problem("import 'k6';\n  const = 5;"), (2, 9));
        assert_eq!(problem("export let 'é😀' = 5;"), (1, 12));
        assert_eq!(
            problem("import a from './a' with { type: 'json' }"),
            (1, 26)
        );
    }

    #[test]
    fn what_nests_too_deep_is_refused_before_it_is_parsed() {
        for (open, close) in [
            ("(", ")"),
            ("[", "]"),
            ("({a:", "})"),
            ("`${", "}`"),
            ("{", "}"),
        ] {
            let deep = open.repeat(1_000_000) + "1" + &close.repeat(1_000_000);
            let error = analyse(&format!("export default 1;\n{deep}")).unwrap_err();
            assert_eq!(error.place.0, 2, "{open}");
            assert_eq!(
                error.message, "brackets nest more than 5000 levels deep",
                "{open}"
            );
        }
        // Brackets in texts open nothing.
        let faces = "':(', \":-[\", `:{`, '\\'(', /* ( */ // [\n".repeat(10_000);
        let text = format!("export default [{faces}]");
        assert_eq!(analyse(&text).unwrap().kind, Kind::Module);
    }

    #[test]
    fn likely_exports_are_assignments() {
        assert_eq!(
            likely_exports(
                "exports.b = 1; module.exports.a=2; if (exports.c == 3) exports.default = 4"
            ),
            ["a", "b"]
        );
        assert_eq!(
            likely_exports(
                "Object.defineProperty(exports, '__esModule', { value: true });\n\
                 0 && (module.exports = { a, b: c, d() {}, e });"
            ),
            ["__esModule", "a", "b", "d"]
        );
        assert_eq!(
            likely_exports("module.exports = { 'x': 1 }; exports.é = 1"),
            ["é"]
        );
    }
}
