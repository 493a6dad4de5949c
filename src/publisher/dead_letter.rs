//! What cannot be understood, as bytes, cut where the topic does not take it whole.
//!
//! Promises: the parts put together are the bytes, in the order of `linxo-part`.
//!
//! Knows nothing of: why something is a dead letter, and of redaction: it comes redacted.

use super::outbox::{Outbox, Outgoing, SendFault};
use crate::ids::{QueueId, Timestamp, UserId};
use crate::kafka::MESSAGE_OVERHEAD;
use crate::metrics::DeadLetterReason;
use crate::record::{HEADER_PART, HEADER_QUEUE_ID, HEADER_REASON, HEADER_RECEIVED_AT};

/// One dead letter.
pub(super) struct Letter<'a> {
    pub(super) user: &'a UserId,
    pub(super) queue: &'a QueueId,
    pub(super) received_at: Timestamp,
    pub(super) reason: DeadLetterReason,
    pub(super) bytes: &'a [u8],
}

/// Room that the headers of a part take, beside the ids in them.
const HEADERS: usize = 160;

/// Sends a letter to `topic`, whose records hold `limit` bytes.
pub(super) fn send(
    letter: &Letter<'_>,
    topic: &str,
    limit: usize,
    out: &mut impl Outbox,
) -> Result<(), SendFault> {
    let beside =
        letter.user.as_str().len() + letter.queue.as_str().len() + HEADERS + MESSAGE_OVERHEAD;
    let room = limit.saturating_sub(beside).max(1);
    let parts = letter.bytes.len().div_ceil(room).max(1);
    let received_at = letter.received_at.0.to_string();
    for place in 0..parts {
        let end = letter.bytes.len().min((place + 1) * room);
        let part = format!("{}/{parts}", place + 1);
        let headers = [
            (HEADER_REASON, letter.reason.as_str()),
            (HEADER_QUEUE_ID, letter.queue.as_str()),
            (HEADER_RECEIVED_AT, received_at.as_str()),
            (HEADER_PART, part.as_str()),
        ];
        let headers = if parts == 1 { &headers[..3] } else { &headers[..] };
        let record = Outgoing::of(topic, letter.user.as_str().as_bytes())
            .value(&letter.bytes[place * room..end])
            .headers(headers)
            .timestamp(letter.received_at);
        out.send(record)?;
    }
    Ok(())
}
