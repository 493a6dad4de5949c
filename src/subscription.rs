//! Who is watched: what the control topic holds for a user.
//!
//! Promises:
//! - a subscription has the fields of its schema and no others;
//! - its debug text does not show the sealed credential.
//!
//! Knows nothing of: how credentials are sealed, the topic.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ids::{QueueId, SubscriptionId, Timestamp, UserId};

/// The wish that a user's queue be drained.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subscription {
    /// The user to whom the queue belongs.
    pub user_id: UserId,
    /// Made when the wish is new; a changed credential keeps it.
    pub subscription_id: SubscriptionId,
    /// The first queue, generation 1; later ones stand in the queue state.
    pub queue_id: QueueId,
    /// What is sealed: `access_token`, `password` or `client`.
    pub credential_kind: String,
    /// The credential, sealed and bound to the user.
    #[serde(with = "sealed")]
    pub sealed_credential: Vec<u8>,
    /// When the wish was made, by our clock.
    pub created_at: Timestamp,
    /// When it was last changed, by our clock.
    pub updated_at: Timestamp,
}

impl fmt::Debug for Subscription {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sealed = format_args!("{} bytes", self.sealed_credential.len());
        formatter
            .debug_struct("Subscription")
            .field("user_id", &self.user_id)
            .field("subscription_id", &self.subscription_id)
            .field("queue_id", &self.queue_id)
            .field("credential_kind", &self.credential_kind)
            .field("sealed_credential", &sealed)
            .field("created_at", &self.created_at)
            .field("updated_at", &self.updated_at)
            .finish()
    }
}

/// Bytes as bytes: serde takes a vector for a list of numbers.
mod sealed {
    use std::fmt;

    use serde::de::{Deserializer, SeqAccess, Visitor};
    use serde::ser::Serializer;

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(bytes)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<u8>, D::Error> {
        deserializer.deserialize_byte_buf(Bytes)
    }

    struct Bytes;

    impl<'de> Visitor<'de> for Bytes {
        type Value = Vec<u8>;

        fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str("bytes")
        }

        fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
            Ok(bytes.to_vec())
        }

        fn visit_byte_buf<E>(self, bytes: Vec<u8>) -> Result<Vec<u8>, E> {
            Ok(bytes)
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<u8>, A::Error> {
            let mut bytes = Vec::new();
            while let Some(byte) = seq.next_element()? {
                bytes.push(byte);
            }
            Ok(bytes)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_text_does_not_show_what_is_sealed() {
        let subscription = Subscription {
            user_id: UserId::from("u"),
            subscription_id: SubscriptionId::from("s"),
            queue_id: QueueId::from("q"),
            credential_kind: "client".to_owned(),
            sealed_credential: vec![211, 212],
            created_at: Timestamp(1),
            updated_at: Timestamp(2),
        };
        let text = format!("{subscription:?}");
        assert!(text.contains("2 bytes") && !text.contains("211"), "{text}");
        let json = serde_json::to_string(&subscription).unwrap();
        assert_eq!(serde_json::from_str::<Subscription>(&json).unwrap(), subscription);
    }
}
