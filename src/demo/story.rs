//! Plays the plan, and has told what comes of it.
//!
//! Promises: returns when everything that was handed out has come by, or a few seconds after the
//! end; never waits for anything without a limit.
//!
//! Knows nothing of: the verdict.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until};

use super::DemoError;
use super::figures::{Health, Lags, health};
use super::narrator::{Counts, Narrator};
use super::plan::{Act, Planned, plan};
use super::screen::{Screen, Tone, plural};
use super::stage::{Parts, QUEUE_LIFETIME};
use super::topics::{Seen, follow};
use crate::ids::Timestamp;

/// What the end takes: the last events to come by, the stop, reading everything anew.
const CLOSING: Duration = Duration::from_millis(2500);
/// How long after the end of the plan it may still take until everything has come by.
const OVERTIME: Duration = Duration::from_secs(5);
const STATUS: Duration = Duration::from_secs(2);
const COUNT: Duration = Duration::from_secs(1);
const LOOK: Duration = Duration::from_millis(50);
/// Users subscribed at a time.
const AT_A_TIME: usize = 8;
const NAMES: [&str; 12] = [
    "alice", "basile", "chloe", "david", "emma", "farid", "gaelle", "hugo", "ines", "jules",
    "karim", "lea",
];

/// What was measured on the way.
pub(super) struct Told {
    pub(super) lag_p50: Option<Duration>,
    pub(super) lag_p99: Option<Duration>,
    /// The least headroom that was shown.
    pub(super) headroom: Option<Duration>,
    /// Questions asked.
    pub(super) polls: u64,
}

/// The name of a user by number.
fn name(user: usize) -> String {
    let name = NAMES[user % NAMES.len()];
    match user / NAMES.len() {
        0 => name.to_owned(),
        round => format!("{name}-{}", round + 1),
    }
}

/// Subscribes the users and plays the plan until shortly before `end`.
pub(super) async fn tell(
    users: u32,
    end: Instant,
    parts: &Parts<'_>,
    screen: &mut Screen,
) -> Result<Told, DemoError> {
    let users = users as usize;
    let mut records = follow(parts.clients, parts.names)?;
    subscribe(users, parts, screen).await?;
    screen
        .story("the banks start to synchronize; each event becomes a record, keyed by connection");
    Narrator::columns(screen);

    let started = Instant::now();
    let span = (end - started).saturating_sub(CLOSING);
    let mut plan = VecDeque::from(plan(users, span));
    let mut play = Play {
        parts,
        narrator: Narrator::new(parts.names),
        lags: Lags::default(),
        told: Told { lag_p50: None, lag_p99: None, headroom: None, polls: 0 },
        expected: 0,
    };
    let mut status = interval_at(started + STATUS, STATUS);
    let mut count = interval_at(started + COUNT, COUNT);
    let mut look = interval_at(started + LOOK, LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let give_up = started + span + OVERTIME;
    loop {
        let next = plan.front().map_or(give_up, |planned| started + planned.after);
        tokio::select! {
            biased;
            Some(seen) = records.recv() => play.see(&seen, screen),
            _ = count.tick() => play.narrator.count(screen),
            _ = status.tick() => play.status(screen).await?,
            () = sleep_until(next), if !plan.is_empty() => {
                if let Some(planned) = plan.pop_front() {
                    play.act(planned, screen).await?;
                }
            }
            _ = look.tick(), if plan.is_empty() => if play.is_over() { break },
            () = sleep_until(give_up) => {
                screen.timed(Tone::Bad, &format!("still missing: {}", play.missing()));
                break;
            }
        }
    }
    play.narrator.count(screen);
    play.status(screen).await?;
    Ok(play.told)
}

/// Has every user watched, as a back end does before a synchronization.
async fn subscribe(users: usize, parts: &Parts<'_>, screen: &mut Screen) -> Result<(), DemoError> {
    let places = std::sync::Arc::new(Semaphore::new(AT_A_TIME));
    let mut calls = JoinSet::new();
    for user in 0..users {
        let (back_end, places) = (parts.back_end.clone(), std::sync::Arc::clone(&places));
        calls.spawn(async move {
            let place = places.acquire().await;
            let answer = back_end.subscribe(&name(user)).await;
            drop(place);
            (user, answer)
        });
    }
    while let Some(called) = calls.join_next().await {
        let Ok((user, answer)) = called else { continue };
        let answer = answer?;
        if user == 0 {
            let queue = answer["queue_id"].as_str().unwrap_or_default();
            let call = format!("PUT /v1/subscriptions/{}", name(user));
            screen.story(&format!("{call}: subscribed, queue {queue}"));
        }
    }
    screen.story(&format!("{users} users are subscribed, one queue each"));
    Ok(())
}

struct Play<'p> {
    parts: &'p Parts<'p>,
    narrator: Narrator<'p>,
    lags: Lags,
    told: Told,
    /// Events that the synchronizations started so far make.
    expected: u64,
}

impl Play<'_> {
    fn see(&mut self, seen: &Seen, screen: &mut Screen) {
        if *seen.topic == *self.parts.names.events {
            let key = seen.record.text("idempotency_key");
            self.lags.note(key, seen.at, self.parts.simulator);
        }
        self.narrator.tell(seen, screen);
    }

    async fn act(&mut self, planned: Planned, screen: &mut Screen) -> Result<(), DemoError> {
        let user = name(planned.user);
        let simulator = self.parts.simulator;
        match planned.act {
            Act::Synchronize(sync) => {
                // a back end says so before it starts one: the queue is asked often then
                self.parts.back_end.hint(&user).await?;
                self.expected += simulator.start_sync(&user, &sync)? as u64;
            }
            Act::Forget(sync) => {
                // nothing is awaited in between: the first event is in the queue when it dies
                self.expected += simulator.start_sync(&user, &sync)? as u64;
                simulator.kill_queues_of(&user);
                let text =
                    format!("* Linxo forgets the queue of {user} while events come: they are lost");
                screen.timed(Tone::Bad, &text);
            }
        }
        Ok(())
    }

    async fn status(&mut self, screen: &mut Screen) -> Result<(), DemoError> {
        let text = self.parts.back_end.metrics().await?;
        let Health { live, headroom, polls } = health(&text, Timestamp::now(), QUEUE_LIFETIME);
        self.told.lag_p50 = self.lags.quantile(0.5);
        self.told.lag_p99 = self.lags.quantile(0.99);
        self.told.headroom = match (self.told.headroom, headroom) {
            (Some(least), Some(headroom)) => Some(least.min(headroom)),
            (least, headroom) => least.or(headroom),
        };
        self.told.polls = polls;
        let Counts { events, actions, gaps, .. } = self.narrator.counts();
        let line = format!(
            "= {}, {}, {} | lag p50 {}, p99 {} | {} live, headroom {} of {} s",
            plural(*events, "event"),
            plural(*actions, "action"),
            plural(*gaps, "gap"),
            in_millis(self.told.lag_p50),
            in_millis(self.told.lag_p99),
            plural(live, "queue"),
            in_seconds(headroom),
            QUEUE_LIFETIME.as_secs(),
        );
        screen.timed(Tone::Strong, &line);
        Ok(())
    }

    fn is_over(&self) -> bool {
        let stats = self.parts.simulator.stats();
        let counts = self.narrator.counts();
        stats.made >= self.expected
            && stats.waiting == 0
            && counts.events as u64 >= stats.handed_out
            && counts.reconciled as u64 >= stats.deaths
    }

    fn missing(&self) -> String {
        let stats = self.parts.simulator.stats();
        let counts = self.narrator.counts();
        format!(
            "{} events wait at Linxo, {} of {} handed out came by, {} of {} deaths are reconciled",
            stats.waiting, counts.events, stats.handed_out, counts.reconciled, stats.deaths
        )
    }
}

/// A lag for eyes.
pub(super) fn in_millis(lag: Option<Duration>) -> String {
    lag.map_or_else(|| "-".to_owned(), |lag| format!("{} ms", lag.as_millis()))
}

/// A headroom for eyes.
pub(super) fn in_seconds(headroom: Option<Duration>) -> String {
    headroom.map_or_else(|| "-".to_owned(), |headroom| format!("{:.1}", headroom.as_secs_f64()))
}
