//! Scripts and the VUs that run them: the only crate that knows the JavaScript engine.
