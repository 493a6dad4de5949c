//! A value of our topics as JSON, for eyes and for comparisons.
//!
//! Promises: unions stand without their branch, enums as their symbol, times as milliseconds since
//! 1970, bytes as their number only: what is sealed is not shown.
//!
//! Knows nothing of: framing, topics.

use apache_avro::types::Value as Avro;
use serde_json::Value;

/// The JSON of a datum; what our schemas do not use is null.
#[expect(clippy::wildcard_enum_match_arm, reason = "a dozen types that no schema of ours has")]
pub(super) fn json(datum: Avro) -> Value {
    match datum {
        Avro::Boolean(value) => value.into(),
        Avro::Int(value) => value.into(),
        Avro::Long(value) | Avro::TimestampMillis(value) => value.into(),
        Avro::Float(value) => value.into(),
        Avro::Double(value) => value.into(),
        Avro::String(value) | Avro::Enum(_, value) => value.into(),
        Avro::Bytes(value) => format!("{} bytes", value.len()).into(),
        Avro::Union(_, value) => json(*value),
        Avro::Array(values) => values.into_iter().map(json).collect(),
        Avro::Map(values) => {
            Value::Object(values.into_iter().map(|(key, value)| (key, json(value))).collect())
        }
        Avro::Record(fields) => {
            Value::Object(fields.into_iter().map(|(key, value)| (key, json(value))).collect())
        }
        _ => Value::Null,
    }
}
