//! What one transaction will hold: rows become records, and states change on a copy.
//!
//! Promises:
//! - nothing here is seen until the transaction is committed: the draft is then adopted, or thrown
//!   away and made again from the same rows;
//! - dead letters take no sequence, raise no action and change no status;
//! - what is not owned any more is published late: without state and sequence, its actions judged
//!   against the last state held;
//! - an event too large for its topic loses `unmapped` first, then becomes a dead letter.
//!
//! Knows nothing of: producers. Records go to an [`Outbox`].

mod events;
mod gaps;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::Pen;
use super::outbox::{Nowhere, Outbox, Outgoing, SendFault};
use super::tally::Tally;
use crate::ids::{JournalId, Timestamp, UserId};
use crate::journal::{Answer, AnswerKind, Change, Row, RowOf, Settled, Unsettled};
use crate::queue_state::QueueState;

/// The states of one owned partition.
#[derive(Default)]
pub(in crate::publisher) struct Owned {
    /// Which grant of the partition this is.
    pub(in crate::publisher) token: u64,
    /// Boxed: a map of a million has up to two million places.
    pub(in crate::publisher) states: HashMap<UserId, Box<QueueState>>,
    /// Whose states changed since the grant, while somebody waits to be told.
    pub(in crate::publisher) changed: Option<HashSet<UserId>>,
}

/// The states of all owned partitions.
pub(in crate::publisher) type Holdings = BTreeMap<i32, Owned>;

/// What a draft came to, for when its transaction is committed.
pub(in crate::publisher) struct Outcome {
    /// What the row of this place came to.
    pub(in crate::publisher) rows: Vec<Drafted>,
    pub(in crate::publisher) tally: Tally,
    /// The states that changed; none for a user who is watched no more.
    pub(in crate::publisher) changes: BTreeMap<(i32, UserId), Option<QueueState>>,
}

/// What one row came to.
pub(in crate::publisher) struct Drafted {
    /// What is told to whoever waits for it.
    pub(in crate::publisher) settled: Settled,
    /// How many events its answer held.
    pub(in crate::publisher) events: u64,
    /// Whether they were published late.
    pub(in crate::publisher) is_late: bool,
}

/// A transaction in the making.
pub(in crate::publisher) struct Draft<'a> {
    pen: &'a Pen,
    journal: &'a JournalId,
    holdings: &'a Holdings,
    changed: BTreeMap<(i32, UserId), Option<QueueState>>,
    tally: Tally,
    rows: Vec<Drafted>,
    /// Whether events of the present row are published late.
    is_late: bool,
    value: Vec<u8>,
    datum: Vec<u8>,
}

impl<'a> Draft<'a> {
    pub(in crate::publisher) fn new(
        pen: &'a Pen,
        journal: &'a JournalId,
        holdings: &'a Holdings,
    ) -> Self {
        Self {
            pen,
            journal,
            holdings,
            changed: BTreeMap::new(),
            tally: Tally::default(),
            rows: Vec::new(),
            is_late: false,
            value: Vec::new(),
            datum: Vec::new(),
        }
    }

    /// Writes what a row says.
    pub(in crate::publisher) fn apply(
        &mut self,
        row: &Row,
        out: &mut impl Outbox,
    ) -> Result<(), SendFault> {
        let mut outcome = Ok(());
        let received = self.tally.received;
        self.is_late = false;
        match &row.change {
            Change::Answered(answer) => self.answered(&row.of, answer, out)?,
            Change::AnswerLost(answer, lost) => {
                if !answer.body.is_empty() {
                    self.answered(&row.of, answer, out)?;
                }
                self.lost(&row.of, answer, lost, out)?;
            }
            Change::QueueReplaced { next, lost } => self.replaced(&row.of, next, lost, out)?,
            Change::Missed(lost) => self.missed(&row.of, lost, out)?,
            Change::Suspected { since, at } => self.suspected(&row.of, *since, *at, out)?,
            Change::Unsuspected => {
                if let Some(state) = self.state(&row.of) {
                    state.suspicion = None;
                }
            }
            // whoever asked for it was told nothing, and asks again
            Change::Withdrawn => {}
            Change::Subscribed(subscription) => {
                if self.is_vacant(&row.of) {
                    self.subscription(&row.of, subscription, out)?;
                    let state = QueueState::first(subscription, 1, Timestamp::now());
                    self.changed.insert((row.of.partition, row.of.user.clone()), Some(state));
                } else {
                    outcome = Err(Unsettled::NotOwned);
                }
            }
            Change::CredentialChanged(subscription) => {
                if self.state(&row.of).is_some() {
                    self.subscription(&row.of, subscription, out)?;
                } else {
                    outcome = Err(Unsettled::NotOwned);
                }
            }
            Change::Adopted(subscription, queue, lost) => {
                if let Some(state) = self.state(&row.of) {
                    match lost {
                        Some(lost) => self.replaced(&row.of, queue, lost, out)?,
                        None => state.pass_to(queue.clone()),
                    }
                    self.subscription(&row.of, subscription, out)?;
                } else {
                    outcome = Err(Unsettled::NotOwned);
                }
            }
            Change::Removed => {
                if self.state(&row.of).is_some() {
                    self.changed.insert((row.of.partition, row.of.user.clone()), None);
                    let key = row.of.user.as_str().as_bytes();
                    for topic in [&self.pen.topics.subscriptions, &self.pen.topics.queues] {
                        let record = Outgoing::of(topic, key).at(row.of.partition);
                        out.send(record)?;
                    }
                } else {
                    outcome = Err(Unsettled::NotOwned);
                }
            }
        }
        let events = self.tally.received - received;
        self.rows.push(Drafted { settled: outcome, events, is_late: self.is_late });
        Ok(())
    }

    /// Changes states as a row will, and publishes nothing.
    pub(in crate::publisher) fn foresee(&mut self, row: &Row) -> Result<(), SendFault> {
        self.apply(row, &mut Nowhere)?;
        // nobody is told, and nothing counted
        self.rows.clear();
        self.tally = Tally::default();
        Ok(())
    }

    /// Writes the states that changed; answers the partitions whose ownership the transaction
    /// depends on.
    pub(in crate::publisher) fn close(
        &mut self,
        out: &mut impl Outbox,
    ) -> Result<BTreeSet<i32>, SendFault> {
        let now = Timestamp::now();
        for ((partition, user), state) in &mut self.changed {
            let Some(state) = state else { continue };
            state.updated_at = now;
            state.journal_id = Some(self.journal.clone());
            self.value.clear();
            let written = self.pen.encoder.queue_state(state, &mut self.value);
            state.journal_id = None;
            written?;
            let record = Outgoing::of(&self.pen.topics.queues, user.as_str().as_bytes())
                .at(*partition)
                .value(&self.value);
            out.send(record)?;
        }
        Ok(self.changed.keys().map(|(partition, _)| *partition).collect())
    }

    /// What there is to take in once it is committed.
    pub(in crate::publisher) fn into_outcome(self) -> Outcome {
        Outcome { rows: self.rows, tally: self.tally, changes: self.changed }
    }

    /// Whether the partition is ours, and nobody has made a wish for the user.
    fn is_vacant(&self, of: &RowOf) -> bool {
        let Some(owned) = self.holdings.get(&of.partition) else { return false };
        match self.changed.get(&(of.partition, of.user.clone())) {
            Some(state) => state.is_none(),
            None => !owned.states.contains_key(&of.user),
        }
    }

    /// The user's state, on a copy; none when the partition or the wish is not ours any more, or
    /// somebody else published what came later.
    fn state(&mut self, of: &RowOf) -> Option<&mut QueueState> {
        let key = (of.partition, of.user.clone());
        if !self.changed.contains_key(&key) {
            let held = self.holdings.get(&of.partition)?.states.get(&of.user)?;
            if !held.takes(&of.subscription_id, of.owner_epoch) {
                return None;
            }
            self.changed.insert(key.clone(), Some(QueueState::clone(held)));
        }
        let state = self.changed.get_mut(&key)?.as_mut()?;
        state.takes(&of.subscription_id, of.owner_epoch).then_some(state)
    }

    fn subscription(
        &mut self,
        of: &RowOf,
        subscription: &crate::subscription::Subscription,
        out: &mut impl Outbox,
    ) -> Result<(), SendFault> {
        self.value.clear();
        self.pen.encoder.subscription(subscription, &mut self.value)?;
        let topic = &self.pen.topics.subscriptions;
        let record =
            Outgoing::of(topic, of.user.as_str().as_bytes()).at(of.partition).value(&self.value);
        out.send(record)
    }

    fn answered(
        &mut self,
        of: &RowOf,
        answer: &Answer,
        out: &mut impl Outbox,
    ) -> Result<(), SendFault> {
        self.tally.received_at.push((answer.received, answer.received_at));
        match &answer.kind {
            AnswerKind::Unreadable(reason) => self.dead(of, answer, *reason, &answer.body, out),
            AnswerKind::Connections(gap) => self.reconciled(of, answer, gap, out),
            AnswerKind::Events => self.events(of, answer, out),
        }
    }
}
