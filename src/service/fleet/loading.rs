//! Partitions on their way from the topics to their workers.
//!
//! Promises: what cannot be read is tried again for as long as the grant holds, and said in the log; no worker
//! is made of a partition that is not ours any more, or is being revoked.
//!
//! Knows nothing of: what the group decided before.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::{AtWork, Fleet};
use crate::gap::{Cause, Certainty};
use crate::ids::{GapId, Timestamp};
use crate::journal::{Change, Damage, Journal, Lost, RowOf};
use crate::publisher::Control;
use crate::queue_state::QueueState;
use crate::record::{Decoder, RecordError};
use crate::registry::{Registry, RegistryFault};
use crate::service::load::{self, LoadError, LoadedPartition};
use crate::worker::{COMMANDS, Command, Order, Worker};

const AGAIN: Duration = Duration::from_secs(1);
/// Partitions that are read at once when nothing is known of their size, and users after that.
pub(super) const FIRST_LOAD: usize = 4;
const USERS_AT_ONCE: usize = 25_000;

/// A partition that is read, and of which nothing is left in the journal.
pub(super) struct Adopted {
    granted: Instant,
    token: u64,
    loaded: LoadedPartition,
    /// Whether its users were told of the damage.
    is_told: bool,
}

/// Rows of our journal are lost, and nobody knows whose they were: until the users of every partition
/// were told, or for `journal.grace`, as some come only when whoever had them is given up.
pub(super) struct Untold {
    damage: Damage,
    told: BTreeSet<i32>,
    until: Instant,
}

/// Partitions on their way from the topics to their workers.
pub(super) struct Loading {
    granted: Instant,
    partitions: Vec<(i32, u64)>,
    loaded: Vec<LoadedPartition>,
    /// Those that are read next.
    rest: Vec<(i32, u64)>,
}

impl Fleet {
    /// Reads partitions in the background, so many at once, for as long as their grant holds.
    pub(super) fn load(
        &mut self,
        mut partitions: Vec<(i32, u64)>,
        granted: Instant,
        at_once: usize,
    ) {
        let rest = partitions.split_off(at_once.min(partitions.len()));
        if partitions.is_empty() {
            return;
        }
        let (clients, topics) = (self.clients.clone(), self.topics.clone());
        let decoder = Arc::clone(&self.decoder);
        let registry = self.registry.clone();
        let ownership = Arc::clone(&self.directory.shared.ownership);
        let progress = Arc::clone(&self.directory.shared.progress);
        progress.still_waits_for(&format!(
            "reading {} partitions of {} to their ends",
            partitions.len(),
            topics.subscriptions
        ));
        let journal = self.directory.shared.journal.clone();
        let leaving: Vec<watch::Receiver<bool>> =
            partitions.iter().filter_map(|(partition, _)| self.leaving.remove(partition)).collect();
        self.loading.spawn(async move {
            for mut leaving in leaving {
                // what was asked under the grant before is in the topics, or late
                leaving.wait_for(|has_left| *has_left).await.ok();
            }
            loop {
                let wanted: Vec<(i32, u64)> = partitions
                    .iter()
                    .copied()
                    .filter(|(partition, token)| ownership.is_owned(*partition, *token))
                    .collect();
                if wanted.is_empty() {
                    let (partitions, loaded) = (Vec::new(), Vec::new());
                    return Loading { granted, partitions, loaded, rest };
                }
                let numbers: Vec<i32> = wanted.iter().map(|(partition, _)| *partition).collect();
                let (clients, topics) = (clients.clone(), topics.clone());
                let journal = journal.clone();
                let reading = Arc::clone(&decoder);
                let read = tokio::task::spawn_blocking(move || {
                    load::load(&clients, &topics, &reading, &journal, &numbers)
                });
                match read.await {
                    Ok(Ok(loaded)) => {
                        return Loading { granted, partitions: wanted, loaded, rest };
                    }
                    Ok(Err(error)) => {
                        tracing::warn!(%error, "partitions cannot be read, trying again");
                        progress.still_waits_for(&format!("reading partitions: {error}"));
                        learn(&error, registry.as_ref(), &decoder).await;
                    }
                    Err(error) => tracing::error!(%error, "reading partitions ended badly"),
                }
                tokio::time::sleep(AGAIN).await;
            }
        });
    }

    /// Goes on with partitions that are read, and reads the next ones.
    pub(super) async fn loaded(&mut self, mut loading: Loading) {
        let rest = std::mem::take(&mut loading.rest);
        let (granted, at_once) = (loading.granted, at_once(&loading.loaded));
        self.adopt(loading).await;
        self.load(rest, granted, at_once);
    }

    /// Hands the states of partitions to the publisher, and waits in the background until what the
    /// journal still had of them is published: only then is it known where each queue stands.
    async fn adopt(&mut self, loading: Loading) {
        let tokens: BTreeMap<i32, u64> = loading.partitions.into_iter().collect();
        if let Some(damage) = self.outside.journal.damage()
            && self.untold.as_ref().is_none_or(|untold| untold.damage != damage)
        {
            let until = Instant::now() + self.grace;
            self.untold = Some(Untold { damage, told: BTreeSet::new(), until });
        }
        let keep_alive = self.outside.pace.keep_alive;
        let granted = loading.granted;
        for loaded in loading.loaded {
            let partition = loaded.partition;
            let Some(&token) = tokens.get(&partition) else { continue };
            if !self.directory.shared.ownership.is_owned(partition, token) {
                continue;
            }
            let states = loaded.users.iter().map(|user| user.state.clone()).collect();
            let (held, is_held) = oneshot::channel();
            let adopt = Control::Adopt { partition, token, states, held };
            if self.publisher.send(adopt).await.is_err() {
                // the publisher has ended, and so does the service
                return;
            }
            // who kept the queues alive meanwhile knows more of them than the topics
            if let Some(at_work) = self.workers.get_mut(&partition)
                && at_work.is_unsure
                && at_work
                    .commands
                    .send(Command::Renew { token, users: loaded.users.clone() })
                    .await
                    .is_ok()
            {
                at_work.is_unsure = false;
                at_work.token = token;
                self.absent.wait_for(partition, loaded.owing);
                continue;
            }
            let untold = self.untold.as_ref().filter(|untold| !untold.told.contains(&partition));
            let damage = untold.map(|untold| untold.damage.clone());
            let (journal, publisher) = (self.outside.journal.clone(), self.publisher.clone());
            self.adopting.spawn(async move {
                let Ok(mut changed) = is_held.await else {
                    // lost meanwhile; it ends only with the service
                    publisher.send(Control::Release { partition, token }).await.ok();
                    return None;
                };
                let mut loaded = loaded;
                for user in &mut loaded.users {
                    if let Some(state) = changed.remove(&user.state.user_id) {
                        user.state = state;
                    }
                }
                let is_told = damage.is_some();
                if let Some(damage) = damage {
                    // a gap begins at the last answered question, which may lie an interval before
                    let known = damage.since.or(loaded.published_until).unwrap_or_default();
                    let from = known.before(keep_alive);
                    tell_of_damage(&journal, &loaded, from).await;
                }
                Some(Adopted { granted, token, loaded, is_told })
            });
        }
    }

    pub(super) fn set_to_work(&mut self, adopted: Adopted) {
        let Adopted { granted: granted_at, token, loaded, is_told } = adopted;
        let partition = loaded.partition;
        if is_told && let Some(untold) = &mut self.untold {
            untold.told.insert(partition);
        }
        if !self.directory.shared.ownership.is_owned(partition, token)
            || self.revoked.get(&partition) == Some(&token)
        {
            self.tell_publisher(Control::Release { partition, token });
            return;
        }
        let (commands, received) = mpsc::channel(COMMANDS);
        let (orders, ordered) = watch::channel(Order::Work);
        let mut worker = Worker::new(partition, granted_at, Arc::clone(&self.outside), received);
        let users = loaded.users.len();
        worker.load(loaded.users, loaded.asked_until);
        self.absent.wait_for(partition, loaded.owing);
        let task = tokio::spawn(worker.run(ordered));
        self.directory.enter(partition, commands.clone());
        self.workers.insert(partition, AtWork { token, is_unsure: false, orders, commands, task });
        *self.users_loaded.get_or_insert_default() += users;
        // others learn who has the partition
        self.tell_publisher(Control::Mark);
    }

    /// When everything that was granted is at work, the start is done.
    pub(super) fn note_progress(&mut self) {
        let is_sure = self.directory.shared.ownership.is_sure();
        if !self.adopting.is_empty() || !self.loading.is_empty() || !is_sure {
            return;
        }
        self.forget_damage();
        self.share_budget();
        self.show();
        self.directory.shared.progress.is_done();
        if let Some(users) = self.users_loaded.take() {
            tracing::info!(partitions = self.workers.len(), users, "partitions loaded");
        }
    }

    /// Nobody is left who has to be told of the damage.
    pub(super) fn forget_damage(&mut self) {
        let all = usize::try_from(self.partitions).unwrap_or_default();
        let is_busy = !self.adopting.is_empty() || !self.loading.is_empty();
        let is_over =
            |untold: &mut Untold| untold.told.len() >= all || Instant::now() >= untold.until;
        if !is_busy && self.untold.take_if(is_over).is_some() {
            self.outside.journal.damage_is_told();
        }
    }
}

/// How many partitions are read at once after these: as many as hold about as many users as memory
/// should hold twice.
fn at_once(loaded: &[LoadedPartition]) -> usize {
    let users: usize = loaded.iter().map(|loaded| loaded.users.len()).sum();
    (USERS_AT_ONCE * loaded.len()).checked_div(users).unwrap_or(usize::MAX).max(1)
}

/// Writes a gap for every user of a partition: rows of the journal were lost, and nobody knows whose
/// they were.
async fn tell_of_damage(journal: &Journal, loaded: &LoadedPartition, from: Timestamp) {
    let to = Timestamp::now();
    for users in loaded.users.chunks(256) {
        let rows =
            users.iter().map(|user| missed(journal, loaded.partition, &user.state, from, to));
        join_all(rows.collect::<Vec<_>>()).await;
    }
}

/// Writes that what was received for a user between two moments may be lost.
async fn missed(
    journal: &Journal,
    partition: i32,
    state: &QueueState,
    from: Timestamp,
    to: Timestamp,
) {
    let of = RowOf {
        user: state.user_id.clone(),
        partition,
        owner_epoch: state.owner_epoch,
        subscription_id: state.subscription_id.clone(),
    };
    let lost = Lost {
        gap_id: GapId::random(),
        cause: Cause::InstanceLost,
        certainty: Certainty::Possible,
        from,
        to,
        to_reconcile: false,
    };
    if journal.keep(of, Change::Missed(lost)).await.is_err() {
        tracing::debug!("the bridge stops, and tells of the damage at the next start");
    }
}

/// Learns the schema that a record of another version was written with.
async fn learn(error: &LoadError, registry: Option<&Registry>, decoder: &Decoder) {
    let LoadError::Record { source: RecordError::UnknownSchema { id }, .. } = error else { return };
    let Some(registry) = registry else { return };
    match registry.schema(*id).await {
        Ok(text) => {
            if let Err(error) = decoder.learn(*id, &text) {
                tracing::error!(schema = id, %error, "a schema of the registry cannot be used");
            }
        }
        Err(error @ RegistryFault::UnknownId { .. }) => {
            tracing::warn!(schema = id, %error, "a schema is forgotten, its records are read by those known");
            decoder.forget(*id);
        }
        Err(error) => tracing::warn!(schema = id, %error, "a schema cannot be looked up"),
    }
}
