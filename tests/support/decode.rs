//! Values of the bridge's topics as JSON, by the schemas in the folder of schemas.

use std::collections::HashMap;
use std::sync::OnceLock;

use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::types::Value as Avro;
use serde_json::{Map, Value};

use super::Record;

/// A record with its value as JSON: unions without their branch names, times as numbers. A removal
/// is null, a dead letter its bytes as text.
#[derive(Clone, Debug)]
pub struct Decoded {
    pub record: Record,
    pub key: String,
    pub value: Value,
}

impl Decoded {
    /// A field of the value as text.
    pub fn text(&self, field: &str) -> &str {
        self.value[field].as_str().unwrap_or_default()
    }
}

pub(super) fn decoded(record: Record) -> Decoded {
    let key = record.key_text().to_owned();
    let value = match &record.value {
        None => Value::Null,
        Some(bytes) if record.topic.ends_with("dead-letters") => {
            Value::String(String::from_utf8_lossy(bytes).into_owned())
        }
        Some(bytes) => {
            let (kind, datum) = (kind(&record.topic), unframed(bytes));
            let reader = GenericDatumReader::builder(&schemas()[kind]).build().unwrap();
            json(reader.read_value(&mut &*datum).unwrap())
        }
    };
    Decoded { key, value, record }
}

fn kind(topic: &str) -> &'static str {
    let kinds = [
        ("linxo.subscriptions", "subscription"),
        ("linxo.queues", "queue_state"),
        ("linxo.journals", "journal_mark"),
        ("linxo.gaps", "gap"),
    ];
    kinds.iter().find(|(name, _)| topic.ends_with(name)).map_or("event", |(_, kind)| kind)
}

fn unframed(bytes: &[u8]) -> &[u8] {
    match bytes {
        [0xC3, 1, rest @ ..] => &rest[8..],
        [0, rest @ ..] => &rest[4..],
        _ => panic!("a value in no known framing: {bytes:?}"),
    }
}

fn schemas() -> &'static HashMap<&'static str, Schema> {
    static SCHEMAS: OnceLock<HashMap<&'static str, Schema>> = OnceLock::new();
    SCHEMAS.get_or_init(|| {
        ["event", "gap", "subscription", "queue_state", "journal_mark"]
            .into_iter()
            .map(|kind| {
                let path = format!("{}/schemas/{kind}.avsc", env!("CARGO_MANIFEST_DIR"));
                (kind, Schema::parse_str(&std::fs::read_to_string(path).unwrap()).unwrap())
            })
            .collect()
    })
}

#[expect(clippy::wildcard_enum_match_arm, reason = "no schema of ours has the other kinds")]
fn json(value: Avro) -> Value {
    match value {
        Avro::Null => Value::Null,
        Avro::Boolean(value) => value.into(),
        Avro::Int(value) => value.into(),
        Avro::Long(value) | Avro::TimestampMillis(value) => value.into(),
        Avro::String(value) | Avro::Enum(_, value) => value.into(),
        Avro::Bytes(value) => format!("{} bytes", value.len()).into(),
        Avro::Union(_, value) => json(*value),
        Avro::Array(values) => values.into_iter().map(json).collect(),
        Avro::Map(values) => {
            Value::Object(values.into_iter().map(|(key, value)| (key, json(value))).collect())
        }
        Avro::Record(fields) => {
            let fields: Map<String, Value> =
                fields.into_iter().map(|(key, value)| (key, json(value))).collect();
            Value::Object(fields)
        }
        other => panic!("an unexpected value: {other:?}"),
    }
}
