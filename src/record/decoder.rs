//! Bytes back into records: whatever the framing, whichever version wrote them.
//!
//! Promises:
//! - what the present schema wrote is read straight into the struct;
//! - what another one wrote is resolved to the present one, as Avro says;
//! - a schema that is not known is told by its id, so that it can be looked up and learnt;
//! - what a registry has forgotten, or given another id, is read by the versions that this program
//!   knows, if one of them fits to the last byte.
//!
//! Knows nothing of: the registry's HTTP, topics beyond their ids.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

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
    /// One that had this id, and that nobody knows any more.
    Forgotten(u32),
}

/// Reads what bridges keep in Kafka for each other. Many may read while one has it learn.
pub struct Decoder {
    by_fingerprint: HashMap<[u8; 8], Arc<Written>>,
    /// Locked for as long as it takes to look one up, never while a topic is read.
    by_id: RwLock<HashMap<u32, Arc<Written>>>,
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
            by_fingerprint.insert(fingerprint, Arc::new(Written::Otherwise(Box::new(schema))));
        }
        for kind in RecordKind::ALL {
            let own = |source| RecordError::OwnSchema { kind, source: Arc::new(source) };
            let fingerprint = fingerprint(present(kind)?).map_err(own)?;
            by_fingerprint.insert(fingerprint, Arc::new(Written::Present(kind)));
        }
        let mut by_id = HashMap::new();
        if let Framing::Confluent { ids } = framing {
            for subject in topics.subjects() {
                if let Some(id) = ids.get(&*subject.topic) {
                    by_id.insert(*id, Arc::new(Written::Present(subject.kind)));
                }
            }
        }
        Ok(Self {
            by_fingerprint,
            by_id: RwLock::new(by_id),
            subscription: Reader::new(RecordKind::Subscription)?,
            queue_state: Reader::new(RecordKind::QueueState)?,
            journal_mark: Reader::new(RecordKind::JournalMark)?,
        })
    }

    /// Adds what the registry has under an id.
    ///
    /// # Errors
    /// `BadSchema`, when it is no schema.
    pub fn learn(&self, id: u32, schema_text: &str) -> Result<(), RecordError> {
        let bad = |source| RecordError::BadSchema { id, source: Box::new(source) };
        let schema = Schema::parse_str(schema_text).map_err(bad)?;
        let known = self.by_fingerprint.get(&fingerprint(&schema).map_err(bad)?);
        let written = match known.map(|known| &**known) {
            Some(Written::Present(kind)) => Written::Present(*kind),
            Some(Written::Otherwise(_) | Written::Forgotten(_)) | None => {
                Written::Otherwise(Box::new(schema))
            }
        };
        self.note(id, written);
        Ok(())
    }

    /// Notes that the registry has no schema of this id any more.
    pub fn forget(&self, id: u32) {
        self.note(id, Written::Forgotten(id));
    }

    fn note(&self, id: u32, written: Written) {
        let mut by_id = self.by_id.write().unwrap_or_else(PoisonError::into_inner);
        by_id.insert(id, Arc::new(written));
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
        let (kind, schema) = match &*written {
            Written::Present(kind) => (*kind, present(*kind)?),
            Written::Otherwise(schema) => {
                let found = schema.name().map(|name| name.fullname(None)).unwrap_or_default();
                let kind = RecordKind::ALL.into_iter().find(|kind| kind.full_name() == found);
                (kind.ok_or(RecordError::NotFramed)?, &**schema)
            }
            Written::Forgotten(id) => return Err(RecordError::UnknownSchema { id: *id }),
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

    /// The mark of this instance's own journal: none but this program, perhaps in an earlier
    /// version, wrote it, so that an id which is not known is one that was forgotten.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn own_journal_mark(&self, value: &[u8]) -> Result<JournalMark, RecordError> {
        match self.journal_mark(value) {
            Err(error @ RecordError::UnknownSchema { .. }) => {
                self.guessed(&self.journal_mark, &value[5..]).ok_or(error)
            }
            read => read,
        }
    }

    fn read<T: DeserializeOwned>(&self, reader: &Reader, value: &[u8]) -> Result<T, RecordError> {
        match self.read_as_written(reader, value) {
            Err(error @ (RecordError::ForgottenSchema { .. } | RecordError::OtherKind { .. }))
                if value.first() == Some(&0) =>
            {
                self.guessed(reader, &value[5..]).ok_or(error)
            }
            read => read,
        }
    }

    /// Reads a datum by each version known, until one fits to the last byte.
    fn guessed<T: DeserializeOwned>(&self, reader: &Reader, datum: &[u8]) -> Option<T> {
        let mut rest = datum;
        if let Ok(read) = reader.direct.read_deser(&mut rest)
            && rest.is_empty()
        {
            return Some(read);
        }
        self.by_fingerprint.values().find_map(|written| {
            let Written::Otherwise(schema) = &**written else { return None };
            let mut rest = datum;
            let read = reader.resolved(schema, &mut rest).ok()?;
            rest.is_empty().then_some(read)
        })
    }

    fn read_as_written<T: DeserializeOwned>(
        &self,
        reader: &Reader,
        value: &[u8],
    ) -> Result<T, RecordError> {
        let (written, mut datum) = self.unframed(value)?;
        let kind = reader.kind;
        let read = match &*written {
            Written::Present(found) if *found == kind => reader.direct.read_deser(&mut datum),
            Written::Present(found) => {
                return Err(RecordError::OtherKind { kind, found: found.full_name().to_owned() });
            }
            Written::Forgotten(id) => {
                return Err(RecordError::ForgottenSchema { kind, id: *id });
            }
            Written::Otherwise(schema) => {
                let found = schema.name().map(|name| name.fullname(None)).unwrap_or_default();
                if found != kind.full_name() {
                    return Err(RecordError::OtherKind { kind, found });
                }
                reader.resolved(schema, &mut datum)
            }
        };
        match read {
            Ok(read) if datum.is_empty() => Ok(read),
            Ok(_) => Err(RecordError::Malformed { kind, source: None }),
            Err(source) => Err(RecordError::Malformed { kind, source: Some(Box::new(source)) }),
        }
    }

    fn unframed<'v>(&self, value: &'v [u8]) -> Result<(Arc<Written>, &'v [u8]), RecordError> {
        if let Some((&[0, a, b, c, d], datum)) = value.split_first_chunk() {
            let id = u32::from_be_bytes([a, b, c, d]);
            let by_id = self.by_id.read().unwrap_or_else(PoisonError::into_inner);
            let written = by_id.get(&id).ok_or(RecordError::UnknownSchema { id })?;
            return Ok((Arc::clone(written), datum));
        }
        if let Some((&[0xC3, 0x01, a, b, c, d, e, f, g, h], datum)) = value.split_first_chunk() {
            let bytes = [a, b, c, d, e, f, g, h];
            let fingerprint = u64::from_le_bytes(bytes);
            let written = self.by_fingerprint.get(&bytes);
            let written = written.ok_or(RecordError::UnknownFingerprint { fingerprint })?;
            return Ok((Arc::clone(written), datum));
        }
        Err(RecordError::NotFramed)
    }
}

impl std::fmt::Debug for Decoder {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let by_id = self.by_id.read().unwrap_or_else(PoisonError::into_inner);
        let mut ids: Vec<_> = by_id.keys().collect();
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

    /// Reads what `written` wrote, brought to the present schema.
    fn resolved<T: DeserializeOwned>(
        &self,
        written: &Schema,
        datum: &mut &[u8],
    ) -> Result<T, apache_avro::Error> {
        let resolving = GenericDatumReader::builder(written).reader_schema(self.schema).build()?;
        apache_avro::from_value(&resolving.read_value(datum)?)
    }
}
