//! Reading a body, as far as is allowed and within the memory reserved for it.
//!
//! Promises:
//! - never more than `max_answer` bytes are kept, and never more than the seat allows;
//! - what was read before a body broke off is given out.
//!
//! Knows nothing of: what a body means.

use tokio::time::Instant;

use super::room::{Answer, Room, Seat};
use super::wire::Reply;

/// How the reading of a body ended.
pub(super) enum End {
    /// By its own end.
    Whole,
    /// It broke off, or the time was over.
    Cut,
    /// There was more than is kept.
    TooLong,
}

/// Reads a body as far as `max_answer`, within the memory reserved for it.
pub(super) async fn read(mut reply: Reply, mut seat: Seat, room: &Room) -> (End, Answer) {
    let limit = room.max_answer();
    let mut body = Vec::new();
    if let Some(length) = reply.length() {
        let length = usize::try_from(length).unwrap_or(usize::MAX).min(limit);
        widen(&mut reply, &mut seat, room, length).await;
        body.reserve_exact(length);
    }
    let end = loop {
        let chunk = match reply.chunk().await {
            Ok(Some(chunk)) => chunk,
            Ok(None) => break End::Whole,
            Err(_) => break End::Cut,
        };
        let chunk = chunk.as_ref();
        let wanted = body.len().saturating_add(chunk.len()).min(limit);
        widen(&mut reply, &mut seat, room, wanted).await;
        if wanted > body.capacity() {
            let capacity = wanted.max((body.capacity() * 2).min(room.allowance(&seat)));
            body.reserve_exact(capacity - body.len());
        }
        let taken = wanted - body.len();
        body.extend_from_slice(&chunk[..taken]);
        if taken < chunk.len() {
            break End::TooLong;
        }
    };
    (end, Answer::new(body, seat))
}

/// Waits for the memory; the time waited does not count against the source.
async fn widen(reply: &mut Reply, seat: &mut Seat, room: &Room, bytes: usize) {
    let before = Instant::now();
    if room.widen(seat, bytes).await {
        reply.allow(before.elapsed());
    }
}
