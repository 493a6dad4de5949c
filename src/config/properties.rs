//! The librdkafka properties that a user may hand through, and those that are ours.
//!
//! Promises:
//! - no property gets through that would break ownership, order or exactly-once;
//! - a property that may hold a secret is known by its name.
//!
//! Knows nothing of: the rest of the settings. Names: librdkafka's `CONFIGURATION.md`.

use std::collections::BTreeMap;
use std::path::Path;

use toml::{Table, Value};

use super::raw::{Raw, read_secret};

/// Properties that the bridge sets itself, with what to do instead.
const OURS: &[(&str, &str)] = &[
    ("bootstrap.servers", "set kafka.bootstrap_servers"),
    ("metadata.broker.list", "set kafka.bootstrap_servers"),
    ("group.id", "set kafka.group"),
    ("group.instance.id", "set kafka.instance_id"),
    ("group.protocol", "set kafka.group_protocol"),
    ("session.timeout.ms", "set kafka.session_timeout"),
    ("linger.ms", "set kafka.commit_interval"),
    ("queue.buffering.max.ms", "set kafka.commit_interval"),
    ("transactional.id", "leave it out: it names the group and the journal"),
    ("enable.idempotence", "leave it out: transactions need it on"),
    ("enable.gapless.guarantee", "leave it out: transactions bring it"),
    ("acks", "leave it out: transactions need all"),
    ("request.required.acks", "leave it out: transactions need all"),
    ("max.in.flight", "leave it out: order depends on it"),
    ("max.in.flight.requests.per.connection", "leave it out: order depends on it"),
    ("retries", "leave it out: transactions need retries"),
    ("message.send.max.retries", "leave it out: transactions need retries"),
    ("queuing.strategy", "leave it out: order depends on it"),
    ("partitioner", "leave it out: keys are spread as Java clients do, by murmur2"),
    ("isolation.level", "leave it out: each reader has its own"),
    ("enable.auto.commit", "leave it out: no offset is committed by itself"),
    ("auto.commit.enable", "leave it out: no offset is committed by itself"),
    ("enable.auto.offset.store", "leave it out: no offset is committed by itself"),
    ("enable.partition.eof", "leave it out: reading a topic to its end depends on it"),
    ("auto.offset.reset", "leave it out: topics are read from the beginning"),
    ("partition.assignment.strategy", "leave it out: partitions move one by one"),
    ("allow.auto.create.topics", "set topics.create"),
];

/// The table at `path` as properties, read from files where the name says so.
pub(super) fn read(raw: &mut Raw, path: &'static str) -> BTreeMap<String, String> {
    let wanted = "a table such as { \"security.protocol\" = \"SASL_SSL\" }";
    let table = raw.read(path, wanted, |value| value.as_table().cloned()).unwrap_or_default();
    // `sasl.mechanism = "PLAIN"` without quotes is a table in a table for TOML.
    let mut written = Vec::new();
    flatten("", &table, &mut written);
    let mut properties = BTreeMap::new();
    for (name, value) in written {
        // No librdkafka property ends in `_file`: it is our way of giving a secret.
        let plain = name.strip_suffix("_file").unwrap_or(&name).to_owned();
        let fault = if let Some(instead) = instead_of(&plain) {
            Err(("is the bridge's own".to_owned(), instead.to_owned()))
        } else if !is_name(&plain) {
            Err(("is no name of a librdkafka property".to_owned(), "leave it out".to_owned()))
        } else if properties.contains_key(&plain) {
            Err(("is given twice".to_owned(), "give it once, as it is or as a file".to_owned()))
        } else {
            property_value(&name, &plain, &value)
        };
        match fault {
            Ok(value) => {
                properties.insert(plain, value);
            }
            Err((found, wanted)) => {
                raw.wrong_because(path, format!("{name:?} {found}"), &wanted);
            }
        }
    }
    properties
}

fn property_value(name: &str, plain: &str, value: &Value) -> Result<String, (String, String)> {
    let simple = match value {
        Value::String(text) => text.clone(),
        Value::Integer(_) | Value::Boolean(_) | Value::Float(_) => value.to_string(),
        Value::Datetime(_) | Value::Array(_) | Value::Table(_) => {
            let found = format!("is of type {}", value.type_str());
            return Err((found, "give a text, a number, true or false".to_owned()));
        }
    };
    if name == plain {
        return Ok(simple);
    }
    match read_secret(Path::new(&simple)) {
        Ok(secret) => Ok(secret.expose().to_owned()),
        Err(reason) => Err((
            format!("names the file {simple:?}, which {reason}"),
            "name a readable file that holds the value and nothing else".to_owned(),
        )),
    }
}

fn flatten(before: &str, table: &Table, into: &mut Vec<(String, Value)>) {
    for (name, value) in table {
        match value {
            Value::Table(inner) => flatten(&format!("{before}{name}."), inner, into),
            Value::String(_)
            | Value::Integer(_)
            | Value::Float(_)
            | Value::Boolean(_)
            | Value::Datetime(_)
            | Value::Array(_) => into.push((format!("{before}{name}"), value.clone())),
        }
    }
}

/// What to do instead of setting this property, when it is one of ours.
fn instead_of(name: &str) -> Option<&'static str> {
    let name = name.to_ascii_lowercase();
    OURS.iter().find(|(ours, _)| *ours == name).map(|(_, instead)| *instead)
}

/// Whether this can be a property's name at all.
fn is_name(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    !name.is_empty() && name.bytes().all(fits)
}

/// Whether what a property holds must not be shown.
pub(super) fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    // Besides the plain ones: JAAS lines and OAuth settings hold passwords, URLs may.
    let marks =
        ["password", "passphrase", "secret", "token", "jaas", "key.pem", "oauthbearer.config"];
    marks.iter().any(|mark| name.contains(mark)) || name.ends_with(".url")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_that_may_hold_a_secret_are_recognised() {
        for name in [
            "sasl.password",
            "ssl.key.password",
            "ssl.keystore.password",
            "ssl.key.pem",
            "sasl.jaas.config",
            "sasl.oauthbearer.client.secret",
            "sasl.oauthbearer.assertion.private.key.passphrase",
            "sasl.oauthbearer.assertion.private.key.pem",
            "sasl.oauthbearer.config",
            "SASL.Password",
        ] {
            assert!(is_secret(name), "{name}");
        }
        for name in ["security.protocol", "sasl.username", "ssl.key.location", "client.id"] {
            assert!(!is_secret(name), "{name}");
        }
    }

    #[test]
    fn what_exactly_once_rests_on_is_ours() {
        for name in ["transactional.id", "Isolation.Level", "enable.idempotence", "group.id"] {
            assert!(instead_of(name).is_some(), "{name}");
        }
        for name in ["security.protocol", "transaction.timeout.ms", "compression.type"] {
            assert!(instead_of(name).is_none(), "{name}");
        }
    }
}
