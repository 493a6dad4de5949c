//! What is counted of an instance, and of several together.
//!
//! Knows nothing of: what is simulated.

use super::world::PACE;

const SECONDS: usize = 901;

/// What came of the questions of an instance.
#[derive(Clone)]
pub(super) struct Tally {
    /// Questions to queues, and requests of recoveries.
    pub(super) asked: u64,
    pub(super) recovering: u64,
    /// Queues by the seconds of life that were left when they were asked.
    headroom: Vec<u64>,
    /// The least of them, in milliseconds.
    pub(super) least: i64,
    pub(super) deaths: u64,
    /// Most questions under way, and most queues that waited for budget.
    pub(super) most_in_flight: usize,
    pub(super) most_waiting: usize,
    /// When the last queue was asked that was overdue at a load, in milliseconds after the load.
    pub(super) caught_up: u32,
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            asked: 0,
            recovering: 0,
            headroom: vec![0; SECONDS],
            least: PACE.queue_lifetime.as_millis() as i64,
            deaths: 0,
            most_in_flight: 0,
            most_waiting: 0,
            caught_up: 0,
        }
    }
}

impl Tally {
    /// A queue is asked that was left alone for so many milliseconds.
    pub(super) fn count(&mut self, age: u32) {
        let left = PACE.queue_lifetime.as_millis() as i64 - i64::from(age);
        self.asked += 1;
        self.least = self.least.min(left);
        if left <= 0 {
            self.deaths += 1;
        }
        self.headroom[(left.max(0) / 1000) as usize] += 1;
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.asked += other.asked;
        self.recovering += other.recovering;
        for (sum, more) in self.headroom.iter_mut().zip(&other.headroom) {
            *sum += more;
        }
        self.least = self.least.min(other.least);
        self.deaths += other.deaths;
        self.most_in_flight = self.most_in_flight.max(other.most_in_flight);
        self.most_waiting = self.most_waiting.max(other.most_waiting);
        self.caught_up = self.caught_up.max(other.caught_up);
    }

    pub(super) fn sum<'a>(tallies: impl IntoIterator<Item = &'a Self>) -> Self {
        let mut sum = Self::default();
        tallies.into_iter().for_each(|tally| sum.add(tally));
        sum
    }

    /// The seconds of life that all but this share of the queues had left when they were asked.
    pub(super) fn headroom(&self, share: f64) -> usize {
        let all: u64 = self.headroom.iter().sum();
        let mut left = (all as f64 * share) as u64;
        for (seconds, count) in self.headroom.iter().enumerate() {
            if *count > left {
                return seconds;
            }
            left -= count;
        }
        SECONDS - 1
    }
}
