//! Turns a decision into an HTTP response, whole or broken as decided.
//!
//! Promises:
//! - a body that was promised and is not sent ends with the connection closed, never with a
//!   well-formed end;
//! - a slow body that the client does not wait for is written down as lost;
//! - the world hears of every answer it wants to hear the end of, once;
//! - stopping the simulator ends every response that hangs, drips or never comes.
//!
//! Knows nothing of: why it was decided so.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::StatusCode;
use axum::http::header::{
    CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, LOCATION, RETRY_AFTER, WWW_AUTHENTICATE,
};
use axum::response::Response;
use futures_util::stream;
use serde_json::json;
use tokio::sync::watch;

use super::Shared;
use super::line::Cord;
use super::options::LocationForm;
use super::reply::{Refusal, Reply, Sending, Waybill};

/// Into so many drops a slow body is cut.
const DROPS: usize = 20;
const PAGE: &str = "<!DOCTYPE html><html><head><title>Maintenance</title></head>\
                    <body><h1>We will be back soon</h1></body></html>";
static FILL: [u8; 64 * 1024] = [b'x'; 64 * 1024];

/// The response to a request that came over the connection of this cord.
pub(super) async fn send(shared: &Arc<Shared>, reply: Reply, cord: &Cord) -> Response {
    match reply {
        Reply::Refused(refusal) => refuse(refusal),
        Reply::Nothing => with_status(StatusCode::NO_CONTENT, Body::empty()),
        Reply::Events { texts, sending, waybill } => {
            let size = texts.iter().map(|text| text.len() + 1).sum::<usize>() + 2;
            let mut body = String::with_capacity(size);
            body.push('[');
            for (place, text) in texts.iter().enumerate() {
                if place > 0 {
                    body.push(',');
                }
                body.push_str(text);
            }
            body.push(']');
            deliver(body, sending, Parcel::new(shared, waybill), cord).await
        }
        Reply::Json { text, sending, waybill } => {
            deliver(text, sending, Parcel::new(shared, waybill), cord).await
        }
        Reply::Created { sending, .. } if sending != Sending::Whole => {
            deliver(String::new(), sending, Parcel::new(shared, Waybill::Nothing), cord).await
        }
        Reply::Created { queue, location: form, .. } => {
            let mut response = with_status(StatusCode::CREATED, Body::empty());
            let prefix = shared.options.version.prefix();
            if let Some(location) = location(form, &queue, &shared.base, prefix)
                && let Ok(value) = HeaderValue::try_from(location)
            {
                response.headers_mut().insert(LOCATION, value);
            }
            response
        }
    }
}

/// The path or URL of a queue in one of the forms of `Location`.
fn location(form: LocationForm, queue: &str, base: &str, prefix: &str) -> Option<String> {
    match form {
        LocationForm::Relative => Some(format!("/queues/{queue}")),
        LocationForm::Prefixed => Some(format!("{prefix}/queues/{queue}")),
        LocationForm::Absolute => Some(format!("{base}/queues/{queue}")),
        LocationForm::Missing => None,
    }
}

/// An error head with the body the source sends.
pub(super) fn refuse(refusal: Refusal) -> Response {
    let body = json!({"error": refusal.error, "error_description": refusal.description});
    let status = StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = typed(Body::from(body.to_string()), "application/json");
    *response.status_mut() = status;
    if let Some(seconds) = refusal.retry_after {
        response.headers_mut().insert(RETRY_AFTER, seconds.into());
    }
    if status == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

fn with_status(status: StatusCode, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response
}

fn typed(body: Body, content_type: &'static str) -> Response {
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

async fn deliver(mut text: String, sending: Sending, mut parcel: Parcel, cord: &Cord) -> Response {
    const JSON: &str = "application/json";
    let promised = |body: Body, length: u64| {
        let mut response = typed(body, JSON);
        response.headers_mut().insert(CONTENT_LENGTH, length.into());
        response
    };
    let length = text.len() as u64;
    match sending {
        Sending::Whole => {
            parcel.arrived = true;
            typed(Body::from(text), JSON)
        }
        Sending::Html => typed(Body::from(PAGE), "text/html; charset=utf-8"),
        Sending::InvalidJson => {
            text.pop();
            typed(Body::from(text), JSON)
        }
        Sending::Slow { over_ms } => {
            promised(drip(text.into(), Duration::from_millis(over_ms), parcel), length)
        }
        Sending::Hang => promised(hang(parcel), length),
        Sending::Cut => {
            text.truncate(floor_boundary(&text, text.len() / 2));
            promised(cut(text.into(), parcel), length)
        }
        Sending::Oversized { bytes, declared } => {
            let bytes = bytes.max(4);
            let body = fill(bytes, parcel);
            if declared { promised(body, bytes) } else { typed(body, JSON) }
        }
        Sending::Reset => {
            cord.pull();
            with_status(StatusCode::OK, Body::empty())
        }
        Sending::Vanish => {
            // The client leaves, and this is dropped; or the simulator stops.
            stopped(&mut parcel.shared.stopping.clone()).await;
            cord.pull();
            with_status(StatusCode::OK, Body::empty())
        }
    }
}

fn floor_boundary(text: &str, mut place: usize) -> usize {
    while !text.is_char_boundary(place) {
        place -= 1;
    }
    place
}

/// What is on its way; when it is dropped, the world hears whether it arrived.
struct Parcel {
    shared: Arc<Shared>,
    waybill: Waybill,
    arrived: bool,
}

impl Parcel {
    fn new(shared: &Arc<Shared>, waybill: Waybill) -> Self {
        Self { shared: shared.clone(), waybill, arrived: false }
    }
}

impl Drop for Parcel {
    fn drop(&mut self) {
        if self.waybill != Waybill::Nothing {
            self.shared.world().close(&self.waybill, self.arrived);
        }
    }
}

fn closed() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "the simulator closes this connection")
}

/// The stop of the simulator, or its end.
async fn stopped(stopping: &mut watch::Receiver<bool>) {
    // An error says that nobody is left to say stop: the same thing here.
    drop(stopping.wait_for(|stop| *stop).await);
}

fn drip(body: Bytes, over: Duration, parcel: Parcel) -> Body {
    let size = body.len().div_ceil(DROPS).max(1);
    let drops = u32::try_from(body.len().div_ceil(size)).unwrap_or(1).max(1);
    let pause = over / drops;
    let stopping = parcel.shared.stopping.clone();
    Body::from_stream(stream::unfold(
        (body, parcel, stopping),
        move |(mut body, mut parcel, mut stopping)| async move {
            if body.is_empty() {
                return None;
            }
            let drop = tokio::select! {
                () = tokio::time::sleep(pause) => {
                    let drop = body.split_to(size.min(body.len()));
                    parcel.arrived = body.is_empty();
                    Ok(drop)
                }
                () = stopped(&mut stopping) => {
                    body.clear();
                    Err(closed())
                }
            };
            Some((drop, (body, parcel, stopping)))
        },
    ))
}

fn hang(parcel: Parcel) -> Body {
    let stopping = parcel.shared.stopping.clone();
    Body::from_stream(stream::unfold((parcel, stopping), |(parcel, mut stopping)| async move {
        stopped(&mut stopping).await;
        Some((Err::<Bytes, _>(closed()), (parcel, stopping)))
    }))
}

fn cut(half: Bytes, parcel: Parcel) -> Body {
    Body::from_stream(stream::unfold((Some(half), parcel), |(half, parcel)| async move {
        match half {
            Some(half) => Some((Ok(half), (None, parcel))),
            None => {
                // Waiting lets the server send the half before it sees the error.
                tokio::time::sleep(Duration::from_millis(1)).await;
                Some((Err(closed()), (None, parcel)))
            }
        }
    }))
}

/// A JSON array of one long text, `bytes` long altogether.
fn fill(bytes: u64, parcel: Parcel) -> Body {
    Body::from_stream(stream::unfold((0u64, parcel), move |(sent, parcel)| async move {
        let (piece, length): (Bytes, u64) = if sent == 0 {
            (Bytes::from_static(b"[\""), 2)
        } else if sent + 2 < bytes {
            let length = (bytes - 2 - sent).min(FILL.len() as u64);
            let end = usize::try_from(length).unwrap_or(FILL.len());
            (Bytes::from_static(&FILL[..end]), length)
        } else if sent < bytes {
            (Bytes::from_static(b"\"]"), 2)
        } else {
            return None;
        };
        Some((Ok::<_, io::Error>(piece), (sent + length, parcel)))
    }))
}
