//! The publisher's loop.
//!
//! Promises: as the head of the room says. Each turn of [`Publishing::publish`] ends with its rows
//! committed, or with the process.
//!
//! Knows nothing of: how records are made, and what follows an attempt that failed (`recovery`).

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

use super::draft::{Draft, Holdings, Outcome, Owned};
use super::mark::MarkBook;
use super::position::Position;
use super::producer::{Mishap, Sending, TransactionalProducer};
use super::traced::{self, Steps};
use super::transaction::{Gathering, Interrupted, confirm, gather};
use super::{Control, PublisherError, PublisherSettings};
use crate::ids::UserId;
use crate::journal::{Feed, Row};
use crate::kafka::Failure;
use crate::metrics::{Stage, TransactionOutcome};
use crate::queue_state::QueueState;
use crate::sabotage::{self, CrashPoint, Guard};
use crate::traces::Failed;

/// The longest time without a mark, and so without a commit.
const MARK_INTERVAL: Duration = Duration::from_secs(10);
/// How soon a mark follows a change of what it says; more of them may come at once.
const MARK_SOON: Duration = Duration::from_millis(100);
pub(super) const FIRST_PAUSE: Duration = Duration::from_millis(100);
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How often it is looked whether the group has answered.
const UNSURE: Duration = Duration::from_millis(50);
/// Rows that are published sooner than it is worth to foresee them.
const NEAR: u64 = 2_000;

pub(super) struct Publishing {
    pub(super) settings: PublisherSettings,
    pub(super) holdings: Holdings,
    pub(super) producer: Option<TransactionalProducer>,
    /// The position at the start; none before it was read.
    pub(super) found: Option<Position>,
    mark_book: MarkBook,
    /// When the next mark is due.
    mark_at: Instant,
    /// Whether what the mark says has changed since the last one.
    is_mark_stale: bool,
    /// How long the last transaction took from its last row on.
    commit_took: Duration,
    /// When the present attempt began.
    pub(super) began: Instant,
    /// The attempts before it, for traces.
    pub(super) failed: Vec<Failed>,
    /// How many times the batch under way was tried.
    pub(super) attempt: u32,
    pub(super) last_number: u64,
    /// The last row of the processes before this one; 0 when those cannot be foreseen.
    inherited: u64,
    /// Who waits to be told what the rows that were there when a partition was granted come to.
    adoptions: Vec<Adoption>,
    /// Who waits to be told an id that follows what is on disk now.
    looks: Vec<Look>,
}

struct Look {
    partition: i32,
    user: UserId,
    last_number: u64,
    expected: oneshot::Sender<Option<u64>>,
}

struct Adoption {
    partition: i32,
    token: u64,
    last_number: u64,
    held: oneshot::Sender<HashMap<UserId, QueueState>>,
}

/// What states will be, by partition.
type Foreseen = HashMap<i32, HashMap<UserId, QueueState>>;

impl Adoption {
    /// Tells the states that changed since the grant, and those that are foreseen to.
    fn tell(self, holdings: &mut Holdings, foreseen: &mut Foreseen) {
        let owned = holdings.get_mut(&self.partition);
        let Some(owned) = owned.filter(|owned| owned.token == self.token) else { return };
        let changed = owned.changed.take().unwrap_or_default();
        let state_of =
            |user: UserId| Some((user.clone(), QueueState::clone(owned.states.get(&user)?)));
        let mut told: HashMap<_, _> = changed.into_iter().filter_map(state_of).collect();
        told.extend(foreseen.remove(&self.partition).unwrap_or_default());
        // who asked may have lost the partition meanwhile
        self.held.send(told).ok();
    }
}

/// Runs until the journal is closed and everything in it is published.
pub(super) async fn run(
    settings: PublisherSettings,
    mut feed: Feed,
    mut controls: mpsc::Receiver<Control>,
    found: oneshot::Sender<Position>,
) -> Result<(), PublisherError> {
    let mut publishing = Publishing {
        settings,
        holdings: Holdings::new(),
        producer: None,
        found: None,
        mark_book: MarkBook::default(),
        mark_at: Instant::now() + MARK_INTERVAL,
        is_mark_stale: false,
        commit_took: Duration::ZERO,
        began: Instant::now(),
        failed: Vec::new(),
        attempt: 0,
        last_number: 0,
        inherited: 0,
        adoptions: Vec::new(),
        looks: Vec::new(),
    };
    let position = publishing.reconnect(&[], &mut feed, &mut controls, None).await?;
    publishing.last_number = position.number;
    let asked = position.mark.iter().flat_map(|mark| mark.asked());
    publishing.settings.pulse.resume(position.asked_until(), asked);
    feed.begin(position.number, position.published_until())?;
    let found_by = position.incarnation().map(|found| (found, position.number));
    feed.published_by(&publishing.settings.incarnation, found_by)?;
    publishing.inherited = feed.written();
    publishing.mark_book.resume(&position, publishing.inherited);
    // it names partitions that nobody here asks yet
    publishing.hasten_mark();
    publishing.found = Some(position.clone());
    // whoever started us may have been stopped meanwhile
    found.send(position).ok();
    let mut batch: Vec<Row> = Vec::new();
    loop {
        publishing.pass_over_damage(&mut feed);
        let mark_at = publishing.mark_at;
        tokio::select! {
            biased;
            Some(control) = controls.recv() => publishing.obey(control, &feed),
            row = feed.next() => {
                let Some(row) = row else { break };
                batch.push(row);
                publishing.publish(&mut batch, &mut feed, &mut controls).await?;
            }
            () = tokio::time::sleep_until(mark_at) => {
                publishing.publish(&mut batch, &mut feed, &mut controls).await?;
            }
        }
    }
    if publishing.is_mark_stale {
        publishing.publish(&mut batch, &mut feed, &mut controls).await?;
    }
    Ok(())
}

impl Publishing {
    fn obey(&mut self, control: Control, feed: &Feed) {
        match control {
            Control::Adopt { partition, token, states, held } => {
                let boxed = |state: QueueState| (state.user_id.clone(), Box::new(state));
                let states = states.into_iter().map(boxed).collect();
                let owned = Owned { token, states, changed: Some(HashSet::new()) };
                self.holdings.insert(partition, owned);
                self.mark_book.open(partition);
                let last_number = feed.written();
                self.adoptions.push(Adoption { partition, token, last_number, held });
                self.tell_adopted();
            }
            Control::Look { partition, user, expected } => {
                self.looks.retain(|look| !look.expected.is_closed());
                let last_number = feed.written();
                self.looks.push(Look { partition, user, last_number, expected });
                self.tell_adopted();
            }
            Control::Release { partition, token } => {
                if self.holdings.get(&partition).is_none_or(|owned| owned.token == token) {
                    self.holdings.remove(&partition);
                    self.mark_book.close(partition, feed.written());
                    self.hasten_mark();
                }
            }
            Control::Mark => self.hasten_mark(),
            Control::Told { partition, until } => {
                self.mark_book.told(partition, until);
                self.hasten_mark();
            }
        }
    }

    /// Damaged rows at the end never come. Who waits for them is told with the next mark, which is not
    /// waited for then.
    fn pass_over_damage(&mut self, feed: &mut Feed) {
        if self.adoptions.is_empty() {
            return;
        }
        if let Some(row) = feed.try_next() {
            feed.put_back(row);
        } else if feed.given() > self.last_number {
            self.hasten_mark();
        }
    }

    fn hasten_mark(&mut self) {
        self.is_mark_stale = true;
        self.mark_at = self.mark_at.min(Instant::now() + MARK_SOON);
    }

    /// Obeys what comes in the next `pause`, and waits for its end.
    pub(super) async fn obey_for(
        &mut self,
        pause: Duration,
        feed: &Feed,
        controls: &mut mpsc::Receiver<Control>,
    ) {
        let until = Instant::now() + pause;
        while let Ok(Some(control)) = timeout_at(until, controls.recv()).await {
            self.obey(control, feed);
        }
        tokio::time::sleep_until(until).await;
    }

    /// Tells those who wait for rows that are published by now.
    fn tell_adopted(&mut self) {
        let last_number = self.last_number;
        for look in self.looks.extract_if(.., |of| of.last_number <= last_number) {
            let owned = self.holdings.get(&look.partition);
            let state = owned.and_then(|owned| owned.states.get(&look.user));
            // who asked may have gone
            look.expected.send(state.and_then(|state| state.settling_id())).ok();
        }
        for adoption in self.adoptions.extract_if(.., |of| of.last_number <= last_number) {
            adoption.tell(&mut self.holdings, &mut HashMap::new());
        }
    }

    /// Tells those who wait for many rows of an earlier process what these will come to. Their
    /// queues would else be asked only when all is published, and a full journal takes minutes. Rows
    /// of our own hold what the disk does not.
    fn foresee(&mut self, feed: &Feed) {
        let (position, inherited) = (self.last_number, self.inherited);
        let is_far =
            |adoption: &Adoption| adoption.last_number == inherited && inherited > position + NEAR;
        // the journal is read once for all of them
        let are_all_held = self.holdings.len() >= self.settings.ownership.count();
        if !are_all_held || !self.adoptions.iter().any(is_far) {
            return;
        }
        let began = Instant::now();
        let Self { settings, holdings, .. } = &*self;
        let mut draft = Draft::new(&settings.pen, &settings.journal, holdings);
        if !feed.look_ahead(position, inherited, |row| draft.foresee(row).is_ok()) {
            tracing::warn!(
                "what the journal holds cannot be foreseen, its queues wait until it is published"
            );
            self.inherited = 0;
            return;
        }
        let mut foreseen = Foreseen::new();
        for ((partition, user), state) in draft.into_outcome().changes {
            if let Some(state) = state {
                foreseen.entry(partition).or_default().insert(user, state);
            }
        }
        tracing::info!(
            rows = inherited - position,
            elapsed = ?began.elapsed(),
            "what the journal holds is foreseen, its queues are asked while it is published"
        );
        for adoption in self.adoptions.extract_if(.., |of| is_far(of)) {
            adoption.tell(&mut self.holdings, &mut foreseen);
        }
    }

    /// Whether it is known whose a row's partition is: nobody's of ours, or ours and read.
    fn may_publish(&self, row: &Row) -> bool {
        may_publish(&self.settings, &self.holdings, row)
    }

    /// Waits until it is known whose the partitions of the batch are.
    async fn wait_until_sure(
        &mut self,
        batch: &[Row],
        feed: &mut Feed,
        controls: &mut mpsc::Receiver<Control>,
    ) {
        while !batch.iter().all(|row| self.may_publish(row)) {
            feed.hold_up(true);
            self.show_oldest(batch, feed);
            self.obey_for(UNSURE, feed, controls).await;
        }
    }

    /// Shows since when the oldest answer waits: one of the batch or, when that has none, as a mark,
    /// the next that is in the journal.
    pub(super) fn show_oldest(&self, batch: &[Row], feed: &mut Feed) {
        let mut oldest = batch.iter().find_map(Row::received_at);
        if oldest.is_none()
            && let Some(row) = feed.try_next()
        {
            oldest = row.received_at();
            feed.put_back(row);
        }
        self.settings.metrics.oldest_unpublished(oldest);
    }

    /// Publishes the rows of `batch` and those that come meanwhile; ends when they are committed.
    async fn publish(
        &mut self,
        batch: &mut Vec<Row>,
        feed: &mut Feed,
        controls: &mut mpsc::Receiver<Control>,
    ) -> Result<(), PublisherError> {
        if batch.is_empty() {
            // damaged rows at the end are as good as published: nothing more will come of them
            self.last_number = self.last_number.max(feed.given());
        }
        if batch.is_empty() && !self.settings.ownership.is_sure() {
            // a mark would say that the partitions are still ours
            self.mark_at = Instant::now() + MARK_INTERVAL;
            return Ok(());
        }
        self.show_oldest(batch, feed);
        self.failed.clear();
        let mut pause = FIRST_PAUSE;
        let mut attempt = 0_u32;
        loop {
            attempt += 1;
            self.attempt = attempt;
            self.wait_until_sure(batch, feed, controls).await;
            while let Ok(control) = controls.try_recv() {
                self.obey(control, feed);
            }
            self.foresee(feed);
            let mut gathering = (attempt == 1).then_some(&mut *feed);
            let interrupted = match self.try_once(batch, &mut gathering).await {
                Ok(published) => {
                    feed.published(published.0, published.1);
                    break;
                }
                Err(interrupted) => interrupted,
            };
            feed.hold_up(true);
            if let Some(published) =
                self.recover(interrupted, batch, feed, controls, attempt).await?
            {
                feed.published(published.0, published.1);
                break;
            }
            self.show_oldest(batch, feed);
            self.obey_for(pause, feed, controls).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        if attempt > 1 {
            tracing::info!(attempt, rows = batch.len(), "publishing goes on");
        }
        feed.hold_up(false);
        let pause = if self.is_mark_stale { MARK_SOON } else { MARK_INTERVAL };
        self.mark_at = Instant::now() + pause;
        self.settings.metrics.oldest_unpublished(None);
        batch.clear();
        Ok(())
    }

    /// One attempt: everything of `batch`, and what comes while it gathers, in one transaction.
    async fn try_once(
        &mut self,
        batch: &mut Vec<Row>,
        gathering: &mut Option<&mut Feed>,
    ) -> Result<Published, Interrupted> {
        let began = Instant::now();
        self.began = began;
        self.is_mark_stale = false;
        let Some(producer) = &self.producer else {
            return Err(Interrupted::Mishap(Mishap {
                what: "there is no producer",
                failure: Failure::Fenced,
                record: None,
                source: rdkafka::error::KafkaError::Canceled,
            }));
        };
        producer.begin()?;
        let mut sending = Sending { producer, records: 0, bytes: 0 };
        if sabotage::is_off(Guard::FenceOrder) {
            let all = self.holdings.keys().copied().collect();
            confirm(&self.settings, &self.holdings, producer, &all)?;
        }
        sabotage::pass(CrashPoint::AfterBegin);
        let Self { settings, holdings, mark_book, .. } = &*self;
        let mut draft = Draft::new(&settings.pen, &settings.journal, holdings);
        for row in batch.iter() {
            draft.apply(row, &mut sending)?;
        }
        if let Some(feed) = gathering {
            let may_publish = |row: &Row| may_publish(settings, holdings, row);
            // of a backlog as much as keeps half of the time from going to commits
            let gathering =
                Gathering { interval: settings.commit_interval, backlog: self.commit_took };
            gather(batch, feed, may_publish, &mut draft, &mut sending, gathering).await?;
        }
        let last_number = batch.last().map_or(self.last_number, |row| row.number);
        let owned = draft.close(&mut sending)?;
        mark_book.write(settings, batch, last_number, &mut sending)?;
        let gathered = Instant::now();
        producer.deliver().await?;
        let delivered = Instant::now();
        sabotage::pass(CrashPoint::AfterProduce);
        if !owned.is_empty() && !sabotage::is_off(Guard::FenceOrder) {
            confirm(settings, holdings, producer, &owned)?;
        }
        sabotage::pass(CrashPoint::BeforeCommit);
        producer.commit()?;
        sabotage::pass(CrashPoint::AfterCommit);
        self.settings.metrics.stage(Stage::Gather, gathered - began);
        let committed = Instant::now();
        let commit_took = committed - gathered;
        self.settings.metrics.stage(Stage::Transaction, commit_took);
        self.settings.metrics.transaction_records(sending.records);
        let outcome = draft.into_outcome();
        self.commit_took = commit_took;
        let (gathered, delivered) = (Some(gathered), Some(delivered));
        let steps = Steps { began, gathered, delivered, committed, attempt: self.attempt };
        Ok(self.take_in(outcome, batch, last_number, steps))
    }

    /// The transaction is committed: its states are the states, its counts are shown, and whoever
    /// waits for its rows is told.
    pub(super) fn take_in(
        &mut self,
        outcome: Outcome,
        batch: &mut Vec<Row>,
        last_number: u64,
        steps: Steps,
    ) -> Published {
        traced::tell(&self.settings.traces, batch, &outcome.rows, steps, &self.failed);
        outcome.tally.show(&self.settings.metrics);
        self.settings.metrics.transaction(TransactionOutcome::Committed);
        self.last_number = last_number;
        self.mark_book.tidy(&self.settings, last_number);
        for ((partition, user), state) in outcome.changes {
            let Some(owned) = self.holdings.get_mut(&partition) else { continue };
            if let Some(changed) = &mut owned.changed {
                changed.insert(user.clone());
            }
            match state {
                Some(mut state) => {
                    state.shrink();
                    owned.states.insert(user, Box::new(state));
                }
                None => {
                    owned.states.remove(&user);
                }
            }
        }
        let end = batch.last().map(|row| row.end);
        for (row, drafted) in batch.drain(..).zip(outcome.rows) {
            if let Some(settle) = row.settle {
                // whoever waited may have gone
                settle.send(drafted.settled).ok();
            }
        }
        self.tell_adopted();
        (last_number, end)
    }
}

/// Up to which row everything is published, and the end of that row when it was one of these.
pub(super) type Published = (u64, Option<u64>);

fn may_publish(settings: &PublisherSettings, holdings: &Holdings, row: &Row) -> bool {
    if !settings.ownership.is_sure() {
        return false;
    }
    match settings.ownership.token(row.of.partition) {
        None => true,
        Some(token) => holdings.get(&row.of.partition).is_some_and(|owned| owned.token == token),
    }
}
