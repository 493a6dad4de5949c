//! That the parts which must never stand still do not, and which partitions are asked.
//!
//! Promises:
//! - what beat once and has not for thirty seconds is named as stalled, until it beats again or is
//!   forgotten. Kafka or the source being away stalls nothing: both are waited for between beats;
//! - until when a partition was asked is known after its worker has ended, too.
//!
//! Knows nothing of: what the parts do.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::ids::Timestamp;

/// How long a worker may go without a beat.
const LONGEST: Duration = Duration::from_secs(30);

/// The last beat of each worker, by partition.
#[derive(Debug, Default)]
pub struct Pulse {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    beats: BTreeMap<i32, Beat>,
    /// Until when partitions were asked that have no worker any more.
    left: BTreeMap<i32, Timestamp>,
    /// Until when the workers asked, as far as was last known.
    asked_until: Timestamp,
}

#[derive(Clone, Copy, Debug)]
struct Beat {
    at: Instant,
    asked_until: Instant,
}

impl Pulse {
    /// The worker of `partition` made progress, and asked every queue whose turn came before
    /// `asked_until`.
    pub fn beat(&self, partition: i32, now: Instant, asked_until: Instant) {
        let mut state = self.lock();
        state.left.remove(&partition);
        state.beats.insert(partition, Beat { at: now, asked_until });
    }

    /// The worker of `partition` has ended.
    pub fn forget(&self, partition: i32) {
        let mut state = self.lock();
        let now = Timestamp::now();
        state.note(now);
        if let Some(beat) = state.beats.remove(&partition) {
            state.left.insert(partition, now.before(beat.asked_until.elapsed()));
        }
    }

    /// An earlier process asked until then, as its mark says, each of its partitions on its own.
    pub fn resume(&self, asked_until: Timestamp, left: impl IntoIterator<Item = (i32, Timestamp)>) {
        let mut state = self.lock();
        state.asked_until = state.asked_until.max(asked_until);
        state.left.extend(left);
    }

    /// The partitions that are asked.
    pub fn asking(&self) -> Vec<i32> {
        self.lock().beats.keys().copied().collect()
    }

    /// The partitions that were asked and are not any more, each with until when.
    pub fn left(&self) -> Vec<(i32, Timestamp)> {
        self.lock().left.iter().map(|(partition, until)| (*partition, *until)).collect()
    }

    /// Who was let go of so long ago need not be remembered.
    pub fn forget_left(&self, partition: i32) {
        self.lock().left.remove(&partition);
    }

    /// The partitions whose workers stand still.
    pub fn stalled(&self, now: Instant) -> Vec<i32> {
        let state = self.lock();
        let still =
            state.beats.iter().filter(|(_, beat)| now.saturating_duration_since(beat.at) > LONGEST);
        still.map(|(partition, _)| *partition).collect()
    }

    /// Until when every worker surely asked in turn, as far as they have said; without a worker,
    /// until when the last ones did.
    pub fn asked_until(&self, now: Timestamp) -> Timestamp {
        let mut state = self.lock();
        state.note(now);
        state.asked_until
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn note(&mut self, now: Timestamp) {
        let age = self.beats.values().map(|beat| beat.asked_until.elapsed()).max();
        if let Some(age) = age {
            self.asked_until = now.before(age);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn without_a_worker_nobody_asks_whatever_the_clock_says() {
        let pulse = Pulse::default();
        let now = Timestamp::now();
        assert_eq!(pulse.asked_until(now), Timestamp(0));
        pulse.resume(Timestamp(7), []);
        assert_eq!(pulse.asked_until(now), Timestamp(7));
        pulse.beat(3, Instant::now(), Instant::now());
        let asked_until = pulse.asked_until(now);
        assert_eq!(asked_until, now);
        pulse.forget(3);
        let later = Timestamp(now.0 + 60_000);
        assert!(pulse.asked_until(later) < later, "the worker has ended");
    }

    #[tokio::test(start_paused = true)]
    async fn until_when_a_partition_was_asked_is_known_when_its_worker_has_ended() {
        let pulse = Pulse::default();
        pulse.resume(Timestamp(7), [(5, Timestamp(6)), (6, Timestamp(7))]);
        let before = Timestamp::now();
        pulse.beat(5, Instant::now(), Instant::now());
        assert_eq!((pulse.asking(), pulse.left()), (vec![5], vec![(6, Timestamp(7))]));
        tokio::time::advance(Duration::from_secs(2)).await;
        pulse.forget(5);
        assert_eq!(pulse.asking(), Vec::<i32>::new());
        let left = pulse.left();
        assert!(left[0].0 == 5 && left[0].1 <= before.before(Duration::from_secs(1)), "{left:?}");
        pulse.forget_left(6);
        assert_eq!(pulse.left().len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_worker_that_stands_still_is_named_until_it_beats_again() {
        let pulse = Pulse::default();
        pulse.beat(3, Instant::now(), Instant::now());
        tokio::time::advance(Duration::from_secs(30)).await;
        assert_eq!(pulse.stalled(Instant::now()), Vec::<i32>::new());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(pulse.stalled(Instant::now()), vec![3]);
        pulse.beat(3, Instant::now(), Instant::now());
        assert_eq!(pulse.stalled(Instant::now()), Vec::<i32>::new());
    }
}
