//! Which of the rows that were committed are traced, and what is told of them.
//!
//! Promises: only what is known to be committed is traced, and only answers with events.
//!
//! Knows nothing of: how a trace is told.

use std::sync::Arc;

use tokio::time::Instant;

use super::draft::Drafted;
use crate::journal::{AnswerKind, Change, Row};
use crate::metrics::TransactionOutcome;
use crate::traces::{Failed, Trace, Traces, Transaction};

/// Attempts that are told of; later ones are like them.
const TOLD: usize = 8;

/// When a transaction reached each of its steps.
#[derive(Clone, Copy)]
pub(super) struct Steps {
    pub(super) began: Instant,
    pub(super) gathered: Option<Instant>,
    pub(super) delivered: Option<Instant>,
    pub(super) committed: Instant,
    /// How many times it was tried, this one included.
    pub(super) attempt: u32,
}

/// Remembers an attempt that was not committed.
pub(super) fn note(
    failed: &mut Vec<Failed>,
    outcome: TransactionOutcome,
    error: &dyn std::error::Error,
) {
    if failed.len() < TOLD {
        failed.push(Failed { at: Instant::now(), outcome, error: error.to_string() });
    }
}

/// Tells of the rows of a committed transaction that are traced.
pub(super) fn tell(
    traces: &Traces,
    batch: &[Row],
    drafted: &[Drafted],
    steps: Steps,
    failed: &[Failed],
) {
    let mut transaction = None;
    for (row, drafted) in batch.iter().zip(drafted).filter(|(row, _)| traces.wants(row.number)) {
        let Change::Answered(answer) = &row.change else { continue };
        if answer.kind != AnswerKind::Events {
            continue;
        }
        let carried = transaction.get_or_insert_with(|| {
            let Steps { began, gathered, delivered, committed, attempt } = steps;
            let failed = failed.to_vec();
            Arc::new(Transaction {
                rows: batch.len(),
                began,
                gathered,
                delivered,
                committed,
                attempt,
                failed,
            })
        });
        traces.offer(Trace {
            row: row.number,
            partition: row.of.partition,
            generation: answer.generation,
            events: drafted.events,
            is_late: drafted.is_late,
            asked_at: answer.asked_at,
            received_at: answer.received_at,
            received: answer.received,
            synced: row.synced,
            transaction: Arc::clone(carried),
        });
    }
}
