//! The records of a key: counted without holes, and in the order of their queue.
//!
//! Promises: late records are left aside, as they take no number and may stand anywhere.
//!
//! Knows nothing of: what is missing or twice.

use std::collections::HashMap;

use super::case::Case;
use super::holdings::{EventRecord, Origin};
use super::verdict::{Offence, Rule, Verdict};
use crate::simulator::EventEntry;

pub(super) fn judge(case: &Case<'_>, verdict: &mut Verdict) {
    sequences(case, verdict);
    order(case, verdict);
}

fn sequences(case: &Case<'_>, verdict: &mut Verdict) {
    let mut last: HashMap<(&str, &str), i64> = HashMap::new();
    for record in &case.holdings.events {
        let (key, event) = (&record.key, &record.idempotency_key);
        if record.late {
            if case.rules.is_orderly {
                let what = format!("event {event} under key {key} is late, and nothing had to be");
                verdict.offend(of(record, Rule::Late, what));
            }
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
    turn: u32,
    event: &'l str,
}

fn order(case: &Case<'_>, verdict: &mut Verdict) {
    let mut lasts: HashMap<(&str, &str), Last<'_>> = HashMap::new();
    for record in &case.holdings.events {
        if record.late || record.origin != Origin::Queue {
            continue;
        }
        let Some(entry) = case.entry(record) else { continue };
        let place = (&*record.key, &*record.subscription);
        let (epoch, event) = (record.owner_epoch, &*record.idempotency_key);
        let last = lasts.get(&place);
        if let Some(last) = last.filter(|last| epoch < last.epoch) {
            let what = format!(
                "event {event} of epoch {epoch} stands after {} of epoch {} and is not late",
                last.event, last.epoch
            );
            verdict.offend(of(record, Rule::Order, what).event(last.event));
        }
        let same_epoch = last.filter(|last| last.epoch == epoch);
        let after = same_epoch.map_or(0, |last| last.turn);
        let turn = turn_of(entry, after).unwrap_or_else(|first| {
            let before = same_epoch.map_or(event, |last| last.event);
            let what = format!(
                "event {event} stands after {before} under key {} and was handed out before it",
                record.key
            );
            verdict.offend(of(record, Rule::Order, what).event(before));
            first
        });
        lasts.insert(place, Last { epoch, turn, event });
    }
}

/// The first time that an event was sent whole after `after`; where that never was, the error is
/// the first time at all. What was sent broken only, and is there, is as good as whole.
fn turn_of(entry: &EventEntry, after: u32) -> Result<u32, u32> {
    let sent = || entry.handed_out.iter().chain(&entry.again);
    let is_broken = sent().all(|sent| sent.lost);
    let turns = || sent().filter(|sent| is_broken || !sent.lost).map(|sent| sent.turn);
    let next = turns().filter(|turn| *turn > after).min();
    next.ok_or_else(|| turns().min().unwrap_or_default())
}

fn of(record: &EventRecord, rule: Rule, what: String) -> Offence {
    let offence = Offence::new(rule, what).of(&record.user).under(&record.key);
    offence.event(&record.idempotency_key)
}
