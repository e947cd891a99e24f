//! Modules from the web: fetched once in the first init, over HTTPS, with the system's trust.

use std::{sync::Arc, time::Duration};

use volley_net::{Client, ClientConfig, Request, Url};

use crate::loader;

/// For one attempt, redirects and body included.
const LIMIT: Duration = Duration::from_secs(60);

/// What is said in the place of fetching where that is switched off.
pub(crate) const OFFLINE: &str = "with --offline nothing is fetched";

/// The URL of a script that is given as `https://…`, and its text.
///
/// # Errors
/// When it cannot be had; the text names the script.
pub async fn fetch_script(argument: &str) -> Result<(String, Vec<u8>), String> {
    let url = loader::resolve("file:///-", argument)?;
    match fetch(&url).await {
        Ok(content) => Ok((url, content)),
        Err(problem) => Err(not_retrieved(argument, &url, &problem)),
    }
}

/// What is said about a remote module that could not be had.
pub(crate) fn not_retrieved(specifier: &str, url: &str, problem: &str) -> String {
    format!(
        "The moduleSpecifier \"{specifier}\" couldn't be retrieved from the resolved url \"{url}\". \
         Error : \"{problem}\""
    )
}

/// Fetches the text behind a URL: with k6's mark first, by which servers may know who asks, and
/// then as it is.
pub(crate) async fn fetch(url: &str) -> Result<Vec<u8>, String> {
    let separator = if url.contains('?') { '&' } else { '?' };
    let mut config = ClientConfig::default();
    config.user_agent = Some(concat!("Volley/", env!("CARGO_PKG_VERSION")).to_owned());
    let client = Client::new(Arc::new(config));
    match get(&client, &format!("{url}{separator}_k6=1")).await {
        Ok(content) => Ok(content),
        Err(_) => get(&client, url).await,
    }
}

async fn get(client: &Client, url: &str) -> Result<Vec<u8>, String> {
    let parsed = Url::parse(url).map_err(|error| error.to_string())?;
    let mut request = Request::new("GET", parsed);
    request.timeout = LIMIT;
    let exchange = client.send(request).await;
    if let Some(error) = exchange.error() {
        return Err(error.to_string());
    }
    match exchange.response {
        Some(response) if response.status == 200 => Ok(response.body.to_vec()),
        Some(response) if response.status == 404 => Err(format!("not found: {url}")),
        Some(response) => Err(format!(
            "wrong status code ({}) for: {url}",
            response.status
        )),
        None => Err(format!("no response for: {url}")),
    }
}
