//! What the source handed out against what stands in the topics.

use std::collections::{BTreeMap, BTreeSet};

use linxo_kafka_bridge::simulator::Fate;

use super::{Decoded, Stage};

/// Every topic of the design.
pub const TOPICS: [&str; 11] = [
    "linxo.subscriptions",
    "linxo.queues",
    "linxo.journals",
    "linxo.events",
    "linxo.gaps",
    "linxo.dead-letters",
    "linxo.actions.auth-failed",
    "linxo.actions.token-expired",
    "linxo.actions.password-change-required",
    "linxo.actions.user-action-required",
    "linxo.actions.challenge-required",
];

/// The idempotency keys of the events that queues gave, in the order of the topic.
pub fn keys_from_queues(events: &[Decoded]) -> Vec<String> {
    let from_queues = events.iter().filter(|event| event.value["origin"] == "QUEUE");
    from_queues.map(|event| event.text("idempotency_key").to_owned()).collect()
}

/// Asserts that the records of each key are counted from 1 without holes within a subscription.
pub fn assert_counted(events: &[Decoded]) {
    let mut sequences: BTreeMap<(&str, &str), Vec<i64>> = BTreeMap::new();
    for event in events {
        let sequence = event.value["sequence"].as_i64().expect("a sequence");
        let key = (event.text("subscription_id"), event.key.as_str());
        sequences.entry(key).or_default().push(sequence);
    }
    for (key, found) in sequences {
        let expected: Vec<i64> = (1..).take(found.len()).collect();
        assert_eq!(found, expected, "of {key:?}");
    }
}

/// The records about a user.
pub fn of_user<'a>(records: &'a [Decoded], user: &str) -> Vec<&'a Decoded> {
    records
        .iter()
        .filter(|record| match record.value.get("user_id") {
            Some(found) => found == user,
            None => record.key == user,
        })
        .collect()
}

impl Stage {
    /// Asserts that what was handed out whole stands in `linxo.events`, each event once and nothing
    /// else, and that the records of each key are counted without holes; answers the events.
    pub async fn all_published_once(&self) -> Vec<Decoded> {
        let events = self.drained().await;
        let mut expected: Vec<String> = self
            .simulator
            .ledger(None)
            .with_fate(Fate::HandedOut)
            .map(|event| {
                let (queue, id) = (event.queue.as_ref().unwrap(), event.event_id.as_ref().unwrap());
                format!("{queue}/{id}")
            })
            .collect();
        let mut found = keys_from_queues(&events);
        expected.sort();
        found.sort();
        let is_there: BTreeSet<&String> = found.iter().collect();
        let missing: Vec<&String> = expected.iter().filter(|key| !is_there.contains(key)).collect();
        assert!(missing.is_empty(), "lost in silence: {missing:?}");
        assert_eq!(found, expected);
        assert_counted(&events);
        events
    }
}
