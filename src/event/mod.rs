//! What a queue's event is, and whether it asks a user to act.
//!
//! Promises:
//! - an answer is an array of events (v2.1) or an object with one under `events`; each element is
//!   understood or refused by itself, and a refusal names the place and never a value;
//! - nothing that the source sent is dropped: what has no field of its own stands in `unmapped`;
//! - text is borrowed from the answer wherever it holds no escapes;
//! - debug text shows ids and places, never what was received: it may hold secrets.
//!
//! Knows nothing of: queues, topics, schemas, HTTP.
//!
//! Source of the fields: linxo-api.md 4 and 5.

mod action;
mod decode;
mod moment;
mod redaction;

use std::borrow::Cow;
use std::fmt;

pub use action::{Action, RaisedAction, SyncSign, sync_sign, sync_sign_of_answer};
pub use redaction::Redaction;
use thiserror::Error;

use crate::ids::Timestamp;
use crate::metrics::DeadLetterReason;

/// An event as a queue handed it out.
#[derive(Clone, PartialEq)]
pub struct SourceEvent<'a> {
    /// `id`: opaque text, never empty.
    pub event_id: Cow<'a, str>,
    /// `event_type`, never empty.
    pub event_type: Cow<'a, str>,
    /// `resource_type`.
    pub resource_type: Option<Cow<'a, str>>,
    /// `creation_date`.
    pub created_at: Option<Timestamp>,
    /// `channel_definition_id`.
    pub channel_definition_id: Option<Cow<'a, str>>,
    /// `resource`, when it is a connection.
    pub connection: Option<Connection<'a>>,
    /// `resource.connection_id`, when the resource is something else and names one as text.
    pub linked_connection_id: Option<Cow<'a, str>>,
    /// Every other field.
    pub unmapped: Vec<Unmapped<'a>>,
    /// The element as it was received.
    pub raw: &'a str,
}

impl fmt::Debug for SourceEvent<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("SourceEvent")
            .field("event_id", &self.event_id)
            .field("event_type", &self.event_type)
            .field("connection_id", &self.connection_id())
            .field("unmapped", &self.unmapped)
            .finish_non_exhaustive()
    }
}

impl SourceEvent<'_> {
    /// The connection that the event concerns: the resource itself, or the one it names.
    pub fn connection_id(&self) -> Option<&str> {
        match &self.connection {
            Some(connection) => Some(&connection.id),
            None => self.linked_connection_id.as_deref(),
        }
    }

    /// What the event type says about a synchronization.
    pub fn sync_sign(&self) -> Option<SyncSign> {
        sync_sign(&self.event_type)
    }

    /// The mode of the channel that the event names, as the connection shows it.
    pub fn channel_mode(&self) -> Option<&str> {
        let wanted = self.channel_definition_id.as_deref()?;
        let mut channels = self.connection.as_ref()?.channels.iter();
        channels.find(|channel| channel.definition_id.as_deref() == Some(wanted))?.mode.as_deref()
    }
}

/// Snapshot of a bank connection. Everything but the id may be missing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Connection<'a> {
    /// `id`, never empty.
    pub id: Cow<'a, str>,
    /// `provider_id`: the bank.
    pub provider_id: Option<Cow<'a, str>>,
    /// `name`, as the user sees it.
    pub name: Option<Cow<'a, str>>,
    /// `status`.
    pub status: Option<Cow<'a, str>>,
    /// `creation_date`.
    pub created_at: Option<Timestamp>,
    /// `channels`.
    pub channels: Vec<Channel<'a>>,
}

/// One way in which a bank is reached. Everything may be missing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Channel<'a> {
    /// `channel_definition_id`.
    pub definition_id: Option<Cow<'a, str>>,
    /// `mode`: REDIRECT or EMBEDDED.
    pub mode: Option<Cow<'a, str>>,
    /// `status`.
    pub status: Option<Cow<'a, str>>,
    /// `expires`: when the consent ends.
    pub expires_at: Option<Timestamp>,
    /// `last_success_date`.
    pub last_success_at: Option<Timestamp>,
    /// `last_end_date`.
    pub last_end_at: Option<Timestamp>,
}

/// A connection of the listing, with what has no field of its own.
#[derive(Clone, PartialEq)]
pub struct ListedConnection<'a> {
    /// The connection.
    pub connection: Connection<'a>,
    /// Every other field, as if the connection were the resource of an event.
    pub unmapped: Vec<Unmapped<'a>>,
    /// The element as it was received.
    pub raw: &'a str,
}

impl fmt::Debug for ListedConnection<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("ListedConnection")
            .field("id", &self.connection.id)
            .field("unmapped", &self.unmapped)
            .finish_non_exhaustive()
    }
}

/// A field that the schema does not name.
#[derive(Clone, PartialEq)]
pub struct Unmapped<'a> {
    /// What holds the field.
    pub place: Place,
    /// Its name, not escaped.
    pub name: Cow<'a, str>,
    /// Its value: JSON text as received.
    pub json: &'a str,
}

impl fmt::Debug for Unmapped<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Unmapped").field(&self.pointer()).finish()
    }
}

/// Which part of an event holds a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// The event itself.
    Event,
    /// Its resource.
    Resource,
    /// A channel of its resource, counted from 0.
    Channel(usize),
}

impl Place {
    /// JSON pointer to the field of this name (RFC 6901).
    pub fn pointer(self, name: &str) -> String {
        let name = escaped(name);
        match self {
            Self::Event => format!("/{name}"),
            Self::Resource => format!("/resource/{name}"),
            Self::Channel(index) => format!("/resource/channels/{index}/{name}"),
        }
    }
}

impl<'a> Unmapped<'a> {
    /// JSON pointer to the field from the event (RFC 6901).
    pub fn pointer(&self) -> String {
        self.place.pointer(&self.name)
    }

    /// The name as it stands in a JSON pointer.
    pub fn escaped_name(&self) -> Cow<'_, str> {
        escaped(&self.name)
    }

    /// The value less its redacted fields, or nothing when the field itself is redacted.
    pub fn redacted(&self, redaction: &Redaction) -> Option<Cow<'a, str>> {
        (!redaction.covers(&self.name)).then(|| redaction.strip(self.json))
    }
}

fn escaped(name: &str) -> Cow<'_, str> {
    if name.contains(['~', '/']) {
        Cow::Owned(name.replace('~', "~0").replace('/', "~1"))
    } else {
        Cow::Borrowed(name)
    }
}

/// An element of an answer that is no event, or of a listing that is no connection.
#[derive(Clone, PartialEq, Eq)]
pub struct BadElement<'a> {
    /// What is wrong with it.
    pub reason: BadElementReason,
    /// JSON pointer to the field at fault; empty for the element itself.
    pub pointer: String,
    /// The element as it was received.
    pub raw: &'a str,
}

impl fmt::Debug for BadElement<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("BadElement")
            .field("reason", &self.reason)
            .field("pointer", &self.pointer)
            .finish_non_exhaustive()
    }
}

/// What makes an element unusable. Closed, for metrics and headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BadElementReason {
    /// It is no JSON object.
    NotAnObject,
    /// It has no id, or its connection has none.
    MissingId,
    /// It has no event type.
    MissingType,
    /// A field that the schema names is of another type.
    WrongType,
}

impl BadElementReason {
    /// Every reason.
    pub const ALL: [Self; 4] =
        [Self::NotAnObject, Self::MissingId, Self::MissingType, Self::WrongType];

    /// The name in metrics and in the header `linxo-reason`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotAnObject => "not_an_object",
            Self::MissingId => "missing_id",
            Self::MissingType => "missing_type",
            Self::WrongType => "wrong_type",
        }
    }
}

/// Why an answer holds no elements to look at: the whole of it is a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
pub enum AnswerFault {
    /// It is not JSON, or not UTF-8.
    #[error("the answer is not JSON")]
    NotJson,
    /// It is JSON, but neither an array nor an object with one in the place where it is looked for.
    #[error("the answer is JSON but holds no array of elements")]
    NotAnArray,
}

impl AnswerFault {
    /// Every fault.
    pub const ALL: [Self; 2] = [Self::NotJson, Self::NotAnArray];

    /// The name in metrics and in the header `linxo-reason`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotJson => "not_json",
            Self::NotAnArray => "not_an_array",
        }
    }
}

impl From<BadElementReason> for DeadLetterReason {
    fn from(reason: BadElementReason) -> Self {
        match reason {
            BadElementReason::NotAnObject => Self::NotAnObject,
            BadElementReason::MissingId => Self::MissingId,
            BadElementReason::MissingType => Self::MissingType,
            BadElementReason::WrongType => Self::WrongType,
        }
    }
}

impl From<AnswerFault> for DeadLetterReason {
    fn from(fault: AnswerFault) -> Self {
        match fault {
            AnswerFault::NotJson => Self::NotJson,
            AnswerFault::NotAnArray => Self::NotAnArray,
        }
    }
}

/// The events of an answer to `GET /queues/{id}`, in the order of the answer.
///
/// # Errors
/// When the body as a whole is no array of anything.
pub fn decode_answer(
    body: &[u8],
) -> Result<Vec<Result<SourceEvent<'_>, BadElement<'_>>>, AnswerFault> {
    Ok(decode::elements(body, "events")?.into_iter().map(decode::event).collect())
}

/// The least id among the events of an answer; none when they are no whole numbers.
pub fn least_id(body: &[u8]) -> Option<u64> {
    let elements = decode_answer(body).ok()?;
    elements.iter().flatten().filter_map(|event| event.event_id.parse().ok()).min()
}

/// The connections of an answer to `GET /connections`, in the order of the answer.
///
/// # Errors
/// When the body as a whole is no array of anything.
pub fn decode_connections(
    body: &[u8],
) -> Result<Vec<Result<ListedConnection<'_>, BadElement<'_>>>, AnswerFault> {
    Ok(decode::elements(body, "connections")?.into_iter().map(decode::listed).collect())
}

#[cfg(test)]
mod tests;
