//! What is told on stderr while work goes on.
//!
//! Promises: on a terminal the progress of each second takes one line, the last; elsewhere it is a line
//! every ten seconds. A stderr that is closed ends nothing.
//!
//! Knows nothing of: what is told.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use tokio::time::{Interval, MissedTickBehavior, interval_at};

/// Somebody who may be reading.
pub(super) struct Teller {
    is_terminal: bool,
    is_progress_shown: bool,
}

impl Teller {
    pub(super) fn new() -> Self {
        Self { is_terminal: std::io::stderr().is_terminal(), is_progress_shown: false }
    }

    /// When progress is to be told.
    pub(super) fn ticks(&self) -> Interval {
        let every = Duration::from_secs(if self.is_terminal { 1 } else { 10 });
        let mut ticks = interval_at(tokio::time::Instant::now() + every, every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks
    }

    /// Tells how far the work is.
    pub(super) fn progress(&mut self, text: &str) {
        if self.is_terminal {
            self.clear();
            // whoever closed it does not want to know
            write!(std::io::stderr(), "{text}").ok();
            self.is_progress_shown = true;
        } else {
            self.say(text);
        }
    }

    /// Tells something that stays.
    pub(super) fn say(&mut self, text: &str) {
        self.clear();
        writeln!(std::io::stderr(), "{text}").ok();
    }

    fn clear(&mut self) {
        if std::mem::take(&mut self.is_progress_shown) {
            write!(std::io::stderr(), "\r\x1b[2K").ok();
        }
    }
}
