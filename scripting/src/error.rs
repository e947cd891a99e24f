//! What went wrong in a script, in the words that k6 uses.
//!
//! An uncaught exception becomes text of the form `<String(value)>\n\tat f (url:line:col(0))\n`;
//! failures of native functions are thrown as instances of the global class `GoError`.

use rquickjs::{
    Ctx, Error, Exception, Function, Object, Result as JsResult, Value, function::This,
    object::Property,
};

use crate::engine;

/// Why a script could not be loaded, or why one of its functions did not end well.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScriptError {
    /// A module could not be found, read or parsed. The text names it.
    #[error("{0}")]
    Load(String),
    /// An uncaught exception: its text with the stack.
    #[error("{0}")]
    Exception(String),
    /// A rejected promise that nobody handled: `Uncaught (in promise) …`.
    #[error("{0}")]
    Rejection(String),
    /// The script is not usable for another reason, for example it exports no function.
    #[error("{0}")]
    Invalid(String),
    /// `exec.test.abort()` was called; the host knows the reason.
    #[error("test aborted")]
    Aborted,
    /// It was stopped from outside.
    #[error("interrupted")]
    Interrupted,
}

/// How running a piece of script ended, when not well.
pub(crate) enum Failure<'js> {
    Thrown(Value<'js>),
    Rejected(Value<'js>),
    Stopped,
}

impl Failure<'_> {
    pub(crate) fn into_error(self) -> ScriptError {
        match self {
            Self::Thrown(value) => ScriptError::Exception(describe(&value)),
            Self::Rejected(value) => ScriptError::Rejection(describe_rejection(&value)),
            Self::Stopped => ScriptError::Interrupted,
        }
    }
}

/// The pending exception of an engine error, as a value.
pub(crate) fn thrown<'js>(ctx: &Ctx<'js>, error: Error) -> Value<'js> {
    if error.is_exception() {
        return ctx.catch();
    }
    let text = error.to_string();
    match Exception::from_message(ctx.clone(), &text) {
        Ok(exception) => exception.into_object().into_value(),
        Err(_) => Value::new_undefined(ctx.clone()),
    }
}

/// `String(value)` without ever failing.
pub(crate) fn to_text(value: &Value<'_>) -> String {
    if let Some(text) = value.as_string() {
        return engine::rust_string(text);
    }
    let ctx = value.ctx();
    let convert: JsResult<Function<'_>> = ctx.globals().get("String");
    match convert.and_then(|f| f.call::<_, rquickjs::String<'_>>((value.clone(),))) {
        Ok(text) => engine::rust_string(&text),
        Err(error) => {
            if error.is_exception() {
                let _ = ctx.catch();
            }
            "[object Object]".to_owned()
        }
    }
}

/// The text of an uncaught exception, with its stack.
pub(crate) fn describe(value: &Value<'_>) -> String {
    let mut text = to_text(value);
    text.push('\n');
    if let Some(stack) = stack_of(value) {
        push_frames(&mut text, &stack);
    }
    text
}

/// The text of a rejection nobody handled.
pub(crate) fn describe_rejection(value: &Value<'_>) -> String {
    match stack_of(value) {
        Some(stack) => {
            let mut text = format!("Uncaught (in promise) {}\n", to_text(value));
            push_frames(&mut text, &stack);
            text
        }
        None => format!("Uncaught (in promise) {}", to_text(value)),
    }
}

fn stack_of(value: &Value<'_>) -> Option<String> {
    let object = value.as_object().filter(|_| value.is_error())?;
    let stack: Value<'_> = object.get("stack").ok()?;
    stack.as_string().map(engine::rust_string)
}

/// Turns the engine's frames (`    at f (file:1:2)`) into k6's.
fn push_frames(text: &mut String, stack: &str) {
    for line in stack.lines() {
        let Some(frame) = line.trim_start().strip_prefix("at ") else {
            continue;
        };
        let (function, place) = match frame.split_once(" (") {
            Some((function, place)) => (function, place.trim_end_matches(')')),
            None => ("", frame),
        };
        text.push_str("\tat ");
        if place == "native" || place.is_empty() {
            text.push_str(function);
            text.push_str(" (native)\n");
        } else if function.is_empty() || function == "<anonymous>" || function == "<eval>" {
            text.push_str(place);
            text.push_str("(0)\n");
        } else {
            text.push_str(function);
            text.push_str(" (");
            text.push_str(place);
            text.push_str("(0))\n");
        }
    }
}

/// The innermost frame of the script: `f (url:line:col(0))`, for the text of an abort.
pub(crate) fn position(ctx: &Ctx<'_>) -> Option<String> {
    let exception = Exception::from_message(ctx.clone(), "").ok()?;
    // The stack is recorded when the object is made by the engine's own constructor.
    let stack = exception.stack().or_else(|| {
        let class: Function<'_> = ctx.globals().get("Error").ok()?;
        let object: Object<'_> = class.call(()).ok()?;
        object.get("stack").ok()
    })?;
    let mut text = String::new();
    push_frames(&mut text, &stack);
    let frame = text.lines().find(|line| !line.ends_with("(native)"))?;
    frame.strip_prefix("\tat ").map(str::to_owned)
}

/// Throws a `GoError` with that text.
pub(crate) fn throw(ctx: &Ctx<'_>, text: &str) -> Error {
    let made: JsResult<Value<'_>> = ctx
        .globals()
        .get::<_, rquickjs::function::Constructor<'_>>("GoError")
        .and_then(|class| class.construct((text,)));
    match made {
        Ok(value) => ctx.throw(value),
        Err(_) => Exception::throw_message(ctx, text),
    }
}

/// What the promise of a native is rejected with: an error that shows as `<name>: <text>`, or as
/// the bare text if the name is empty. It has no stack, as none was running.
pub(crate) fn rejection<'js>(ctx: &Ctx<'js>, name: &str, text: &str) -> JsResult<Value<'js>> {
    let error = Exception::from_message(ctx.clone(), text)?.into_object();
    error.prop("name", Property::from(name).configurable().writable())?;
    let stack = Value::new_undefined(ctx.clone());
    error.prop("stack", Property::from(stack).configurable().writable())?;
    Ok(error.into_value())
}

/// Defines the class of native failures.
pub(crate) fn define_go_error(ctx: &Ctx<'_>) -> JsResult<()> {
    ctx.eval::<(), _>(
        "globalThis.GoError=class GoError extends Error{};\
         Object.defineProperty(GoError.prototype,'name',{value:'GoError',writable:true,configurable:true});",
    )
}

/// Calls `String.prototype` style methods on a value: `value[name]()`.
pub(crate) fn call_method<'js>(object: &Object<'js>, name: &str) -> JsResult<Value<'js>> {
    let method: Function<'js> = object.get(name)?;
    method.call((This(object.clone()),))
}

#[cfg(test)]
mod tests {
    use super::push_frames;

    #[test]
    fn frames_take_k6s_form() {
        let mut text = String::new();
        push_frames(
            &mut text,
            "    at fail (native)\n    at default (file:///s.js:3:5)\n    at <anonymous> (file:///s.js:9:1)\n",
        );
        assert_eq!(
            text,
            "\tat fail (native)\n\tat default (file:///s.js:3:5(0))\n\tat file:///s.js:9:1(0)\n"
        );
    }
}
