//! That the parts which must never stand still do not.
//!
//! Promises: what beat once and has not for thirty seconds is named as stalled, until it beats
//! again or is forgotten. Kafka or the source being away stalls nothing: both are waited for
//! between beats.
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
    beats: Mutex<BTreeMap<i32, Beat>>,
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
        self.lock().insert(partition, Beat { at: now, asked_until });
    }

    /// The worker of `partition` has ended.
    pub fn forget(&self, partition: i32) {
        self.lock().remove(&partition);
    }

    /// The partitions whose workers stand still.
    pub fn stalled(&self, now: Instant) -> Vec<i32> {
        let beats = self.lock();
        let still =
            beats.iter().filter(|(_, beat)| now.saturating_duration_since(beat.at) > LONGEST);
        still.map(|(partition, _)| *partition).collect()
    }

    /// Until when every worker surely asked in turn, as far as they have said.
    pub fn asked_until(&self, now: Timestamp) -> Timestamp {
        let beats = self.lock();
        let age = beats.values().map(|beat| beat.asked_until.elapsed()).max().unwrap_or_default();
        Timestamp(now.0 - i64::try_from(age.as_millis()).unwrap_or(i64::MAX))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<i32, Beat>> {
        self.beats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
