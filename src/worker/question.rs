//! The steps a worker takes outside: each is one future that talks to the source, has the answer
//! kept, and says what it came to.
//!
//! Promises:
//! - an answer that may have been removed from its queue is kept before anything else is done;
//! - a new queue is made before the connections are listed, and the gap is published with it;
//! - a credential is open only while its request is made.
//!
//! Knows nothing of: schedules; what a step's outcome means for the next one.

use tokio::time::Instant;

use super::outside::{Outside, bearer};
use super::step::{Came, HeldCredential, Question};
use crate::budget::Slot;
use crate::credential::Credential;
use crate::event;
use crate::gap::{Cause, Certainty};
use crate::ids::{GapId, QueueId, Timestamp};
use crate::journal::{Answer, AnswerKind, Change, Lost, RowOf};
use crate::linxo::{Asked, CallFault, Refused};
use crate::metrics::DeadLetterReason;

pub(super) async fn ask(outside: &Outside, question: &Question, slot: Option<Slot>) -> Came {
    let opened = outside.open(&question.of.user, &question.credential);
    ask_with(outside, question, opened.as_ref().map_err(Refused::clone), slot).await
}

pub(super) async fn ask_with(
    outside: &Outside,
    question: &Question,
    credential: Result<&Credential, Refused>,
    slot: Option<Slot>,
) -> Came {
    let started = Instant::now();
    let started_at = Timestamp::now();
    let asked = match credential {
        Ok(opened) => {
            let bearer = bearer(opened);
            let asking =
                outside.source.ask(&question.of.user, bearer, &question.queue, &outside.room);
            asking.await
        }
        Err(refused) => Asked::Unauthorized(refused),
    };
    // the answer is in: somebody else may ask
    drop(slot);
    let outcome = asked.outcome();
    outside.metrics.poll_finished(outcome, started.elapsed());
    let received = |kind, body| Answer {
        queue: question.queue.clone(),
        generation: question.generation,
        owner_epoch: question.owner_epoch,
        asked_at: started_at,
        received_at: Timestamp::now(),
        received: Instant::now(),
        kind,
        body,
    };
    let lost = |certainty, to_reconcile| Lost {
        gap_id: question.gap(to_reconcile),
        cause: Cause::AnswerLost,
        certainty,
        from: question.answered_before,
        to: Timestamp::now(),
        to_reconcile,
    };

    let mut came = (None, None, None);
    let mut refused = None;
    let change = match asked {
        Asked::Events(body) => {
            let body = body.into_bytes();
            came.2 = Some(event::sync_sign_of_answer(&body) != Some(event::SyncSign::Ended));
            Some(Change::Answered(received(AnswerKind::Events, body)))
        }
        Asked::Malformed(body) => {
            let kind = AnswerKind::Unreadable(DeadLetterReason::Malformed);
            Some(Change::Answered(received(kind, body.into_bytes())))
        }
        Asked::Broken { start } => {
            let lost = lost(Certainty::Certain, true);
            came.1 = Some(lost.gap_id.clone());
            let kind = AnswerKind::Unreadable(DeadLetterReason::Malformed);
            Some(Change::AnswerLost(received(kind, start.into_bytes()), lost))
        }
        Asked::Oversized { start, .. } => {
            let lost = lost(Certainty::Certain, true);
            came.1 = Some(lost.gap_id.clone());
            let kind = AnswerKind::Unreadable(DeadLetterReason::Oversized);
            Some(Change::AnswerLost(received(kind, start.into_bytes()), lost))
        }
        Asked::Throttled { retry_after } | Asked::ServerError { retry_after, .. } => {
            came.0 = retry_after;
            None
        }
        Asked::Empty | Asked::EmptyList | Asked::Dead { .. } => None,
        Asked::Unauthorized(why) | Asked::Forbidden(why) => {
            refused = Some(why);
            None
        }
        Asked::Timeout { sent } | Asked::TransportError { sent } => {
            if !sent {
                // nothing reached the source, so nothing can have been removed
                return Came::Failed(CallFault::Retry {
                    what: "the source was not reached".into(),
                });
            }
            None
        }
    };
    if outcome.is_answer() && question.is_answer_suspected {
        // before what follows it, as that is the order in which it happened
        let suspected = Change::AnswerLost(
            received(AnswerKind::Events, Vec::new()),
            lost(Certainty::Possible, false),
        );
        outside.keep(question.of.clone(), suspected).await;
    }
    if let Some(change) = change {
        outside.keep(question.of.clone(), change).await;
    }
    let (retry_after, listing, sign) = came;
    Came::Asked { outcome, started, started_at, retry_after, listing, sign, refused }
}

pub(super) async fn replace(
    outside: &Outside,
    of: RowOf,
    credential: &HeldCredential,
    mut lost: Lost,
    slot: Option<Slot>,
) -> Came {
    let opened = match outside.open(&of.user, credential) {
        Ok(opened) => opened,
        Err(refused) => return Came::Failed(CallFault::Refused(refused)),
    };
    let subscribed = outside.source.subscribe(&of.user, bearer(&opened)).await;
    drop(slot);
    let queue = match subscribed {
        Ok(queue) => queue,
        Err(fault) => return Came::Failed(fault),
    };
    lost.to = Timestamp::now();
    let (gap, cause) = (lost.gap_id.clone(), lost.cause);
    outside.keep(of, Change::QueueReplaced { next: queue.clone(), lost }).await;
    Came::Replaced { queue, gap, cause }
}

pub(super) async fn list(
    outside: &Outside,
    of: RowOf,
    credential: &HeldCredential,
    (gap, queue, generation, owner_epoch): (GapId, QueueId, i32, i64),
    slot: Option<Slot>,
) -> Came {
    let opened = match outside.open(&of.user, credential) {
        Ok(opened) => opened,
        Err(refused) => return Came::Unlisted(CallFault::Refused(refused)),
    };
    let asked_at = Timestamp::now();
    let listed = outside.source.connections(&of.user, bearer(&opened), &outside.room).await;
    drop(slot);
    let body = match listed {
        Ok(body) => body.into_bytes(),
        Err(fault) => return Came::Unlisted(fault),
    };
    if event::decode_connections(&body).is_err() {
        let what = "the listing of connections is no json list".to_owned();
        return Came::Unlisted(CallFault::Unusable { what });
    }
    let answer = Answer {
        queue,
        generation,
        owner_epoch,
        asked_at,
        received_at: Timestamp::now(),
        received: Instant::now(),
        kind: AnswerKind::Connections(gap),
        body,
    };
    outside.keep(of, Change::Answered(answer)).await;
    Came::Listed
}
