//! The ledger: every event that was made and what became of it.
//!
//! Promises:
//! - one record for each event and each queue it was put in, and one for an event that no live
//!   queue was there for;
//! - a record takes 40 bytes; beyond `max_events` none is kept, the totals go on counting, and
//!   the ledger says that it is truncated.
//!
//! Knows nothing of: queues' contents, tokens, HTTP.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::fault::FaultName;
use super::queue::DeathCause;
use super::script::Status;

/// What became of an event in a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// It waits to be asked for.
    Waiting,
    /// It was removed by a question and sent whole.
    HandedOut,
    /// It was removed by a question, and the body did not arrive as it should.
    LostOnTheWire,
    /// It waited when its queue died.
    DiedWithQueue,
    /// No live queue was there for it.
    NoQueue,
    /// Its queue was full.
    Overflow,
}

/// How an event was handed out, or lost on the way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandOut {
    /// When, in milliseconds since 1970.
    pub at: u64,
    /// Which question to its queue took it, counted from 1.
    pub answer: u32,
    /// Its place among all events handed out, over all queues.
    pub turn: u32,
    /// The fault that the answer met.
    pub fault: Option<FaultName>,
}

/// An event in a queue, or one that no queue was there for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventEntry {
    /// Whose it is.
    pub user: Arc<str>,
    /// The queue it was put in.
    pub queue: Option<Arc<str>>,
    /// The connection it is about.
    pub connection: Option<Arc<str>>,
    /// Its id; none without queue, or when it was injected without one.
    pub event_id: Option<Arc<str>>,
    /// Its type as handed out; none when it was injected without one.
    pub event_type: Option<Arc<str>>,
    /// The status of the REDIRECT channel in it.
    pub redirect: Option<Status>,
    /// The status of the EMBEDDED channel in it.
    pub embedded: Option<Status>,
    /// When it was made, in milliseconds since 1970.
    pub made_at: u64,
    /// What became of it.
    pub fate: Fate,
    /// How it was handed out or lost.
    pub handed_out: Option<HandOut>,
    /// The field that was taken out of it by a fault.
    pub without: Option<Arc<str>>,
}

/// The life of a queue. Times are milliseconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueEntry {
    /// Its id.
    pub queue: Arc<str>,
    /// Whose it is.
    pub user: Arc<str>,
    /// When it was made.
    pub opened_at: u64,
    /// How many questions named it, whatever they were answered.
    pub questions: u32,
    /// When it was last named.
    pub last_question_at: u64,
    /// When a question last reached it and reset its timer.
    pub last_reached_at: u64,
    /// The longest time between two questions, its opening counted as one.
    pub longest_pause_ms: u64,
    /// The time from the last question to its death, or to now.
    pub silent_ms: u64,
    /// When it died.
    pub died_at: Option<u64>,
}

/// A queue's death.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeathEntry {
    /// The queue.
    pub queue: Arc<str>,
    /// Whose it was.
    pub user: Arc<str>,
    /// When, in milliseconds since 1970.
    pub at: u64,
    /// Why.
    pub cause: DeathCause,
    /// The ids of the events that waited in it.
    pub undelivered: Vec<Option<Arc<str>>>,
}

/// A user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserEntry {
    /// The user's id.
    pub user: Arc<str>,
    /// How many queues were made for them over the API.
    pub subscribes: u32,
}

/// Which part of the ledger is wanted; by default all of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Extract {
    /// Only what is this user's.
    pub user: Option<String>,
    /// The place of the first event, as the page before said in `next`. Queues, deaths and users
    /// are on the page that starts at 0 only.
    pub from: u32,
    /// How many events at most.
    pub limit: Option<usize>,
}

/// The ledger, or the part that was wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    /// Now, in milliseconds since 1970.
    pub now: u64,
    /// There were more events than are kept: what is missing here proves nothing.
    pub truncated: bool,
    /// Where the next page starts, when events were left for one.
    pub next: Option<u32>,
    /// In the order in which they were made.
    pub events: Vec<EventEntry>,
    /// In the order in which they were opened.
    pub queues: Vec<QueueEntry>,
    /// In the order in which the queues were opened.
    pub deaths: Vec<DeathEntry>,
    /// In the order in which they became known.
    pub users: Vec<UserEntry>,
}

impl Ledger {
    /// What was taken from a queue by questions, lost or not, in that order.
    pub fn taken_from(&self, queue: &str) -> Vec<&EventEntry> {
        let mut taken: Vec<_> = self
            .events
            .iter()
            .filter(|event| event.queue.as_deref() == Some(queue) && event.handed_out.is_some())
            .collect();
        taken.sort_by_key(|event| event.handed_out.as_ref().map(|hand_out| hand_out.turn));
        taken
    }

    /// The events with this fate.
    pub fn with_fate(&self, fate: Fate) -> impl Iterator<Item = &EventEntry> {
        self.events.iter().filter(move |event| event.fate == fate)
    }
}

/// How a question was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names of answers and of faults")]
pub enum Outcome {
    Events,
    Empty,
    EmptyList,
    Dead,
    BadRequest,
    Unauthorized,
    Forbidden,
    Throttled,
    ServerError,
    Slow,
    Hang,
    Cut,
    Oversized,
    InvalidJson,
    Html,
}

/// The totals.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// Now, in milliseconds since 1970.
    pub now: u64,
    /// Events made, each counted once however many queues it went to.
    pub made: u64,
    /// Events put in queues, each counted in each queue.
    pub queued: u64,
    /// Of those, sent whole.
    pub handed_out: u64,
    /// Of those, removed and not sent whole.
    pub lost_on_the_wire: u64,
    /// Of those, dead with their queue.
    pub died_with_queue: u64,
    /// Of those, waiting.
    pub waiting: u64,
    /// Events that no live queue was there for.
    pub no_queue: u64,
    /// Events that a full queue did not take.
    pub overflow: u64,
    /// Questions to queues.
    pub polls: u64,
    /// The same by answer.
    pub answers: BTreeMap<Outcome, u64>,
    /// The longest time between two questions to a queue, its opening counted as one. A queue that
    /// is not asked again does not show here, see `silent_ms` in the ledger.
    pub longest_pause_ms: u64,
    /// Queues made over the API.
    pub subscribes: u64,
    /// Requests to list connections.
    pub listings: u64,
    /// Requests for a token.
    pub token_requests: u64,
    /// Requests with one user's token that named another user.
    pub mismatched: u64,
    /// Queues that live.
    pub live_queues: u64,
    /// Queues that died.
    pub deaths: u64,
    /// Users known.
    pub users: u64,
    /// How often each fault was met.
    pub faults: BTreeMap<FaultName, u64>,
    /// The ledger keeps no more events.
    pub truncated: bool,
}

/// No queue, no connection, no record.
pub(super) const NONE: u32 = u32::MAX;

/// What is kept of an event. Moments are the simulator's milliseconds, good for 49 days.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record {
    pub(super) user: u32,
    pub(super) queue: u32,
    pub(super) connection: u32,
    /// Its number in its queue; 0: its id is in `odd_ids`, or it has none.
    pub(super) number: u32,
    made: u32,
    handed: u32,
    answer: u32,
    turn: u32,
    kind: u16,
    pub(super) statuses: [Option<Status>; 2],
    pub(super) fate: Fate,
    fault: Option<FaultName>,
}

/// What is known of an event when it is made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Making {
    pub(super) user: u32,
    pub(super) connection: u32,
    pub(super) kind: u16,
    pub(super) statuses: [Option<Status>; 2],
    pub(super) at: u64,
}

/// Stands for an event without a type.
const NO_KIND: u16 = u16::MAX;
/// Types beyond these are written down as this one.
const MOST_KINDS: usize = 10_000;

/// The ledger as it is kept.
#[derive(Debug)]
pub(super) struct Book {
    most: usize,
    records: Vec<Record>,
    kinds: Vec<Arc<str>>,
    kind_numbers: HashMap<Arc<str>, u16>,
    odd_ids: HashMap<u32, Arc<str>>,
    without: HashMap<u32, Arc<str>>,
    turns: u32,
    /// The totals of events.
    pub(super) totals: Stats,
}

impl Book {
    pub(super) fn new(most: usize) -> Self {
        Self {
            most: most.min(NONE as usize),
            records: Vec::new(),
            kinds: Vec::new(),
            kind_numbers: HashMap::new(),
            odd_ids: HashMap::new(),
            without: HashMap::new(),
            turns: 0,
            totals: Stats::default(),
        }
    }

    /// The number of an event type.
    pub(super) fn kind(&mut self, event_type: Option<&str>) -> u16 {
        let Some(event_type) = event_type else { return NO_KIND };
        if let Some(number) = self.kind_numbers.get(event_type) {
            return *number;
        }
        let full = self.kinds.len() >= MOST_KINDS;
        let event_type: Arc<str> = if full { "(too many types)".into() } else { event_type.into() };
        let number = u16::try_from(self.kinds.len()).unwrap_or(NO_KIND);
        if let Some(number) = self.kind_numbers.get(&event_type) {
            return *number;
        }
        self.kinds.push(event_type.clone());
        self.kind_numbers.insert(event_type, number);
        number
    }

    /// Writes down an event in a queue, or one without; answers its place, [`NONE`] when full.
    pub(super) fn write(&mut self, making: &Making, queue: u32, number: u32, fate: Fate) -> u32 {
        match fate {
            Fate::NoQueue => self.totals.no_queue += 1,
            Fate::Overflow => self.totals.overflow += 1,
            Fate::Waiting | Fate::HandedOut | Fate::LostOnTheWire | Fate::DiedWithQueue => {
                self.totals.queued += 1;
            }
        }
        if self.records.len() >= self.most {
            self.totals.truncated = true;
            return NONE;
        }
        self.records.push(Record {
            user: making.user,
            queue,
            connection: making.connection,
            number,
            made: short(making.at),
            handed: 0,
            answer: 0,
            turn: 0,
            kind: making.kind,
            statuses: making.statuses,
            fate,
            fault: None,
        });
        short(self.records.len() as u64 - 1)
    }

    /// Gives an event the id that it was injected with.
    pub(super) fn name(&mut self, record: u32, id: Option<&str>) {
        if let (Some(id), true) = (id, record != NONE) {
            self.odd_ids.insert(record, id.into());
        }
    }

    /// Writes down that a question took an event.
    pub(super) fn hand_out(
        &mut self,
        record: u32,
        now: u64,
        answer: u32,
        fault: Option<FaultName>,
        fate: Fate,
    ) {
        match fate {
            Fate::LostOnTheWire => self.totals.lost_on_the_wire += 1,
            Fate::HandedOut
            | Fate::Waiting
            | Fate::DiedWithQueue
            | Fate::NoQueue
            | Fate::Overflow => self.totals.handed_out += 1,
        }
        self.turns = self.turns.saturating_add(1);
        let turn = self.turns;
        if let Some(record) = self.records.get_mut(record as usize) {
            record.handed = short(now);
            record.answer = answer;
            record.turn = turn;
            record.fate = fate;
            record.fault = fault;
        }
    }

    /// Writes down that what was handed out did not arrive after all.
    pub(super) fn lose(&mut self, record: u32) {
        self.totals.handed_out = self.totals.handed_out.saturating_sub(1);
        self.totals.lost_on_the_wire += 1;
        if let Some(record) = self.records.get_mut(record as usize) {
            record.fate = Fate::LostOnTheWire;
        }
    }

    /// Writes down that an event died with its queue.
    pub(super) fn bury(&mut self, record: u32) {
        self.totals.died_with_queue += 1;
        if let Some(record) = self.records.get_mut(record as usize) {
            record.fate = Fate::DiedWithQueue;
        }
    }

    /// Writes down that an event was handed out with another type.
    pub(super) fn retype(&mut self, record: u32, event_type: &str) {
        let kind = self.kind(Some(event_type));
        if let Some(record) = self.records.get_mut(record as usize) {
            record.kind = kind;
        }
    }

    /// Writes down that an event was handed out without a field.
    pub(super) fn note_without(&mut self, record: u32, field: &str) {
        if record != NONE {
            self.without.insert(record, field.into());
        }
    }

    /// Every record from a place on, with its place.
    pub(super) fn records(&self, from: u32) -> impl Iterator<Item = (u32, &Record)> {
        let rest = self.records.get(from as usize..).unwrap_or_default();
        (from..).zip(rest)
    }

    /// The type of an event.
    pub(super) fn kind_of(&self, record: &Record) -> Option<Arc<str>> {
        self.kinds.get(usize::from(record.kind)).cloned()
    }

    /// The id that an event was injected with.
    pub(super) fn odd_id(&self, place: u32) -> Option<Arc<str>> {
        self.odd_ids.get(&place).cloned()
    }

    /// The field that an event was handed out without.
    pub(super) fn without(&self, place: u32) -> Option<Arc<str>> {
        self.without.get(&place).cloned()
    }
}

impl Record {
    /// When it was made.
    pub(super) fn made(&self) -> u64 {
        u64::from(self.made)
    }

    /// How it was taken, with the moment still the simulator's.
    pub(super) fn taken(&self) -> Option<HandOut> {
        (self.turn != 0).then_some(HandOut {
            at: u64::from(self.handed),
            answer: self.answer,
            turn: self.turn,
            fault: self.fault,
        })
    }
}

fn short(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn making() -> Making {
        Making { user: 0, connection: NONE, kind: 0, statuses: [None; 2], at: 5 }
    }

    #[test]
    fn a_full_book_counts_on_and_says_that_it_is_truncated() {
        let mut book = Book::new(1);
        let kept = book.write(&making(), 0, 1, Fate::Waiting);
        assert!(!book.totals.truncated);
        let dropped = book.write(&making(), 0, 2, Fate::Waiting);
        assert_eq!((kept, dropped), (0, NONE));
        assert!(book.totals.truncated);
        book.hand_out(kept, 6, 1, None, Fate::HandedOut);
        book.hand_out(dropped, 6, 1, None, Fate::HandedOut);
        book.lose(dropped);
        assert_eq!((book.totals.queued, book.totals.handed_out), (2, 1));
        assert_eq!(book.totals.lost_on_the_wire, 1);
    }

    #[test]
    fn a_record_takes_40_bytes() {
        assert_eq!(size_of::<Record>(), 40);
    }

    #[test]
    fn event_types_are_bounded() {
        let mut book = Book::new(1);
        for number in 0..MOST_KINDS + 10 {
            book.kind(Some(&format!("KIND_{number}")));
        }
        assert_eq!(book.kinds.len(), MOST_KINDS + 1);
        assert_eq!(book.kind(None), NO_KIND);
    }
}
