//! The source itself: what can be asked of it.
//!
//! Promises:
//! - a call in a user's own name names no one else and is never repeated;
//! - a call with the bridge's token names the user beside it, and is repeated once, with a fresh
//!   token, after a 401.
//!
//! Knows nothing of: the HTTP client.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use url::Url;

use super::asked::{Asked, Shape};
use super::body::{End, read};
use super::fault::{CallFault, SourceError};
use super::location;
use super::naming::Naming;
use super::room::{Answer, Room, Seat};
use super::settings::{Bearer, SourceSettings};
use super::token::{
    ClientToken, Grant, TokenEndpoint, TokenFault, TokenObserver, UserToken, error_code, header,
};
use super::wire::{Call, Reply, Wire, WireFault};
use crate::ids::{QueueId, UserId};

const SUBSCRIBE: &[u8] = br#"{"topics":["connections"]}"#;
/// No queue has this id; asked for to see whether anyone answers.
const NO_QUEUE: &str = "linxo-bridge-check";

/// The source API. A clone shares connections and token.
#[derive(Clone)]
pub struct Source(Arc<Inner>);

struct Inner {
    wire: Wire,
    /// Ends before the `/` of a path.
    base: String,
    naming: Naming,
    dead_statuses: Vec<u16>,
    endpoint: Option<TokenEndpoint>,
    token: ClientToken,
}

/// What a reachable source says of the configuration.
#[derive(Debug)]
pub struct Checked {
    /// The status of an answer to a question without credential (401, 403 or 404 are as expected).
    pub api: Result<u16, CallFault>,
    /// The life of a token for the client credential; none when no credential is configured.
    pub token: Option<Result<Option<Duration>, CallFault>>,
}

/// Which path is called.
#[derive(Clone, Copy)]
enum Path<'a> {
    Queue(&'a QueueId),
    Subscribe,
    Connections,
}

/// Why there is not even the head of an answer.
enum Unanswered {
    NoToken(TokenFault),
    /// No header can hold the token or the user's name, or no client credential is configured.
    NoCredential,
    Wire(WireFault),
}

impl Source {
    /// Prepares to call the source; nothing is sent yet. Needs a runtime with I/O and time.
    pub fn new(settings: SourceSettings, observer: TokenObserver) -> Result<Self, SourceError> {
        let base = base(&settings.api_url, "linxo.api_url")?;
        let auth = base_url(&settings.auth_url, "/token", "linxo.auth_url")?;
        let naming = Naming::new(settings.user_naming)?;
        let endpoint = match (settings.client_id, settings.client_secret) {
            (Some(client_id), Some(client_secret)) => Some(TokenEndpoint {
                url: auth,
                client_id,
                client_secret,
                scope: settings.scope,
                observer,
            }),
            _ => None,
        };
        let hosts = [&settings.api_url, &settings.auth_url];
        Ok(Self(Arc::new(Inner {
            wire: Wire::new(hosts, settings.request_timeout, settings.max_in_flight)?,
            base,
            naming,
            dead_statuses: settings.dead_statuses,
            endpoint,
            token: ClientToken::new(),
        })))
    }

    /// Asks a queue for its events. Waits for a seat in `room` first; the answer keeps it.
    ///
    /// Dropping the future leaves it open whether the question arrived.
    pub async fn ask(
        &self,
        user: &UserId,
        bearer: Bearer<'_>,
        queue: &QueueId,
        room: &Room,
    ) -> Asked {
        if !location::is_usable(queue.as_str()) {
            return Asked::Dead { status: 404 };
        }
        let seat = room.seat().await;
        match self.0.call(Path::Queue(queue), user, bearer).await {
            Ok(reply) => self.0.meaning(reply, seat, room).await,
            Err(unanswered) => {
                let asked = unanswered.into_asked(queue);
                tracing::debug!(%queue, outcome = asked.outcome().as_str(), "got no answer");
                asked
            }
        }
    }

    /// Makes a queue for the user.
    pub async fn subscribe(&self, user: &UserId, bearer: Bearer<'_>) -> Result<QueueId, CallFault> {
        let reply = self.0.call(Path::Subscribe, user, bearer).await?;
        if !reply.status().is_success() {
            return Err(call_fault("subscribe", reply).await);
        }
        reply.location().and_then(location::named_queue).ok_or_else(|| CallFault::Unusable {
            what: format!(
                "subscribe answered {} without a location that names a queue; check linxo.api_url",
                reply.status().as_u16()
            ),
        })
    }

    /// Lists the user's connections: the body as received, a list or an object that wraps one.
    ///
    /// Waits for a seat in `room` first; the answer keeps it. May itself start a synchronization.
    pub async fn connections(
        &self,
        user: &UserId,
        bearer: Bearer<'_>,
        room: &Room,
    ) -> Result<Answer, CallFault> {
        let seat = room.seat().await;
        let reply = self.0.call(Path::Connections, user, bearer).await?;
        let status = reply.status();
        if !status.is_success() {
            return Err(call_fault("connections", reply).await);
        }
        let (end, body) = read(reply, seat, room).await;
        match end {
            End::Whole if Shape::of(&body) != Shape::Neither => Ok(body),
            End::Whole => Err(CallFault::Unusable {
                what: format!("connections answered {} without a list", status.as_u16()),
            }),
            End::Cut => {
                Err(CallFault::Retry { what: "the answer to connections broke off".to_owned() })
            }
            End::TooLong => Err(CallFault::Unusable {
                what: format!(
                    "the answer to connections is longer than {} bytes; raise linxo.max_answer",
                    room.max_answer()
                ),
            }),
        }
    }

    /// Asks for a user's own access token, with the user's name and password.
    pub async fn user_token(&self, username: &str, password: &str) -> Result<UserToken, CallFault> {
        let endpoint = self.0.endpoint.as_ref().ok_or_else(no_credential)?;
        Ok(endpoint.request(&self.0.wire, Grant::Password { username, password }).await?)
    }

    /// Looks whether anyone answers, and whether the client credential is good.
    pub async fn check(&self) -> Checked {
        let inner = &*self.0;
        let api = match inner.send(Path::Queue(&QueueId::from(NO_QUEUE)), None, None).await {
            Ok(reply) if reply.status().is_redirection() || reply.status().is_server_error() => {
                Err(call_fault("the api", reply).await)
            }
            Ok(reply) => Ok(reply.status().as_u16()),
            Err(unanswered) => Err(unanswered.into()),
        };
        let token = match &inner.endpoint {
            Some(endpoint) => Some(
                endpoint
                    .request(&inner.wire, Grant::Client)
                    .await
                    .map(|token| token.expires_in)
                    .map_err(CallFault::from),
            ),
            None => None,
        };
        Checked { api, token }
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Source").finish_non_exhaustive()
    }
}

impl Inner {
    async fn call(
        &self,
        path: Path<'_>,
        user: &UserId,
        bearer: Bearer<'_>,
    ) -> Result<Reply, Unanswered> {
        let token = match bearer {
            Bearer::Token(token) => {
                let authorization = header(token).ok_or(Unanswered::NoCredential)?;
                return self.send(path, Some(authorization), None).await;
            }
            Bearer::Client => self.client_token().await?,
        };
        let reply = self.send(path, Some(token.authorization.clone()), Some(user)).await?;
        let refused = reply.status().as_u16() == 401 && !self.dead_statuses.contains(&401);
        if !refused || !self.token.discard(&token) {
            return Ok(reply);
        }
        drop(reply);
        let token = self.client_token().await?;
        self.send(path, Some(token.authorization.clone()), Some(user)).await
    }

    async fn client_token(&self) -> Result<Arc<super::token::Token>, Unanswered> {
        let endpoint = self.endpoint.as_ref().ok_or(Unanswered::NoCredential)?;
        self.token.current(&self.wire, endpoint).await.map_err(Unanswered::NoToken)
    }

    async fn send(
        &self,
        path: Path<'_>,
        authorization: Option<HeaderValue>,
        user: Option<&UserId>,
    ) -> Result<Reply, Unanswered> {
        let mut text = String::with_capacity(self.base.len() + 96);
        text.push_str(&self.base);
        match path {
            Path::Queue(queue) => {
                text.push_str("/queues/");
                location::push_segment(&mut text, queue.as_str());
            }
            Path::Subscribe => text.push_str("/queues/subscribe"),
            Path::Connections => text.push_str("/connections"),
        }
        let user = match user {
            Some(user) => {
                self.naming.name(user, &mut text).map_err(|_| Unanswered::NoCredential)?
            }
            None => None,
        };
        let url = Url::parse(&text).map_err(|error| {
            Unanswered::Wire(WireFault::Lost { sent: false, what: error.to_string() })
        })?;
        let json = matches!(path, Path::Subscribe).then(|| SUBSCRIBE.to_vec());
        self.wire.send(Call { url, json, authorization, user }).await.map_err(Unanswered::Wire)
    }

    /// What the answer of a queue means.
    async fn meaning(&self, reply: Reply, seat: Seat, room: &Room) -> Asked {
        let status = reply.status().as_u16();
        match status {
            204 | 205 => Asked::Empty,
            200..300 => {
                let (end, body) = read(reply, seat, room).await;
                match end {
                    End::Whole => Asked::from_body(body),
                    End::Cut => Asked::Broken { start: body },
                    End::TooLong => Asked::Oversized { limit: room.max_answer(), start: body },
                }
            }
            status if self.dead_statuses.contains(&status) => Asked::Dead { status },
            401 => Asked::Unauthorized,
            403 => Asked::Forbidden,
            429 => Asked::Throttled { retry_after: reply.retry_after() },
            status => Asked::ServerError { status, retry_after: reply.retry_after() },
        }
    }
}

impl Unanswered {
    /// Without a token nothing was sent to the queue.
    fn into_asked(self, queue: &QueueId) -> Asked {
        match self {
            Self::NoCredential | Self::NoToken(TokenFault::Refused { .. }) => Asked::Unauthorized,
            Self::NoToken(TokenFault::Throttled { retry_after }) => {
                Asked::Throttled { retry_after }
            }
            Self::NoToken(TokenFault::Answered { status }) => {
                Asked::ServerError { status, retry_after: None }
            }
            Self::NoToken(TokenFault::Unreachable(WireFault::Timeout { .. })) => {
                Asked::Timeout { sent: false }
            }
            Self::NoToken(TokenFault::Unreachable(WireFault::Lost { .. })) => {
                Asked::TransportError { sent: false }
            }
            Self::Wire(WireFault::Timeout { sent }) => Asked::Timeout { sent },
            Self::Wire(WireFault::Lost { sent, what }) => {
                tracing::debug!(%queue, sent, what, "lost the connection");
                Asked::TransportError { sent }
            }
        }
    }
}

impl From<Unanswered> for CallFault {
    fn from(unanswered: Unanswered) -> Self {
        match unanswered {
            Unanswered::NoToken(fault) => fault.into(),
            Unanswered::NoCredential => Self::Refused { status: 401, code: String::new() },
            Unanswered::Wire(WireFault::Timeout { .. }) => {
                Self::Retry { what: "the api did not answer in time".to_owned() }
            }
            Unanswered::Wire(WireFault::Lost { what, .. }) => {
                Self::Retry { what: format!("the api cannot be reached: {what}") }
            }
        }
    }
}

fn no_credential() -> CallFault {
    CallFault::Unusable {
        what: "tokens cannot be asked for; set linxo.client_id and linxo.client_secret_file"
            .to_owned(),
    }
}

/// What an error status of a call means.
async fn call_fault(call: &str, reply: Reply) -> CallFault {
    let status = reply.status().as_u16();
    match status {
        401 | 403 => CallFault::Refused { status, code: error_code(reply).await },
        429 => CallFault::Throttled { retry_after: reply.retry_after() },
        408 | 425 | 500.. => CallFault::Retry { what: format!("{call} answered {status}") },
        _ => CallFault::Unusable {
            what: format!(
                "{call} answered {status}{}; check linxo.api_url",
                error_code(reply).await
            ),
        },
    }
}

/// The text of a base URL, without a `/` at its end.
fn base(url: &Url, setting: &'static str) -> Result<String, SourceError> {
    let is_web = matches!(url.scheme(), "http" | "https") && url.has_host();
    let is_plain = url.username().is_empty()
        && url.password().is_none()
        && url.query().is_none()
        && url.fragment().is_none();
    if is_web && is_plain {
        Ok(url.as_str().trim_end_matches('/').to_owned())
    } else {
        Err(SourceError::UnusableUrl { setting })
    }
}

fn base_url(url: &Url, path: &str, setting: &'static str) -> Result<Url, SourceError> {
    let text = base(url, setting)? + path;
    Url::parse(&text).map_err(|_| SourceError::UnusableUrl { setting })
}
