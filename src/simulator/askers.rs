//! Who asks each queue, and whether two do at the same time.
//!
//! Promises:
//! - whoever asks is told apart by the name in its `User-Agent`;
//! - a queue that passes from one to another for good, and back later, is not contested: two in turn,
//!   neither of whom asks [`SETTLED`] times before the other does, are;
//! - a queue that only one ever asked costs one byte.
//!
//! Knows nothing of: what queues hold.

use std::collections::HashMap;

/// So many questions in a row, and the queue is one's own.
const SETTLED: u32 = 3;

/// Who asked, by a small number; 0 is nobody.
pub(super) type Asker = u8;

/// The names of those who ask, and the queues that more than one asked.
#[derive(Debug, Default)]
pub(super) struct Askers {
    names: Vec<String>,
    contests: HashMap<u32, Contest>,
}

/// How a queue passed from one to another.
#[derive(Debug)]
struct Contest {
    /// When it passed last from one who had settled.
    since: u64,
    /// How often it has passed since then.
    turns: u32,
    /// Questions of the present one in a row.
    in_a_row: u32,
    longest: u64,
}

impl Askers {
    /// The number of a name; all beyond the 255th are one.
    pub(super) fn number(&mut self, name: &str) -> Asker {
        let place = self.names.iter().position(|known| known == name).unwrap_or_else(|| {
            if self.names.len() < usize::from(Asker::MAX) {
                self.names.push(name.to_owned());
            }
            self.names.len() - 1
        });
        Asker::try_from(place + 1).unwrap_or(Asker::MAX)
    }

    /// A queue that `before` asked last is asked by `asker`.
    pub(super) fn note(&mut self, queue: u32, before: Asker, asker: Asker, now: u64) {
        if before == 0 {
            return;
        }
        if before == asker {
            if let Some(contest) = self.contests.get_mut(&queue) {
                contest.in_a_row += 1;
                if contest.in_a_row >= SETTLED {
                    contest.turns = 0;
                }
            }
            return;
        }
        let contest = self.contests.entry(queue).or_insert(Contest {
            since: now,
            turns: 0,
            in_a_row: SETTLED,
            longest: 0,
        });
        if contest.turns == 0 {
            contest.since = now;
        }
        contest.turns += 1;
        contest.in_a_row = 1;
        // once it passes to a successor, twice when the one before comes late with one more question
        if contest.turns > 1 {
            contest.longest = contest.longest.max(now - contest.since);
        }
    }

    /// For how long two asked a queue in turn, at most, in milliseconds.
    pub(super) fn contested(&self, queue: u32) -> u64 {
        self.contests.get(&queue).map_or(0, |contest| contest.longest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contested(askers: &str) -> u64 {
        let (mut known, mut before) = (Askers::default(), 0);
        for (second, name) in (0..).zip(askers.chars()) {
            let asker = known.number(&name.to_string());
            known.note(7, before, asker, second * 1000);
            before = asker;
        }
        known.contested(7)
    }

    #[test]
    fn two_in_turn_contest_a_queue_and_one_after_another_do_not() {
        assert_eq!(contested("aaaabbbbccccaaaa"), 0);
        assert_eq!(contested("aaabab"), 2_000);
        assert_eq!(contested("aaaabbabbbb"), 3_000);
        assert_eq!(contested("aaaababababaaaabbbb"), 7_000);
    }
}
