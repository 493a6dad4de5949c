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

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::Pen;
use super::dead_letter::{self, Letter};
use super::outbox::{Outbox, Outgoing, SendFault};
use super::tally::Tally;
use crate::event::{self, ListedConnection, RaisedAction, SourceEvent};
use crate::gap::{Cause, Certainty, Gap};
use crate::ids::{ConnectionId, GapId, QueueId, Timestamp, UserId};
use crate::journal::{Answer, AnswerKind, Change, Lost, Row, RowOf, Settled, Unsettled};
use crate::kafka::MESSAGE_OVERHEAD;
use crate::metrics::{ActionLabel, DeadLetterReason, EventKind, LagClass};
use crate::queue_state::{QueueState, Recovery};
use crate::record::{
    EventRecord, HEADER_EVENT_ID, HEADER_EVENT_TYPE, HEADER_IDEMPOTENCY_KEY, HEADER_USER_ID,
    Happening, TopicRole, idempotency_key, reconciliation_key,
};

/// The states of one owned partition.
#[derive(Default)]
pub(super) struct Owned {
    /// Which grant of the partition this is.
    pub(super) token: u64,
    pub(super) states: HashMap<UserId, QueueState>,
}

/// The states of all owned partitions.
pub(super) type Holdings = BTreeMap<i32, Owned>;

/// A transaction in the making.
pub(super) struct Draft<'a> {
    pen: &'a Pen,
    holdings: &'a Holdings,
    changed: BTreeMap<(i32, UserId), Option<QueueState>>,
    pub(super) tally: Tally,
    /// What is told to whoever waits for the row of this place, once committed.
    pub(super) outcomes: Vec<Settled>,
    value: Vec<u8>,
    datum: Vec<u8>,
}

impl<'a> Draft<'a> {
    pub(super) fn new(pen: &'a Pen, holdings: &'a Holdings) -> Self {
        Self {
            pen,
            holdings,
            changed: BTreeMap::new(),
            tally: Tally::default(),
            outcomes: Vec::new(),
            value: Vec::new(),
            datum: Vec::new(),
        }
    }

    /// Writes what a row says.
    pub(super) fn apply(&mut self, row: &Row, out: &mut impl Outbox) -> Result<(), SendFault> {
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
        self.outcomes.push(outcome);
        Ok(())
    }

    /// Writes the states that changed; answers the partitions whose ownership the transaction
    /// depends on.
    pub(super) fn close(&mut self, out: &mut impl Outbox) -> Result<BTreeSet<i32>, SendFault> {
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

    /// What the states come to once committed.
    pub(super) fn into_changes(self) -> BTreeMap<(i32, UserId), Option<QueueState>> {
        self.changed
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

    fn events(
        &mut self,
        of: &RowOf,
        answer: &Answer,
        out: &mut impl Outbox,
    ) -> Result<(), SendFault> {
        let elements = match event::decode_answer(&answer.body) {
            Ok(elements) => elements,
            Err(fault) => {
                self.dead(of, answer, fault.into(), &answer.body, out)?;
                return self.suspect(of, answer, out);
            }
        };
        self.tally.received += elements.len() as u64;
        for element in &elements {
            match element {
                Ok(source) => self.event(of, answer, source, out)?,
                Err(bad) => self.dead(of, answer, bad.reason.into(), bad.raw.as_bytes(), out)?,
            }
        }
        if let Some(state) = self.state(of) {
            state.asked_at = Some(answer.asked_at);
        }
        Ok(())
    }

    fn event(
        &mut self,
        of: &RowOf,
        answer: &Answer,
        source: &SourceEvent<'_>,
        out: &mut impl Outbox,
    ) -> Result<(), SendFault> {
        let connection = source.connection_id().map(ConnectionId::from);
        let (actions, sequence, owner_epoch) = match self.state(of) {
            Some(state) => (
                state.entering(source),
                Some(state.sequence(connection.as_ref()) + 1),
                state.owner_epoch,
            ),
            None => (self.entering_late(of, source), None, answer.owner_epoch),
        };
        let key = idempotency_key(&answer.queue, &source.event_id);
        let record = EventRecord {
            happening: Happening::Handed(source),
            user_id: &of.user,
            subscription_id: &of.subscription_id,
            queue_id: &answer.queue,
            queue_generation: answer.generation,
            idempotency_key: &key,
            sequence,
            owner_epoch,
            late: sequence.is_none(),
            actions: &actions,
            received_at: answer.received_at,
            shed_unmapped: false,
        };
        if !self.write(record, out)? {
            let reason = DeadLetterReason::TooLarge;
            return self.dead(of, answer, reason, source.raw.as_bytes(), out);
        }
        if let Some(state) = self.state(of) {
            state.note_event(source);
            state.count(connection.as_ref());
            state.last_event_id = Some(source.event_id.as_ref().into());
        }
        self.tally.event(EventKind::Event);
        let class = if actions.is_empty() { LagClass::Ordinary } else { LagClass::Action };
        if let Some(created_at) = source.created_at {
            self.tally.created_at.push((class, created_at));
        }
        Ok(())
    }

    /// Sends an event and its action copies; false when it is too large even without `unmapped`.
    fn write(
        &mut self,
        mut record: EventRecord<'_>,
        out: &mut impl Outbox,
    ) -> Result<bool, SendFault> {
        let pen = self.pen;
        let copies = pen.topics.copies(record.actions);
        let roles = || copies.iter().map(|action| TopicRole::Action(*action));
        let headers = record.headers();
        let beside = record.key().len()
            + headers.iter().map(|(name, value)| name.len() + value.len() + 8).sum::<usize>()
            + MESSAGE_OVERHEAD;
        let limit = std::iter::once(TopicRole::Events)
            .chain(roles())
            .map(|role| pen.limits.of(pen.topics.name(role)))
            .min()
            .unwrap_or_default();
        self.datum.clear();
        pen.encoder.event_datum(&record, &mut self.datum);
        if self.datum.len() + beside > limit {
            record.shed_unmapped = true;
            self.datum.clear();
            pen.encoder.event_datum(&record, &mut self.datum);
            if self.datum.len() + beside > limit {
                return Ok(false);
            }
        }
        for role in std::iter::once(TopicRole::Events).chain(roles()) {
            self.value.clear();
            self.value.extend_from_slice(pen.encoder.header(role));
            self.value.extend_from_slice(&self.datum);
            let outgoing = Outgoing::of(pen.topics.name(role), record.key().as_bytes())
                .value(&self.value)
                .headers(&headers)
                .timestamp(record.received_at);
            out.send(outgoing)?;
        }
        for _ in &copies {
            self.tally.event(EventKind::Action);
        }
        let mut counted: Vec<ActionLabel> = Vec::new();
        for raised in record.actions {
            let label = ActionLabel::from(raised.action);
            if !counted.contains(&label) {
                counted.push(label);
            }
        }
        self.tally.actions.extend(counted);
        Ok(true)
    }

    /// Actions of an event that nobody may write a state for: against the last state held.
    fn entering_late(&self, of: &RowOf, source: &SourceEvent<'_>) -> Vec<RaisedAction> {
        let held = self.holdings.get(&of.partition).and_then(|owned| owned.states.get(&of.user));
        match held {
            Some(state) => state.entering(source),
            None => {
                let nothing = crate::subscription::Subscription {
                    user_id: of.user.clone(),
                    subscription_id: of.subscription_id.clone(),
                    queue_id: QueueId::from(""),
                    credential_kind: String::new(),
                    sealed_credential: Vec::new(),
                    created_at: Timestamp(0),
                    updated_at: Timestamp(0),
                };
                QueueState::first(&nothing, 0, Timestamp(0)).entering(source)
            }
        }
    }

    fn dead(
        &mut self,
        of: &RowOf,
        answer: &Answer,
        reason: DeadLetterReason,
        bytes: &[u8],
        out: &mut impl Outbox,
    ) -> Result<(), SendFault> {
        let topic = &self.pen.topics.dead_letters;
        let letter = Letter {
            user: &of.user,
            queue: &answer.queue,
            received_at: answer.received_at,
            reason,
            bytes: &self.pen.redaction.redact(bytes),
        };
        dead_letter::send(&letter, topic, self.pen.limits.of(topic), out)?;
        self.tally.dead_letters.push(reason);
        Ok(())
    }

    fn lost(
        &mut self,
        of: &RowOf,
        answer: &Answer,
        lost: &Lost,
        out: &mut impl Outbox,
    ) -> Result<(), SendFault> {
        let recovery = match self.state(of) {
            Some(state) => {
                let recovery = recovery_of(lost, state);
                if lost.to_reconcile {
                    state.recovery = Some(Box::new(recovery.clone()));
                }
                recovery
            }
            None => new_recovery(lost, &answer.queue, answer.generation, None),
        };
        self.gaps(of, &recovery, None, false, out)
    }

    /// Publishes that an answer which is no list of events may have cost some.
    fn suspect(
        &mut self,
        of: &RowOf,
        answer: &Answer,
        out: &mut impl Outbox,
    ) -> Result<(), SendFault> {
        let from = self.state(of).and_then(|state| state.asked_at).unwrap_or(answer.asked_at);
        let lost = Lost {
            gap_id: GapId::random(),
            cause: Cause::AnswerLost,
            certainty: Certainty::Possible,
            from,
            to: answer.received_at,
            to_reconcile: false,
        };
        self.lost(of, answer, &lost, out)
    }

    fn replaced(
        &mut self,
        of: &RowOf,
        next: &QueueId,
        lost: &Lost,
        out: &mut impl Outbox,
    ) -> Result<(), SendFault> {
        // the owner that comes after us finds the old queue dead and publishes the gap itself
        let Some(state) = self.state(of) else { return Ok(()) };
        let recovery = recovery_of(lost, state);
        state.queue_id = next.clone();
        state.generation += 1;
        state.last_event_id = None;
        state.asked_at = Some(lost.to);
        state.recovery = Some(Box::new(recovery.clone()));
        self.gaps(of, &recovery, Some(next), false, out)
    }

    fn reconciled(
        &mut self,
        of: &RowOf,
        answer: &Answer,
        gap_id: &GapId,
        out: &mut impl Outbox,
    ) -> Result<(), SendFault> {
        let listed = match event::decode_connections(&answer.body) {
            Ok(listed) => listed,
            Err(fault) => return self.dead(of, answer, fault.into(), &answer.body, out),
        };
        let open = self
            .state(of)
            .and_then(|state| state.recovery.take_if(|recovery| recovery.gap_id == *gap_id));
        // else the gap was closed, or belongs to a wish that is no more
        let Some(recovery) = open else { return Ok(()) };
        for element in &listed {
            match element {
                Ok(listed) => self.present(of, answer, gap_id, listed, out)?,
                Err(bad) => self.dead(of, answer, bad.reason.into(), bad.raw.as_bytes(), out)?,
            }
        }
        let ids = listed.iter().flatten().map(|listed| listed.connection.id.as_ref());
        let absent = self.state(of).map(|state| state.missing_from(ids)).unwrap_or_default();
        for connection in &absent {
            self.absent(of, answer, gap_id, connection, out)?;
        }
        let next = (recovery.queue_id != answer.queue).then_some(&answer.queue);
        self.gaps(of, &recovery, next, true, out)?;
        for connection in &absent {
            if let Some(state) = self.state(of) {
                state.mark_absent(connection);
            }
        }
        Ok(())
    }

    fn present(
        &mut self,
        of: &RowOf,
        answer: &Answer,
        gap_id: &GapId,
        listed: &ListedConnection<'_>,
        out: &mut impl Outbox,
    ) -> Result<(), SendFault> {
        let connection = ConnectionId::from(listed.connection.id.as_ref());
        let Some(state) = self.state(of) else { return Ok(()) };
        // on a copy of the copy: a connection too large for its topic must raise nothing
        let actions = state.clone().note_connection(&listed.connection);
        let happening = Happening::ConnectionState(listed);
        if !self.made(of, answer, gap_id, &connection, happening, &actions, out)? {
            let reason = DeadLetterReason::TooLarge;
            return self.dead(of, answer, reason, listed.raw.as_bytes(), out);
        }
        if let Some(state) = self.state(of) {
            state.note_connection(&listed.connection);
        }
        Ok(())
    }

    fn absent(
        &mut self,
        of: &RowOf,
        answer: &Answer,
        gap_id: &GapId,
        connection: &ConnectionId,
        out: &mut impl Outbox,
    ) -> Result<(), SendFault> {
        let happening = Happening::ConnectionAbsent(connection);
        self.made(of, answer, gap_id, connection, happening, &[], out).map(drop)
    }

    /// Sends an event that a reconciliation made, and counts it; false when it is too large.
    #[expect(clippy::too_many_arguments, reason = "the two callers differ in two of them only")]
    fn made(
        &mut self,
        of: &RowOf,
        answer: &Answer,
        gap_id: &GapId,
        connection: &ConnectionId,
        happening: Happening<'_>,
        actions: &[RaisedAction],
        out: &mut impl Outbox,
    ) -> Result<bool, SendFault> {
        let Some(state) = self.state(of) else { return Ok(true) };
        let (sequence, owner_epoch) = (state.sequence(Some(connection)) + 1, state.owner_epoch);
        let key = reconciliation_key(gap_id, connection);
        let record = EventRecord {
            happening,
            user_id: &of.user,
            subscription_id: &of.subscription_id,
            queue_id: &answer.queue,
            queue_generation: answer.generation,
            idempotency_key: &key,
            sequence: Some(sequence),
            owner_epoch,
            late: false,
            actions,
            received_at: answer.received_at,
            shed_unmapped: false,
        };
        if !self.write(record, out)? {
            return Ok(false);
        }
        if let Some(state) = self.state(of) {
            state.count(Some(connection));
        }
        self.tally.event(EventKind::Reconciliation);
        Ok(true)
    }

    /// Publishes a gap: once for the user, and once for each connection known.
    fn gaps(
        &mut self,
        of: &RowOf,
        recovery: &Recovery,
        next: Option<&QueueId>,
        reconciled: bool,
        out: &mut impl Outbox,
    ) -> Result<(), SendFault> {
        let mut keys: Vec<(Option<ConnectionId>, Option<i64>)> = Vec::new();
        match self.state(of) {
            Some(state) => {
                keys.push((None, Some(state.user_sequence)));
                let known = state.connections.iter().filter(|known| !known.absent);
                keys.extend(
                    known.map(|known| (Some(known.connection_id.clone()), Some(known.sequence))),
                );
            }
            None => keys.push((None, None)),
        }
        for (connection_id, after_sequence) in keys {
            let gap = Gap {
                gap_id: recovery.gap_id.clone(),
                user_id: of.user.clone(),
                subscription_id: of.subscription_id.clone(),
                connection_id,
                cause: recovery.cause,
                certainty: recovery.certainty,
                from: recovery.from,
                to: recovery.to,
                queue_id: recovery.queue_id.clone(),
                queue_generation: recovery.queue_generation,
                next_queue_id: next.cloned(),
                last_event_id: recovery.last_event_id.clone(),
                next_event_id: None,
                after_sequence,
                reconciled,
            };
            self.value.clear();
            self.pen.encoder.gap(&gap, &mut self.value)?;
            let idempotency_key = gap_key(&gap);
            let headers = [
                (HEADER_EVENT_ID, gap.gap_id.as_str()),
                (HEADER_EVENT_TYPE, "GAP"),
                (HEADER_USER_ID, of.user.as_str()),
                (HEADER_IDEMPOTENCY_KEY, idempotency_key.as_str()),
            ];
            let record = Outgoing::of(&self.pen.topics.gaps, gap.key().as_bytes())
                .value(&self.value)
                .headers(&headers)
                .timestamp(recovery.to);
            out.send(record)?;
        }
        if !reconciled {
            self.tally.gaps.push((recovery.cause.into(), recovery.certainty.into()));
        }
        Ok(())
    }
}

/// The same whenever the same record of a gap is published.
fn gap_key(gap: &Gap) -> String {
    let stage = if gap.reconciled { "reconciled" } else { "open" };
    format!("g/{}/{stage}/{}", gap.gap_id, gap.key())
}

/// What is lost from the present queue; a loss of a gap that is still open widens it.
fn recovery_of(lost: &Lost, state: &QueueState) -> Recovery {
    match state.recovery.as_deref() {
        Some(open) if open.gap_id == lost.gap_id => Recovery { to: lost.to, ..open.clone() },
        _ => {
            let last_event_id = state.last_event_id.as_deref();
            new_recovery(lost, &state.queue_id, state.generation, last_event_id)
        }
    }
}

fn new_recovery(
    lost: &Lost,
    queue: &QueueId,
    generation: i32,
    last_event_id: Option<&str>,
) -> Recovery {
    Recovery {
        gap_id: lost.gap_id.clone(),
        cause: lost.cause,
        certainty: lost.certainty,
        from: lost.from,
        to: lost.to,
        queue_id: queue.clone(),
        queue_generation: generation,
        last_event_id: last_event_id.map(str::to_owned),
    }
}
