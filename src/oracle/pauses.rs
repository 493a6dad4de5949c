//! Every live queue was asked in time, and by one instance.
//!
//! Promises: a queue that nobody but the source knew of, or that another has taken the place of, is
//! left aside.
//!
//! Knows nothing of: events.

use std::time::Duration;

use super::case::Case;
use super::gaps::{known_queues, superseded};
use super::verdict::{Offence, Rule, Verdict};

pub(super) fn judge(case: &Case<'_>, verdict: &mut Verdict) {
    let (known, superseded) = (known_queues(case), superseded(case));
    let bound = case.rules.longest_pause;
    let millis = |bound: Duration| u64::try_from(bound.as_millis()).unwrap_or(u64::MAX);
    let bound = bound.map(millis);
    let longest_contest = case.rules.longest_contest.map(millis);
    for queue in &case.ledger.queues {
        if !known.contains(&*queue.queue) {
            continue;
        }
        let is_superseded = superseded.contains(&*queue.queue);
        let silent = if is_superseded { 0 } else { queue.silent_ms };
        let pause = queue.longest_pause_ms.max(silent);
        verdict.counts.longest_pause_ms = verdict.counts.longest_pause_ms.max(pause);
        if let Some(bound) = bound
            && pause > bound
        {
            let (id, user) = (&queue.queue, &queue.user);
            let what =
                format!("queue {id} of {user} was not asked for {pause} ms, the bound is {bound}");
            verdict.offend(Offence::new(Rule::Pause, what).of(user));
        }
        let contest = queue.contested_ms;
        verdict.counts.longest_contest_ms = verdict.counts.longest_contest_ms.max(contest);
        if let Some(bound) = longest_contest
            && contest > bound
        {
            let (id, user) = (&queue.queue, &queue.user);
            let what = format!(
                "queue {id} of {user} was asked by two in turn for {contest} ms, the bound is {bound}"
            );
            verdict.offend(Offence::new(Rule::Contest, what).of(user));
        }
    }
}
