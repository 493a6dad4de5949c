//! The events of an answer, and what of it is a dead letter.
//!
//! Promises: an element that cannot be published takes nothing of its answer with it.
//!
//! Knows nothing of: gaps.

use super::Draft;
use crate::event::{self, RaisedAction, SourceEvent};
use crate::ids::{ConnectionId, QueueId, Timestamp};
use crate::journal::{Answer, RowOf};
use crate::kafka::MESSAGE_OVERHEAD;
use crate::metrics::{ActionLabel, DeadLetterReason, EventKind, LagClass};
use crate::publisher::dead_letter::{self, Letter};
use crate::publisher::outbox::{Outbox, Outgoing, SendFault};
use crate::queue_state::QueueState;
use crate::record::{EventRecord, Happening, TopicRole, idempotency_key};
use crate::sabotage::{self, Guard};

impl Draft<'_> {
    pub(super) fn events(
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
        let pen = self.pen;
        if pen.is_repeatable
            && !sabotage::is_off(Guard::Repeats)
            && self.state(of).is_some_and(|state| state.is_repeat(&source.event_id))
        {
            return Ok(());
        }
        let connection = source.connection_id().map(ConnectionId::from);
        let (actions, sequence, owner_epoch) = match self.state(of) {
            Some(state) => (
                state.entering(source),
                Some(state.sequence(connection.as_ref()) + 1),
                state.owner_epoch,
            ),
            None => (self.entering_late(of, source), None, of.owner_epoch),
        };
        self.is_late |= sequence.is_none();
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
            state.follow(&source.event_id);
            if pen.is_repeatable {
                state.remember(&source.event_id);
            }
        }
        self.tally.event(EventKind::Event);
        let class = if actions.is_empty() { LagClass::Ordinary } else { LagClass::Action };
        if let Some(created_at) = source.created_at {
            self.tally.created_at.push((class, created_at));
        }
        Ok(())
    }

    /// Sends an event and its action copies; false when it is too large even without `unmapped`.
    pub(super) fn write(
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

    pub(super) fn dead(
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
}
