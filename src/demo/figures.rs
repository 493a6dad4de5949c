//! Lag and headroom: from what the simulator wrote down, what was seen, and what `/metrics` says.
//!
//! Promises: lag is from the moment the source made an event to the moment a consumer could read
//! it, measured outside the bridge.
//!
//! Knows nothing of: how it is shown.

use std::collections::HashMap;
use std::time::Duration;

use crate::ids::Timestamp;
use crate::simulator::{Extract, Running};

/// Lags in milliseconds.
#[derive(Default)]
pub(super) struct Lags {
    made: HashMap<String, u64>,
    read: u32,
    all: Vec<u64>,
}

impl Lags {
    /// Notes that the event with this key (`queue_id/event_id`) could be read at a moment.
    pub(super) fn note(&mut self, key: &str, seen: Timestamp, simulator: &Running) {
        if !self.made.contains_key(key) {
            self.catch_up(simulator);
        }
        if let Some(made) = self.made.remove(key) {
            self.all.push(u64::try_from(seen.0).unwrap_or(0).saturating_sub(made));
        }
    }

    fn catch_up(&mut self, simulator: &Running) {
        let page = simulator.ledger_page(&Extract { from: self.read, ..Extract::default() });
        self.read += u32::try_from(page.events.len()).unwrap_or(0);
        for event in page.events {
            if let (Some(queue), Some(id)) = (&event.queue, &event.event_id) {
                self.made.insert(format!("{queue}/{id}"), event.made_at);
            }
        }
    }

    /// The lag that this share of events did not exceed; none before the first event.
    pub(super) fn quantile(&self, share: f64) -> Option<Duration> {
        let mut sorted = self.all.clone();
        sorted.sort_unstable();
        let rank = (sorted.len() as f64 * share).ceil() as usize;
        sorted.get(rank.saturating_sub(1)).map(|millis| Duration::from_millis(*millis))
    }
}

/// The value of a series of a metrics text; labels as they stand there.
fn value(text: &str, series: &str) -> Option<f64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))?;
    rest.trim().parse().ok()
}

/// What is shown of the bridge's own numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Health {
    /// Queues that live.
    pub(super) live: usize,
    /// Time left until the queue that was left alone longest would die; none when none lives.
    pub(super) headroom: Option<Duration>,
    /// Questions asked so far.
    pub(super) polls: u64,
}

/// Reads the bridge's numbers out of its metrics.
pub(super) fn health(text: &str, now: Timestamp, lifetime: Duration) -> Health {
    let oldest = value(text, "linxo_bridge_oldest_poll_timestamp_seconds").filter(|at| *at > 0.0);
    let age = oldest.map(|at| Duration::from_secs_f64((now.as_secs_f64() - at).max(0.0)));
    let polls = text
        .lines()
        .filter(|line| line.starts_with("linxo_bridge_polls_total{"))
        .filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok())
        .sum::<f64>();
    Health {
        live: value(text, "linxo_bridge_queues{state=\"live\"}").unwrap_or(0.0) as usize,
        headroom: age.map(|age| lifetime.saturating_sub(age)),
        polls: polls as u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_one_of_the_lags_seen() {
        let lags = Lags { all: (1..=100).rev().collect(), ..Lags::default() };
        assert_eq!(lags.quantile(0.5), Some(Duration::from_millis(50)));
        assert_eq!(lags.quantile(0.99), Some(Duration::from_millis(99)));
        assert_eq!(Lags::default().quantile(0.5), None);
    }

    #[test]
    fn headroom_is_what_the_oldest_question_leaves_of_a_life() {
        let text = "# HELP x\nlinxo_bridge_oldest_poll_timestamp_seconds 100.5\n\
                    linxo_bridge_queues{state=\"live\"} 12\n\
                    linxo_bridge_polls_total{outcome=\"empty\"} 3\n\
                    linxo_bridge_polls_total{outcome=\"events\"} 4\n";
        let health = health(text, Timestamp(103_000), Duration::from_secs(30));
        assert_eq!(health.headroom, Some(Duration::from_millis(27_500)));
        assert_eq!((health.live, health.polls), (12, 7));
    }
}
