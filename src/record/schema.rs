//! The schemas this program was built with.
//!
//! Promises:
//! - each is parsed once;
//! - every released version is known, so that what an older bridge wrote can be read.
//!
//! Knows nothing of: topics, bytes.

use std::fmt;
use std::sync::{Arc, LazyLock};

use apache_avro::Schema;
use apache_avro::rabin::Rabin;

use super::RecordError;

/// What kinds of record there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RecordKind {
    /// An event, or the copy of one in an action topic.
    Event,
    /// A gap.
    Gap,
    /// A subscription.
    Subscription,
    /// A queue state.
    QueueState,
    /// A journal mark.
    JournalMark,
}

impl RecordKind {
    /// Every kind.
    pub const ALL: [Self; 5] =
        [Self::Event, Self::Gap, Self::Subscription, Self::QueueState, Self::JournalMark];

    /// The present schema, as it is registered.
    pub const fn schema_text(self) -> &'static str {
        match self {
            Self::Event => include_str!("../../schemas/event.avsc"),
            Self::Gap => include_str!("../../schemas/gap.avsc"),
            Self::Subscription => include_str!("../../schemas/subscription.avsc"),
            Self::QueueState => include_str!("../../schemas/queue_state.avsc"),
            Self::JournalMark => include_str!("../../schemas/journal_mark.avsc"),
        }
    }

    /// Full name of its schema.
    pub const fn full_name(self) -> &'static str {
        match self {
            Self::Event => "com.linxo.bridge.Event",
            Self::Gap => "com.linxo.bridge.Gap",
            Self::Subscription => "com.linxo.bridge.Subscription",
            Self::QueueState => "com.linxo.bridge.QueueState",
            Self::JournalMark => "com.linxo.bridge.JournalMark",
        }
    }
}

impl fmt::Display for RecordKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.full_name())
    }
}

/// Every released version of every schema, oldest first: the files of `schemas/released`.
pub const RELEASED: [(RecordKind, &str); 5] = [
    (RecordKind::Event, include_str!("../../schemas/released/1/event.avsc")),
    (RecordKind::Gap, include_str!("../../schemas/released/1/gap.avsc")),
    (RecordKind::Subscription, include_str!("../../schemas/released/1/subscription.avsc")),
    (RecordKind::QueueState, include_str!("../../schemas/released/1/queue_state.avsc")),
    (RecordKind::JournalMark, include_str!("../../schemas/released/1/journal_mark.avsc")),
];

type Parsed = Result<Schema, Arc<apache_avro::Error>>;

static PRESENT: LazyLock<[Parsed; 5]> = LazyLock::new(|| {
    RecordKind::ALL.map(|kind| Schema::parse_str(kind.schema_text()).map_err(Arc::new))
});

/// The present schema of a kind.
pub(super) fn present(kind: RecordKind) -> Result<&'static Schema, RecordError> {
    match &PRESENT[kind as usize] {
        Ok(schema) => Ok(schema),
        Err(source) => Err(RecordError::OwnSchema { kind, source: Arc::clone(source) }),
    }
}

/// CRC-64-AVRO of a schema's canonical form, as single-object encoding carries it: little-endian.
///
/// The crate leaves `{"type":"long"}` in the form where a logical type stood; the specification, and
/// Java with it, has `"long"`. Parsed once more, it is.
pub(super) fn fingerprint(schema: &Schema) -> Result<[u8; 8], apache_avro::Error> {
    let plain = Schema::parse_str(&schema.canonical_form())?;
    let mut bytes = [0; 8];
    for (to, from) in bytes.iter_mut().zip(plain.fingerprint::<Rabin>().bytes) {
        *to = from;
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprints_are_those_of_java_also_with_logical_types() {
        let schema = Schema::parse_str(
            r#"{"type": "record", "name": "Sample", "namespace": "com.linxo.bridge", "fields": [
                {"name": "at", "type": ["null", {"type": "long", "logicalType": "timestamp-millis"}],
                 "default": null}]}"#,
        )
        .unwrap();
        // SchemaNormalization.parsingFingerprint64 of Avro 1.12
        assert_eq!(fingerprint(&schema).unwrap(), 0x5653_b152_1c6b_aa7b_u64.to_le_bytes());
    }
}
