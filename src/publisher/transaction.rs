//! The steps inside a transaction that are not one record after another: gathering rows, and having
//! the group confirm that the partitions are ours.
//!
//! Promises: each says why it could not be done, as an [`Interrupted`].
//!
//! Knows nothing of: retries.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::PublisherSettings;
use super::draft::{Draft, Holdings};
use super::outbox::SendFault;
use super::producer::{Mishap, RefusedRecord, Sending, TransactionalProducer};
use crate::journal::{Feed, Row};
use crate::sabotage::{self, Guard};

/// Records and bytes at which a transaction is closed, however fast more come.
const MAX_RECORDS: u64 = 10_000;
const MAX_BYTES: u64 = 16 * 1024 * 1024;

/// Why a turn did not end in a commit.
#[derive(Debug, thiserror::Error)]
pub(super) enum Interrupted {
    #[error(transparent)]
    Mishap(#[from] Mishap),
    #[error("not taken, a record of {} bytes for {}: {source}", record.bytes, record.topic)]
    Refused {
        record: RefusedRecord,
        #[source]
        source: rdkafka::error::KafkaError,
    },
    /// Partitions of the draft are not ours any more: it has to be made again without them.
    #[error("partitions were lost meanwhile")]
    Lost,
    #[error(transparent)]
    Record(#[from] crate::record::RecordError),
}

impl From<SendFault> for Interrupted {
    fn from(fault: SendFault) -> Self {
        match fault {
            SendFault::Kafka { topic, bytes, source } => {
                Self::Refused { record: RefusedRecord { topic, bytes }, source }
            }
            SendFault::Record(error) => Self::Record(error),
        }
    }
}

/// How long a transaction gathers.
#[derive(Clone, Copy)]
pub(super) struct Gathering {
    /// Waits for rows for this long at most.
    pub(super) interval: Duration,
    /// Takes rows that wait already for this long at most.
    pub(super) backlog: Duration,
}

/// Takes rows for as long as they come, and sends their records meanwhile.
pub(super) async fn gather(
    batch: &mut Vec<Row>,
    feed: &mut Feed,
    may_publish: impl Fn(&Row) -> bool,
    draft: &mut Draft<'_>,
    sending: &mut Sending<'_>,
    Gathering { interval, backlog }: Gathering,
) -> Result<(), Interrupted> {
    let began = Instant::now();
    let (end, last) = (began + interval, began + interval.max(backlog));
    // a quiet moment ends it: whoever waits should not wait for nobody
    let quiet = interval / 4;
    while sending.records < MAX_RECORDS && sending.bytes < MAX_BYTES && Instant::now() < last {
        let row = match feed.try_next() {
            Some(row) => row,
            None => match timeout_at(end.min(Instant::now() + quiet), feed.next()).await {
                Ok(Some(row)) => row,
                Ok(None) | Err(_) => break,
            },
        };
        if !may_publish(&row) {
            feed.put_back(row);
            break;
        }
        batch.push(row);
        if let Some(row) = batch.last() {
            draft.apply(row, sending)?;
        }
        sending.producer.serve();
    }
    Ok(())
}

/// Has the group confirm that the partitions are ours: fresh metadata first, then a look whether
/// the same grant still holds, then the offsets (kafka-from-rust 13, rule 4).
pub(super) fn confirm(
    settings: &PublisherSettings,
    holdings: &Holdings,
    producer: &TransactionalProducer,
    partitions: &BTreeSet<i32>,
) -> Result<(), Interrupted> {
    if sabotage::is_off(Guard::Fence) {
        return Ok(());
    }
    let member = settings.ownership.member().ok_or(Interrupted::Lost)?;
    let is_ours = |partition: &i32| {
        holdings
            .get(partition)
            .is_some_and(|owned| settings.ownership.is_owned(*partition, owned.token))
    };
    if !partitions.iter().all(is_ours) {
        return Err(Interrupted::Lost);
    }
    producer.fence(&settings.pen.topics.subscriptions, partitions, &member)?;
    Ok(())
}
