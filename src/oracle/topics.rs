//! Reads every topic that a comparison needs, from its beginning to its end.
//!
//! Promises:
//! - what is read was committed, and all that was committed before the call is read;
//! - both framings are read; a registry is asked once for every version of each schema;
//! - a topic that has lost its beginning is an error, as what is missing there proves nothing.
//!
//! Knows nothing of: what the records mean.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::task::JoinSet;

use super::holdings::{Found, Holdings};
use crate::kafka::{Clients, ReadError, partitions_of, read_to_end};
use crate::record::{Decoder, Framing, RecordError, Topics};
use crate::registry::{Registry, RegistryFault};

/// How long one topic may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience(pub Duration);

impl Default for Patience {
    fn default() -> Self {
        Self(Duration::from_secs(60))
    }
}

/// Why the topics cannot be compared with anything.
#[derive(Debug, thiserror::Error)]
pub enum ReadingError {
    /// A topic cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A record is none of ours.
    #[error("topic {topic}, partition {partition}, offset {offset}: {source}")]
    Record {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The offset.
        offset: i64,
        /// What is wrong with it.
        #[source]
        source: RecordError,
    },
    /// The program's schemas.
    #[error(transparent)]
    Schemas(#[from] RecordError),
    /// The registry does not say what records were written with.
    #[error(transparent)]
    Registry(#[from] RegistryFault),
    /// Records are gone.
    #[error(
        "topic {topic}, partition {partition} begins at offset {offset}: what was before is gone, \
         judge before retention removes records"
    )]
    Shortened {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// Its first record.
        offset: i64,
    },
    /// A thread ended badly.
    #[error("a thread that read a topic ended badly: {0}")]
    Thread(#[from] tokio::task::JoinError),
}

/// Id and text of every version that a record may have been written with.
type Versions = Arc<Vec<(u32, String)>>;

/// Everything that the topics hold which others read.
pub async fn read_all(
    clients: &Clients,
    names: &Topics,
    registry: Option<&Registry>,
    patience: Patience,
) -> Result<Holdings, ReadingError> {
    let mut versions = Vec::new();
    if let Some(registry) = registry {
        for subject in names.subjects() {
            versions.extend(registry.versions(&subject.name).await?);
        }
    }
    let versions = Arc::new(versions);
    let mut reading = JoinSet::new();
    for topic in public(names) {
        let (clients, names, versions) = (clients.clone(), names.clone(), Arc::clone(&versions));
        reading.spawn_blocking(move || read_one(&clients, &names, &topic, &versions, patience));
    }
    let mut holdings = Holdings::default();
    while let Some(read) = reading.join_next().await {
        holdings.merge(read??);
    }
    Ok(holdings)
}

/// The topics that are for others to read, each once.
fn public(names: &Topics) -> Vec<String> {
    let mut all = Vec::new();
    for name in [&names.events, &names.gaps, &names.dead_letters].into_iter().chain(&names.actions)
    {
        if !all.contains(&name.to_string()) {
            all.push(name.to_string());
        }
    }
    all
}

fn read_one(
    clients: &Clients,
    names: &Topics,
    topic: &str,
    versions: &Versions,
    patience: Patience,
) -> Result<Holdings, ReadingError> {
    let decoder = Decoder::new(&Framing::SingleObject, names)?;
    for (id, text) in versions.iter() {
        if let Err(error) = decoder.learn(*id, text) {
            tracing::warn!(schema = id, %error, "a version of the registry cannot be used");
        }
    }
    let is_dead_letters = *topic == *names.dead_letters;
    let partitions = partitions_of(clients, topic, patience.0)?;
    if let Some((partition, offset)) = partitions.iter().find(|(_, begins)| *begins > 0) {
        let (partition, offset) = (*partition, *offset);
        return Err(ReadingError::Shortened { topic: topic.to_owned(), partition, offset });
    }
    let partitions: Vec<i32> = partitions.into_iter().map(|(partition, _)| partition).collect();
    let mut holdings = Holdings::default();
    let mut fault = None;
    read_to_end(clients, topic, &partitions, patience.0, |record| {
        let bytes = record.value.unwrap_or_default();
        let value = if is_dead_letters { Ok(Value::Null) } else { decoder.describe(bytes) };
        let value = match value {
            Ok(value) => value,
            Err(source) => {
                fault.get_or_insert(ReadingError::Record {
                    topic: topic.to_owned(),
                    partition: record.partition,
                    offset: record.offset,
                    source,
                });
                return;
            }
        };
        let header = |name: &str| {
            record.header(name).map(|value| String::from_utf8_lossy(value).into_owned())
        };
        let found = Found {
            partition: record.partition,
            offset: record.offset,
            key: record.key,
            value: &value,
            bytes,
            header: &header,
        };
        holdings.put(names, topic, &found);
    })?;
    match fault {
        Some(fault) => Err(fault),
        None => Ok(holdings),
    }
}
