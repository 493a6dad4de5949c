//! A hashed timer wheel of two levels over dense indices.
//!
//! Promises:
//! - an entry is one 16-byte node in a doubly linked list of its slot: arming, moving and
//!   disarming touch three nodes at most, whatever the number of entries;
//! - no entry comes before its due time, and it comes at most one tick (16 ms) after it when the
//!   wheel is turned in time;
//! - nothing is allocated while turning but what the caller's list needs.
//!
//! An entry further away than the horizon (4.6 hours) comes at the horizon; the owner arms it
//! again. Knows nothing of: what an index stands for.

use std::time::Duration;

use tokio::time::Instant;

const TICK_MILLIS: u64 = 16;
const SLOTS: usize = 1024;
const ROUND: u32 = SLOTS as u32;
const HORIZON: u32 = (ROUND - 1) * ROUND;
const NONE: u32 = u32::MAX;

#[derive(Clone, Copy)]
struct Node {
    next: u32,
    previous: u32,
    due: u32,
    /// The slot whose list this node is in: near slots first, then far ones; `NONE` when disarmed.
    slot: u32,
}

/// Which indices are due when. Ticks wrap around after two years; only differences count.
pub struct Wheel {
    start: Instant,
    /// The next tick to be turned; entries keep its low 32 bits.
    at: u64,
    nodes: Vec<Node>,
    /// First node of each list: `SLOTS` near ones of a tick, `SLOTS` far ones of a round.
    heads: Box<[u32]>,
    occupied: Box<[u64]>,
    armed: usize,
}

impl Wheel {
    /// An empty wheel whose first tick is at `start`.
    pub fn new(start: Instant) -> Self {
        Self {
            start,
            at: 0,
            nodes: Vec::new(),
            heads: vec![NONE; 2 * SLOTS].into_boxed_slice(),
            occupied: vec![0; 2 * SLOTS / 64].into_boxed_slice(),
            armed: 0,
        }
    }

    /// How many entries are armed.
    pub fn armed(&self) -> usize {
        self.armed
    }

    /// Bytes one entry takes.
    pub const fn bytes_per_entry() -> usize {
        size_of::<Node>()
    }

    /// Arms `index` for `due`, wherever it was before. A time that has passed is due at once.
    pub fn arm(&mut self, index: u32, due: Instant) {
        self.disarm(index);
        let needed = index as usize + 1;
        if self.nodes.len() < needed {
            self.nodes.resize(needed, Node { next: NONE, previous: NONE, due: 0, slot: NONE });
        }
        let ahead = self.tick_at_or_after(due).wrapping_sub(self.at as u32);
        let ahead = if ahead > u32::MAX / 2 { 0 } else { ahead.min(HORIZON) };
        self.link(index, (self.at as u32).wrapping_add(ahead));
        self.armed += 1;
    }

    /// Takes `index` out of the wheel, if it is there.
    pub fn disarm(&mut self, index: u32) {
        let Some(&Node { next, previous, slot, .. }) = self.nodes.get(index as usize) else {
            return;
        };
        if slot == NONE {
            return;
        }
        if previous == NONE {
            self.heads[slot as usize] = next;
            if next == NONE {
                self.occupied[slot as usize / 64] &= !(1 << (slot % 64));
            }
        } else {
            self.nodes[previous as usize].next = next;
        }
        if next != NONE {
            self.nodes[next as usize].previous = previous;
        }
        self.nodes[index as usize].slot = NONE;
        self.armed -= 1;
    }

    /// When `index` is due, to the tick; `None` when it is not armed.
    pub fn due(&self, index: u32) -> Option<Instant> {
        let node = self.nodes.get(index as usize).filter(|node| node.slot != NONE)?;
        Some(self.instant_of(node.due))
    }

    /// When the wheel has to be turned next; it may then have nothing to hand out yet.
    pub fn earliest(&self) -> Option<Instant> {
        if self.armed == 0 {
            return None;
        }
        let near = next_occupied(&self.occupied[..SLOTS / 64], self.at as u32 % ROUND);
        let round = self.at.div_ceil(u64::from(ROUND));
        let to_round = (round * u64::from(ROUND) - self.at) as u32;
        let far = next_occupied(&self.occupied[SLOTS / 64..], round as u32 % ROUND)
            .map(|rounds| to_round + rounds * ROUND);
        let ahead = near.into_iter().chain(far).min()?;
        Some(self.instant_of((self.at as u32).wrapping_add(ahead)))
    }

    /// Turns the wheel to `now` and appends what has become due, disarmed, to `due`.
    pub fn turn(&mut self, now: Instant, due: &mut Vec<u32>) {
        let Some(mut left) = self.ticks_until(now) else { return };
        loop {
            if self.at.is_multiple_of(u64::from(ROUND)) {
                self.cascade();
            }
            self.take(self.at as u32 % ROUND, due);
            if left == 0 {
                self.at += 1;
                return;
            }
            let to_round = ROUND - self.at as u32 % ROUND;
            let to_next = next_occupied(&self.occupied[..SLOTS / 64], self.at as u32 % ROUND);
            let step = to_round.min(to_next.unwrap_or(ROUND)).min(left).max(1);
            self.at += u64::from(step);
            left -= step;
        }
    }

    /// How many ticks past `at` have been reached by `now`; `None` when `at` itself has not.
    fn ticks_until(&self, now: Instant) -> Option<u32> {
        let millis = now.saturating_duration_since(self.start).as_millis() as u64;
        let ahead = ((millis / TICK_MILLIS) as u32).wrapping_sub(self.at as u32);
        (ahead <= u32::MAX / 2).then_some(ahead)
    }

    fn tick_at_or_after(&self, due: Instant) -> u32 {
        let since = due.saturating_duration_since(self.start);
        let nanos_per_tick = u128::from(TICK_MILLIS) * 1_000_000;
        since.as_nanos().div_ceil(nanos_per_tick) as u32
    }

    fn instant_of(&self, tick: u32) -> Instant {
        let ahead = i64::from(tick.wrapping_sub(self.at as u32) as i32);
        self.start + Duration::from_millis(self.at.saturating_add_signed(ahead) * TICK_MILLIS)
    }

    fn link(&mut self, index: u32, due: u32) {
        let slot = if due.wrapping_sub(self.at as u32) < ROUND {
            due % ROUND
        } else {
            ROUND + (due / ROUND) % ROUND
        };
        let head = self.heads[slot as usize];
        if head != NONE {
            self.nodes[head as usize].previous = index;
        }
        self.nodes[index as usize] = Node { next: head, previous: NONE, due, slot };
        self.heads[slot as usize] = index;
        self.occupied[slot as usize / 64] |= 1 << (slot % 64);
    }

    /// Empties the list of `slot` and hands each index on.
    fn empty(&mut self, slot: u32, mut each: impl FnMut(&mut Self, u32)) {
        let mut index = std::mem::replace(&mut self.heads[slot as usize], NONE);
        self.occupied[slot as usize / 64] &= !(1 << (slot % 64));
        while index != NONE {
            let next = self.nodes[index as usize].next;
            self.nodes[index as usize].slot = NONE;
            each(self, index);
            index = next;
        }
    }

    fn cascade(&mut self) {
        let slot = ROUND + (self.at / u64::from(ROUND)) as u32 % ROUND;
        self.empty(slot, |wheel, index| {
            let due = wheel.nodes[index as usize].due;
            wheel.link(index, due);
        });
    }

    fn take(&mut self, slot: u32, due: &mut Vec<u32>) {
        self.empty(slot, |wheel, index| {
            wheel.armed -= 1;
            due.push(index);
        });
    }
}

/// The distance from `from` to the next set bit, going round once.
fn next_occupied(bits: &[u64], from: u32) -> Option<u32> {
    let total = bits.len() as u32 * 64;
    let words = bits.len() as u32;
    let first = from / 64;
    for step in 0..=words {
        let word_index = (first + step) % words;
        let mut word = bits[word_index as usize];
        if step == 0 {
            word &= u64::MAX << (from % 64);
        } else if step == words {
            word &= !(u64::MAX << (from % 64));
        }
        if word != 0 {
            let bit = word_index * 64 + word.trailing_zeros();
            return Some((bit + total - from) % total);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn turned(wheel: &mut Wheel, at: Instant) -> Vec<u32> {
        let mut due = Vec::new();
        wheel.turn(at, &mut due);
        due.sort_unstable();
        due
    }

    #[test]
    fn an_entry_comes_within_a_tick_of_its_due_time_and_never_before() {
        let start = Instant::now();
        let mut wheel = Wheel::new(start);
        wheel.arm(3, start + Duration::from_millis(1_000));
        assert_eq!(turned(&mut wheel, start + Duration::from_millis(999)), Vec::<u32>::new());
        assert_eq!(turned(&mut wheel, start + Duration::from_millis(1_016)), vec![3]);
        assert_eq!(wheel.armed(), 0);
    }

    #[test]
    fn a_moved_entry_comes_once_at_its_new_time() {
        let start = Instant::now();
        let mut wheel = Wheel::new(start);
        wheel.arm(0, start + Duration::from_secs(300));
        wheel.arm(1, start + Duration::from_secs(300));
        wheel.arm(0, start + Duration::from_secs(1));
        assert_eq!(turned(&mut wheel, start + Duration::from_secs(2)), vec![0]);
        assert_eq!(turned(&mut wheel, start + Duration::from_secs(301)), vec![1]);
        assert_eq!(turned(&mut wheel, start + Duration::from_secs(900)), Vec::<u32>::new());
    }

    #[test]
    fn a_time_beyond_the_horizon_comes_at_the_horizon() {
        let start = Instant::now();
        let mut wheel = Wheel::new(start);
        wheel.arm(0, start + Duration::from_secs(100 * 3600));
        let horizon = Duration::from_millis(u64::from(HORIZON) * TICK_MILLIS);
        assert_eq!(
            turned(&mut wheel, start + horizon - Duration::from_secs(17)),
            Vec::<u32>::new()
        );
        assert_eq!(turned(&mut wheel, start + horizon + Duration::from_secs(1)), vec![0]);
    }

    #[test]
    fn an_entry_is_sixteen_bytes() {
        assert_eq!(Wheel::bytes_per_entry(), 16);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Arm(u32, u64),
        Disarm(u32),
        Turn(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0..40_u32, 0..200_000_u64).prop_map(|(index, ahead)| Step::Arm(index, ahead)),
            (0..40_u32).prop_map(Step::Disarm),
            (0..60_000_u64).prop_map(Step::Turn),
        ]
    }

    proptest! {
        #[test]
        fn it_agrees_with_a_sorted_map_over_any_steps(
            offset in 0..40_000_000_u64,
            steps in proptest::collection::vec(step(), 1..200),
        ) {
            let start = Instant::now();
            let mut wheel = Wheel::new(start);
            let mut model: BTreeMap<u32, u64> = BTreeMap::new();
            let mut now = offset;
            let mut nothing = Vec::new();
            wheel.turn(start + Duration::from_millis(now), &mut nothing);
            for step in steps {
                match step {
                    Step::Arm(index, ahead) => {
                        wheel.arm(index, start + Duration::from_millis(now + ahead));
                        model.insert(index, now + ahead);
                    }
                    Step::Disarm(index) => {
                        wheel.disarm(index);
                        model.remove(&index);
                    }
                    Step::Turn(by) => {
                        now += by;
                        let got = turned(&mut wheel, start + Duration::from_millis(now));
                        for index in &got {
                            let due = model.remove(index);
                            prop_assert!(due.is_some_and(|due| due <= now), "early or unknown");
                        }
                        for due in model.values() {
                            prop_assert!(due + 2 * TICK_MILLIS > now, "missed {due} at {now}");
                        }
                    }
                }
                prop_assert_eq!(wheel.armed(), model.len());
                if let Some(first) = model.values().min() {
                    let earliest = wheel.earliest().map(|at| at - start);
                    prop_assert!(
                        earliest.is_some_and(|at| at <= Duration::from_millis(first.max(&now) + 2 * TICK_MILLIS)),
                        "would sleep past {first}: {earliest:?}"
                    );
                }
            }
        }
    }
}
