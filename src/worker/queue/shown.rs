//! How a queue is counted and shown.
//!
//! Promises: changes nothing, shows no secret.
//!
//! Knows nothing of: metrics' names, HTTP.

use tokio::time::Instant;

use super::{Doing, Need, Queue};
use crate::admin::SubscriptionView;
use crate::ids::Timestamp;
use crate::linxo::TokenPace;
use crate::metrics::{Census, QueueCondition};
use crate::schedule::Pace;
use crate::worker::step::HeldCredential;

impl Queue {
    /// Counts this queue.
    pub(in crate::worker) fn count(
        &self,
        census: &mut Census,
        now: Instant,
        wall: Timestamp,
        pace: &Pace,
    ) {
        match self.condition() {
            QueueCondition::Subscribing => census.subscribing += 1,
            QueueCondition::Recovering => census.recovering += 1,
            QueueCondition::Blocked => census.blocked += 1,
            QueueCondition::Live => {
                let asked = Timestamp(wall.0 - self.age(now).as_millis() as i64);
                census.count_live(self.headroom(now, pace), asked);
            }
        }
    }

    /// Requests per second that this queue needs as it is: questions, and tokens to ask them with.
    pub(in crate::worker) fn required_rate(
        &self,
        now: Instant,
        pace: &Pace,
        tokens: &TokenPace,
    ) -> f64 {
        let is_active = self.is_active(now);
        let pause = if is_active { pace.active } else { pace.keep_alive };
        let questions = 1.0 / pause.as_secs_f64().max(0.001);
        match self.credential {
            HeldCredential::Password(_) => questions + tokens.per_second(pause),
            HeldCredential::Client | HeldCredential::AccessToken(_) => questions,
        }
    }

    /// Questions per second that keep this queue alive, when it is asked only as it becomes urgent;
    /// none for one whose credential is refused.
    pub(in crate::worker) fn vital_rate(&self, pace: &Pace) -> f64 {
        let is_blocked = self.condition() == QueueCondition::Blocked;
        if is_blocked { 0.0 } else { 1.0 / pace.urgent_after().as_secs_f64().max(0.001) }
    }

    /// What the admin API shows.
    pub(in crate::worker) fn view(
        &self,
        partition: i32,
        owner: &str,
        pace: &Pace,
    ) -> SubscriptionView {
        let (now, wall) = (Instant::now(), Timestamp::now());
        let next_due = self.due.saturating_duration_since(now).as_millis() as i64;
        SubscriptionView {
            user_id: self.user.clone(),
            subscription_id: self.subscription_id.clone(),
            queue_id: self.queue.clone(),
            generation: self.generation.unsigned_abs(),
            partition,
            owner: owner.to_owned(),
            state: self.condition(),
            blocked_reason: self.blocked.as_ref().map(ToString::to_string),
            last_answer: self.last,
            headroom: (!matches!(self.need, Need::NewQueue(_))).then(|| self.headroom(now, pace)),
            next_due: (self.doing == Doing::Idle).then_some(Timestamp(wall.0 + next_due)),
            credential: self.credential.kind(),
        }
    }

    pub(in crate::worker) fn condition(&self) -> QueueCondition {
        if self.is_subscribing {
            QueueCondition::Subscribing
        } else if self.blocked.is_some() {
            QueueCondition::Blocked
        } else if self.need != Need::Nothing {
            QueueCondition::Recovering
        } else {
            QueueCondition::Live
        }
    }
}
