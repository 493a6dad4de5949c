//! Bytes back into records: whatever the framing, whichever version wrote them.
//!
//! Promises:
//! - what the present schema wrote is read straight into the struct;
//! - what another one wrote is resolved to the present one, as Avro says;
//! - a schema that is not known is told by its id, so that it can be looked up and learnt.
//!
//! Knows nothing of: the registry's HTTP, topics beyond their ids.

use std::collections::HashMap;
use std::sync::Arc;

use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use serde::de::DeserializeOwned;

use super::describe::json;
use super::schema::{RELEASED, fingerprint, present};
use super::{Framing, RecordError, RecordKind, Topics};
use crate::journal_mark::JournalMark;
use crate::queue_state::QueueState;
use crate::subscription::Subscription;

/// What a record was written with.
enum Written {
    /// The present schema of this kind.
    Present(RecordKind),
    /// Another one.
    Otherwise(Box<Schema>),
}

/// Reads what bridges keep in Kafka for each other.
pub struct Decoder {
    by_fingerprint: HashMap<[u8; 8], Written>,
    by_id: HashMap<u32, Written>,
    subscription: Reader,
    queue_state: Reader,
    journal_mark: Reader,
}

impl Decoder {
    /// Knows the schemas that this program was built with, and the ids of this framing.
    ///
    /// # Errors
    /// `OwnSchema`, when this program was built wrong.
    pub fn new(framing: &Framing, topics: &Topics) -> Result<Self, RecordError> {
        let mut by_fingerprint = HashMap::new();
        for (kind, text) in RELEASED {
            let own = |source| RecordError::OwnSchema { kind, source: Arc::new(source) };
            let schema = Schema::parse_str(text).map_err(own)?;
            let fingerprint = fingerprint(&schema).map_err(own)?;
            by_fingerprint.insert(fingerprint, Written::Otherwise(Box::new(schema)));
        }
        for kind in RecordKind::ALL {
            let own = |source| RecordError::OwnSchema { kind, source: Arc::new(source) };
            let fingerprint = fingerprint(present(kind)?).map_err(own)?;
            by_fingerprint.insert(fingerprint, Written::Present(kind));
        }
        let mut by_id = HashMap::new();
        if let Framing::Confluent { ids } = framing {
            for subject in topics.subjects() {
                if let Some(id) = ids.get(&*subject.topic) {
                    by_id.insert(*id, Written::Present(subject.kind));
                }
            }
        }
        Ok(Self {
            by_fingerprint,
            by_id,
            subscription: Reader::new(RecordKind::Subscription)?,
            queue_state: Reader::new(RecordKind::QueueState)?,
            journal_mark: Reader::new(RecordKind::JournalMark)?,
        })
    }

    /// Adds what the registry has under an id.
    ///
    /// # Errors
    /// `BadSchema`, when it is no schema.
    pub fn learn(&mut self, id: u32, schema_text: &str) -> Result<(), RecordError> {
        let bad = |source| RecordError::BadSchema { id, source: Box::new(source) };
        let schema = Schema::parse_str(schema_text).map_err(bad)?;
        let known = self.by_fingerprint.get(&fingerprint(&schema).map_err(bad)?);
        let written = match known {
            Some(Written::Present(kind)) => Written::Present(*kind),
            Some(Written::Otherwise(_)) | None => Written::Otherwise(Box::new(schema)),
        };
        self.by_id.insert(id, written);
        Ok(())
    }

    /// A value of the control topic.
    ///
    /// # Errors
    /// `UnknownSchema`: look it up, `learn` it, try again. The others: it cannot be read.
    pub fn subscription(&self, value: &[u8]) -> Result<Subscription, RecordError> {
        self.read(&self.subscription, value)
    }

    /// A value of the topic of queue states. What a reader held in excess is given back.
    ///
    /// # Errors
    /// `UnknownSchema`: look it up, `learn` it, try again. The others: it cannot be read.
    pub fn queue_state(&self, value: &[u8]) -> Result<QueueState, RecordError> {
        let mut state: QueueState = self.read(&self.queue_state, value)?;
        state.shrink();
        Ok(state)
    }

    /// A value of the topic of journals.
    ///
    /// # Errors
    /// `UnknownSchema`: look it up, `learn` it, try again. The others: it cannot be read.
    pub fn journal_mark(&self, value: &[u8]) -> Result<JournalMark, RecordError> {
        self.read(&self.journal_mark, value)
    }

    /// Any value of a topic that has a schema, as JSON: unions without their branch, times as
    /// milliseconds since 1970. For eyes and comparisons, not for speed.
    ///
    /// # Errors
    /// `UnknownSchema`: look it up, `learn` it, try again. The others: it cannot be read.
    pub fn describe(&self, value: &[u8]) -> Result<serde_json::Value, RecordError> {
        let (written, mut datum) = self.unframed(value)?;
        let (kind, schema) = match written {
            Written::Present(kind) => (*kind, present(*kind)?),
            Written::Otherwise(schema) => {
                let found = schema.name().map(|name| name.fullname(None)).unwrap_or_default();
                let kind = RecordKind::ALL.into_iter().find(|kind| kind.full_name() == found);
                (kind.ok_or(RecordError::NotFramed)?, &**schema)
            }
        };
        let read = GenericDatumReader::builder(schema)
            .build()
            .and_then(|reader| reader.read_value(&mut datum));
        match read {
            Ok(read) if datum.is_empty() => Ok(json(read)),
            Ok(_) => Err(RecordError::Malformed { kind, source: None }),
            Err(source) => Err(RecordError::Malformed { kind, source: Some(Box::new(source)) }),
        }
    }

    fn read<T: DeserializeOwned>(&self, reader: &Reader, value: &[u8]) -> Result<T, RecordError> {
        let (written, mut datum) = self.unframed(value)?;
        let kind = reader.kind;
        let read = match written {
            Written::Present(found) if *found == kind => reader.direct.read_deser(&mut datum),
            Written::Present(found) => {
                return Err(RecordError::OtherKind { kind, found: found.full_name().to_owned() });
            }
            Written::Otherwise(schema) => {
                let found = schema.name().map(|name| name.fullname(None)).unwrap_or_default();
                if found != kind.full_name() {
                    return Err(RecordError::OtherKind { kind, found });
                }
                GenericDatumReader::builder(schema)
                    .reader_schema(reader.schema)
                    .build()
                    .and_then(|resolving| resolving.read_value(&mut datum))
                    .and_then(|value| apache_avro::from_value(&value))
            }
        };
        match read {
            Ok(read) if datum.is_empty() => Ok(read),
            Ok(_) => Err(RecordError::Malformed { kind, source: None }),
            Err(source) => Err(RecordError::Malformed { kind, source: Some(Box::new(source)) }),
        }
    }

    fn unframed<'v>(&self, value: &'v [u8]) -> Result<(&Written, &'v [u8]), RecordError> {
        if let Some((&[0, a, b, c, d], datum)) = value.split_first_chunk() {
            let id = u32::from_be_bytes([a, b, c, d]);
            let written = self.by_id.get(&id).ok_or(RecordError::UnknownSchema { id })?;
            return Ok((written, datum));
        }
        if let Some((&[0xC3, 0x01, a, b, c, d, e, f, g, h], datum)) = value.split_first_chunk() {
            let bytes = [a, b, c, d, e, f, g, h];
            let fingerprint = u64::from_le_bytes(bytes);
            let written = self.by_fingerprint.get(&bytes);
            let written = written.ok_or(RecordError::UnknownFingerprint { fingerprint })?;
            return Ok((written, datum));
        }
        Err(RecordError::NotFramed)
    }
}

impl std::fmt::Debug for Decoder {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut ids: Vec<_> = self.by_id.keys().collect();
        ids.sort_unstable();
        formatter.debug_struct("Decoder").field("ids", &ids).finish_non_exhaustive()
    }
}

struct Reader {
    kind: RecordKind,
    schema: &'static Schema,
    direct: GenericDatumReader<'static>,
}

impl Reader {
    fn new(kind: RecordKind) -> Result<Self, RecordError> {
        let schema = present(kind)?;
        let direct = GenericDatumReader::builder(schema)
            .build()
            .map_err(|source| RecordError::OwnSchema { kind, source: Arc::new(source) })?;
        Ok(Self { kind, schema, direct })
    }
}
