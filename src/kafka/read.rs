//! Reading partitions from the beginning to the end, under `read_committed`.
//!
//! Promises: when [`read_to_end`] answers Ok, every record that any writer had written before the
//! call and whose transaction was committed has been seen, in order. It waits for the transaction
//! a dead predecessor left open (kafka-from-rust 13, rule 8: plain end-of-partition misses it).
//!
//! Blocks; for a thread that may. Knows nothing of: what the records mean.

use std::collections::BTreeSet;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedHeaders, Headers, Message};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use tokio::time::Instant;

use super::{Clients, Complaints};
use crate::sabotage::{self, Guard};

/// One record; in a compacted topic a value of `None` is a removal.
#[derive(Clone, Copy)]
pub struct Record<'a> {
    /// The partition it was read from.
    pub partition: i32,
    /// Its place there.
    pub offset: i64,
    /// Its key.
    pub key: &'a [u8],
    /// Its value.
    pub value: Option<&'a [u8]>,
    headers: Option<&'a BorrowedHeaders>,
}

impl Record<'_> {
    /// The value of a header; none when the record has no such header.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        let found = self.headers?.iter().find(|header| header.key == name)?;
        found.value
    }
}

/// Why partitions could not be read to their ends.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The cluster did not answer, or refused.
    #[error("topic {topic} cannot be read: {source}; kafka must be reachable and grant read on it")]
    Kafka {
        /// The topic.
        topic: String,
        /// What the client said.
        #[source]
        source: KafkaError,
    },
    /// The end was not reached in time.
    #[error(
        "topic {topic} was not read to its end within {waited:?}, {left} partitions are left; a \
         transaction that another instance left open may hold it up"
    )]
    TimedOut {
        /// The topic.
        topic: String,
        /// How long it was tried.
        waited: Duration,
        /// How many partitions are missing.
        left: usize,
    },
}

const STEP: Duration = Duration::from_millis(10);
const ONE_CALL: Duration = Duration::from_secs(10);

/// Reads `partitions` of `topic` from the beginning to what is their end now, and hands each
/// record with a key to `each`.
pub fn read_to_end(
    clients: &Clients,
    topic: &str,
    partitions: &[i32],
    patience: Duration,
    each: impl FnMut(Record<'_>),
) -> Result<(), ReadError> {
    let fault = |source| ReadError::Kafka { topic: topic.to_owned(), source };
    let made =
        |config: ClientConfig| config.create_with_context(Complaints("reader")).map_err(fault);
    let as_written: BaseConsumer<Complaints> = made(clients.uncommitted_reader())?;
    let reader: BaseConsumer<Complaints> = made(clients.committed_reader())?;
    let result = read_with(&as_written, &reader, topic, partitions, patience, each);
    // closing takes up to 200 ms, and whoever takes over partitions should not wait for it; where
    // there is no thread to be had, the closure is dropped here, and the consumers with it
    drop(std::thread::Builder::new().spawn(move || drop((as_written, reader))));
    result
}

/// The partitions that a topic has now, each with the offset at which it begins: above 0, records
/// are gone. A leader that is only being chosen is waited for.
pub fn partitions_of(
    clients: &Clients,
    topic: &str,
    patience: Duration,
) -> Result<Vec<(i32, i64)>, ReadError> {
    let deadline = Instant::now() + patience;
    let fault = |source| ReadError::Kafka { topic: topic.to_owned(), source };
    let reader: BaseConsumer<Complaints> =
        clients.committed_reader().create_with_context(Complaints("reader")).map_err(fault)?;
    loop {
        let metadata = reader.fetch_metadata(Some(topic), ONE_CALL).map_err(fault)?;
        let found = metadata.topics().iter().find(|found| found.name() == topic);
        let error = match found.map(|found| (found.error(), found.partitions())) {
            Some((None, partitions)) if !partitions.is_empty() => {
                let begins = |partition: i32| {
                    let watermarks = watermarks(&reader, topic, partition, deadline);
                    watermarks.map(|(begins, _)| (partition, begins)).map_err(fault)
                };
                return partitions.iter().map(|partition| begins(partition.id())).collect();
            }
            Some((Some(error), _)) => KafkaError::MetadataFetch(error.into()),
            Some((None, _)) | None => {
                KafkaError::MetadataFetch(RDKafkaErrorCode::UnknownTopicOrPartition)
            }
        };
        if !is_passing(&error) || Instant::now() >= deadline {
            return Err(fault(error));
        }
        let said = reader.poll(STEP).and_then(Result::err);
        tracing::debug!(topic, %error, reason = ?said, "waiting for a leader");
    }
}

fn read_with(
    as_written: &BaseConsumer<Complaints>,
    reader: &BaseConsumer<Complaints>,
    topic: &str,
    partitions: &[i32],
    patience: Duration,
    mut each: impl FnMut(Record<'_>),
) -> Result<(), ReadError> {
    let deadline = Instant::now() + patience;
    let fault = |source| ReadError::Kafka { topic: topic.to_owned(), source };
    let timed_out = |left| ReadError::TimedOut { topic: topic.to_owned(), waited: patience, left };
    let mut assignment = TopicPartitionList::new();
    for &partition in partitions {
        let written = end_of(as_written, topic, partition, deadline).map_err(fault)?;
        loop {
            if end_of(reader, topic, partition, deadline).map_err(fault)? >= written
                || sabotage::is_off(Guard::ReadToEnd)
            {
                break;
            }
            if Instant::now() >= deadline {
                return Err(timed_out(partitions.len()));
            }
            // nothing is assigned yet: this only waits and serves the client's own events
            if let Some(Err(error)) = reader.poll(STEP) {
                tracing::debug!(topic, partition, %error, "waiting for the end to be committed");
            }
        }
        assignment.add_partition_offset(topic, partition, Offset::Beginning).map_err(fault)?;
    }

    reader.assign(&assignment).map_err(fault)?;
    let mut left: BTreeSet<i32> = partitions.iter().copied().collect();
    while !left.is_empty() {
        match reader.poll(STEP) {
            Some(Ok(message)) => {
                if let Some(key) = message.key() {
                    each(Record {
                        partition: message.partition(),
                        offset: message.offset(),
                        key,
                        value: message.payload(),
                        headers: message.headers(),
                    });
                }
            }
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                left.remove(&partition);
            }
            Some(Err(error)) if is_lasting(&error) => return Err(fault(error)),
            Some(Err(error)) => tracing::debug!(topic, %error, "reading goes on"),
            None => {}
        }
        if Instant::now() >= deadline && !left.is_empty() {
            return Err(timed_out(left.len()));
        }
    }
    Ok(())
}

/// The end of a partition as this reader sees it.
fn end_of(
    reader: &BaseConsumer<Complaints>,
    topic: &str,
    partition: i32,
    deadline: Instant,
) -> Result<i64, KafkaError> {
    watermarks(reader, topic, partition, deadline).map(|(_, end)| end)
}

/// Beginning and end of a partition as this reader sees them. A leader that is only being chosen,
/// as after the topic was made, is waited for.
fn watermarks(
    reader: &BaseConsumer<Complaints>,
    topic: &str,
    partition: i32,
    deadline: Instant,
) -> Result<(i64, i64), KafkaError> {
    loop {
        match reader.fetch_watermarks(topic, partition, ONE_CALL) {
            Ok(found) => return Ok(found),
            Err(error) if is_passing(&error) && Instant::now() < deadline => {
                // nothing is assigned: this waits, and what it may answer is about the client only
                let said = reader.poll(STEP).and_then(Result::err);
                tracing::debug!(topic, partition, %error, reason = ?said, "waiting for a leader");
            }
            Err(error) => return Err(error),
        }
    }
}

fn is_passing(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(RDKafkaErrorCode::NotLeaderForPartition | RDKafkaErrorCode::LeaderNotAvailable)
    )
}

fn is_lasting(error: &KafkaError) -> bool {
    matches!(error, KafkaError::MessageConsumptionFatal(_))
        || matches!(
            error.rdkafka_error_code(),
            Some(
                RDKafkaErrorCode::UnknownTopicOrPartition
                    | RDKafkaErrorCode::UnknownTopic
                    | RDKafkaErrorCode::UnknownPartition
                    | RDKafkaErrorCode::TopicAuthorizationFailed
            )
        )
}
