//! One VU: a JavaScript heap on a coroutine, and the commands its worker gives it.
//!
//! The worker polls; the VU runs on its own stack until it waits for something. Between commands
//! it is idle on its stack, with everything it has learnt kept in local variables there.

use std::{cell::RefCell, future::poll_fn, rc::Rc, sync::Arc, time::Instant};

use rquickjs::{
    Atom, Context, Ctx, Filter, Function, Module, Object, Value, context::intrinsic,
    function::This, promise::PromiseState,
};
use volley_metrics::builtin;

use crate::{
    engine::{self, Strand},
    error::{self, Failure, ScriptError},
    event_loop, globals,
    host::{Host, Level, Scenario},
    json,
    loader::{LoadProblems, VuLoader},
    modules::random,
    script::{Exports, Script},
    state::{Counters, Phase, VuSettings, VuState, WorkerContext},
};

/// What a VU does while it serves a scenario.
pub struct Activation {
    /// The scenario, as scripts see it.
    pub scenario: Arc<dyn Scenario>,
    /// The exported function to run.
    pub exec: String,
    /// Laid over `__ENV`.
    pub env: Vec<(String, String)>,
    /// Laid over the run's tags.
    pub tags: Vec<(String, String)>,
    /// What `setup()` returned, as JSON.
    pub setup_data: Option<Arc<str>>,
}

/// A function outside of scenarios.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifecycle {
    /// `setup()`
    Setup,
    /// `teardown(data)`
    Teardown,
}

/// One value of what `handleSummary` returned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SummaryEntry {
    /// `stdout`, `stderr` or a file name.
    pub destination: String,
    /// What to write there.
    pub content: Vec<u8>,
}

/// What `handleSummary` returned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SummaryResult {
    /// Nothing: the built-in summary is wanted.
    Default,
    /// These texts.
    Entries(Vec<SummaryEntry>),
    /// Something that cannot be used; the text says why.
    Unusable(String),
}

/// How an iteration ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IterationEnd {
    /// It returned or threw: it counts as complete.
    Complete,
    /// It was stopped.
    Interrupted,
}

enum Command {
    Activate(Arc<Activation>),
    Iterate {
        instance: u64,
        test: u64,
    },
    Call {
        what: Lifecycle,
        data: Option<Arc<str>>,
    },
    Summarise {
        data: Arc<str>,
        setup_data: bool,
    },
    Exit,
}

enum Reply {
    Ready(Result<Exports, ScriptError>),
    Activated,
    Iterated(IterationEnd),
    Called(Result<Option<serde_json::Value>, ScriptError>),
    Summarised(Result<SummaryResult, ScriptError>),
}

#[derive(Default)]
struct Mailbox {
    command: RefCell<Option<Command>>,
    reply: RefCell<Option<Reply>>,
}

/// A VU, owned by the worker thread on which it was made.
pub struct Vu {
    strand: Strand,
    state: Rc<VuState>,
    mailbox: Rc<Mailbox>,
    trimmed: Instant,
}

/// Stops a VU from elsewhere on its worker thread.
#[derive(Clone)]
pub struct Stopper(Rc<VuState>);

impl Stopper {
    /// Ends what the VU is doing, at its next safe point; no script code can prevent it.
    pub fn stop(&self) {
        self.0.fiber.stop();
    }

    /// Whether both stop the same VU.
    pub fn same(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.0, &other.0)
    }
}

impl Vu {
    /// Makes a VU and runs the script's top level in it.
    ///
    /// # Errors
    /// When the top level throws, or memory is short.
    pub async fn create(
        script: Arc<Script>,
        worker: Rc<WorkerContext>,
        host: Arc<dyn Host>,
        settings: Arc<VuSettings>,
        id: u64,
        id_in_test: u64,
    ) -> Result<Self, ScriptError> {
        let state = VuState::new(worker, host, script, settings, id, id_in_test, false);
        Self::start(state).await.map(|(vu, _)| vu)
    }

    /// The VU of the first init.
    pub(crate) async fn first(
        script: Arc<Script>,
        worker: Rc<WorkerContext>,
        host: Arc<dyn Host>,
        settings: Arc<VuSettings>,
    ) -> Result<(Self, Exports), ScriptError> {
        let state = VuState::new(worker, host, script, settings, 0, 0, true);
        Self::start(state).await
    }

    async fn start(state: Rc<VuState>) -> Result<(Self, Exports), ScriptError> {
        let mailbox = Rc::new(Mailbox::default());
        let strand = {
            let (state, mailbox) = (state.clone(), mailbox.clone());
            Strand::new(state.fiber.clone(), move || body(&state, &mailbox))
        };
        let strand = strand.map_err(|e| {
            ScriptError::Invalid(format!(
                "no address space left for the stack of VU #{}: {e}; raise `ulimit -v`, or run fewer VUs",
                state.id
            ))
        })?;
        let mut vu = Self {
            strand,
            state,
            mailbox,
            trimmed: Instant::now(),
        };
        vu.drive().await;
        match vu.take_reply() {
            Some(Reply::Ready(Ok(exports))) => Ok((vu, exports)),
            Some(Reply::Ready(Err(error))) => {
                vu.finish().await;
                Err(error)
            }
            _ => Err(ScriptError::Invalid("the VU ended unexpectedly".to_owned())),
        }
    }

    /// The id of the VU in this process; 0 outside of scenarios.
    pub fn id(&self) -> u64 {
        self.state.id
    }

    /// A handle that stops this VU.
    pub fn stopper(&self) -> Stopper {
        Stopper(self.state.clone())
    }

    /// Prepares the VU for a scenario: tags, environment, counters. Clears an earlier stop.
    pub async fn activate(&mut self, activation: Arc<Activation>) {
        self.state.fiber.clear_stop();
        self.command(Command::Activate(activation)).await;
    }

    /// Runs one iteration. `instance` and `test` number it within the scenario.
    pub async fn iterate(&mut self, instance: u64, test: u64) -> IterationEnd {
        match self.command(Command::Iterate { instance, test }).await {
            Some(Reply::Iterated(end)) => end,
            _ => IterationEnd::Interrupted,
        }
    }

    /// Runs `setup` or `teardown`; the result is what it returned.
    ///
    /// # Errors
    /// When it throws, rejects, is stopped, or returns what JSON cannot hold.
    pub async fn call(
        &mut self,
        what: Lifecycle,
        data: Option<Arc<str>>,
    ) -> Result<Option<serde_json::Value>, ScriptError> {
        match self.command(Command::Call { what, data }).await {
            Some(Reply::Called(result)) => result,
            _ => Err(ScriptError::Interrupted),
        }
    }

    /// Runs `handleSummary(data)`, if the script exports it. Samples made by it are dropped.
    ///
    /// # Errors
    /// When it throws, rejects or is stopped.
    pub async fn summarise(
        &mut self,
        data: Arc<str>,
        setup_data: bool,
    ) -> Result<SummaryResult, ScriptError> {
        match self.command(Command::Summarise { data, setup_data }).await {
            Some(Reply::Summarised(result)) => result,
            _ => Err(ScriptError::Interrupted),
        }
    }

    /// Ends the VU and frees its heap.
    pub async fn close(mut self) {
        self.finish().await;
    }

    /// Leaves the heap as it is, for the end of the process: freeing thousands takes seconds.
    pub fn leak(self) {
        std::mem::forget(self);
    }

    async fn finish(&mut self) {
        if !self.strand.ended() {
            *self.mailbox.command.borrow_mut() = Some(Command::Exit);
            self.drive().await;
        }
    }

    async fn command(&mut self, command: Command) -> Option<Reply> {
        *self.mailbox.command.borrow_mut() = Some(command);
        self.drive().await;
        // At most once a second: a look costs a system call.
        if self.trimmed.elapsed().as_secs() >= 1 {
            self.trimmed = Instant::now();
            self.strand.trim();
        }
        self.take_reply()
    }

    fn take_reply(&self) -> Option<Reply> {
        self.mailbox.reply.borrow_mut().take()
    }

    async fn drive(&mut self) {
        poll_fn(|task| self.strand.poll(task)).await;
    }
}

/// What runs on the coroutine.
fn body(state: &Rc<VuState>, mailbox: &Rc<Mailbox>) {
    let reply = |reply| *mailbox.reply.borrow_mut() = Some(reply);
    let made = engine::new_runtime().and_then(|runtime| {
        let context = Context::custom::<Intrinsics>(&runtime)?;
        Ok((runtime, context))
    });
    let (runtime, context) = match made {
        Ok(made) => made,
        Err(error) => {
            let text = format!("could not make the heap of VU #{}: {error}", state.id);
            return reply(Reply::Ready(Err(ScriptError::Invalid(text))));
        }
    };
    let problems = Rc::new(RefCell::new(LoadProblems::default()));
    let loader = |state: &Rc<VuState>| VuLoader {
        state: state.clone(),
        problems: problems.clone(),
    };
    runtime.set_loader(loader(state), loader(state));
    {
        let fiber = state.fiber.clone();
        runtime.set_interrupt_handler(Some(Box::new(move || fiber.interrupt())));
        let state = state.clone();
        runtime.set_host_promise_rejection_tracker(Some(Box::new(
            move |ctx, promise, reason, handled| {
                state.events.track_rejection(&ctx, promise, reason, handled);
            },
        )));
    }
    context.with(|ctx| {
        state.fiber.watch(&ctx);
        match initialise(&ctx, state, &problems) {
            Ok((mut instance, exports)) => {
                // A seed chosen at the top level is for the top level.
                state.random.forget();
                reply(Reply::Ready(Ok(exports)));
                // The top level ran deeper than iterations will.
                state.fiber.release_stack();
                loop {
                    state.fiber.idle();
                    let command = mailbox.command.borrow_mut().take();
                    match command {
                        Some(Command::Exit) | None => break,
                        Some(command) => reply(instance.execute(&ctx, state, command)),
                    }
                }
            }
            Err(error) => reply(Reply::Ready(Err(error))),
        }
        state.events.clear();
        *state.response_class.borrow_mut() = None;
        state.fiber.unwatch();
    });
}

/// What the engine gets of ECMAScript at once: what its syntax needs. The rest that the reference
/// has are lazy globals.
type Intrinsics = (
    intrinsic::Eval,
    intrinsic::RegExpCompiler,
    intrinsic::RegExp,
    intrinsic::Json,
    intrinsic::Proxy,
    intrinsic::Promise,
);

/// Runs the modules of the script in a fresh heap.
fn initialise<'js>(
    ctx: &Ctx<'js>,
    state: &Rc<VuState>,
    problems: &Rc<RefCell<LoadProblems>>,
) -> Result<(Instance<'js>, Exports), ScriptError> {
    state.phase.set(Phase::Init);
    let setup = || -> rquickjs::Result<()> {
        ctx.store_userdata(engine::VuHandle(state.clone()))
            .map_err(|_| rquickjs::Error::Unknown)?;
        error::define_go_error(ctx)?;
        globals::install(ctx, state)?;
        if !state.first_init && state.script.seeds_random() {
            random::install(ctx)?;
        }
        Ok(())
    };
    setup().map_err(|e| ScriptError::Exception(error::describe(&error::thrown(ctx, e))))?;
    let mut imported = None;
    let ran = event_loop::run(ctx, state, || {
        let module = Module::import(ctx, state.script.url())?;
        imported = Some(module.clone());
        Ok(module.into_inner().into_value())
    });
    {
        let mut problems = problems.borrow_mut();
        if !problems.unknown.is_empty() {
            problems.unknown.sort();
            problems.unknown.dedup();
            return Err(ScriptError::Load(format!(
                "unknown modules {:?} were tried to be loaded, but couldn't - this likely means \
                 automatic extension resolution is required or a custom k6 binary with the required \
                 extensions",
                problems.unknown
            )));
        }
        if let Some(text) = problems.failure.take() {
            return Err(ScriptError::Load(text));
        }
    }
    if state.aborted.get() {
        return Err(ScriptError::Aborted);
    }
    let Some(promise) = imported else {
        // Without a module there was a failure.
        let failure = ran.err().unwrap_or(Failure::Stopped);
        return Err(failure.into_error());
    };
    match (ran, promise.state()) {
        // The promise of the module itself: an exception at its top level, told below.
        (Ok(_) | Err(Failure::Rejected(_)), PromiseState::Rejected) | (Ok(_), _) => {}
        (Err(failure), _) => return Err(failure.into_error()),
    }
    let namespace: Object<'js> = match promise.state() {
        PromiseState::Pending => {
            return Err(ScriptError::Invalid(
                "initializing the main module hasn't finished, this is a bug in k6 please report it"
                    .to_owned(),
            ));
        }
        _ => promise
            .result()
            .unwrap_or(Err(rquickjs::Error::Unknown))
            .map_err(|e| ScriptError::Exception(error::describe(&error::thrown(ctx, e))))?,
    };
    let (instance, exports) = collect_exports(ctx, state, &namespace)?;
    Ok((instance, exports))
}

/// Finds out what the main module exports.
fn collect_exports<'js>(
    ctx: &Ctx<'js>,
    state: &Rc<VuState>,
    namespace: &Object<'js>,
) -> Result<(Instance<'js>, Exports), ScriptError> {
    let mut exports = Exports::default();
    let mut functions = Vec::new();
    for key in namespace.own_keys::<String>(Filter::new().string()) {
        let Ok(key) = key else { continue };
        let Ok(value) = namespace.get::<_, Value<'js>>(key.as_str()) else {
            let _ = ctx.catch();
            continue;
        };
        if let Some(function) = value.as_function() {
            exports.functions.push(key.clone());
            functions.push((key, function.clone()));
            continue;
        }
        if key == "options" && state.first_init && !value.is_null() {
            exports.options = json::from_js(&value).map_err(|text| {
                ScriptError::Invalid(format!("error parsing script options: json: {text}"))
            })?;
        }
        exports.others.push(key);
    }
    let iter = Atom::from_str(ctx.clone(), "__ITER")
        .map_err(|_| ScriptError::Invalid("out of memory".to_owned()))?;
    let instance = Instance {
        functions,
        globals: ctx.globals(),
        iter,
        activation: None,
        exec: None,
        data: None,
        iterations: 0,
        in_scenario: 0,
    };
    Ok((instance, exports))
}

/// The VU that owns this context.
pub(crate) fn state_of(ctx: &Ctx<'_>) -> Rc<VuState> {
    ctx.userdata::<engine::VuHandle>()
        .expect("stored before any script runs")
        .0
        .clone()
}

/// An initialised script in one heap.
struct Instance<'js> {
    functions: Vec<(String, Function<'js>)>,
    globals: Object<'js>,
    iter: Atom<'js>,
    activation: Option<Arc<Activation>>,
    exec: Option<Function<'js>>,
    /// This VU's copy of the setup data, made at its first iteration.
    data: Option<Value<'js>>,
    iterations: u64,
    in_scenario: u64,
}

impl<'js> Instance<'js> {
    fn execute(&mut self, ctx: &Ctx<'js>, state: &Rc<VuState>, command: Command) -> Reply {
        match command {
            Command::Activate(activation) => {
                self.activate(ctx, state, activation);
                Reply::Activated
            }
            Command::Iterate { instance, test } => {
                Reply::Iterated(self.iterate(ctx, state, instance, test))
            }
            Command::Call { what, data } => Reply::Called(self.call(ctx, state, what, data)),
            Command::Summarise { data, setup_data } => {
                Reply::Summarised(self.summarise(ctx, state, &data, setup_data))
            }
            Command::Exit => unreachable!("handled by the loop"),
        }
    }

    fn function(&self, name: &str) -> Option<Function<'js>> {
        let (_, function) = self.functions.iter().find(|(known, _)| known == name)?;
        Some(function.clone())
    }

    fn activate(&mut self, ctx: &Ctx<'js>, state: &Rc<VuState>, activation: Arc<Activation>) {
        state.phase.set(Phase::Iteration);
        state.reset_tags(&activation.tags, "", Some(activation.scenario.name()));
        *state.scenario.borrow_mut() = Some(activation.scenario.clone());
        if globals::env::install(ctx, state, &activation.env).is_err() {
            let _ = ctx.catch();
        }
        self.exec = self.function(&activation.exec);
        self.in_scenario = 0;
        self.activation = Some(activation);
    }

    /// Step 2 of the hot path: one call of the exported function, measured.
    fn iterate(
        &mut self,
        ctx: &Ctx<'js>,
        state: &Rc<VuState>,
        instance: u64,
        test: u64,
    ) -> IterationEnd {
        let (Some(exec), Some(activation)) = (self.exec.clone(), self.activation.clone()) else {
            return IterationEnd::Interrupted;
        };
        state.counters.set(Counters {
            in_instance: self.iterations,
            in_scenario: self.in_scenario,
            scenario_instance: instance,
            scenario_test: test,
        });
        self.iterations += 1;
        self.in_scenario += 1;
        if state.settings.system_tags.iter() {
            state.metadata_changed();
        }
        if !state.settings.no_cookies_reset {
            state.client.reset_cookies();
        }
        let started = Instant::now();
        let outcome = event_loop::run(ctx, state, || {
            self.globals
                .set(self.iter.clone(), state.counters.get().in_instance as f64)?;
            let data = match &self.data {
                Some(data) => data.clone(),
                None => {
                    let data = parse_data(ctx, activation.setup_data.as_deref())?;
                    fix_lengths(ctx, &data)?;
                    self.data = Some(data.clone());
                    data
                }
            };
            exec.call((This(Value::new_undefined(ctx.clone())), data))
        });
        let ended = Instant::now();
        // The one exception to "a stopped iteration leaves no sample": k6 counts the one that aborts.
        let aborted = state.aborted.get();
        let interrupted = matches!(outcome, Err(Failure::Stopped));
        match outcome {
            Ok(_) | Err(Failure::Stopped) => {}
            Err(failure) => log_failure(state, &activation, failure),
        }
        let tags = state.tag_set();
        let (sent, received) = state.client.take_data();
        state.record_always(builtin::DATA_SENT, tags, sent as f64, ended);
        state.record_always(builtin::DATA_RECEIVED, tags, received as f64, ended);
        if !interrupted || aborted {
            let ms = (ended - started).as_nanos() as f64 / 1e6;
            state.record_always(builtin::ITERATION_DURATION, tags, ms, ended);
            state.record_always(builtin::ITERATIONS, tags, 1.0, ended);
        }
        if state.settings.no_vu_connection_reuse {
            state.client.close_idle();
        }
        if interrupted {
            IterationEnd::Interrupted
        } else {
            IterationEnd::Complete
        }
    }

    fn call(
        &mut self,
        ctx: &Ctx<'js>,
        state: &Rc<VuState>,
        what: Lifecycle,
        data: Option<Arc<str>>,
    ) -> Result<Option<serde_json::Value>, ScriptError> {
        let (name, phase) = match what {
            Lifecycle::Setup => ("setup", Phase::Setup),
            Lifecycle::Teardown => ("teardown", Phase::Teardown),
        };
        state.phase.set(phase);
        state.reset_tags(&[], &format!("::{name}"), None);
        if globals::env::install(ctx, state, &[]).is_err() {
            let _ = ctx.catch();
        }
        let Some(function) = self.function(name) else {
            return Ok(None);
        };
        let outcome = event_loop::run(ctx, state, || {
            let data = parse_data(ctx, data.as_deref())?;
            function.call((This(Value::new_undefined(ctx.clone())), data))
        });
        let tags = state.tag_set();
        let now = Instant::now();
        let (sent, received) = state.client.take_data();
        state.record_always(builtin::DATA_SENT, tags, sent as f64, now);
        state.record_always(builtin::DATA_RECEIVED, tags, received as f64, now);
        if state.aborted.get() {
            return Err(ScriptError::Aborted);
        }
        let value = settle(outcome).map_err(Failure::into_error)?;
        json::from_js(&value).map_err(|text| {
            ScriptError::Invalid(format!(
                "error marshaling {name}() data to JSON: json: {text}"
            ))
        })
    }

    fn summarise(
        &mut self,
        ctx: &Ctx<'js>,
        state: &Rc<VuState>,
        data: &str,
        setup_data: bool,
    ) -> Result<SummaryResult, ScriptError> {
        state.phase.set(Phase::Summary);
        state.reset_tags(&[], "", None);
        if globals::env::install(ctx, state, &[]).is_err() {
            let _ = ctx.catch();
        }
        let Some(function) = self.function("handleSummary") else {
            return Ok(SummaryResult::Default);
        };
        let outcome = event_loop::run(ctx, state, || {
            let value = ctx.json_parse(data)?;
            if !setup_data && let Some(object) = value.as_object() {
                object.set("setup_data", Value::new_undefined(ctx.clone()))?;
            }
            function.call((This(Value::new_undefined(ctx.clone())), value))
        });
        let value = settle(outcome).map_err(Failure::into_error)?;
        Ok(summary_result(&value))
    }
}

/// The value of an async function's promise; other values as they are.
fn settle<'js>(outcome: Result<Value<'js>, Failure<'js>>) -> Result<Value<'js>, Failure<'js>> {
    let value = outcome?;
    let Some(promise) = value.as_promise() else {
        return Ok(value);
    };
    let ctx = value.ctx().clone();
    match promise.result::<Value<'js>>() {
        // Never settled, and nothing left that could: as if it had returned nothing.
        None => Ok(Value::new_undefined(ctx)),
        Some(Ok(value)) => Ok(value),
        Some(Err(error)) => Err(Failure::Rejected(error::thrown(&ctx, error))),
    }
}

fn parse_data<'js>(ctx: &Ctx<'js>, data: Option<&str>) -> rquickjs::Result<Value<'js>> {
    match data {
        Some(data) => ctx.json_parse(data),
        None => Ok(Value::new_undefined(ctx.clone())),
    }
}

/// Lists in setup data keep their length: what a script pushes is gone at its next look, what it
/// assigns to an element stays. So it is in the reference, where each look makes a new view of
/// the same memory. A test that ran for months with a growing `data.list.push(…)` in it would
/// otherwise eat its memory here, and only here.
fn fix_lengths<'js>(ctx: &Ctx<'js>, data: &Value<'js>) -> rquickjs::Result<()> {
    if !data.is_object() {
        return Ok(());
    }
    let fix: Function<'js> = ctx.eval(
        "(function f(v){if(v===null||typeof v!=='object')return;\
         const list=Array.isArray(v);for(const k of Object.keys(v)){let a=v[k];f(a);\
         if(list||!Array.isArray(a))continue;let n=a.length;\
         Object.defineProperty(v,k,{enumerable:true,configurable:true,\
         get(){if(n>=0&&a.length!==n)a.length=n;return a},\
         set(x){a=x;n=Array.isArray(x)?x.length:-1}})}})",
    )?;
    fix.call((data.clone(),))
}

fn log_failure(state: &VuState, activation: &Activation, failure: Failure<'_>) {
    let scenario = activation.scenario.name();
    let executor = activation.scenario.executor();
    match failure.into_error() {
        ScriptError::Exception(text) => state.log(
            Level::Error,
            &text,
            &[
                ("executor", executor),
                ("hint", "script exception"),
                ("scenario", scenario),
                ("source", "stacktrace"),
            ],
        ),
        other => state.log(
            Level::Error,
            &other.to_string(),
            &[("executor", executor), ("scenario", scenario)],
        ),
    }
}

/// Whether JavaScript takes the value for false.
fn is_falsy(value: &Value<'_>) -> bool {
    value.is_undefined()
        || value.is_null()
        || value.as_bool() == Some(false)
        || value
            .as_number()
            .is_some_and(|number| number == 0.0 || number.is_nan())
        || value
            .as_string()
            .is_some_and(|text| engine::rust_string(text).is_empty())
}

fn summary_result(value: &Value<'_>) -> SummaryResult {
    if is_falsy(value) {
        return SummaryResult::Default;
    }
    let Some(object) = value
        .as_object()
        .filter(|_| !value.is_array() && !value.is_function())
    else {
        return SummaryResult::Unusable(
            "handleSummary() should return a map with string keys".to_owned(),
        );
    };
    let mut entries = Vec::new();
    for key in object.own_keys::<rquickjs::String<'_>>(Filter::new().string().enum_only()) {
        let Ok(key) = key else { continue };
        let destination = engine::rust_string(&key);
        let Ok(member) = object.get::<_, Value<'_>>(key) else {
            let _ = value.ctx().catch();
            continue;
        };
        let buffer = member
            .as_object()
            .and_then(|o| rquickjs::ArrayBuffer::from_object(o.clone()));
        let content = if let Some(text) = member.as_string() {
            engine::rust_string(text).into_bytes()
        } else if let Some(buffer) = buffer {
            engine::buffer_bytes(&buffer)
        } else {
            return SummaryResult::Unusable(format!(
                "error handling summary object {destination}: invalid type {}, it needs to be a \
                 string or ArrayBuffer",
                globals::go_type_name(&member)
            ));
        };
        entries.push(SummaryEntry {
            destination,
            content,
        });
    }
    SummaryResult::Entries(entries)
}
