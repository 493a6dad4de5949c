//! The end of a run: what it is judged by, and when.
//!
//! Promises:
//! - what may still arrive is waited for, up to a limit; what is wrong for good is told at once;
//! - the ledger is read while the bridges run, as queues that nobody asks die, and the topics after
//!   it.
//!
//! Knows nothing of: the rules themselves.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::LoadError;
use super::drive::Done;
use super::figures::Figures;
use super::source::Source;
use super::stage::Place;
use super::tail::Tail;
use crate::config::{self, Config};
use crate::oracle::{self, Delivery, Disturbance, Outcome, Rule, Rules, Verdict};
use crate::simulator::{FaultName, Ledger, Stats};

const LOOK: Duration = Duration::from_millis(200);
/// So long nothing may have come before a first look.
const QUIET: Duration = Duration::from_secs(2);
/// What a look may cost in turn.
const FIRST_AGAIN: Duration = Duration::from_secs(2);
const LONGEST_AGAIN: Duration = Duration::from_secs(30);
/// How long the topics may take to be read.
const READING: Duration = Duration::from_secs(300);
/// Beside what is known to delay a question.
const SLACK: Duration = Duration::from_secs(1);
/// How long the group waits for a member that is silent, where the broker decides.
const SESSION: Duration = Duration::from_secs(45);
/// What a bridge may take from ready until the last queue is asked.
const TAKE_OVER: Duration = Duration::from_secs(15);

/// What a run is judged by.
pub(super) fn rules(config: &Config, stats: &Stats, ledger: &Ledger, done: &[Done]) -> Rules {
    // a user is asked one question at a time
    let at_once = config.polling.max_in_flight.min(ledger.users.len()) as u64;
    let mut disturbances: Vec<Disturbance> = done
        .iter()
        .filter(|done| done.costs_answers)
        .map(|done| Disturbance {
            what: done.what.clone(),
            from: done.at,
            to: done.until,
            gaps: at_once,
        })
        .collect();
    disturbances.extend(ledger.outages.iter().map(|outage| Disturbance::outage(outage, at_once)));
    Rules {
        delivery: delivery(config),
        longest_pause: Some(longest_pause(config, stats, ledger, done)),
        // who is stopped or cut off does not reach the group, and may ask meanwhile
        longest_contest: done.is_empty().then(|| config.kafka.session_timeout.unwrap_or(SESSION)),
        is_orderly: done.is_empty(),
        met: stats.faults.clone(),
        disturbances,
    }
}

/// What a judgement without a run goes by.
pub(super) fn bare_rules(config: &Config, stats: &Stats, ledger: &Ledger) -> Rules {
    Rules { longest_pause: None, ..rules(config, stats, ledger, &[]) }
}

fn delivery(config: &Config) -> Delivery {
    match config.linxo.delivery {
        config::Delivery::Once => Delivery::Once,
        config::Delivery::Repeatable => Delivery::Repeatable,
    }
}

/// The longest time that a queue may be left alone: the keep-alive interval, and what the faults of
/// the run add to it.
fn longest_pause(config: &Config, stats: &Stats, ledger: &Ledger, done: &[Done]) -> Duration {
    let keep_alive = config.polling.keep_alive;
    let mut bound = keep_alive + keep_alive / 10 + SLACK;
    let is_refusal = |name: &FaultName| {
        matches!(name, FaultName::Unauthorized | FaultName::RevokeToken | FaultName::Forbidden)
    };
    if stats.faults.keys().any(is_refusal) {
        // a refused credential is not tried more often
        bound = bound.max(config.credentials.retry + SLACK);
    }
    let outages = ledger.outages.iter().map(|outage| outage.to.saturating_sub(outage.from));
    if let Some(longest) = outages.max() {
        // what was tried in vain is tried again ever more rarely
        bound += 2 * Duration::from_millis(longest);
    }
    if !stats.faults.is_empty() {
        bound += config.linxo.request_timeout;
    }
    let is_throttling =
        |name: &FaultName| matches!(name, FaultName::Throttle | FaultName::RateLimit);
    if stats.faults.keys().any(is_throttling) {
        // the bridge asks less then, and each queue as it becomes urgent
        bound += config.linxo.queue_lifetime / 3;
    }
    let away = done.iter().filter(|done| done.bridge.is_some());
    if let Some(longest) = away.map(|done| done.until.saturating_sub(done.at)).max() {
        let session = config.kafka.session_timeout.unwrap_or(Duration::from_secs(45));
        bound += Duration::from_millis(longest) + session + TAKE_OVER;
    }
    bound
}

/// Waits until everything has arrived, and judges; looks again while what is wrong may mend.
pub(super) async fn settle(
    place: &Place,
    source: &Source,
    tail: Option<&Tail>,
    drain: Duration,
    figures: &Figures,
    rules: impl Fn(&Stats, &Ledger) -> Rules,
) -> Result<(Verdict, Stats), LoadError> {
    let deadline = Instant::now() + drain;
    let mut again = FIRST_AGAIN;
    quiet(source, tail, figures, deadline).await?;
    loop {
        let began = Instant::now();
        let stats = source.stats().await?;
        let ledger = source.ledger().await?;
        figures.source(&stats);
        let read = place.read(READING).await;
        // what was handed out meanwhile may be in the topics, and is not in the ledger
        let is_still = source.stats().await?.handed_out == stats.handed_out;
        let is_last = Instant::now() >= deadline;
        let verdict = match read {
            Ok(holdings) => {
                oracle::judge(&ledger, &holdings, &place.names, &rules(&stats, &ledger))
            }
            Err(error) if is_last => return Err(error),
            Err(error) => {
                eprintln!("not yet: {error}");
                sleep(again).await;
                continue;
            }
        };
        figures.found(&verdict);
        let is_over = match verdict.outcome() {
            Outcome::Agrees => true,
            Outcome::Disagrees | Outcome::CannotTell => is_still && !may_mend(&verdict),
        };
        if is_last || is_over {
            return Ok((verdict, stats));
        }
        eprintln!("not yet: {}", first_of(&verdict));
        // reading costs what it costs: not more than half of the time
        again = (again * 2).max(began.elapsed()).min(LONGEST_AGAIN);
        sleep(again.min(deadline.saturating_duration_since(Instant::now()))).await;
    }
}

/// Waits until nothing has come for a while, nor been taken from what waits at the source.
async fn quiet(
    source: &Source,
    tail: Option<&Tail>,
    figures: &Figures,
    deadline: Instant,
) -> Result<(), LoadError> {
    let mut last = ((u64::MAX, 0), Instant::now());
    while last.1.elapsed() < QUIET && Instant::now() < deadline {
        let stats = source.stats().await?;
        figures.source(&stats);
        let now = (stats.waiting, tail.map_or(0, Tail::records));
        if now != last.0 {
            last = (now, Instant::now());
        }
        sleep(LOOK).await;
    }
    Ok(())
}

/// Whether time alone may make it right.
fn may_mend(verdict: &Verdict) -> bool {
    let mends = |rule: &Rule| {
        matches!(rule, Rule::Lost | Rule::Certainty | Rule::Death | Rule::Reconciliation)
    };
    match verdict.outcome() {
        Outcome::Agrees => false,
        Outcome::Disagrees => verdict.offended.keys().all(mends),
        Outcome::CannotTell => true,
    }
}

fn first_of(verdict: &Verdict) -> String {
    let offence = verdict.offences.first().map(ToString::to_string);
    offence.or_else(|| verdict.unknown.first().cloned()).unwrap_or_default()
}
