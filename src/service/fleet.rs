//! The workers of the owned partitions: started on a grant, drained on a revocation.
//!
//! Promises:
//! - a partition is asked only after it was read to its end, and only while its grant holds;
//! - a revoked partition's worker has finished what was under way before the group is told;
//! - what cannot be read is tried again for as long as the grant holds, and said in the log.
//!
//! Knows nothing of: the group's protocol, what workers do.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;

use super::directory::Directory;
use super::load::{self, LoadError, LoadedPartition};
use crate::assignment::Decision;
use crate::config::Config;
use crate::kafka::Clients;
use crate::metrics::RebalanceKind;
use crate::publisher::Control;
use crate::record::{Decoder, RecordError, Topics};
use crate::registry::Registry;
use crate::worker::{COMMANDS, Command, Granted, Outside, Worker};

const AGAIN: Duration = Duration::from_secs(1);
const SHOW: Duration = Duration::from_secs(1);

/// The workers of this instance.
pub(super) struct Fleet {
    clients: Clients,
    topics: Topics,
    decoder: Arc<RwLock<Decoder>>,
    registry: Option<Registry>,
    outside: Arc<Outside>,
    directory: Directory,
    publisher: mpsc::Sender<Control>,
    max_requests_per_second: u32,
    partitions: i32,
    workers: BTreeMap<i32, AtWork>,
    loading: JoinSet<Option<Loading>>,
    /// Workers that finish what is under way, each followed by the word to whoever waits for it.
    ending: JoinSet<()>,
    is_warned: bool,
}

struct AtWork {
    token: u64,
    stop: watch::Sender<bool>,
    commands: mpsc::Sender<Command>,
    task: JoinHandle<()>,
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
        decoder: Arc<RwLock<Decoder>>,
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
            ending: JoinSet::new(),
            is_warned: false,
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
                        self.set_to_work(loading).await;
                    }
                }
                Some(_) = self.ending.join_next() => {}
                _ = show.tick() => self.show(),
            }
        }
    }

    /// Has every worker finish what is under way, and ends.
    pub(super) async fn stop(&mut self) {
        self.loading.abort_all();
        let all: Vec<(i32, u64)> =
            self.workers.iter().map(|(p, at_work)| (*p, at_work.token)).collect();
        self.let_go(&all, None);
        while self.ending.join_next().await.is_some() {}
    }

    fn obey(&mut self, decision: Decision) {
        match decision {
            Decision::Granted(partitions) => {
                tracing::info!(partitions = partitions.len(), "partitions granted");
                self.count(RebalanceKind::Granted, partitions.len());
                self.load(partitions);
            }
            Decision::Revoked(partitions, done) => {
                tracing::info!(partitions = partitions.len(), "partitions revoked, draining");
                self.count(RebalanceKind::Revoked, partitions.len());
                self.let_go(&partitions, Some(done));
            }
            Decision::Lost(partitions) => {
                tracing::warn!(partitions = partitions.len(), "partitions lost");
                self.count(RebalanceKind::Lost, partitions.len());
                self.let_go(&partitions, None);
            }
        }
        self.share_budget();
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
                let reading = Arc::clone(&decoder);
                let read = tokio::task::spawn_blocking(move || {
                    let decoder = reading.read().unwrap_or_else(PoisonError::into_inner);
                    load::load(&clients, &topics, &decoder, &numbers)
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

    async fn set_to_work(&mut self, loading: Loading) {
        let tokens: BTreeMap<i32, u64> = loading.partitions.into_iter().collect();
        let mut users = 0;
        for loaded in loading.loaded {
            let partition = loaded.partition;
            let Some(&token) = tokens.get(&partition) else { continue };
            if !self.directory.shared.ownership.is_owned(partition, token) {
                continue;
            }
            users += loaded.users.len();
            let states = loaded.users.iter().map(|user| user.state.clone()).collect();
            let (held, is_held) = oneshot::channel();
            let adopt = Control::Adopt { partition, token, states, held };
            if self.publisher.send(adopt).await.is_err() || is_held.await.is_err() {
                // the publisher has ended, and so does the service
                return;
            }
            let (commands, received) = mpsc::channel(COMMANDS);
            let (stop, stopped) = watch::channel(false);
            let granted = Granted { partition, token };
            let mut worker =
                Worker::new(granted, loading.granted, Arc::clone(&self.outside), received);
            for user in loaded.users {
                worker.load(user, loaded.asked_until);
            }
            let task = tokio::spawn(worker.run(stopped));
            self.directory.enter(partition, commands.clone());
            self.workers.insert(partition, AtWork { token, stop, commands, task });
        }
        self.share_budget();
        self.show();
        self.directory.shared.progress.is_done();
        tracing::info!(
            partitions = tokens.len(), users, elapsed = ?loading.granted.elapsed(), "partitions loaded"
        );
    }

    /// Stops workers and has them finish in the background; then `done` is told.
    fn let_go(&mut self, partitions: &[(i32, u64)], done: Option<std::sync::mpsc::Sender<()>>) {
        let mut tasks = Vec::new();
        for (partition, token) in partitions {
            if self.workers.get(partition).is_some_and(|at_work| at_work.token == *token)
                && let Some(at_work) = self.workers.remove(partition)
            {
                self.directory.strike(*partition, &at_work.commands);
                // a worker that has ended needs no word
                at_work.stop.send(true).ok();
                tasks.push((*partition, *token, at_work.task));
            }
        }
        let publisher = self.publisher.clone();
        self.ending.spawn(async move {
            for (partition, token, task) in tasks {
                if let Err(error) = task.await {
                    tracing::error!(partition, %error, "worker ended badly");
                }
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

    /// This instance's share of the fleet's budget, by the partitions it owns.
    fn share_budget(&self) {
        if self.max_requests_per_second == 0 {
            return;
        }
        let owned = self.directory.shared.ownership.count() as f64;
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
        metrics.budget(budget, required);
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

/// Learns the schema that a record of another version was written with.
async fn learn(error: &LoadError, registry: Option<&Registry>, decoder: &RwLock<Decoder>) {
    let LoadError::Record { source: RecordError::UnknownSchema { id }, .. } = error else { return };
    let Some(registry) = registry else { return };
    match registry.schema(*id).await {
        Ok(text) => {
            let learnt = decoder.write().unwrap_or_else(PoisonError::into_inner).learn(*id, &text);
            if let Err(error) = learnt {
                tracing::error!(id, %error, "a schema of the registry cannot be used");
            }
        }
        Err(error) => tracing::warn!(id, %error, "a schema cannot be looked up"),
    }
}
