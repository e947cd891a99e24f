//! The `volley` program: parse, run, and turn an error into an exit code.

fn main() {}
