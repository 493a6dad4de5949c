//! Reads the ledger and the totals out of the world.
//!
//! Promises:
//! - what is read is settled: everything due has happened, every queue whose time is over is dead;
//! - the totals cost as much as the queues that expired since they were last read, a page of the
//!   ledger as much as it holds, and one of a single user a look at every event besides.
//!
//! Knows nothing of: HTTP.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use super::ledger::{
    DeathEntry, EventEntry, Extract, HandOut, Ledger, NONE, Outage, QueueEntry, Record, Stats,
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
        // A page of nothing would lead to itself.
        let limit = extract.limit.map(|limit| limit.max(1));
        let mut end = self.end_of_page(extract.from, limit);
        let mut ids: HashMap<u32, Arc<str>> = HashMap::new();
        for (place, record) in self.book.records(extract.from) {
            if only.is_some_and(|only| only != record.user) {
                continue;
            }
            if limit.is_some_and(|limit| ledger.events.len() >= limit) {
                end = place;
                break;
            }
            let queue = (record.queue != NONE).then(|| {
                let id = ids.entry(record.queue);
                id.or_insert_with(|| self.names.queue(record.queue).into()).clone()
            });
            ledger.events.push(self.event_entry(place, record, queue));
        }
        self.read_lives(&mut ledger, only, extract.from..end, now);
        let last = self.book.size().max(self.queues.len()).max(self.users.len());
        ledger.next = ((end as usize) < last).then_some(end);
        ledger
    }

    /// Where a page ends that holds no more events than it may.
    fn end_of_page(&self, from: u32, limit: Option<usize>) -> u32 {
        let Some(limit) = limit else { return u32::MAX };
        let limit = u32::try_from(limit).unwrap_or(u32::MAX);
        let records = u32::try_from(self.book.size()).unwrap_or(u32::MAX);
        from.saturating_add(limit).max(records)
    }

    /// Reads the queues, their deaths, and the users of these places; outages on the first page.
    fn read_lives(&self, ledger: &mut Ledger, only: Option<u32>, places: Range<u32>, now: u64) {
        let wanted = |user: u32| only.is_none_or(|only| only == user);
        let end = |most: usize| (places.end as usize).min(most);
        let from = places.start as usize;
        let queues = self.queues.get(from..end(self.queues.len())).unwrap_or_default();
        for (number, queue) in (places.start..).zip(queues) {
            if !wanted(queue.user) {
                continue;
            }
            let id: Arc<str> = self.names.queue(number).into();
            ledger.queues.push(self.queue_entry(number, queue, id.clone(), now));
            if let Some(cause) = queue.cause {
                ledger.deaths.push(self.death_entry(number, queue, id, cause));
            }
        }
        let users = self.users.get(from..end(self.users.len())).unwrap_or_default();
        for (number, user) in (places.start..).zip(users) {
            if wanted(number) {
                ledger.users.push(UserEntry {
                    user: user.name.clone(),
                    subscribes: user.subscribes,
                    token_requests: user.token_requests,
                    most_token_requests_at_once: user.most_tokens_at_once,
                });
            }
        }
        if places.start == 0 {
            ledger.outages.extend(self.outages.iter().map(|outage| Outage {
                from: self.clock.epoch(outage.from),
                to: self.clock.epoch(outage.to),
            }));
        }
    }

    fn queue_entry(&self, number: u32, queue: &Queue, id: Arc<str>, now: u64) -> QueueEntry {
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
            contested_ms: self.askers.contested(number),
            died_at: (!queue.is_live()).then(|| self.clock.epoch(queue.died)),
        }
    }

    fn death_entry(
        &self,
        number: u32,
        queue: &Queue,
        id: Arc<str>,
        cause: DeathCause,
    ) -> DeathEntry {
        let buried = self.book.buried_with(number);
        DeathEntry {
            queue: id,
            user: self.user_name(queue.user),
            at: self.clock.epoch(queue.died),
            cause,
            undelivered: buried.map(|(place, record)| self.event_id(place, record)).collect(),
        }
    }

    fn event_id(&self, place: u32, record: &Record) -> Option<Arc<str>> {
        match (record.number, self.options.event_ids) {
            (0, _) => self.book.odd_id(place),
            (number, EventIds::Consecutive | EventIds::Rising) => Some(number.to_string().into()),
            (number, EventIds::Opaque) => {
                Some(self.names.opaque_event(record.queue, number).into())
            }
        }
    }

    fn event_entry(&self, place: u32, record: &Record, queue: Option<Arc<str>>) -> EventEntry {
        let mut again: Vec<HandOut> = self.book.hand_outs(place);
        for hand_out in &mut again {
            hand_out.at = self.clock.epoch(hand_out.at);
        }
        let lost = again.iter().filter(|hand_out| hand_out.lost).count();
        let whole = again.len() - lost;
        let first_whole = again.iter().position(|hand_out| !hand_out.lost);
        let told = first_whole.or(again.len().checked_sub(1)).map(|at| again.remove(at));
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
            handed_out: told,
            again,
            times_handed_out: u32::try_from(whole).unwrap_or(u32::MAX),
            times_lost: u32::try_from(lost).unwrap_or(u32::MAX),
            without: self.book.without(place),
        }
    }

    fn user_name(&self, user: u32) -> Arc<str> {
        self.users.get(user as usize).map_or_else(|| "".into(), |user| user.name.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulator::desk::desk;

    #[tokio::test(start_paused = true)]
    async fn the_ledger_is_read_page_by_page_and_nothing_is_left_out() {
        let mut desk = desk();
        for (user, queues) in [("u", 2), ("v", 3), ("w", 0), ("x", 0), ("y", 0), ("z", 0)] {
            desk.world.put_user(user, &[]).unwrap();
            for _ in 0..queues {
                desk.subscribe(user);
            }
        }
        desk.world.push("v", r#"{"id":"a"}"#).unwrap();
        desk.world.kill_of("v");
        let whole = desk.ledger();
        assert_eq!(whole.next, None);
        let mut extract = Extract { limit: Some(2), ..Extract::default() };
        let mut pages = vec![desk.world.ledger(&extract)];
        while let Some(next) = pages.last().unwrap().next {
            extract.from = next;
            pages.push(desk.world.ledger(&extract));
        }
        let sizes: Vec<_> = pages
            .iter()
            .map(|page| (page.events.len(), page.queues.len(), page.deaths.len(), page.users.len()))
            .collect();
        assert_eq!(sizes, [(2, 2, 0, 2), (1, 2, 2, 2), (0, 1, 1, 2)]);
        let mut put_together = Ledger { now: whole.now, ..Ledger::default() };
        for page in pages {
            put_together.events.extend(page.events);
            put_together.queues.extend(page.queues);
            put_together.deaths.extend(page.deaths);
            put_together.users.extend(page.users);
        }
        assert_eq!(put_together, whole);
        let dead = &whole.deaths[0];
        assert_eq!((&*dead.user, dead.undelivered.as_slice()), ("v", &[Some("a".into())][..]));
    }

    #[tokio::test(start_paused = true)]
    async fn a_users_pages_hold_what_is_theirs_and_a_page_of_nothing_still_goes_on() {
        let mut desk = desk();
        for user in ["u", "v", "u", "v", "u"] {
            desk.world.put_user(user, &[]).unwrap();
            desk.subscribe(user);
            desk.world.push(user, "{}").unwrap();
        }
        let mut extract = Extract { user: Some("u".to_owned()), from: 0, limit: Some(0) };
        let (mut events, mut queues, mut users) = (0, 0, 0);
        loop {
            let page = desk.world.ledger(&extract);
            assert!(page.events.iter().all(|event| &*event.user == "u"));
            assert!(page.events.len() <= 1);
            events += page.events.len();
            queues += page.queues.len();
            users += page.users.len();
            let Some(next) = page.next else { break };
            assert!(next > extract.from);
            extract.from = next;
        }
        assert_eq!((events, queues, users), (6, 3, 1));
    }
}
