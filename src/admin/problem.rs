//! Refusals as problem documents, RFC 9457.
//!
//! Promises:
//! - each kind of refusal has one stable type, status and title;
//! - what may pass by waiting carries `Retry-After`;
//! - nothing of a request's values is repeated.
//!
//! Linxo not answering is 503, as trying again is the thing to do; an answer of Linxo that cannot be
//! used is 502, as trying again will seldom help.
//!
//! Knows nothing of: the calls.

use std::time::Duration;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::bridge::Unserved;

/// The content type of a problem document.
pub(super) const CONTENT_TYPE: &str = "application/problem+json";

/// A kind of refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    BadRequest,
    BadJson,
    InvalidRequest,
    Unauthorized,
    UnknownPath,
    UnknownUser,
    MethodNotAllowed,
    Conflict,
    TooLarge,
    UnsupportedMediaType,
    CredentialRefused,
    InvalidCredential,
    SourceUnusable,
    SourceAway,
    NotOwner,
    OwnerAway,
    KafkaAway,
    OutcomeUnknown,
    Busy,
    TimedOut,
    NotAlive,
    NotReady,
}

impl Kind {
    pub(super) const ALL: &'static [Self] = &[
        Self::BadRequest,
        Self::BadJson,
        Self::InvalidRequest,
        Self::Unauthorized,
        Self::UnknownPath,
        Self::UnknownUser,
        Self::MethodNotAllowed,
        Self::Conflict,
        Self::TooLarge,
        Self::UnsupportedMediaType,
        Self::CredentialRefused,
        Self::InvalidCredential,
        Self::SourceUnusable,
        Self::SourceAway,
        Self::NotOwner,
        Self::OwnerAway,
        Self::KafkaAway,
        Self::OutcomeUnknown,
        Self::Busy,
        Self::TimedOut,
        Self::NotAlive,
        Self::NotReady,
    ];

    /// The last part of the type, the status and the title.
    #[rustfmt::skip] // a table
    const fn facts(self) -> (&'static str, u16, &'static str) {
        match self {
            Self::BadRequest => ("bad-request", 400, "The request cannot be understood"),
            Self::BadJson => ("bad-json", 400, "The body is not JSON"),
            Self::InvalidRequest => ("invalid-request", 422, "A field of the body is missing, unknown or wrong"),
            Self::Unauthorized => ("unauthorized", 401, "The bearer token is missing or wrong"),
            Self::UnknownPath => ("unknown-path", 404, "There is nothing at this path"),
            Self::UnknownUser => ("unknown-user", 404, "The user has no subscription"),
            Self::MethodNotAllowed => ("method-not-allowed", 405, "The path does not take this method"),
            Self::Conflict => ("conflict", 409, "The call contradicts the present state"),
            Self::TooLarge => ("too-large", 413, "The body is too large"),
            Self::UnsupportedMediaType => ("unsupported-media-type", 415, "The body must be application/json"),
            Self::CredentialRefused => ("credential-refused", 422, "Linxo refused the credential"),
            Self::InvalidCredential => ("invalid-credential", 422, "The credential cannot be used"),
            Self::SourceUnusable => ("source-unusable", 502, "Linxo's answer cannot be used"),
            Self::SourceAway => ("source-away", 503, "Linxo does not answer now"),
            Self::NotOwner => ("not-owner", 503, "The user's partition has no owner that can be asked now"),
            Self::OwnerAway => ("owner-away", 503, "The owning instance does not answer now"),
            Self::KafkaAway => ("kafka-away", 503, "Kafka cannot be reached"),
            Self::OutcomeUnknown => ("outcome-unknown", 503, "Whether the change was made cannot be learned"),
            Self::Busy => ("busy", 503, "Too much is under way"),
            Self::TimedOut => ("timed-out", 503, "The call took too long"),
            Self::NotAlive => ("not-alive", 503, "The scheduler makes no progress"),
            Self::NotReady => ("not-ready", 503, "Calls cannot be served now"),
        }
    }

    /// The stable type.
    pub(super) fn uri(self) -> String {
        format!("urn:linxo-bridge:problem:{}", self.facts().0)
    }

    pub(super) fn status(self) -> u16 {
        self.facts().1
    }

    pub(super) fn title(self) -> &'static str {
        self.facts().2
    }
}

/// A refusal.
#[derive(Clone, Debug)]
pub(super) struct Problem {
    kind: Kind,
    detail: String,
    retry_after: Option<Duration>,
    pointer: Option<String>,
    reasons: Vec<String>,
}

impl Problem {
    pub(super) fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into(), retry_after: None, pointer: None, reasons: Vec::new() }
    }

    /// Says when to try again.
    pub(super) fn after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// Says which field is at fault, as a JSON pointer.
    pub(super) fn at(mut self, pointer: impl Into<String>) -> Self {
        self.pointer = Some(pointer.into());
        self
    }

    /// Lists what is wrong, when it is several things.
    pub(super) fn because(mut self, reasons: Vec<String>) -> Self {
        self.reasons = reasons;
        self
    }
}

impl From<Unserved> for Problem {
    fn from(unserved: Unserved) -> Self {
        const SOON: Duration = Duration::from_secs(1);
        const LATER: Duration = Duration::from_secs(5);
        let detail = unserved.to_string();
        match unserved {
            Unserved::UnknownUser => Self::new(Kind::UnknownUser, detail),
            Unserved::NotOwned { retry_after, owner_url: _ } => {
                Self::new(Kind::NotOwner, detail).after(retry_after)
            }
            Unserved::KafkaAway => Self::new(Kind::KafkaAway, detail).after(LATER),
            Unserved::OutcomeUnknown => Self::new(Kind::OutcomeUnknown, detail).after(SOON),
            Unserved::CredentialRefused { what: _ } => {
                Self::new(Kind::CredentialRefused, detail).at("/credential")
            }
            Unserved::InvalidCredential { what: _ } => {
                Self::new(Kind::InvalidCredential, detail).at("/credential")
            }
            Unserved::SourceAway { what: _ } => Self::new(Kind::SourceAway, detail).after(LATER),
            Unserved::SourceUnusable { what: _ } => Self::new(Kind::SourceUnusable, detail),
            Unserved::Busy { retry_after } => Self::new(Kind::Busy, detail).after(retry_after),
            Unserved::Conflict { what: _ } => Self::new(Kind::Conflict, detail),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut document = json!({
            "type": self.kind.uri(),
            "title": self.kind.title(),
            "status": self.kind.status(),
            "detail": self.detail,
        });
        if let Some(pointer) = self.pointer {
            document["pointer"] = pointer.into();
        }
        if !self.reasons.is_empty() {
            document["reasons"] = self.reasons.into();
        }
        let status =
            StatusCode::from_u16(self.kind.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let content_type = [(header::CONTENT_TYPE, CONTENT_TYPE)];
        let mut response = (status, content_type, document.to_string()).into_response();
        if let Some(wait) = self.retry_after {
            // Whole seconds, rounded up, so that nobody comes back too early.
            let seconds = wait.as_millis().div_ceil(1000).clamp(1, 3600) as u32;
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.kind == Kind::Unauthorized {
            let challenge = HeaderValue::from_static("Bearer realm=\"linxo-bridge\"");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_two_kinds_share_a_type() {
        let types: BTreeSet<String> = Kind::ALL.iter().map(|kind| kind.uri()).collect();
        assert_eq!(types.len(), Kind::ALL.len());
        assert!(Kind::ALL.iter().enumerate().all(|(place, kind)| *kind as usize == place));
    }

    #[test]
    fn a_wait_is_rounded_up_to_whole_seconds_and_is_never_zero() {
        let header = |wait| {
            let response = Problem::new(Kind::Busy, "x").after(wait).into_response();
            response.headers()[header::RETRY_AFTER].to_str().unwrap().to_owned()
        };
        assert_eq!(header(Duration::ZERO), "1");
        assert_eq!(header(Duration::from_millis(1_001)), "2");
        assert_eq!(header(Duration::MAX), "3600");
    }
}
