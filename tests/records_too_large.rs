//! Events larger than their topic takes: first they lose `unmapped`, then they become dead letters,
//! and what follows them is published, also when the topic takes less than it did at the start.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panic")]

mod support;

use linxo_kafka_bridge::simulator::Options;
use serde_json::{Value, json};
use support::account::assert_counted;
use support::{Decoded, Stage};

/// Text that no compression makes shorter: the broker measures what arrives.
fn noise(length: usize) -> String {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"[(state % 64) as usize]
    };
    (0..length).map(|_| char::from(next())).collect()
}

/// An event about connection `c` with this many bytes under a name the schema knows, and this many
/// under one that it does not.
fn push(stage: &Stage, id: &str, event_type: &str, named: usize, unmapped: usize) {
    let element = json!({
        "id": id,
        "event_type": event_type,
        "channel_definition_id": "101",
        "resource_type": "CONNECTION",
        "resource": {"id": "c", "name": noise(named)},
        "surplus": noise(unmapped),
    });
    assert_eq!(stage.simulator.push("user", &element.to_string()).unwrap(), 1);
}

/// A stage whose topics take these many bytes.
async fn stage(name: &str, sizes: &[(&str, &str)]) -> Stage {
    let settings = [("polling.active_for", "\"60s\"")];
    let stage = Stage::bare(name, Options::default(), &settings).await;
    for (topic, size) in sizes {
        let topic = stage.topic(topic);
        stage.kafka.create_topic(&topic, 4, &[("max.message.bytes", size)]).await;
    }
    assert!(stage.run(&["topics", "create"]).await.status.success());
    stage
}

fn is_shed(event: &Decoded) -> bool {
    event.value["unmapped"] == json!({})
}

/// The one letter in the parts of a topic that are about `id`.
fn letter(records: &[Decoded], id: &str) -> Value {
    let mut letters: Vec<String> = Vec::new();
    for record in records {
        assert_eq!(record.record.header("linxo-reason"), Some("too_large"));
        let text = record.value.as_str().unwrap();
        match record.record.header("linxo-part").map(|part| part.split_once('/').unwrap()) {
            None | Some(("1", _)) => letters.push(text.to_owned()),
            Some(_) => letters.last_mut().unwrap().push_str(text),
        }
    }
    let letters: Vec<Value> =
        letters.iter().map(|text| serde_json::from_str(text).unwrap()).collect();
    let mut about = letters.into_iter().filter(|letter| letter["id"] == id);
    let letter = about.next().unwrap_or_else(|| panic!("no letter about {id}"));
    assert!(about.next().is_none(), "more than one letter about {id}");
    letter
}

#[tokio::test]
async fn an_event_too_large_for_its_topic_sheds_what_is_unmapped_or_becomes_a_dead_letter() {
    let sizes = [
        ("linxo.events", "6000"),
        ("linxo.actions.auth-failed", "4000"),
        ("linxo.dead-letters", "3000"),
    ];
    let stage = stage("too-large", &sizes).await;
    let bridge = stage.bridge().await;
    bridge.put("user").await;
    push(&stage, "fits", "X", 100, 4_000);
    push(&stage, "surplus", "X", 100, 9_000);
    push(&stage, "large", "X", 9_000, 100);
    // fits into the topic of events, but not into the one of its copy: both are shed alike
    push(&stage, "copied", "AUTH_FAILED", 100, 4_000);
    push(&stage, "uncopied", "AUTH_FAILED", 5_000, 0);
    push(&stage, "last", "X", 100, 100);

    let events = stage.until("linxo.events", |events| events.len() == 4).await;
    let ids: Vec<&str> = events.iter().map(|event| event.text("event_id")).collect();
    assert_eq!(ids, ["fits", "surplus", "copied", "last"]);
    assert_eq!(events.iter().map(is_shed).collect::<Vec<_>>(), [false, true, true, false]);
    assert_eq!(events[1].value["connection"]["name"], noise(100));
    assert_counted(&events);
    let actions = stage.read("linxo.actions.auth-failed").await;
    assert_eq!(actions.len(), 1);
    assert_eq!(actions[0].value, events[2].value);

    let letters = stage.read("linxo.dead-letters").await;
    assert_eq!(letter(&letters, "large")["resource"]["name"], noise(9_000));
    assert_eq!(letter(&letters, "uncopied")["resource"]["name"], noise(5_000));
    assert!(letters.iter().all(|part| part.record.value.as_ref().unwrap().len() < 3_000));
    assert!(letters.iter().all(|part| part.record.header("linxo-part").is_some()));
    let too_large = "linxo_bridge_dead_letters_total{reason=\"too_large\"}";
    assert_eq!(bridge.metric(too_large).await, 2.0);
    // all of it was known beforehand: the broker had nothing to refuse
    assert_eq!(bridge.metric("linxo_bridge_transactions_total{outcome=\"aborted\"}").await, 0.0);
}

#[tokio::test]
async fn a_topic_that_takes_less_than_it_did_stops_nothing_but_what_is_too_large_for_it_now() {
    let sizes = [("linxo.events", "50000"), ("linxo.dead-letters", "50000")];
    let stage = stage("lowered", &sizes).await;
    let bridge = stage.bridge().await;
    bridge.put("user").await;
    push(&stage, "before", "X", 8_000, 8_000);
    stage.until("linxo.events", |events| events.len() == 1).await;

    for topic in ["linxo.events", "linxo.dead-letters"] {
        let topic = stage.topic(topic);
        stage.kafka.alter_topic(&topic, &[("max.message.bytes", "5000")]).await;
    }
    let since = tokio::time::Instant::now();
    push(&stage, "small", "X", 100, 100);
    push(&stage, "surplus", "X", 100, 8_000);
    push(&stage, "large", "X", 8_000, 100);
    for place in 0..40 {
        push(&stage, &format!("after-{place}"), "X", 100, 300);
    }
    let events = stage.until("linxo.events", |events| events.len() == 43).await;
    // an abort that nobody serves takes 30 s, and the next attempt waits for it
    assert!(since.elapsed().as_secs() < 20, "it took {:?}", since.elapsed());
    assert_counted(&events);
    let shed: Vec<&str> =
        events.iter().filter(|event| is_shed(event)).map(|event| event.text("event_id")).collect();
    assert_eq!(shed, ["surplus"]);
    let letters = stage.read("linxo.dead-letters").await;
    assert_eq!(letter(&letters, "large")["resource"]["name"], noise(8_000));
    assert!(letters.len() > 1, "cut in parts");
    let aborted = bridge.metric("linxo_bridge_transactions_total{outcome=\"aborted\"}").await;
    assert!((1.0..=3.0).contains(&aborted), "{aborted} transactions were refused");
    assert!(bridge.log().contains("topics take other sizes than before"), "{}", bridge.log());

    // and the change is known from then on
    push(&stage, "known", "X", 8_000, 100);
    push(&stage, "end", "X", 100, 100);
    stage.until("linxo.events", |events| events.len() == 44).await;
    assert_eq!(
        bridge.metric("linxo_bridge_transactions_total{outcome=\"aborted\"}").await,
        aborted
    );
}
