//! The last lines: what the ledger says beside what the topics hold, and whether they agree.
//!
//! Promises: everything that disagrees is named, up to [`MOST`] of them.
//!
//! Knows nothing of: how it was found out.

use super::screen::{Screen, Tone, plural};
use super::stage::QUEUE_LIFETIME;
use super::story::{Told, in_millis, in_seconds};
use crate::oracle::Verdict;

/// Disagreements that are named one by one.
const MOST: usize = 10;

/// Shows the comparison and the verdict.
pub(super) fn show(verdict: &Verdict, told: &Told, screen: &mut Screen) {
    let counts = &verdict.counts;
    screen.line(Tone::Plain, "");
    screen.headline(&format!("{:<46}  {}", "ledger of the simulated Linxo", "topics, read anew"));
    let rows = [
        (
            format!("{} handed out", plural(counts.handed_out, "event")),
            format!("{} in linxo.events, {} more listed anew", counts.published, counts.listed),
        ),
        (
            format!("{} to a user to act", plural(counts.asked_to_act, "call")),
            format!("{} in linxo.actions.*", counts.copies),
        ),
        (
            format!("{} died", plural(counts.deaths, "queue")),
            format!(
                "{} in linxo.gaps, {} reconciled",
                plural(counts.gaps, "gap"),
                counts.reconciled
            ),
        ),
        (
            format!("{} lost at Linxo", plural(counts.lost, "event")),
            format!("{} inside the time of a gap", counts.covered),
        ),
        (String::new(), format!("{} in linxo.dead-letters", counts.dead_letters)),
    ];
    for (ledger, topics) in rows {
        screen.line(Tone::Plain, &format!("{ledger:<46}  {topics}"));
    }
    screen.line(
        Tone::Plain,
        &format!(
            "lag p50 {}, p99 {} (made at Linxo to readable in Kafka); headroom never below {} of {} s; \
             {} questions",
            in_millis(told.lag_p50),
            in_millis(told.lag_p99),
            in_seconds(told.headroom),
            QUEUE_LIFETIME.as_secs(),
            told.polls,
        ),
    );
    let took = screen.started().elapsed().as_secs_f64();
    if verdict.agrees() {
        screen.line(Tone::Good, &format!("ledger and topics agree ({took:.1} s)"));
        return;
    }
    let count = verdict.offences_in_all() + verdict.unknown.len();
    let text = format!("ledger and topics DISAGREE: {} ({took:.1} s)", plural(count, "fault"));
    screen.line(Tone::Bad, &text);
    let offences = verdict.offences.iter().map(ToString::to_string);
    for fault in offences.chain(verdict.unknown.iter().cloned()).take(MOST) {
        screen.line(Tone::Bad, &format!("  - {fault}"));
    }
    if count > MOST {
        screen.line(Tone::Bad, &format!("  - and {} more", count - MOST));
    }
}
