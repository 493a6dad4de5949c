//! Telling every user of a partition that another instance may have lost what it received for them.
//!
//! Promises: so many users a second and no more, each when nothing else is under way for it; whoever
//! asked is told when all that is in the journal, and not when the partition was lost before.
//!
//! Knows nothing of: why the other instance stays away.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::sync::oneshot;

use super::queue::Doing;
use super::step::Step;
use super::{Order, Worker};
use crate::ids::Timestamp;

/// Users told at a time, and the time between two times. Their listings wait for spare budget.
const AT_A_TIME: usize = 100;
pub(super) const PAUSE: Duration = Duration::from_secs(1);

/// Users that have to be told of a loss.
pub(super) struct Telling {
    left: VecDeque<u32>,
    under_way: usize,
    from: Timestamp,
    to: Timestamp,
    done: oneshot::Sender<()>,
}

impl Worker {
    /// Begins to tell of a loss between two moments; the ones that wait come first.
    pub(super) fn tell(&mut self, from: Timestamp, to: Timestamp, done: oneshot::Sender<()>) {
        let left = self.by_user.values().copied().collect();
        self.tellings.push_back(Telling { left, under_way: 0, from, to, done });
    }

    /// Tells some more.
    pub(super) fn tell_some(&mut self) {
        if self.order != Order::Work {
            return;
        }
        let Some(mut telling) = self.tellings.pop_front() else { return };
        for _ in 0..AT_A_TIME.min(telling.left.len()) {
            let Some(index) = telling.left.pop_front() else { break };
            let Some(queue) = self.queues.get(index as usize).and_then(Option::as_ref) else {
                continue;
            };
            let Some(lost) = queue.missed(telling.from, telling.to) else { continue };
            if queue.doing == Doing::Busy {
                telling.left.push_back(index);
                continue;
            }
            let of = queue.row_of(self.partition);
            if self.begin_change(Some(index)).is_some() {
                telling.under_way += 1;
                self.perform(index, Step::Miss { of, lost }, None);
            }
        }
        self.go_on(telling);
    }

    /// One more is told.
    pub(super) fn is_told(&mut self) {
        let Some(mut telling) = self.tellings.pop_front() else { return };
        telling.under_way = telling.under_way.saturating_sub(1);
        self.go_on(telling);
    }

    fn go_on(&mut self, telling: Telling) {
        if telling.left.is_empty() && telling.under_way == 0 {
            // who asked may have lost the partition meanwhile
            telling.done.send(()).ok();
        } else {
            self.tellings.push_front(telling);
        }
    }
}
