//! Each call: its path, what it takes, what it answers.
//!
//! Promises:
//! - the table of routes is the only place where a path is named, and `/openapi.json` is tested
//!   against it;
//! - a call passes the token, then the bound on calls, then the clock, before it is looked at.
//!
//! Knows nothing of: how a call is served.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{
    DefaultBodyLimit, FromRequest, FromRequestParts, Query, RawPathParams, Request, State,
};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, delete, get, post, put};
use futures_util::future::try_join_all;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Map, Value, json};
use tokio::sync::Semaphore;

use super::bridge::{
    Bridge, InstanceView, Liveness, Page, PutDone, Readiness, SubscriptionView, Unserved,
};
use super::peers::{Call, OwnPage};
use super::problem::{Kind, Problem};
use super::request::{PutRequest, log_filter};
use super::{CALL_TIMEOUT, Door, openapi};
use crate::ids::{Timestamp, UserId};

/// The longest body that is read.
pub const MAX_BODY_BYTES: usize = 64 * 1024;
pub(super) const MAX_USER_ID_BYTES: usize = 1024;
/// The most subscriptions that a page holds.
pub const MAX_PAGE: usize = 1000;
pub(super) const DEFAULT_PAGE: usize = 100;
/// When to try again what was refused for a moment's want of something.
const RETRY: Duration = Duration::from_secs(2);
/// What a path segment may hold unescaped.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

type Shared<B> = Arc<Door<B>>;

/// Every route, with the method as `/openapi.json` names it.
pub(super) fn routes<B: Bridge>() -> Vec<(&'static str, &'static str, MethodRouter<Shared<B>>)> {
    vec![
        ("put", "/v1/subscriptions/{user_id}", put(put_subscription::<B>)),
        ("get", "/v1/subscriptions/{user_id}", get(show_subscription::<B>)),
        ("delete", "/v1/subscriptions/{user_id}", delete(remove_subscription::<B>)),
        ("post", "/v1/subscriptions/{user_id}/hint", post(hint_subscription::<B>)),
        ("get", "/v1/subscriptions", get(page_subscriptions::<B>)),
        ("get", "/v1/instances", get(show_instances::<B>)),
        ("get", "/v1/log", get(show_log::<B>)),
        ("put", "/v1/log", put(change_log::<B>)),
        ("get", "/livez", get(show_liveness::<B>)),
        ("get", "/readyz", get(show_readiness::<B>)),
        ("get", "/metrics", get(show_metrics::<B>)),
        ("get", "/openapi.json", get(show_openapi)),
    ]
}

pub(super) fn router<B: Bridge>(door: Shared<B>) -> Router {
    routes()
        .into_iter()
        .fold(Router::new(), |router, (_, path, method)| router.route(path, method))
        .fallback(|| async { Problem::new(Kind::UnknownPath, "see /openapi.json for the paths") })
        .method_not_allowed_fallback(|| async {
            Problem::new(Kind::MethodNotAllowed, "the header Allow names the methods of this path")
        })
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .layer(from_fn_with_state(Arc::clone(&door), guard::<B>))
        .with_state(door)
}

/// Lets a call in: token, then bound, then clock. Probes, metrics and description are let in at once.
async fn guard<B: Bridge>(
    State(door): State<Shared<B>>,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let path = request.uri().path();
    if path != "/v1" && !path.starts_with("/v1/") {
        return Ok(next.run(request).await);
    }
    let authorization = request.headers().get(header::AUTHORIZATION);
    if door.token.as_ref().is_some_and(|token| !token.is_in(authorization)) {
        let detail = "send the token of admin.token_file as Authorization: Bearer";
        return Err(Problem::new(Kind::Unauthorized, detail));
    }
    admitted(&door.calls, next.run(request)).await
}

/// Runs a call when one more may be under way, and for as long as a call may take.
async fn admitted(
    calls: &Semaphore,
    call: impl Future<Output = Response>,
) -> Result<Response, Problem> {
    let Ok(_place) = calls.try_acquire() else {
        let detail = "too many calls are under way at this instance";
        return Err(Problem::new(Kind::Busy, detail).after(RETRY));
    };
    tokio::time::timeout(CALL_TIMEOUT, call).await.map_err(|_| {
        let detail = "whether it had an effect is not known; repeating is safe";
        Problem::new(Kind::TimedOut, detail).after(RETRY)
    })
}

/// The user a path names: any text of up to 1 kB, percent-encoded as one segment.
struct User(UserId);

impl<S: Sync + Send> FromRequestParts<S> for User {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let bad = |detail: String| Problem::new(Kind::BadRequest, detail);
        // Routing looks at the encoded path and decodes what it captured, once: `%2F` stays inside.
        let captured = RawPathParams::from_request_parts(parts, state)
            .await
            .map_err(|_| bad("the user id must be percent-encoded UTF-8".to_owned()))?;
        let user = captured.iter().find(|(name, _)| *name == "user_id").map(|(_, user)| user);
        match user {
            None | Some("" | "." | "..") => Err(bad("the path names no user".to_owned())),
            Some(user) if user.len() > MAX_USER_ID_BYTES => {
                Err(bad(format!("the user id is longer than {MAX_USER_ID_BYTES} bytes")))
            }
            Some(user) => Ok(Self(UserId::from(user))),
        }
    }
}

/// Answers with what the bridge did; what another instance owns is forwarded to it, once.
async fn answer<B: Bridge, T>(
    door: &Door<B>,
    call: &Call,
    body: Bytes,
    outcome: Result<T, Unserved>,
    shape: impl FnOnce(T) -> Response,
) -> Response {
    match outcome {
        Ok(done) => shape(done),
        Err(Unserved::NotOwned { owner_url: Some(url), retry_after: _ }) if !call.is_forwarded => {
            door.peers.forward(&url, call, body).await
        }
        Err(unserved) => Problem::from(unserved).into_response(),
    }
}

async fn put_subscription<B: Bridge>(
    State(door): State<Shared<B>>,
    call: Call,
    User(user): User,
    request: Request,
) -> Result<Response, Problem> {
    let body = json_body(request).await?;
    let outcome = door.bridge.put(user.clone(), PutRequest::parse(&body)?).await;
    Ok(answer(&door, &call, body, outcome, |done| put_done(&user, &done)).await)
}

/// The body of a call, which must say that it is JSON.
async fn json_body(request: Request) -> Result<Bytes, Problem> {
    if !is_json(request.headers()) {
        let detail = "send the body with Content-Type: application/json";
        return Err(Problem::new(Kind::UnsupportedMediaType, detail));
    }
    Bytes::from_request(request, &()).await.map_err(|rejection| {
        if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
            let detail = format!("a body holds up to {MAX_BODY_BYTES} bytes");
            return Problem::new(Kind::TooLarge, detail);
        }
        Problem::new(Kind::BadRequest, "the body broke off")
    })
}

fn is_json(headers: &HeaderMap) -> bool {
    headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .is_some_and(|essence| essence.trim().eq_ignore_ascii_case("application/json"))
}

fn put_done(user: &UserId, done: &PutDone) -> Response {
    let status = if done.existed { StatusCode::OK } else { StatusCode::CREATED };
    let encoded = utf8_percent_encode(user.as_str(), SEGMENT);
    let location = [(header::LOCATION, format!("/v1/subscriptions/{encoded}"))];
    let body = json!({
        "user_id": user,
        "subscription_id": done.subscription_id,
        "queue_id": done.queue_id,
        "partition": done.partition,
    });
    (status, location, axum::Json(body)).into_response()
}

async fn show_subscription<B: Bridge>(
    State(door): State<Shared<B>>,
    call: Call,
    User(user): User,
) -> Response {
    let outcome = door.bridge.show(user).await;
    answer(&door, &call, Bytes::new(), outcome, |view| {
        axum::Json(subscription_view(&view)).into_response()
    })
    .await
}

async fn remove_subscription<B: Bridge>(
    State(door): State<Shared<B>>,
    call: Call,
    User(user): User,
) -> Response {
    let outcome = door.bridge.remove(user).await;
    answer(&door, &call, Bytes::new(), outcome, |()| StatusCode::NO_CONTENT.into_response()).await
}

async fn hint_subscription<B: Bridge>(
    State(door): State<Shared<B>>,
    call: Call,
    User(user): User,
) -> Response {
    let outcome = door.bridge.hint(user).await;
    answer(&door, &call, Bytes::new(), outcome, |()| StatusCode::ACCEPTED.into_response()).await
}

async fn page_subscriptions<B: Bridge>(
    State(door): State<Shared<B>>,
    call: Call,
    parameters: Result<Query<Vec<(String, String)>>, axum::extract::rejection::QueryRejection>,
) -> Result<Response, Problem> {
    let Query(parameters) = parameters
        .map_err(|_| Problem::new(Kind::BadRequest, "the query parameters cannot be read"))?;
    let (after, limit) = page_parameters(parameters)?;
    let own = own_page(door.bridge.page(after, limit).await.map_err(Problem::from)?);
    if call.is_forwarded {
        return Ok(axum::Json(own).into_response());
    }
    let instances = door.bridge.instances().await;
    let others = instances.iter().filter(|instance| instance.is_alive && !instance.is_self);
    let mut pages = try_join_all(others.map(|other| door.peers.page(&other.url, &call))).await?;
    pages.push(own);
    Ok(axum::Json(merged(pages, limit)?).into_response())
}

fn page_parameters(parameters: Vec<(String, String)>) -> Result<(Option<UserId>, usize), Problem> {
    let (mut after, mut limit) = (None, DEFAULT_PAGE);
    for (name, value) in parameters {
        match name.as_str() {
            "after" => after = Some(value).filter(|value| !value.is_empty()).map(UserId::from),
            "limit" => {
                limit =
                    value.parse().ok().filter(|limit| (1..=MAX_PAGE).contains(limit)).ok_or_else(
                        || {
                            let detail = format!("limit must be a number from 1 to {MAX_PAGE}");
                            Problem::new(Kind::BadRequest, detail)
                        },
                    )?;
            }
            _ => {
                let detail = "the query parameters are after and limit";
                return Err(Problem::new(Kind::BadRequest, detail));
            }
        }
    }
    Ok((after, limit))
}

fn own_page(page: Page) -> OwnPage {
    OwnPage {
        subscriptions: page.subscriptions.iter().map(subscription_view).collect(),
        has_more: page.has_more,
        partitions: page.partitions,
        partitions_total: page.partitions_total,
    }
}

/// One page of all instances' pages; refused when a partition is in none, because a list that lacks
/// users would be taken for the whole.
fn merged(pages: Vec<OwnPage>, limit: usize) -> Result<Value, Problem> {
    let seen: BTreeSet<i32> = pages.iter().flat_map(|page| &page.partitions).copied().collect();
    let total = pages.iter().map(|page| page.partitions_total).max().unwrap_or(0);
    if seen.len() < total {
        let detail = format!("{} of {total} partitions have no owner now", total - seen.len());
        return Err(Problem::new(Kind::NotOwner, detail).after(RETRY));
    }
    let mut has_more = pages.iter().any(|page| page.has_more);
    let mut by_user = BTreeMap::new();
    for subscription in pages.into_iter().flat_map(|page| page.subscriptions) {
        if let Some(Value::String(user)) = subscription.get("user_id") {
            by_user.insert(user.clone(), subscription);
        }
    }
    has_more |= by_user.len() > limit;
    let next = by_user.keys().take(limit).next_back().filter(|_| has_more).cloned();
    let subscriptions: Vec<_> = by_user.into_values().take(limit).collect();
    Ok(json!({"subscriptions": subscriptions, "next": next}))
}

async fn show_instances<B: Bridge>(State(door): State<Shared<B>>) -> Response {
    let instances: Vec<Value> = door.bridge.instances().await.iter().map(instance_view).collect();
    axum::Json(json!({"instances": instances})).into_response()
}

/// Of this instance alone: a change is never forwarded.
async fn show_log<B: Bridge>(State(door): State<Shared<B>>) -> Response {
    axum::Json(json!({"filter": door.bridge.log_filter()})).into_response()
}

async fn change_log<B: Bridge>(
    State(door): State<Shared<B>>,
    request: Request,
) -> Result<Response, Problem> {
    let filter = log_filter(&json_body(request).await?)?;
    match door.bridge.change_log_filter(&filter) {
        Ok(()) => Ok(axum::Json(json!({"filter": filter})).into_response()),
        Err(fault) => Err(Problem::new(Kind::InvalidRequest, fault).at("/filter")),
    }
}

async fn show_liveness<B: Bridge>(State(door): State<Shared<B>>) -> Result<Response, Problem> {
    match door.bridge.liveness() {
        Liveness::Alive => Ok(axum::Json(json!({"alive": true})).into_response()),
        Liveness::Stalled(what) => Err(Problem::new(Kind::NotAlive, what)),
    }
}

async fn show_readiness<B: Bridge>(State(door): State<Shared<B>>) -> Result<Response, Problem> {
    match door.bridge.readiness() {
        Readiness::Ready => Ok(axum::Json(json!({"ready": true})).into_response()),
        Readiness::NotReady(reasons) => {
            let detail = reasons.join("; ");
            Err(Problem::new(Kind::NotReady, detail).because(reasons).after(RETRY))
        }
    }
}

async fn show_metrics<B: Bridge>(State(door): State<Shared<B>>) -> Response {
    let content_type = [(header::CONTENT_TYPE, crate::metrics::CONTENT_TYPE)];
    (content_type, door.bridge.metrics_text().await).into_response()
}

async fn show_openapi() -> Response {
    axum::Json(openapi::document()).into_response()
}

fn subscription_view(view: &SubscriptionView) -> Map<String, Value> {
    let last_answer = view
        .last_answer
        .map(|answer| json!({"at": moment(answer.at), "outcome": answer.outcome.as_str()}));
    let fields = [
        ("user_id", json!(view.user_id)),
        ("subscription_id", json!(view.subscription_id)),
        ("queue_id", json!(view.queue_id)),
        ("generation", json!(view.generation)),
        ("partition", json!(view.partition)),
        ("owner", json!(view.owner)),
        ("state", json!(view.state.as_str())),
        ("blocked_reason", json!(view.blocked_reason)),
        ("last_answer", json!(last_answer)),
        ("headroom_seconds", json!(view.headroom.map(|headroom| headroom.as_secs()))),
        ("next_due", json!(view.next_due.map(moment))),
        ("credential", json!({"type": view.credential.as_str()})),
    ];
    fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn instance_view(view: &InstanceView) -> Value {
    json!({
        "instance_id": view.instance_id,
        "journal_id": view.journal_id,
        "url": view.url,
        "partitions": view.partitions,
        "marked_at": view.marked_at.map(moment),
        "asked_until": view.asked_until.map(moment),
        "published_until": view.published_until.map(moment),
        "is_alive": view.is_alive,
        "is_self": view.is_self,
    })
}

/// A moment as RFC 3339 text in UTC; null when no calendar has it.
fn moment(timestamp: Timestamp) -> Option<String> {
    jiff::Timestamp::from_millisecond(timestamp.0).ok().map(|moment| moment.to_string())
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    fn refusal(outcome: Result<Response, Problem>) -> (u16, bool) {
        let response = outcome.unwrap_err().into_response();
        (response.status().as_u16(), response.headers().contains_key(header::RETRY_AFTER))
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_takes_too_long_is_refused_and_gives_its_place_back() {
        let calls = Semaphore::new(1);
        let start = Instant::now();
        let outcome = admitted(&calls, std::future::pending()).await;
        assert_eq!(refusal(outcome), (503, true));
        assert_eq!(start.elapsed(), CALL_TIMEOUT);
        assert_eq!(calls.available_permits(), 1);
    }

    #[tokio::test]
    async fn a_call_above_the_bound_is_refused_at_once() {
        let calls = Semaphore::new(1);
        let outcome = admitted(&calls, async {
            let second = admitted(&calls, async { StatusCode::OK.into_response() }).await;
            assert_eq!(refusal(second), (503, true));
            StatusCode::OK.into_response()
        })
        .await;
        assert_eq!(outcome.unwrap().status(), StatusCode::OK);
    }
}
