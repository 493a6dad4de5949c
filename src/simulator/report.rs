//! Reads the ledger and the totals out of the world.
//!
//! Promises:
//! - what is read is settled: everything due has happened, every queue whose time is over is dead;
//! - the totals cost as much as the queues that expired since they were last read, the ledger as
//!   much as it holds.
//!
//! Knows nothing of: HTTP.

use std::collections::HashMap;
use std::sync::Arc;

use super::ledger::{
    DeathEntry, EventEntry, Extract, Fate, HandOut, Ledger, NONE, QueueEntry, Record, Stats,
    UserEntry,
};
use super::options::EventIds;
use super::queue::{DeathCause, Queue};
use super::world::World;

impl World {
    /// The totals.
    pub(super) fn stats(&mut self) -> Stats {
        let now = self.settle();
        let mut stats = self.book.totals.clone();
        stats.now = self.clock.epoch(now);
        stats.waiting = stats
            .queued
            .saturating_sub(stats.handed_out)
            .saturating_sub(stats.lost_on_the_wire)
            .saturating_sub(stats.died_with_queue);
        stats.users = self.users.len() as u64;
        stats.faults = self.faults.met.clone();
        stats
    }

    /// The ledger, or a part of it; empty for a user who is not known.
    pub(super) fn ledger(&mut self, extract: &Extract) -> Ledger {
        let now = self.settle();
        let mut ledger = Ledger {
            now: self.clock.epoch(now),
            truncated: self.book.totals.truncated,
            ..Ledger::default()
        };
        let only = match extract.user.as_deref().map(|name| self.find_user(name)) {
            Some(None) => return ledger,
            Some(Some(user)) => Some(user),
            None => None,
        };
        if extract.from == 0 {
            self.read_lives(&mut ledger, only, now);
        }
        let mut ids: HashMap<u32, Arc<str>> = HashMap::new();
        for (place, record) in self.book.records(extract.from) {
            if only.is_some_and(|only| only != record.user) {
                continue;
            }
            if extract.limit.is_some_and(|limit| ledger.events.len() >= limit) {
                ledger.next = Some(place);
                break;
            }
            let queue = (record.queue != NONE).then(|| {
                let id = ids.entry(record.queue);
                id.or_insert_with(|| self.names.queue(record.queue).into()).clone()
            });
            ledger.events.push(self.event_entry(place, record, queue));
        }
        ledger
    }

    /// Reads queues, deaths and users.
    fn read_lives(&self, ledger: &mut Ledger, only: Option<u32>, now: u64) {
        let wanted = |user: u32| only.is_none_or(|only| only == user);
        let mut deaths: HashMap<u32, usize> = HashMap::new();
        for (number, queue) in (0u32..).zip(&self.queues) {
            if !wanted(queue.user) {
                continue;
            }
            let id: Arc<str> = self.names.queue(number).into();
            ledger.queues.push(self.queue_entry(queue, id.clone(), now));
            if let Some(cause) = queue.cause {
                deaths.insert(number, ledger.deaths.len());
                ledger.deaths.push(self.death_entry(queue, id, cause));
            }
        }
        for (place, record) in self.book.records(0) {
            if record.fate == Fate::DiedWithQueue
                && let Some(death) = deaths.get(&record.queue)
            {
                ledger.deaths[*death].undelivered.push(self.event_id(place, record));
            }
        }
        for (number, user) in (0u32..).zip(&self.users) {
            if wanted(number) {
                ledger
                    .users
                    .push(UserEntry { user: user.name.clone(), subscribes: user.subscribes });
            }
        }
    }

    fn queue_entry(&self, queue: &Queue, id: Arc<str>, now: u64) -> QueueEntry {
        let end = if queue.is_live() { now } else { queue.died };
        QueueEntry {
            queue: id,
            user: self.user_name(queue.user),
            opened_at: self.clock.epoch(queue.opened),
            questions: queue.questions,
            last_question_at: self.clock.epoch(queue.asked),
            last_reached_at: self.clock.epoch(queue.reached),
            longest_pause_ms: queue.longest_pause,
            silent_ms: end.saturating_sub(queue.asked),
            died_at: (!queue.is_live()).then(|| self.clock.epoch(queue.died)),
        }
    }

    fn death_entry(&self, queue: &Queue, id: Arc<str>, cause: DeathCause) -> DeathEntry {
        DeathEntry {
            queue: id,
            user: self.user_name(queue.user),
            at: self.clock.epoch(queue.died),
            cause,
            undelivered: Vec::new(),
        }
    }

    fn event_id(&self, place: u32, record: &Record) -> Option<Arc<str>> {
        match (record.number, self.options.event_ids) {
            (0, _) => self.book.odd_id(place),
            (number, EventIds::Consecutive) => Some(number.to_string().into()),
            (number, EventIds::Opaque) => {
                Some(self.names.opaque_event(record.queue, number).into())
            }
        }
    }

    fn event_entry(&self, place: u32, record: &Record, queue: Option<Arc<str>>) -> EventEntry {
        EventEntry {
            user: self.user_name(record.user),
            queue,
            connection: self.connection_ids.get(record.connection as usize).cloned(),
            event_id: self.event_id(place, record),
            event_type: self.book.kind_of(record),
            redirect: record.statuses[0],
            embedded: record.statuses[1],
            made_at: self.clock.epoch(record.made()),
            fate: record.fate,
            handed_out: record
                .taken()
                .map(|taken| HandOut { at: self.clock.epoch(taken.at), ..taken }),
            without: self.book.without(place),
        }
    }

    fn user_name(&self, user: u32) -> Arc<str> {
        self.users.get(user as usize).map_or_else(|| "".into(), |user| user.name.clone())
    }
}
