//! The simulator's time: milliseconds since it started.
//!
//! Promises:
//! - it stands still and moves with tokio's clock, so that tests can pause it;
//! - wall clock times in events and in the ledger are derived from it, so both always agree.
//!
//! Knows nothing of: queues, users, HTTP.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// Reads the time since the simulator started.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    started: Instant,
    started_epoch: u64,
}

impl Clock {
    /// Starts at zero, now.
    pub(super) fn start() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Self { started: Instant::now(), started_epoch: millis(since) }
    }

    /// Milliseconds since the start.
    pub(super) fn now(&self) -> u64 {
        millis(self.started.elapsed())
    }

    /// A moment of this clock as milliseconds since 1970.
    pub(super) fn epoch(&self, moment: u64) -> u64 {
        self.started_epoch.saturating_add(moment)
    }
}

/// A duration in whole milliseconds.
pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
