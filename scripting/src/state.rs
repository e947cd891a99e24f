//! What a VU knows besides its JavaScript heap: tags, counters, connections, timers.
//!
//! Natives hold an `Rc<VuState>`; nothing in it is borrowed while the engine or a future runs.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, HashMap},
    future::{Future, poll_fn},
    pin::pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll},
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use rquickjs::{Ctx, Function, Persistent, Result as JsResult, Value};
use volley_metrics::{Metadata, MetricId, Recorder, Registry, TagCache, TagSetId, TagTable};
use volley_net as net;

use crate::{
    engine::{self, Fiber, Stopped, WorkerSlot},
    error,
    event_loop::{Completion, EventLoop},
    globals::require::Required,
    host::{Host, Level, Scenario},
    modules::{http::Natives, random::Random},
    script::Script,
};

/// What all VUs of one worker thread share.
pub struct WorkerContext {
    /// This thread's shard of the measurements.
    pub recorder: RefCell<Recorder>,
    /// This thread's way to interned tag sets.
    pub tags: RefCell<TagCache>,
    /// Metric names, shared by the process.
    pub registry: Arc<Registry>,
    /// Where the watchdog looks.
    pub slot: Arc<WorkerSlot>,
    epoch: (Instant, i64),
}

impl WorkerContext {
    /// The context of a new worker; `raw` asks for raw samples.
    pub fn new(registry: Arc<Registry>, table: Arc<TagTable>, raw: bool) -> Rc<Self> {
        let unix = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |d| d.as_nanos() as i64);
        Rc::new(Self {
            recorder: RefCell::new(Recorder::new(registry.clone(), raw)),
            tags: RefCell::new(TagCache::new(table)),
            registry,
            slot: WorkerSlot::register(),
            epoch: (Instant::now(), unix),
        })
    }

    /// Wall-clock time of a monotonic instant, in nanoseconds since the epoch.
    pub fn unix_ns(&self, at: Instant) -> i64 {
        let (base, unix) = self.epoch;
        match at.checked_duration_since(base) {
            Some(after) => unix + after.as_nanos() as i64,
            None => unix - base.duration_since(at).as_nanos() as i64,
        }
    }
}

/// Which built-in tags samples carry. All of the default set, unless the options say otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SystemTags(u32);

/// Names of the system tags, in the order of their bits.
const SYSTEM_TAGS: [&str; 18] = [
    "proto",
    "subproto",
    "status",
    "method",
    "url",
    "name",
    "group",
    "check",
    "error",
    "error_code",
    "tls_version",
    "scenario",
    "service",
    "expected_response",
    "vu",
    "iter",
    "ip",
    "ocsp_status",
];

macro_rules! system_tags {
    ($($name:ident = $bit:expr),* $(,)?) => {
        impl SystemTags {
            $(
                /// Whether the tag of that name is on.
                pub fn $name(self) -> bool { self.0 & (1 << $bit) != 0 }
            )*
        }
    };
}

system_tags! {
    proto = 0, subproto = 1, status = 2, method = 3, url = 4, name = 5, group = 6, check = 7, error = 8,
    error_code = 9, tls_version = 10, scenario = 11, service = 12, expected_response = 13, vu = 14, iter = 15,
    ip = 16, ocsp_status = 17,
}

impl Default for SystemTags {
    fn default() -> Self {
        Self((1 << 14) - 1)
    }
}

impl SystemTags {
    /// The set with exactly these names; unknown ones are ignored, as k6 does.
    pub fn from_names<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        Self(names.into_iter().fold(0, |set, name| {
            match SYSTEM_TAGS.iter().position(|known| *known == name) {
                Some(bit) => set | 1 << bit,
                None => set,
            }
        }))
    }
}

/// The options that VUs act on.
#[derive(Debug, Clone)]
pub struct VuSettings {
    /// Which built-in tags samples carry.
    pub system_tags: SystemTags,
    /// Tags on every sample.
    pub run_tags: Vec<(String, String)>,
    /// Failed requests throw.
    pub throw: bool,
    /// Bodies are read and dropped unless a request asks for its body.
    pub discard_response_bodies: bool,
    /// Redirects followed by default, and whether the options chose that number.
    pub max_redirects: (u32, bool),
    /// Cookies survive iterations.
    pub no_cookies_reset: bool,
    /// Connections are closed after each iteration.
    pub no_vu_connection_reuse: bool,
    /// Messages of HTTP go to the log, with their bodies if true.
    pub http_debug: Option<bool>,
    /// How the network engine behaves.
    pub net: Arc<net::ClientConfig>,
}

impl Default for VuSettings {
    fn default() -> Self {
        Self {
            system_tags: SystemTags::default(),
            run_tags: Vec::new(),
            throw: false,
            discard_response_bodies: false,
            max_redirects: (10, false),
            no_cookies_reset: false,
            no_vu_connection_reuse: false,
            http_debug: None,
            net: Arc::new(net::ClientConfig::default()),
        }
    }
}

/// What kind of script code is running.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The top level of the modules.
    Init,
    /// `setup()`.
    Setup,
    /// A function of a scenario.
    Iteration,
    /// `teardown()`.
    Teardown,
    /// `handleSummary()`.
    Summary,
}

/// Counters that a running iteration shows.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counters {
    /// `__ITER`: iterations of this VU so far, over all scenarios.
    pub(crate) in_instance: u64,
    /// Iterations of this VU in this scenario so far.
    pub(crate) in_scenario: u64,
    /// Number of the iteration in the scenario, in this instance.
    pub(crate) scenario_instance: u64,
    /// Number of the iteration in the scenario, over all instances.
    pub(crate) scenario_test: u64,
}

/// The tags of a VU: what `exec.vu.tags` shows, and its interned form.
pub(crate) struct VuTags {
    map: BTreeMap<String, String>,
    interned: Option<TagSetId>,
}

/// The state of one VU.
pub(crate) struct VuState {
    pub(crate) fiber: Rc<Fiber>,
    pub(crate) worker: Rc<WorkerContext>,
    pub(crate) host: Arc<dyn Host>,
    pub(crate) script: Arc<Script>,
    pub(crate) settings: Arc<VuSettings>,
    pub(crate) id: u64,
    pub(crate) id_in_test: u64,
    pub(crate) first_init: bool,
    pub(crate) phase: Cell<Phase>,
    pub(crate) counters: Cell<Counters>,
    pub(crate) scenario: RefCell<Option<Arc<dyn Scenario>>>,
    pub(crate) tags: RefCell<VuTags>,
    pub(crate) metadata: RefCell<BTreeMap<String, String>>,
    metadata_shared: RefCell<Option<Arc<Metadata>>>,
    pub(crate) client: net::Client,
    pub(crate) events: EventLoop,
    /// What `k6/http` keeps, once it is imported.
    pub(crate) http: RefCell<Option<Rc<Natives>>>,
    pub(crate) aborted: Cell<bool>,
    pub(crate) random: Random,
    /// What was required so far, by URL.
    pub(crate) required: RefCell<HashMap<Box<str>, Required>>,
    /// How deep the stack was when each of the top levels began that are running now.
    pub(crate) boundaries: RefCell<Vec<usize>>,
    /// Whether the engine is loading modules: at any other time only `import()` asks for some.
    pub(crate) linking: Cell<bool>,
    /// Why the engine could not load a module, although it was found.
    pub(crate) load_failure: RefCell<Option<String>>,
}

impl VuState {
    #[allow(clippy::too_many_arguments)]
    pub(crate) fn new(
        worker: Rc<WorkerContext>,
        host: Arc<dyn Host>,
        script: Arc<Script>,
        settings: Arc<VuSettings>,
        id: u64,
        id_in_test: u64,
        first_init: bool,
    ) -> Rc<Self> {
        let state = Rc::new(Self {
            fiber: Fiber::new(worker.slot.clone()),
            client: net::Client::new(settings.net.clone()).numbered(id),
            worker,
            host,
            script,
            settings,
            id,
            id_in_test,
            first_init,
            phase: Cell::new(Phase::Init),
            counters: Cell::default(),
            scenario: RefCell::new(None),
            tags: RefCell::new(VuTags {
                map: BTreeMap::new(),
                interned: None,
            }),
            metadata: RefCell::default(),
            metadata_shared: RefCell::new(None),
            events: EventLoop::default(),
            http: RefCell::new(None),
            aborted: Cell::new(false),
            random: Random::default(),
            required: RefCell::default(),
            boundaries: RefCell::default(),
            linking: Cell::new(false),
            load_failure: RefCell::default(),
        });
        if let Some(bodies) = state.settings.http_debug {
            let vu = Rc::downgrade(&state);
            let watcher = move |message: net::Message<'_>| {
                if let Some(vu) = vu.upgrade() {
                    vu.log_message(&message);
                }
            };
            state.client.watch(Rc::new(watcher), bodies);
        }
        state
    }

    /// Writes a message of HTTP to the log.
    fn log_message(&self, message: &net::Message<'_>) {
        let kind = if message.response {
            "Response"
        } else {
            "Request"
        };
        let scenario = self.scenario.borrow().clone();
        let group = self.tag("group").unwrap_or_default();
        let (iter, vu) = (
            self.counters.get().in_instance.to_string(),
            self.id.to_string(),
        );
        let fields = [
            ("group", group.as_str()),
            ("iter", &iter),
            ("request_id", message.id),
            ("scenario", scenario.as_ref().map_or("", |s| s.name())),
            ("source", "http-debug"),
            ("vu", &vu),
        ];
        self.log(
            Level::Info,
            &format!("{kind}:\n{}\n", message.text),
            &fields,
        );
    }

    /// Writes a log line.
    pub(crate) fn log(&self, level: Level, message: &str, fields: &[(&str, &str)]) {
        self.host.log(level, message, fields);
    }

    /// What every native function does first: a VU that has been told to stop does nothing more.
    ///
    /// # Errors
    /// An exception that the script cannot catch.
    pub(crate) fn guard(&self, ctx: &Ctx<'_>) -> JsResult<()> {
        if self.fiber.is_stopped() {
            return Err(engine::throw_uncatchable(ctx));
        }
        Ok(())
    }

    /// Whether the code runs at the top level of a module.
    pub(crate) fn in_init(&self) -> bool {
        self.phase.get() == Phase::Init
    }

    // --- waiting ---

    /// Blocks the VU until the future is done, while its work in the background goes on.
    ///
    /// # Errors
    /// When the VU is told to stop.
    pub(crate) fn wait<F: Future>(&self, future: F) -> Result<F::Output, Stopped> {
        if !self.events.has_background() {
            return self.fiber.wait(future);
        }
        let mut future = pin!(future);
        self.fiber.wait(poll_fn(|task| {
            // Its results wait for the event loop.
            let _ = self.events.poll_background(task);
            future.as_mut().poll(task)
        }))
    }

    /// The same with a time at which it ends without a result, if one is given: for waits that may
    /// take long.
    ///
    /// # Errors
    /// When the VU is told to stop.
    pub(crate) fn wait_long<T>(
        &self,
        until: Option<Instant>,
        mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Result<Option<T>, Stopped> {
        self.fiber.wait_long(until, |task| {
            if self.events.has_background() {
                let _ = self.events.poll_background(task);
            }
            poll(task)
        })
    }

    /// Blocks the VU for a time, while its work in the background goes on.
    ///
    /// # Errors
    /// When the VU is told to stop.
    pub(crate) fn pause(&self, until: tokio::time::Instant) -> Result<(), Stopped> {
        if !self.events.has_background() {
            return self.fiber.pause(until);
        }
        self.wait(tokio::time::sleep_until(until))
    }

    /// What the engine's interrupt handler asks: gives way when the slice is over, lets the work in
    /// the background have its look at its sockets then, and says whether the script has to end.
    pub(crate) fn interrupt(&self) -> bool {
        if self.fiber.slice_over() && self.events.has_background() {
            let _ = self.wait(tokio::task::yield_now());
        }
        self.fiber.interrupt()
    }

    /// Starts work in the background, for a promise that `settle` then fulfils (`Ok`) or rejects.
    ///
    /// # Errors
    /// When the VU is told to stop.
    pub(crate) fn background<'js, T: 'static>(
        &self,
        ctx: &Ctx<'js>,
        resolve: Function<'js>,
        reject: Function<'js>,
        work: impl Future<Output = T> + 'static,
        settle: impl for<'a> FnOnce(&Ctx<'a>, T) -> JsResult<Result<Value<'a>, Value<'a>>> + 'static,
    ) -> JsResult<()> {
        let resolve = Persistent::save(ctx, resolve);
        let reject = Persistent::save(ctx, reject);
        self.events.start(async move {
            let done = work.await;
            let finish: Completion = Box::new(move |ctx| {
                let settled = settle(ctx, done).unwrap_or_else(|e| Err(error::thrown(ctx, e)));
                match settled {
                    Ok(value) => resolve.restore(ctx)?.call((value,)),
                    Err(reason) => reject.restore(ctx)?.call((reason,)),
                }
            });
            finish
        });
        // It begins now, not when the script next waits.
        self.wait(std::future::ready(()))
            .map_err(|_| engine::throw_uncatchable(ctx))
    }

    /// Lets the engine load modules.
    pub(crate) fn while_linking<T>(&self, link: impl FnOnce() -> T) -> T {
        let before = self.linking.replace(true);
        let linked = link();
        self.linking.set(before);
        linked
    }

    // --- tags ---

    /// Replaces all tags by those of the run and `extra`, later ones winning, with an empty group.
    pub(crate) fn reset_tags(
        &self,
        extra: &[(String, String)],
        group: &str,
        scenario: Option<&str>,
    ) {
        let mut map = BTreeMap::new();
        for (key, value) in self.settings.run_tags.iter().chain(extra) {
            map.insert(key.clone(), value.clone());
        }
        let enabled = self.settings.system_tags;
        if enabled.group() {
            map.insert("group".to_owned(), group.to_owned());
        }
        if let Some(scenario) = scenario.filter(|_| enabled.scenario()) {
            map.insert("scenario".to_owned(), scenario.to_owned());
        }
        *self.tags.borrow_mut() = VuTags {
            map,
            interned: None,
        };
        self.metadata.borrow_mut().clear();
        self.metadata_changed();
    }

    /// The interned tags of the VU at this moment.
    pub(crate) fn tag_set(&self) -> TagSetId {
        let mut tags = self.tags.borrow_mut();
        if let Some(id) = tags.interned {
            return id;
        }
        let pairs: Vec<(&str, &str)> = tags
            .map
            .iter()
            .map(|(k, v)| (k.as_str(), v.as_str()))
            .collect();
        let id = self
            .worker
            .tags
            .borrow_mut()
            .overlay(TagSetId::EMPTY, &pairs);
        tags.interned = Some(id);
        id
    }

    /// The VU's tags with `extra` laid over them.
    pub(crate) fn tag_set_with(&self, extra: &[(&str, &str)]) -> TagSetId {
        let base = self.tag_set();
        if extra.is_empty() {
            return base;
        }
        self.worker.tags.borrow_mut().overlay(base, extra)
    }

    /// The value of one tag of the VU.
    pub(crate) fn tag(&self, key: &str) -> Option<String> {
        self.tags.borrow().map.get(key).cloned()
    }

    /// Names of the VU's tags.
    pub(crate) fn tag_names(&self) -> Vec<String> {
        self.tags.borrow().map.keys().cloned().collect()
    }

    /// Sets or removes a tag of the VU; answers what it was.
    pub(crate) fn set_tag(&self, key: &str, value: Option<&str>) -> Option<String> {
        let mut tags = self.tags.borrow_mut();
        tags.interned = None;
        match value {
            Some(value) => tags.map.insert(key.to_owned(), value.to_owned()),
            None => tags.map.remove(key),
        }
    }

    /// Enters a group: the tag becomes `path`. Answers what [`Self::leave_group`] needs.
    pub(crate) fn enter_group(&self, path: &str) -> (TagSetId, Option<String>) {
        let before = self.tag_set();
        let inside = self
            .worker
            .tags
            .borrow_mut()
            .overlay(before, &[("group", path)]);
        let mut tags = self.tags.borrow_mut();
        let old = tags.map.insert("group".to_owned(), path.to_owned());
        tags.interned = Some(inside);
        (before, old)
    }

    /// Leaves a group.
    pub(crate) fn leave_group(&self, (before, old): (TagSetId, Option<String>), inside: TagSetId) {
        let mut tags = self.tags.borrow_mut();
        // If the script changed a tag inside, the set has to be built anew.
        tags.interned = (tags.interned == Some(inside)).then_some(before);
        match old {
            Some(old) => tags.map.insert("group".to_owned(), old),
            None => tags.map.remove("group"),
        };
    }

    // --- metadata ---

    /// Call after a change of the metadata or of the iteration.
    pub(crate) fn metadata_changed(&self) {
        let enabled = self.settings.system_tags;
        let metadata = self.metadata.borrow();
        let mut shared = self.metadata_shared.borrow_mut();
        if metadata.is_empty() && !enabled.vu() && !enabled.iter() {
            if shared.is_some() {
                *shared = None;
            }
            return;
        }
        let mut all: Metadata = metadata
            .iter()
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect();
        if enabled.vu() {
            all.push(("vu".to_owned(), self.id.to_string()));
        }
        if enabled.iter() {
            all.push((
                "iter".to_owned(),
                self.counters.get().in_instance.to_string(),
            ));
        }
        all.sort();
        *shared = Some(Arc::new(all));
    }

    // --- samples ---

    /// Records a sample at `at`, unless the iteration has been stopped.
    pub(crate) fn record(&self, metric: MetricId, tags: TagSetId, value: f64, at: Instant) {
        if self.fiber.is_stopped() {
            return;
        }
        self.record_always(metric, tags, value, at);
    }

    /// Records a sample even after a stop.
    pub(crate) fn record_always(&self, metric: MetricId, tags: TagSetId, value: f64, at: Instant) {
        if self.phase.get() == Phase::Summary {
            return;
        }
        let time = self.worker.unix_ns(at);
        let mut recorder = self.worker.recorder.borrow_mut();
        match self.metadata_shared.borrow().as_ref() {
            None => recorder.record(metric, tags, value, time),
            some => recorder.record_with(metric, tags, value, time, some),
        }
    }
}
