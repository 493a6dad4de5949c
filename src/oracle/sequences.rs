//! The records of a key: counted without holes, and in the order of their queue.
//!
//! Promises: late records are left aside, as they take no number and may stand anywhere.
//!
//! Knows nothing of: what is missing or twice.

use std::collections::HashMap;

use super::Delivery;
use super::case::Case;
use super::holdings::{EventRecord, Origin};
use super::verdict::{Offence, Rule, Verdict};
use crate::simulator::FaultName;

pub(super) fn judge(case: &Case<'_>, verdict: &mut Verdict) {
    sequences(case, verdict);
    // handed out again in another order, each event keeps the place it had first
    let is_shuffled = case.rules.met.contains_key(&FaultName::Reorder);
    if !(case.rules.delivery == Delivery::Repeatable && is_shuffled) {
        order(case, verdict);
    }
}

fn sequences(case: &Case<'_>, verdict: &mut Verdict) {
    let mut last: HashMap<(&str, &str), i64> = HashMap::new();
    for record in &case.holdings.events {
        let (key, event) = (&record.key, &record.idempotency_key);
        if record.late {
            if let Some(sequence) = record.sequence {
                let what =
                    format!("event {event} under key {key} is late and has number {sequence}");
                verdict.offend(of(record, Rule::Sequence, what));
            }
            continue;
        }
        let last = last.entry((key, &record.subscription)).or_default();
        if record.sequence != Some(*last + 1) {
            let found = record.sequence.map_or("none".to_owned(), |found| found.to_string());
            let what = format!("event {event} under key {key} has number {found} after {last}");
            verdict.offend(of(record, Rule::Sequence, what));
        }
        *last = record.sequence.unwrap_or(*last);
    }
}

/// What was last of a key.
struct Last<'l> {
    epoch: i64,
    turn: u64,
    event: &'l str,
}

fn order(case: &Case<'_>, verdict: &mut Verdict) {
    let mut last: HashMap<(&str, &str), Last<'_>> = HashMap::new();
    for record in &case.holdings.events {
        if record.late || record.origin != Origin::Queue {
            continue;
        }
        let Some(turn) = case.entry(record).and_then(|entry| turn_of(case, entry)) else {
            continue;
        };
        let now = Last { epoch: record.owner_epoch, turn, event: &record.idempotency_key };
        let before = last.entry((&record.key, &record.subscription));
        match before {
            std::collections::hash_map::Entry::Vacant(place) => {
                place.insert(now);
            }
            std::collections::hash_map::Entry::Occupied(mut place) => {
                let before = place.get();
                if now.epoch < before.epoch {
                    let what = format!(
                        "event {} of epoch {} stands after {} of epoch {} and is not late",
                        now.event, now.epoch, before.event, before.epoch
                    );
                    verdict.offend(of(record, Rule::Order, what).event(before.event));
                } else if now.epoch == before.epoch && now.turn < before.turn {
                    let what = format!(
                        "event {} stands after {} under key {} and was handed out before it",
                        now.event, before.event, record.key
                    );
                    verdict.offend(of(record, Rule::Order, what).event(before.event));
                }
                place.insert(now);
            }
        }
    }
}

/// The place of an event in the order that counts: that in which it was handed out, or where it may
/// be handed out again, that in which it was made.
fn turn_of(case: &Case<'_>, entry: &crate::simulator::EventEntry) -> Option<u64> {
    match case.rules.delivery {
        Delivery::Once => entry.handed_out.as_ref().map(|taken| taken.turn.into()),
        Delivery::Repeatable => Some(entry.made_at),
    }
}

fn of(record: &EventRecord, rule: Rule, what: String) -> Offence {
    let offence = Offence::new(rule, what).of(&record.user).under(&record.key);
    offence.event(&record.idempotency_key)
}
