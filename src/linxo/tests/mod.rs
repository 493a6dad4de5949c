//! The room against servers on loopback: an axum one that answers as told, a raw one that misbehaves.

mod asking;
mod calling;
mod passwords;
mod tokens;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use futures_util::future::join_all;
use http::{HeaderMap, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use url::Url;

use crate::metrics::{PollOutcome, TokenOutcome};
use zeroize::Zeroizing;

use super::*;
use crate::ids::{QueueId, UserId};

const SECRET: &str = "hush-secret";

/// One request as the server saw it.
struct Seen {
    method: String,
    /// Path and query, still encoded.
    path: String,
    headers: HeaderMap,
    body: String,
}

impl Seen {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

/// A server that remembers what it saw.
struct Fake {
    url: Url,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Fake {
    /// Gives tokens t0, t1 and so on, and refuses questions with the first of them.
    async fn refusing_the_first_token() -> Self {
        let given = AtomicUsize::new(0);
        Self::start(move |seen| match seen.path.as_str() {
            "/auth/token" => token(&format!("t{}", given.fetch_add(1, Ordering::SeqCst))),
            _ if seen.header("authorization") == "Bearer t0" => {
                StatusCode::UNAUTHORIZED.into_response()
            }
            _ => StatusCode::NO_CONTENT.into_response(),
        })
        .await
    }

    async fn start<F>(answer: F) -> Self
    where
        F: Fn(&Seen) -> Response + Send + Sync + 'static,
    {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (noted, answer) = (Arc::clone(&seen), Arc::new(answer));
        let router = Router::new().fallback(move |request: Request| {
            let (noted, answer) = (Arc::clone(&noted), Arc::clone(&answer));
            async move {
                let (head, body) = request.into_parts();
                let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
                let seen = Seen {
                    method: head.method.to_string(),
                    path: head.uri.to_string(),
                    headers: head.headers,
                    body: String::from_utf8(body.to_vec()).unwrap(),
                };
                let response = answer(&seen);
                noted.lock().unwrap().push(seen);
                response
            }
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/v2.1", listener.local_addr().unwrap()).parse().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { url, seen }
    }

    fn count(&self, path: &str) -> usize {
        self.seen.lock().unwrap().iter().filter(|seen| seen.path.starts_with(path)).count()
    }
}

/// A server that takes each connection, reads one request, and does as told.
async fn raw<F, D>(doing: F) -> Url
where
    F: Fn(TcpStream) -> D + Send + 'static,
    D: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            request(&mut stream).await;
            tokio::spawn(doing(stream));
        }
    });
    url
}

/// Reads one request without body; less when the client goes.
async fn request(stream: &mut TcpStream) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(byte) = stream.read_u8().await else { return };
        head.push(byte);
    }
}

fn settings(url: &Url) -> SourceSettings {
    SourceSettings {
        api_url: url.clone(),
        auth_url: url.join("/auth").unwrap(),
        client_id: Some("bridge".to_owned()),
        client_secret: Some(Zeroizing::new(SECRET.to_owned())),
        scope: DEFAULT_SCOPE.to_owned(),
        user_naming: UserNaming::Header("X-Linxo-User-Id".to_owned()),
        request_timeout: Duration::from_secs(10),
        dead_statuses: vec![404, 410],
        max_in_flight: 128,
        instance_id: "bridge-0".into(),
    }
}

fn source(url: &Url) -> Source {
    Source::new(settings(url), Arc::new(|_| {})).unwrap()
}

fn hasty(url: &Url) -> Source {
    let settings = SourceSettings { request_timeout: Duration::from_millis(300), ..settings(url) };
    Source::new(settings, Arc::new(|_| {})).unwrap()
}

fn room() -> Room {
    Room::new(128, 1 << 20, 1 << 16)
}

fn token(text: &str) -> Response {
    format!(r#"{{"access_token":"{text}","token_type":"bearer","expires_in":3600}}"#)
        .into_response()
}

async fn ask(source: &Source, queue: &str) -> Asked {
    ask_in(source, queue, &room()).await
}

async fn ask_in(source: &Source, queue: &str, room: &Room) -> Asked {
    source.ask(&UserId::from("u1"), own("users-own"), &QueueId::from(queue), room).await
}

/// A user's own token, of which nobody said when it ends.
fn own(access_token: &str) -> Bearer<'_> {
    Bearer::Token { access_token, expires_at: None }
}

fn refused(what: Refusal, how: &str) -> Refused {
    Refused { what, how: how.to_owned() }
}

async fn ask_as_client(source: &Source) -> Asked {
    source.ask(&UserId::from("u1"), Bearer::Client, &QueueId::from("q1"), &room()).await
}
