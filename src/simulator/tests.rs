//! The simulator over HTTP: what a client sees of each fault, and what the ledger says of it.

use std::time::Duration;

use reqwest::{Client, Response, StatusCode};
use serde_json::{Value, json};

use super::*;

/// A simulator, and a client with a client token.
struct Bench {
    simulator: Running,
    client: Client,
    token: String,
}

impl Bench {
    async fn with(options: Options) -> Self {
        // Another test may have installed it before.
        drop(rustls::crypto::ring::default_provider().install_default());
        let simulator = Simulator::start(options).await.unwrap();
        let client = Client::new();
        let answer = token(&client, &simulator, "simulated-client-secret").await;
        let answer: Value = answer.json().await.unwrap();
        assert_eq!(answer["expires_in"], 3600);
        assert_eq!(answer["token_type"], "Bearer");
        let token = answer["access_token"].as_str().unwrap().to_owned();
        Self { simulator, client, token }
    }

    async fn start() -> Self {
        Self::with(Options::default()).await
    }

    async fn subscribe(&self, user: &str) -> Response {
        self.client
            .post(format!("{}/queues/subscribe", self.simulator.url()))
            .bearer_auth(&self.token)
            .header("x-linxo-user-id", user)
            .body(r#"{"topics":["connections"]}"#)
            .send()
            .await
            .unwrap()
    }

    /// Subscribes and answers the queue's id.
    async fn queue(&self, user: &str) -> String {
        let answer = self.subscribe(user).await;
        assert_eq!(answer.status(), StatusCode::CREATED);
        answer.headers()["location"].to_str().unwrap().replace("/queues/", "")
    }

    async fn ask(&self, user: &str, queue: &str) -> Response {
        self.client
            .get(format!("{}/queues/{queue}", self.simulator.url()))
            .bearer_auth(&self.token)
            .header("x-linxo-user-id", user)
            .send()
            .await
            .unwrap()
    }

    async fn list(&self, user: &str) -> Value {
        self.client
            .get(format!("{}/connections?user_id={user}", self.simulator.url()))
            .bearer_auth(&self.token)
            .send()
            .await
            .unwrap()
            .json()
            .await
            .unwrap()
    }

    async fn control(&self, call: &str, body: Value) -> Value {
        let url = format!("{}/{call}", self.simulator.control_url());
        let answer = self.client.post(url).json(&body).send().await.unwrap();
        assert!(answer.status().is_success(), "{call}: {}", answer.status());
        let text = answer.text().await.unwrap();
        if text.is_empty() { Value::Null } else { serde_json::from_str(&text).unwrap() }
    }

    /// A queue of user `u` with so many events, and an order for its next question.
    async fn queue_with(&self, events: usize, fault: Fault) -> String {
        let queue = self.queue("u").await;
        self.simulator.push_events("u", None, events).unwrap();
        self.simulator.inflict(Order::next(1, fault).of("u").on(RequestKind::Ask)).unwrap();
        queue
    }

    fn fates(&self) -> Vec<(Fate, Option<FaultName>)> {
        let ledger = self.simulator.ledger(Some("u"));
        ledger
            .events
            .iter()
            .map(|event| (event.fate, event.handed_out.as_ref().and_then(|taken| taken.fault)))
            .collect()
    }
}

async fn token(client: &Client, simulator: &Running, secret: &str) -> Response {
    client
        .post(format!("{}/token", simulator.auth_url()))
        .json(&json!({
            "grant_type": "client_credentials",
            "client_id": "simulated-client",
            "client_secret": secret,
            "scope": "connections_sync",
        }))
        .send()
        .await
        .unwrap()
}

async fn events(answer: Response) -> Vec<Value> {
    assert_eq!(answer.status(), StatusCode::OK);
    answer.json().await.unwrap()
}

#[tokio::test]
async fn a_subscription_is_drained_and_the_ledger_agrees() {
    let bench = Bench::start().await;
    let queue = bench.queue("u").await;
    let empty = bench.ask("u", &queue).await;
    assert_eq!(empty.status(), StatusCode::NO_CONTENT);
    let sync = Sync { extras: true, ..Sync::ending(Status::AuthFailed) };
    let planned = bench.simulator.start_sync("u", &sync).unwrap();
    let got = events(bench.ask("u", &queue).await).await;
    assert_eq!(got.len(), planned);
    let connections = bench.list("u").await;
    assert_eq!(connections[0]["status"], "FAILED");
    assert_eq!(got.last().unwrap()["resource"], connections[0]);

    let ledger = bench.simulator.ledger(None);
    let taken = ledger.taken_from(&queue);
    assert_eq!(taken.len(), got.len());
    for (entry, event) in taken.iter().zip(&got) {
        assert_eq!(entry.event_id.as_deref(), event["id"].as_str());
        assert_eq!(entry.event_type.as_deref(), event["event_type"].as_str());
        assert_eq!(entry.connection.as_deref(), event["resource"]["id"].as_str());
        let shown = event["resource"]["channels"][0]["status"].as_str();
        assert_eq!(entry.redirect.map(Status::as_str), shown);
        assert_eq!(entry.fate, Fate::HandedOut);
    }
    let stats = bench.simulator.stats();
    assert_eq!(stats.polls, 2);
    assert_eq!(stats.answers[&Outcome::Empty], 1);
    assert_eq!(stats.answers[&Outcome::Events], 1);
    assert_eq!((stats.handed_out, stats.waiting), (planned as u64, 0));
    assert_eq!((stats.subscribes, stats.live_queues), (1, 1));
    assert_eq!(ledger.users[0].subscribes, 1);
    bench.simulator.stop().await;
}

#[tokio::test]
async fn a_user_id_in_the_header_is_percent_encoded_and_in_the_query_too() {
    let bench = Bench::start().await;
    bench.queue("Zo%C3%AB%2F1").await;
    assert_eq!(bench.simulator.live_queues("Zoë/1").len(), 1);
    bench.list("Zo%C3%AB%2F1").await;
    assert_eq!(bench.simulator.stats().users, 1);
}

#[tokio::test]
async fn v3_wraps_lists_and_writes_dates_as_text() {
    let bench = Bench::with(Options { version: Version::V3, ..Options::default() }).await;
    assert!(bench.simulator.url().ends_with("/v3"));
    let queue = bench.queue("u").await;
    let list = bench.list("u").await;
    assert!(list["connections"][0]["creation_date"].as_str().unwrap().ends_with('Z'));
    bench.simulator.push_events("u", None, 1).unwrap();
    let got = events(bench.ask("u", &queue).await).await;
    assert!(got[0]["creation_date"].is_string());
}

#[tokio::test]
async fn the_location_takes_every_form() {
    let bench = Bench::start().await;
    let url = bench.simulator.url();
    let forms = [
        (LocationForm::Relative, "/queues/".to_owned()),
        (LocationForm::Prefixed, "/v2.1/queues/".to_owned()),
        (LocationForm::Absolute, format!("{url}/queues/")),
    ];
    for (form, start) in forms {
        bench.simulator.inflict(Order::next(1, Fault::Location { form }).of("u")).unwrap();
        let answer = bench.subscribe("u").await;
        let location = answer.headers()["location"].to_str().unwrap();
        let queue = location.strip_prefix(&start).unwrap();
        assert!(bench.simulator.live_queues("u").contains(&queue.to_owned()));
    }
    let missing = Fault::Location { form: LocationForm::Missing };
    bench.simulator.inflict(Order::next(1, missing)).unwrap();
    let answer = bench.subscribe("u").await;
    assert_eq!(answer.status(), StatusCode::CREATED);
    assert!(answer.headers().get("location").is_none());
    assert_eq!(bench.simulator.live_queues("u").len(), 4);
}

#[tokio::test]
async fn a_wrong_secret_and_a_failing_token_endpoint_give_no_token() {
    let bench = Bench::start().await;
    let wrong = token(&bench.client, &bench.simulator, "guess").await;
    assert_eq!(wrong.status(), StatusCode::UNAUTHORIZED);
    let wrong: Value = wrong.json().await.unwrap();
    assert_eq!(wrong["error"], "invalid_client");
    assert!(wrong["error_description"].is_string());
    for (fault, status) in [(Fault::Unauthorized, 401), (Fault::ServerError { status: 502 }, 502)] {
        bench.simulator.inflict(Order::next(1, fault).on(RequestKind::Token)).unwrap();
        let answer = token(&bench.client, &bench.simulator, "simulated-client-secret").await;
        assert_eq!(answer.status(), status);
    }
    let form = bench
        .client
        .post(format!("{}/token", bench.simulator.auth_url()))
        .header("content-type", "application/x-www-form-urlencoded")
        .body("grant_type=client_credentials&client_id=simulated-client&client_secret=simulated-client-secret")
        .send()
        .await
        .unwrap();
    assert_eq!(form.status(), StatusCode::OK);
}

#[tokio::test]
async fn error_heads_have_the_status_asked_for_and_leave_the_events() {
    let bench = Bench::start().await;
    let queue = bench.queue_with(1, Fault::Throttle { retry_after: Some(7) }).await;
    let throttled = bench.ask("u", &queue).await;
    assert_eq!(throttled.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(throttled.headers()["retry-after"], "7");
    let heads = [
        (Fault::Throttle { retry_after: None }, 429),
        (Fault::Unauthorized, 401),
        (Fault::Forbidden, 403),
        (Fault::ServerError { status: 503 }, 503),
    ];
    for (fault, status) in heads {
        bench.simulator.inflict(Order::next(1, fault).of("u")).unwrap();
        let answer = bench.ask("u", &queue).await;
        assert_eq!(answer.status(), status);
        assert!(answer.headers().get("retry-after").is_none());
        assert!(answer.json::<Value>().await.unwrap()["error_description"].is_string());
    }
    assert_eq!(events(bench.ask("u", &queue).await).await.len(), 1);
}

#[tokio::test]
async fn a_revoked_token_stays_refused_after_the_fault_is_used_up() {
    let bench = Bench::start().await;
    let queue = bench.queue_with(1, Fault::RevokeToken).await;
    for _ in 0..2 {
        assert_eq!(bench.ask("u", &queue).await.status(), StatusCode::UNAUTHORIZED);
    }
    assert_eq!(bench.simulator.stats().waiting, 1);
}

#[tokio::test]
async fn a_killed_queue_answers_the_dead_status_and_its_events_are_in_the_ledger() {
    let bench = Bench::with(Options { dead_status: 410, ..Options::default() }).await;
    let queue = bench.queue_with(2, Fault::KillQueue).await;
    for _ in 0..2 {
        assert_eq!(bench.ask("u", &queue).await.status(), StatusCode::GONE);
    }
    let ledger = bench.simulator.ledger(None);
    assert_eq!(ledger.deaths[0].cause, DeathCause::Killed);
    assert_eq!(ledger.deaths[0].undelivered.len(), 2);
    assert_eq!(bench.fates(), [(Fate::DiedWithQueue, None); 2]);
}

#[tokio::test]
async fn a_body_that_is_cut_short_loses_the_events() {
    let bench = Bench::start().await;
    let queue = bench.queue_with(2, Fault::Cut).await;
    let answer = bench.ask("u", &queue).await;
    assert_eq!(answer.status(), StatusCode::OK);
    let promised = answer.content_length().unwrap();
    let mut answer = answer;
    let mut got = 0;
    let ended = loop {
        match answer.chunk().await {
            Ok(Some(piece)) => got += piece.len() as u64,
            Ok(None) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    assert!(ended.is_err());
    assert!(got > 0 && got < promised, "{got} of {promised}");
    assert_eq!(bench.fates(), [(Fate::LostOnTheWire, Some(FaultName::Cut)); 2]);
    assert_eq!(bench.ask("u", &queue).await.status(), StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn a_body_that_hangs_ends_with_the_client_or_with_the_simulator() {
    let bench = Bench::start().await;
    let queue = bench.queue_with(1, Fault::Hang).await;
    let answer = bench.ask("u", &queue).await;
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(bench.fates(), [(Fate::LostOnTheWire, Some(FaultName::Hang))]);
    let reading = tokio::spawn(answer.bytes());
    bench.simulator.stop().await;
    assert!(reading.await.unwrap().is_err());
}

#[tokio::test]
async fn a_slow_body_arrives_whole_for_a_client_that_waits() {
    let bench = Bench::start().await;
    let queue = bench.queue_with(3, Fault::Slow { over_ms: 40 }).await;
    let answer = bench.ask("u", &queue).await;
    assert_eq!(events(answer).await.len(), 3);
    assert_eq!(bench.fates(), [(Fate::HandedOut, Some(FaultName::Slow)); 3]);
}

#[tokio::test]
async fn a_slow_body_is_lost_when_the_client_leaves() {
    let bench = Bench::start().await;
    let queue = bench.queue_with(1, Fault::Slow { over_ms: 2_000 }).await;
    let mut answer = bench.ask("u", &queue).await;
    assert!(answer.chunk().await.unwrap().is_some());
    assert_eq!(bench.fates(), [(Fate::HandedOut, Some(FaultName::Slow))]);
    drop(answer);
    let noticed = async {
        while bench.simulator.stats().lost_on_the_wire == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), noticed).await.unwrap();
    assert_eq!(bench.fates(), [(Fate::LostOnTheWire, Some(FaultName::Slow))]);
    assert_eq!(bench.simulator.stats().handed_out, 0);
}

#[tokio::test]
async fn an_oversized_body_is_as_large_as_ordered_and_holds_no_event() {
    let bench = Bench::start().await;
    for declared in [true, false] {
        let queue = bench.queue_with(1, Fault::Oversized { bytes: 200_001, declared }).await;
        let answer = bench.ask("u", &queue).await;
        assert_eq!(answer.content_length(), declared.then_some(200_001));
        let body = answer.bytes().await.unwrap();
        assert_eq!(body.len(), 200_001);
        assert!(serde_json::from_slice::<Vec<String>>(&body).is_ok());
        bench.simulator.kill_queues_of("u");
    }
    assert_eq!(bench.fates(), [(Fate::LostOnTheWire, Some(FaultName::Oversized)); 2]);
}

#[tokio::test]
async fn invalid_json_and_html_come_with_200_and_lose_the_events() {
    let bench = Bench::start().await;
    let queue = bench.queue_with(1, Fault::InvalidJson).await;
    let answer = bench.ask("u", &queue).await;
    assert_eq!(answer.status(), StatusCode::OK);
    let text = answer.text().await.unwrap();
    assert!(text.starts_with("[{") && serde_json::from_str::<Value>(&text).is_err());
    bench.simulator.push_events("u", None, 1).unwrap();
    bench.simulator.inflict(Order::next(1, Fault::Html)).unwrap();
    let answer = bench.ask("u", &queue).await;
    assert_eq!(answer.status(), StatusCode::OK);
    assert!(answer.text().await.unwrap().starts_with("<!DOCTYPE html>"));
    assert_eq!(
        bench.fates(),
        [
            (Fate::LostOnTheWire, Some(FaultName::InvalidJson)),
            (Fate::LostOnTheWire, Some(FaultName::Html)),
        ]
    );
}

#[tokio::test]
async fn an_empty_list_keeps_what_waits() {
    let bench = Bench::start().await;
    let queue = bench.queue_with(1, Fault::EmptyList).await;
    assert_eq!(events(bench.ask("u", &queue).await).await.len(), 0);
    assert_eq!(bench.simulator.stats().answers[&Outcome::EmptyList], 1);
    assert_eq!(events(bench.ask("u", &queue).await).await.len(), 1);
}

#[tokio::test]
async fn altered_events_are_in_the_ledger_as_they_were_handed_out() {
    let bench = Bench::start().await;
    let queue = bench.queue_with(3, Fault::Reorder).await;
    let ids = |got: &[Value]| -> Vec<String> {
        got.iter().map(|event| event["id"].as_str().unwrap_or("none").to_owned()).collect()
    };
    assert_eq!(ids(&events(bench.ask("u", &queue).await).await), ["3", "2", "1"]);
    let ledger = bench.simulator.ledger(None);
    let order: Vec<_> =
        ledger.taken_from(&queue).iter().map(|event| event.event_id.clone().unwrap()).collect();
    assert_eq!(order, ["3", "2", "1"].map(Arc::from));

    bench.simulator.push_events("u", None, 1).unwrap();
    bench.simulator.inflict(Order::next(1, Fault::UnknownType).with_events()).unwrap();
    let got = events(bench.ask("u", &queue).await).await;
    let entry = bench.simulator.ledger(None).events[3].clone();
    assert_eq!(got[0]["event_type"].as_str(), entry.event_type.as_deref());
    assert_ne!(got[0]["event_type"], "LIST_ACCOUNTS_SUCCESS");

    bench.simulator.push_events("u", None, 2).unwrap();
    let fault = Fault::MissingField { field: "id".to_owned() };
    bench.simulator.inflict(Order::next(1, fault)).unwrap();
    assert_eq!(ids(&events(bench.ask("u", &queue).await).await), ["none", "6"]);
    let entries = bench.simulator.ledger(None).events;
    assert_eq!(entries[4].without.as_deref(), Some("id"));
    assert_eq!(entries[5].without, None);
}

#[tokio::test]
async fn an_injected_element_is_handed_out_as_it_is() {
    let bench = Bench::start().await;
    let queue = bench.queue("u").await;
    let element = r#"{"id":"x-1", "event_type":"ODD","resource":{"id":"c9"},"n":1e3}"#;
    assert_eq!(bench.simulator.push("u", element).unwrap(), 1);
    assert_eq!(bench.simulator.push("u", "42").unwrap(), 1);
    let body = bench.ask("u", &queue).await.text().await.unwrap();
    assert_eq!(body, format!("[{element},42]"));
    let ledger = bench.simulator.ledger(None);
    assert_eq!(ledger.events[0].event_id.as_deref(), Some("x-1"));
    assert_eq!(ledger.events[0].connection.as_deref(), Some("c9"));
    assert_eq!(ledger.events[1].event_id, None);
    assert_eq!(ledger.events[1].event_type, None);
}

#[tokio::test]
async fn the_control_api_does_what_the_methods_do() {
    let bench = Bench::start().await;
    let url = bench.simulator.control_url();
    let health = bench.client.get(format!("{url}/healthz")).send().await.unwrap();
    assert_eq!(health.status(), StatusCode::OK);
    let put = bench
        .client
        .put(format!("{url}/users/u"))
        .json(&json!({"connections": [{"id": "c1", "channels": ["EMBEDDED"]}, {"id": "c2"}]}))
        .send()
        .await
        .unwrap();
    assert_eq!(put.json::<Value>().await.unwrap()["connections"], json!(["c1", "c2"]));
    let issued = bench.control("tokens", json!({"user": "u", "lifetime_ms": 5000})).await;
    assert_eq!(issued["expires_in"], 5);
    let opened = bench.control("queues", json!({"user": "u"})).await;
    let queue = opened["queue"].as_str().unwrap();
    let sync = json!({"user": "u", "sync": {"connection": "c1", "ending": "CHALLENGE_REQUIRED"}});
    assert_eq!(bench.control("sync", sync).await["events"], 4);
    let pushed = bench.control("push", json!({"user": "u", "element": {"id": "7"}})).await;
    assert_eq!(pushed["queues"], 1);
    bench.control("push", json!({"user": "u", "connection": "c2", "events": 5})).await;
    bench
        .control(
            "faults",
            json!({"user": "u", "times": 1, "on": ["ask"], "fault": {"name": "forbidden"}}),
        )
        .await;
    assert_eq!(bench.ask("u", queue).await.status(), StatusCode::FORBIDDEN);
    bench.control("faults", json!({"fault": {"name": "forbidden"}})).await;
    let healed = bench.client.delete(format!("{url}/faults")).send().await.unwrap();
    assert_eq!(healed.status(), StatusCode::NO_CONTENT);
    assert_eq!(events(bench.ask("u", queue).await).await.len(), 10);
    let token = issued["access_token"].as_str().unwrap();
    assert_eq!(bench.control("revoke", json!({"token": token})).await["revoked"], 1);
    assert_eq!(bench.control("kill", json!({"user": "u"})).await["killed"], 1);

    let read = |path: &str| bench.client.get(format!("{url}/{path}")).send();
    let stats: Stats = read("stats").await.unwrap().json().await.unwrap();
    assert_eq!((stats.handed_out, stats.deaths), (10, 1));
    assert_eq!(stats.faults[&FaultName::Forbidden], 1);
    let ledger: Ledger = read("ledger?user=u").await.unwrap().json().await.unwrap();
    assert_eq!(ledger.events.len(), 10);
    assert_eq!(&*ledger.deaths[0].queue, queue);
    let live: Value = read("queues?user=u").await.unwrap().json().await.unwrap();
    assert_eq!(live["queues"], json!([]));
    let removed = bench.client.delete(format!("{url}/users/u")).send().await.unwrap();
    assert_eq!(removed.status(), StatusCode::NO_CONTENT);
    let wrong = bench
        .client
        .post(format!("{url}/faults"))
        .json(&json!({"fault": {"name": "server_error", "status": 200}}));
    let wrong = wrong.send().await.unwrap();
    assert_eq!(wrong.status(), StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn what_has_no_meaning_is_refused_at_the_start() {
    let anywhere = Options { listen: "0.0.0.0:0".parse().unwrap(), ..Options::default() };
    assert!(matches!(Simulator::start(anywhere).await, Err(Error::NotLoopback(_))));
    let status = Options { dead_status: 405, ..Options::default() };
    assert!(matches!(Simulator::start(status).await, Err(Error::BadOption(_))));
    let shown = format!("{:?}", Options::default());
    assert!(!shown.contains("client-secret"));
}
