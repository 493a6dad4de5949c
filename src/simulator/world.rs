//! The simulated source: who its users are, which queues live, and what time does to them.
//! One of these stands behind one lock, held for microseconds at a time.
//!
//! Promises:
//! - time is only looked at when something is asked: synchronizations that are due and queues
//!   whose time is over are caught up with first, in their own order, so no task and no timer
//!   stands behind a user;
//! - a queue whose time is over is dead, whoever looks first.
//!
//! Knows nothing of: requests over the source API (`asking.rs`), HTTP.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use super::askers::Askers;
use super::clock::{Clock, millis};
use super::connection::Connection;
use super::fault::{Faults, Order};
use super::ledger::{Book, Outage};
use super::making::Run;
use super::names::{Lot, Names};
use super::options::Options;
use super::queue::{DeathCause, Queue};
use super::tokens::{Bearer, Password, Tokens};
use super::traffic::Flow;
use super::{Error, Expiry, Revocation};

/// Expired queues that a request may have to bury besides its own work.
const BURIED_AT_ONCE: usize = 512;
/// Outages of which the ledger tells.
const MOST_OUTAGES: usize = 1000;

/// A user, and what is theirs.
#[derive(Debug)]
pub(super) struct User {
    pub(super) name: Arc<str>,
    /// Queues that were live when last looked at.
    pub(super) queues: Vec<u32>,
    /// None: not looked at yet; then one is made up.
    pub(super) connections: Option<Vec<Connection>>,
    /// None: the one that every new user has.
    pub(super) password: Option<Password>,
    pub(super) subscribes: u32,
    pub(super) token_requests: u32,
    pub(super) tokens_under_way: u32,
    pub(super) most_tokens_at_once: u32,
}

/// Everything there is.
#[derive(Debug)]
pub(super) struct World {
    pub(super) options: Arc<Options>,
    pub(super) clock: Clock,
    pub(super) names: Names,
    pub(super) users: Vec<User>,
    pub(super) user_numbers: HashMap<Arc<str>, u32>,
    /// The id of every connection there was, by its number.
    pub(super) connection_ids: Vec<Arc<str>>,
    /// The numbers of those that only injected events speak of.
    pub(super) injected_connections: HashMap<Arc<str>, u32>,
    pub(super) queues: Vec<Queue>,
    /// When each live queue is to be looked at for its expiry; one entry for each.
    expiries: BinaryHeap<Reverse<(u64, u32)>>,
    lifetime: u64,
    pub(super) tokens: Tokens,
    pub(super) runs: BinaryHeap<Reverse<Run>>,
    pub(super) runs_started: u64,
    pub(super) traffic: Option<Flow>,
    /// The last number that [`EventIds::Rising`](super::EventIds::Rising) gave.
    pub(super) last_number: u32,
    pub(super) numbers_drawn: u64,
    expiries_drawn: u64,
    /// In the simulator's milliseconds.
    pub(super) outages: VecDeque<Outage>,
    pub(super) faults: Faults,
    pub(super) askers: Askers,
    pub(super) book: Book,
}

impl World {
    pub(super) fn new(options: Arc<Options>) -> Self {
        let names = Names::new(options.seed);
        Self {
            clock: Clock::start(),
            names,
            users: Vec::new(),
            user_numbers: HashMap::new(),
            connection_ids: Vec::new(),
            injected_connections: HashMap::new(),
            queues: Vec::new(),
            expiries: BinaryHeap::new(),
            lifetime: millis(options.queue_lifetime),
            tokens: Tokens::new(names),
            runs: BinaryHeap::new(),
            runs_started: 0,
            traffic: None,
            last_number: 0,
            numbers_drawn: 0,
            expiries_drawn: 0,
            outages: VecDeque::new(),
            askers: Askers::default(),
            faults: Faults::new(names),
            book: Book::new(options.max_events),
            options,
        }
    }

    // --- users and queues ---

    /// The number of a user that is known.
    pub(super) fn find_user(&self, name: &str) -> Option<u32> {
        self.user_numbers.get(name).copied()
    }

    /// The number of a user, who comes into being when unknown; none when there are too many.
    pub(super) fn user(&mut self, name: &str) -> Option<u32> {
        if let Some(number) = self.find_user(name) {
            return Some(number);
        }
        if self.users.len() >= self.options.max_users {
            return None;
        }
        let number = u32::try_from(self.users.len()).ok()?;
        let name: Arc<str> = name.into();
        self.user_numbers.insert(name.clone(), number);
        self.users.push(User {
            name,
            queues: Vec::new(),
            connections: None,
            password: None,
            subscribes: 0,
            token_requests: 0,
            tokens_under_way: 0,
            most_tokens_at_once: 0,
        });
        Some(number)
    }

    /// Opens a queue; none when there are too many.
    pub(super) fn open_queue(&mut self, user: u32, now: u64) -> Option<u32> {
        if self.queues.len() >= self.options.max_queues {
            return None;
        }
        let number = u32::try_from(self.queues.len()).ok()?;
        let of_user = self.prune(user, now);
        of_user.reserve_exact(1);
        of_user.push(number);
        self.queues.push(Queue::new(user, now));
        self.expiries.push(Reverse((now + self.lifetime, number)));
        self.book.totals.live_queues += 1;
        Some(number)
    }

    /// The user's queues that live at this moment.
    pub(super) fn prune(&mut self, user: u32, at: u64) -> &mut Vec<u32> {
        let place = user as usize;
        let mut queues = mem::take(&mut self.users[place].queues);
        queues.retain(|number| {
            self.bury_if_expired(*number, at);
            self.queues.get(*number as usize).is_some_and(Queue::is_live)
        });
        let user = &mut self.users[place];
        user.queues = queues;
        &mut user.queues
    }

    /// Kills a queue; did it live?
    pub(super) fn kill(&mut self, id: &str) -> bool {
        let now = self.advance();
        let Some(number) = self.names.queue_number(id) else { return false };
        self.bury_if_expired(number, now);
        self.bury(number, now, DeathCause::Killed)
    }

    /// Kills a user's queues; answers how many.
    pub(super) fn kill_of(&mut self, name: &str) -> usize {
        let now = self.advance();
        let Some(user) = self.find_user(name) else { return 0 };
        let queues = mem::take(self.prune(user, now));
        queues.into_iter().filter(|number| self.bury(*number, now, DeathCause::Killed)).count()
    }

    /// Notes that a question of `agent` named a live queue, whatever it is answered.
    pub(super) fn note_question(&mut self, number: u32, agent: &str, now: u64) {
        let Some(queue) = self.queues.get_mut(number as usize) else { return };
        if queue.is_live() {
            let pause = now.saturating_sub(queue.asked);
            queue.note_question(now);
            let asker = self.askers.number(agent);
            let before = std::mem::replace(&mut queue.asker, asker);
            self.askers.note(number, before, asker, now);
            let totals = &mut self.book.totals;
            totals.longest_pause_ms = totals.longest_pause_ms.max(queue.longest_pause);
            if before != 0 && before != asker {
                *totals.passed_after_seconds.entry(pause / 1000).or_default() += 1;
            }
        }
    }

    pub(super) fn bury_if_expired(&mut self, number: u32, at: u64) {
        let Some(queue) = self.queues.get(number as usize) else { return };
        let end = queue.reached.saturating_add(self.lifetime);
        if end <= at {
            self.bury(number, end, DeathCause::Expired);
        }
    }

    pub(super) fn bury(&mut self, number: u32, at: u64, cause: DeathCause) -> bool {
        let Some(queue) = self.queues.get_mut(number as usize) else { return false };
        if !queue.is_live() {
            return false;
        }
        queue.cause = Some(cause);
        queue.died = at;
        queue.given = None;
        for event in queue.take() {
            self.book.bury(event.record);
        }
        self.book.totals.live_queues -= 1;
        self.book.totals.deaths += 1;
        *self.book.totals.deaths_by_cause.entry(cause).or_default() += 1;
        true
    }

    /// Lets queues die as if their time were over; answers how many.
    pub(super) fn expire(&mut self, expiry: &Expiry) -> Result<usize, Error> {
        if !(0.0..=1.0).contains(&expiry.share) {
            return Err(Error::BadOrder("share must be 0 to 1".to_owned()));
        }
        let now = self.settle();
        let queues: Vec<u32> = match &expiry.users {
            None => (0u32..).zip(&self.queues).map(|(number, _)| number).collect(),
            Some(users) => users
                .iter()
                .filter_map(|name| self.find_user(name))
                .flat_map(|user| self.users[user as usize].queues.clone())
                .collect(),
        };
        let mut died = 0;
        for number in queues {
            if !self.queues.get(number as usize).is_some_and(Queue::is_live) {
                continue;
            }
            self.expiries_drawn += 1;
            if self.names.draw_for(Lot::Expiry, self.expiries_drawn) < expiry.share {
                died += usize::from(self.bury(number, now, DeathCause::Ordered));
            }
        }
        Ok(died)
    }

    // --- time ---

    /// A moment as the source dates it, in seconds since 1970: by its own clock.
    pub(super) fn dated(&self, moment: u64) -> u64 {
        self.clock.epoch(moment).saturating_add_signed(self.options.clock_skew_ms) / 1000
    }

    /// Writes down that the source cannot be reached for a time from now on.
    pub(super) fn begin_outage(&mut self, length: Duration) {
        self.end_outage();
        let now = self.advance();
        if self.outages.len() >= MOST_OUTAGES {
            self.outages.pop_front();
        }
        self.outages.push_back(Outage { from: now, to: now.saturating_add(millis(length)) });
        self.book.totals.outages += 1;
    }

    /// Writes down that the source can be reached.
    pub(super) fn end_outage(&mut self) {
        let now = self.advance();
        if let Some(outage) = self.outages.back_mut() {
            outage.to = outage.to.min(now);
        }
    }

    /// Catches up with the clock: synchronizations first, then some of the expired queues.
    pub(super) fn advance(&mut self) -> u64 {
        let now = self.clock.now();
        self.run_due(now);
        self.bury_expired(now, BURIED_AT_ONCE);
        now
    }

    /// Catches up with the clock to the end.
    pub(super) fn settle(&mut self) -> u64 {
        let now = self.advance();
        self.bury_expired(now, usize::MAX);
        now
    }

    fn bury_expired(&mut self, now: u64, most: usize) {
        for _ in 0..most {
            let Some(Reverse((due, number))) = self.expiries.peek().copied() else { return };
            if due > now {
                return;
            }
            self.expiries.pop();
            self.bury_if_expired(number, now);
            if let Some(queue) = self.queues.get(number as usize)
                && queue.is_live()
            {
                self.expiries.push(Reverse((queue.reached + self.lifetime, number)));
            }
        }
    }

    // --- what is asked over the control API ---

    /// A token for a user, or for the client; answers it with its lifetime in milliseconds.
    pub(super) fn issue_for(
        &mut self,
        user: Option<&str>,
        lifetime: Option<u64>,
    ) -> Result<(String, u64), Error> {
        let now = self.advance();
        let bearer = match user {
            Some(name) => Bearer::User(self.user(name).ok_or(Error::Full)?),
            None => Bearer::Client,
        };
        let lifetime = lifetime.unwrap_or_else(|| millis(self.options.token_lifetime));
        Ok((self.tokens.issue(bearer, now, lifetime), lifetime))
    }

    /// The password that opens tokens of a user: as it was set, or the one of every new user.
    pub(super) fn password_of(&self, name: &str) -> Cow<'_, str> {
        let user = self.find_user(name).and_then(|user| self.users.get(user as usize));
        match user.and_then(|user| user.password.as_ref()) {
            Some(Password(password)) => Cow::Borrowed(password),
            None => Cow::Owned(format!("password-of-{name}")),
        }
    }

    /// Gives a user another password.
    pub(super) fn set_password(&mut self, name: &str, password: &str) -> Result<(), Error> {
        let user = self.user(name).ok_or(Error::Full)?;
        self.users[user as usize].password = Some(Password(password.into()));
        Ok(())
    }

    /// Opens a queue as the widget does.
    pub(super) fn open_queue_for(&mut self, name: &str) -> Result<String, Error> {
        let now = self.advance();
        let user = self.user(name).ok_or(Error::Full)?;
        let number = self.open_queue(user, now).ok_or(Error::Full)?;
        Ok(self.names.queue(number))
    }

    /// The ids of the user's queues that live.
    pub(super) fn live_queues(&mut self, name: &str) -> Vec<String> {
        let now = self.advance();
        let Some(user) = self.find_user(name) else { return Vec::new() };
        let numbers = self.prune(user, now).clone();
        numbers.into_iter().map(|number| self.names.queue(number)).collect()
    }

    /// Kills a user's queues, revokes their tokens, forgets their connections.
    pub(super) fn remove_user(&mut self, name: &str) -> Result<(), Error> {
        let user = self.find_user(name).ok_or_else(|| Error::NoUser(name.to_owned()))?;
        self.kill_of(name);
        self.tokens.revoke_all(Bearer::User(user));
        self.users[user as usize].connections = None;
        Ok(())
    }

    /// Revokes tokens; answers how many.
    pub(super) fn revoke(&mut self, revocation: &Revocation) -> usize {
        match revocation {
            Revocation::Token(token) => usize::from(self.tokens.revoke(token)),
            Revocation::User(user) => match self.find_user(user) {
                Some(user) => self.tokens.revoke_all(Bearer::User(user)),
                None => 0,
            },
            Revocation::Clients => self.tokens.revoke_all(Bearer::Client),
        }
    }

    /// Adds an order for a fault.
    pub(super) fn inflict(&mut self, order: Order) -> Result<(), Error> {
        order.check()?;
        self.advance();
        let user = match &order.user {
            Some(name) => Some(self.user(name).ok_or(Error::Full)?),
            None => None,
        };
        self.faults.add(order, user)
    }

    /// Forgets every order.
    pub(super) fn heal(&mut self) {
        self.faults.heal();
    }
}

#[cfg(test)]
mod tests;
