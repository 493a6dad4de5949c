//! Two processes with copies of one journal: the first to meet what the other wrote ends, with a clear
//! word, and nothing is published twice.

#![expect(clippy::unwrap_used, reason = "a test fails by panic")]

mod support;

use std::path::Path;

use support::{Stage, oracle};

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

#[tokio::test]
async fn a_second_process_with_a_copy_of_the_journal_ends_one_of_them_and_repeats_nothing() {
    let mut stage = Stage::new("twins").await;
    let mut first = stage.bridge().await;
    for user in ["alice", "bob", "carol", "dave"] {
        first.put(user).await;
        stage.simulator.push_events(user, None, 2).unwrap();
    }
    stage.until("linxo.events", |events| events.len() == 8).await;

    let twin = stage.folder.path().join("twin");
    copy(&stage.folder.path().join("journal"), &twin);
    stage.set("journal.directory", &format!("{twin:?}"));
    stage.set("kafka.instance_id", "\"bridge-1\"");
    let second = stage.start().await;
    for round in 0..200 {
        let user = ["alice", "bob", "carol", "dave"][round % 4];
        stage.simulator.push_events(user, None, 1).unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        if first.has_ended() {
            break;
        }
    }
    assert_eq!(first.ended().await.code(), Some(1));
    let log = first.log();
    assert!(log.contains("another process publishes from journal"), "{log}");
    assert!(log.contains("a journal.directory of its own"), "{log}");

    second.ready().await;
    // what the first held, or was asking for, when it ended is in its own folder
    stage.set("journal.directory", &format!("{:?}", stage.folder.path().join("journal")));
    assert!(second.stop().await.success());
    let last = stage.bridge().await;
    oracle::eventually("nothing waits", || stage.simulator.stats().waiting == 0).await;
    let ledger = stage.simulator.ledger(None);
    let published_of = |events: &[support::Decoded]| oracle::published(events);
    let events = stage.until("linxo.events", |events| published_of(events).len() >= 8).await;
    oracle::assert_nothing_twice_or_invented(&events, &ledger);
    assert!(last.stop().await.success());
}
