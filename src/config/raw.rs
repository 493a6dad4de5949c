//! What was written: the file with the environment laid over it, and every fault found so far.
//!
//! Promises:
//! - reading goes on after a fault, so that all are found in one run;
//! - a fault that only follows from another one is not reported;
//! - what stands at a secret is shown nowhere, and of a file with a syntax error only the line number is.
//!
//! Knows nothing of: what the settings mean.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use toml::{Table, Value};
use zeroize::Zeroizing;

use super::faults::{Fault, Faults};
use super::keys::{self, KEYS, Kind};
use crate::secret::{REDACTED, Secret};

const VARIABLE_PREFIX: &str = "LINXO_BRIDGE__";
const MAX_SECRET_FILE_BYTES: u64 = 64 * 1024;
/// How much of a wrong value is shown.
const SHOWN_CHARACTERS: usize = 80;

#[derive(Debug)]
struct Setting {
    value: Value,
    /// The environment variable it came from; `None` for the file.
    variable: Option<String>,
}

/// The settings as written, by path, with the faults found in them.
pub(super) struct Raw {
    settings: BTreeMap<&'static str, Setting>,
    sections: BTreeSet<&'static str>,
    faults: Vec<Fault>,
    /// Settings that already have a fault: no conclusion may be drawn from them.
    faulted: BTreeSet<&'static str>,
    /// The file could not be read: what seems to be missing may stand in it.
    partial: bool,
}

impl Raw {
    /// Lays the environment over the text of a file.
    pub(super) fn from_text(text: &str, env: impl Iterator<Item = (String, String)>) -> Self {
        let mut raw = Self::empty();
        match text.parse::<Table>() {
            Ok(table) => raw.add_file(table),
            Err(error) => {
                let line = error.span().map_or(1, |span| {
                    1 + text.get(..span.start).unwrap_or(text).matches('\n').count()
                });
                raw.partial = true;
                raw.fault(
                    format!("line {line} of the file"),
                    error.message().to_owned(),
                    "correct it, it is no TOML",
                );
            }
        }
        raw.add_environment(env);
        raw
    }

    /// Lays the environment over a file, if one is given.
    pub(super) fn from_file(
        file: Option<&Path>,
        env: impl Iterator<Item = (String, String)>,
    ) -> Self {
        let Some(path) = file else { return Self::from_text("", env) };
        match std::fs::read_to_string(path) {
            Ok(text) => Self::from_text(&text, env),
            Err(error) => {
                let mut raw = Self::empty();
                raw.partial = true;
                let found = format!("cannot be read ({error})");
                raw.fault(
                    path.display().to_string(),
                    found,
                    "give a readable TOML file with --config",
                );
                raw.add_environment(env);
                raw
            }
        }
    }

    fn empty() -> Self {
        Self {
            settings: BTreeMap::new(),
            sections: BTreeSet::new(),
            faults: Vec::new(),
            faulted: BTreeSet::new(),
            partial: false,
        }
    }

    fn add_file(&mut self, table: Table) {
        for (section, content) in table {
            if keys::names_in(&section).next().is_none() {
                self.unknown_section(&section);
                continue;
            }
            let Value::Table(settings) = content else {
                self.fault(
                    section,
                    "is no section".to_owned(),
                    "write it in brackets, with its settings below",
                );
                continue;
            };
            self.sections.extend(KEYS.iter().map(|key| key.parts().0).find(|of| *of == section));
            for (name, value) in settings {
                match keys::find(&format!("{section}.{name}")) {
                    Some(key) => {
                        self.settings.insert(key.path, Setting { value, variable: None });
                    }
                    None => self.unknown_key(&section, &name, None),
                }
            }
        }
    }

    fn add_environment(&mut self, env: impl Iterator<Item = (String, String)>) {
        let ours: BTreeMap<String, String> =
            env.filter(|(name, _)| name.starts_with(VARIABLE_PREFIX)).collect();
        for (variable, text) in ours {
            let path = variable[VARIABLE_PREFIX.len()..].to_ascii_lowercase();
            let Some((section, name)) = path.split_once("__") else {
                self.fault(
                    variable,
                    "names no setting".to_owned(),
                    "write LINXO_BRIDGE__SECTION__KEY, with two underscores between",
                );
                continue;
            };
            if keys::names_in(section).next().is_none() {
                self.unknown_section(section);
                continue;
            }
            let Some(key) = keys::find(&format!("{section}.{name}")) else {
                self.unknown_key(section, name, Some(&variable));
                continue;
            };
            // Said in the environment, it also wins over the other way of saying it in the file.
            if let Some(other) = key.instead_of
                && self.settings.get(other).is_some_and(|setting| setting.variable.is_none())
            {
                self.settings.remove(other);
            }
            self.sections.insert(key.parts().0);
            let setting = Setting { value: value_of(key.kind, text), variable: Some(variable) };
            self.settings.insert(key.path, setting);
        }
    }

    fn unknown_section(&mut self, section: &str) {
        let wanted = match (keys::nearest_section(section), keys::nearest("", section)) {
            (Some(near), _) => format!("did you mean [{near}]?"),
            (None, Some(path)) => format!("did you mean {path}?"),
            (None, None) => "leave it out".to_owned(),
        };
        self.fault(section.to_owned(), "there is no such section".to_owned(), &wanted);
    }

    fn unknown_key(&mut self, section: &str, name: &str, variable: Option<&str>) {
        let wanted = keys::nearest(section, name).map_or_else(
            || {
                let known: Vec<_> = keys::names_in(section).collect();
                format!("[{section}] knows {}", known.join(", "))
            },
            |near| format!("did you mean {near}?"),
        );
        let from = variable.map(|variable| format!(" (from {variable})")).unwrap_or_default();
        self.fault(format!("{section}.{name}"), format!("there is no such setting{from}"), &wanted);
    }

    fn fault(&mut self, key: String, found: String, wanted: &str) {
        self.faults.push(Fault { key, found, wanted: wanted.to_owned() });
    }

    /// Notes that what stands at `path` is wrong.
    pub(super) fn wrong(&mut self, path: &'static str, wanted: &str) {
        let found = self.settings.get(path).map_or_else(
            || "is not given".to_owned(),
            |setting| {
                let kind = keys::find(path).map_or(Kind::Secret, |key| key.kind);
                let shown = shown(kind, &setting.value);
                match &setting.variable {
                    Some(variable) => format!("is {shown} (from {variable})"),
                    None => format!("is {shown}"),
                }
            },
        );
        self.wrong_because(path, found, wanted);
    }

    /// As [`Raw::wrong`], with words of the caller's for what was found.
    pub(super) fn wrong_because(&mut self, path: &'static str, found: String, wanted: &str) {
        self.faulted.insert(path);
        self.fault(path.to_owned(), found, wanted);
    }

    /// Notes that a setting is needed and not there, unless it may stand in a file that could not be read.
    pub(super) fn missing(&mut self, path: &'static str, found: &str, wanted: &str) {
        if !self.partial {
            self.wrong_because(path, found.to_owned(), wanted);
        }
    }

    /// Notes that settings do not go together, unless one of them has a fault of its own.
    pub(super) fn conflict(&mut self, paths: &[&'static str], found: String, wanted: &str) {
        if !self.partial && paths.iter().all(|path| !self.faulted.contains(path)) {
            self.fault(paths.join(", "), found, wanted);
        }
    }

    /// Whether the setting was written down anywhere.
    pub(super) fn is_given(&self, path: &str) -> bool {
        self.settings.contains_key(path)
    }

    /// Whether the section was written down, be it empty.
    pub(super) fn has_section(&self, section: &str) -> bool {
        self.sections.contains(section)
    }

    /// The setting as `read` understands it; nothing when it is not given, or given wrongly, which is noted.
    pub(super) fn read<T>(
        &mut self,
        path: &'static str,
        wanted: &str,
        read: impl FnOnce(&Value) -> Option<T>,
    ) -> Option<T> {
        debug_assert!(keys::find(path).is_some(), "{path} is not in the table");
        let value = read(&self.settings.get(path)?.value);
        if value.is_none() {
            self.wrong(path, &format!("must be {wanted}"));
        }
        value
    }

    /// A secret, given as text at one path or as a file at the other.
    pub(super) fn secret(&mut self, text: &'static str, file: &'static str) -> Option<Secret> {
        if self.is_given(text) && self.is_given(file) {
            self.conflict(&[text, file], "both are given".to_owned(), "give one of them");
            return None;
        }
        if self.is_given(file) {
            return self.secret_file(file);
        }
        let wanted = "a text, not empty, in quotes";
        self.read(text, wanted, |value| {
            value.as_str().map(without_newline).filter(|text| !text.is_empty()).map(Secret::from)
        })
    }

    /// What stands in the file that is named at `path`.
    pub(super) fn secret_file(&mut self, path: &'static str) -> Option<Secret> {
        let file = self.read(path, "the path of a file", path_text)?;
        match read_secret(Path::new(&file)) {
            Ok(secret) => Some(secret),
            Err(reason) => {
                self.wrong_because(
                    path,
                    format!("{file:?} {reason}"),
                    "name a readable file that holds the secret and nothing else",
                );
                None
            }
        }
    }

    /// The faults, if any were found. Ends the reading.
    pub(super) fn into_faults(self) -> Option<Faults> {
        (!self.faults.is_empty()).then_some(Faults(self.faults))
    }
}

/// The path in a setting, when it is a text that is not empty.
pub(super) fn path_text(value: &Value) -> Option<String> {
    value.as_str().filter(|text| !text.is_empty()).map(str::to_owned)
}

/// Reads a file that holds a secret, less one newline at its end.
pub(super) fn read_secret(path: &Path) -> Result<Secret, String> {
    let cannot = |error: std::io::Error| format!("cannot be read ({error})");
    let file = File::open(path).map_err(cannot)?;
    let mut text = Zeroizing::new(String::with_capacity(4096));
    let mut limited = file.take(MAX_SECRET_FILE_BYTES);
    limited.read_to_string(&mut text).map_err(cannot)?;
    if limited.limit() == 0 {
        return Err("is larger than any secret".to_owned());
    }
    match without_newline(&text) {
        "" => Err("is empty".to_owned()),
        secret => Ok(Secret::from(secret)),
    }
}

fn without_newline(text: &str) -> &str {
    let text = text.strip_suffix('\n').unwrap_or(text);
    text.strip_suffix('\r').unwrap_or(text)
}

/// The text of a variable as the type its setting has; text it stays when it does not look like it, and is refused later.
fn value_of(kind: Kind, text: String) -> Value {
    let read = match kind {
        Kind::Text | Kind::Secret => None,
        Kind::Flag => text.trim().parse().ok().map(Value::Boolean),
        Kind::Number => text.trim().parse().ok().map(Value::Integer),
        Kind::Share => text.trim().parse().ok().map(Value::Float),
        Kind::Table => inline(&text).filter(Value::is_table),
        Kind::Texts => {
            let items = || text.split(',').map(|item| Value::from(item.trim())).collect();
            inline(&text).filter(Value::is_array).or_else(|| Some(Value::Array(items())))
        }
        Kind::Numbers => {
            let item = |item: &str| item.trim().parse().ok().map(Value::Integer);
            let items = || text.split(',').map(item).collect::<Option<_>>().map(Value::Array);
            inline(&text).filter(Value::is_array).or_else(items)
        }
    };
    read.unwrap_or(Value::String(text))
}

fn inline(text: &str) -> Option<Value> {
    format!("value = {text}").parse::<Table>().ok()?.remove("value")
}

fn shown(kind: Kind, value: &Value) -> String {
    let text = match (kind, value) {
        (Kind::Secret, _) => return REDACTED.to_owned(),
        (Kind::Table, value) => return format!("of type {}", value.type_str()),
        // The password of a URL.
        (_, Value::String(text)) if text.contains('@') => return REDACTED.to_owned(),
        (_, Value::String(text)) => format!("{text:?}"),
        (_, Value::Table(_)) => format!("of type {}", value.type_str()),
        (
            _,
            Value::Integer(_)
            | Value::Float(_)
            | Value::Boolean(_)
            | Value::Datetime(_)
            | Value::Array(_),
        ) => value.to_string(),
    };
    if text.chars().count() <= SHOWN_CHARACTERS {
        return text;
    }
    text.chars().take(SHOWN_CHARACTERS).chain("...".chars()).collect()
}
