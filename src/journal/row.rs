//! One row: what happened to one user, on its way to the publisher.
//!
//! Promises: words only. What a row is about is text; the bytes of an answer stay as they came.
//!
//! Knows nothing of: how rows are kept, how they are decoded and published.

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::gap::{Cause, Certainty};
use crate::ids::{GapId, QueueId, SubscriptionId, Timestamp, UserId};
use crate::metrics::DeadLetterReason;
use crate::subscription::Subscription;

/// Whom a row is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowOf {
    /// The user.
    pub user: UserId,
    /// The user's control partition.
    pub partition: i32,
    /// How often the user had been taken over when it happened: whoever took over since then may
    /// have published what came later.
    pub owner_epoch: i64,
    /// The subscription under which it happened.
    pub subscription_id: SubscriptionId,
}

/// What one GET returned, as received.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The queue that was asked.
    pub queue: QueueId,
    /// The queue's generation.
    pub generation: i32,
    /// When the question began.
    pub asked_at: Timestamp,
    /// When the answer was in.
    pub received_at: Timestamp,
    /// The same on the clock that never jumps, for durations; none when another process received it.
    pub received: Option<Instant>,
    /// What kind of bytes these are.
    pub kind: AnswerKind,
    /// The bytes.
    pub body: Vec<u8>,
}

/// What the bytes of an answer are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AnswerKind {
    /// Events of the queue.
    Events,
    /// Bytes that are no list: a dead letter as a whole.
    Unreadable(DeadLetterReason),
    /// The listing of the user's connections that closes this gap.
    Connections(GapId),
}

/// Events that were or may have been lost, between two moments of the bridge's clock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lost {
    /// The gap it is published as.
    pub gap_id: GapId,
    /// Why.
    pub cause: Cause,
    /// How surely.
    pub certainty: Certainty,
    /// Start of the last answered question.
    pub from: Timestamp,
    /// When the queue answered again, or the loss was noticed.
    pub to: Timestamp,
    /// Whether the present state has to be listed; a mere suspicion must not cause listings.
    pub to_reconcile: bool,
}

/// What happened to a user.
#[derive(Clone, Debug)]
pub enum Change {
    /// An answer was received.
    Answered(Answer),
    /// Part of an answer was lost: a gap, and the start of the body, if any was read.
    AnswerLost(Answer, Lost),
    /// Events were or may have been lost that no answer tells of.
    Missed(Lost),
    /// The queue died and `next` took its place.
    QueueReplaced {
        /// The new queue.
        next: QueueId,
        /// What may have been lost.
        lost: Lost,
    },
    /// A question was not answered, and may have removed events from the queue.
    Suspected {
        /// Start of the last answered question.
        since: Timestamp,
        /// When the question was given up.
        at: Timestamp,
    },
    /// What was suspected proves to be unfounded.
    Unsuspected,
    /// A new wish, with its first queue.
    Subscribed(Box<Subscription>),
    /// The subscription record changed: a new credential.
    CredentialChanged(Box<Subscription>),
    /// The user's queue is now one that was made elsewhere; what the old one may have lost.
    Adopted(Box<Subscription>, QueueId, Option<Lost>),
    /// The wish is no more.
    Removed,
    /// Any of the last four, as another process was asked for it: whoever asked was told nothing,
    /// and asks again.
    Withdrawn,
}

impl Change {
    /// Whether somebody asked for it, who is told when it is published and not before.
    pub fn is_asked(&self) -> bool {
        match self {
            Self::Subscribed(_)
            | Self::CredentialChanged(_)
            | Self::Adopted(..)
            | Self::Removed => true,
            Self::Answered(_)
            | Self::AnswerLost(..)
            | Self::Missed(_)
            | Self::QueueReplaced { .. }
            | Self::Suspected { .. }
            | Self::Unsuspected
            | Self::Withdrawn => false,
        }
    }

    /// The answer it tells of, if it tells of one.
    pub fn answer(&self) -> Option<&Answer> {
        match self {
            Self::Answered(answer) | Self::AnswerLost(answer, _) => Some(answer),
            Self::Missed(_)
            | Self::QueueReplaced { .. }
            | Self::Suspected { .. }
            | Self::Unsuspected
            | Self::Subscribed(_)
            | Self::CredentialChanged(_)
            | Self::Adopted(..)
            | Self::Removed
            | Self::Withdrawn => None,
        }
    }
}

/// What became of a row. A failure cannot be taken for success.
pub type Settled = Result<(), Unsettled>;

/// Why a row is not known to be kept, or published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unsettled {
    /// The partition has another owner: a change of a subscription was not made.
    #[error("the partition is no longer owned")]
    NotOwned,
    /// The bridge stops; whether it was published is not known.
    #[error("the bridge stops")]
    Stopped,
}

/// A change on its way.
#[derive(Debug)]
pub struct Row {
    /// Its number; rises, and never repeats.
    pub number: u64,
    /// Bytes of all rows up to this one, from the first that the journal ever held.
    pub end: u64,
    /// Whom it is about.
    pub of: RowOf,
    /// What happened.
    pub change: Change,
    /// When it was on disk; none when it was read back from there.
    pub synced: Option<Instant>,
    /// Told when it is published, if somebody asked for it.
    pub settle: Option<oneshot::Sender<Settled>>,
}

impl Row {
    /// When its answer was received; none when it is no answer.
    pub fn received_at(&self) -> Option<Timestamp> {
        self.change.answer().map(|answer| answer.received_at)
    }
}
