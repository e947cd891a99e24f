//! TypeScript: the input is a script. Bytes that are not ASCII stand for words of the language, so
//! that random changes give texts which mean something.

#![no_main]

use libfuzzer_sys::fuzz_target;
use volley_fuzz::limited;
use volley_scripting::fuzzing::strip;

/// What the bytes from 128 on stand for.
const WORDS: [&str; 128] = [
    "abstract ",
    "accessor ",
    "any",
    "as ",
    "as const",
    "asserts ",
    "async ",
    "await ",
    "bigint",
    "boolean",
    "break;",
    "case 1:",
    "catch (e) ",
    "class A ",
    "const ",
    "constructor(",
    "continue;",
    "debugger;",
    "declare ",
    "default ",
    "delete ",
    "do ",
    "else ",
    "enum E ",
    "export ",
    "export default ",
    "extends B ",
    "false",
    "finally ",
    "for (",
    "from './m'",
    "function f",
    "get ",
    "global ",
    "if (",
    "implements I ",
    "import ",
    "import type ",
    "in ",
    "infer U",
    "instanceof ",
    "interface I ",
    "is ",
    "keyof ",
    "let ",
    "module M ",
    "namespace N ",
    "never",
    "new ",
    "null",
    "number",
    "object",
    "of ",
    "out ",
    "override ",
    "private ",
    "protected ",
    "public ",
    "readonly ",
    "require('m')",
    "return ",
    "satisfies ",
    "set ",
    "static ",
    "string",
    "super(",
    "switch (a) ",
    "symbol",
    "this",
    "throw ",
    "true",
    "try ",
    "type T = ",
    "typeof ",
    "undefined",
    "unique symbol",
    "unknown",
    "using ",
    "var ",
    "void ",
    "while (",
    "with (",
    "yield ",
    "=>",
    "...",
    "?.",
    "??",
    "!",
    "?:",
    "&&=",
    "**",
    "<T,>",
    "<T extends U>",
    "a",
    "b: ",
    "x",
    "1",
    "1n",
    "0x1f",
    "'s'",
    "`t${",
    "}`",
    "/r/u",
    "@dec ",
    "#p",
    "é",
    "😀",
    "\u{2028}",
    "//c\n",
    "/*c*/",
    "<!--",
    "-->",
    "#!/x\n",
    "();",
    "{};",
    "[];",
    "= 1;",
    ": number",
    "<string>",
    "(a as any)",
    "export =",
    "import x = N.y;",
    "[K in keyof T]",
    "abstract new () => ",
    "{ a, b: c }",
    "[k: string]: any",
    "this: T",
    "?",
];

fuzz_target!(
    init: {
        // The parser's panics are part of its answers (`guarded`), so they must not end the process.
        // One that gets through does: libFuzzer's wrapper catches it and aborts.
        std::panic::set_hook(Box::new(|_| ()));
    },
    |input: &[u8]| limited(256 << 20, || std::thread::scope(|scope| {
        // On as much stack as a VU has.
        let stack = std::thread::Builder::new().stack_size(64 << 20);
        let read = stack.spawn_scoped(scope, || read(input)).expect("a thread");
        read.join().expect("no panic");
    }))
);

fn read(input: &[u8]) {
    let text: String = input
        .iter()
        .map(|byte| match byte.checked_sub(128) {
            Some(word) => WORDS[usize::from(word)].to_owned(),
            None => char::from(*byte).to_string(),
        })
        .collect();
    if let Err((message, (line, column))) = strip(&text) {
        assert!(!message.is_empty());
        assert!(line >= 1 && line <= text.matches('\n').count() + 1);
        assert!(column >= 1);
    }
}
