//! Work that takes a processor for milliseconds and more: it would hold up all VUs of a worker, so
//! it runs on a thread of its own while they go on.

use std::{sync::LazyLock, thread};

use tokio::sync::{Semaphore, oneshot};

/// As many at a time as there are processors.
static TURNS: LazyLock<Semaphore> = LazyLock::new(|| {
    let processors = thread::available_parallelism().map_or(1, usize::from);
    Semaphore::new(processors)
});

/// Runs `work` on another thread; `None` when there is no thread to be had, or it panicked.
///
/// Dropping the future does not end the work, only the waiting for it.
pub(crate) async fn run<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let turn = TURNS.acquire().await.ok()?;
    let (answer, answered) = oneshot::channel();
    let thread = thread::Builder::new().name("volley-offload".to_owned());
    let started = thread.spawn(move || {
        // It counts until it ends, whether or not somebody still waits.
        let _turn = turn;
        let _ = answer.send(work());
    });
    started.ok()?;
    answered.await.ok()
}

#[cfg(test)]
mod tests {
    use super::run;
    use crate::harness::on_worker;

    #[test]
    fn others_go_on_meanwhile_and_panics_stay_there() {
        on_worker(async {
            let (go, wait) = std::sync::mpsc::channel();
            let work = run(move || wait.recv().unwrap());
            // It blocks its thread until this side, on the same worker, says go.
            let other = async { go.send(5).unwrap() };
            let (found, ()) = tokio::join!(work, other);
            assert_eq!(found, Some(5));
            assert_eq!(run(|| -> u8 { panic!("on purpose") }).await, None);
            assert_eq!(run(|| 1).await, Some(1));
        });
    }
}
