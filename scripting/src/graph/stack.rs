//! `error.stack` as k6 has it, with the places of the text as it was written.
//!
//! The engine lets a function of ours make that text. It costs something for each error, so it is
//! there only where a script reads stacks, or has code that was generated.

use std::rc::Rc;

use rquickjs::{Ctx, Function, Object, Result as JsResult, Value, function::This};

use crate::{engine, error, state::VuState};

/// Puts the function there; a second time does no harm.
pub(crate) fn install<'js>(ctx: &Ctx<'js>, state: &Rc<VuState>) -> JsResult<()> {
    let state = state.clone();
    let prepare = Function::new(
        ctx.clone(),
        move |thrown: Value<'js>, sites: Vec<Object<'js>>| -> JsResult<String> {
            let mut frames = String::new();
            for site in sites {
                push_frame(&mut frames, &state, &site)?;
            }
            let mut text = headline(&thrown);
            text.push('\n');
            error::push_frames(&mut text, &frames);
            Ok(text)
        },
    )?;
    let class: Object<'js> = ctx.globals().get("Error")?;
    class.set("prepareStackTrace", prepare.with_name("prepareStackTrace")?)
}

/// `Name: message`, without running anything of the script's own.
fn headline(thrown: &Value<'_>) -> String {
    let member = |name| {
        let value: Option<Value<'_>> = thrown.as_object()?.get(name).ok();
        value?.as_string().map(engine::rust_string)
    };
    let name = member("name").unwrap_or_else(|| "Error".to_owned());
    match member("message").filter(|message| !message.is_empty()) {
        Some(message) if name.is_empty() => message,
        Some(message) => format!("{name}: {message}"),
        None => name,
    }
}

/// Adds a frame in the engine's own form.
fn push_frame(text: &mut String, state: &VuState, site: &Object<'_>) -> JsResult<()> {
    let function = field(site, "getFunctionName")?;
    let file = field(site, "getFileName")?;
    let number = |name| -> JsResult<Option<usize>> {
        let value = field(site, name)?;
        Ok(value.as_number().filter(|n| *n >= 1.0).map(|n| n as usize))
    };
    let function = match function.as_string() {
        Some(name) => error::to_text(name.as_value()),
        None => String::new(),
    };
    let function = match function.as_str() {
        "" => "<anonymous>",
        name => name,
    };
    text.push_str("    at ");
    text.push_str(function);
    match (
        file.as_string(),
        number("getLineNumber")?,
        number("getColumnNumber")?,
    ) {
        (Some(file), Some(line), Some(column)) => {
            let file = error::to_text(file.as_value());
            let positions = state.script.graph(|graph| graph.positions(&file));
            let (source, line, column) = positions
                .as_ref()
                .and_then(|positions| positions.original(line, column))
                .unwrap_or((None, line, column));
            let file = source.unwrap_or(&file);
            text.push_str(&format!(" ({file}:{line}:{column})\n"));
        }
        _ => text.push_str(" (native)\n"),
    }
    Ok(())
}

fn field<'js>(site: &Object<'js>, name: &str) -> JsResult<Value<'js>> {
    let read: Function<'js> = site.get(name)?;
    read.call((This(site.clone()),))
}
