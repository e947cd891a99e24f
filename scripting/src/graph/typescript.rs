//! TypeScript: types are taken away, enums, namespaces and parameter properties become JavaScript.
//!
//! Nothing is checked and nothing made older: what the engine understands stays as it is.

use std::path::Path;

use oxc_allocator::{Allocator, TakeIn};
use oxc_ast::ast::{Expression, TSEnumMember};
use oxc_ast_visit::VisitMut;
use oxc_codegen::{Codegen, CodegenOptions};
use oxc_semantic::SemanticBuilder;
use oxc_span::SourceType;
use oxc_transformer::{TransformOptions, Transformer};

use super::{
    analysis::{SyntaxProblem, guarded, parse, problem},
    namespaces,
    positions::Positions,
};

/// Makes JavaScript of a TypeScript text, with the places that its parts come from.
///
/// # Errors
/// When it cannot be parsed, or says something that has no form in JavaScript.
pub(crate) fn strip(text: &str) -> Result<(String, Positions), SyntaxProblem> {
    guarded(|| strip_once(text)).or_else(|problem| match problem.message.as_str() {
        UNSUPPORTED => guarded(|| match namespaces::assigned(text) {
            Some(text) => strip_once(&text),
            None => Err(problem.clone()),
        }),
        _ => Err(problem),
    })
}

/// What is said about exported variables of a namespace that have no simple form.
const UNSUPPORTED: &str = "a namespace that exports destructured variables is not supported: \
    export each of them by its name";

fn strip_once(text: &str) -> Result<(String, Positions), SyntaxProblem> {
    let allocator = Allocator::default();
    let mut program = parse(&allocator, text, SourceType::ts())?.program;
    BareMembers(&allocator).visit_program(&mut program);
    // Enums and namespaces add names; room for them saves a second allocation.
    let scoping = SemanticBuilder::new()
        .with_excess_capacity(2.0)
        .build(&program)
        .semantic
        .into_scoping();
    let path = Path::new("script.ts");
    let options = TransformOptions::default();
    let transformed =
        Transformer::new(&allocator, path, &options).build_with_scoping(scoping, &mut program);
    if let Some(error) = transformed.errors.first() {
        let mut problem = problem(text, error, transformed.errors.len());
        if problem
            .message
            .starts_with("Namespaces exporting non-const")
        {
            problem.message = UNSUPPORTED.to_owned();
        }
        return Err(problem);
    }
    let written = Codegen::new()
        .with_options(CodegenOptions {
            source_map_path: Some(path.to_owned()),
            // Nobody reads it, and it would be quadratic in how deep blocks nest.
            indent_width: 0,
            ..CodegenOptions::default()
        })
        .build(&program);
    let places = written.map.iter().flat_map(|map| {
        map.get_tokens().map(|token| {
            (
                (token.get_dst_line(), token.get_dst_col()),
                (token.get_src_line(), token.get_src_col()),
            )
        })
    });
    let positions = Positions::new(places);
    Ok((written.code, positions))
}

/// Takes assertions off the values of enum members: `A = 'a' as any` is a text, which has no reverse
/// mapping, while the transformer sees an expression that may be a number.
struct BareMembers<'a>(&'a Allocator);

impl<'a> VisitMut<'a> for BareMembers<'a> {
    fn visit_ts_enum_member(&mut self, member: &mut TSEnumMember<'a>) {
        let Some(value) = &mut member.initializer else {
            return;
        };
        loop {
            let inner = match value {
                Expression::TSAsExpression(it) => &mut it.expression,
                Expression::TSSatisfiesExpression(it) => &mut it.expression,
                Expression::TSTypeAssertion(it) => &mut it.expression,
                Expression::TSNonNullExpression(it) => &mut it.expression,
                Expression::ParenthesizedExpression(it) => &mut it.expression,
                _ => return,
            };
            *value = inner.take_in(self.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::strip;

    #[test]
    fn types_go_and_code_stays() {
        let js = |text| strip(text).unwrap().0;
        assert_eq!(js("const a: number = 1;"), "const a = 1;\n");
        assert_eq!(
            js(
                "import type { T } from './t'; import { U, v } from './u'; export const w = v as U;"
            ),
            "import { v } from \"./u\";\nexport const w = v;\n"
        );
        let js = js("enum E { A, B = A + 2 } namespace N { export const x = E.B } N.x;");
        assert!(js.contains("E[E[\"B\"] = ") && js.contains("N.x"), "{js}");
    }

    #[test]
    fn texts_in_enums_have_no_reverse_mapping() {
        let (js, _) = strip("enum E { A = 'a', B = ('b' as any), C = <any>'c'! }").unwrap();
        assert!(!js.contains("E[E"), "{js}");
    }

    #[test]
    fn namespaces_may_export_variables() {
        let (js, positions) =
            strip("namespace N {\n  export let n: number = 1;\n  n++;\n}").unwrap();
        assert!(js.contains("N.n = 1") && js.contains("N.n++"), "{js}");
        let line = js.lines().position(|line| line.contains("N.n++")).unwrap();
        assert_eq!(positions.original(line + 1, 2).unwrap().1, 3);
    }

    #[test]
    fn errors_are_placed_in_the_text_as_written() {
        let error = strip("interface A { x: number }\nconst a: A = ;").unwrap_err();
        assert_eq!(error.place, (2, 14));
        assert!(error.message.starts_with("Unexpected token"), "{error:?}");
        let error = strip("const a: A = 1;\nnamespace N { export let [b] = [1] }").unwrap_err();
        assert_eq!(error.place.0, 2);
        assert!(error.message.starts_with("a namespace that"), "{error:?}");
        // The transformer panics on this one.
        let error = strip("namespace N { export class { static a: number = 1 } }").unwrap_err();
        assert!(error.message.ends_with("cannot place"), "{error:?}");
    }

    #[test]
    fn places_lead_back_to_the_text_as_written() {
        let text =
            "interface A {\n  x: number\n}\nfunction f(a: A): void {\n    throw new Error('x');\n}";
        let (js, positions) = strip(text).unwrap();
        let (line, rest) = js
            .lines()
            .enumerate()
            .find_map(|(line, text)| Some((line, text.find("Error")?)))
            .unwrap();
        assert_eq!(positions.original(line + 1, rest + 1), Some((None, 5, 15)));
        let (js, positions) =
            strip("let a: number;\n  {\n      f(); g<string>(a as any); }").unwrap();
        assert_eq!(js, "let a;\n{\nf();\ng(a);\n}\n");
        assert_eq!(positions.original(3, 1), Some((None, 3, 7)));
        assert_eq!(positions.original(4, 1), Some((None, 3, 12)));
        assert_eq!(positions.original(4, 3), Some((None, 3, 22)));
    }
}
