//! Promises whose outcome is known at once: of natives that are asynchronous in the reference and
//! have nothing to wait for here.

use rquickjs::{Ctx, Result as JsResult, Value};

use crate::error;

/// What such a promise is rejected with: an error with a name of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rejection {
    /// `TypeError` and the like.
    pub(crate) name: &'static str,
    /// The message.
    pub(crate) text: String,
}

impl Rejection {
    pub(crate) fn new(name: &'static str, text: impl Into<String>) -> Self {
        let text = text.into();
        Self { name, text }
    }

    /// One whose text is the message alone.
    pub(crate) fn bare(text: impl Into<String>) -> Self {
        Self::new("", text)
    }

    /// Wrong use of a native.
    pub(crate) fn type_error(text: impl Into<String>) -> Self {
        Self::new("TypeError", text)
    }
}

/// A promise that is settled already.
pub(crate) fn settled<'js>(
    ctx: &Ctx<'js>,
    outcome: Result<Value<'js>, Rejection>,
) -> JsResult<Value<'js>> {
    let (promise, resolve, reject) = ctx.promise()?;
    match outcome {
        Ok(value) => resolve.call::<_, ()>((value,))?,
        Err(Rejection { name, text }) => {
            reject.call::<_, ()>((error::rejection(ctx, name, &text)?,))?;
        }
    }
    Ok(promise.into_value())
}
