//! What the topics take, learnt again when the broker refuses a record as too large.
//!
//! A topic's `max.message.bytes` may be lowered at any time. The draft cuts and sheds by what it
//! knows, so after a refusal it has to know more, or it would make the same record again for ever.
//!
//! Promises:
//! - what the cluster says now is believed first;
//! - where it says nothing new, or cannot be asked, records go in batches of their own, so that the
//!   one refused is known, and its topic counts as taking less than that: each turn makes progress.
//!
//! Knows nothing of: what the records mean, producers.

use std::collections::HashMap;

use super::producer::RefusedRecord;
use crate::kafka::DEFAULT_MAX_MESSAGE;
use crate::topics::TopicDesk;

/// `max.message.bytes` by topic.
pub struct Limits {
    /// None for a cluster that takes no administrative calls.
    desk: Option<TopicDesk>,
    told: HashMap<String, usize>,
    /// What a topic can take at most, as its refusals show.
    assumed: HashMap<String, usize>,
    /// Whether each record goes in a batch of its own.
    is_one_by_one: bool,
}

impl Limits {
    /// What the topics say now, and where to ask for it again.
    pub fn new(told: HashMap<String, usize>, desk: Option<TopicDesk>) -> Self {
        Self { desk, told, assumed: HashMap::new(), is_one_by_one: false }
    }

    /// What a record of `topic` may take.
    pub(super) fn of(&self, topic: &str) -> usize {
        let told = self.told.get(topic).copied().unwrap_or(DEFAULT_MAX_MESSAGE);
        self.assumed.get(topic).map_or(told, |assumed| told.min(*assumed))
    }

    /// What a batch may take, since a broker measures whole batches; 1 is a record in each.
    pub(super) fn batch(&self) -> usize {
        if self.is_one_by_one { 1 } else { self.all().min().unwrap_or(DEFAULT_MAX_MESSAGE) }
    }

    /// What the largest record may take.
    pub(super) fn largest(&self) -> usize {
        self.all().max().unwrap_or(DEFAULT_MAX_MESSAGE)
    }

    /// Learns from a refusal.
    pub(super) async fn learn(&mut self, refused: Option<&RefusedRecord>) {
        let told = match &self.desk {
            Some(desk) => desk.limits().await,
            None => Ok(HashMap::new()),
        };
        match told {
            Ok(told) => self.take_in(told, refused),
            Err(error) => {
                tracing::warn!(%error, "the topics cannot be asked what they take");
                self.take_in(HashMap::new(), refused);
            }
        }
    }

    fn take_in(&mut self, told: HashMap<String, usize>, refused: Option<&RefusedRecord>) {
        let before: HashMap<String, usize> =
            self.told.keys().map(|topic| (topic.clone(), self.of(topic))).collect();
        self.told.extend(told);
        let changed: Vec<String> = self
            .told
            .keys()
            .filter(|topic| before.get(*topic).copied() != Some(self.of(topic)))
            .map(|topic| format!("{topic}: {}", self.of(topic)))
            .collect();
        if !changed.is_empty() {
            tracing::warn!(limits = changed.join(", "), "topics take other sizes than before");
            return;
        }
        let Some(refused) = refused.filter(|_| self.is_one_by_one) else {
            self.is_one_by_one = true;
            return;
        };
        // below the refused record for certain, yet not so far that others are cut for nothing
        let assumed = refused.bytes.min(self.of(&refused.topic)) / 4 * 3;
        tracing::warn!(
            topic = refused.topic,
            bytes = refused.bytes,
            max_bytes = assumed,
            "a record is too large for its topic though the cluster says otherwise; raise its \
             max.message.bytes, or let this instance describe topic configurations"
        );
        self.assumed.insert(refused.topic.clone(), assumed);
    }

    fn all(&self) -> impl Iterator<Item = usize> {
        self.told.keys().map(|topic| self.of(topic))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(events: usize) -> HashMap<String, usize> {
        HashMap::from([("events".to_owned(), events), ("gaps".to_owned(), 5_000)])
    }

    fn refused(bytes: usize) -> RefusedRecord {
        RefusedRecord { topic: "events".to_owned(), bytes }
    }

    #[test]
    fn what_the_cluster_says_now_is_believed() {
        let mut limits = Limits::new(told(9_000), None);
        assert_eq!((limits.batch(), limits.largest()), (5_000, 9_000));
        limits.take_in(told(3_000), Some(&refused(4_000)));
        assert_eq!((limits.of("events"), limits.of("gaps")), (3_000, 5_000));
        assert_eq!((limits.batch(), limits.largest()), (3_000, 5_000));
    }

    #[test]
    fn a_topic_that_refuses_more_than_it_says_counts_as_taking_less_each_time() {
        let mut limits = Limits::new(told(9_000), None);
        limits.take_in(told(9_000), Some(&refused(8_000)));
        assert_eq!((limits.of("events"), limits.batch()), (9_000, 1));
        let mut last = 8_000;
        while last > 100 {
            limits.take_in(told(9_000), Some(&refused(last)));
            assert!(limits.of("events") < last, "{last}");
            last = limits.of("events");
        }
        assert_eq!(limits.of("gaps"), 5_000);
    }

    #[test]
    fn an_unknown_topic_takes_what_kafka_has_by_default() {
        assert_eq!(Limits::new(HashMap::new(), None).of("events"), DEFAULT_MAX_MESSAGE);
    }
}
