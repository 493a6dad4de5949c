//! How long to wait before a queue is asked again, and how urgent that is.
//!
//! Promises:
//! - while a synchronization runs or is expected a queue is asked every `active`; after that the
//!   pause doubles with every empty answer until the keep-alive interval is reached;
//! - whatever the pause, a queue is asked at each moment of its phase, which comes once an interval:
//!   so it is never left alone for longer, whoever asks it, and a successor knows who was asked when;
//! - an active queue that waited for the keep-alive interval is owed a question like a quiet one;
//! - a queue with less than a third of its life left is urgent.
//!
//! Knows nothing of: the wheel, and of any clock.

use std::time::Duration;

use crate::ids::{Timestamp, UserId};

/// What a question is for; the order is the order in which a short budget is spent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// Less than a third of the queue's life is left.
    Urgent,
    /// A synchronization runs or is expected.
    Active,
    /// The queue is quiet and must not die.
    KeepAlive,
    /// The present state is listed after a gap.
    Reconciliation,
}

impl Class {
    /// All classes, most urgent first.
    pub const ALL: [Self; 4] = [Self::Urgent, Self::Active, Self::KeepAlive, Self::Reconciliation];

    /// The place of the class in [`Class::ALL`].
    pub fn place(self) -> usize {
        match self {
            Self::Urgent => 0,
            Self::Active => 1,
            Self::KeepAlive => 2,
            Self::Reconciliation => 3,
        }
    }
}

/// The intervals of the configuration, and what follows from them.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// The longest time between two questions to a queue.
    pub keep_alive: Duration,
    /// The time between two questions while a synchronization runs.
    pub active: Duration,
    /// How long after the last sign of a synchronization a queue stays active.
    pub active_for: Duration,
    /// How long the source keeps a queue that nobody asks.
    pub queue_lifetime: Duration,
    /// How long a refused credential is left alone.
    pub credential_retry: Duration,
}

impl Pace {
    /// The pause after the `empties`-th empty answer in a row once a queue is no longer active.
    pub fn pause(&self, empties: u8) -> Duration {
        let factor = 1_u32.checked_shl(u32::from(empties)).unwrap_or(u32::MAX);
        self.active.saturating_mul(factor).min(self.keep_alive)
    }

    /// The time from `now` to the next moment of the phase; above zero, at most the interval.
    pub fn until_phase(&self, now: Timestamp, phase: u64) -> Duration {
        let interval = self.interval_millis();
        let phase = phase % interval;
        let position = u64::try_from(now.0).unwrap_or(0) % interval;
        let ahead = (phase + interval - position) % interval;
        Duration::from_millis(if ahead == 0 { interval } else { ahead })
    }

    /// The last moment of the phase that was not after `until`: when a quiet queue was asked, if it
    /// was asked in turn until then.
    pub fn phase_before(&self, until: Timestamp, phase: u64) -> Timestamp {
        until.before(self.keep_alive - self.until_phase(until, phase))
    }

    /// Whether the phase had a moment after `since` and not after `now`: a queue whose turn came
    /// while nobody was asking has to be asked at once.
    pub fn was_missed(&self, since: Timestamp, now: Timestamp, phase: u64) -> bool {
        now.since(since) >= self.until_phase(since, phase)
    }

    /// The pace while publishing is held up: the source's queue is the first buffer, and nothing is
    /// asked more often than it must be.
    pub fn unhurried(self) -> Self {
        Self { active: self.keep_alive, ..self }
    }

    /// How long a question without an answer stays a suspicion before it is published as a gap: a
    /// fifteenth of the queue's life, 60 s of 15 min.
    pub fn suspicion(&self) -> Duration {
        self.queue_lifetime / 15
    }

    /// How long a question that may not be asked for want of room waits for the next look.
    pub fn no_room(&self) -> Duration {
        (self.keep_alive / 20).clamp(Duration::from_millis(20), Duration::from_secs(1))
    }

    /// How long after a question its queue becomes urgent.
    pub fn urgent_after(&self) -> Duration {
        self.queue_lifetime * 2 / 3
    }

    /// The class of a question to a queue that was last asked `age` ago.
    pub fn class(&self, age: Duration, is_active: bool) -> Class {
        if age >= self.urgent_after() {
            Class::Urgent
        } else if is_active && age < self.keep_alive {
            Class::Active
        } else {
            Class::KeepAlive
        }
    }

    fn interval_millis(&self) -> u64 {
        u64::try_from(self.keep_alive.as_millis()).unwrap_or(u64::MAX).max(1)
    }
}

/// A number that spreads users evenly: FNV-1a with a finalizer, the same in every build. The
/// partition is chosen by murmur2, so the users of a partition are spread as evenly as all.
pub fn phase_of(user: &UserId) -> u64 {
    let mut hash = user.as_str().bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    hash ^= hash >> 30;
    hash = hash.wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash ^= hash >> 27;
    hash = hash.wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACE: Pace = Pace {
        keep_alive: Duration::from_secs(300),
        active: Duration::from_secs(1),
        active_for: Duration::from_secs(120),
        queue_lifetime: Duration::from_secs(900),
        credential_retry: Duration::from_secs(300),
    };

    #[test]
    fn the_pause_doubles_up_to_the_keep_alive_interval() {
        assert_eq!(PACE.pause(0), Duration::from_secs(1));
        assert_eq!(PACE.pause(3), Duration::from_secs(8));
        assert_eq!(PACE.pause(9), Duration::from_secs(300));
        assert_eq!(PACE.pause(200), Duration::from_secs(300));
    }

    #[test]
    fn a_quiet_queue_is_asked_once_an_interval_at_its_phase() {
        let phase = 17_000;
        let mut now = Timestamp(1_699_800_017_005);
        for _ in 0..100 {
            let pause = PACE.until_phase(now, phase);
            assert!(
                pause <= PACE.keep_alive && pause >= PACE.keep_alive - Duration::from_millis(5)
            );
            now = Timestamp(now.0 + pause.as_millis() as i64 + 5);
        }
        assert_eq!(now.0.rem_euclid(300_000) - 17_000, 5);
    }

    #[test]
    fn a_phase_that_passed_while_nobody_asked_is_missed() {
        let phase = 100_000;
        let at = |secs: i64| Timestamp(300_000_000 + secs * 1000);
        assert!(!PACE.was_missed(at(10), at(90), phase));
        assert!(PACE.was_missed(at(10), at(100), phase));
        assert!(!PACE.was_missed(at(110), at(390), phase));
        assert!(PACE.was_missed(at(110), at(400), phase));
    }

    #[test]
    fn the_last_moment_of_a_phase_is_at_most_an_interval_ago() {
        let at = |secs: i64| Timestamp(300_000_000 + secs * 1000);
        assert_eq!(PACE.phase_before(at(100), 100_000), at(100));
        assert_eq!(PACE.phase_before(at(101), 100_000), at(100));
        assert_eq!(PACE.phase_before(at(99), 100_000), at(-200));
    }

    #[test]
    fn phases_are_spread_evenly() {
        let mut buckets = [0_u32; 10];
        for user in 0..10_000 {
            buckets[(phase_of(&UserId::from(format!("user-{user}"))) % 10) as usize] += 1;
        }
        assert!(buckets.iter().all(|&count| (850..1150).contains(&count)), "{buckets:?}");
    }

    #[test]
    fn a_third_of_the_life_left_is_urgent() {
        assert_eq!(PACE.class(Duration::from_secs(299), true), Class::Active);
        assert_eq!(PACE.class(Duration::from_secs(599), true), Class::KeepAlive);
        assert_eq!(PACE.class(Duration::from_secs(599), false), Class::KeepAlive);
        assert_eq!(PACE.class(Duration::from_secs(600), true), Class::Urgent);
    }
}
