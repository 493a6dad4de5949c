//! Who is due and waits for budget, by class.
//!
//! Promises:
//! - of the urgent, the one comes first that dies first, as long as a question can reach it in time;
//! - one that cannot be saved any more waits for those that can: with less budget than there are
//!   deaths to prevent, asking the nearest first would else come too late for every single one;
//! - all others come in the order in which they began to wait.
//!
//! Knows nothing of: what an index stands for, and whether it still waits. Reads no clock.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use tokio::time::Instant;

use super::Class;

/// Indices that wait.
#[derive(Default)]
pub struct Ready {
    /// By the moment at which they die.
    urgent: BinaryHeap<Reverse<(Instant, u32)>>,
    too_late: VecDeque<u32>,
    others: [VecDeque<u32>; Class::ALL.len()],
}

impl Ready {
    /// Has `index` wait, which dies at `dies_at` when nobody asks it.
    pub fn push(&mut self, class: Class, index: u32, dies_at: Instant) {
        if class == Class::Urgent {
            self.urgent.push(Reverse((dies_at, index)));
        } else {
            self.others[class.place()].push_back(index);
        }
    }

    /// Whose turn it is, when a question of now is answered at `answered`.
    pub fn pop(&mut self, class: Class, answered: Instant) -> Option<u32> {
        if class != Class::Urgent {
            return self.others[class.place()].pop_front();
        }
        while let Some(Reverse((dies_at, index))) = self.urgent.pop() {
            if dies_at > answered {
                return Some(index);
            }
            self.too_late.push_back(index);
        }
        self.too_late.pop_front()
    }

    /// How many wait.
    pub fn len(&self, class: Class) -> usize {
        match class {
            Class::Urgent => self.urgent.len() + self.too_late.len(),
            Class::Active | Class::KeepAlive | Class::Reconciliation => {
                self.others[class.place()].len()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_urgent_come_by_their_death_and_those_that_cannot_be_saved_last() {
        let now = Instant::now();
        let mut ready = Ready::default();
        for (index, seconds) in [(0, 30), (1, 10), (2, 1), (3, 20), (4, 0)] {
            ready.push(Class::Urgent, index, now + Duration::from_secs(seconds));
        }
        assert_eq!(ready.len(Class::Urgent), 5);
        let answered = now + Duration::from_secs(2);
        let order: Vec<u32> = std::iter::from_fn(|| ready.pop(Class::Urgent, answered)).collect();
        assert_eq!(order, [1, 3, 0, 4, 2]);
    }

    #[test]
    fn with_too_little_budget_as_many_are_saved_as_it_has_questions() {
        // one dies each second, and every other second one can be asked
        let start = Instant::now();
        let mut ready = Ready::default();
        for index in 0..100 {
            ready.push(Class::Urgent, index, start + Duration::from_secs(u64::from(index) + 1));
        }
        let mut saved = 0;
        for turn in 0..50_u64 {
            let now = start + Duration::from_secs(2 * turn);
            let index = ready.pop(Class::Urgent, now).expect("somebody waits");
            saved += u32::from(start + Duration::from_secs(u64::from(index) + 1) > now);
        }
        assert_eq!(saved, 50);
    }

    #[test]
    fn all_others_come_in_the_order_in_which_they_began_to_wait() {
        let now = Instant::now();
        let mut ready = Ready::default();
        ready.push(Class::Active, 7, now);
        for (index, seconds) in [(1, 30), (2, 10)] {
            ready.push(Class::KeepAlive, index, now + Duration::from_secs(seconds));
        }
        let mut next = |class| ready.pop(class, now);
        assert_eq!([next(Class::KeepAlive), next(Class::KeepAlive)], [Some(1), Some(2)]);
        assert_eq!([next(Class::Active), next(Class::Active)], [Some(7), None]);
    }
}
