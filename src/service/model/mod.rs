//! A model of the protocol: ownership, journal, fence, hand-over, and recovery after an unknown
//! commit, explored in every order of its steps.
//!
//! Two instances, one partition, two users, a few answers, and a number of faults. An instance may
//! stand still between any two steps, so being frozen needs no step of its own: others go on, and the
//! late owner wakes up. Steps have the names of what they stand for, and say where that is.
//!
//! Promises:
//! - whatever order of steps is possible within the bounds keeps P2, P3 and P5 (`promises`);
//! - each guard that is taken out breaks one of them, and the steps to that are told (`tests`).
//!
//! Left out: changes of subscriptions, dead queues and listings, a journal lost with its disk, several
//! partitions (a transaction is confirmed for all of its own or not at all), a broker that forgets
//! markers (`cleanse`), clocks.
//!
//! Knows nothing of: the code it speaks of. `tests` compares the one decision that is copied.

mod checker;
mod cluster;
mod group;
mod promises;
mod publisher;
mod tests;
mod worker;
mod world;

use std::collections::BTreeSet;
use std::fmt::{self, Display};

use Taking::{Of, One};
use checker::Protocol;
use promises::Seen;
use world::{Answers, USERS, World};

/// What keeps a promise, and can be taken out; the first seven in the program too (`sabotage::Guard`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Guard {
    /// Answers are on disk before their queue is asked again.
    Journal,
    /// The table of questions under way.
    Questions,
    /// The group confirms a transaction that writes states.
    Fence,
    /// It confirms after the records.
    FenceOrder,
    /// Reading waits for what is open.
    ReadToEnd,
    /// Numbers of rows never repeat.
    RowNumbers,
    /// The position is in the transaction.
    Position,
    /// It is looked whether the same grant still holds.
    Token,
    /// The metadata is taken before that look, not after.
    Metadata,
    /// Rows of a partition wait until the states of its present grant are held.
    Adopted,
    /// Rows wait until the group has said whose the partition is.
    Sure,
    /// A state takes no rows that another owner may have overtaken.
    Epoch,
    /// States that were read anew have what was committed meanwhile.
    Reread,
    /// A worker ends, and what it has under way, before the partition is let go of.
    StopFirst,
    /// A worker kept on for a lost partition ends when the group answers.
    LetGoOfLost,
    /// A partition is read for a new worker when the one before has nothing under way.
    OneWorker,
    /// No worker is made of a partition that is being revoked.
    NotRevoked,
    /// What a queue has under way and suspects outlives a new grant.
    Renewed,
}

/// How a step is taken by an instance: none when it cannot be. With a number of choices, or without.
#[derive(Clone, Copy)]
enum Taking {
    One(fn(&Model, &World, usize) -> Option<World>),
    Of(usize, fn(&Model, &World, usize, usize) -> Option<World>),
}

/// Steps of the protocol.
const STEPS: &[(&str, Taking)] = &[
    ("granted", One(Model::granted)),
    ("granted_nothing", One(Model::granted_nothing)),
    ("lost", One(Model::lost)),
    ("joined_anew", One(Model::joined_anew)),
    ("drained", One(Model::drained)),
    ("ended", One(Model::ended)),
    ("loaded", One(Model::loaded)),
    ("set_to_work", One(Model::set_to_work)),
    ("asked", Of(USERS, Model::asked)),
    ("kept", Of(3, Model::kept)),
    ("judged", Of(USERS, Model::judged)),
    ("restarted", One(Model::restarted)),
    ("sent", Of(3, Model::sent)),
    ("confirmed_early", One(Model::confirmed_early)),
    ("looked", One(Model::looked)),
    ("confirmed", One(Model::confirmed)),
    ("taken_in", One(Model::taken_in)),
    ("fenced", One(Model::fenced)),
    ("initialised", One(Model::initialised)),
    ("read_back", One(Model::read_back)),
    ("decided", One(Model::decided)),
    ("marked", One(Model::marked)),
];

/// Faults, and decisions of the group.
const FAULTS: &[(&str, Taking)] = &[
    ("revoked", One(Model::revoked)),
    ("drained_in_part", One(Model::drained_in_part)),
    ("session_ended", One(Model::session_ended)),
    ("regrouped", One(Model::regrouped)),
    ("unanswered", Of(2, Model::unanswered)),
    ("killed", One(Model::killed)),
    ("stopped", One(Model::stopped)),
    ("not_delivered", One(Model::not_delivered)),
    ("unknown", One(Model::unknown)),
    ("timed_out", One(Model::timed_out)),
];

/// A step of an instance, or of the world towards it.
#[derive(Clone, Copy)]
struct Step {
    who: usize,
    name: &'static str,
    taking: Taking,
    choice: usize,
    is_fault: bool,
}

impl Display for Step {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "{} {}", ["A", "B"][self.who], self.name)?;
        if let Of(..) = self.taking { write!(to, " {}", self.choice) } else { Ok(()) }
    }
}

/// The protocol within bounds.
struct Model {
    /// What the queues hold.
    answers: Answers,
    /// How many faults there may be.
    faults: u8,
    off: Option<Guard>,
    steps: Vec<Step>,
}

impl Model {
    /// With faults of these kinds, by their names.
    fn new(answers: Answers, faults: u8, kinds: &[&str], off: Option<Guard>) -> Self {
        let mut steps = Vec::new();
        let kinds = FAULTS.iter().filter(|(name, _)| kinds.contains(name));
        for (is_fault, &(name, taking)) in
            STEPS.iter().map(|step| (false, step)).chain(kinds.map(|fault| (true, fault)))
        {
            let choices = if let Of(choices, _) = taking { choices } else { 1 };
            for (choice, who) in (0..choices).flat_map(|choice| [(choice, 0), (choice, 1)]) {
                steps.push(Step { who, name, taking, choice, is_fault });
            }
        }
        Self { answers, faults, off, steps }
    }

    fn is_off(&self, guard: Guard) -> bool {
        self.off == Some(guard)
    }
}

impl Protocol for Model {
    type State = World;
    type Step = Step;

    fn start(&self) -> World {
        World::new(self.faults)
    }

    fn steps(&self) -> &[Step] {
        &self.steps
    }

    fn take(&self, world: &World, step: Step) -> Option<World> {
        let is_fault = self.is_fault(world, step);
        if is_fault && world.faults == 0 {
            return None;
        }
        let mut next = match step.taking {
            One(take) => take(self, world, step.who),
            Of(_, take) => take(self, world, step.who, step.choice),
        }?;
        next.faults -= u8::from(is_fault);
        Some(next)
    }

    fn is_fault(&self, world: &World, step: Step) -> bool {
        // some happen sooner or later: the session of a process that is gone ends, and a drain that
        // nothing helps is over
        match step.name {
            "session_ended" => world.instances[step.who].is_up(),
            "drained_in_part" => world.owner == Some(step.who),
            _ => step.is_fault,
        }
    }

    fn always(&self, world: &World) -> Result<(), &'static str> {
        promises::always(world)
    }

    fn at_rest(&self, world: &World) -> Result<(), &'static str> {
        promises::at_rest(self, world)
    }

    fn see(&self, before: &World, step: Step, after: &World, seen: &mut BTreeSet<&'static str>) {
        let taken = Seen::of(before, step, after);
        let there = promises::SIGHTS
            .iter()
            .filter(|(at, _, is_there)| *at == step.name && is_there(&taken));
        seen.extend(there.map(|(_, sight, _)| *sight));
    }
}
