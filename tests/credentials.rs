//! What becomes of a user when their credential is refused, runs out, or can no longer be opened; and
//! of all others meanwhile.

#![expect(clippy::unwrap_used, reason = "a test fails by panic")]

mod support;

use std::time::Duration;

use linxo_kafka_bridge::simulator::{Fault, Options, Order, RequestKind, Revocation, Sync};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use support::account::of_user;
use support::{Bridge, PATIENCE, Stage, path_of, read_topic};
use tokio::time::Instant;

/// What [`Stage`] makes its key file of, and what comes in front of it.
const OLD_KEY: (&str, &[u8]) =
    ("MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=", b"0123456789abcdef0123456789abcdef");
const NEW_KEY: (&str, &[u8]) =
    ("ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4NzY1NDMyMTA=", b"fedcba9876543210fedcba9876543210");

async fn put(bridge: &Bridge, user: &str, credential: Value) -> (u16, Value) {
    bridge.call("PUT", &path_of(user), Some(json!({"credential": credential}))).await
}

async fn put_password(bridge: &Bridge, user: &str, password: &str) -> u16 {
    put(bridge, user, json!({"type": "password", "username": user, "password": password})).await.0
}

async fn put_token(bridge: &Bridge, user: &str, token: &str, expires_at: Option<i64>) -> u16 {
    let credential =
        json!({"type": "access_token", "access_token": token, "expires_at": expires_at});
    put(bridge, user, credential).await.0
}

async fn until(what: &str, is_so: impl AsyncFn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so().await {
        assert!(Instant::now() < deadline, "not so in time: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Has a synchronization of the user published.
async fn served(stage: &Stage, bridge: &Bridge, user: &str) {
    let before = of_user(&stage.read("linxo.events").await, user).len();
    let made = stage.simulator.start_sync(user, &Sync::default()).unwrap();
    bridge.call("POST", &format!("{}/hint", path_of(user)), None).await;
    stage.until("linxo.events", |events| of_user(events, user).len() >= before + made).await;
}

async fn is_blocked(bridge: &Bridge, user: &str) -> String {
    let view = bridge.show_until(user, |view| view["state"] == "blocked").await;
    view["blocked_reason"].as_str().unwrap().to_owned()
}

async fn is_live(bridge: &Bridge, user: &str) {
    let view = bridge.show_until(user, |view| view["state"] == "live").await;
    assert_eq!(view["blocked_reason"], Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_with_a_password_is_asked_for_over_many_lives_of_tokens() {
    let options = Options { token_lifetime: Duration::from_secs(2), ..Options::default() };
    let stage = Stage::with("lives", options, &[("polling.keep_alive", "\"3s\"")]).await;
    let bridge = stage.bridge().await;
    for user in ["ann", "bob", "cid"] {
        assert_eq!(put_password(&bridge, user, &format!("password-of-{user}")).await, 201);
        assert_eq!(bridge.show(user).await["credential"], json!({"type": "password"}));
    }
    let asked = stage.simulator.stats().token_requests;
    until("nine more tokens", async || stage.simulator.stats().token_requests >= asked + 9).await;
    for user in ["ann", "bob", "cid"] {
        served(&stage, &bridge, user).await;
    }
    stage.all_published_once().await;
    let stats = stage.simulator.stats();
    assert_eq!(stats.most_token_requests_at_once, 1);
    assert_eq!((stats.token_refusals, stats.deaths, stats.mismatched), (0, 0, 0));
    assert!(!bridge.log().contains("blocked"), "{}", bridge.log());
    stage.assert_secret(&bridge, &["password-of-ann", "password-of-bob", "password-of-cid"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_password_blocks_its_user_alone_until_the_new_one_is_put() {
    let settings = [("credentials.retry", "\"4s\"")];
    let stage = Stage::with("changed", Options::default(), &settings).await;
    let bridge = stage.bridge().await;
    assert_eq!(put_password(&bridge, "ann", "wrong").await, 422, "and nothing is made");
    assert_eq!(stage.simulator.stats().subscribes, 0);
    assert_eq!(put_password(&bridge, "ann", "password-of-ann").await, 201);
    assert_eq!(put_password(&bridge, "bob", "password-of-bob").await, 201);

    stage.simulator.set_password("ann", "the-new-one").unwrap();
    served(&stage, &bridge, "ann").await;
    stage.simulator.revoke(&Revocation::User("ann".into()));
    let refused = stage.simulator.stats().token_refusals;
    let reason = is_blocked(&bridge, "ann").await;
    let expected = "the token endpoint refuses the user's name and password (401: invalid_grant)";
    assert_eq!(reason, expected);
    assert_eq!(bridge.show("ann").await["last_answer"]["outcome"], "unauthorized");
    until("users_blocked is 1", async || bridge.metric("linxo_bridge_users_blocked").await == 1.0)
        .await;
    // a wrong password told too often may lock the user out at the source
    let since = Instant::now();
    served(&stage, &bridge, "bob").await;
    until("tried again", async || stage.simulator.stats().token_refusals > refused + 1).await;
    assert!(since.elapsed() > Duration::from_secs(2), "{:?}", since.elapsed());
    assert_eq!(bridge.show("bob").await["state"], "live");

    let since = Instant::now();
    assert_eq!(put_password(&bridge, "ann", "the-new-one").await, 200);
    is_live(&bridge, "ann").await;
    assert!(since.elapsed() < Duration::from_secs(3), "freed after {:?}", since.elapsed());
    served(&stage, &bridge, "ann").await;
    stage.all_published_once().await;
    assert_eq!(stage.read("linxo.gaps").await.len(), 0);
    stage.assert_secret(&bridge, &["password-of-ann", "the-new-one"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_endpoint_that_is_away_blocks_nobody_and_costs_nothing_but_time() {
    let stage = Stage::new("away").await;
    let bridge = stage.bridge().await;
    assert_eq!(put_password(&bridge, "ann", "password-of-ann").await, 201);
    for (fault, outcome) in [
        (Fault::ServerError { status: 503 }, "server_error"),
        (Fault::Throttle { retry_after: None }, "throttled"),
    ] {
        stage.simulator.inflict(Order::always(fault).on(RequestKind::Token)).unwrap();
        served(&stage, &bridge, "ann").await;
        assert_eq!(put_password(&bridge, "new", "password-of-new").await, 503);
        stage.simulator.revoke(&Revocation::User("ann".into()));
        let view = bridge.show_until("ann", |view| view["last_answer"]["outcome"] == outcome).await;
        assert_eq!((&view["state"], &view["blocked_reason"]), (&json!("live"), &Value::Null));
        stage.simulator.heal();
        served(&stage, &bridge, "ann").await;
    }
    assert!(bridge.metric("linxo_bridge_token_requests_total{outcome=\"error\"}").await >= 2.0);
    assert!(!bridge.log().contains("blocked"), "{}", bridge.log());
    stage.all_published_once().await;
    assert_eq!(stage.read("linxo.gaps").await.len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_access_token_that_has_run_out_blocks_its_user_and_says_so() {
    let stage = Stage::new("run-out").await;
    let bridge = stage.bridge().await;
    let token = stage.simulator.issue_token("ann", Some(Duration::from_secs(2))).unwrap();
    let expires_at = i64::try_from(stage.simulator.stats().now).unwrap() + 2000;
    assert_eq!(put_token(&bridge, "ann", &token, Some(expires_at)).await, 201);
    let reason = is_blocked(&bridge, "ann").await;
    assert_eq!(reason, "linxo refuses the access token, its expires_at is past (401)");
    let token = stage.simulator.issue_token("ann", Some(Duration::from_secs(600))).unwrap();
    assert_eq!(put_token(&bridge, "ann", &token, None).await, 200);
    is_live(&bridge, "ann").await;
    stage.simulator.revoke(&Revocation::User("ann".into()));
    assert_eq!(is_blocked(&bridge, "ann").await, "linxo refuses the access token (401)");
}

/// The id of the key that sealed a user's credential, as the last record has it.
async fn sealed_by(stage: &Stage, user: &str) -> Vec<&'static str> {
    let topic = stage.topic("linxo.subscriptions");
    let records = read_topic(stage.kafka.bootstrap_servers(), &topic).await;
    let last = records.iter().rfind(|record| record.key_text() == user).unwrap();
    let value = last.value.clone().unwrap();
    let holds = |(_, key): (&str, &[u8])| {
        let head = [&[1], &Sha256::digest(key)[..4]].concat();
        memchr::memmem::find(&value, &head).is_some()
    };
    [("old", OLD_KEY), ("new", NEW_KEY)]
        .into_iter()
        .filter(|(_, key)| holds(*key))
        .map(|(name, _)| name)
        .collect()
}

fn key_id((_, key): (&str, &[u8])) -> String {
    Sha256::digest(key)[..4].iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_rotate_and_one_that_is_missing_stops_only_those_whom_it_sealed() {
    let stage = Stage::new("rotation").await;
    let keys = stage.folder.path().join("keys");
    let write = |keys_now: &[(&str, &[u8])]| {
        let lines: Vec<String> = keys_now.iter().map(|(text, _)| format!("{text}\n")).collect();
        std::fs::write(&keys, lines.concat()).unwrap();
    };
    let check = async || {
        let output = stage.run(&["check"]).await;
        (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let users = ["client", "own", "login", "put-anew"];
    let bridge = stage.bridge().await;
    let token = stage.simulator.issue_token("own", None).unwrap();
    bridge.put("client").await;
    assert_eq!(put_token(&bridge, "own", &token, None).await, 201);
    assert_eq!(put_password(&bridge, "login", "password-of-login").await, 201);
    assert_eq!(put_password(&bridge, "put-anew", "password-of-put-anew").await, 201);
    assert_eq!(sealed_by(&stage, "own").await, ["old"]);
    assert!(bridge.stop().await.success());

    // a new key in front: it seals what is put from then on, the old one opens the rest
    write(&[NEW_KEY, OLD_KEY]);
    let bridge = stage.bridge().await;
    for user in users {
        served(&stage, &bridge, user).await;
    }
    assert_eq!(put_password(&bridge, "put-anew", "password-of-put-anew").await, 200);
    assert_eq!(sealed_by(&stage, "put-anew").await, ["new"]);
    assert_eq!(sealed_by(&stage, "login").await, ["old"]);
    let (is_well, said) = check().await;
    assert!(is_well, "{said}");
    let still = format!("2 credentials are sealed by the older key {}", key_id(OLD_KEY));
    assert!(said.contains(&still), "{said}");
    assert!(bridge.stop().await.success());

    // the old one taken out too early
    write(&[NEW_KEY]);
    let bridge = stage.bridge().await;
    for user in ["own", "login"] {
        let reason = is_blocked(&bridge, user).await;
        assert!(reason.starts_with("the credential cannot be opened (sealed by key "), "{reason}");
        assert!(reason.contains(&key_id(OLD_KEY)), "{reason}");
        assert!(reason.contains("credentials.key_file"), "{reason}");
    }
    for user in ["client", "put-anew"] {
        served(&stage, &bridge, user).await;
        assert_eq!(bridge.show(user).await["state"], "live");
    }
    let (is_well, said) = check().await;
    assert!(!is_well, "{said}");
    let shut =
        format!("of 2 users the credential cannot be opened: sealed by key {}", key_id(OLD_KEY));
    assert!(said.contains(&shut), "{said}");
    // put anew it is sealed by the key that is there
    assert_eq!(put_password(&bridge, "login", "password-of-login").await, 200);
    is_live(&bridge, "login").await;
    assert!(bridge.stop().await.success());

    // and put back
    write(&[NEW_KEY, OLD_KEY]);
    let bridge = stage.bridge().await;
    for user in users {
        served(&stage, &bridge, user).await;
        is_live(&bridge, user).await;
    }
    stage.all_published_once().await;
    assert_eq!(stage.read("linxo.gaps").await.len(), 0);
    stage.assert_secret(&bridge, &["password-of-login", "password-of-put-anew"]).await;
}
