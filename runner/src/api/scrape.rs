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
use volley_metrics::PageFormat;

/// Makes the page in a form.
pub(crate) type Render = Arc<dyn Fn(PageFormat) -> Vec<u8> + Send + Sync>;

#[derive(Clone)]
struct Source {
    /// What a scraper may choose from, the best one first.
    formats: &'static [PageFormat],
    render: Render,
    scraped: Arc<AtomicU64>,
}

/// A router on which every path answers with the exposition.
pub(super) fn router(
    formats: &'static [PageFormat],
    render: Render,
    scraped: Arc<AtomicU64>,
) -> Router {
    Router::new().fallback(scrape).with_state(Source {
        formats,
        render,
        scraped,
    })
}

async fn scrape(State(source): State<Source>, method: Method, headers: HeaderMap) -> Response {
    // A look at the head takes no values away.
    if method == Method::GET {
        source.scraped.fetch_add(1, Ordering::AcqRel);
    }
    let compress = takes_gzip(&headers);
    let format = chosen(&headers, source.formats);
    let rendered = tokio::task::spawn_blocking(move || {
        let page = (source.render)(format);
        if compress {
            gzip(&page).map(|packed| (packed, true))
        } else {
            Ok((page, false))
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
    let format = HeaderValue::from_static(format.content_type());
    headers.insert(header::CONTENT_TYPE, format);
    let vary = HeaderValue::from_static("Accept, Accept-Encoding");
    headers.insert(header::VARY, vary);
    if packed {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    response
}

/// At the fastest level: the exposition is repetitive, and the CPU belongs to the load.
fn gzip(page: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(page.len() / 8), Compression::fast());
    encoder.write_all(page)?;
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

/// The form that `Accept` weighs most, and of equal ones the best; the text for those who take
/// neither, because they can show it.
fn chosen(headers: &HeaderMap, formats: &[PageFormat]) -> PageFormat {
    let values = headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok());
    let ranges: Vec<&str> = values.flat_map(|value| value.split(',')).collect();
    let weight = |format: &PageFormat| {
        let weights = ranges.iter().map(|range| weight_of(range, *format));
        weights.fold(0.0, f64::max)
    };
    let mut best = (PageFormat::Text, 0.0);
    for format in formats {
        let weight = weight(format);
        if weight > best.1 {
            best = (*format, weight);
        }
    }
    best.0
}

/// The weight that a range of `Accept` gives to a form: 0 if it is another one. Protocol buffers
/// have to be named with all that makes them what they are.
fn weight_of(range: &str, format: PageFormat) -> f64 {
    let mut parts = range
        .split(';')
        .map(|part| part.trim().to_ascii_lowercase());
    let name = parts.next().unwrap_or_default();
    let parameters: Vec<String> = parts.collect();
    let has = |wanted: &str| {
        parameters
            .iter()
            .any(|parameter| parameter.replace('"', "") == wanted)
    };
    let is_it = match format {
        PageFormat::Text => ["text/plain", "text/*", "*/*"].contains(&name.as_str()),
        PageFormat::Protobuf => {
            name == "application/vnd.google.protobuf"
                && has("proto=io.prometheus.client.metricfamily")
                && has("encoding=delimited")
        }
    };
    let weight = parameters.iter().find_map(|part| part.strip_prefix("q="));
    match weight {
        _ if !is_it => 0.0,
        None => 1.0,
        Some(weight) => weight.parse().unwrap_or(0.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_is_that_which_the_scraper_weighs_most() {
        const PROTO: &str = "application/vnd.google.protobuf;\
                             proto=io.prometheus.client.MetricFamily;encoding=delimited";
        // As Prometheus 2.42 and 3 ask with native histograms, and without.
        let old = "application/openmetrics-text;version=1.0.0;q=0.8,\
                   application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        let with_old = format!("{PROTO},{old}");
        let new = format!(
            "{PROTO};q=0.6,application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,\
             text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,*/*;q=0.2"
        );
        let spaced = "text/plain;q=0.5, Application/Vnd.Google.Protobuf; \
                      proto=\"io.prometheus.client.MetricFamily\"; encoding=delimited; q=0.7";
        let less = format!("{PROTO};q=0.2,text/plain;q=0.5");
        let refused = format!("{PROTO};q=0,application/json");
        for (accept, protobuf) in [
            (with_old.as_str(), true),
            (&new, true),
            (spaced, true),
            (PROTO, true),
            (old, false),
            (&less, false),
            (&refused, false),
            ("*/*", false),
            ("text/html", false),
            ("", false),
            ("application/vnd.google.protobuf", false),
            (
                "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=text",
                false,
            ),
            (
                "application/vnd.google.protobuf;proto=another;encoding=delimited",
                false,
            ),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, HeaderValue::from_str(accept).unwrap());
            let expected = match protobuf {
                true => PageFormat::Protobuf,
                false => PageFormat::Text,
            };
            let both = [PageFormat::Protobuf, PageFormat::Text];
            assert_eq!(chosen(&headers, &both), expected, "{accept}");
            assert_eq!(
                chosen(&headers, &[PageFormat::Text]),
                PageFormat::Text,
                "{accept}"
            );
        }
        let nothing = HeaderMap::new();
        assert_eq!(
            chosen(&nothing, &[PageFormat::Protobuf, PageFormat::Text]),
            PageFormat::Text
        );
    }

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
