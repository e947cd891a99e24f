//! What receivers answer, in gRPC and in HTTP.

use http::header::CONTENT_TYPE;

use super::super::{
    client::{Reply, unescape},
    proto::{Field, fields},
};

/// The type of bodies over HTTP.
pub(super) const PROTOBUF: &str = "application/x-protobuf";

/// Codes of gRPC by their numbers.
const CODES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// Why a request was not taken.
#[derive(Debug, PartialEq)]
pub(super) struct Failure {
    pub(super) text: String,
    /// Whether it may be taken another time.
    pub(super) again: bool,
}

/// What a receiver did not take of a request that it took.
#[derive(Debug, PartialEq)]
pub(super) struct Rejection {
    pub(super) points: u64,
    pub(super) text: String,
}

/// A message as gRPC has it in a body: not compressed, and its length.
pub(super) fn frame(message: &[u8]) -> Vec<u8> {
    let mut body = vec![0];
    body.extend((message.len() as u32).to_be_bytes());
    body.extend(message);
    body
}

/// # Errors
/// Why the request was not taken.
pub(super) fn of_grpc(reply: &Reply) -> Result<Option<Rejection>, Failure> {
    if reply.status != 200 {
        return Err(refused(reply, ""));
    }
    let header = |name| reply.headers.get(name)?.to_str().ok();
    let code = header("grpc-status").and_then(|text| text.parse::<usize>().ok());
    match code {
        Some(0) => match reply.body.split_at_checked(5) {
            Some(([0, ..], message)) => Ok(rejection(message)),
            _ => Ok(None),
        },
        Some(code) => {
            let mut text = CODES.get(code).map_or_else(
                || format!("the gRPC status {code}"),
                |&name| name.to_owned(),
            );
            if let Some(message) = header("grpc-message").filter(|text| !text.is_empty()) {
                text.extend([": ", &unescape(message)]);
            }
            Err(Failure {
                text,
                // As OTLP says.
                again: matches!(code, 1 | 4 | 8 | 10 | 11 | 14 | 15),
            })
        }
        None => Err(Failure {
            text: "the answer is none of gRPC: it has no grpc-status".to_owned(),
            again: false,
        }),
    }
}

/// # Errors
/// Why the request was not taken.
pub(super) fn of_http(reply: &Reply) -> Result<Option<Rejection>, Failure> {
    let kind = reply.headers.get(CONTENT_TYPE);
    let protobuf = kind.is_some_and(|kind| kind.as_bytes().starts_with(PROTOBUF.as_bytes()));
    if reply.status / 100 == 2 {
        return Ok(protobuf.then(|| rejection(&reply.body)).flatten());
    }
    // A message of gRPC's type Status, or a text for people.
    let text = match protobuf {
        true => fields(&reply.body).find_map(|field| match field {
            (2, Field::Bytes(text)) => Some(String::from_utf8_lossy(text)),
            _ => None,
        }),
        false => Some(String::from_utf8_lossy(&reply.body)),
    };
    Err(refused(reply, &text.unwrap_or_default()))
}

fn refused(reply: &Reply, said: &str) -> Failure {
    let mut text = format!("status {}", reply.status);
    if let Some(line) = said.lines().next().filter(|line| !line.is_empty()) {
        text.extend([": ", line]);
    }
    Failure {
        text,
        // As OTLP says.
        again: matches!(reply.status, 429 | 502 | 503 | 504),
    }
}

/// What an `ExportMetricsServiceResponse` says was not taken.
fn rejection(message: &[u8]) -> Option<Rejection> {
    let partial = fields(message).find_map(|field| match field {
        (1, Field::Bytes(partial)) => Some(partial),
        _ => None,
    })?;
    let mut rejection = Rejection {
        points: 0,
        text: String::new(),
    };
    for field in fields(partial) {
        match field {
            (1, Field::Number(points)) => rejection.points = points,
            (2, Field::Bytes(text)) => rejection.text = String::from_utf8_lossy(text).into_owned(),
            _ => {}
        }
    }
    // Empty, it says the same as if it were not there.
    (rejection.points > 0 || !rejection.text.is_empty()).then_some(rejection)
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderName, HeaderValue};

    use super::*;
    use crate::outputs::proto::Message;

    fn reply(status: u16, headers: &[(&'static str, &'static str)], body: &[u8]) -> Reply {
        let pair = |&(name, value)| {
            let name = HeaderName::from_static(name);
            (name, HeaderValue::from_static(value))
        };
        Reply {
            status,
            headers: headers.iter().map(pair).collect::<HeaderMap>(),
            body: body.to_vec().into(),
        }
    }

    fn failure(text: &str, again: bool) -> Result<Option<Rejection>, Failure> {
        let text = text.to_owned();
        Err(Failure { text, again })
    }

    fn partial(points: u64, text: &str) -> Vec<u8> {
        let mut message = Message::default();
        message.message(1, |partial| {
            partial.varint(1, points);
            partial.bytes(2, text.as_bytes());
        });
        message.0
    }

    #[test]
    fn answers_of_grpc_are_understood() {
        let ok = [("grpc-status", "0")];
        assert_eq!(of_grpc(&reply(200, &ok, b"")), Ok(None));
        assert_eq!(of_grpc(&reply(200, &ok, &frame(b""))), Ok(None));
        assert_eq!(of_grpc(&reply(200, &ok, &frame(&partial(0, "")))), Ok(None));
        let rejection = Rejection {
            points: 3,
            text: "too old".to_owned(),
        };
        let body = frame(&partial(3, "too old"));
        assert_eq!(of_grpc(&reply(200, &ok, &body)), Ok(Some(rejection)));
        for (status, headers, text, again) in [
            (200, &[("grpc-status", "14")][..], "UNAVAILABLE", true),
            (
                200,
                &[
                    ("grpc-status", "3"),
                    ("grpc-message", "no%20%C3%A9, 100%25"),
                ],
                "INVALID_ARGUMENT: no é, 100%",
                false,
            ),
            (200, &[("grpc-status", "99")], "the gRPC status 99", false),
            (
                200,
                &[],
                "the answer is none of gRPC: it has no grpc-status",
                false,
            ),
            (503, &[], "status 503", true),
            (404, &[("grpc-status", "0")], "status 404", false),
        ] {
            let read = of_grpc(&reply(status, headers, b""));
            assert_eq!(read, failure(text, again));
        }
    }

    #[test]
    fn answers_of_http_are_understood() {
        let protobuf = [("content-type", PROTOBUF)];
        assert_eq!(of_http(&reply(204, &[], b"")), Ok(None));
        assert_eq!(of_http(&reply(200, &protobuf, b"")), Ok(None));
        // Only what says that it is a message is read as one.
        assert_eq!(of_http(&reply(200, &[], &partial(3, "too old"))), Ok(None));
        let read = of_http(&reply(200, &protobuf, &partial(0, "be careful")));
        let rejection = Rejection {
            points: 0,
            text: "be careful".to_owned(),
        };
        assert_eq!(read, Ok(Some(rejection)));
        let mut status = Message::default();
        status.varint(1, 8);
        status.bytes(2, b"slow down");
        let read = of_http(&reply(429, &protobuf, &status.0));
        assert_eq!(read, failure("status 429: slow down", true));
        let read = of_http(&reply(400, &[], b"bad\nrequest"));
        assert_eq!(read, failure("status 400: bad", false));
        let read = of_http(&reply(500, &protobuf, b""));
        assert_eq!(read, failure("status 500", false));
    }
}
