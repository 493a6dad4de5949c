//! The thread that polls the group, and what its callbacks do.
//!
//! Promises: every assignment begins at the beginning of the partition and is paused at once: the
//! member owns partitions and reads nothing (`load` does the reading, and asking for committed
//! offsets would block behind a predecessor's open transaction, kafka-from-rust 13 rule 7).
//!
//! Knows nothing of: what a partition holds.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc as std_mpsc};
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::types::{RDKafkaErrorCode, RDKafkaRespErr};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::{Decision, Ownership};
use crate::kafka::complain;

const POLL: Duration = Duration::from_millis(100);
const AGAIN: Duration = Duration::from_secs(1);
/// The longest wait of a member that another one with its id throws out again and again.
const LONGEST_AGAIN: Duration = Duration::from_secs(30);
/// After how long with its coordinator a member without a word from the group owns nothing: the
/// `consumer` protocol calls nobody for an empty assignment. Three heartbeats of five seconds.
const SILENCE: Duration = Duration::from_secs(15);

/// What runs on the thread.
pub(super) struct Member {
    pub(super) config: ClientConfig,
    pub(super) topic: String,
    pub(super) drain: Duration,
    pub(super) ownership: Arc<Ownership>,
    pub(super) decisions: mpsc::Sender<Decision>,
    pub(super) stop: Arc<AtomicBool>,
}

impl Member {
    pub(super) fn run(self) {
        let mut is_first = true;
        let mut again = AGAIN;
        while !self.stop.load(Ordering::Relaxed) {
            match self.join() {
                Ok(consumer) => {
                    is_first = true;
                    let since = Instant::now();
                    let is_fenced = self.poll(&consumer);
                    // two with one id would throw each other out every second for ever
                    let is_fight = is_fenced && since.elapsed() < 2 * LONGEST_AGAIN;
                    again = if is_fight { LONGEST_AGAIN.min(2 * again) } else { AGAIN };
                    // the publisher must not take metadata of a member that is gone
                    self.ownership.set_member(None);
                    let lost = self.ownership.all();
                    if !lost.is_empty() && !self.stop.load(Ordering::Relaxed) {
                        self.ownership.lose(&lost);
                        self.tell(Decision::Lost(lost));
                    }
                }
                Err(error) => {
                    if is_first {
                        tracing::warn!(%error, "cannot join the group, trying again");
                    }
                    is_first = false;
                }
            }
            if !self.stop.load(Ordering::Relaxed) {
                self.pause(again);
            }
        }
    }

    fn join(&self) -> Result<Arc<BaseConsumer<GroupContext>>, KafkaError> {
        let context = GroupContext {
            coordinated_since: Mutex::new(None),
            has_failed: AtomicBool::new(false),
            drain: self.drain,
            ownership: Arc::clone(&self.ownership),
            decisions: self.decisions.clone(),
            stop: Arc::clone(&self.stop),
        };
        let consumer: BaseConsumer<GroupContext> = self.config.create_with_context(context)?;
        consumer.subscribe(&[&self.topic])?;
        let consumer = Arc::new(consumer);
        self.ownership.set_member(Some(Arc::clone(&consumer)));
        Ok(consumer)
    }

    /// Polls until the member is stopped or thrown out; true when another one has come with its id.
    fn poll(&self, consumer: &BaseConsumer<GroupContext>) -> bool {
        let mut unsure_since = None;
        while !self.stop.load(Ordering::Relaxed) {
            if consumer.context().has_failed.load(Ordering::Relaxed) {
                return false;
            }
            if self.ownership.is_sure() {
                unsure_since = None;
            } else {
                let since = *unsure_since.get_or_insert_with(Instant::now);
                let with_coordinator = consumer.context().coordinated_since();
                if with_coordinator.is_some_and(|other| other.max(since).elapsed() > SILENCE)
                    && self.ownership.is_given_nothing()
                {
                    self.tell(Decision::Granted(Vec::new()));
                }
            }
            match consumer.poll(POLL) {
                Some(Err(error)) if is_fatal(consumer, &error) => {
                    let code = consumer.client().fatal_error().map(|(code, _)| code);
                    let is_fenced = code == Some(RDKafkaErrorCode::FencedInstanceId);
                    if is_fenced {
                        tracing::error!(
                            "another process has come with the same kafka.instance_id and the group \
                             threw this one out: give each instance an id of its own"
                        );
                    } else {
                        tracing::warn!(%error, "the group threw this member out, joining anew");
                    }
                    return is_fenced;
                }
                Some(Err(error)) => tracing::debug!(%error, "the group goes on"),
                // records that were on their way when the partition was paused
                Some(Ok(_)) | None => {}
            }
        }
        false
    }

    fn tell(&self, decision: Decision) {
        if self.decisions.blocking_send(decision).is_err() {
            tracing::debug!("nobody listens to the group any more");
        }
    }

    /// Waits, no longer than until the stop.
    fn pause(&self, time: Duration) {
        // a channel that nobody sends on: the wait can be read as what it is
        let (_keep, never) = std_mpsc::channel::<()>();
        let until = Instant::now() + time;
        while Instant::now() < until && !self.stop.load(Ordering::Relaxed) {
            let _timed_out = never.recv_timeout(POLL).is_err();
        }
    }
}

fn is_fatal(consumer: &BaseConsumer<GroupContext>, error: &KafkaError) -> bool {
    matches!(error, KafkaError::MessageConsumptionFatal(_))
        || consumer.client().fatal_error().is_some()
}

/// What the group's callbacks work with.
pub(super) struct GroupContext {
    /// Since when the group's coordinator is known and connected, where statistics are asked for.
    coordinated_since: Mutex<Option<Instant>>,
    /// An assignment could not be taken: another member has to be made, or nobody asks its queues.
    has_failed: AtomicBool,
    drain: Duration,
    ownership: Arc<Ownership>,
    decisions: mpsc::Sender<Decision>,
    stop: Arc<AtomicBool>,
}

/// What is read of the client's statistics.
#[derive(serde::Deserialize)]
struct Statistics {
    cgrp: Option<GroupStatistics>,
}

#[derive(serde::Deserialize)]
struct GroupStatistics {
    state: String,
}

impl ClientContext for GroupContext {
    fn stats_raw(&self, statistics: &[u8]) {
        let group = serde_json::from_slice::<Statistics>(statistics).ok().and_then(|all| all.cgrp);
        let is_up = group.is_some_and(|group| group.state == "up");
        let mut since = self.coordinated_since.lock().unwrap_or_else(PoisonError::into_inner);
        *since = if is_up { since.or_else(|| Some(Instant::now())) } else { None };
    }

    fn error(&self, error: KafkaError, reason: &str) {
        complain("group", &error, reason);
    }
}

impl ConsumerContext for GroupContext {
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        happening: RDKafkaRespErr,
        partitions: &mut TopicPartitionList,
    ) {
        if happening == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            self.assign(consumer, partitions);
        } else if happening == RDKafkaRespErr::RD_KAFKA_RESP_ERR__REVOKE_PARTITIONS {
            self.revoke(consumer, partitions);
        } else {
            let error = KafkaError::Rebalance(happening.into());
            tracing::warn!(%error, "the group cannot be shared out");
        }
    }
}

impl GroupContext {
    fn coordinated_since(&self) -> Option<Instant> {
        *self.coordinated_since.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn assign(&self, consumer: &BaseConsumer<Self>, partitions: &mut TopicPartitionList) {
        let assigned = partitions
            .set_all_offsets(Offset::Beginning)
            .and_then(|()| consumer.incremental_assign(partitions))
            .and_then(|()| consumer.pause(partitions));
        if let Err(error) = assigned {
            tracing::error!(%error, "partitions cannot be taken over, joining anew");
            self.has_failed.store(true, Ordering::Relaxed);
            return;
        }
        let numbers = partitions.elements().into_iter().map(|element| element.partition());
        // nothing new is an answer too: what was lost before is not ours
        self.tell(Decision::Granted(self.ownership.grant(numbers)));
    }

    fn revoke(&self, consumer: &BaseConsumer<Self>, partitions: &mut TopicPartitionList) {
        let numbers = partitions.elements().into_iter().map(|element| element.partition());
        let revoked = self.ownership.owned(numbers);
        let is_lost = consumer.assignment_lost();
        if !revoked.is_empty() && !self.stop.load(Ordering::Relaxed) {
            if is_lost {
                self.ownership.lose(&revoked);
                self.tell(Decision::Lost(revoked.clone()));
            } else {
                let (done, drained) = std_mpsc::channel();
                self.tell(Decision::Revoked(revoked.clone(), done));
                // told, or the other end gone: drained either way
                if drained.recv_timeout(self.drain) == Err(std_mpsc::RecvTimeoutError::Timeout) {
                    tracing::warn!(
                        partitions = revoked.len(),
                        "drain took longer than service.drain, the rest is published late"
                    );
                }
            }
        }
        self.ownership.take_away(&revoked);
        if let Err(error) = consumer.incremental_unassign(partitions) {
            // at close the protocol can be none, and there is nothing to give back
            tracing::debug!(%error, "partitions were not given back one by one");
        }
    }

    fn tell(&self, decision: Decision) {
        if self.decisions.blocking_send(decision).is_err() {
            tracing::debug!("nobody listens to the group any more");
        }
    }
}
