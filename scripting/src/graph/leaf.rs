//! Bundles as functions.
//!
//! The engine keeps the top level of a module for as long as the context lives, although it runs
//! once: of a bundle that is full of data, that is a tenth of what a VU needs. A function that has
//! run goes away. So a large module that imports nothing, and whose exports keep the value they
//! have when its top level ends, is compiled as a function that fills an object, and a small
//! module exports the members of that object. Nothing of it can be seen from a script; where
//! that is in doubt a module stays what it is.

use oxc_allocator::Allocator;
use oxc_ast::ast::{
    ArrowFunctionExpression, AwaitExpression, Expression, ForOfStatement, Function,
    IdentifierReference, ModuleExportName, ReturnStatement, Statement,
};
use oxc_ast_visit::{Visit, walk};
use oxc_semantic::{ScopeFlags, Scoping, SemanticBuilder};
use oxc_span::{GetSpan, SourceType, Span};

use super::analysis::{self, guarded};
use crate::engine::LEAF_EXPORTS;

/// Texts shorter than this stay modules: there is nothing to gain.
const LEAST_BYTES: usize = 16 << 10;

/// A module as a function.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Leaf {
    /// Its text; every line and column is where it was.
    pub(crate) text: String,
    /// What it exports.
    pub(crate) names: Vec<String>,
}

/// The module as a function, if it can be one and is worth it.
pub(crate) fn of(text: &str) -> Option<Leaf> {
    if text.len() < LEAST_BYTES {
        return None;
    }
    // A panic of the library on odd texts only means that it stays a module.
    guarded(|| Ok(convert(text))).ok().flatten()
}

fn convert(text: &str) -> Option<Leaf> {
    if text.contains(LEAF_EXPORTS) {
        return None;
    }
    let allocator = Allocator::default();
    let parsed = analysis::parse(&allocator, text, SourceType::mjs()).ok()?;
    let record = &parsed.module_record;
    if !record.requested_modules.is_empty()
        || !record.import_metas.is_empty()
        || !record.dynamic_imports.is_empty()
    {
        return None;
    }
    let mut exports: Vec<(&str, &str)> = Vec::new();
    let mut spans: Vec<Span> = Vec::new();
    for statement in &parsed.program.body {
        match statement {
            Statement::ExportNamedDeclaration(export) => {
                if export.declaration.is_some() || export.source.is_some() {
                    return None;
                }
                for one in &export.specifiers {
                    let ModuleExportName::IdentifierReference(local) = &one.local else {
                        return None;
                    };
                    let name = match &one.exported {
                        ModuleExportName::IdentifierName(name) => name.name.as_str(),
                        _ => return None,
                    };
                    if name == "__proto__" {
                        return None;
                    }
                    exports.push((local.name.as_str(), name));
                }
                spans.push(export.span());
            }
            Statement::ExportDefaultDeclaration(_) | Statement::ExportAllDeclaration(_) => {
                return None;
            }
            _ => {}
        }
    }
    let mut top = TopLevel::default();
    top.visit_program(&parsed.program);
    if exports.is_empty() || top.needs_a_module {
        return None;
    }
    let built = SemanticBuilder::new()
        .with_check_syntax_error(true)
        .build(&parsed.program);
    if !built.errors.is_empty() {
        return None;
    }
    let scoping = built.semantic.scoping();
    // Whatever it evaluates may assign anything.
    if scoping.root_unresolved_references().contains_key("eval") {
        return None;
    }
    if !exports.iter().all(|(local, _)| is_settled(scoping, local)) {
        return None;
    }
    let mut bytes = text.as_bytes().to_vec();
    for span in spans {
        let range = span.start as usize..span.end as usize;
        for byte in bytes.get_mut(range)? {
            if !matches!(*byte, b'\n' | b'\r') {
                *byte = b' ';
            }
        }
    }
    // Blanks have replaced whole characters of the text.
    let mut text = String::from_utf8(bytes).ok()?;
    for (local, name) in &exports {
        text.push_str(&format!("\n;{LEAF_EXPORTS}.{name}={local};"));
    }
    Some(Leaf {
        text,
        names: exports.iter().map(|(_, name)| (*name).to_owned()).collect(),
    })
}

/// Whether a variable of the top level is assigned by the top level alone.
fn is_settled(scoping: &Scoping, local: &str) -> bool {
    let Some(symbol) = scoping.get_root_binding(local) else {
        return false;
    };
    scoping
        .get_resolved_references(symbol)
        .filter(|reference| reference.is_write())
        .all(|reference| {
            let mut scopes = scoping.scope_ancestors(reference.scope_id());
            !scopes.any(|scope| {
                let flags = scoping.scope_flags(scope);
                flags.intersects(ScopeFlags::Function | ScopeFlags::ClassStaticBlock)
            })
        })
}

/// Looks for what means something else at the top level of a function.
#[derive(Default)]
struct TopLevel {
    /// How many functions are around.
    functions: usize,
    /// Those that have `arguments` of their own.
    plain: usize,
    needs_a_module: bool,
}

impl<'a> Visit<'a> for TopLevel {
    fn visit_function(&mut self, function: &Function<'a>, flags: ScopeFlags) {
        self.functions += 1;
        self.plain += 1;
        walk::walk_function(self, function, flags);
        self.functions -= 1;
        self.plain -= 1;
    }

    fn visit_arrow_function_expression(&mut self, function: &ArrowFunctionExpression<'a>) {
        self.functions += 1;
        walk::walk_arrow_function_expression(self, function);
        self.functions -= 1;
    }

    fn visit_await_expression(&mut self, expression: &AwaitExpression<'a>) {
        self.needs_a_module |= self.functions == 0;
        walk::walk_await_expression(self, expression);
    }

    fn visit_for_of_statement(&mut self, statement: &ForOfStatement<'a>) {
        self.needs_a_module |= self.functions == 0 && statement.r#await;
        walk::walk_for_of_statement(self, statement);
    }

    fn visit_return_statement(&mut self, statement: &ReturnStatement<'a>) {
        self.needs_a_module |= self.functions == 0;
        walk::walk_return_statement(self, statement);
    }

    fn visit_identifier_reference(&mut self, name: &IdentifierReference<'a>) {
        self.needs_a_module |= self.plain == 0 && name.name == "arguments";
    }

    fn visit_expression(&mut self, expression: &Expression<'a>) {
        self.needs_a_module |= self.plain == 0 && matches!(expression, Expression::MetaProperty(_));
        walk::walk_expression(self, expression);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn long(text: &str) -> String {
        format!("{text}\n//{}", " ".repeat(LEAST_BYTES))
    }

    #[test]
    fn a_bundle_becomes_a_function() {
        let text = "let a = 1, b;\nb = 2;\nfunction c() { return a; }\nexport {\n  a, c as default };\nexport { b as d }; b++;";
        let leaf = of(&long(text)).expect("a leaf");
        assert_eq!(leaf.names, ["a", "default", "d"]);
        let blank = |part: &str| part.replace(|c| c != '\n', " ");
        let rewritten = ["export {\n  a, c as default };", "export { b as d };"]
            .iter()
            .fold(text.to_owned(), |text, part| {
                text.replace(part, &blank(part))
            });
        assert!(leaf.text.starts_with(&rewritten), "{}", &leaf.text[..200]);
        let end =
            format!("\n;{LEAF_EXPORTS}.a=a;\n;{LEAF_EXPORTS}.default=c;\n;{LEAF_EXPORTS}.d=b;");
        assert!(leaf.text.ends_with(&end));
        assert_eq!(of(text), None, "too short to be worth it");
    }

    #[test]
    fn what_could_be_seen_stays_a_module() {
        for text in [
            "import x from './x.js'; let a = 1; export { a };",
            "export * from './x.js'; let a = 1; export { a };",
            "export let a = 1;",
            "export default 1;",
            "let a = 1; export { a as 'b c' };",
            "let a = 1; export { a as __proto__ };",
            "let a = await 1; export { a };",
            "let a; for await (a of []) {} export { a };",
            "let a = import.meta; export { a };",
            "let a = import('./x.js'); export { a };",
            "let a = 1; return; export { a };",
            "let a = arguments; export { a };",
            "let a = () => arguments; export { a };",
            "let a = 1; export { a }; function f() { a = 2; }",
            "let a = 1; export { a }; const f = () => { a++; };",
            "let a = 1; export { a }; function f() { ({ a } = {}); }",
            "let a = 1; export { a }; class C { static { a = 2; } m() { for (a of []) {} } }",
            "let a = 1; export { a }; eval('a = 2');",
            "let a = 1; let a = 2; export { a };",
            "export { undeclared };",
            "let a = 1;",
        ] {
            assert_eq!(of(&long(text)), None, "{text}");
        }
        let text = "let a = () => { return 1; }; async function f() { await a; return arguments; } export { a };";
        assert!(of(&long(text)).is_some());
    }
}
