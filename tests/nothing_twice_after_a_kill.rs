//! A bridge that is killed while events flow and started again publishes nothing twice, makes no
//! queue anew, and lacks at most the last answer of each queue before each kill.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panic")]

mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use linxo_kafka_bridge::simulator::{EventEntry, Fate, Ledger, Sync};
use support::{Stage, oracle};

const USERS: usize = 12;
/// How long before a kill an answer can have been received and not be committed, generously.
const LAST_SECONDS: i64 = 3_000;

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

/// The events that were handed out and are not in the topic, with the number of the answer of
/// their queue that was the last one before the kill that took them.
fn assert_only_last_answers_are_missing(
    ledger: &Ledger,
    events: &[support::Decoded],
    kills: &[i64],
) -> usize {
    let handed_out = oracle::handed_out(ledger);
    let published = oracle::published(events);
    let at = |event: &EventEntry| i64::try_from(event.handed_out.as_ref().unwrap().at).unwrap();
    let answer = |event: &EventEntry| event.handed_out.as_ref().unwrap().answer;
    let missing: Vec<&EventEntry> = handed_out
        .iter()
        .filter(|(key, _)| !published.contains(*key))
        .map(|(_, event)| *event)
        .collect();
    for event in &missing {
        let Some(kill) = kills.iter().find(|kill| at(event) <= **kill) else {
            panic!("missing though received after the last kill at {kills:?}: {event:#?}");
        };
        assert!(at(event) > kill - LAST_SECONDS, "missing long before {kill}: {event:#?}");
        // a queue is asked again only once its last answer is kept
        let of_queue = handed_out.values().filter(|other| other.queue == event.queue);
        let last = of_queue.filter(|other| at(other) <= *kill).map(|other| answer(other)).max();
        assert_eq!(Some(answer(event)), last, "not of the last answer before {kill}: {event:#?}");
    }
    missing.len()
}

#[tokio::test]
async fn a_kill_in_the_flow_of_events_repeats_nothing_and_loses_last_answers_at_most() {
    let settings = [("polling.active", "\"10ms\""), ("polling.keep_alive", "\"2s\"")];
    let stage = Stage::with("killed", Default::default(), &settings).await;
    let mut bridge = stage.bridge().await;
    for number in 0..USERS {
        bridge.put(&user(number)).await;
    }
    let mut kills = Vec::new();
    for (round, more) in [1, 400, 60, 150].into_iter().enumerate() {
        flow(&stage, round, more).await;
        bridge.kill().await;
        kills.push(oracle::now_millis());
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
    let last_kill = *kills.last().unwrap();
    let after_the_last_kill: Vec<String> = oracle::handed_out(&ledger)
        .into_iter()
        .filter(|(_, event)| {
            event.handed_out.as_ref().is_some_and(|taken| taken.at as i64 > last_kill)
        })
        .map(|(key, _)| key)
        .collect();
    let events = stage
        .until("linxo.events", |events| {
            let published = oracle::published(events);
            after_the_last_kill.iter().all(|key| published.contains(key))
        })
        .await;

    oracle::assert_nothing_twice_or_invented(&events, &ledger);
    oracle::assert_sequences_without_holes(&events);
    oracle::assert_order_per_key(&events);
    let missing = assert_only_last_answers_are_missing(&ledger, &events, &kills);
    assert!(missing < events.len() / 4, "{missing} are missing beside {} events", events.len());
    let anew: BTreeMap<_, _> =
        ledger.users.iter().map(|user| (&user.user, user.subscribes)).collect();
    assert!(anew.values().all(|&subscribes| subscribes == 1), "{anew:?}");
    assert!(ledger.deaths.is_empty(), "{:?}", ledger.deaths);
    let epochs = events.iter().map(|event| event.value["owner_epoch"].as_i64().unwrap());
    assert_eq!(epochs.max(), Some(5), "each start takes its users over");
    assert!(bridge.stop().await.success());
}
