//! The source itself: what can be asked of it.
//!
//! Promises:
//! - a call in a user's own name names no one else; with a token that the integrator gave it is never
//!   repeated;
//! - a call with the bridge's token names the user beside it;
//! - a call with a token that the bridge asked for is repeated once, with a fresh one, after a 401.
//!
//! Knows nothing of: the HTTP client.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Uri};
use hyper::body::Bytes;
use url::Url;

use super::asked::{Asked, Shape};
use super::body::{End, read};
use super::fault::{CallFault, Refusal, Refused, SourceError};
use super::location;
use super::naming::Naming;
use super::room::{Answer, Room, Seat};
use super::settings::{Bearer, SourceSettings};
use super::token::{
    ClientToken, Token, TokenEndpoint, TokenFault, TokenObserver, TokenPace, UserToken, UserTokens,
    error_code, header,
};
use super::wire::{Call, Reply, Wire, WireFault};
use crate::ids::{QueueId, Timestamp, UserId};

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
    users: UserTokens,
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
    NoCredential(Refused),
    Wire(WireFault),
}

impl Source {
    /// Prepares to call the source; nothing is sent yet. Needs a runtime with I/O and time.
    pub fn new(settings: SourceSettings, observer: TokenObserver) -> Result<Self, SourceError> {
        let base = base(&settings.api_url, "linxo.api_url")?;
        let auth = below(&settings.auth_url, "/token", "linxo.auth_url")?;
        let naming = Naming::new(settings.user_naming)?;
        let endpoint = match (settings.client_id, settings.client_secret) {
            (Some(client_id), Some(client_secret)) => Some(TokenEndpoint {
                uri: auth,
                client_id,
                client_secret,
                scope: settings.scope,
                observer,
            }),
            _ => None,
        };
        let hosts = [&settings.api_url, &settings.auth_url];
        Ok(Self(Arc::new(Inner {
            wire: Wire::new(
                hosts,
                settings.request_timeout,
                settings.max_in_flight,
                &settings.instance_id,
            )?,
            base,
            naming,
            dead_statuses: settings.dead_statuses,
            endpoint,
            token: ClientToken::new(),
            users: UserTokens::new()?,
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
            Ok(reply) => self.0.meaning(reply, bearer, seat, room).await,
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
            return Err(call_fault("subscribe", reply, bearer).await);
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
            return Err(call_fault("connections", reply, bearer).await);
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

    /// Forgets the token that was given for the user's name and password, if there is one.
    pub fn forget(&self, user: &UserId) {
        self.0.users.forget(user);
    }

    /// What tokens for users' names and passwords cost.
    pub fn token_pace(&self) -> TokenPace {
        self.0.users.pace()
    }

    /// Looks whether anyone answers, and whether the client credential is good.
    pub async fn check(&self) -> Checked {
        let inner = &*self.0;
        let api = match inner.send(Path::Queue(&QueueId::from(NO_QUEUE)), None, None).await {
            Ok(reply) if reply.status().is_redirection() || reply.status().is_server_error() => {
                Err(call_fault("the api", reply, Bearer::Client).await)
            }
            Ok(reply) => Ok(reply.status().as_u16()),
            Err(unanswered) => Err(unanswered.into()),
        };
        let token = match &inner.endpoint {
            Some(endpoint) => Some(endpoint.try_out(&inner.wire).await.map_err(CallFault::from)),
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
        match bearer {
            Bearer::Token { access_token, .. } => {
                let authorization = header(access_token)
                    .ok_or_else(|| unsendable(Refusal::AccessToken, "no header can hold it"))?;
                self.send(path, Some(authorization), None).await
            }
            Bearer::Password { username, password } => {
                let token = self.user_token(user, username, password).await?;
                let reply = self.send(path, Some(token.authorization.clone()), None).await?;
                if !self.is_unauthorized(&reply) {
                    return Ok(reply);
                }
                drop(reply);
                self.users.discard(user, &token);
                let token = self.user_token(user, username, password).await?;
                self.send(path, Some(token.authorization.clone()), None).await
            }
            Bearer::Client => {
                let token = self.client_token().await?;
                let reply = self.send(path, Some(token.authorization.clone()), Some(user)).await?;
                if !self.is_unauthorized(&reply) || !self.token.discard(&token) {
                    return Ok(reply);
                }
                drop(reply);
                let token = self.client_token().await?;
                self.send(path, Some(token.authorization.clone()), Some(user)).await
            }
        }
    }

    fn is_unauthorized(&self, reply: &Reply) -> bool {
        reply.status().as_u16() == 401 && !self.dead_statuses.contains(&401)
    }

    async fn client_token(&self) -> Result<Arc<Token>, Unanswered> {
        self.token.current(&self.wire, self.endpoint()?).await.map_err(Unanswered::NoToken)
    }

    async fn user_token(
        &self,
        user: &UserId,
        username: &str,
        password: &str,
    ) -> Result<Arc<UserToken>, Unanswered> {
        let endpoint = self.endpoint()?;
        let token = self.users.current(user, username, password, &self.wire, endpoint).await;
        token.map_err(Unanswered::NoToken)
    }

    fn endpoint(&self) -> Result<&TokenEndpoint, Unanswered> {
        self.endpoint.as_ref().ok_or_else(|| unsendable(Refusal::Client, "none are configured"))
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
                let named = self.naming.name(user, &mut text);
                named.map_err(|_| unsendable(Refusal::Client, "the user cannot be named"))?
            }
            None => None,
        };
        let uri = Uri::from_maybe_shared(Bytes::from(text)).map_err(|error| {
            Unanswered::Wire(WireFault::Lost { sent: false, what: error.to_string() })
        })?;
        let json = matches!(path, Path::Subscribe).then(|| SUBSCRIBE.to_vec());
        self.wire.send(Call { uri, json, authorization, user }).await.map_err(Unanswered::Wire)
    }

    /// What the answer of a queue means.
    async fn meaning(&self, reply: Reply, bearer: Bearer<'_>, seat: Seat, room: &Room) -> Asked {
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
            401 => Asked::Unauthorized(Refused { what: refused_with(bearer), how: "401".into() }),
            403 => Asked::Forbidden(Refused { what: Refusal::Scope, how: "403".into() }),
            429 => Asked::Throttled { retry_after: reply.retry_after() },
            status => Asked::ServerError { status, retry_after: reply.retry_after() },
        }
    }
}

impl Unanswered {
    /// Without a token nothing was sent to the queue.
    fn into_asked(self, queue: &QueueId) -> Asked {
        match self {
            Self::NoCredential(refused) | Self::NoToken(TokenFault::Refused(refused)) => {
                Asked::Unauthorized(refused)
            }
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
                tracing::debug!(%queue, sent, reason = what, "lost the connection");
                Asked::TransportError { sent }
            }
        }
    }
}

impl From<Unanswered> for CallFault {
    fn from(unanswered: Unanswered) -> Self {
        match unanswered {
            Unanswered::NoToken(fault) => fault.into(),
            Unanswered::NoCredential(refused) => Self::Refused(refused),
            Unanswered::Wire(WireFault::Timeout { .. }) => {
                Self::Retry { what: "the api did not answer in time".to_owned() }
            }
            Unanswered::Wire(WireFault::Lost { what, .. }) => {
                Self::Retry { what: format!("the api cannot be reached: {what}") }
            }
        }
    }
}

fn unsendable(what: Refusal, how: &str) -> Unanswered {
    Unanswered::NoCredential(Refused { what, how: how.to_owned() })
}

/// What it is that a 401 of the source refuses.
fn refused_with(bearer: Bearer<'_>) -> Refusal {
    match bearer {
        Bearer::Token { expires_at: Some(at), .. } if at <= Timestamp::now() => {
            Refusal::ExpiredAccessToken
        }
        Bearer::Token { .. } => Refusal::AccessToken,
        Bearer::Password { .. } => Refusal::UserToken,
        Bearer::Client => Refusal::Client,
    }
}

/// What an error status of a call means.
async fn call_fault(call: &str, reply: Reply, bearer: Bearer<'_>) -> CallFault {
    let status = reply.status().as_u16();
    match status {
        401 | 403 => {
            let what = if status == 401 { refused_with(bearer) } else { Refusal::Scope };
            let how = format!("{status}{}", error_code(reply).await);
            CallFault::Refused(Refused { what, how })
        }
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

/// A path below a base URL.
fn below(url: &Url, path: &str, setting: &'static str) -> Result<Uri, SourceError> {
    let text = base(url, setting)? + path;
    text.parse().map_err(|_| SourceError::UnusableUrl { setting })
}
