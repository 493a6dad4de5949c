//! What the world decided to answer, before it becomes an HTTP response.
//!
//! Promises:
//! - every decision says how it is counted ([`Reply::outcome`]).
//!
//! Knows nothing of: how it is sent.

use super::fault::Fault;
use super::ledger::Outcome;
use super::options::LocationForm;

/// An error head, with the body the source sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: u16,
    pub(super) error: &'static str,
    pub(super) description: &'static str,
    /// Seconds.
    pub(super) retry_after: Option<u64>,
}

impl Refusal {
    pub(super) const fn new(status: u16, error: &'static str, description: &'static str) -> Self {
        Self { status, error, description, retry_after: None }
    }

    pub(super) const UNAUTHORIZED: Self =
        Self::new(401, "invalid_token", "the access token is missing, unknown, expired or revoked");
    pub(super) const NO_CLIENT: Self =
        Self::new(401, "invalid_client", "the client id or its secret is wrong");
    pub(super) const FORBIDDEN: Self =
        Self::new(403, "NO", "the access token does not open this resource");
    pub(super) const NO_USER_NAMED: Self =
        Self::new(400, "BAD_PARAMETER", "a client token needs the user named beside it");
    pub(super) const NO_SUCH_USER: Self =
        Self::new(404, "RESOURCE_UNKNOWN", "there is no such user");
    pub(super) const FULL: Self =
        Self::new(503, "INTERNAL_ERROR", "the simulator keeps no more users or queues");

    /// The head that a fault answers with, when it is one of those.
    pub(super) fn of_fault(fault: &Fault, no_token: bool) -> Option<Self> {
        match fault {
            Fault::Unauthorized | Fault::RevokeToken if no_token => Some(Self::NO_CLIENT),
            Fault::Unauthorized | Fault::RevokeToken => Some(Self::UNAUTHORIZED),
            Fault::Forbidden => Some(Self::FORBIDDEN),
            Fault::Throttle { retry_after } => Some(Self {
                retry_after: *retry_after,
                ..Self::new(429, "TOO_MANY_REQUESTS", "too many requests, come back later")
            }),
            Fault::ServerError { status } => {
                Some(Self::new(*status, "INTERNAL_ERROR", "something went wrong on our side"))
            }
            Fault::KillQueue
            | Fault::Slow { .. }
            | Fault::Hang
            | Fault::Cut
            | Fault::Oversized { .. }
            | Fault::InvalidJson
            | Fault::Html
            | Fault::Location { .. }
            | Fault::EmptyList
            | Fault::Reorder
            | Fault::UnknownType
            | Fault::MissingField { .. } => None,
        }
    }
}

/// How a body is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Delivery {
    Whole,
    Slow { over_ms: u64 },
    Hang,
    Cut,
    Oversized { bytes: u64, declared: bool },
    InvalidJson,
    Html,
}

impl Delivery {
    /// The delivery that a fault asks for.
    pub(super) fn of_fault(fault: Option<&Fault>) -> Self {
        match fault {
            Some(Fault::Slow { over_ms }) => Self::Slow { over_ms: *over_ms },
            Some(Fault::Hang) => Self::Hang,
            Some(Fault::Cut) => Self::Cut,
            Some(Fault::Oversized { bytes, declared }) => {
                Self::Oversized { bytes: *bytes, declared: *declared }
            }
            Some(Fault::InvalidJson) => Self::InvalidJson,
            Some(Fault::Html) => Self::Html,
            Some(_) | None => Self::Whole,
        }
    }

    /// Does what is sent so never arrive as it should? A slow body may, or may not.
    pub(super) fn loses(self) -> bool {
        !matches!(self, Self::Whole | Self::Slow { .. })
    }
}

/// What is answered.
#[derive(Debug)]
pub(super) enum Reply {
    Refused(Refusal),
    /// 204.
    Nothing,
    /// 200 and an array of these; `records` are their places in the ledger.
    Events {
        texts: Vec<Box<str>>,
        records: Vec<u32>,
        delivery: Delivery,
    },
    /// 200 and this JSON.
    Json {
        text: String,
        delivery: Delivery,
    },
    /// 201 and where the queue is.
    Created {
        queue: String,
        location: LocationForm,
    },
}

impl Reply {
    /// How the answer to a question is counted.
    pub(super) fn outcome(&self) -> Outcome {
        match self {
            Self::Refused(refusal) => match refusal.status {
                400 => Outcome::BadRequest,
                401 => Outcome::Unauthorized,
                403 => Outcome::Forbidden,
                429 => Outcome::Throttled,
                500.. => Outcome::ServerError,
                _ => Outcome::Dead,
            },
            Self::Nothing => Outcome::Empty,
            Self::Created { .. } | Self::Json { .. } => Outcome::Events,
            Self::Events { texts, delivery, .. } => match delivery {
                Delivery::Whole if texts.is_empty() => Outcome::EmptyList,
                Delivery::Whole => Outcome::Events,
                Delivery::Slow { .. } => Outcome::Slow,
                Delivery::Hang => Outcome::Hang,
                Delivery::Cut => Outcome::Cut,
                Delivery::Oversized { .. } => Outcome::Oversized,
                Delivery::InvalidJson => Outcome::InvalidJson,
                Delivery::Html => Outcome::Html,
            },
        }
    }
}
