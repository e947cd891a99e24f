//! Tagged templates, whose strings the engine does not freeze when it reads bytecode: the `length`
//! of the array can still be assigned. A module of moderate size that hands strings to a tag of its
//! own is therefore compiled from its text in each VU.

use oxc_allocator::Allocator;
use oxc_ast::ast::{Expression, TaggedTemplateExpression};
use oxc_ast_visit::{Visit, walk};
use oxc_span::SourceType;

use super::analysis::{self, guarded};

/// Longer texts, which are bundles, stay bytecode: compiling them takes milliseconds in each VU.
const MOST_BYTES: usize = 64 << 10;

/// Whether a script could see that the strings of its templates are not frozen.
pub(crate) fn are_seen(text: &str) -> bool {
    if text.len() > MOST_BYTES || !text.contains('`') {
        return false;
    }
    let look = || {
        let allocator = Allocator::default();
        let parsed = analysis::parse(&allocator, text, SourceType::mjs())?;
        let mut tags = Tags::default();
        tags.visit_program(&parsed.program);
        Ok(tags.seen)
    };
    guarded(look).unwrap_or(false)
}

#[derive(Default)]
struct Tags {
    seen: bool,
}

impl<'a> Visit<'a> for Tags {
    fn visit_tagged_template_expression(&mut self, template: &TaggedTemplateExpression<'a>) {
        // http.url`…` and String.raw`…` are natives that only read them.
        let native = match &template.tag {
            Expression::StaticMemberExpression(member) => {
                matches!(member.property.name.as_str(), "url" | "raw")
            }
            _ => false,
        };
        self.seen |= !native;
        walk::walk_tagged_template_expression(self, template);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_of_the_script_are_found() {
        for (text, seen) in [
            ("export default () => tag`a`;", true),
            ("export default () => a.b`${http.url`x`}`;", true),
            ("export default () => http.url`a${tag`b`}`;", true),
            (
                "export default () => http.url`a${1}` + String.raw`b`;",
                false,
            ),
            ("export default () => `a${1}`;", false),
            ("export default () => '`' + 1;", false),
            ("export default `", false),
        ] {
            assert_eq!(are_seen(text), seen, "{text}");
        }
        let long = format!("export default () => tag`a`;//{}", " ".repeat(MOST_BYTES));
        assert!(!are_seen(&long));
    }
}
