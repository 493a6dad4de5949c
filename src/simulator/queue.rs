//! One queue: what waits in it, when it was asked, how it died.
//!
//! Promises:
//! - a quiet queue owns no memory beyond its own size (see the test below);
//! - taking what waits leaves nothing behind; what was given last is remembered beside it, when
//!   that is wanted.
//!
//! Knows nothing of: other queues, tokens, faults, HTTP.

use std::mem;

use serde::{Deserialize, Serialize};

use super::askers::Asker;

/// Why a queue died.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeathCause {
    /// Nobody asked it for its lifetime.
    Expired,
    /// It was killed through the control API or by a fault, or its user was removed.
    Killed,
    /// An order to expire took it: nobody asked too late.
    Ordered,
}

/// An event that waits in a queue.
#[derive(Clone, Debug)]
pub(super) struct Waiting {
    /// Its place in the ledger.
    pub(super) record: u32,
    /// The array element that is handed out.
    pub(super) text: Box<str>,
}

/// What the last answer with new events gave, for as long as it may be handed out again.
#[derive(Debug)]
pub(super) struct Given {
    /// Which question was answered so.
    pub(super) answer: u32,
    /// It has not been sent whole yet.
    pub(super) on_its_way: bool,
    pub(super) events: Vec<Waiting>,
}

/// A queue. Moments are the simulator's milliseconds.
#[derive(Debug)]
pub(super) struct Queue {
    pub(super) user: u32,
    pub(super) questions: u32,
    /// The number of the last event put in.
    pub(super) last_event: u32,
    pub(super) cause: Option<DeathCause>,
    /// Who asked it last.
    pub(super) asker: Asker,
    pub(super) opened: u64,
    /// When a question last reached it: what its expiry is counted from.
    pub(super) reached: u64,
    /// When a question named it last, whatever the answer was.
    pub(super) asked: u64,
    pub(super) longest_pause: u64,
    /// When it died; of meaning with a cause only.
    pub(super) died: u64,
    pub(super) waiting: Vec<Waiting>,
    pub(super) given: Option<Box<Given>>,
}

impl Queue {
    pub(super) fn new(user: u32, now: u64) -> Self {
        Self {
            user,
            questions: 0,
            last_event: 0,
            cause: None,
            asker: 0,
            opened: now,
            reached: now,
            asked: now,
            longest_pause: 0,
            died: 0,
            waiting: Vec::new(),
            given: None,
        }
    }

    pub(super) fn is_live(&self) -> bool {
        self.cause.is_none()
    }

    /// Notes that a question named this queue.
    pub(super) fn note_question(&mut self, now: u64) {
        self.longest_pause = self.longest_pause.max(now.saturating_sub(self.asked));
        self.asked = now;
        self.questions = self.questions.saturating_add(1);
    }

    /// Is there an answer whose events can be handed out once more?
    pub(super) fn can_repeat(&self) -> bool {
        self.given.as_ref().is_some_and(|given| !given.on_its_way && !given.events.is_empty())
    }

    /// Puts events in front of what waits.
    pub(super) fn put_back(&mut self, mut events: Vec<Waiting>) {
        events.append(&mut self.waiting);
        self.waiting = events;
    }

    /// Takes everything that waits.
    pub(super) fn take(&mut self) -> Vec<Waiting> {
        mem::take(&mut self.waiting)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_million_quiet_queues_fit_into_96_megabytes() {
        assert!(size_of::<Queue>() <= 96, "{}", size_of::<Queue>());
        let mut queue = Queue::new(0, 0);
        queue.waiting.push(Waiting { record: 0, text: "{}".into() });
        assert_eq!(queue.take().len(), 1);
        assert_eq!(queue.waiting.capacity(), 0);
    }

    #[test]
    fn the_longest_pause_counts_from_the_opening() {
        let mut queue = Queue::new(0, 100);
        queue.note_question(150);
        queue.note_question(170);
        assert_eq!((queue.longest_pause, queue.questions), (50, 2));
    }
}
