//! The workers of the owned partitions: started on a grant, drained on a revocation.
//!
//! Promises:
//! - a partition is asked only after it was read to its end, and only while its grant holds;
//! - a revoked partition's worker has finished what was under way before the group is told.
//!
//! Knows nothing of: the group's protocol, what workers do.

mod loading;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, timeout};

use super::absent::{Absent, GivenUp};
use super::directory::Directory;
use crate::assignment::Decision;
use crate::config::Config;
use crate::kafka::Clients;
use crate::metrics::RebalanceKind;
use crate::publisher::Control;
use crate::record::{Decoder, Topics};
use crate::registry::Registry;
use crate::sabotage::{self, Guard};
use crate::worker::{Command, Order, Outside};
use loading::{Adopted, FIRST_LOAD, Loading, Untold};

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
    loading: JoinSet<Loading>,
    /// Partitions whose rows of before are being published, so that their states are known.
    adopting: JoinSet<Option<Adopted>>,
    drain: Duration,
    /// `journal.grace`.
    grace: Duration,
    /// Rows of our journal that were lost, until the users have been told.
    untold: Option<Untold>,
    /// Workers that finish what is under way, each followed by the word to whoever waits for it.
    ending: JoinSet<()>,
    /// Partitions that are being let go of: none is read again before it is.
    leaving: HashMap<i32, watch::Receiver<bool>>,
    /// The last grant of each partition that was revoked: no worker is made of it any more, though it
    /// is ours until it is let go of.
    revoked: HashMap<i32, u64>,
    /// Journals of others that have not published what they hold of our partitions.
    absent: Absent,
    is_warned: bool,
    /// Users whose queues were taken over since the last word about it; none when nothing was granted.
    users_loaded: Option<usize>,
}

struct AtWork {
    token: u64,
    /// Whether the partition was lost, and the group has not said whose it is now.
    is_unsure: bool,
    orders: watch::Sender<Order>,
    commands: mpsc::Sender<Command>,
    task: JoinHandle<()>,
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
            grace: config.journal.grace,
            untold: None,
            ending: JoinSet::new(),
            leaving: HashMap::new(),
            revoked: HashMap::new(),
            absent: Absent::new(config.journal.grace, config.polling.keep_alive),
            is_warned: false,
            users_loaded: None,
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
                    if let Ok(loading) = loaded {
                        self.loaded(loading).await;
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
                _ = show.tick() => {
                    self.show();
                    self.look_after_absent();
                    self.forget_damage();
                }
            }
        }
    }

    /// Has every worker finish what is under way, and ends. What the journal holds for partitions that
    /// are not read by then is published late, so that it is empty after a stop.
    pub(super) async fn stop(&mut self) {
        self.loading.abort_all();
        self.adopting.abort_all();
        let all: Vec<(i32, u64)> =
            self.workers.iter().map(|(p, at_work)| (*p, at_work.token)).collect();
        self.directory.shared.ownership.close(&all);
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
                if partitions.is_empty() {
                    // nothing is ours, and that is known
                    self.note_progress();
                } else {
                    self.load(partitions, Instant::now(), FIRST_LOAD);
                }
            }
            Decision::Revoked(partitions, done) => {
                tracing::info!(partitions = partitions.len(), "partitions revoked, draining");
                self.count(RebalanceKind::Revoked, partitions.len());
                self.revoked.extend(partitions.iter().copied());
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

    /// Says something to the publisher that can wait; it ends only with the service.
    fn tell_publisher(&self, control: Control) {
        let publisher = self.publisher.clone();
        tokio::spawn(async move { publisher.send(control).await.ok() });
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
                self.absent.forget(*partition);
                // a worker that has ended needs no word
                at_work.orders.send(Order::Stop).ok();
                tasks.push((*partition, *token, at_work.task));
            }
        }
        let publisher = self.publisher.clone();
        let (journal, drain) = (self.outside.journal.clone(), self.drain);
        let (leave, has_left) = watch::channel(false);
        for (partition, _, _) in &tasks {
            self.leaving.insert(*partition, has_left.clone());
        }
        self.ending.spawn(async move {
            let mut ended = Vec::new();
            for (partition, token, task) in tasks {
                if let Err(error) = task.await {
                    tracing::error!(partition, %error, "worker ended badly");
                }
                ended.push((partition, token));
            }
            // read again from here on: what was received is in the journal, and published before
            leave.send(true).ok();
            let is_drained = !sabotage::is_off(Guard::Drain);
            if !ended.is_empty() && is_drained && timeout(drain, journal.drained()).await.is_err() {
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

    /// Has users told of what journals that stay away have lost.
    fn look_after_absent(&mut self) {
        let found = self.absent.look(&self.directory.shared.peers);
        for (partition, until) in found.told {
            self.tell_publisher(Control::Told { partition, until });
        }
        if sabotage::is_off(Guard::Absent) {
            return;
        }
        for GivenUp { partition, instance_id, journal, from, to, done } in found.given_up {
            tracing::warn!(
                partition, %journal, instance = instance_id,
                "a journal stayed away longer than journal.grace, the users get gaps: bring it back \
                 or drain it, and what it holds is published late"
            );
            let Some(at_work) = self.workers.get(&partition) else { continue };
            let commands = at_work.commands.clone();
            // a worker that has ended drops what is to be told, and the next one is told
            tokio::spawn(async move { commands.send(Command::Tell { from, to, done }).await.ok() });
        }
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
                rate = budget,
                required_rate = required,
                "the request budget is short: raise linxo.max_requests_per_second or polling.keep_alive"
            );
        }
        self.is_warned = is_short;
    }
}
