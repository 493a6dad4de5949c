//! The admin API of bridges, as those who call it see it.
//!
//! Promises:
//! - any door serves any call;
//! - a user id stays one segment of the path, whatever it holds;
//! - redirects and proxies are not followed: the token goes to the URL that was given, and nowhere
//!   else;
//! - an answer is read up to [`MAX_ANSWER_BYTES`], and a call takes no longer than its client allows.
//!
//! Knows nothing of: how a call is served; processes.

mod answer;
mod persist;

use std::time::Duration;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde_json::{Map, Value};

pub use answer::{NotServed, Why};
pub use persist::persist;

use crate::secret::Secret;

/// The longest answer that is read: a page of the largest subscriptions.
pub const MAX_ANSWER_BYTES: usize = 16 * 1024 * 1024;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
const JSON: &str = "application/json";
/// Has the bridge ask with its own credentials.
const CLIENT: &str = r#"{"credential":{"type":"client"}}"#;

/// A client for doors on this machine or a network of one's own; no call takes longer than that.
pub fn client(longest: Duration) -> Result<reqwest::Client, reqwest::Error> {
    reqwest::Client::builder()
        .timeout(longest)
        .connect_timeout(CONNECT_TIMEOUT.min(longest))
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .build()
}

/// One bridge.
#[derive(Clone, Debug)]
pub struct Door {
    http: reqwest::Client,
    url: String,
    token: Option<Secret>,
}

/// Some of the subscriptions, in the order of the user ids' bytes.
#[derive(Debug, Deserialize)]
pub struct Page {
    /// As the API shows each.
    pub subscriptions: Vec<Map<String, Value>>,
    /// What to ask for the next page with; none on the last.
    pub next: Option<String>,
}

impl Door {
    /// The door under a URL.
    pub fn new(http: &reqwest::Client, url: &str, token: Option<&Secret>) -> Self {
        let url = url.trim_end_matches('/').to_owned();
        Self { http: http.clone(), url, token: token.cloned() }
    }

    /// Its URL.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// What keeps the bridge from being ready; none when nothing does.
    pub async fn not_ready(&self) -> Option<String> {
        match self.answered(self.http.get(format!("{}/readyz", self.url))).await {
            Ok(_) => None,
            Err(
                NotServed::Later { why, .. } | NotServed::Refused(why) | NotServed::Closed(why),
            ) => Some(why.detail),
        }
    }

    /// Whether anybody answers at all, be it that all is not well.
    pub async fn answers(&self) -> bool {
        match self.answered(self.http.get(format!("{}/livez", self.url))).await {
            Ok(_) => true,
            Err(
                NotServed::Later { why, .. } | NotServed::Refused(why) | NotServed::Closed(why),
            ) => why.status.is_some(),
        }
    }

    /// Has a user watched with the bridge's own credentials.
    pub async fn subscribe(&self, user: &str) -> Result<(), NotServed> {
        self.put(user, CLIENT).await.map(drop)
    }

    /// Puts a subscription with this body, JSON; answers whether there was one before.
    pub async fn put(&self, user: &str, body: &str) -> Result<bool, NotServed> {
        let request = self.http.put(self.of_user(user));
        let request = request.header("content-type", JSON).body(body.to_owned());
        let (status, text) = self.answered(request).await?;
        // whatever says yes to anything would be taken for a bridge that has everybody
        let done: Value = serde_json::from_slice(&text).unwrap_or_default();
        if done["user_id"] != user {
            return Err(NotServed::Closed(Why::stranger(&self.url, status)));
        }
        Ok(status != 201)
    }

    /// Says that a synchronization is about to start.
    pub async fn hint(&self, user: &str) -> Result<(), NotServed> {
        self.answered(self.http.post(self.of_user(user) + "/hint")).await.map(drop)
    }

    /// The subscriptions of users above `after`, the lowest `limit` of them.
    pub async fn page(&self, after: Option<&str>, limit: usize) -> Result<Page, NotServed> {
        let mut request = self.http.get(format!("{}/v1/subscriptions", self.url));
        request = request.query(&[("limit", limit)]);
        if let Some(after) = after {
            request = request.query(&[("after", after)]);
        }
        let (status, text) = self.answered(request).await?;
        serde_json::from_slice(&text)
            .map_err(|_| NotServed::Closed(Why::stranger(&self.url, status)))
    }

    fn of_user(&self, user: &str) -> String {
        // joined as text: a URL type might normalise what is percent-encoded
        format!("{}/v1/subscriptions/{}", self.url, utf8_percent_encode(user, NON_ALPHANUMERIC))
    }

    /// The status and the body of an answer that serves the call.
    async fn answered(
        &self,
        request: reqwest::RequestBuilder,
    ) -> Result<(u16, Vec<u8>), NotServed> {
        let request = match &self.token {
            Some(token) => request.bearer_auth(token.expose()),
            None => request,
        };
        let broken = |error: reqwest::Error| NotServed::Later {
            why: Why::broken(&self.url, &error),
            after: None,
        };
        let mut answer = request.send().await.map_err(broken)?;
        let status = answer.status().as_u16();
        let after = answer.headers().get("retry-after").and_then(|value| value.to_str().ok());
        let after = after.and_then(answer::wait);
        let mut text = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(broken)? {
            if text.len() + chunk.len() > MAX_ANSWER_BYTES {
                return Err(NotServed::Closed(Why::stranger(&self.url, status)));
            }
            text.extend_from_slice(&chunk);
        }
        if (200..300).contains(&status) {
            return Ok((status, text));
        }
        Err(NotServed::of(status, Why::told(&self.url, status, &text), after))
    }
}
