//! Has a step done, whichever it is.
//!
//! Promises: one future for each step, which ends with what the step came to, and with the reply
//! that is to be sent once the worker has taken that in.
//!
//! Knows nothing of: how a step is done.

use std::sync::Arc;

use super::change::{change, remove, subscribe};
use super::outside::Outside;
use super::question::{ask, list, replace};
use super::step::{Came, Done, Reply, Step};
use crate::budget::Slot;
use crate::journal::Change;

/// Does one step for the queue at `index`. A question is most of what is done, so that the other steps
/// are boxed: the future is as large as its largest step.
pub(super) async fn perform(
    outside: Arc<Outside>,
    index: u32,
    step: Step,
    slot: Option<Slot>,
) -> Done {
    let mut meanwhile = Vec::new();
    let (came, reply) = match step {
        Step::Ask(question) => (ask(&outside, &question, slot).await, None),
        Step::Replace { of, credential, lost } => {
            (Box::pin(replace(&outside, of, &credential, lost, slot)).await, None)
        }
        Step::List { of, credential, gap, queue, generation } => {
            let gap = (gap, queue, generation);
            (Box::pin(list(&outside, of, &credential, gap, slot)).await, None)
        }
        Step::Miss { of, lost } => {
            let gap = lost.gap_id.clone();
            Box::pin(outside.keep(of, Change::Missed(lost))).await;
            (Came::Missed(gap), None)
        }
        Step::Subscribe { of, credential, adopt, reply } => {
            let made = Box::pin(subscribe(&outside, of, &credential, adopt, &mut meanwhile)).await;
            let (came, result) = match made {
                Ok((came, done)) => (came, Ok(done)),
                Err(unserved) => (Came::NotSubscribed, Err(unserved)),
            };
            (came, Some(Reply::Put(reply, result)))
        }
        Step::Change { question, subscription, credential, adopt, reply } => {
            let changing =
                change(&outside, question, subscription, &credential, adopt, &mut meanwhile);
            let made = Box::pin(changing).await;
            let (came, result) = match made {
                Ok((came, done)) => (came, Ok(done)),
                Err(unserved) => (Came::Unchanged, Err(unserved)),
            };
            (came, Some(Reply::Put(reply, result)))
        }
        Step::Remove { question, reply } => {
            match Box::pin(remove(&outside, question, &mut meanwhile)).await {
                Ok(()) => (Came::Removed, Some(Reply::Removed(reply, Ok(())))),
                Err(unserved) => (Came::Unchanged, Some(Reply::Removed(reply, Err(unserved)))),
            }
        }
    };
    Done { index, came, meanwhile, reply }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_under_way_takes_few_bytes_as_most_are_questions() {
        fn bytes<T>(_: impl FnOnce(Arc<Outside>, u32, Step, Option<Slot>) -> T) -> usize {
            size_of::<T>()
        }
        assert!(bytes(perform) <= 4096, "{} bytes are allocated for each question", bytes(perform));
    }
}
