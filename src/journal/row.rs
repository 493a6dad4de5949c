//! One row: what happened to one user, on its way to the publisher.
//!
//! Promises: a row's memory is given back when the row is dropped, settled or not.
//!
//! Knows nothing of: how it is decoded and published.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::time::Instant;

use crate::gap::{Cause, Certainty};
use crate::ids::{GapId, QueueId, SubscriptionId, Timestamp, UserId};
use crate::metrics::DeadLetterReason;
use crate::subscription::Subscription;

/// Whom a row is about.
#[derive(Clone, Debug)]
pub struct RowOf {
    /// The user.
    pub user: UserId,
    /// The user's control partition.
    pub partition: i32,
    /// The grant by which the partition was ours when it happened.
    pub grant: u64,
    /// The subscription under which it happened.
    pub subscription_id: SubscriptionId,
}

/// What one GET returned, as received.
#[derive(Debug)]
pub struct Answer {
    /// The queue that was asked.
    pub queue: QueueId,
    /// The queue's generation.
    pub generation: i32,
    /// How often the user had been taken over when it was asked.
    pub owner_epoch: i64,
    /// When the question began.
    pub asked_at: Timestamp,
    /// When the answer was in.
    pub received_at: Timestamp,
    /// The same on the clock that never jumps, for durations.
    pub received: Instant,
    /// What kind of bytes these are.
    pub kind: AnswerKind,
    /// The bytes.
    pub body: Vec<u8>,
}

/// What the bytes of an answer are.
#[derive(Debug)]
pub enum AnswerKind {
    /// Events of the queue.
    Events,
    /// Bytes that are no list: a dead letter as a whole.
    Unreadable(DeadLetterReason),
    /// The listing of the user's connections that closes this gap.
    Connections(GapId),
}

/// Events that were or may have been lost, between two moments of the bridge's clock.
#[derive(Clone, Debug)]
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
#[derive(Debug)]
pub enum Change {
    /// An answer was received.
    Answered(Answer),
    /// Part of an answer was lost: a gap, and the start of the body, if any was read.
    AnswerLost(Answer, Lost),
    /// The queue died and `next` took its place.
    QueueReplaced {
        /// The new queue.
        next: QueueId,
        /// What may have been lost.
        lost: Lost,
    },
    /// A new wish, with its first queue.
    Subscribed(Box<Subscription>),
    /// The subscription record changed: a new credential.
    CredentialChanged(Box<Subscription>),
    /// The user's queue is now one that was made elsewhere.
    Adopted(Box<Subscription>, QueueId),
    /// The wish is no more.
    Removed,
}

impl Change {
    /// The bytes of the body, if there is one.
    pub fn body_bytes(&self) -> usize {
        match self {
            Self::Answered(answer) | Self::AnswerLost(answer, _) => answer.body.len(),
            Self::Subscribed(subscription)
            | Self::CredentialChanged(subscription)
            | Self::Adopted(subscription, _) => subscription.sealed_credential.len(),
            Self::QueueReplaced { .. } | Self::Removed => 0,
        }
    }
}

/// What became of a row. A failure cannot be taken for success.
pub type Settled = Result<(), Unsettled>;

/// Why a row is not known to be published.
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
    /// Its number; rises by one.
    pub number: u64,
    /// Whom it is about.
    pub of: RowOf,
    /// What happened.
    pub change: Change,
    /// Told what became of it.
    pub settle: oneshot::Sender<Settled>,
    /// The memory it takes.
    pub held: Held,
}

impl Row {
    /// When its answer was received; none when it is no answer.
    pub fn received_at(&self) -> Option<Timestamp> {
        match &self.change {
            Change::Answered(answer) | Change::AnswerLost(answer, _) => Some(answer.received_at),
            Change::QueueReplaced { .. }
            | Change::Subscribed(_)
            | Change::CredentialChanged(_)
            | Change::Adopted(..)
            | Change::Removed => None,
        }
    }
}

/// The memory of a row, given back when dropped.
#[derive(Debug)]
pub struct Held {
    #[expect(dead_code, reason = "held for its drop")]
    room: Option<OwnedSemaphorePermit>,
    bytes: u64,
    kept_bytes: Arc<AtomicU64>,
    kept_rows: Arc<AtomicU64>,
}

impl Held {
    pub(super) fn new(
        room: Option<OwnedSemaphorePermit>,
        bytes: u64,
        kept_bytes: &Arc<AtomicU64>,
        kept_rows: &Arc<AtomicU64>,
    ) -> Self {
        kept_bytes.fetch_add(bytes, Ordering::Relaxed);
        kept_rows.fetch_add(1, Ordering::Relaxed);
        Self { room, bytes, kept_bytes: Arc::clone(kept_bytes), kept_rows: Arc::clone(kept_rows) }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.kept_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        self.kept_rows.fetch_sub(1, Ordering::Relaxed);
    }
}
