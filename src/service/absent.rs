//! Journals of other instances that hold what is not published of partitions that are ours now.
//!
//! Promises: a journal whose instance marks nothing for `journal.grace` is given up, partition by
//! partition: every user is told by a gap of cause INSTANCE_LOST, once; one that comes back before,
//! and publishes what it holds, leaves none.
//!
//! Knows nothing of: how users are told.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::load::Owing;
use super::peers::Peers;
use crate::ids::{JournalId, Timestamp};

/// The journals that are waited for.
pub(super) struct Absent {
    grace: Duration,
    /// What a gap begins before the moment up to which everything is published: a question may have
    /// been answered so long after the one before.
    keep_alive: Duration,
    waiting: BTreeMap<(i32, JournalId), Waiting>,
}

struct Waiting {
    owing: Owing,
    noticed: Instant,
    /// Told when every user is told.
    telling: Option<oneshot::Receiver<()>>,
}

/// A journal that is given up, and what its users are to be told.
pub(super) struct GivenUp {
    pub(super) partition: i32,
    pub(super) instance_id: String,
    pub(super) journal: JournalId,
    pub(super) from: Timestamp,
    pub(super) to: Timestamp,
    /// Told when every user is told.
    pub(super) done: oneshot::Sender<()>,
}

/// What [`Absent::look`] found.
#[derive(Default)]
pub(super) struct Found {
    pub(super) given_up: Vec<GivenUp>,
    /// Partitions of which every user is told, each with up to when.
    pub(super) told: Vec<(i32, Timestamp)>,
}

impl Absent {
    pub(super) fn new(grace: Duration, keep_alive: Duration) -> Self {
        Self { grace, keep_alive, waiting: BTreeMap::new() }
    }

    /// Waits for the journals that owe answers of a partition.
    pub(super) fn wait_for(&mut self, partition: i32, owing: Vec<Owing>) {
        for owing in owing {
            tracing::info!(
                partition, journal = %owing.journal, instance = owing.instance_id,
                "another journal may hold answers that are not published, it is waited for"
            );
            let waiting = Waiting { noticed: Instant::now(), telling: None, owing: owing.clone() };
            self.waiting.insert((partition, owing.journal), waiting);
        }
    }

    /// The partition has another owner, who waits for them.
    pub(super) fn forget(&mut self, partition: i32) {
        self.waiting.retain(|(waiting, _), _| *waiting != partition);
    }

    /// Whose grace is over, and who is told.
    pub(super) fn look(&mut self, peers: &Peers) -> Found {
        let mut found = Found::default();
        let (grace, keep_alive) = (self.grace, self.keep_alive);
        self.waiting.retain(|(partition, journal), waiting| {
            if let Some(telling) = &mut waiting.telling {
                return match telling.try_recv() {
                    Ok(()) => {
                        found.told.push((*partition, waiting.owing.owed.asked_until));
                        false
                    }
                    Err(oneshot::error::TryRecvError::Empty) => true,
                    // the worker ended before: whoever owns the partition then begins anew
                    Err(oneshot::error::TryRecvError::Closed) => false,
                };
            }
            let Some(peer) = peers.with(journal) else { return true };
            let Some(owed) = peer.mark.owed(*partition, Timestamp::default()) else {
                tracing::info!(partition, %journal, "the journal has published what it held");
                return false;
            };
            waiting.owing.owed = owed;
            if peer.heard.max(waiting.noticed).elapsed() < grace {
                return true;
            }
            let (done, is_done) = oneshot::channel();
            waiting.telling = Some(is_done);
            found.given_up.push(GivenUp {
                partition: *partition,
                instance_id: waiting.owing.instance_id.clone(),
                journal: journal.clone(),
                from: owed.published_until.before(keep_alive),
                to: Timestamp::now(),
                done,
            });
            true
        });
        found
    }
}
