//! This instance's mark: what its journal's record in the journals topic says beside the position.
//!
//! Promises:
//! - a partition is named as asked only while a worker asks it, so that a successor never takes a
//!   queue for asked that was not;
//! - a partition that was let go of stays named until what was received from it is published, and
//!   for some time after: a successor learns until when its queues were asked.
//!
//! Knows nothing of: transactions, the group.

use std::collections::BTreeMap;
use std::time::Duration;

use super::PublisherSettings;
use super::outbox::{Outbox, Outgoing};
use super::position::Position;
use super::transaction::Interrupted;
use crate::ids::Timestamp;
use crate::journal::Row;
use crate::journal_mark::{JournalMark, LeftPartition, ToldLoss};
use crate::sabotage::{self, Guard};

/// How long a partition that was let go of, and of which all is published, stays named: four lives
/// of a queue, after which nobody asks any more until when it was asked.
const NAMED_FOR: Duration = Duration::from_secs(3600);

/// What the mark says of single partitions.
#[derive(Default)]
pub(super) struct MarkBook {
    /// The row up to which a partition's answers are in the journal; none above is of it.
    last_rows: BTreeMap<i32, u64>,
    /// Until when losses of other journals are told of.
    told: BTreeMap<i32, Timestamp>,
}

impl MarkBook {
    /// Goes on from the mark of the process before, whose rows end at `inherited`.
    pub(super) fn resume(&mut self, found: &Position, inherited: u64) {
        let Some(mark) = &found.mark else { return };
        let owes = |partition: &i32| mark.owed(*partition, Timestamp::default()).is_some();
        let owing = mark.asked().map(|(partition, _)| partition).filter(owes);
        self.last_rows.extend(owing.map(|partition| (partition, inherited)));
        self.told.extend(mark.told.iter().map(|told| (told.partition, told.until)));
    }

    /// Answers of a partition may come from now on.
    pub(super) fn open(&mut self, partition: i32) {
        self.last_rows.insert(partition, u64::MAX);
    }

    /// No answer of a partition comes after the row `last`.
    pub(super) fn close(&mut self, partition: i32, last: u64) {
        self.last_rows.insert(partition, last);
    }

    /// Losses of other journals in a partition are told of, up to `until`.
    pub(super) fn told(&mut self, partition: i32, until: Timestamp) {
        let told = self.told.entry(partition).or_default();
        *told = (*told).max(until);
    }

    /// Forgets partitions that were let go of long ago, when all up to row `published` is published.
    pub(super) fn tidy(&mut self, settings: &PublisherSettings, published: u64) {
        let now = Timestamp::now();
        for (partition, asked_until) in settings.pulse.left() {
            if self.is_published(partition, published) && now.since(asked_until) > NAMED_FOR {
                settings.pulse.forget_left(partition);
                self.last_rows.remove(&partition);
            }
        }
    }

    fn is_published(&self, partition: i32, published: u64) -> bool {
        self.last_rows.get(&partition).is_none_or(|last| published >= *last)
    }

    /// Writes the mark of a transaction that publishes everything up to row `last_number`.
    pub(super) fn write(
        &self,
        settings: &PublisherSettings,
        batch: &[Row],
        last_number: u64,
        out: &mut impl Outbox,
    ) -> Result<(), Interrupted> {
        let now = Timestamp::now();
        let is_off = sabotage::is_off(Guard::Position);
        let left = settings.pulse.left().into_iter().map(|(partition, asked_until)| {
            let is_published = self.is_published(partition, last_number);
            LeftPartition { partition, asked_until, is_published }
        });
        let told = self.told.iter().map(|(&partition, &until)| ToldLoss { partition, until });
        let mark = JournalMark {
            journal_id: settings.journal.clone(),
            instance_id: settings.instance_id.clone(),
            url: settings.url.clone(),
            incarnation: settings.incarnation.clone(),
            position: if is_off { 0 } else { i64::try_from(last_number).unwrap_or(i64::MAX) },
            partitions: settings.pulse.asking(),
            asked_until: settings.pulse.asked_until(now),
            // rows that came meanwhile were received after these
            published_until: batch.iter().rev().find_map(Row::received_at).unwrap_or(now),
            left: left.collect(),
            told: told.collect(),
        };
        let mut value = Vec::new();
        settings.pen.encoder.journal_mark(&mark, &mut value)?;
        let key = settings.journal.as_str().as_bytes();
        out.send(Outgoing::of(&settings.pen.topics.journals, key).at(0).value(&value))?;
        Ok(())
    }
}
