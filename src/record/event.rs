//! The datum of an event, written by hand into a buffer that is used again.
//!
//! Promises:
//! - the bytes are those of `schemas/event.avsc`, field by field in its order: a test reads them
//!   back with `apache_avro`;
//! - nothing is allocated but what the buffer lacks, and what a redaction inside a field needs.
//!
//! Knows nothing of: framing, topics.
//!
//! By hand, since every other way costs ten to a hundred times as much (kafka-from-rust.md 6.1).

use crate::event::ListedConnection;
use crate::event::{Channel, Connection, Place, RaisedAction, Redaction, SourceEvent, Unmapped};
use crate::ids::{ConnectionId, QueueId, SubscriptionId, Timestamp, UserId};

use super::{
    CONNECTION_ABSENT, CONNECTION_STATE, HEADER_EVENT_ID, HEADER_EVENT_TYPE,
    HEADER_IDEMPOTENCY_KEY, HEADER_USER_ID,
};

/// Where an event comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A queue handed it out.
    Queue,
    /// Made from a listing after a queue was lost.
    Reconciliation,
}

impl Origin {
    /// The name in the schema.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queue => "QUEUE",
            Self::Reconciliation => "RECONCILIATION",
        }
    }
}

/// What an event tells.
#[derive(Clone, Copy, Debug)]
pub enum Happening<'a> {
    /// What a queue handed out.
    Handed(&'a SourceEvent<'a>),
    /// The present state of a connection: a reconciliation.
    ConnectionState(&'a ListedConnection<'a>),
    /// A known connection that the listing no longer has: a reconciliation.
    ConnectionAbsent(&'a ConnectionId),
}

/// An event with all that the bridge adds to it.
#[derive(Clone, Copy, Debug)]
pub struct EventRecord<'a> {
    /// What it tells.
    pub happening: Happening<'a>,
    /// Whose queue it came from.
    pub user_id: &'a UserId,
    /// The subscription that queue was drained for.
    pub subscription_id: &'a SubscriptionId,
    /// The queue; in a reconciliation the new one.
    pub queue_id: &'a QueueId,
    /// Which of the subscription's queues that is, from 1.
    pub queue_generation: i32,
    /// See `idempotency_key` and `reconciliation_key`.
    pub idempotency_key: &'a str,
    /// Of its key; none when late.
    pub sequence: Option<i64>,
    /// Rises with each take-over of the user.
    pub owner_epoch: i64,
    /// Whether the user is no longer ours.
    pub late: bool,
    /// What it raises.
    pub actions: &'a [RaisedAction],
    /// When the answer was received, by our clock.
    pub received_at: Timestamp,
    /// Whether `unmapped` is left out, since the record was too large with it.
    pub shed_unmapped: bool,
}

impl<'a> EventRecord<'a> {
    /// The id at the source; the idempotency key where the source gave none.
    pub fn event_id(&self) -> &'a str {
        match self.happening {
            Happening::Handed(event) => &event.event_id,
            Happening::ConnectionState(_) | Happening::ConnectionAbsent(_) => self.idempotency_key,
        }
    }

    /// What happened.
    pub fn event_type(&self) -> &'a str {
        match self.happening {
            Happening::Handed(event) => &event.event_type,
            Happening::ConnectionState(_) => CONNECTION_STATE,
            Happening::ConnectionAbsent(_) => CONNECTION_ABSENT,
        }
    }

    /// The connection concerned.
    pub fn connection_id(&self) -> Option<&'a str> {
        match self.happening {
            Happening::Handed(event) => event.connection_id(),
            Happening::ConnectionState(listed) => Some(&listed.connection.id),
            Happening::ConnectionAbsent(id) => Some(id.as_str()),
        }
    }

    /// Where it comes from.
    pub fn origin(&self) -> Origin {
        match self.happening {
            Happening::Handed(_) => Origin::Queue,
            Happening::ConnectionState(_) | Happening::ConnectionAbsent(_) => {
                Origin::Reconciliation
            }
        }
    }

    /// The key of the record: the connection, else the user.
    pub fn key(&self) -> &'a str {
        self.connection_id().unwrap_or(self.user_id.as_str())
    }

    /// The headers of the record.
    pub fn headers(&self) -> [(&'static str, &'a str); 4] {
        [
            (HEADER_EVENT_ID, self.event_id()),
            (HEADER_EVENT_TYPE, self.event_type()),
            (HEADER_USER_ID, self.user_id.as_str()),
            (HEADER_IDEMPOTENCY_KEY, self.idempotency_key),
        ]
    }

    fn handed(&self) -> Option<&'a SourceEvent<'a>> {
        match self.happening {
            Happening::Handed(event) => Some(event),
            Happening::ConnectionState(_) | Happening::ConnectionAbsent(_) => None,
        }
    }

    fn connection(&self) -> Option<&'a Connection<'a>> {
        match self.happening {
            Happening::Handed(event) => event.connection.as_ref(),
            Happening::ConnectionState(listed) => Some(&listed.connection),
            Happening::ConnectionAbsent(_) => None,
        }
    }

    fn unmapped(&self) -> &'a [Unmapped<'a>] {
        match self.happening {
            _ if self.shed_unmapped => &[],
            Happening::Handed(event) => &event.unmapped,
            Happening::ConnectionState(listed) => &listed.unmapped,
            Happening::ConnectionAbsent(_) => &[],
        }
    }

    /// Appends the datum. Without a redaction, `unmapped` is not published at all.
    pub(super) fn write(&self, redaction: Option<&Redaction>, out: &mut Vec<u8>) {
        let handed = self.handed();
        text(out, self.event_id());
        text(out, self.event_type());
        actions(out, self.actions);
        optional_text(
            out,
            match handed {
                Some(event) => event.resource_type.as_deref(),
                None => Some("CONNECTION"),
            },
        );
        optional_moment(out, handed.and_then(|event| event.created_at));
        text(out, self.user_id.as_str());
        text(out, self.subscription_id.as_str());
        text(out, self.queue_id.as_str());
        long(out, i64::from(self.queue_generation));
        text(out, self.idempotency_key);
        optional_long(out, self.sequence);
        long(out, self.owner_epoch);
        out.push(u8::from(self.late));
        optional_text(out, self.connection_id());
        optional_text(out, handed.and_then(|event| event.channel_definition_id.as_deref()));
        optional_text(out, handed.and_then(SourceEvent::channel_mode));
        match self.connection() {
            None => out.push(NULL),
            Some(present) => {
                out.push(PRESENT);
                connection(out, present);
            }
        }
        long(out, self.origin() as i64);
        long(out, self.received_at.0);
        match redaction {
            Some(redaction) => unmapped(out, self.unmapped(), redaction),
            None => out.push(END),
        }
    }
}

/// The branches of a union with null first, zigzag.
const NULL: u8 = 0;
const PRESENT: u8 = 2;
/// The block of no items that ends an array or a map.
const END: u8 = 0;

/// Avro's int and long: zigzag, then seven bits to the byte, least first.
fn long(out: &mut Vec<u8>, number: i64) {
    let mut rest = ((number << 1) ^ (number >> 63)).cast_unsigned();
    while rest >= 0x80 {
        out.push((rest as u8) | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

fn length(out: &mut Vec<u8>, length: usize) {
    // A buffer cannot hold more than `isize::MAX` bytes.
    long(out, length as i64);
}

fn text(out: &mut Vec<u8>, text: &str) {
    length(out, text.len());
    out.extend_from_slice(text.as_bytes());
}

fn optional_text(out: &mut Vec<u8>, optional: Option<&str>) {
    match optional {
        None => out.push(NULL),
        Some(present) => {
            out.push(PRESENT);
            text(out, present);
        }
    }
}

fn optional_long(out: &mut Vec<u8>, optional: Option<i64>) {
    match optional {
        None => out.push(NULL),
        Some(present) => {
            out.push(PRESENT);
            long(out, present);
        }
    }
}

fn optional_moment(out: &mut Vec<u8>, optional: Option<Timestamp>) {
    optional_long(out, optional.map(|moment| moment.0));
}

fn actions(out: &mut Vec<u8>, raised: &[RaisedAction]) {
    if !raised.is_empty() {
        length(out, raised.len());
        for RaisedAction { action, channel_definition_id } in raised {
            // UNKNOWN is the first symbol.
            length(out, action.index() + 1);
            optional_text(out, channel_definition_id.as_deref());
        }
    }
    out.push(END);
}

fn connection(out: &mut Vec<u8>, connection: &Connection<'_>) {
    text(out, &connection.id);
    optional_text(out, connection.provider_id.as_deref());
    optional_text(out, connection.name.as_deref());
    optional_text(out, connection.status.as_deref());
    optional_moment(out, connection.created_at);
    if !connection.channels.is_empty() {
        length(out, connection.channels.len());
        for shown in &connection.channels {
            channel(out, shown);
        }
    }
    out.push(END);
}

fn channel(out: &mut Vec<u8>, channel: &Channel<'_>) {
    optional_text(out, channel.definition_id.as_deref());
    optional_text(out, channel.mode.as_deref());
    optional_text(out, channel.status.as_deref());
    optional_moment(out, channel.expires_at);
    optional_moment(out, channel.last_success_at);
    optional_moment(out, channel.last_end_at);
}

fn unmapped(out: &mut Vec<u8>, fields: &[Unmapped<'_>], redaction: &Redaction) {
    let kept = fields.iter().filter(|field| !redaction.covers(&field.name)).count();
    if kept > 0 {
        length(out, kept);
        for field in fields {
            if let Some(json) = field.redacted(redaction) {
                pointer(out, field);
                text(out, &json);
            }
        }
    }
    out.push(END);
}

/// `Unmapped::pointer`, without the text between.
fn pointer(out: &mut Vec<u8>, field: &Unmapped<'_>) {
    const CHANNELS: &str = "/resource/channels/";
    let name = field.escaped_name();
    match field.place {
        Place::Event => length(out, 1 + name.len()),
        Place::Resource => {
            length(out, "/resource/".len() + name.len());
            out.extend_from_slice(b"/resource");
        }
        Place::Channel(index) => {
            let mut digits = [0; 20];
            let mut first = digits.len();
            let mut rest = index;
            loop {
                first -= 1;
                digits[first] = b'0' + (rest % 10) as u8;
                rest /= 10;
                if rest == 0 {
                    break;
                }
            }
            let digits = &digits[first..];
            length(out, CHANNELS.len() + digits.len() + 1 + name.len());
            out.extend_from_slice(CHANNELS.as_bytes());
            out.extend_from_slice(digits);
        }
    }
    out.push(b'/');
    out.extend_from_slice(name.as_bytes());
}
