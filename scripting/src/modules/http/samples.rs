//! Step 6, first half: one set of samples per hop.

use std::time::Duration;

use volley_metrics::builtin;
use volley_net as net;

use super::request::Meta;
use crate::state::VuState;

/// Records everything that happened for one request.
pub(super) fn record(state: &VuState, meta: &Meta, exchange: &net::Exchange) {
    for hop in &exchange.earlier {
        record_hop(state, meta, hop);
    }
    record_hop(state, meta, &exchange.last);
}

fn record_hop(state: &VuState, meta: &Meta, hop: &net::Hop) {
    let enabled = state.settings.system_tags;
    let expected = meta
        .verdict
        .on(hop.status)
        .map(|expected| expected || hop.handshake);
    let mut pairs: Vec<(&str, &str)> = Vec::with_capacity(meta.tags.len() + 10);
    pairs.extend(meta.tags.iter().map(|(k, v)| (k.as_str(), v.as_str())));
    let masked = hop.url.masked();
    let vu_name;
    let named = match meta.tags.iter().find(|(k, _)| k == "name") {
        Some((_, name)) => Some(name.as_str()),
        None => {
            vu_name = state.tag("name");
            vu_name.as_deref().or(meta.name.as_deref())
        }
    };
    let shown: &str = named.unwrap_or(&masked);
    if enabled.url() {
        pairs.push(("url", shown));
    }
    if enabled.name() {
        pairs.push(("name", shown));
    }
    if enabled.method() {
        pairs.push(("method", &hop.method));
    }
    let mut digits = [0; 3];
    if enabled.status() {
        pairs.push(("status", status_text(hop.status, &mut digits)));
    }
    let (code, short);
    match &hop.error {
        Some(error) => {
            code = error.code().to_string();
            short = error.short();
            if enabled.error() {
                pairs.push(("error", &short));
            }
            if enabled.error_code() {
                pairs.push(("error_code", &code));
            }
        }
        None => {
            if let Some(proto) = hop.proto.filter(|_| enabled.proto()) {
                pairs.push(("proto", proto.as_str()));
            }
            if let Some(tls) = hop.tls.as_ref().filter(|_| enabled.tls_version()) {
                pairs.push(("tls_version", tls.version));
            }
            if let Some(tls) = hop.tls.as_ref().filter(|_| enabled.ocsp_status()) {
                pairs.push(("ocsp_status", tls.ocsp_status()));
            }
            if hop.status >= 400 && enabled.error_code() {
                code = (1000 + u32::from(hop.status)).to_string();
                pairs.push(("error_code", &code));
            }
        }
    }
    if let Some(expected) = expected.filter(|_| enabled.expected_response()) {
        pairs.push(("expected_response", if expected { "true" } else { "false" }));
    }
    let ip;
    if enabled.ip()
        && let Some(remote) = hop.remote
    {
        ip = remote.ip().to_string();
        pairs.push(("ip", &ip));
    }
    let tags = state.worker.tags.borrow_mut().overlay(meta.base, &pairs);
    let timings = &hop.timings;
    let at = hop.end;
    let ms = |d: Duration| d.as_nanos() as f64 / 1e6;
    for (metric, value) in [
        (builtin::HTTP_REQS, 1.0),
        (builtin::HTTP_REQ_DURATION, ms(timings.duration())),
        (builtin::HTTP_REQ_BLOCKED, ms(timings.blocked)),
        (builtin::HTTP_REQ_CONNECTING, ms(timings.connecting)),
        (
            builtin::HTTP_REQ_TLS_HANDSHAKING,
            ms(timings.tls_handshaking),
        ),
        (builtin::HTTP_REQ_SENDING, ms(timings.sending)),
        (builtin::HTTP_REQ_WAITING, ms(timings.waiting)),
        (builtin::HTTP_REQ_RECEIVING, ms(timings.receiving)),
    ] {
        state.record(metric, tags, value, at);
    }
    if let Some(expected) = expected {
        let failed = f64::from(u8::from(!expected));
        state.record(builtin::HTTP_REQ_FAILED, tags, failed, at);
    }
}

fn status_text(status: u16, digits: &mut [u8; 3]) -> &str {
    if !(100..1000).contains(&status) {
        return "0";
    }
    *digits = [
        b'0' + (status / 100) as u8,
        b'0' + (status / 10 % 10) as u8,
        b'0' + (status % 10) as u8,
    ];
    std::str::from_utf8(digits).unwrap_or("0")
}

#[cfg(test)]
mod tests {
    use super::status_text;

    #[test]
    fn status_tags_have_three_digits() {
        assert_eq!(status_text(404, &mut [0; 3]), "404");
        assert_eq!(status_text(0, &mut [0; 3]), "0");
    }
}
