//! What is kept of a user in Kafka: the wish, sealed; the state; both gone together; and all of it
//! read to the end by whoever takes over.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panic")]

mod support;

use std::collections::BTreeSet;
use std::time::Duration;

use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::types::Value as Avro;
use apache_avro::writer::datum::GenericDatumWriter;
use linxo_kafka_bridge::simulator::{FAKE_SECRET, Options, Sync};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::{Value, json};
use support::account::TOPICS;
use support::{Bridge, Decoded, PATIENCE, Stage, path_of, read_topic};
use tokio::time::Instant;

const COMMITTED: &str = "linxo_bridge_transactions_total{outcome=\"committed\"}";

/// A world in which queues are asked often, so that a test soon sees who is.
async fn stage(name: &str) -> Stage {
    Stage::with(name, Options::default(), &[("polling.keep_alive", "\"500ms\"")]).await
}

/// The records of a user in a topic, oldest first.
async fn of(stage: &Stage, topic: &str, user: &str) -> Vec<Decoded> {
    let records = stage.read(topic).await.into_iter();
    records.filter(|record| record.key == user).collect()
}

async fn put_token(bridge: &Bridge, user: &str, token: &str) -> Value {
    let credential = json!({"type": "access_token", "access_token": token});
    let body = json!({"credential": credential});
    let (status, answer) = bridge.call("PUT", &path_of(user), Some(body)).await;
    assert!(status == 200 || status == 201, "{status} {answer}");
    answer
}

async fn delete(bridge: &Bridge, user: &str) {
    let (status, answer) = bridge.call("DELETE", &path_of(user), None).await;
    assert_eq!(status, 204, "{answer}");
}

/// How often each of a user's queues was asked.
fn questions(stage: &Stage, user: &str) -> Vec<u32> {
    let ledger = stage.simulator.ledger(Some(user));
    ledger.queues.iter().map(|queue| queue.questions).collect()
}

/// Waits until a user's last queue was asked this often more than now.
async fn asked_again(stage: &Stage, user: &str, times: u32) {
    let count = || questions(stage, user).last().copied().unwrap_or(0);
    let wanted = count() + times;
    let deadline = Instant::now() + PATIENCE;
    while count() < wanted {
        assert!(Instant::now() < deadline, "{user} is not asked");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_wish_and_the_state_of_a_user_stand_in_the_same_partition() {
    let stage = stage("kept").await;
    let bridge = stage.bridge().await;
    let put = bridge.put("user-é").await;
    let events = stage.simulator.start_sync("user-é", &Sync::default()).unwrap();
    stage.drained().await;

    let wishes = of(&stage, "linxo.subscriptions", "user-é").await;
    assert_eq!(wishes.len(), 1);
    let wish = &wishes[0].value;
    assert_eq!(wish["user_id"], "user-é");
    assert_eq!(wish["subscription_id"], put["subscription_id"]);
    assert_eq!(wish["queue_id"], put["queue_id"]);
    assert_eq!(wish["credential_kind"], "client");
    assert!(wish["created_at"].as_i64().unwrap() > 0);

    let states = of(&stage, "linxo.queues", "user-é").await;
    let state = &states.last().unwrap().value;
    assert_eq!(state["subscription_id"], put["subscription_id"]);
    assert_eq!(state["queue_id"], put["queue_id"]);
    assert_eq!(state["generation"], 1);
    assert_eq!(state["last_event_id"], events.to_string());
    let connections = state["connections"].as_array().unwrap();
    assert_eq!(connections.len(), 1);
    assert_eq!(connections[0]["sequence"], events);
    assert_eq!(connections[0]["channels"].as_array().unwrap().len(), 2);
    for record in wishes.iter().chain(&states) {
        assert_eq!(put["partition"], record.record.partition);
    }
    assert!(bridge.stop().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_credential_is_nowhere_in_clear_and_opens_again_after_a_restart() {
    let mut stage = stage("sealed").await;
    stage.set("service.log", "\"debug,librdkafka=off\"");
    let token = stage.simulator.issue_token("user", None).unwrap();
    let bridge = stage.bridge().await;
    put_token(&bridge, "user", &token).await;
    stage.simulator.start_sync("user", &Sync { extras: true, ..Sync::default() }).unwrap();
    stage
        .simulator
        .push("user", &format!("{{\"id\": 7, \"password\": \"{FAKE_SECRET}\"}}"))
        .unwrap();
    stage.drained_less(1).await;
    let first_log = bridge.log();
    let (_, metrics) = bridge.get("/metrics").await;
    let shown = bridge.show("user").await;
    assert!(bridge.stop().await.success());

    let bridge = stage.bridge().await;
    let events = stage.simulator.start_sync("user", &Sync::default()).unwrap();
    assert!(stage.drained_less(1).await.len() > events, "the sealed token was opened and used");
    let log = bridge.log();
    assert!(bridge.stop().await.success());

    let client_secret = Options::default().client_secret;
    let secrets = [token.as_str(), FAKE_SECRET, &client_secret];
    let holds = |bytes: &[u8], secret: &str| {
        bytes.windows(secret.len()).any(|window| window == secret.as_bytes())
    };
    let mut places: Vec<(String, Vec<u8>)> = vec![
        ("log".into(), [first_log, log].concat().into_bytes()),
        ("metrics".into(), metrics.to_string().into_bytes()),
        ("the subscription as shown".into(), shown.to_string().into_bytes()),
    ];
    let mut records = 0;
    for topic in TOPICS {
        for record in read_topic(stage.kafka.bootstrap_servers(), &stage.topic(topic)).await {
            records += 1;
            let headers = record.headers.into_iter().map(|(_, value)| value);
            let parts = record.key.into_iter().chain(record.value).chain(headers);
            places.extend(parts.map(|part| (topic.to_owned(), part)));
        }
    }
    assert!(records > 20, "{records}");
    for entry in std::fs::read_dir(stage.folder.path().join("journal")).unwrap() {
        let path = entry.unwrap().path();
        places.push((path.display().to_string(), std::fs::read(&path).unwrap()));
    }
    for (place, bytes) in &places {
        for secret in secrets {
            assert!(!holds(bytes, secret), "{secret} stands in {place}");
        }
    }
    let wish = of(&stage, "linxo.subscriptions", "user").await;
    assert_eq!(wish[0].value["credential_kind"], "access_token");
    assert_ne!(wish[0].value["sealed_credential"], "0 bytes");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removal_is_null_in_both_topics_in_one_transaction_and_outlives_a_restart() {
    let stage = stage("removed").await;
    let bridge = stage.bridge().await;
    let users = ["one", "two", "three"];
    let stays = "stays";
    for user in users.iter().chain([&stays]) {
        bridge.put(user).await;
    }
    // a mark may be committed in between, once, but not each time
    let mut transactions = BTreeSet::new();
    for user in users {
        let before = bridge.metric(COMMITTED).await;
        delete(&bridge, user).await;
        let counted = bridge.metric(COMMITTED).await - before;
        transactions.insert(format!("{counted}"));
        assert_eq!(bridge.get(&path_of(user)).await.0, 404);
    }
    assert!(transactions.contains("1"), "transactions of a removal: {transactions:?}");
    for user in users {
        for topic in ["linxo.subscriptions", "linxo.queues"] {
            let last = of(&stage, topic, user).await.pop().unwrap();
            assert_eq!(last.record.value, None, "{topic} {user}");
        }
    }
    let asked: Vec<Vec<u32>> = users.map(|user| questions(&stage, user)).to_vec();
    asked_again(&stage, stays, 3).await;
    assert!(bridge.stop().await.success());

    let bridge = stage.bridge().await;
    asked_again(&stage, stays, 3).await;
    assert_eq!(users.map(|user| questions(&stage, user)).to_vec(), asked, "nobody asks them");
    assert_eq!(bridge.get(&path_of("one")).await.0, 404);
    assert_eq!(bridge.show(stays).await["user_id"], stays);
    assert!(bridge.stop().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_records_of_a_user_the_last_counts() {
    let stage = stage("last").await;
    let bridge = stage.bridge().await;
    let first = bridge.put("user").await;
    stage.simulator.start_sync("user", &Sync::default()).unwrap();
    stage.drained().await;
    delete(&bridge, "user").await;
    // a new wish, whose credential changes twice and whose queue dies once
    let second = bridge.put("user").await;
    assert_ne!(second["subscription_id"], first["subscription_id"]);
    for _ in 0..2 {
        let token = stage.simulator.issue_token("user", None).unwrap();
        assert_eq!(put_token(&bridge, "user", &token).await["queue_id"], second["queue_id"]);
    }
    stage.simulator.kill_queue(second["queue_id"].as_str().unwrap());
    stage.until("linxo.gaps", |gaps| gaps.iter().any(|gap| gap.value["reconciled"] == true)).await;
    let third = bridge.show("user").await;
    assert_ne!(third["queue_id"], second["queue_id"]);
    assert!(bridge.stop().await.success());
    let wishes = of(&stage, "linxo.subscriptions", "user").await;
    assert!(wishes.len() >= 5, "{wishes:#?}");

    let subscribes = stage.simulator.stats().subscribes;
    let bridge = stage.bridge().await;
    let shown = bridge.show("user").await;
    assert_eq!(shown["queue_id"], third["queue_id"]);
    assert_eq!(shown["subscription_id"], second["subscription_id"]);
    let before = questions(&stage, "user");
    let events = stage.simulator.start_sync("user", &Sync::default()).unwrap();
    // the old queues live on at the source, where nobody asks them any more
    let is_of_now = |record: &&Decoded| {
        record.value["origin"] == "QUEUE" && record.value["queue_id"] == third["queue_id"]
    };
    let records = stage
        .until("linxo.events", |records| records.iter().filter(is_of_now).count() >= events)
        .await;
    let of_now = records.iter().filter(is_of_now);
    // the first was the state of the connection after the queue had died
    let sequences: Vec<i64> =
        of_now.map(|record| record.value["sequence"].as_i64().unwrap()).collect();
    let reconciled = sequences[0] - 1;
    let expected: Vec<i64> =
        (1..=i64::try_from(events).unwrap()).map(|number| number + reconciled).collect();
    assert_eq!(sequences, expected);
    let after = questions(&stage, "user");
    assert_eq!(before[..before.len() - 1], after[..after.len() - 1], "old queues are left alone");
    assert_eq!(stage.simulator.stats().subscribes, subscribes);
    assert!(bridge.stop().await.success());
}

/// The wish of a user with a queue, written as another instance would; made from a wish that is
/// there.
fn wish_like(model: &Decoded, user: &str, queue: &str) -> Vec<u8> {
    let path = format!("{}/schemas/subscription.avsc", env!("CARGO_MANIFEST_DIR"));
    let schema = Schema::parse_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let value = model.record.value.as_deref().unwrap();
    let (frame, mut datum) = value.split_at(10);
    let reader = GenericDatumReader::builder(&schema).build().unwrap();
    let Avro::Record(mut fields) = reader.read_value(&mut datum).unwrap() else {
        panic!("a subscription is a record");
    };
    for (name, value) in &mut fields {
        match name.as_str() {
            "user_id" => *value = Avro::String(user.to_owned()),
            "queue_id" => *value = Avro::String(queue.to_owned()),
            "subscription_id" => *value = Avro::String(format!("of-{user}")),
            _ => {}
        }
    }
    let writer = GenericDatumWriter::builder(&schema).build().unwrap();
    [frame, &writer.write_value_to_vec(Avro::Record(fields)).unwrap()].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_predecessors_open_transaction_is_waited_for_and_what_it_commits_is_seen() {
    let stage = stage("open").await;
    let bridge = stage.bridge().await;
    bridge.put("known").await;
    assert!(bridge.stop().await.success());
    let model = of(&stage, "linxo.subscriptions", "known").await.pop().unwrap();

    // a predecessor whose last transaction is not over
    let mut config = stage.kafka.client();
    config.set("transactional.id", stage.topic("predecessor"));
    config.set("partitioner", "murmur2_random");
    let predecessor: BaseProducer = config.create().unwrap();
    predecessor.init_transactions(PATIENCE).unwrap();
    predecessor.begin_transaction().unwrap();
    let topic = stage.topic("linxo.subscriptions");
    let users: Vec<String> = (0..12).map(|number| format!("late-{number}")).collect();
    for user in &users {
        stage.simulator.put_user(user, &[]).unwrap();
        let queue = stage.simulator.open_queue(user).unwrap();
        let value = wish_like(&model, user, &queue);
        predecessor.send(BaseRecord::to(&topic).key(user).payload(&value)).unwrap();
    }
    predecessor.flush(PATIENCE).unwrap();

    let asked = questions(&stage, "known");
    let bridge = stage.start().await;
    let deadline = Instant::now() + PATIENCE;
    while !bridge.log().contains("partitions granted") {
        assert!(Instant::now() < deadline, "{}", bridge.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // an observation that nothing happens takes a time: some reads of the topics
    for _ in 0..20 {
        assert_eq!(stage.read("linxo.events").await.len(), 0);
        let (status, body) = bridge.get("/readyz").await;
        assert_eq!(status, 503, "{body}");
        assert!(body.to_string().contains("reading 4 partitions"), "{body}");
        assert_eq!(bridge.get("/livez").await.0, 200);
    }
    assert_eq!(questions(&stage, "known"), asked, "nobody is asked before all is read");

    predecessor.commit_transaction(PATIENCE).unwrap();
    bridge.ready().await;
    for user in users.iter().map(String::as_str).chain(["known"]) {
        let shown = bridge.show(user).await;
        assert_eq!(shown["user_id"], user);
        asked_again(&stage, user, 1).await;
    }
    assert!(bridge.stop().await.success());
}
