//! `journal inspect` and `journal drain`: what a journal holds, and how it gets out when its instance
//! never returns.

mod support;

use support::{Stage, oracle};

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[tokio::test]
async fn a_journal_whose_instance_never_returns_is_shown_and_published_late_and_once() {
    let mut stage = Stage::new("drained").await;
    // it ends when answers are on disk and nobody has been told
    stage.sabotage("crash:after-sync:4");
    let mut bridge = stage.bridge().await;
    bridge.put("user").await;
    stage.simulator.push_events("user", None, 3).unwrap();
    stage.until("linxo.events", |events| events.len() == 3).await;
    stage.simulator.push_events("user", None, 2).unwrap();
    oracle::eventually("the rest is handed out", || stage.handed_out() == 5).await;
    stage.simulator.push_events("user", None, 2).unwrap();
    assert!(!bridge.ended().await.success());
    stage.sabotage("");

    let shown = stage.run(&["journal", "inspect"]).await;
    let page = text(&shown.stdout);
    assert!(shown.status.success(), "{}", text(&shown.stderr));
    assert!(page.contains("answers: ") && page.contains("users: 1\n"), "{page}");
    assert!(!page.contains("cannot be opened"), "{page}");

    let drained = stage.run(&["journal", "drain"]).await;
    assert!(drained.status.success(), "{}", text(&drained.stderr));
    let said = text(&drained.stdout);
    assert!(said.ends_with("rows published, the journal is drained\n"), "{said}");
    assert!(!said.starts_with("0 "), "{said}");
    let ledger = stage.simulator.ledger(None);
    let handed_out = oracle::handed_out(&ledger);
    let events = stage.until("linxo.events", |events| events.len() == handed_out.len()).await;
    oracle::assert_nothing_twice_or_invented(&events, &ledger);
    let late = events.iter().filter(|event| event.value["late"] == true);
    assert!(late.clone().count() > 0, "{events:#?}");
    assert!(late.clone().all(|event| event.value["sequence"].is_null()), "{events:#?}");

    let again = stage.run(&["journal", "drain"]).await;
    assert_eq!(text(&again.stdout), "0 rows published, the journal is drained\n");

    // whoever takes over goes on where the states are
    let bridge = stage.bridge().await;
    let all = stage.drained().await;
    oracle::assert_nothing_twice_or_invented(&all, &stage.simulator.ledger(None));
    assert!(bridge.stop().await.success());
}

#[tokio::test]
async fn a_journal_in_use_may_be_looked_into_and_not_drained() {
    let stage = Stage::new("in-use").await;
    let bridge = stage.bridge().await;
    bridge.put("user").await;
    let shown = stage.run(&["journal", "inspect"]).await;
    assert!(shown.status.success(), "{}", text(&shown.stderr));
    assert!(text(&shown.stdout).contains("journal: "));
    let drained = stage.run(&["journal", "drain"]).await;
    assert_eq!(drained.status.code(), Some(1));
    assert!(text(&drained.stderr).contains("in use by another process"));
    assert!(bridge.stop().await.success());
}

#[tokio::test]
async fn a_folder_without_a_journal_is_said_to_be_one() {
    let stage = Stage::bare("no-journal", Default::default(), &[]).await;
    for command in ["inspect", "drain"] {
        let output = stage.run(&["journal", command]).await;
        assert_eq!(output.status.code(), Some(1), "{command}");
        assert!(text(&output.stderr).contains("journal.directory"), "{}", text(&output.stderr));
    }
    assert!(!stage.folder.path().join("journal").exists(), "none is made by looking");
}
