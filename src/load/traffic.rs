//! What users' banks do: synchronizations, at a rate.
//!
//! Promises: the rate is kept over any second, whatever a synchronization makes; the same seed gives
//! the same synchronizations in the same order.
//!
//! Knows nothing of: the bridge.

use std::time::Duration;

use super::dice::Dice;
use super::seeding::name;
use crate::simulator::{Mode, Status, Sync};

/// How long a synchronization takes at most.
const LONGEST_MS: f64 = 3000.0;

/// Draws who synchronizes next, and how.
pub(super) struct Traffic {
    dice: Dice,
    users: u32,
    per_second: f64,
    /// Events that may be made now; below zero after a synchronization that made more.
    credit: f64,
}

impl Traffic {
    /// Traffic of a seed.
    pub(super) fn new(seed: u64, users: u32, per_second: f64) -> Self {
        Self { dice: Dice::new(seed, "traffic"), users, per_second, credit: 0.0 }
    }

    /// Notes that time has passed.
    pub(super) fn pass(&mut self, time: Duration) {
        // after a long silence there is no burst of more than a second's worth
        let most = self.per_second.max(1.0);
        self.credit = (self.credit + self.per_second * time.as_secs_f64()).min(most);
    }

    /// The next synchronization that is due.
    pub(super) fn next(&mut self) -> Option<(String, Sync)> {
        if self.credit <= 0.0 {
            return None;
        }
        let user = name(u32::try_from(self.dice.below(self.users as usize)).unwrap_or(0));
        let asks = self.dice.happens(0.2);
        let ending = if asks { self.dice.pick(&Status::ASKING).copied() } else { None };
        let sync = Sync {
            connection: None,
            ending: ending.unwrap_or_default(),
            channel: self.dice.pick(&Mode::BOTH).copied(),
            as_event: self.dice.happens(0.5),
            extras: self.dice.happens(0.1),
            over_ms: self.dice.between(0.0, LONGEST_MS) as u64,
        };
        Some((user, sync))
    }

    /// Notes how many events it made.
    pub(super) fn made(&mut self, events: u64) {
        self.credit -= (events as f64).max(1.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_kept_whatever_a_synchronization_makes() {
        let mut traffic = Traffic::new(1, 10, 100.0);
        let mut made = 0;
        for _ in 0..1000 {
            traffic.pass(Duration::from_millis(50));
            while traffic.next().is_some() {
                traffic.made(12);
                made += 12;
            }
        }
        assert!((5000..=5012).contains(&made), "{made}");
    }

    #[test]
    fn a_seed_repeats_its_synchronizations() {
        let drawn = |seed| {
            let mut traffic = Traffic::new(seed, 1000, 100.0);
            traffic.pass(Duration::from_secs(1));
            (0..20).map(|_| format!("{:?}", traffic.next())).collect::<Vec<_>>()
        };
        assert_eq!(drawn(1), drawn(1));
        assert_ne!(drawn(1), drawn(2));
    }
}
