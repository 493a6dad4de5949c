//! Subscribes users through the admin API, many at a time.
//!
//! Promises: at most [`AT_A_TIME`] calls are under way; what is refused for a moment is tried again,
//! what is refused for good ends the run.
//!
//! Knows nothing of: what users do then.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, interval};

use super::LoadError;
use crate::door::{self, Door, NotServed};

/// Calls under way; a door takes twice as many. A transaction takes as many as wait.
const AT_A_TIME: u32 = 512;
/// How long one user may take, all tries together.
const PATIENCE: Duration = Duration::from_secs(120);

/// How it went.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub(super) struct Seeded {
    /// Users that were subscribed.
    pub(super) users: u32,
    /// How long it took, in milliseconds.
    pub(super) took_ms: u64,
    /// Users a second.
    pub(super) per_second: f64,
}

/// The name of a user by number; one that needs no escaping.
pub(super) fn name(number: u32) -> String {
    format!("user-{number:07}")
}

/// Has every user watched.
pub(super) async fn subscribe(users: u32, doors: &[Door]) -> Result<Seeded, LoadError> {
    let started = Instant::now();
    let next = Arc::new(AtomicU32::new(0));
    let mut callers = JoinSet::new();
    for caller in 0..AT_A_TIME.min(users) {
        let (next, doors) = (Arc::clone(&next), doors.to_vec());
        callers.spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= users {
                    return Ok(());
                }
                one(&name(number), &doors, caller as usize).await?;
            }
        });
    }
    let mut tick = interval(Duration::from_secs(1));
    tick.tick().await;
    loop {
        tokio::select! {
            ended = callers.join_next() => match ended {
                Some(Ok(Ok(()))) => {}
                Some(Ok(Err(error))) => return Err(error),
                Some(Err(error)) => return Err(LoadError::Task(error)),
                None => break,
            },
            _ = tick.tick() => {
                let done = next.load(Ordering::Relaxed).min(users);
                let rate = f64::from(done) / started.elapsed().as_secs_f64();
                eprintln!("subscribing: {done} of {users} users, {rate:.0} a second");
            }
        }
    }
    let took = started.elapsed();
    let per_second = f64::from(users) / took.as_secs_f64().max(0.001);
    let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    Ok(Seeded { users, took_ms, per_second })
}

async fn one(user: &str, doors: &[Door], caller: usize) -> Result<(), LoadError> {
    let put = async |door: Door| door.subscribe(user).await;
    match door::persist(doors, caller, PATIENCE, put).await {
        Ok(()) => Ok(()),
        Err(NotServed::Later { why, after: _ }) => {
            Err(LoadError::NotSubscribed { user: user.to_owned(), why: why.to_string() })
        }
        Err(NotServed::Refused(why) | NotServed::Closed(why)) => Err(LoadError::Refused {
            call: format!("the call for {user}"),
            status: why.status.unwrap_or_default(),
            text: why.detail,
        }),
    }
}
