//! Every route of the control API, and what answers it.

use std::{future::Future, sync::Arc};

use axum::{
    Router,
    body::Bytes,
    extract::{DefaultBodyLimit, Path, Request, State, rejection::BytesRejection},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{MethodFilter, MethodRouter, any, get, on},
};
use http::{HeaderValue, StatusCode, header};
use serde_json::{Value, value::RawValue};
use volley_metrics::Snapshot;

use super::{
    Control,
    documents::{self, ApiError, StatusPatch},
    process,
};
use crate::logging::{Level, Logger};

/// What every handler gets.
type Run = State<Arc<dyn Control>>;
type Routes = MethodRouter<Arc<dyn Control>>;

/// Every path with what answers it, by method. A known path refuses other methods with 405.
fn routes() -> [(&'static str, Routes); 13] {
    [
        ("/v1/status", read(get_status).patch(patch_status)),
        ("/v1/metrics", read(get_metrics)),
        // A wildcard, because the tags in a sub-metric's name may hold slashes.
        ("/v1/metrics/{*name}", read(get_metric)),
        ("/v1/groups", read(get_groups)),
        ("/v1/groups/{id}", read(get_group)),
        (
            "/v1/setup",
            read(get_setup)
                .post(run_setup)
                .put(put_setup)
                .layer(DefaultBodyLimit::disable()),
        ),
        ("/v1/teardown", on(MethodFilter::POST, run_teardown)),
        ("/v1/", any(not_found)),
        ("/v1/{*rest}", any(not_found)),
        ("/debug/pprof/", any(no_profiling)),
        ("/debug/pprof/{*rest}", any(no_profiling)),
        ("/debug/vars/", get(variables)),
        ("/metrics", get(process_metrics)),
    ]
}

/// A route for GET alone: axum would have it answer HEAD as well, k6 refuses that.
fn read<H, T>(handler: H) -> Routes
where
    H: axum::handler::Handler<T, Arc<dyn Control>>,
    T: 'static,
{
    get(handler).on(MethodFilter::HEAD, method_not_allowed)
}

/// The whole API, with a log line for each request.
pub(super) fn router(control: Arc<dyn Control>, logger: Arc<Logger>) -> Router {
    let router = routes()
        .into_iter()
        .fold(Router::new(), |router, (path, routes)| {
            router.route(path, routes)
        });
    router
        .fallback(any(ok))
        .layer(middleware::from_fn_with_state(logger, log_request))
        .with_state(control)
}

async fn log_request(State(logger): State<Arc<Logger>>, request: Request, next: Next) -> Response {
    if !logger.enabled(Level::Debug) {
        return next.run(request).await;
    }
    let what = format!("{} {}", request.method(), request.uri().path());
    let response = next.run(request).await;
    logger.log(
        Level::Debug,
        &what,
        &[("status", response.status().as_str())],
    );
    response
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        (self.status, json(&self.document())).into_response()
    }
}

type Answer = Result<Response, ApiError>;

fn json(document: &Value) -> Response {
    json_text(document.to_string(), "application/json; charset=utf-8")
}

fn json_text(text: String, content_type: &'static str) -> Response {
    (
        [(header::CONTENT_TYPE, HeaderValue::from_static(content_type))],
        text,
    )
        .into_response()
}

/// Makes a document from what was measured, on a thread where that may take its time.
async fn measured<F>(control: Arc<dyn Control>, document: F) -> Answer
where
    F: FnOnce(&Snapshot) -> Result<Value, ApiError> + Send + 'static,
{
    let made = tokio::task::spawn_blocking(move || {
        document(&control.snapshot()).map(|document| json(&document))
    });
    made.await
        .unwrap_or_else(|error| Err(ApiError::internal(error.to_string())))
}

async fn get_status(State(control): Run) -> Response {
    json(&documents::status(control.status()))
}

async fn patch_status(State(control): Run, body: Result<Bytes, BytesRejection>) -> Answer {
    let body =
        body.map_err(|error| ApiError::invalid("Couldn't read request", error.body_text()))?;
    let patch: StatusPatch = serde_json::from_slice(&body)
        .map_err(|error| ApiError::invalid("Invalid data", error.to_string()))?;
    let wanted = patch.attributes();
    // A stop wins: whatever else the request asks for has no meaning after it.
    if wanted.stopped == Some(true) {
        control.stop();
    } else {
        if let Some(paused) = wanted.paused {
            control.pause(paused).await?;
        }
        if wanted.vus.is_some() || wanted.vus_max.is_some() {
            control.scale(wanted.vus, wanted.vus_max).await?;
        }
    }
    Ok(json(&documents::status(control.status())))
}

async fn get_metrics(State(control): Run) -> Answer {
    measured(control, |snapshot| Ok(documents::metrics(snapshot))).await
}

async fn get_metric(State(control): Run, Path(name): Path<String>) -> Answer {
    measured(control, move |snapshot| {
        documents::one_metric(snapshot, &name)
    })
    .await
}

async fn get_groups(State(control): Run) -> Answer {
    measured(control, |snapshot| Ok(documents::groups(snapshot))).await
}

async fn get_group(State(control): Run, Path(id): Path<String>) -> Answer {
    measured(control, move |snapshot| documents::one_group(snapshot, &id)).await
}

async fn get_setup(State(control): Run) -> Answer {
    Ok(json_text(
        documents::setup(control.setup_data().as_deref())?,
        "application/json",
    ))
}

async fn put_setup(State(control): Run, body: Result<Bytes, BytesRejection>) -> Answer {
    let body =
        body.map_err(|error| ApiError::invalid("Error reading request body", error.body_text()))?;
    let raw = if body.is_empty() {
        None
    } else {
        let raw: &RawValue = serde_json::from_slice(&body)
            .map_err(|error| ApiError::invalid("Error parsing request body", error.to_string()))?;
        Some(raw.get().to_owned())
    };
    control.set_setup_data(raw);
    get_setup(State(control)).await
}

async fn run_setup(State(control): Run) -> Answer {
    finished("Error executing setup", control.run_setup()).await?;
    get_setup(State(control)).await
}

async fn run_teardown(State(control): Run) -> Answer {
    finished("Error executing teardown", control.run_teardown()).await?;
    Ok(StatusCode::OK.into_response())
}

/// Runs a script's function to its end, even if who asked for it goes away meanwhile.
async fn finished<F>(title: &'static str, run: F) -> Result<(), ApiError>
where
    F: Future<Output = Result<(), String>> + Send + 'static,
{
    let outcome = tokio::spawn(run)
        .await
        .unwrap_or_else(|error| Err(error.to_string()));
    outcome.map_err(|stack| ApiError::script(title, stack))
}

async fn method_not_allowed() -> StatusCode {
    StatusCode::METHOD_NOT_ALLOWED
}

async fn not_found() -> (StatusCode, &'static str) {
    (StatusCode::NOT_FOUND, "404 page not found\n")
}

async fn ok() -> &'static str {
    "ok"
}

async fn no_profiling() -> &'static str {
    "To enable profiling, please run k6 with the --profiling-enabled flag"
}

async fn variables() -> Response {
    json(&documents::variables(&process::values()))
}

async fn process_metrics() -> Response {
    json_text(
        process::exposition(),
        "text/plain; version=0.0.4; charset=utf-8",
    )
}
