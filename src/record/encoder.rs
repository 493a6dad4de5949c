//! Records into bytes: the topic's header, then the datum.
//!
//! Promises:
//! - headers and writers are made once;
//! - what fails leaves the buffer as it was.
//!
//! Knows nothing of: where the schema ids come from, producers.

use std::collections::HashMap;
use std::sync::Arc;

use apache_avro::writer::datum::GenericDatumWriter;
use serde::Serialize;

use super::schema::{fingerprint, present};
use super::{EventRecord, RecordError, RecordKind, TopicRole, Topics};
use crate::event::{Action, Redaction};
use crate::gap::Gap;
use crate::journal_mark::JournalMark;
use crate::queue_state::QueueState;
use crate::subscription::Subscription;

/// How a value says which schema it was written with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Framing {
    /// C3 01, fingerprint, datum: when there is no registry.
    SingleObject,
    /// Byte 0, schema id big-endian, datum.
    Confluent {
        /// The id of each topic's value schema.
        ids: HashMap<String, u32>,
    },
}

/// Writes records.
pub struct Encoder {
    redaction: Option<Redaction>,
    events: Box<[u8]>,
    actions: [Box<[u8]>; 5],
    gap: Writer,
    subscription: Writer,
    queue_state: Writer,
    journal_mark: Writer,
}

impl Encoder {
    /// Writes with this framing. `unmapped` says whether unmapped fields are published at all, and
    /// the redaction what is left out of them.
    ///
    /// # Errors
    /// `MissingId` when a topic has no id in a Confluent framing.
    pub fn new(
        framing: &Framing,
        topics: &Topics,
        redaction: Redaction,
        unmapped: bool,
    ) -> Result<Self, RecordError> {
        let event = |topic: &str| header(framing, topic, RecordKind::Event);
        let [first, second, third, fourth, fifth] = &topics.actions;
        Ok(Self {
            redaction: unmapped.then_some(redaction),
            events: event(&topics.events)?,
            actions: [event(first)?, event(second)?, event(third)?, event(fourth)?, event(fifth)?],
            gap: Writer::new(framing, &topics.gaps, RecordKind::Gap)?,
            subscription: Writer::new(framing, &topics.subscriptions, RecordKind::Subscription)?,
            queue_state: Writer::new(framing, &topics.queues, RecordKind::QueueState)?,
            journal_mark: Writer::new(framing, &topics.journals, RecordKind::JournalMark)?,
        })
    }

    /// What stands before each datum of a topic; nothing before dead letters.
    pub fn header(&self, role: TopicRole) -> &[u8] {
        match role {
            TopicRole::Subscriptions => &self.subscription.header,
            TopicRole::Queues => &self.queue_state.header,
            TopicRole::Journals => &self.journal_mark.header,
            TopicRole::Events => &self.events,
            TopicRole::Action(action) => self.action_header(action),
            TopicRole::Gaps => &self.gap.header,
            TopicRole::DeadLetters => &[],
        }
    }

    fn action_header(&self, action: Action) -> &[u8] {
        &self.actions[action.index()]
    }

    /// Appends the value of an event for a topic of events or actions.
    pub fn event(&self, record: &EventRecord<'_>, role: TopicRole, out: &mut Vec<u8>) {
        out.extend_from_slice(self.header(role));
        self.event_datum(record, out);
    }

    /// Appends the datum of an event: the same for every topic, to be framed by `header`.
    pub fn event_datum(&self, record: &EventRecord<'_>, out: &mut Vec<u8>) {
        record.write(self.redaction.as_ref(), out);
    }

    /// Appends the value of a gap.
    ///
    /// # Errors
    /// `Unwritable`: it will never be written.
    pub fn gap(&self, gap: &Gap, out: &mut Vec<u8>) -> Result<(), RecordError> {
        self.gap.write(gap, out)
    }

    /// Appends the value of a subscription.
    ///
    /// # Errors
    /// `Unwritable`: it will never be written.
    pub fn subscription(
        &self,
        subscription: &Subscription,
        out: &mut Vec<u8>,
    ) -> Result<(), RecordError> {
        self.subscription.write(subscription, out)
    }

    /// Appends the value of a queue state.
    ///
    /// # Errors
    /// `Unwritable`: it will never be written.
    pub fn queue_state(&self, state: &QueueState, out: &mut Vec<u8>) -> Result<(), RecordError> {
        self.queue_state.write(state, out)
    }

    /// Appends the value of a journal mark.
    ///
    /// # Errors
    /// `Unwritable`: it will never be written.
    pub fn journal_mark(&self, mark: &JournalMark, out: &mut Vec<u8>) -> Result<(), RecordError> {
        self.journal_mark.write(mark, out)
    }
}

impl std::fmt::Debug for Encoder {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Encoder").finish_non_exhaustive()
    }
}

struct Writer {
    kind: RecordKind,
    header: Box<[u8]>,
    datum: GenericDatumWriter<'static>,
}

impl Writer {
    fn new(framing: &Framing, topic: &str, kind: RecordKind) -> Result<Self, RecordError> {
        let datum = GenericDatumWriter::builder(present(kind)?)
            .build()
            .map_err(|source| RecordError::OwnSchema { kind, source: Arc::new(source) })?;
        Ok(Self { kind, header: header(framing, topic, kind)?, datum })
    }

    fn write<T: Serialize>(&self, record: &T, out: &mut Vec<u8>) -> Result<(), RecordError> {
        let before = out.len();
        out.extend_from_slice(&self.header);
        match self.datum.write_ser(out, record) {
            Ok(_) => Ok(()),
            Err(source) => {
                out.truncate(before);
                Err(RecordError::Unwritable { kind: self.kind, source: Box::new(source) })
            }
        }
    }
}

fn header(framing: &Framing, topic: &str, kind: RecordKind) -> Result<Box<[u8]>, RecordError> {
    match framing {
        Framing::SingleObject => {
            let fingerprint = fingerprint(present(kind)?)
                .map_err(|source| RecordError::OwnSchema { kind, source: Arc::new(source) })?;
            Ok([[0xC3, 0x01].as_slice(), &fingerprint].concat().into())
        }
        Framing::Confluent { ids } => match ids.get(topic) {
            Some(id) => Ok([[0].as_slice(), &id.to_be_bytes()].concat().into()),
            None => Err(RecordError::MissingId { topic: topic.to_owned() }),
        },
    }
}
