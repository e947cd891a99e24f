//! A timer that is finer than the event loop's, which counts in milliseconds.
//!
//! It is one kernel timer (`timerfd`) that is set anew for each deadline. Tests on paused time,
//! and a kernel that has no descriptor left to give, get the event loop's timer instead.
//!
//! The one file of this crate with `unsafe` code: waiting for a descriptor promises that it stays
//! open.
#![allow(
    unsafe_code,
    reason = "the event loop waits for a descriptor of our own"
)]

use std::{
    os::fd::OwnedFd,
    pin::Pin,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use tokio::{
    io::{Interest, unix::AsyncFd},
    time::{Instant, Sleep, sleep_until},
};

/// A timer of one task.
pub(crate) struct Timer {
    kind: Kind,
    /// What it is set to.
    deadline: Option<Instant>,
}

enum Kind {
    Fine(AsyncFd<OwnedFd>),
    Coarse {
        sleep: Option<Pin<Box<Sleep>>>,
        waker: Option<Waker>,
    },
}

impl Timer {
    /// A timer that is not set.
    pub(crate) fn new() -> Self {
        // Paused time does not move the kernel's timers.
        let fine = if cfg!(test) { None } else { Self::fine() };
        fine.unwrap_or(Self {
            kind: Kind::Coarse {
                sleep: None,
                waker: None,
            },
            deadline: None,
        })
    }

    fn fine() -> Option<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let fd = timerfd_create(TimerfdClockId::Monotonic, flags).ok()?;
        // SAFETY: the descriptor is open and owned by the AsyncFd from here on, which gives it to
        // nobody, and an OwnedFd always answers the same number.
        let fd = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) };
        Some(Self {
            kind: Kind::Fine(fd.ok()?),
            deadline: None,
        })
    }

    /// Sets it, or stops it; it keeps no more than one deadline. `now` saves asking for the time.
    pub(crate) fn set(&mut self, deadline: Option<Instant>, now: Instant) {
        if self.deadline == deadline {
            return;
        }
        self.deadline = deadline;
        match &mut self.kind {
            Kind::Fine(fd) => {
                // A kernel timer set to zero stops.
                let wait = deadline.map_or(Duration::ZERO, |deadline| {
                    deadline
                        .saturating_duration_since(now)
                        .max(Duration::from_nanos(1))
                });
                let spec = Itimerspec {
                    it_interval: Timespec {
                        tv_sec: 0,
                        tv_nsec: 0,
                    },
                    it_value: Timespec {
                        tv_sec: i64::try_from(wait.as_secs()).unwrap_or(i64::MAX),
                        tv_nsec: wait.subsec_nanos().into(),
                    },
                };
                // It fails for times that are no times, and a Duration always is one.
                let _ = timerfd_settime(fd, TimerfdTimerFlags::empty(), &spec);
            }
            Kind::Coarse { sleep, waker } => {
                *sleep = None;
                if let Some(waker) = waker.take() {
                    waker.wake();
                }
            }
        }
    }

    /// Done once the deadline has passed, which also clears it. Without one it waits for
    /// [`Self::set`].
    pub(crate) fn poll(&mut self, task: &mut Context<'_>) -> Poll<()> {
        match &mut self.kind {
            Kind::Fine(fd) => loop {
                let mut guard = match ready!(fd.poll_read_ready(task)) {
                    Ok(guard) => guard,
                    // The event loop is going down.
                    Err(_) => return Poll::Pending,
                };
                let mut expirations = [0; 8];
                match guard.try_io(|fd| Ok(rustix::io::read(fd, &mut expirations)?)) {
                    Ok(_) => {
                        self.deadline = None;
                        return Poll::Ready(());
                    }
                    Err(_would_block) => {}
                }
            },
            Kind::Coarse { sleep, waker } => {
                let Some(deadline) = self.deadline else {
                    *waker = Some(task.waker().clone());
                    return Poll::Pending;
                };
                let sleep = sleep.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
                if sleep.as_mut().poll(task).is_pending() {
                    *waker = Some(task.waker().clone());
                    return Poll::Pending;
                }
                self.deadline = None;
                Poll::Ready(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;

    #[tokio::test]
    async fn the_kernel_timer_keeps_its_last_deadline() {
        let mut timer = Timer::fine().unwrap();
        let start = Instant::now();
        timer.set(Some(start + Duration::from_secs(3600)), start);
        let wait = Duration::from_millis(3);
        timer.set(Some(start + wait), start);
        poll_fn(|task| timer.poll(task)).await;
        assert!(start.elapsed() >= wait);

        // Once it has passed, it does not pass again.
        let stale = poll_fn(|task| Poll::Ready(timer.poll(task).is_ready())).await;
        assert!(!stale);

        // A deadline in the past has passed already.
        timer.set(Some(start), Instant::now());
        poll_fn(|task| timer.poll(task)).await;
        timer.set(Some(Instant::now() + wait), Instant::now());
        timer.set(None, Instant::now());
        let ended = tokio::time::timeout(2 * wait, poll_fn(|task| timer.poll(task))).await;
        assert!(ended.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn the_coarse_timer_follows_paused_time() {
        let mut timer = Timer::new();
        let start = Instant::now();
        timer.set(Some(start + Duration::from_secs(60)), start);
        poll_fn(|task| timer.poll(task)).await;
        assert_eq!(start.elapsed().as_secs(), 60);
    }
}
