//! Access tokens: asking for them, and keeping the bridge's own.
//!
//! The source knows `POST {auth}/token` with a JSON body and answers `access_token`, `token_type`,
//! `expires_in` (`linxo-api.md` 2, as its public v2.1 client has it).
//!
//! Promises:
//! - the bridge's token is asked for once, however many wait for it, and again shortly before it
//!   runs out; if that fails, the old one serves to its end;
//! - a 401 throws away the token it was given to and no newer one, at most once a second;
//! - after a failure nobody asks for a while: 3 s when refused, else from 0.5 s doubling to 10 s.
//!
//! Knows nothing of: users, queues.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::HeaderValue;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use url::Url;
use zeroize::Zeroizing;

use super::fault::CallFault;
use super::wire::{Call, Reply, Wire, WireFault};
use crate::metrics::TokenOutcome;

/// A token is renewed this long before it runs out, or a tenth of its life before when that is less.
const AHEAD: Duration = Duration::from_secs(30);
/// The life of a token that comes without one.
const ASSUMED_LIFE: Duration = Duration::from_secs(300);
const SHORTEST_LIFE: Duration = Duration::from_secs(1);
const LONGEST_LIFE: Duration = Duration::from_secs(24 * 3600);
const REFUSED_PAUSE: Duration = Duration::from_secs(3);
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
const LONGEST_THROTTLE: Duration = Duration::from_secs(60);
/// The least time between two tokens thrown away for a 401.
const DISCARD_SPACING: Duration = Duration::from_secs(1);
/// The longest answer of the token endpoint that is read, in bytes.
const LONGEST_ANSWER: usize = 64 * 1024;

/// Is told what each token request came to.
pub type TokenObserver = Arc<dyn Fn(TokenOutcome) + Send + Sync>;

/// A user's own access token, as just given.
pub struct UserToken {
    /// The token.
    pub access_token: Zeroizing<String>,
    /// How long it is good for from the moment it was asked for, when the source says so.
    pub expires_in: Option<Duration>,
}

impl std::fmt::Debug for UserToken {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "UserToken(redacted, expires_in: {:?})", self.expires_in)
    }
}

/// Why there is no token.
#[derive(Clone, Debug)]
pub(super) enum TokenFault {
    Refused { status: u16, code: String },
    Throttled { retry_after: Option<Duration> },
    Answered { status: u16 },
    Unreachable(WireFault),
}

impl From<TokenFault> for CallFault {
    fn from(fault: TokenFault) -> Self {
        match fault {
            TokenFault::Refused { status, code } => Self::Refused { status, code },
            TokenFault::Throttled { retry_after } => Self::Throttled { retry_after },
            TokenFault::Answered { status } if status >= 500 || status == 408 => {
                Self::Retry { what: format!("the token endpoint answered {status}") }
            }
            TokenFault::Answered { status } => Self::Unusable {
                what: format!(
                    "the token endpoint answered {status} without a usable token; check linxo.auth_url"
                ),
            },
            TokenFault::Unreachable(WireFault::Timeout { .. }) => {
                Self::Retry { what: "the token endpoint did not answer in time".to_owned() }
            }
            TokenFault::Unreachable(WireFault::Lost { what, .. }) => {
                Self::Retry { what: format!("the token endpoint cannot be reached: {what}") }
            }
        }
    }
}

/// What a token is asked for with.
pub(super) enum Grant<'a> {
    Client,
    Password { username: &'a str, password: &'a str },
}

/// `POST {auth}/token`.
pub(super) struct TokenEndpoint {
    pub(super) url: Url,
    pub(super) client_id: String,
    pub(super) client_secret: Zeroizing<String>,
    pub(super) scope: String,
    pub(super) observer: TokenObserver,
}

#[derive(Serialize)]
struct TokenRequest<'a> {
    provider: &'static str,
    grant_type: &'static str,
    client_id: &'a str,
    client_secret: &'a str,
    scope: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    username: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    password: Option<&'a str>,
}

#[derive(Deserialize)]
struct TokenAnswer {
    access_token: String,
    #[serde(default)]
    expires_in: serde_json::Value,
}

#[derive(Deserialize)]
struct ErrorAnswer {
    error: String,
}

impl TokenEndpoint {
    pub(super) async fn request(
        &self,
        wire: &Wire,
        grant: Grant<'_>,
    ) -> Result<UserToken, TokenFault> {
        let outcome = self.ask(wire, grant).await;
        (self.observer)(match &outcome {
            Ok(_) => TokenOutcome::Ok,
            Err(TokenFault::Refused { .. }) => TokenOutcome::Refused,
            Err(_) => TokenOutcome::Error,
        });
        outcome
    }

    async fn ask(&self, wire: &Wire, grant: Grant<'_>) -> Result<UserToken, TokenFault> {
        let (grant_type, username, password) = match grant {
            Grant::Client => ("client_credentials", None, None),
            Grant::Password { username, password } => ("password", Some(username), Some(password)),
        };
        let request = TokenRequest {
            provider: "linxoConnect",
            grant_type,
            client_id: &self.client_id,
            client_secret: &self.client_secret,
            scope: &self.scope,
            username,
            password,
        };
        // Text and nothing else: this cannot fail, and an empty body is refused like a bad one.
        let json = serde_json::to_vec(&request).unwrap_or_default();
        let call =
            Call { url: self.url.clone(), json: Some(json), authorization: None, user: None };
        let reply = wire.send(call).await.map_err(TokenFault::Unreachable)?;
        let status = reply.status().as_u16();
        match status {
            200..300 => {
                let body =
                    reply.small_body(LONGEST_ANSWER).await.map_err(TokenFault::Unreachable)?;
                usable(Zeroizing::new(body)).ok_or(TokenFault::Answered { status })
            }
            400 | 401 | 403 => Err(TokenFault::Refused { status, code: error_code(reply).await }),
            429 => Err(TokenFault::Throttled { retry_after: reply.retry_after() }),
            _ => Err(TokenFault::Answered { status }),
        }
    }
}

fn usable(body: Zeroizing<Vec<u8>>) -> Option<UserToken> {
    let answer: TokenAnswer = serde_json::from_slice(&body).ok()?;
    let access_token = Zeroizing::new(answer.access_token);
    header(&access_token)?;
    let told = &answer.expires_in;
    let seconds = told.as_f64().or_else(|| told.as_str()?.parse().ok());
    let expires_in = seconds
        .filter(|seconds: &f64| seconds.is_finite())
        .map(|seconds| Duration::from_secs_f64(seconds.clamp(0.0, LONGEST_LIFE.as_secs_f64())));
    Some(UserToken { access_token, expires_in })
}

/// `: ` and the `error` of an error body; nothing when it is no plain word.
pub(super) async fn error_code(reply: Reply) -> String {
    let Ok(body) = reply.small_body(LONGEST_ANSWER).await else { return String::new() };
    match serde_json::from_slice::<ErrorAnswer>(&body) {
        Ok(ErrorAnswer { error }) if is_word(&error) => format!(": {error}"),
        _ => String::new(),
    }
}

fn is_word(text: &str) -> bool {
    text.len() <= 64
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'))
}

/// The `Authorization` for a token; none when no header can hold it.
pub(super) fn header(token: &str) -> Option<HeaderValue> {
    let text = Zeroizing::new(["Bearer ", token].concat());
    let mut value = HeaderValue::from_str(&text).ok()?;
    value.set_sensitive(true);
    (!token.is_empty()).then_some(value)
}

/// The bridge's own token, kept.
pub(super) struct ClientToken {
    kept: Mutex<Kept>,
    flight: tokio::sync::Mutex<()>,
}

/// One token of the bridge.
pub(super) struct Token {
    pub(super) authorization: HeaderValue,
    renew_at: Instant,
    ends_at: Instant,
}

#[derive(Default)]
struct Kept {
    token: Option<Arc<Token>>,
    fault: Option<(TokenFault, Instant)>,
    failures: u32,
    discarded_at: Option<Instant>,
}

/// What is to be done for a token.
enum Next {
    Use(Arc<Token>),
    Renew(Arc<Token>),
    Fail(TokenFault),
    Ask,
}

impl Kept {
    fn next(&self, now: Instant) -> Next {
        let paused = self.fault.as_ref().filter(|(_, until)| now < *until);
        match (&self.token, paused) {
            (Some(token), _) if now < token.renew_at => Next::Use(Arc::clone(token)),
            (Some(token), Some(_)) if now < token.ends_at => Next::Use(Arc::clone(token)),
            (Some(token), None) if now < token.ends_at => Next::Renew(Arc::clone(token)),
            (_, Some((fault, _))) => Next::Fail(fault.clone()),
            (_, None) => Next::Ask,
        }
    }

    fn granted(&mut self, authorization: HeaderValue, life: Option<Duration>, asked_at: Instant) {
        let life = life.unwrap_or(ASSUMED_LIFE).clamp(SHORTEST_LIFE, LONGEST_LIFE);
        let ends_at = asked_at + life;
        let renew_at = ends_at - AHEAD.min(life / 10);
        self.token = Some(Arc::new(Token { authorization, renew_at, ends_at }));
        self.fault = None;
        self.failures = 0;
    }

    fn failed(&mut self, fault: TokenFault, now: Instant) {
        let backoff = FIRST_PAUSE * 2u32.pow(self.failures.min(5));
        let pause = match &fault {
            TokenFault::Refused { .. } => REFUSED_PAUSE,
            TokenFault::Throttled { retry_after: Some(wait) } => {
                (*wait).clamp(FIRST_PAUSE, LONGEST_THROTTLE)
            }
            TokenFault::Throttled { retry_after: None }
            | TokenFault::Answered { .. }
            | TokenFault::Unreachable(_) => backoff.min(LONGEST_PAUSE),
        };
        self.failures = self.failures.saturating_add(1);
        self.fault = Some((fault, now + pause));
    }

    /// Whether another try is worth it, with another token than the one used.
    fn discard(&mut self, used: &Arc<Token>, now: Instant) -> bool {
        let Some(kept) = &self.token else { return true };
        if !Arc::ptr_eq(kept, used) {
            return true;
        }
        if self.discarded_at.is_some_and(|at| now < at + DISCARD_SPACING) {
            return false;
        }
        self.discarded_at = Some(now);
        self.token = None;
        true
    }
}

impl ClientToken {
    pub(super) fn new() -> Self {
        Self { kept: Mutex::default(), flight: tokio::sync::Mutex::default() }
    }

    /// A token that is good by now, asked for when there is none.
    pub(super) async fn current(
        &self,
        wire: &Wire,
        endpoint: &TokenEndpoint,
    ) -> Result<Arc<Token>, TokenFault> {
        // Not inside the match: the guard would live on through the wait below.
        let next = self.kept().next(Instant::now());
        let _flight = match next {
            Next::Use(token) => return Ok(token),
            Next::Fail(fault) => return Err(fault),
            Next::Renew(token) => match self.flight.try_lock() {
                Ok(flight) => flight,
                Err(_) => return Ok(token),
            },
            Next::Ask => self.flight.lock().await,
        };
        // Another may have asked while this one waited for its turn.
        let next = self.kept().next(Instant::now());
        let old = match next {
            Next::Use(token) => return Ok(token),
            Next::Fail(fault) => return Err(fault),
            Next::Renew(token) => Some(token),
            Next::Ask => None,
        };
        let asked_at = Instant::now();
        let fault = match endpoint.request(wire, Grant::Client).await {
            Ok(given) => {
                let authorization = header(&given.access_token)
                    .unwrap_or_else(|| HeaderValue::from_static("Bearer"));
                let mut kept = self.kept();
                if kept.failures > 0 {
                    tracing::info!(attempt = kept.failures + 1, "got a client token again");
                }
                kept.granted(authorization, given.expires_in, asked_at);
                None
            }
            Err(fault) => {
                let mut kept = self.kept();
                if kept.failures == 0 {
                    tracing::warn!(fault = %CallFault::from(fault.clone()), "got no client token");
                }
                kept.failed(fault.clone(), Instant::now());
                Some(fault)
            }
        };
        let kept = self.kept();
        match (&kept.token, fault, old) {
            (Some(token), None, _) => Ok(Arc::clone(token)),
            (_, Some(_), Some(old)) => Ok(old),
            (_, Some(fault), None) => Err(fault),
            // Thrown away by another in this very moment.
            (None, None, _) => Err(TokenFault::Answered { status: 200 }),
        }
    }

    /// Throws away the token that was answered with 401; false when trying again is of no use.
    pub(super) fn discard(&self, used: &Arc<Token>) -> bool {
        self.kept().discard(used, Instant::now())
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn granted(kept: &mut Kept, life: u64, now: Instant) -> Arc<Token> {
        kept.granted(HeaderValue::from_static("Bearer x"), Some(Duration::from_secs(life)), now);
        Arc::clone(kept.token.as_ref().unwrap())
    }

    fn away() -> TokenFault {
        TokenFault::Answered { status: 503 }
    }

    #[test]
    fn a_token_is_renewed_ahead_of_its_end() {
        let now = Instant::now();
        let mut kept = Kept::default();
        assert!(matches!(kept.next(now), Next::Ask));
        granted(&mut kept, 3600, now);
        let at = |seconds| now + Duration::from_secs(seconds);
        assert!(matches!(kept.next(at(3569)), Next::Use(_)));
        assert!(matches!(kept.next(at(3570)), Next::Renew(_)));
        assert!(matches!(kept.next(at(3600)), Next::Ask));
        granted(&mut kept, 10, now);
        assert!(matches!(kept.next(at(8)), Next::Use(_)));
        assert!(matches!(kept.next(at(9)), Next::Renew(_)));
    }

    #[test]
    fn an_old_token_serves_while_its_renewal_fails() {
        let now = Instant::now();
        let mut kept = Kept::default();
        granted(&mut kept, 3600, now);
        let late = now + Duration::from_secs(3590);
        kept.failed(away(), late);
        assert!(matches!(kept.next(late), Next::Use(_)));
        assert!(matches!(kept.next(late + FIRST_PAUSE), Next::Renew(_)));
        kept.failed(away(), now + Duration::from_secs(3600));
        assert!(matches!(kept.next(now + Duration::from_secs(3600)), Next::Fail(_)));
    }

    #[test]
    fn failures_are_spaced_ever_wider_and_refusals_evenly() {
        let now = Instant::now();
        let mut kept = Kept::default();
        let mut pauses = Vec::new();
        for _ in 0..7 {
            kept.failed(away(), now);
            pauses.push((kept.fault.as_ref().unwrap().1 - now).as_millis());
        }
        assert_eq!(pauses, [500, 1000, 2000, 4000, 8000, 10_000, 10_000]);
        kept.failed(TokenFault::Refused { status: 401, code: String::new() }, now);
        assert!(matches!(kept.next(now + Duration::from_millis(2999)), Next::Fail(_)));
        assert!(matches!(kept.next(now + Duration::from_secs(3)), Next::Ask));
    }

    #[test]
    fn only_the_token_that_was_used_is_thrown_away_and_not_too_often() {
        let now = Instant::now();
        let mut kept = Kept::default();
        let first = granted(&mut kept, 3600, now);
        assert!(kept.discard(&first, now));
        assert!(kept.discard(&first, now), "another threw it away: the next one is worth a try");
        let second = granted(&mut kept, 3600, now);
        assert!(kept.discard(&first, now));
        assert!(kept.token.is_some(), "the newer one stays");
        assert!(!kept.discard(&second, now), "too soon");
        assert!(kept.discard(&second, now + DISCARD_SPACING));
        assert!(kept.token.is_none());
    }

    #[test]
    fn an_answer_is_understood_with_or_without_a_life() {
        let life = |body: &str| {
            usable(Zeroizing::new(body.as_bytes().to_vec())).map(|token| token.expires_in)
        };
        assert_eq!(life(r#"{"access_token":"a"}"#), Some(None));
        assert_eq!(
            life(r#"{"access_token":"a","token_type":"bearer","expires_in":60}"#),
            Some(Some(Duration::from_secs(60)))
        );
        assert_eq!(
            life(r#"{"access_token":"a","expires_in":"60"}"#),
            Some(Some(Duration::from_secs(60)))
        );
        assert_eq!(life(r#"{"access_token":"a","expires_in":-1}"#), Some(Some(Duration::ZERO)));
        assert_eq!(life(r#"{"access_token":""}"#), None);
        assert_eq!(life(r#"{"access_token":"a\nb"}"#), None);
        assert_eq!(life("<html>"), None);
    }

    #[test]
    fn nothing_prints_a_token() {
        let token = usable(Zeroizing::new(br#"{"access_token":"hush"}"#.to_vec())).unwrap();
        assert!(!format!("{token:?} {:?}", header("hush")).contains("hush"));
    }
}
