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
    pub(super) const NO_GRANT: Self =
        Self::new(401, "invalid_grant", "the username or the password is wrong");
    pub(super) const FORBIDDEN: Self =
        Self::new(403, "NO", "the access token does not open this resource");
    pub(super) const NO_USER_NAMED: Self =
        Self::new(400, "BAD_PARAMETER", "a client token needs the user named beside it");
    pub(super) const NO_SUCH_USER: Self =
        Self::new(404, "RESOURCE_UNKNOWN", "there is no such user");
    pub(super) const FULL: Self =
        Self::new(503, "INTERNAL_ERROR", "the simulator keeps no more users or queues");

    /// The head that a fault answers with, when it is one of those.
    /// `unauthorized` is what a 401 reads like here.
    pub(super) fn of_fault(fault: &Fault, unauthorized: Self) -> Option<Self> {
        match fault {
            Fault::Unauthorized | Fault::RevokeToken => Some(unauthorized),
            Fault::Forbidden => Some(Self::FORBIDDEN),
            Fault::Throttle { retry_after } => Some(Self {
                retry_after: *retry_after,
                ..Self::new(429, "TOO_MANY_REQUESTS", "too many requests, come back later")
            }),
            Fault::RateLimit { .. } => Some(Self {
                retry_after: Some(1),
                ..Self::new(429, "TOO_MANY_REQUESTS", "too many requests in this second")
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
            | Fault::Reset
            | Fault::Vanish
            | Fault::Duplicate
            | Fault::Repeat
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
pub(super) enum Sending {
    Whole,
    Slow {
        over_ms: u64,
    },
    Hang,
    Cut,
    Oversized {
        bytes: u64,
        declared: bool,
    },
    InvalidJson,
    Html,
    /// No head: the connection is reset.
    Reset,
    /// No head: no byte until the client leaves.
    Vanish,
}

impl Sending {
    /// The sending that a fault asks for.
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
            Some(Fault::Reset) => Self::Reset,
            Some(Fault::Vanish) => Self::Vanish,
            Some(_) | None => Self::Whole,
        }
    }

    /// Does what is sent so never arrive as it should? A slow body may, or may not.
    pub(super) fn loses(self) -> bool {
        !matches!(self, Self::Whole | Self::Slow { .. })
    }
}

/// What the world wants to hear the end of: whether it was sent whole.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Waybill {
    Nothing,
    /// The answer of this number from this queue, with the places of its events in the ledger.
    Answer {
        queue: u32,
        answer: u32,
        records: Vec<u32>,
    },
    /// A token for this user.
    Token {
        user: u32,
    },
}

/// What is answered.
#[derive(Debug)]
pub(super) enum Reply {
    Refused(Refusal),
    /// 204.
    Nothing,
    /// 200 and an array of these.
    Events {
        texts: Vec<Box<str>>,
        sending: Sending,
        waybill: Waybill,
    },
    /// 200 and this JSON.
    Json {
        text: String,
        sending: Sending,
        waybill: Waybill,
    },
    /// 201 and where the queue is.
    Created {
        queue: String,
        location: LocationForm,
        sending: Sending,
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
            Self::Events { texts, sending, .. } => match sending {
                Sending::Whole if texts.is_empty() => Outcome::EmptyList,
                Sending::Whole => Outcome::Events,
                Sending::Slow { .. } => Outcome::Slow,
                Sending::Hang => Outcome::Hang,
                Sending::Cut => Outcome::Cut,
                Sending::Oversized { .. } => Outcome::Oversized,
                Sending::InvalidJson => Outcome::InvalidJson,
                Sending::Html => Outcome::Html,
                Sending::Reset => Outcome::Reset,
                Sending::Vanish => Outcome::Vanish,
            },
        }
    }
}
