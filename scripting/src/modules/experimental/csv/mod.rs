//! `k6/experimental/csv`: whole files as shared arrays, or record by record.

mod reader;

use std::{cell::RefCell, fmt::Write as _, rc::Rc, sync::Arc};

use rquickjs::{
    Coerced, Ctx, Function, Object, Result as JsResult, Value,
    function::Opt,
    module::{Declarations, Exports, ModuleDef},
};

use self::reader::{Reader, Record};
use super::fs::File;
use crate::{
    engine, error,
    host_object::{self, HostObject, Method},
    modules::{
        data::{self, Shared},
        export_all,
    },
    promise::{Rejection, settled},
    state::VuState,
    vu::state_of,
};

/// How many records are read before a neighbour may run.
const SLICE: usize = 1024;

/// The module `k6/experimental/csv`.
pub(crate) struct Csv;

impl ModuleDef for Csv {
    fn declare(decl: &Declarations<'_>) -> JsResult<()> {
        for name in ["parse", "Parser", "default"] {
            decl.declare(name)?;
        }
        Ok(())
    }

    fn evaluate<'js>(ctx: &Ctx<'js>, exports: &Exports<'js>) -> JsResult<()> {
        let module = Object::new(ctx.clone())?;
        let state = state_of(ctx);
        let vu = state.clone();
        let parse = Function::new(
            ctx.clone(),
            move |ctx: Ctx<'js>, file: Opt<Value<'js>>, options: Opt<Value<'js>>| {
                vu.guard(&ctx)?;
                let parsed = match arguments("parse()", file.0, options.0) {
                    Ok((file, options)) => parse(&ctx, &vu, &file, &options)?,
                    Err(text) => Err(text),
                };
                match parsed {
                    Ok(shared) => settled(&ctx, Ok(data::proxy(&ctx, shared)?)),
                    Err(text) => settled(&ctx, Err(Rejection::bare(text))),
                }
            },
        )?;
        module.set("parse", parse.with_name("parse")?)?;
        let parser = Function::new(
            ctx.clone(),
            move |ctx: Ctx<'js>, file: Opt<Value<'js>>, options: Opt<Value<'js>>| {
                state.guard(&ctx)?;
                if !state.in_init() {
                    return Err(error::throw(
                        &ctx,
                        "csv Parser constructor must be called in the init context",
                    ));
                }
                let made = arguments("csv Parser constructor", file.0, options.0);
                let (file, options) = made.map_err(|text| error::throw(&ctx, &text))?;
                let records = Records::new(file.content().clone(), options);
                let parser = Rc::new(Parser(RefCell::new(records)));
                host_object::wrap(&ctx, parser)
            },
        )?;
        let parser = parser.with_constructor(true).with_name("Parser")?;
        module.set("Parser", parser)?;
        export_all(exports, &module, &["parse", "Parser"])
    }
}

/// Which records are wanted, and as what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) delimiter: u8,
    pub(crate) as_objects: bool,
    pub(crate) skip_first: bool,
    pub(crate) from: usize,
    pub(crate) to: Option<usize>,
}

fn arguments(
    what: &str,
    file: Option<Value<'_>>,
    options: Option<Value<'_>>,
) -> Result<(Rc<File>, Options), String> {
    let failed = |reason: &str| format!("{what} failed; reason: {reason}");
    let Some(file) = file.filter(|file| !file.is_undefined() && !file.is_null()) else {
        return Err(failed("the file argument cannot be null or undefined"));
    };
    let file = host_object::behind::<File>(&file)
        .ok_or_else(|| failed("the file argument must be a fs.File instance"))?;
    let options = Options::read(options.as_ref()).map_err(|reason| failed(&reason))?;
    Ok((file, options))
}

impl Options {
    fn read(given: Option<&Value<'_>>) -> Result<Self, String> {
        let object = given.and_then(|given| given.as_object());
        let member = |name: &str| -> Option<Value<'_>> {
            let value: Value<'_> = object?.get(name).ok()?;
            (!value.is_undefined() && !value.is_null()).then_some(value)
        };
        let flag = |name: &str| {
            let value = member(name);
            value.is_some_and(|value| value.get().is_ok_and(|flag: Coerced<bool>| flag.0))
        };
        let line = |name: &str| match member(name) {
            None => Ok(None),
            Some(value) => match value.as_number() {
                // Cut towards zero, like every whole number of a native.
                Some(number) if number > -1.0 => Ok(Some(number as usize)),
                _ => Err(format!("{name} must be a non-negative number")),
            },
        };
        let delimiter = match member("delimiter") {
            None => b',',
            Some(value) => match value.as_string().map(engine::rust_string) {
                Some(text) => match text.as_bytes() {
                    [b'"' | b'\r' | b'\n'] => {
                        return Err("invalid field or comment delimiter".to_owned());
                    }
                    [one] => *one,
                    _ => return Err("delimiter must be a single byte".to_owned()),
                },
                None => return Err("delimiter must be a string".to_owned()),
            },
        };
        let (from, to) = (line("fromLine")?, line("toLine")?);
        let options = Self {
            delimiter,
            as_objects: flag("asObjects"),
            skip_first: flag("skipFirstLine"),
            from: from.unwrap_or_default(),
            to,
        };
        let header = "the 'header' option cannot be enabled when";
        if options.as_objects && options.skip_first {
            return Err(format!("{header} 'skipFirstLine' is true"));
        }
        if options.as_objects && options.from > 0 {
            return Err(format!(
                "{header} 'fromLine' is set to a value greater than 0"
            ));
        }
        // Equal numbers are refused as well, as in the reference.
        if from.is_some() && to.is_some_and(|to| options.from >= to) {
            return Err("fromLine must be less than or equal to toLine".to_owned());
        }
        Ok(options)
    }
}

/// The wanted records of a file, one after the other.
pub(crate) struct Records {
    reader: Reader,
    options: Options,
    /// The number of the next record.
    next: usize,
    /// The names of the members, where records become objects.
    header: Option<Record>,
}

impl Records {
    pub(crate) fn new(content: Arc<[u8]>, options: Options) -> Self {
        Self {
            reader: Reader::new(content, options.delimiter),
            options,
            next: 0,
            header: None,
        }
    }

    /// The next wanted record.
    ///
    /// # Errors
    /// The text with which the promise of a script is rejected.
    pub(crate) fn next(&mut self) -> Result<Option<Record>, String> {
        loop {
            let number = self.next;
            if self.options.to.is_some_and(|to| number > to) {
                return Ok(None);
            }
            let record = self.reader.next().map_err(|error| error.to_string())?;
            let Some(record) = record else {
                return Ok(None);
            };
            self.next += 1;
            if number == 0 && self.options.as_objects {
                self.header = Some(record);
            } else if number >= self.options.from && !(number == 0 && self.options.skip_first) {
                return Ok(Some(record));
            }
        }
    }

    /// A record as JSON.
    pub(crate) fn json(&self, record: &Record) -> Box<str> {
        let mut out = String::new();
        let quoted = |text: &String| serde_json::Value::from(text.as_str());
        // Writing into a String does not fail.
        let _ = match &self.header {
            Some(header) => {
                out.push('{');
                for (index, (name, field)) in header.iter().zip(record).enumerate() {
                    let comma = if index == 0 { "" } else { "," };
                    let _ = write!(out, "{comma}{}:{}", quoted(name), quoted(field));
                }
                write!(out, "}}")
            }
            None => {
                out.push('[');
                for (index, field) in record.iter().enumerate() {
                    let comma = if index == 0 { "" } else { "," };
                    let _ = write!(out, "{comma}{}", quoted(field));
                }
                write!(out, "]")
            }
        };
        out.into_boxed_str()
    }
}

/// All wanted records of a file, from memory if some VU has read the same before.
///
/// The outer error is that of a VU that has been told to stop.
fn parse(
    ctx: &Ctx<'_>,
    state: &VuState,
    file: &File,
    options: &Options,
) -> JsResult<Result<Arc<Shared>, String>> {
    // No array of a script's own has such a name.
    let key = format!("\0csv\0{options:?}\0{}", file.path());
    if let Some(known) = state.script.shared_array(&key) {
        return Ok(Ok(known));
    }
    let mut records = Records::new(file.content().clone(), options.clone());
    let mut all = Shared::new();
    loop {
        match records.next() {
            Ok(Some(record)) => all.push(Some(records.json(&record))),
            Ok(None) => break,
            Err(text) => return Ok(Err(text)),
        }
        if all.len().is_multiple_of(SLICE) && state.fiber.interrupt() {
            return Err(engine::throw_uncatchable(ctx));
        }
    }
    Ok(Ok(state.script.keep_shared_array(key, all)))
}

/// A file that is read record by record.
struct Parser(RefCell<Records>);

impl Parser {
    fn next<'js>(&self, ctx: &Ctx<'js>) -> JsResult<Value<'js>> {
        let (record, header) = {
            let mut records = self.0.borrow_mut();
            let record = records.next();
            (record, records.header.clone())
        };
        let record = match record {
            Ok(record) => record,
            Err(text) => return settled(ctx, Err(Rejection::bare(text))),
        };
        let answer = Object::new(ctx.clone())?;
        answer.set("done", record.is_none())?;
        match (record, header) {
            (Some(record), Some(header)) => {
                let value = Object::new(ctx.clone())?;
                for (name, field) in header.into_iter().zip(record) {
                    value.set(name, field)?;
                }
                answer.set("value", value)?;
            }
            (record, _) => answer.set("value", record.unwrap_or_default())?,
        }
        settled(ctx, Ok(answer.into_value()))
    }
}

const METHODS: [(&str, Method<Parser>); 2] = [
    ("next", |ctx, this, _| this.next(ctx)),
    // Beyond the reference, whose engine has no `for await`.
    (host_object::ASYNC_ITERATOR, |ctx, this, _| {
        host_object::wrap(ctx, this.clone())
    }),
];

impl HostObject for Parser {
    const NAME: &'static str = "Parser";

    fn member<'js>(self: &Rc<Self>, ctx: &Ctx<'js>, name: &str) -> JsResult<Option<Value<'js>>> {
        match METHODS.iter().find(|(known, _)| *known == name) {
            Some((name, method)) => host_object::bound(ctx, self, name, *method).map(Some),
            None => Ok(None),
        }
    }

    fn names(&self) -> Vec<&'static str> {
        vec!["next"]
    }
}

#[cfg(test)]
mod tests;
