//! The integrator's back end: what it calls at the bridge's admin API.
//!
//! Names `reqwest`, as any integrator might: the demo stands outside the bridge here.
//!
//! Promises: a call takes no longer than [`PATIENCE`]; what was refused is an error.
//!
//! Knows nothing of: the bridge but its API.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};

use super::DemoError;

const PATIENCE: Duration = Duration::from_secs(5);

/// Calls the bridge.
#[derive(Clone)]
pub(super) struct BackEnd {
    http: reqwest::Client,
    url: String,
    token: String,
}

impl BackEnd {
    /// A back end that knows where the bridge is, and its token.
    pub(super) fn new(bridge: SocketAddr, token: &str) -> Result<Self, DemoError> {
        let http = reqwest::Client::builder().timeout(PATIENCE).build()?;
        Ok(Self { http, url: format!("http://{bridge}"), token: token.to_owned() })
    }

    /// The base of the admin API.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// Does `/readyz` say yes?
    pub(super) async fn is_ready(&self) -> bool {
        let asked = self.http.get(format!("{}/readyz", self.url)).send().await;
        asked.is_ok_and(|answer| answer.status().is_success())
    }

    /// Has a user watched; answers what the bridge said.
    pub(super) async fn subscribe(&self, user: &str) -> Result<Value, DemoError> {
        let path = format!("/v1/subscriptions/{user}");
        let body = json!({"credential": {"type": "client"}});
        let request = self.http.put(format!("{}{path}", self.url)).json(&body);
        let text = self.call(format!("PUT {path}"), request).await?;
        Ok(serde_json::from_str(&text).unwrap_or_default())
    }

    /// Says that a synchronization is about to start.
    pub(super) async fn hint(&self, user: &str) -> Result<(), DemoError> {
        let path = format!("/v1/subscriptions/{user}/hint");
        let request = self.http.post(format!("{}{path}", self.url));
        self.call(format!("POST {path}"), request).await.map(drop)
    }

    /// The text of `/metrics`.
    pub(super) async fn metrics(&self) -> Result<String, DemoError> {
        self.call("GET /metrics".into(), self.http.get(format!("{}/metrics", self.url))).await
    }

    async fn call(
        &self,
        call: String,
        request: reqwest::RequestBuilder,
    ) -> Result<String, DemoError> {
        let answer = request.bearer_auth(&self.token).send().await?;
        let status = answer.status();
        let text = answer.text().await?;
        if status.is_success() {
            Ok(text)
        } else {
            Err(DemoError::Refused { call, status: status.as_u16(), answer: text })
        }
    }
}
