//! What the process writes about itself: its log lines, their filter and their fields.
//!
//! Promises:
//! - lines go to stderr, as text for eyes or as one JSON object each; what is refused is told by
//!   what would be right;
//! - which lines are written can be changed while the process runs, for this process and until it
//!   ends; the change is itself a line, with the filter before;
//! - a value has the same field name wherever it is told, in log lines and in traces, and a name one
//!   meaning: the table below is all there are (tested against the sources);
//! - no line holds a secret; of what is about a person there is the user id alone.
//!
//! | field | meaning |
//! |---|---|
//! | `address`, `control_address` | where somebody listens |
//! | `attempt` | how many times it was tried, this one included |
//! | `bytes`, `max_bytes` | the size of a record; the largest that is taken |
//! | `cause` | the cause of a gap, as in `linxo.gaps` |
//! | `client` | which Kafka client: the role at the end of its `client.id` |
//! | `elapsed` | how long it took |
//! | `error` | what went wrong, in the words of whoever refused |
//! | `events` | how many events an answer held |
//! | `filter`, `filter_before` | which lines are written, now and until now |
//! | `generation` | the number of a queue among its subscription's |
//! | `instance` | `kafka.instance_id` |
//! | `journal` | the UUID of a journal |
//! | `late` | whether it was published by an instance that no longer owned the partition |
//! | `limits` | what topics take, each by its name |
//! | `outcome` | the label `outcome` of the metric that counts it |
//! | `partition`, `partitions` | a control partition; how many |
//! | `position` | the last row of the journal that is published |
//! | `queue` | the id of a queue |
//! | `rate`, `rate_before`, `lowest_rate`, `required_rate` | requests a second: allowed now, before, at the least; needed |
//! | `reason` | why, in words |
//! | `row`, `rows` | the number of a row of the journal; how many |
//! | `schema`, `subject` | a schema's id in the registry; the name it is kept under |
//! | `sent` | whether the request reached the source as far as is known |
//! | `topic`, `topics` | the name of a topic; of several |
//! | `user`, `users` | the id of a user; how many |
//! | `version` | of the program |
//!
//! Knows nothing of: what is told.

use std::io::{self, IsTerminal};
use std::sync::{Arc, Mutex, PoisonError};

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt, reload};

use crate::config::{self, LogFormat};

/// Why a filter is not taken, or nothing is written.
#[derive(Debug, thiserror::Error)]
pub enum LogFault {
    /// The filter cannot be read.
    #[error("no filter for log lines: give {}", config::LOG_FILTER_FORM)]
    Filter,
    /// The process has a log already.
    #[error("log lines go elsewhere already: {0}")]
    Taken(#[from] tracing_subscriber::util::TryInitError),
    /// Nobody writes any more.
    #[error("log lines are written no more: {0}")]
    Gone(#[from] reload::Error),
}

/// Which lines are written. Cheap to clone.
#[derive(Clone, Debug)]
pub struct LogFilter {
    handle: reload::Handle<EnvFilter, Registry>,
    text: Arc<Mutex<String>>,
}

/// Begins to write the lines that `filter` lets through; once in a process.
pub fn start(filter: &str, format: LogFormat) -> Result<LogFilter, LogFault> {
    let (layer, handle) = reload::Layer::new(parsed(filter)?);
    let lines = fmt::layer().with_writer(io::stderr);
    let lines: Box<dyn Layer<_> + Send + Sync> = match format {
        LogFormat::Text => lines.with_ansi(io::stderr().is_terminal()).boxed(),
        LogFormat::Json => lines.json().boxed(),
    };
    tracing_subscriber::registry().with(layer).with(lines).try_init()?;
    Ok(LogFilter { handle, text: Arc::new(Mutex::new(filter.to_owned())) })
}

impl LogFilter {
    /// The filter as it was given.
    pub fn text(&self) -> String {
        self.text.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Writes the lines that `filter` lets through from now on. It is told under the old filter or,
    /// when that lets nothing of the kind through, under the new one.
    pub fn change(&self, filter: &str) -> Result<(), LogFault> {
        let layer = parsed(filter)?;
        let mut text = self.text.lock().unwrap_or_else(PoisonError::into_inner);
        let tell = || tracing::info!(filter, filter_before = *text, "log filter changed");
        let is_told = tracing::enabled!(tracing::Level::INFO);
        if is_told {
            tell();
        }
        self.handle.reload(layer)?;
        if !is_told {
            tell();
        }
        filter.clone_into(&mut text);
        Ok(())
    }
}

/// A word that is no level would be taken for a target by the filter's own reading, and silence
/// everything.
fn parsed(filter: &str) -> Result<EnvFilter, LogFault> {
    if !config::is_log_filter(filter) {
        return Err(LogFault::Filter);
    }
    EnvFilter::try_new(filter).map_err(|_| LogFault::Filter)
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::fs;
    use std::path::Path;

    use super::*;

    #[test]
    fn what_is_no_filter_is_refused_with_what_would_be_right() {
        for filter in ["", "inof", "info,", "linxo_kafka_bridge=loud", "a=b=c", "info;debug"] {
            let fault = parsed(filter).unwrap_err().to_string();
            assert!(fault.contains("target=level"), "{filter:?}: {fault}");
        }
        for filter in
            ["off", "info", "warn,linxo_kafka_bridge::worker=debug", "trace,librdkafka=off"]
        {
            parsed(filter).unwrap();
        }
    }

    /// Where fields are named in a text: the line, and the fields of one log line each. None where a
    /// line cannot be read.
    fn told(text: &str) -> Vec<(usize, Option<Vec<String>>)> {
        let levels = ["error", "warn", "info", "debug", "trace", "event"];
        let mut lines = Vec::new();
        for level in levels {
            let head = format!("tracing::{level}!(");
            for (at, _) in text.match_indices(&head) {
                let line = text[..at].matches('\n').count() + 1;
                lines.push((line, fields(&text[at + head.len()..])));
            }
        }
        // the attributes of traces; names with a dot are those of OpenTelemetry's own conventions
        for (at, head) in text.match_indices("KeyValue::new(\"") {
            let name = text[at + head.len()..].split('"').next().unwrap_or_default();
            if !name.contains('.') {
                let line = text[..at].matches('\n').count() + 1;
                lines.push((line, Some(vec![name.to_owned()])));
            }
        }
        lines
    }

    /// The names before the message, as `%a`, `a`, `?a` or `a = ...`.
    fn fields(arguments: &str) -> Option<Vec<String>> {
        let mut names = Vec::new();
        let (mut depth, mut is_text, mut is_escaped) = (0, false, false);
        let mut current = String::new();
        for letter in arguments.chars() {
            if is_text {
                is_text = is_escaped || letter != '"';
                is_escaped = !is_escaped && letter == '\\';
                current.push(letter);
                continue;
            }
            match letter {
                '"' => is_text = true,
                '(' | '[' | '{' => depth += 1,
                ')' | ']' | '}' => depth -= 1,
                _ => {}
            }
            if depth < 0 || depth == 0 && letter == ',' {
                let argument = current.trim();
                if argument.starts_with('"') {
                    return Some(names);
                }
                let name = argument.split('=').next()?.trim().trim_start_matches(['%', '?']);
                names.push(name.to_owned());
                current.clear();
                if depth < 0 {
                    return None;
                }
            } else {
                current.push(letter);
            }
        }
        None
    }

    fn table() -> BTreeSet<String> {
        let rows =
            include_str!("logging.rs").lines().filter_map(|line| line.strip_prefix("//! | `"));
        let names = rows.filter_map(|row| row.split(" | ").next());
        names.flat_map(|names| names.split(',')).map(|name| name.replace([' ', '`'], "")).collect()
    }

    /// Every file but this one, which speaks of lines in its tests.
    fn sources() -> BTreeMap<String, String> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let ours = root.join("logging.rs");
        let mut folders = vec![root];
        let mut sources = BTreeMap::new();
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else if path != ours {
                    let text = fs::read_to_string(&path).unwrap();
                    sources.insert(path.display().to_string(), text);
                }
            }
        }
        sources
    }

    #[test]
    fn every_field_of_a_log_line_is_in_the_table_and_every_one_of_the_table_is_told() {
        let known = table();
        let mut used = BTreeSet::from(["filter".to_owned(), "filter_before".to_owned()]);
        let mut faults = Vec::new();
        for (path, text) in sources() {
            if text.contains("use tracing::") || text.contains("tracing::instrument") {
                faults.push(format!("{path}: log lines are told as tracing::level!(...)"));
            }
            for (line, fields) in told(&text) {
                let Some(fields) = fields else {
                    faults.push(format!("{path}:{line}: no message behind the fields"));
                    continue;
                };
                for field in fields {
                    if !known.contains(&field) {
                        faults.push(format!("{path}:{line}: `{field}` is not in the table"));
                    }
                    used.insert(field);
                }
            }
        }
        faults.extend(known.difference(&used).map(|name| format!("nobody tells `{name}`")));
        assert!(faults.is_empty(), "\n{}", faults.join("\n"));
        assert!(used.len() > 20, "{used:?}");
    }

    #[test]
    fn fields_are_found_in_whatever_form_they_stand() {
        let text = "\n tracing::info!(a = f(1, \"x, y\"), %b, ?c, d, \"a = {}\", e);\n\
                    tracing::warn!(\"text\");\ntracing::error!(%f);";
        let names = |all: &[&str]| Some(all.iter().map(|name| (*name).to_owned()).collect());
        assert_eq!(told(text), [(4, None), (3, names(&[])), (2, names(&["a", "b", "c", "d"]))]);
    }
}
