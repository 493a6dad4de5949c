//! What the ledger of the source and the topics must agree on, whatever happened in between.

use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use linxo_kafka_bridge::simulator::{EventEntry, Ledger};

use super::{Decoded, PATIENCE};

/// The key under which the bridge publishes an event of the ledger.
pub fn idempotency_key(event: &EventEntry) -> String {
    format!("{}/{}", event.queue.as_ref().unwrap(), event.event_id.as_ref().unwrap())
}

/// The events that the source handed out, as the bridge keys them.
pub fn handed_out(ledger: &Ledger) -> BTreeMap<String, &EventEntry> {
    let handed_out = ledger.events.iter().filter(|event| event.handed_out.is_some());
    handed_out.map(|event| (idempotency_key(event), event)).collect()
}

/// The keys of those that were handed out after `at`, as [`now_millis`] counts.
pub fn handed_out_after(ledger: &Ledger, at: i64) -> Vec<String> {
    let is_after =
        |event: &EventEntry| event.handed_out.as_ref().is_some_and(|taken| taken.at as i64 > at);
    let handed_out = handed_out(ledger).into_iter();
    handed_out.filter(|(_, event)| is_after(event)).map(|(key, _)| key).collect()
}

/// The records of `linxo.events` that came out of queues.
pub fn from_queues(events: &[Decoded]) -> impl Iterator<Item = &Decoded> {
    events.iter().filter(|event| event.value["origin"] == "QUEUE")
}

/// The keys of the events that came out of queues.
pub fn published(events: &[Decoded]) -> HashSet<String> {
    from_queues(events).map(|event| event.text("idempotency_key").to_owned()).collect()
}

/// Events that were handed out, are not in the topic, and lie inside no gap of their user.
pub fn lost_in_silence<'a>(
    ledger: &'a Ledger,
    events: &[Decoded],
    gaps: &[Decoded],
) -> Vec<&'a EventEntry> {
    let published = published(events);
    let covers = |gap: &Decoded, event: &EventEntry| {
        let millis = |field: &str| gap.value[field].as_i64().unwrap();
        let at = i64::try_from(event.handed_out.as_ref().unwrap().at).unwrap();
        gap.text("user_id") == &*event.user && millis("from") <= at && at <= millis("to")
    };
    let handed_out = handed_out(ledger).into_iter();
    let missing = handed_out.filter(|(key, _)| !published.contains(key)).map(|(_, event)| event);
    missing.filter(|event| !gaps.iter().any(|gap| covers(gap, event))).collect()
}

/// Nothing is in the topic twice, and nothing that the source did not hand out.
pub fn assert_nothing_twice_or_invented(events: &[Decoded], ledger: &Ledger) {
    let handed_out = handed_out(ledger);
    let mut seen = HashSet::new();
    for event in events {
        let key = event.text("idempotency_key");
        assert!(seen.insert(key.to_owned()), "{key} is there twice: {event:#?}");
        let is_made = event.value["origin"] == "RECONCILIATION";
        assert!(is_made || handed_out.contains_key(key), "{key} was not handed out: {event:#?}");
    }
}

/// The sequences of each key count 1, 2, 3 in the order of the topic, within a subscription.
pub fn assert_sequences_without_holes(events: &[Decoded]) {
    let mut last: BTreeMap<(&str, &str), i64> = BTreeMap::new();
    for event in events.iter().filter(|event| event.value["late"] == false) {
        let last = last.entry((&event.key, event.text("subscription_id"))).or_default();
        let sequence = event.value["sequence"].as_i64().expect("a sequence, as it is not late");
        assert_eq!(sequence, *last + 1, "of key {}: {event:#?}", event.key);
        *last = sequence;
    }
}

/// The events of each key are in the order in which their queue numbered them, and an owner's epoch
/// never falls.
pub fn assert_order_per_key(events: &[Decoded]) {
    let mut last: BTreeMap<&str, (i64, i64, u64)> = BTreeMap::new();
    for event in from_queues(events).filter(|event| event.value["late"] == false) {
        let number = |field: &str| event.value[field].as_i64().unwrap();
        let id = event.text("event_id").parse().expect("the simulator numbers its events");
        let place = (number("owner_epoch"), number("queue_generation"), id);
        if let Some(before) = last.insert(&event.key, place) {
            assert!(before < place, "{before:?} before {place:?}: {event:#?}");
        }
    }
}

/// Waits for what is neither in a topic nor shown by the bridge.
pub async fn eventually(what: &str, is_so: impl Fn() -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !is_so() {
        assert!(tokio::time::Instant::now() < deadline, "it did not come to this: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Milliseconds since 1970, by the clock that the source and the bridge go by.
pub fn now_millis() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(since.as_millis()).unwrap()
}
