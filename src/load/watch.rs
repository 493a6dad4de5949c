//! Bridges that ran already: whether they are there.
//!
//! Promises: the time in which one did not answer, and what led to it, is told as if it had been
//! struck here, whoever did it.
//!
//! Knows nothing of: how it came about.

use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::LoadError;
use super::drive::{Done, now};
use crate::door::Door;

/// Shorter than a bridge needs to start.
const LOOK: Duration = Duration::from_millis(100);
/// How long an answer may have been on its way to one that then was away, in milliseconds.
const UNDER_WAY: u64 = 2000;
/// How long after the end one that is away may take to be back.
const BACK: Duration = Duration::from_secs(60);

/// Looks after bridges; it ends when dropped.
pub(super) struct Watch {
    watchers: JoinSet<Vec<Done>>,
    over: watch::Sender<bool>,
}

impl Watch {
    /// Looks after the bridges behind these doors from now on.
    pub(super) fn start(doors: &[Door]) -> Self {
        let over = watch::Sender::new(false);
        let mut watchers = JoinSet::new();
        for door in doors {
            watchers.spawn(look_after(door.clone(), over.subscribe()));
        }
        Self { watchers, over }
    }

    /// Waits until all are back, for a minute at most, and tells who was away.
    pub(super) async fn finish(&mut self) -> Result<Vec<Done>, LoadError> {
        self.over.send_replace(true);
        let mut seen = Vec::new();
        while let Some(watched) = self.watchers.join_next().await {
            seen.extend(watched.map_err(LoadError::Task)?);
        }
        Ok(seen)
    }
}

async fn look_after(door: Door, over: watch::Receiver<bool>) -> Vec<Done> {
    let mut seen = Vec::new();
    let mut there = now();
    let mut is_away = false;
    let mut since_over = None;
    loop {
        let at = now();
        match (door.answers().await, is_away) {
            (true, true) => {
                eprintln!("{} is back", door.url());
                seen.push(absence(&door, there));
                is_away = false;
            }
            (false, false) => {
                eprintln!("{} is away, and nobody here did it", door.url());
                is_away = true;
            }
            (true, false) | (false, true) => {}
        }
        if !is_away {
            there = at;
        }
        if *over.borrow() {
            let since = *since_over.get_or_insert_with(Instant::now);
            if !is_away {
                return seen;
            }
            if since.elapsed() >= BACK {
                seen.push(absence(&door, there));
                return seen;
            }
        }
        sleep(LOOK).await;
    }
}

/// What is told of one that was last seen then.
fn absence(door: &Door, there: u64) -> Done {
    let at = there.saturating_sub(UNDER_WAY);
    let (what, bridge) = ("away".to_owned(), Some(door.url().to_owned()));
    Done { what, bridge, at, until: now(), costs_answers: true }
}
