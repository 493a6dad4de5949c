//! The table of every setting there is.
//!
//! Promises:
//! - a key that is not in this table is a fault, with the nearest known one as a suggestion;
//! - the example configuration in `deploy/` has every key of it (tested).
//!
//! Knows nothing of: defaults and values.

/// How the text of an environment variable becomes a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Taken as it is: text, durations, sizes, addresses, paths.
    Text,
    /// As text, and never shown.
    Secret,
    /// `true` or `false`.
    Flag,
    /// A whole number.
    Number,
    /// A number from 0 to 1.
    Share,
    /// An inline array, or items with commas between.
    Texts,
    /// As [`Kind::Texts`], of whole numbers.
    Numbers,
    /// An inline table; its values are never shown.
    Table,
}

/// One setting.
#[derive(Debug, Clone, Copy)]
pub(super) struct Key {
    /// Section and name, as in `polling.keep_alive`.
    pub(super) path: &'static str,
    pub(super) kind: Kind,
    /// The other way of saying the same; a variable for one silences the other in the file.
    pub(super) instead_of: Option<&'static str>,
}

impl Key {
    /// Section and name apart.
    pub(super) fn parts(&self) -> (&'static str, &'static str) {
        self.path.split_once('.').unwrap_or(("", self.path))
    }
}

const fn key(path: &'static str, kind: Kind) -> Key {
    Key { path, kind, instead_of: None }
}

const fn either(path: &'static str, kind: Kind, other: &'static str) -> Key {
    Key { path, kind, instead_of: Some(other) }
}

/// Every setting, in the order in which they are explained.
pub(super) const KEYS: &[Key] = &[
    key("linxo.api_url", Kind::Text),
    key("linxo.auth_url", Kind::Text),
    key("linxo.client_id", Kind::Text),
    either("linxo.client_secret", Kind::Secret, "linxo.client_secret_file"),
    either("linxo.client_secret_file", Kind::Text, "linxo.client_secret"),
    either("linxo.user_header", Kind::Text, "linxo.user_parameter"),
    either("linxo.user_parameter", Kind::Text, "linxo.user_header"),
    key("linxo.max_requests_per_second", Kind::Number),
    key("linxo.request_timeout", Kind::Text),
    key("linxo.queue_lifetime", Kind::Text),
    key("linxo.delivery", Kind::Text),
    key("linxo.dead_statuses", Kind::Numbers),
    key("linxo.max_answer", Kind::Text),
    key("polling.keep_alive", Kind::Text),
    key("polling.active", Kind::Text),
    key("polling.active_for", Kind::Text),
    key("polling.max_in_flight", Kind::Number),
    key("polling.max_in_flight_bytes", Kind::Text),
    key("kafka.bootstrap_servers", Kind::Text),
    key("kafka.group", Kind::Text),
    key("kafka.instance_id", Kind::Text),
    key("kafka.group_protocol", Kind::Text),
    key("kafka.session_timeout", Kind::Text),
    key("kafka.commit_interval", Kind::Text),
    key("kafka.properties", Kind::Table),
    key("kafka.producer", Kind::Table),
    key("kafka.consumer", Kind::Table),
    key("topics.prefix", Kind::Text),
    key("topics.partitions", Kind::Number),
    key("topics.event_partitions", Kind::Number),
    key("topics.replication", Kind::Number),
    key("topics.create", Kind::Flag),
    key("topics.actions", Kind::Text),
    key("schema_registry.url", Kind::Text),
    key("schema_registry.register", Kind::Flag),
    key("journal.directory", Kind::Text),
    key("journal.max_bytes", Kind::Text),
    key("journal.grace", Kind::Text),
    key("credentials.key_file", Kind::Text),
    key("credentials.retry", Kind::Text),
    key("records.unmapped", Kind::Flag),
    key("records.redact", Kind::Texts),
    key("admin.listen", Kind::Text),
    key("admin.advertised_url", Kind::Text),
    key("admin.token_file", Kind::Text),
    key("service.drain", Kind::Text),
    key("service.grace", Kind::Text),
    key("service.log", Kind::Text),
    key("service.log_format", Kind::Text),
    key("telemetry.otlp_endpoint", Kind::Text),
    key("telemetry.sample", Kind::Share),
];

/// The entry of a setting.
pub(super) fn find(path: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.path == path)
}

/// The names in a section; none when there is no such section.
pub(super) fn names_in(section: &str) -> impl Iterator<Item = &'static str> {
    KEYS.iter().map(Key::parts).filter(move |(of, _)| *of == section).map(|(_, name)| name)
}

/// The known setting that `section.name` was probably meant to be.
pub(super) fn nearest(section: &str, name: &str) -> Option<&'static str> {
    let wanted = format!("{section}.{name}");
    let known = KEYS.iter().map(|key| {
        // The right name in the wrong section is as near as one slip of the pen.
        let near = if key.parts().1 == name { 1 } else { distance(&wanted, key.path) };
        (near, key.path)
    });
    let (distance, nearest) = known.min_by_key(|(distance, _)| *distance)?;
    (distance <= 2.max(name.len() / 3)).then_some(nearest)
}

/// The known section that `section` was probably meant to be.
pub(super) fn nearest_section(section: &str) -> Option<&'static str> {
    let known = KEYS.iter().map(|key| (distance(section, key.parts().0), key.parts().0));
    let (distance, nearest) = known.min_by_key(|(distance, _)| *distance)?;
    (distance <= 2.max(section.len() / 3)).then_some(nearest)
}

/// Levenshtein's: how many letters to add, drop or change.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in other.iter().enumerate() {
            let changed = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_pen_is_recognised_and_a_stranger_is_not() {
        assert_eq!(nearest("polling", "keepalive"), Some("polling.keep_alive"));
        assert_eq!(nearest("linxo", "keep_alive"), Some("polling.keep_alive"));
        assert_eq!(nearest("kafka", "bootstrap_server"), Some("kafka.bootstrap_servers"));
        assert_eq!(nearest("kafka", "colour"), None);
        assert_eq!(nearest_section("topic"), Some("topics"));
        assert_eq!(nearest_section("schema-registry"), Some("schema_registry"));
        assert_eq!(nearest_section("weather"), None);
    }
}
