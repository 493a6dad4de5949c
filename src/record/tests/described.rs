//! That a value reads as JSON, whichever kind it is and whoever wrote it.

use serde_json::json;

use super::*;
use crate::gap::{Cause, Certainty, Gap};
use crate::ids::{GapId, QueueId, SubscriptionId, Timestamp, UserId};

#[test]
fn a_value_is_described_without_branches_and_what_is_no_value_is_refused() {
    for framing in [Framing::SingleObject, confluent()] {
        let gap = Gap {
            gap_id: GapId::from("g"),
            user_id: UserId::from("alice"),
            subscription_id: SubscriptionId::from("s"),
            connection_id: None,
            cause: Cause::QueueGone,
            certainty: Certainty::Certain,
            from: Timestamp(1000),
            to: Timestamp(2000),
            queue_id: QueueId::from("q1"),
            queue_generation: 1,
            next_queue_id: Some(QueueId::from("q2")),
            last_event_id: None,
            next_event_id: None,
            after_sequence: Some(7),
            reconciled: false,
        };
        let mut value = Vec::new();
        encoder(&framing).gap(&gap, &mut value).unwrap();
        let decoder = decoder(&framing);
        assert_eq!(decoder.describe(&value).unwrap(), serde_json::to_value(&gap).unwrap());

        value.push(0);
        assert!(decoder.describe(&value).is_err());
        assert!(decoder.describe(&json!("no record").to_string().into_bytes()).is_err());
    }
}
