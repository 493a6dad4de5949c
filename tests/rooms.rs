//! Who may know whom: the borders between the rooms of `src/`.
//!
//! Widening a border is a line in the tables below; what is allowed and not used has to go.

#![expect(clippy::unwrap_used, reason = "a test fails by panic")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Each room in the order of `lib.rs`, and the rooms that it may know.
const KNOWS: &[(&str, &str)] = &[
    ("ids", ""),
    ("subscription", "ids"),
    ("assignment", "kafka"),
    (
        "worker",
        "admin budget credential event gap ids journal kafka linxo metrics pulse publisher \
         queue_state sabotage schedule subscription",
    ),
    ("schedule", "ids"),
    ("budget", "schedule"),
    ("linxo", "causes credential ids metrics"),
    ("journal", "credential gap ids metrics sabotage subscription"),
    ("event", "ids metrics"),
    ("queue_state", "event gap ids subscription"),
    ("gap", "ids metrics"),
    ("record", "config event gap ids journal_mark queue_state subscription"),
    ("journal_mark", "ids"),
    ("registry", "causes metrics"),
    (
        "publisher",
        "assignment event gap ids journal journal_mark kafka metrics pulse queue_state record \
         sabotage subscription topics traces",
    ),
    ("kafka", "config ids sabotage"),
    ("topics", "config kafka"),
    ("admin", "causes ids metrics"),
    ("door", "causes secret"),
    ("bulk", "admin config door secret stop"),
    (
        "service",
        "admin assignment budget config credential event gap ids journal journal_mark kafka linxo \
         logging metrics publisher pulse queue_state record registry sabotage schedule secret subscription \
         topics traces worker",
    ),
    (
        "check",
        "admin config credential ids kafka linxo metrics record registry service topics traces",
    ),
    ("simulator", ""),
    ("oracle", "event kafka metrics record registry simulator"),
    ("load", "config door ids kafka metrics oracle record registry secret simulator topics stop"),
    ("demo", "config credential ids kafka logging oracle record service simulator topics stop"),
    ("causes", ""),
    ("stop", ""),
    ("pulse", "ids"),
    ("metrics", "ids"),
    ("logging", "config"),
    ("traces", "config ids metrics"),
    ("config", "secret"),
    ("credential", "ids secret"),
    ("secret", ""),
    ("sabotage", ""),
];

/// What the programs may know.
const PROGRAMS: &[(&str, &str)] = &[
    ("linxo_bridge", "bulk check config credential demo journal kafka logging service stop topics"),
    ("linxo_simulator", "config logging simulator"),
    ("linxo_load", "config load logging"),
];

/// Crates that only some rooms may name. `service` names one error type of `rdkafka`.
const CRATES: &[(&str, &str)] = &[
    ("apache_avro", "record"),
    ("axum", "admin load simulator"),
    ("chacha20poly1305", "credential"),
    ("opentelemetry", "traces"),
    ("opentelemetry_otlp", "traces"),
    ("opentelemetry_sdk", "traces"),
    ("prometheus", "load metrics"),
    ("rdkafka", "assignment demo kafka load publisher topics"),
    ("reqwest", "admin demo door load registry traces"),
    ("rusqlite", "journal"),
];
const EXCEPTIONS: &[(&str, &str)] = &[("service", "rdkafka::error::KafkaError")];

/// A file of `src/`: its path there, and its text.
type Source = (String, String);

/// Wherever the code of a file says `head`: the number of the line, and what follows there.
fn named<'a>(text: &'a str, head: &'a str) -> impl Iterator<Item = (usize, &'a str)> {
    let lines = text.lines().enumerate().map(|(number, line)| (number + 1, code(line)));
    lines.flat_map(move |(number, line)| {
        line.match_indices(head).filter_map(move |(at, _)| {
            let before = line[..at].chars().next_back();
            let is_whole = before.is_none_or(|c| !c.is_alphanumeric() && !"_$:".contains(c));
            is_whole.then(|| (number, &line[at + head.len()..]))
        })
    })
}

/// A line less its comment.
fn code(line: &str) -> &str {
    let line = line.split(" // ").next().unwrap_or_default();
    if line.trim_start().starts_with("//") { "" } else { line }
}

fn word(text: &str) -> &str {
    text.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default()
}

/// `record/mod.rs` and `record.rs` are of the room `record`, `bin/linxo_bridge.rs` of the program.
fn room_of(path: &str) -> &str {
    let path = path.strip_prefix("bin/").unwrap_or(path);
    path.split('/').next().unwrap().trim_end_matches(".rs")
}

fn allowed<'a>(table: &'a [(&str, &'a str)], of: &str) -> Option<BTreeSet<&'a str>> {
    let (_, names) = table.iter().find(|(name, _)| *name == of)?;
    Some(names.split_whitespace().collect())
}

/// What a file has that the tables do not allow; what it uses of them is added to `used`.
fn faults_of((path, text): &Source, used: &mut BTreeSet<(String, String)>) -> Vec<String> {
    let mut faults = Vec::new();
    let room = room_of(path);
    let (table, root) = if path.starts_with("bin/") {
        (PROGRAMS, "linxo_kafka_bridge::")
    } else {
        (KNOWS, "crate::")
    };
    let Some(may_know) = allowed(table, room) else {
        return vec![format!("`{path}`: {room} has no line in the tables of tests/rooms.rs")];
    };
    for (line, rest) in named(text, root) {
        let other = word(rest);
        if other.is_empty() {
            faults.push(format!("`{path}:{line}`: one `use` for each room, not a group"));
        } else if other != room {
            used.insert((room.to_owned(), other.to_owned()));
            if !may_know.contains(other) {
                faults.push(format!("`{path}:{line}`: {room} may not know {other}"));
            }
        }
    }
    let is_test = path.contains("/tests");
    if !is_test && (path == &format!("{room}/mod.rs") || !path.contains('/')) {
        // from here `super` is the crate; that of a test module is indented
        for (number, line) in text.lines().enumerate() {
            if line.starts_with("use super::") {
                faults.push(format!("`{path}:{}`: a room is named by crate::", number + 1));
            }
        }
    }
    for (name, rooms) in CRATES.iter().filter(|_| !is_test) {
        let exceptions = EXCEPTIONS.iter().filter(|(of, _)| *of == room);
        for (line, rest) in named(text, &format!("{name}::")) {
            let excepted =
                exceptions.clone().any(|(_, whole)| format!("{name}::{rest}").starts_with(whole));
            if excepted || rooms.split_whitespace().any(|allowed| allowed == room) {
                used.insert((room.to_owned(), (*name).to_owned()));
            } else {
                faults.push(format!("`{path}:{line}`: {room} may not name the crate {name}"));
            }
        }
    }
    faults
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut folders = vec![root.clone()];
    let mut sources = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
                sources.push((name, fs::read_to_string(path).unwrap()));
            }
        }
    }
    sources.retain(|(path, _)| path != "lib.rs");
    sources.sort();
    sources
}

#[test]
fn every_room_knows_only_whom_it_may_know_and_what_is_allowed_is_used() {
    let mut used = BTreeSet::new();
    let mut faults: Vec<String> =
        sources().iter().flat_map(|source| faults_of(source, &mut used)).collect();
    let allowed_edges = KNOWS.iter().chain(PROGRAMS).flat_map(|(room, others)| {
        others.split_whitespace().map(|other| (room.to_string(), other.to_owned()))
    });
    let allowed_crates = CRATES.iter().flat_map(|(name, rooms)| {
        rooms.split_whitespace().map(|room| (room.to_owned(), (*name).to_owned()))
    });
    for (room, other) in allowed_edges.chain(allowed_crates) {
        if !used.contains(&(room.clone(), other.clone())) {
            faults.push(format!("`tests/rooms.rs`: {room} does not know {other}, so it need not"));
        }
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn lib_declares_every_room_in_the_order_of_the_table_with_a_line_on_each() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs");
    let text = fs::read_to_string(path).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let mut declared = Vec::new();
    for (number, line) in lines.iter().enumerate() {
        if let Some(room) = line.strip_prefix("pub mod ") {
            let above = lines[number - 1];
            let is_told = above.starts_with("/// ") && above.ends_with('.');
            assert!(is_told, "`lib.rs:{}`: a line above says what {room} is", number + 1);
            declared.push(room.trim_end_matches(';'));
        }
    }
    let table: Vec<&str> = KNOWS.iter().map(|(room, _)| *room).collect();
    assert_eq!(declared, table);
    let there: BTreeSet<String> = sources()
        .iter()
        .filter(|(path, _)| !path.starts_with("bin/"))
        .map(|(path, _)| room_of(path).to_owned())
        .collect();
    assert_eq!(there, declared.into_iter().map(str::to_owned).collect());
}

#[test]
fn a_border_that_is_crossed_is_told_by_file_and_line() {
    let crossed = [
        ("record/event.rs", "use crate::ids::UserId;\nuse crate::worker::Command;\n"),
        ("record/event.rs", "fn f() -> crate::worker::Command {"),
        ("record/event.rs", "    let a = g(rdkafka::Offset::End);"),
        ("service/start.rs", "use rdkafka::producer::BaseProducer;"),
        ("gap.rs", "use super::worker::Command;"),
        ("gap.rs", "use crate::{ids, worker};"),
        ("bin/linxo_bridge.rs", "use linxo_kafka_bridge::simulator::Simulator;"),
        ("weather.rs", ""),
    ];
    let faults: Vec<String> = crossed
        .into_iter()
        .flat_map(|(path, text)| faults_of(&(path.into(), text.into()), &mut BTreeSet::new()))
        .collect();
    assert_eq!(
        faults,
        [
            "`record/event.rs:2`: record may not know worker",
            "`record/event.rs:1`: record may not know worker",
            "`record/event.rs:1`: record may not name the crate rdkafka",
            "`service/start.rs:1`: service may not name the crate rdkafka",
            "`gap.rs:1`: a room is named by crate::",
            "`gap.rs:1`: one `use` for each room, not a group",
            "`bin/linxo_bridge.rs:1`: linxo_bridge may not know simulator",
            "`weather.rs`: weather has no line in the tables of tests/rooms.rs",
        ]
    );
    let fine = "//! [`crate::worker`]\nuse crate::ids; // crate::worker\nuse crate::event::Gap;\n";
    assert!(faults_of(&("record.rs".into(), fine.into()), &mut BTreeSet::new()).is_empty());
}
