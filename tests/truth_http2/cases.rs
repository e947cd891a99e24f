//! What the server of this test does, and what a script should see of it.

use super::support::frames::*;

/// Long enough to stand out of whatever else a loaded machine does to a phase.
pub(crate) const DELAY: u64 = 500;

pub(crate) const NO_ERROR: u32 = 0;
const PROTOCOL_ERROR: u32 = 1;
const FLOW_CONTROL_ERROR: u32 = 3;
const FRAME_SIZE_ERROR: u32 = 6;
const REFUSED_STREAM: u32 = 7;
const CANCEL: u32 = 8;
const ENHANCE_YOUR_CALM: u32 = 11;

/// What the server does, one after the other, on a connection.
#[derive(Clone)]
pub(crate) enum Step {
    /// Waits for the head of the next request.
    Request,
    /// Waits for the end of its body, and gives room for more of it as it comes.
    Body,
    /// Waits for the answer to a PING.
    Pong,
    /// Waits until the client has left the connection before this one.
    Left,
    Send(Vec<u8>),
    Pause(u64),
    /// Ends TLS in order, and sends nothing more.
    HalfClose,
    /// Drops the connection, with a reset.
    Abort,
    /// Sends nothing more, out of order for TLS.
    Close,
}

pub(crate) use Step::{Abort, Body, Close, HalfClose, Left, Pause, Pong, Request, Send};

/// A connection.
#[derive(Clone)]
pub(crate) struct Peer {
    /// Before the handshake begins, and in the middle of it.
    pub(crate) late: [u64; 2],
    pub(crate) settings: Vec<(u16, u32)>,
    /// Whether it begins with SETTINGS.
    pub(crate) greets: bool,
    pub(crate) steps: Vec<Step>,
}

fn peer(steps: impl Into<Vec<Step>>) -> Peer {
    Peer {
        late: [0, 0],
        settings: Vec::new(),
        greets: true,
        steps: steps.into(),
    }
}

/// What a script should see of a response.
#[derive(Clone, Copy)]
pub(crate) struct Seen {
    pub(crate) status: u64,
    pub(crate) code: u64,
    /// The phase that holds the delay, if there is one.
    pub(crate) phase: Option<&'static str>,
    /// The length of the body that arrives.
    pub(crate) body: Option<u64>,
}

fn fine() -> Seen {
    Seen {
        status: 200,
        code: 0,
        phase: None,
        body: Some(5),
    }
}

fn failed(code: u64) -> Seen {
    Seen {
        status: 0,
        code,
        phase: None,
        body: None,
    }
}

impl Seen {
    fn late_in(mut self, phase: &'static str) -> Self {
        self.phase = Some(phase);
        self
    }

    fn with(mut self, status: u64, body: u64) -> Self {
        (self.status, self.body) = (status, Some(body));
        self
    }
}

pub(crate) struct Case {
    pub(crate) name: String,
    /// What the connections do; the last of them is for all that follow as well.
    pub(crate) peers: Vec<Peer>,
    /// Method and length of the body.
    pub(crate) calls: Vec<(&'static str, usize)>,
    /// Whether the calls are one batch.
    pub(crate) batch: bool,
    /// Whether the calls after the first wait until its connection has done all its steps.
    pub(crate) waits: bool,
    pub(crate) seen: Vec<Seen>,
    pub(crate) connections: usize,
    /// How many requests arrive, over all connections; `None` where that is a matter of luck.
    pub(crate) arrive: Option<usize>,
    /// The code that the client ends the stream with, when it is the one that ends it.
    pub(crate) resets: Option<u32>,
    /// The code that the client leaves with, when it finds fault with the connection.
    pub(crate) leaves: Option<u32>,
}

/// One request over one connection.
fn case(name: impl Into<String>, steps: impl Into<Vec<Step>>, seen: Seen) -> Case {
    Case {
        name: name.into(),
        peers: vec![peer(steps)],
        calls: vec![("GET", 0)],
        batch: false,
        waits: false,
        seen: vec![seen],
        connections: 1,
        arrive: Some(1),
        resets: None,
        leaves: None,
    }
}

impl Case {
    fn calls(mut self, calls: &[(&'static str, usize)]) -> Self {
        self.calls = calls.to_vec();
        self
    }

    fn then(mut self, seen: Seen) -> Self {
        self.seen.push(seen);
        self
    }

    /// The next connection does this.
    fn again(mut self, steps: impl Into<Vec<Step>>) -> Self {
        self.peers.push(peer(steps));
        self
    }

    fn counts(mut self, connections: usize, arrive: impl Into<Option<usize>>) -> Self {
        (self.connections, self.arrive) = (connections, arrive.into());
        self
    }

    fn waiting(mut self) -> Self {
        self.waits = true;
        self
    }

    fn with_peer(mut self, change: impl FnOnce(&mut Peer)) -> Self {
        change(&mut self.peers[0]);
        self
    }

    fn client_resets(mut self, code: u32) -> Self {
        self.resets = Some(code);
        self
    }

    fn client_leaves(mut self, code: u32) -> Self {
        self.leaves = Some(code);
        self
    }
}

const OK: [(&str, &str); 1] = [(":status", "200")];

/// Head and body of an answer.
fn hello(stream: u32) -> Step {
    Send([head(stream, &OK, false), data(stream, b"hello", true)].concat())
}

fn send_head(headers: &[(&str, &str)], end: bool) -> Step {
    Send(head(1, headers, end))
}

fn sized(length: &str) -> [(&str, &str); 2] {
    [OK[0], ("content-length", length)]
}

/// Late answers, and answers of every form.
fn answers() -> Vec<Case> {
    let part = || Send(data(1, b"hel", false));
    let rest = || Send(data(1, b"lo", true));
    let many: Vec<String> = (0..2_000).map(|n| format!("x-{n}")).collect();
    let mut many: Vec<(&str, &str)> = many.iter().map(|name| (name.as_str(), "1")).collect();
    many.insert(0, OK[0]);
    let large = "x".repeat(300_000);
    let whole = [head(1, &OK, false), data(1, b"hello", true)].concat();
    let (start, end) = whole.split_at(3);
    let block = block(&[OK[0], ("x-more", "y")]);
    let continued = |flags, kind, part: &[u8]| Send(frame(kind, flags, 1, part));
    let trailers = || Send(head(1, &[("x-trailer", "1")], true));
    let hints = [(":status", "103"), ("link", "</a>")];
    let padded = [&[4][..], b"hello", &[0; 4]].concat();
    vec![
        case("plain", [Request, hello(1)], fine()),
        case(
            "late accept",
            [Request, hello(1)],
            fine().late_in("tls_handshaking"),
        )
        .with_peer(|peer| peer.late[0] = DELAY),
        case(
            "late handshake",
            [Request, hello(1)],
            fine().late_in("tls_handshaking"),
        )
        .with_peer(|peer| peer.late[1] = DELAY),
        case(
            "late settings",
            [Pause(DELAY), Send(settings(&[])), Request, hello(1)],
            fine().late_in("waiting"),
        )
        .with_peer(|peer| peer.greets = false),
        case(
            "late head",
            [Request, Pause(DELAY), hello(1)],
            fine().late_in("waiting"),
        ),
        case(
            "late within a frame",
            [Request, Send(start.into()), Pause(DELAY), Send(end.into())],
            fine().late_in("waiting"),
        ),
        case(
            "late continuation",
            [
                Request,
                continued(0, HEADERS, &block[..4]),
                Pause(DELAY),
                continued(END_HEADERS, CONTINUATION, &block[4..]),
                Send(data(1, b"hello", true)),
            ],
            fine().late_in("waiting"),
        ),
        case(
            "late body",
            [
                Request,
                send_head(&OK, false),
                Pause(DELAY),
                Send(data(1, b"hello", true)),
            ],
            fine().late_in("receiving"),
        ),
        case(
            "late between frames",
            [Request, send_head(&OK, false), part(), Pause(DELAY), rest()],
            fine().late_in("receiving"),
        ),
        case(
            "late end",
            [
                Request,
                send_head(&OK, false),
                Send(data(1, b"hello", false)),
                Pause(DELAY),
                Send(data(1, b"", true)),
            ],
            fine().late_in("receiving"),
        ),
        case(
            "late trailers",
            [
                Request,
                send_head(&OK, false),
                Send(data(1, b"hello", false)),
                Pause(DELAY),
                trailers(),
            ],
            fine().late_in("receiving"),
        ),
        case(
            "trailers",
            [
                Request,
                send_head(&OK, false),
                Send(data(1, b"hello", false)),
                trailers(),
            ],
            fine(),
        ),
        case(
            "early hints",
            [Request, send_head(&hints, false), Pause(DELAY), hello(1)],
            // As over HTTP/1: the first byte of an answer is that of its hints.
            fine().late_in("receiving"),
        ),
        case(
            "continue",
            [
                Request,
                send_head(&[(":status", "100")], false),
                Body,
                hello(1),
            ],
            fine(),
        )
        .calls(&[("POST", 100_000)]),
        case(
            "long header",
            [Request, send_head(&[OK[0], ("x-long", &large)], true)],
            fine().with(200, 0),
        ),
        case(
            "many headers",
            [Request, send_head(&many, true)],
            fine().with(200, 0),
        ),
        case(
            "error of the server",
            [
                Request,
                Pause(DELAY),
                send_head(&[(":status", "503")], true),
            ],
            Seen {
                code: 1503,
                ..fine()
            }
            .with(503, 0)
            .late_in("waiting"),
        ),
        case(
            "no content",
            [Request, send_head(&[(":status", "204")], true)],
            fine().with(204, 0),
        ),
        case(
            "head",
            [Request, send_head(&sized("50"), true)],
            fine().with(200, 0),
        )
        .calls(&[("HEAD", 0)]),
        case(
            "padded",
            [
                Request,
                send_head(&OK, false),
                Send(frame(DATA, PADDED | END_STREAM, 1, &padded)),
            ],
            fine(),
        ),
        case(
            "frames in between",
            [
                Request,
                Send([frame(0x42, 0xff, 1, b"what"), frame(PING, 0, 0, &[7; 8])].concat()),
                Send([frame(2, 0, 1, &[0; 5]), settings(&[(0x99, 1)])].concat()),
                Pong,
                hello(1),
            ],
            fine(),
        ),
        case(
            "answer before the body",
            [
                Request,
                send_head(&[(":status", "413")], true),
                Send(reset(1, NO_ERROR)),
            ],
            Seen {
                code: 1413,
                ..fine()
            }
            .with(413, 0),
        )
        .calls(&[("POST", 3_000_000)]),
    ]
}

/// Bodies that the server takes late, or never.
fn uploads() -> Vec<Case> {
    let narrow = |peer: &mut Peer| peer.settings = vec![(INITIAL_WINDOW_SIZE, 0)];
    let room = || Send([window(0, 1 << 20), window(1, 1 << 20)].concat());
    vec![
        case("upload", [Request, Body, hello(1)], fine()).calls(&[("POST", 1_000_000)]),
        case(
            "late window",
            [Request, Pause(DELAY), room(), Body, hello(1)],
            fine().late_in("sending"),
        )
        .with_peer(narrow)
        .calls(&[("POST", 200_000)]),
        case("no window", [Request], failed(1050).late_in("sending"))
            .with_peer(narrow)
            .calls(&[("POST", 200_000)])
            .client_resets(CANCEL),
        case(
            "late answer to an upload",
            [Request, Body, Pause(DELAY), hello(1)],
            fine().late_in("waiting"),
        )
        .calls(&[("POST", 200_000)]),
    ]
}

/// Streams that the server resets.
fn resets() -> Vec<Case> {
    let known = (0..14).filter(|code| *code != REFUSED_STREAM);
    let mut all: Vec<Case> = known
        .map(|code| {
            case(
                format!("reset with {code}"),
                [Request, Send(reset(1, code))],
                failed(1631 + u64::from(code)),
            )
        })
        .collect();
    all.extend([
        case("reset with 99", [Request, Send(reset(1, 99))], failed(1630)),
        case(
            "late reset",
            [Request, Pause(DELAY), Send(reset(1, 2))],
            failed(1633).late_in("waiting"),
        ),
        case(
            "reset in the body",
            [
                Request,
                send_head(&OK, false),
                Send(data(1, b"hello", false)),
                Pause(DELAY),
                Send(reset(1, CANCEL)),
            ],
            failed(1639).with(0, 5).late_in("receiving"),
        ),
        // Nothing was done about it, so it is sent once more.
        case(
            "refused once",
            [Request, Send(reset(1, REFUSED_STREAM))],
            fine(),
        )
        .again([Request, Body, hello(1)])
        .calls(&[("POST", 100)])
        .counts(2, 2),
        case(
            "refused twice",
            [Request, Send(reset(1, REFUSED_STREAM))],
            failed(1638),
        )
        .counts(2, 2),
        // The others on the connection go on.
        case(
            "one of three is reset",
            [
                Request,
                Request,
                Request,
                Send(reset(3, 2)),
                Pause(DELAY),
                Send([head(5, &OK, false), data(5, b"hello", true)].concat()),
                hello(1),
            ],
            fine().late_in("waiting"),
        )
        .calls(&[("GET", 0); 3])
        .then(failed(1633))
        .then(fine().late_in("waiting"))
        .counts(1, 3),
    ]);
    all.last_mut().expect("a case").batch = true;
    all
}

/// Servers that go away.
fn departures() -> Vec<Case> {
    let twice = &[("GET", 0), ("POST", 10)];
    vec![
        case(
            "gone before the request",
            [Send(goaway(0, NO_ERROR))],
            fine(),
        )
        .again([Request, hello(1)])
        .counts(2, None),
        case(
            "always gone before",
            [Send(goaway(0, NO_ERROR))],
            failed(1611),
        )
        .counts(2, None),
        case(
            "gone while it works",
            [Request, Send(goaway(1, NO_ERROR)), Pause(DELAY), hello(1)],
            fine().late_in("waiting"),
        ),
        case(
            "gone while it answers",
            [
                Request,
                send_head(&OK, false),
                Send(data(1, b"hel", false)),
                Send(goaway(1, NO_ERROR)),
                Pause(DELAY),
                Send(data(1, b"lo", true)),
            ],
            fine().late_in("receiving"),
        ),
        case(
            "gone in two steps",
            [
                Request,
                Send(goaway(0x7fff_ffff, NO_ERROR)),
                Pause(DELAY),
                Send(goaway(1, NO_ERROR)),
                hello(1),
            ],
            fine().late_in("waiting"),
        ),
        // What may have been done is not done again, whatever the method.
        case(
            "gone with the answer",
            [Request, Send(goaway(1, NO_ERROR)), Close],
            failed(1611),
        ),
        case(
            "gone in anger",
            [Request, Send(goaway(1, ENHANCE_YOUR_CALM)), Close],
            failed(1622),
        ),
        case(
            "gone in the body",
            [
                Request,
                send_head(&OK, false),
                Send(data(1, b"hello", false)),
                Send(goaway(1, 2)),
                Close,
            ],
            failed(1613).with(0, 5),
        ),
        // What the server has not looked at is.
        case(
            "gone without it",
            [Request, Body, Send(goaway(0, NO_ERROR))],
            fine(),
        )
        .again([Request, Body, hello(1)])
        .calls(&[("POST", 100)])
        .counts(2, 2),
        case(
            "gone without the first",
            [Request, Send(goaway(0, ENHANCE_YOUR_CALM))],
            failed(1622),
        ),
        case(
            "gone without the second",
            [
                Request,
                hello(1),
                Request,
                Body,
                Send(goaway(1, ENHANCE_YOUR_CALM)),
            ],
            fine(),
        )
        .again([Request, Body, hello(1)])
        .calls(twice)
        .then(fine())
        .counts(2, 3),
        case(
            "gone after",
            [Request, hello(1), Send(goaway(1, NO_ERROR))],
            fine(),
        )
        .again([Request, Body, Left, hello(1)])
        .calls(twice)
        .then(fine())
        .waiting()
        .counts(2, 2),
    ]
}

/// Connections that end without a word.
fn ends() -> Vec<Case> {
    let begun = || {
        [
            Request,
            send_head(&OK, false),
            Send(data(1, b"hello", false)),
        ]
    };
    let with = |last: Step| [&begun()[..], &[last]].concat();
    let twice = |method| [("GET", 0), (method, 10 * usize::from(method == "POST"))];
    vec![
        case("closed", [Request, Close], failed(1000)),
        case(
            "closed late",
            [Request, Pause(DELAY), Close],
            failed(1000).late_in("waiting"),
        ),
        case("aborted", [Request, Abort], failed(1220)),
        case("half-closed", [Request, HalfClose], failed(1000)),
        case("closed in the body", with(Close), failed(1000).with(0, 5)),
        case(
            "half-closed in the body",
            with(HalfClose),
            failed(1000).with(0, 5),
        ),
        // The kernel drops with the reset what has not been read yet.
        case(
            "aborted in the body",
            [&begun()[..], &[Pause(DELAY), Abort]].concat(),
            failed(1220).with(0, 5).late_in("receiving"),
        ),
        case("silent", [Request], failed(1050).late_in("waiting")).client_resets(CANCEL),
        case(
            "silent in the body",
            begun(),
            failed(1050).with(0, 5).late_in("receiving"),
        )
        .client_resets(CANCEL),
        // The connection is good for another, and late frames of the first are nobody's.
        case(
            "silent once",
            [
                Request,
                Request,
                Body,
                Send([head(1, &OK, false), data(1, b"late", true)].concat()),
                hello(3),
            ],
            failed(1050).late_in("waiting"),
        )
        .calls(&twice("POST"))
        .then(fine())
        .counts(1, 2)
        .client_resets(CANCEL),
        case("closed between", [Request, hello(1), Close], fine())
            .calls(&twice("POST"))
            .then(fine())
            .waiting()
            .counts(2, 2),
        // Whether anything was done about it is not known, so it is not sent again.
        case(
            "closed at the second",
            [Request, hello(1), Request, Close],
            fine(),
        )
        .calls(&twice("GET"))
        .then(failed(1000))
        .counts(1, 2),
    ]
}

/// What is no HTTP/2, or against its rules.
fn nonsense() -> Vec<Case> {
    let wrong = |name: &str, bytes: Vec<u8>, code: u32| {
        case(name, [Request, Send(bytes)], failed(1651 + u64::from(code))).client_leaves(code)
    };
    let answer = |headers: &[(&str, &str)]| [Request, send_head(headers, true)];
    let body = |length: &str, body: &[u8]| {
        [
            Request,
            send_head(&sized(length), false),
            Send(data(1, body, true)),
        ]
    };
    vec![
        case("too short", body("50", b"hello"), failed(1000)).client_resets(PROTOCOL_ERROR),
        case("too long", body("3", b"hello"), failed(1000)).client_resets(PROTOCOL_ERROR),
        // Found together with the head, whose fault it is then.
        case("nothing of five", answer(&sized("5")), failed(1632)),
        case("no status", answer(&[("x-a", "b")]), failed(1632)),
        wrong(
            "a capital letter",
            head(1, &[OK[0], ("X-A", "b")], true),
            PROTOCOL_ERROR,
        ),
        wrong("a window of nothing", window(1, 0), PROTOCOL_ERROR),
        wrong("data for nobody", data(0, b"hello", true), PROTOCOL_ERROR),
        wrong(
            "data for the future",
            data(7, b"hello", true),
            PROTOCOL_ERROR,
        ),
        wrong(
            "a push",
            frame(PUSH_PROMISE, END_HEADERS, 1, &[0, 0, 0, 2]),
            PROTOCOL_ERROR,
        ),
        wrong(
            "a window without end",
            window(0, 0x7fff_ffff),
            FLOW_CONTROL_ERROR,
        ),
        wrong(
            "settings cut short",
            frame(SETTINGS, 0, 0, &[0; 5]),
            PROTOCOL_ERROR,
        ),
        wrong(
            "a frame too long",
            frame(DATA, 0, 1, &vec![0; 20_000]),
            FRAME_SIZE_ERROR,
        ),
        wrong(
            "headers of no table",
            frame(HEADERS, END_HEADERS, 1, &[0xff, 0xff, 0x7f]),
            PROTOCOL_ERROR,
        ),
        wrong(
            "headers without end",
            frame(HEADERS, 0, 1, &block(&OK)),
            PROTOCOL_ERROR,
        )
        .with_peer(|peer| peer.steps.push(Send(data(1, b"hello", true)))),
        case(
            "another protocol",
            [Send(b"SSH-2.0-OpenSSH_9.2\r\n".to_vec())],
            failed(1657),
        )
        .with_peer(|peer| peer.greets = false)
        .counts(1, None)
        .client_leaves(FRAME_SIZE_ERROR),
        case(
            "an older protocol",
            [Send(
                b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n".to_vec(),
            )],
            failed(1657),
        )
        .with_peer(|peer| peer.greets = false)
        .counts(1, None)
        .client_leaves(FRAME_SIZE_ERROR),
    ]
}

/// Requests of a batch over one connection.
fn batches() -> Vec<Case> {
    let mut steps = vec![Request; 5];
    steps.extend([5, 1, 9, 3, 7].map(hello));
    let seen = fine().late_in("blocked");
    let mut shared = case("a batch", steps, seen)
        .calls(&[("GET", 0); 5])
        .with_peer(|peer| peer.late[0] = DELAY)
        .counts(1, 5);
    (shared.batch, shared.seen) = (true, vec![seen; 5]);
    vec![shared]
}

/// All of them.
pub(crate) fn cases() -> Vec<Case> {
    let parts = [
        answers, uploads, resets, departures, ends, nonsense, batches,
    ];
    parts.into_iter().flat_map(|part| part()).collect()
}
