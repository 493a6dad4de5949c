//! The demo shows within its first seconds what the bridge is for, in a pipe too, and its verdict
//! is that ledger and topics agree. That the verdict can fail is tested beside it, in
//! `src/demo/verdict`.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panic")]

use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

/// A demo may take this long before it counts as hanging; it ends by itself long before.
const PATIENCE: Duration = Duration::from_secs(60);

/// The lines of a demo in a pipe; it must end with success.
async fn lines_of(arguments: &[&str]) -> Vec<String> {
    let temporary = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_linxo-bridge"));
    command
        .arg("demo")
        .args(arguments)
        .env("TMPDIR", temporary.path())
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = tokio::time::timeout(PATIENCE, command.output()).await.unwrap().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{}\n{text}\n{errors}", output.status);
    assert_eq!(errors, "", "a quiet demo says nothing on stderr");
    let left = std::fs::read_dir(temporary.path()).unwrap().count();
    assert_eq!(left, 0, "the demo removes its folder");
    assert!(!text.contains('\x1b'), "no escape codes in a pipe:\n{text}");
    text.lines().map(str::to_owned).collect()
}

/// The words of a line that starts with a time, without it.
fn words(line: &str) -> Option<Vec<&str>> {
    let (time, rest) = line.split_once("s  ")?;
    time.trim().parse::<f64>().ok()?;
    Some(rest.split_whitespace().collect())
}

/// Where the first line with a time is whose words are as wished.
fn first(lines: &[String], what: &str, wish: impl Fn(&[&str]) -> bool) -> usize {
    let found = lines.iter().position(|line| words(line).is_some_and(|words| wish(&words)));
    found.unwrap_or_else(|| panic!("no {what} in:\n{}", lines.join("\n")))
}

/// The number in front of a word of a line.
fn number_before(line: &str, word: &str) -> f64 {
    let words: Vec<&str> = line.split_whitespace().collect();
    let at = words.iter().position(|found| found.trim_end_matches(',') == word).unwrap();
    words[at - 1].parse().unwrap_or_else(|_| panic!("no number before {word} in {line}"))
}

#[tokio::test]
async fn a_demo_in_a_pipe_shows_events_an_action_a_death_and_its_mending_and_agrees() {
    let lines = lines_of(&["--users", "5", "--seconds", "7"]).await;

    let is_key = |word: &str| word.parse::<u64>().is_ok();
    let event = first(
        &lines,
        "event under its key",
        |words| matches!(words, ["linxo.events", key, "SYNC_ALL_STARTED", "RUNNING", "RUNNING", _] if is_key(key)),
    );
    let action = first(
        &lines,
        "action",
        |words| matches!(words, ["linxo.actions.auth-failed", key, "AUTH_FAILED", "<-", "basile", ..] if is_key(key)),
    );
    let quiet = first(&lines, "action told by a status only", |words| {
        matches!(
            words,
            ["linxo.actions.token-expired", _, "LIST_ACCOUNTS_FAILED", "<-", "david", ..]
        )
    });
    let death = first(&lines, "death of a queue", |words| {
        words.starts_with(&["*", "Linxo", "forgets", "the", "queue", "of", "chloe"])
    });
    let is_gap = |words: &[&str], end: &str| {
        words.starts_with(&["linxo.gaps", "chloe", "QUEUE_GONE", "CERTAIN,"])
            && words.join(" ").ends_with(end)
    };
    let gap = first(&lines, "gap", |words| is_gap(words, "ms, not reconciled yet"));
    let listed = first(&lines, "present state", |words| {
        matches!(words, ["linxo.events", _, "CONNECTION_STATE", _, _, "chloe", ..])
    });
    let reconciled = first(&lines, "reconciled gap", |words| is_gap(words, "ms, reconciled"));
    let health = first(&lines, "lag and headroom", |words| {
        words.starts_with(&["="]) && words.contains(&"lag") && words.contains(&"headroom")
    });
    assert!(event < action && action < quiet);
    assert!(death < gap && gap < listed && gap < reconciled);
    assert!(number_before(&lines[health], "ms") > 0.0, "a lag was measured: {}", lines[health]);

    let agreed = lines.iter().position(|line| line.starts_with("ledger and topics agree"));
    assert_eq!(
        agreed,
        Some(lines.len() - 1),
        "the verdict is the last line:\n{}",
        lines.join("\n")
    );
    let summary = lines.iter().position(|line| line.starts_with("ledger of")).unwrap();
    let summary = &lines[summary..];
    let row = |words: &str| summary.iter().find(|line| line.contains(words)).unwrap();
    let handed_out = number_before(row("handed out"), "events");
    assert!(handed_out > 30.0);
    assert_eq!(number_before(row("handed out"), "in"), handed_out);
    assert_eq!(number_before(row("died"), "reconciled"), 1.0);
    let lost = number_before(row("lost at Linxo"), "events");
    assert!(lost >= 2.0);
    assert_eq!(number_before(row("lost at Linxo"), "inside"), lost);
    assert_eq!(number_before(row("dead-letters"), "in"), 0.0);
}
