//! Whether what the source handed out and what the topics hold agree, by every rule of the faults
//! that the bridge must survive.
//!
//! Promises:
//! - each rule is a file of its own and says which event breaks it, with what is known of it;
//! - nothing that the bridge says of itself is believed but its records;
//! - the work grows with the number of events, not faster;
//! - what cannot be compared is told apart from what disagrees.
//!
//! The ledger has to be read while the bridge still runs, as queues that nobody asks die; and the
//! topics after it. Knows nothing of: how faults come about, how a verdict is shown.

mod actions;
mod case;
mod events;
mod gaps;
mod history;
mod holdings;
mod pauses;
mod sequences;
#[cfg(test)]
mod tests;
mod topics;
mod verdict;

use std::collections::BTreeMap;
use std::time::Duration;

use crate::record::Topics;
use crate::simulator::{FaultName, Ledger, Outage};

pub use holdings::{EventRecord, Found, GapRecord, Holdings, Letter, Origin};
pub use topics::{Patience, ReadingError, read_all};
pub use verdict::{Counts, Happened, Offence, Outcome, Rule, Verdict};

use case::Case;

/// What the source does with an event that it has handed out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Delivery {
    /// It is gone: each time it was handed out counts.
    #[default]
    Once,
    /// It may be handed out again, and is to be recognised then.
    Repeatable,
}

/// Something that was done to the bridge or to Kafka, in which answers may have been lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disturbance {
    /// What, for eyes.
    pub what: String,
    /// When it began, in milliseconds since 1970.
    pub from: u64,
    /// When it was over.
    pub to: u64,
    /// How many gaps it excuses: the questions that may have been under way.
    pub gaps: u64,
}

/// What a run is judged by. The default is that of a run without faults.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// What the source does with what it has handed out.
    pub delivery: Delivery,
    /// The longest time between two questions to a live queue; none: not judged.
    pub longest_pause: Option<Duration>,
    /// Whether every partition is handed over in order, so that nothing may be late.
    pub is_orderly: bool,
    /// How long two instances may ask a queue in turn; none: not judged.
    pub longest_contest: Option<Duration>,
    /// How often the source met each fault, as its totals say: what may have cost answers, though
    /// nothing waited in the queue so that the ledger has no event of it.
    pub met: BTreeMap<FaultName, u64>,
    /// What was done besides.
    pub disturbances: Vec<Disturbance>,
}

impl Disturbance {
    /// A time in which the source could not be reached: what was under way was cut.
    pub fn outage(outage: &Outage, gaps: u64) -> Self {
        let what = "the source could not be reached".to_owned();
        Self { what, from: outage.from, to: outage.to, gaps }
    }
}

impl Rules {
    /// Whether a span, in milliseconds since 1970, meets something that was done.
    fn is_disturbed(&self, from: i64, to: i64) -> bool {
        let millis = |at: u64| i64::try_from(at).unwrap_or(i64::MAX);
        self.disturbances.iter().any(|done| {
            from - CLOCKS_DIFFER_BY <= millis(done.to)
                && millis(done.from) <= to.saturating_add(CLOCKS_DIFFER_BY)
        })
    }

    /// How many answers met a fault that may have cost what was in them.
    fn answers_disturbed(&self) -> u64 {
        self.met.iter().filter(|(name, _)| may_cost_an_answer(**name)).map(|(_, times)| times).sum()
    }
}

/// The source counts whole milliseconds from its start, gaps are in those of the wall clock.
const CLOCKS_DIFFER_BY: i64 = 20;

/// Does this fault leave the bridge unsure of an answer? A fault that is not known here does.
fn may_cost_an_answer(name: FaultName) -> bool {
    !matches!(
        name,
        FaultName::Unauthorized
            | FaultName::RevokeToken
            | FaultName::Forbidden
            | FaultName::KillQueue
            | FaultName::Throttle
            | FaultName::RateLimit
            | FaultName::ServerError
            | FaultName::Location
            | FaultName::EmptyList
            | FaultName::Duplicate
            | FaultName::Repeat
            | FaultName::Reorder
            | FaultName::UnknownType
            | FaultName::MissingField
    )
}

/// Does the bridge know for sure that an answer which met this fault is lost?
fn surely_costs_an_answer(name: FaultName) -> bool {
    // a head came, and then not the body that it promised
    matches!(name, FaultName::Cut | FaultName::Hang | FaultName::Slow | FaultName::Oversized)
}

/// Compares a whole ledger with whole topics.
pub fn judge(ledger: &Ledger, holdings: &Holdings, names: &Topics, rules: &Rules) -> Verdict {
    let case = Case::new(ledger, holdings, names, rules);
    let mut verdict = Verdict::new(case.counts());
    case.completeness(&mut verdict);
    events::judge(&case, &mut verdict);
    sequences::judge(&case, &mut verdict);
    actions::judge(&case, &mut verdict);
    gaps::judge(&case, &mut verdict);
    pauses::judge(&case, &mut verdict);
    history::tell(&case, &mut verdict);
    verdict
}
