//! The workers of the owned partitions: started on a grant, drained on a revocation.
//!
//! Promises:
//! - a partition is asked only after it was read to its end, and only while its grant holds;
//! - a revoked partition's worker has finished what was under way before the group is told;
//! - what cannot be read is tried again for as long as the grant holds, and said in the log.
//!
//! Knows nothing of: the group's protocol, what workers do.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, timeout};

use super::directory::Directory;
use super::load::{self, LoadError, LoadedPartition};
use crate::assignment::Decision;
use crate::config::Config;
use crate::gap::{Cause, Certainty};
use crate::ids::{GapId, Timestamp};
use crate::journal::{Change, Damage, Journal, Lost, RowOf};
use crate::kafka::Clients;
use crate::metrics::RebalanceKind;
use crate::publisher::Control;
use crate::queue_state::QueueState;
use crate::record::{Decoder, RecordError, Topics};
use crate::registry::{Registry, RegistryFault};
use crate::worker::{COMMANDS, Command, Order, Outside, Worker};

const AGAIN: Duration = Duration::from_secs(1);
const SHOW: Duration = Duration::from_secs(1);

/// The workers of this instance.
pub(super) struct Fleet {
    clients: Clients,
    topics: Topics,
    decoder: Arc<Decoder>,
    registry: Option<Registry>,
    outside: Arc<Outside>,
    directory: Directory,
    publisher: mpsc::Sender<Control>,
    max_requests_per_second: u32,
    partitions: i32,
    workers: BTreeMap<i32, AtWork>,
    loading: JoinSet<Option<Loading>>,
    /// Partitions whose rows of before are being published, so that their states are known.
    adopting: JoinSet<Option<Adopted>>,
    drain: Duration,
    /// Why rows of our journal were lost, until the users have been told.
    damage: Option<Damage>,
    /// Workers that finish what is under way, each followed by the word to whoever waits for it.
    ending: JoinSet<()>,
    is_warned: bool,
    /// Users whose queues were taken over since the last word about it.
    users_loaded: usize,
}

struct AtWork {
    token: u64,
    /// Whether the partition was lost, and the group has not said whose it is now.
    is_unsure: bool,
    orders: watch::Sender<Order>,
    commands: mpsc::Sender<Command>,
    task: JoinHandle<()>,
}

/// A partition that is read, and of which nothing is left in the journal.
struct Adopted {
    granted: Instant,
    token: u64,
    loaded: LoadedPartition,
}

/// Partitions on their way from the topics to their workers.
struct Loading {
    granted: Instant,
    partitions: Vec<(i32, u64)>,
    loaded: Vec<LoadedPartition>,
}

impl Fleet {
    #[expect(clippy::too_many_arguments, reason = "called once, where everything meets")]
    pub(super) fn new(
        clients: Clients,
        topics: Topics,
        decoder: Arc<Decoder>,
        registry: Option<Registry>,
        outside: Arc<Outside>,
        directory: Directory,
        publisher: mpsc::Sender<Control>,
        config: &Config,
        partitions: i32,
    ) -> Self {
        Self {
            clients,
            topics,
            decoder,
            registry,
            outside,
            directory,
            publisher,
            max_requests_per_second: config.linxo.max_requests_per_second,
            partitions,
            workers: BTreeMap::new(),
            loading: JoinSet::new(),
            adopting: JoinSet::new(),
            drain: config.service.drain,
            damage: None,
            ending: JoinSet::new(),
            is_warned: false,
            users_loaded: 0,
        }
    }

    /// Obeys the group until `stopped` turns true.
    pub(super) async fn run(
        &mut self,
        mut decisions: mpsc::Receiver<Decision>,
        mut stopped: watch::Receiver<bool>,
    ) {
        let mut show = tokio::time::interval(SHOW);
        loop {
            tokio::select! {
                biased;
                _ = stopped.wait_for(|stop| *stop) => return,
                Some(decision) = decisions.recv() => self.obey(decision),
                Some(loaded) = self.loading.join_next() => {
                    if let Ok(Some(loading)) = loaded {
                        self.adopt(loading).await;
                    }
                    self.note_progress();
                }
                Some(adopted) = self.adopting.join_next() => {
                    if let Ok(Some(adopted)) = adopted {
                        self.set_to_work(adopted);
                    }
                    self.note_progress();
                }
                Some(_) = self.ending.join_next() => {}
                _ = show.tick() => self.show(),
            }
        }
    }

    /// Has every worker finish what is under way, and ends.
    pub(super) async fn stop(&mut self) {
        self.loading.abort_all();
        self.adopting.abort_all();
        let all: Vec<(i32, u64)> =
            self.workers.iter().map(|(p, at_work)| (*p, at_work.token)).collect();
        self.let_go(&all, None);
        while self.ending.join_next().await.is_some() {}
    }

    fn obey(&mut self, decision: Decision) {
        match decision {
            Decision::Granted(partitions) => {
                if !partitions.is_empty() {
                    tracing::info!(partitions = partitions.len(), "partitions granted");
                }
                self.count(RebalanceKind::Granted, partitions.len());
                self.let_go_of_lost(&partitions);
                if !partitions.is_empty() {
                    self.load(partitions);
                }
            }
            Decision::Revoked(partitions, done) => {
                tracing::info!(partitions = partitions.len(), "partitions revoked, draining");
                self.count(RebalanceKind::Revoked, partitions.len());
                self.let_go(&partitions, Some(done));
            }
            Decision::Lost(partitions) => {
                tracing::warn!(
                    partitions = partitions.len(),
                    "partitions lost, their queues are kept alive until the group answers"
                );
                self.count(RebalanceKind::Lost, partitions.len());
                for (partition, token) in &partitions {
                    let at_work = self.workers.get_mut(partition);
                    if let Some(at_work) = at_work.filter(|at_work| at_work.token == *token) {
                        at_work.is_unsure = true;
                        // a worker that has ended needs no word
                        at_work.orders.send(Order::KeepAlive(*token)).ok();
                    }
                }
            }
        }
        self.share_budget();
    }

    /// Ends the workers of partitions that were lost and are not given back: the group has answered.
    fn let_go_of_lost(&mut self, granted: &[(i32, u64)]) {
        let lost = self.workers.iter().filter(|(partition, at_work)| {
            at_work.is_unsure && !granted.iter().any(|(given, _)| given == *partition)
        });
        let lost: Vec<(i32, u64)> =
            lost.map(|(partition, at_work)| (*partition, at_work.token)).collect();
        self.let_go(&lost, None);
    }

    /// Reads partitions in the background, for as long as their grant holds.
    fn load(&mut self, partitions: Vec<(i32, u64)>) {
        let granted = Instant::now();
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
        self.loading.spawn(async move {
            loop {
                let wanted: Vec<(i32, u64)> = partitions
                    .iter()
                    .copied()
                    .filter(|(partition, token)| ownership.is_owned(*partition, *token))
                    .collect();
                if wanted.is_empty() {
                    return None;
                }
                let numbers: Vec<i32> = wanted.iter().map(|(partition, _)| *partition).collect();
                let (clients, topics) = (clients.clone(), topics.clone());
                let journal = journal.clone();
                let reading = Arc::clone(&decoder);
                let read = tokio::task::spawn_blocking(move || {
                    load::load(&clients, &topics, &reading, &journal, &numbers)
                });
                match read.await {
                    Ok(Ok(loaded)) => return Some(Loading { granted, partitions: wanted, loaded }),
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

    /// Hands the states of partitions to the publisher, and waits in the background until what the
    /// journal still had of them is published: only then is it known where each queue stands.
    async fn adopt(&mut self, loading: Loading) {
        let tokens: BTreeMap<i32, u64> = loading.partitions.into_iter().collect();
        if let Some(damage) = self.outside.journal.damage() {
            self.damage = Some(damage);
        }
        let damage = self.damage.clone();
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
                continue;
            }
            let damage = damage.clone();
            let journal = self.outside.journal.clone();
            self.adopting.spawn(async move {
                let mut changed = is_held.await.ok()?;
                let mut loaded = loaded;
                for user in &mut loaded.users {
                    if let Some(state) = changed.remove(&user.state.user_id) {
                        user.state = state;
                    }
                }
                if let Some(damage) = damage {
                    // a gap begins at the last answered question, which may lie an interval before
                    let known = damage.since.or(loaded.published_until).unwrap_or_default();
                    let from = known.before(keep_alive);
                    tell_of_damage(&journal, &loaded, from).await;
                }
                Some(Adopted { granted, token, loaded })
            });
        }
    }

    fn set_to_work(&mut self, adopted: Adopted) {
        let Adopted { granted: granted_at, token, loaded } = adopted;
        let partition = loaded.partition;
        if !self.directory.shared.ownership.is_owned(partition, token) {
            return;
        }
        let (commands, received) = mpsc::channel(COMMANDS);
        let (orders, ordered) = watch::channel(Order::Work);
        let mut worker = Worker::new(partition, granted_at, Arc::clone(&self.outside), received);
        let users = loaded.users.len();
        for user in loaded.users {
            worker.load(user, loaded.asked_until);
        }
        let task = tokio::spawn(worker.run(ordered));
        self.directory.enter(partition, commands.clone());
        self.workers.insert(partition, AtWork { token, is_unsure: false, orders, commands, task });
        self.users_loaded += users;
    }

    /// When everything that was granted is at work, the start is done.
    fn note_progress(&mut self) {
        let is_sure = self.directory.shared.ownership.is_sure();
        if !self.adopting.is_empty() || !self.loading.is_empty() || !is_sure {
            return;
        }
        if self.damage.take().is_some() {
            self.outside.journal.damage_is_told();
        }
        self.share_budget();
        self.show();
        self.directory.shared.progress.is_done();
        let users = std::mem::take(&mut self.users_loaded);
        tracing::info!(partitions = self.workers.len(), users, "partitions loaded");
    }

    /// Stops workers and has them finish in the background; then `done` is told.
    fn let_go(&mut self, partitions: &[(i32, u64)], done: Option<std::sync::mpsc::Sender<()>>) {
        let mut tasks = Vec::new();
        for (partition, token) in partitions {
            if self
                .workers
                .get(partition)
                .is_some_and(|at_work| at_work.token == *token || at_work.is_unsure)
                && let Some(at_work) = self.workers.remove(partition)
            {
                self.directory.strike(*partition, &at_work.commands);
                // a worker that has ended needs no word
                at_work.orders.send(Order::Stop).ok();
                tasks.push((*partition, *token, at_work.task));
            }
        }
        let publisher = self.publisher.clone();
        let (journal, drain) = (self.outside.journal.clone(), self.drain);
        self.ending.spawn(async move {
            let mut ended = Vec::new();
            for (partition, token, task) in tasks {
                if let Err(error) = task.await {
                    tracing::error!(partition, %error, "worker ended badly");
                }
                ended.push((partition, token));
            }
            if !ended.is_empty() && timeout(drain, journal.drained()).await.is_err() {
                tracing::warn!(
                    "not everything was published within service.drain, the rest comes late"
                );
            }
            for (partition, token) in ended {
                if publisher.send(Control::Release { partition, token }).await.is_err() {
                    tracing::debug!(partition, "the publisher has ended");
                }
            }
            if let Some(done) = done {
                // the group's thread may have given up waiting
                done.send(()).ok();
            }
        });
    }

    fn count(&self, kind: RebalanceKind, partitions: usize) {
        for _ in 0..partitions {
            self.outside.metrics.rebalance(kind);
        }
    }

    /// This instance's share of the fleet's budget, by the partitions it owns, or keeps alive while
    /// the group is out of reach.
    fn share_budget(&self) {
        if self.max_requests_per_second == 0 {
            return;
        }
        let owned = self.directory.shared.ownership.count().max(self.workers.len()) as f64;
        let share = owned / f64::from(self.partitions.max(1));
        let rate = f64::from(self.max_requests_per_second) * share;
        // without a partition nothing is asked, but a rate of nothing would never recover
        self.outside.budget.limit(Some(rate.max(0.1)));
    }

    fn show(&mut self) {
        let metrics = &self.outside.metrics;
        let owned: BTreeSet<i32> = self.workers.keys().copied().collect();
        let total = u64::try_from(self.partitions).unwrap_or(0);
        metrics.partitions(owned.len() as u64, total);
        self.outside.journal.show(metrics);
        let required = self.outside.budget.required();
        let share = owned.len() as f64 / f64::from(self.partitions.max(1));
        let budget = f64::from(self.max_requests_per_second) * share;
        metrics.budget(self.outside.budget.throttled_to().unwrap_or(budget), required);
        let is_short = budget > 0.0 && required > budget;
        if is_short && !self.is_warned {
            tracing::warn!(
                budget,
                required,
                "the request budget is short: raise linxo.max_requests_per_second or polling.keep_alive"
            );
        }
        self.is_warned = is_short;
    }
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
                tracing::error!(id, %error, "a schema of the registry cannot be used");
            }
        }
        Err(error @ RegistryFault::UnknownId { .. }) => {
            tracing::warn!(id, %error, "a schema is forgotten, its records are read by those known");
            decoder.forget(*id);
        }
        Err(error) => tracing::warn!(id, %error, "a schema cannot be looked up"),
    }
}
