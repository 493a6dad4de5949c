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

/// Answers of a partition's queues that may stand in a journal and nowhere else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owed {
    /// Until when the queues were asked, as far as the mark says.
    pub asked_until: Timestamp,
    /// Everything that was received up to then is published.
    pub published_until: Timestamp,
}

impl JournalMark {
    /// The control partitions that are asked or were, each with until when its queues were in turn.
    pub fn asked(&self) -> impl Iterator<Item = (i32, Timestamp)> {
        let now = self.partitions.iter().map(|partition| (*partition, self.asked_until));
        now.chain(self.left.iter().map(|left| (left.partition, left.asked_until)))
    }

    /// Until when the queues of a partition were asked in turn, if they ever were.
    pub fn asked_until(&self, partition: i32) -> Option<Timestamp> {
        self.asked().find(|(asked, _)| *asked == partition).map(|(_, until)| until)
    }

    /// Until when losses of other journals in a partition are told of; 1970 when none ever were.
    pub fn told_until(&self, partition: i32) -> Timestamp {
        let told = self.told.iter().find(|told| told.partition == partition);
        told.map(|told| told.until).unwrap_or_default()
    }

    /// What the journal may hold of a partition that is not published, and not told of as lost up to
    /// `told_until`; none when it holds nothing of it.
    pub fn owed(&self, partition: i32, told_until: Timestamp) -> Option<Owed> {
        let asked_until = self.asked_until(partition)?;
        let is_published = !self.partitions.contains(&partition)
            && self.left.iter().all(|left| left.partition != partition || left.is_published);
        let is_open = !is_published && asked_until > told_until;
        is_open.then_some(Owed { asked_until, published_until: self.published_until })
    }
}
