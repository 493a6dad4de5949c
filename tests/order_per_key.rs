//! Events of a key keep the order of their queue, and their sequence leaves none out, also when the
//! bridge is stopped and started, or killed, in between.

#![expect(clippy::unwrap_used, reason = "a test fails by panic")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use linxo_kafka_bridge::simulator::{ConnectionPlan, Sync};
use support::{Stage, oracle};

const USERS: [&str; 3] = ["ann", "ben", "cy"];

/// Few connections that much happens to: bursts of plain events, and whole synchronizations with
/// events that name no connection in between. Ends when all of it was made and taken.
async fn flow(stage: &Stage, connections: &BTreeMap<&str, Vec<String>>) {
    let mut made = usize::try_from(stage.simulator.stats().made).unwrap();
    for round in 0..60 {
        for (place, user) in USERS.into_iter().enumerate() {
            let connection = &connections[user][(round + place) % 2];
            let burst = 1 + (round * 7 + place * 3) % 5;
            stage.simulator.push_events(user, Some(connection), burst).unwrap();
            made += burst;
            if round % 20 == 5 * place {
                let sync = Sync { extras: true, over_ms: 200, ..Sync::default() };
                made += stage.simulator.start_sync(user, &sync).unwrap();
            }
        }
        // spread over many answers
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    oracle::eventually("all events are made and taken", || {
        let stats = stage.simulator.stats();
        stats.made == made as u64 && stats.waiting == 0
    })
    .await;
    stage.drained().await;
}

#[tokio::test]
async fn many_answers_of_few_connections_stay_in_order_across_restarts() {
    let stage = Stage::with("order", Default::default(), &[("polling.active", "\"20ms\"")]).await;
    let plan = ConnectionPlan::default();
    let connections: BTreeMap<&str, Vec<String>> = USERS
        .into_iter()
        .map(|user| (user, stage.simulator.put_user(user, &[plan.clone(), plan.clone()]).unwrap()))
        .collect();
    let bridge = stage.bridge().await;
    for user in USERS {
        bridge.put(user).await;
    }
    flow(&stage, &connections).await;
    assert!(bridge.stop().await.success());
    let bridge = stage.bridge().await;
    flow(&stage, &connections).await;
    // nothing is under way, so nothing is lost
    bridge.kill().await;
    let bridge = stage.bridge().await;
    flow(&stage, &connections).await;
    let events = stage.drained().await;

    let ledger = stage.simulator.ledger(None);
    assert_eq!(oracle::published(&events), oracle::handed_out(&ledger).into_keys().collect());
    oracle::assert_nothing_twice_or_invented(&events, &ledger);
    oracle::assert_order_per_key(&events);
    oracle::assert_sequences_without_holes(&events);
    for user in USERS {
        let answers: BTreeSet<(&str, i64)> = events
            .iter()
            .filter(|event| event.text("user_id") == user)
            .map(|event| (event.text("queue_id"), event.value["received_at"].as_i64().unwrap()))
            .collect();
        assert!(answers.len() > 20, "{user} had {} answers only", answers.len());
        for key in connections[user].iter().map(String::as_str).chain([user]) {
            let epochs: BTreeSet<i64> = events
                .iter()
                .filter(|event| event.key == key)
                .map(|event| event.value["owner_epoch"].as_i64().unwrap())
                .collect();
            assert_eq!(epochs, BTreeSet::from([1, 2, 3]), "of {key}");
        }
    }
    assert!(bridge.stop().await.success());
}
