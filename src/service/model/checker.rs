//! Explores every order in which the steps of a protocol can be taken.
//!
//! Breadth first, each state stored whole, so that a counterexample is a shortest one, and none means
//! that there is none within the bounds.
//!
//! Our own, since one loop is all that is needed of a checker. `stateright` (0.31, MIT, kept up) has it
//! too, beside actors and an explorer in the browser: a dozen crates more in every build of the
//! tests, a web server among them. It tells states apart by 64 bits of hash, and does not find the
//! states from which there is no way to rest.
//!
//! Promises: an exploration has seen all there is, or ends at the first fault.
//!
//! Knows nothing of: what the steps mean.

use std::collections::{BTreeSet, HashMap};
use std::fmt::{self, Display};
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::rc::Rc;

/// What is explored.
pub(super) trait Protocol {
    type State: Clone + Eq + Hash;
    type Step: Copy + Display;

    fn start(&self) -> Self::State;

    /// Every step there is, whether it can be taken or not.
    fn steps(&self) -> &[Self::Step];

    /// What follows a step; none when it cannot be taken.
    fn take(&self, state: &Self::State, step: Self::Step) -> Option<Self::State>;

    /// Whether a step may as well never be taken: where nothing else can follow, it is at rest.
    fn is_fault(&self, state: &Self::State, step: Self::Step) -> bool;

    /// What must hold in every state.
    fn always(&self, state: &Self::State) -> Result<(), &'static str>;

    /// What must hold where it is at rest.
    fn at_rest(&self, state: &Self::State) -> Result<(), &'static str>;

    /// Adds what is worth having seen of a step.
    fn see(
        &self,
        before: &Self::State,
        step: Self::Step,
        after: &Self::State,
        seen: &mut BTreeSet<&'static str>,
    );
}

/// What an exploration came to.
#[derive(Default)]
pub(super) struct Explored {
    pub(super) states: usize,
    pub(super) transitions: usize,
    /// How many states are at rest.
    pub(super) rests: usize,
    pub(super) seen: BTreeSet<&'static str>,
    pub(super) counterexample: Option<Counterexample>,
}

/// The steps to a state in which a promise is broken.
pub(super) struct Counterexample {
    pub(super) broken: &'static str,
    pub(super) steps: Vec<String>,
}

impl Display for Counterexample {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "{}, after", self.broken)?;
        let mut steps = self.steps.iter().enumerate();
        steps.try_for_each(|(number, step)| write!(to, "\n{:4}. {step}", number + 1))
    }
}

/// Explores everything, up to the first fault.
pub(super) fn explore<P: Protocol>(protocol: &P) -> Explored {
    let mut explored = Explored::default();
    let start = Rc::new(protocol.start());
    let mut places: HashMap<_, _, BuildHasherDefault<Mixer>> = HashMap::default();
    places.insert(Rc::clone(&start), 0);
    let mut states = vec![start];
    // from where, and by which step, each was found
    let mut came: Vec<Option<(usize, P::Step)>> = vec![None];
    // what follows each, one after another, and where that ends
    let (mut follows, mut ends) = (Vec::new(), Vec::new());
    let mut can_rest = Vec::new();
    let mut fault = None;
    for place in 0.. {
        let Some(state) = states.get(place).cloned() else { break };
        let mut is_at_rest = true;
        for &step in protocol.steps() {
            let Some(next) = protocol.take(&state, step) else { continue };
            is_at_rest &= protocol.is_fault(&state, step);
            protocol.see(&state, step, &next, &mut explored.seen);
            let next = Rc::new(next);
            let found = *places.entry(Rc::clone(&next)).or_insert(states.len() as u32);
            if found as usize == states.len() {
                states.push(next);
                came.push(Some((place, step)));
            }
            follows.push(found);
        }
        ends.push(follows.len());
        can_rest.push(is_at_rest);
        explored.rests += usize::from(is_at_rest);
        let held = protocol.always(&state);
        let held = if is_at_rest { held.and_then(|()| protocol.at_rest(&state)) } else { held };
        if let Err(broken) = held {
            fault = Some((place, broken));
            break;
        }
    }
    explored.states = states.len();
    explored.transitions = follows.len();
    if fault.is_none() {
        fault = trap(&follows, &ends, can_rest).map(|place| (place, "there is no way to rest"));
    }
    explored.counterexample = fault.map(|(place, broken)| {
        let way = std::iter::successors(came[place], |(before, _)| came[*before]);
        let mut steps: Vec<String> = way.map(|(_, step)| step.to_string()).collect();
        steps.reverse();
        Counterexample { broken, steps }
    });
    explored
}

/// The first state from which no way leads to rest.
fn trap(follows: &[u32], ends: &[usize], mut can_rest: Vec<bool>) -> Option<usize> {
    loop {
        let mut is_same = true;
        for place in (0..can_rest.len()).rev().filter(|place| *place < ends.len()) {
            let begin = place.checked_sub(1).map_or(0, |before| ends[before]);
            let mut next = follows[begin..ends[place]].iter();
            if !can_rest[place] && next.any(|next| can_rest[*next as usize]) {
                can_rest[place] = true;
                is_same = false;
            }
        }
        if is_same {
            return can_rest.iter().position(|can| !can);
        }
    }
}

/// Mixes the fields of a state into a hash: the standard one takes most of a debug build's time, to
/// guard against an enemy that is not here.
#[derive(Default)]
struct Mixer(u64);

impl Hasher for Mixer {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn write_u8(&mut self, value: u8) {
        self.write_u64(u64::from(value));
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = (self.0.rotate_left(5) ^ value).wrapping_mul(0x517c_c1b7_2722_0a95);
    }

    fn write_usize(&mut self, value: usize) {
        self.write_u64(value as u64);
    }

    fn write_isize(&mut self, value: isize) {
        self.write_u64(value as u64);
    }

    fn finish(&self) -> u64 {
        self.0.rotate_left(26)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From 1, by adding 1 or doubling, to 8; what is a pit is not left.
    struct Walk {
        broken: u8,
        pit: u8,
    }

    impl Protocol for Walk {
        type State = u8;
        type Step = char;

        fn start(&self) -> u8 {
            1
        }

        fn steps(&self) -> &[char] {
            &['+', '*']
        }

        fn take(&self, state: &u8, step: char) -> Option<u8> {
            let next = if step == '+' { state + 1 } else { state * 2 };
            Some(if *state == self.pit { self.pit } else { next }).filter(|next| *next <= 8)
        }

        fn is_fault(&self, _: &u8, _: char) -> bool {
            false
        }

        fn always(&self, state: &u8) -> Result<(), &'static str> {
            if *state == self.broken { Err("broken") } else { Ok(()) }
        }

        fn at_rest(&self, state: &u8) -> Result<(), &'static str> {
            if *state == 8 { Ok(()) } else { Err("not there") }
        }

        fn see(&self, _: &u8, _: char, after: &u8, seen: &mut BTreeSet<&'static str>) {
            seen.extend((*after == 5).then_some("five"));
        }
    }

    #[test]
    fn all_is_seen_and_the_shortest_way_to_a_fault_is_told() {
        let explored = explore(&Walk { broken: 0, pit: 0 });
        assert!(explored.counterexample.is_none());
        assert_eq!((explored.states, explored.rests, explored.seen.len()), (8, 1, 1));

        let told = explore(&Walk { broken: 6, pit: 0 }).counterexample.unwrap().to_string();
        assert_eq!(told, "broken, after\n   1. +\n   2. +\n   3. *");

        let trapped = explore(&Walk { broken: 0, pit: 5 }).counterexample.unwrap();
        assert_eq!((trapped.broken, trapped.steps.len()), ("there is no way to rest", 3));
    }
}
