//! Every gap has a cause, every death a gap, and what was lost for sure is followed by the present
//! state.
//!
//! Promises:
//! - the number of gaps stays within what died, what met a fault and what was done besides;
//! - a gap is published once as reconciled, with each connection's state.
//!
//! Knows nothing of: which events lie inside a gap.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::case::{Case, holds, moments};
use super::holdings::{GapRecord, Origin};
use super::verdict::{Offence, Rule, Verdict};
use crate::simulator::{DeathEntry, EventEntry, Fate};

/// The records of one gap that are keyed by its user.
#[derive(Default)]
struct Gap<'g> {
    announced: Vec<&'g GapRecord>,
    reconciled: usize,
}

pub(super) fn judge(case: &Case<'_>, verdict: &mut Verdict) {
    let mut gaps: BTreeMap<&str, Gap<'_>> = BTreeMap::new();
    for record in case.holdings.gaps.iter().filter(|gap| gap.connection.is_none()) {
        let gap = gaps.entry(&record.gap).or_default();
        if record.is_reconciled {
            gap.reconciled += 1;
        } else {
            gap.announced.push(record);
        }
    }
    verdict.counts.gaps = gaps.len();
    let causes = Causes::of(case);
    for (id, gap) in &gaps {
        judge_one(case, &causes, id, gap, verdict);
    }
    proportion(case, verdict);
    deaths(case, verdict);
    twice(case, verdict);
    states(case, verdict);
}

fn judge_one(case: &Case<'_>, causes: &Causes<'_>, id: &str, gap: &Gap<'_>, verdict: &mut Verdict) {
    verdict.counts.reconciled += usize::from(gap.reconciled > 0);
    let Some(first) = gap.announced.first() else {
        let what = format!("gap {id} is reconciled and was never announced");
        verdict.offend(Offence::new(Rule::Reconciliation, what));
        return;
    };
    let is_certain = gap.announced.iter().any(|gap| gap.is_certain);
    verdict.counts.certain += usize::from(is_certain);
    if gap.reconciled > 1 {
        let what = format!("gap {id} of {} is reconciled {} times", first.user, gap.reconciled);
        verdict.offend(of(first, Rule::Twice, what));
    }
    if is_certain && gap.reconciled == 0 {
        let what = format!("gap {id} of {} is CERTAIN and was never reconciled", first.user);
        verdict.offend(of(first, Rule::Reconciliation, what));
    }
    // a gap that was widened has a cause when one of its spans has
    if !gap.announced.iter().any(|gap| causes.explain(case, gap)) {
        let (cause, certainty) = (&first.cause, if is_certain { "CERTAIN" } else { "POSSIBLE" });
        let what = format!("gap {id} of {} ({cause}, {certainty}) has no cause", first.user);
        verdict.offend(of(first, Rule::Cause, what));
    }
}

/// What the source knows of losses.
struct Causes<'c> {
    dead: HashMap<&'c str, i64>,
    lost: HashMap<&'c str, Vec<&'c EventEntry>>,
}

impl<'c> Causes<'c> {
    fn of(case: &Case<'c>) -> Self {
        let dead = case.ledger.deaths.iter();
        let dead = dead.map(|death| (&*death.queue, millis(death.at))).collect();
        let mut lost: HashMap<&str, Vec<&EventEntry>> = HashMap::new();
        for entry in &case.ledger.events {
            if (entry.times_lost > 0 || entry.fate == Fate::Overflow)
                && let Some(queue) = &entry.queue
            {
                lost.entry(queue).or_default().push(entry);
            }
        }
        Self { dead, lost }
    }

    fn explain(&self, case: &Case<'_>, gap: &GapRecord) -> bool {
        let is_death = matches!(&*gap.cause, "QUEUE_EXPIRED" | "QUEUE_GONE" | "CREDENTIAL_REFUSED");
        if self.dead.get(&*gap.queue).is_some_and(|died| holds(gap, *died)) {
            return true;
        }
        if is_death {
            return false;
        }
        let in_it = |entry: &&EventEntry| moments(entry).any(|at| holds(gap, at));
        case.rules.is_disturbed(gap.from, gap.to)
            || self.lost.get(&*gap.queue).is_some_and(|lost| lost.iter().any(in_it))
            // on a queue in which nothing waits a fault leaves no event behind to tell of it
            || case.rules.answers_disturbed() > 0
    }
}

fn proportion(case: &Case<'_>, verdict: &mut Verdict) {
    let done: u64 = case.rules.disturbances.iter().map(|done| done.gaps).sum();
    let mut answers: HashSet<(&str, u32)> = HashSet::new();
    for entry in &case.ledger.events {
        let lost = entry.handed_out.iter().chain(&entry.again).filter(|sent| sent.lost);
        let queue = entry.queue.as_deref().unwrap_or_default();
        answers.extend(lost.map(|sent| (queue, sent.answer)));
    }
    let answers = (answers.len() as u64).max(case.rules.answers_disturbed());
    let overflows = case.ledger.with_fate(Fate::Overflow).count() as u64;
    let excused = case.ledger.deaths.len() as u64 + answers + done + overflows;
    verdict.counts.gaps_excused = excused;
    if verdict.counts.gaps as u64 > excused {
        let what = format!("{} gaps where the faults excuse {excused}", verdict.counts.gaps);
        verdict.offend(Offence::new(Rule::Proportion, what));
    }
}

/// Every queue that the bridge knew died inside a gap that says so; one that died while the gap of
/// the queue before it was open has widened that.
fn deaths(case: &Case<'_>, verdict: &mut Verdict) {
    if case.ledger.deaths.is_empty() {
        return;
    }
    let known: HashSet<&str> = known_queues(case);
    let superseded = superseded(case);
    for DeathEntry { queue, user, at, .. } in &case.ledger.deaths {
        let queue = &**queue;
        let mut gaps = case.gaps_of(user).iter();
        let is_told = gaps.any(|gap| gap.is_certain && holds(gap, millis(*at)));
        if known.contains(queue) && !is_told && !superseded.contains(queue) {
            let what = format!("queue {queue} of {user} died and has no gap");
            verdict.offend(Offence::new(Rule::Death, what).of(user));
        }
    }
}

/// The queues that the bridge asked, or speaks of.
pub(super) fn known_queues<'c>(case: &Case<'c>) -> HashSet<&'c str> {
    let asked = case.ledger.queues.iter().filter(|queue| queue.questions > 0);
    let gaps = case.holdings.gaps.iter();
    let spoken = gaps.flat_map(|gap| [Some(&*gap.queue), gap.next_queue.as_deref()]);
    asked.map(|queue| &*queue.queue).chain(spoken.flatten()).collect()
}

/// The queues that still lived when a newer one of their user was opened: another took their place.
pub(super) fn superseded<'c>(case: &Case<'c>) -> HashSet<&'c str> {
    let mut newest: HashMap<&str, u64> = HashMap::new();
    let mut superseded = HashSet::new();
    for queue in case.ledger.queues.iter().rev() {
        let newer = newest.insert(&queue.user, queue.opened_at);
        let end = queue.died_at.unwrap_or(u64::MAX);
        if newer.is_some_and(|opened| opened < end) {
            superseded.insert(&*queue.queue);
        }
    }
    superseded
}

/// The same record of a gap, word for word, more than once.
fn twice(case: &Case<'_>, verdict: &mut Verdict) {
    let mut seen = HashSet::new();
    for gap in &case.holdings.gaps {
        // reconciliations of a user's own record are counted above
        let is_counted = gap.is_reconciled && gap.connection.is_none();
        if !is_counted && !seen.insert((&gap.gap, &gap.key, gap.is_reconciled, gap.from, gap.to)) {
            let what = format!("gap {} under key {} is there twice", gap.gap, gap.key);
            verdict.offend(of(gap, Rule::Twice, what));
        }
    }
}

/// A reconciled gap of a connection has the connection's present state, once.
fn states(case: &Case<'_>, verdict: &mut Verdict) {
    let mut states: HashMap<String, (usize, usize, &str, &str)> = HashMap::new();
    for gap in case.holdings.gaps.iter().filter(|gap| gap.is_reconciled) {
        if let Some(connection) = &gap.connection {
            let key = format!("r/{}/{connection}", gap.gap);
            states.insert(key, (1, 0, &gap.user, &gap.key));
        }
    }
    for event in &case.holdings.events {
        if event.origin == Origin::Reconciliation {
            let key = event.idempotency_key.to_string();
            states.entry(key).or_insert((0, 0, &event.user, &event.key)).1 += 1;
        }
    }
    let mut wrong: Vec<_> =
        states.into_iter().filter(|(_, (wanted, found, ..))| wanted != found).collect();
    wrong.sort_unstable();
    for (event, (wanted, found, user, key)) in wrong {
        let (rule, what) = if wanted == 0 {
            (Rule::Invented, format!("event {event} belongs to no reconciled gap"))
        } else if found > 1 {
            (Rule::Twice, format!("event {event} of a reconciled gap is there {found} times"))
        } else {
            (Rule::Reconciliation, format!("event {event} of a reconciled gap is not there"))
        };
        verdict.offend(Offence::new(rule, what).of(user).under(key).event(&event));
    }
}

fn millis(at: u64) -> i64 {
    i64::try_from(at).unwrap_or(i64::MAX)
}

fn of(gap: &GapRecord, rule: Rule, what: String) -> Offence {
    Offence::new(rule, what).of(&gap.user).under(&gap.key)
}
