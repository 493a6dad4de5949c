//! What the topics hold, as little of it as a comparison needs.
//!
//! Promises:
//! - a record of an event takes some 250 bytes, however large it was: a run of an hour fits;
//! - a dead letter that was cut is put together again.
//!
//! Knows nothing of: how records are read, what is right.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use serde_json::Value;

use crate::event::Action;
use crate::record::{HEADER_PART, HEADER_QUEUE_ID, HEADER_REASON, Topics};
use crate::simulator::{Mode, Status};

/// Where a record of an event comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A queue handed it out.
    Queue,
    /// The bridge made it from a listing.
    Reconciliation,
    /// Something else.
    Unknown,
}

/// A record of the events topic, or of a topic of actions.
#[derive(Clone, Debug, PartialEq)]
pub struct EventRecord {
    /// Its partition.
    pub partition: i32,
    /// Its offset there.
    pub offset: i64,
    /// Its key.
    pub key: Arc<str>,
    /// By which it is recognised.
    pub idempotency_key: Box<str>,
    /// Its type.
    pub event_type: Arc<str>,
    /// Whose it is.
    pub user: Arc<str>,
    /// Under which subscription.
    pub subscription: Arc<str>,
    /// Where it comes from.
    pub origin: Origin,
    /// Its number among those of its key.
    pub sequence: Option<i64>,
    /// Which ownership of its user wrote it.
    pub owner_epoch: i64,
    /// Whether it was written by who owned its user no more.
    pub late: bool,
    /// When its answer was received, in milliseconds since 1970.
    pub received_at: i64,
    /// What it asks of its user, in the order of [`Action::ALL`].
    pub actions: Vec<Action>,
    /// The status of the REDIRECT and of the EMBEDDED channel in it.
    pub statuses: [Option<Status>; 2],
}

/// A record of the topic of gaps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GapRecord {
    /// Its partition.
    pub partition: i32,
    /// Its offset there.
    pub offset: i64,
    /// Its key.
    pub key: Arc<str>,
    /// Which gap.
    pub gap: Arc<str>,
    /// Whose.
    pub user: Arc<str>,
    /// The connection it is for; none in the record for the user.
    pub connection: Option<Arc<str>>,
    /// Why.
    pub cause: Arc<str>,
    /// Whether events were lost for sure.
    pub is_certain: bool,
    /// Its span, in milliseconds since 1970.
    pub from: i64,
    /// The end of it.
    pub to: i64,
    /// The queue that events were lost from.
    pub queue: Arc<str>,
    /// The one that took its place.
    pub next_queue: Option<Arc<str>>,
    /// Whether the present state has been published.
    pub is_reconciled: bool,
}

/// A dead letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    /// Its partition.
    pub partition: i32,
    /// Its offset there, of the first part if it was cut.
    pub offset: i64,
    /// Whose answer it was in.
    pub user: Arc<str>,
    /// The queue that was asked.
    pub queue: Arc<str>,
    /// Why it is one.
    pub reason: Arc<str>,
    /// One element of an answer; false: a whole answer, or what there was of it.
    pub is_element: bool,
    /// The id of the event, where it can be read.
    pub event_id: Option<Box<str>>,
}

/// One record as it came out of a topic.
pub struct Found<'f> {
    /// Its partition.
    pub partition: i32,
    /// Its offset there.
    pub offset: i64,
    /// Its key.
    pub key: &'f [u8],
    /// Its value as JSON by its schema; null for a dead letter.
    pub value: &'f Value,
    /// Its value as it is, for a dead letter.
    pub bytes: &'f [u8],
    /// Its headers by name.
    pub header: &'f dyn Fn(&str) -> Option<String>,
}

/// What all topics hold, in the order of each partition.
#[derive(Debug, Default)]
pub struct Holdings {
    /// The events topic.
    pub events: Vec<EventRecord>,
    /// The topics of actions by name.
    pub copies: BTreeMap<Box<str>, Vec<EventRecord>>,
    /// The topic of gaps.
    pub gaps: Vec<GapRecord>,
    /// The dead letters.
    pub letters: Vec<Letter>,
    texts: HashSet<Arc<str>>,
    cut: HashMap<(i32, Vec<u8>), Vec<u8>>,
}

impl Holdings {
    /// Takes in a record of a topic; one of a topic that nobody compares is passed over.
    pub fn put(&mut self, names: &Topics, topic: &str, found: &Found<'_>) {
        if *topic == *names.events {
            let event = self.event(found);
            self.events.push(event);
        } else if *topic == *names.gaps {
            let gap = self.gap(found);
            self.gaps.push(gap);
        } else if *topic == *names.dead_letters {
            self.letter(found);
        } else if names.actions.iter().any(|name| **name == *topic) {
            let copy = self.event(found);
            self.copies.entry(topic.into()).or_default().push(copy);
        }
    }

    /// Takes in what another one holds, of other topics or partitions.
    pub fn merge(&mut self, other: Self) {
        self.events.extend(other.events);
        for (topic, copies) in other.copies {
            self.copies.entry(topic).or_default().extend(copies);
        }
        self.gaps.extend(other.gaps);
        self.letters.extend(other.letters);
    }

    fn event(&mut self, found: &Found<'_>) -> EventRecord {
        let value = found.value;
        let number = |field: &str| value[field].as_i64();
        EventRecord {
            partition: found.partition,
            offset: found.offset,
            key: self.key(found),
            idempotency_key: value["idempotency_key"].as_str().unwrap_or_default().into(),
            event_type: self.text(value, "event_type"),
            user: self.text(value, "user_id"),
            subscription: self.text(value, "subscription_id"),
            origin: match value["origin"].as_str() {
                Some("QUEUE") => Origin::Queue,
                Some("RECONCILIATION") => Origin::Reconciliation,
                Some(_) | None => Origin::Unknown,
            },
            sequence: number("sequence"),
            owner_epoch: number("owner_epoch").unwrap_or_default(),
            late: value["late"] == true,
            received_at: number("received_at").unwrap_or_default(),
            actions: actions(value),
            statuses: statuses(value),
        }
    }

    fn gap(&mut self, found: &Found<'_>) -> GapRecord {
        let value = found.value;
        let number = |field: &str| value[field].as_i64().unwrap_or_default();
        GapRecord {
            partition: found.partition,
            offset: found.offset,
            key: self.key(found),
            gap: self.text(value, "gap_id"),
            user: self.text(value, "user_id"),
            connection: self.optional(value, "connection_id"),
            cause: self.text(value, "cause"),
            is_certain: value["certainty"] == "CERTAIN",
            from: number("from"),
            to: number("to"),
            queue: self.text(value, "queue_id"),
            next_queue: self.optional(value, "next_queue_id"),
            is_reconciled: value["reconciled"] == true,
        }
    }

    fn letter(&mut self, found: &Found<'_>) {
        let key = (found.partition, found.key.to_vec());
        let mut whole = self.cut.remove(&key).unwrap_or_default();
        let part = (found.header)(HEADER_PART);
        let (place, parts) =
            part.as_deref().and_then(|part| part.split_once('/')).unwrap_or(("1", "1"));
        if place == "1" {
            whole.clear();
        }
        whole.extend_from_slice(found.bytes);
        if place != parts {
            self.cut.insert(key, whole);
            return;
        }
        let element: Option<Value> = serde_json::from_slice(&whole).ok();
        let event_id = element.as_ref().and_then(|element| element["id"].as_str()).map(Box::from);
        let user = self.key(found);
        let mut header = |name: &str| self.intern(&(found.header)(name).unwrap_or_default());
        let (queue, reason) = (header(HEADER_QUEUE_ID), header(HEADER_REASON));
        self.letters.push(Letter {
            partition: found.partition,
            offset: found.offset,
            user,
            queue,
            reason,
            is_element: element.is_some(),
            event_id,
        });
    }

    fn key(&mut self, found: &Found<'_>) -> Arc<str> {
        self.intern(&String::from_utf8_lossy(found.key))
    }

    fn text(&mut self, value: &Value, field: &str) -> Arc<str> {
        self.intern(value[field].as_str().unwrap_or_default())
    }

    fn optional(&mut self, value: &Value, field: &str) -> Option<Arc<str>> {
        value[field].as_str().map(|text| self.intern(text))
    }

    /// The same text once, however often it comes.
    fn intern(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.texts.get(text) {
            return known.clone();
        }
        let text: Arc<str> = text.into();
        self.texts.insert(text.clone());
        text
    }
}

fn actions(value: &Value) -> Vec<Action> {
    let raised = value["actions"].as_array().into_iter().flatten();
    let names: HashSet<&str> = raised.filter_map(|raised| raised["action"].as_str()).collect();
    Action::ALL.into_iter().filter(|action| names.contains(action.as_str())).collect()
}

fn statuses(value: &Value) -> [Option<Status>; 2] {
    let channels = value["connection"]["channels"].as_array();
    Mode::BOTH.map(|mode| {
        let mode = serde_json::to_value(mode).ok()?;
        let channel = channels?.iter().find(|channel| channel["mode"] == mode)?;
        serde_json::from_value(channel["status"].clone()).ok()
    })
}
