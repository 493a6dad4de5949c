//! Each event that was handed out is there once, as it was handed out, and no other is.
//!
//! Promises:
//! - an event is delivered when it is published or a dead letter; else its time lies in a gap;
//! - what was lost for sure, as far as the bridge can know, lies in a gap that says CERTAIN.
//!
//! Knows nothing of: sequences, actions, what a gap is for.

use std::collections::HashMap;

use super::case::{Case, Cover, key_of, name_of};
use super::holdings::{EventRecord, Letter, Origin};
use super::verdict::{Offence, Rule, Verdict};
use super::{Delivery, surely_costs_an_answer};
use crate::metrics::DeadLetterReason;
use crate::simulator::{EventEntry, Fate};

pub(super) fn judge(case: &Case<'_>, verdict: &mut Verdict) {
    let mut letters = Letters::of(case);
    published(case, &letters, verdict);
    for (key, entries) in case.taken() {
        delivered(case, &key, &entries, &mut letters, verdict);
    }
    for entry in &case.ledger.events {
        match entry.fate {
            Fate::HandedOut if entry.event_id.is_none() => {
                if !letters.take_nameless(entry) {
                    missing(case, entry, verdict);
                }
            }
            Fate::DiedWithQueue | Fate::Overflow if !case.has_twin(entry) => {
                certain(case, entry, verdict);
            }
            Fate::NoQueue if case.was_watched(&entry.user, entry.made_at) => {
                certain(case, entry, verdict);
            }
            Fate::LostOnTheWire if entry.event_id.is_none() => missing(case, entry, verdict),
            Fate::HandedOut
            | Fate::LostOnTheWire
            | Fate::DiedWithQueue
            | Fate::Overflow
            | Fate::NoQueue
            | Fate::Waiting => {}
        }
    }
    letters.left_over(case, verdict);
}

/// Records against the ledger: invented, altered.
fn published(case: &Case<'_>, letters: &Letters<'_>, verdict: &mut Verdict) {
    for record in &case.holdings.events {
        let offence = |rule, what: String| {
            let offence = Offence::new(rule, what).of(&record.user).under(&record.key);
            offence.event(&record.idempotency_key)
        };
        let key = &record.idempotency_key;
        match record.origin {
            Origin::Reconciliation => verdict.counts.listed += 1,
            Origin::Unknown => {
                let what = format!("event {key} is of an origin that nobody knows");
                verdict.offend(offence(Rule::Altered, what));
            }
            Origin::Queue => {
                let entries = case.entries(key);
                if entries.is_empty() {
                    let what = format!("event {key} was never handed out");
                    verdict.offend(offence(Rule::Invented, what));
                } else if let Some(difference) = difference(&entries, record) {
                    let what = format!("event {key}: {difference}");
                    verdict.offend(offence(Rule::Altered, what));
                }
            }
        }
    }
    for (key, letter) in &letters.named {
        if case.entries(key).is_empty() {
            let what = format!("event {key} is a dead letter and was never handed out");
            let offence = Offence::new(Rule::Invented, what).of(&letter.1.user).event(key);
            verdict.offend(offence);
        }
    }
}

/// How often what was handed out under one key is there.
fn delivered(
    case: &Case<'_>,
    key: &str,
    entries: &[&EventEntry],
    letters: &mut Letters<'_>,
    verdict: &mut Verdict,
) {
    let Some(first) = entries.first() else { return };
    let times =
        |of: fn(&EventEntry) -> u32| entries.iter().map(|entry| of(entry) as usize).sum::<usize>();
    let whole = times(|entry| entry.times_handed_out);
    let records = letters.records.get(key).copied().unwrap_or_default();
    let dead = letters.named.get(key).map_or(0, |(count, _)| *count);
    let there = records.all + dead;
    let (counted, most) = match case.rules.delivery {
        // of a broken answer more may have been read than was expected
        Delivery::Once => (there, whole + times(|entry| entry.times_lost)),
        // what an owner of old adds is late, and repeats what the new one was handed out again
        Delivery::Repeatable => (records.all - records.late + dead, 1),
    };
    if counted > most {
        let what = format!("event {key} of {} is there {counted} times", first.user);
        verdict.offend(of(first, Rule::Twice, what));
    }
    if let Some((_, letter)) = letters.named.get(key)
        && is_readable(first)
        && *letter.reason != *DeadLetterReason::TooLarge.as_str()
    {
        let what = format!("event {key} is a dead letter ({}) and can be read", letter.reason);
        verdict.offend(of(first, Rule::DeadLetter, what));
    }
    let wanted = match case.rules.delivery {
        Delivery::Once => whole,
        Delivery::Repeatable => whole.min(1),
    };
    let mut absent = wanted.saturating_sub(there);
    for entry in entries {
        match entry.fate {
            Fate::HandedOut if absent > 0 => {
                absent = absent.saturating_sub(entry.times_handed_out as usize);
                if !(entry.without.is_some() && letters.take_nameless(entry)) {
                    missing(case, entry, verdict);
                }
            }
            Fate::LostOnTheWire if there == 0 => missing(case, entry, verdict),
            Fate::HandedOut
            | Fate::LostOnTheWire
            | Fate::DiedWithQueue
            | Fate::Overflow
            | Fate::NoQueue
            | Fate::Waiting => {}
        }
    }
}

/// An event that a question took, and that is in no topic.
fn missing(case: &Case<'_>, entry: &EventEntry, verdict: &mut Verdict) {
    verdict.counts.lost += 1;
    let cover = case.cover(entry);
    if cover == Cover::None {
        let user = &entry.user;
        let what = format!("event {} of {user} is in no topic and in no gap", name_of(entry));
        verdict.offend(of(entry, Rule::Lost, what));
        return;
    }
    verdict.counts.covered += 1;
    let taken = entry.handed_out.as_ref();
    let surely = taken.and_then(|taken| taken.fault).is_some_and(surely_costs_an_answer);
    let at = taken.map_or(entry.made_at, |taken| taken.at);
    let at = i64::try_from(at).unwrap_or(i64::MAX);
    let is_known = entry.fate == Fate::LostOnTheWire && surely && !case.rules.is_disturbed(at, at);
    if is_known && cover != Cover::Certain {
        let name = name_of(entry);
        let what = format!("event {name} is surely lost and in a gap that says POSSIBLE");
        verdict.offend(of(entry, Rule::Certainty, what));
    }
}

/// An event that no question will ever take.
fn certain(case: &Case<'_>, entry: &EventEntry, verdict: &mut Verdict) {
    verdict.counts.lost += 1;
    let (name, user) = (name_of(entry), &entry.user);
    match case.cover(entry) {
        Cover::Certain => verdict.counts.covered += 1,
        Cover::Possible => {
            verdict.counts.covered += 1;
            let what = format!("event {name} is surely lost and in a gap that says POSSIBLE");
            verdict.offend(of(entry, Rule::Certainty, what));
        }
        Cover::None => {
            let what = format!("event {name} of {user} was lost at the source and is in no gap");
            verdict.offend(of(entry, Rule::Lost, what));
        }
    }
}

/// Whether the source made the event as it should be, so that there is no reason not to read it.
fn is_readable(entry: &EventEntry) -> bool {
    entry.without.is_none() && (entry.redirect.is_some() || entry.embedded.is_some())
}

fn difference(entries: &[&EventEntry], record: &EventRecord) -> Option<String> {
    let differs = |entry: &&EventEntry| {
        if entry.without.is_some() {
            let (wanted, found) = (&*entry.user, &*record.user);
            return (wanted != found).then(|| ("user_id", wanted.to_owned(), found.to_owned()));
        }
        let key = entry.connection.as_ref().unwrap_or(&entry.user);
        let event_type = entry.event_type.as_deref().unwrap_or_default();
        let pairs = [
            ("key", &**key, &*record.key),
            ("event_type", event_type, &*record.event_type),
            ("user_id", &*entry.user, &*record.user),
        ];
        let (what, wanted, found) = pairs.into_iter().find(|(_, wanted, found)| wanted != found)?;
        Some((what, wanted.to_owned(), found.to_owned()))
    };
    let differences: Vec<_> = entries.iter().map(differs).collect();
    if differences.iter().any(Option::is_none) {
        return None;
    }
    let (what, wanted, found) = differences.into_iter().flatten().next()?;
    Some(format!("{what} is {found}, the source had {wanted}"))
}

fn of(entry: &EventEntry, rule: Rule, what: String) -> Offence {
    let offence = Offence::new(rule, what).of(&entry.user);
    let offence = offence.under(entry.connection.as_ref().unwrap_or(&entry.user));
    match key_of(entry) {
        Some(key) => offence.event(&key),
        None => offence,
    }
}

/// How many records there are of one key.
#[derive(Clone, Copy, Debug, Default)]
struct Times {
    all: usize,
    late: usize,
}

/// What is there, by key.
struct Letters<'l> {
    records: HashMap<&'l str, Times>,
    /// Dead letters of which the event is known.
    named: HashMap<String, (usize, &'l Letter)>,
    /// Dead letters of which only the queue is known, by queue.
    nameless: HashMap<&'l str, Vec<&'l Letter>>,
}

impl<'l> Letters<'l> {
    fn of(case: &Case<'l>) -> Self {
        let mut records: HashMap<&str, Times> = HashMap::new();
        for record in case.queue_records() {
            let times = records.entry(&*record.idempotency_key).or_default();
            times.all += 1;
            times.late += usize::from(record.late);
        }
        let mut named: HashMap<String, (usize, &Letter)> = HashMap::new();
        let mut nameless: HashMap<&str, Vec<&Letter>> = HashMap::new();
        for letter in case.elements() {
            match &letter.event_id {
                Some(id) => {
                    let key = format!("{}/{id}", letter.queue);
                    named.entry(key).or_insert((0, letter)).0 += 1;
                }
                None => nameless.entry(&letter.queue).or_default().push(letter),
            }
        }
        Self { records, named, nameless }
    }

    /// Whether a letter without a name stands for this event; it then stands for no other.
    fn take_nameless(&mut self, entry: &EventEntry) -> bool {
        let queue = entry.queue.as_deref().unwrap_or_default();
        self.nameless.get_mut(queue).is_some_and(|letters| letters.pop().is_some())
    }

    /// Letters that stand for nothing that the source handed out.
    fn left_over(&self, case: &Case<'_>, verdict: &mut Verdict) {
        let is_broken = case.rules.answers_disturbed() > 0 || !case.rules.disturbances.is_empty();
        let whole = case.holdings.letters.iter().filter(|letter| !letter.is_element && !is_broken);
        for letter in self.nameless.values().flatten().copied().chain(whole) {
            let what = format!(
                "a dead letter ({}) of queue {} stands for nothing that was handed out",
                letter.reason, letter.queue
            );
            verdict.offend(Offence::new(Rule::DeadLetter, what).of(&letter.user));
        }
    }
}
