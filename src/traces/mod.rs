//! How long each step of an answer took, told for some answers to whoever collects traces.
//!
//! One trace an answer with events, from the question to the commit. It is made whole once the
//! transaction is known to be committed, from the moments that the row and the transaction carry
//! anyway: nothing is handed from step to step, and a question that is answered empty passes no line
//! of this room.
//!
//! Promises:
//! - without `telemetry.otlp_endpoint` no trace is made and nothing is sent;
//! - whether an answer is traced follows from the number of its row, so that it stays so whatever is
//!   tried again;
//! - publishing never waits for a collector: what it does not take in time is dropped, and counted;
//! - a trace names no user, no queue and nothing of what was received.
//!
//! The only room that names `opentelemetry`.
//!
//! Knows nothing of: how rows are kept and published.

mod exporter;
mod span;

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::time::Instant;

pub use exporter::{Exporter, TracesError, reach};

use crate::config::Telemetry;
use crate::ids::Timestamp;
use crate::metrics::{Metrics, TraceOutcome, TransactionOutcome};

/// Traces that wait for the collector; more are dropped. One takes less than a kilobyte.
const WAITING: usize = 2048;

/// An answer that was published.
#[derive(Clone, Debug)]
pub struct Trace {
    /// The number of its row.
    pub row: u64,
    /// The user's control partition.
    pub partition: i32,
    /// The number of its queue among the subscription's.
    pub generation: i32,
    /// How many events it held.
    pub events: u64,
    /// Whether it was published by an instance that no longer owned the partition.
    pub is_late: bool,
    /// When the question began.
    pub asked_at: Timestamp,
    /// When the answer was in.
    pub received_at: Timestamp,
    /// The same by the clock that never jumps; none when another process received it.
    pub received: Option<Instant>,
    /// When it was on disk; none when it was read back from there.
    pub synced: Option<Instant>,
    /// What carried it.
    pub transaction: Arc<Transaction>,
}

/// A transaction that was committed.
#[derive(Clone, Debug)]
pub struct Transaction {
    /// How many rows it carried.
    pub rows: usize,
    /// When it began.
    pub began: Instant,
    /// When no more rows were taken; none where it is not known.
    pub gathered: Option<Instant>,
    /// When every record was delivered; none where it is not known.
    pub delivered: Option<Instant>,
    /// When it was known to be committed.
    pub committed: Instant,
    /// How many times it was tried, this one included.
    pub attempt: u32,
    /// The attempts before it, the first few.
    pub failed: Vec<Failed>,
}

/// An attempt to publish that was not committed, or not known to be.
#[derive(Clone, Debug)]
pub struct Failed {
    /// When that was noticed.
    pub at: Instant,
    /// How it ended.
    pub outcome: TransactionOutcome,
    /// Why.
    pub error: String,
}

/// Takes traces. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Traces {
    sending: Option<Sending>,
}

#[derive(Clone, Debug)]
struct Sending {
    traces: mpsc::Sender<Trace>,
    /// Rows whose hash is below are traced.
    below: u64,
    metrics: Arc<Metrics>,
}

impl Traces {
    /// Takes none.
    pub fn none() -> Self {
        Self::default()
    }

    /// Starts to tell the collector of a configuration; without one, takes none.
    pub fn start(
        settings: &Telemetry,
        instance: &str,
        metrics: &Arc<Metrics>,
    ) -> Result<(Self, Option<Exporter>), TracesError> {
        let Some(endpoint) = &settings.otlp_endpoint else { return Ok((Self::none(), None)) };
        let (traces, taken) = mpsc::channel(WAITING);
        let exporter = Exporter::start(endpoint, instance, taken, Arc::clone(metrics))?;
        let below = share(settings.sample);
        let sending = Sending { traces, below, metrics: Arc::clone(metrics) };
        Ok((Self { sending: Some(sending) }, Some(exporter)))
    }

    /// Whether the answer of this row is traced.
    pub fn wants(&self, row: u64) -> bool {
        self.sending.as_ref().is_some_and(|sending| hash(row) < sending.below)
    }

    /// Takes a trace, or drops it when too many wait.
    pub fn offer(&self, trace: Trace) {
        let Some(Sending { traces, metrics, .. }) = &self.sending else { return };
        if traces.try_send(trace).is_err() {
            metrics.traces(TraceOutcome::Dropped, 1);
        }
    }
}

/// The hashes below which a share of them lies.
fn share(sample: f64) -> u64 {
    // a conversion ends at the limits of the type
    (sample * u64::MAX as f64) as u64
}

/// Neighbours have nothing in common: splitmix64.
fn hash(row: u64) -> u64 {
    let mut hash = row.wrapping_add(0x9e37_79b9_7f4a_7c15);
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn traces(sample: f64, room: usize) -> (Traces, mpsc::Receiver<Trace>, Arc<Metrics>) {
        let metrics = Arc::new(Metrics::new("1", "a").unwrap());
        let (traces, taken) = mpsc::channel(room);
        let sending = Sending { traces, below: share(sample), metrics: Arc::clone(&metrics) };
        (Traces { sending: Some(sending) }, taken, metrics)
    }

    #[test]
    fn the_share_of_answers_that_is_wished_is_traced_and_always_the_same() {
        for (sample, least, most) in
            [(0.0, 0, 0), (0.01, 900, 1_100), (0.5, 49_500, 50_500), (1.0, 100_000, 100_000)]
        {
            let (traces, _taken, _) = traces(sample, 1);
            let wanted = (1..=100_000).filter(|row| traces.wants(*row)).count();
            assert!((least..=most).contains(&wanted), "{sample}: {wanted}");
            assert!((1..=1_000).all(|row| traces.wants(row) == traces.wants(row)));
        }
        assert!((1..=1_000).all(|row| !Traces::none().wants(row)));
    }

    #[tokio::test]
    async fn what_has_no_room_is_dropped_and_counted() {
        let (traces, mut taken, metrics) = traces(1.0, 2);
        for row in 1..=5 {
            traces.offer(span::tests::trace(row));
        }
        assert_eq!(taken.recv().await.unwrap().row, 1);
        assert_eq!(taken.recv().await.unwrap().row, 2);
        assert!(taken.try_recv().is_err());
        assert!(metrics.text().contains("linxo_bridge_traces_total{outcome=\"dropped\"} 3\n"));
    }
}
