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

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::Pen;
use super::outbox::{Outbox, Outgoing, SendFault};
use super::tally::Tally;
use crate::ids::{Timestamp, UserId};
use crate::journal::{Answer, AnswerKind, Change, Row, RowOf, Settled, Unsettled};
use crate::queue_state::QueueState;

/// The states of one owned partition.
#[derive(Default)]
pub(in crate::publisher) struct Owned {
    /// Which grant of the partition this is.
    pub(in crate::publisher) token: u64,
    pub(in crate::publisher) states: HashMap<UserId, QueueState>,
}

/// The states of all owned partitions.
pub(in crate::publisher) type Holdings = BTreeMap<i32, Owned>;

/// What a draft came to, for when its transaction is committed.
pub(in crate::publisher) struct Outcome {
    /// What is told to whoever waits for the row of this place.
    pub(in crate::publisher) settled: Vec<Settled>,
    pub(in crate::publisher) tally: Tally,
    /// The states that changed; none for a user who is watched no more.
    pub(in crate::publisher) changes: BTreeMap<(i32, UserId), Option<QueueState>>,
}

/// A transaction in the making.
pub(in crate::publisher) struct Draft<'a> {
    pen: &'a Pen,
    holdings: &'a Holdings,
    changed: BTreeMap<(i32, UserId), Option<QueueState>>,
    tally: Tally,
    settled: Vec<Settled>,
    value: Vec<u8>,
    datum: Vec<u8>,
}

impl<'a> Draft<'a> {
    pub(in crate::publisher) fn new(pen: &'a Pen, holdings: &'a Holdings) -> Self {
        Self {
            pen,
            holdings,
            changed: BTreeMap::new(),
            tally: Tally::default(),
            settled: Vec::new(),
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
        match &row.change {
            Change::Answered(answer) => self.answered(&row.of, answer, out)?,
            Change::AnswerLost(answer, lost) => {
                if !answer.body.is_empty() {
                    self.answered(&row.of, answer, out)?;
                }
                self.lost(&row.of, answer, lost, out)?;
            }
            Change::QueueReplaced { next, lost } => self.replaced(&row.of, next, lost, out)?,
            Change::Subscribed(subscription) => {
                if self.is_ours(&row.of) {
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
            Change::Adopted(subscription, queue) => {
                if let Some(state) = self.state(&row.of) {
                    state.queue_id = queue.clone();
                    state.generation += 1;
                    state.last_event_id = None;
                    self.subscription(&row.of, subscription, out)?;
                } else {
                    outcome = Err(Unsettled::NotOwned);
                }
            }
            Change::Removed => {
                if self.is_ours(&row.of) {
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
        self.settled.push(outcome);
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
            self.value.clear();
            self.pen.encoder.queue_state(state, &mut self.value)?;
            let record = Outgoing::of(&self.pen.topics.queues, user.as_str().as_bytes())
                .at(*partition)
                .value(&self.value);
            out.send(record)?;
        }
        Ok(self.changed.keys().map(|(partition, _)| *partition).collect())
    }

    /// What there is to take in once it is committed.
    pub(in crate::publisher) fn into_outcome(self) -> Outcome {
        Outcome { settled: self.settled, tally: self.tally, changes: self.changed }
    }

    /// Whether the partition is ours by the very grant under which the row came about.
    fn is_ours(&self, of: &RowOf) -> bool {
        self.holdings.get(&of.partition).is_some_and(|owned| owned.token == of.grant)
    }

    /// The user's state, on a copy; none when the grant or the wish is not ours any more.
    fn state(&mut self, of: &RowOf) -> Option<&mut QueueState> {
        if !self.is_ours(of) {
            return None;
        }
        let key = (of.partition, of.user.clone());
        if !self.changed.contains_key(&key) {
            let held = self.holdings.get(&of.partition)?.states.get(&of.user)?;
            if held.subscription_id != of.subscription_id {
                return None;
            }
            self.changed.insert(key.clone(), Some(held.clone()));
        }
        let state = self.changed.get_mut(&key)?.as_mut()?;
        (state.subscription_id == of.subscription_id).then_some(state)
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
        self.tally.received_at.push(answer.received);
        match &answer.kind {
            AnswerKind::Unreadable(reason) => self.dead(of, answer, *reason, &answer.body, out),
            AnswerKind::Connections(gap) => self.reconciled(of, answer, gap, out),
            AnswerKind::Events => self.events(of, answer, out),
        }
    }
}
