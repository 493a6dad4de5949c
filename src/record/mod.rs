//! An event as Avro: its topic, its key, its bytes. The same for gaps, subscriptions, states and marks.
//!
//! Promises:
//! - what is written here is what the schemas in `schemas/` say, in the framing that was chosen;
//! - an event's datum is the same in every topic, only the header before it differs;
//! - what is read is understood by the schema it was written with, in either framing, and brought
//!   to the present one;
//! - redacted fields never reach an event.
//!
//! Knows nothing of: producers, the registry's HTTP, partitions. The only room that names
//! `apache_avro`.

mod decoder;
mod describe;
mod encoder;
mod event;
mod schema;
mod topics;

#[cfg(test)]
mod mirror;
#[cfg(test)]
mod tests;

use std::sync::Arc;

pub use decoder::Decoder;
pub use encoder::{Encoder, Framing};
pub use event::{EventRecord, Happening, Origin};
pub use schema::{RELEASED, RecordKind};
use thiserror::Error;
pub use topics::{Subject, TopicRole, Topics};

use crate::ids::{ConnectionId, GapId, QueueId};

/// Header of events, actions and gaps: the id at the source.
pub const HEADER_EVENT_ID: &str = "linxo-event-id";
/// Header of events, actions and gaps: what happened.
pub const HEADER_EVENT_TYPE: &str = "linxo-event-type";
/// Header of events, actions and gaps: the user concerned.
pub const HEADER_USER_ID: &str = "linxo-user-id";
/// Header of events, actions and gaps: the same whenever the same thing is published.
pub const HEADER_IDEMPOTENCY_KEY: &str = "linxo-idempotency-key";
/// Header of dead letters: why.
pub const HEADER_REASON: &str = "linxo-reason";
/// Header of dead letters: the queue asked.
pub const HEADER_QUEUE_ID: &str = "linxo-queue-id";
/// Header of dead letters: when the answer was received.
pub const HEADER_RECEIVED_AT: &str = "linxo-received-at";
/// Header of dead letters that had to be cut: `i/n`, counted from 1.
pub const HEADER_PART: &str = "linxo-part";

/// Event type of a reconciliation: the present state of a connection.
pub const CONNECTION_STATE: &str = "CONNECTION_STATE";
/// Event type of a reconciliation: a known connection that the listing no longer has.
pub const CONNECTION_ABSENT: &str = "CONNECTION_ABSENT";

/// The key by which a repeated event of a queue is recognised.
pub fn idempotency_key(queue_id: &QueueId, event_id: &str) -> String {
    [queue_id.as_str(), "/", event_id].concat()
}

/// The same for an event that a reconciliation made.
pub fn reconciliation_key(gap_id: &GapId, connection_id: &ConnectionId) -> String {
    ["r/", gap_id.as_str(), "/", connection_id.as_str()].concat()
}

/// Why a record cannot be written or read.
#[derive(Debug, Error)]
pub enum RecordError {
    /// The program's own schema is at fault.
    #[error("the schema of {kind} in this program cannot be used: rebuild it")]
    OwnSchema {
        /// The kind of record.
        kind: RecordKind,
        /// What Avro says.
        #[source]
        source: Arc<apache_avro::Error>,
    },
    /// Register the schemas of all topics first.
    #[error("no schema id for topic {topic}: register its schema before writing to it")]
    MissingId {
        /// The topic without an id.
        topic: String,
    },
    /// A dead letter: it will never be written.
    #[error("a {kind} cannot be written as Avro")]
    Unwritable {
        /// The kind of record.
        kind: RecordKind,
        /// What Avro says.
        #[source]
        source: Box<apache_avro::Error>,
    },
    /// Ask the registry for this schema, have the decoder learn it, and try again.
    #[error("schema {id} of the registry is not known yet: look it up")]
    UnknownSchema {
        /// The id in the record.
        id: u32,
    },
    /// The record was written with a schema that this program was not built with.
    #[error("no schema has the fingerprint {fingerprint:016x}: a newer bridge wrote it, upgrade")]
    UnknownFingerprint {
        /// The fingerprint in the record.
        fingerprint: u64,
    },
    /// What the registry gave for an id is no schema.
    #[error("schema {id} of the registry cannot be parsed")]
    BadSchema {
        /// The id that was learnt.
        id: u32,
        /// What Avro says.
        #[source]
        source: Box<apache_avro::Error>,
    },
    /// The record was not written by a bridge.
    #[error(
        "the record has neither Confluent nor single-object framing: who else writes the topic?"
    )]
    NotFramed,
    /// The record was written with the schema of something else.
    #[error("a {kind} is expected, but the record was written with the schema of {found}")]
    OtherKind {
        /// What was looked for.
        kind: RecordKind,
        /// Full name of the schema it was written with.
        found: String,
    },
    /// The bytes do not fit the schema they name.
    #[error("a {kind} cannot be read: its bytes do not fit the schema they name")]
    Malformed {
        /// What was looked for.
        kind: RecordKind,
        /// What Avro says; none when bytes were left over.
        #[source]
        source: Option<Box<apache_avro::Error>>,
    },
}
