//! A door that answers as a test wishes.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::http::Uri;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// A door that answers as a test wishes, and remembers what it was asked: path and body.
pub struct Fake {
    pub url: String,
    pub asked: Arc<Mutex<Vec<(String, Value)>>>,
}

impl Fake {
    pub async fn start<A: Future<Output = Response> + Send + 'static>(
        answer: impl Fn(usize, String) -> A + Clone + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked: Arc<Mutex<Vec<(String, Value)>>> = Arc::default();
        let noted = Arc::clone(&asked);
        let router = Router::new().fallback(move |uri: Uri, body: Bytes| {
            let body = serde_json::from_slice(&body).unwrap_or_default();
            let mut asked = noted.lock().unwrap();
            asked.push((uri.to_string(), body));
            answer(asked.len(), uri.to_string())
        });
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, asked }
    }

    pub fn asked(&self) -> Vec<(String, Value)> {
        self.asked.lock().unwrap().clone()
    }
}

pub fn answer(status: u16, retry_after: Option<&str>, body: &Value) -> Response {
    let status = axum::http::StatusCode::from_u16(status).unwrap();
    let mut response = (status, body.to_string()).into_response();
    if let Some(wait) = retry_after {
        response.headers_mut().insert("retry-after", wait.parse().unwrap());
    }
    response
}

/// The answer to a PUT.
pub fn done(status: u16, path: &str) -> Response {
    let user = path.rsplit('/').next().unwrap();
    answer(status, None, &json!({"user_id": user}))
}

pub fn busy() -> Value {
    json!({"type": "urn:linxo-bridge:problem:busy", "title": "Too much is under way",
           "status": 503, "detail": "not all partitions have an owner"})
}

pub fn shown(user: &str) -> Value {
    json!({"user_id": user, "subscription_id": "s", "queue_id": "q", "generation": 1, "partition": 0,
           "owner": "bridge-0", "state": "live", "blocked_reason": null, "last_answer": null,
           "headroom_seconds": 900, "next_due": null, "credential": {"type": "client"}})
}
