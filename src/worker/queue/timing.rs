//! When a queue's next step is due, and how pressing it is.
//!
//! Promises: a queue is asked at each moment of its phase while its source answers, and so never left
//! alone for longer than the keep-alive interval, and not out of patience with the source when it
//! does not.
//!
//! Knows nothing of: what a step is.

use std::time::Duration;

use tokio::time::Instant;

use super::{Need, Queue};
use crate::ids::Timestamp;
use crate::journal::Stock;
use crate::schedule::{Class, Pace};

/// The first pause after a failure; it doubles up to [`LONGEST_BACKOFF`], or a fifth of the
/// keep-alive interval where that is less: a queue must not die of our own patience.
const FIRST_BACKOFF: Duration = Duration::from_secs(1);
pub(super) const LONGEST_BACKOFF: Duration = Duration::from_secs(60);
/// No pause takes more of the time left to a queue than one part in so many: whoever has 5 min left
/// and is refused each time is tried every 37 s, in the last minute every 7 s, and in the last
/// seconds each second.
const TRIES_LEFT: u32 = 8;

impl Queue {
    /// The class of what is due now.
    pub(in crate::worker) fn class(&self, now: Instant, pace: &Pace) -> Class {
        match &self.need {
            Need::NewQueue(_) => Class::Urgent,
            Need::Listing { .. } if self.is_listing_next(now, pace) => Class::Reconciliation,
            Need::Nothing | Need::Listing { .. } => pace.class(self.age(now), self.is_active(now)),
        }
    }

    /// When what waits under a class comes under a more pressing one.
    pub(in crate::worker) fn promoted_at(
        &self,
        class: Class,
        now: Instant,
        pace: &Pace,
    ) -> Option<Instant> {
        let age_of = |age: Duration| Some(now + age.saturating_sub(self.age(now)));
        match class {
            Class::Urgent => None,
            Class::Active => age_of(pace.keep_alive),
            Class::KeepAlive => age_of(pace.urgent_after()),
            Class::Reconciliation => Some(self.due + self.listing_patience(now, pace)),
        }
    }

    /// Whether the listing is due, and has not waited for spare budget so long that the queue itself
    /// has to be asked first.
    fn is_listing_next(&self, now: Instant, pace: &Pace) -> bool {
        matches!(&self.need, Need::Listing { at, .. } if *at <= now)
            && now < self.due + self.listing_patience(now, pace)
    }

    fn listing_patience(&self, now: Instant, pace: &Pace) -> Duration {
        if self.is_active(now) { pace.active } else { pace.keep_alive }
    }

    pub(in crate::worker) fn is_active(&self, now: Instant) -> bool {
        self.active_until.is_some_and(|until| now < until)
    }

    /// When a question that waits becomes urgent.
    pub(super) fn urgent_at(&self, pace: &Pace) -> Option<Instant> {
        self.asked.map(|asked| asked + pace.urgent_after())
    }

    pub(super) fn next_due(&self, now: Instant, pace: &Pace) -> Instant {
        let due = self.question_due(now, pace);
        match &self.need {
            Need::Listing { at, .. } => due.min((*at).max(now)),
            Need::Nothing | Need::NewQueue(_) => due,
        }
    }

    /// When the queue is asked next, whatever waits to be listed.
    pub(in crate::worker) fn question_due(&self, now: Instant, pace: &Pace) -> Instant {
        let phase_at = self.asked.map(|asked| asked + pace.until_phase(self.asked_at, self.phase));
        let due = if matches!(self.need, Need::NewQueue(_)) && self.blocked.is_none() {
            now
        } else if self.blocked.is_some() {
            now + pace.credential_retry
        } else if self.failures > 0 {
            let retry = now + self.backoff(now, pace);
            phase_at.filter(|at| *at > now).map_or(retry, |at| retry.min(at))
        } else {
            let wished = if self.is_active(now) {
                now + pace.active
            } else {
                self.asked.unwrap_or(now) + pace.pause(self.empties)
            };
            phase_at.map_or(wished, |at| wished.min(at))
        };
        match &self.suspect {
            // an answer is needed then to tell what became of it
            Some(suspect) if self.blocked.is_none() => {
                due.min(suspect.due.max(now + self.backoff(now, pace)))
            }
            Some(_) | None => due,
        }
    }

    /// Whether the queue may be asked with so little room left for answers.
    pub(in crate::worker) fn is_admitted(&self, stock: Stock, class: Class) -> bool {
        match stock {
            Stock::Plenty => true,
            Stock::Scarce => class == Class::Urgent,
            Stock::Last => class == Class::Urgent && self.empties > 0,
            Stock::None => false,
        }
    }

    /// Whether there is no queue to ask: a new one has to be made.
    pub(in crate::worker) fn needs_queue(&self) -> bool {
        matches!(self.need, Need::NewQueue(_))
    }

    /// The class of a question, whatever waits to be listed.
    pub(in crate::worker) fn question_class(&self, now: Instant, pace: &Pace) -> Class {
        pace.class(self.age(now), self.is_active(now))
    }

    /// After a pause that the source asked for, but never so late that the queue is in danger: when
    /// it becomes urgent it is asked all the same, and then every backoff, which gets shorter the
    /// nearer its death is. What the source takes less of is then the instance's questions as a whole
    /// (`budget`): those of the others wait for this one.
    pub(super) fn not_too_late(&self, now: Instant, pause: Duration, pace: &Pace) -> Instant {
        let retry = self.backoff(now, pace);
        match self.urgent_at(pace) {
            Some(urgent_at) => (now + pause).min(urgent_at.max(now + retry)),
            None => now + pause.min(retry),
        }
    }

    /// Until when this queue was asked in turn, when the moment of its phase has passed since without an
    /// answer; none for one whose credential is refused, when a suspicion says since when.
    pub(in crate::worker) fn asked_until(&self, now: Instant, pace: &Pace) -> Option<Instant> {
        let asked_at = if self.asked.is_some() { self.asked_at } else { self.asked_likely };
        let missed = self.age(now).checked_sub(pace.until_phase(asked_at, self.phase))?;
        // a moment before the phase: at the phase itself its turn has come
        let until = now.checked_sub(missed + Duration::from_millis(1))?;
        let is_known = self.blocked.is_some() && self.suspect.is_some();
        (!is_known).then_some(until)
    }

    /// The pause before the next try; of a queue that can still be saved never so long that few
    /// tries would remain.
    pub(super) fn backoff(&self, now: Instant, pace: &Pace) -> Duration {
        let pause = backoff(self.failures, pace);
        let headroom = self.headroom(now, pace);
        if headroom.is_zero() || self.needs_queue() {
            return pause;
        }
        pause.min((headroom / TRIES_LEFT).max(FIRST_BACKOFF))
    }

    /// For how long nobody has asked. Where an owner before us asked last, its phase says when.
    pub(super) fn age(&self, now: Instant) -> Duration {
        match self.asked {
            Some(asked) => now - asked,
            None => Timestamp::now().since(self.asked_likely),
        }
    }

    pub(super) fn headroom(&self, now: Instant, pace: &Pace) -> Duration {
        pace.queue_lifetime.saturating_sub(self.age(now))
    }

    /// The time left to the queue, and none to one that is dead.
    pub(in crate::worker) fn time_left(&self, now: Instant, pace: &Pace) -> Duration {
        if self.needs_queue() { Duration::ZERO } else { self.headroom(now, pace) }
    }
}

/// The pause after the `failures`-th failure in a row.
pub(super) fn backoff(failures: u8, pace: &Pace) -> Duration {
    let doublings = u32::from(failures.saturating_sub(1)).min(16);
    let longest = LONGEST_BACKOFF.min(pace.keep_alive / 5);
    (FIRST_BACKOFF * 2_u32.pow(doublings)).min(longest)
}
