//! A queue as the topics have it: at a take-over, and when the group gives back what was lost.
//!
//! Promises: what another owner wrote counts; what only this process knows of a queue is not forgotten for it.
//!
//! Knows nothing of: how topics are read.

use tokio::time::Instant;

use super::{Need, Queue};
use crate::ids::Timestamp;
use crate::queue_state::QueueState;
use crate::schedule::Pace;
use crate::subscription::Subscription;
use crate::worker::step::Suspect;

/// Empty answers in a row after which a queue is asked at keep-alive cadence, whatever the intervals.
const QUIET: u8 = 32;

/// A user as the topics have it.
#[derive(Clone)]
pub struct Loaded {
    /// The wish.
    pub subscription: Subscription,
    /// The state that belongs to it, made from the subscription when none was written yet.
    pub state: QueueState,
}

impl Queue {
    /// A user of the topics. After a restart nobody knows when it was asked last: not before one
    /// keep-alive interval ahead of `asked_until`, nor before the state was written.
    pub(in crate::worker) fn from_loaded(
        loaded: Loaded,
        asked_until: Option<Timestamp>,
        pace: &Pace,
    ) -> Self {
        let Loaded { subscription, state } = loaded;
        let known = state.asked_at.unwrap_or(subscription.created_at);
        let least = asked_until.map(|until| until.before(pace.keep_alive));
        let asked_at = least.map_or(known, |least| least.max(known));
        let need = match state.recovery {
            Some(_) => Need::listing(Instant::now()),
            None => Need::Nothing,
        };
        let suspect = state.suspicion.as_deref().map(|suspicion| {
            let waited = Timestamp::now().since(suspicion.at);
            Box::new(Suspect {
                since: suspicion.since,
                due: Instant::now() + pace.suspicion().saturating_sub(waited),
                expected: state.settling_id(),
                is_of_refusal: false,
            })
        });
        let open_gap = state.recovery.map(|recovery| recovery.gap_id);
        // a synchronization that ran when the last owner wrote may still run
        let sign = state.asked_at.unwrap_or_default().max(subscription.created_at);
        let active_for = pace.active_for.saturating_sub(Timestamp::now().since(sign));
        let mut queue = Self::new(&subscription, asked_at);
        if let Some(until) = asked_until {
            queue.asked_likely = pace.phase_before(until, queue.phase).max(known);
        }
        queue.active_until = (!active_for.is_zero()).then(|| Instant::now() + active_for);
        // one that was quiet goes on so: a restart of a million must not ask each a dozen times more
        queue.empties = if active_for.is_zero() { QUIET } else { 0 };
        queue.queue = state.queue_id;
        queue.generation = state.generation;
        queue.owner_epoch = state.owner_epoch;
        queue.need = need;
        queue.open_gap = open_gap;
        queue.suspect = suspect;
        queue.is_subscribing = false;
        queue
    }

    /// Goes on as the topics have it, which another owner may have written; but what a question here may
    /// have removed is known here alone.
    pub(in crate::worker) fn reload(&mut self, loaded: Loaded, pace: &Pace) {
        let mut known = Self::from_loaded(loaded, None, pace);
        if known.subscription_id == self.subscription_id {
            known.suspect = self.suspect.take().or(known.suspect);
            if known.queue == self.queue {
                known.asked = self.asked;
                known.asked_at = known.asked_at.max(self.asked_at);
            }
        }
        *self = known;
    }

    /// Whether nobody else has written since this queue was known here.
    pub(in crate::worker) fn is_continued_by(&self, loaded: &Loaded) -> bool {
        self.subscription_id == loaded.subscription.subscription_id
            && loaded.state.is_continued()
            && !self.is_subscribing
    }

    /// Goes on under another grant of the partition.
    pub(in crate::worker) fn renew(&mut self, loaded: &Loaded) {
        self.owner_epoch = loaded.state.owner_epoch;
    }
}
