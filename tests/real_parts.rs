//! The servers and readers that the other tests stand on are real: they show what only Apache Kafka, its Java client and
//! a Schema Registry show.

#![expect(clippy::unwrap_used, reason = "a test fails by panic")]

mod support;

use std::time::Duration;

use apache_avro::types::Value;
use apache_avro::writer::datum::GenericDatumWriter;
use apache_avro::{GenericSingleObjectWriter, Schema};
use rdkafka::error::KafkaError;
use rdkafka::message::{Header, OwnedHeaders};
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
    let client = producer.client();
    let brokers =
        |patience| client.fetch_metadata(None, patience).map(|found| found.brokers().len());
    kafka.pause();
    assert!(brokers(Duration::from_millis(300)).is_err(), "a paused broker does not answer");
    kafka.resume();
    assert_eq!(brokers(LONG).unwrap(), 1);

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

/// A value of [`schema`] with a long.
fn sample(text: &str, number: i64) -> Value {
    Value::Record(vec![
        ("text".to_owned(), Value::String(text.to_owned())),
        ("number".to_owned(), Value::Union(1, Box::new(Value::Long(number)))),
    ])
}

/// Sends the values of one key in a committed transaction, with a header.
fn publish(kafka: &Kafka, topic: &str, values: &[Option<&[u8]>]) {
    let producer = producer(kafka, topic);
    producer.begin_transaction().unwrap();
    for &value in values {
        let header = Header { key: "linxo-event-type", value: Some("AUTH_FAILED") };
        let headers = OwnedHeaders::new().insert(header);
        let record = BaseRecord::to(topic).key("connection-é").headers(headers);
        let record = BaseRecord { payload: value, ..record };
        producer.send(record).unwrap();
    }
    producer.commit_transaction(LONG).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn java_reads_single_object_encoding_given_the_schemas() {
    let kafka = Kafka::shared().await;
    let topic = unique("single-object");
    kafka.create_topic(&topic, 3, &[]).await;
    let text = schema(json!(["null", "long"]));
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("sample.avsc"), &text).unwrap();
    let schema = Schema::parse_str(&text).unwrap();
    let mut value = Vec::new();
    let mut writer = GenericSingleObjectWriter::new_with_capacity(&schema, 64).unwrap();
    writer.write_value_ref(&sample("événement", -7), &mut value).unwrap();
    publish(kafka, &topic, &[Some(&value), None]);

    let schemas = java::Schemas::Folder(folder.path());
    let records = java::read_topic(kafka.bootstrap_servers(), &topic, schemas).await;
    assert_eq!(records.len(), 2);
    assert_eq!(records[0]["key"], "connection-é");
    assert_eq!(records[0]["headers"], json!({ "linxo-event-type": "AUTH_FAILED" }));
    assert_eq!(records[0]["schema"], "com.linxo.bridge.tests.Sample");
    assert_eq!(records[0]["value"], json!({ "text": "événement", "number": { "long": -7 } }));
    assert_eq!(records[1]["value"], json!(null));
    let ours = read_topic(kafka.bootstrap_servers(), &topic).await;
    assert_eq!(records[0]["partition"], ours[0].partition);
    assert_eq!(records[0]["timestamp"], ours[0].timestamp);
    assert_eq!(ours[0].header("linxo-event-type"), Some("AUTH_FAILED"));
}

#[tokio::test(flavor = "multi_thread")]
async fn java_reads_confluent_framing_with_the_registrys_schema() {
    let (kafka, registry) = (Kafka::shared().await, Registry::shared().await);
    let topic = unique("framed");
    kafka.create_topic(&topic, 1, &[]).await;
    let text = schema(json!(["null", "long"]));
    let (status, answer) = registry.register(&format!("{topic}-value"), &text).await;
    assert_eq!(status, 200, "{answer}");
    let id = u32::try_from(answer["id"].as_u64().unwrap()).unwrap();
    let schema = Schema::parse_str(&text).unwrap();
    let writer = GenericDatumWriter::builder(&schema).build().unwrap();
    let datum = writer.write_value_to_vec(sample("text", 1)).unwrap();
    let value = [[0].as_slice(), &id.to_be_bytes(), &datum].concat();
    publish(kafka, &topic, &[Some(&value)]);

    let schemas = java::Schemas::Registry(registry.url());
    let records = java::read_topic(kafka.bootstrap_servers(), &topic, schemas).await;
    assert_eq!(records.len(), 1);
    assert_eq!(records[0]["value"], json!({ "text": "text", "number": { "long": 1 } }));
}

#[tokio::test(flavor = "multi_thread")]
#[should_panic(expected = "no single-object encoding")]
async fn java_refuses_bytes_that_are_no_single_object() {
    let kafka = Kafka::shared().await;
    let topic = unique("refused");
    kafka.create_topic(&topic, 1, &[]).await;
    publish(kafka, &topic, &[Some(b"{\"no\": \"Avro\"}")]);
    let folder = tempfile::tempdir().unwrap();
    let schemas = java::Schemas::Folder(folder.path());
    java::read_topic(kafka.bootstrap_servers(), &topic, schemas).await;
}
