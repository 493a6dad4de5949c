//! The partitions that are ours, and proof of it for the publisher.
//!
//! Promises: a partition that was revoked or lost is no longer ours before the group is told that
//! it was let go of; a token is given once.
//!
//! Knows nothing of: how decisions come about.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerGroupMetadata};

use super::member::GroupContext;

/// Shared between the thread of the group and the publisher.
#[derive(Default)]
pub struct Ownership {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    owned: BTreeMap<i32, u64>,
    last_token: u64,
    /// Whether the group has answered since the start, and since partitions were lost.
    is_sure: bool,
    /// Whether nothing is taken any more: a stop.
    is_closed: bool,
    member: Option<Arc<BaseConsumer<GroupContext>>>,
}

impl Ownership {
    /// Of nothing, and sure of it: what is published is late.
    pub fn none() -> Self {
        let state = State { is_sure: true, ..State::default() };
        Self { state: Mutex::new(state) }
    }

    /// Whether the partition is ours, by this very grant.
    pub fn is_owned(&self, partition: i32, token: u64) -> bool {
        self.lock().owned.get(&partition) == Some(&token)
    }

    /// The grant by which a partition is ours, if it is.
    pub fn token(&self, partition: i32) -> Option<u64> {
        self.lock().owned.get(&partition).copied()
    }

    /// Whether the group has said what is ours. Not before it answered for the first time, and not
    /// after partitions were lost, until it answers again: they may be ours still.
    pub fn is_sure(&self) -> bool {
        self.lock().is_sure
    }

    /// How many partitions are ours.
    pub fn count(&self) -> usize {
        self.lock().owned.len()
    }

    /// The group metadata as it is now. Taken before the look whether a partition is ours.
    pub fn member(&self) -> Option<ConsumerGroupMetadata> {
        let member = self.lock().member.clone();
        member.and_then(|member| member.group_metadata())
    }

    pub(super) fn set_member(&self, member: Option<Arc<BaseConsumer<GroupContext>>>) {
        self.lock().member = member;
    }

    pub(super) fn grant(&self, partitions: impl Iterator<Item = i32>) -> Vec<(i32, u64)> {
        let mut state = self.lock();
        let mut granted = Vec::new();
        if state.is_closed {
            return granted;
        }
        state.is_sure = true;
        for partition in partitions {
            state.last_token += 1;
            let token = state.last_token;
            state.owned.insert(partition, token);
            granted.push((partition, token));
        }
        granted
    }

    /// The group has had time to give something and gave nothing; whether that is news.
    pub(super) fn is_given_nothing(&self) -> bool {
        let mut state = self.lock();
        if state.is_sure || !state.owned.is_empty() {
            return false;
        }
        state.is_sure = true;
        true
    }

    pub(super) fn owned(&self, partitions: impl Iterator<Item = i32>) -> Vec<(i32, u64)> {
        let state = self.lock();
        partitions
            .filter_map(|partition| Some((partition, *state.owned.get(&partition)?)))
            .collect()
    }

    pub(super) fn all(&self) -> Vec<(i32, u64)> {
        self.lock().owned.iter().map(|(partition, token)| (*partition, *token)).collect()
    }

    /// The group is out of reach, and what it gave is lost.
    pub(super) fn lose(&self, partitions: &[(i32, u64)]) {
        {
            let mut state = self.lock();
            state.is_sure = state.is_closed;
        }
        self.take_away(partitions);
    }

    /// At a stop: nothing but these is ours any more, and nothing more is taken.
    pub fn close(&self, partitions: &[(i32, u64)]) {
        let mut state = self.lock();
        state.is_closed = true;
        state.is_sure = true;
        state.owned.retain(|partition, token| partitions.contains(&(*partition, *token)));
    }

    pub(super) fn take_away(&self, partitions: &[(i32, u64)]) {
        let mut state = self.lock();
        for (partition, token) in partitions {
            if state.owned.get(partition) == Some(token) {
                state.owned.remove(partition);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_stop_nothing_is_taken_and_what_is_not_kept_is_nobodys() {
        let ownership = Ownership::default();
        let granted = ownership.grant([1, 2].into_iter());
        ownership.lose(&granted[1..]);
        assert!(!ownership.is_sure());
        ownership.close(&granted[..1]);
        assert!(ownership.is_sure());
        assert_eq!(ownership.grant([2, 3].into_iter()), []);
        ownership.lose(&[(7, 7)]);
        assert!(ownership.is_sure(), "what is kept is all that there is");
        assert_eq!(ownership.all(), granted[..1]);
    }
}
