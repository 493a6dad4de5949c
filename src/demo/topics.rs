//! What comes by in the topics, as a consumer reads it.
//!
//! Promises:
//! - [`follow`] shows each record soon after it was committed, on a thread of its own.
//!
//! Knows nothing of: what the records mean.

use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};
use serde_json::Value;
use tokio::sync::mpsc;

use super::DemoError;
use crate::ids::Timestamp;
use crate::kafka::{Clients, Complaints};
use crate::record::{Decoder, Framing, Topics};

/// Partitions of the topics that are read.
pub(super) const PARTITIONS: i32 = 4;
/// Records that may wait to be shown.
const WAITING: usize = 10_000;
const STEP: Duration = Duration::from_millis(20);

/// One record.
#[derive(Clone, Debug)]
pub(super) struct Found {
    /// Its key.
    pub(super) key: String,
    /// Its value as JSON; null for a dead letter, whose value is what could not be read.
    pub(super) value: Value,
}

impl Found {
    /// A field of the value as text; empty when it is none.
    pub(super) fn text(&self, field: &str) -> &str {
        self.value[field].as_str().unwrap_or_default()
    }
}

/// One record as it came by.
pub(super) struct Seen {
    /// Where.
    pub(super) topic: String,
    /// What.
    pub(super) record: Found,
    /// When it could be read.
    pub(super) at: Timestamp,
}

/// The topics that are for others to read.
fn public(names: &Topics) -> Vec<String> {
    let plain = [&names.events, &names.gaps, &names.dead_letters];
    plain.into_iter().chain(&names.actions).map(|name| name.to_string()).collect()
}

/// Reads the public topics as records come, until the receiver is dropped.
pub(super) fn follow(clients: &Clients, names: &Topics) -> Result<mpsc::Receiver<Seen>, DemoError> {
    let reader = clients.committed_reader();
    let consumer: BaseConsumer<Complaints> = reader.create_with_context(Complaints("demo"))?;
    let mut assignment = TopicPartitionList::new();
    for topic in public(names) {
        for partition in 0..PARTITIONS {
            assignment.add_partition_offset(&topic, partition, Offset::Beginning)?;
        }
    }
    consumer.assign(&assignment)?;
    let decoder = Decoder::new(&Framing::SingleObject, names)?;
    let dead_letters = names.dead_letters.to_string();
    let (sender, seen) = mpsc::channel(WAITING);
    let read = move || {
        while !sender.is_closed() {
            // errors are the client's to mend; what stays missing shows in the verdict
            let Some(Ok(message)) = consumer.poll(STEP) else { continue };
            let at = Timestamp::now();
            let topic = message.topic().to_owned();
            let record = found(&decoder, topic == dead_letters, message.key(), message.payload());
            let Ok(record) = record else { continue };
            if sender.blocking_send(Seen { topic, record, at }).is_err() {
                return;
            }
        }
    };
    std::thread::Builder::new().name("follower".into()).spawn(read).map_err(DemoError::Thread)?;
    Ok(seen)
}

fn found(
    decoder: &Decoder,
    is_dead_letter: bool,
    key: Option<&[u8]>,
    value: Option<&[u8]>,
) -> Result<Found, DemoError> {
    let key = String::from_utf8_lossy(key.unwrap_or_default()).into_owned();
    let value = match value {
        Some(value) if !is_dead_letter => decoder.describe(value)?,
        Some(_) | None => Value::Null,
    };
    Ok(Found { key, value })
}
