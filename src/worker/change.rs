//! Changes of a subscription, as the admin API asks for them.
//!
//! Promises:
//! - nothing is created while Kafka is away;
//! - a queue is made before its subscription is written, and the caller told only after that;
//! - a queue that gives way to an adopted one is asked once more; what it may still have held is a
//!   gap.
//!
//! Knows nothing of: HTTP; when a change may begin.

use std::time::Duration;

use super::outside::{Outside, bearer};
use super::question::ask_with;
use super::step::{Came, Question, Suspicion};
use crate::admin::{CredentialKind, PutDone, Unserved};
use crate::credential::Credential;
use crate::gap::{Cause, Certainty};
use crate::ids::{QueueId, Timestamp};
use crate::journal::{Change, Lost, RowOf, Unsettled};
use crate::linxo::CallFault;
use crate::metrics::PollOutcome;
use crate::schedule::Class;
use crate::subscription::Subscription;

pub(super) async fn subscribe(
    outside: &Outside,
    mut of: RowOf,
    credential: &Credential,
    adopt: Option<QueueId>,
) -> Result<(Came, PutDone), Unserved> {
    if !outside.reach.is_there().await {
        return Err(Unserved::KafkaAway);
    }
    let sealed = outside.seal(&of.user, credential)?;
    let queue = match adopt {
        Some(queue) => queue,
        None => {
            let slot = outside.budget.take(Class::Urgent).await;
            let subscribed = outside.source.subscribe(&of.user, bearer(credential)).await;
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
    let partition = of.partition;
    let row = Change::Subscribed(Box::new(subscription.clone()));
    outside.journal.keep(of, row).await.map_err(unsettled)?;
    let done = PutDone {
        existed: false,
        subscription_id: subscription.subscription_id.clone(),
        queue_id: queue,
        partition,
    };
    Ok((Came::Subscribed(Box::new(subscription)), done))
}

pub(super) async fn change(
    outside: &Outside,
    question: Question,
    mut subscription: Box<Subscription>,
    credential: &Credential,
    adopt: Option<QueueId>,
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
        outside.journal.keep(question.of, row).await.map_err(unsettled)?;
        return Ok((Came::CredentialChanged(subscription), done));
    };
    // the old queue is asked once more, with the new credential, and then forgotten
    let slot = outside.budget.take(Class::Urgent).await;
    let last = ask_with(outside, &question, Ok(credential), slot.ok()).await;
    done.queue_id = queue.clone();
    if let Came::Asked { outcome, listing, .. } = &last
        && outcome.is_answer()
    {
        let gap = listing.clone();
        // nobody will come back to what the old queue is suspected to have lost
        if let (Some(_), Came::Asked { suspicion: Suspicion::Same, .. }) =
            (&question.suspect, &last)
        {
            let lost = question.lost(Cause::AnswerLost, Certainty::Possible);
            outside.keep(question.of.clone(), Change::Missed(lost)).await;
        }
        let row = Change::Adopted(subscription.clone(), queue.clone());
        outside.journal.keep(question.of, row).await.map_err(unsettled)?;
        return Ok((Came::Adopted { subscription, queue, gap }, done));
    }
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
    let gap = Some(lost.gap_id.clone());
    let row = Change::CredentialChanged(subscription.clone());
    outside.journal.keep(question.of.clone(), row).await.map_err(unsettled)?;
    let row = Change::QueueReplaced { next: queue.clone(), lost };
    outside.journal.keep(question.of, row).await.map_err(unsettled)?;
    Ok((Came::Adopted { subscription, queue, gap }, done))
}

pub(super) async fn remove(outside: &Outside, of: RowOf) -> Result<(), Unserved> {
    if !outside.reach.is_there().await {
        return Err(Unserved::KafkaAway);
    }
    let user = of.user.clone();
    outside.journal.keep(of, Change::Removed).await.map_err(unsettled)?;
    outside.source.forget(&user);
    Ok(())
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
