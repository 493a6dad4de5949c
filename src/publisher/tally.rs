//! What a transaction will have done, counted only once it is committed.
//!
//! Promises: a draft that is thrown away leaves no trace in the metrics.
//!
//! Knows nothing of: records.

use std::time::Duration;

use tokio::time::Instant;

use crate::ids::Timestamp;
use crate::metrics::{
    ActionLabel, Certainty, DeadLetterReason, EventKind, GapCause, LagClass, Metrics,
};

/// The counts of one draft.
#[derive(Default)]
pub(super) struct Tally {
    pub(super) received: u64,
    events: [u64; EventKind::ALL.len()],
    pub(super) actions: Vec<ActionLabel>,
    pub(super) gaps: Vec<(GapCause, Certainty)>,
    pub(super) dead_letters: Vec<DeadLetterReason>,
    /// When the events were made at the source.
    pub(super) created_at: Vec<(LagClass, Timestamp)>,
    /// When the answers were received.
    pub(super) received_at: Vec<(Option<Instant>, Timestamp)>,
}

const SECOND: Duration = Duration::from_secs(1);

impl Tally {
    pub(super) fn event(&mut self, kind: EventKind) {
        self.events[kind as usize] += 1;
    }

    /// Shows the counts: the transaction is committed.
    pub(super) fn show(&self, metrics: &Metrics) {
        let now = Timestamp::now();
        metrics.events_received(self.received);
        for (kind, count) in EventKind::ALL.iter().zip(self.events) {
            metrics.events_published(*kind, count);
        }
        for action in &self.actions {
            metrics.action_published(*action);
        }
        for (cause, certainty) in &self.gaps {
            metrics.gap_published(*cause, *certainty);
        }
        for reason in &self.dead_letters {
            metrics.dead_letter(*reason);
        }
        // by clocks that agree to a second, as times at the source have no parts of one
        let ahead = self.created_at.iter().filter(|(_, at)| at.since(now) > SECOND);
        metrics.events_ahead(ahead.count() as u64);
        for (class, created_at) in &self.created_at {
            metrics.event_lag(*class, now.since(*created_at));
        }
        for (received, received_at) in &self.received_at {
            // what an earlier process received is known by the wall clock only
            let delay =
                received.map_or_else(|| now.since(*received_at), |received| received.elapsed());
            metrics.commit_delay(delay);
        }
    }
}
