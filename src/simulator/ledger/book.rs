//! How the ledger is kept.
//!
//! Promises:
//! - a record takes 44 bytes; beyond `max_events` none is kept, the totals go on counting, and
//!   the ledger says that it is truncated;
//! - what is sent more than once costs 16 bytes for each time beyond the first, kept no more than
//!   `max_events` times;
//! - the totals by fate are those of the records.
//!
//! Knows nothing of: queues' contents, tokens, HTTP.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Fate, HandOut, Stats};
use crate::simulator::fault::FaultName;
use crate::simulator::script::Status;

/// No queue, no connection, no record.
pub(in crate::simulator) const NONE: u32 = u32::MAX;

/// An answer that sends events: its moment, its number in its queue, its fault.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::simulator) struct Sent {
    pub(in crate::simulator) at: u64,
    pub(in crate::simulator) answer: u32,
    pub(in crate::simulator) fault: Option<FaultName>,
    pub(in crate::simulator) lost: bool,
    /// What is lost is kept in its queue, to be handed out again.
    pub(in crate::simulator) kept: bool,
}

/// One time that an event was sent; turn 0: it was not.
#[derive(Clone, Copy, Debug, Default)]
struct Sending {
    at: u32,
    answer: u32,
    turn: u32,
    fault: Option<FaultName>,
    lost: bool,
}

/// What is kept of an event. Moments are the simulator's milliseconds, good for 49 days.
#[derive(Clone, Copy, Debug)]
pub(in crate::simulator) struct Record {
    pub(in crate::simulator) user: u32,
    pub(in crate::simulator) queue: u32,
    pub(in crate::simulator) connection: u32,
    /// Its number, from which its id comes; 0: its id is in `odd_ids`, or it has none.
    pub(in crate::simulator) number: u32,
    made: u32,
    first: Sending,
    kind: u16,
    pub(in crate::simulator) statuses: [Option<Status>; 2],
    pub(in crate::simulator) fate: Fate,
}

/// What is known of an event when it is made.
#[derive(Clone, Copy, Debug)]
pub(in crate::simulator) struct Making {
    pub(in crate::simulator) user: u32,
    pub(in crate::simulator) connection: u32,
    pub(in crate::simulator) kind: u16,
    pub(in crate::simulator) statuses: [Option<Status>; 2],
    pub(in crate::simulator) at: u64,
}

/// Stands for an event without a type.
pub(super) const NO_KIND: u16 = u16::MAX;
/// Types beyond these are written down as this one.
pub(super) const MOST_KINDS: usize = 10_000;

/// The ledger as it is kept.
#[derive(Debug)]
pub(in crate::simulator) struct Book {
    most: usize,
    records: Vec<Record>,
    /// Of a record, each time that it was sent after the first.
    again: HashMap<u32, Vec<Sending>>,
    kept_again: usize,
    /// Of a queue, the records that died with it.
    buried: HashMap<u32, Vec<u32>>,
    pub(super) kinds: Vec<Arc<str>>,
    kind_numbers: HashMap<Arc<str>, u16>,
    odd_ids: HashMap<u32, Arc<str>>,
    without: HashMap<u32, Arc<str>>,
    turns: u32,
    /// The totals of events.
    pub(in crate::simulator) totals: Stats,
}

impl Book {
    pub(in crate::simulator) fn new(most: usize) -> Self {
        Self {
            most: most.min(NONE as usize),
            records: Vec::new(),
            again: HashMap::new(),
            kept_again: 0,
            buried: HashMap::new(),
            kinds: Vec::new(),
            kind_numbers: HashMap::new(),
            odd_ids: HashMap::new(),
            without: HashMap::new(),
            turns: 0,
            totals: Stats::default(),
        }
    }

    /// The number of an event type.
    pub(in crate::simulator) fn kind(&mut self, event_type: Option<&str>) -> u16 {
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
    pub(in crate::simulator) fn write(
        &mut self,
        making: &Making,
        queue: u32,
        number: u32,
        fate: Fate,
    ) -> u32 {
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
            first: Sending::default(),
            kind: making.kind,
            statuses: making.statuses,
            fate,
        });
        short(self.records.len() as u64 - 1)
    }

    /// Gives an event the id that it was injected with.
    pub(in crate::simulator) fn name(&mut self, record: u32, id: Option<&str>) {
        if let (Some(id), true) = (id, record != NONE) {
            self.odd_ids.insert(record, id.into());
        }
    }

    /// Writes down that an answer carries an event, which was of this fate if no record says so.
    pub(in crate::simulator) fn send(&mut self, place: u32, sent: &Sent, before: Fate) {
        self.turns = self.turns.saturating_add(1);
        let times = match sent.lost {
            true => &mut self.totals.times_lost,
            false => &mut self.totals.times_handed_out,
        };
        *times += 1;
        let before = self.records.get(place as usize).map_or(before, |record| record.fate);
        let after = match (sent.lost, before) {
            (false, _) | (true, Fate::HandedOut) => Fate::HandedOut,
            (true, _) if sent.kept => Fate::Waiting,
            (true, _) => Fate::LostOnTheWire,
        };
        self.turn_fate(place, before, after);
        let Some(record) = self.records.get_mut(place as usize) else { return };
        let sending = Sending {
            at: short(sent.at),
            answer: sent.answer,
            turn: self.turns,
            fault: sent.fault,
            lost: sent.lost,
        };
        if record.first.turn == 0 {
            record.first = sending;
        } else if self.kept_again < self.most {
            self.kept_again += 1;
            self.again.entry(place).or_default().push(sending);
        } else {
            self.totals.truncated = true;
        }
    }

    /// Writes down that an event which that answer carried did not arrive after all.
    pub(in crate::simulator) fn lose(&mut self, place: u32, answer: u32, kept: bool) {
        self.totals.times_handed_out = self.totals.times_handed_out.saturating_sub(1);
        self.totals.times_lost += 1;
        let lost = if kept { Fate::Waiting } else { Fate::LostOnTheWire };
        let Some(record) = self.records.get_mut(place as usize) else {
            self.turn_fate(place, Fate::HandedOut, lost);
            return;
        };
        let again = self.again.get_mut(&place);
        let mut all = std::iter::once(&mut record.first).chain(again.into_iter().flatten());
        if let Some(sending) = all.find(|sending| sending.answer == answer && !sending.lost) {
            sending.lost = true;
        }
        if self.sendings(place).all(|sending| sending.lost) {
            self.turn_fate(place, Fate::HandedOut, lost);
        }
    }

    /// Writes down that an event died with its queue, unless it was handed out before.
    pub(in crate::simulator) fn bury(&mut self, place: u32) {
        if self.records.get(place as usize).is_some_and(|record| record.fate != Fate::Waiting) {
            return;
        }
        self.turn_fate(place, Fate::Waiting, Fate::DiedWithQueue);
        if let Some(record) = self.records.get(place as usize) {
            self.buried.entry(record.queue).or_default().push(place);
        }
    }

    /// Writes down what became of an event, in its record and in the totals.
    fn turn_fate(&mut self, place: u32, before: Fate, after: Fate) {
        let record = self.records.get_mut(place as usize);
        let before = record.map_or(before, |record| std::mem::replace(&mut record.fate, after));
        if let Some(total) = self.total(before) {
            *total = total.saturating_sub(1);
        }
        if let Some(total) = self.total(after) {
            *total += 1;
        }
    }

    /// The total of a fate that an event may leave or come to; what waits is the rest.
    fn total(&mut self, fate: Fate) -> Option<&mut u64> {
        match fate {
            Fate::HandedOut => Some(&mut self.totals.handed_out),
            Fate::LostOnTheWire => Some(&mut self.totals.lost_on_the_wire),
            Fate::DiedWithQueue => Some(&mut self.totals.died_with_queue),
            Fate::Waiting | Fate::NoQueue | Fate::Overflow => None,
        }
    }

    /// Writes down that an event was handed out with another type.
    pub(in crate::simulator) fn retype(&mut self, record: u32, event_type: &str) {
        let kind = self.kind(Some(event_type));
        if let Some(record) = self.records.get_mut(record as usize) {
            record.kind = kind;
        }
    }

    /// Writes down that an event was handed out without a field.
    pub(in crate::simulator) fn note_without(&mut self, record: u32, field: &str) {
        if record != NONE {
            self.without.insert(record, field.into());
        }
    }

    /// How many records there are.
    pub(in crate::simulator) fn size(&self) -> usize {
        self.records.len()
    }

    /// Every record from a place on, with its place.
    pub(in crate::simulator) fn records(&self, from: u32) -> impl Iterator<Item = (u32, &Record)> {
        let rest = self.records.get(from as usize..).unwrap_or_default();
        (from..).zip(rest)
    }

    /// The records that died with a queue, with their places.
    pub(in crate::simulator) fn buried_with(
        &self,
        queue: u32,
    ) -> impl Iterator<Item = (u32, &Record)> {
        let places = self.buried.get(&queue).into_iter().flatten();
        places.filter_map(|place| Some((*place, self.records.get(*place as usize)?)))
    }

    /// The type of an event.
    pub(in crate::simulator) fn kind_of(&self, record: &Record) -> Option<Arc<str>> {
        self.kinds.get(usize::from(record.kind)).cloned()
    }

    /// The id that an event was injected with.
    pub(in crate::simulator) fn odd_id(&self, place: u32) -> Option<Arc<str>> {
        self.odd_ids.get(&place).cloned()
    }

    /// The field that an event was handed out without.
    pub(in crate::simulator) fn without(&self, place: u32) -> Option<Arc<str>> {
        self.without.get(&place).cloned()
    }

    /// Each time that an event was sent, in that order, with the moments still the simulator's.
    pub(in crate::simulator) fn hand_outs(&self, place: u32) -> Vec<HandOut> {
        self.sendings(place)
            .map(|sending| HandOut {
                at: u64::from(sending.at),
                answer: sending.answer,
                turn: sending.turn,
                fault: sending.fault,
                lost: sending.lost,
            })
            .collect()
    }

    fn sendings(&self, place: u32) -> impl Iterator<Item = &Sending> {
        let first = self.records.get(place as usize).map(|record| &record.first);
        let all = first.into_iter().chain(self.again.get(&place).into_iter().flatten());
        all.filter(|sending| sending.turn != 0)
    }
}

impl Record {
    /// When it was made.
    pub(in crate::simulator) fn made(&self) -> u64 {
        u64::from(self.made)
    }
}

fn short(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
