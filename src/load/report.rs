//! What is told at the end, for eyes and for machines.
//!
//! The JSON has `version` 1. Times are milliseconds since 1970, or lengths in milliseconds:
//!
//! | field | what |
//! |---|---|
//! | `version` | 1; higher when a field goes or changes its meaning |
//! | `outcome` | `agrees`, `disagrees` or `cannot_tell` |
//! | `seed`, `options` | what repeats the run; none for a judgement without one |
//! | `began`, `lasted_ms` | when the run began, how long events were made |
//! | `subscribed` | users, time and rate of the subscriptions |
//! | `per_second` | `asked`, `made`, `published` on average |
//! | `lag_ms` | answer received to readable under `read_committed`: `p50`, `p99`, `longest`, over `records` |
//! | `counts` | what the oracle counted |
//! | `source` | the totals of the simulator, faults met included |
//! | `faults` | what was done: `what`, `bridge` (null: the source), `at`, `until`, `costs_answers` |
//! | `offended` | disagreements by rule |
//! | `offences` | the first 200: `rule`, `what`, `user`, `key`, `events`, `history` of `at` and `what` |
//! | `unknown` | why it cannot be told |
//!
//! Promises: a field is there or null, never left out.
//!
//! Knows nothing of: how any of it came about.

use serde::Serialize;
use serde_json::{Value, json};

use super::drive::Driven;
use super::options::RunOptions;
use super::seeding::Seeded;
use super::tail::Lag;
use crate::ids::Timestamp;
use crate::oracle::{Offence, Outcome, Verdict};
use crate::simulator::Stats;

const VERSION: u32 = 1;
/// Disagreements that are shown, and lines of each one's history.
const MOST: usize = 20;
const MOST_LINES: usize = 30;

/// What is told of the run itself.
pub(super) struct Told {
    /// When it began.
    pub(super) began: Timestamp,
    /// Its seed.
    pub(super) seed: u64,
    /// What it was told.
    pub(super) options: RunOptions,
    /// The subscriptions.
    pub(super) seeded: Seeded,
    /// Events that the simulator had made before.
    pub(super) made_before: u64,
    /// What was done.
    pub(super) driven: Driven,
    /// What was measured.
    pub(super) lag: Lag,
}

/// The report for machines.
#[derive(Serialize)]
struct Report<'r> {
    version: u32,
    outcome: Outcome,
    seed: Option<u64>,
    options: Value,
    began: Option<i64>,
    lasted_ms: Option<u64>,
    subscribed: Option<Seeded>,
    per_second: Value,
    lag_ms: Option<Lag>,
    counts: Value,
    source: &'r Stats,
    faults: Value,
    offended: Value,
    offences: &'r [Offence],
    unknown: &'r [String],
}

/// The report as JSON.
pub(super) fn json(told: Option<&Told>, verdict: &Verdict, stats: &Stats) -> String {
    let value = |it: Option<Value>| it.unwrap_or_default();
    let report = Report {
        version: VERSION,
        outcome: verdict.outcome(),
        seed: told.map(|told| told.seed),
        options: value(told.map(|told| options(&told.options))),
        began: told.map(|told| told.began.0),
        lasted_ms: told.map(|told| told.driven.lasted.as_millis() as u64),
        subscribed: told.map(|told| told.seeded),
        per_second: value(told.map(|told| per_second(told, stats))),
        lag_ms: told.map(|told| told.lag),
        counts: serde_json::to_value(&verdict.counts).unwrap_or_default(),
        source: stats,
        faults: value(told.map(|told| json!(told.driven.faults))),
        offended: serde_json::to_value(&verdict.offended).unwrap_or_default(),
        offences: &verdict.offences,
        unknown: &verdict.unknown,
    };
    serde_json::to_string_pretty(&report).unwrap_or_default()
}

fn options(options: &RunOptions) -> Value {
    json!({
        "users": options.users,
        "events_per_second": options.events_per_second,
        "for_ms": options.lasts.as_millis() as u64,
        "faults": options.faults,
        "fault": options.fault,
        "bridges": if options.starts_bridges() { Some(options.bridges) } else { None },
        "attached": options.bridge.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "simulator": options.judging.simulator.as_ref().map(ToString::to_string),
        "hints": !options.no_hints,
        "drain_ms": options.judging.drain.as_millis() as u64,
    })
}

impl Told {
    /// A count of the run, by the second in which events were made.
    fn per_second(&self, count: u64) -> f64 {
        (count as f64 / self.driven.lasted.as_secs_f64().max(0.001) * 10.0).round() / 10.0
    }

    fn made_per_second(&self, stats: &Stats) -> f64 {
        self.per_second(stats.made.saturating_sub(self.made_before))
    }
}

fn per_second(told: &Told, stats: &Stats) -> Value {
    json!({
        "asked": told.per_second(told.driven.asked),
        "made": told.made_per_second(stats),
        "published": told.per_second(told.lag.records),
    })
}

/// The report for eyes.
pub(super) fn text(told: Option<&Told>, verdict: &Verdict, stats: &Stats) -> String {
    let mut lines = Vec::new();
    if let Some(told) = told {
        let (seeded, lag) = (&told.seeded, &told.lag);
        lines.push(format!("seed {}", told.seed));
        lines.push(format!(
            "{} users subscribed in {:.1} s, {:.0} a second; events for {:.1} s, {:.1} a second",
            seeded.users,
            seeded.took_ms as f64 / 1000.0,
            seeded.per_second,
            told.driven.lasted.as_secs_f64(),
            told.made_per_second(stats),
        ));
        let in_ms = |lag: Option<u64>| lag.map_or("-".to_owned(), |lag| format!("{lag} ms"));
        lines.push(format!(
            "received to readable: p50 {}, p99 {}, longest {}",
            in_ms(lag.p50),
            in_ms(lag.p99),
            in_ms(lag.longest)
        ));
        let met: u64 = stats.faults.values().sum();
        let struck = told.driven.faults.iter().filter(|done| done.bridge.is_some()).count();
        lines.push(format!(
            "{met} requests met a fault of the source, bridges were struck {struck} times"
        ));
    }
    lines.extend(counts(verdict, stats));
    match verdict.outcome() {
        Outcome::Agrees => lines.push("AGREES: ledger and topics say the same".to_owned()),
        Outcome::CannotTell => {
            lines.push("CANNOT TELL whether ledger and topics agree:".to_owned());
            lines.extend(verdict.unknown.iter().map(|why| format!("- {why}")));
        }
        Outcome::Disagrees => {
            let rules: Vec<String> = verdict
                .offended
                .iter()
                .map(|(rule, count)| format!("{} {count}", rule.as_str()))
                .collect();
            lines.push(format!("DISAGREES: {}", rules.join(", ")));
            for offence in verdict.offences.iter().take(MOST) {
                lines.push(format!("- {offence}"));
                for happened in offence.history.iter().take(MOST_LINES) {
                    lines.push(format!("    {} {}", happened.at, happened.what));
                }
            }
            let left = verdict.offences_in_all().saturating_sub(MOST);
            if left > 0 {
                lines.push(format!("- and {left} more"));
            }
        }
    }
    lines.join("\n")
}

fn counts(verdict: &Verdict, stats: &Stats) -> Vec<String> {
    let counts = &verdict.counts;
    vec![
        format!(
            "source: {} questions, {} events handed out, {} lost on the wire, {} queues died",
            stats.polls, counts.handed_out, counts.lost_on_the_wire, counts.deaths
        ),
        format!(
            "topics: {} events ({} late), {} of reconciliations, {} copies for {} calls to act, {} \
             dead letters",
            counts.published,
            counts.late,
            counts.listed,
            counts.copies,
            counts.asked_to_act,
            counts.dead_letters
        ),
        format!(
            "gaps: {} ({} certain, {} reconciled) where {} are excused; {} of {} losses lie in one",
            counts.gaps,
            counts.certain,
            counts.reconciled,
            counts.gaps_excused,
            counts.covered,
            counts.lost
        ),
        format!("the longest a live queue was left alone: {} ms", counts.longest_pause_ms),
    ]
}
