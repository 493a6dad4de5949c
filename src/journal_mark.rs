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
    /// The control partitions owned.
    pub partitions: Vec<i32>,
    /// When a queue was last asked, by our clock.
    pub asked_until: Timestamp,
    /// All that was received up to here has been published, by our clock.
    pub published_until: Timestamp,
}
