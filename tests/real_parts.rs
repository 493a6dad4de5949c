//! The servers and readers that the other tests stand on are real: they show what only Apache Kafka, its Java client and
//! a Schema Registry show.

#![expect(clippy::unwrap_used, reason = "a test fails by panic")]

mod support;

use std::time::Duration;

use rdkafka::error::KafkaError;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::types::RDKafkaErrorCode;
use serde_json::json;
use support::{Kafka, Reader, Registry, java, read_topic, read_visible, unique, wait_until};

const LONG: Duration = Duration::from_secs(30);

/// A transactional producer, initialised.
fn producer(kafka: &Kafka, id: &str) -> BaseProducer {
    let mut config = kafka.client();
    config.set("transactional.id", id).set("partitioner", "murmur2_random");
    let producer: BaseProducer = config.create().unwrap();
    producer.init_transactions(LONG).unwrap();
    producer
}

fn send(producer: &BaseProducer, topic: &str, key: &str, value: &[u8]) {
    producer.send(BaseRecord::to(topic).key(key).payload(value)).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_committed_reader_sees_no_aborted_record_and_none_of_an_open_transaction() {
    let kafka = Kafka::shared().await;
    let topic = unique("aborted");
    kafka.create_topic(&topic, 1, &[]).await;
    let producer = producer(kafka, &topic);

    producer.begin_transaction().unwrap();
    send(&producer, &topic, "key", b"aborted");
    producer.flush(LONG).unwrap();
    producer.abort_transaction(LONG).unwrap();

    producer.begin_transaction().unwrap();
    send(&producer, &topic, "key", b"committed");
    producer.commit_transaction(LONG).unwrap();

    producer.begin_transaction().unwrap();
    send(&producer, &topic, "key", b"open");
    producer.flush(LONG).unwrap();

    let values = |records: Vec<support::Record>| -> Vec<Vec<u8>> {
        records.into_iter().filter_map(|record| record.value).collect()
    };
    let committed =
        wait_until(kafka.bootstrap_servers(), &topic, LONG, |records| !records.is_empty()).await;
    assert_eq!(values(committed), [b"committed"]);
    let visible = read_visible(kafka.bootstrap_servers(), &topic).await;
    assert_eq!(values(visible), [b"committed"]);

    producer.commit_transaction(LONG).unwrap();
    let all = read_topic(kafka.bootstrap_servers(), &topic).await;
    assert_eq!(all.iter().map(|record| record.offset).collect::<Vec<_>>(), [2, 4], "markers count");
    assert_eq!(values(all), [b"committed".as_slice(), b"open"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_producer_with_the_same_id_fences_the_first() {
    let kafka = Kafka::shared().await;
    let topic = unique("fenced");
    kafka.create_topic(&topic, 1, &[]).await;
    let first = producer(kafka, &topic);
    first.begin_transaction().unwrap();
    send(&first, &topic, "key", b"of the first");
    first.flush(LONG).unwrap();

    let second = producer(kafka, &topic);
    second.begin_transaction().unwrap();
    send(&second, &topic, "key", b"of the second");
    second.commit_transaction(LONG).unwrap();

    let KafkaError::Transaction(error) = first.commit_transaction(LONG).unwrap_err() else {
        panic!("a fenced commit is refused by the broker");
    };
    assert_eq!(error.code(), RDKafkaErrorCode::Fenced);
    assert!(error.is_fatal());
    let records = read_topic(kafka.bootstrap_servers(), &topic).await;
    assert_eq!(records.len(), 1);
    assert_eq!(records[0].value.as_deref(), Some(b"of the second".as_slice()));
}

#[tokio::test(flavor = "multi_thread")]
async fn murmur2_random_puts_keys_where_java_does() {
    let kafka = Kafka::shared().await;
    let topic = unique("keys");
    kafka.create_topic(&topic, 12, &[]).await;
    let keys: Vec<String> = (0..200).map(|number| format!("connection-é-{number}")).collect();
    let producer = producer(kafka, &topic);
    producer.begin_transaction().unwrap();
    for key in &keys {
        send(&producer, &topic, key, b"");
    }
    producer.commit_transaction(LONG).unwrap();

    let records = read_topic(kafka.bootstrap_servers(), &topic).await;
    let ours: Vec<i32> = keys
        .iter()
        .map(|key| records.iter().find(|record| record.key_text() == key).unwrap().partition)
        .collect();
    assert_eq!(ours, java::partitions_of(&keys, 12).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_was_killed_comes_back_with_its_records_on_the_same_address() {
    let kafka = Kafka::start_with(&[("message.max.bytes", "2000")]).await;
    kafka.create_topic("kept", 1, &[]).await;
    let producer = producer(&kafka, "kept");
    producer.begin_transaction().unwrap();
    send(&producer, "kept", "key", b"kept");
    producer.commit_transaction(LONG).unwrap();
    let mut reader = Reader::of(kafka.bootstrap_servers(), "kept");
    assert_eq!(reader.next().await.value.as_deref(), Some(b"kept".as_slice()));

    kafka.stop();
    kafka.restart().await;
    kafka.pause();
    kafka.resume();

    producer.begin_transaction().unwrap();
    send(&producer, "kept", "key", b"after");
    producer.commit_transaction(LONG).unwrap();
    assert_eq!(reader.next().await.value.as_deref(), Some(b"after".as_slice()));
    assert_eq!(read_topic(kafka.bootstrap_servers(), "kept").await.len(), 2);

    producer.begin_transaction().unwrap();
    send(&producer, "kept", "key", &[b'x'; 3_000]);
    assert!(producer.commit_transaction(LONG).is_err(), "the broker's own limit holds");
}

/// A schema of two fields, the second of the type given.
fn schema(second: serde_json::Value) -> String {
    json!({
        "type": "record",
        "name": "Sample",
        "namespace": "com.linxo.bridge.tests",
        "fields": [
            { "name": "text", "type": "string" },
            { "name": "number", "type": second, "default": null },
        ],
    })
    .to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_registry_gives_ids_and_refuses_an_incompatible_schema() {
    let registry = Registry::start().await;
    registry.set_compatibility("FULL_TRANSITIVE").await;
    let (status, first) = registry.register("sample-value", &schema(json!(["null", "long"]))).await;
    assert_eq!(status, 200, "{first}");
    let again = registry.register("sample-value", &schema(json!(["null", "long"]))).await;
    assert_eq!(again, (200, first), "the same schema has the same id");

    let (status, body) =
        registry.register("sample-value", &schema(json!(["null", "string"]))).await;
    assert_eq!(status, 409, "{body}");
    assert_eq!(body["error_code"], 409);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_was_killed_has_forgotten_every_schema() {
    let registry = Registry::start().await;
    let (_, answer) = registry.register("sample-value", &schema(json!(["null", "long"]))).await;
    let url = format!("{}/schemas/ids/{}", registry.url(), answer["id"]);
    let status = async || support::http().get(&url).send().await.unwrap().status().as_u16();
    assert_eq!(status().await, 200);
    registry.restart().await;
    assert_eq!(status().await, 404);
}
