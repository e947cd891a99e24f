//! The container image, as a person, a kubelet and each generation of the k6-operator use it.
//!
//! It needs root, podman with runc, and debootstrap unless a base image is in local storage. Where
//! one of them is missing the test says so and passes; with `VOLLEY_REQUIRE_IMAGE=1` it fails.
//! Everything it makes is removed at the end, except a base image it had to bootstrap: that one
//! stays under its own name ([`OWN_BASE`]) for the next run.

use std::{
    fmt::Write as _,
    fs,
    io::{Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream},
    os::unix::fs::MetadataExt as _,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;

/// What the Dockerfile is based on unless told otherwise.
const BASE: &str = "docker.io/library/debian:bookworm-slim";
/// The stand-in for it where it is not in local storage and no registry is asked.
const OWN_BASE: &str = "localhost/volley-image-test-base:bookworm";
/// How long a podman command may take before it counts as hung, in seconds.
const HUNG: &str = "180";
/// The same for the commands which fetch packages.
const FETCH_HUNG: &str = "900";

/// Where the scripts are in every container: the path of a `localFile` as well as of a mount.
const SCRIPT: &str = "/test/test.js";
/// As many VUs as the fleet below has runners, so that each runner has one.
const SHORT: &str = "
export const options = { vus: 18, iterations: 36 };
export default function () {}
";
/// It does not end by itself while a test looks.
const LONG: &str = "
import { sleep } from 'k6';
export const options = { vus: 18, duration: '30m' };
export default function () { sleep(0.05); }
";
const BROKEN: &str = "import { nothing } from './missing.js'; export default nothing;";

type Case = fn(&Image);

/// What is checked, each on its own: one that fails does not keep the others from running.
const CASES: &[(&str, Case)] = &[
    ("says what it is, and is nobody in particular", declares),
    ("has the tools that the initializers call", has_tools),
    ("carries certificates and no package caches", carries),
    ("runs a mounted script with nothing but /tmp to write", runs),
    ("runs a script from standard input", runs_from_stdin),
    ("serves /metrics to other containers", serves_metrics),
    ("archives and inspects for every operator", initializes),
    ("refuses a broken script for every operator", refuses),
    ("ends in good order under every operator", stops),
    ("says that a local file is missing", misses_local_file),
];

/// One generation of the operator: its command lines, word for word, for the spec of
/// examples/kubernetes with a `localFile`.
struct Generation {
    name: &'static str,
    initializer: fn() -> Vec<String>,
    /// The archive is written into the working directory, and not below /tmp.
    writes_workdir: bool,
    /// Log lines are hidden, so that only the exit code tells of an error.
    hides_log: bool,
    runner: fn() -> Vec<String>,
    start: &'static str,
}

const GENERATIONS: &[Generation] = &[
    Generation {
        name: "v0.0.8",
        initializer: || {
            sh(&[format!(
                "k6 archive --log-output=none {SCRIPT} -O ./test.js.archived.tar  \
                 && k6 inspect --execution-requirements --log-output=none ./test.js.archived.tar"
            )])
        },
        writes_workdir: true,
        hides_log: true,
        runner: || old_local_file("job_name=t-1"),
        start: r#"{"data":{"attributes":{"paused":false},"id":"default","type":"status"}}"#,
    },
    Generation {
        name: "v0.0.18",
        initializer: || {
            let archive = "/tmp/test.js.archived.tar";
            sh(&[format!(
                "mkdir -p $(dirname {archive}) && k6 archive {SCRIPT} -O {archive}  2> /tmp/k6logs \
                 && k6 inspect --execution-requirements {archive} 2> /tmp/k6logs \
                 ; ! cat /tmp/k6logs | grep 'level=error'"
            )])
        },
        writes_workdir: false,
        hides_log: false,
        runner: || old_local_file("job_name=t-1"),
        start: START,
    },
    Generation {
        name: "v1.6 with .spec.arguments",
        initializer: || {
            let archive = "/tmp/test.js.archived.tar";
            let command = format!("k6 archive {SCRIPT} -O {archive} ");
            sh(&[new_initializer("", archive, &command)])
        },
        writes_workdir: false,
        hides_log: false,
        runner: || {
            let joined = run_command("testrun_name=t").join(" ");
            new_local_file(sh(&[joined]))
        },
        start: START,
    },
    Generation {
        name: "v1.6 with .spec.args",
        initializer: || {
            let archive = "/tmp/test.js.archived.tar";
            let script = new_initializer("archive=\"$1\"\nshift\n", "\"${archive}\"", "\"$@\"");
            let words = [
                &script, "sh", archive, "k6", "archive", SCRIPT, "-O", archive,
            ];
            sh(&words.map(str::to_owned))
        },
        writes_workdir: false,
        hides_log: false,
        runner: || new_local_file(run_command("testrun_name=t")),
        start: START,
    },
];

const START: &str =
    r#"{"data":{"attributes":{"paused":false,"stopped":false},"id":"default","type":"status"}}"#;

fn sh(rest: &[String]) -> Vec<String> {
    let head = ["sh", "-c"].map(str::to_owned);
    head.into_iter().chain(rest.iter().cloned()).collect()
}

/// `k6 run` of the first of 18 runners, paused.
fn run_command(name_tag: &str) -> Vec<String> {
    let mut sequence = String::from("0");
    for i in 1..18 {
        write!(sequence, ",{i}/18").expect("a string takes it");
    }
    let line = format!(
        "k6 run --quiet --execution-segment=0:1/18 --execution-segment-sequence={sequence},1 \
         --out prometheus=namespace=k6 {SCRIPT} --address=0.0.0.0:6565 --paused \
         --tag instance_id=1 --tag {name_tag}"
    );
    line.split(' ').map(str::to_owned).collect()
}

fn old_local_file(name_tag: &str) -> Vec<String> {
    let joined = run_command(name_tag).join(" ");
    sh(&[format!(
        "if [ ! -f {SCRIPT} ]; then echo \"LocalFile not found exiting...\"; exit 1; fi;\n{joined}"
    )])
}

fn new_local_file(command: Vec<String>) -> Vec<String> {
    let check = "if [ ! -f \"$1\" ]; then\n  echo \"LocalFile not found exiting...\"\n  exit 1\n\
                 fi\nshift\nexec \"$@\"";
    let mut words = sh(&[check, "sh", SCRIPT].map(str::to_owned));
    words.extend(command);
    words
}

fn new_initializer(setup: &str, archive: &str, command: &str) -> String {
    format!(
        "if ! command -v k6 >/dev/null 2>&1; then
  echo 'level=error msg=\"k6 executable not found in PATH; initializer image must contain k6\"' >&2
  exit 127
fi

logs=/tmp/k6logs
{setup}
if ! mkdir -p \"$(dirname {archive})\"; then
  exit 1
fi

if ! {command} 2> \"${{logs}}\"; then
  cat \"${{logs}}\"
  exit 1
fi

if ! k6 inspect --execution-requirements {archive} 2> \"${{logs}}\"; then
  cat \"${{logs}}\"
  exit 1
fi

if grep 'level.*error' \"${{logs}}\"; then
  exit 1
fi"
    )
}

#[test]
fn image() {
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
    for (name, case) in CASES {
        println!("image: {name}");
        if catch_unwind(AssertUnwindSafe(|| case(&image))).is_err() {
            failed.push(*name);
        }
    }
    assert!(failed.is_empty(), "these cases failed: {failed:#?}");
}

// === the cases ===

fn declares(image: &Image) {
    let output = done(podman(HUNG).args(["image", "inspect", &image.tag]));
    let facts: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let config = &facts[0]["Config"];
    assert_eq!(config["Entrypoint"], serde_json::json!(["k6"]));
    assert_eq!(config["User"], "12345");
    assert_eq!(config["WorkingDir"], "/home/k6");
    let label = |name: &str| config["Labels"][format!("org.opencontainers.image.{name}")].clone();
    assert_eq!(label("title"), "volley");
    assert_eq!(label("licenses"), "Apache-2.0");
    assert_eq!(label("version"), "of-a-test");
    for name in ["description", "source"] {
        assert!(label(name).is_string(), "no label {name}");
    }

    let k6 = image.container().command(&["k6", "version"]).done();
    let volley = image.container().command(&["volley", "version"]).done();
    assert!(text(&k6.stdout).starts_with("k6 v"), "{}", both(&k6));
    assert_eq!(k6.stdout, volley.stdout);
}

fn has_tools(image: &Image) {
    let tools = "k6 volley sh command mkdir dirname cat grep awk date mv rm seq";
    let line = format!("for tool in {tools}; do command -v $tool || exit 1; done");
    image.container().command(&["sh", "-c", &line]).done();
    // An update of dash in an image built on this one must leave sh alone.
    let ask = ["dpkg-divert", "--listpackage", "/bin/sh"];
    let owner = image.container().command(&ask).done();
    assert_eq!(text(&owner.stdout).trim(), "LOCAL");
}

fn carries(image: &Image) {
    let bundle = "/etc/ssl/certs/ca-certificates.crt";
    image.container().command(&["test", "-s", bundle]).done();
    let line = "ls /var/lib/apt/lists; find /var/cache/apt -name '*.deb' -o -name '*.bin'";
    let root = image.container().option("--user=0");
    let caches = root.command(&["sh", "-c", line]).done();
    assert_eq!(text(&caches.stdout), "");
}

fn runs(image: &Image) {
    let container = image.container().unprivileged().read_only();
    let output = container.script(SHORT).arguments(&["run", SCRIPT]).done();
    assert_summary(&output);
}

fn runs_from_stdin(image: &Image) {
    let container = image.container().unprivileged().read_only();
    let mut container = container.option("--interactive").arguments(&["run", "-"]);
    let mut child = spawn(&mut container.podman);
    let mut stdin = child.stdin.take().expect("piped");
    stdin.write_all(SHORT.as_bytes()).expect("it reads");
    drop(stdin);
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(0), "{}", both(&output));
    assert_summary(&output);
}

fn serves_metrics(image: &Image) {
    let container = image.container().unprivileged().read_only();
    let line = ["run", "--quiet", "--out", "prometheus=namespace=k6", SCRIPT];
    let mut run = container.script(LONG).arguments(&line).start();
    run.until_iteration();
    // The image has no HTTP client, but its bash can open a connection.
    let get = "exec 3<>/dev/tcp/$0/5656; printf 'GET /metrics HTTP/1.0\\r\\n\\r\\n' >&3; cat <&3";
    let address = run.address.to_string();
    let page = image
        .container()
        .command(&["bash", "-c", get, &address])
        .done();
    assert!(
        text(&page.stdout).contains("\nk6_iterations{"),
        "{}",
        both(&page)
    );
    assert_stopped(&run.stop());
}

fn initializes(image: &Image) {
    for generation in GENERATIONS {
        println!("{}", generation.name);
        let output = image.initializer(generation, SHORT).done();
        let json: Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}", both(&output)));
        assert_eq!(json["maxVUs"], 18, "{json}");
        assert_eq!(json["totalDuration"], "10m30s", "{json}");
    }
}

fn refuses(image: &Image) {
    for generation in GENERATIONS {
        println!("{}", generation.name);
        let output = image.initializer(generation, BROKEN).output();
        let code = output.status.code();
        assert!(code.is_some_and(|code| code != 0), "{}", both(&output));
        let shown = text(&output.stdout).contains("level=error");
        assert_eq!(shown, !generation.hides_log, "{}", both(&output));
    }
}

fn stops(image: &Image) {
    for generation in GENERATIONS {
        println!("{}", generation.name);
        let container = image.container().unprivileged().read_only();
        let container = container.script(LONG).command(&(generation.runner)());
        let mut run = container.start();
        run.until("a ready agent", |at| {
            let (status, _) = http(at, 6565, "GET", "/v1/status", "")?;
            (status == 200).then_some(())
        });
        let answer = http(run.address, 6565, "PATCH", "/v1/status", generation.start);
        answer.expect("an answer to the starter");
        run.until_iteration();
        assert_stopped(&run.stop());
    }
}

fn misses_local_file(image: &Image) {
    for generation in GENERATIONS {
        println!("{}", generation.name);
        let container = image.container().unprivileged().read_only();
        let output = container.command(&(generation.runner)()).output();
        assert_eq!(output.status.code(), Some(1), "{}", both(&output));
        assert_eq!(text(&output.stdout), "LocalFile not found exiting...\n");
    }
}

fn assert_summary(output: &Output) {
    let stdout = text(&output.stdout);
    assert!(stdout.contains("iteration_duration"), "{}", both(output));
}

/// The agent was told to stop, told its results, and its exit code is that of the container.
fn assert_stopped(output: &Output) {
    assert_eq!(output.status.code(), Some(105), "{}", both(output));
    assert_summary(output);
    let reason = "test run was aborted because k6 received a 'terminated' signal";
    assert!(text(&output.stderr).contains(reason), "{}", both(output));
}

// === the image, and what runs in it ===

/// The image of the binary under test; its end takes away all that was made.
struct Image {
    tag: String,
    /// The network, and the beginning of the name of each container.
    name: String,
    folder: TempDir,
    made: AtomicUsize,
}

impl Image {
    /// # Errors
    /// What is missing here.
    fn build() -> Result<Self, String> {
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

    fn container(&self) -> Container<'_> {
        let name = format!("{}-{}", self.name, self.next());
        let mut podman = podman(HUNG);
        podman.args(["run", "--rm", NOFILE, "--ulimit=nproc=1024:1024"]);
        podman.arg(format!("--network={}", self.name));
        podman.arg(format!("--name={name}"));
        Container {
            image: self,
            name,
            podman,
        }
    }

    fn initializer(&self, generation: &Generation, script: &str) -> Container<'_> {
        let mut container = self.container().unprivileged();
        if !generation.writes_workdir {
            container = container.read_only();
        }
        container
            .script(script)
            .command(&(generation.initializer)())
    }

    fn next(&self) -> usize {
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

/// A container to be: `podman run` and its options, then what runs in it.
struct Container<'image> {
    image: &'image Image,
    name: String,
    podman: Command,
}

impl Container<'_> {
    fn option(mut self, option: &str) -> Self {
        self.podman.arg(option);
        self
    }

    /// A uid that nobody knows, and no capability, as strict clusters ask for.
    fn unprivileged(self) -> Self {
        let uid = 20_000 + std::process::id() % 40_000;
        self.option("--cap-drop=ALL")
            .option("--security-opt=no-new-privileges")
            .option(&format!("--user={uid}:{uid}"))
    }

    /// No place to write but /tmp; podman by itself would add others.
    fn read_only(self) -> Self {
        self.option("--read-only")
            .option("--read-only-tmpfs=false")
            .option("--tmpfs=/tmp")
    }

    /// `script` mounted at [`SCRIPT`].
    fn script(self, script: &str) -> Self {
        let file = self.image.folder.path().join(self.image.next().to_string());
        fs::write(&file, script).expect("a script");
        self.option(&format!("--volume={}:{SCRIPT}:ro", file.display()))
    }

    /// As the `command` of a pod, which replaces the entrypoint.
    fn command<W: AsRef<str>>(self, words: &[W]) -> Self {
        let mut words = words.iter().map(AsRef::as_ref);
        let program = words.next().expect("a program");
        let mut container = self.option(&format!("--entrypoint={program}"));
        container.podman.arg(&container.image.tag).args(words);
        container
    }

    /// As the arguments of the image's own entrypoint.
    fn arguments(mut self, arguments: &[&str]) -> Self {
        self.podman.arg(&self.image.tag).args(arguments);
        self
    }

    #[track_caller]
    fn done(mut self) -> Output {
        done(&mut self.podman)
    }

    fn output(mut self) -> Output {
        output(&mut self.podman)
    }

    fn start(mut self) -> Running {
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
struct Running {
    name: String,
    address: IpAddr,
    child: Option<Child>,
}

impl Running {
    /// Waits for `look` to find something in the running container.
    fn until<T>(&mut self, what: &str, mut look: impl FnMut(IpAddr) -> Option<T>) -> T {
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

    fn until_iteration(&mut self) {
        self.until("iteration", |at| {
            let (_, page) = http(at, 5656, "GET", "/metrics", "")?;
            page.contains("\nk6_iterations{").then_some(())
        });
    }

    /// SIGTERM, as the kubelet sends it, and the end. The time is for one that hangs.
    fn stop(&mut self) -> Output {
        output(podman(HUNG).args(["stop", "--time=60", &self.name]));
        let child = self.child.take().expect("it was not stopped");
        child.wait_with_output().expect("it ends")
    }
}

// === podman and the base image ===

/// podman asks for more open files than a hard limit may allow, and then fails.
const NOFILE: &str = "--ulimit=nofile=1024:1024";

/// podman, which is ended after `seconds`. cgroupfs: there need not be a systemd to ask.
fn podman(seconds: &str) -> Command {
    let mut command = limited(seconds, "podman");
    command.args(["--cgroup-manager=cgroupfs", "--runtime=runc"]);
    command
}

fn limited(seconds: &str, program: &str) -> Command {
    let mut command = Command::new("timeout");
    command.args(["--foreground", "--kill-after=10", seconds, program]);
    command
}

fn exists(tool: &str) -> bool {
    let mut command = Command::new(tool);
    let command = command.arg("--version");
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok()
}

/// The name of the base image; where there is none, it is made.
fn base() -> Result<String, String> {
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
fn mirror() -> Option<String> {
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
fn one_line_mirror(text: &str) -> Option<String> {
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
fn stanza_mirror(text: &str) -> Option<String> {
    text.split("\n\n").find_map(|stanza| {
        let field = |name: &str| stanza.lines().find_map(|line| line.strip_prefix(name));
        let here = field("Suites:")?
            .split_whitespace()
            .any(|s| s == "bookworm");
        let uri = field("URIs:")?.split_whitespace().next()?;
        here.then(|| uri.to_owned())
    })
}

fn spawn(command: &mut Command) -> Child {
    let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
    command.stderr(Stdio::piped()).spawn().expect("a process")
}

fn output(command: &mut Command) -> Output {
    command.stdin(Stdio::null()).output().expect("a process")
}

/// The output of a command that has to succeed.
#[track_caller]
fn done(command: &mut Command) -> Output {
    let output = output(command);
    assert!(output.status.success(), "{command:?}: {}", both(&output));
    output
}

/// The same for what this machine may not be able to do.
fn able(command: &mut Command) -> Result<(), String> {
    let output = output(command);
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{command:?} failed: {}", both(&output)))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn both(output: &Output) -> String {
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    format!("{}\nstdout:\n{stdout}\nstderr:\n{stderr}", output.status)
}

/// Status and body, or nothing while nobody answers.
fn http(address: IpAddr, port: u16, method: &str, path: &str, body: &str) -> Option<(u16, String)> {
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
