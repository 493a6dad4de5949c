//! The admin API of bridges, as an integrator's back end calls it.
//!
//! Promises: any door serves any call; a call takes no longer than [`PATIENCE`].
//!
//! Knows nothing of: processes.

use std::time::Duration;

use serde_json::{Value, json};

use super::LoadError;

const PATIENCE: Duration = Duration::from_secs(15);

/// A client for plain calls on this machine or a network of one's own.
pub(super) fn client() -> Result<reqwest::Client, LoadError> {
    let builder = reqwest::Client::builder().timeout(PATIENCE).no_proxy();
    builder.build().map_err(LoadError::Source)
}

/// What a bridge answered to a call that it did not serve.
#[derive(Debug)]
pub(super) enum NotServed {
    /// It may serve it in a moment.
    Later(String),
    /// It never will.
    Never(LoadError),
}

/// One bridge.
#[derive(Clone)]
pub(super) struct Door {
    http: reqwest::Client,
    url: String,
    token: Option<crate::secret::Secret>,
}

impl Door {
    /// The door under a URL.
    pub(super) fn new(
        http: &reqwest::Client,
        url: &str,
        token: Option<&crate::secret::Secret>,
    ) -> Self {
        let url = url.trim_end_matches('/').to_owned();
        Self { http: http.clone(), url, token: token.cloned() }
    }

    /// Its URL.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// What keeps the bridge from being ready; none when nothing does.
    pub(super) async fn not_ready(&self) -> Option<String> {
        match self.http.get(format!("{}/readyz", self.url)).send().await {
            Ok(answer) if answer.status().is_success() => None,
            Ok(answer) => {
                let text = answer.text().await.unwrap_or_default();
                let problem: Value = serde_json::from_str(&text).unwrap_or_default();
                Some(problem["detail"].as_str().unwrap_or("it does not say why").to_owned())
            }
            Err(_) => Some("it does not answer".to_owned()),
        }
    }

    /// Has a user watched.
    pub(super) async fn subscribe(&self, user: &str) -> Result<(), NotServed> {
        let url = format!("{}/v1/subscriptions/{user}", self.url);
        let request = self.http.put(url).json(&json!({"credential": {"type": "client"}}));
        self.call(request, user).await
    }

    /// Says that a synchronization is about to start.
    pub(super) async fn hint(&self, user: &str) -> Result<(), NotServed> {
        self.call(self.http.post(format!("{}/v1/subscriptions/{user}/hint", self.url)), user).await
    }

    async fn call(&self, request: reqwest::RequestBuilder, user: &str) -> Result<(), NotServed> {
        let request = match &self.token {
            Some(token) => request.bearer_auth(token.expose()),
            None => request,
        };
        let answer = request.send().await.map_err(|error| NotServed::Later(error.to_string()))?;
        let status = answer.status().as_u16();
        let text = answer.text().await.unwrap_or_default();
        match status {
            200..300 => Ok(()),
            429 | 500..600 => Err(NotServed::Later(format!("{status}: {text}"))),
            _ => {
                let call = format!("the call for {user} at {}", self.url);
                Err(NotServed::Never(LoadError::Refused { call, status, text }))
            }
        }
    }
}
