//! Whether the ledger of the source and the topics agree.
//!
//! Promises:
//! - every event handed out must be in the events topic once, with its type and under its key, and
//!   nothing else may be there but what a reconciliation made;
//! - the sequence of each key has no hole;
//! - every action must be in its topic once, and no other;
//! - every event lost must lie inside the time of a gap of its user, every death must have a gap
//!   that was reconciled, and every gap a cause in the ledger;
//! - nothing that the bridge says of itself is believed.
//!
//! Knows nothing of: how records are read, how the verdict is shown.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::topics::{Found, Holdings};
use crate::event::Action;
use crate::record::{TopicRole, Topics};
use crate::simulator::{EventEntry, Fate, Ledger, Status};

/// The source counts whole milliseconds from its start, gaps are in those of the wall clock.
const CLOCKS_DIFFER_BY: i64 = 5;

/// What was counted on the way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Events that the source handed out whole.
    pub(super) handed_out: usize,
    /// Records of queues in the events topic.
    pub(super) published: usize,
    /// Records of reconciliations there.
    pub(super) listed: usize,
    /// Times that a user was asked to act, by the ledger.
    pub(super) asked_to_act: usize,
    /// Records in the topics of actions.
    pub(super) copies: usize,
    /// Queues that died.
    pub(super) deaths: usize,
    /// Gaps, once each.
    pub(super) gaps: usize,
    /// Those with the reconciliation published.
    pub(super) reconciled: usize,
    /// Events that nobody will ever be handed out.
    pub(super) lost: usize,
    /// Of those, inside a gap.
    pub(super) covered: usize,
    /// Dead letters.
    pub(super) dead_letters: usize,
}

/// What came out.
#[derive(Clone, Debug, Default)]
pub(super) struct Verdict {
    pub(super) counts: Counts,
    /// What disagrees, one sentence each.
    pub(super) faults: Vec<String>,
}

impl Verdict {
    /// Whether nothing disagrees.
    pub(super) fn agrees(&self) -> bool {
        self.faults.is_empty()
    }
}

/// Compares a whole ledger with whole topics.
pub(super) fn judge(ledger: &Ledger, holdings: &Holdings, names: &Topics) -> Verdict {
    let mut judge = Judge { ledger, holdings, names, verdict: Verdict::default() };
    judge.completeness();
    judge.events();
    judge.sequences();
    judge.actions();
    judge.gaps();
    judge.reconciliations();
    judge.verdict
}

struct Judge<'j> {
    ledger: &'j Ledger,
    holdings: &'j Holdings,
    names: &'j Topics,
    verdict: Verdict,
}

impl<'j> Judge<'j> {
    fn fault(&mut self, text: String) {
        self.verdict.faults.push(text);
    }

    fn records(&self, topic: &str) -> &'j [Found] {
        self.holdings.get(topic).map(Vec::as_slice).unwrap_or_default()
    }

    fn events_of(&self, origin: &str) -> Vec<&'j Found> {
        let events = self.records(&self.names.events).iter();
        events.filter(|event| event.text("origin") == origin).collect()
    }

    /// What makes a comparison impossible or pointless.
    fn completeness(&mut self) {
        if self.ledger.truncated {
            self.fault("the ledger is truncated: nothing can be said".to_owned());
        }
        let waiting = self.ledger.with_fate(Fate::Waiting).count();
        if waiting > 0 {
            self.fault(format!("{waiting} events still wait at the source"));
        }
        self.verdict.counts.dead_letters = self.records(&self.names.dead_letters).len();
        if self.verdict.counts.dead_letters > 0 {
            let count = self.verdict.counts.dead_letters;
            self.fault(format!("{count} dead letters, though the source made nothing unreadable"));
        }
    }

    /// Each event handed out is there once, as it is in the ledger, and no other is.
    fn events(&mut self) {
        let published = self.events_of("QUEUE");
        let mut by_key: BTreeMap<&str, Vec<&Found>> = BTreeMap::new();
        for event in &published {
            by_key.entry(event.text("idempotency_key")).or_default().push(event);
        }
        let mut handed_out = BTreeSet::new();
        for entry in self.ledger.with_fate(Fate::HandedOut) {
            let key = key_of(entry);
            match by_key.get(&*key).map(Vec::as_slice).unwrap_or_default() {
                [] => self.fault(format!("event {key} of {} is missing", entry.user)),
                [event] => {
                    if let Some(difference) = difference(entry, event) {
                        self.fault(format!("event {key}: {difference}"));
                    }
                }
                several => {
                    let count = several.len();
                    self.fault(format!("event {key} of {} is there {count} times", entry.user));
                }
            }
            handed_out.insert(key);
        }
        for key in by_key.keys().filter(|key| !handed_out.contains(**key)) {
            self.fault(format!("event {key} was never handed out"));
        }
        self.verdict.counts.handed_out = handed_out.len();
        self.verdict.counts.published = published.len();
    }

    /// The records of a key count from 1 within a subscription.
    fn sequences(&mut self) {
        let mut last: HashMap<(&str, &str), i64> = HashMap::new();
        for event in self.records(&self.names.events) {
            let last = last.entry((&event.key, event.text("subscription_id"))).or_default();
            let found = event.value["sequence"].as_i64();
            if found != Some(*last + 1) {
                let text = format!("key {}: sequence {found:?} follows {last}", event.key);
                self.verdict.faults.push(text);
            }
            *last = found.unwrap_or(*last);
        }
    }

    /// Each action that the ledger shows has its copy, and no copy is there without one.
    fn actions(&mut self) {
        let mut expected: BTreeMap<(&str, String), usize> = BTreeMap::new();
        let mut before: HashMap<&str, [Option<Status>; 2]> = HashMap::new();
        for entry in self.ledger.with_fate(Fate::HandedOut) {
            let now = [entry.redirect, entry.embedded];
            let was = match &entry.connection {
                Some(connection) => before.insert(connection, now).unwrap_or_default(),
                None => now,
            };
            let entered = now.iter().zip(was).filter(|(now, was)| **now != *was);
            let statuses = entered.filter_map(|(now, _)| now.map(Status::as_str));
            let named = entry.event_type.as_deref();
            let raised: BTreeSet<Action> =
                statuses.chain(named).filter_map(Action::from_source).collect();
            for action in raised {
                let topic = self.names.name(TopicRole::Action(action));
                expected.insert((topic, key_of(entry)), 0);
            }
        }
        self.verdict.counts.asked_to_act = expected.len();
        for topic in BTreeSet::from_iter(self.names.actions.iter().map(|topic| &**topic)) {
            for copy in self.records(topic) {
                self.verdict.counts.copies += 1;
                let key = copy.text("idempotency_key").to_owned();
                match expected.get_mut(&(topic, key)) {
                    Some(count) => *count += 1,
                    None => {
                        let event = copy.text("idempotency_key");
                        self.fault(format!("{topic}: event {event} asks nothing new of its user"));
                    }
                }
            }
        }
        for ((topic, key), count) in expected.iter().filter(|(_, count)| **count != 1) {
            self.fault(format!("{topic}: event {key} is there {count} times"));
        }
    }

    /// Deaths and losses have gaps, and gaps have deaths or losses.
    fn gaps(&mut self) {
        let all = self.records(&self.names.gaps).iter();
        let gaps: Vec<&Found> = all.filter(|gap| gap.value["connection_id"].is_null()).collect();
        let (reconciled, announced): (Vec<&Found>, Vec<&Found>) =
            gaps.into_iter().partition(|gap| gap.value["reconciled"] == true);
        for death in &self.ledger.deaths {
            let of_it = |gap: &&&Found| gap.text("queue_id") == &*death.queue;
            for (what, gaps) in [("announced", &announced), ("reconciled", &reconciled)] {
                let count = gaps.iter().filter(of_it).count();
                if count != 1 {
                    let (queue, user) = (&death.queue, &death.user);
                    let text = format!("queue {queue} of {user} died and is {what} {count} times");
                    self.verdict.faults.push(text);
                }
            }
        }
        for entry in self.ledger.events.iter().filter(|entry| is_lost(entry.fate)) {
            self.verdict.counts.lost += 1;
            if announced.iter().any(|gap| covers(gap, entry)) {
                self.verdict.counts.covered += 1;
            } else {
                let at = entry.made_at;
                self.fault(format!("an event of {} made at {at} is lost in no gap", entry.user));
            }
        }
        for gap in &announced {
            let queue = gap.text("queue_id");
            let died = self.ledger.deaths.iter().any(|death| *death.queue == *queue);
            let lost = self
                .ledger
                .with_fate(Fate::LostOnTheWire)
                .any(|entry| entry.queue.as_deref() == Some(queue));
            if gap.text("certainty") == "CERTAIN" && !died && !lost {
                self.fault(format!("gap {} of {} has no reason", gap.text("gap_id"), gap.key));
            }
        }
        self.verdict.counts.deaths = self.ledger.deaths.len();
        self.verdict.counts.gaps = announced.len();
        self.verdict.counts.reconciled = reconciled.len();
    }

    /// A reconciled gap of a connection has the connection's present state, once.
    fn reconciliations(&mut self) {
        let mut expected: BTreeMap<String, usize> = BTreeMap::new();
        for gap in self.records(&self.names.gaps) {
            if let (Some(connection), true) =
                (gap.value["connection_id"].as_str(), gap.value["reconciled"] == true)
            {
                expected.insert(format!("r/{}/{connection}", gap.text("gap_id")), 0);
            }
        }
        for event in self.events_of("RECONCILIATION") {
            self.verdict.counts.listed += 1;
            let key = event.text("idempotency_key");
            match expected.get_mut(key) {
                Some(count) => *count += 1,
                None => self.fault(format!("event {key} belongs to no reconciled gap")),
            }
        }
        for (key, count) in expected.iter().filter(|(_, count)| **count != 1) {
            self.fault(format!("event {key} of a reconciled gap is there {count} times"));
        }
    }
}

/// The key by which an event of a queue is recognised.
fn key_of(entry: &EventEntry) -> String {
    let (queue, id) = (entry.queue.as_deref(), entry.event_id.as_deref());
    format!("{}/{}", queue.unwrap_or("no queue"), id.unwrap_or("no id"))
}

fn difference(entry: &EventEntry, event: &Found) -> Option<String> {
    let key = entry.connection.as_ref().unwrap_or(&entry.user);
    let pairs = [
        ("key", &**key, &*event.key),
        ("event_type", entry.event_type.as_deref().unwrap_or_default(), event.text("event_type")),
        ("user_id", &*entry.user, event.text("user_id")),
    ];
    let (what, wanted, found) = pairs.into_iter().find(|(_, wanted, found)| wanted != found)?;
    Some(format!("{what} is {found}, the source had {wanted}"))
}

fn is_lost(fate: Fate) -> bool {
    match fate {
        Fate::LostOnTheWire | Fate::DiedWithQueue | Fate::NoQueue | Fate::Overflow => true,
        Fate::HandedOut | Fate::Waiting => false,
    }
}

fn covers(gap: &Found, entry: &EventEntry) -> bool {
    let at = i64::try_from(entry.made_at).unwrap_or(i64::MAX);
    let moment = |field: &str| gap.value[field].as_i64();
    gap.text("user_id") == &*entry.user
        && moment("from").is_some_and(|from| from - CLOCKS_DIFFER_BY <= at)
        && moment("to").is_some_and(|to| at <= to + CLOCKS_DIFFER_BY)
}
