//! What is known of one user's queue, and what comes next for it.
//!
//! Promises: decisions only; nothing here talks to anyone. What a step came to goes in, the time
//! of the next step comes out.
//!
//! Knows nothing of: the wheel, the budget, the source's client.

mod loaded;
mod shown;
mod timing;

use tokio::time::Instant;

pub use self::loaded::Loaded;
use self::timing::backoff;
use super::step::{Came, HeldCredential, Question, Step, Suspect, Suspicion};
use crate::admin::LastAnswer;
use crate::gap::{Cause, Certainty};
use crate::ids::{GapId, QueueId, SubscriptionId, Timestamp, UserId};
use crate::journal::{Lost, RowOf};
use crate::linxo::{CallFault, Refused};
use crate::metrics::PollOutcome;
use crate::sabotage::{self, Guard};
use crate::schedule::{Class, Pace, phase_of};
use crate::subscription::Subscription;

/// What is under way for a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Doing {
    /// Nothing; it is in the wheel.
    Idle,
    /// It is due and waits for budget of this class.
    Waiting(Class),
    /// A step is under way.
    Busy,
}

/// What the next step is for, beside asking.
#[derive(Clone, Debug, PartialEq)]
enum Need {
    Nothing,
    /// The queue is dead: a new one has to be made.
    NewQueue(Cause),
    /// The present state has to be listed to close the open gap, not before `at`.
    Listing {
        at: Instant,
        failures: u8,
    },
}

/// What follows a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// The queue's next step is due then.
    At(Instant),
    /// The user is no longer watched.
    Gone,
}

/// One user's queue.
pub(super) struct Queue {
    pub(super) user: UserId,
    pub(super) subscription_id: SubscriptionId,
    pub(super) queue: QueueId,
    pub(super) generation: i32,
    pub(super) credential: HeldCredential,
    pub(super) created_at: Timestamp,
    /// The queue of generation 1, as the control topic has it.
    pub(super) first_queue: QueueId,
    pub(super) phase: u64,
    pub(super) due: Instant,
    /// Start of the last answered question, on the clock that never jumps.
    pub(super) asked: Option<Instant>,
    /// The same by the wall clock; after a restart what is known at least.
    asked_at: Timestamp,
    /// The same; of a queue that an owner before us asked the moment of its phase, which says more
    /// unless a clock was set meanwhile.
    pub(super) asked_likely: Timestamp,
    pub(super) doing: Doing,
    owner_epoch: i64,
    active_until: Option<Instant>,
    last: Option<LastAnswer>,
    need: Need,
    /// The gap that was published and is not reconciled yet; further losses until then widen it.
    open_gap: Option<GapId>,
    blocked: Option<Box<Refused>>,
    /// Whether the credential was refused since the last answer.
    was_refused: bool,
    /// Events that a question may have removed and that never arrived.
    suspect: Option<Box<Suspect>>,
    empties: u8,
    failures: u8,
    /// Whether the first PUT is still under way.
    is_subscribing: bool,
}

impl Queue {
    /// A user whose first PUT is under way.
    pub(super) fn subscribing(user: UserId) -> Self {
        let now = Timestamp::now();
        Self::new(
            &Subscription {
                user_id: user,
                subscription_id: SubscriptionId::random(),
                queue_id: QueueId::from(""),
                credential_kind: String::new(),
                sealed_credential: Vec::new(),
                created_at: now,
                updated_at: now,
            },
            now,
        )
    }

    fn new(subscription: &Subscription, asked_at: Timestamp) -> Self {
        Self {
            phase: phase_of(&subscription.user_id),
            user: subscription.user_id.clone(),
            subscription_id: subscription.subscription_id.clone(),
            queue: subscription.queue_id.clone(),
            first_queue: subscription.queue_id.clone(),
            generation: 1,
            credential: HeldCredential::of(subscription),
            created_at: subscription.created_at,
            due: Instant::now(),
            asked: None,
            asked_at,
            asked_likely: asked_at,
            doing: Doing::Idle,
            owner_epoch: 1,
            active_until: None,
            last: None,
            need: Need::Nothing,
            open_gap: None,
            blocked: None,
            was_refused: false,
            suspect: None,
            empties: 0,
            failures: 0,
            is_subscribing: true,
        }
    }

    /// Whether the queue waits for no phase: a synchronization may run, or a recovery was begun.
    pub(super) fn is_pressing(&self) -> bool {
        self.active_until.is_some() || self.need != Need::Nothing
    }

    /// Whether the first PUT is still under way, so that nobody may see the user yet.
    pub(super) fn is_subscribing(&self) -> bool {
        self.is_subscribing
    }

    /// Whom rows of this queue are about.
    pub(super) fn row_of(&self, partition: i32) -> RowOf {
        RowOf {
            user: self.user.clone(),
            partition,
            owner_epoch: self.owner_epoch,
            subscription_id: self.subscription_id.clone(),
        }
    }

    /// What to do now that the budget allows something of this class.
    pub(super) fn step(&self, class: Class, partition: i32) -> Step {
        let user = self.row_of(partition);
        let credential = self.credential.clone();
        match &self.need {
            Need::NewQueue(cause) => {
                Step::Replace { of: user, credential, lost: self.lost(*cause) }
            }
            Need::Listing { .. } if class == Class::Reconciliation => Step::List {
                of: user,
                credential,
                gap: self.open_gap.clone().unwrap_or_else(GapId::random),
                queue: self.queue.clone(),
                generation: self.generation,
            },
            Need::Nothing | Need::Listing { .. } => Step::Ask(self.question(partition)),
        }
    }

    /// A question to the queue as it is.
    pub(super) fn question(&self, partition: i32) -> Question {
        Question {
            of: self.row_of(partition),
            credential: self.credential.clone(),
            queue: self.queue.clone(),
            generation: self.generation,
            answered_before: self.asked_at,
            open_gap: self.open_gap.clone(),
            suspect: self.suspect.as_deref().cloned(),
        }
    }

    /// Takes in what a step came to; answers when the next one is due.
    pub(super) fn settle(&mut self, came: Came, pace: &Pace) -> Next {
        let now = Instant::now();
        match came {
            Came::NotAsked => return Next::At(now + pace.no_room()),
            Came::Asked {
                outcome,
                started,
                started_at,
                retry_after,
                listing,
                sign,
                suspicion,
                refused,
            } => {
                self.last = Some(LastAnswer { at: Timestamp::now(), outcome });
                if let Some(refused) = refused {
                    self.block(refused);
                }
                self.settle_asked(outcome, started, started_at, now, pace);
                match suspicion {
                    Suspicion::Same => {}
                    Suspicion::Begun(suspect) => self.suspect = Some(Box::new(suspect)),
                    Suspicion::Over => self.suspect = None,
                }
                if let Some(gap) = listing {
                    self.open(gap, now);
                }
                match sign {
                    Some(true) => self.active_until = Some(now + pace.active_for),
                    Some(false) => self.active_until = None,
                    None => {}
                }
                if let Some(pause) = retry_after {
                    return Next::At(self.not_too_late(now, pause, pace));
                }
            }
            Came::Replaced { queue, gap, .. } => {
                self.adopt(queue, now, pace);
                if sabotage::is_off(Guard::Reconciliation) {
                    self.need = Need::Nothing;
                } else {
                    self.open(gap, now);
                }
            }
            Came::Listed => {
                self.need = Need::Nothing;
                self.open_gap = None;
                self.active_until = Some(now + pace.active_for);
            }
            Came::Missed(gap) if self.needs_queue() => self.open_gap = Some(gap),
            Came::Missed(gap) => self.open(gap, now),
            Came::Failed(fault) => return self.fail(fault, now, pace),
            Came::Unlisted(fault) => self.postpone_listing(&fault, now, pace),
            Came::Subscribed(subscription) => {
                *self = Self::new(&subscription, subscription.created_at);
                self.is_subscribing = false;
                self.asked = Some(now);
                self.active_until = Some(now + pace.active_for);
                return Next::At(now + pace.active);
            }
            Came::CredentialChanged(subscription) => {
                self.credential = HeldCredential::of(&subscription);
                if let Need::Listing { at, .. } = &mut self.need {
                    *at = now;
                }
                if self.blocked.take().is_some() {
                    return Next::At(now);
                }
            }
            Came::Adopted { subscription, queue, gap } => {
                self.credential = HeldCredential::of(&subscription);
                self.adopt(queue, now, pace);
                match gap {
                    Some(gap) => self.open(gap, now),
                    None if self.open_gap.is_some() => self.need = Need::listing(now),
                    None => self.need = Need::Nothing,
                }
                return Next::At(now);
            }
            Came::NotSubscribed | Came::Removed => return Next::Gone,
            Came::Unchanged => {}
        }
        Next::At(self.next_due(now, pace))
    }

    /// Expects a synchronization: asked often for a while, from `now` on.
    pub(super) fn hint(&mut self, now: Instant, pace: &Pace) {
        self.active_until = Some(now + pace.active_for);
        self.empties = 0;
    }

    fn settle_asked(
        &mut self,
        outcome: PollOutcome,
        started: Instant,
        started_at: Timestamp,
        now: Instant,
        pace: &Pace,
    ) {
        match outcome {
            PollOutcome::Events
            | PollOutcome::Empty
            | PollOutcome::EmptyList
            | PollOutcome::Broken
            | PollOutcome::Oversized => {
                self.asked = Some(started);
                self.asked_at = started_at;
                self.failures = 0;
                self.blocked = None;
                self.was_refused = false;
                let is_empty = matches!(outcome, PollOutcome::Empty | PollOutcome::EmptyList);
                self.empties = if is_empty { self.empties.saturating_add(1) } else { 0 };
                if self.is_active(now) {
                    self.empties = 0;
                }
            }
            PollOutcome::Dead => {
                self.failures = 0;
                // the source looked: the credential, if it was refused before, is not now
                self.blocked = None;
                self.need = Need::NewQueue(self.death_cause(pace));
                tracing::warn!(
                    user = %self.user, queue = %self.queue, cause = self.death_cause(pace).as_str(),
                    "queue died, making a new one"
                );
            }
            // blocked already
            PollOutcome::Unauthorized | PollOutcome::Forbidden => {}
            // a page in place of a list may come from before the queue, or be the queue's last word
            PollOutcome::Timeout | PollOutcome::TransportError | PollOutcome::Malformed => {
                self.failures = self.failures.saturating_add(1);
            }
            PollOutcome::Throttled | PollOutcome::ServerError => {
                self.failures = self.failures.saturating_add(1);
            }
        }
    }

    fn fail(&mut self, fault: CallFault, now: Instant, pace: &Pace) -> Next {
        self.failures = self.failures.saturating_add(1);
        let pause = match &fault {
            CallFault::Refused(refused) => {
                self.block(refused.clone());
                return Next::At(now + pace.credential_retry);
            }
            CallFault::Throttled { retry_after: Some(pause) } => {
                return Next::At(self.not_too_late(now, *pause, pace));
            }
            CallFault::Throttled { retry_after: None }
            | CallFault::Retry { .. }
            | CallFault::Unusable { .. } => self.backoff(now, pace),
        };
        if matches!(fault, CallFault::Unusable { .. }) {
            tracing::error!(user = %self.user, queue = %self.queue, error = %fault, "recovery does not get on");
        }
        Next::At(now + pause)
    }

    /// Has the listing wait. The queue itself goes on being asked: whoever may not list, or finds
    /// the listing out of order, can still read the queue, and must for it to live.
    fn postpone_listing(&mut self, fault: &CallFault, now: Instant, pace: &Pace) {
        let Need::Listing { at, failures } = &mut self.need else { return };
        *failures = failures.saturating_add(1);
        let pause = match fault {
            CallFault::Refused(_) => pace.credential_retry,
            CallFault::Throttled { retry_after: Some(pause) } => *pause,
            CallFault::Throttled { retry_after: None }
            | CallFault::Retry { .. }
            | CallFault::Unusable { .. } => backoff(*failures, pace),
        };
        *at = now + pause;
        if *failures == 1 {
            tracing::warn!(user = %self.user, error = %fault, "connections cannot be listed, the gap stays open");
        }
    }

    fn open(&mut self, gap: GapId, now: Instant) {
        self.open_gap = Some(gap);
        self.need = Need::listing(now);
    }

    fn adopt(&mut self, queue: QueueId, now: Instant, pace: &Pace) {
        self.queue = queue;
        self.generation += 1;
        self.blocked = None;
        self.asked = Some(now);
        self.asked_at = Timestamp::now();
        self.failures = 0;
        self.empties = 0;
        self.was_refused = false;
        self.suspect = None;
        self.active_until = Some(now + pace.active_for);
    }

    fn block(&mut self, refused: Refused) {
        if self.blocked.as_ref().is_none_or(|blocked| **blocked != refused) {
            tracing::warn!(user = %self.user, queue = %self.queue, reason = %refused, "user is blocked");
        }
        self.blocked = Some(Box::new(refused));
        self.was_refused = true;
        self.failures = 0;
    }

    fn death_cause(&self, pace: &Pace) -> Cause {
        if self.was_refused {
            Cause::CredentialRefused
        } else if Timestamp::now().since(self.asked_at) >= pace.queue_lifetime {
            Cause::QueueExpired
        } else {
            Cause::QueueGone
        }
    }

    /// The loss of what another instance had received between two moments and will not publish; none
    /// when the wish is younger.
    pub(super) fn missed(&self, from: Timestamp, to: Timestamp) -> Option<Lost> {
        (self.created_at < to).then(|| Lost {
            gap_id: self.open_gap.clone().unwrap_or_else(GapId::random),
            cause: Cause::InstanceLost,
            certainty: Certainty::Possible,
            from: from.max(self.created_at),
            to,
            to_reconcile: true,
        })
    }

    fn lost(&self, cause: Cause) -> Lost {
        Lost {
            gap_id: self.open_gap.clone().unwrap_or_else(GapId::random),
            cause,
            certainty: Certainty::Certain,
            from: match &self.suspect {
                Some(suspect) => suspect.since.min(self.asked_at),
                None => self.asked_at,
            },
            to: Timestamp::now(),
            to_reconcile: true,
        }
    }
}

impl Need {
    fn listing(at: Instant) -> Self {
        Self::Listing { at, failures: 0 }
    }
}

#[cfg(test)]
mod tests;
