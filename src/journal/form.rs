//! A row as bytes: its head as JSON, then the body of the answer as it came.
//!
//! Promises:
//! - what was written is read back the same, less what only this process knows: who waits, and the
//!   clock that never jumps;
//! - a change that somebody asked for is written as withdrawn, without a word of what it was.
//!
//! Knows nothing of: seals, stores.

use serde::{Deserialize, Serialize};

use super::row::{Answer, AnswerKind, Change, Lost, RowOf};
use crate::ids::{GapId, QueueId, Timestamp};
use crate::metrics::DeadLetterReason;

/// A head longer than this is none of ours.
const MAX_HEAD: usize = 256 * 1024;

#[derive(Serialize, Deserialize)]
struct Head {
    of: RowOf,
    what: What,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum What {
    Answered(AnswerHead),
    AnswerLost(AnswerHead, Lost),
    Missed(Lost),
    QueueReplaced { next: QueueId, lost: Lost },
    Suspected { since: Timestamp, at: Timestamp },
    Unsuspected,
    Withdrawn,
}

#[derive(Serialize, Deserialize)]
struct AnswerHead {
    queue: QueueId,
    generation: i32,
    asked_at: Timestamp,
    received_at: Timestamp,
    kind: Kind,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Events,
    Unreadable(String),
    Connections(GapId),
}

/// Writes a row after what `bytes` holds; answers false when it cannot be written, which no row of
/// ours is.
pub(super) fn write(of: &RowOf, change: &Change, bytes: &mut Vec<u8>) -> bool {
    let (what, body): (What, &[u8]) = match change {
        Change::Answered(answer) => (What::Answered(AnswerHead::of(answer)), &answer.body),
        Change::AnswerLost(answer, lost) => {
            (What::AnswerLost(AnswerHead::of(answer), lost.clone()), &answer.body)
        }
        Change::Missed(lost) => (What::Missed(lost.clone()), &[]),
        Change::QueueReplaced { next, lost } => {
            (What::QueueReplaced { next: next.clone(), lost: lost.clone() }, &[])
        }
        Change::Suspected { since, at } => (What::Suspected { since: *since, at: *at }, &[]),
        Change::Unsuspected => (What::Unsuspected, &[]),
        Change::Subscribed(_)
        | Change::CredentialChanged(_)
        | Change::Adopted(..)
        | Change::Removed
        | Change::Withdrawn => (What::Withdrawn, &[]),
    };
    let start = bytes.len();
    bytes.extend_from_slice(&[0; 4]);
    if serde_json::to_writer(&mut *bytes, &Head { of: of.clone(), what }).is_err() {
        return false;
    }
    let Ok(length) = u32::try_from(bytes.len() - start - 4) else { return false };
    bytes[start..start + 4].copy_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(body);
    true
}

/// Reads a row; none when these bytes are none.
pub(super) fn read(bytes: &[u8]) -> Option<(RowOf, Change)> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    if length > MAX_HEAD {
        return None;
    }
    let (head, body) = rest.split_at_checked(length)?;
    let Head { of, what } = serde_json::from_slice(head).ok()?;
    let change = match what {
        What::Answered(head) => Change::Answered(head.answer(body)?),
        What::AnswerLost(head, lost) => Change::AnswerLost(head.answer(body)?, lost),
        What::Missed(lost) => Change::Missed(lost),
        What::QueueReplaced { next, lost } => Change::QueueReplaced { next, lost },
        What::Suspected { since, at } => Change::Suspected { since, at },
        What::Unsuspected => Change::Unsuspected,
        What::Withdrawn => Change::Withdrawn,
    };
    Some((of, change))
}

impl AnswerHead {
    fn of(answer: &Answer) -> Self {
        Self {
            queue: answer.queue.clone(),
            generation: answer.generation,
            asked_at: answer.asked_at,
            received_at: answer.received_at,
            kind: match &answer.kind {
                AnswerKind::Events => Kind::Events,
                AnswerKind::Unreadable(reason) => Kind::Unreadable(reason.as_str().to_owned()),
                AnswerKind::Connections(gap) => Kind::Connections(gap.clone()),
            },
        }
    }

    fn answer(self, body: &[u8]) -> Option<Answer> {
        let kind = match self.kind {
            Kind::Events => AnswerKind::Events,
            Kind::Unreadable(text) => {
                let mut reasons = DeadLetterReason::ALL.iter();
                AnswerKind::Unreadable(*reasons.find(|reason| reason.as_str() == text)?)
            }
            Kind::Connections(gap) => AnswerKind::Connections(gap),
        };
        Some(Answer {
            queue: self.queue,
            generation: self.generation,
            asked_at: self.asked_at,
            received_at: self.received_at,
            received: None,
            kind,
            body: body.to_vec(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gap::{Cause, Certainty};
    use crate::ids::{SubscriptionId, UserId};

    fn of() -> RowOf {
        RowOf {
            user: UserId::from("us\"er"),
            partition: 3,
            owner_epoch: 9,
            subscription_id: SubscriptionId::from("wish"),
        }
    }

    fn lost() -> Lost {
        Lost {
            gap_id: GapId::from("gap"),
            cause: Cause::AnswerLost,
            certainty: Certainty::Possible,
            from: Timestamp(1),
            to: Timestamp(2),
            to_reconcile: true,
        }
    }

    fn there_and_back(change: &Change) -> Change {
        let mut bytes = Vec::new();
        assert!(write(&of(), change, &mut bytes));
        let (read_of, read) = read(&bytes).unwrap();
        assert_eq!(read_of, of());
        read
    }

    #[test]
    fn every_kind_of_row_is_read_back_as_it_was_written() {
        let kinds = [
            AnswerKind::Events,
            AnswerKind::Unreadable(DeadLetterReason::Oversized),
            AnswerKind::Connections(GapId::from("gap")),
        ];
        for kind in kinds {
            let answer = Answer {
                queue: QueueId::from("q"),
                generation: 2,
                asked_at: Timestamp(10),
                received_at: Timestamp(11),
                received: None,
                kind,
                body: b"\x00not json\xff".to_vec(),
            };
            let changes =
                [Change::Answered(answer.clone()), Change::AnswerLost(answer.clone(), lost())];
            for change in changes {
                assert_eq!(format!("{:?}", there_and_back(&change)), format!("{change:?}"));
            }
        }
        let others = [
            Change::Missed(lost()),
            Change::QueueReplaced { next: QueueId::from("next"), lost: lost() },
            Change::Suspected { since: Timestamp(5), at: Timestamp(6) },
            Change::Unsuspected,
        ];
        for change in others {
            assert_eq!(format!("{:?}", there_and_back(&change)), format!("{change:?}"));
        }
    }

    #[test]
    fn what_somebody_asked_for_is_withdrawn_in_the_writing() {
        assert!(matches!(there_and_back(&Change::Removed), Change::Withdrawn));
    }

    #[test]
    fn bytes_that_are_no_row_are_none() {
        let mut bytes = Vec::new();
        assert!(write(&of(), &Change::Unsuspected, &mut bytes));
        for wrong in [&b""[..], b"abc", &bytes[..bytes.len() - 1], b"\xff\xff\xff\xff{}"] {
            assert!(read(wrong).is_none());
        }
    }
}
