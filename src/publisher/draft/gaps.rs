//! What was or may have been lost, and the present state that closes it.
//!
//! Promises: a gap is published for the user and for each connection known, at once and again when
//! it is reconciled; a loss while a gap is open widens it.
//!
//! Knows nothing of: how events are decoded.

use super::Draft;
use crate::event::{self, ListedConnection, RaisedAction};
use crate::gap::{Cause, Certainty, Gap};
use crate::ids::{ConnectionId, GapId, QueueId, Timestamp};
use crate::journal::{Answer, Lost, RowOf};
use crate::metrics::{DeadLetterReason, EventKind};
use crate::publisher::outbox::{Outbox, Outgoing, SendFault};
use crate::queue_state::{QueueState, Recovery, Suspicion};
use crate::record::{
    EventRecord, HEADER_EVENT_ID, HEADER_EVENT_TYPE, HEADER_IDEMPOTENCY_KEY, HEADER_USER_ID,
    Happening, reconciliation_key,
};

impl Draft<'_> {
    pub(super) fn lost(
        &mut self,
        of: &RowOf,
        answer: &Answer,
        lost: &Lost,
        out: &mut impl Outbox,
    ) -> Result<(), SendFault> {
        let recovery = match self.lose(of, lost) {
            Some(recovery) => recovery,
            None => new_recovery(lost, &answer.queue, answer.generation, None),
        };
        self.gaps(of, &recovery, None, false, out)
    }

    /// A loss that no answer tells of. Published late it has no queue: only the state knew it.
    pub(super) fn missed(
        &mut self,
        of: &RowOf,
        lost: &Lost,
        out: &mut impl Outbox,
    ) -> Result<(), SendFault> {
        let recovery = match self.lose(of, lost) {
            Some(recovery) => recovery,
            None => new_recovery(lost, &QueueId::from(""), 0, None),
        };
        self.gaps(of, &recovery, None, false, out)
    }

    /// Holds a loss from the present queue, and that nothing is suspected beside it.
    fn lose(&mut self, of: &RowOf, lost: &Lost) -> Option<Recovery> {
        let state = self.state(of)?;
        let recovery = recovery_of(lost, state);
        if lost.to_reconcile {
            state.recovery = Some(Box::new(recovery.clone()));
        }
        state.suspicion = None;
        // whatever comes next does not follow what came last
        state.last_event_id = None;
        Some(recovery)
    }

    /// Holds that a question may have removed events; the first suspicion says since when. Where
    /// there is no state to hold it, it is a gap at once: nobody would come back to it.
    pub(super) fn suspected(
        &mut self,
        of: &RowOf,
        since: Timestamp,
        at: Timestamp,
        out: &mut impl Outbox,
    ) -> Result<(), SendFault> {
        let Some(state) = self.state(of) else {
            let lost = Lost {
                gap_id: GapId::random(),
                cause: Cause::AnswerLost,
                certainty: Certainty::Possible,
                from: since,
                to: at,
                to_reconcile: false,
            };
            return self.missed(of, &lost, out);
        };
        if state.suspicion.is_none() {
            let last_event_id = state.last_event_id.clone();
            state.suspicion = Some(Box::new(Suspicion { since, at, last_event_id }));
        }
        Ok(())
    }

    /// Publishes that an answer which is no list of events may have cost some.
    pub(super) fn suspect(
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

    pub(super) fn replaced(
        &mut self,
        of: &RowOf,
        next: &QueueId,
        lost: &Lost,
        out: &mut impl Outbox,
    ) -> Result<(), SendFault> {
        // the owner that comes after us finds the old queue dead and publishes the gap itself
        let Some(state) = self.state(of) else { return Ok(()) };
        let recovery = recovery_of(lost, state);
        state.pass_to(next.clone());
        state.asked_at = Some(lost.to);
        state.recovery = Some(Box::new(recovery.clone()));
        self.gaps(of, &recovery, Some(next), false, out)
    }

    pub(super) fn reconciled(
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
