//! What a Kafka error means for a transaction.
//!
//! Promises: every error of a transactional call falls in one class, and the class says what the
//! caller does; what is not known to be harmless is [`Failure::Unknown`].
//!
//! Knows nothing of: what was in the transaction.

use rdkafka::error::{KafkaError, RDKafkaErrorCode};

/// What the caller of a transactional call does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Abort, then build the transaction again with the same producer.
    MustAbort,
    /// The transaction was not committed, but a request of it may still be on its way and would be
    /// taken for one of the next transaction (before KIP-890's part 2 the epoch does not rise with
    /// each, and librdkafka does not speak that part): a new producer.
    Condemned,
    /// Call the same function again; the client goes on underneath.
    Retry,
    /// The producer is dead, the transaction was not committed: a new producer.
    Fenced,
    /// Whether it was committed cannot be known from here: a new producer, which makes the broker
    /// finish the transaction either way, then read the position back.
    Unknown,
}

impl Failure {
    /// The class of an error of init, begin, send_offsets, commit or abort.
    pub fn of(error: &KafkaError) -> Self {
        let KafkaError::Transaction(inner) = error else {
            // the wrapper's own flush before the commit ran out: nothing was asked of the broker
            // yet, and the call may be repeated (kafka-from-rust 4.6)
            return if matches!(error, KafkaError::Flush(_)) { Self::Retry } else { Self::Unknown };
        };
        if inner.is_fatal() {
            return if is_fenced(inner.code()) { Self::Fenced } else { Self::Unknown };
        }
        if inner.txn_requires_abort() {
            return Self::MustAbort;
        }
        if inner.is_retriable() {
            return Self::Retry;
        }
        Self::Unknown
    }
}

fn is_fenced(code: RDKafkaErrorCode) -> bool {
    matches!(
        code,
        RDKafkaErrorCode::Fenced
            | RDKafkaErrorCode::ProducerFenced
            | RDKafkaErrorCode::InvalidProducerEpoch
    )
}
