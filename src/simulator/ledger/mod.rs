//! The ledger: every event that was made and what became of it.
//!
//! Promises:
//! - one entry for each event and each queue it was put in, and one for an event that no live
//!   queue was there for;
//! - the fate of an event is what is true now: it is handed out when it was sent whole at least
//!   once, whatever else happened to it; what was lost and is kept to be handed out again waits;
//! - each time that it was sent is told, with the answer and the turn, whole or lost.
//!
//! Knows nothing of: how it is kept (`book.rs`), queues' contents, tokens, HTTP.

mod book;
#[cfg(test)]
mod tests;

pub(super) use book::{Book, Making, NONE, Record, Sent};

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::fault::FaultName;
use super::queue::DeathCause;
use super::script::Status;

/// What became of an event in a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// It waits to be asked for; in delivery `repeatable` perhaps again, see `times_lost`.
    Waiting,
    /// It was sent whole at least once.
    HandedOut,
    /// It was removed by a question, and no answer with it arrived as it should.
    LostOnTheWire,
    /// It waited when its queue died.
    DiedWithQueue,
    /// No live queue was there for it.
    NoQueue,
    /// Its queue was full.
    Overflow,
}

/// One time that an event was sent, whole or lost on the way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandOut {
    /// When, in milliseconds since 1970.
    pub at: u64,
    /// Which question to its queue took it, counted from 1.
    pub answer: u32,
    /// Its place among all events sent, over all queues.
    pub turn: u32,
    /// The fault that the answer met.
    pub fault: Option<FaultName>,
    /// It did not arrive as it should.
    pub lost: bool,
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
    /// The first time that it was sent whole; when it never was, the last time that it was lost.
    pub handed_out: Option<HandOut>,
    /// Every other time that it was sent, in that order.
    pub again: Vec<HandOut>,
    /// How often it was sent whole.
    pub times_handed_out: u32,
    /// How often it was sent and did not arrive as it should.
    pub times_lost: u32,
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
    /// For how long two asked it in turn, at most.
    #[serde(default)]
    pub contested_ms: u64,
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
    /// How many token requests gave their name.
    pub token_requests: u32,
    /// How many of those were under way at once, at most: until the answer was sent or given up.
    pub most_token_requests_at_once: u32,
}

/// A time in which the source could not be reached, in milliseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outage {
    /// When it began.
    pub from: u64,
    /// When it ended, or will.
    pub to: u64,
}

/// Which part of the ledger is wanted; by default all of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Extract {
    /// Only what is this user's.
    pub user: Option<String>,
    /// Where the page starts, as the page before said in `next`: a place in the events, in the
    /// queues (with their deaths) and in the users alike.
    pub from: u32,
    /// How many events at most; as many queues and users at most, except on a page of one user.
    pub limit: Option<usize>,
}

/// The ledger, or the part that was wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    /// Now, in milliseconds since 1970.
    pub now: u64,
    /// There were more events than are kept: what is missing here proves nothing.
    pub truncated: bool,
    /// Where the next page starts, when anything was left for one.
    pub next: Option<u32>,
    /// In the order in which they were made.
    pub events: Vec<EventEntry>,
    /// In the order in which they were opened.
    pub queues: Vec<QueueEntry>,
    /// In the order in which the queues were opened.
    pub deaths: Vec<DeathEntry>,
    /// In the order in which they became known.
    pub users: Vec<UserEntry>,
    /// In the order in which they began; on the first page only, the latest 1,000.
    pub outages: Vec<Outage>,
}

impl Ledger {
    /// Each time that an event of a queue was sent, lost or not, in that order.
    pub fn sent_from(&self, queue: &str) -> Vec<(&EventEntry, &HandOut)> {
        let of_queue = self.events.iter().filter(|event| event.queue.as_deref() == Some(queue));
        let mut sent: Vec<_> = of_queue
            .flat_map(|event| {
                event.handed_out.iter().chain(&event.again).map(move |out| (event, out))
            })
            .collect();
        sent.sort_by_key(|(_, out)| out.turn);
        sent
    }

    /// What was taken from a queue by questions, lost or not, in the order of `handed_out`.
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
    Reset,
    Vanish,
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
    /// Of those, sent whole at least once.
    pub handed_out: u64,
    /// Of those, removed and never sent whole.
    pub lost_on_the_wire: u64,
    /// Of those, dead with their queue.
    pub died_with_queue: u64,
    /// Of those, waiting.
    pub waiting: u64,
    /// Events that no live queue was there for.
    pub no_queue: u64,
    /// Events that a full queue did not take.
    pub overflow: u64,
    /// How often an event was sent whole; what is above `handed_out` is repeats.
    pub times_handed_out: u64,
    /// How often an event was sent and did not arrive as it should.
    pub times_lost: u64,
    /// Synchronizations started by [`Traffic`](super::Traffic).
    pub traffic: u64,
    /// Questions to queues.
    pub polls: u64,
    /// The same by answer.
    pub answers: BTreeMap<Outcome, u64>,
    /// The longest time between two questions to a queue, its opening counted as one. A queue that
    /// is not asked again does not show here, see `silent_ms` in the ledger.
    pub longest_pause_ms: u64,
    /// Questions by another one than the queue's last, by the whole seconds since that one's.
    pub passed_after_seconds: BTreeMap<u64, u64>,
    /// Queues made over the API.
    pub subscribes: u64,
    /// Requests to list connections.
    pub listings: u64,
    /// Requests for a token.
    pub token_requests: u64,
    /// Of those, refused, by a fault or for what they gave.
    pub token_refusals: u64,
    /// The most token requests under way at once for one user.
    pub most_token_requests_at_once: u32,
    /// Requests with one user's token that named another user.
    pub mismatched: u64,
    /// Queues that live.
    pub live_queues: u64,
    /// Queues that died.
    pub deaths: u64,
    /// Those by cause.
    pub deaths_by_cause: BTreeMap<DeathCause, u64>,
    /// Times in which the source could not be reached.
    pub outages: u64,
    /// Users known.
    pub users: u64,
    /// How often each fault was met.
    pub faults: BTreeMap<FaultName, u64>,
    /// The ledger keeps no more events.
    pub truncated: bool,
}
