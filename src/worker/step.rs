//! What a worker can do outside, and what it can come to.
//!
//! Promises: words only; each step holds all that it needs, so that it can be done by a future of its
//! own.
//!
//! Knows nothing of: how a step is done, and what follows from its outcome.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::admin::{CredentialKind, PutDone, Unserved};
use crate::credential::{Credential, SealedCredential};
use crate::gap::{Cause, Certainty};
use crate::ids::{GapId, QueueId, Timestamp};
use crate::journal::{Lost, RowOf};
use crate::linxo::{CallFault, Refused};
use crate::metrics::PollOutcome;
use crate::subscription::Subscription;

/// How a queue's credential is kept.
#[derive(Clone)]
pub(super) enum HeldCredential {
    /// The bridge's own; nothing to open.
    Client,
    /// The user's token, sealed.
    AccessToken(Arc<SealedCredential>),
    /// The user's name and password, sealed.
    Password(Arc<SealedCredential>),
}

impl HeldCredential {
    pub(super) fn of(subscription: &Subscription) -> Self {
        let kind = &subscription.credential_kind;
        if kind == CredentialKind::Client.as_str() {
            return Self::Client;
        }
        let sealed = SealedCredential::from(subscription.sealed_credential.clone());
        if kind == CredentialKind::Password.as_str() {
            Self::Password(Arc::new(sealed))
        } else {
            Self::AccessToken(Arc::new(sealed))
        }
    }

    pub(super) fn kind(&self) -> CredentialKind {
        match self {
            Self::Client => CredentialKind::Client,
            Self::AccessToken(_) => CredentialKind::AccessToken,
            Self::Password(_) => CredentialKind::Password,
        }
    }
}

/// One question to a queue.
pub(super) struct Question {
    pub(super) of: RowOf,
    pub(super) credential: HeldCredential,
    pub(super) queue: QueueId,
    pub(super) generation: i32,
    /// Start of the last answered question.
    pub(super) answered_before: Timestamp,
    /// The gap that is not reconciled yet.
    pub(super) open_gap: Option<GapId>,
    /// Events that a question since then may have removed.
    pub(super) suspect: Option<Suspect>,
}

/// Events that may have been removed from the queue and never arrived, or may die with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Suspect {
    /// Start of the last answered question before it.
    pub(super) since: Timestamp,
    /// From then on an answer makes a gap of it.
    pub(super) due: Instant,
    /// The id that the next event must have, if nothing was lost and ids are known to be
    /// consecutive.
    pub(super) expected: Option<u64>,
    /// Nothing but a refused credential is behind it, which removes no event: what it says is since
    /// when the queue was not answered, should it be found dead. Any answer lifts it.
    pub(super) is_of_refusal: bool,
}

/// What a question did to a suspicion.
pub(super) enum Suspicion {
    Same,
    Begun(Suspect),
    /// It is published as a gap, or unfounded.
    Over,
}

impl Question {
    /// The gap that a loss belongs to: one that has to be reconciled anyway, or a new one.
    pub(super) fn gap(&self, to_reconcile: bool) -> GapId {
        self.open_gap.clone().filter(|_| to_reconcile).unwrap_or_else(GapId::random)
    }

    /// A loss, up to now. What is certain has to be reconciled; a mere suspicion must not cause
    /// listings, which may themselves start synchronizations.
    pub(super) fn lost(&self, cause: Cause, certainty: Certainty) -> Lost {
        let to_reconcile = certainty == Certainty::Certain;
        Lost {
            gap_id: self.gap(to_reconcile),
            cause,
            certainty,
            from: self.from(),
            to: Timestamp::now(),
            to_reconcile,
        }
    }

    /// Makes it the question that follows it, now that it came to this; whether it was answered.
    pub(super) fn follow(&mut self, came: &Came) -> bool {
        let Came::Asked { outcome, started_at, listing, suspicion, .. } = came else {
            return false;
        };
        if let Some(gap) = listing {
            self.open_gap = Some(gap.clone());
        }
        match suspicion {
            Suspicion::Same => {}
            Suspicion::Begun(suspect) => self.suspect = Some(suspect.clone()),
            Suspicion::Over => self.suspect = None,
        }
        if outcome.is_answer() {
            self.answered_before = *started_at;
        }
        outcome.is_answer()
    }

    /// Since when events may be missing.
    pub(super) fn from(&self) -> Timestamp {
        let suspected = self.suspect.as_ref().map(|suspect| suspect.since);
        suspected.map_or(self.answered_before, |since| since.min(self.answered_before))
    }
}

/// What is to be done outside.
pub(super) enum Step {
    /// Ask the queue.
    Ask(Question),
    /// Make a new queue for a dead one, and publish the gap.
    Replace { of: RowOf, credential: HeldCredential, lost: Lost },
    /// List the connections that close a gap.
    List { of: RowOf, credential: HeldCredential, gap: GapId, queue: QueueId, generation: i32 },
    /// Have it told that events may have been lost that nobody here asked for.
    Miss { of: RowOf, lost: Lost },
    /// Make a new subscription, with a queue to adopt or a new one.
    Subscribe {
        of: RowOf,
        credential: Credential,
        adopt: Option<QueueId>,
        reply: oneshot::Sender<Result<PutDone, Unserved>>,
    },
    /// Give an existing subscription a new credential, and perhaps a queue made elsewhere; the old
    /// one is then asked once more.
    Change {
        question: Question,
        subscription: Box<Subscription>,
        credential: Credential,
        adopt: Option<QueueId>,
        reply: oneshot::Sender<Result<PutDone, Unserved>>,
    },
    /// Remove the subscription.
    Remove { question: Question, reply: oneshot::Sender<Result<(), Unserved>> },
}

/// What a step came to.
pub(super) enum Came {
    Asked {
        outcome: PollOutcome,
        started: Instant,
        started_at: Timestamp,
        retry_after: Option<Duration>,
        /// A gap that has to be closed by a listing.
        listing: Option<GapId>,
        /// Whether a synchronization was seen to start (true) or end (false), or to go on.
        sign: Option<bool>,
        suspicion: Suspicion,
        /// Why the user is blocked.
        refused: Option<Refused>,
    },
    /// The question could not be written down, so it was not asked.
    NotAsked,
    /// A dead queue has a successor; why it died.
    Replaced {
        queue: QueueId,
        gap: GapId,
        cause: Cause,
    },
    Listed,
    /// A loss is told of, and has to be closed by a listing.
    Missed(GapId),
    Failed(CallFault),
    /// The connections could not be listed.
    Unlisted(CallFault),
    Subscribed(Box<Subscription>),
    CredentialChanged(Box<Subscription>),
    /// A queue made elsewhere took the place of the old one; perhaps with a gap to close.
    Adopted {
        subscription: Box<Subscription>,
        queue: QueueId,
        gap: Option<GapId>,
    },
    NotSubscribed,
    Removed,
    Unchanged,
}

impl Came {
    /// What is left of it when its queue was read from the topics anew meanwhile: what was asked was
    /// asked, and what was published was published after that. Another owner's recovery is not undone.
    pub(super) fn outlives_reload(self) -> Self {
        match self {
            Self::Asked { .. }
            | Self::NotAsked
            | Self::Missed(_)
            | Self::Subscribed(_)
            | Self::CredentialChanged(_)
            | Self::Adopted { .. }
            | Self::Removed => self,
            Self::Replaced { .. }
            | Self::Listed
            | Self::Failed(_)
            | Self::Unlisted(_)
            | Self::NotSubscribed
            | Self::Unchanged => Self::Unchanged,
        }
    }
}

/// A finished step.
pub(super) struct Done {
    pub(super) index: u32,
    pub(super) came: Came,
    /// What questions to the queue came to while a change waited for Kafka, in order.
    pub(super) meanwhile: Vec<Came>,
    pub(super) reply: Option<Reply>,
}

/// A reply that waits until the worker has taken in the change.
pub(super) enum Reply {
    Put(oneshot::Sender<Result<PutDone, Unserved>>, Result<PutDone, Unserved>),
    Removed(oneshot::Sender<Result<(), Unserved>>, Result<(), Unserved>),
}

impl Reply {
    pub(super) fn send(self) {
        match self {
            Self::Put(reply, result) => answer(reply, result),
            Self::Removed(reply, result) => answer(reply, result),
        }
    }
}

/// Answers a caller, who may have gone: then nobody is left to tell.
pub(super) fn answer<T>(reply: oneshot::Sender<T>, value: T) {
    drop(reply.send(value));
}
