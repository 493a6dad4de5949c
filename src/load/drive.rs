//! The run itself: traffic, faults and a line of progress a second.
//!
//! Promises:
//! - returns when the time is over or the run is interrupted, with every fault over, every bridge
//!   back and the source healed;
//! - a bridge that ends by itself is started again, and that is told; so is one of those that ran
//!   already when it is away.
//!
//! Knows nothing of: the verdict.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedMutexGuard, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::LoadError;
use super::bridges::Bridge;
use super::dice::Dice;
use super::figures::Figures;
use super::schedule::{Blow, Planned, What};
use super::source::Source;
use super::stage::Stage;
use super::tail::Tail;
use super::traffic::Traffic;
use super::watch::Watch;
use super::wire::order;
use crate::ids::Timestamp;
use crate::stop;

const STEP: Duration = Duration::from_millis(50);
const SECOND: Duration = Duration::from_secs(1);
/// Hints under way; what is beyond is not said, as it would be late.
const HINTS: usize = 64;

/// A fault that was carried out. Times are milliseconds since 1970.
#[derive(Clone, Debug, serde::Serialize)]
pub(super) struct Done {
    /// What.
    pub(super) what: String,
    /// The bridge it was done to; none: the source.
    pub(super) bridge: Option<String>,
    /// When it began.
    pub(super) at: u64,
    /// When all was well again.
    pub(super) until: u64,
    /// Whether questions that were under way may have been lost with it.
    pub(super) costs_answers: bool,
}

/// What is told of a run.
pub(super) struct Driven {
    /// What was done, in the order in which it was over.
    pub(super) faults: Vec<Done>,
    /// How long events were made.
    pub(super) lasted: Duration,
    /// Questions in that time.
    pub(super) asked: u64,
}

/// What a run is made of.
pub(super) struct Script {
    /// Whose synchronizations come when.
    pub(super) traffic: Traffic,
    /// Which faults come when.
    pub(super) plan: Vec<Planned>,
    /// How long.
    pub(super) lasts: Duration,
    /// Whether bridges are told of synchronizations.
    pub(super) hints: bool,
    /// Draws which bridge is struck.
    pub(super) dice: Dice,
    /// A body of more bytes than a bridge reads.
    pub(super) oversized: u64,
}

/// Drives a run to its end.
pub(super) async fn drive(
    stage: &Stage,
    tail: &Tail,
    figures: &Figures,
    script: Script,
) -> Result<Driven, LoadError> {
    let asked_before = stage.source.stats().await?.polls;
    let started = Instant::now();
    let end = started + script.lasts;
    let mut run = Run {
        stage,
        tail,
        figures,
        edges: edges(&script.plan),
        active: vec![None; script.plan.len()],
        script,
        under_way: JoinSet::new(),
        watch: Watch::start(stage.attached()),
        hints: Arc::new(Semaphore::new(HINTS)),
        done: Vec::new(),
        before: (asked_before, 0),
        turn: 0,
    };
    let mut step = interval(STEP);
    step.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut second = interval(SECOND);
    second.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last = started;
    let mut interrupted = std::pin::pin!(stop::requested());
    loop {
        let next = run.edges.last().map_or(end, |edge| started + edge.at);
        tokio::select! {
            biased;
            () = sleep_until(end) => break,
            () = &mut interrupted => {
                eprintln!("interrupted: no more events, now everything has to arrive");
                break;
            }
            () = sleep_until(next), if !run.edges.is_empty() => run.edge().await?,
            Some(struck) = run.under_way.join_next(), if !run.under_way.is_empty() => {
                run.done.push(struck.map_err(LoadError::Task)??);
            }
            _ = second.tick() => {
                run.look_after();
                run.progress(started).await?;
            }
            _ = step.tick() => {
                let now = Instant::now();
                run.synchronize(now - last).await?;
                last = now;
            }
        }
    }
    let lasted = started.elapsed();
    let asked = stage.source.stats().await?.polls - asked_before;
    run.finish().await?;
    Ok(Driven { faults: run.done, lasted, asked })
}

/// A fault of a plan begins or ends.
#[derive(Clone, Copy)]
struct Edge {
    at: Duration,
    place: usize,
    begins: bool,
}

/// The edges of a plan, the next one last.
fn edges(plan: &[Planned]) -> Vec<Edge> {
    let mut edges = Vec::new();
    for (place, planned) in plan.iter().enumerate() {
        edges.push(Edge { at: planned.at, place, begins: true });
        if !matches!(planned.what, What::Bridge(_)) {
            edges.push(Edge { at: planned.at + planned.lasts, place, begins: false });
        }
    }
    edges.sort_by_key(|edge| std::cmp::Reverse(edge.at));
    edges
}

struct Run<'r> {
    stage: &'r Stage,
    tail: &'r Tail,
    figures: &'r Figures,
    script: Script,
    edges: Vec<Edge>,
    /// When each fault of the source that stands was ordered.
    active: Vec<Option<u64>>,
    under_way: JoinSet<Result<Done, LoadError>>,
    watch: Watch,
    hints: Arc<Semaphore>,
    done: Vec<Done>,
    /// Questions and records at the line before.
    before: (u64, u64),
    turn: usize,
}

impl Run<'_> {
    fn source(&self) -> &Source {
        &self.stage.source
    }

    /// Begins or ends the next fault of the plan.
    async fn edge(&mut self) -> Result<(), LoadError> {
        let Some(edge) = self.edges.pop() else { return Ok(()) };
        let planned = self.script.plan[edge.place];
        match planned.what {
            What::Bridge(blow) => {
                self.strike(blow, planned);
                Ok(())
            }
            What::Source(..) | What::Unreachable => {
                if edge.begins {
                    self.active[edge.place] = Some(now());
                } else {
                    self.is_over(edge.place);
                }
                self.order().await
            }
            What::Expire(share) => {
                if edge.begins {
                    self.active[edge.place] = Some(now());
                    return self.source().expire(share).await;
                }
                self.is_over(edge.place);
                Ok(())
            }
        }
    }

    fn is_over(&mut self, place: usize) {
        if let Some(at) = self.active[place].take() {
            let what = self.script.plan[place].what.to_string();
            let done = Done { what, bridge: None, at, until: now(), costs_answers: false };
            self.done.push(done);
        }
    }

    /// Orders what stands, and nothing else.
    async fn order(&self) -> Result<(), LoadError> {
        self.source().heal().await?;
        for (planned, active) in self.script.plan.iter().zip(&self.active) {
            let Some(since) = active else { continue };
            match planned.what {
                What::Source(name, share) => {
                    self.source().inflict(order(name, share, self.script.oversized)).await?;
                }
                What::Unreachable => {
                    let over = Duration::from_millis(now().saturating_sub(*since));
                    self.source().unreachable(planned.lasts.saturating_sub(over)).await?;
                }
                What::Expire(_) | What::Bridge(_) => {}
            }
        }
        Ok(())
    }

    /// Strikes one of the bridges that nothing is done to now.
    fn strike(&mut self, blow: Blow, planned: Planned) {
        let free: Vec<OwnedMutexGuard<Bridge>> = self
            .stage
            .bridges
            .iter()
            .filter_map(|it| Arc::clone(it).try_lock_owned().ok())
            .collect();
        let chosen = self.script.dice.below(free.len());
        // when all are struck already, one blow less
        let Some(mut bridge) = free.into_iter().nth(chosen) else { return };
        self.figures.struck();
        self.under_way.spawn(async move {
            let at = now();
            bridge.strike(blow, planned.lasts).await?;
            let (what, bridge) = (planned.what.to_string(), Some(bridge.name().to_owned()));
            Ok(Done { what, bridge, at, until: now(), costs_answers: blow != Blow::Terminate })
        });
    }

    /// Starts bridges again that ended by themselves.
    fn look_after(&mut self) {
        for bridge in &self.stage.bridges {
            let Ok(mut bridge) = Arc::clone(bridge).try_lock_owned() else { continue };
            let Some(how) = bridge.ended() else { continue };
            eprintln!("{} was not told to end: {how}", bridge.name());
            self.figures.struck();
            self.under_way.spawn(async move {
                let at = now();
                bridge.restart().await?;
                let (what, bridge) = (how, Some(bridge.name().to_owned()));
                // it may have ended a while ago
                let at = at.saturating_sub(2000);
                Ok(Done { what, bridge, at, until: now(), costs_answers: true })
            });
        }
    }

    /// Starts the synchronizations that are due.
    async fn synchronize(&mut self, passed: Duration) -> Result<(), LoadError> {
        self.script.traffic.pass(passed);
        while let Some((user, sync)) = self.script.traffic.next() {
            if self.script.hints {
                self.hint(&user);
            }
            let made = self.source().start_sync(&user, &sync).await?;
            self.script.traffic.made(made);
        }
        Ok(())
    }

    /// Tells a bridge, as a back end does; nobody waits for the answer.
    fn hint(&mut self, user: &str) {
        let Ok(place) = Arc::clone(&self.hints).try_acquire_owned() else { return };
        self.turn += 1;
        let doors = &self.stage.doors;
        let Some(door) = doors.get(self.turn % doors.len().max(1)).cloned() else { return };
        let user = user.to_owned();
        tokio::spawn(async move {
            if let Err(error) = door.hint(&user).await {
                tracing::debug!(user, ?error, "a hint was not taken");
            }
            drop(place);
        });
    }

    async fn progress(&mut self, started: Instant) -> Result<(), LoadError> {
        let stats = self.source().stats().await?;
        self.figures.source(&stats);
        let lag = self.tail.lag();
        let (asked, published) = (stats.polls - self.before.0, lag.records - self.before.1);
        self.before = (stats.polls, lag.records);
        let standing: Vec<String> = self
            .script
            .plan
            .iter()
            .zip(&self.active)
            .filter(|(_, active)| active.is_some())
            .map(|(planned, _)| planned.what.to_string())
            .collect();
        let met: u64 = stats.faults.values().sum();
        let struck = self.done.iter().filter(|done| done.bridge.is_some()).count();
        let standing = if standing.is_empty() { "none".to_owned() } else { standing.join(", ") };
        let in_ms = |lag: Option<u64>| lag.map_or("-".to_owned(), |lag| format!("{lag} ms"));
        eprintln!(
            "{:>4} s  asked {} ({asked}/s)  made {}  handed out {}  published {} ({published}/s)  \
             waiting {}  dead {}  lag p50 {} p99 {}  faults: {standing}; met {met}, struck {struck}",
            started.elapsed().as_secs(),
            stats.polls,
            stats.made,
            stats.handed_out,
            lag.records,
            stats.waiting,
            stats.deaths,
            in_ms(lag.p50),
            in_ms(lag.p99),
        );
        Ok(())
    }

    /// Heals the source, and waits until every bridge is back.
    async fn finish(&mut self) -> Result<(), LoadError> {
        for place in 0..self.active.len() {
            self.is_over(place);
        }
        self.source().heal().await?;
        while let Some(struck) = self.under_way.join_next().await {
            self.done.push(struck.map_err(LoadError::Task)??);
        }
        self.done.extend(self.watch.finish().await?);
        Ok(())
    }
}

pub(super) fn now() -> u64 {
    u64::try_from(Timestamp::now().0).unwrap_or_default()
}
