//! Changes of a subscription, as the admin API asks for them.
//!
//! Promises:
//! - nothing is created while Kafka is away;
//! - a queue is made before its subscription is written, and the caller told only after that;
//! - a queue that gives way to an adopted one is asked once more; what it may still have held is a
//!   gap;
//! - a queue is asked in time while its change waits for Kafka.
//!
//! Knows nothing of: HTTP; when a change may begin.

use std::pin::pin;
use std::time::Duration;

use tokio::time::timeout;

use super::outside::{Outside, bearer};
use super::question::{ask_with, note};
use super::step::{Came, HeldCredential, Question, Suspicion};
use crate::admin::{CredentialKind, PutDone, Unserved};
use crate::credential::Credential;
use crate::gap::{Cause, Certainty};
use crate::ids::{QueueId, Timestamp};
use crate::journal::{Change, Lost, RowOf, Stock, Unsettled};
use crate::linxo::{CallFault, Refused};
use crate::metrics::PollOutcome;
use crate::schedule::Class;
use crate::subscription::Subscription;

pub(super) async fn subscribe(
    outside: &Outside,
    mut of: RowOf,
    credential: &Credential,
    adopt: Option<QueueId>,
    meanwhile: &mut Vec<Came>,
) -> Result<(Came, PutDone), Unserved> {
    if !outside.reach.is_there().await {
        return Err(Unserved::KafkaAway);
    }
    let sealed = outside.seal(&of.user, credential)?;
    let queue = match adopt {
        Some(queue) => queue,
        None => {
            let mut slot = outside.budget.take(Class::Urgent).await.ok();
            let subscribed = outside.source.subscribe(&of.user, bearer(credential)).await;
            if let Err(fault) = &subscribed {
                note(fault, &mut slot);
            }
            drop(slot);
            subscribed.map_err(unserved)?
        }
    };
    let now = Timestamp::now();
    let subscription = Subscription {
        user_id: of.user.clone(),
        subscription_id: of.subscription_id.clone(),
        queue_id: queue.clone(),
        credential_kind: kind_of(credential).as_str().to_owned(),
        sealed_credential: sealed,
        created_at: now,
        updated_at: now,
    };
    of.subscription_id = subscription.subscription_id.clone();
    let done = PutDone {
        existed: false,
        subscription_id: subscription.subscription_id.clone(),
        queue_id: queue.clone(),
        partition: of.partition,
    };
    let question = Question {
        of,
        credential: HeldCredential::of(&subscription),
        queue,
        generation: 1,
        answered_before: now,
        open_gap: None,
        suspect: None,
    };
    let row = Change::Subscribed(Box::new(subscription.clone()));
    keep_asking(outside, row, question, Ok(credential), meanwhile).await?;
    Ok((Came::Subscribed(Box::new(subscription)), done))
}

pub(super) async fn change(
    outside: &Outside,
    question: Question,
    mut subscription: Box<Subscription>,
    credential: &Credential,
    adopt: Option<QueueId>,
    meanwhile: &mut Vec<Came>,
) -> Result<(Came, PutDone), Unserved> {
    if !outside.reach.is_there().await {
        return Err(Unserved::KafkaAway);
    }
    // a token that was given for the old credential serves no longer
    outside.source.forget(&question.of.user);
    subscription.credential_kind = kind_of(credential).as_str().to_owned();
    subscription.sealed_credential = outside.seal(&question.of.user, credential)?;
    subscription.updated_at = Timestamp::now();
    let adopt = adopt.filter(|queue| *queue != question.queue);
    let mut done = PutDone {
        existed: true,
        subscription_id: question.of.subscription_id.clone(),
        queue_id: question.queue.clone(),
        partition: question.of.partition,
    };
    let Some(queue) = adopt else {
        let row = Change::CredentialChanged(subscription.clone());
        keep_asking(outside, row, question, Ok(credential), meanwhile).await?;
        return Ok((Came::CredentialChanged(subscription), done));
    };
    // the old queue is asked once more, with the new credential, and then forgotten
    let slot = outside.budget.take(Class::Urgent).await;
    let last = ask_with(outside, &question, Ok(credential), slot.ok()).await;
    done.queue_id = queue.clone();
    let (gap, lost) = if let Came::Asked { outcome, listing, suspicion, .. } = &last
        && outcome.is_answer()
    {
        // nobody will come back to what the old queue is suspected to have lost
        if question.suspect.is_some() && matches!(suspicion, Suspicion::Same) {
            let lost = question.lost(Cause::AnswerLost, Certainty::Possible);
            outside.keep(question.of.clone(), Change::Missed(lost)).await;
        }
        (listing.clone(), None)
    } else {
        // what the old queue still held is out of reach
        let is_dead = matches!(last, Came::Asked { outcome: PollOutcome::Dead, .. });
        let lost = Lost {
            gap_id: question.gap(true),
            cause: if is_dead { Cause::QueueGone } else { Cause::Other },
            certainty: if is_dead { Certainty::Certain } else { Certainty::Possible },
            from: question.from(),
            to: Timestamp::now(),
            to_reconcile: true,
        };
        (Some(lost.gap_id.clone()), Some(lost))
    };
    let row = Change::Adopted(subscription.clone(), queue.clone(), lost);
    let question = Question {
        credential: HeldCredential::of(&subscription),
        queue: queue.clone(),
        generation: question.generation + 1,
        answered_before: Timestamp::now(),
        open_gap: gap.clone().or(question.open_gap),
        suspect: None,
        of: question.of,
    };
    let kept = keep_asking(outside, row, question, Ok(credential), meanwhile).await;
    if kept.is_err() {
        // they speak of a queue that is not the user's after all
        meanwhile.clear();
    }
    kept.map(|()| (Came::Adopted { subscription, queue, gap }, done))
}

pub(super) async fn remove(
    outside: &Outside,
    question: Question,
    meanwhile: &mut Vec<Came>,
) -> Result<(), Unserved> {
    if !outside.reach.is_there().await {
        return Err(Unserved::KafkaAway);
    }
    let user = question.of.user.clone();
    let opened = outside.open(&user, &question.credential);
    let credential = opened.as_ref().map_err(Refused::clone);
    keep_asking(outside, Change::Removed, question, credential, meanwhile).await?;
    outside.source.forget(&user);
    Ok(())
}

/// Has a change kept, which takes as long as Kafka is away, and the queue asked in time meanwhile.
/// `meanwhile` gets what the questions came to, in order.
async fn keep_asking(
    outside: &Outside,
    row: Change,
    mut question: Question,
    credential: Result<&Credential, Refused>,
    meanwhile: &mut Vec<Came>,
) -> Result<(), Unserved> {
    let keep_alive = outside.pace.keep_alive;
    let mut kept = pin!(outside.journal.keep(question.of.clone(), row));
    let since = Timestamp::now().since(question.answered_before);
    let mut pause = keep_alive.saturating_sub(since).max(keep_alive / 5);
    let mut is_to_ask = true;
    loop {
        if let Ok(settled) = timeout(pause, &mut kept).await {
            return settled.map_err(unsettled);
        }
        if !is_to_ask || outside.journal.stock() == Stock::None {
            continue;
        }
        let slot = outside.budget.take(Class::Urgent).await;
        let came = ask_with(outside, &question, credential.clone(), slot.ok()).await;
        let is_answered = question.follow(&came);
        pause = if is_answered { keep_alive } else { keep_alive / 5 };
        // a new queue, and another credential, have to wait for the change
        is_to_ask = !matches!(
            came,
            Came::Asked {
                outcome: PollOutcome::Dead | PollOutcome::Unauthorized | PollOutcome::Forbidden,
                ..
            }
        );
        meanwhile.push(came);
    }
}

fn kind_of(credential: &Credential) -> CredentialKind {
    match credential {
        Credential::AccessToken { .. } => CredentialKind::AccessToken,
        Credential::Password { .. } => CredentialKind::Password,
        Credential::Client => CredentialKind::Client,
    }
}

fn unserved(fault: CallFault) -> Unserved {
    let what = fault.to_string();
    match fault {
        CallFault::Refused(_) => Unserved::CredentialRefused { what },
        CallFault::Throttled { .. } | CallFault::Retry { .. } => Unserved::SourceAway { what },
        CallFault::Unusable { .. } => Unserved::SourceUnusable { what },
    }
}

fn unsettled(unsettled: Unsettled) -> Unserved {
    match unsettled {
        Unsettled::NotOwned => {
            Unserved::NotOwned { owner_url: None, retry_after: Duration::from_secs(2) }
        }
        Unsettled::Stopped => Unserved::OutcomeUnknown,
    }
}
