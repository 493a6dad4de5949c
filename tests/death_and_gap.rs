//! Whatever was or may have been lost when a queue died lies inside a published gap, and the gap is
//! closed with the present state, also when the recovery is interrupted.

#![expect(clippy::unwrap_used, reason = "a test fails by panic")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use linxo_kafka_bridge::simulator::{
    ConnectionPlan, Fate, Fault, Options, Order, RequestKind, Revocation,
};
use serde_json::{Value, json};
use support::{Bridge, Decoded, Stage, oracle, path_of};

const USER: &str = "ann";
const AWAY: Fault = Fault::ServerError { status: 503 };

async fn stage(name: &str, options: Options, more: &[(&str, &str)]) -> Stage {
    let mut settings = vec![("polling.active", "\"50ms\"")];
    settings.extend(more);
    Stage::with(name, options, &settings).await
}

fn plan(id: &str) -> ConnectionPlan {
    ConnectionPlan { id: Some(id.to_owned()), ..ConnectionPlan::default() }
}

/// Gives the user connections `a` and `b`, and waits until an event of each is published.
async fn with_two_connections(stage: &Stage) -> Vec<Decoded> {
    stage.simulator.put_user(USER, &[plan("a"), plan("b")]).unwrap();
    stage.simulator.push_events(USER, Some("a"), 3).unwrap();
    stage.simulator.push_events(USER, Some("b"), 1).unwrap();
    stage.drained().await
}

/// The queue that the user has now.
fn live_queue(stage: &Stage) -> String {
    let mut live = stage.simulator.live_queues(USER);
    assert_eq!(live.len(), 1, "{live:?}");
    live.remove(0)
}

/// Waits until the gap of the user is published as reconciled; answers all records of gaps.
async fn closed(stage: &Stage) -> Vec<Decoded> {
    let is_closed = |gap: &Decoded| gap.key == USER && gap.value["reconciled"] == true;
    stage.until("linxo.gaps", |gaps| gaps.iter().any(is_closed)).await
}

/// The last record of the user in a compacted topic.
async fn last_of(stage: &Stage, topic: &str) -> Value {
    let records = stage.read(topic).await;
    records.into_iter().rfind(|record| record.key == USER).unwrap().value
}

/// There is one gap of this cause, published open and then closed for the user and connections `a`
/// and `b`, and everything that was lost lies in it; answers its id.
async fn assert_one_gap(stage: &Stage, gaps: &[Decoded], cause: &str, dead: &str) -> String {
    let ids: BTreeSet<&str> = gaps.iter().map(|gap| gap.text("gap_id")).collect();
    assert_eq!(ids.len(), 1, "{gaps:#?}");
    for key in [USER, "a", "b"] {
        let of_key: Vec<&Decoded> = gaps.iter().filter(|gap| gap.key == key).collect();
        let stages: Vec<&Value> = of_key.iter().map(|gap| &gap.value["reconciled"]).collect();
        assert_eq!(stages, [false, true], "of {key}: {of_key:#?}");
    }
    let next = live_queue(stage);
    for gap in gaps {
        assert_eq!(gap.text("cause"), cause);
        assert_eq!(gap.text("certainty"), "CERTAIN");
        assert_eq!((gap.text("queue_id"), gap.text("next_queue_id")), (dead, next.as_str()));
        assert_eq!(gap.value["queue_generation"], 1);
        let connection = if gap.key == USER { Value::Null } else { json!(gap.key) };
        assert_eq!(gap.value["connection_id"], connection);
    }
    let span = |field: &str| gaps[0].value[field].as_i64().unwrap();
    let ledger = stage.simulator.ledger(Some(USER));
    let is_lost = |fate| matches!(fate, Fate::NoQueue | Fate::DiedWithQueue);
    let lost: Vec<i64> = ledger
        .events
        .iter()
        .filter(|event| is_lost(event.fate))
        .map(|event| event.made_at as i64)
        .collect();
    assert!(!lost.is_empty(), "nothing was lost, so nothing is shown");
    assert!(lost.iter().all(|at| (span("from")..=span("to")).contains(at)), "{lost:?} {gaps:#?}");
    assert_eq!(ledger.users[0].subscribes, 2);

    let state = last_of(stage, "linxo.queues").await;
    assert_eq!((&state["generation"], &state["recovery"]), (&json!(2), &Value::Null));
    assert_eq!(state["queue_id"], next);
    ids.into_iter().next().unwrap().to_owned()
}

/// The reconciliation of a gap tells these types by connection, once, and all counts go on.
async fn assert_reconciled(stage: &Stage, gap_id: &str, types: &[(&str, &str)]) {
    let events = stage.read("linxo.events").await;
    oracle::assert_nothing_twice_or_invented(&events, &stage.simulator.ledger(None));
    oracle::assert_sequences_without_holes(&events);
    oracle::assert_order_per_key(&events);
    let made: Vec<&Decoded> =
        events.iter().filter(|event| event.value["origin"] == "RECONCILIATION").collect();
    let found: BTreeMap<&str, &str> =
        made.iter().map(|event| (event.key.as_str(), event.text("event_type"))).collect();
    assert_eq!(found, types.iter().copied().collect());
    let next = live_queue(stage);
    for event in made {
        assert_eq!(event.text("idempotency_key"), format!("r/{gap_id}/{}", event.key));
        assert_eq!((event.text("queue_id"), &event.value["queue_generation"]), (&*next, &json!(2)));
    }
}

async fn a_killed_queue(name: &str, dead_status: u16) {
    let stage = stage(name, Options { dead_status, ..Options::default() }, &[]).await;
    let bridge = stage.bridge().await;
    bridge.put(USER).await;
    let before = with_two_connections(&stage).await;
    let dead = live_queue(&stage);
    // b is gone at the source and c is new; nothing tells of it but the listing, which fails at first
    stage.simulator.put_user(USER, &[plan("a"), plan("c")]).unwrap();
    stage.simulator.inflict(Order::always(AWAY).on(RequestKind::Connections)).unwrap();
    stage.simulator.inflict(Order::next(1, AWAY).on(RequestKind::Subscribe)).unwrap();
    assert!(stage.simulator.kill_queue(&dead));
    assert_eq!(stage.simulator.push_events(USER, Some("a"), 3).unwrap(), 0);
    oracle::eventually("a new queue", || {
        let stats = stage.simulator.stats();
        assert!(stats.subscribes == 2 || stats.listings == 0, "listed before there was a queue");
        stats.subscribes == 2
    })
    .await;

    // the gap is told at once, and the new queue is drained while the listing fails
    let open = stage.until("linxo.gaps", |gaps| gaps.len() >= 3).await;
    assert!(open.iter().all(|gap| gap.value["reconciled"] == false), "{open:#?}");
    let told = open.iter().find(|gap| gap.key == "a").unwrap();
    assert_eq!(told.value["after_sequence"], 3);
    let last = before.iter().map(|event| event.text("event_id").parse::<u32>().unwrap()).max();
    assert_eq!(told.text("last_event_id"), last.unwrap().to_string());
    stage.simulator.push_events(USER, Some("a"), 2).unwrap();
    let events = stage.drained().await;
    assert!(events.iter().all(|event| event.value["origin"] == "QUEUE"), "{events:#?}");

    stage.simulator.heal();
    let gaps = closed(&stage).await;
    let gap_id = assert_one_gap(&stage, &gaps, "QUEUE_GONE", &dead).await;
    let types = [("a", "CONNECTION_STATE"), ("b", "CONNECTION_ABSENT"), ("c", "CONNECTION_STATE")];
    assert_reconciled(&stage, &gap_id, &types).await;
    let deaths = bridge.metric("linxo_bridge_queue_deaths_total{cause=\"QUEUE_GONE\"}").await;
    assert_eq!(deaths, 1.0);
    assert!(bridge.stop().await.success());
}

#[tokio::test]
async fn a_queue_that_is_gone_is_replaced_first_then_the_gap_told_and_the_present_listed() {
    tokio::join!(a_killed_queue("gone404", 404), a_killed_queue("gone410", 410));
}

#[tokio::test]
async fn a_bridge_that_was_down_for_longer_than_a_queue_lives_tells_that_it_expired() {
    let options = Options { queue_lifetime: Duration::from_secs(6), ..Options::default() };
    let hurry = [
        ("linxo.queue_lifetime", "\"6s\""),
        ("linxo.request_timeout", "\"2s\""),
        ("polling.keep_alive", "\"1s\""),
        ("kafka.session_timeout", "\"2s\""),
    ];
    let stage = stage("expired", options, &hurry).await;
    let bridge = stage.bridge().await;
    bridge.put(USER).await;
    with_two_connections(&stage).await;
    let dead = live_queue(&stage);
    assert!(bridge.stop().await.success());
    stage.simulator.push_events(USER, Some("b"), 2).unwrap();
    oracle::eventually("the queue dies", || stage.simulator.stats().deaths == 1).await;
    stage.simulator.push_events(USER, Some("a"), 2).unwrap();

    let bridge = stage.bridge().await;
    let gaps = closed(&stage).await;
    let gap_id = assert_one_gap(&stage, &gaps, "QUEUE_EXPIRED", &dead).await;
    let types = [("a", "CONNECTION_STATE"), ("b", "CONNECTION_STATE")];
    assert_reconciled(&stage, &gap_id, &types).await;
    assert!(bridge.stop().await.success());
}

async fn put_token(bridge: &Bridge, stage: &Stage) {
    let token = stage.simulator.issue_token(USER, None).unwrap();
    let body = json!({"credential": {"type": "access_token", "access_token": token}});
    let (status, answer) = bridge.call("PUT", &path_of(USER), Some(body)).await;
    assert!(status == 200 || status == 201, "{status} {answer}");
}

#[tokio::test]
async fn a_queue_that_dies_while_its_user_is_blocked_tells_that_the_credential_was_refused() {
    let stage = stage("refused", Options::default(), &[]).await;
    let bridge = stage.bridge().await;
    put_token(&bridge, &stage).await;
    with_two_connections(&stage).await;
    let dead = live_queue(&stage);
    stage.simulator.revoke(&Revocation::User(USER.to_owned()));
    bridge.show_until(USER, |view| view["state"] == "blocked").await;
    stage.simulator.push_events(USER, Some("a"), 1).unwrap();
    assert!(stage.simulator.kill_queue(&dead));
    stage.simulator.push_events(USER, Some("b"), 1).unwrap();

    put_token(&bridge, &stage).await;
    let gaps = closed(&stage).await;
    let gap_id = assert_one_gap(&stage, &gaps, "CREDENTIAL_REFUSED", &dead).await;
    let types = [("a", "CONNECTION_STATE"), ("b", "CONNECTION_STATE")];
    assert_reconciled(&stage, &gap_id, &types).await;
    bridge.show_until(USER, |view| view["state"] == "live").await;
    assert!(bridge.stop().await.success());
}

/// The user is removed from both topics and never subscribed again.
async fn assert_removed(stage: &Stage, bridge: &Bridge, subscribes: u32) {
    let (status, answer) = bridge.call("DELETE", &path_of(USER), None).await;
    assert_eq!(status, 204, "{answer}");
    stage.simulator.heal();
    assert_eq!(last_of(stage, "linxo.subscriptions").await, Value::Null);
    assert_eq!(last_of(stage, "linxo.queues").await, Value::Null);
    assert_eq!(bridge.get(&path_of(USER)).await.0, 404);
    // somebody else is asked many times before we look again
    let enough = stage.simulator.stats().polls + 40;
    bridge.put("somebody-else").await;
    oracle::eventually("others are asked", || stage.simulator.stats().polls >= enough).await;
    assert_eq!(stage.simulator.ledger(Some(USER)).users[0].subscribes, subscribes);
    assert_eq!(last_of(stage, "linxo.subscriptions").await, Value::Null);
    assert_eq!(last_of(stage, "linxo.queues").await, Value::Null);
}

async fn removed_while_the_present_is_listed() {
    let stage = stage("removed", Options::default(), &[]).await;
    let bridge = stage.bridge().await;
    bridge.put(USER).await;
    with_two_connections(&stage).await;
    let slow = Fault::Slow { over_ms: 1_500 };
    stage.simulator.inflict(Order::always(slow).on(RequestKind::Connections)).unwrap();
    assert_eq!(stage.simulator.kill_queues_of(USER), 1);
    oracle::eventually("listing is under way", || stage.simulator.stats().listings == 1).await;
    assert_removed(&stage, &bridge, 2).await;
    assert!(bridge.stop().await.success());
}

async fn removed_while_no_new_queue_can_be_made() {
    let stage = stage("unmade", Options::default(), &[]).await;
    let bridge = stage.bridge().await;
    bridge.put(USER).await;
    with_two_connections(&stage).await;
    stage.simulator.inflict(Order::always(AWAY).on(RequestKind::Subscribe)).unwrap();
    assert_eq!(stage.simulator.kill_queues_of(USER), 1);
    oracle::eventually("it was tried", || !stage.simulator.stats().faults.is_empty()).await;
    assert_removed(&stage, &bridge, 1).await;
    assert!(bridge.stop().await.success());
}

#[tokio::test]
async fn a_removal_in_the_middle_of_a_recovery_leaves_nothing_of_the_user() {
    tokio::join!(removed_while_the_present_is_listed(), removed_while_no_new_queue_can_be_made());
}

#[tokio::test]
async fn a_recovery_that_a_kill_interrupted_is_finished_under_the_same_gap() {
    let stage = stage("interrupted", Options::default(), &[]).await;
    let bridge = stage.bridge().await;
    bridge.put(USER).await;
    with_two_connections(&stage).await;
    let dead = live_queue(&stage);
    stage.simulator.inflict(Order::always(AWAY).on(RequestKind::Connections)).unwrap();
    assert!(stage.simulator.kill_queue(&dead));
    stage.simulator.push_events(USER, Some("a"), 1).unwrap();
    let open = stage.until("linxo.gaps", |gaps| gaps.len() >= 3).await;
    oracle::eventually("listing was tried", || stage.simulator.stats().listings > 0).await;
    bridge.kill().await;
    stage.simulator.heal();

    let bridge = stage.bridge().await;
    let gaps = closed(&stage).await;
    let gap_id = assert_one_gap(&stage, &gaps, "QUEUE_GONE", &dead).await;
    assert_eq!(gap_id, open[0].text("gap_id"));
    let types = [("a", "CONNECTION_STATE"), ("b", "CONNECTION_STATE")];
    assert_reconciled(&stage, &gap_id, &types).await;
    assert!(bridge.stop().await.success());
}

async fn adopt(bridge: &Bridge, queue: &str) -> u16 {
    let body = json!({"credential": {"type": "client"}, "queue_id": queue});
    let (status, answer) = bridge.call("PUT", &path_of(USER), Some(body)).await;
    assert_eq!(answer["queue_id"], queue, "{status} {answer}");
    status
}

#[tokio::test]
async fn queues_made_elsewhere_are_adopted_by_a_new_user_and_by_one_who_has_a_queue() {
    // so rarely asked that events wait in the old queue when the next one is adopted
    let stage = stage("adopted", Options::default(), &[("polling.active", "\"2s\"")]).await;
    let bridge = stage.bridge().await;
    let first = stage.simulator.open_queue(USER).unwrap();
    stage.simulator.push_events(USER, None, 2).unwrap();
    assert_eq!(adopt(&bridge, &first).await, 201);
    stage.drained().await;

    stage.simulator.push_events(USER, None, 3).unwrap();
    let second = stage.simulator.open_queue(USER).unwrap();
    assert_eq!(adopt(&bridge, &second).await, 200);
    let questions = |queue: &str| {
        let ledger = stage.simulator.ledger(Some(USER));
        ledger.queues.iter().find(|entry| *entry.queue == *queue).unwrap().questions
    };
    let asked_to_the_end = questions(&first);
    // both queues get these; the old one is forgotten
    stage.simulator.push_events(USER, None, 4).unwrap();
    let events = stage.until("linxo.events", |events| events.len() >= 9).await;

    let generations = |queue: &str| -> Vec<&Value> {
        let of_queue = events.iter().filter(|event| event.text("queue_id") == queue);
        of_queue.map(|event| &event.value["queue_generation"]).collect()
    };
    assert_eq!(
        (generations(&first), generations(&second)),
        (vec![&json!(1); 5], vec![&json!(2); 4])
    );
    oracle::assert_nothing_twice_or_invented(&events, &stage.simulator.ledger(None));
    oracle::assert_sequences_without_holes(&events);
    oracle::assert_order_per_key(&events);
    assert_eq!(questions(&first), asked_to_the_end);
    let view = bridge.show(USER).await;
    assert_eq!((&view["generation"], &view["queue_id"]), (&json!(2), &json!(second)));
    assert_eq!(last_of(&stage, "linxo.queues").await["generation"], 2);
    assert_eq!(stage.simulator.stats().subscribes, 0);
    assert_eq!(stage.read("linxo.gaps").await.len(), 0);
    assert!(bridge.stop().await.success());
}
