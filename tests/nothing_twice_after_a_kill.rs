//! A bridge that is killed while events flow and started again publishes nothing twice, makes no
//! queue anew, and lacks nothing that is not inside a gap.

#![expect(clippy::unwrap_used, reason = "a test fails by panic")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use linxo_kafka_bridge::simulator::{Fate, Sync};
use support::{Stage, oracle};

const USERS: usize = 12;

fn user(number: usize) -> String {
    format!("user-{}", number % USERS)
}

/// Events that may wait at the source: few, so that a first answer does not hold all of a round.
const WAITING: u64 = 30;

/// Makes events in bursts of one to seven, as fast as they are taken, until the source has handed
/// out `more` of them; `round` makes each round another.
async fn flow(stage: &Stage, round: usize, more: usize) {
    let until = stage.handed_out() + more;
    let mut burst = round * 31;
    while stage.handed_out() < until {
        if stage.simulator.stats().waiting < WAITING {
            burst += 1;
            stage.simulator.push_events(&user(burst * 5), None, 1 + burst % 7).unwrap();
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn a_kill_in_the_flow_of_events_repeats_nothing_and_loses_nothing_in_silence() {
    let settings = [
        ("polling.active", "\"10ms\""),
        ("polling.keep_alive", "\"1s\""),
        ("linxo.queue_lifetime", "\"15s\""),
    ];
    let stage = Stage::with("killed", Default::default(), &settings).await;
    let mut bridge = stage.bridge().await;
    for number in 0..USERS {
        bridge.put(&user(number)).await;
    }
    let mut last_kill = 0;
    for (round, more) in [1, 400, 60, 150].into_iter().enumerate() {
        flow(&stage, round, more).await;
        bridge.kill().await;
        last_kill = oracle::now_millis();
        bridge = if round % 2 == 0 { stage.bridge().await } else { stage.start().await };
    }
    bridge.ready().await;
    for number in 0..USERS {
        stage.simulator.start_sync(&user(number), &Sync::default()).unwrap();
    }
    oracle::eventually("nothing waits at the source", || {
        stage.simulator.ledger(None).with_fate(Fate::Waiting).next().is_none()
    })
    .await;
    let ledger = stage.simulator.ledger(None);
    let after_the_last_kill = oracle::handed_out_after(&ledger, last_kill);
    let events = stage.until_published(&after_the_last_kill).await;

    oracle::assert_nothing_twice_or_invented(&events, &ledger);
    oracle::assert_sequences_without_holes(&events);
    oracle::assert_order_per_key(&events);
    // what was on the wire when the bridge was killed is a gap soon after
    let gaps = stage
        .until("linxo.gaps", |gaps| oracle::lost_in_silence(&ledger, &events, gaps).is_empty())
        .await;
    // the ids of a queue are consecutive here, so that most losses are known for certain
    let causes: BTreeSet<(&str, &str)> =
        gaps.iter().map(|gap| (gap.text("cause"), gap.text("certainty"))).collect();
    let known = [("ANSWER_LOST", "POSSIBLE"), ("EVENT_ID_JUMP", "CERTAIN")];
    assert!(causes.iter().all(|cause| known.contains(cause)), "{gaps:#?}");
    let anew: BTreeMap<_, _> =
        ledger.users.iter().map(|user| (&user.user, user.subscribes)).collect();
    assert!(anew.values().all(|&subscribes| subscribes == 1), "{anew:?}");
    assert!(ledger.deaths.is_empty(), "{:?}", ledger.deaths);
    let epochs = events.iter().map(|event| event.value["owner_epoch"].as_i64().unwrap());
    assert_eq!(epochs.max(), Some(5), "each start takes its users over");
    assert!(bridge.stop().await.success());
}
