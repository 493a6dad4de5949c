//! Reading topics as their users do: committed records only, without a group, from the beginning.

use std::collections::{BTreeSet, HashMap};
use std::thread;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::message::{Headers, Message};
use rdkafka::{Offset, TopicPartitionList};
use tokio::sync::mpsc::{Receiver, channel};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, timeout_at};

use super::broker::client;

/// How long a request to the broker may take, and an open transaction stay open under [`read_topic`].
const PATIENCE: Duration = Duration::from_secs(20);

/// A record as it stands in a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub topic: String,
    pub partition: i32,
    pub offset: i64,
    /// Milliseconds since 1970.
    pub timestamp: i64,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(String, Vec<u8>)>,
}

impl Record {
    /// The key as text.
    pub fn key_text(&self) -> &str {
        std::str::from_utf8(self.key.as_deref().expect("a key")).unwrap()
    }

    /// The first header of that name, as text.
    pub fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().find(|(header, _)| header == name)?;
        Some(std::str::from_utf8(value).unwrap())
    }
}

/// All committed records of a topic, sorted by partition and offset.
///
/// It waits till what was in the topic at the call is decided: a commit answers before its records can be read. A
/// transaction that stays open for 20 s fails the test; look past one with [`read_visible`].
pub async fn read_topic(bootstrap: &str, topic: &str) -> Vec<Record> {
    read(bootstrap, topic, true).await
}

/// The records of a topic that a committed reader sees now: those behind an open transaction are left out.
pub async fn read_visible(bootstrap: &str, topic: &str) -> Vec<Record> {
    read(bootstrap, topic, false).await
}

/// Reads committed records of a topic until those so far satisfy the predicate, and gives them back.
/// When the deadline, counted from now, passes first, the test fails and says what was there.
pub async fn wait_until(
    bootstrap: &str,
    topic: &str,
    deadline: Duration,
    predicate: impl Fn(&[Record]) -> bool,
) -> Vec<Record> {
    let deadline = Instant::now() + deadline;
    let mut reader = Reader::of(bootstrap, topic);
    let mut records = Vec::new();
    while !predicate(&records) {
        match timeout_at(deadline, reader.next()).await {
            Ok(record) => records.push(record),
            Err(_) => {
                let last = records.last();
                panic!("not in time in {topic}: {} records, the last one {last:?}", records.len());
            }
        }
    }
    records
}

/// Committed records of a topic as they come, from the beginning, without an end.
pub struct Reader {
    records: Receiver<Record>,
}

impl Reader {
    /// Begins to read, and waits for the topic if there is none yet.
    pub fn of(bootstrap: &str, topic: &str) -> Self {
        let (sender, records) = channel(1_000);
        let (config, topic) = (committed(bootstrap), topic.to_owned());
        // A thread, as a runtime that ends would wait for a blocking task, and this one may wait for a broker.
        thread::spawn(move || {
            let consumer: BaseConsumer = config.create().unwrap();
            let mut known = Vec::new();
            while known.is_empty() && !sender.is_closed() {
                known = partitions(&consumer, &topic, Duration::from_secs(1)).unwrap_or_default();
                pause(&consumer);
            }
            assign(&consumer, &topic, &known);
            while !sender.is_closed() {
                if let Some(Ok(message)) = consumer.poll(Duration::from_millis(50))
                    && sender.blocking_send(record_of(&message)).is_err()
                {
                    return;
                }
            }
        });
        Self { records }
    }

    /// The next record, whenever it comes.
    pub async fn next(&mut self) -> Record {
        self.records.recv().await.expect("the reading thread fails only by panic")
    }
}

async fn read(bootstrap: &str, topic: &str, wait: bool) -> Vec<Record> {
    let (bootstrap, topic) = (bootstrap.to_owned(), topic.to_owned());
    spawn_blocking(move || read_to_end(&bootstrap, &topic, wait)).await.unwrap()
}

fn read_to_end(bootstrap: &str, topic: &str, wait: bool) -> Vec<Record> {
    let consumer: BaseConsumer = committed(bootstrap).create().unwrap();
    let partitions = persist(&consumer, || partitions(&consumer, topic, PATIENCE));
    assert!(!partitions.is_empty(), "there is no topic {topic}");
    if wait {
        wait_for_markers(bootstrap, &consumer, topic, &partitions);
    }
    assign(&consumer, topic, &partitions);
    let mut records = Vec::new();
    // Which partitions have come to their end; the end-of-partition event is right past markers, watermarks are not.
    let mut ended = BTreeSet::new();
    let deadline = Instant::now() + PATIENCE;
    while ended.len() < partitions.len() {
        assert!(Instant::now() < deadline, "{topic} did not come to an end; is the broker up?");
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => records.push(record_of(&message)),
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                ended.insert(partition);
            }
            // Connections come and go while a test kills the broker.
            Some(Err(_)) | None => {}
        }
    }
    records.sort_by_key(|record| (record.partition, record.offset));
    records
}

/// Waits till the stable end of each partition has come to where its end is now.
fn wait_for_markers(bootstrap: &str, consumer: &BaseConsumer, topic: &str, partitions: &[i32]) {
    let mut config = client(bootstrap);
    config.set("isolation.level", "read_uncommitted");
    let uncommitted: BaseConsumer = config.create().unwrap();
    let ends: HashMap<i32, i64> = partitions
        .iter()
        .map(|&partition| (partition, end(&uncommitted, topic, partition)))
        .collect();
    let deadline = Instant::now() + PATIENCE;
    for (partition, wanted) in ends {
        while end(consumer, topic, partition) < wanted {
            assert!(
                Instant::now() < deadline,
                "a transaction stays open in {topic}, partition {partition}"
            );
            pause(consumer);
        }
    }
}

fn end(consumer: &BaseConsumer, topic: &str, partition: i32) -> i64 {
    persist(consumer, || consumer.fetch_watermarks(topic, partition, PATIENCE)).1
}

/// The partitions of a topic, none when there is no such topic.
fn partitions(consumer: &BaseConsumer, topic: &str, patience: Duration) -> KafkaResult<Vec<i32>> {
    let metadata = consumer.fetch_metadata(Some(topic), patience)?;
    let partitions = metadata.topics().iter().flat_map(|topic| topic.partitions());
    Ok(partitions.map(|partition| partition.id()).collect())
}

/// Asks until there is an answer: a broker that is just back refuses the first questions.
fn persist<T>(consumer: &BaseConsumer, ask: impl Fn() -> KafkaResult<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match ask() {
            Ok(answer) => return answer,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
        pause(consumer);
    }
}

/// Serves a client to which nothing is assigned for 20 ms, so that a loop asks for no more than it has to.
fn pause(consumer: &BaseConsumer) {
    drop(consumer.poll(Duration::from_millis(20)));
}

fn assign(consumer: &BaseConsumer, topic: &str, partitions: &[i32]) {
    let mut list = TopicPartitionList::new();
    for &partition in partitions {
        list.add_partition_offset(topic, partition, Offset::Beginning).unwrap();
    }
    consumer.assign(&list).unwrap();
}

fn committed(bootstrap: &str) -> rdkafka::ClientConfig {
    let mut config = client(bootstrap);
    config
        // The client wants a name for assigning by hand too; nothing joins or commits under it.
        .set("group.id", "reads-without-a-group")
        .set("isolation.level", "read_committed")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("auto.offset.reset", "earliest")
        .set("fetch.wait.max.ms", "10");
    config
}

fn record_of(message: &impl Message) -> Record {
    let headers = message.headers().map(|headers| {
        headers
            .iter()
            .map(|header| (header.key.to_owned(), header.value.unwrap_or_default().to_vec()))
            .collect()
    });
    Record {
        topic: message.topic().to_owned(),
        partition: message.partition(),
        offset: message.offset(),
        timestamp: message.timestamp().to_millis().expect("every record has a time"),
        key: message.key().map(<[u8]>::to_vec),
        value: message.payload().map(<[u8]>::to_vec),
        headers: headers.unwrap_or_default(),
    }
}
