//! How each kind of client is set up.
//!
//! Promises:
//! - what the design depends on (isolation, idempotence, partitioner, no auto commit) cannot be
//!   changed by properties, the configuration refuses that;
//! - every client has its own `client.id` (librdkafka issue 4783).
//!
//! Knows nothing of: topics and records.

use std::time::Duration;

use rdkafka::ClientConfig;

use crate::config::{GroupProtocol, Kafka};
use crate::ids::JournalId;

/// How long the broker lets a transaction stay open unless `kafka.producer` says otherwise; also how long a successor may have to wait
/// for a dead owner's last one.
pub const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(30);

/// After how long without a word the producer closes a connection; while it publishes none is silent for so long.
const LONGEST_IDLE: Duration = Duration::from_secs(15);

/// How often the producer says how it is; one tells about each of its partitions.
const STATISTICS: Duration = Duration::from_secs(5);

/// What a record takes beside key, value and headers in the producer's own size check, rounded up.
pub const MESSAGE_OVERHEAD: usize = 128;

/// Kafka's own default of `max.message.bytes`, taken where a topic cannot be asked.
pub const DEFAULT_MAX_MESSAGE: usize = 1_048_588;

/// Makes the settings of each client.
#[derive(Clone)]
pub struct Clients {
    kafka: Kafka,
}

impl Clients {
    /// Clients of this cluster and instance.
    pub fn new(kafka: &Kafka) -> Self {
        Self { kafka: kafka.clone() }
    }

    /// The transactional producer. Batches stay below the smallest `max.message.bytes` of the
    /// topics, since a broker measures whole batches; a single record may be as large as the
    /// largest.
    pub fn producer(&self, journal: &JournalId, smallest: usize, largest: usize) -> ClientConfig {
        let mut config = self.base("producer");
        config
            .set("linger.ms", "5")
            // librdkafka waits without end for a group coordinator that left the cluster, until any
            // connection changes its state (its issues 5511 and 5456): then one that idles does
            .set("connections.max.idle.ms", millis(LONGEST_IDLE))
            .set("compression.type", "lz4")
            .set("transaction.timeout.ms", millis(TRANSACTION_TIMEOUT))
            .set("queue.buffering.max.messages", "100000")
            .set("queue.buffering.max.kbytes", "131072")
            .set("statistics.interval.ms", millis(STATISTICS));
        set_all(&mut config, &self.kafka.producer);
        config
            .set("transactional.id", format!("{}-{journal}", self.kafka.group))
            .set("enable.idempotence", "true")
            .set("partitioner", "murmur2_random")
            .set("message.max.bytes", largest.clamp(1000, 1_000_000_000).to_string())
            .set("batch.size", smallest.clamp(1, 1_000_000).to_string());
        config
    }

    /// The member of the group that shares out the control topic.
    pub fn group_member(&self) -> ClientConfig {
        let mut config = self.consumer("group");
        config
            .set("group.id", &self.kafka.group)
            .set("group.instance.id", &self.kafka.instance_id)
            .set("isolation.level", "read_committed")
            .set("max.poll.interval.ms", millis(self.longest_silence()));
        match self.kafka.group_protocol {
            GroupProtocol::Classic => {
                config.set("partition.assignment.strategy", "cooperative-sticky");
                if let Some(timeout) = self.kafka.session_timeout {
                    let heartbeat = (timeout / 10).max(Duration::from_millis(100));
                    config
                        .set("session.timeout.ms", millis(timeout))
                        .set("heartbeat.interval.ms", millis(heartbeat.min(timeout / 3)));
                }
            }
            GroupProtocol::Consumer => {
                // whether the group's coordinator is there is known from nothing else
                config.set("group.protocol", "consumer").set("statistics.interval.ms", "1000");
            }
        }
        config
    }

    /// A reader without a group that sees committed records only.
    pub fn committed_reader(&self) -> ClientConfig {
        let mut config = self.reader("reader");
        config.set("isolation.level", "read_committed");
        config
    }

    /// A reader without a group that stays at the end of a quiet topic: it need not be told of a record
    /// within milliseconds, and should not ask for one a hundred times a second.
    pub fn follower(&self) -> ClientConfig {
        let mut config = self.reader("marks");
        config.set("isolation.level", "read_committed").set("fetch.wait.max.ms", "500");
        config
    }

    /// A reader without a group that sees the end as writers see it.
    pub fn uncommitted_reader(&self) -> ClientConfig {
        let mut config = self.reader("end");
        config.set("isolation.level", "read_uncommitted");
        config
    }

    /// An administrative client.
    pub fn admin(&self) -> ClientConfig {
        self.base("admin")
    }

    /// How long the thread that polls the group may be silent: not less than the session.
    fn longest_silence(&self) -> Duration {
        self.kafka.session_timeout.unwrap_or_default().max(Duration::from_secs(60))
    }

    fn reader(&self, role: &str) -> ClientConfig {
        let mut config = self.consumer(role);
        // assigning by hand needs a name of a group, which is never joined
        config.set("group.id", format!("{}-readers", self.kafka.group));
        config
    }

    fn consumer(&self, role: &str) -> ClientConfig {
        let mut config = self.base(role);
        config.set("fetch.wait.max.ms", "10").set("fetch.queue.backoff.ms", "10");
        set_all(&mut config, &self.kafka.consumer);
        config
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("enable.partition.eof", "true")
            .set("auto.offset.reset", "earliest")
            .set("allow.auto.create.topics", "false");
        config
    }

    fn base(&self, role: &str) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("reconnect.backoff.max.ms", "2000")
            .set("topic.metadata.refresh.interval.ms", "60000");
        set_all(&mut config, &self.kafka.properties);
        config
            .set("bootstrap.servers", &self.kafka.bootstrap_servers)
            .set("client.id", format!("{}-{role}", self.kafka.instance_id));
        config
    }
}

fn set_all(config: &mut ClientConfig, properties: &std::collections::BTreeMap<String, String>) {
    for (key, value) in properties {
        config.set(key, value);
    }
}

fn millis(duration: Duration) -> String {
    duration.as_millis().to_string()
}
