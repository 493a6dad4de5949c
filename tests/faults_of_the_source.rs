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
use support::{Bridge, Decoded, PATIENCE, Stage, path_of};
use tokio::time::Instant;

/// A stage whose queues are asked every 2 s at least, and ten times a second for long when hinted.
async fn stage(name: &str) -> Stage {
    let settings = [("polling.keep_alive", "\"2s\""), ("polling.active_for", "\"60s\"")];
    Stage::with(name, Options::default(), &settings).await
}

/// The records of `linxo.gaps` about a user, once there are so many.
async fn gaps_of(stage: &Stage, user: &str, count: usize) -> Vec<Decoded> {
    let mut gaps = stage.until("linxo.gaps", |gaps| of_user(gaps, user).len() >= count).await;
    gaps.retain(|gap| gap.value["user_id"] == user);
    assert_eq!(gaps.len(), count, "{gaps:#?}");
    gaps
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
async fn whoever_meets_a_fault_waits_or_is_blocked_while_all_others_are_served() {
    let mut stage = stage("alone").await;
    stage.set("credentials.retry", "\"4s\"");
    let bridge = stage.bridge().await;
    tokio::join!(
        a_user_whose_token_is_revoked_is_blocked_alone_and_freed_at_once_by_a_new_one(
            &stage, &bridge
        ),
        a_throttled_queue_waits_as_long_as_it_is_told_and_lives_on(&stage, &bridge),
        a_location_is_understood_in_every_form_and_its_absence_is_told_clearly(&stage, &bridge),
        an_empty_list_is_no_204_and_no_loss(&stage, &bridge),
    );
    stage.all_published_once().await;
    // the one queue that was killed, and nothing else
    gaps_of(&stage, "relative", 4).await;
    assert_eq!(stage.read("linxo.gaps").await.len(), 4);
    assert_eq!(stage.read("linxo.dead-letters").await.len(), 0);
    stage.assert_secret(&bridge, &[]).await;
}

async fn a_user_whose_token_is_revoked_is_blocked_alone_and_freed_at_once_by_a_new_one(
    stage: &Stage,
    bridge: &Bridge,
) {
    let token = stage.simulator.issue_token("refused", None).unwrap();
    assert_eq!(put_token(bridge, "refused", &token).await.0, 201);
    bridge.put("other").await;
    sync(stage, "refused");
    stage.until("linxo.events", |events| of_user(events, "refused").len() == 10).await;

    assert_eq!(stage.simulator.revoke(&Revocation::User("refused".into())), 1);
    let view = bridge.show_until("refused", |view| view["state"] == "blocked").await;
    assert!(view["blocked_reason"].as_str().unwrap().contains("401"), "{view}");
    assert_eq!(view["last_answer"]["outcome"], "unauthorized");
    until("users_blocked is 1", async || bridge.metric("linxo_bridge_users_blocked").await == 1.0)
        .await;
    let made = sync(stage, "refused");

    // while the other is asked ten times a second, the blocked one is tried at its own slow pace
    let (refused, served) = (questions(stage, "refused"), questions(stage, "other"));
    sync(stage, "other");
    stage.until("linxo.events", |events| of_user(events, "other").len() == 10).await;
    hint(bridge, "other").await;
    until("the other is asked 30 times", async || questions(stage, "other") > served + 30).await;
    let tried = questions(stage, "refused") - refused;
    assert!(tried <= 3, "{tried} questions in some 3 s, one every 4 s was due");

    // just tried: the next try is 4 s away, the new token is tried at once
    let tried = questions(stage, "refused");
    until("tried once more", async || questions(stage, "refused") > tried).await;
    let token = stage.simulator.issue_token("refused", None).unwrap();
    let since = Instant::now();
    assert_eq!(put_token(bridge, "refused", &token).await.0, 200);
    let view = bridge.show_until("refused", |view| view["state"] == "live").await;
    assert!(since.elapsed() < Duration::from_secs(3), "freed after {:?}", since.elapsed());
    assert_eq!(view["blocked_reason"], Value::Null);
    let events = 10 + made;
    stage.until("linxo.events", |found| of_user(found, "refused").len() == events).await;
    until("nobody is blocked", async || bridge.metric("linxo_bridge_users_blocked").await == 0.0)
        .await;
    stage.assert_secret(bridge, &[&token]).await;
}

async fn a_throttled_queue_waits_as_long_as_it_is_told_and_lives_on(
    stage: &Stage,
    bridge: &Bridge,
) {
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
        (Instant::now(), questions(stage, "told"), questions(stage, "served"));
    for user in ["told", "untold", "served"] {
        sync(stage, user);
    }
    until("the others are served", async || {
        let events = stage.read("linxo.events").await;
        of_user(&events, "served").len() == 10 && of_user(&events, "untold").len() == 10
    })
    .await;
    hint(bridge, "served").await;
    until("asked again", async || questions(stage, "told") > told).await;
    let waited = since.elapsed();
    assert!(waited > Duration::from_millis(2_500), "asked again after {waited:?}, not 3 s");
    assert!(questions(stage, "served") > served + 10);
    assert_eq!(bridge.metric("linxo_bridge_polls_total{outcome=\"throttled\"}").await, 3.0);
    stage.until("linxo.events", |events| of_user(events, "told").len() == 10).await;
    for user in ["told", "untold", "served"] {
        assert_eq!(stage.simulator.ledger(Some(user)).users[0].subscribes, 1);
    }
}

async fn a_location_is_understood_in_every_form_and_its_absence_is_told_clearly(
    stage: &Stage,
    bridge: &Bridge,
) {
    for (user, form) in [
        ("relative", LocationForm::Relative),
        ("prefixed", LocationForm::Prefixed),
        ("absolute", LocationForm::Absolute),
    ] {
        let order = Order::next(1, Fault::Location { form }).of(user);
        stage.simulator.inflict(order).unwrap();
        let answer = bridge.put(user).await;
        assert_eq!(stage.simulator.live_queues(user), [answer["queue_id"].as_str().unwrap()]);
        sync(stage, user);
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
    stage.until("linxo.events", |events| of_user(events, "relative").len() == 10).await;
    let dead = stage.simulator.live_queues("relative");
    stage.simulator.kill_queues_of("relative");
    let gaps = gaps_of(stage, "relative", 4).await;
    assert!(gaps.iter().all(|gap| gap.text("queue_id") == dead[0]));
    assert!(bridge.log().contains("without a location that names a queue"), "{}", bridge.log());
    // what was made without being named lives on unknown to us; of it no event can be asked for
    let view = bridge.show_until("relative", |view| view["state"] == "live").await;
    for queue in stage.simulator.live_queues("relative") {
        assert!(view["queue_id"] == queue.as_str() || stage.simulator.kill_queue(&queue));
    }
    sync(stage, "relative");
}

async fn an_empty_list_is_no_204_and_no_loss(stage: &Stage, bridge: &Bridge) {
    bridge.put("listless").await;
    stage
        .simulator
        .inflict(Order::next(5, Fault::EmptyList).of("listless").on(RequestKind::Ask))
        .unwrap();
    sync(stage, "listless");
    stage.until("linxo.events", |events| of_user(events, "listless").len() == 10).await;
    assert_eq!(bridge.metric("linxo_bridge_polls_total{outcome=\"empty_list\"}").await, 5.0);
}

#[tokio::test]
async fn refusals_pass_and_leave_nothing_behind_but_the_gaps_they_caused() {
    let mut stage = stage("refusals").await;
    stage.set("credentials.retry", "\"500ms\"");
    let bridge = stage.bridge().await;
    the_bridges_own_token_is_renewed_once_for_everybody_and_nobody_is_blocked(&stage, &bridge)
        .await;
    a_token_endpoint_that_fails_or_refuses_costs_nothing_but_time(&stage, &bridge).await;
    a_blocked_user_is_freed_when_the_source_has_come_to_other_thoughts(&stage, &bridge).await;
    a_queue_that_died_while_its_user_was_blocked_is_replaced_with_a_gap_that_says_so(
        &stage, &bridge,
    )
    .await;
    assert_eq!(stage.read("linxo.gaps").await.len(), 8);
}

async fn the_bridges_own_token_is_renewed_once_for_everybody_and_nobody_is_blocked(
    stage: &Stage,
    bridge: &Bridge,
) {
    let users: Vec<String> = (0..10).map(|user| format!("user-{user}")).collect();
    for user in &users {
        bridge.put(user).await;
        sync(stage, user);
    }
    stage.drained().await;
    assert_eq!(stage.simulator.stats().token_requests, 1);

    assert_eq!(stage.simulator.revoke(&Revocation::Clients), 1);
    let asked: Vec<u32> = users.iter().map(|user| questions(stage, user)).collect();
    for user in &users {
        sync(stage, user);
    }
    for (user, asked) in users.iter().zip(asked) {
        hint(bridge, user).await;
        until("everybody is asked on", async || questions(stage, user) > asked + 10).await;
        assert_eq!(bridge.show(user).await["state"], "live");
    }
    assert_eq!(stage.simulator.stats().token_requests, 2);
    assert_eq!(bridge.metric("linxo_bridge_token_requests_total{outcome=\"ok\"}").await, 2.0);
    stage.all_published_once().await;
    assert!(!bridge.log().contains("blocked"), "{}", bridge.log());
    assert_eq!(stage.read("linxo.gaps").await.len(), 0);
}

async fn a_token_endpoint_that_fails_or_refuses_costs_nothing_but_time(
    stage: &Stage,
    bridge: &Bridge,
) {
    bridge.put("client").await;
    let token = stage.simulator.issue_token("own", None).unwrap();
    put_token(bridge, "own", &token).await;

    let broken = Order::always(Fault::ServerError { status: 503 }).on(RequestKind::Token);
    stage.simulator.inflict(broken).unwrap();
    stage.simulator.revoke(&Revocation::Clients);
    bridge.show_until("client", |view| view["last_answer"]["outcome"] == "server_error").await;
    assert_eq!(bridge.show("client").await["blocked_reason"], Value::Null);
    sync(stage, "client");
    sync(stage, "own");
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

async fn a_blocked_user_is_freed_when_the_source_has_come_to_other_thoughts(
    stage: &Stage,
    bridge: &Bridge,
) {
    bridge.put("forbidden").await;
    let forbidden = Order::always(Fault::Forbidden).of("forbidden").on(RequestKind::Ask);
    stage.simulator.inflict(forbidden).unwrap();
    sync(stage, "forbidden");
    let view = bridge.show_until("forbidden", |view| view["state"] == "blocked").await;
    assert!(view["blocked_reason"].as_str().unwrap().contains("403"), "{view}");
    stage.simulator.heal();
    bridge.show_until("forbidden", |view| view["state"] == "live").await;
    stage.all_published_once().await;

    // may not list, but may ask: the queue is kept alive and drained while the gap stays open
    let unlisted = Order::always(Fault::Forbidden).of("forbidden").on(RequestKind::Connections);
    stage.simulator.inflict(unlisted).unwrap();
    stage.simulator.kill_queues_of("forbidden");
    gaps_of(stage, "forbidden", 2).await;
    sync(stage, "forbidden");
    let before = questions(stage, "forbidden");
    stage.all_published_once().await;
    hint(bridge, "forbidden").await;
    until("asked on", async || questions(stage, "forbidden") > before + 20).await;
    let view = bridge.show("forbidden").await;
    assert_eq!(view["state"], "recovering");
    stage.simulator.heal();
    bridge.show_until("forbidden", |view| view["state"] == "live").await;
    let gaps = gaps_of(stage, "forbidden", 4).await;
    assert_eq!(gaps.iter().filter(|gap| gap.value["reconciled"] == true).count(), 2);
}

async fn a_queue_that_died_while_its_user_was_blocked_is_replaced_with_a_gap_that_says_so(
    stage: &Stage,
    bridge: &Bridge,
) {
    bridge.put("died").await;
    sync(stage, "died");
    stage.drained().await;
    // no question, no subscribe: the recovery meets the refusal too
    stage.simulator.inflict(Order::always(Fault::Unauthorized).of("died")).unwrap();
    bridge.show_until("died", |view| view["state"] == "blocked").await;
    sync(stage, "died");
    assert_eq!(stage.simulator.kill_queues_of("died"), 1);
    stage.simulator.heal();
    let gaps = gaps_of(stage, "died", 4).await;
    for gap in &gaps {
        assert_eq!((gap.text("cause"), gap.text("certainty")), ("CREDENTIAL_REFUSED", "CERTAIN"));
    }
    assert_eq!(gaps.iter().filter(|gap| gap.value["reconciled"] == true).count(), 2);
    bridge.show_until("died", |view| view["state"] == "live").await;
    sync(stage, "died");
    stage.all_published_once().await;
    let deaths = "linxo_bridge_queue_deaths_total{cause=\"CREDENTIAL_REFUSED\"}";
    assert_eq!(bridge.metric(deaths).await, 1.0);
}

#[tokio::test]
async fn no_queue_dies_of_the_sources_bad_days() {
    let options = Options { queue_lifetime: Duration::from_secs(8), ..Options::default() };
    let settings = [
        ("linxo.queue_lifetime", "\"8s\""),
        ("linxo.request_timeout", "\"1s\""),
        ("polling.keep_alive", "\"2s\""),
        ("kafka.session_timeout", "\"3s\""),
    ];
    let stage = Stage::with("bad-days", options, &settings).await;
    let bridge = stage.bridge().await;
    a_retry_after_longer_than_a_queue_lives_does_not_let_it_die(&stage, &bridge).await;
    a_storm_of_server_errors_over_all_users_costs_no_event_and_no_queue(&stage, &bridge).await;
    assert_eq!(stage.simulator.stats().deaths, 0);
    assert_eq!(stage.read("linxo.gaps").await.len(), 0);
    assert_eq!(stage.read("linxo.dead-letters").await.len(), 0);
}

async fn a_retry_after_longer_than_a_queue_lives_does_not_let_it_die(
    stage: &Stage,
    bridge: &Bridge,
) {
    bridge.put("throttled").await;
    let order = Order::next(3, Fault::Throttle { retry_after: Some(600) });
    stage.simulator.inflict(order.of("throttled").on(RequestKind::Ask)).unwrap();
    sync(stage, "throttled");
    stage.all_published_once().await;
    assert_eq!(bridge.metric("linxo_bridge_polls_total{outcome=\"throttled\"}").await, 3.0);
}

async fn a_storm_of_server_errors_over_all_users_costs_no_event_and_no_queue(
    stage: &Stage,
    bridge: &Bridge,
) {
    let users: Vec<String> = (0..40).map(|user| format!("user-{user}")).collect();
    for user in &users {
        bridge.put(user).await;
    }
    for status in [500, 502, 503, 504] {
        stage.simulator.inflict(Order::share(0.5, Fault::ServerError { status })).unwrap();
    }
    for user in &users {
        sync(stage, user);
    }
    let errors = "linxo_bridge_polls_total{outcome=\"server_error\"}";
    until("150 errors", async || bridge.metric(errors).await >= 150.0).await;
    assert_eq!(bridge.get("/readyz").await.0, 200);
    stage.simulator.heal();
    let events = stage.all_published_once().await;
    assert_eq!(events.len(), 10 + 400);
}

/// Requests a second that are configured, and that the source takes for a while.
const ALLOWED: f64 = 200.0;
const TAKEN: u32 = 40;

#[tokio::test]
async fn a_source_that_throttles_is_asked_less_until_it_takes_more_and_no_queue_dies() {
    let options = Options { queue_lifetime: Duration::from_secs(12), ..Options::default() };
    let allowed = ALLOWED.to_string();
    let settings = [
        ("linxo.queue_lifetime", "\"12s\""),
        ("linxo.max_requests_per_second", allowed.as_str()),
        ("polling.keep_alive", "\"3s\""),
        ("polling.active_for", "\"60s\""),
        ("kafka.session_timeout", "\"3s\""),
    ];
    let stage = Stage::with("throttled", options, &settings).await;
    let bridge = stage.bridge().await;
    // quiet ones need 13 questions a second, the others would take 200
    let users: Vec<String> = (0..40).map(|user| format!("user-{user}")).collect();
    for user in &users {
        bridge.put(user).await;
        sync(&stage, user);
    }
    for user in &users[..20] {
        hint(&bridge, user).await;
    }
    let budget = async || bridge.metric("linxo_bridge_request_budget_per_second").await;
    assert_eq!(budget().await, ALLOWED);
    assert!(!bridge.log().contains("throttles"), "{}", bridge.log());

    let limit = Order::always(Fault::RateLimit { per_second: TAKEN });
    stage.simulator.inflict(limit).unwrap();
    until("the rate is lowered", async || budget().await < ALLOWED / 2.0).await;
    // a while later it is near what is taken
    let throttled = "linxo_bridge_polls_total{outcome=\"throttled\"}";
    tokio::time::sleep(Duration::from_secs(3)).await;
    let (since, asked) = (Instant::now(), stage.simulator.stats().polls);
    tokio::time::sleep(Duration::from_secs(5)).await;
    let asked = (stage.simulator.stats().polls - asked) as f64 / since.elapsed().as_secs_f64();
    assert!(asked < 2.0 * f64::from(TAKEN), "{asked} questions a second where {TAKEN} are taken");
    assert!(budget().await < ALLOWED / 2.0);
    assert!(bridge.metric(throttled).await > 0.0);

    stage.simulator.heal();
    until("the rate is as before", async || budget().await == ALLOWED).await;
    until("it is told", async || bridge.log().contains("throttles no longer")).await;
    assert_eq!(bridge.log().matches("the source throttles, fewer questions").count(), 1);
    for user in &users {
        sync(&stage, user);
    }
    stage.all_published_once().await;
    assert_eq!(stage.simulator.stats().deaths, 0);
    assert_eq!(stage.read("linxo.gaps").await.len(), 0);
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
