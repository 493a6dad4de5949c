//! The transactional producer, one call at a time, with what its failures mean.
//!
//! Promises:
//! - records keep the order in which they were given: a full queue is waited for, never overtaken;
//! - a commit is asked for only when every delivery is in without an error and, just before, the
//!   group has confirmed that we are still its member;
//! - a failed call answers a [`Failure`], which says what to do next.
//!
//! Calls block for as long as Kafka takes; they are made on the publisher's own thread. Knows
//! nothing of: what the records mean, when to retry.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::consumer::ConsumerGroupMetadata;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use tokio::time::Instant;

use super::outbox::{Outbox, Outgoing, SendFault};
use crate::ids::Timestamp;
use crate::kafka::{Failure, complain};
use crate::metrics::Metrics;

/// How long one call may take. Beyond it the outcome counts as unknown.
const CALL: Duration = Duration::from_secs(30);
const STEP: Duration = Duration::from_millis(1);
/// How long the reason of a failure is waited for, once records are known to have failed.
const REASON: Duration = Duration::from_secs(1);
/// One step of an abort; it is resumed until [`CALL`] is over.
const ABORT_STEP: Duration = Duration::from_millis(200);

/// Remembers the first delivery that failed since the transaction began.
pub(super) struct Deliveries {
    metrics: Arc<Metrics>,
    failed: Mutex<Option<(RDKafkaErrorCode, RefusedRecord)>>,
}

impl Drop for Deliveries {
    fn drop(&mut self) {
        self.metrics.kafka_gone();
    }
}

/// A record that was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RefusedRecord {
    pub(super) topic: String,
    /// The length of its value.
    pub(super) bytes: usize,
}

impl ClientContext for Deliveries {
    fn error(&self, error: KafkaError, reason: &str) {
        complain("producer", &error, reason);
    }

    fn stats_raw(&self, statistics: &[u8]) {
        self.metrics.kafka_statistics(statistics);
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, record)) = result {
            let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown);
            let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
            // the records purged after a failure only say that there was one
            if failed.as_ref().is_none_or(|(first, _)| is_purged(*first)) {
                let bytes = record.payload_len();
                *failed = Some((code, RefusedRecord { topic: record.topic().to_owned(), bytes }));
            }
        }
    }
}

/// Why a transaction came to nothing, or may have.
#[derive(Debug, thiserror::Error)]
#[error("{what}{}: {source}", shown(.record.as_deref()))]
pub(super) struct Mishap {
    pub(super) what: &'static str,
    pub(super) failure: Failure,
    /// The record it was about, when it was about one.
    pub(super) record: Option<Box<RefusedRecord>>,
    pub(super) source: KafkaError,
}

impl Mishap {
    fn of(what: &'static str, source: KafkaError) -> Self {
        Self { what, failure: Failure::of(&source), record: None, source }
    }
}

/// Whether an error says that a record was larger than its topic takes.
pub(super) fn is_too_large(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::MessageSizeTooLarge
                | RDKafkaErrorCode::InvalidMessageSize
                | RDKafkaErrorCode::InvalidMessage
        )
    )
}

/// Whether a delivery failed only because others did.
fn is_purged(code: RDKafkaErrorCode) -> bool {
    matches!(code, RDKafkaErrorCode::PurgeQueue | RDKafkaErrorCode::PurgeInflight)
}

fn shown(record: Option<&RefusedRecord>) -> String {
    record.map_or_else(String::new, |record| {
        format!(", a record of {} bytes for {}", record.bytes, record.topic)
    })
}

/// A producer with its transactional id.
pub(super) struct TransactionalProducer {
    producer: BaseProducer<Deliveries>,
}

impl TransactionalProducer {
    /// Makes a producer and initialises it, which ends whatever a predecessor left open.
    pub(super) fn connect(
        config: &ClientConfig,
        metrics: &Arc<Metrics>,
        patience: Duration,
    ) -> Result<Self, Mishap> {
        let deliveries = Deliveries { metrics: Arc::clone(metrics), failed: Mutex::default() };
        let producer: BaseProducer<Deliveries> = config
            .create_with_context(deliveries)
            .map_err(|source| Mishap::of("the producer cannot be made", source))?;
        producer
            .init_transactions(patience)
            .map_err(|source| Mishap::of("the producer cannot be initialised", source))?;
        Ok(Self { producer })
    }

    /// Ends what the broker may have left open of our earlier transactions, as aborted.
    ///
    /// Initialising ends them, says the protocol. But a broker that starts while its metadata is not
    /// complete takes the partitions of a transaction for deleted and writes no marker there
    /// (`TransactionMarkerChannelManager`, seen on Kafka 4.4.0 when every broker was killed and back
    /// only after the transaction had timed out). Its records stay open: they stop every reader
    /// under `read_committed`, and the next commit of the same producer id would make them visible. An
    /// abort of ours on every partition ends them first, and shows readers nothing.
    pub(super) async fn cleanse(&self, topics: &[&str]) -> Result<(), Mishap> {
        let of = |source| Mishap::of("what earlier transactions left open cannot be ended", source);
        self.begin()?;
        for topic in topics {
            let metadata = self.producer.client().fetch_metadata(Some(topic), CALL).map_err(of)?;
            let partitions = metadata.topics().first().map_or(0, |topic| topic.partitions().len());
            for partition in (0..partitions).filter_map(|partition| i32::try_from(partition).ok()) {
                // a compacted topic takes no record without a key
                let record = BaseRecord::<[u8], [u8]>::to(topic).key(&[]).partition(partition);
                self.producer.send(record).map_err(|(source, _)| of(source))?;
                self.serve();
            }
        }
        self.deliver().await?;
        self.abort()
    }

    pub(super) fn begin(&self) -> Result<(), Mishap> {
        *self.deliveries() = None;
        self.producer
            .begin_transaction()
            .map_err(|source| Mishap::of("a transaction cannot begin", source))
    }

    /// Serves the producer's events; never waits.
    pub(super) fn serve(&self) {
        self.producer.poll(Duration::ZERO);
    }

    /// Waits until every record given is delivered, or one is known to have failed.
    ///
    /// The wrapper's own flush takes steps of 100 ms, and so does its commit with anything in
    /// flight (kafka-from-rust 4.4), hence the wait by hand.
    pub(super) async fn deliver(&self) -> Result<(), Mishap> {
        let deadline = Instant::now() + CALL;
        let mut failed_at = None;
        loop {
            self.serve();
            let is_all_in = self.producer.in_flight_count() == 0;
            let failed = self.deliveries().clone();
            if let Some((code, record)) = failed {
                let failed_at = *failed_at.get_or_insert_with(Instant::now);
                // what was purged is told first, why comes with the rest
                if is_all_in || !is_purged(code) || failed_at.elapsed() >= REASON {
                    return Err(Mishap {
                        what: "not delivered",
                        failure: self.fatal().unwrap_or(Failure::Condemned),
                        record: Some(Box::new(record)),
                        source: KafkaError::MessageProduction(code),
                    });
                }
            } else if is_all_in {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(Mishap {
                    what: "records were not delivered in time",
                    failure: Failure::Condemned,
                    record: None,
                    source: KafkaError::Flush(RDKafkaErrorCode::OperationTimedOut),
                });
            }
            tokio::time::sleep(STEP).await;
        }
    }

    /// Has the broker check, inside the transaction, that we are still a member of the group.
    pub(super) fn fence(
        &self,
        topic: &str,
        partitions: &BTreeSet<i32>,
        member: &ConsumerGroupMetadata,
    ) -> Result<(), Mishap> {
        let mut offsets = TopicPartitionList::new();
        for &partition in partitions {
            // the literal offset 0 is kept, a logical one would be left out and check nothing
            offsets
                .add_partition_offset(topic, partition, Offset::Offset(0))
                .map_err(|source| Mishap::of("the fence cannot be written", source))?;
        }
        self.patiently("the group did not confirm that we own the partitions", || {
            self.producer.send_offsets_to_transaction(&offsets, member, CALL)
        })
    }

    /// Commits. A failure that asks for an abort is not believed: the commit was asked for, and the
    /// broker may have written it down before it failed to say so.
    pub(super) fn commit(&self) -> Result<(), Mishap> {
        let committed = self.patiently("the transaction was not committed", || {
            self.producer.commit_transaction(CALL)
        });
        committed.map_err(|mishap| match mishap.failure {
            Failure::MustAbort => Mishap { failure: Failure::Unknown, ..mishap },
            Failure::Condemned | Failure::Retry | Failure::Fenced | Failure::Unknown => mishap,
        })
    }

    pub(super) fn abort(&self) -> Result<(), Mishap> {
        self.patiently("the transaction cannot be aborted", || {
            // the call waits for every delivery, which only our polling brings in: with one open it
            // would wait for all of its time
            let until = Instant::now() + ABORT_STEP;
            while self.producer.in_flight_count() > 0 && Instant::now() < until {
                self.producer.poll(STEP);
            }
            self.producer.abort_transaction(ABORT_STEP)
        })
    }

    /// Repeats a call for as long as its failure asks for that; what time does not mend is unknown.
    fn patiently(
        &self,
        what: &'static str,
        mut call: impl FnMut() -> Result<(), KafkaError>,
    ) -> Result<(), Mishap> {
        let deadline = Instant::now() + CALL;
        loop {
            match call() {
                Ok(()) => return Ok(()),
                Err(source) => {
                    let mut mishap = Mishap::of(what, source);
                    if mishap.failure != Failure::Retry {
                        return Err(mishap);
                    }
                    if Instant::now() >= deadline {
                        mishap.failure = Failure::Unknown;
                        return Err(mishap);
                    }
                    self.producer.poll(STEP);
                }
            }
        }
    }

    /// What a producer that is of no more use has come to.
    pub(super) fn fatal(&self) -> Option<Failure> {
        self.producer.client().fatal_error().map(|_| Failure::Fenced)
    }

    fn deliveries(&self) -> MutexGuard<'_, Option<(RDKafkaErrorCode, RefusedRecord)>> {
        self.producer.context().failed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The producer as an outbox; it counts what it takes.
pub(super) struct Sending<'a> {
    pub(super) producer: &'a TransactionalProducer,
    pub(super) records: u64,
    pub(super) bytes: u64,
}

impl Outbox for Sending<'_> {
    fn send(&mut self, outgoing: Outgoing<'_>) -> Result<(), SendFault> {
        let producer = &self.producer.producer;
        let mut record = BaseRecord::<[u8], [u8]>::to(outgoing.topic).key(outgoing.key);
        record.partition = outgoing.partition;
        record.payload = outgoing.value;
        // a broker refuses records of a time to come, as after a clock was put right
        let now = Timestamp::now();
        record.timestamp = outgoing.timestamp.map(|timestamp| timestamp.min(now).0);
        if !outgoing.headers.is_empty() {
            let headers = OwnedHeaders::new_with_capacity(outgoing.headers.len());
            record.headers =
                Some(outgoing.headers.iter().fold(headers, |headers, (key, value)| {
                    headers.insert(Header { key, value: Some(*value) })
                }));
        }
        let deadline = Instant::now() + CALL;
        loop {
            match producer.send(record) {
                Ok(()) => {
                    self.records += 1;
                    self.bytes += outgoing.value.map_or(0, <[u8]>::len) as u64;
                    return Ok(());
                }
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back))
                    if Instant::now() < deadline =>
                {
                    // the same record again, before any later one: order is kept
                    producer.poll(STEP);
                    record = back;
                }
                Err((source, _)) => {
                    let bytes = outgoing.value.map_or(0, <[u8]>::len);
                    let topic = outgoing.topic.to_owned();
                    return Err(SendFault::Kafka { topic, bytes, source });
                }
            }
        }
    }
}
