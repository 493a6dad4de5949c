//! Kafka killed, frozen and back while events flow: everything that was handed out is published
//! once, in order, and no queue dies of it.

#![expect(clippy::unwrap_used, reason = "a test fails by panic")]

mod support;

use std::time::Duration;

use futures_util::future::join_all;
use linxo_kafka_bridge::simulator::{ConnectionPlan, Fate, Options};
use serde_json::json;
use support::{Kafka, Stage, oracle};

const USERS: usize = 10;

fn user(number: usize) -> String {
    format!("user-{}", number % USERS)
}

/// Makes events for everybody, in bursts, for as long as `meanwhile` takes.
async fn flow_while(stage: &Stage, meanwhile: impl Future<Output = ()>) {
    tokio::pin!(meanwhile);
    let mut burst = 0;
    loop {
        tokio::select! {
            () = &mut meanwhile => return,
            () = tokio::time::sleep(Duration::from_millis(20)) => {
                burst += 1;
                stage.simulator.push_events(&user(burst * 3), None, 1 + burst % 5).unwrap();
            }
        }
    }
}

/// A stage on a broker of its own, with everybody subscribed.
async fn subscribed(name: &str, settings: &[(&str, &str)]) -> (Stage, support::Bridge) {
    let kafka: &'static Kafka = Box::leak(Box::new(Kafka::start().await));
    let mut stage = Stage::on(kafka, name, Options::default(), settings).await;
    stage.set("polling.active", "\"20ms\"");
    assert!(stage.run(&["topics", "create"]).await.status.success());
    let bridge = stage.bridge().await;
    for number in 0..USERS {
        bridge.put(&user(number)).await;
    }
    flow_while(&stage, pause(1)).await;
    (stage, bridge)
}

fn pause(seconds: u64) -> tokio::time::Sleep {
    tokio::time::sleep(Duration::from_secs(seconds))
}

/// Everything that was handed out is published once and in order; no queue died, nothing is a gap.
async fn assert_nothing_happened(stage: &Stage, bridge: support::Bridge) {
    oracle::eventually("nothing waits at the source", || {
        stage.simulator.ledger(None).with_fate(Fate::Waiting).next().is_none()
    })
    .await;
    let ledger = stage.simulator.ledger(None);
    let handed_out: Vec<String> = oracle::handed_out(&ledger).into_keys().collect();
    let events = stage.until_published(&handed_out).await;
    oracle::assert_nothing_twice_or_invented(&events, &ledger);
    assert_eq!(ledger.deaths.len(), 0, "{:?}", ledger.deaths);
    assert_eq!(stage.read("linxo.gaps").await.len(), 0);
    assert!(bridge.stop().await.success());
    oracle::assert_order_per_key(&events);
    // what was published late takes no part in the count
    oracle::assert_sequences_without_holes(&events);
}

/// Shorter than a transaction may take (30 s): the broker takes up the open one when it is back.
/// One that ran out meanwhile can stay open for ever on a single killed broker (ARCHITECTURE.md,
/// known gaps), which no client can mend.
#[tokio::test]
async fn a_broker_that_is_killed_again_and_again_costs_time_and_nothing_else() {
    let (stage, bridge) = subscribed("killed", &[]).await;
    for seconds in [1, 4] {
        stage.kafka.stop();
        flow_while(&stage, pause(seconds)).await;
        // it is alive without Kafka, and says so
        assert_eq!(bridge.get("/livez").await.0, 200);
        flow_while(&stage, async { stage.kafka.restart().await }).await;
        flow_while(&stage, pause(2)).await;
    }
    assert_nothing_happened(&stage, bridge).await;
}

#[tokio::test]
async fn a_broker_that_is_frozen_for_longer_than_a_transaction_costs_time_and_nothing_else() {
    let short = [("kafka.producer", "{ \"transaction.timeout.ms\" = \"2000\" }")];
    let (stage, bridge) = subscribed("frozen", &short).await;
    for _ in 0..2 {
        stage.kafka.pause();
        flow_while(&stage, pause(5)).await;
        stage.kafka.resume();
        flow_while(&stage, pause(2)).await;
    }
    let log = bridge.log();
    assert!(log.contains("transaction was not committed"), "nothing went wrong:\n{log}");
    assert_nothing_happened(&stage, bridge).await;
}

/// Nothing was under way when Kafka went, and what comes then is shown by the time it came.
#[tokio::test]
async fn an_answer_that_comes_in_an_outage_is_shown_to_wait() {
    let settings = [("polling.keep_alive", "\"2s\"")];
    let (stage, bridge) = subscribed("comes-in-an-outage", &settings).await;
    stage.drained().await;
    let oldest = "linxo_bridge_oldest_unpublished_timestamp_seconds";
    assert_eq!(bridge.metric(oldest).await, 0.0);
    stage.kafka.stop();
    // a mark is due each 10 s
    pause(12).await;
    stage.simulator.push_events(&user(0), None, 3).unwrap();
    let deadline = tokio::time::Instant::now() + support::PATIENCE;
    while bridge.metric(oldest).await == 0.0 {
        assert!(tokio::time::Instant::now() < deadline, "nothing is told:\n{}", bridge.log());
        pause(1).await;
    }
    stage.kafka.restart().await;
    assert_nothing_happened(&stage, bridge).await;
}

/// A change waits until Kafka has it. Its queue, new or old, must not die of that.
#[tokio::test]
async fn a_change_that_waits_for_kafka_has_its_queue_asked_meanwhile() {
    const LIFE: Duration = Duration::from_secs(6);
    let kafka: &'static Kafka = Box::leak(Box::new(Kafka::start().await));
    let options = Options { queue_lifetime: LIFE, ..Options::default() };
    let short = [
        ("linxo.queue_lifetime", "\"6s\""),
        ("linxo.request_timeout", "\"2s\""),
        ("polling.keep_alive", "\"1500ms\""),
        ("kafka.session_timeout", "\"2s\""),
    ];
    let stage = Stage::on(kafka, "changes", options, &short).await;
    let created = stage.run(&["topics", "create"]).await;
    assert!(created.status.success(), "{created:?}");
    let bridge = stage.bridge().await;
    for user in ["changed", "adopting", "removed"] {
        bridge.put(user).await;
    }
    let given_up = bridge.show("adopting").await["queue_id"].as_str().unwrap().to_owned();
    stage.simulator.put_user("new", &[ConnectionPlan::default()]).unwrap();
    let adopted = stage.simulator.open_queue("adopting").unwrap();

    // the last answer of Kafka is so fresh that changes begin
    bridge.put("first").await;
    stage.kafka.pause();
    let client = json!({"credential": {"type": "client"}});
    let adopting = json!({"credential": {"type": "client"}, "queue_id": adopted});
    let calls = [
        ("PUT", "new", Some(client.clone())),
        ("PUT", "changed", Some(client)),
        ("PUT", "adopting", Some(adopting)),
        ("DELETE", "removed", None),
    ]
    .map(|(method, user, body)| {
        let path = support::path_of(user);
        let bridge = &bridge;
        async move { (user, bridge.call(method, &path, body).await) }
    });
    let frozen = async {
        pause(1).await;
        let users = ["new", "changed", "adopting", "removed"];
        for _ in 0..10 {
            for user in users {
                stage.simulator.push_events(user, None, 1).unwrap();
            }
            pause(1).await;
        }
        let queues = stage.simulator.ledger(None).queues;
        for user in users {
            let queue = queues.iter().rfind(|queue| &*queue.user == user).unwrap();
            assert_eq!(queue.died_at, None, "{queue:?}");
            assert_eq!(
                queues.iter().filter(|queue| &*queue.user == user).count(),
                1 + usize::from(user == "adopting")
            );
        }
        stage.kafka.resume();
    };
    let (answers, ()) = tokio::join!(join_all(calls), frozen);
    for (user, (status, body)) in answers {
        assert!((200..300).contains(&status), "{user}: {status} {body}");
    }
    oracle::eventually("nothing waits at the source", || {
        stage.simulator.ledger(None).with_fate(Fate::Waiting).all(|event| &*event.user == "removed")
    })
    .await;
    let ledger = stage.simulator.ledger(None);
    let handed_out: Vec<String> = oracle::handed_out(&ledger).into_keys().collect();
    let events = stage.until_published(&handed_out).await;
    oracle::assert_nothing_twice_or_invented(&events, &ledger);
    let died: Vec<_> = ledger.deaths.iter().map(|death| &*death.queue).collect();
    assert!(died.iter().all(|queue| *queue == given_up), "{:?}", ledger.deaths);
    assert_eq!(stage.read("linxo.gaps").await.len(), 0);
    assert!(bridge.stop().await.success());
}

/// After a kill in an outage the journal holds far more than is published in a moment. What it comes
/// to is known before that, so that every queue is asked at once, and the right one of a user.
#[tokio::test]
async fn queues_are_asked_while_a_long_journal_is_still_being_published() {
    const MANY: usize = 200;
    const ROWS: f64 = 3_000.0;
    let kafka: &'static Kafka = Box::leak(Box::new(Kafka::start().await));
    let settings = [("polling.active", "\"200ms\""), ("polling.keep_alive", "\"500ms\"")];
    let stage = Stage::on(kafka, "foreseen", Options::default(), &settings).await;
    assert!(stage.run(&["topics", "create"]).await.status.success());
    let bridge = stage.bridge().await;
    let users: Vec<String> = (0..MANY).map(|number| format!("user-{number}")).collect();
    join_all(users.iter().map(|user| bridge.put(user))).await;
    let first = bridge.show("user-0").await["queue_id"].clone();

    // a broker killed while it still writes the markers of a commit may forget them (ARCHITECTURE.md)
    pause(2).await;
    stage.kafka.stop();
    stage.simulator.kill_queue(first.as_str().unwrap());
    let until = tokio::time::Instant::now() + support::PATIENCE;
    while bridge.metric("linxo_bridge_journal_answers").await < ROWS {
        for user in &users {
            stage.simulator.push_events(user, None, 1).unwrap();
        }
        assert!(tokio::time::Instant::now() < until, "{}", bridge.log());
        pause(1).await;
    }
    assert_ne!(bridge.show("user-0").await["queue_id"], first, "it was made anew in the outage");
    bridge.kill().await;
    let last_kill = oracle::now_millis();
    stage.kafka.restart().await;

    let bridge = stage.bridge().await;
    assert!(bridge.log().contains("what the journal holds is foreseen"), "{}", bridge.log());
    for user in &users {
        stage.simulator.push_events(user, None, 1).unwrap();
    }
    let until = tokio::time::Instant::now() + support::PATIENCE;
    while let Some(waiting) = stage.simulator.ledger(None).with_fate(Fate::Waiting).next() {
        let is_late = tokio::time::Instant::now() >= until;
        assert!(!is_late, "nobody asks for {waiting:?}\n{}", bridge.log());
        pause(1).await;
    }
    let ledger = stage.simulator.ledger(None);
    let after_the_kill = oracle::handed_out_after(&ledger, last_kill);
    assert!(after_the_kill.len() >= MANY);
    let events = stage.until_published(&after_the_kill).await;
    oracle::assert_nothing_twice_or_invented(&events, &ledger);
    oracle::assert_sequences_without_holes(&events);
    oracle::assert_order_per_key(&events);
    stage
        .until("linxo.gaps", |gaps| oracle::lost_in_silence(&ledger, &events, gaps).is_empty())
        .await;
    // the queue made in the outage is known: nobody asks for the dead one, and makes a third
    for user in &ledger.users {
        assert_eq!(user.subscribes, 1 + u32::from(&*user.user == "user-0"), "{user:?}");
    }
    assert!(bridge.stop().await.success());
}

/// Nobody is asked until what the journal holds is published, and of damaged rows nothing ever is.
#[tokio::test(flavor = "multi_thread")]
async fn a_journal_whose_last_rows_are_damaged_holds_nobody_up() {
    let settings = [("polling.active", "\"200ms\""), ("polling.keep_alive", "\"2s\"")];
    let (stage, bridge) = subscribed("damaged-end", &settings).await;
    stage.kafka.pause();
    for number in 0..USERS {
        stage.simulator.push_events(&user(number), None, 2).unwrap();
    }
    let until = tokio::time::Instant::now() + support::PATIENCE;
    while bridge.metric("linxo_bridge_journal_answers").await < USERS as f64 {
        assert!(tokio::time::Instant::now() < until, "{}", bridge.log());
        pause(1).await;
    }
    bridge.kill().await;
    // who was being asked would add a row
    std::fs::remove_file(stage.folder.path().join("journal/questions")).unwrap();
    let rows = rusqlite::Connection::open(stage.folder.path().join("journal/rows.db")).unwrap();
    let damage = "UPDATE rows SET sealed = CAST(substr(sealed, 1, length(sealed) - 2) || x'A5A5' AS BLOB) \
                  WHERE number > (SELECT max(number) - 2 FROM rows)";
    assert_eq!(rows.execute(damage, []).unwrap(), 2);
    drop(rows);
    stage.kafka.resume();

    let bridge = stage.bridge().await;
    let handed_out = oracle::handed_out_after(&stage.simulator.ledger(None), 0);
    let ledger = stage.simulator.ledger(None);
    stage
        .until("linxo.gaps", |gaps| gaps.iter().any(|gap| gap.text("cause") == "INSTANCE_LOST"))
        .await;
    let events = stage.read("linxo.events").await;
    let published = oracle::published(&events);
    assert!(handed_out.iter().filter(|key| published.contains(*key)).count() >= USERS - 2);
    stage
        .until("linxo.gaps", |gaps| oracle::lost_in_silence(&ledger, &events, gaps).is_empty())
        .await;
    assert!(bridge.stop().await.success());
}
