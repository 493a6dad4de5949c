//! How far a journal has been published, as the journals topic holds it.
//!
//! Promises:
//! - a mark has the fields of its schema and no others.
//!
//! Knows nothing of: the journal itself, the topic.

use serde::{Deserialize, Serialize};

use crate::ids::{JournalId, Timestamp};

/// The journal record of an instance, written in each of its transactions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalMark {
    /// The journal, and the key of the record.
    pub journal_id: JournalId,
    /// The instance that holds it.
    pub instance_id: String,
    /// Where other instances reach that instance.
    pub url: String,
    /// Drawn at random by each process.
    pub incarnation: String,
    /// The last row that was published; 0 when none was.
    pub position: i64,
    /// The control partitions whose queues are asked.
    pub partitions: Vec<i32>,
    /// When a queue was last asked, by our clock.
    pub asked_until: Timestamp,
    /// All that was received up to here has been published, by our clock.
    pub published_until: Timestamp,
    /// The control partitions that were asked and are not any more.
    #[serde(default)]
    pub left: Vec<LeftPartition>,
    /// The control partitions of which losses of journals that stayed away were told.
    #[serde(default)]
    pub told: Vec<ToldLoss>,
}

/// A control partition that was asked and is not any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftPartition {
    /// The partition.
    pub partition: i32,
    /// Until when its queues were asked in turn.
    pub asked_until: Timestamp,
    /// Whether all that was received from its queues has been published.
    pub is_published: bool,
}

/// Losses that were told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToldLoss {
    /// The partition.
    pub partition: i32,
    /// What other journals asked of it up to then, and did not publish, is in gaps.
    pub until: Timestamp,
}

impl JournalMark {
    /// Until when the queues of a partition were asked in turn, if they ever were.
    pub fn asked_until(&self, partition: i32) -> Option<Timestamp> {
        if self.partitions.contains(&partition) {
            return Some(self.asked_until);
        }
        let left = self.left.iter().find(|left| left.partition == partition);
        left.map(|left| left.asked_until)
    }

    /// Until when losses of other journals in a partition are told of; 1970 when none ever were.
    pub fn told_until(&self, partition: i32) -> Timestamp {
        let told = self.told.iter().find(|told| told.partition == partition);
        told.map(|told| told.until).unwrap_or_default()
    }

    /// Since when answers of a partition's queues may stand in the journal that are not published;
    /// none when none do.
    pub fn owes_since(&self, partition: i32) -> Option<Timestamp> {
        let is_left = |left: &LeftPartition| left.partition == partition && !left.is_published;
        let owes = self.partitions.contains(&partition) || self.left.iter().any(is_left);
        owes.then_some(self.published_until)
    }
}
