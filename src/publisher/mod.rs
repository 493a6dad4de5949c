//! Puts records, states and the journal's position into Kafka in one transaction.
//!
//! One thread, one transactional producer, one transaction at a time:
//! gather rows, [`draft`] their records and send them, wait for the deliveries, fence, commit,
//! adopt the changed states and tell whoever waits.
//!
//! Promises:
//! - a row is told to be published only when its transaction is known to be committed;
//! - after an outcome that is not known, a new producer makes the broker finish the transaction,
//!   and the position read back says which way it went: nothing is published twice;
//! - rows are never dropped because Kafka is away: they wait, however long that takes;
//! - nothing is published while it is not known whose the partitions are, so that what is ours is
//!   never published late;
//! - a position that is neither ours nor the one found at the start ends the
//!   process: two processes would be using one journal;
//! - a topic that takes less than it did is noticed by its refusal, and what no longer fits is shed,
//!   cut or made a dead letter.
//!
//! Knows nothing of: the source, schedules.

mod dead_letter;
mod draft;
mod limits;
mod mark;
mod outbox;
mod position;
mod producer;
mod recovery;
mod run;
mod tally;
#[cfg(test)]
mod tests;
mod traced;
mod transaction;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use crate::assignment::Ownership;
use crate::event::Redaction;
use crate::ids::{JournalId, Timestamp, UserId};
use crate::journal::{Feed, JournalError};
use crate::kafka::Clients;
use crate::metrics::Metrics;
use crate::pulse::Pulse;
use crate::queue_state::QueueState;
use crate::record::{Decoder, Encoder, Topics};
use crate::traces::Traces;

pub use limits::Limits;
pub use position::Position;

/// How records are written, and where.
pub struct Pen {
    /// The names of the topics.
    pub topics: Topics,
    /// Writes records.
    pub encoder: Encoder,
    /// What dead letters are less.
    pub redaction: Redaction,
    /// What the topics take.
    pub limits: Limits,
    /// Whether the source may hand out an event again.
    pub is_repeatable: bool,
}

/// What the publisher works with.
pub struct PublisherSettings {
    /// The cluster.
    pub clients: Clients,
    /// How records are written, and where.
    pub pen: Pen,
    /// Reads the position back.
    pub decoder: Arc<Decoder>,
    /// The journal, and with it the transactional id.
    pub journal: JournalId,
    /// This process.
    pub incarnation: String,
    /// This instance, for its mark.
    pub instance_id: String,
    /// Where other instances reach this one, for its mark.
    pub url: String,
    /// How long a transaction may gather.
    pub commit_interval: Duration,
    /// Which partitions are ours.
    pub ownership: Arc<Ownership>,
    /// Every number we show.
    pub metrics: Arc<Metrics>,
    /// Whether what earlier transactions may have left open is ended: not on the demo's cluster,
    /// which shows aborted records.
    pub is_cleansing: bool,
    /// That the publisher makes progress.
    pub pulse: Arc<Pulse>,
    /// How long each step took, for some answers.
    pub traces: Traces,
}

/// What the publisher is told beside rows.
pub enum Control {
    /// A partition was granted and read: these are its states.
    Adopt {
        /// The partition.
        partition: i32,
        /// Which grant of it this is.
        token: u64,
        /// The states.
        states: Vec<QueueState>,
        /// Told when they are held, and every row that the journal had of them is published: the
        /// states that changed by that.
        held: oneshot::Sender<HashMap<UserId, QueueState>>,
    },
    /// The partition is let go of; its rows have been settled, or will be published late.
    Release {
        /// The partition.
        partition: i32,
        /// Which grant of it this was.
        token: u64,
    },
    /// What the mark says has changed: it is written soon.
    Mark,
    /// Losses of journals that stay away are told of.
    Told {
        /// The partition.
        partition: i32,
        /// What those journals asked of it up to then is in gaps.
        until: Timestamp,
    },
    /// Somebody wants to know which event a user's queue must give next.
    Look {
        /// The user's partition.
        partition: i32,
        /// The user.
        user: UserId,
        /// Told the id; none when the ids are not known to be consecutive, or not all that was
        /// received is published.
        expected: oneshot::Sender<Option<u64>>,
    },
}

/// Why the publisher ended before it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum PublisherError {
    /// Another process uses this journal.
    #[error(
        "another process publishes from journal {journal} (incarnation {found}): stop one of the \
         two, or give each instance a journal.directory of its own"
    )]
    Foreign {
        /// The journal.
        journal: JournalId,
        /// The other process.
        found: String,
    },
    /// The cluster has lost what it had told to be committed.
    #[error(
        "kafka has published up to row {found} of journal {journal} and had told {told}: every \
         broker was lost at once. Start again: the rows after it are still in the journal"
    )]
    FellBack {
        /// The journal.
        journal: JournalId,
        /// The position as it is.
        found: u64,
        /// The position as it was told to be committed.
        told: u64,
    },
    /// The journal cannot be read.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The program cannot write its own records.
    #[error("a record cannot be written: {0}")]
    Record(#[from] crate::record::RecordError),
    /// The thread or its runtime could not be made.
    #[error("the publisher cannot start: {0}")]
    Start(#[source] std::io::Error),
}

/// A publisher that runs.
pub struct Publisher {
    /// For adopting and releasing partitions.
    pub control: mpsc::Sender<Control>,
    /// What became of it.
    pub ended: oneshot::Receiver<Result<(), PublisherError>>,
}

/// Starts the publisher on a thread of its own. It ends when the journal is closed and everything
/// in it is published. The position found is sent as soon as the producer is initialised.
pub fn start(
    settings: PublisherSettings,
    feed: Feed,
    position: oneshot::Sender<Position>,
) -> Result<Publisher, PublisherError> {
    let (control, controls) = mpsc::channel(64);
    let (end, ended) = oneshot::channel();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .map_err(PublisherError::Start)?;
    std::thread::Builder::new()
        .name("publisher".into())
        .spawn(move || {
            let result = runtime.block_on(run::run(settings, feed, controls, position));
            // nobody may be waiting any more
            drop(end.send(result));
        })
        .map_err(PublisherError::Start)?;
    Ok(Publisher { control, ended })
}
