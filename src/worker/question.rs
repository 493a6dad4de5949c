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
use super::step::{Came, HeldCredential, Question, Suspect, Suspicion};
use crate::budget::Slot;
use crate::credential::Credential;
use crate::event;
use crate::gap::{Cause, Certainty};
use crate::ids::{GapId, QueueId, Timestamp};
use crate::journal::{Answer, AnswerKind, Asking, Change, Lost, RowOf};
use crate::linxo::{Asked, CallFault, Refused};
use crate::metrics::DeadLetterReason;
use crate::sabotage::{self, CrashPoint, Guard};

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
    let asking = Asking {
        of: &question.of,
        queue: &question.queue,
        asked_at: started_at,
        answered_before: question.answered_before,
    };
    let Some(written) = outside.journal.enter(&asking) else { return Came::NotAsked };
    let asked = match credential {
        Ok(opened) => {
            let bearer = bearer(opened);
            let asking =
                outside.source.ask(&question.of.user, bearer, &question.queue, &outside.room);
            asking.await
        }
        Err(refused) => Asked::Unauthorized(refused),
    };
    sabotage::pass(CrashPoint::AfterGet);
    let outcome = asked.outcome();
    outside.metrics.poll_finished(outcome, started.elapsed());
    let received = |kind, body| Answer {
        queue: question.queue.clone(),
        generation: question.generation,
        asked_at: started_at,
        received_at: Timestamp::now(),
        received: Some(Instant::now()),
        kind,
        body,
    };
    let lost = || question.lost(Cause::AnswerLost, Certainty::Certain);

    let mut retry_after = None;
    let mut listing = None;
    let mut sign = None;
    let mut next_id = None;
    let mut is_suspect = false;
    let mut refused = None;
    let change = match asked {
        Asked::Events(body) => {
            let body = body.into_bytes();
            sign = Some(event::sync_sign_of_answer(&body) != Some(event::SyncSign::Ended));
            if question.suspect.is_some() {
                next_id = event::least_id(&body);
            }
            Some(Change::Answered(received(AnswerKind::Events, body)))
        }
        Asked::Malformed(body) => {
            is_suspect = true;
            let kind = AnswerKind::Unreadable(DeadLetterReason::Malformed);
            Some(Change::Answered(received(kind, body.into_bytes())))
        }
        Asked::Broken { start } => {
            let lost = lost();
            listing = Some(lost.gap_id.clone());
            let kind = AnswerKind::Unreadable(DeadLetterReason::Malformed);
            Some(Change::AnswerLost(received(kind, start.into_bytes()), lost))
        }
        Asked::Oversized { start, .. } => {
            let lost = lost();
            listing = Some(lost.gap_id.clone());
            let kind = AnswerKind::Unreadable(DeadLetterReason::Oversized);
            Some(Change::AnswerLost(received(kind, start.into_bytes()), lost))
        }
        Asked::Throttled { retry_after: pause } | Asked::ServerError { retry_after: pause, .. } => {
            retry_after = pause;
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
                written.over();
                return Came::Failed(CallFault::Retry {
                    what: "the source was not reached".into(),
                });
            }
            is_suspect = true;
            None
        }
    };
    let mut is_kept = true;
    let mut suspicion = match &question.suspect {
        // a gap of its own takes the suspicion in
        Some(_) if listing.is_some() => Suspicion::Over,
        Some(suspect) if outcome.is_answer() => match judge(question, suspect, next_id) {
            Some(verdict) => {
                if let Change::Missed(lost) = &verdict
                    && lost.to_reconcile
                {
                    listing = Some(lost.gap_id.clone());
                }
                // before what follows it, as that is the order in which it happened
                is_kept &= outside.keep(question.of.clone(), verdict).await;
                Suspicion::Over
            }
            None => Suspicion::Same,
        },
        Some(_) | None => Suspicion::Same,
    };
    if let Some(change) = change {
        is_kept &= outside.keep(question.of.clone(), change).await;
    }
    is_suspect &= !sabotage::is_off(Guard::Suspicion);
    if is_suspect && outside.is_handed_out_once && question.suspect.is_none() {
        let at = Timestamp::now();
        let since = question.answered_before;
        is_kept &= outside.keep(question.of.clone(), Change::Suspected { since, at }).await;
        let expected = outside.expected_id(&question.of).await;
        let due = Instant::now() + outside.pace.suspicion();
        suspicion = Suspicion::Begun(Suspect { since, due, expected });
    }
    if is_kept {
        written.over();
    }
    // only now: what is under way is bounded, and so is what waits for the disk
    drop(slot);
    Came::Asked { outcome, started, started_at, retry_after, listing, sign, suspicion, refused }
}

/// What an answered question says of a suspicion: a gap, that it is unfounded, or nothing yet.
fn judge(question: &Question, suspect: &Suspect, next_id: Option<u64>) -> Option<Change> {
    match (suspect.expected, next_id) {
        (Some(expected), Some(next)) if next == expected => return Some(Change::Unsuspected),
        (Some(expected), Some(next)) if next > expected => {
            return Some(Change::Missed(question.lost(Cause::EventIdJump, Certainty::Certain)));
        }
        _ => {}
    }
    let is_due = suspect.due <= Instant::now();
    is_due.then(|| Change::Missed(question.lost(Cause::AnswerLost, Certainty::Possible)))
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
    let queue = match subscribed {
        Ok(queue) => queue,
        Err(fault) => return Came::Failed(fault),
    };
    lost.to = Timestamp::now();
    let (gap, cause) = (lost.gap_id.clone(), lost.cause);
    outside.keep(of, Change::QueueReplaced { next: queue.clone(), lost }).await;
    drop(slot);
    Came::Replaced { queue, gap, cause }
}

pub(super) async fn list(
    outside: &Outside,
    of: RowOf,
    credential: &HeldCredential,
    (gap, queue, generation): (GapId, QueueId, i32),
    slot: Option<Slot>,
) -> Came {
    let opened = match outside.open(&of.user, credential) {
        Ok(opened) => opened,
        Err(refused) => return Came::Unlisted(CallFault::Refused(refused)),
    };
    let asked_at = Timestamp::now();
    let listed = outside.source.connections(&of.user, bearer(&opened), &outside.room).await;
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
        asked_at,
        received_at: Timestamp::now(),
        received: Some(Instant::now()),
        kind: AnswerKind::Connections(gap),
        body,
    };
    outside.keep(of, Change::Answered(answer)).await;
    drop(slot);
    Came::Listed
}
