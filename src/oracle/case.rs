//! Ledger and topics, indexed for the rules.
//!
//! Promises: made in one pass over each.
//!
//! Knows nothing of: the rules.

use std::collections::{HashMap, HashSet};

use super::gaps::known_queues;
use super::holdings::{EventRecord, GapRecord, Holdings, Letter, Origin};
use super::verdict::{Counts, Verdict};
use super::{CLOCKS_DIFFER_BY, Rules};
use crate::record::Topics;
use crate::simulator::{EventEntry, Fate, Ledger};

/// Everything that is compared.
pub(super) struct Case<'c> {
    pub(super) ledger: &'c Ledger,
    pub(super) holdings: &'c Holdings,
    pub(super) names: &'c Topics,
    pub(super) rules: &'c Rules,
    /// What questions took from queues, by the key under which it is published.
    taken: HashMap<Box<str>, Vec<u32>>,
    /// The gaps of each user, before reconciliation.
    gaps: HashMap<&'c str, Vec<&'c GapRecord>>,
    /// What was made for a user who has more than one queue, and was taken from one of them.
    twins: HashSet<Made<'c>>,
    /// When the first queue of each user was opened.
    first_opened: HashMap<&'c str, u64>,
}

/// By which the same event is recognised in two queues.
type Made<'c> = (&'c str, Option<&'c str>, Option<&'c str>, u64);

/// How an event is covered by the gaps of its user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cover {
    None,
    Possible,
    Certain,
}

impl<'c> Case<'c> {
    pub(super) fn new(
        ledger: &'c Ledger,
        holdings: &'c Holdings,
        names: &'c Topics,
        rules: &'c Rules,
    ) -> Self {
        let mut taken: HashMap<Box<str>, Vec<u32>> = HashMap::new();
        for (place, entry) in (0u32..).zip(&ledger.events) {
            if entry.handed_out.is_some()
                && let Some(key) = key_of(entry)
            {
                taken.entry(key.into()).or_default().push(place);
            }
        }
        let mut gaps: HashMap<&str, Vec<&GapRecord>> = HashMap::new();
        for gap in holdings.gaps.iter().filter(|gap| !gap.is_reconciled) {
            if gap.connection.is_none() {
                gaps.entry(&*gap.user).or_default().push(gap);
            }
        }
        let mut first_opened: HashMap<&str, u64> = HashMap::new();
        let mut with_several: HashSet<&str> = HashSet::new();
        for queue in &ledger.queues {
            if let Some(first) = first_opened.get(&*queue.user) {
                with_several.insert(&queue.user);
                let first = queue.opened_at.min(*first);
                first_opened.insert(&queue.user, first);
            } else {
                first_opened.insert(&queue.user, queue.opened_at);
            }
        }
        let several = |entry: &&EventEntry| with_several.contains(&*entry.user) && is_taken(entry);
        let twins = ledger.events.iter().filter(several).map(made).collect();
        Self { ledger, holdings, names, rules, taken, gaps, twins, first_opened }
    }

    /// What questions took from queues, by key, in the order of the ledger.
    pub(super) fn taken(&self) -> impl Iterator<Item = (String, Vec<&'c EventEntry>)> {
        (0u32..).zip(&self.ledger.events).filter_map(|(place, entry)| {
            let key = key_of(entry)?;
            let places = self.taken.get(&*key).filter(|places| places.first() == Some(&place))?;
            let entries = self.at(places);
            Some((key, entries))
        })
    }

    /// The entries that a record of this key may stand for.
    pub(super) fn entries(&self, key: &str) -> Vec<&'c EventEntry> {
        self.taken.get(key).map(|places| self.at(places)).unwrap_or_default()
    }

    /// The entry of a record that came from a queue; none when it was handed out under this key
    /// never, or more than once.
    pub(super) fn entry(&self, record: &EventRecord) -> Option<&'c EventEntry> {
        match self.taken.get(&*record.idempotency_key).map(Vec::as_slice) {
            Some([place]) => self.ledger.events.get(*place as usize),
            Some(_) | None => None,
        }
    }

    fn at(&self, places: &[u32]) -> Vec<&'c EventEntry> {
        places.iter().filter_map(|place| self.ledger.events.get(*place as usize)).collect()
    }

    /// The records that came from queues.
    pub(super) fn queue_records(&self) -> impl Iterator<Item = &'c EventRecord> {
        self.holdings.events.iter().filter(|record| record.origin == Origin::Queue)
    }

    /// Whether gaps of its user hold the moment at which the event was made or sent.
    pub(super) fn cover(&self, entry: &EventEntry) -> Cover {
        let mut cover = Cover::None;
        for gap in self.gaps_of(&entry.user) {
            if moments(entry).any(|at| holds(gap, at)) {
                if gap.is_certain {
                    return Cover::Certain;
                }
                cover = Cover::Possible;
            }
        }
        cover
    }

    /// The gaps of a user, before reconciliation, those of connections left out.
    pub(super) fn gaps_of(&self, user: &str) -> &[&'c GapRecord] {
        self.gaps.get(user).map(Vec::as_slice).unwrap_or_default()
    }

    /// Whether the same event was taken from another queue of its user, so that nothing is lost
    /// with this one.
    pub(super) fn has_twin(&self, entry: &EventEntry) -> bool {
        !is_taken(entry) && self.twins.contains(&made(entry))
    }

    /// Whether a queue of the user had been made before this moment.
    pub(super) fn was_watched(&self, user: &str, at: u64) -> bool {
        self.first_opened.get(user).is_some_and(|first| *first <= at)
    }

    /// Every letter that is one event.
    pub(super) fn elements(&self) -> impl Iterator<Item = &'c Letter> {
        self.holdings.letters.iter().filter(|letter| letter.is_element)
    }

    /// What makes a comparison impossible.
    pub(super) fn completeness(&self, verdict: &mut Verdict) {
        if self.ledger.truncated {
            verdict.is_blind("the ledger is truncated: give the source a higher max_events");
        }
        if self.ledger.next.is_some() {
            verdict.is_blind("the ledger was not read to its end");
        }
        // what waits in a queue that nobody knows waits until that dies: it is lost already
        let known = known_queues(self);
        let is_unknown = |entry: &EventEntry| !known.contains(entry.queue.as_deref().unwrap_or(""));
        let is_told = |entry: &EventEntry| {
            self.has_twin(entry) || is_unknown(entry) && self.cover(entry) == Cover::Certain
        };
        let waiting = self.ledger.with_fate(Fate::Waiting).filter(|entry| !is_told(entry)).count();
        if waiting > 0 {
            verdict.cannot_tell(format!("{waiting} events still wait at the source: drain longer"));
        }
    }

    pub(super) fn counts(&self) -> Counts {
        let fate = |fate| self.ledger.with_fate(fate).count();
        Counts {
            users: self.ledger.users.len(),
            queues: self.ledger.queues.len(),
            handed_out: fate(Fate::HandedOut),
            lost_on_the_wire: fate(Fate::LostOnTheWire),
            published: self.queue_records().count(),
            late: self.queue_records().filter(|record| record.late).count(),
            copies: self.holdings.copies.values().map(Vec::len).sum(),
            deaths: self.ledger.deaths.len(),
            dead_letters: self.holdings.letters.len(),
            ..Counts::default()
        }
    }
}

/// The key under which an event is published; none for one without a queue or an id.
pub(super) fn key_of(entry: &EventEntry) -> Option<String> {
    Some(format!("{}/{}", entry.queue.as_ref()?, entry.event_id.as_ref()?))
}

/// What an event is called where it may have no key.
pub(super) fn name_of(entry: &EventEntry) -> String {
    key_of(entry).unwrap_or_else(|| match &entry.queue {
        Some(queue) => format!("{queue}/(no id)"),
        None => format!("(no queue)/made at {}", entry.made_at),
    })
}

/// When an event was made, and when it was sent.
pub(super) fn moments(entry: &EventEntry) -> impl Iterator<Item = i64> {
    let sent = entry.handed_out.iter().chain(&entry.again).map(|sent| sent.at);
    std::iter::once(entry.made_at).chain(sent).map(|at| i64::try_from(at).unwrap_or(i64::MAX))
}

/// Whether a gap holds a moment.
pub(super) fn holds(gap: &GapRecord, at: i64) -> bool {
    gap.from.saturating_sub(CLOCKS_DIFFER_BY) <= at && at <= gap.to.saturating_add(CLOCKS_DIFFER_BY)
}

fn is_taken(entry: &EventEntry) -> bool {
    matches!(entry.fate, Fate::HandedOut | Fate::LostOnTheWire)
}

fn made(entry: &EventEntry) -> Made<'_> {
    (&entry.user, entry.connection.as_deref(), entry.event_type.as_deref(), entry.made_at)
}
