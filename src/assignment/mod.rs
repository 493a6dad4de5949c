//! Which partitions this instance owns: joins the group, tells of grants and revocations.
//!
//! Promises:
//! - the thread that polls the group does nothing else, so that no poll is missed;
//! - a revoked partition is let go of only when its worker has been drained, or the deadline is
//!   over; a lost one at once;
//! - each grant has a token of its own: the same partition back is a new grant, and is read again;
//! - a member that the group throws out for good is made anew.
//!
//! Knows nothing of: workers, users, records.

mod member;
mod ownership;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;

pub use ownership::Ownership;

use crate::kafka::Clients;

/// What the group decided.
#[derive(Debug)]
pub enum Decision {
    /// These partitions are ours now, each with the token of its grant.
    Granted(Vec<(i32, u64)>),
    /// These go to somebody else as soon as `done` is dropped or told.
    Revoked(Vec<(i32, u64)>, std::sync::mpsc::Sender<()>),
    /// These may belong to somebody else already.
    Lost(Vec<(i32, u64)>),
}

/// The member of the group.
pub struct Assignment {
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Assignment {
    /// Joins the group that shares out `topic` and sends what it decides.
    pub fn join(
        clients: &Clients,
        topic: &str,
        drain: Duration,
        ownership: &Arc<Ownership>,
        decisions: mpsc::Sender<Decision>,
    ) -> std::io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let member = member::Member {
            config: clients.group_member(),
            topic: topic.to_owned(),
            drain,
            ownership: Arc::clone(ownership),
            decisions,
            stop: Arc::clone(&stop),
        };
        let thread =
            std::thread::Builder::new().name("group".into()).spawn(move || member.run())?;
        Ok(Self { stop, thread: Some(thread) })
    }

    /// Leaves the group; the workers must have been drained before.
    pub async fn leave(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let joined = tokio::task::spawn_blocking(move || thread.join()).await;
            if !matches!(joined, Ok(Ok(()))) {
                tracing::error!("the group's thread ended badly");
            }
        }
    }
}
