//! Whether Kafka answers right now.
//!
//! Promises: an answer is at most one second old, and one question is asked at a time, however
//! many want to know.
//!
//! Knows nothing of: what is done about it.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaResult;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::{Clients, Complaints};

const FRESH: Duration = Duration::from_secs(1);
const CALL: Duration = Duration::from_secs(3);

/// Asks the cluster for a topic's metadata. Cheap to clone.
#[derive(Clone)]
pub struct Reach {
    client: Arc<BaseConsumer<Complaints>>,
    topic: Arc<str>,
    last: Arc<Mutex<Option<(Instant, bool)>>>,
}

impl Reach {
    /// Asks about `topic`.
    pub fn new(clients: &Clients, topic: &str) -> KafkaResult<Self> {
        let client = clients.committed_reader().create_with_context(Complaints("reach"))?;
        Ok(Self { client: Arc::new(client), topic: topic.into(), last: Arc::default() })
    }

    /// Whether the cluster answers, and every partition of the topic has a leader.
    pub async fn is_there(&self) -> bool {
        let mut last = self.last.lock().await;
        if let Some((at, is_there)) = *last
            && at.elapsed() < FRESH
        {
            return is_there;
        }
        let (client, topic) = (Arc::clone(&self.client), Arc::clone(&self.topic));
        let asked = tokio::task::spawn_blocking(move || {
            client.fetch_metadata(Some(&topic), CALL).is_ok_and(|metadata| {
                let mut partitions =
                    metadata.topics().iter().flat_map(|topic| topic.partitions()).peekable();
                partitions.peek().is_some() && partitions.all(|partition| partition.leader() >= 0)
            })
        });
        let is_there = asked.await.unwrap_or(false);
        *last = Some((Instant::now(), is_there));
        is_there
    }
}
