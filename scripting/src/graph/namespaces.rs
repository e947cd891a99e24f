//! Exported variables of TypeScript namespaces, which the transformer leaves to others.
//!
//! `namespace N { export let a = 1; a++ }` means the same as
//! `namespace N { N.a = 1; N.a++ }`, and so it is written before the types go away. Lines stay.

use oxc_allocator::Allocator;
use oxc_ast::{
    AstKind,
    ast::{
        BindingPattern, Declaration, ExportNamedDeclaration, Statement, TSModuleDeclaration,
        TSModuleDeclarationBody, TSModuleDeclarationName, VariableDeclaration,
        VariableDeclarationKind,
    },
};
use oxc_ast_visit::{Visit, walk};
use oxc_semantic::{Semantic, SemanticBuilder};
use oxc_span::{GetSpan, SourceType, Span};

use super::analysis::parse;

/// The text with assignments for exported variables; `None` when there are none that can be
/// written so.
pub(crate) fn assigned(text: &str) -> Option<String> {
    let allocator = Allocator::default();
    let program = parse(&allocator, text, SourceType::ts()).ok()?.program;
    let semantic = SemanticBuilder::new().build(&program).semantic;
    let mut variables = Variables {
        semantic: &semantic,
        edits: Vec::new(),
    };
    variables.visit_program(&program);
    let mut edits = variables.edits;
    if edits.is_empty() {
        return None;
    }
    edits.sort_by_key(|(span, _)| (span.start, span.end));
    let mut rewritten = String::with_capacity(text.len());
    let mut done = 0;
    for (span, new) in edits {
        rewritten.push_str(text.get(done..span.start as usize)?);
        rewritten.push_str(&new);
        done = span.end as usize;
    }
    rewritten.push_str(text.get(done..)?);
    Some(rewritten)
}

struct Variables<'s, 'a> {
    semantic: &'s Semantic<'a>,
    edits: Vec<(Span, String)>,
}

impl<'a> Visit<'a> for Variables<'_, 'a> {
    fn visit_ts_module_declaration(&mut self, namespace: &TSModuleDeclaration<'a>) {
        if namespace.declare {
            return;
        }
        if let TSModuleDeclarationName::Identifier(name) = &namespace.id
            && let Some(TSModuleDeclarationBody::TSModuleBlock(block)) = &namespace.body
        {
            for statement in &block.body {
                if let Statement::ExportNamedDeclaration(export) = statement
                    && let Some(Declaration::VariableDeclaration(variables)) = &export.declaration
                    && variables.kind != VariableDeclarationKind::Const
                    && !variables.declare
                {
                    self.assign(&name.name, export, variables);
                }
            }
        }
        walk::walk_ts_module_declaration(self, namespace);
    }
}

impl<'a> Variables<'_, 'a> {
    fn assign(
        &mut self,
        namespace: &str,
        export: &ExportNamedDeclaration<'a>,
        variables: &VariableDeclaration<'a>,
    ) {
        let mut edits = Vec::new();
        let mut from = export.span.start;
        for declarator in &variables.declarations {
            let BindingPattern::BindingIdentifier(variable) = &declarator.id else {
                return;
            };
            let member = format!("{namespace}.{}", variable.name);
            let annotation = declarator.type_annotation.as_ref();
            let end = annotation.map_or(variable.span.end, |annotation| annotation.span.end);
            let start = if from == export.span.start {
                export.span.start
            } else {
                variable.span.start
            };
            let value = match declarator.init {
                Some(_) => "",
                None => " = void 0",
            };
            edits.push((Span::new(start, end), format!("{member}{value}")));
            from = end;
            let Some(symbol) = variable.symbol_id.get() else {
                return;
            };
            let nodes = self.semantic.nodes();
            for reference in self.semantic.scoping().get_resolved_references(symbol) {
                let node = reference.node_id();
                let short = match nodes.parent_kind(node) {
                    AstKind::ObjectProperty(property) => property.shorthand,
                    AstKind::AssignmentTargetPropertyIdentifier(_) => true,
                    _ => false,
                };
                let new = if short {
                    format!("{}: {member}", variable.name)
                } else {
                    member.clone()
                };
                edits.push((nodes.kind(node).span(), new));
            }
        }
        self.edits.append(&mut edits);
    }
}

#[cfg(test)]
mod tests {
    use super::assigned;

    #[test]
    fn exported_variables_become_members() {
        let text = "namespace N {\n  export let a: number = 1, b: string;\n  let own = a;\n\
                    \x20 export function f(a: number) { return a; }\n\
                    \x20 export const g = () => ({ a, b: a, c: own });\n  ({ a } = { a: 2 });\n}\nlet a = N.a;";
        assert_eq!(
            assigned(text).unwrap(),
            "namespace N {\n  N.a = 1, N.b = void 0;\n  let own = N.a;\n\
             \x20 export function f(a: number) { return a; }\n\
             \x20 export const g = () => ({ a: N.a, b: N.a, c: own });\n  ({ a: N.a } = { a: 2 });\n}\nlet a = N.a;"
        );
        assert_eq!(assigned("namespace N { export const a = 1 }"), None);
        assert_eq!(
            assigned("declare namespace N { export let a: number }"),
            None
        );
        assert_eq!(assigned("namespace N { export let [a] = [1] }"), None);
        assert_eq!(assigned("namespace {"), None);
    }
}
