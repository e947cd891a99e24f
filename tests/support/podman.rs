//! The image of the binary under test, and containers of it.
//!
//! It needs root, podman with runc, and debootstrap unless a base image is in local storage. Where
//! one of them is missing the test says so and passes; with `VOLLEY_REQUIRE_IMAGE=1` it fails.
//! Everything it makes is removed at the end, except a base image it had to bootstrap: that one
//! stays under its own name ([`OWN_BASE`]) for the next run.

// Each test target takes what it needs.
#![allow(dead_code)]

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    os::unix::fs::MetadataExt as _,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

/// What the Dockerfile is based on unless told otherwise.
pub(crate) const BASE: &str = "docker.io/library/debian:bookworm-slim";
/// The stand-in for it where it is not in local storage and no registry is asked.
pub(crate) const OWN_BASE: &str = "localhost/volley-image-test-base:bookworm";
/// How long a podman command may take before it counts as hung, in seconds.
pub(crate) const HUNG: &str = "180";
/// The same for the commands which fetch packages.
pub(crate) const FETCH_HUNG: &str = "900";

/// Where the scripts are in every container: the path of a `localFile` as well as of a mount.
pub(crate) const SCRIPT: &str = "/test/test.js";
/// What is checked, each on its own: one that fails does not keep the others from running.
pub(crate) type Cases = [(&'static str, fn(&Image))];

/// Builds the image and runs the cases.
#[track_caller]
pub(crate) fn run(cases: &Cases) {
    let image = match Image::build() {
        Ok(image) => image,
        Err(reason) if std::env::var_os("VOLLEY_REQUIRE_IMAGE").is_some_and(|v| v == "1") => {
            panic!("VOLLEY_REQUIRE_IMAGE=1, but {reason}")
        }
        Err(reason) => {
            // Not eprintln!, which the test harness keeps to itself while a test passes.
            let _ = writeln!(std::io::stderr(), "skipped the image test: {reason}");
            return;
        }
    };
    let mut failed = Vec::new();
    for (name, case) in cases {
        println!("image: {name}");
        if catch_unwind(AssertUnwindSafe(|| case(&image))).is_err() {
            failed.push(*name);
        }
    }
    assert!(failed.is_empty(), "these cases failed: {failed:#?}");
}

// === the image, and what runs in it ===

/// The image of the binary under test; its end takes away all that was made.
pub(crate) struct Image {
    /// The image that it is based on.
    pub(crate) base: String,
    pub(crate) tag: String,
    /// The network, and the beginning of the name of each container.
    pub(crate) name: String,
    pub(crate) folder: TempDir,
    pub(crate) made: AtomicUsize,
}

impl Image {
    /// # Errors
    /// What is missing here.
    pub(crate) fn build() -> Result<Self, String> {
        let own = fs::metadata("/proc/self").map_err(|error| error.to_string())?;
        if own.uid() != 0 {
            return Err("it needs root, for a bridge network".to_owned());
        }
        for tool in ["podman", "runc"] {
            if !exists(tool) {
                return Err(format!("{tool} is not installed"));
            }
        }
        let base = base()?;
        let folder = tempfile::Builder::new()
            .prefix("volley-image-test-")
            .tempdir()
            .map_err(|error| error.to_string())?;
        let name = folder.path().file_name().expect("a name");
        let name = name.to_str().expect("a plain name").to_owned();
        let image = Self {
            base: base.clone(),
            tag: format!("localhost/volley-image-test:{name}"),
            name,
            folder,
            made: AtomicUsize::new(0),
        };

        let binary = Path::new(env!("CARGO_BIN_EXE_volley"));
        let binaries = binary.parent().expect("a folder").display();
        let runner = Path::new(env!("CARGO_MANIFEST_DIR"));
        let root = runner.parent().expect("the workspace");
        let mut build = podman(FETCH_HUNG);
        // RUN lines in a chroot, and in the network of the host: they need no namespaces or
        // cgroups of their own, which a container or a small machine may not give.
        build.args(["build", "--isolation=chroot", "--network=host"]);
        build.args([NOFILE, "--build-arg=VERSION=of-a-test"]);
        build.arg(format!("--build-arg=BASE={base}"));
        build.arg(format!("--build-context=build={binaries}"));
        done(build.arg("--tag").arg(&image.tag).arg(root));

        // Whether podman can run anything here is not the image's doing.
        able(podman(HUNG).args(["network", "create", &image.name]))?;
        able(&mut image.container().command(&["true"]).podman)?;
        let version = image.container().command(&["volley", "version"]).output();
        if text(&version.stderr).contains("GLIBC_") {
            return Err("the binary needs a newer C library than the image has".to_owned());
        }
        Ok(image)
    }

    /// A container in the network of the test.
    pub(crate) fn container(&self) -> Container<'_> {
        self.container_in(&self.name)
    }

    /// A container in that network; `host` is that of the machine.
    pub(crate) fn container_in(&self, network: &str) -> Container<'_> {
        let name = format!("{}-{}", self.name, self.next());
        let mut podman = podman(HUNG);
        podman.args(["run", "--rm", NOFILE, "--ulimit=nproc=1024:1024"]);
        podman.arg(format!("--network={network}"));
        podman.arg(format!("--name={name}"));
        Container {
            image: self,
            name,
            podman,
        }
    }

    pub(crate) fn next(&self) -> usize {
        self.made.fetch_add(1, Ordering::Relaxed)
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        let filter = format!("--filter=name=^{}-", self.name);
        let left = output(podman(HUNG).args(["ps", "--all", "--quiet", &filter]));
        for id in text(&left.stdout).split_whitespace() {
            output(podman(HUNG).args(["rm", "--force", "--time=0", id]));
        }
        output(podman(HUNG).args(["network", "rm", "--force", &self.name]));
        output(podman(HUNG).args(["rmi", "--force", &self.tag]));
    }
}

/// A uid that nobody knows.
pub(crate) fn somebody() -> u32 {
    20_000 + std::process::id() % 40_000
}

/// A container to be: `podman run` and its options, then what runs in it.
pub(crate) struct Container<'image> {
    pub(crate) image: &'image Image,
    pub(crate) name: String,
    pub(crate) podman: Command,
}

impl Container<'_> {
    pub(crate) fn option(mut self, option: &str) -> Self {
        self.podman.arg(option);
        self
    }

    /// A uid that nobody knows, and no capability, as strict clusters ask for.
    pub(crate) fn unprivileged(self) -> Self {
        self.unprivileged_as(somebody())
    }

    /// That uid, root among them, and no capability.
    pub(crate) fn unprivileged_as(self, uid: u32) -> Self {
        self.option("--cap-drop=ALL")
            .option("--security-opt=no-new-privileges")
            .option(&format!("--user={uid}:{uid}"))
    }

    /// No place to write but /tmp; podman by itself would add others.
    pub(crate) fn read_only(self) -> Self {
        self.option("--read-only")
            .option("--read-only-tmpfs=false")
            .option("--tmpfs=/tmp")
    }

    /// `script` mounted at [`SCRIPT`].
    pub(crate) fn script(self, script: &str) -> Self {
        let file = self.image.folder.path().join(self.image.next().to_string());
        fs::write(&file, script).expect("a script");
        self.option(&format!("--volume={}:{SCRIPT}:ro", file.display()))
    }

    /// As the `command` of a pod, which replaces the entrypoint.
    pub(crate) fn command<W: AsRef<str>>(self, words: &[W]) -> Self {
        let mut words = words.iter().map(AsRef::as_ref);
        let program = words.next().expect("a program");
        let mut container = self.option(&format!("--entrypoint={program}"));
        container.podman.arg(&container.image.tag).args(words);
        container
    }

    /// As the arguments of the image's own entrypoint.
    pub(crate) fn arguments(mut self, arguments: &[&str]) -> Self {
        self.podman.arg(&self.image.tag).args(arguments);
        self
    }

    #[track_caller]
    pub(crate) fn done(mut self) -> Output {
        done(&mut self.podman)
    }

    pub(crate) fn output(mut self) -> Output {
        output(&mut self.podman)
    }

    pub(crate) fn start(mut self) -> Running {
        let mut run = Running {
            child: Some(spawn(&mut self.podman)),
            name: self.name,
            address: Ipv4Addr::UNSPECIFIED.into(),
        };
        let form = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}";
        let name = run.name.clone();
        run.address = run.until("an address", |_| {
            let told = output(podman(HUNG).args(["inspect", "--format", form, &name]));
            text(&told.stdout).trim().parse().ok()
        });
        run
    }
}

/// A container that runs until it is stopped.
pub(crate) struct Running {
    pub(crate) name: String,
    pub(crate) address: IpAddr,
    pub(crate) child: Option<Child>,
}

impl Running {
    /// Waits for `look` to find something in the running container.
    pub(crate) fn until<T>(&mut self, what: &str, mut look: impl FnMut(IpAddr) -> Option<T>) -> T {
        let start = Instant::now();
        loop {
            if let Some(found) = look(self.address) {
                return found;
            }
            let child = self.child.as_mut().expect("it was not stopped");
            let over = child.try_wait().expect("a child").is_some();
            if over || start.elapsed() > Duration::from_secs(60) {
                let output = self.stop();
                panic!("there was no {what}: {}", both(&output));
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until it is ready to be started.
    pub(crate) fn until_ready(&mut self) {
        self.until("a ready agent", |at| {
            let (status, _) = http(at, 6565, "GET", "/v1/status", "")?;
            (status == 200).then_some(())
        });
    }

    pub(crate) fn until_iteration(&mut self) {
        self.until("iteration", |at| {
            let (_, page) = http(at, 5656, "GET", "/metrics", "")?;
            page.contains("\nk6_iterations{").then_some(())
        });
    }

    /// Its end, and what it wrote. It has to come by itself.
    pub(crate) fn finish(&mut self) -> Output {
        let child = self.child.take().expect("it was not stopped");
        child.wait_with_output().expect("it ends")
    }

    /// SIGKILL, as when memory or the node is gone.
    pub(crate) fn kill(&mut self) {
        done(podman(HUNG).args(["kill", "--signal=KILL", &self.name]));
        self.finish();
    }

    /// SIGTERM, as the kubelet sends it, and the end. The time is for one that hangs.
    pub(crate) fn stop(&mut self) -> Output {
        output(podman(HUNG).args(["stop", "--time=60", &self.name]));
        let child = self.child.take().expect("it was not stopped");
        child.wait_with_output().expect("it ends")
    }
}

// === podman and the base image ===

/// podman asks for more open files than a hard limit may allow, and then fails.
pub(crate) const NOFILE: &str = "--ulimit=nofile=1024:1024";

/// podman, which is ended after `seconds`. cgroupfs: there need not be a systemd to ask.
pub(crate) fn podman(seconds: &str) -> Command {
    let mut command = limited(seconds, "podman");
    command.args(["--cgroup-manager=cgroupfs", "--runtime=runc"]);
    command
}

pub(crate) fn limited(seconds: &str, program: &str) -> Command {
    let mut command = Command::new("timeout");
    command.args(["--foreground", "--kill-after=10", seconds, program]);
    command
}

/// A port of this machine that nobody listens on.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    listener.local_addr().expect("an address").port()
}

pub(crate) fn exists(tool: &str) -> bool {
    let mut command = Command::new(tool);
    let command = command.arg("--version");
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok()
}

/// The name of the base image; where there is none, it is made.
pub(crate) fn base() -> Result<String, String> {
    for name in [BASE, OWN_BASE] {
        let mut look = podman(HUNG);
        if output(look.args(["image", "exists", name]))
            .status
            .success()
        {
            return Ok(name.to_owned());
        }
    }
    if !exists("debootstrap") {
        return Err(format!("neither {BASE} nor debootstrap is here"));
    }
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let root = folder.path().join("root");
    let mut bootstrap = limited(FETCH_HUNG, "debootstrap");
    bootstrap.args(["--variant=minbase", "bookworm"]).arg(&root);
    able(bootstrap.args(mirror()))?;
    let archive = folder.path().join("root.tar");
    let mut tar = Command::new("tar");
    tar.args([
        "--exclude=./var/cache/apt/*",
        "--exclude=./var/lib/apt/lists/*",
    ]);
    able(tar.arg("-C").arg(&root).arg("-cf").arg(&archive).arg("."))?;
    able(podman(HUNG).arg("import").arg(&archive).arg(OWN_BASE))?;
    Ok(OWN_BASE.to_owned())
}

/// The mirror that this machine uses for the release, if it says so; debootstrap knows another.
pub(crate) fn mirror() -> Option<String> {
    let mut files = vec![PathBuf::from("/etc/apt/sources.list")];
    let folder = fs::read_dir("/etc/apt/sources.list.d")
        .into_iter()
        .flatten();
    files.extend(folder.flatten().map(|entry| entry.path()));
    files.iter().find_map(|file| {
        let text = fs::read_to_string(file).ok()?;
        one_line_mirror(&text).or_else(|| stanza_mirror(&text))
    })
}

/// From lines as `deb [options] http://mirror/debian bookworm main`.
pub(crate) fn one_line_mirror(text: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let line = line.trim().strip_prefix("deb ")?.trim_start();
        let line = match line.strip_prefix('[') {
            Some(rest) => rest.split_once(']')?.1,
            None => line,
        };
        let mut words = line.split_whitespace();
        let uri = words.next()?;
        (words.next()? == "bookworm").then(|| uri.to_owned())
    })
}

/// From stanzas with `URIs:` and `Suites:`.
pub(crate) fn stanza_mirror(text: &str) -> Option<String> {
    text.split("\n\n").find_map(|stanza| {
        let field = |name: &str| stanza.lines().find_map(|line| line.strip_prefix(name));
        let here = field("Suites:")?
            .split_whitespace()
            .any(|s| s == "bookworm");
        let uri = field("URIs:")?.split_whitespace().next()?;
        here.then(|| uri.to_owned())
    })
}

pub(crate) fn spawn(command: &mut Command) -> Child {
    let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
    command.stderr(Stdio::piped()).spawn().expect("a process")
}

pub(crate) fn output(command: &mut Command) -> Output {
    command.stdin(Stdio::null()).output().expect("a process")
}

/// The output of a command that has to succeed.
#[track_caller]
pub(crate) fn done(command: &mut Command) -> Output {
    let output = output(command);
    assert!(output.status.success(), "{command:?}: {}", both(&output));
    output
}

/// The same for what this machine may not be able to do.
pub(crate) fn able(command: &mut Command) -> Result<(), String> {
    let output = output(command);
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{command:?} failed: {}", both(&output)))
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

pub(crate) fn both(output: &Output) -> String {
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    format!("{}\nstdout:\n{stdout}\nstderr:\n{stderr}", output.status)
}

/// Status and body, or nothing while nobody answers.
pub(crate) fn http(
    address: IpAddr,
    port: u16,
    method: &str,
    path: &str,
    body: &str,
) -> Option<(u16, String)> {
    let limit = Duration::from_secs(30);
    let mut stream = TcpStream::connect_timeout(&SocketAddr::new(address, port), limit).ok()?;
    stream.set_read_timeout(Some(limit)).ok()?;
    let length = body.len();
    let head = format!("{method} {path} HTTP/1.0\r\nContent-Type: application/json\r\n");
    write!(stream, "{head}Content-Length: {length}\r\n\r\n{body}").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let status = answer.split(' ').nth(1)?.parse().ok()?;
    let body = answer
        .split_once("\r\n\r\n")
        .map(|(_, body)| body.to_owned());
    Some((status, body.unwrap_or_default()))
}
