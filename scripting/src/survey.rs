//! What can be said of a script without running it: whether it is one that is run, what it
//! imports, and calls that fail when they are reached.

use oxc_allocator::Allocator;
use oxc_ast::ast::{
    Argument, AssignmentExpression, AssignmentTarget, CallExpression, ExportDefaultDeclaration,
    ExportDefaultDeclarationKind, Expression, ImportExpression, ModuleExportName,
    ObjectPropertyKind, Program, Statement,
};
use oxc_ast_visit::{Visit, walk};
use oxc_span::SourceType;

use crate::{
    graph::{
        analysis::{self, SyntaxProblem},
        is_builtin,
    },
    loader,
    modules::{self, Found},
};

/// What the text of a file says.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Survey {
    /// Whether it exports what is run: a function as default, or options with scenarios in them.
    pub is_script: bool,
    /// What it imports or requires by a literal name, with the line, from 1.
    pub imports: Vec<(String, usize)>,
    /// What fails when it is reached, with the line and what to do.
    pub remarks: Vec<(usize, String)>,
}

/// What becomes of an import.
#[derive(Debug, PartialEq, Eq)]
pub enum ImportAdvice {
    /// A module of this program.
    Fine,
    /// A former name of a module, which works.
    Former(String),
    /// A local file, by its URL.
    File(String),
    /// A module from the web.
    Remote(String),
    /// It is gone from k6; the text says where to.
    Removed(String),
    /// k6 has it, this program has not.
    Unsupported(String),
}

/// Looks at the text of a file, whose name says whether it is TypeScript.
///
/// # Errors
/// Line, from 1, and words of what cannot be parsed.
pub fn survey(name: &str, text: &str) -> Result<Survey, (usize, String)> {
    let source_type = match name.ends_with(".ts") {
        true => SourceType::ts(),
        false => SourceType::unambiguous(),
    };
    let look = || {
        let allocator = Allocator::default();
        let parsed = analysis::parse(&allocator, text, source_type)
            // Only a module may wait at its top level.
            .or_else(|problem| {
                analysis::parse(&allocator, text, SourceType::mjs()).map_err(|_| problem)
            })?;
        let mut look = Look {
            text,
            found: Survey::default(),
        };
        look.top_level(&parsed.program);
        look.visit_program(&parsed.program);
        Ok(look.found)
    };
    analysis::guarded(look).map_err(|SyntaxProblem { place, message }| (place.0, message))
}

/// What becomes of an import in the file of that URL.
pub fn import_advice(base: &str, specifier: &str) -> ImportAdvice {
    if !is_builtin(specifier) {
        return match loader::resolve(base, specifier) {
            Ok(url) if url.starts_with("https://") => ImportAdvice::Remote(url),
            Ok(url) => ImportAdvice::File(url),
            Err(text) => ImportAdvice::Removed(text),
        };
    }
    match modules::find(specifier) {
        Found::Module => ImportAdvice::Fine,
        Found::Graduated { module, warning } => match modules::find(module) {
            Found::Refused(text) => ImportAdvice::Unsupported(text),
            _ => ImportAdvice::Former(warning.to_owned()),
        },
        Found::Removed(text) => ImportAdvice::Removed(text.to_owned()),
        Found::Refused(text) => ImportAdvice::Unsupported(text),
        Found::Unknown if specifier.starts_with("k6/x/") => ImportAdvice::Unsupported(format!(
            "the module \"{specifier}\" is an extension of k6, and there are none here"
        )),
        Found::Unknown => ImportAdvice::Removed(format!(
            "there is no module \"{specifier}\"; docs/compatibility.md lists those there are"
        )),
    }
}

/// Functions of k6 that refuse asynchronous ones.
const SYNCHRONOUS: [&str; 2] = ["check", "group"];

struct Look<'t> {
    text: &'t str,
    found: Survey,
}

impl Look<'_> {
    fn line(&self, offset: u32) -> usize {
        let before = self.text.get(..offset as usize).unwrap_or(self.text);
        before.matches('\n').count() + 1
    }

    fn import(&mut self, specifier: &str, offset: u32) {
        let line = self.line(offset);
        self.found.imports.push((specifier.to_owned(), line));
    }

    /// Imports and exports of a module.
    fn top_level(&mut self, program: &Program<'_>) {
        for statement in &program.body {
            match statement {
                Statement::ImportDeclaration(it) if !it.import_kind.is_type() => {
                    self.import(&it.source.value, it.span.start);
                }
                Statement::ExportAllDeclaration(it) if !it.export_kind.is_type() => {
                    self.import(&it.source.value, it.span.start);
                }
                Statement::ExportNamedDeclaration(it) if !it.export_kind.is_type() => {
                    if let Some(source) = &it.source {
                        self.import(&source.value, it.span.start);
                    }
                    let mut names = it.specifiers.iter().map(|one| name_of(&one.exported));
                    self.found.is_script |= names.any(|name| name == "default");
                    let declared = it.declaration.as_ref().is_some_and(|declaration| {
                        let mut has = false;
                        declaration.bound_names(&mut |name| has |= name.name == "options");
                        has
                    });
                    self.found.is_script |= declared;
                }
                Statement::ExportDefaultDeclaration(it) => {
                    self.found.is_script |= may_be_function(it);
                }
                _ => {}
            }
        }
    }
}

trait BoundNames {
    fn bound_names(&self, tell: &mut dyn FnMut(&oxc_ast::ast::BindingIdentifier<'_>));
}

impl BoundNames for oxc_ast::ast::Declaration<'_> {
    /// Names of variables; of functions and classes there are no options.
    fn bound_names(&self, tell: &mut dyn FnMut(&oxc_ast::ast::BindingIdentifier<'_>)) {
        if let Self::VariableDeclaration(it) = self {
            for one in &it.declarations {
                if let Some(name) = one.id.get_binding_identifier() {
                    tell(name);
                }
            }
        }
    }
}

fn name_of<'a>(name: &'a ModuleExportName<'a>) -> &'a str {
    match name {
        ModuleExportName::IdentifierName(it) => &it.name,
        ModuleExportName::IdentifierReference(it) => &it.name,
        ModuleExportName::StringLiteral(it) => &it.value,
    }
}

/// Whether a default export may be what is run: data and classes are not.
fn may_be_function(export: &ExportDefaultDeclaration<'_>) -> bool {
    match &export.declaration {
        ExportDefaultDeclarationKind::FunctionDeclaration(_) => true,
        ExportDefaultDeclarationKind::ClassDeclaration(_)
        | ExportDefaultDeclarationKind::TSInterfaceDeclaration(_) => false,
        other => other.as_expression().is_some_and(|it| !is_data(it)),
    }
}

fn is_data(value: &Expression<'_>) -> bool {
    value.is_literal()
        || matches!(
            value,
            Expression::ObjectExpression(_)
                | Expression::ArrayExpression(_)
                | Expression::NewExpression(_)
                | Expression::ClassExpression(_)
                | Expression::TemplateLiteral(_)
        )
}

/// Names by which a CommonJS file exports what is run.
const RUN: [&str; 2] = ["default", "options"];

impl<'a> Visit<'a> for Look<'_> {
    fn visit_call_expression(&mut self, call: &CallExpression<'a>) {
        let callee = match &call.callee {
            Expression::Identifier(it) => Some(it.name.as_str()),
            Expression::StaticMemberExpression(it) => match &it.object {
                Expression::Identifier(object) if object.name == "k6" => {
                    Some(it.property.name.as_str())
                }
                _ => None,
            },
            _ => None,
        };
        match (callee, call.arguments.first()) {
            (Some("require"), Some(Argument::StringLiteral(it))) => {
                self.import(&it.value, call.span.start);
            }
            (Some(name), _) if SYNCHRONOUS.contains(&name) => {
                let asynchronous = call.arguments.iter().any(|argument| match argument {
                    Argument::ArrowFunctionExpression(it) => it.r#async,
                    Argument::FunctionExpression(it) => it.r#async,
                    _ => false,
                });
                if asynchronous {
                    let text = format!(
                        "{name}() takes no async function, as in k6: make it a plain one and \
                         await outside of it"
                    );
                    let line = self.line(call.span.start);
                    self.found.remarks.push((line, text));
                }
            }
            _ => {}
        }
        walk::walk_call_expression(self, call);
    }

    fn visit_import_expression(&mut self, import: &ImportExpression<'a>) {
        let line = self.line(import.span.start);
        let text = "import() throws, as in k6: import it at the top of the file".to_owned();
        self.found.remarks.push((line, text));
        walk::walk_import_expression(self, import);
    }

    fn visit_assignment_expression(&mut self, it: &AssignmentExpression<'a>) {
        if let AssignmentTarget::StaticMemberExpression(left) = &it.left {
            let name = left.property.name.as_str();
            let of_exports = match &left.object {
                Expression::Identifier(object) => object.name == "exports",
                Expression::StaticMemberExpression(object) => object.property.name == "exports",
                _ => false,
            };
            let whole = name == "exports"
                && matches!(&left.object, Expression::Identifier(it) if it.name == "module");
            let keys = match &it.right {
                Expression::ObjectExpression(object) if whole => Some(&object.properties),
                _ => None,
            };
            let named = keys.into_iter().flatten().any(|property| match property {
                ObjectPropertyKind::ObjectProperty(it) => it
                    .key
                    .static_name()
                    .is_some_and(|name| RUN.contains(&&*name)),
                ObjectPropertyKind::SpreadProperty(_) => false,
            });
            self.found.is_script |= named || (of_exports && RUN.contains(&name));
        }
        walk::walk_assignment_expression(self, it);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Survey {
        survey("a.js", text).unwrap()
    }

    #[test]
    fn scripts_are_told_from_modules() {
        for text in [
            "export default function () {}",
            "export default () => {}",
            "function f() {} export default f;",
            "function f() {} export { f as default };",
            "export { default } from './a.js';",
            "export const options = {}; export function scenario() {}",
            "exports.default = function () {};",
            "module.exports.default = () => {};",
            "module.exports = { options: {}, default() {} };",
            "export default await make();",
        ] {
            assert!(of(text).is_script, "{text}");
        }
        for text in [
            "export function helper() {}",
            "export default { url: 'http://x' };",
            "export default class A {}",
            "export default 'text';",
            "module.exports = { helper() {} };",
            "exports.helper = 1;",
            "const a = 1;",
            "",
        ] {
            assert!(!of(text).is_script, "{text}");
        }
        let typed = "export default function (this: any, data: unknown): void {}";
        assert!(survey("a.ts", typed).unwrap().is_script);
    }

    #[test]
    fn imports_have_their_lines() {
        let found = of(
            "import http from 'k6/http';\nimport './a.js';\n\nexport * from './b.js';\n\
             export { c } from './c.js';\nconst d = require('./d.js');",
        );
        let expected = [
            ("k6/http", 1),
            ("./a.js", 2),
            ("./b.js", 4),
            ("./c.js", 5),
            ("./d.js", 6),
        ]
        .map(|(name, line)| (name.to_owned(), line));
        assert_eq!(found.imports, expected);
        let types = "import type { A } from './types';\nexport type { B } from './types';";
        assert_eq!(survey("a.ts", types).unwrap().imports, []);
    }

    #[test]
    fn what_fails_later_is_remarked() {
        let found = of("import { group } from 'k6';\nimport * as k6 from 'k6';\n\
             export default async function () {\n  group('a', async () => {});\n\
             \x20 k6.check(1, { a: 1 });\n  await import('./b.js');\n  list.group('a', async () => 1);\n}");
        let lines: Vec<usize> = found.remarks.iter().map(|(line, _)| *line).collect();
        assert_eq!(lines, [4, 6]);
        assert!(found.remarks[0].1.starts_with("group() takes no async"));
        assert!(found.remarks[1].1.starts_with("import() throws"));
    }

    #[test]
    fn what_cannot_be_parsed_is_placed() {
        let (line, message) = survey("a.js", "let a = 1;\nlet b = ;\n").unwrap_err();
        assert_eq!(line, 2);
        assert!(!message.is_empty());
    }

    #[test]
    fn imports_are_judged() {
        let advice = |specifier| import_advice("file:///dir/a.js", specifier);
        assert_eq!(advice("k6/http"), ImportAdvice::Fine);
        assert_eq!(
            advice("./b.js"),
            ImportAdvice::File("file:///dir/b.js".to_owned())
        );
        assert!(matches!(advice("https://h/a.js"), ImportAdvice::Remote(_)));
        for former in ["k6/experimental/timers", "k6/experimental/webcrypto"] {
            assert!(
                matches!(advice(former), ImportAdvice::Former(_)),
                "{former}"
            );
        }
        for gone in [
            "k6/experimental/redis",
            "github.com/a/b.js",
            "lodash",
            "k6/htp",
        ] {
            assert!(matches!(advice(gone), ImportAdvice::Removed(_)), "{gone}");
        }
        for missing in ["k6/browser", "k6/x/sql"] {
            assert!(
                matches!(advice(missing), ImportAdvice::Unsupported(_)),
                "{missing}"
            );
        }
    }
}
