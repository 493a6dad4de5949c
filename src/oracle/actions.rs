//! What each event asks of its user, and the copies of it.
//!
//! Promises:
//! - an action is raised by the event's type, or by a channel's status that is entered: the last
//!   that the bridge had published of the connection, a reconciliation included, was another;
//! - the statuses are the source's own, for what a queue handed out;
//! - each copy is in its topic as often as the event that asks for it is published.
//!
//! What a late record enters depends on what its writer knew: only its copies are judged. Knows
//! nothing of: what is missing or twice.

use std::collections::{BTreeSet, HashMap};

use super::case::Case;
use super::holdings::{EventRecord, Origin};
use super::verdict::{Offence, Rule, Verdict};
use crate::event::Action;
use crate::record::TopicRole;
use crate::simulator::Status;

/// How often a copy is there, and how often it should be.
#[derive(Default)]
struct Copies<'c> {
    wanted: usize,
    found: usize,
    user: &'c str,
    key: &'c str,
}

pub(super) fn judge(case: &Case<'_>, verdict: &mut Verdict) {
    let mut held: HashMap<(&str, &str), [Option<Status>; 2]> = HashMap::new();
    let mut copies: HashMap<(&str, &str), Copies<'_>> = HashMap::new();
    for record in &case.holdings.events {
        let statuses = statuses(case, record);
        let raised: BTreeSet<Action> = if record.late {
            record.actions.iter().copied().collect()
        } else {
            let held = held.entry((&record.subscription, &record.key)).or_default();
            let raised = raised(record, statuses, held);
            if !raised.iter().copied().eq(record.actions.iter().copied()) {
                let what = format!(
                    "event {} asks for {:?} and should ask for {:?}",
                    record.idempotency_key, record.actions, raised
                );
                verdict.offend(of(record, what));
            }
            raised
        };
        let topics: BTreeSet<&str> =
            raised.into_iter().map(|action| case.names.name(TopicRole::Action(action))).collect();
        for topic in topics {
            let copies = copies.entry((topic, &record.idempotency_key)).or_default();
            copies.wanted += 1;
            (copies.user, copies.key) = (&record.user, &record.key);
            verdict.counts.asked_to_act += 1;
        }
    }
    for (topic, found) in &case.holdings.copies {
        for record in found {
            let copies = copies.entry((topic, &record.idempotency_key)).or_default();
            copies.found += 1;
            (copies.user, copies.key) = (&record.user, &record.key);
        }
    }
    let mut wrong: Vec<_> = copies.into_iter().filter(|(_, it)| it.wanted != it.found).collect();
    wrong.sort_unstable_by_key(|(place, _)| *place);
    for ((topic, event), it) in wrong {
        let what = if it.wanted == 0 {
            format!("{topic}: event {event} asks nothing new of its user")
        } else {
            format!(
                "{topic}: event {event} is there {} times and should be {}",
                it.found, it.wanted
            )
        };
        verdict.offend(Offence::new(Rule::Action, what).of(it.user).under(it.key).event(event));
    }
}

/// The statuses that count: the source's own where its ledger has them.
fn statuses(case: &Case<'_>, record: &EventRecord) -> [Option<Status>; 2] {
    let entry = case.entry(record).filter(|_| record.origin == Origin::Queue);
    match entry {
        Some(entry) if entry.without.is_none() => {
            let of_source = [entry.redirect, entry.embedded];
            // an element that was injected is not looked into by the source
            if of_source == [None; 2] { record.statuses } else { of_source }
        }
        Some(_) | None => record.statuses,
    }
}

fn raised(
    record: &EventRecord,
    statuses: [Option<Status>; 2],
    held: &mut [Option<Status>; 2],
) -> BTreeSet<Action> {
    let mut raised: BTreeSet<Action> =
        Action::from_source(&record.event_type).into_iter().collect();
    for (status, held) in statuses.into_iter().zip(held) {
        if let Some(now) = status {
            if *held != Some(now) {
                raised.extend(Action::from_source(now.as_str()));
            }
            *held = Some(now);
        }
    }
    raised
}

fn of(record: &EventRecord, what: String) -> Offence {
    let offence = Offence::new(Rule::Action, what).of(&record.user).under(&record.key);
    offence.event(&record.idempotency_key)
}
