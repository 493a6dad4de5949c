//! Calls to the other instances of the fleet.
//!
//! Promises:
//! - a forwarded call says so, and is not forwarded again;
//! - redirects and proxies are not followed: the fleet's token goes where the owner's mark says, and
//!   nowhere else;
//! - an answer is read up to a limit.
//!
//! Knows nothing of: who owns what.

use std::time::Duration;

use axum::body::Bytes;
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::AdminError;
use super::problem::{Kind, Problem};
use crate::causes::innermost;

/// Set on a call that comes from another instance; its value says nothing.
pub(super) const FORWARDED: &str = "linxo-bridge-forwarded";
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Below the caller's own, so that the caller learns which instance does not answer.
const TIMEOUT: Duration = Duration::from_secs(25);
const MAX_ANSWER_BYTES: usize = 8 * 1024 * 1024;
const RETRY: Duration = Duration::from_secs(2);

/// What of a call is needed to forward it.
#[derive(Clone, Debug)]
pub(super) struct Call {
    method: Method,
    target: String,
    headers: HeaderMap,
    /// Whether it comes from another instance.
    pub(super) is_forwarded: bool,
}

impl Call {
    pub(super) fn of(parts: &Parts) -> Self {
        let mut headers = HeaderMap::new();
        for name in [header::AUTHORIZATION, header::CONTENT_TYPE] {
            if let Some(value) = parts.headers.get(&name) {
                headers.insert(name, value.clone());
            }
        }
        Self {
            method: parts.method.clone(),
            target: parts.uri.path_and_query().map_or("/", |target| target.as_str()).to_owned(),
            headers,
            is_forwarded: parts.headers.contains_key(FORWARDED),
        }
    }
}

impl<S: Sync> axum::extract::FromRequestParts<S> for Call {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        Ok(Self::of(parts))
    }
}

/// The subscriptions of one instance's partitions, as instances tell each other.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct OwnPage {
    /// Objects, so that an instance of another version loses no field of another's.
    pub(super) subscriptions: Vec<Map<String, Value>>,
    pub(super) has_more: bool,
    pub(super) partitions: Vec<i32>,
    pub(super) partitions_total: usize,
}

/// The client for all other instances.
#[derive(Debug)]
pub(super) struct Peers {
    client: reqwest::Client,
}

impl Peers {
    pub(super) fn new() -> Result<Self, AdminError> {
        // Without one, building the client would panic.
        if rustls::crypto::CryptoProvider::get_default().is_none() {
            let text = "no rustls crypto provider is installed in this process";
            return Err(AdminError::Client(text.to_owned()));
        }
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(TIMEOUT)
            .build()
            // it says what is missing
            .map_err(|error| AdminError::Client(innermost(&error).to_string()))?;
        Ok(Self { client })
    }

    /// Has the instance at `url` answer the call.
    pub(super) async fn forward(&self, url: &str, call: &Call, body: Bytes) -> Response {
        match self.ask(url, call, body).await {
            Ok((status, headers, body)) => (status, headers, body).into_response(),
            Err(problem) => problem.into_response(),
        }
    }

    /// The page of the instance at `url`, asked for with the same parameters.
    pub(super) async fn page(&self, url: &str, call: &Call) -> Result<OwnPage, Problem> {
        let (status, _, body) = self.ask(url, call, Bytes::new()).await?;
        if status != StatusCode::OK {
            return Err(away(url, &format!("answers {status}")));
        }
        serde_json::from_slice(&body).map_err(|_| away(url, "sends a page that cannot be read"))
    }

    async fn ask(
        &self,
        url: &str,
        call: &Call,
        body: Bytes,
    ) -> Result<(StatusCode, HeaderMap, Vec<u8>), Problem> {
        // Joined as text: a URL type might normalise what is percent-encoded in a user id.
        let target = format!("{}{}", url.trim_end_matches('/'), call.target);
        let mut answer = self
            .client
            .request(call.method.clone(), target)
            .headers(call.headers.clone())
            .header(FORWARDED, "1")
            .body(body)
            .send()
            .await
            .map_err(|error| {
                away(url, if error.is_timeout() { "is too slow" } else { "is not reached" })
            })?;
        let status = answer.status();
        if status == StatusCode::UNAUTHORIZED {
            return Err(away(url, "refuses the token, which must be the same in the whole fleet"));
        }
        let mut headers = HeaderMap::new();
        for name in [header::CONTENT_TYPE, header::LOCATION, header::RETRY_AFTER] {
            if let Some(value) = answer.headers().get(&name) {
                headers.insert(name, value.clone());
            }
        }
        let mut bytes = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|_| away(url, "breaks off"))? {
            if bytes.len() + chunk.len() > MAX_ANSWER_BYTES {
                return Err(away(url, "answers with too much"));
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok((status, headers, bytes))
    }
}

fn away(url: &str, what: &str) -> Problem {
    Problem::new(Kind::OwnerAway, format!("the instance at {url} {what}; repeating is safe"))
        .after(RETRY)
}
