//! The source's API over HTTP: `POST /auth/token`, and under the version's prefix
//! `POST /queues/subscribe`, `GET /queues/{id}`, `GET /connections`.
//!
//! Who asks: a bearer token, either a user's own, or the client's with the user named beside it, by
//! the header (percent-encoded UTF-8) or by the query parameter. A user's own token that comes
//! with another user's name is answered 403 and counted.
//!
//! A token is for the client (`client_credentials`), or for a user by username and password.
//!
//! Promises:
//! - the world is locked once for a request, and never while anything is sent.
//!
//! Knows nothing of: what faults there are.

use std::borrow::Cow;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{ConnectInfo, Path, RawQuery, State};
use axum::http::HeaderMap;
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, USER_AGENT};
use axum::response::Response;
use axum::routing::{get, post};
use percent_encoding::percent_decode;
use serde_json::Value;
use url::form_urlencoded;

use super::Shared;
use super::asking::{Caller, TokenRequest};
use super::line::Cord;
use super::reply::Refusal;
use super::send::{refuse, send};

/// The routes of the source's API.
pub(super) fn routes(prefix: &str) -> Router<Arc<Shared>> {
    Router::new()
        .route("/auth/token", post(token))
        .route(&format!("{prefix}/queues/subscribe"), post(subscribe))
        .route(&format!("{prefix}/queues/{{id}}"), get(ask))
        .route(&format!("{prefix}/connections"), get(list))
}

async fn ask(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(cord): ConnectInfo<Cord>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let caller = match caller(&shared, &headers, query.as_deref()) {
        Ok(caller) => caller,
        Err(refusal) => return refuse(refusal),
    };
    let reply = shared.world().ask(&caller, &id);
    send(&shared, reply, &cord).await
}

async fn subscribe(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(cord): ConnectInfo<Cord>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let caller = match caller(&shared, &headers, query.as_deref()) {
        Ok(caller) => caller,
        Err(refusal) => return refuse(refusal),
    };
    let asked: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
    let topics = asked.get("topics").and_then(Value::as_array);
    if !topics.is_some_and(|topics| topics.iter().any(|topic| topic == "connections")) {
        return refuse(Refusal::new(
            400,
            "FORMAT_ERROR",
            "the body must be {\"topics\":[\"connections\"]}",
        ));
    }
    let reply = shared.world().subscribe(&caller);
    send(&shared, reply, &cord).await
}

async fn list(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(cord): ConnectInfo<Cord>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let caller = match caller(&shared, &headers, query.as_deref()) {
        Ok(caller) => caller,
        Err(refusal) => return refuse(refusal),
    };
    let reply = shared.world().list(&caller);
    send(&shared, reply, &cord).await
}

async fn token(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(cord): ConnectInfo<Cord>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let is_form = headers
        .get(CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok())
        .is_some_and(|kind| kind.starts_with("application/x-www-form-urlencoded"));
    let field = |name: &str| -> String {
        if is_form {
            form_urlencoded::parse(&body)
                .find(|(key, _)| key == name)
                .map_or_else(String::new, |(_, value)| value.into_owned())
        } else {
            serde_json::from_slice::<Value>(&body)
                .ok()
                .and_then(|asked| asked.get(name)?.as_str().map(str::to_owned))
                .unwrap_or_default()
        }
    };
    let asked = TokenRequest {
        grant: field("grant_type"),
        client_id: field("client_id"),
        client_secret: field("client_secret"),
        username: field("username"),
        password: field("password"),
    };
    let reply = shared.world().token(&asked);
    send(&shared, reply, &cord).await
}

/// Reads out of a request who sent it.
fn caller<'a>(
    shared: &Shared,
    headers: &'a HeaderMap,
    query: Option<&'a str>,
) -> Result<Caller<'a>, Refusal> {
    const UNREADABLE: Refusal =
        Refusal::new(400, "BAD_PARAMETER", "the user header is not percent-encoded UTF-8");
    let token = headers
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token.trim());
    let user = match headers.get(&shared.user_header) {
        Some(value) => {
            Some(percent_decode(value.as_bytes()).decode_utf8().map_err(|_| UNREADABLE)?)
        }
        None => query.and_then(|query| {
            form_urlencoded::parse(query.as_bytes())
                .find(|(key, _)| *key == shared.options.user_parameter)
                .map(|(_, value)| Cow::Owned(value.into_owned()))
        }),
    };
    let agent = headers.get(USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    Ok(Caller { token, user, agent })
}
