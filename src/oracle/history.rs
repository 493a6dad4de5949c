//! What is known of the events that a disagreement is about.
//!
//! Promises: one pass over ledger and topics, for all disagreements together.
//!
//! Knows nothing of: the rules.

use std::collections::{HashMap, HashSet};

use super::case::{Case, key_of};
use super::holdings::EventRecord;
use super::verdict::{Happened, Verdict};
use crate::simulator::{EventEntry, Fate};

/// Gaps and deaths of a user that are told with each disagreement.
const MOST_OF_USER: usize = 20;
/// So far before and after a history, in milliseconds, what was done besides belongs to it.
const AROUND_MS: i64 = 1000;

pub(super) fn tell(case: &Case<'_>, verdict: &mut Verdict) {
    let offences = verdict.offences.iter();
    let events: HashSet<String> = offences.clone().flat_map(|it| it.events.clone()).collect();
    let users: HashSet<String> = offences.filter_map(|it| it.user.clone()).collect();
    if events.is_empty() && users.is_empty() {
        return;
    }
    let mut of_event: HashMap<String, Vec<Happened>> = HashMap::new();
    let mut of_user: HashMap<String, Vec<Happened>> = HashMap::new();
    for entry in &case.ledger.events {
        if let Some(key) = key_of(entry).filter(|key| events.contains(key)) {
            of_event.entry(key).or_default().extend(lived(entry));
        }
    }
    let events_topic = std::iter::once((&*case.names.events, &case.holdings.events));
    let copies = case.holdings.copies.iter().map(|(topic, copies)| (&**topic, copies));
    for (topic, records) in events_topic.chain(copies) {
        for record in records.iter().filter(|it| events.contains(&*it.idempotency_key)) {
            let key = record.idempotency_key.to_string();
            of_event.entry(key).or_default().push(stands(topic, record));
        }
    }
    for letter in &case.holdings.letters {
        let Some(id) = &letter.event_id else { continue };
        let key = format!("{}/{id}", letter.queue);
        if events.contains(&key) {
            let (partition, offset) = (letter.partition, letter.offset);
            let what = format!("dead letter at {partition}:{offset} ({})", letter.reason);
            of_event.entry(key).or_default().push(Happened { at: i64::MAX, what });
        }
    }
    for gap in case.holdings.gaps.iter().filter(|gap| users.contains(&*gap.user)) {
        if gap.connection.is_none() {
            let certainty = if gap.is_certain { "CERTAIN" } else { "POSSIBLE" };
            let state = if gap.is_reconciled { "reconciled" } else { "announced" };
            let what = format!(
                "gap {} {state}, {} {certainty}, from {} to {}, queue {}",
                gap.gap, gap.cause, gap.from, gap.to, gap.queue
            );
            let told = of_user.entry(gap.user.to_string()).or_default();
            told.push(Happened { at: gap.from, what });
        }
    }
    for death in case.ledger.deaths.iter().filter(|death| users.contains(&*death.user)) {
        let what = format!("queue {} died ({:?})", death.queue, death.cause);
        let told = of_user.entry(death.user.to_string()).or_default();
        told.push(Happened { at: millis(death.at), what });
    }
    for offence in &mut verdict.offences {
        for event in &offence.events {
            offence.history.extend(of_event.get(event).cloned().unwrap_or_default());
        }
        if let Some(told) = offence.user.as_ref().and_then(|user| of_user.get(user)) {
            offence.history.extend(told.iter().take(MOST_OF_USER).cloned());
        }
        offence.history.sort();
        told_besides(case, &mut offence.history);
    }
}

/// Tells what was done to the bridge or to Kafka around the time of a history.
fn told_besides(case: &Case<'_>, history: &mut Vec<Happened>) {
    let Some((first, last)) = history.first().zip(history.last()) else { return };
    let (from, to) = (first.at.saturating_sub(AROUND_MS), last.at.saturating_add(AROUND_MS));
    let done = case.rules.disturbances.iter();
    let done = done.filter(|done| millis(done.from) <= to && from <= millis(done.to));
    let told: Vec<Happened> = done
        .take(MOST_OF_USER)
        .map(|done| Happened {
            at: millis(done.from),
            what: format!("{}, until {}", done.what, done.to),
        })
        .collect();
    history.extend(told);
    history.sort();
}

fn lived(entry: &EventEntry) -> Vec<Happened> {
    let queue = entry.queue.as_deref().unwrap_or("none");
    let event_type = entry.event_type.as_deref().unwrap_or("no type");
    let made = format!("{event_type} made for {} in queue {queue}", entry.user);
    let mut lived = vec![Happened { at: millis(entry.made_at), what: made }];
    for sent in entry.handed_out.iter().chain(&entry.again) {
        let fault = sent.fault.map(|fault| format!(" ({fault:?})")).unwrap_or_default();
        let how = if sent.lost { "lost on the wire" } else { "handed out" };
        let what =
            format!("{how} in answer {} of its queue, turn {}{fault}", sent.answer, sent.turn);
        lived.push(Happened { at: millis(sent.at), what });
    }
    if !matches!(entry.fate, Fate::HandedOut | Fate::LostOnTheWire) {
        let what = format!("came to: {:?}", entry.fate);
        lived.push(Happened { at: millis(entry.made_at), what });
    }
    lived
}

fn stands(topic: &str, record: &EventRecord) -> Happened {
    let sequence = record.sequence.map_or("none".to_owned(), |number| number.to_string());
    let late = if record.late { ", late" } else { "" };
    let what = format!(
        "in {topic} at {}:{} under key {}, sequence {sequence}, epoch {}{late}, received",
        record.partition, record.offset, record.key, record.owner_epoch
    );
    Happened { at: record.received_at, what }
}

fn millis(at: u64) -> i64 {
    i64::try_from(at).unwrap_or(i64::MAX)
}
