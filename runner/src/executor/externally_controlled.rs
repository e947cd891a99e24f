//! `externally-controlled`: VUs loop, and how many of them is said while they do, over the REST
//! API. k6 had it until version 1.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep_until},
};

use super::{BoxFuture, Kind, Progress, Run, slots::Slots};
use crate::{
    options::{ExternallyControlled, ScenarioKind},
    progress::{fixed_width, time_column},
};

pub(super) const KIND: Kind = Kind {
    name: "externally-controlled",
    run,
    columns: |scenario, tuple, progress| {
        let ScenarioKind::ExternallyControlled(config) = &scenario.kind else {
            return Vec::new();
        };
        let asked = progress.remote.vus().unwrap_or_else(|| Vus::of(config));
        let max = tuple.scale(asked.max);
        let width = max.to_string().len();
        let spent = progress.spent();
        let time = match config.duration() {
            Some(duration) => time_column(spent, duration.to_std()),
            None => fixed_width(spent, spent),
        };
        vec![format!("{:0width$}/{max} VUs", progress.active()), time]
    },
};

/// How many VUs loop, and how many there may be, over all instances.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Vus {
    active: i64,
    max: i64,
}

impl Vus {
    fn of(config: &ExternallyControlled) -> Self {
        Self {
            active: config.vus(),
            max: config.max_vus(),
        }
    }
}

/// Something that is wanted of a scenario that runs.
#[derive(Debug, Clone, Copy)]
enum Order {
    Scale(Vus),
    Pause(bool),
}

type Answer = Result<(), String>;
type Orders = mpsc::UnboundedReceiver<(Order, oneshot::Sender<Answer>)>;

/// The way to a scenario that listens.
#[derive(Default)]
pub(crate) struct Remote(Mutex<Listening>);

#[derive(Default)]
struct Listening {
    /// What was asked for last.
    vus: Option<Vus>,
    orders: Option<mpsc::UnboundedSender<(Order, oneshot::Sender<Answer>)>>,
}

impl Remote {
    fn listening(&self) -> std::sync::MutexGuard<'_, Listening> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn vus(&self) -> Option<Vus> {
        self.listening().vus
    }

    fn listen(&self) -> Orders {
        let (orders, received) = mpsc::unbounded_channel();
        self.listening().orders = Some(orders);
        received
    }

    /// Changes the numbers of VUs of a scenario with that configuration; done when this instance
    /// has made and told its share of them, or those that are too many are gone. Before its start,
    /// the numbers are those it starts with.
    ///
    /// # Errors
    /// Numbers that it cannot have, or a VU that could not be made.
    pub(crate) fn scale(
        &self,
        config: &ExternallyControlled,
        vus: Option<i64>,
        max: Option<i64>,
    ) -> impl Future<Output = Answer> + use<> {
        let start = Vus::of(config);
        let mut listening = self.listening();
        let now = listening.vus.unwrap_or(start);
        let wanted = Vus {
            active: vus.unwrap_or(now.active),
            max: max.unwrap_or(now.max),
        };
        let problem = ExternallyControlled::check_vus(wanted.active, wanted.max).or_else(|| {
            (wanted.max < start.max).then(|| {
                format!(
                    "the new number of max VUs cannot be lower than the starting number of max \
                     VUs ({})",
                    start.max
                )
            })
        });
        let sent = match problem {
            Some(problem) => Err(problem),
            None => {
                listening.vus = Some(wanted);
                Ok(listening.order(Order::Scale(wanted)))
            }
        };
        drop(listening);
        async move {
            match sent? {
                Some(answered) => answered.await.unwrap_or_else(|_| Err(over())),
                None => Ok(()),
            }
        }
    }

    /// Lets the VUs finish their iterations and wait, or go on; done when they do.
    ///
    /// # Errors
    /// Before its start.
    pub(crate) fn pause(&self, paused: bool) -> impl Future<Output = Answer> + use<> {
        let sent = self.listening().order(Order::Pause(paused));
        async move {
            let early = "cannot pause the externally controlled executor before it has started";
            let answered = sent.ok_or_else(|| early.to_owned())?;
            answered.await.unwrap_or_else(|_| Err(over()))
        }
    }
}

fn over() -> String {
    "the scenario is over".to_owned()
}

impl Listening {
    fn order(&self, order: Order) -> Option<oneshot::Receiver<Answer>> {
        let (answer, answered) = oneshot::channel();
        // Nobody may be listening any more; then the answer is dropped.
        let _ = self.orders.as_ref()?.send((order, answer));
        Some(answered)
    }
}

fn run(run: Run) -> BoxFuture<Result<(), String>> {
    Box::pin(async move {
        let ScenarioKind::ExternallyControlled(config) = &run.scenario.kind else {
            return Err("not an externally-controlled scenario".to_owned());
        };
        let duration = config.duration().map(|duration| duration.to_std());
        let share = move |progress: &Progress| {
            duration.map_or(0.0, |all| {
                progress.spent().as_secs_f64() / all.as_secs_f64()
            })
        };
        let _ = run.progress.share.set(Box::new(share));
        let start = Vus::of(config);
        let mut scenario = Scenario {
            run: &run,
            slots: Slots::new(&run),
            orders: run.progress.remote.listen(),
            active: 0,
            made: run.tuple.scale(start.max),
            paused: false,
        };
        let asked = run.progress.remote.vus().unwrap_or(start);
        let outcome = scenario.pass(asked, duration).await;
        outcome.and(scenario.slots.end().await)
    })
}

struct Scenario<'a> {
    run: &'a Run,
    slots: Slots<'a>,
    orders: Orders,
    active: usize,
    /// VUs that exist for it.
    made: i64,
    paused: bool,
}

impl Scenario<'_> {
    /// Until its end, or the run's.
    async fn pass(&mut self, start: Vus, duration: Option<Duration>) -> Result<(), String> {
        let mut abort = self.run.abort.clone();
        let mut abort_of_orders = abort.clone();
        self.scale(start).await?;
        loop {
            // Pauses move the end.
            let end = duration.filter(|_| !self.paused).map(|duration| {
                Instant::now() + duration.saturating_sub(self.run.progress.spent())
            });
            tokio::select! {
                biased;
                _ = abort.wait_for(|aborted| *aborted) => return Ok(()),
                () = sleep_until(end.unwrap_or_else(Instant::now)), if end.is_some() => {
                    return Ok(());
                }
                Some(freed) = self.slots.next_freed() => freed?,
                Some((order, answer)) = self.orders.recv() => {
                    let done = tokio::select! {
                        biased;
                        _ = abort_of_orders.wait_for(|aborted| *aborted) => return Ok(()),
                        done = self.obey(order) => done,
                    };
                    let _ = answer.send(done);
                }
            }
        }
    }

    async fn obey(&mut self, order: Order) -> Result<(), String> {
        match order {
            Order::Scale(vus) => self.scale(vus).await,
            Order::Pause(true) => {
                self.paused = true;
                self.slots.run(0);
                self.wait_until_free(0).await?;
                self.run.progress.pause(true);
                Ok(())
            }
            Order::Pause(false) => {
                self.paused = false;
                self.run.progress.pause(false);
                self.slots.run(self.active);
                Ok(())
            }
        }
    }

    async fn scale(&mut self, vus: Vus) -> Result<(), String> {
        let share = |vus| self.run.tuple.scale(vus);
        while self.made < share(vus.max) {
            self.run.pool.add().await?;
            self.made += 1;
        }
        self.active = usize::try_from(share(vus.active)).unwrap_or(0);
        if self.paused {
            return Ok(());
        }
        self.slots.run(self.active);
        self.slots.keep(self.active);
        self.wait_until_free(self.active).await
    }

    /// Waits until the slots from number `count` have given their VUs back.
    async fn wait_until_free(&mut self, count: usize) -> Result<(), String> {
        while !self.slots.free_from(count)
            && let Some(freed) = self.slots.next_freed().await
        {
            freed?;
        }
        Ok(())
    }
}
