//! Steps of the brokers, and what a reader under `read_committed` sees.
//!
//! Promises: a commit that was asked for is taken in at any time until the transaction ends, or never;
//! its markers come at any time after.
//!
//! Knows nothing of: what records are for.

use super::world::{Doing, Record, Stage, World};
use super::{Guard, Model};

/// The last record of a key before the last stable offset.
pub(super) fn last_read<T>(log: &[Record<T>], key: usize) -> Option<&Record<T>> {
    let is_stable = |record: &&Record<T>| !record.is_open;
    log.iter().take_while(is_stable).filter(|record| record.key == key).last()
}

/// Ends what a writer has open: its records stay, or go. Where nothing else is open, those that a
/// later one of their key stands for go too.
fn end<T: Clone>(log: &mut Vec<Record<T>>, writer: usize, is_committed: bool) {
    log.retain(|record| is_committed || !record.is_open || record.writer != writer);
    for record in log.iter_mut().filter(|record| record.writer == writer) {
        record.is_open = false;
    }
    if log.iter().all(|record| !record.is_open) {
        let all = log.clone();
        let mut place = 0;
        log.retain(|record| {
            place += 1;
            all[place..].iter().all(|later| later.key != record.key)
        });
        log.sort_by_key(|record| record.key);
    }
}

impl World {
    /// Ends the transaction of an instance without a commit.
    pub(super) fn abort(&mut self, who: usize) {
        self.instances[who].transaction = None;
        end(&mut self.queues, who, false);
        end(&mut self.journals, who, false);
    }

    /// Writes the markers of a commit.
    pub(super) fn mark(&mut self, who: usize) {
        end(&mut self.queues, who, true);
        end(&mut self.journals, who, true);
        let instance = &mut self.instances[who];
        if instance.doing == Doing::Committing
            && let Some(transaction) = &mut instance.transaction
        {
            transaction.stage = Stage::Over;
        } else {
            instance.transaction = None;
        }
    }
}

impl Model {
    /// Whether a topic can be read to what is its end now. `kafka/read.rs::read_to_end`
    pub(super) fn can_read<T>(&self, log: &[Record<T>]) -> bool {
        self.is_off(Guard::ReadToEnd) || log.iter().all(|record| !record.is_open)
    }

    /// The request to commit arrives, whoever still waits for it.
    pub(super) fn decided(&self, world: &World, who: usize) -> Option<World> {
        let transaction = world.instances[who].transaction.as_ref()?;
        let draft = &transaction.draft;
        world.step(transaction.stage == Stage::Asked, |next| {
            next.gaps |= draft.gaps;
            for (event, published) in draft.events.iter().zip(&mut next.events) {
                if event.is_some() && published.is_some() {
                    next.broken = Some("P2: an answer is published twice");
                }
                *published = published.or(*event);
            }
            let has_states = draft.changes.iter().any(Option::is_some);
            // who has read the partition has read it without these
            let is_late = world.owner == Some(1 - who) && world.instances[1 - who].is_held();
            if has_states && is_late {
                next.broken = Some("P5: a late owner's state wins");
            }
            if let Some(transaction) = &mut next.instances[who].transaction {
                transaction.stage = Stage::Decided;
            }
        })
    }

    /// The markers of a commit are in the partitions.
    pub(super) fn marked(&self, world: &World, who: usize) -> Option<World> {
        let is_decided = world.instances[who].stage() == Some(Stage::Decided);
        world.step(is_decided, |next| next.mark(who))
    }

    /// A transaction that takes too long is aborted, and its producer fenced.
    pub(super) fn timed_out(&self, world: &World, who: usize) -> Option<World> {
        let may = matches!(world.instances[who].stage(), Some(Stage::Open | Stage::Asked));
        world.step(may, |next| next.abort(who))
    }
}
