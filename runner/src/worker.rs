//! Worker threads: each one event loop, its VUs and its recorder.
//!
//! A VU lives on one worker for life. Workers are given closures rather than commands, so a new
//! kind of work needs nothing here.

use std::{
    cell::{Cell, RefCell},
    collections::{HashMap, VecDeque},
    future::Future,
    pin::Pin,
    rc::Rc,
    sync::{Arc, Mutex, atomic::Ordering},
    thread::JoinHandle,
    time::Duration,
};

use futures_util::{StreamExt, stream};
use tokio::{
    runtime::Builder,
    sync::{Notify, mpsc, oneshot},
    task::LocalSet,
};
use volley_metrics::{Registry, TagTable};
use volley_scripting::{
    Activation, IterationEnd, Script, ScriptError, Stopper, Vu, VuSettings, WorkerContext,
};

use crate::{
    executor::{BoxFuture, Iterate, Job, Lease, Leash, Pool, Progress, serve},
    measure::Measurements,
    memory::{self, Forecast, Outlook},
    segment::Tuple,
    state::{RunState, Status},
};

/// How often a worker hands its shard to the collector.
const TICK: Duration = Duration::from_millis(50);

/// The grain of the event loop's timer.
const GRAIN: Duration = Duration::from_millis(1);

type Work = Box<dyn FnOnce(Rc<Worker>) -> Pin<Box<dyn Future<Output = ()>>> + Send>;

/// One worker, on its own thread.
pub(crate) struct Worker {
    /// What its VUs share.
    pub(crate) context: Rc<WorkerContext>,
    /// Its number among the workers.
    index: usize,
    measurements: Measurements,
    idle: RefCell<HashMap<u64, Vu>>,
    serving: RefCell<HashMap<u64, Serving>>,
    active: RefCell<Vec<Stopper>>,
}

/// The VUs of this worker that serve one job.
struct Serving {
    vus: HashMap<u64, (Stopper, Rc<Leash>)>,
    /// Hears of the job's cancellation.
    listener: tokio::task::JoinHandle<()>,
}

/// A worker, seen from outside.
pub(crate) struct WorkerHandle {
    work: mpsc::UnboundedSender<Work>,
    thread: Option<JoinHandle<()>>,
}

/// All workers of the process.
pub(crate) struct Workers {
    handles: Vec<WorkerHandle>,
}

impl Workers {
    /// Starts `count` threads.
    ///
    /// # Errors
    /// When a thread or its event loop cannot be made.
    pub(crate) fn start(
        count: usize,
        registry: &Arc<Registry>,
        tags: &Arc<TagTable>,
        raw: bool,
        measurements: &Measurements,
        state: &Arc<RunState>,
    ) -> std::io::Result<Arc<Self>> {
        let handles = (0..count)
            .map(|index| {
                let (work, inbox) = mpsc::unbounded_channel();
                let (registry, tags) = (registry.clone(), tags.clone());
                let (measurements, state) = (measurements.clone(), state.clone());
                let thread = std::thread::Builder::new()
                    .name(format!("volley-worker-{index}"))
                    .spawn(move || {
                        run_worker(
                            index,
                            WorkerContext::new(registry, tags, raw),
                            measurements,
                            state,
                            inbox,
                        )
                    })?;
                Ok(WorkerHandle {
                    work,
                    thread: Some(thread),
                })
            })
            .collect::<std::io::Result<Vec<_>>>()?;
        Ok(Arc::new(Self { handles }))
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.handles.len()
    }

    /// Runs a future on a worker; `None` when the worker is gone.
    pub(crate) fn on<F, Fut, T>(
        &self,
        worker: usize,
        work: F,
    ) -> impl Future<Output = Option<T>> + use<F, Fut, T>
    where
        F: FnOnce(Rc<Worker>) -> Fut + Send + 'static,
        Fut: Future<Output = T> + 'static,
        T: Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let boxed: Work = Box::new(move |worker| {
            Box::pin(async move {
                let _ = answer.send(work(worker).await);
            })
        });
        let sent = self.handles[worker].work.send(boxed).is_ok();
        async move {
            if !sent {
                return None;
            }
            answered.await.ok()
        }
    }

    /// Hands everything recorded so far to the collector, waiting for each worker at most `patience`.
    pub(crate) async fn flush(&self, patience: Duration) {
        let all = (0..self.count()).map(|index| {
            let flushed = self.on(index, |worker| async move { worker.flush() });
            tokio::time::timeout(patience, flushed)
        });
        futures_util::future::join_all(all).await;
    }

    /// Stops whatever VUs are running.
    pub(crate) fn interrupt_all(&self) {
        for index in 0..self.count() {
            drop(self.on(index, |worker| async move {
                for stopper in worker.active.borrow().iter() {
                    stopper.stop();
                }
            }));
        }
    }
}

impl Drop for WorkerHandle {
    fn drop(&mut self) {
        // The thread ends with the process: its heaps are not worth freeing.
        drop(self.thread.take());
    }
}

fn run_worker(
    index: usize,
    context: Rc<WorkerContext>,
    measurements: Measurements,
    state: Arc<RunState>,
    mut inbox: mpsc::UnboundedReceiver<Work>,
) {
    let runtime = match Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        // Nothing works without an event loop; the coordinator notices that the inbox is closed.
        Err(_) => return,
    };
    LocalSet::new().block_on(&runtime, async move {
        let worker = Rc::new(Worker {
            context,
            index,
            measurements,
            idle: RefCell::default(),
            serving: RefCell::default(),
            active: RefCell::default(),
        });
        let ticking = worker.clone();
        tokio::task::spawn_local(async move {
            let mut tick = tokio::time::interval(TICK);
            tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                let due = tick.tick().await;
                if state.status() == Status::Running as u8 {
                    // The event loop's timer counts in milliseconds and rounds up.
                    let late = due.elapsed().saturating_sub(GRAIN);
                    state.health.loops.record(late);
                }
                ticking.flush();
            }
        });
        while let Some(work) = inbox.recv().await {
            tokio::task::spawn_local(work(worker.clone()));
        }
    });
}

impl Worker {
    /// Hands the shard to the collector.
    pub(crate) fn flush(&self) {
        let batch = self.context.recorder.borrow_mut().drain();
        self.measurements.add(batch);
    }

    /// Runs work of a VU while it can be stopped from outside.
    pub(crate) async fn interruptible<T>(
        &self,
        stopper: Stopper,
        work: impl Future<Output = T>,
    ) -> T {
        let mark = stopper.clone();
        self.active.borrow_mut().push(stopper);
        let result = work.await;
        self.active.borrow_mut().retain(|s| !s.same(&mark));
        result
    }

    fn keep(&self, vu: Vu) {
        self.idle.borrow_mut().insert(vu.id(), vu);
    }

    /// Lets one VU serve a job; done when it is idle again.
    async fn serve(
        self: Rc<Self>,
        vu: u64,
        job: Arc<Job>,
        state: Arc<RunState>,
        activation: Arc<Activation>,
    ) {
        let Some(mut vu) = self.idle.borrow_mut().remove(&vu) else {
            return;
        };
        let id = vu.id();
        let leash = Rc::new(Leash::default());
        self.clone().enlist(&job, id, vu.stopper(), leash.clone());
        vu.activate(activation).await;
        if *job.cancelled().borrow() {
            leash.cut();
        }
        let minimum = state
            .min_iteration_duration
            .get()
            .copied()
            .unwrap_or_default();
        let mut serving = ServingVu {
            vu: &mut vu,
            worker: &self,
            state: &state,
            progress: &job.progress,
        };
        serve(&mut serving, &job, &leash, minimum, |complete| {
            if complete {
                job.progress.count();
            }
            state.count_iteration(complete);
        })
        .await;
        self.delist(&job, id);
        self.keep(vu);
    }

    /// Ends what [`Self::enlist`] began.
    fn delist(&self, job: &Job, vu: u64) {
        let mut serving = self.serving.borrow_mut();
        let Some(entry) = serving.get_mut(&job.id) else {
            return;
        };
        entry.vus.remove(&vu);
        // A ramp makes a job for each of its slots.
        if entry.vus.is_empty() {
            entry.listener.abort();
            serving.remove(&job.id);
        }
    }

    /// Lets the job's cancellation reach a VU. The first VU of a job here starts the listener.
    fn enlist(self: Rc<Self>, job: &Arc<Job>, vu: u64, stopper: Stopper, leash: Rc<Leash>) {
        let mut serving = self.serving.borrow_mut();
        let entry = serving.entry(job.id).or_insert_with(|| {
            let worker = self.clone();
            let mut cancelled = job.cancelled();
            let id = job.id;
            let listener = tokio::task::spawn_local(async move {
                if cancelled.wait_for(|cancelled| *cancelled).await.is_ok()
                    && let Some(serving) = worker.serving.borrow().get(&id)
                {
                    for (stopper, leash) in serving.vus.values() {
                        leash.cut();
                        stopper.stop();
                    }
                }
            });
            Serving {
                vus: HashMap::new(),
                listener,
            }
        });
        entry.vus.insert(vu, (stopper, leash));
    }
}

/// A VU in the serving loop.
struct ServingVu<'a> {
    vu: &'a mut Vu,
    worker: &'a Worker,
    state: &'a RunState,
    progress: &'a Progress,
}

impl Iterate for ServingVu<'_> {
    fn id(&self) -> u64 {
        self.vu.id()
    }

    fn place(&self) -> usize {
        self.worker.index
    }

    fn set_active(&mut self, active: bool) {
        self.progress.set_active(active);
        match active {
            true => self.state.vus_active.fetch_add(1, Ordering::Relaxed),
            false => self.state.vus_active.fetch_sub(1, Ordering::Relaxed),
        };
    }

    async fn iterate(&mut self, instance: u64, test: u64) -> bool {
        self.vu.iterate(instance, test).await == IterationEnd::Complete
    }

    fn settle(&mut self) {
        if self.worker.context.recorder.borrow().full() {
            self.worker.flush();
        }
    }
}

/// Where VUs are made, and where they are when they are idle: first in, first out.
pub(crate) struct VuPool {
    workers: Arc<Workers>,
    state: Arc<RunState>,
    recipe: Recipe,
    /// VUs made or being made: the last one's id.
    made: Cell<u64>,
    /// VUs that scenarios may still make during the run.
    unplanned: Cell<u64>,
    idle: Mutex<VecDeque<(usize, u64)>>,
    returned: Notify,
    activations: Mutex<HashMap<String, Arc<Activation>>>,
}

/// Why there are no VUs.
pub(crate) enum Unmade {
    /// The init of the one with this id failed.
    Vu(u64, ScriptError),
    /// They do not fit into the memory.
    NoRoom(String),
}

/// What VUs are made from.
pub(crate) struct Recipe {
    pub(crate) script: Arc<Script>,
    pub(crate) settings: Arc<VuSettings>,
    /// Numbers them over all instances.
    pub(crate) tuple: Tuple,
}

impl VuPool {
    /// An empty pool; `unplanned` VUs may be made by [`Pool::grow`].
    pub(crate) fn new(
        workers: Arc<Workers>,
        state: Arc<RunState>,
        recipe: Recipe,
        unplanned: u64,
    ) -> Rc<Self> {
        Rc::new(Self {
            workers,
            state,
            recipe,
            made: Cell::new(0),
            unplanned: Cell::new(unplanned),
            idle: Mutex::default(),
            returned: Notify::new(),
            activations: Mutex::default(),
        })
    }

    /// Makes the VUs that the run needs from its start, some at a time on each worker.
    ///
    /// # Errors
    /// When the init of one fails, or they do not fit into the memory.
    pub(crate) async fn fill(&self, vus: u64, mut forecast: Forecast) -> Result<(), Unmade> {
        let width = self.workers.count() * 2;
        let mut making = stream::iter(0..vus)
            .map(|_| async {
                let (place, id) = self.make().await?;
                self.put(place, id);
                Ok(())
            })
            .buffer_unordered(width);
        let mut count = 0;
        while let Some(made) = making.next().await {
            made.map_err(|(id, error)| Unmade::Vu(id, error))?;
            count += 1;
            match forecast.look(count, memory::in_use) {
                Outlook::Fine => {}
                Outlook::Tight(text) => self.state.warn(&text),
                Outlook::Hopeless(text) => return Err(Unmade::NoRoom(text)),
            }
        }
        drop(making);
        let mut idle = self.idle.lock().unwrap_or_else(|e| e.into_inner());
        idle.make_contiguous().sort_by_key(|(_, id)| *id);
        Ok(())
    }

    /// Makes the next VU, on the worker that is its place.
    async fn make(&self) -> Result<(usize, u64), (u64, ScriptError)> {
        let id = self.made.get() + 1;
        self.made.set(id);
        let in_test = self.recipe.tuple.unscaled(id as i64) as u64;
        let place = (id as usize - 1) % self.workers.count();
        let host = self.state.clone();
        let (script, settings) = (self.recipe.script.clone(), self.recipe.settings.clone());
        let made = self.workers.on(place, move |worker| async move {
            let context = worker.context.clone();
            let vu = Vu::create(script, context, host, settings, id, in_test).await?;
            worker.keep(vu);
            Ok(())
        });
        let made = made.await.unwrap_or(Err(ScriptError::Interrupted));
        made.map_err(|error| (id, error))?;
        self.state.vus_initialized.fetch_add(1, Ordering::Relaxed);
        Ok((place, id))
    }

    fn put(&self, place: usize, id: u64) {
        let mut idle = self.idle.lock().unwrap_or_else(|e| e.into_inner());
        idle.push_back((place, id));
        drop(idle);
        self.returned.notify_one();
    }

    fn try_take(&self) -> Option<(usize, u64)> {
        self.idle
            .lock()
            .unwrap_or_else(|e| e.into_inner())
            .pop_front()
    }

    /// What VUs get when they serve the scenario of that name.
    pub(crate) fn set_activation(&self, scenario: &str, activation: Activation) {
        let mut activations = self.activations.lock().unwrap_or_else(|e| e.into_inner());
        activations.insert(scenario.to_owned(), Arc::new(activation));
    }

    fn lease(self: Rc<Self>, (place, id): (usize, u64)) -> Box<dyn Lease> {
        Box::new(VuLease {
            pool: Some(self),
            place,
            id,
        })
    }
}

/// The pool as executors see it.
pub(crate) struct SharedPool(pub(crate) Rc<VuPool>);

impl Pool for SharedPool {
    fn take(&self) -> BoxFuture<Result<Box<dyn Lease>, String>> {
        let pool = self.0.clone();
        Box::pin(async move {
            for waited in 1..=5u32 {
                // Asked for before looking, so that no return between the two is missed.
                let returned = pool.returned.notified();
                if let Some(vu) = pool.try_take() {
                    drop(returned);
                    return Ok(pool.lease(vu));
                }
                let wait = tokio::time::timeout(Duration::from_millis(400), returned);
                if wait.await.is_err() {
                    let text = format!("Could not get a VU from the buffer for {}ms", waited * 400);
                    pool.state.warn(&text);
                }
            }
            match pool.try_take() {
                Some(vu) => Ok(pool.lease(vu)),
                None => Err("could not get a VU from the buffer in 2s".to_owned()),
            }
        })
    }

    fn grow(&self) -> BoxFuture<Result<Box<dyn Lease>, String>> {
        let pool = self.0.clone();
        match pool.unplanned.get().checked_sub(1) {
            Some(left) => pool.unplanned.set(left),
            None => return self.take(),
        }
        Box::pin(async move {
            let made = pool.make().await;
            made.map(|vu| pool.lease(vu))
                .map_err(|(_, error)| error.to_string())
        })
    }

    fn add(&self) -> BoxFuture<Result<(), String>> {
        let pool = self.0.clone();
        Box::pin(async move {
            let (place, id) = pool.make().await.map_err(|(_, error)| error.to_string())?;
            pool.put(place, id);
            Ok(())
        })
    }

    fn workers(&self) -> usize {
        self.0.workers.count()
    }
}

struct VuLease {
    /// Taken when the VU is on its way back by itself.
    pool: Option<Rc<VuPool>>,
    place: usize,
    id: u64,
}

impl Lease for VuLease {
    fn serve(mut self: Box<Self>, job: Arc<Job>) -> BoxFuture<()> {
        let Some(pool) = self.pool.take() else {
            return Box::pin(std::future::ready(()));
        };
        let (place, id) = (self.place, self.id);
        let state = pool.state.clone();
        let activation = {
            let activations = pool.activations.lock().unwrap_or_else(|e| e.into_inner());
            activations.get(&job.progress.name).cloned()
        };
        let Some(activation) = activation else {
            pool.put(place, id);
            return Box::pin(std::future::ready(()));
        };
        let served = pool.workers.on(place, move |worker| {
            worker.serve(id, job, state, activation)
        });
        Box::pin(async move {
            served.await;
            pool.put(place, id);
        })
    }
}

impl Drop for VuLease {
    fn drop(&mut self) {
        if let Some(pool) = self.pool.take() {
            pool.put(self.place, self.id);
        }
    }
}

/// Where the lifetime functions run: VU 0, made anew for each of them.
pub(crate) struct Transient<'a> {
    pub(crate) workers: &'a Workers,
    pub(crate) state: &'a Arc<RunState>,
    pub(crate) script: &'a Arc<Script>,
    pub(crate) settings: &'a Arc<VuSettings>,
}

/// Keeps a flag on the worker thread only.
pub(crate) type LocalFlag = Rc<Cell<bool>>;

impl Transient<'_> {
    /// Makes a VU with the id 0 on the first worker, runs `work` in it and ends it. After `limit`
    /// it is interrupted and the answer is `None`.
    pub(crate) async fn run<T, F, Fut>(
        &self,
        limit: Duration,
        work: F,
    ) -> Result<Option<T>, ScriptError>
    where
        T: Send + 'static,
        F: FnOnce(Vu) -> Fut + Send + 'static,
        Fut: Future<Output = (Vu, T)> + 'static,
    {
        let (script, settings) = (self.script.clone(), self.settings.clone());
        let host = self.state.clone();
        let ran = self.workers.on(0, move |worker| async move {
            let context = worker.context.clone();
            let vu = Vu::create(script, context, host, settings, 0, 0).await?;
            let stopper = vu.stopper();
            let late: LocalFlag = Rc::default();
            let timer = {
                let (stopper, late) = (stopper.clone(), late.clone());
                tokio::task::spawn_local(async move {
                    tokio::time::sleep(limit).await;
                    late.set(true);
                    stopper.stop();
                })
            };
            let (vu, result) = worker.interruptible(stopper, work(vu)).await;
            timer.abort();
            worker.flush();
            vu.close().await;
            Ok((!late.get()).then_some(result))
        });
        ran.await.unwrap_or(Err(ScriptError::Interrupted))
    }
}
