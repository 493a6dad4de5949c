//! The faults that can be asked for, what each does, and what the bridge is expected to make of it.
//!
//! An error head (401, 403, 429, 5xx) comes from in front of the queue: it removes nothing and does
//! **not** reset the expiry timer. "lost" is for delivery `once`: the question removed the events
//! and they did not arrive. In `repeatable` the same events stay, and the next question hands them
//! out again; the ledger then calls them handed out and counts the loss beside it.
//!
//! | fault | list | meets | answer | events that waited | timer |
//! |---|---|---|---|---|---|
//! | `unauthorized` | L2 | all | 401 | stay | not reset |
//! | `revoke_token` | L2 | all but token | 401, the token shown is dead from now on | stay | not reset |
//! | `forbidden` | L3 | all | 403 | stay | not reset |
//! | `kill_queue` | L4 | ask | 404 or 410, the queue is dead from now on | die with it | - |
//! | `throttle` | L5 | all | 429, with `Retry-After` in seconds or without | stay | not reset |
//! | `rate_limit` | L5 | all, those above so many a second | 429, `Retry-After: 1` | stay | not reset |
//! | `server_error` | L6 | all | 5xx | stay | not reset |
//! | `slow` | L7 | all but subscribe | 200, the body in drops over a time | handed out; lost when the client leaves first | reset |
//! | `hang` | L7 | all but subscribe | 200 and a length, then nothing until the client leaves | lost | reset |
//! | `cut` | L7 | all but subscribe | 200, half of the promised body, connection closed | lost | reset |
//! | `oversized` | L7 | all but subscribe | 200, a body of so many bytes that holds no event | lost | reset |
//! | `invalid_json` | L11 | all but subscribe | 200, the body less its last byte | lost | reset |
//! | `html` | L11 | all but subscribe | 200, a page of HTML | lost | reset |
//! | `reset` | L8 | all | the request is carried out, then the connection is reset before a head | lost | reset |
//! | `vanish` | L8 | all | the request is carried out, then no byte comes until the client leaves | lost | reset |
//! | `duplicate` | L9 | ask, when events wait | the first event stands in the answer a second time, at its end | handed out, the first twice | reset |
//! | `repeat` | L9 | ask, when there is an answer to repeat | the events of the last answer that had new ones, then what waits | handed out, those again | reset |
//! | `location` | L12 | subscribe | 201, `Location` in that form or none; the queue exists | - | starts |
//! | `empty_list` | L15 | ask, connections | 200 `[]` | stay | reset |
//! | `reorder` | L10 | ask | the events in reverse order | handed out | reset |
//! | `unknown_type` | L10 | ask | every event of a type nobody knows | handed out | reset |
//! | `missing_field` | L10 | ask | the first event lacks that field | handed out | reset |
//!
//! A subscription that meets `reset` or `vanish` has made a queue whose id nobody learns; a token
//! request has made a token.
//!
//! An answer that was lost is not repeated by `repeat`. In `once` an answer is remembered only
//! while an order for `repeat` stands that may meet its user: order it before that answer.
//!
//! What is no fault of one request is an order of its own: `expire` (L13: queues die as if their
//! time were over), `unreachable` (L14: connections are refused, the ledger's clock goes on), and
//! the option `clock_skew` (L16). L1 is a user without synchronizations. On a queue in which
//! nothing waits, the faults with a body break the body `[]`.
//!
//! What the bridge is expected to do:
//!
//! | fault | the bridge |
//! |---|---|
//! | an error head, `empty_list` | loses nothing and publishes no gap, unless the queue dies meanwhile |
//! | `kill_queue`, `expire` | subscribes anew, lists, publishes a CERTAIN gap (QUEUE_GONE) and the present state |
//! | `slow` | takes it when it comes in time, else as `cut` |
//! | `hang`, `cut`, `oversized`; `invalid_json`, `html` as far as it cannot read them | a CERTAIN gap (ANSWER_LOST) and the present state; what came in full and cannot be read goes to the dead letters as well |
//! | `reset`, `vanish` | in `repeatable` asks again and loses nothing; in `once` a CERTAIN gap (EVENT_ID_JUMP) when consecutive ids show that one is missing, none when they show that none is, else one POSSIBLE gap; no listing on a mere suspicion |
//! | `duplicate`, `repeat` in `once` | the source has handed the event out twice, and the ledger says so ([`times_handed_out`](super::EventEntry::times_handed_out)): one record for each time, each once, in the order of the answers |
//! | `duplicate`, `repeat` in `repeatable` | recognises what it has had: one record, at its first place, and no sequence used up |
//! | `reorder`, `unknown_type` | publishes as it came, in the order of the answer |
//! | `missing_field` | a dead letter for that element when the field is the id or the type, the rest is published |
//! | `unreachable` | nothing was sent, so nothing is lost; asks again; queues that die meanwhile are dead queues |
//! | `clock_skew` | nothing: no decision rests on the source's clock |
//!
//! Promises:
//! - orders for a user come before orders for all; among them the oldest that fits is carried out;
//! - a fault that acts on a queue is not used up by a request that names no live queue, and one
//!   that hands events out twice not by a question that has none to hand out twice;
//! - a token request meets the orders for the user whose name it gives;
//! - healing forgets every order.
//!
//! Knows nothing of: queues, HTTP.

mod order;
#[cfg(test)]
mod tests;

pub use order::Order;
pub(super) use order::{Faults, Request};

use serde::{Deserialize, Serialize};

use super::options::LocationForm;

/// The requests that a fault can meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RequestKind {
    /// `GET /queues/{id}`.
    Ask,
    /// `POST /queues/subscribe`.
    Subscribe,
    /// `GET /connections`.
    Connections,
    /// `POST /token`; of a user when it gives a username.
    Token,
}

/// What goes wrong. The table in the head of `fault.rs` says what each does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "snake_case")]
#[expect(missing_docs, reason = "fields are named for what they hold")]
pub enum Fault {
    /// 401.
    Unauthorized,
    /// 401, and the token shown is revoked.
    RevokeToken,
    /// 403.
    Forbidden,
    /// The queue dies now.
    KillQueue,
    /// 429, with `Retry-After` in seconds or without.
    Throttle {
        #[serde(default)]
        retry_after: Option<u64>,
    },
    /// 429 to whatever exceeds so many requests in a second; an order of its own kind, without a share.
    RateLimit { per_second: u32 },
    /// An answer of this status, 500 to 599.
    ServerError { status: u16 },
    /// The body takes so many milliseconds.
    Slow { over_ms: u64 },
    /// A head, then nothing until the client leaves.
    Hang,
    /// Half of the promised body.
    Cut,
    /// A body of so many bytes; `declared`: its length is in the head.
    Oversized {
        bytes: u64,
        #[serde(default)]
        declared: bool,
    },
    /// The body less its last byte.
    InvalidJson,
    /// A page of HTML.
    Html,
    /// No head: the connection is reset.
    Reset,
    /// No head: no byte until the client leaves.
    Vanish,
    /// The first event of the answer again, at its end.
    Duplicate,
    /// The events of the last answer that had new ones, before what waits.
    Repeat,
    /// A `Location` in another form, or none.
    Location { form: LocationForm },
    /// `[]`, and what waits goes on waiting.
    EmptyList,
    /// The events in reverse order.
    Reorder,
    /// Every event of a type nobody knows.
    UnknownType,
    /// The first event lacks this field.
    MissingField { field: String },
}

/// The name of a fault, as it stands in the ledger and the totals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the same names as of `Fault`")]
pub enum FaultName {
    Unauthorized,
    RevokeToken,
    Forbidden,
    KillQueue,
    Throttle,
    RateLimit,
    ServerError,
    Slow,
    Hang,
    Cut,
    Oversized,
    InvalidJson,
    Html,
    Reset,
    Vanish,
    Duplicate,
    Repeat,
    Location,
    EmptyList,
    Reorder,
    UnknownType,
    MissingField,
}

impl Fault {
    /// Its name.
    pub fn name(&self) -> FaultName {
        match self {
            Self::Unauthorized => FaultName::Unauthorized,
            Self::RevokeToken => FaultName::RevokeToken,
            Self::Forbidden => FaultName::Forbidden,
            Self::KillQueue => FaultName::KillQueue,
            Self::Throttle { .. } => FaultName::Throttle,
            Self::RateLimit { .. } => FaultName::RateLimit,
            Self::ServerError { .. } => FaultName::ServerError,
            Self::Slow { .. } => FaultName::Slow,
            Self::Hang => FaultName::Hang,
            Self::Cut => FaultName::Cut,
            Self::Oversized { .. } => FaultName::Oversized,
            Self::InvalidJson => FaultName::InvalidJson,
            Self::Html => FaultName::Html,
            Self::Reset => FaultName::Reset,
            Self::Vanish => FaultName::Vanish,
            Self::Duplicate => FaultName::Duplicate,
            Self::Repeat => FaultName::Repeat,
            Self::Location { .. } => FaultName::Location,
            Self::EmptyList => FaultName::EmptyList,
            Self::Reorder => FaultName::Reorder,
            Self::UnknownType => FaultName::UnknownType,
            Self::MissingField { .. } => FaultName::MissingField,
        }
    }

    /// Can it meet such a request?
    pub fn fits(&self, kind: RequestKind) -> bool {
        match self {
            Self::Unauthorized
            | Self::Forbidden
            | Self::Throttle { .. }
            | Self::RateLimit { .. }
            | Self::ServerError { .. }
            | Self::Reset
            | Self::Vanish => true,
            Self::RevokeToken => kind != RequestKind::Token,
            Self::Slow { .. }
            | Self::Hang
            | Self::Cut
            | Self::Oversized { .. }
            | Self::InvalidJson
            | Self::Html => kind != RequestKind::Subscribe,
            Self::KillQueue
            | Self::Duplicate
            | Self::Repeat
            | Self::Reorder
            | Self::UnknownType
            | Self::MissingField { .. } => kind == RequestKind::Ask,
            Self::Location { .. } => kind == RequestKind::Subscribe,
            Self::EmptyList => matches!(kind, RequestKind::Ask | RequestKind::Connections),
        }
    }

    /// Does it answer with an error head, before the queue is reached?
    fn is_head(&self) -> bool {
        matches!(
            self,
            Self::Unauthorized
                | Self::RevokeToken
                | Self::Forbidden
                | Self::Throttle { .. }
                | Self::RateLimit { .. }
                | Self::ServerError { .. }
        )
    }
}
