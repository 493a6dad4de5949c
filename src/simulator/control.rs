//! The control API: how the simulator is told what to do, and what it did. JSON both ways.
//!
//! | call | body | answer |
//! |---|---|---|
//! | `GET /control/healthz` | | `{"status":"ok"}` |
//! | `PUT /control/users/{user}` | `{"connections":[{"id","provider_id","name","channels":["REDIRECT","EMBEDDED"]}],"password"}`, every field optional; replaces all connections | `{"connections":[ids]}` |
//! | `POST /control/users` | `{"users":[{"user","connections","password"}]}`, any number up to 64 MiB; what is left out stays as it is | `{"users":n}` |
//! | `DELETE /control/users/{user}` | | 204; queues killed, tokens revoked, connections forgotten |
//! | `POST /control/tokens` | `{"user"}` (none: a client token), `"lifetime_ms"` | `{"access_token","expires_in"}` |
//! | `POST /control/revoke` | `{"token":t}`, `{"user":u}` or `"clients"` | `{"revoked":n}` |
//! | `POST /control/queues` | `{"user"}`: a queue as the widget makes one | `{"queue":id}` |
//! | `GET /control/queues?user=` | | `{"queues":[ids]}`, those that live |
//! | `POST /control/kill` | `{"queue":id}` or `{"user":u}` | `{"killed":n}` |
//! | `POST /control/expire` | `{"share":0.5,"users":[..]}`: queues die as if their time were over; default all of all | `{"expired":n}` |
//! | `POST /control/unreachable` | `{"for_ms"}`: connections are refused for a time, not those of the control port | 204 |
//! | `DELETE /control/unreachable` | | 204 |
//! | `PUT /control/traffic` | `{"events_per_second","over_ms","asking","extras","for_ms"}`, see [`Traffic`](super::Traffic) | 204 |
//! | `DELETE /control/traffic` | | 204 |
//! | `POST /control/sync` | `{"user","sync":{"connection","ending","channel","as_event","extras","over_ms"}}` | `{"events":n}`, to be made |
//! | `POST /control/push` | `{"user","element":any JSON}`, `{"user","text":"as it is"}`, or `{"user","connection","events":n}` | `{"queues":n}`, reached |
//! | `POST /control/faults` | an order, see `fault.rs` | 204 |
//! | `DELETE /control/faults` | | 204; everything heals, and the source can be reached |
//! | `GET /control/stats` | | [`Stats`](super::Stats) |
//! | `GET /control/ledger`, `?user=`, `?from=`, `?limit=` | | [`Ledger`](super::Ledger); of everybody it is as large as the run, so page through it with `limit` and `next` |
//!
//! All of it is reached under the source's own port, and under a port of its own as well, which
//! stays open when the source is `unreachable`.
//!
//! An error is `{"error": "what is wrong"}` with 400, 404 or 422.
//!
//! Promises:
//! - each call does what the method of [`Running`](super::Running) with its name does.
//!
//! Knows nothing of: the source API.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post, put};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};

use super::connection::ConnectionPlan;
use super::fault::Order;
use super::ledger::Extract;
use super::making::UserPlan;
use super::script::Sync;
use super::traffic::Traffic;
use super::{Error, Expiry, Revocation, Shared};

/// The largest element that can be injected, and room for its envelope.
const MOST_BODY: usize = 64 * 1024 * 1024;

/// The routes of the control API.
pub(super) fn routes() -> Router<Arc<Shared>> {
    Router::new()
        .route("/control/healthz", get(healthz))
        .route("/control/users", post(put_users))
        .route("/control/users/{user}", delete(remove_user).put(put_user))
        .route("/control/tokens", post(issue_token))
        .route("/control/revoke", post(revoke))
        .route("/control/queues", get(live_queues).post(open_queue))
        .route("/control/kill", post(kill))
        .route("/control/expire", post(expire))
        .route("/control/unreachable", post(unreachable).delete(reachable))
        .route("/control/traffic", put(start_traffic).delete(stop_traffic))
        .route("/control/sync", post(start_sync))
        .route("/control/push", post(push))
        .route("/control/faults", post(inflict).delete(heal))
        .route("/control/stats", get(stats))
        .route("/control/ledger", get(ledger))
        .layer(DefaultBodyLimit::max(MOST_BODY))
}

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct PutUser {
    connections: Vec<ConnectionPlan>,
    password: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PutUsers {
    users: Vec<UserPlan>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Unreachable {
    for_ms: u64,
}

impl Default for PutUser {
    fn default() -> Self {
        Self { connections: vec![ConnectionPlan::default()], password: None }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct IssueToken {
    #[serde(default)]
    user: Option<String>,
    #[serde(default)]
    lifetime_ms: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OfUser {
    user: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kill {
    Queue(String),
    User(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StartSync {
    user: String,
    #[serde(default)]
    sync: Sync,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Push {
    user: String,
    #[serde(default)]
    element: Option<Value>,
    #[serde(default)]
    text: Option<String>,
    #[serde(default)]
    connection: Option<String>,
    #[serde(default)]
    events: Option<usize>,
}

type Answer = Result<Response, Error>;

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let status = match self {
            Self::NoConnection(_) | Self::NoUser(_) => StatusCode::NOT_FOUND,
            Self::Bind { .. }
            | Self::NotLoopback(_)
            | Self::BadOption(_)
            | Self::BadOrder(_)
            | Self::Full => StatusCode::BAD_REQUEST,
        };
        (status, Json(json!({"error": self.to_string()}))).into_response()
    }
}

async fn healthz() -> Json<Value> {
    Json(json!({"status": "ok"}))
}

async fn put_user(
    State(shared): State<Arc<Shared>>,
    Path(user): Path<String>,
    Json(asked): Json<PutUser>,
) -> Answer {
    let mut world = shared.world();
    let connections = world.put_user(&user, &asked.connections)?;
    if let Some(password) = &asked.password {
        world.set_password(&user, password)?;
    }
    Ok(Json(json!({"connections": connections})).into_response())
}

async fn put_users(State(shared): State<Arc<Shared>>, Json(asked): Json<PutUsers>) -> Answer {
    shared.world().put_users(&asked.users)?;
    Ok(Json(json!({"users": asked.users.len()})).into_response())
}

async fn expire(State(shared): State<Arc<Shared>>, Json(asked): Json<Expiry>) -> Answer {
    let expired = shared.world().expire(&asked)?;
    Ok(Json(json!({"expired": expired})).into_response())
}

async fn unreachable(
    State(shared): State<Arc<Shared>>,
    Json(asked): Json<Unreachable>,
) -> StatusCode {
    shared.close(Duration::from_millis(asked.for_ms));
    StatusCode::NO_CONTENT
}

async fn reachable(State(shared): State<Arc<Shared>>) -> StatusCode {
    shared.open();
    StatusCode::NO_CONTENT
}

async fn start_traffic(State(shared): State<Arc<Shared>>, Json(asked): Json<Traffic>) -> Answer {
    shared.world().start_traffic(asked)?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn stop_traffic(State(shared): State<Arc<Shared>>) -> StatusCode {
    shared.world().stop_traffic();
    StatusCode::NO_CONTENT
}

async fn remove_user(State(shared): State<Arc<Shared>>, Path(user): Path<String>) -> Answer {
    shared.world().remove_user(&user)?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn issue_token(State(shared): State<Arc<Shared>>, Json(asked): Json<IssueToken>) -> Answer {
    let (token, lifetime) = shared.world().issue_for(asked.user.as_deref(), asked.lifetime_ms)?;
    let expires_in = lifetime / 1000;
    Ok(Json(json!({"access_token": token, "expires_in": expires_in})).into_response())
}

async fn revoke(State(shared): State<Arc<Shared>>, Json(asked): Json<Revocation>) -> Json<Value> {
    let revoked = shared.world().revoke(&asked);
    Json(json!({"revoked": revoked}))
}

async fn open_queue(State(shared): State<Arc<Shared>>, Json(asked): Json<OfUser>) -> Answer {
    let queue = shared.world().open_queue_for(&asked.user)?;
    Ok(Json(json!({"queue": queue})).into_response())
}

async fn live_queues(
    State(shared): State<Arc<Shared>>,
    Query(asked): Query<OfUser>,
) -> Json<Value> {
    let queues = shared.world().live_queues(&asked.user);
    Json(json!({"queues": queues}))
}

async fn kill(State(shared): State<Arc<Shared>>, Json(asked): Json<Kill>) -> Json<Value> {
    let killed = match asked {
        Kill::Queue(queue) => usize::from(shared.world().kill(&queue)),
        Kill::User(user) => shared.world().kill_of(&user),
    };
    Json(json!({"killed": killed}))
}

async fn start_sync(State(shared): State<Arc<Shared>>, Json(asked): Json<StartSync>) -> Answer {
    let events = shared.world().start_sync(&asked.user, &asked.sync)?;
    Ok(Json(json!({"events": events})).into_response())
}

async fn push(State(shared): State<Arc<Shared>>, Json(asked): Json<Push>) -> Answer {
    let mut world = shared.world();
    let queues = match (asked.element, asked.text, asked.events) {
        (Some(element), None, None) => world.push(&asked.user, &element.to_string())?,
        (None, Some(text), None) => world.push(&asked.user, &text)?,
        (None, None, Some(events)) => {
            world.push_events(&asked.user, asked.connection.as_deref(), events)?
        }
        _ => {
            let reason = "push needs exactly one of element, text and events";
            return Ok((StatusCode::BAD_REQUEST, Json(json!({"error": reason}))).into_response());
        }
    };
    Ok(Json(json!({"queues": queues})).into_response())
}

async fn inflict(State(shared): State<Arc<Shared>>, Json(order): Json<Order>) -> Answer {
    shared.world().inflict(order)?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn heal(State(shared): State<Arc<Shared>>) -> StatusCode {
    shared.heal();
    StatusCode::NO_CONTENT
}

async fn stats(State(shared): State<Arc<Shared>>) -> Response {
    Json(shared.world().stats()).into_response()
}

async fn ledger(State(shared): State<Arc<Shared>>, Query(asked): Query<Extract>) -> Response {
    // It may take seconds: not on a thread that serves requests.
    let reading = tokio::task::spawn_blocking(move || {
        let ledger = shared.world().ledger(&asked);
        Json(ledger).into_response()
    });
    reading.await.unwrap_or_else(|_| StatusCode::INTERNAL_SERVER_ERROR.into_response())
}
