//! What happens in the demo, and when.
//!
//! Promises:
//! - a user who must act, a queue that dies and a status that speaks for itself are in every plan,
//!   the last of them 5 s after its start at the latest;
//! - two synchronizations of a user never overlap;
//! - everything has been said by the bank before the span is over.
//!
//! Knows nothing of: clocks, users' names, the simulator's state.

use std::time::Duration;

use crate::simulator::{Mode, Status, Sync};

/// The user whose bank refuses the password.
pub(super) const REFUSED: usize = 1;
/// The user whose queue dies.
pub(super) const FORGOTTEN: usize = 2;
/// The user whose consent runs out without an event of that name.
pub(super) const EXPIRED: usize = 3;
/// As many users have a part of their own: user 0 and those above only synchronize.
const PARTS: usize = 3;

/// How long a synchronization takes.
const SYNC: Duration = Duration::from_millis(1500);
/// The time between the starts of two synchronizations, where users are few.
const APART: Duration = Duration::from_millis(250);

/// One thing that happens to a user.
#[derive(Clone, Debug)]
pub(super) enum Act {
    /// A synchronization starts.
    Synchronize(Sync),
    /// A synchronization starts, and Linxo forgets the queue before it was asked.
    Forget(Sync),
}

/// An act, whose, and how long after the start.
#[derive(Clone, Debug)]
pub(super) struct Planned {
    pub(super) after: Duration,
    pub(super) user: usize,
    pub(super) act: Act,
}

/// The acts for so many users in this span, in order.
pub(super) fn plan(users: usize, span: Duration) -> Vec<Planned> {
    let sync = |ending| Sync { over_ms: millis(SYNC), ..Sync::ending(ending) };
    let fraction = |percent: u32, most: u64| (span * percent / 100).min(Duration::from_secs(most));
    let refused = Sync { channel: Some(Mode::Embedded), ..sync(Status::AuthFailed) };
    let expired = Sync { as_event: false, ..sync(Status::TokenExpired) };
    let forgotten = Sync { over_ms: millis(SYNC / 2), ..sync(Status::Success) };
    // the bridge knows the connection when the queue dies
    let forgotten_at = fraction(45, 3);
    let known = Sync { over_ms: millis(SYNC.min(forgotten_at / 2)), ..sync(Status::Success) };
    let last_start = span.saturating_sub(SYNC);
    let planned = |after, user, act| Planned { after, user, act };
    let mut acts = vec![
        planned(fraction(10, 1), REFUSED, Act::Synchronize(refused)),
        planned(Duration::ZERO, FORGOTTEN, Act::Synchronize(known)),
        planned(forgotten_at, FORGOTTEN, Act::Forget(forgotten)),
        planned(fraction(70, 5).min(last_start), EXPIRED, Act::Synchronize(expired)),
    ];
    let others: Vec<usize> = (0..users).filter(|user| !(1..=PARTS).contains(user)).collect();
    let count = u32::try_from(others.len()).unwrap_or(u32::MAX).max(1);
    let apart =
        APART.max((SYNC + APART) / count).min((last_start / count).max(Duration::from_millis(1)));
    // with one user or two, `last_start / count` may be the smaller: no overlap comes first
    let apart = apart.max((SYNC + APART) / count);
    let mut after = Duration::ZERO;
    for (turn, user) in others.iter().cycle().enumerate() {
        if after > last_start {
            break;
        }
        let extras = turn % 4 == 3;
        let act = Act::Synchronize(Sync { extras, ..sync(Status::Success) });
        acts.push(planned(after, *user, act));
        after += apart;
    }
    acts.sort_by_key(|planned| planned.after);
    acts
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn over(act: &Act) -> Duration {
        let (Act::Synchronize(sync) | Act::Forget(sync)) = act;
        Duration::from_millis(sync.over_ms)
    }

    #[test]
    fn every_plan_has_its_three_parts_early_and_is_over_in_time() {
        for (users, secs) in [(4, 3), (12, 6), (12, 18), (500, 6), (500, 115)] {
            let span = Duration::from_secs(secs);
            let plan = plan(users, span);
            for part in [REFUSED, FORGOTTEN, EXPIRED] {
                let planned: Vec<_> = plan.iter().filter(|planned| planned.user == part).collect();
                let last = planned.last().unwrap();
                assert!(last.after <= Duration::from_secs(5));
                assert_eq!(matches!(last.act, Act::Forget(_)), part == FORGOTTEN);
            }
            let end = plan.iter().map(|planned| planned.after + over(&planned.act)).max();
            assert!(end.unwrap() <= span, "{users} users, {secs} s: {end:?}");
        }
    }

    #[test]
    fn synchronizations_of_a_user_do_not_overlap_and_every_user_has_one() {
        for (users, secs) in [(4, 6), (5, 18), (12, 6), (500, 10)] {
            let mut free_at: HashMap<usize, Duration> = HashMap::new();
            for planned in plan(users, Duration::from_secs(secs)) {
                let free = free_at.entry(planned.user).or_default();
                assert!(planned.after >= *free, "user {} of {users}", planned.user);
                *free = planned.after + over(&planned.act);
            }
            assert_eq!(free_at.len(), users);
        }
    }
}
