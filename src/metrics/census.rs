//! How many queues there are in which condition, counted by each partition's worker.
//!
//! Promises:
//! - a sum is over the partitions that this instance owns now, each with its latest count;
//! - memory grows with the partitions owned, never with the queues.
//!
//! Knows nothing of: Prometheus.

use std::collections::BTreeMap;

use super::labels::HeadroomBand;
use crate::ids::Timestamp;

/// What one partition's worker counts among its queues.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Queues that are asked in turn.
    pub live: u64,
    /// Subscriptions whose queue is being made.
    pub subscribing: u64,
    /// Queues that died and are not yet replaced and reconciled.
    pub recovering: u64,
    /// Queues that wait for a new credential.
    pub blocked: u64,
    /// Live queues by headroom, in the order of [`HeadroomBand::ALL`].
    pub bands: [u64; 5],
    /// When the live queue that was left alone longest was asked; none when there is no live queue.
    pub oldest_poll: Option<Timestamp>,
}

impl Census {
    /// Counts one live queue with this headroom.
    pub fn count_live(&mut self, headroom: std::time::Duration, asked: Timestamp) {
        self.live += 1;
        self.bands[HeadroomBand::of(headroom) as usize] += 1;
        self.oldest_poll = earlier(self.oldest_poll, Some(asked));
    }
}

/// The latest census of each partition.
#[derive(Debug, Default)]
pub(super) struct Censuses {
    by_partition: BTreeMap<i32, Census>,
}

impl Censuses {
    /// Replaces the census of a partition; none forgets it.
    pub(super) fn set(&mut self, partition: i32, census: Option<Census>) {
        match census {
            Some(census) => {
                self.by_partition.insert(partition, census);
            }
            None => {
                self.by_partition.remove(&partition);
            }
        }
    }

    /// The sum over all partitions.
    pub(super) fn sum(&self) -> Census {
        self.by_partition.values().fold(Census::default(), |mut sum, census| {
            sum.live += census.live;
            sum.subscribing += census.subscribing;
            sum.recovering += census.recovering;
            sum.blocked += census.blocked;
            for (band, count) in sum.bands.iter_mut().zip(census.bands) {
                *band += count;
            }
            sum.oldest_poll = earlier(sum.oldest_poll, census.oldest_poll);
            sum
        })
    }
}

fn earlier(one: Option<Timestamp>, other: Option<Timestamp>) -> Option<Timestamp> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_sum_forgets_a_partition_that_was_let_go_and_keeps_the_oldest_poll() {
        let mut censuses = Censuses::default();
        let mut one = Census { blocked: 2, ..Census::default() };
        one.count_live(Duration::from_secs(30), Timestamp(5_000));
        one.count_live(Duration::from_secs(700), Timestamp(9_000));
        let mut other = Census::default();
        other.count_live(Duration::from_secs(200), Timestamp(4_000));
        censuses.set(1, Some(one));
        censuses.set(2, Some(other));

        let sum = censuses.sum();
        assert_eq!((sum.live, sum.blocked, sum.bands), (3, 2, [1, 0, 1, 0, 1]));
        assert_eq!(sum.oldest_poll, Some(Timestamp(4_000)));

        censuses.set(2, None);
        assert_eq!(censuses.sum(), one);
        censuses.set(1, None);
        assert_eq!(censuses.sum(), Census::default());
    }
}
