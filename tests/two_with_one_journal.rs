//! Two processes with copies of one journal: the first to meet what the other wrote ends, with a clear
//! word; nothing is published twice, and what may be lost is in gaps.

#![expect(clippy::unwrap_used, reason = "a test fails by panic")]

mod support;

use std::path::Path;
use std::time::Duration;

use tokio::time::Instant;

use support::{Stage, oracle};

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

const USERS: [&str; 4] = ["alice", "bob", "carol", "dave"];

#[tokio::test]
async fn one_of_two_with_copies_of_a_journal_ends_and_nothing_is_twice_or_lost_in_silence() {
    let mut stage = Stage::new("twins").await;
    let mut first = stage.bridge().await;
    for user in USERS {
        first.put(user).await;
        stage.simulator.push_events(user, None, 2).unwrap();
    }
    stage.until("linxo.events", |events| events.len() == 8).await;

    let folder = stage.folder.path().join("journal");
    let twin = stage.folder.path().join("twin");
    copy(&folder, &twin);
    stage.set("journal.directory", &format!("{twin:?}"));
    stage.set("kafka.instance_id", "\"bridge-1\"");
    let mut second = stage.start().await;
    for round in 0..1000 {
        stage.simulator.push_events(USERS[round % 4], None, 1).unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
        if first.has_ended() || second.has_ended() {
            break;
        }
    }
    let (mut ended, left_in, going_on) =
        if first.has_ended() { (first, folder, second) } else { (second, twin, first) };
    assert_eq!(ended.ended().await.code(), Some(1));
    let log = ended.log();
    assert!(log.contains("another process publishes from journal"), "{log}");
    assert!(log.contains("a journal.directory of its own"), "{log}");

    going_on.ready().await;
    assert!(going_on.stop().await.success());
    // what the other one held, or was asking for, is in its own folder, under numbers that are taken
    stage.set("journal.directory", &format!("{left_in:?}"));
    let last = stage.bridge().await;
    let log = last.log();
    assert!(log.contains("another process has published from a copy of the journal"), "{log}");
    oracle::eventually("nothing waits", || stage.simulator.stats().waiting == 0).await;
    let ledger = stage.simulator.ledger(None);
    let mut gaps = Vec::new();
    let deadline = Instant::now() + support::PATIENCE;
    let events = loop {
        let events = stage.until("linxo.events", |_| true).await;
        let lost = oracle::lost_in_silence(&ledger, &events, &gaps);
        if lost.is_empty() {
            break events;
        }
        assert!(Instant::now() < deadline, "lost in silence: {lost:#?}, {gaps:#?}");
        gaps = stage.until("linxo.gaps", |_| true).await;
    };
    oracle::assert_nothing_twice_or_invented(&events, &ledger);
    assert!(last.stop().await.success());
}

/// Whose rows are lost nobody knows, so everybody is told: those too whose partitions are granted only when the session of
/// whoever had them has ended.
#[tokio::test]
async fn a_damaged_journal_is_told_to_those_whose_partitions_come_later() {
    let mut stage = Stage::new("late-partitions").await;
    let first = stage.bridge().await;
    let journal = stage.folder.path().join("journal-1");
    stage.set("journal.directory", &format!("{journal:?}"));
    stage.set("kafka.instance_id", "\"bridge-1\"");
    let second = stage.bridge().await;
    let users: Vec<String> = (0..12).map(|number| format!("user-{number}")).collect();
    let make = |stage: &Stage| {
        for user in &users {
            stage.simulator.push_events(user, None, 1).unwrap();
        }
    };
    let deadline = Instant::now() + support::PATIENCE;
    for bridge in [&first, &second] {
        while bridge.metric("linxo_bridge_partitions_owned").await != 2.0 {
            assert!(Instant::now() < deadline, "partitions are not shared:\n{}", bridge.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    for user in &users {
        second.put(user).await;
    }
    make(&stage);
    stage.drained().await;
    let older = stage.folder.path().join("older");
    copy(&journal, &older);
    make(&stage);
    stage.drained().await;
    second.kill().await;
    first.kill().await;
    std::fs::remove_dir_all(&journal).unwrap();
    copy(&older, &journal);
    let last = stage.bridge().await;
    let log = last.log();
    assert!(log.contains("the journal is older than what was published from it"), "{log}");
    let gaps = stage
        .until("linxo.gaps", |gaps| {
            users.iter().all(|user| gaps.iter().any(|gap| gap.value["user_id"] == **user))
        })
        .await;
    assert!(gaps.iter().all(|gap| gap.value["cause"] == "INSTANCE_LOST"), "{gaps:?}");
    assert!(last.stop().await.success());
}
