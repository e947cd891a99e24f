//! The server that knows the truth, over HTTP/2: it writes frames by hand, so it can be late in any
//! place, reset, leave, lie and talk nonsense, and what a script sees of it has to agree. Status,
//! error code, the phase that holds the delay, and the counts.

#[path = "truth_http2/cases.rs"]
mod cases;
mod support;

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use cases::*;
use rustls::{ServerConfig, ServerConnection, StreamOwned, pki_types::PrivateKeyDer};
use serde_json::{Value, json};
use support::{Folder, Launch, frames::*, until};

/// What a request may take that is meant to time out.
const TIMEOUT: u64 = 1_500;
/// What all others may take: more than a loaded machine needs.
const LONG: u64 = 30_000;

/// What the server knows of a case.
#[derive(Default)]
struct Truth {
    connections: usize,
    /// How many of them have done all their steps.
    played: usize,
    /// How many of them the client has left.
    ended: usize,
    /// Heads of requests that have arrived, and bytes of bodies.
    requests: usize,
    bytes: usize,
    /// Codes of the client's RST_STREAM and GOAWAY.
    resets: Vec<u32>,
    leaves: Vec<u32>,
}

type Shared = Arc<Mutex<Truth>>;

/// One connection of the server.
struct Talk {
    stream: StreamOwned<ServerConnection, TcpStream>,
    truth: Shared,
    /// Whether the request that came last is complete.
    complete: bool,
}

impl Talk {
    /// Shakes hands, greets, and does all the steps; ends when the client has gone.
    fn run(mut self, peer: &Peer) -> Option<()> {
        thread::sleep(Duration::from_millis(peer.late[0]));
        self.stream.conn.read_tls(&mut self.stream.sock).ok()?;
        thread::sleep(Duration::from_millis(peer.late[1]));
        self.stream.conn.process_new_packets().ok()?;
        let mut preface = [0; PREFACE.len()];
        self.stream.read_exact(&mut preface).ok()?;
        assert_eq!(preface, *PREFACE);
        if peer.greets {
            self.send(&settings(&peer.settings));
        }
        for step in &peer.steps {
            match step {
                Request => while self.read(false)? != HEADERS {},
                Body => {
                    while !self.complete {
                        self.read(true)?;
                    }
                }
                Left => until("the end of the connection before", || {
                    let ended = self.truth.lock().expect("no panic").ended;
                    (ended > 0).then_some(())
                }),
                Pong => while self.read(false)? != PING {},
                Send(bytes) => self.send(bytes),
                Pause(ms) => thread::sleep(Duration::from_millis(*ms)),
                HalfClose => {
                    self.stream.conn.send_close_notify();
                    let _ = self.stream.flush();
                    let _ = self.stream.sock.shutdown(Shutdown::Write);
                }
                Close => {
                    let _ = self.stream.sock.shutdown(Shutdown::Write);
                }
                Abort => {
                    let socket = socket2::SockRef::from(&self.stream.sock);
                    socket.set_linger(Some(Duration::ZERO)).expect("linger");
                    return None;
                }
            }
        }
        self.truth.lock().expect("no panic").played += 1;
        // What else the client says counts; and a socket that is closed with something unread in it
        // is a reset for the other end.
        loop {
            self.read(false)?;
        }
    }

    fn send(&mut self, bytes: &[u8]) {
        // A client that has gone is noticed when it is read from.
        let sent = self.stream.write_all(bytes);
        let _ = sent.and_then(|()| self.stream.flush());
    }

    /// Takes a frame in and answers what the protocol wants answered; `room` lets more of a body
    /// come. The type of the frame.
    fn read(&mut self, room: bool) -> Option<u8> {
        let came = Frame::read(&mut self.stream).ok()?;
        let ends = came.flags & END_STREAM != 0;
        let mut truth = self.truth.lock().expect("no panic");
        let mut answer = Vec::new();
        match came.kind {
            HEADERS => {
                truth.requests += 1;
                self.complete = ends;
            }
            DATA => {
                truth.bytes += came.payload.len();
                self.complete |= ends;
                let more = u32::try_from(came.payload.len()).expect("a short frame");
                if room && !ends && more > 0 {
                    answer = [window(0, more), window(came.stream, more)].concat();
                }
            }
            RST_STREAM => truth.resets.push(came.number(4)),
            // One without an error is the end of a connection in order.
            GOAWAY if came.number(8) != NO_ERROR => truth.leaves.push(came.number(8)),
            SETTINGS if came.flags & ACK == 0 => answer = frame(SETTINGS, ACK, 0, &[]),
            _ => {}
        }
        drop(truth);
        self.send(&answer);
        Some(came.kind)
    }
}

/// Serves a case until the test ends.
fn serve(case: &Case, config: &Arc<ServerConfig>, truth: &Shared) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let (peers, config, truth) = (case.peers.clone(), config.clone(), truth.clone());
    thread::spawn(move || {
        for (at, stream) in listener.incoming().filter_map(Result::ok).enumerate() {
            truth.lock().expect("no panic").connections += 1;
            let peer = peers[at.min(peers.len() - 1)].clone();
            let _ = stream.set_nodelay(true);
            let session = ServerConnection::new(config.clone()).expect("a session");
            let talk = Talk {
                stream: StreamOwned::new(session, stream),
                truth: truth.clone(),
                complete: false,
            };
            let truth = truth.clone();
            thread::spawn(move || {
                talk.run(&peer);
                truth.lock().expect("no panic").ended += 1;
            });
        }
    });
    address
}

/// Answers `/N` when a connection of the case of that number has done all its steps.
fn gate(truths: Vec<Shared>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    thread::spawn(move || {
        for mut stream in listener.incoming().filter_map(Result::ok) {
            let truths = truths.clone();
            thread::spawn(move || {
                let mut head = [0; 4096];
                let read = stream.read(&mut head).expect("a request");
                let head = String::from_utf8_lossy(&head[..read]);
                let number = head.split(['/', ' ']).nth(2).expect("a path");
                let truth = &truths[number.parse::<usize>().expect("a number")];
                until("the end of the steps", || {
                    let played = truth.lock().expect("no panic").played;
                    (played > 0).then_some(())
                });
                let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n");
            });
        }
    });
    address
}

fn tls() -> Arc<ServerConfig> {
    let key = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a key");
    let private = PrivateKeyDer::Pkcs8(key.signing_key.serialize_der().into());
    let mut config =
        ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![key.cert.der().clone()], private)
            .expect("a certificate");
    config.alpn_protocols = vec![b"h2".to_vec()];
    Arc::new(config)
}

const SCRIPT: &str = "import http from 'k6/http';
    import exec from 'k6/execution';
    const cases = JSON.parse(open('./cases.json'));
    export const options = { insecureSkipTLSVerify: true, scenarios: {
      all: { executor: 'shared-iterations', vus: 8, iterations: cases.length } } };
    export default function () {
      const { name, url, calls, batch, gate } = cases[exec.scenario.iterationInTest];
      const all = calls.map(([method, size, timeout]) => ({ method, url,
        body: size ? 'x'.repeat(size) : null, params: { timeout, tags: { name } } }));
      const seen = batch ? http.batch(all)
        : all.map(({ method, url, body, params }, i) => {
            if (gate && i > 0) { http.get(gate); }
            return http.request(method, url, body, params);
          });
      console.log(JSON.stringify({ name, seen: seen.map(
        ({ status, error_code, error, proto, timings, body }) =>
          ({ status, error_code, error, proto, timings, body: body === null ? 0 : body.length })) }));
    }";

const PHASES: [&str; 5] = [
    "connecting",
    "tls_handshaking",
    "sending",
    "waiting",
    "receiving",
];

impl Case {
    /// The case as the script has it.
    fn told(&self, at: SocketAddr, gate: &str) -> Value {
        let calls = self.calls.iter().zip(&self.seen);
        let calls = calls.map(|((method, size), seen)| {
            let timeout = if seen.code == 1050 { TIMEOUT } else { LONG };
            json!([method, size, timeout])
        });
        json!({
            "name": self.name,
            "url": format!("https://{at}/"),
            "calls": calls.collect::<Vec<_>>(),
            "batch": self.batch,
            "gate": self.waits.then_some(gate),
        })
    }

    /// What is not as it should be.
    fn faults(&self, found: &[Value], samples: &[&Value], truth: &Truth) -> Vec<String> {
        let mut faults = Vec::new();
        let mut same = |what: &str, is: &dyn std::fmt::Debug, wanted: &dyn std::fmt::Debug| {
            let (is, wanted) = (format!("{is:?}"), format!("{wanted:?}"));
            if is != wanted {
                faults.push(format!("{}: {what} is {is}, not {wanted}", self.name));
            }
        };
        same("the number of responses", &found.len(), &self.seen.len());
        same(
            "the number of connections",
            &truth.connections,
            &self.connections,
        );
        if let Some(arrive) = self.arrive {
            same(
                "the number of requests that arrive",
                &truth.requests,
                &arrive,
            );
        }
        same(
            "the client's RST_STREAM",
            &truth.resets.first(),
            &self.resets.as_ref(),
        );
        same(
            "the client's GOAWAY",
            &truth.leaves.first(),
            &self.leaves.as_ref(),
        );
        let reads = |step: &Step| matches!(step, Body);
        if self.peers.len() == 1
            && self.peers[0].steps.iter().any(reads)
            && self.seen.iter().all(|seen| seen.code == 0)
        {
            let sent: usize = self.calls.iter().map(|(_, size)| size).sum();
            same("the bytes of bodies", &truth.bytes, &sent);
        }
        let codes = samples.iter().map(|s| &s["data"]["tags"]["error_code"]);
        let mut codes: Vec<u64> = codes
            .map(|code| {
                code.as_str()
                    .map_or(0, |code| code.parse().expect("a number"))
            })
            .collect();
        let mut wanted: Vec<u64> = self.seen.iter().map(|seen| seen.code).collect();
        codes.sort_unstable();
        wanted.sort_unstable();
        same("the codes of samples", &codes, &wanted);
        for (found, seen) in found.iter().zip(&self.seen) {
            let ms = |phase: &str| found["timings"][phase].as_f64().expect("ms");
            let proto = if seen.status == 0 { "" } else { "HTTP/2.0" };
            same("the status", &found["status"], &json!(seen.status));
            let code = format!("the code of {}", found["error"]);
            same(&code, &found["error_code"], &json!(seen.code));
            same("the protocol", &found["proto"], &json!(proto));
            if let Some(body) = seen.body {
                same("the body's length", &found["body"], &json!(body));
            }
            if let Some(phase) = seen.phase {
                // The client may notice late what the phase begins with.
                let late = ms(phase) >= DELAY as f64 / 2.0;
                same(
                    &format!("that {phase} is late in {}", found["timings"]),
                    &late,
                    &true,
                );
                let others = PHASES.into_iter().filter(|other| *other != phase);
                let first = phase == "blocked" || others.map(ms).all(|other| other < ms(phase));
                same(
                    &format!("that {phase} is longest in {}", found["timings"]),
                    &first,
                    &true,
                );
            }
            let sum = ms("sending") + ms("waiting") + ms("receiving");
            let sums = (ms("duration") - sum).abs() < 0.01;
            same("that the duration is the sum of its phases", &sums, &true);
        }
        faults
    }
}

#[test]
fn what_a_script_sees_is_what_the_server_did() {
    let cases = cases();
    let config = tls();
    let truths: Vec<Shared> = cases.iter().map(|_| Shared::default()).collect();
    let gate = gate(truths.clone());
    let told: Vec<Value> = cases
        .iter()
        .zip(&truths)
        .enumerate()
        .map(|(n, (case, truth))| {
            case.told(serve(case, &config, truth), &format!("http://{gate}/{n}"))
        })
        .collect();
    let folder = Folder::with("script.js", SCRIPT);
    folder.write("cases.json", Value::from(told).to_string());
    let finished = Launch::volley(folder.path())
        .words("run --quiet --log-format raw --out json=samples.json script.js")
        .run()
        .expect(0);
    let lines = finished.stderr.lines();
    let seen: Vec<Value> = lines
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect();
    assert_eq!(seen.len(), cases.len(), "{}", finished.account());
    let samples: Vec<Value> = folder
        .read("samples.json")
        .lines()
        .map(|line| serde_json::from_str(line).expect("a sample"))
        .collect();
    let mut faults = Vec::new();
    for (case, truth) in cases.iter().zip(&truths) {
        let found = seen.iter().find(|line| line["name"] == case.name);
        let found = found.expect("a line for each")["seen"].as_array();
        let of = |sample: &&Value| {
            sample["metric"] == "http_reqs" && sample["data"]["tags"]["name"] == case.name
        };
        let samples: Vec<&Value> = samples.iter().filter(of).collect();
        let truth = truth.lock().expect("no panic");
        faults.extend(case.faults(found.expect("a list"), &samples, &truth));
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
