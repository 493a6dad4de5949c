//! `POST {auth}/token`: one request, one token or the reason why there is none.
//!
//! The source takes a JSON body and answers `access_token`, `token_type`, `expires_in`
//! (`linxo-api.md` 2, as its public v2.1 client has it).
//!
//! Promises:
//! - each request is told twice: before it is made, and what it came to;
//! - a refusal says whether it is the user's or the bridge's own credentials that are refused.
//!
//! Knows nothing of: when to ask, where tokens are kept.

use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{LONGEST_LIFE, TokenFault, header};
use crate::linxo::fault::{Refusal, Refused};
use crate::linxo::wire::{Call, Reply, Wire};
use crate::metrics::TokenOutcome;

/// The longest answer of the token endpoint that is read, in bytes.
const LONGEST_ANSWER: usize = 64 * 1024;
/// The error codes by which it is the bridge that is refused, not the user (RFC 6749, 5.2).
const OF_THE_CLIENT: [&str; 3] = [": invalid_client", ": unauthorized_client", ": invalid_scope"];

/// What happens to a token request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenNews {
    /// It is about to be made.
    Asking,
    /// What it came to.
    Answered(TokenOutcome),
}

/// Is told what happens to each token request.
pub type TokenObserver = Arc<dyn Fn(TokenNews) + Send + Sync>;

/// A token as just given.
pub(super) struct Given {
    pub(super) access_token: Zeroizing<String>,
    /// How long it is good for from the moment it was asked for, when the source says so.
    pub(super) expires_in: Option<Duration>,
}

impl std::fmt::Debug for Given {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Given(redacted, expires_in: {:?})", self.expires_in)
    }
}

/// What a token is asked for with.
#[derive(Clone, Copy)]
pub(in crate::linxo) enum Grant<'a> {
    Client,
    Password { username: &'a str, password: &'a str },
}

/// `POST {auth}/token`.
pub(in crate::linxo) struct TokenEndpoint {
    pub(in crate::linxo) uri: Uri,
    pub(in crate::linxo) client_id: String,
    pub(in crate::linxo) client_secret: Zeroizing<String>,
    pub(in crate::linxo) scope: String,
    pub(in crate::linxo) observer: TokenObserver,
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
    /// Asks for a token of the bridge's own, to see whether it is given; answers its life.
    pub(in crate::linxo) async fn try_out(
        &self,
        wire: &Wire,
    ) -> Result<Option<Duration>, TokenFault> {
        Ok(self.request(wire, Grant::Client).await?.expires_in)
    }

    pub(super) async fn request(&self, wire: &Wire, grant: Grant<'_>) -> Result<Given, TokenFault> {
        (self.observer)(TokenNews::Asking);
        let outcome = self.ask(wire, grant).await;
        (self.observer)(TokenNews::Answered(match &outcome {
            Ok(_) => TokenOutcome::Ok,
            Err(TokenFault::Refused(_)) => TokenOutcome::Refused,
            Err(_) => TokenOutcome::Error,
        }));
        outcome
    }

    async fn ask(&self, wire: &Wire, grant: Grant<'_>) -> Result<Given, TokenFault> {
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
            Call { uri: self.uri.clone(), json: Some(json), authorization: None, user: None };
        let reply = wire.send(call).await.map_err(TokenFault::Unreachable)?;
        let status = reply.status().as_u16();
        match status {
            200..300 => {
                let body =
                    reply.small_body(LONGEST_ANSWER).await.map_err(TokenFault::Unreachable)?;
                usable(Zeroizing::new(body)).ok_or(TokenFault::Answered { status })
            }
            400 | 401 | 403 => {
                let code = error_code(reply).await;
                let what = match grant {
                    Grant::Password { .. } if !OF_THE_CLIENT.contains(&code.as_str()) => {
                        Refusal::Password
                    }
                    Grant::Password { .. } | Grant::Client => Refusal::Client,
                };
                Err(TokenFault::Refused(Refused { what, how: format!("{status}{code}") }))
            }
            429 => Err(TokenFault::Throttled { retry_after: reply.retry_after() }),
            _ => Err(TokenFault::Answered { status }),
        }
    }
}

fn usable(body: Zeroizing<Vec<u8>>) -> Option<Given> {
    let answer: TokenAnswer = serde_json::from_slice(&body).ok()?;
    let access_token = Zeroizing::new(answer.access_token);
    header(&access_token)?;
    let told = &answer.expires_in;
    let seconds = told.as_f64().or_else(|| told.as_str()?.parse().ok());
    let expires_in = seconds
        .filter(|seconds: &f64| seconds.is_finite())
        .map(|seconds| Duration::from_secs_f64(seconds.clamp(0.0, LONGEST_LIFE.as_secs_f64())));
    Some(Given { access_token, expires_in })
}

/// `: ` and the `error` of an error body; nothing when it is no plain word.
pub(in crate::linxo) async fn error_code(reply: Reply) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;

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
