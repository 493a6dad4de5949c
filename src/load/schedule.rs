//! Which fault comes when.
//!
//! Promises:
//! - the same seed gives the same schedule;
//! - about a quarter of a random schedule is free of faults, a third of its faults come in pairs,
//!   and the end of the span is free;
//! - every fault of the source that the simulator has a name for is in the lot.
//!
//! Knows nothing of: how a fault is carried out.

use std::fmt;
use std::time::Duration;

use serde_json::Value;

use super::dice::Dice;
use crate::config::{duration, duration_text};
use crate::simulator::FaultName;

/// What is done to a bridge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Blow {
    /// SIGKILL, and a start when the time is over.
    Kill,
    /// SIGSTOP, and SIGCONT when the time is over.
    Freeze,
    /// SIGTERM, and a start when the time is over.
    Terminate,
}

/// One fault.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum What {
    /// This share of the requests meets it; of a limit of rate, what exceeds so many a second.
    Source(FaultName, f64),
    /// This share of the queues dies at once.
    Expire(f64),
    /// The source refuses connections.
    Unreachable,
    /// One of the bridges.
    Bridge(Blow),
}

/// A fault and its time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Planned {
    /// When, after the start.
    pub(super) at: Duration,
    /// How long.
    pub(super) lasts: Duration,
    /// What.
    pub(super) what: What,
}

/// What a random schedule may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kinds {
    /// Faults of the source.
    pub(super) source: bool,
    /// Kills, freezes and restarts of bridges.
    pub(super) restarts: bool,
}

impl Kinds {
    /// What a word stands for; none when it is no such word.
    pub(super) fn of(word: &str) -> Option<Self> {
        let (source, restarts) = match word {
            "none" => (false, false),
            "source" => (true, false),
            "restarts" => (false, true),
            "all" => (true, true),
            _ => return None,
        };
        Some(Self { source, restarts })
    }
}

/// The faults of single requests that a random schedule draws from.
const SOURCE: [FaultName; 22] = [
    FaultName::Unauthorized,
    FaultName::RevokeToken,
    FaultName::Forbidden,
    FaultName::KillQueue,
    FaultName::Throttle,
    FaultName::RateLimit,
    FaultName::ServerError,
    FaultName::Slow,
    FaultName::Hang,
    FaultName::Cut,
    FaultName::Oversized,
    FaultName::InvalidJson,
    FaultName::Html,
    FaultName::Reset,
    FaultName::Vanish,
    FaultName::Duplicate,
    FaultName::Repeat,
    FaultName::Location,
    FaultName::EmptyList,
    FaultName::Reorder,
    FaultName::UnknownType,
    FaultName::MissingField,
];
const BLOWS: [Blow; 3] = [Blow::Kill, Blow::Freeze, Blow::Terminate];
/// Of the span's length, how much may have faults.
const BUSY: f64 = 0.95;
/// Of that, how much is free all the same: with the end, a quarter of the whole.
const FREE: f64 = 0.21;

/// A random schedule.
pub(super) fn random(seed: u64, span: Duration, kinds: Kinds) -> Vec<Planned> {
    let mut dice = Dice::new(seed, "faults");
    let mut planned = Vec::new();
    let end = span.as_secs_f64() * BUSY;
    // a slot is long enough for something to come of it, and short enough for many in a run
    let longest = (end / 4.0).clamp(0.5, 8.0);
    let mut at = 0.0;
    if !(kinds.source || kinds.restarts) {
        return planned;
    }
    while at < end {
        let lasts = dice.between(longest / 4.0, longest).min(end - at);
        let is_free = dice.happens(FREE);
        let is_pair = dice.happens(1.0 / 3.0);
        for _ in 0..if is_free { 0 } else { 1 + usize::from(is_pair) } {
            let is_blow = kinds.restarts && (!kinds.source || dice.happens(0.25));
            let what = if is_blow {
                What::Bridge(*dice.pick(&BLOWS).unwrap_or(&Blow::Kill))
            } else if dice.happens(2.0 / (SOURCE.len() + 2) as f64) {
                if dice.happens(0.5) { What::Unreachable } else { What::Expire(0.2) }
            } else {
                let name = *dice.pick(&SOURCE).unwrap_or(&FaultName::Cut);
                let most = most_of(name);
                What::Source(name, dice.between(most / 5.0, most))
            };
            // of a slot, a blow takes part only: a bridge has to come back within it
            let lasts = if is_blow { dice.between(0.0, lasts / 2.0) } else { lasts };
            let (at, lasts) = (Duration::from_secs_f64(at), Duration::from_secs_f64(lasts));
            planned.push(Planned { at, lasts, what });
        }
        at += lasts;
    }
    planned
}

/// The most requests a second that a limit of rate lets pass in a random schedule: few enough to be
/// felt in a run of the size that is usual.
const FEW_A_SECOND: f64 = 200.0;

/// The largest share of requests (or, of a limit of rate, the most of them a second) that a random
/// schedule has meet a fault.
fn most_of(name: FaultName) -> f64 {
    match name {
        // each costs a queue, or all the time that a request may take
        FaultName::KillQueue | FaultName::Hang | FaultName::Vanish | FaultName::Oversized => 0.05,
        FaultName::Location => 0.5,
        FaultName::RateLimit => FEW_A_SECOND,
        FaultName::Unauthorized
        | FaultName::RevokeToken
        | FaultName::Forbidden
        | FaultName::Throttle
        | FaultName::ServerError
        | FaultName::Slow
        | FaultName::Cut
        | FaultName::InvalidJson
        | FaultName::Html
        | FaultName::Reset
        | FaultName::Duplicate
        | FaultName::Repeat
        | FaultName::EmptyList
        | FaultName::Reorder
        | FaultName::UnknownType
        | FaultName::MissingField => 0.3,
    }
}

/// A schedule as a file has it: `AT NAME [SHARE] [for DURATION]` in each line, `#` for remarks. In
/// place of a share `rate_limit` has the requests a second that are let pass.
pub(super) fn written(text: &str) -> Result<Vec<Planned>, String> {
    let mut planned = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.split('#').next().unwrap_or_default().trim();
        if !line.is_empty() {
            let fault = of_line(line).map_err(|wrong| format!("line {number}: {wrong}"))?;
            planned.push(fault);
        }
    }
    planned.sort_by_key(|planned| planned.at);
    Ok(planned)
}

fn of_line(line: &str) -> Result<Planned, String> {
    let mut words = line.split_whitespace();
    let mut time = |what: &str| {
        let word = words.next().unwrap_or_default();
        duration(word).ok_or_else(|| format!("{what} {word:?} is no duration, write 2s or 500ms"))
    };
    let at = time("the time")?;
    let name = words.next().ok_or("a fault is missing after the time")?;
    let mut words = words.peekable();
    let share = match words.peek() {
        Some(word) if *word != "for" => Some(words.next().unwrap_or_default()),
        Some(_) | None => None,
    };
    let lasts = match (words.next(), words.next()) {
        (None, _) => Duration::from_secs(1),
        (Some("for"), Some(word)) => {
            duration(word).ok_or_else(|| format!("{word:?} is no duration, write 2s or 500ms"))?
        }
        (Some(word), _) => return Err(format!("{word:?} is not understood, write for 2s")),
    };
    let what = match (what_of(name)?, share) {
        (What::Source(FaultName::RateLimit, _), share) => {
            What::Source(FaultName::RateLimit, per_second(share.unwrap_or_default())?)
        }
        (What::Source(name, _), Some(share)) => What::Source(name, share_of(share)?),
        (What::Expire(_), Some(share)) => What::Expire(share_of(share)?),
        (What::Bridge(_) | What::Unreachable, Some(share)) => {
            return Err(format!("{name} takes no share ({share})"));
        }
        (what, None) => what,
    };
    Ok(Planned { at, lasts, what })
}

/// A fault for a whole run, as `NAME:SHARE` or `NAME`.
pub(super) fn standing(text: &str, span: Duration) -> Result<Planned, String> {
    let (name, share) = text.split_once(':').unwrap_or((text, "1"));
    match what_of(name)? {
        What::Source(FaultName::RateLimit, _) => {
            let what = What::Source(FaultName::RateLimit, per_second(share)?);
            Ok(Planned { at: Duration::ZERO, lasts: span, what })
        }
        What::Source(name, _) => {
            let what = What::Source(name, share_of(share)?);
            Ok(Planned { at: Duration::ZERO, lasts: span, what })
        }
        What::Bridge(_) | What::Expire(_) | What::Unreachable => {
            Err(format!("{name} has no share, put it in a file of --faults"))
        }
    }
}

fn what_of(name: &str) -> Result<What, String> {
    Ok(match name {
        "kill" => What::Bridge(Blow::Kill),
        "freeze" => What::Bridge(Blow::Freeze),
        "terminate" => What::Bridge(Blow::Terminate),
        "expire" => What::Expire(1.0),
        "unreachable" => What::Unreachable,
        _ => {
            let known = serde_json::from_value(Value::String(name.to_owned()));
            let name = known.map_err(|_| {
                format!("no fault is called {name:?}; bridges know kill, freeze and terminate")
            })?;
            What::Source(name, 1.0)
        }
    })
}

fn per_second(text: &str) -> Result<f64, String> {
    let rate: Option<u32> = text.parse().ok();
    rate.map(f64::from)
        .ok_or_else(|| format!("{text:?} is no number of requests a second, write rate_limit 100"))
}

fn share_of(text: &str) -> Result<f64, String> {
    let share: Option<f64> = text.parse().ok();
    let wrong = || format!("{text:?} is no share, write a number from 0 to 1");
    share.filter(|share| (0.0..=1.0).contains(share)).ok_or_else(wrong)
}

impl fmt::Display for What {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Source(name, share) => {
                let name = serde_json::to_value(name).unwrap_or_default();
                write!(formatter, "{} {share:.2}", name.as_str().unwrap_or_default())
            }
            Self::Expire(share) => write!(formatter, "expire {share:.2}"),
            Self::Unreachable => formatter.write_str("unreachable"),
            Self::Bridge(Blow::Kill) => formatter.write_str("kill"),
            Self::Bridge(Blow::Freeze) => formatter.write_str("freeze"),
            Self::Bridge(Blow::Terminate) => formatter.write_str("terminate"),
        }
    }
}

impl fmt::Display for Planned {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (at, lasts) = (duration_text(self.at), duration_text(self.lasts));
        write!(formatter, "{at} {} for {lasts}", self.what)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPAN: Duration = Duration::from_secs(600);
    const ALL: Kinds = Kinds { source: true, restarts: true };

    #[test]
    fn a_seed_repeats_its_schedule() {
        assert_eq!(random(5, SPAN, ALL), random(5, SPAN, ALL));
        assert_ne!(random(5, SPAN, ALL), random(6, SPAN, ALL));
        assert_eq!(random(5, SPAN, Kinds { source: false, restarts: false }), []);
    }

    #[test]
    fn about_a_quarter_of_the_time_is_free_and_so_is_the_end() {
        let span = SPAN * 20;
        let planned = random(11, span, Kinds { source: true, restarts: false });
        let free = (0..span.as_secs()).filter(|second| {
            let at = Duration::from_secs(*second);
            !planned.iter().any(|fault| fault.at <= at && at < fault.at + fault.lasts)
        });
        let share = free.count() as f64 / span.as_secs_f64();
        assert!((0.22..0.28).contains(&share), "{share}");
        let last = planned.iter().map(|fault| fault.at + fault.lasts).max().unwrap();
        assert!(last <= span.mul_f64(BUSY) + Duration::from_millis(1), "{last:?}");
    }

    #[test]
    fn every_kind_comes_up() {
        let planned = random(3, SPAN * 20, ALL);
        for name in SOURCE {
            let is_it = |fault: &&Planned| matches!(fault.what, What::Source(of, _) if of == name);
            assert!(planned.iter().any(|fault| is_it(&fault)), "{name:?}");
        }
        assert!(planned.iter().any(|fault| fault.what == What::Unreachable));
        assert!(planned.iter().any(|fault| matches!(fault.what, What::Expire(_))));
        for blow in BLOWS {
            assert!(planned.iter().any(|fault| fault.what == What::Bridge(blow)), "{blow:?}");
        }
        let kinds = Kinds { source: false, restarts: true };
        let planned = random(3, SPAN, kinds);
        assert!(planned.iter().all(|fault| matches!(fault.what, What::Bridge(_))));
    }

    #[test]
    fn a_schedule_can_be_written_down() {
        let text = "# first\n5s kill for 1s # then\n2s cut 0.3 for 3s\n\n7s hang\n8s expire 0.5\n\
                    9s rate_limit 40 for 2s";
        let planned = written(text).unwrap();
        let shown: Vec<String> = planned.iter().map(ToString::to_string).collect();
        assert_eq!(
            shown,
            [
                "2s cut 0.30 for 3s",
                "5s kill for 1s",
                "7s hang 1.00 for 1s",
                "8s expire 0.50 for 1s",
                "9s rate_limit 40.00 for 2s"
            ]
        );
    }

    #[test]
    fn what_is_not_understood_is_told_with_its_line() {
        for (text, wrong) in [
            ("\nsoon cut", "line 2: the time \"soon\" is no duration, write 2s or 500ms"),
            ("1s", "line 1: a fault is missing after the time"),
            ("1s cat", "line 1: no fault is called \"cat\""),
            ("1s cut 3", "line 1: \"3\" is no share"),
            ("1s cut 0.1 until 2s", "line 1: \"until\" is not understood"),
            ("1s kill 0.5", "line 1: kill takes no share"),
            ("1s rate_limit for 2s", "line 1: \"\" is no number of requests a second"),
            ("1s rate_limit 0.5", "line 1: \"0.5\" is no number of requests a second"),
        ] {
            let told = written(text).unwrap_err();
            assert!(told.starts_with(wrong), "{told}");
        }
        assert!(standing("cut:0.05", SPAN).is_ok());
        assert!(standing("kill", SPAN).is_err());
        assert!(standing("cut:2", SPAN).is_err());
    }
}
