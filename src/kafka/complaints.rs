//! What clients say by themselves.
//!
//! Promises: each complaint is one warning that names the client; what is no complaint is not logged
//! as one (the end of a partition, which a reader that is let go may still report).
//!
//! Knows nothing of: what the clients are for.

use rdkafka::client::ClientContext;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

/// The context of clients that need no callbacks of their own.
#[derive(Clone, Copy, Debug)]
pub struct Complaints(pub &'static str);

impl ClientContext for Complaints {
    fn error(&self, error: KafkaError, reason: &str) {
        complain(self.0, &error, reason);
    }
}

impl ConsumerContext for Complaints {}

/// Logs what a client complains about. It goes on by itself: nobody has to act because of this.
pub fn complain(client: &'static str, error: &KafkaError, reason: &str) {
    if error.rdkafka_error_code() != Some(RDKafkaErrorCode::PartitionEOF) {
        tracing::warn!(client, %error, reason, "a kafka client complains");
    }
}
