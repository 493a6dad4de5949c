//! Schema ids from a real Schema Registry: registered before anything is asked, never needed on the
//! way of an event, and understood when an older program wrote with another one.

#![expect(clippy::unwrap_used, reason = "a test fails by panic")]

mod support;

use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::writer::datum::GenericDatumWriter;
use linxo_kafka_bridge::simulator::{Options, Status, Sync};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::Value;
use support::{Decoded, PATIENCE, Registry, Stage, http};

/// Each topic with a schema, and the file that holds it.
const SCHEMAS: [(&str, &str); 10] = [
    ("linxo.subscriptions", "subscription"),
    ("linxo.queues", "queue_state"),
    ("linxo.journals", "journal_mark"),
    ("linxo.events", "event"),
    ("linxo.gaps", "gap"),
    ("linxo.actions.auth-failed", "event"),
    ("linxo.actions.token-expired", "event"),
    ("linxo.actions.password-change-required", "event"),
    ("linxo.actions.user-action-required", "event"),
    ("linxo.actions.challenge-required", "event"),
];

/// A world without topics whose bridge makes them, and knows a registry.
async fn stage(name: &str, registry: &Registry) -> Stage {
    let url = format!("{:?}", registry.url());
    let settings = [("topics.create", "true"), ("schema_registry.url", url.as_str())];
    Stage::bare(name, Options::default(), &settings).await
}

fn subject(stage: &Stage, topic: &str) -> String {
    format!("{}-value", stage.topic(topic))
}

fn schema_text(kind: &str) -> String {
    let path = format!("{}/schemas/{kind}.avsc", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(path).unwrap()
}

/// What a subject's latest version is, as the registry tells anyone.
async fn latest(registry: &Registry, subject: &str) -> Value {
    let url = format!("{}/subjects/{subject}/versions/latest", registry.url());
    let answer = http().get(url).send().await.unwrap();
    assert!(answer.status().is_success(), "{subject}: {}", answer.status());
    answer.json().await.unwrap()
}

/// The schema id in a record's framing.
fn id_of(record: &Decoded) -> u32 {
    let value = record.record.value.as_deref().unwrap();
    assert_eq!(value[0], 0, "Confluent framing begins with a zero");
    u32::from_be_bytes(value[1..5].try_into().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_subject_is_registered_at_the_start_and_its_id_stands_in_every_record() {
    let registry = Registry::shared().await;
    let stage = stage("registered", registry).await;
    let bridge = stage.bridge().await;
    let mut ids = Vec::new();
    for (topic, kind) in SCHEMAS {
        let version = latest(registry, &subject(&stage, topic)).await;
        let registered = Schema::parse_str(version["schema"].as_str().unwrap()).unwrap();
        assert_eq!(registered, Schema::parse_str(&schema_text(kind)).unwrap(), "{topic}");
        ids.push((topic, u32::try_from(version["id"].as_u64().unwrap()).unwrap()));
    }

    bridge.put("user").await;
    stage.simulator.start_sync("user", &Sync::ending(Status::AuthFailed)).unwrap();
    stage.drained().await;
    stage.simulator.kill_queues_of("user");
    stage.until("linxo.gaps", |gaps| gaps.iter().any(|gap| gap.value["reconciled"] == true)).await;
    stage.until("linxo.journals", |marks| !marks.is_empty()).await;
    for (topic, id) in ids {
        let records = stage.read(topic).await;
        let is_used = !topic.starts_with("linxo.actions.") || topic.ends_with("auth-failed");
        assert_eq!(records.is_empty(), !is_used, "{topic}");
        assert!(records.iter().all(|record| id_of(record) == id), "{topic}: not all of id {id}");
    }
    let (code, text) = check(&stage).await;
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("10 schemas go with the registry's"), "{text}");
    assert!(bridge.stop().await.success());
}

async fn check(stage: &Stage) -> (i32, String) {
    let output = stage.run(&["check"]).await;
    (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bridge_that_may_only_look_up_is_content_with_what_others_registered() {
    let registry = Registry::shared().await;
    let mut stage = stage("looked-up", registry).await;
    stage.set("schema_registry.register", "false");
    let mut bridge = stage.start().await;
    assert_eq!(bridge.ended().await.code(), Some(1));
    let first = subject(&stage, "linxo.subscriptions");
    let said = format!("subject {first}: this schema is not registered");
    assert!(bridge.log().contains(&said), "{said}:\n{}", bridge.log());
    assert!(bridge.log().contains("schema_registry.register"), "{}", bridge.log());
    let (code, text) = check(&stage).await;
    assert_eq!(code, 1);
    for (topic, _) in SCHEMAS {
        let fault = format!("FAULT {} has no schema", subject(&stage, topic));
        assert!(text.contains(&fault), "{fault}:\n{text}");
    }

    for (topic, kind) in SCHEMAS {
        let (status, answer) = registry.register(&subject(&stage, topic), &schema_text(kind)).await;
        assert_eq!(status, 200, "{answer}");
    }
    let bridge = stage.bridge().await;
    bridge.put("user").await;
    let version = latest(registry, &first).await;
    assert_eq!(version["version"], 1, "nothing was added");
    let written = stage.read("linxo.subscriptions").await;
    assert_eq!(u64::from(id_of(&written[0])), version["id"].as_u64().unwrap());
    assert!(bridge.stop().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_that_does_not_go_with_the_registered_one_ends_the_start() {
    let registry = Registry::shared().await;
    let stage = stage("incompatible", registry).await;
    let gaps = subject(&stage, "linxo.gaps");
    let other = r#"{"type": "record", "name": "Gap", "namespace": "com.linxo.bridge",
        "fields": [{"name": "gap_id", "type": "long"}]}"#;
    let (status, answer) = registry.register(&gaps, other).await;
    assert_eq!(status, 200, "{answer}");
    registry.set_subject_compatibility(&gaps, "FULL_TRANSITIVE").await;

    let mut bridge = stage.start().await;
    assert_eq!(bridge.ended().await.code(), Some(1));
    let log = bridge.log();
    for said in [format!("subject {gaps}"), "(409".to_owned(), "compatibility level".to_owned()] {
        assert!(log.contains(&said), "{said}:\n{log}");
    }
    assert_eq!(stage.simulator.stats().polls, 0);
    let (code, text) = check(&stage).await;
    assert_eq!(code, 1);
    assert!(text.contains(&format!("FAULT {gaps}: ")), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_is_away_holds_up_a_start_but_no_event() {
    let registry = Registry::start().await;
    let stage = stage("away", &registry).await;
    registry.stop();
    let bridge = stage.start().await;
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let (status, body) = bridge.get("/readyz").await;
        assert_eq!(status, 503, "{body}");
        assert_eq!(bridge.get("/livez").await.0, 200);
        let body = body.to_string();
        if body.contains("schema registry") && body.contains("cannot be reached") {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "{body}\n{}", bridge.log());
        tokio::time::sleep(std::time::Duration::from_millis(30)).await;
    }
    assert!(bridge.log().contains("the schema registry: "), "{}", bridge.log());
    registry.restart().await;
    bridge.ready().await;

    bridge.put("user").await;
    registry.stop();
    let mut events = stage.simulator.start_sync("user", &Sync::default()).unwrap();
    assert_eq!(stage.drained().await.len(), events);
    bridge.put("other").await;
    events += stage.simulator.start_sync("other", &Sync::ending(Status::TokenExpired)).unwrap();
    assert_eq!(stage.drained().await.len(), events);
    assert_eq!(stage.read("linxo.actions.token-expired").await.len(), 1);
    assert_eq!(bridge.get("/readyz").await.0, 200, "a registry is not needed any more");
    assert!(bridge.stop().await.success());
}

/// The present schema of queue states less a field that has a default: an older version.
fn older_queue_state() -> String {
    let mut schema: Value = serde_json::from_str(&schema_text("queue_state")).unwrap();
    let fields = schema["fields"].as_array_mut().unwrap();
    let before = fields.len();
    fields.retain(|field| field["name"] != "recovery");
    assert_eq!(fields.len(), before - 1);
    schema.to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn states_that_an_older_version_wrote_are_read_after_a_restart() {
    let registry = Registry::shared().await;
    let stage = stage("older", registry).await;
    let states = subject(&stage, "linxo.queues");
    let (status, answer) = registry.register(&states, &older_queue_state()).await;
    assert_eq!(status, 200, "{answer}");
    let older_id = u32::try_from(answer["id"].as_u64().unwrap()).unwrap();
    registry.set_subject_compatibility(&states, "FULL_TRANSITIVE").await;

    let bridge = stage.bridge().await;
    bridge.put("user").await;
    let events = stage.simulator.start_sync("user", &Sync::default()).unwrap();
    stage.drained().await;
    assert!(bridge.stop().await.success());

    // the last state anew, as a bridge of the older version would have left it
    let last = stage.read("linxo.queues").await.pop().unwrap();
    assert_ne!(id_of(&last), older_id, "the present version has an id of its own");
    assert_eq!(last.value["connections"][0]["sequence"], events);
    let present = Schema::parse_str(&schema_text("queue_state")).unwrap();
    let older = Schema::parse_str(&older_queue_state()).unwrap();
    let reader = GenericDatumReader::builder(&present).reader_schema(&older).build().unwrap();
    let value = last.record.value.as_deref().unwrap();
    let state = reader.read_value(&mut &value[5..]).unwrap();
    let writer = GenericDatumWriter::builder(&older).build().unwrap();
    let datum = writer.write_value_to_vec(state).unwrap();
    let value = [[0].as_slice(), &older_id.to_be_bytes(), &datum].concat();
    let producer: BaseProducer = stage.kafka.client().create().unwrap();
    let topic = stage.topic("linxo.queues");
    let record = BaseRecord::to(&topic).key("user").payload(&value);
    producer.send(record.partition(last.record.partition)).unwrap();
    producer.flush(PATIENCE).unwrap();

    let bridge = stage.bridge().await;
    assert!(bridge.log().contains("look it up"), "{}", bridge.log());
    stage.simulator.start_sync("user", &Sync::default()).unwrap();
    let records = stage.drained().await;
    let sequences: Vec<i64> =
        records.iter().map(|record| record.value["sequence"].as_i64().unwrap()).collect();
    let expected: Vec<i64> = (1..=2 * i64::try_from(events).unwrap()).collect();
    assert_eq!(sequences, expected, "the count goes on where the older version left it");
    assert_eq!(stage.simulator.ledger(None).users[0].subscribes, 1);
    assert!(bridge.stop().await.success());
}
