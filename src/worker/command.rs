//! What the admin API asks of a worker, and how it is obeyed.
//!
//! Promises:
//! - a change to a user that something is under way for waits for it, in the order of arrival, and
//!   not more than sixteen of them;
//! - a change whose caller has gone before it began is not made;
//! - looking never waits.
//!
//! Knows nothing of: HTTP.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::Order;
use super::queue::{Doing, Loaded, Queue};
use super::step::{Step, answer};
use super::{MAX_WAITING, Worker};
use crate::admin::{PutDone, SubscriptionView, Unserved};
use crate::credential::Credential;
use crate::ids::{QueueId, Timestamp, UserId};
use crate::subscription::Subscription;

/// A call of the admin API, for the worker of the user's partition.
pub enum Command {
    /// Make or change a subscription.
    Put {
        /// Whose.
        user: UserId,
        /// How to ask for the user.
        credential: Credential,
        /// A queue made elsewhere.
        adopt: Option<QueueId>,
        /// Told the outcome.
        reply: oneshot::Sender<Result<PutDone, Unserved>>,
    },
    /// Show a subscription.
    Show {
        /// Whose.
        user: UserId,
        /// Told the answer.
        reply: oneshot::Sender<Result<SubscriptionView, Unserved>>,
    },
    /// Remove a subscription.
    Remove {
        /// Whose.
        user: UserId,
        /// Told the outcome.
        reply: oneshot::Sender<Result<(), Unserved>>,
    },
    /// A synchronization is about to start.
    Hint {
        /// Whose.
        user: UserId,
        /// Told the outcome.
        reply: oneshot::Sender<Result<(), Unserved>>,
    },
    /// The group has given the partition back: go on with everything, under a new grant.
    Renew {
        /// The new grant.
        token: u64,
        /// The partition's users as the topics have them now.
        users: Vec<Loaded>,
    },
    /// Another instance may have lost what it had received for the partition's users.
    Tell {
        /// What it received from then on,
        from: Timestamp,
        /// up to then.
        to: Timestamp,
        /// Told when every user is; dropped when the partition is lost before.
        done: oneshot::Sender<()>,
    },
    /// Some of the subscriptions, in the order of their users.
    Page {
        /// The user before the first.
        after: Option<UserId>,
        /// How many at most.
        limit: usize,
        /// Told the answer: the subscriptions, and whether there are more.
        reply: oneshot::Sender<(Vec<SubscriptionView>, bool)>,
    },
}

impl Command {
    fn user(&self) -> Option<&UserId> {
        match self {
            Self::Put { user, .. }
            | Self::Show { user, .. }
            | Self::Remove { user, .. }
            | Self::Hint { user, .. } => Some(user),
            Self::Page { .. } | Self::Renew { .. } | Self::Tell { .. } => None,
        }
    }

    fn is_change(&self) -> bool {
        matches!(self, Self::Put { .. } | Self::Remove { .. })
    }

    fn is_abandoned(&self) -> bool {
        match self {
            Self::Put { reply, .. } => reply.is_closed(),
            Self::Show { reply, .. } => reply.is_closed(),
            Self::Remove { reply, .. } | Self::Hint { reply, .. } => reply.is_closed(),
            Self::Page { reply, .. } => reply.is_closed(),
            Self::Renew { .. } | Self::Tell { .. } => false,
        }
    }

    fn refuse(self, unserved: Unserved) {
        match self {
            Self::Put { reply, .. } => answer(reply, Err(unserved)),
            Self::Show { reply, .. } => answer(reply, Err(unserved)),
            Self::Remove { reply, .. } | Self::Hint { reply, .. } => answer(reply, Err(unserved)),
            Self::Page { reply, .. } => drop(reply),
            Self::Renew { .. } | Self::Tell { .. } => {}
        }
    }
}

impl Worker {
    /// Obeys at once, or has a change wait for what is under way for its user.
    pub(super) fn obey(&mut self, command: Command) {
        if command.is_abandoned() {
            return;
        }
        if self.order != Order::Work && command.is_change() {
            let retry_after = Duration::from_secs(2);
            return command.refuse(Unserved::NotOwned { owner_url: None, retry_after });
        }
        let index = command.user().and_then(|user| self.by_user.get(user)).copied();
        if let Some(index) = index
            && command.is_change()
            && self.is_busy(index)
        {
            let waiting = self.waiting.entry(index).or_default();
            if waiting.len() >= MAX_WAITING {
                command.refuse(Unserved::Busy { retry_after: Duration::from_secs(1) });
            } else {
                waiting.push_back(command);
            }
            return;
        }
        self.obey_now(index, command);
    }

    /// Obeys what waited for `index`, until one of them is under way.
    pub(super) fn obey_waiting(&mut self, index: u32) {
        let Some(mut waiting) = self.waiting.remove(&index) else { return };
        while let Some(command) = waiting.pop_front() {
            if !command.is_abandoned() {
                // the user may be gone by now, and come back at another place
                let index = command.user().and_then(|user| self.by_user.get(user)).copied();
                self.obey_now(index, command);
            }
            if self.is_busy(index) {
                break;
            }
        }
        if !waiting.is_empty() {
            self.waiting.insert(index, waiting);
        }
    }

    fn is_busy(&self, index: u32) -> bool {
        let queue = self.queues.get(index as usize).and_then(Option::as_ref);
        queue.is_some_and(|queue| queue.doing == Doing::Busy)
    }

    fn obey_now(&mut self, index: Option<u32>, command: Command) {
        let partition = self.partition;
        match command {
            Command::Put { user, credential, adopt, reply } => {
                self.put(index, user, credential, adopt, reply);
            }
            Command::Remove { reply, .. } => match self.begin_change(index) {
                Some((index, queue)) => {
                    let question = queue.question(partition);
                    self.perform(index, Step::Remove { question, reply }, None);
                }
                None => answer(reply, Err(Unserved::UnknownUser)),
            },
            Command::Show { reply, .. } => {
                let queue = self.visible(index);
                let view = queue.map(|queue| self.view(queue));
                answer(reply, view.ok_or(Unserved::UnknownUser));
            }
            Command::Hint { reply, .. } => answer(reply, self.hint(index)),
            Command::Page { after, limit, reply } => answer(reply, self.page(after, limit)),
            Command::Renew { token, users } => self.renew(token, users),
            Command::Tell { from, to, done } => self.tell(from, to, done),
        }
    }

    /// Takes in what another owner may have done meanwhile. A queue of which nobody else wrote is
    /// known better here than by the topics, which lack what is not published yet.
    fn renew(&mut self, token: u64, users: Vec<Loaded>) {
        // the new grant may be lost by now
        if self.order != Order::KeepAlive(token) {
            self.order = Order::Work;
        }
        let mut gone: BTreeMap<UserId, u32> = self.by_user.clone();
        for loaded in users {
            let index = gone.remove(&loaded.subscription.user_id);
            let queue = index.and_then(|index| self.queues.get_mut(index as usize)?.as_mut());
            match queue {
                Some(queue) if queue.is_continued_by(&loaded) => queue.renew(&loaded),
                Some(queue) if queue.doing == Doing::Busy => {
                    // nothing else may happen to the user until it is known what that comes to
                    self.reloads.extend(index.map(|index| (index, loaded)));
                }
                Some(_) => self.reload(index, loaded),
                None => self.load(vec![loaded], None),
            }
        }
        for index in gone.into_values() {
            let queue = self.queues.get(index as usize).and_then(Option::as_ref);
            if queue.is_some_and(|queue| !queue.is_subscribing()) {
                self.dismiss(index);
            }
        }
    }

    /// Has a queue go on as the topics have it.
    fn reload(&mut self, index: Option<u32>, loaded: Loaded) {
        let Some(index) = index else { return };
        if let Some(queue) = self.queues.get_mut(index as usize).and_then(Option::as_mut) {
            queue.reload(loaded, &self.outside.pace);
            self.arm(index, Instant::now());
        }
    }

    /// Forgets a queue. The place of one with a step under way stays empty: its outcome comes there.
    fn dismiss(&mut self, index: u32) {
        self.wheel.disarm(index);
        let Some(queue) = self.queues.get_mut(index as usize).and_then(Option::take) else {
            return;
        };
        self.by_user.remove(&queue.user);
        self.reloads.remove(&index);
        // who waited for the step is told by the end of its channel that the outcome is not known
        self.waiting.remove(&index);
        if queue.doing != Doing::Busy {
            self.vacant.push(index);
        }
    }

    fn put(
        &mut self,
        index: Option<u32>,
        user: UserId,
        credential: Credential,
        adopt: Option<QueueId>,
        reply: oneshot::Sender<Result<PutDone, Unserved>>,
    ) {
        let partition = self.partition;
        if let Some((index, queue)) = self.begin_change(index) {
            let question = queue.question(partition);
            let subscription = Box::new(Subscription {
                user_id: queue.user.clone(),
                subscription_id: queue.subscription_id.clone(),
                queue_id: queue.first_queue.clone(),
                credential_kind: String::new(),
                sealed_credential: Vec::new(),
                created_at: queue.created_at,
                updated_at: Timestamp::now(),
            });
            let step = Step::Change { question, subscription, credential, adopt, reply };
            self.perform(index, step, None);
            return;
        }
        let mut queue = Queue::subscribing(user);
        queue.doing = Doing::Busy;
        let of = queue.row_of(self.partition);
        let index = self.insert(queue);
        self.perform(index, Step::Subscribe { of, credential, adopt, reply }, None);
    }

    /// Makes a queue busy with a change; none when there is none.
    pub(super) fn begin_change(&mut self, index: Option<u32>) -> Option<(u32, &Queue)> {
        let index = index?;
        self.wheel.disarm(index);
        let queue = self.queues.get_mut(index as usize)?.as_mut()?;
        queue.doing = Doing::Busy;
        Some((index, queue))
    }

    fn hint(&mut self, index: Option<u32>) -> Result<(), Unserved> {
        if self.visible(index).is_none() {
            return Err(Unserved::UnknownUser);
        }
        let index = index.ok_or(Unserved::UnknownUser)?;
        let now = Instant::now();
        let pace = self.outside.pace;
        if let Some(queue) = self.queues.get_mut(index as usize).and_then(Option::as_mut) {
            queue.hint(now, &pace);
            if queue.doing == Doing::Idle {
                self.arm(index, now);
            }
        }
        Ok(())
    }

    fn view(&self, queue: &Queue) -> SubscriptionView {
        queue.view(self.partition, &self.outside.instance_id, &self.outside.pace)
    }

    fn visible(&self, index: Option<u32>) -> Option<&Queue> {
        let queue = self.queues.get(index? as usize)?.as_ref()?;
        (!queue.is_subscribing()).then_some(queue)
    }

    fn page(&self, after: Option<UserId>, limit: usize) -> (Vec<SubscriptionView>, bool) {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut views = Vec::new();
        for (_, &index) in self.by_user.range((from, Bound::Unbounded)) {
            let Some(queue) = self.visible(Some(index)) else { continue };
            if views.len() == limit {
                return (views, true);
            }
            views.push(self.view(queue));
        }
        (views, false)
    }
}
