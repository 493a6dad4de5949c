//! Synchronizations that start by themselves, at a rate, over all users.
//!
//! Promises:
//! - over a time the rate of events is the one asked for, to the length of one synchronization,
//!   however late anyone looks;
//! - the same seed chooses the same users and endings, for the same users in the same order;
//! - no task stands behind it: the world catches up when it is asked.
//!
//! Knows nothing of: queues, requests, HTTP.

use serde::{Deserialize, Serialize};

use super::Error;
use super::names::Lot;
use super::script::{Status, Sync};
use super::world::World;

/// More than any bridge takes.
const MOST_EVENTS_PER_SECOND: f64 = 1_000_000.0;

/// Synchronizations of users drawn one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Traffic {
    /// Events a second, over all users.
    pub events_per_second: f64,
    /// Milliseconds from the first event of a synchronization to its last.
    #[serde(default)]
    pub over_ms: u64,
    /// The share of synchronizations that end by asking the user to act, 0 to 1; half of those
    /// say so by an event of that name, half by the status only.
    #[serde(default)]
    pub asking: f64,
    /// Events of kinds nobody knows, and some without a connection.
    #[serde(default)]
    pub extras: bool,
    /// Milliseconds after which it stops by itself; none: when told.
    #[serde(default)]
    pub for_ms: Option<u64>,
}

impl Traffic {
    /// Successful synchronizations, each all at once, until stopped.
    pub fn of(events_per_second: f64) -> Self {
        Self { events_per_second, over_ms: 0, asking: 0.0, extras: false, for_ms: None }
    }

    fn check(&self) -> Result<(), Error> {
        let wrong = |reason: &str| Err(Error::BadOrder(reason.to_owned()));
        if !(self.events_per_second > 0.0 && self.events_per_second <= MOST_EVENTS_PER_SECOND) {
            return wrong("events_per_second must be above 0 and at most 1000000");
        }
        if !(0.0..=1.0).contains(&self.asking) {
            return wrong("asking must be 0 to 1");
        }
        Ok(())
    }
}

/// Traffic under way.
#[derive(Debug)]
pub(super) struct Flow {
    traffic: Traffic,
    /// When the next synchronization starts, in microseconds.
    next: f64,
    /// No more starts from this millisecond on.
    end: u64,
    draws: u64,
}

impl Flow {
    /// When the next synchronization starts, in milliseconds.
    pub(super) fn due(&self) -> u64 {
        let due = (self.next / 1000.0) as u64;
        if due < self.end { due } else { u64::MAX }
    }
}

impl World {
    /// Starts traffic, in place of what is under way.
    pub(super) fn start_traffic(&mut self, traffic: Traffic) -> Result<(), Error> {
        traffic.check()?;
        let now = self.advance();
        let end = traffic.for_ms.map_or(u64::MAX, |length| now.saturating_add(length));
        let draws = self.traffic.as_ref().map_or(0, |flow| flow.draws);
        self.traffic = Some(Flow { traffic, next: now as f64 * 1000.0, end, draws });
        Ok(())
    }

    /// Starts no more; the synchronizations under way go on to their end.
    pub(super) fn stop_traffic(&mut self) {
        let now = self.advance();
        if let Some(flow) = &mut self.traffic {
            flow.end = flow.end.min(now);
        }
    }

    /// Starts the synchronization that is due.
    pub(super) fn start_one(&mut self, at: u64) {
        let users = self.users.len();
        let Some(flow) = &mut self.traffic else { return };
        let traffic = flow.traffic;
        let mut draw = || {
            flow.draws += 1;
            self.names.draw_for(Lot::Traffic, flow.draws)
        };
        let user = (draw() * users as f64) as u32;
        let asks = draw() < traffic.asking;
        let which = (draw() * Status::ASKING.len() as f64) as usize;
        let ending = if asks { Status::ASKING.get(which).copied() } else { None };
        let as_event = draw() < 0.5;
        let sync = Sync {
            ending: ending.unwrap_or(Status::Success),
            as_event,
            extras: traffic.extras,
            over_ms: traffic.over_ms,
            ..Sync::default()
        };
        let begun = if users == 0 { Ok(0) } else { self.begin(user, &sync, at) };
        let events = begun.unwrap_or(0);
        self.book.totals.traffic += u64::from(events > 0);
        if let Some(flow) = &mut self.traffic {
            // A user without connections takes a turn as well, so that this comes to an end.
            flow.next += events.max(1) as f64 * 1_000_000.0 / flow.traffic.events_per_second;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::advance;

    use super::*;
    use crate::simulator::desk::Desk;
    use crate::simulator::options::Options;

    const SECOND: Duration = Duration::from_secs(1);

    fn desk_of(seed: u64, users: u32) -> Desk {
        let mut desk = Desk::new(Options { seed, ..Options::default() });
        for user in 0..users {
            desk.subscribe(&format!("user-{user}"));
        }
        desk
    }

    /// Who made which event when, counted from the start.
    fn made(desk: &mut Desk) -> Vec<(String, String, u64)> {
        let events = desk.ledger().events;
        let first = events.first().map_or(0, |event| event.made_at);
        let of = |text: &std::sync::Arc<str>| text.to_string();
        let told = events.iter().map(|event| {
            (of(&event.user), event.event_type.as_ref().map(of).unwrap(), event.made_at - first)
        });
        told.collect()
    }

    #[tokio::test(start_paused = true)]
    async fn events_come_at_the_rate_asked_for_however_late_anyone_looks() {
        let mut desk = desk_of(1, 20);
        desk.world.start_traffic(Traffic::of(100.0)).unwrap();
        advance(10 * SECOND).await;
        let made_late = made(&mut desk);
        assert_eq!(made_late.len(), 1_010, "ten a synchronization, one at the start and the end");
        let moments: Vec<u64> = made_late.iter().step_by(10).map(|(_, _, at)| *at).collect();
        assert_eq!(moments, (0..=100).map(|step| step * 100).collect::<Vec<u64>>());
        let users: std::collections::BTreeSet<_> =
            made_late.iter().map(|(user, ..)| user).collect();
        assert!(users.len() > 15, "{users:?}");
        assert_eq!(desk.world.stats().traffic, 101);
    }

    #[tokio::test(start_paused = true)]
    async fn the_same_seed_makes_the_same_traffic_however_often_anyone_looks() {
        let mut runs = Vec::new();
        for (seed, looks) in [(1, 1), (1, 60), (2, 1)] {
            let mut desk = desk_of(seed, 20);
            let traffic = Traffic { over_ms: 700, asking: 0.5, ..Traffic::of(50.0) };
            desk.world.start_traffic(traffic).unwrap();
            for _ in 0..looks {
                advance(6 * SECOND / looks).await;
                desk.world.stats();
            }
            runs.push(made(&mut desk));
        }
        assert_eq!(runs[0], runs[1]);
        assert_ne!(runs[0], runs[2]);
    }

    #[tokio::test(start_paused = true)]
    async fn traffic_ends_when_told_or_at_its_own_time_and_what_is_under_way_goes_on() {
        let mut desk = desk_of(1, 3);
        let traffic = Traffic { over_ms: 9_000, for_ms: Some(1_000), ..Traffic::of(10.0) };
        desk.world.start_traffic(traffic).unwrap();
        advance(30 * SECOND).await;
        assert_eq!(desk.world.stats().made, 10);
        desk.world.start_traffic(Traffic::of(10.0)).unwrap();
        advance(SECOND / 2).await;
        desk.world.stop_traffic();
        advance(30 * SECOND).await;
        assert_eq!(desk.world.stats().made, 20);
    }

    #[tokio::test(start_paused = true)]
    async fn the_share_that_asks_the_user_shows_as_events_and_as_statuses_only() {
        let mut desk = desk_of(1, 50);
        desk.world.start_traffic(Traffic { asking: 0.4, ..Traffic::of(1_000.0) }).unwrap();
        advance(10 * SECOND).await;
        desk.world.stop_traffic();
        let made = made(&mut desk);
        let count = |name: &str| made.iter().filter(|(_, kind, _)| kind == name).count();
        let total = count("SYNC_ALL_STARTED");
        let asking = count("SYNC_ALL_FAILED");
        assert!((10_000..10_020).contains(&made.len()), "whatever a synchronization is made of");
        assert!((total * 35 / 100..total * 45 / 100).contains(&asking), "{asking} of {total}");
        assert!(count("AUTH_FAILED") > 0 && count("TOKEN_EXPIRED") > 0);
        assert!(count("LIST_ACCOUNTS_FAILED") > asking / 3);
    }

    #[tokio::test(start_paused = true)]
    async fn traffic_without_meaning_is_refused_and_without_users_comes_to_nothing() {
        let mut desk = desk_of(1, 0);
        for rate in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(desk.world.start_traffic(Traffic::of(rate)).is_err());
        }
        assert!(desk.world.start_traffic(Traffic { asking: 1.5, ..Traffic::of(1.0) }).is_err());
        desk.world.start_traffic(Traffic::of(10.0)).unwrap();
        advance(SECOND).await;
        assert_eq!(desk.world.stats().made, 0);
    }
}
