//! How far each queue has been published, which connections it has shown, its generation.
//!
//! Promises:
//! - sequences of a key count from 1 without holes within a subscription;
//! - an action is raised by an event's type, or by a channel's status entering it; a status that
//!   merely stays raises none, and what both raise for the same channel counts once;
//! - a channel is held at most `MAX_CHANNELS` times a connection; nothing allocates more than it holds,
//!   since a million of these live in memory.
//!
//! Knows nothing of: partitions, transactions, schemas, any clock.

mod status;

use serde::{Deserialize, Serialize};
pub use status::ChannelStatus;

use crate::event::{Action, Connection, RaisedAction, SourceEvent};
use crate::gap::{Cause, Certainty};
use crate::ids::{ConnectionId, GapId, JournalId, QueueId, SubscriptionId, Timestamp, UserId};
use crate::subscription::Subscription;

/// How many channels of a connection are held; past it, those that the last snapshot lacks go.
pub const MAX_CHANNELS: usize = 64;

/// How many events of a queue are remembered, to recognise one that is handed out again.
pub const MAX_REMEMBERED: usize = 256;

/// Steps from one id to the next that make the ids of a queue count as consecutive.
pub const PROVEN: i32 = 8;
/// The ids of this queue are not consecutive.
const DISPROVED: i32 = -1;

/// How far a user's queue has been published.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueState {
    /// The user to whom the queue belongs.
    pub user_id: UserId,
    /// The subscription that this belongs to.
    pub subscription_id: SubscriptionId,
    /// The queue that is drained now.
    pub queue_id: QueueId,
    /// Which of the subscription's queues that is, from 1.
    pub generation: i32,
    /// Rises with each take-over of the user.
    pub owner_epoch: i64,
    /// Start of the last question that had been answered when this was written, by our clock.
    pub asked_at: Option<Timestamp>,
    /// The last event of the queue that was published.
    pub last_event_id: Option<Box<str>>,
    /// How many events keyed by the user have been counted.
    pub user_sequence: i64,
    /// The connections that have been seen.
    pub connections: Vec<KnownConnection>,
    /// The gap that is not reconciled yet.
    pub recovery: Option<Box<Recovery>>,
    /// A question that was not answered and may have removed events.
    pub suspicion: Option<Box<Suspicion>>,
    /// How many events of the queue followed the one before by 1; -1 when one did not.
    pub consecutive: i32,
    /// The last events of the queue, where the source may hand out one again.
    pub recent_event_ids: Vec<Box<str>>,
    /// The journal whose rows were published into this; none while it is held.
    pub journal_id: Option<JournalId>,
    /// The least owner epoch of rows that may still be published into this: those before it may
    /// have been overtaken by another owner.
    #[serde(skip)]
    pub rows_from: i64,
    /// When this was written, by our clock.
    pub updated_at: Timestamp,
}

/// A connection that has been seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownConnection {
    /// The connection.
    pub connection_id: ConnectionId,
    /// How many events keyed by it have been counted.
    pub sequence: i64,
    /// Whether the last listing no longer had it.
    pub absent: bool,
    /// The statuses its channels had last.
    pub channels: Vec<KnownChannel>,
}

/// The status a channel had last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownChannel {
    /// The channel's definition; empty for a channel without one.
    pub definition_id: Box<str>,
    /// In the source's words.
    pub status: ChannelStatus,
}

/// What is needed to finish a recovery that was begun.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recovery {
    /// The gap to be published again as reconciled.
    pub gap_id: GapId,
    /// Why.
    pub cause: Cause,
    /// How sure.
    pub certainty: Certainty,
    /// Start of the last question that was answered, by our clock.
    pub from: Timestamp,
    /// When the new queue answered, by our clock.
    pub to: Timestamp,
    /// The queue that events were lost from.
    pub queue_id: QueueId,
    /// Which of the subscription's queues that is, from 1.
    pub queue_generation: i32,
    /// The last event received before.
    pub last_event_id: Option<String>,
}

/// Events that may have been removed from the queue by a question that was not answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suspicion {
    /// Start of the last answered question before it, by our clock.
    pub since: Timestamp,
    /// When the first such question was given up, by our clock.
    pub at: Timestamp,
    /// The last event of the queue that was published before it.
    pub last_event_id: Option<Box<str>>,
}

/// The queue that a user's events come from now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CurrentQueue {
    /// The queue.
    pub queue_id: QueueId,
    /// Which of the subscription's queues it is, from 1.
    pub generation: i32,
}

impl QueueState {
    /// The state of a subscription of which nothing has been published.
    pub fn first(subscription: &Subscription, owner_epoch: i64, now: Timestamp) -> Self {
        Self {
            user_id: subscription.user_id.clone(),
            subscription_id: subscription.subscription_id.clone(),
            queue_id: subscription.queue_id.clone(),
            generation: 1,
            owner_epoch,
            asked_at: None,
            last_event_id: None,
            user_sequence: 0,
            connections: Vec::new(),
            recovery: None,
            suspicion: None,
            consecutive: 0,
            recent_event_ids: Vec::new(),
            journal_id: None,
            rows_from: 0,
            updated_at: now,
        }
    }

    /// The state as a new owner with this journal takes it over, one epoch later. Rows of earlier
    /// epochs still belong to it when its last writer was the same journal, whose rows keep their
    /// order; else they may have been overtaken, unless nothing was written since their epoch began.
    pub fn taken_over(mut self, journal: &JournalId) -> Self {
        let is_ours = self.journal_id.take().is_none_or(|writer| writer == *journal);
        self.rows_from = if is_ours { 0 } else { self.owner_epoch + 1 };
        self.owner_epoch += 1;
        self
    }

    /// Whether a row of this wish and epoch may be published into this state.
    pub fn takes(&self, subscription: &SubscriptionId, owner_epoch: i64) -> bool {
        self.subscription_id == *subscription && owner_epoch >= self.rows_from
    }

    /// Whether no other journal's rows were published into it.
    pub fn is_continued(&self) -> bool {
        self.rows_from == 0
    }

    /// Another queue takes the place of the one before; nothing is known of it yet.
    pub fn pass_to(&mut self, queue: QueueId) {
        self.queue_id = queue;
        self.generation += 1;
        self.last_event_id = None;
        self.suspicion = None;
        self.consecutive = 0;
        self.recent_event_ids = Vec::new();
    }

    /// Holds which event of the queue came last, and whether its id follows the one before.
    pub fn follow(&mut self, event_id: &str) {
        if let Some(last) = &self.last_event_id {
            let is_next = match (last.parse::<u64>(), event_id.parse::<u64>()) {
                (Ok(last), Ok(id)) => last.checked_add(1) == Some(id),
                _ => false,
            };
            self.consecutive = match (self.consecutive, is_next) {
                (DISPROVED, _) | (_, false) => DISPROVED,
                (steps, true) => steps.saturating_add(1),
            };
        }
        self.last_event_id = Some(event_id.into());
    }

    /// The id that the next event must have; none when the ids of this queue have not proved to be
    /// consecutive.
    pub fn expected_id(&self) -> Option<u64> {
        let last: u64 = self.last_event_id.as_ref()?.parse().ok()?;
        (self.consecutive >= PROVEN).then(|| last.saturating_add(1))
    }

    /// The id by which the next event lifts the suspicion that is held, or proves it; none when that
    /// cannot be told, as when events came since: that the next one follows those says nothing.
    pub fn settling_id(&self) -> Option<u64> {
        let suspicion = self.suspicion.as_ref()?;
        if suspicion.last_event_id == self.last_event_id { self.expected_id() } else { None }
    }

    /// Whether an event of the queue has been published before.
    pub fn is_repeat(&self, event_id: &str) -> bool {
        self.recent_event_ids.iter().any(|known| **known == *event_id)
    }

    /// Remembers an event, and forgets the oldest of too many.
    pub fn remember(&mut self, event_id: &str) {
        if self.recent_event_ids.len() >= MAX_REMEMBERED {
            self.recent_event_ids.remove(0);
        }
        self.recent_event_ids.push(event_id.into());
    }

    /// A user's current queue: the state's when it belongs to the subscription, else the first.
    pub fn current(subscription: &Subscription, state: Option<&Self>) -> CurrentQueue {
        match state {
            Some(state) if state.subscription_id == subscription.subscription_id => {
                CurrentQueue { queue_id: state.queue_id.clone(), generation: state.generation }
            }
            _ => CurrentQueue { queue_id: subscription.queue_id.clone(), generation: 1 },
        }
    }

    /// Counts one more record of a key, the connection or else the user, and gives its sequence.
    pub fn count(&mut self, key: Option<&ConnectionId>) -> i64 {
        let sequence = match key {
            None => &mut self.user_sequence,
            Some(id) => &mut self.known(id.as_str()).sequence,
        };
        *sequence += 1;
        *sequence
    }

    /// The sequence that the last record of a key has; 0 when there was none.
    pub fn sequence(&self, key: Option<&ConnectionId>) -> i64 {
        match key {
            None => self.user_sequence,
            Some(id) => self.connection(id.as_str()).map_or(0, |known| known.sequence),
        }
    }

    /// The connection of this id, if it has been seen.
    pub fn connection(&self, id: &str) -> Option<&KnownConnection> {
        self.connections.iter().find(|known| known.connection_id.as_str() == id)
    }

    /// The actions that an event raises against what is held, without holding it: for late events.
    pub fn entering(&self, event: &SourceEvent<'_>) -> Vec<RaisedAction> {
        let mut raised = Vec::new();
        if let Some(action) = Action::from_source(&event.event_type) {
            let channel_definition_id = event.channel_definition_id.as_deref().map(str::to_owned);
            raised.push(RaisedAction { action, channel_definition_id });
        }
        if let Some(connection) = &event.connection {
            self.entered(connection, &mut raised);
        }
        raised
    }

    /// Holds what an event shows, and gives the actions it raises. Counts nothing and leaves
    /// `last_event_id` alone.
    pub fn note_event(&mut self, event: &SourceEvent<'_>) -> Vec<RaisedAction> {
        let raised = self.entering(event);
        match &event.connection {
            Some(connection) => self.hold(connection),
            None => {
                if let Some(id) = event.connection_id() {
                    self.known(id);
                }
            }
        }
        raised
    }

    /// Holds what a listing shows of a connection, and gives the actions it raises.
    pub fn note_connection(&mut self, connection: &Connection<'_>) -> Vec<RaisedAction> {
        let mut raised = Vec::new();
        self.entered(connection, &mut raised);
        self.hold(connection);
        raised
    }

    /// The connections, not absent yet, that a listing of these ids lacks.
    pub fn missing_from<'a>(&self, listed: impl IntoIterator<Item = &'a str>) -> Vec<ConnectionId> {
        let listed: std::collections::HashSet<&str> = listed.into_iter().collect();
        let gone = |known: &&KnownConnection| {
            !known.absent && !listed.contains(known.connection_id.as_str())
        };
        self.connections.iter().filter(gone).map(|known| known.connection_id.clone()).collect()
    }

    /// Holds that a listing no longer has a connection. Seeing it again takes that back.
    pub fn mark_absent(&mut self, id: &ConnectionId) {
        if let Some(known) = self.connections.iter_mut().find(|known| known.connection_id == *id) {
            known.absent = true;
            known.channels = Vec::new();
        }
    }

    /// Gives back memory that holds nothing.
    pub fn shrink(&mut self) {
        for known in &mut self.connections {
            known.channels.shrink_to_fit();
        }
        self.connections.shrink_to_fit();
        self.recent_event_ids.shrink_to_fit();
    }

    fn entered(&self, connection: &Connection<'_>, raised: &mut Vec<RaisedAction>) {
        let known = self.connection(&connection.id);
        for channel in &connection.channels {
            let status = channel.status.as_deref().unwrap_or_default();
            let Some(action) = Action::from_source(status) else { continue };
            let definition_id = channel.definition_id.as_deref();
            let held = known.and_then(|known| known.status(definition_id.unwrap_or_default()));
            if held.is_some_and(|held| held.as_str() == status) {
                continue;
            }
            let same = |other: &RaisedAction| {
                other.action == action && other.channel_definition_id.as_deref() == definition_id
            };
            if !raised.iter().any(same) {
                let channel_definition_id = definition_id.map(str::to_owned);
                raised.push(RaisedAction { action, channel_definition_id });
            }
        }
    }

    fn hold(&mut self, connection: &Connection<'_>) {
        let known = self.known(&connection.id);
        known.absent = false;
        for channel in &connection.channels {
            // A status left out says nothing about the one held.
            let Some(status) = channel.status.as_deref() else { continue };
            let definition_id = channel.definition_id.as_deref().unwrap_or_default();
            match known.channels.iter_mut().find(|held| *held.definition_id == *definition_id) {
                Some(held) if held.status.as_str() == status => {}
                Some(held) => held.status = ChannelStatus::from(status),
                None => {
                    let status = ChannelStatus::from(status);
                    known.channels.reserve_exact(1);
                    known
                        .channels
                        .push(KnownChannel { definition_id: definition_id.into(), status });
                }
            }
        }
        if known.channels.len() > MAX_CHANNELS {
            known.forget_all_but(connection);
        }
    }

    fn known(&mut self, id: &str) -> &mut KnownConnection {
        let found = self.connections.iter().position(|known| known.connection_id.as_str() == id);
        let index = found.unwrap_or_else(|| {
            self.connections.reserve_exact(1);
            self.connections.push(KnownConnection {
                connection_id: ConnectionId::from(id),
                sequence: 0,
                absent: false,
                channels: Vec::new(),
            });
            self.connections.len() - 1
        });
        &mut self.connections[index]
    }
}

impl KnownConnection {
    /// The status a channel had last, if one was seen.
    pub fn status(&self, definition_id: &str) -> Option<&ChannelStatus> {
        let mut channels = self.channels.iter();
        channels.find(|held| *held.definition_id == *definition_id).map(|held| &held.status)
    }

    fn forget_all_but(&mut self, shown: &Connection<'_>) {
        let is_shown = |held: &KnownChannel| {
            let mut channels = shown.channels.iter();
            channels.any(|channel| channel.definition_id.as_deref() == Some(&*held.definition_id))
        };
        self.channels.retain(is_shown);
        self.channels.truncate(MAX_CHANNELS);
        self.channels.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests;
