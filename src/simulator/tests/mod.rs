//! The simulator over HTTP: what a client sees of each fault, and what the ledger says of it.

use std::time::Duration;

use reqwest::{Client, Response, StatusCode};
use serde_json::{Value, json};

use super::*;

mod answers;
mod broken;
mod control;
mod lost;
mod reach;
mod repeats;
mod tokens;

/// A simulator, and a client with a client token.
struct Bench {
    simulator: Running,
    client: Client,
    token: String,
}

impl Bench {
    async fn with(options: Options) -> Self {
        // Another test may have installed it before.
        drop(rustls::crypto::ring::default_provider().install_default());
        let simulator = Simulator::start(options).await.unwrap();
        let client = Client::new();
        let answer = token(&client, &simulator, "simulated-client-secret").await;
        let answer: Value = answer.json().await.unwrap();
        assert_eq!(answer["expires_in"], 3600);
        assert_eq!(answer["token_type"], "Bearer");
        let token = answer["access_token"].as_str().unwrap().to_owned();
        Self { simulator, client, token }
    }

    async fn start() -> Self {
        Self::with(Options::default()).await
    }

    async fn subscribe(&self, user: &str) -> Response {
        self.client
            .post(format!("{}/queues/subscribe", self.simulator.url()))
            .bearer_auth(&self.token)
            .header("x-linxo-user-id", user)
            .body(r#"{"topics":["connections"]}"#)
            .send()
            .await
            .unwrap()
    }

    /// Subscribes and answers the queue's id.
    async fn queue(&self, user: &str) -> String {
        let answer = self.subscribe(user).await;
        assert_eq!(answer.status(), StatusCode::CREATED);
        answer.headers()["location"].to_str().unwrap().replace("/queues/", "")
    }

    async fn ask(&self, user: &str, queue: &str) -> Response {
        self.client
            .get(format!("{}/queues/{queue}", self.simulator.url()))
            .bearer_auth(&self.token)
            .header("x-linxo-user-id", user)
            .send()
            .await
            .unwrap()
    }

    async fn list(&self, user: &str) -> Value {
        self.client
            .get(format!("{}/connections?user_id={user}", self.simulator.url()))
            .bearer_auth(&self.token)
            .send()
            .await
            .unwrap()
            .json()
            .await
            .unwrap()
    }

    async fn control(&self, call: &str, body: Value) -> Value {
        let url = format!("{}/{call}", self.simulator.control_url());
        let answer = self.client.post(url).json(&body).send().await.unwrap();
        assert!(answer.status().is_success(), "{call}: {}", answer.status());
        let text = answer.text().await.unwrap();
        if text.is_empty() { Value::Null } else { serde_json::from_str(&text).unwrap() }
    }

    /// A queue of user `u` with so many events, and an order for its next question.
    async fn queue_with(&self, events: usize, fault: Fault) -> String {
        let queue = self.queue("u").await;
        self.simulator.push_events("u", None, events).unwrap();
        self.simulator.inflict(Order::next(1, fault).of("u").on(RequestKind::Ask)).unwrap();
        queue
    }

    fn fates(&self) -> Vec<(Fate, Option<FaultName>)> {
        let ledger = self.simulator.ledger(Some("u"));
        ledger
            .events
            .iter()
            .map(|event| (event.fate, event.handed_out.as_ref().and_then(|taken| taken.fault)))
            .collect()
    }
}

async fn token(client: &Client, simulator: &Running, secret: &str) -> Response {
    client
        .post(format!("{}/token", simulator.auth_url()))
        .json(&json!({
            "grant_type": "client_credentials",
            "client_id": "simulated-client",
            "client_secret": secret,
            "scope": "connections_sync",
        }))
        .send()
        .await
        .unwrap()
}

async fn events(answer: Response) -> Vec<Value> {
    assert_eq!(answer.status(), StatusCode::OK);
    answer.json().await.unwrap()
}
