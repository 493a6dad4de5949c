//! Every event that a queue hands out is published once, also when the bridge is stopped and
//! started in between.

#![expect(clippy::unwrap_used, reason = "a test fails by panic")]

mod support;

use std::collections::BTreeMap;

use linxo_kafka_bridge::simulator::Sync;
use support::{Decoded, Stage};

/// How often each event of each queue is in the topic.
fn counts(events: &[Decoded]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for event in events.iter().filter(|event| event.value["origin"] == "QUEUE") {
        *counts.entry(event.text("idempotency_key").to_owned()).or_default() += 1;
    }
    counts
}

/// The events that the source handed out, as the bridge keys them.
fn handed_out(stage: &Stage) -> BTreeMap<String, usize> {
    let ledger = stage.simulator.ledger(None);
    let mut handed_out = BTreeMap::new();
    for event in ledger.events.iter().filter(|event| event.handed_out.is_some()) {
        let key = format!("{}/{}", event.queue.as_ref().unwrap(), event.event_id.as_ref().unwrap());
        *handed_out.entry(key).or_default() += 1;
    }
    handed_out
}

/// Events before a stop, events while nobody asks, and a start: all once, and no queue anew.
async fn survives_a_restart(stage: &Stage) {
    let users: Vec<String> = (0..20).map(|user| format!("user-{user}")).collect();
    let bridge = stage.bridge().await;
    for user in &users {
        bridge.put(user).await;
        stage.simulator.start_sync(user, &Sync::default()).unwrap();
    }
    stage.drained().await;
    assert!(bridge.stop().await.success());

    // made while nobody asks: the queues hold them
    for user in &users {
        stage.simulator.start_sync(user, &Sync::default()).unwrap();
    }
    let bridge = stage.bridge().await;
    let events = stage.drained().await;

    assert_eq!(counts(&events), handed_out(stage));
    let ledger = stage.simulator.ledger(None);
    assert!(ledger.users.iter().all(|user| user.subscribes == 1), "{:?}", ledger.users);
    assert_eq!(stage.read("linxo.gaps").await.len(), 0);
    assert_eq!(stage.read("linxo.dead-letters").await.len(), 0);
    assert!(bridge.stop().await.success());
}

#[tokio::test]
async fn events_before_and_after_a_restart_are_published_once_and_no_queue_is_made_anew() {
    survives_a_restart(&Stage::new("once").await).await;
}

#[tokio::test]
async fn the_same_holds_under_the_new_group_protocol() {
    let mut stage = Stage::new("once-consumer").await;
    stage.set("kafka.group_protocol", "\"consumer\"");
    stage.unset("kafka.session_timeout");
    survives_a_restart(&stage).await;
}
