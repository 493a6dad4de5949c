//! The steps a worker takes outside: each is one future that talks to the source, has the answer
//! kept, and says what it came to.
//!
//! Promises:
//! - an answer that may have been removed from its queue is kept before anything else is done;
//! - a new queue is made before the connections are listed, and the gap is published with it;
//! - a credential is open only while its request is made.
//!
//! Knows nothing of: schedules; what a step's outcome means for the next one.

use std::time::Duration;

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
    mut slot: Option<Slot>,
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
    if let (Asked::Throttled { retry_after }, Some(slot)) = (&asked, &mut slot) {
        slot.throttled(*retry_after);
    }
    let outcome = asked.outcome();
    outside.metrics.poll_finished(outcome, started.elapsed());
    let Some(heard) = Heard::of(question, started_at, asked) else {
        written.over();
        return Came::Failed(CallFault::Retry { what: "the source was not reached".into() });
    };
    let Heard { change, mut listing, sign, next_id, is_suspect, retry_after, refused } = heard;
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
    let is_suspect = is_suspect && outside.is_handed_out_once;
    let is_new = match &question.suspect {
        None => is_suspect || refused.is_some(),
        Some(suspect) => is_suspect && suspect.is_of_refusal,
    };
    if is_new && !sabotage::is_off(Guard::Suspicion) {
        let (since, at) = (question.from(), Timestamp::now());
        is_kept &= outside.keep(question.of.clone(), Change::Suspected { since, at }).await;
        let (mut due, mut expected) = (Instant::now(), None);
        if is_suspect {
            // who looks waits for the publisher, and others may ask meanwhile
            drop(slot.take());
            expected = outside.expected_id(&question.of).await;
            due = Instant::now() + outside.pace.suspicion();
        }
        let suspect = Suspect { since, due, expected, is_of_refusal: !is_suspect };
        suspicion = Suspicion::Begun(suspect);
    }
    if is_kept {
        written.over();
    }
    // only now: what is under way is bounded, and so is what waits for the disk
    drop(slot);
    Came::Asked { outcome, started, started_at, retry_after, listing, sign, suspicion, refused }
}

/// What a question was answered with, in terms of its queue.
#[derive(Default)]
struct Heard {
    /// What has to be kept.
    change: Option<Change>,
    /// The gap that the loss of this answer makes.
    listing: Option<GapId>,
    /// Whether a synchronization goes on; none without events.
    sign: Option<bool>,
    /// The least id of the answer, where a suspicion waits for it.
    next_id: Option<u64>,
    /// Events may have been removed from the queue and not arrived.
    is_suspect: bool,
    /// When the source wants to be asked again.
    retry_after: Option<Duration>,
    /// Why the credential was not taken.
    refused: Option<Refused>,
}

impl Heard {
    /// None when nothing reached the source, so that nothing can have been removed.
    fn of(question: &Question, asked_at: Timestamp, asked: Asked) -> Option<Self> {
        let received = |kind, body| Answer {
            queue: question.queue.clone(),
            generation: question.generation,
            asked_at,
            received_at: Timestamp::now(),
            received: Some(Instant::now()),
            kind,
            body,
        };
        // what came in part is kept for the eye; the rest of it is lost
        let in_part = |reason, start| {
            let lost = question.lost(Cause::AnswerLost, Certainty::Certain);
            let listing = Some(lost.gap_id.clone());
            let answer = received(AnswerKind::Unreadable(reason), start);
            Self { change: Some(Change::AnswerLost(answer, lost)), listing, ..Self::default() }
        };
        Some(match asked {
            Asked::Events(body) => {
                let body = body.into_bytes();
                let is_awaited = question.suspect.is_some();
                Self {
                    sign: Some(event::sync_sign_of_answer(&body) != Some(event::SyncSign::Ended)),
                    next_id: is_awaited.then(|| event::least_id(&body)).flatten(),
                    change: Some(Change::Answered(received(AnswerKind::Events, body))),
                    ..Self::default()
                }
            }
            Asked::Malformed(body) => {
                let kind = AnswerKind::Unreadable(DeadLetterReason::Malformed);
                let change = Change::Answered(received(kind, body.into_bytes()));
                Self { change: Some(change), is_suspect: true, ..Self::default() }
            }
            Asked::Broken { start } => in_part(DeadLetterReason::Malformed, start.into_bytes()),
            Asked::Oversized { start, .. } => {
                in_part(DeadLetterReason::Oversized, start.into_bytes())
            }
            Asked::Throttled { retry_after } | Asked::ServerError { retry_after, .. } => {
                Self { retry_after, ..Self::default() }
            }
            Asked::Empty | Asked::EmptyList | Asked::Dead { .. } => Self::default(),
            Asked::Unauthorized(why) | Asked::Forbidden(why) => {
                Self { refused: Some(why), ..Self::default() }
            }
            Asked::Timeout { sent: false } | Asked::TransportError { sent: false } => return None,
            Asked::Timeout { sent: true } | Asked::TransportError { sent: true } => {
                Self { is_suspect: true, ..Self::default() }
            }
        })
    }
}

/// What an answered question says of a suspicion: a gap, that it is unfounded, or nothing yet.
fn judge(question: &Question, suspect: &Suspect, next_id: Option<u64>) -> Option<Change> {
    if suspect.is_of_refusal {
        return Some(Change::Unsuspected);
    }
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

/// Has the budget learn that a call met a source that is asked too much.
pub(super) fn note(fault: &CallFault, slot: &mut Option<Slot>) {
    if let (CallFault::Throttled { retry_after }, Some(slot)) = (fault, slot) {
        slot.throttled(*retry_after);
    }
}

pub(super) async fn replace(
    outside: &Outside,
    of: RowOf,
    credential: &HeldCredential,
    mut lost: Lost,
    mut slot: Option<Slot>,
) -> Came {
    let opened = match outside.open(&of.user, credential) {
        Ok(opened) => opened,
        Err(refused) => return Came::Failed(CallFault::Refused(refused)),
    };
    let subscribed = outside.source.subscribe(&of.user, bearer(&opened)).await;
    let queue = match subscribed {
        Ok(queue) => queue,
        Err(fault) => {
            note(&fault, &mut slot);
            return Came::Failed(fault);
        }
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
    mut slot: Option<Slot>,
) -> Came {
    let opened = match outside.open(&of.user, credential) {
        Ok(opened) => opened,
        Err(refused) => return Came::Unlisted(CallFault::Refused(refused)),
    };
    let asked_at = Timestamp::now();
    let listed = outside.source.connections(&of.user, bearer(&opened), &outside.room).await;
    let body = match listed {
        Ok(body) => body.into_bytes(),
        Err(fault) => {
            note(&fault, &mut slot);
            return Came::Unlisted(fault);
        }
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
