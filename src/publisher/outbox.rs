//! Where a draft's records go.
//!
//! Promises: an outbox takes the record whole or says why not; nothing is retried in here.
//!
//! Knows nothing of: what the records mean.

use crate::ids::Timestamp;
use crate::record::RecordError;

/// One record on its way to a topic.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outgoing<'a> {
    pub(super) topic: &'a str,
    /// Given for the topics whose partitions are owned; else the key decides.
    pub(super) partition: Option<i32>,
    pub(super) key: &'a [u8],
    /// `None` removes the key from a compacted topic.
    pub(super) value: Option<&'a [u8]>,
    pub(super) headers: &'a [(&'static str, &'a str)],
    pub(super) timestamp: Option<Timestamp>,
}

impl<'a> Outgoing<'a> {
    pub(super) fn of(topic: &'a str, key: &'a [u8]) -> Self {
        Self { topic, partition: None, key, value: None, headers: &[], timestamp: None }
    }

    pub(super) fn at(self, partition: i32) -> Self {
        Self { partition: Some(partition), ..self }
    }

    pub(super) fn value(self, value: &'a [u8]) -> Self {
        Self { value: Some(value), ..self }
    }

    pub(super) fn headers(self, headers: &'a [(&'static str, &'a str)]) -> Self {
        Self { headers, ..self }
    }

    pub(super) fn timestamp(self, timestamp: Timestamp) -> Self {
        Self { timestamp: Some(timestamp), ..self }
    }
}

/// Takes records.
pub(super) trait Outbox {
    /// Takes one.
    fn send(&mut self, record: Outgoing<'_>) -> Result<(), SendFault>;
}

/// Takes everything and sends nothing: what rows come to is known without publishing them.
pub(super) struct Nowhere;

impl Outbox for Nowhere {
    fn send(&mut self, _: Outgoing<'_>) -> Result<(), SendFault> {
        Ok(())
    }
}

/// Why a record was not taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum SendFault {
    /// The transaction has to be aborted and made again.
    #[error("the producer does not take a record of {bytes} bytes for {topic}: {source}")]
    Kafka {
        topic: String,
        /// The length of its value.
        bytes: usize,
        #[source]
        source: rdkafka::error::KafkaError,
    },
    /// The record cannot be written: the program is at fault.
    #[error(transparent)]
    Record(#[from] RecordError),
}
