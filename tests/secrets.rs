//! No secret reaches a log, a metric, a topic in clear, a file, an answer of the admin API, or another
//! user's request.
//!
//! One run of the real bridge with every kind of credential, good and refused, with dead letters and
//! unmapped fields that hold secrets, over a rotation of the keys; then everything that it left or
//! showed is searched.

#![expect(clippy::unwrap_used, reason = "a test fails by panic")]

mod support;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use linxo_kafka_bridge::simulator::{
    FAKE_SECRET, Fault, Options, Order, RequestKind, Revocation, Sync,
};
use serde_json::{Value, json};
use support::secrecy::{Place, assert_absent};
use support::{Bridge, PATIENCE, Stage, path_of};

const PASSWORD: &str = "pass-phrase-of-login";
const NEW_PASSWORD: &str = "another-pass-phrase";
const WRONG_PASSWORD: &str = "wrong-pass-phrase";
const WRONG_TOKEN: &str = "wrong-token-of-nobody";
const LATER_KEY: &str = "ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4NzY1NDMyMTA=";
const USERS: [&str; 4] = ["client", "own", "login", "other-login"];

/// The answers of the admin API that are not asked for by the search itself.
#[derive(Default)]
struct Answers(Vec<Place>);

impl Answers {
    async fn put(&mut self, bridge: &Bridge, user: &str, credential: Value) -> u16 {
        let body = json!({"credential": credential});
        let (status, answer) = bridge.call("PUT", &path_of(user), Some(body)).await;
        self.0.push((format!("the answer to a PUT of {user}"), answer.to_string().into_bytes()));
        status
    }

    async fn put_raw(&mut self, bridge: &Bridge, body: &str) {
        let answer = support::http()
            .put(format!("{}{}", bridge.url, path_of("client")))
            .bearer_auth(support::TOKEN)
            .header("content-type", "application/json")
            .body(body.to_owned())
            .send()
            .await
            .unwrap();
        assert!(answer.status().is_client_error(), "{body}");
        let bytes = answer.bytes().await.unwrap().to_vec();
        self.0.push((format!("the answer to {body}"), bytes));
    }
}

fn password(username: &str, password: &str) -> Value {
    json!({"type": "password", "username": username, "password": password})
}

fn own(token: &str) -> Value {
    json!({"type": "access_token", "access_token": token})
}

/// Has every user's queue hand out events with secrets in them, some of which are no events.
async fn events_with_secrets(stage: &Stage) {
    let dead = stage.read("linxo.dead-letters").await.len();
    for user in USERS {
        let sync = Sync { extras: true, ..Sync::default() };
        stage.simulator.start_sync(user, &sync).unwrap();
        let letter = format!(
            "{{\"id\": 7, \"password\": \"{FAKE_SECRET}\", \"a\": {{\"token\": \"{PASSWORD}\"}}}}"
        );
        stage.simulator.push(user, &letter).unwrap();
    }
    // an answer that is no JSON goes to the dead letters as it is, less what stands after such names
    stage.until("linxo.dead-letters", |letters| letters.len() >= dead + USERS.len()).await;
    let cut = Order::next(1, Fault::Cut).of("client").on(RequestKind::Ask).with_events();
    stage.simulator.inflict(cut).unwrap();
    stage.simulator.start_sync("client", &Sync { extras: true, ..Sync::default() }).unwrap();
    stage.until("linxo.dead-letters", |letters| letters.len() > dead + USERS.len()).await;
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while stage.simulator.stats().waiting > 0 {
        assert!(tokio::time::Instant::now() < deadline, "events still wait at the source");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Has one user's queue hand out events for as long as this is waited for.
async fn synchronizations(stage: &Stage) -> std::convert::Infallible {
    loop {
        let sync = Sync { extras: true, ..Sync::default() };
        stage.simulator.start_sync("own", &sync).unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_left_or_shown_anywhere() {
    // tokens of so short a life that every one is renewed several times
    let options = Options { token_lifetime: Duration::from_secs(3), ..Options::default() };
    let settings = [("service.log", "\"trace,librdkafka=off\"")];
    let mut stage = Stage::with("secrets", options, &settings).await;
    stage.simulator.set_password("login", PASSWORD).unwrap();
    let token = stage.simulator.issue_token("own", Some(Duration::from_secs(3600))).unwrap();
    let mut answers = Answers::default();
    let mut places = Vec::new();

    let bridge = stage.bridge().await;
    assert_eq!(answers.put(&bridge, "client", json!({"type": "client"})).await, 201);
    assert_eq!(answers.put(&bridge, "own", own(&token)).await, 201);
    assert_eq!(answers.put(&bridge, "login", password("login", PASSWORD)).await, 201);
    let other = password("other-login", "password-of-other-login");
    assert_eq!(answers.put(&bridge, "other-login", other).await, 201);
    // refused before anything is made, refused by the form, refused later
    let wrong = password("login", WRONG_PASSWORD);
    assert_eq!(answers.put(&bridge, "wrong-login", wrong).await, 422);
    assert_eq!(answers.put(&bridge, "wrong-own", own(WRONG_TOKEN)).await, 422);
    for body in [
        format!("{{\"credential\": {WRONG_PASSWORD}"),
        format!("{{\"credential\": \"{WRONG_PASSWORD}\"}}"),
        format!("{{\"credential\": {{\"type\": \"{WRONG_PASSWORD}\"}}}}"),
        format!(
            "{{\"credential\": {{\"type\": \"password\", \"password\": \"{WRONG_PASSWORD}\"}}}}"
        ),
        json!({"credential": password(WRONG_PASSWORD, &WRONG_PASSWORD.repeat(500))}).to_string(),
    ] {
        answers.put_raw(&bridge, &body).await;
    }
    events_with_secrets(&stage).await;
    stage.simulator.set_password("login", NEW_PASSWORD).unwrap();
    stage.simulator.revoke(&Revocation::User("login".into()));
    stage.simulator.revoke(&Revocation::User("own".into()));
    bridge.show_until("login", |view| view["state"] == "blocked").await;
    bridge.show_until("own", |view| view["state"] == "blocked").await;
    places.extend(stage.places(&bridge).await);
    let token = stage.simulator.issue_token("own", Some(Duration::from_secs(3600))).unwrap();
    assert_eq!(answers.put(&bridge, "own", own(&token)).await, 200);
    assert_eq!(answers.put(&bridge, "login", password("login", NEW_PASSWORD)).await, 200);
    bridge.show_until("login", |view| view["state"] == "live").await;
    bridge.show_until("own", |view| view["state"] == "live").await;
    places.extend(stage.places(&bridge).await);
    assert!(bridge.stop().await.success());

    // a new key in front, another credential sealed by it
    let keys = stage.folder.path().join("keys");
    let old = std::fs::read_to_string(&keys).unwrap();
    std::fs::write(&keys, format!("{LATER_KEY}\n{old}")).unwrap();
    let bridge = stage.bridge().await;
    assert_eq!(answers.put(&bridge, "login", password("login", NEW_PASSWORD)).await, 200);
    for user in USERS {
        bridge.show_until(user, |view| view["state"] == "live").await;
    }
    events_with_secrets(&stage).await;
    assert_eq!(bridge.call("DELETE", &path_of("other-login"), None).await.0, 204);
    places.extend(stage.places(&bridge).await);
    bridge.kill().await;
    places.extend(stage.kept().await);

    // an end with answers in the journal that are not published
    stage.sabotage("crash:after-sync:2");
    let mut bridge = stage.start().await;
    let ended = tokio::select! {
        ended = bridge.ended() => ended,
        never = synchronizations(&stage) => match never {},
    };
    assert!(!ended.success());
    places.push(("the log".to_owned(), bridge.log().into_bytes()));
    stage.sabotage("");
    // draining ends what the crash left open in the topics, so check comes after it
    for command in [&["journal", "inspect"][..], &["journal", "drain"], &["check"]] {
        places.extend(stage.files());
        let ran = stage.run(command).await;
        assert!(ran.status.success(), "{command:?}: {}", String::from_utf8_lossy(&ran.stderr));
        places.push((format!("{command:?}"), [ran.stdout, ran.stderr].concat()));
    }
    let inspected = places.iter().rfind(|(place, _)| place.contains("inspect")).unwrap();
    let inspected = String::from_utf8_lossy(&inspected.1).into_owned();
    assert!(inspected.contains("  answers: "), "something is in the journal: {inspected}");
    places.extend(stage.kept().await);
    places.append(&mut answers.0);

    let texts = [PASSWORD, NEW_PASSWORD, WRONG_PASSWORD, WRONG_TOKEN, "password-of-other-login"];
    stage.assert_absent(&places, &texts);
    let stats = stage.simulator.stats();
    assert_eq!(stats.mismatched, 0);
    assert_eq!(stats.most_token_requests_at_once, 1);
    assert!(stats.token_requests > 10, "{} tokens", stats.token_requests);
    assert_eq!(stats.deaths, 0, "with another user's token a queue is not found");

    // what was searched is what it should be
    let shown = |text: &str| {
        let holds = |bytes: &[u8]| memchr::memmem::find(bytes, text.as_bytes()).is_some();
        places.iter().filter(|(_, bytes)| holds(bytes)).map(|(place, _)| place.as_str()).collect()
    };
    let of_login: Vec<&str> = shown("login");
    for place in ["the log", "/v1/subscriptions", "linxo.subscriptions", "linxo.events"] {
        assert!(of_login.contains(&place), "{place}: {of_login:?}");
    }
    assert!(shown("auto_sync").contains(&"linxo.events"), "unmapped fields are published");
    for place in ["linxo.dead-letters", "linxo.journals", "/metrics", "[\"check\"]"] {
        assert!(places.iter().any(|(found, bytes)| found == place && !bytes.is_empty()), "{place}");
    }
    assert!(places.iter().any(|(place, _)| place.starts_with("journal/")));
    assert!(shown(" TRACE ").contains(&"the log"));
}

#[test]
fn a_secret_is_found_in_every_form() {
    let is_found = |text: &str| {
        let place = [("a place".to_owned(), text.as_bytes().to_vec())];
        catch_unwind(AssertUnwindSafe(|| assert_absent(&place, &[b"hush-hush"]))).is_err()
    };
    for shown in [
        "a hush-hush b",
        "687573682d68757368",
        "0x687573682D68757368",
        // as base64 after none, one and two other bytes
        "aHVzaC1odXNo",
        "Lmh1c2gtaHVzaC4",
        "Li5odXNoLWh1c2gu",
        "x simulated-0123456789abcdef0123456789abcdef",
    ] {
        assert!(is_found(shown), "{shown}");
    }
    assert!(!is_found("hush hush simulated-client-secret simulated-0123 Hush-Hush"));
}
