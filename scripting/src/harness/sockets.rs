//! A server of WebSockets for tests of scripts, by the library's own side of servers.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, Receiver, Sender},
    },
    time::Duration,
};

use tungstenite::{
    Error, Message,
    handshake::{
        derive_accept_key,
        server::{ErrorResponse, Request, Response},
    },
    http::HeaderValue,
    protocol::{CloseFrame, WebSocket},
};

/// Echoes messages. The path of a connection says what else it does:
///
/// - `/close/N` closes at once with that code and `bye`; with 1006 it just goes
/// - `/refuse` answers 403
/// - `/never` does not answer
/// - `/pong` sends a pong
/// - `/deflate` agrees to compression, and sends back what came, packed as it was
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    closed: Receiver<u16>,
    /// Whether it has let anyone in.
    pub(crate) ready: Arc<AtomicBool>,
}

impl Server {
    /// Starts one; it ends with the process.
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, closed) = mpsc::channel();
        let ready = Arc::new(AtomicBool::new(false));
        let inside = ready.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, sender, ready) = (stream.unwrap(), sender.clone(), inside.clone());
                std::thread::spawn(move || serve(stream, &sender, &ready));
            }
        });
        Self {
            address,
            closed,
            ready,
        }
    }

    /// Codes that clients have closed with, as soon as so many have.
    pub(crate) fn closed(&self, count: usize) -> Vec<u16> {
        let limit = Duration::from_secs(60);
        (0..count)
            .map(|_| self.closed.recv_timeout(limit).expect("a close"))
            .collect()
    }
}

// The type of the library's callback.
#[allow(clippy::result_large_err)]
fn serve(stream: TcpStream, closed: &Sender<u16>, ready: &AtomicBool) {
    let mut peeked = [0; 64];
    let length = stream.peek(&mut peeked).unwrap_or(0);
    let start = String::from_utf8_lossy(&peeked[..length]).into_owned();
    let path = start.split(' ').nth(1).unwrap_or_default().to_owned();
    match path.as_str() {
        "/refuse" => return refuse(stream),
        "/never" => {
            let _ = (&stream).read_to_end(&mut Vec::new());
            return;
        }
        "/deflate" => return mirror(stream),
        _ => {}
    }
    let choose = |request: &Request, mut response: Response| -> Result<Response, ErrorResponse> {
        let asked = request.headers().get("sec-websocket-protocol");
        if asked.is_some_and(|asked| asked.to_str().is_ok_and(|asked| asked.contains("kit"))) {
            let chosen = HeaderValue::from_static("kit");
            response
                .headers_mut()
                .insert("sec-websocket-protocol", chosen);
        }
        Ok(response)
    };
    let Ok(mut socket) = tungstenite::accept_hdr(stream, choose) else {
        return;
    };
    ready.store(true, Ordering::Relaxed);
    if path == "/close/1006" {
        return;
    }
    if let Some(code) = path.strip_prefix("/close/") {
        let code = code.parse::<u16>().unwrap().into();
        let reason = "bye".into();
        let _ = socket.close(Some(CloseFrame { code, reason }));
    }
    if path == "/pong" {
        let _ = socket.send(Message::Pong("unasked".into()));
    }
    echo(&mut socket, closed);
}

fn echo(socket: &mut WebSocket<TcpStream>, closed: &Sender<u16>) {
    loop {
        match socket.read() {
            Ok(message @ (Message::Text(_) | Message::Binary(_))) => {
                let _ = socket.send(message);
            }
            Ok(Message::Close(frame)) => {
                let code = frame.map_or(1005, |frame| frame.code.into());
                let _ = closed.send(code);
            }
            Ok(_) => {}
            Err(Error::ConnectionClosed | Error::Io(_) | Error::Protocol(_)) => return,
            Err(error) => panic!("{error}"),
        }
    }
}

fn head(stream: &mut TcpStream) -> String {
    let (mut head, mut one) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut one).is_ok_and(|n| n == 1) {
        head.push(one[0]);
    }
    String::from_utf8(head).unwrap()
}

fn refuse(mut stream: TcpStream) {
    head(&mut stream);
    let answer = "HTTP/1.1 403 Forbidden\r\nX-Why: so\r\nContent-Length: 8\r\n\r\nno entry";
    let _ = stream.write_all(answer.as_bytes());
}

/// Sends the payload of a short message back as it came, packed.
fn mirror(mut stream: TcpStream) {
    let head = head(&mut stream);
    let line = |name: &str| head.lines().find_map(|line| line.strip_prefix(name));
    let accept = derive_accept_key(line("Sec-Websocket-Key: ").unwrap().as_bytes());
    let offer = line("Sec-Websocket-Extensions: ").unwrap();
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Extensions: {offer}\r\n\r\n"
    );
    stream.write_all(answer.as_bytes()).unwrap();
    let mut start = [0; 6];
    stream.read_exact(&mut start).unwrap();
    let length = usize::from(start[1] & 0x7f);
    assert!(start[0] == 0xc1 && length < 126, "packed, and short for it");
    let mut payload = vec![0; length];
    stream.read_exact(&mut payload).unwrap();
    for (at, byte) in payload.iter_mut().enumerate() {
        *byte ^= start[2 + at % 4];
    }
    let frame = [&[0xc1, length as u8][..], &payload].concat();
    stream.write_all(&frame).unwrap();
    let _ = stream.read_to_end(&mut Vec::new());
}
