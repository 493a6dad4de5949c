//! Events, actions and gaps as strangers read them: Kafka's own client, Avro's own decoder and the
//! schemas, in either framing.

#![expect(clippy::unwrap_used, reason = "a test fails by panic")]

mod support;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use linxo_kafka_bridge::simulator::{ConnectionPlan, Options, Sync, Version};
use serde_json::{Map, Value, json};
use support::java::{self, Schemas};
use support::{Registry, Stage};

const USER: &str = "user-é";
const CONNECTION: &str = "connection-ü/1";

/// An event with every field that the source is known to send, and two that it is not; `dates` in
/// the form of the version.
fn whole_event(dates: &impl Fn(i64) -> Value) -> Value {
    json!({
        "id": "event \"1\"",
        "event_type": "AUTH_FAILED",
        "resource_type": "CONNECTION",
        "creation_date": dates(1_700_000_000),
        "channel_definition_id": "100301",
        "resource": {
            "id": CONNECTION,
            "provider_id": "1003",
            "name": "Banque Simulée",
            "status": "FAILED",
            "creation_date": dates(1_690_000_000),
            "channels": [
                {
                    "channel_definition_id": "100301",
                    "mode": "REDIRECT",
                    "status": "AUTH_FAILED",
                    "expires": dates(1_707_776_000),
                    "last_success_date": dates(1_699_000_000),
                    "last_end_date": dates(1_700_000_000),
                    "credentials": [{"key": "password", "value": "never-to-be-seen"}],
                },
                {"channel_definition_id": "100300", "mode": "EMBEDDED", "status": "TOKEN_EXPIRED"},
            ],
            "owner": {"name": "Camille", "token": "never-to-be-seen"},
        },
        "novelty": [1, null, "é"],
    })
}

/// An event with what it must have and nothing else.
fn bare_event() -> Value {
    json!({"id": "2", "event_type": "SIMULATOR_NOTICE"})
}

fn text(value: &str) -> Value {
    json!({ "string": value })
}

fn time(seconds: i64) -> Value {
    json!({"long": seconds * 1000})
}

fn channel(id: &str, mode: &str, status: &str, times: [Option<i64>; 3]) -> Value {
    let [expires, success, end] = times.map(|seconds| seconds.map_or(Value::Null, time));
    json!({
        "definition_id": text(id), "mode": text(mode), "status": text(status),
        "expires_at": expires, "last_success_at": success, "last_end_at": end,
    })
}

/// What Java's reader must make of [`whole_event`], less what the bridge made up.
fn whole_as_read() -> Value {
    json!({
        "event_id": "event \"1\"",
        "event_type": "AUTH_FAILED",
        "actions": [
            {"action": "AUTH_FAILED", "channel_definition_id": text("100301")},
            {"action": "TOKEN_EXPIRED", "channel_definition_id": text("100300")},
        ],
        "resource_type": text("CONNECTION"),
        "created_at": time(1_700_000_000),
        "user_id": USER,
        "queue_generation": 1,
        "sequence": {"long": 1},
        "late": false,
        "connection_id": text(CONNECTION),
        "channel_definition_id": text("100301"),
        "channel_mode": text("REDIRECT"),
        "connection": {"com.linxo.bridge.Connection": {
            "id": CONNECTION,
            "provider_id": text("1003"),
            "name": text("Banque Simulée"),
            "status": text("FAILED"),
            "created_at": time(1_690_000_000),
            "channels": [
                channel(
                    "100301", "REDIRECT", "AUTH_FAILED",
                    [Some(1_707_776_000), Some(1_699_000_000), Some(1_700_000_000)],
                ),
                channel("100300", "EMBEDDED", "TOKEN_EXPIRED", [None; 3]),
            ],
        }},
        "origin": "QUEUE",
        "unmapped": {"/novelty": "[1,null,\"é\"]", "/resource/owner": "{\"name\":\"Camille\"}"},
    })
}

/// The same of [`bare_event`].
fn bare_as_read() -> Value {
    json!({
        "event_id": "2", "event_type": "SIMULATOR_NOTICE", "actions": [], "resource_type": null,
        "created_at": null, "user_id": USER, "queue_generation": 1, "sequence": {"long": 1},
        "late": false, "connection_id": null, "channel_definition_id": null, "channel_mode": null,
        "connection": null, "origin": "QUEUE", "unmapped": {},
    })
}

/// Takes out of a value what the bridge made up.
fn taken(value: &mut Value, fields: &[&str]) -> Map<String, Value> {
    let record = value.as_object_mut().unwrap();
    fields.iter().map(|field| (field.to_string(), record.remove(*field).unwrap())).collect()
}

/// Has a bridge publish the two events, a synchronization and a gap, and reads all as Java does.
async fn strangers_understand(stage: &Stage, schemas: Schemas<'_>, version: Version) {
    let dates = |seconds: i64| match version {
        Version::V21 => json!(seconds),
        Version::V3 => json!(jiff::Timestamp::from_second(seconds).unwrap().to_string()),
    };
    let read = async |topic: &str| {
        java::read_topic(stage.kafka.bootstrap_servers(), &stage.topic(topic), schemas).await
    };
    let bridge = stage.bridge().await;
    let put = bridge.put(USER).await;
    let queue = put["queue_id"].as_str().unwrap().to_owned();
    for event in [whole_event(&dates), bare_event()] {
        stage.simulator.push(USER, &event.to_string()).unwrap();
    }
    stage.drained().await;

    let mut events = read("linxo.events").await;
    assert_eq!(events.len(), 2);
    events.sort_by_key(|event| event["value"]["event_id"] == "2");
    for (event, expected, key) in
        [(&events[0], whole_as_read(), CONNECTION), (&events[1], bare_as_read(), USER)]
    {
        let id = expected["event_id"].as_str().unwrap();
        assert_eq!(event["schema"], "com.linxo.bridge.Event");
        assert_eq!(event["key"], key);
        let idempotency_key = format!("{queue}/{id}");
        assert_eq!(
            event["headers"],
            json!({
                "linxo-event-id": id, "linxo-event-type": expected["event_type"],
                "linxo-user-id": USER, "linxo-idempotency-key": idempotency_key,
            })
        );
        let mut value = event["value"].clone();
        let made = taken(
            &mut value,
            &["subscription_id", "queue_id", "idempotency_key", "owner_epoch", "received_at"],
        );
        assert_eq!(value, expected);
        assert_eq!(made["subscription_id"], put["subscription_id"]);
        assert_eq!(made["queue_id"], queue);
        assert_eq!(made["idempotency_key"], idempotency_key);
        assert_eq!(made["received_at"], event["timestamp"], "the record's time is received_at");
    }
    for action in ["auth-failed", "token-expired"] {
        let copies = read(&format!("linxo.actions.{action}")).await;
        assert_eq!(copies.len(), 1, "{action}");
        for part in ["key", "value", "headers", "schema", "timestamp"] {
            assert_eq!(copies[0][part], events[0][part], "{action}: {part}");
        }
    }

    stage.simulator.kill_queue(&queue);
    stage.until("linxo.gaps", |gaps| gaps.len() >= 4).await;
    let gaps = read("linxo.gaps").await;
    let next = bridge.show(USER).await["queue_id"].clone();
    // the state of the connection, published in between, took a sequence
    for (key, connection, stands_after) in
        [(USER, Value::Null, [1, 1]), (CONNECTION, text(CONNECTION), [1, 2])]
    {
        let of_key: Vec<&Value> = gaps.iter().filter(|gap| gap["key"] == key).collect();
        assert_eq!(of_key.len(), 2, "{key}: open, then reconciled");
        for ((gap, after), is_reconciled) in of_key.into_iter().zip(stands_after).zip([false, true])
        {
            assert_eq!(gap["schema"], "com.linxo.bridge.Gap");
            let mut value = gap["value"].clone();
            let made = taken(&mut value, &["gap_id", "from", "to"]);
            assert_eq!(
                value,
                json!({
                    "user_id": USER, "subscription_id": put["subscription_id"],
                    "connection_id": connection, "cause": "QUEUE_GONE", "certainty": "CERTAIN",
                    "queue_id": queue, "queue_generation": 1,
                    "next_queue_id": {"string": next}, "last_event_id": text("2"),
                    "next_event_id": null, "after_sequence": {"long": after},
                    "reconciled": is_reconciled,
                })
            );
            assert!(made["from"].as_i64().unwrap() <= made["to"].as_i64().unwrap());
            assert_eq!(gap["headers"]["linxo-user-id"], USER);
            assert_eq!(gap["headers"]["linxo-event-id"], made["gap_id"]);
            assert_eq!(gap["headers"]["linxo-event-type"], "GAP");
            assert!(gap["headers"]["linxo-idempotency-key"].is_string());
        }
    }
    assert!(bridge.stop().await.success());
}

fn schema_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas")
}

#[tokio::test(flavor = "multi_thread")]
async fn java_understands_single_objects_given_the_schemas() {
    let stage = Stage::new("single").await;
    let folder = schema_folder();
    strangers_understand(&stage, Schemas::Folder(&folder), Version::V21).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn java_understands_the_framing_of_a_registry_and_dates_of_version_3() {
    let registry = Registry::shared().await;
    let url = format!("{:?}", registry.url());
    let options = Options { version: Version::V3, ..Options::default() };
    let stage = Stage::with("framed", options, &[("schema_registry.url", &url)]).await;
    strangers_understand(&stage, Schemas::Registry(registry.url()), Version::V3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_key_is_in_the_partition_where_java_puts_it() {
    let stage = Stage::new("keys").await;
    let bridge = stage.bridge().await;
    for number in 0..12 {
        let user = format!("user-{number}-é");
        let id = Some("x".repeat(number) + "-connection");
        let plan = ConnectionPlan { id, ..ConnectionPlan::default() };
        stage.simulator.put_user(&user, &[plan]).unwrap();
        bridge.put(&user).await;
        let sync = Sync { extras: true, ..Sync::default() };
        stage.simulator.start_sync(&user, &sync).unwrap();
    }
    stage.drained().await;
    stage.simulator.kill_queues_of("user-0-é");
    stage.until("linxo.gaps", |gaps| gaps.len() >= 4).await;
    let mut used = BTreeSet::new();
    for topic in ["linxo.subscriptions", "linxo.queues", "linxo.events", "linxo.gaps"] {
        let records = stage.read(topic).await;
        let keys: Vec<String> = records.iter().map(|record| record.key.clone()).collect();
        let ours: Vec<i32> = records.iter().map(|record| record.record.partition).collect();
        used.extend(ours.iter().copied());
        assert_eq!(ours, java::partitions_of(&keys, 4).await, "{topic}");
    }
    assert_eq!(used.len(), 4, "the keys are spread over all partitions");
    assert!(bridge.stop().await.success());
}
