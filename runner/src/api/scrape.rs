//! The scrape endpoint of the Prometheus output.

use std::{
    io::Write as _,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use axum::{
    Router,
    extract::State,
    response::{IntoResponse, Response},
};
use flate2::{Compression, write::GzEncoder};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};

type Render = Arc<dyn Fn() -> Vec<u8> + Send + Sync>;

#[derive(Clone)]
struct Source {
    render: Render,
    scraped: Arc<AtomicU64>,
}

/// A router on which every path answers with the exposition.
pub(super) fn router(render: Render, scraped: Arc<AtomicU64>) -> Router {
    Router::new()
        .fallback(scrape)
        .with_state(Source { render, scraped })
}

async fn scrape(State(source): State<Source>, method: Method, headers: HeaderMap) -> Response {
    // A look at the head takes no values away.
    if method == Method::GET {
        source.scraped.fetch_add(1, Ordering::AcqRel);
    }
    let compress = takes_gzip(&headers);
    let rendered = tokio::task::spawn_blocking(move || {
        let text = (source.render)();
        if compress {
            gzip(&text).map(|packed| (packed, true))
        } else {
            Ok((text, false))
        }
    });
    let (body, packed) = match rendered.await {
        Ok(Ok(rendered)) => rendered,
        Ok(Err(error)) => {
            return (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response();
        }
        Err(error) => {
            return (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response();
        }
    };
    let mut response = body.into_response();
    let headers = response.headers_mut();
    let format = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    headers.insert(header::CONTENT_TYPE, format);
    headers.insert(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    if packed {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    response
}

/// At the fastest level: the exposition is repetitive, and the CPU belongs to the load.
fn gzip(text: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(text.len() / 8), Compression::fast());
    encoder.write_all(text)?;
    encoder.finish()
}

/// Whether `Accept-Encoding` names gzip with a weight above zero.
fn takes_gzip(headers: &HeaderMap) -> bool {
    let values = headers
        .get_all(header::ACCEPT_ENCODING)
        .iter()
        .filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|coding| {
        let mut parts = coding.split(';').map(str::trim);
        let named = parts
            .next()
            .is_some_and(|name| name.eq_ignore_ascii_case("gzip"));
        let weight = parts.find_map(|part| part.strip_prefix("q=")?.parse::<f64>().ok());
        named && weight.is_none_or(|weight| weight > 0.0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_is_taken_only_where_it_is_offered() {
        for (offered, expected) in [
            ("gzip", true),
            ("deflate, GZIP;q=0.5", true),
            ("gzip;q=0", false),
            ("gzip; q=0.0, br", false),
            ("identity", false),
            ("x-gzip2", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static(offered));
            assert_eq!(takes_gzip(&headers), expected, "{offered}");
        }
        assert!(!takes_gzip(&HeaderMap::new()));
    }
}
