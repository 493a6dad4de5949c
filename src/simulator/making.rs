//! How events come into being: synchronizations, bulk, and whatever is injected.
//!
//! Promises:
//! - an event goes to every queue of its user that lives at the moment it is made; when none does,
//!   it is written down and handed to nobody;
//! - a synchronization spread over a time makes each event at its own moment, to the millisecond,
//!   however late anyone looks.
//!
//! Knows nothing of: requests, tokens, HTTP.

use std::cmp::{Ordering, Reverse};
use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;

use super::Error;
use super::connection::{Connection, ConnectionPlan, Draft, quote};
use super::ledger::{Fate, Making, NONE};
use super::names::Lot;
use super::options::EventIds;
use super::queue::Waiting;
use super::script::{Change, Mode, Step, Sync, steps};
use super::traffic::Flow;
use super::world::World;

/// A synchronization under way, of one connection.
#[derive(Debug)]
pub(super) struct Run {
    /// When its next step is due.
    due: u64,
    /// Runs that are due at once go in the order of their start.
    serial: u64,
    user: u32,
    connection: u32,
    started: u64,
    over: u64,
    next: usize,
    steps: Arc<[Step]>,
}

impl Run {
    fn due_of(&self, step: usize) -> u64 {
        let last = self.steps.len().saturating_sub(1).max(1) as u64;
        self.started + self.over.saturating_mul(step as u64) / last
    }
}

impl PartialEq for Run {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Run {}

impl PartialOrd for Run {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Run {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.due, self.serial).cmp(&(other.due, other.serial))
    }
}

/// What an event says, ready to be put in queues.
enum Body<'a> {
    /// The text after the id, which each queue puts in front.
    Numbered(String),
    /// The whole element, as injected, with the id found in it.
    Verbatim(&'a str, Option<String>),
}

/// A user to be put among many.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UserPlan {
    /// The user's id, which is the username of their password too.
    pub user: String,
    /// Their connections, in place of all others; none: as they are, or one that is made up.
    #[serde(default)]
    pub connections: Option<Vec<ConnectionPlan>>,
    /// Their password; none: as it is, or `password-of-` and the id.
    #[serde(default)]
    pub password: Option<String>,
}

impl World {
    /// Puts many users; those before one that is too many are put.
    pub(super) fn put_users(&mut self, plans: &[UserPlan]) -> Result<(), Error> {
        for plan in plans {
            match &plan.connections {
                Some(connections) => drop(self.put_user(&plan.user, connections)?),
                None => drop(self.user(&plan.user).ok_or(Error::Full)?),
            }
            if let Some(password) = &plan.password {
                self.set_password(&plan.user, password)?;
            }
        }
        Ok(())
    }

    /// Gives a user these connections in place of all others; answers their ids.
    pub(super) fn put_user(
        &mut self,
        name: &str,
        plans: &[ConnectionPlan],
    ) -> Result<Vec<String>, Error> {
        let now = self.advance();
        let user = self.user(name).ok_or(Error::Full)?;
        let connections: Vec<_> = plans.iter().map(|plan| self.new_connection(plan, now)).collect();
        let ids = connections.iter().map(|connection| connection.id.to_string()).collect();
        self.users[user as usize].connections = Some(connections);
        Ok(ids)
    }

    /// Makes up the connection of a user that has none planned.
    pub(super) fn make_connections(&mut self, user: u32, now: u64) {
        if self.users[user as usize].connections.is_none() {
            let connection = self.new_connection(&ConnectionPlan::default(), now);
            self.users[user as usize].connections = Some(vec![connection]);
        }
    }

    fn new_connection(&mut self, plan: &ConnectionPlan, now: u64) -> Connection {
        let number = u32::try_from(self.connection_ids.len()).unwrap_or(NONE - 1);
        let connection = Connection::new(plan, number, self.dated(now));
        self.connection_ids.push(connection.id.clone());
        connection
    }

    /// The numbers and channels of one connection of a user, or of all.
    fn chosen(
        &mut self,
        user: u32,
        connection: Option<&str>,
        now: u64,
    ) -> Result<Vec<(u32, Vec<Mode>)>, Error> {
        self.make_connections(user, now);
        let chosen: Vec<_> = self.users[user as usize]
            .connections
            .iter()
            .flatten()
            .filter(|known| connection.is_none_or(|id| *known.id == *id))
            .map(|known| (known.number, known.modes()))
            .collect();
        match connection {
            Some(id) if chosen.is_empty() => Err(Error::NoConnection(id.to_owned())),
            _ => Ok(chosen),
        }
    }

    /// Starts a synchronization; answers how many events it will make.
    pub(super) fn start_sync(&mut self, name: &str, sync: &Sync) -> Result<usize, Error> {
        let now = self.advance();
        let user = self.user(name).ok_or(Error::Full)?;
        let events = self.begin(user, sync, now)?;
        self.run_due(now);
        Ok(events)
    }

    /// Starts a synchronization at a moment; answers how many events it will make.
    pub(super) fn begin(&mut self, user: u32, sync: &Sync, at: u64) -> Result<usize, Error> {
        let mut events = 0;
        for (connection, modes) in self.chosen(user, sync.connection.as_deref(), at)? {
            let steps: Arc<[Step]> = steps(sync, &modes).into();
            events += steps.len();
            self.runs_started += 1;
            self.runs.push(Reverse(Run {
                due: at,
                serial: self.runs_started,
                user,
                connection,
                started: at,
                over: sync.over_ms,
                next: 0,
                steps,
            }));
        }
        Ok(events)
    }

    /// Carries out every step that is due, and starts what traffic starts, each at its moment.
    pub(super) fn run_due(&mut self, now: u64) {
        loop {
            let step = self.runs.peek().map_or(u64::MAX, |Reverse(run)| run.due);
            let start = self.traffic.as_ref().map_or(u64::MAX, Flow::due);
            if step.min(start) > now {
                return;
            }
            if start < step {
                self.start_one(start);
                continue;
            }
            let Some(Reverse(mut run)) = self.runs.pop() else { return };
            let Some(step) = run.steps.get(run.next).copied() else { continue };
            self.emit_step(run.user, run.connection, &step, run.due);
            run.next += 1;
            if run.next < run.steps.len() {
                run.due = run.due_of(run.next);
                self.runs.push(Reverse(run));
            }
        }
    }

    fn emit_step(&mut self, user: u32, connection: u32, step: &Step, at: u64) {
        let seconds = self.dated(at);
        let kind = self.book.kind(Some(step.event_type));
        let owner = &mut self.users[user as usize];
        let name = owner.name.clone();
        let mut known = owner.connections.iter_mut().flatten();
        let Some(target) = known.find(|known| known.number == connection) else {
            return; // taken away since the synchronization started
        };
        target.apply(step.change, seconds);
        let shown = step.with_connection.then_some(&*target);
        let draft = Draft {
            event_type: step.event_type,
            user: &name,
            connection: shown,
            mode: step.mode,
            epoch_seconds: seconds,
        };
        let rest = draft.rest(self.options.version, self.options.extra_fields);
        let making = Making {
            user,
            connection: shown.map_or(NONE, |shown| shown.number),
            kind,
            statuses: shown.map_or([None; 2], Connection::statuses),
            at,
        };
        self.fan_out(&making, &Body::Numbered(rest));
    }

    /// Makes plain events of one connection; answers how many queues they went to.
    pub(super) fn push_events(
        &mut self,
        name: &str,
        connection: Option<&str>,
        count: usize,
    ) -> Result<usize, Error> {
        let now = self.advance();
        let user = self.user(name).ok_or(Error::Full)?;
        let chosen = self.chosen(user, connection, now)?;
        let Some((connection, modes)) = chosen.first() else {
            return Err(Error::NoConnection("(any)".to_owned()));
        };
        let step = Step {
            event_type: "LIST_ACCOUNTS_SUCCESS",
            mode: modes.first().copied(),
            change: Change::Nothing,
            with_connection: true,
        };
        for _ in 0..count {
            self.emit_step(user, *connection, &step, now);
        }
        Ok(self.prune(user, now).len())
    }

    /// Injects an array element as it is; answers how many queues it went to.
    pub(super) fn push(&mut self, name: &str, element: &str) -> Result<usize, Error> {
        let now = self.advance();
        let user = self.user(name).ok_or(Error::Full)?;
        let value: Value = serde_json::from_str(element).unwrap_or(Value::Null);
        let text = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned);
        let kind = self.book.kind(text(value.get("event_type")).as_deref());
        let connection = text(value.pointer("/resource/id"))
            .map_or(NONE, |id| self.connection_number(user, &id));
        let making = Making { user, connection, kind, statuses: [None; 2], at: now };
        Ok(self.fan_out(&making, &Body::Verbatim(element, text(value.get("id")))))
    }

    /// The number of a connection named by an injected event, for the ledger.
    fn connection_number(&mut self, user: u32, id: &str) -> u32 {
        let known = self.users[user as usize].connections.iter().flatten();
        if let Some(known) = known.into_iter().find(|known| *known.id == *id) {
            return known.number;
        }
        if let Some(number) = self.injected_connections.get(id) {
            return *number;
        }
        let number = u32::try_from(self.connection_ids.len()).unwrap_or(NONE - 1);
        let id: Arc<str> = id.into();
        self.connection_ids.push(id.clone());
        self.injected_connections.insert(id, number);
        number
    }

    /// Puts an event in every live queue of its user; answers how many.
    fn fan_out(&mut self, making: &Making, body: &Body<'_>) -> usize {
        self.book.totals.made += 1;
        let number = self.next_number(body);
        let queues = self.prune(making.user, making.at).clone();
        for queue in &queues {
            self.put(*queue, number, making, body);
        }
        if queues.is_empty() {
            let record = self.book.write(making, NONE, 0, Fate::NoQueue);
            if let Body::Verbatim(_, id) = body {
                self.book.name(record, id.as_deref());
            }
        }
        queues.len()
    }

    /// The number that an event has in every queue, when that is how events are numbered.
    fn next_number(&mut self, body: &Body<'_>) -> u32 {
        let is_numbered = matches!(body, Body::Numbered(_));
        if is_numbered && self.options.event_ids == EventIds::Rising {
            self.numbers_drawn += 1;
            let draw = self.names.draw_for(Lot::EventNumber, self.numbers_drawn);
            // One, two or three.
            let step = 1 + u32::from(draw > 1.0 / 3.0) + u32::from(draw > 2.0 / 3.0);
            self.last_number = self.last_number.saturating_add(step);
        }
        self.last_number
    }

    fn put(&mut self, number: u32, rising: u32, making: &Making, body: &Body<'_>) {
        let Some(queue) = self.queues.get_mut(number as usize) else { return };
        let full = queue.waiting.len() >= self.options.max_waiting;
        let fate = if full { Fate::Overflow } else { Fate::Waiting };
        let (record, text) = match body {
            Body::Numbered(rest) => {
                // A full queue uses the id up: whoever counts the ids sees that one is missing.
                queue.last_event += 1;
                let event = match self.options.event_ids {
                    EventIds::Consecutive | EventIds::Opaque => queue.last_event,
                    EventIds::Rising => rising,
                };
                let record = self.book.write(making, number, event, fate);
                let mut text = String::with_capacity(rest.len() + 24);
                text.push_str("{\"id\":");
                match self.options.event_ids {
                    EventIds::Consecutive | EventIds::Rising => {
                        quote(&mut text, &event.to_string());
                    }
                    EventIds::Opaque => {
                        quote(&mut text, &self.names.opaque_event(number, event));
                    }
                }
                text.push(',');
                text.push_str(rest);
                (record, text)
            }
            Body::Verbatim(element, id) => {
                let record = self.book.write(making, number, 0, fate);
                self.book.name(record, id.as_deref());
                (record, (*element).to_owned())
            }
        };
        if !full && let Some(queue) = self.queues.get_mut(number as usize) {
            queue.waiting.push(Waiting { record, text: text.into() });
        }
    }
}

#[cfg(test)]
mod tests;
