//! The steps a worker takes outside: each is one future that talks to the source, has the answer
//! kept, and says what it came to.
//!
//! Promises:
//! - an answer that may have been removed from its queue is kept before anything else is done;
//! - a new queue is made before the connections are listed, and the gap is published with it;
//! - a credential is open only while its request is made.
//!
//! Knows nothing of: schedules; what a step's outcome means for the next one.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::change::{change, remove, subscribe};
use super::command::Reply;
use super::queue::HeldCredential;
use crate::admin::{PutDone, Unserved};
use crate::budget::{Budget, Slot};
use crate::credential::{Credential, KeyRing};
use crate::event;
use crate::gap::{Cause, Certainty};
use crate::ids::{GapId, QueueId, Timestamp, UserId};
use crate::journal::{Answer, AnswerKind, Change, Journal, Lost, RowOf, Unsettled};
use crate::kafka::Reach;
use crate::linxo::{Asked, Bearer, CallFault, Room, Source};
use crate::metrics::{DeadLetterReason, Metrics, PollOutcome};
use crate::pulse::Pulse;
use crate::schedule::Pace;
use crate::subscription::Subscription;

/// What workers share: the ways out of the process, and how to behave.
pub struct Outside {
    /// The source.
    pub source: Source,
    /// Memory for answers in flight.
    pub room: Room,
    /// Where answers are kept.
    pub journal: Journal,
    /// Who may ask when.
    pub budget: Budget,
    /// Opens and seals credentials.
    pub keys: KeyRing,
    /// The intervals.
    pub pace: Pace,
    /// Whether Kafka answers.
    pub reach: Reach,
    /// Every number we show.
    pub metrics: Arc<Metrics>,
    /// That workers make progress.
    pub pulse: Arc<Pulse>,
    /// This instance, as the admin API shows it.
    pub instance_id: String,
}

/// One question to a queue.
pub(super) struct Question {
    pub(super) of: RowOf,
    pub(super) credential: HeldCredential,
    pub(super) queue: QueueId,
    pub(super) generation: i32,
    pub(super) owner_epoch: i64,
    /// Start of the last answered question.
    pub(super) answered_before: Timestamp,
    /// The gap that is not reconciled yet.
    pub(super) open_gap: Option<GapId>,
    /// Whether a question since then may have removed events that never arrived.
    pub(super) is_answer_suspected: bool,
}

impl Question {
    /// The gap that a loss belongs to: one that has to be reconciled anyway, or a new one.
    pub(super) fn gap(&self, to_reconcile: bool) -> GapId {
        self.open_gap.clone().filter(|_| to_reconcile).unwrap_or_else(GapId::random)
    }
}

/// What is to be done outside.
pub(super) enum Step {
    /// Ask the queue.
    Ask(Question),
    /// Make a new queue for a dead one, and publish the gap.
    Replace { of: RowOf, credential: HeldCredential, lost: Lost },
    /// List the connections that close a gap.
    List {
        of: RowOf,
        credential: HeldCredential,
        gap: GapId,
        queue: QueueId,
        generation: i32,
        owner_epoch: i64,
    },
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
    Remove { of: RowOf, reply: oneshot::Sender<Result<(), Unserved>> },
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
    },
    /// A dead queue has a successor; why it died.
    Replaced {
        queue: QueueId,
        gap: GapId,
        cause: Cause,
    },
    Listed,
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

/// A finished step.
pub(super) struct Done {
    pub(super) index: u32,
    pub(super) came: Came,
    pub(super) reply: Option<Reply>,
}

/// Does one step for the queue at `index`.
pub(super) async fn perform(
    outside: Arc<Outside>,
    index: u32,
    step: Step,
    slot: Option<Slot>,
) -> Done {
    let (came, reply) = match step {
        Step::Ask(question) => (ask(&outside, &question, slot).await, None),
        Step::Replace { of, credential, lost } => {
            (replace(&outside, of, &credential, lost, slot).await, None)
        }
        Step::List { of, credential, gap, queue, generation, owner_epoch } => {
            let listed =
                list(&outside, of, &credential, (gap, queue, generation, owner_epoch), slot).await;
            (listed, None)
        }
        Step::Subscribe { of, credential, adopt, reply } => {
            let (came, result) = match subscribe(&outside, of, &credential, adopt).await {
                Ok((came, done)) => (came, Ok(done)),
                Err(unserved) => (Came::NotSubscribed, Err(unserved)),
            };
            (came, Some(Reply::Put(reply, result)))
        }
        Step::Change { question, subscription, credential, adopt, reply } => {
            let (came, result) =
                match change(&outside, question, subscription, &credential, adopt).await {
                    Ok((came, done)) => (came, Ok(done)),
                    Err(unserved) => (Came::Unchanged, Err(unserved)),
                };
            (came, Some(Reply::Put(reply, result)))
        }
        Step::Remove { of, reply } => match remove(&outside, of).await {
            Ok(()) => (Came::Removed, Some(Reply::Removed(reply, Ok(())))),
            Err(unserved) => (Came::Unchanged, Some(Reply::Removed(reply, Err(unserved)))),
        },
    };
    Done { index, came, reply }
}

async fn ask(outside: &Outside, question: &Question, slot: Option<Slot>) -> Came {
    let opened = outside.open(&question.of.user, &question.credential);
    ask_with(outside, question, opened.as_ref(), slot).await
}

pub(super) async fn ask_with(
    outside: &Outside,
    question: &Question,
    credential: Option<&Credential>,
    slot: Option<Slot>,
) -> Came {
    let started = Instant::now();
    let started_at = Timestamp::now();
    let asked = match credential {
        Some(opened) => {
            let bearer = bearer(opened);
            let asking =
                outside.source.ask(&question.of.user, bearer, &question.queue, &outside.room);
            asking.await
        }
        None => Asked::Unauthorized,
    };
    // the answer is in: somebody else may ask
    drop(slot);
    let outcome = asked.outcome();
    outside.metrics.poll_finished(outcome, started.elapsed());
    let received = |kind, body| Answer {
        queue: question.queue.clone(),
        generation: question.generation,
        owner_epoch: question.owner_epoch,
        asked_at: started_at,
        received_at: Timestamp::now(),
        received: Instant::now(),
        kind,
        body,
    };
    let lost = |certainty, to_reconcile| Lost {
        gap_id: question.gap(to_reconcile),
        cause: Cause::AnswerLost,
        certainty,
        from: question.answered_before,
        to: Timestamp::now(),
        to_reconcile,
    };

    let mut came = (None, None, None);
    let change = match asked {
        Asked::Events(body) => {
            let body = body.into_bytes();
            came.2 = Some(event::sync_sign_of_answer(&body) != Some(event::SyncSign::Ended));
            Some(Change::Answered(received(AnswerKind::Events, body)))
        }
        Asked::Malformed(body) => {
            let kind = AnswerKind::Unreadable(DeadLetterReason::Malformed);
            Some(Change::Answered(received(kind, body.into_bytes())))
        }
        Asked::Broken { start } => {
            let lost = lost(Certainty::Certain, true);
            came.1 = Some(lost.gap_id.clone());
            let kind = AnswerKind::Unreadable(DeadLetterReason::Malformed);
            Some(Change::AnswerLost(received(kind, start.into_bytes()), lost))
        }
        Asked::Oversized { start, .. } => {
            let lost = lost(Certainty::Certain, true);
            came.1 = Some(lost.gap_id.clone());
            let kind = AnswerKind::Unreadable(DeadLetterReason::Oversized);
            Some(Change::AnswerLost(received(kind, start.into_bytes()), lost))
        }
        Asked::Throttled { retry_after } | Asked::ServerError { retry_after, .. } => {
            came.0 = retry_after;
            None
        }
        Asked::Empty
        | Asked::EmptyList
        | Asked::Dead { .. }
        | Asked::Unauthorized
        | Asked::Forbidden => None,
        Asked::Timeout { sent } | Asked::TransportError { sent } => {
            if !sent {
                // nothing reached the source, so nothing can have been removed
                return Came::Failed(CallFault::Retry {
                    what: "the source was not reached".into(),
                });
            }
            None
        }
    };
    if outcome.is_answer() && question.is_answer_suspected {
        // before what follows it, as that is the order in which it happened
        let suspected = Change::AnswerLost(
            received(AnswerKind::Events, Vec::new()),
            lost(Certainty::Possible, false),
        );
        outside.keep(question.of.clone(), suspected).await;
    }
    if let Some(change) = change {
        outside.keep(question.of.clone(), change).await;
    }
    let (retry_after, listing, sign) = came;
    Came::Asked { outcome, started, started_at, retry_after, listing, sign }
}

async fn replace(
    outside: &Outside,
    of: RowOf,
    credential: &HeldCredential,
    mut lost: Lost,
    slot: Option<Slot>,
) -> Came {
    let Some(opened) = outside.open(&of.user, credential) else {
        return Came::Failed(CallFault::Refused { status: 401, code: String::new() });
    };
    let subscribed = outside.source.subscribe(&of.user, bearer(&opened)).await;
    drop(slot);
    let queue = match subscribed {
        Ok(queue) => queue,
        Err(fault) => return Came::Failed(fault),
    };
    lost.to = Timestamp::now();
    let (gap, cause) = (lost.gap_id.clone(), lost.cause);
    outside.keep(of, Change::QueueReplaced { next: queue.clone(), lost }).await;
    Came::Replaced { queue, gap, cause }
}

async fn list(
    outside: &Outside,
    of: RowOf,
    credential: &HeldCredential,
    (gap, queue, generation, owner_epoch): (GapId, QueueId, i32, i64),
    slot: Option<Slot>,
) -> Came {
    let Some(opened) = outside.open(&of.user, credential) else {
        return Came::Unlisted(CallFault::Refused { status: 401, code: String::new() });
    };
    let asked_at = Timestamp::now();
    let listed = outside.source.connections(&of.user, bearer(&opened), &outside.room).await;
    drop(slot);
    let body = match listed {
        Ok(body) => body.into_bytes(),
        Err(fault) => return Came::Unlisted(fault),
    };
    if event::decode_connections(&body).is_err() {
        let what = "the listing of connections is no json list".to_owned();
        return Came::Unlisted(CallFault::Unusable { what });
    }
    let answer = Answer {
        queue,
        generation,
        owner_epoch,
        asked_at,
        received_at: Timestamp::now(),
        received: Instant::now(),
        kind: AnswerKind::Connections(gap),
        body,
    };
    outside.keep(of, Change::Answered(answer)).await;
    Came::Listed
}

impl Outside {
    /// Opens a credential; none when no key opens it, which only the key file can mend.
    fn open(&self, user: &UserId, credential: &HeldCredential) -> Option<Credential> {
        match credential {
            HeldCredential::Client => Some(Credential::Client),
            HeldCredential::Sealed(sealed) => match self.keys.open(user, sealed) {
                Ok(opened) => Some(opened),
                Err(error) => {
                    tracing::error!(%user, %error, "credential cannot be opened");
                    None
                }
            },
        }
    }

    pub(super) fn seal(&self, user: &UserId, credential: &Credential) -> Result<Vec<u8>, Unserved> {
        self.keys
            .seal(user, credential)
            .map(|sealed| sealed.as_bytes().to_vec())
            .map_err(|error| Unserved::InvalidCredential { what: error.to_string() })
    }

    /// Has a change kept. An answer whose partition went to another owner has been published late
    /// by then, and one cut off by the stop is among what a stop may lose, so both end here.
    async fn keep(&self, of: RowOf, change: Change) {
        let user = of.user.clone();
        match self.journal.keep(of, change).await {
            Ok(()) | Err(Unsettled::NotOwned) => {}
            Err(Unsettled::Stopped) => {
                tracing::warn!(%user, "an answer was not known to be published when the bridge stopped");
            }
        }
    }
}

pub(super) fn bearer(credential: &Credential) -> Bearer<'_> {
    match credential {
        Credential::AccessToken { access_token, .. } => Bearer::Token(access_token.expose()),
        Credential::Client => Bearer::Client,
    }
}
