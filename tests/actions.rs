//! What asks the user to act stands in the topic of its action, exactly once: raised by an event's
//! type or by a channel's status entering, never by a status that merely stays.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panic")]

mod support;

use std::collections::BTreeSet;

use linxo_kafka_bridge::simulator::{Options, Status, Sync};
use serde_json::{Value, json};
use support::{Decoded, Stage, oracle};

const USER: &str = "ann";
/// Each status that asks the user to act, and the part of its topic's name.
const ACTIONS: [(Status, &str); 5] = [
    (Status::AuthFailed, "auth-failed"),
    (Status::TokenExpired, "token-expired"),
    (Status::PasswordChangeRequired, "password-change-required"),
    (Status::UserActionRequired, "user-action-required"),
    (Status::ChallengeRequired, "challenge-required"),
];
/// The magic and the fingerprint of single-object encoding.
const HEADER: usize = 10;

async fn stage(name: &str, more: &[(&str, &str)]) -> Stage {
    let mut settings = vec![("polling.active", "\"50ms\"")];
    settings.extend(more);
    Stage::with(name, Options::default(), &settings).await
}

/// The actions that an event raised, as pairs of action and channel.
fn raised(event: &Decoded) -> Vec<(&str, &str)> {
    fn pair(action: &Value) -> (&str, &str) {
        let text = ["action", "channel_definition_id"].map(|field| action[field].as_str());
        (text[0].unwrap(), text[1].unwrap())
    }
    event.value["actions"].as_array().unwrap().iter().map(pair).collect()
}

/// The events that ask for something.
fn asking(events: &[Decoded]) -> Vec<&Decoded> {
    events.iter().filter(|event| !raised(event).is_empty()).collect()
}

/// Each copy in the topic is a record of the events topic, bytes and all, and is there once;
/// answers the events by how they raised it, in order.
async fn copies(stage: &Stage, topic: &str, events: &[Decoded]) -> Vec<String> {
    let copies = stage.read(topic).await;
    let mut seen = BTreeSet::new();
    let mut types = Vec::new();
    for copy in copies {
        let key = copy.text("idempotency_key").to_owned();
        let same = |event: &&Decoded| event.text("idempotency_key") == key;
        let original = events.iter().find(same).unwrap();
        let (copied, first) = (&copy.record, &original.record);
        let value = |record: &support::Record| record.value.as_ref().unwrap()[HEADER..].to_vec();
        assert_eq!(value(copied), value(first), "{copy:#?}");
        assert_eq!((&copied.key, &copied.headers), (&first.key, &first.headers));
        assert_eq!(copied.timestamp, first.timestamp);
        types.push(copy.text("event_type").to_owned());
        assert!(seen.insert(key), "twice in {topic}: {copy:#?}");
    }
    types
}

fn topic_of(part: &str) -> String {
    format!("linxo.actions.{part}")
}

#[tokio::test]
async fn a_type_or_an_entering_status_raises_an_action_and_a_staying_one_none_across_a_restart() {
    let stage = stage("actions", &[]).await;
    let bridge = stage.bridge().await;
    bridge.put(USER).await;
    for (status, _) in ACTIONS {
        // as an event of that name, the channel's status entering with it; then as a status only,
        // entered again after RUNNING; then the same snapshot twice more
        stage.simulator.start_sync(USER, &Sync::ending(status)).unwrap();
        let quiet = Sync { as_event: false, ..Sync::ending(status) };
        stage.simulator.start_sync(USER, &quiet).unwrap();
        stage.simulator.push_events(USER, None, 2).unwrap();
    }
    let events = stage.drained().await;
    for (status, part) in ACTIONS {
        let types = copies(&stage, &topic_of(part), &events).await;
        assert_eq!(types, [status.as_str(), "LIST_ACCOUNTS_FAILED"], "in {part}");
        let name = format!("linxo_bridge_action_events_total{{action=\"{}\"}}", status.as_str());
        assert_eq!(bridge.metric(&name).await, 2.0);
    }
    let raising = asking(&events);
    assert_eq!(raising.len(), 10, "{raising:#?}");
    for event in raising {
        // once, though type and status both say so, for the channel that the event is about
        let [(_, channel)] = raised(event)[..] else { panic!("{event:#?}") };
        assert_eq!(channel, event.text("channel_definition_id"));
        assert_eq!(event.value["channel_mode"], "REDIRECT");
    }
    assert!(bridge.stop().await.success());

    // the last status stays over the restart, is left, and entered again
    let bridge = stage.bridge().await;
    stage.simulator.push_events(USER, None, 3).unwrap();
    assert_eq!(asking(&stage.drained().await).len(), 10);
    let quiet = Sync { as_event: false, ..Sync::ending(Status::ChallengeRequired) };
    stage.simulator.start_sync(USER, &quiet).unwrap();
    let events = stage.drained().await;
    assert_eq!(asking(&events).len(), 11);
    assert_eq!(copies(&stage, &topic_of("challenge-required"), &events).await.len(), 3);
    oracle::assert_nothing_twice_or_invented(&events, &stage.simulator.ledger(None));
    oracle::assert_sequences_without_holes(&events);
    assert!(bridge.stop().await.success());
}

/// An event with a snapshot of three channels in a bad state.
fn in_trouble(id: &str, event_type: &str) -> String {
    json!({
        "id": id, "event_type": event_type, "resource_type": "CONNECTION",
        "creation_date": 1_700_000_000, "channel_definition_id": "77",
        "resource": { "id": "c9", "provider_id": "1", "status": "FAILED", "channels": [
            { "channel_definition_id": "77", "mode": "REDIRECT", "status": "AUTH_FAILED" },
            { "channel_definition_id": "78", "mode": "EMBEDDED", "status": "TOKEN_EXPIRED" },
            { "channel_definition_id": "79", "mode": "EMBEDDED", "status": "AUTH_FAILED" },
        ]},
    })
    .to_string()
}

/// Publishes an event that raises four actions, and one with the same snapshot that raises none.
async fn trouble(stage: &Stage) -> Vec<Decoded> {
    for (id, event_type) in [("900", "PASSWORD_CHANGE_REQUIRED"), ("901", "LIST_ACCOUNTS_SUCCESS")]
    {
        assert_eq!(stage.simulator.push(USER, &in_trouble(id, event_type)).unwrap(), 1);
    }
    let events = stage.drained().await;
    let [event] = asking(&events)[..] else { panic!("{events:#?}") };
    let mut actions = raised(event);
    actions.sort_unstable();
    let four = [
        ("AUTH_FAILED", "77"),
        ("AUTH_FAILED", "79"),
        ("PASSWORD_CHANGE_REQUIRED", "77"),
        ("TOKEN_EXPIRED", "78"),
    ];
    assert_eq!(actions, four);
    events
}

#[tokio::test]
async fn an_event_that_raises_several_actions_stands_once_in_the_topic_of_each() {
    let stage = stage("several", &[]).await;
    let bridge = stage.bridge().await;
    bridge.put(USER).await;
    let events = trouble(&stage).await;
    for (status, part) in ACTIONS {
        let is_raised = !matches!(status, Status::UserActionRequired | Status::ChallengeRequired);
        let copies = copies(&stage, &topic_of(part), &events).await;
        assert_eq!(copies.len(), usize::from(is_raised), "in {part}");
    }
    assert!(bridge.stop().await.success());
}

#[tokio::test]
async fn a_template_without_action_puts_an_event_once_in_the_one_topic() {
    let stage = stage("one-topic", &[("topics.actions", "\"linxo.actions\"")]).await;
    let bridge = stage.bridge().await;
    bridge.put(USER).await;
    let events = trouble(&stage).await;
    let types = copies(&stage, "linxo.actions", &events).await;
    assert_eq!(types, ["PASSWORD_CHANGE_REQUIRED"]);
    assert!(bridge.stop().await.success());
}
