//! Error heads of the source, and answers in other shapes: whoever is concerned waits or is blocked,
//! everybody else goes on being served, and nothing is lost. Broken bodies are in
//! `broken_answers.rs`.

#![expect(clippy::unwrap_used, reason = "a test fails by panic")]

mod support;

use std::time::Duration;

use linxo_kafka_bridge::simulator::{
    Fault, LocationForm, Options, Order, RequestKind, Revocation, Sync, Version,
};
use serde_json::{Value, json};
use support::account::of_user;
use support::{Bridge, PATIENCE, Stage, path_of};
use tokio::time::Instant;

/// A stage whose queues are asked every 2 s at least, and ten times a second for long when hinted.
async fn stage(name: &str) -> Stage {
    let settings = [("polling.keep_alive", "\"2s\""), ("polling.active_for", "\"60s\"")];
    Stage::with(name, Options::default(), &settings).await
}

async fn hint(bridge: &Bridge, user: &str) {
    assert_eq!(bridge.call("POST", &format!("{}/hint", path_of(user)), None).await.0, 202);
}

async fn put_token(bridge: &Bridge, user: &str, token: &str) -> (u16, Value) {
    let credential = json!({"type": "access_token", "access_token": token});
    bridge.call("PUT", &path_of(user), Some(json!({"credential": credential}))).await
}

/// Waits until `wish` comes true.
async fn until(what: &str, mut wish: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !wish().await {
        assert!(Instant::now() < deadline, "in vain: {what}");
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
}

/// How often a user's queues were asked.
fn questions(stage: &Stage, user: &str) -> u32 {
    stage.simulator.ledger(Some(user)).queues.iter().map(|queue| queue.questions).sum()
}

fn sync(stage: &Stage, user: &str) -> usize {
    stage.simulator.start_sync(user, &Sync::default()).unwrap()
}

#[tokio::test]
async fn a_user_whose_token_is_revoked_is_blocked_alone_and_freed_at_once_by_a_new_one() {
    let mut stage = stage("revoked").await;
    stage.set("credentials.retry", "\"2s\"");
    let bridge = stage.bridge().await;
    let token = stage.simulator.issue_token("refused", None).unwrap();
    assert_eq!(put_token(&bridge, "refused", &token).await.0, 201);
    bridge.put("served").await;
    sync(&stage, "refused");
    stage.drained().await;

    assert_eq!(stage.simulator.revoke(&Revocation::User("refused".into())), 1);
    let view = bridge.show_until("refused", |view| view["state"] == "blocked").await;
    assert!(view["blocked_reason"].as_str().unwrap().contains("401"), "{view}");
    assert_eq!(view["last_answer"]["outcome"], "unauthorized");
    until("users_blocked is 1", async || bridge.metric("linxo_bridge_users_blocked").await == 1.0)
        .await;
    let made = sync(&stage, "refused");

    // while the other is asked ten times a second, the blocked one is tried at its own slow pace
    let (refused, served) = (questions(&stage, "refused"), questions(&stage, "served"));
    sync(&stage, "served");
    stage.until("linxo.events", |events| of_user(events, "served").len() == 10).await;
    hint(&bridge, "served").await;
    until("the other is asked 30 times", async || questions(&stage, "served") > served + 30).await;
    let tried = questions(&stage, "refused") - refused;
    assert!((1..=6).contains(&tried), "{tried} questions in some 3 s, one every 2 s was due");

    let token = stage.simulator.issue_token("refused", None).unwrap();
    assert_eq!(put_token(&bridge, "refused", &token).await.0, 200);
    let view =
        bridge.show_until("refused", |view| view["last_answer"]["outcome"] == "events").await;
    assert_eq!((&view["state"], &view["blocked_reason"]), (&json!("live"), &Value::Null));
    let events = stage.all_published_once().await;
    assert_eq!(of_user(&events, "refused").len(), 10 + made);
    assert_eq!(stage.read("linxo.gaps").await.len(), 0);
    until("nobody is blocked", async || bridge.metric("linxo_bridge_users_blocked").await == 0.0)
        .await;
    stage.assert_secret(&bridge, &[&token]).await;
}

#[tokio::test]
async fn a_blocked_user_is_freed_when_the_source_has_come_to_other_thoughts() {
    let stage = stage("forbidden").await;
    let bridge = stage.bridge().await;
    bridge.put("user").await;
    let forbidden = Order::always(Fault::Forbidden).of("user").on(RequestKind::Ask);
    stage.simulator.inflict(forbidden).unwrap();
    sync(&stage, "user");
    let view = bridge.show_until("user", |view| view["state"] == "blocked").await;
    assert!(view["blocked_reason"].as_str().unwrap().contains("403"), "{view}");
    stage.simulator.heal();
    bridge.show_until("user", |view| view["state"] == "live").await;
    stage.all_published_once().await;

    // may not list, but may ask: the queue is kept alive and drained while the gap stays open
    let unlisted = Order::always(Fault::Forbidden).of("user").on(RequestKind::Connections);
    stage.simulator.inflict(unlisted).unwrap();
    stage.simulator.kill_queues_of("user");
    stage.until("linxo.gaps", |gaps| gaps.len() == 2).await;
    sync(&stage, "user");
    let before = questions(&stage, "user");
    stage.all_published_once().await;
    hint(&bridge, "user").await;
    until("asked on", async || questions(&stage, "user") > before + 20).await;
    let view = bridge.show("user").await;
    assert_eq!(view["state"], "recovering");
    stage.simulator.heal();
    bridge.show_until("user", |view| view["state"] == "live").await;
    let gaps = stage.until("linxo.gaps", |gaps| gaps.len() == 4).await;
    assert_eq!(gaps.iter().filter(|gap| gap.value["reconciled"] == true).count(), 2);
}

#[tokio::test]
async fn a_queue_that_died_while_its_user_was_blocked_is_replaced_with_a_gap_that_says_so() {
    let mut stage = stage("died-blocked").await;
    stage.set("credentials.retry", "\"500ms\"");
    let bridge = stage.bridge().await;
    bridge.put("user").await;
    sync(&stage, "user");
    stage.drained().await;
    // no question, no subscribe: the recovery meets the refusal too
    stage.simulator.inflict(Order::always(Fault::Unauthorized).of("user")).unwrap();
    bridge.show_until("user", |view| view["state"] == "blocked").await;
    sync(&stage, "user");
    assert_eq!(stage.simulator.kill_queues_of("user"), 1);
    stage.simulator.heal();
    let gaps = stage.until("linxo.gaps", |gaps| gaps.len() == 4).await;
    for gap in &gaps {
        assert_eq!((gap.text("cause"), gap.text("certainty")), ("CREDENTIAL_REFUSED", "CERTAIN"));
    }
    assert_eq!(gaps.iter().filter(|gap| gap.value["reconciled"] == true).count(), 2);
    bridge.show_until("user", |view| view["state"] == "live").await;
    sync(&stage, "user");
    stage.all_published_once().await;
    let deaths = "linxo_bridge_queue_deaths_total{cause=\"CREDENTIAL_REFUSED\"}";
    assert_eq!(bridge.metric(deaths).await, 1.0);
}

#[tokio::test]
async fn the_bridges_own_token_is_renewed_once_for_everybody_and_nobody_is_blocked() {
    let stage = stage("client-token").await;
    let bridge = stage.bridge().await;
    let users: Vec<String> = (0..10).map(|user| format!("user-{user}")).collect();
    for user in &users {
        bridge.put(user).await;
        sync(&stage, user);
    }
    stage.drained().await;
    assert_eq!(stage.simulator.stats().token_requests, 1);

    assert_eq!(stage.simulator.revoke(&Revocation::Clients), 1);
    let asked: Vec<u32> = users.iter().map(|user| questions(&stage, user)).collect();
    for user in &users {
        sync(&stage, user);
    }
    for (user, asked) in users.iter().zip(asked) {
        hint(&bridge, user).await;
        until("everybody is asked on", async || questions(&stage, user) > asked + 10).await;
        assert_eq!(bridge.show(user).await["state"], "live");
    }
    assert_eq!(stage.simulator.stats().token_requests, 2);
    assert_eq!(bridge.metric("linxo_bridge_token_requests_total{outcome=\"ok\"}").await, 2.0);
    stage.all_published_once().await;
    assert!(!bridge.log().contains("blocked"), "{}", bridge.log());
    assert_eq!(stage.read("linxo.gaps").await.len(), 0);
}

#[tokio::test]
async fn a_token_endpoint_that_fails_or_refuses_costs_nothing_but_time() {
    let stage = stage("token-endpoint").await;
    let bridge = stage.bridge().await;
    bridge.put("client").await;
    let token = stage.simulator.issue_token("own", None).unwrap();
    put_token(&bridge, "own", &token).await;

    let broken = Order::always(Fault::ServerError { status: 503 }).on(RequestKind::Token);
    stage.simulator.inflict(broken).unwrap();
    stage.simulator.revoke(&Revocation::Clients);
    bridge.show_until("client", |view| view["last_answer"]["outcome"] == "server_error").await;
    assert_eq!(bridge.show("client").await["blocked_reason"], Value::Null);
    sync(&stage, "client");
    sync(&stage, "own");
    // whoever has a token of their own is served meanwhile
    stage.until("linxo.events", |events| of_user(events, "own").len() == 10).await;
    let (status, problem) =
        bridge.call("PUT", &path_of("new"), Some(json!({"credential": {"type": "client"}}))).await;
    assert_eq!(
        (status, problem["type"].as_str()),
        (503, Some("urn:linxo-bridge:problem:source-away"))
    );

    stage.simulator.heal();
    let refused = Order::always(Fault::Unauthorized).on(RequestKind::Token);
    stage.simulator.inflict(refused).unwrap();
    bridge.show_until("client", |view| view["state"] == "blocked").await;
    let (status, problem) =
        bridge.call("PUT", &path_of("new"), Some(json!({"credential": {"type": "client"}}))).await;
    assert_eq!(status, 422, "{problem}");
    assert_eq!(bridge.show("own").await["state"], "live");

    stage.simulator.heal();
    bridge.show_until("client", |view| view["state"] == "live").await;
    stage.all_published_once().await;
    assert_eq!(stage.read("linxo.gaps").await.len(), 0);
    assert!(bridge.metric("linxo_bridge_token_requests_total{outcome=\"error\"}").await >= 1.0);
    assert!(bridge.metric("linxo_bridge_token_requests_total{outcome=\"refused\"}").await >= 1.0);
}

#[tokio::test]
async fn a_throttled_queue_waits_as_long_as_it_is_told_and_lives_on() {
    let stage = stage("throttled").await;
    let bridge = stage.bridge().await;
    for user in ["told", "untold", "served"] {
        bridge.put(user).await;
    }
    let throttle = |retry_after, times, user: &str| {
        let order = Order::next(times, Fault::Throttle { retry_after });
        stage.simulator.inflict(order.of(user).on(RequestKind::Ask)).unwrap();
    };
    throttle(Some(3), 1, "told");
    throttle(None, 2, "untold");
    let outcome = |view: &Value| view["last_answer"]["outcome"] == "throttled";
    bridge.show_until("told", outcome).await;
    let (since, told, served) =
        (Instant::now(), questions(&stage, "told"), questions(&stage, "served"));
    for user in ["told", "untold", "served"] {
        sync(&stage, user);
    }
    until("the others are served", async || {
        let events = stage.read("linxo.events").await;
        of_user(&events, "served").len() == 10 && of_user(&events, "untold").len() == 10
    })
    .await;
    hint(&bridge, "served").await;
    until("asked again", async || questions(&stage, "told") > told).await;
    let waited = since.elapsed();
    assert!(waited > Duration::from_millis(2_500), "asked again after {waited:?}, not 3 s");
    assert!(questions(&stage, "served") > served + 10);
    stage.all_published_once().await;
    assert_eq!(bridge.metric("linxo_bridge_polls_total{outcome=\"throttled\"}").await, 3.0);
    assert_eq!(stage.read("linxo.gaps").await.len(), 0);
    assert!(stage.simulator.ledger(None).users.iter().all(|user| user.subscribes == 1));
}

#[tokio::test]
async fn a_retry_after_longer_than_a_queue_lives_does_not_let_it_die() {
    let options = Options { queue_lifetime: Duration::from_secs(8), ..Options::default() };
    let settings = [
        ("linxo.queue_lifetime", "\"8s\""),
        ("linxo.request_timeout", "\"1s\""),
        ("polling.keep_alive", "\"2s\""),
        ("kafka.session_timeout", "\"3s\""),
    ];
    let stage = Stage::with("long-throttle", options, &settings).await;
    let bridge = stage.bridge().await;
    bridge.put("user").await;
    let order = Order::next(3, Fault::Throttle { retry_after: Some(600) });
    stage.simulator.inflict(order.of("user").on(RequestKind::Ask)).unwrap();
    sync(&stage, "user");
    stage.all_published_once().await;
    assert_eq!(stage.simulator.stats().deaths, 0);
    assert_eq!(bridge.metric("linxo_bridge_polls_total{outcome=\"throttled\"}").await, 3.0);
}

#[tokio::test]
async fn a_storm_of_server_errors_over_all_users_costs_no_event_and_no_queue() {
    let options = Options { queue_lifetime: Duration::from_secs(10), ..Options::default() };
    let settings = [
        ("linxo.queue_lifetime", "\"10s\""),
        ("linxo.request_timeout", "\"2s\""),
        ("polling.keep_alive", "\"2s\""),
        ("kafka.session_timeout", "\"3s\""),
    ];
    let stage = Stage::with("storm", options, &settings).await;
    let bridge = stage.bridge().await;
    let users: Vec<String> = (0..40).map(|user| format!("user-{user}")).collect();
    for user in &users {
        bridge.put(user).await;
    }
    for status in [500, 502, 503, 504] {
        stage.simulator.inflict(Order::share(0.5, Fault::ServerError { status })).unwrap();
    }
    for user in &users {
        sync(&stage, user);
    }
    let errors = "linxo_bridge_polls_total{outcome=\"server_error\"}";
    until("150 errors", async || bridge.metric(errors).await >= 150.0).await;
    assert_eq!(bridge.get("/readyz").await.0, 200);
    stage.simulator.heal();
    let events = stage.all_published_once().await;
    assert_eq!(events.len(), 400);
    assert_eq!(stage.simulator.stats().deaths, 0);
    assert_eq!(stage.read("linxo.gaps").await.len(), 0);
    assert_eq!(stage.read("linxo.dead-letters").await.len(), 0);
}

#[tokio::test]
async fn a_location_is_understood_in_every_form_and_its_absence_is_told_clearly() {
    let stage = stage("location").await;
    let bridge = stage.bridge().await;
    for (user, form) in [
        ("relative", LocationForm::Relative),
        ("prefixed", LocationForm::Prefixed),
        ("absolute", LocationForm::Absolute),
    ] {
        let order = Order::next(1, Fault::Location { form }).of(user);
        stage.simulator.inflict(order).unwrap();
        let answer = bridge.put(user).await;
        assert_eq!(stage.simulator.live_queues(user), [answer["queue_id"].as_str().unwrap()]);
        sync(&stage, user);
    }
    let missing = || Order::next(2, Fault::Location { form: LocationForm::Missing });
    stage.simulator.inflict(missing().of("missing")).unwrap();
    let body = json!({"credential": {"type": "client"}});
    let (status, problem) = bridge.call("PUT", &path_of("missing"), Some(body)).await;
    assert_eq!(
        (status, problem["type"].as_str()),
        (502, Some("urn:linxo-bridge:problem:source-unusable"))
    );
    assert!(problem["detail"].as_str().unwrap().contains("without a location"), "{problem}");
    assert_eq!(bridge.get(&path_of("missing")).await.0, 404);

    // a recovery tries again until it gets one
    stage.simulator.inflict(missing().of("relative")).unwrap();
    stage.drained().await;
    let dead = stage.simulator.live_queues("relative");
    stage.simulator.kill_queues_of("relative");
    let gaps = stage.until("linxo.gaps", |gaps| gaps.len() == 4).await;
    assert!(gaps.iter().all(|gap| gap.text("queue_id") == dead[0]));
    assert!(bridge.log().contains("without a location that names a queue"), "{}", bridge.log());
    // what was made without being named lives on unknown to us; of it no event can be asked for
    let view = bridge.show_until("relative", |view| view["state"] == "live").await;
    for queue in stage.simulator.live_queues("relative") {
        assert!(view["queue_id"] == queue.as_str() || stage.simulator.kill_queue(&queue));
    }
    sync(&stage, "relative");
    stage.all_published_once().await;
}

#[tokio::test]
async fn the_shapes_of_version_3_are_understood() {
    let options = Options { version: Version::V3, ..Options::default() };
    let stage = Stage::with("v3", options, &[("polling.keep_alive", "\"2s\"")]).await;
    let bridge = stage.bridge().await;
    bridge.put("user").await;
    sync(&stage, "user");
    let events = stage.all_published_once().await;
    let ledger = stage.simulator.ledger(None);
    for event in &events {
        let id = event.text("event_id");
        let made = ledger.events.iter().find(|made| made.event_id.as_deref() == Some(id)).unwrap();
        // the source's dates are whole seconds
        let created_at = event.value["created_at"].as_u64().unwrap();
        assert_eq!(created_at / 1000, made.made_at / 1000);
        assert!(event.value["connection"]["created_at"].as_u64().unwrap() > 1_600_000_000_000);
    }
    let connection = events[0].text("connection_id").to_owned();
    stage.simulator.kill_queues_of("user");
    let events = stage.until("linxo.events", |events| events.len() == 11).await;
    assert_eq!(events[10].text("event_type"), "CONNECTION_STATE");
    assert_eq!(events[10].text("connection_id"), connection);
    stage.until("linxo.gaps", |gaps| gaps.len() == 4).await;
    stage.assert_secret(&bridge, &[]).await;
}

#[tokio::test]
async fn an_empty_list_is_no_204_and_no_loss() {
    let stage = stage("empty-list").await;
    let bridge = stage.bridge().await;
    bridge.put("user").await;
    stage
        .simulator
        .inflict(Order::next(5, Fault::EmptyList).of("user").on(RequestKind::Ask))
        .unwrap();
    sync(&stage, "user");
    stage.all_published_once().await;
    assert_eq!(bridge.metric("linxo_bridge_polls_total{outcome=\"empty_list\"}").await, 5.0);
    assert_eq!(stage.read("linxo.gaps").await.len(), 0);
    assert_eq!(stage.read("linxo.dead-letters").await.len(), 0);
}
