//! The simulator: one in this process, or one that runs already.
//!
//! Promises: the ledger is read page by page, and the same text is kept once.
//!
//! Knows nothing of: the bridge.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use url::Url;

use super::LoadError;
use crate::simulator::{
    ConnectionPlan, EventEntry, Expiry, Extract, Ledger, Options, Order, Running, Simulator, Stats,
    Sync,
};

/// Events that are read from the ledger at a time.
const PAGE: usize = 10_000;
const PATIENCE: Duration = Duration::from_secs(60);

/// Where events come from.
pub(super) enum Source {
    /// A simulator in this process.
    Own(Running),
    /// One that is reached over its control API.
    Attached(Attached),
}

/// A simulator that runs already.
pub(super) struct Attached {
    http: reqwest::Client,
    /// Ends in `/control`.
    base: String,
}

impl Source {
    /// Starts one in this process.
    pub(super) async fn start(options: Options) -> Result<Self, LoadError> {
        Ok(Self::Own(Simulator::start(options).await?))
    }

    /// One that runs under this URL, as it printed it; its control URL is reached in an outage too.
    pub(super) async fn attach(url: &Url) -> Result<Self, LoadError> {
        let http = super::client()?;
        let base = url.as_str().trim_end_matches('/');
        let base = format!("{}/control", base.strip_suffix("/control").unwrap_or(base));
        let attached = Attached { http, base };
        attached.call::<Value>(reqwest::Method::GET, "/healthz", None).await?;
        Ok(Self::Attached(attached))
    }

    /// Gives a user as many connections.
    pub(super) async fn put_user(&self, user: &str, connections: usize) -> Result<(), LoadError> {
        let plans = vec![ConnectionPlan::default(); connections];
        match self {
            Self::Own(running) => running.put_user(user, &plans).map(drop)?,
            Self::Attached(it) => {
                let body =
                    json!({"connections": plans.iter().map(|_| json!({})).collect::<Vec<_>>()});
                it.call::<Value>(reqwest::Method::PUT, &format!("/users/{user}"), Some(body))
                    .await?;
            }
        }
        Ok(())
    }

    /// Starts a synchronization; answers how many events it makes.
    pub(super) async fn start_sync(&self, user: &str, sync: &Sync) -> Result<u64, LoadError> {
        match self {
            Self::Own(running) => Ok(running.start_sync(user, sync)? as u64),
            Self::Attached(it) => {
                let body = json!({"user": user, "sync": sync});
                let answer: Value = it.call(reqwest::Method::POST, "/sync", Some(body)).await?;
                Ok(answer["events"].as_u64().unwrap_or_default())
            }
        }
    }

    /// Orders a fault.
    pub(super) async fn inflict(&self, order: Order) -> Result<(), LoadError> {
        match self {
            Self::Own(running) => running.inflict(order)?,
            Self::Attached(it) => {
                let body = serde_json::to_value(&order).unwrap_or_default();
                it.call::<Value>(reqwest::Method::POST, "/faults", Some(body)).await?;
            }
        }
        Ok(())
    }

    /// Has a share of the queues die as if their time were over.
    pub(super) async fn expire(&self, share: f64) -> Result<(), LoadError> {
        let expiry = Expiry { share, ..Expiry::default() };
        match self {
            Self::Own(running) => drop(running.expire(&expiry)?),
            Self::Attached(it) => {
                let body = json!({ "share": share });
                it.call::<Value>(reqwest::Method::POST, "/expire", Some(body)).await?;
            }
        }
        Ok(())
    }

    /// Has the source refuse connections for a time.
    pub(super) async fn unreachable(&self, length: Duration) -> Result<(), LoadError> {
        match self {
            Self::Own(running) => running.unreachable(length),
            Self::Attached(it) => {
                let body = json!({ "for_ms": length.as_millis() as u64 });
                it.call::<Value>(reqwest::Method::POST, "/unreachable", Some(body)).await?;
            }
        }
        Ok(())
    }

    /// Forgets every order for a fault.
    pub(super) async fn heal(&self) -> Result<(), LoadError> {
        match self {
            Self::Own(running) => running.heal(),
            Self::Attached(it) => {
                it.call::<Value>(reqwest::Method::DELETE, "/faults", None).await?;
            }
        }
        Ok(())
    }

    /// The totals.
    pub(super) async fn stats(&self) -> Result<Stats, LoadError> {
        match self {
            Self::Own(running) => Ok(running.stats()),
            Self::Attached(it) => it.call(reqwest::Method::GET, "/stats", None).await,
        }
    }

    /// The whole ledger.
    pub(super) async fn ledger(&self) -> Result<Ledger, LoadError> {
        let mut whole = Ledger::default();
        let mut texts = HashSet::new();
        let mut from = 0;
        loop {
            let extract = Extract { from, limit: Some(PAGE), ..Extract::default() };
            let page = match self {
                Self::Own(running) => running.ledger_page(&extract),
                Self::Attached(it) => {
                    let path = format!("/ledger?from={from}&limit={PAGE}");
                    it.call(reqwest::Method::GET, &path, None).await?
                }
            };
            whole.truncated |= page.truncated;
            whole.now = page.now;
            whole.queues.extend(page.queues);
            whole.deaths.extend(page.deaths);
            whole.users.extend(page.users);
            whole.outages.extend(page.outages);
            whole.events.extend(page.events.into_iter().map(|event| slim(event, &mut texts)));
            match page.next {
                Some(next) => from = next,
                None => return Ok(whole),
            }
            // others have work to do on this thread too
            tokio::task::yield_now().await;
        }
    }

    /// Ends one that was started here.
    pub(super) async fn stop(self) {
        if let Self::Own(running) = self {
            running.stop().await;
        }
    }
}

/// The event with texts that others have as well.
fn slim(mut event: EventEntry, texts: &mut HashSet<Arc<str>>) -> EventEntry {
    let mut once = |text: &mut Arc<str>| match texts.get(text) {
        Some(known) => *text = known.clone(),
        None => drop(texts.insert(text.clone())),
    };
    once(&mut event.user);
    for text in [&mut event.queue, &mut event.connection, &mut event.event_type] {
        text.iter_mut().for_each(&mut once);
    }
    event
}

impl Attached {
    async fn call<T: DeserializeOwned>(
        &self,
        method: reqwest::Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<T, LoadError> {
        let mut request = self.http.request(method, format!("{}{path}", self.base));
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.timeout(PATIENCE).send().await.map_err(LoadError::Source)?;
        let status = answer.status().as_u16();
        let text = answer.text().await.map_err(LoadError::Source)?;
        if !(200..300).contains(&status) {
            return Err(LoadError::Refused {
                call: format!("{path} of the simulator"),
                status,
                text,
            });
        }
        let text = if text.is_empty() { "null" } else { &text };
        serde_json::from_str(text).map_err(|error| LoadError::Refused {
            call: format!("{path} of the simulator"),
            status,
            text: error.to_string(),
        })
    }
}
