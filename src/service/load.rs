//! Reads granted partitions to their ends: who is watched, and how far each queue is.
//!
//! Promises: what it answers is the state after the last owner's last transaction
//! ([`kafka::read_to_end`]); a record that cannot be read is never passed over in silence.
//!
//! Blocks. Knows nothing of: workers.

use std::collections::HashMap;
use std::time::Duration;

use crate::ids::{JournalId, Timestamp, UserId};
use crate::journal_mark::{JournalMark, Owed};
use crate::kafka::{self, Clients, ReadError};
use crate::queue_state::QueueState;
use crate::record::{Decoder, RecordError, Topics};
use crate::subscription::Subscription;
use crate::worker::Loaded;

/// One partition as the topics have it.
pub(super) struct LoadedPartition {
    pub(super) partition: i32,
    pub(super) users: Vec<Loaded>,
    /// Until when somebody surely asked its queues in turn.
    pub(super) asked_until: Option<Timestamp>,
    /// Until when everything that our journal had received was published, as it last said.
    pub(super) published_until: Option<Timestamp>,
    /// Other journals in which answers of its queues may stand that are not published.
    pub(super) owing: Vec<Owing>,
}

/// A journal that may hold answers of a partition's queues which are not published.
#[derive(Clone, Debug)]
pub(super) struct Owing {
    pub(super) journal: JournalId,
    /// Who has it.
    pub(super) instance_id: String,
    pub(super) owed: Owed,
}

/// Why partitions could not be loaded.
#[derive(Debug, thiserror::Error)]
pub(super) enum LoadError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("a record of {topic} cannot be read: {source}")]
    Record {
        topic: String,
        #[source]
        source: RecordError,
    },
}

/// What was read of each user last.
type Users = HashMap<UserId, (Option<Subscription>, Option<QueueState>)>;

/// Longer than a dead owner's transaction can stay open: its timeout, and the broker's clean-up.
const PATIENCE: Duration = Duration::from_secs(90);

pub(super) fn load(
    clients: &Clients,
    topics: &Topics,
    decoder: &Decoder,
    journal: &JournalId,
    partitions: &[i32],
) -> Result<Vec<LoadedPartition>, LoadError> {
    let mut loaded: HashMap<i32, Users> =
        partitions.iter().map(|partition| (*partition, HashMap::new())).collect();
    read(clients, &topics.subscriptions, partitions, |partition, key, value| {
        let subscription = value.map(|value| decoder.subscription(value)).transpose()?;
        let users = loaded.entry(partition).or_default();
        users.entry(key).or_default().0 = subscription;
        Ok(())
    })?;
    read(clients, &topics.queues, partitions, |partition, key, value| {
        let state = value.map(|value| decoder.queue_state(value)).transpose()?;
        let users = loaded.entry(partition).or_default();
        users.entry(key).or_default().1 = state;
        Ok(())
    })?;
    let mut marks: HashMap<UserId, Option<JournalMark>> = HashMap::new();
    read(clients, &topics.journals, &[0], |_, key, value| {
        marks.insert(key, value.map(|value| decoder.journal_mark(value)).transpose()?);
        Ok(())
    })?;
    let marks: Vec<JournalMark> = marks.into_values().flatten().collect();
    let asked_until =
        |partition: i32| marks.iter().filter_map(|mark| mark.asked_until(partition)).max();
    let ours = marks.iter().find(|mark| mark.journal_id == *journal);
    let published_until = ours.map(|mark| mark.published_until);
    Ok(loaded
        .into_iter()
        .map(|(partition, users)| LoadedPartition {
            partition,
            asked_until: asked_until(partition),
            published_until,
            owing: owing(&marks, partition, journal),
            users: users
                .into_values()
                .filter_map(|(wish, state)| taken_over(wish?, state, journal))
                .collect(),
        })
        .collect())
}

/// The journals but our own that owe answers of a partition, less those whose losses were told of.
fn owing(marks: &[JournalMark], partition: i32, ourselves: &JournalId) -> Vec<Owing> {
    let told_until = marks.iter().map(|mark| mark.told_until(partition)).max().unwrap_or_default();
    let owes = |mark: &JournalMark| {
        let owed = mark.owed(partition, told_until)?;
        let (journal, instance_id) = (mark.journal_id.clone(), mark.instance_id.clone());
        Some(Owing { journal, instance_id, owed })
    };
    marks.iter().filter(|mark| mark.journal_id != *ourselves).filter_map(owes).collect()
}

fn read(
    clients: &Clients,
    topic: &str,
    partitions: &[i32],
    mut each: impl FnMut(i32, UserId, Option<&[u8]>) -> Result<(), RecordError>,
) -> Result<(), LoadError> {
    let mut fault = None;
    kafka::read_to_end(clients, topic, partitions, PATIENCE, |record| {
        let key = String::from_utf8_lossy(record.key).into_owned();
        if let Err(error) = each(record.partition, UserId::from(key), record.value)
            && fault.is_none()
        {
            fault = Some(error);
        }
    })?;
    match fault {
        None => Ok(()),
        Some(source) => Err(LoadError::Record { topic: topic.to_owned(), source }),
    }
}

/// A user under a new owner: the state that belongs to the wish, one epoch later.
fn taken_over(
    subscription: Subscription,
    state: Option<QueueState>,
    journal: &JournalId,
) -> Option<Loaded> {
    let state = match state {
        Some(mut state) if state.subscription_id == subscription.subscription_id => {
            // one copy of each text in memory, of which there may be millions
            state.user_id = subscription.user_id.clone();
            state.subscription_id = subscription.subscription_id.clone();
            if state.queue_id == subscription.queue_id {
                state.queue_id = subscription.queue_id.clone();
            }
            state.taken_over(journal)
        }
        _ => QueueState::first(&subscription, 1, subscription.created_at),
    };
    Some(Loaded { subscription, state })
}
