//! Reads the events topic as records are committed, and measures how long they took.
//!
//! Promises:
//! - a lag is from the moment at which an answer was received (the record's timestamp) to the one
//!   at which a consumer under `read_committed` could read it;
//! - nothing is decoded, and memory does not grow with the run.
//!
//! Knows nothing of: what the records say.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Headers, Message};
use rdkafka::{Offset, TopicPartitionList};

use super::LoadError;
use super::figures::Figures;
use crate::ids::Timestamp;
use crate::kafka::{Clients, Complaints, partitions_of};
use crate::record::HEADER_IDEMPOTENCY_KEY;

const STEP: Duration = Duration::from_millis(100);
const PATIENCE: Duration = Duration::from_secs(30);
/// Lags from here on are one.
const LONGEST_MS: usize = 120_000;

/// What was measured.
#[derive(Clone, Copy, Debug, Default, serde::Serialize)]
pub(super) struct Lag {
    /// Records that a queue's event stands in.
    pub(super) records: u64,
    /// Half of them took no longer, in milliseconds.
    pub(super) p50: Option<u64>,
    /// Of a hundred, 99 took no longer.
    pub(super) p99: Option<u64>,
    /// The longest.
    pub(super) longest: Option<u64>,
}

/// A reader at work; it ends when dropped.
pub(super) struct Tail(Arc<Shared>);

struct Shared {
    records: AtomicU64,
    /// How many records took so many milliseconds.
    lags: Mutex<Vec<u32>>,
    figures: Arc<Figures>,
    ended: AtomicBool,
}

impl Tail {
    /// Reads a topic: all of it, or only what comes from now on.
    pub(super) fn start(
        clients: &Clients,
        topic: &str,
        whole: bool,
        figures: &Arc<Figures>,
    ) -> Result<Self, LoadError> {
        let partitions = partitions_of(clients, topic, PATIENCE)?;
        let mut config = clients.committed_reader();
        // records wake the fetch, so waiting long for them only spares the broker
        config.set("fetch.wait.max.ms", "500");
        let consumer: BaseConsumer<Complaints> =
            config.create_with_context(Complaints("tail")).map_err(LoadError::Kafka)?;
        let mut assignment = TopicPartitionList::new();
        let offset = if whole { Offset::Beginning } else { Offset::End };
        for (partition, _) in partitions {
            let added = assignment.add_partition_offset(topic, partition, offset);
            added.map_err(LoadError::Kafka)?;
        }
        consumer.assign(&assignment).map_err(LoadError::Kafka)?;
        let shared = Arc::new(Shared {
            records: AtomicU64::new(0),
            lags: Mutex::new(vec![0; LONGEST_MS + 1]),
            figures: Arc::clone(figures),
            ended: AtomicBool::new(false),
        });
        let reading = Arc::clone(&shared);
        let read = move || {
            while !reading.ended.load(Ordering::Relaxed) {
                // errors are the client's to mend: this only measures, the verdict reads anew
                if let Some(Ok(message)) = consumer.poll(STEP) {
                    reading.note(&message);
                }
            }
        };
        std::thread::Builder::new().name("tail".into()).spawn(read).map_err(LoadError::Thread)?;
        Ok(Self(shared))
    }

    /// How many records of queues were read.
    pub(super) fn records(&self) -> u64 {
        self.0.records.load(Ordering::Relaxed)
    }

    /// What was measured so far.
    pub(super) fn lag(&self) -> Lag {
        let lags = self.0.lags.lock().unwrap_or_else(PoisonError::into_inner);
        let all: u64 = lags.iter().map(|count| u64::from(*count)).sum();
        let quantile = |share: f64| {
            let rank = (all as f64 * share).ceil().max(1.0) as u64;
            let mut seen = 0;
            let at = lags.iter().position(|count| {
                seen += u64::from(*count);
                seen >= rank
            });
            at.map(|at| at as u64)
        };
        let longest = lags.iter().rposition(|count| *count > 0).map(|at| at as u64);
        Lag { records: self.records(), p50: quantile(0.5), p99: quantile(0.99), longest }
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        self.0.ended.store(true, Ordering::Relaxed);
    }
}

impl Shared {
    fn note(&self, message: &rdkafka::message::BorrowedMessage<'_>) {
        let key = message.headers().and_then(|headers| {
            headers.iter().find(|header| header.key == HEADER_IDEMPOTENCY_KEY)?.value
        });
        // an event that a reconciliation made waited for a listing
        if key.is_some_and(|key| key.starts_with(b"r/")) {
            return;
        }
        self.records.fetch_add(1, Ordering::Relaxed);
        self.figures.readable();
        let Some(received) = message.timestamp().to_millis() else { return };
        let lag = Timestamp::now().since(Timestamp(received));
        self.figures.lag(lag);
        let lag = usize::try_from(lag.as_millis()).unwrap_or(LONGEST_MS).min(LONGEST_MS);
        let mut lags = self.lags.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = lags.get_mut(lag) {
            *count = count.saturating_add(1);
        }
    }
}
