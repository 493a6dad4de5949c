//! What clients say by themselves.
//!
//! Promises: a complaint is a warning that names the client, the same again within a minute is not;
//! what is no complaint is not logged as one (the end of a partition, which a reader that is let go
//! may still report).
//!
//! Knows nothing of: what the clients are for.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use tokio::time::Instant;

/// How long the same complaint of the same client is no news.
const AGAIN: Duration = Duration::from_secs(60);

/// What was said lately, and when. Clients and codes are few.
static SAID: Mutex<Vec<((&str, RDKafkaErrorCode), Instant)>> = Mutex::new(Vec::new());

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
    let Some(code) = error.rdkafka_error_code() else { return };
    if code == RDKafkaErrorCode::PartitionEOF {
        return;
    }
    let now = Instant::now();
    let is_news = {
        let mut said = SAID.lock().unwrap_or_else(PoisonError::into_inner);
        said.retain(|(_, at)| now.saturating_duration_since(*at) < AGAIN);
        let is_news = said.iter().all(|(what, _)| *what != (client, code));
        if is_news {
            said.push(((client, code), now));
        }
        is_news
    };
    if is_news {
        tracing::warn!(client, %error, reason, "a kafka client complains");
    } else {
        tracing::debug!(client, %error, reason, "a kafka client complains");
    }
}
