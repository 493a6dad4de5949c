//! What is promised of the protocol (design, 9), and what an exploration has to have seen.
//!
//! Promises: P2, P3 and P5 as far as they can be told without clocks. That sequenced events keep the
//! order of their queue is asked for across epochs, which is more than P4 says.
//!
//! Knows nothing of: how steps are taken.

use super::world::{ANSWERS, Doing, Event, Instance, Order, USERS, World};
use super::{Model, Step};

/// What must hold in every state.
pub(super) fn always(world: &World) -> Result<(), &'static str> {
    if let Some(broken) = world.broken {
        return Err(broken);
    }
    for user in 0..USERS {
        let states = world.queues.iter().filter(|record| record.key == user && !record.is_open);
        let written = states.map(|record| (record.value.owner_epoch, record.value.sequence));
        if !written.is_sorted() {
            return Err("P5: a late owner's state wins");
        }
        sequences(&world.events[2 * user..2 * user + 2])?;
    }
    // who has not heard of it yet does not reach the group
    let was_told = |of: &Instance| of.is_sure && !of.is_owned;
    if world.instances.iter().any(|of| was_told(of) && of.order != Order::None) {
        return Err("P5: a queue is asked by an instance that was told it is another's");
    }
    Ok(())
}

/// The events of a user, in the order of its queue, are counted from 1 without holes or repeats.
fn sequences(events: &[Option<Event>]) -> Result<(), &'static str> {
    let counted = events.iter().flatten();
    let counted: Vec<(u8, u8)> =
        counted.filter_map(|event| Some((event.sequence?, event.owner_epoch))).collect();
    let sequences = counted.iter().map(|(sequence, _)| *sequence);
    if !sequences.clone().is_sorted() {
        return Err("P4: events are out of the order of their queue");
    }
    if !sequences.eq(1..=counted.len() as u8) {
        return Err("P5: sequences repeat or have holes");
    }
    let is_rising = counted.iter().map(|(_, owner_epoch)| owner_epoch).is_sorted();
    if is_rising { Ok(()) } else { Err("P5: an owner epoch falls") }
}

/// What must hold where nothing but a fault can follow.
pub(super) fn at_rest(model: &Model, world: &World) -> Result<(), &'static str> {
    if world.handed != model.answers {
        return Err("P1: a queue is asked by nobody");
    }
    for answer in (0..ANSWERS).filter(|answer| world.handed & (1 << answer) != 0) {
        let is_published = world.events[answer].is_some();
        if world.journaled & (1 << answer) != 0 {
            if !is_published {
                return Err("P2: a journaled answer is not published");
            }
        } else if !is_published && world.gaps & (1 << answer) == 0 {
            return Err("P3: a lost answer lies in no gap");
        }
    }
    Ok(())
}

/// A step that was taken, by whom, and what followed.
pub(super) struct Seen<'a> {
    who: usize,
    before: &'a World,
    after: &'a World,
    old: &'a Instance,
    new: &'a Instance,
}

impl<'a> Seen<'a> {
    pub(super) fn of(before: &'a World, step: Step, after: &'a World) -> Self {
        let who = step.who;
        Self { who, before, after, old: &before.instances[who], new: &after.instances[who] }
    }

    fn other(&self) -> &Instance {
        &self.before.instances[1 - self.who]
    }

    fn is_given_up(&self) -> bool {
        self.new.doing == Doing::Idle
    }

    fn has_published(&self) -> bool {
        self.new.rows.len() < self.old.rows.len()
    }

    /// Whether rows may have been committed by a producer that was thrown away.
    fn is_unknown(&self) -> bool {
        matches!(self.old.doing, Doing::Reconnecting { rows: 1.., .. })
    }

    fn has_row(&self, is_such: fn(&Instance, u8, Option<u8>) -> bool) -> bool {
        let Some(draft) = self.new.transaction.as_ref().map(|open| &open.draft) else {
            return false;
        };
        self.old.rows[..draft.rows].iter().any(|row| {
            let epoch = draft.changes[row.user].map(|state| state.owner_epoch);
            is_such(self.old, row.owner_epoch, epoch)
        })
    }
}

/// What is worth having seen: at which step, its name, and whether it is there. An exploration that
/// misses one shows less than it seems to.
pub(super) type Sight = (&'static str, &'static str, fn(&Seen<'_>) -> bool);

pub(super) const SIGHTS: &[Sight] = &[
    ("drained", "a hand-over is clean", |_| true),
    ("drained_in_part", "a hand-over leaves rows", |seen| !seen.old.rows.is_empty()),
    ("stopped", "a stop finds a partition that is not read", |seen| {
        seen.old.is_owned && !seen.old.is_held() && !seen.old.rows.is_empty()
    }),
    ("ended", "a journal is empty after a stop", |_| true),
    ("loaded", "a worker goes on under a new grant", |seen| seen.old.order == Order::KeepAlive),
    ("loaded", "a suspicion passes to another owner", |seen| {
        let mut states = seen.new.holdings.iter().flat_map(|holdings| holdings.states);
        states.any(|state| state.suspicion != 0 && state.rows_from > 0)
    }),
    ("marked", "a grant waits for markers", |seen| {
        seen.before.instances.iter().any(|of| of.is_loading)
            && seen.before.queues.iter().any(|record| record.is_open)
    }),
    ("asked", "two instances ask at a time", |seen| seen.other().order != Order::None),
    ("sent", "a row of an earlier grant keeps its place", |seen| {
        seen.has_row(|_, of, epoch| epoch.is_some_and(|epoch| epoch > of))
    }),
    ("sent", "a row of an earlier grant is overtaken", |seen| {
        seen.has_row(|instance, _, epoch| epoch.is_none() && instance.is_held())
    }),
    ("looked", "a look finds the partition lost", |seen| seen.is_given_up()),
    ("confirmed", "a late owner is refused", |seen| {
        seen.is_given_up() && seen.before.owner != Some(seen.who)
    }),
    ("confirmed", "the owner is refused, and tries again", |seen| {
        seen.is_given_up() && seen.before.owner == Some(seen.who)
    }),
    ("decided", "an event is published late", |seen| {
        let late = |event: &&Event| event.sequence.is_none();
        let count = |world: &World| world.events.iter().flatten().filter(late).count();
        count(seen.after) > count(seen.before)
    }),
    ("decided", "a commit is made of which nobody waits to hear", |seen| {
        seen.new.doing != Doing::Committing
    }),
    ("fenced", "a producer is fenced", |_| true),
    ("read_back", "an unknown commit proves to be committed", |seen| {
        seen.is_unknown() && seen.has_published()
    }),
    ("read_back", "an unknown commit proves to be aborted", |seen| {
        seen.is_unknown() && !seen.has_published()
    }),
    ("read_back", "states are read anew before that is known", |seen| {
        let is_reread = matches!(seen.old.doing, Doing::Reconnecting { is_reread: true, .. });
        is_reread && seen.has_published()
    }),
    ("read_back", "a restart finds rows published of which nobody was told", |seen| {
        seen.old.doing == Doing::Starting && seen.has_published()
    }),
    ("read_back", "a restart finds rows to publish", |seen| {
        seen.old.doing == Doing::Starting && !seen.new.rows.is_empty()
    }),
];
