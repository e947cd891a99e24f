//! Files that are missing, or not there yet.
//!
//! A client of a network file system remembers for up to a minute that a name was not there (NFS:
//! `acdirmax`), and a handle goes stale when a file is replaced on the server. A script that was
//! just copied to its volume is therefore looked for again and again, for a minute there and for a
//! second elsewhere, where at most a mount is still being set up.
//!
//! That time is for all files together. After it, everything that was there when the first one was
//! missed is visible, so that waiting again for the next file would find nothing more; and a
//! script that is simply wrong, or tries optional files one after the other, costs its user that
//! time once.

use std::{
    io,
    path::Path,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

/// The longest and the shortest pause between two looks: each may be a request to a server.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));

/// The numbers of network file systems, as `statfs(2)` gives them, and their names. Everything
/// below FUSE counts: most of it is a client of an object store or a file server.
const NETWORK: [(u64, &str); 13] = [
    (0x6969, "nfs"),
    (0x517b, "smb"),
    (0xfe53_4d42, "smb2"),
    (0xff53_4d42, "cifs"),
    (0x6573_5546, "fuse"),
    (0x0102_1997, "9p"),
    (0x00c3_6400, "ceph"),
    (0x0bd0_0bd0, "lustre"),
    (0x4750_4653, "gpfs"),
    (0x5346_414f, "afs"),
    (0x7375_7245, "coda"),
    (0x0116_1970, "gfs2"),
    (0x7461_636f, "ocfs2"),
];

/// How long missing files are waited for, all together.
pub struct FileWait {
    network: Duration,
    local: Duration,
    /// What the pauses so far add up to.
    waited: Mutex<Duration>,
    /// Hears once that a network file system makes the process wait.
    tell: Box<dyn Fn(&str) + Send + Sync>,
    told: AtomicBool,
    /// Whether nobody wants the files any more.
    is_over: Box<dyn Fn() -> bool + Send + Sync>,
    pause: fn(Duration),
    file_system: fn(&Path) -> Option<&'static str>,
}

impl FileWait {
    /// So long on network file systems, and so long on others.
    pub fn new(network: Duration, local: Duration) -> Self {
        Self {
            network,
            local,
            waited: Mutex::default(),
            tell: Box::new(|_| {}),
            told: AtomicBool::new(false),
            is_over: Box::new(|| false),
            pause: std::thread::sleep,
            file_system: network_file_system,
        }
    }

    /// Missing files are missing.
    pub fn none() -> Self {
        Self::new(Duration::ZERO, Duration::ZERO)
    }

    /// Who hears, once, that a network file system makes the process wait.
    #[must_use]
    pub fn told_to(mut self, tell: impl Fn(&str) + Send + Sync + 'static) -> Self {
        self.tell = Box::new(tell);
        self
    }

    /// Ends all waiting as soon as that is so.
    #[must_use]
    pub fn until(mut self, is_over: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        self.is_over = Box::new(is_over);
        self
    }

    /// What missing files have cost so far.
    pub fn waited(&self) -> Duration {
        *self.waited.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Looks for a file, again and again while it is missing or stale and there is time left.
    /// Blocks the thread.
    ///
    /// # Errors
    /// What the last look has found.
    pub fn patiently<T>(
        &self,
        path: &Path,
        mut look: impl FnMut() -> io::Result<T>,
    ) -> io::Result<T> {
        let mut pause = PAUSES.0;
        let mut place = None;
        loop {
            let error = match look() {
                Err(error) if may_pass(&error) => error,
                other => return other,
            };
            let network = *place.get_or_insert_with(|| (self.file_system)(path));
            let limit = network.map_or(self.local, |_| self.network);
            let left = limit.saturating_sub(self.waited());
            if left.is_zero() || (self.is_over)() {
                return Err(error);
            }
            if let Some(name) = network
                && !self.told.swap(true, Ordering::Relaxed)
            {
                (self.tell)(&format!(
                    "{} is not there (yet): it is waited for up to {} s, because its file system \
                     ({name}) may remember for a minute that a name was missing",
                    path.display(),
                    left.as_secs_f64()
                ));
            }
            let now = pause.min(left);
            (self.pause)(now);
            *self.waited.lock().unwrap_or_else(|e| e.into_inner()) += now;
            pause = (pause * 2).min(PAUSES.1);
        }
    }
}

/// Whether an error may be gone the next time.
fn may_pass(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::StaleNetworkFileHandle
    )
}

/// The name of the network file system that a path is on, or that its nearest existing folder is
/// on; `None` for any other.
fn network_file_system(path: &Path) -> Option<&'static str> {
    let known = path
        .ancestors()
        .find_map(|place| rustix::fs::statfs(place).ok())?;
    // Of 32 bits everywhere, but on some machines in a signed field.
    let number = u64::from(known.f_type as u32);
    let mut names = NETWORK.iter();
    names.find(|(n, _)| *n == number).map(|(_, name)| *name)
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Error, ErrorKind},
        sync::{Arc, atomic::AtomicUsize},
    };

    use super::*;

    /// On a network file system, or on none, with pauses that take no time.
    fn wait(network: bool) -> FileWait {
        let mut wait = FileWait::new(Duration::from_secs(60), Duration::from_secs(1));
        wait.pause = |_| {};
        wait.file_system = if network { |_| Some("nfs") } else { |_| None };
        wait
    }

    fn missing(_: &Path) -> io::Result<()> {
        Err(ErrorKind::NotFound.into())
    }

    #[test]
    fn a_file_that_never_appears_is_waited_for_once() {
        for (network, limit) in [(true, 60), (false, 1)] {
            let wait = wait(network);
            let path = Path::new("/scripts/a.js");
            for _ in 0..3 {
                let mut looks = 0;
                let found = wait.patiently(path, || {
                    looks += 1;
                    missing(path)
                });
                assert_eq!(found.unwrap_err().kind(), ErrorKind::NotFound);
                assert_eq!(wait.waited(), Duration::from_secs(limit));
                assert!(looks < 70, "{looks}");
            }
        }
    }

    #[test]
    fn what_appears_late_or_was_stale_is_found() {
        for kind in [ErrorKind::NotFound, ErrorKind::StaleNetworkFileHandle] {
            let wait = wait(true);
            let mut looks = 0;
            let found = wait.patiently(Path::new("/a.js"), || {
                looks += 1;
                (looks == 4).then_some("text").ok_or(Error::from(kind))
            });
            assert_eq!(found.unwrap(), "text");
            // 100, 200 and 400 ms.
            assert_eq!(wait.waited(), Duration::from_millis(700));
        }
    }

    #[test]
    fn other_errors_are_final() {
        let wait = wait(true);
        let denied = || Err::<(), _>(ErrorKind::PermissionDenied.into());
        let found = wait.patiently(Path::new("/a.js"), denied);
        assert_eq!(found.unwrap_err().kind(), ErrorKind::PermissionDenied);
        assert_eq!(wait.waited(), Duration::ZERO);
    }

    #[test]
    fn a_wait_for_the_network_is_told_once() {
        let told: Arc<Mutex<Vec<String>>> = Arc::default();
        let list = told.clone();
        let wait = wait(true).told_to(move |text| list.lock().unwrap().push(text.to_owned()));
        for name in ["/scripts/a.js", "/scripts/b.js"] {
            let path = Path::new(name);
            wait.patiently(path, || missing(path)).unwrap_err();
        }
        let told = told.lock().unwrap();
        assert_eq!(told.len(), 1);
        assert!(told[0].starts_with("/scripts/a.js is not there (yet)"));
        assert!(told[0].contains("up to 60 s"), "{told:?}");
        assert!(told[0].contains("(nfs)"), "{told:?}");
    }

    #[test]
    fn nobody_is_waited_for_in_vain() {
        let looks = Arc::new(AtomicUsize::new(0));
        let seen = looks.clone();
        let wait = wait(true).until(move || seen.load(Ordering::Relaxed) == 2);
        let found = wait.patiently(Path::new("/a.js"), || {
            looks.fetch_add(1, Ordering::Relaxed);
            missing(Path::new("/a.js"))
        });
        assert_eq!(found.unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(looks.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn the_nearest_existing_folder_tells_the_file_system() {
        // /proc is everywhere, and no network file system.
        assert_eq!(network_file_system(Path::new("/proc/no/such/file")), None);
        assert_eq!(network_file_system(Path::new("no/such/file")), None);
    }
}
