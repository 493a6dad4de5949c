//! Where the worker of a user is: takes a call of the admin API there and brings the answer back.
//!
//! Promises: a call for a user whose partition is not loaded here is refused, and nothing is
//! created for it.
//!
//! Knows nothing of: HTTP, what a worker does with a call.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::peers::{Peer, Peers};
use super::progress::Progress;
use crate::admin::{
    Bridge, CredentialRequest, InstanceView, Liveness, Page, PutDone, PutRequest, Readiness,
    SubscriptionView, Unserved,
};
use crate::assignment::Ownership;
use crate::credential::Credential;
use crate::ids::{JournalId, Timestamp, UserId};
use crate::kafka::partition_of;
use crate::logging::LogFilter;
use crate::metrics::Metrics;
use crate::pulse::Pulse;
use crate::secret::Secret;
use crate::worker::Command;

/// For how long an instance is shown that is no more, and owes nothing.
const SHOWN_FOR: Duration = Duration::from_secs(24 * 3600);
const TRY_AGAIN: Duration = Duration::from_secs(2);

/// Finds workers. Cheap to clone.
#[derive(Clone)]
pub(super) struct Directory {
    pub(super) shared: Arc<Shared>,
}

pub(super) struct Shared {
    pub(super) workers: Mutex<BTreeMap<i32, mpsc::Sender<Command>>>,
    pub(super) partitions: std::sync::atomic::AtomicI32,
    pub(super) instance_id: String,
    pub(super) journal: JournalId,
    /// Where other instances reach this one; known when its door is open.
    pub(super) url: OnceLock<String>,
    pub(super) ownership: Arc<Ownership>,
    pub(super) progress: Arc<Progress>,
    pub(super) pulse: Arc<Pulse>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) scraping: tokio::sync::Mutex<()>,
    pub(super) log: LogFilter,
    pub(super) has_client_credential: bool,
    pub(super) peers: Peers,
}

impl Shared {
    pub(super) fn url(&self) -> String {
        self.url.get().cloned().unwrap_or_default()
    }
}

impl Directory {
    pub(super) fn enter(&self, partition: i32, worker: mpsc::Sender<Command>) {
        self.workers().insert(partition, worker);
    }

    /// Takes a worker out, if it is still the one that is listed.
    pub(super) fn strike(&self, partition: i32, worker: &mpsc::Sender<Command>) {
        let mut workers = self.workers();
        if workers.get(&partition).is_some_and(|listed| listed.same_channel(worker)) {
            workers.remove(&partition);
        }
    }

    fn workers(&self) -> MutexGuard<'_, BTreeMap<i32, mpsc::Sender<Command>>> {
        self.shared.workers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn partitions(&self) -> i32 {
        self.shared.partitions.load(std::sync::atomic::Ordering::Relaxed)
    }

    async fn call<T>(
        &self,
        user: &UserId,
        command: impl FnOnce(oneshot::Sender<Result<T, Unserved>>) -> Command,
    ) -> Result<T, Unserved> {
        let not_owned = || Unserved::NotOwned { owner_url: None, retry_after: TRY_AGAIN };
        let total = self.partitions();
        if total == 0 {
            return Err(Unserved::KafkaAway);
        }
        let partition = partition_of(user.as_str().as_bytes(), total);
        let worker = self.workers().get(&partition).cloned();
        let worker = worker.ok_or_else(|| self.owned_elsewhere(partition))?;
        let (reply, answer) = oneshot::channel();
        worker.send(command(reply)).await.map_err(|_| not_owned())?;
        // a worker that ends without an answer may have begun
        answer.await.unwrap_or(Err(Unserved::OutcomeUnknown))
    }
}

impl Directory {
    /// That a partition has no worker here, and where its owner is, as far as that is known.
    fn owned_elsewhere(&self, partition: i32) -> Unserved {
        let Shared { ownership, peers, journal, .. } = &*self.shared;
        let is_ours = ownership.token(partition).is_some();
        let owner_url = if is_ours { None } else { peers.owner(partition, journal) };
        Unserved::NotOwned { owner_url, retry_after: TRY_AGAIN }
    }
}

impl Bridge for Directory {
    async fn put(&self, user: UserId, request: PutRequest) -> Result<PutDone, Unserved> {
        let credential = match request.credential {
            CredentialRequest::AccessToken { access_token, expires_at } => {
                Credential::AccessToken {
                    access_token: Secret::from(access_token.as_str()),
                    expires_at,
                }
            }
            // tokens are asked for in the name of both, the user and the bridge
            CredentialRequest::Password { .. } | CredentialRequest::Client
                if !self.shared.has_client_credential =>
            {
                return Err(Unserved::InvalidCredential {
                    what: "the bridge has no client credentials, set linxo.client_id and \
                           linxo.client_secret_file"
                        .to_owned(),
                });
            }
            CredentialRequest::Password { username, password } => Credential::Password {
                username: Secret::from(username.as_str()),
                password: Secret::from(password.as_str()),
            },
            CredentialRequest::Client => Credential::Client,
        };
        let adopt = request.queue_id;
        self.call(&user.clone(), |reply| Command::Put { user, credential, adopt, reply }).await
    }

    async fn show(&self, user: UserId) -> Result<SubscriptionView, Unserved> {
        self.call(&user.clone(), |reply| Command::Show { user, reply }).await
    }

    async fn remove(&self, user: UserId) -> Result<(), Unserved> {
        self.call(&user.clone(), |reply| Command::Remove { user, reply }).await
    }

    async fn hint(&self, user: UserId) -> Result<(), Unserved> {
        self.call(&user.clone(), |reply| Command::Hint { user, reply }).await
    }

    async fn page(&self, after: Option<UserId>, limit: usize) -> Result<Page, Unserved> {
        // as long as nobody knows how many there are, none would look like all
        let partitions_total = usize::try_from(self.partitions()).unwrap_or(0);
        if partitions_total == 0 {
            return Err(Unserved::KafkaAway);
        }
        let workers: Vec<_> =
            self.workers().iter().map(|(partition, worker)| (*partition, worker.clone())).collect();
        let mut subscriptions = Vec::new();
        let mut has_more = false;
        let mut partitions = Vec::new();
        for (partition, worker) in workers {
            let (reply, answer) = oneshot::channel();
            let command = Command::Page { after: after.clone(), limit, reply };
            if worker.send(command).await.is_err() {
                continue;
            }
            if let Ok((page, more)) = answer.await {
                partitions.push(partition);
                has_more |= more;
                subscriptions.extend(page);
            }
        }
        subscriptions.sort_by(|one, other| one.user_id.cmp(&other.user_id));
        has_more |= subscriptions.len() > limit;
        subscriptions.truncate(limit);
        Ok(Page { subscriptions, has_more, partitions, partitions_total })
    }

    async fn instances(&self) -> Vec<InstanceView> {
        let now = Timestamp::now();
        let peers = &self.shared.peers;
        let ourselves = peers.with(&self.shared.journal);
        let mut instances = vec![InstanceView {
            instance_id: self.shared.instance_id.clone(),
            journal_id: self.shared.journal.clone(),
            url: self.shared.url(),
            partitions: self.workers().keys().copied().collect(),
            marked_at: ourselves.as_ref().and_then(|peer| peer.marked_at),
            asked_until: Some(self.shared.pulse.asked_until(now)),
            published_until: ourselves.map(|peer| peer.mark.published_until),
            is_alive: true,
            is_self: true,
        }];
        let all = peers.all();
        let told_until = |partition: i32| {
            all.iter().map(|peer| peer.mark.told_until(partition)).max().unwrap_or_default()
        };
        let others = all.iter().filter(|peer| {
            peer.mark.journal_id != self.shared.journal
                && (peer.heard.elapsed() < SHOWN_FOR || peer.owes(told_until))
        });
        instances.extend(others.map(Peer::view));
        instances.sort_by(|one, other| one.instance_id.cmp(&other.instance_id));
        instances
    }

    fn liveness(&self) -> Liveness {
        let stalled = self.shared.pulse.stalled(Instant::now());
        if stalled.is_empty() {
            Liveness::Alive
        } else {
            Liveness::Stalled(format!("the workers of partitions {stalled:?} stand still"))
        }
    }

    fn readiness(&self) -> Readiness {
        let mut reasons = self.shared.progress.missing();
        let owned = self.shared.ownership.count();
        let loaded = self.workers().len();
        if reasons.is_empty() && owned > loaded {
            reasons.push(format!("{} of {owned} owned partitions are being read", owned - loaded));
        }
        if reasons.is_empty() { Readiness::Ready } else { Readiness::NotReady(reasons) }
    }

    async fn metrics_text(&self) -> String {
        // one at a time, and on another thread than the one that asks: the system is asked about
        // the process, too
        let _turn = self.shared.scraping.lock().await;
        let metrics = Arc::clone(&self.shared.metrics);
        tokio::task::spawn_blocking(move || metrics.text()).await.unwrap_or_default()
    }

    fn log_filter(&self) -> String {
        self.shared.log.text()
    }

    fn change_log_filter(&self, filter: &str) -> Result<(), String> {
        self.shared.log.change(filter).map_err(|fault| fault.to_string())
    }
}
