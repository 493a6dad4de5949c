//! The admin API on a running bridge: each call does what it says, for any user id, and tells no
//! secret.

#![expect(clippy::unwrap_used, reason = "a test fails by panic")]

mod support;

use std::collections::BTreeSet;
use std::time::Duration;

use linxo_kafka_bridge::simulator::{Options, Sync};
use serde_json::{Value, json};
use support::account::{assert_counted, of_user};
use support::{Bridge, PATIENCE, Stage, TOKEN, http, path_of};
use tokio::time::Instant;

const CLIENT: &str = r#"{"credential":{"type":"client"}}"#;

/// An answer as it stands.
struct Answer {
    status: u16,
    content_type: String,
    location: Option<String>,
    body: Value,
}

impl Answer {
    /// Asserts that it is a problem document of this kind; answers it.
    fn problem(&self, status: u16, kind: &str) -> &Value {
        assert_eq!(self.status, status, "{}", self.body);
        assert_eq!(self.content_type, "application/problem+json", "{}", self.body);
        assert_eq!(self.body["type"], format!("urn:linxo-bridge:problem:{kind}"));
        assert_eq!(self.body["status"], status);
        assert!(self.body["title"].is_string() && self.body["detail"].is_string());
        &self.body
    }
}

/// A request with what headers and body it shall have.
async fn send(
    bridge: &Bridge,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Answer {
    let url = format!("{}{path}", bridge.url);
    let mut request = http().request(method.parse().unwrap(), url).body(body.to_owned());
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let answer = request.timeout(PATIENCE).send().await.unwrap();
    let header =
        |name: &str| answer.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
    let (content_type, location) = (header("content-type").unwrap_or_default(), header("location"));
    let status = answer.status().as_u16();
    let text = answer.text().await.unwrap();
    let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
    Answer { status, content_type, location, body }
}

/// PUT of this body with all that belongs to it.
async fn put(bridge: &Bridge, user: &str, body: &str) -> Answer {
    let authorization = format!("Bearer {TOKEN}");
    let headers = [("authorization", authorization.as_str()), ("content-type", "application/json")];
    send(bridge, "PUT", &path_of(user), &headers, body).await
}

fn questions(stage: &Stage, user: &str) -> u32 {
    stage.simulator.ledger(Some(user)).queues.iter().map(|queue| queue.questions).sum()
}

#[tokio::test]
async fn a_subscription_is_made_shown_hinted_and_removed() {
    let settings = [("polling.active_for", "\"500ms\"")];
    let stage = Stage::with("life", Options::default(), &settings).await;
    let bridge = stage.bridge().await;
    assert_eq!(bridge.get(&path_of("user")).await.0, 404);

    let made = put(&bridge, "user", CLIENT).await;
    assert_eq!(made.status, 201, "{}", made.body);
    assert_eq!(made.location.as_deref(), Some("/v1/subscriptions/user"));
    let fields: BTreeSet<&str> =
        made.body.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(fields, BTreeSet::from(["partition", "queue_id", "subscription_id", "user_id"]));
    assert_eq!(stage.simulator.live_queues("user"), [made.body["queue_id"].as_str().unwrap()]);
    // durable before it is answered
    let written = stage.read("linxo.subscriptions").await;
    assert_eq!(written.len(), 1);
    assert_eq!(written[0].value["subscription_id"], made.body["subscription_id"]);
    assert_eq!(written[0].record.partition, made.body["partition"].as_i64().unwrap() as i32);

    let again = put(&bridge, "user", CLIENT).await;
    assert_eq!((again.status, &again.body), (200, &made.body));

    let view = bridge.show_until("user", |view| view["last_answer"] != Value::Null).await;
    assert_eq!(view["subscription_id"], made.body["subscription_id"]);
    assert_eq!(view["queue_id"], made.body["queue_id"]);
    assert_eq!((&view["generation"], &view["state"]), (&json!(1), &json!("live")));
    assert_eq!(
        (&view["partition"], &view["blocked_reason"]),
        (&made.body["partition"], &Value::Null)
    );
    assert_eq!(view["last_answer"]["outcome"], "empty");
    assert_eq!(view["credential"], json!({"type": "client"}));
    assert!(view["owner"].is_string());
    assert!((880..=900).contains(&view["headroom_seconds"].as_u64().unwrap()), "{view}");
    for moment in [&view["last_answer"]["at"], &view["next_due"]] {
        assert!(moment.as_str().unwrap().starts_with("20"), "{view}");
    }

    // once it is quiet its next question is seconds away; hinted, it is asked ten times a second
    bridge
        .show_until("user", |view| {
            let due = view["next_due"].as_str().map(|due| due.parse::<jiff::Timestamp>().unwrap());
            due.is_some_and(|due| due.as_millisecond() > support::oracle::now_millis() + 3_000)
        })
        .await;
    let before = questions(&stage, "user");
    assert_eq!(bridge.call("POST", "/v1/subscriptions/user/hint", None).await.0, 202);
    let since = Instant::now();
    while questions(&stage, "user") < before + 4 {
        assert!(since.elapsed() < Duration::from_secs(3), "a hint changes nothing");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }

    stage.simulator.start_sync("user", &Sync::default()).unwrap();
    assert_eq!(bridge.call("POST", "/v1/subscriptions/user/hint", None).await.0, 202);
    assert_eq!(stage.drained().await.len(), 10);
    assert_eq!(bridge.call("DELETE", &path_of("user"), None).await, (204, json!("")));
    for (method, path) in
        [("GET", path_of("user")), ("DELETE", path_of("user")), ("POST", path_of("user") + "/hint")]
    {
        let authorization = format!("Bearer {TOKEN}");
        let answer = send(&bridge, method, &path, &[("authorization", &authorization)], "").await;
        answer.problem(404, "unknown-user");
    }
    for topic in ["linxo.subscriptions", "linxo.queues"] {
        assert_eq!(stage.read(topic).await.last().unwrap().value, Value::Null, "{topic}");
    }
    let asked = questions(&stage, "user");
    let other = put(&bridge, "other", CLIENT).await;
    assert_eq!(other.status, 201);
    bridge.show_until("other", |view| view["last_answer"] != Value::Null).await;
    assert_eq!(questions(&stage, "user"), asked, "nobody asks for a user who is gone");

    let back = put(&bridge, "user", CLIENT).await;
    assert_eq!(back.status, 201);
    assert_ne!(back.body["subscription_id"], made.body["subscription_id"]);
    assert!(bridge.stop().await.success());
}

#[tokio::test]
async fn all_subscriptions_are_paged_through_in_the_order_of_their_ids() {
    let stage = Stage::new("pages").await;
    let bridge = stage.bridge().await;
    let users: BTreeSet<String> = (0..23).map(|user| format!("user/{user} é")).collect();
    for user in &users {
        bridge.put(user).await;
    }
    for limit in [1, 7, 23, 100] {
        let (mut seen, mut pages, mut after) = (Vec::new(), 0, String::new());
        loop {
            let query =
                percent_encoding::utf8_percent_encode(&after, percent_encoding::NON_ALPHANUMERIC);
            let path = format!("/v1/subscriptions?limit={limit}&after={query}");
            let (status, page) = bridge.get(&path).await;
            assert_eq!(status, 200, "{page}");
            let found = page["subscriptions"].as_array().unwrap();
            assert!(found.len() <= limit);
            seen.extend(found.iter().map(|view| view["user_id"].as_str().unwrap().to_owned()));
            pages += 1;
            match page["next"].as_str() {
                Some(next) => after = next.to_owned(),
                None => break,
            }
        }
        assert!(seen.iter().eq(users.iter()), "{limit}: {seen:?}");
        assert_eq!(pages, users.len().div_ceil(limit), "pages of {limit}");
    }
    for query in ["limit=0", "limit=1001", "limit=x", "more=1"] {
        let (status, problem) = bridge.get(&format!("/v1/subscriptions?{query}")).await;
        assert_eq!((status, problem["status"].as_u64()), (400, Some(400)), "{query}");
    }
    let (status, instances) = bridge.get("/v1/instances").await;
    assert_eq!(status, 200);
    let instances = instances["instances"].as_array().unwrap();
    assert_eq!(instances.len(), 1);
    assert_eq!(instances[0]["is_self"], true);
    assert_eq!(instances[0]["partitions"], json!([0, 1, 2, 3]));
}

#[tokio::test]
async fn who_has_no_token_is_refused_and_wrong_bodies_are_told_what_is_wrong() {
    let mut stage = Stage::new("refusals").await;
    stage.set("service.log", "\"debug,librdkafka=off\"");
    let bridge = stage.bridge().await;
    for headers in [vec![], vec![("authorization", "Bearer wrong")], vec![("authorization", TOKEN)]]
    {
        for (method, path) in [
            ("PUT", "/v1/subscriptions/user"),
            ("GET", "/v1/subscriptions/user"),
            ("DELETE", "/v1/subscriptions/user"),
            ("POST", "/v1/subscriptions/user/hint"),
            ("GET", "/v1/subscriptions"),
            ("GET", "/v1/instances"),
            ("GET", "/v1/log"),
            ("PUT", "/v1/log"),
            ("GET", "/v1/what-is-not-there"),
        ] {
            send(&bridge, method, path, &headers, CLIENT).await.problem(401, "unauthorized");
        }
    }
    for path in ["/livez", "/readyz", "/metrics", "/openapi.json"] {
        assert_eq!(send(&bridge, "GET", path, &[], "").await.status, 200, "{path}");
    }

    let token = |fields: &str| {
        format!(r#"{{"credential":{{"type":"access_token","access_token":"hush-hush"{fields}}}}}"#)
    };
    for (body, status, kind, pointer) in [
        (String::new(), 400, "bad-json", None),
        (token("") + "x", 400, "bad-json", None),
        ("[]".into(), 422, "invalid-request", Some("")),
        ("{}".into(), 422, "invalid-request", Some("/credential")),
        (token(r#","hush":1"#), 422, "invalid-request", Some("/credential/hush")),
        (token(r#","expires_at":"soon""#), 422, "invalid-request", Some("/credential/expires_at")),
        (r#"{"credential":"hush-hush"}"#.into(), 422, "invalid-request", Some("/credential")),
        (
            r#"{"credential":{"type":"hush-hush"}}"#.into(),
            422,
            "invalid-request",
            Some("/credential/type"),
        ),
        (
            r#"{"credential":{"type":"access_token","access_token":"hush hush"}}"#.into(),
            422,
            "invalid-request",
            Some("/credential/access_token"),
        ),
        (
            r#"{"credential":{"type":"password","username":7,"password":"hush-hush"}}"#.into(),
            422,
            "invalid-request",
            Some("/credential/username"),
        ),
        (
            r#"{"credential":{"type":"client"},"queue_id":7}"#.into(),
            422,
            "invalid-request",
            Some("/queue_id"),
        ),
        (token(&" ".repeat(70_000)), 413, "too-large", None),
    ] {
        let answer = put(&bridge, "user", &body).await;
        let problem = answer.problem(status, kind);
        assert_eq!(problem["pointer"].as_str(), pointer, "{body} {problem}");
        assert!(!problem.to_string().contains("hush-hush"), "{problem}");
    }
    let authorization = format!("Bearer {TOKEN}");
    let headers = [("authorization", authorization.as_str())];
    let answer = send(&bridge, "PUT", &path_of("user"), &headers, CLIENT).await;
    answer.problem(415, "unsupported-media-type");
    let answer = send(&bridge, "PATCH", &path_of("user"), &headers, CLIENT).await;
    answer.problem(405, "method-not-allowed");
    let answer = send(&bridge, "GET", "/v1/what-is-not-there", &headers, "").await;
    answer.problem(404, "unknown-path");
    put(&bridge, &"x".repeat(1025), CLIENT).await.problem(400, "bad-request");

    // a credential that the source refuses makes nothing
    put(&bridge, "user", &token("")).await.problem(422, "credential-refused");
    assert_eq!(bridge.get(&path_of("user")).await.0, 404);
    assert_eq!(stage.read("linxo.subscriptions").await.len(), 0);
    assert_eq!(stage.simulator.stats().subscribes, 0);

    // a new one for a user who is there is taken as it is, and found out by the next question
    let own = stage.simulator.issue_token("user", None).unwrap();
    let body = json!({"credential": {"type": "access_token", "access_token": own}}).to_string();
    assert_eq!(put(&bridge, "user", &body).await.status, 201);
    assert_eq!(put(&bridge, "user", &token("")).await.status, 200);
    let view = bridge.show_until("user", |view| view["state"] == "blocked").await;
    assert_eq!(view["credential"], json!({"type": "access_token"}));
    stage.assert_secret(&bridge, &["hush-hush", &own]).await;
}

#[tokio::test]
async fn a_user_id_may_be_any_text_of_up_to_1_kb() {
    let stage = Stage::new("user-ids").await;
    let bridge = stage.bridge().await;
    let longest = "é".repeat(512);
    let ids = [
        "with/slash//twice",
        "with space",
        " ",
        "a?b=c&d#e",
        "100%25",
        "%2F",
        "..a",
        "plus+plus",
        "\"quoted\\\"",
        "用户-🦀",
        "tab\tand\nnewline",
        "https://host.example/users/1",
        &"x".repeat(1024),
        &longest,
    ];
    for user in ids {
        let answer = put(&bridge, user, CLIENT).await;
        assert_eq!(
            (answer.status, &answer.body["user_id"]),
            (201, &json!(user)),
            "{}",
            answer.body
        );
        // the location leads back to it
        let (status, view) = bridge.get(&answer.location.unwrap()).await;
        assert_eq!((status, &view["user_id"]), (200, &json!(user)));
        // named to the source as it is
        assert_eq!(stage.simulator.live_queues(user).len(), 1, "{user}");
        stage.simulator.push(user, r#"{"id":"alone","event_type":"X"}"#).unwrap();
        stage.simulator.start_sync(user, &Sync::default()).unwrap();
        stage.simulator.push(user, "{}").unwrap();
    }
    let events = stage.until("linxo.events", |events| events.len() == ids.len() * 11).await;
    assert_counted(&events);
    let letters = stage.until("linxo.dead-letters", |letters| letters.len() == ids.len()).await;
    let states = stage.read("linxo.queues").await;
    for user in ids {
        let of_user = of_user(&events, user);
        assert_eq!(of_user.len(), 11, "{user}");
        let alone: Vec<_> = of_user.iter().filter(|event| event.key == user).collect();
        assert_eq!(alone.len(), 1, "{user}: keyed by the user without a connection");
        assert_eq!(alone[0].record.header("linxo-user-id"), Some(user));
        assert_eq!(letters.iter().filter(|letter| letter.key == user).count(), 1, "{user}");
        assert!(states.iter().any(|state| state.key == user));
        assert_eq!(bridge.call("DELETE", &path_of(user), None).await.0, 204, "{user}");
    }
    let (_, page) = bridge.get("/v1/subscriptions").await;
    assert_eq!(page["subscriptions"], json!([]));
}

#[tokio::test]
async fn calls_for_one_user_at_the_same_time_come_to_one_subscription_and_one_queue() {
    let stage = Stage::new("at-once").await;
    let bridge = stage.bridge().await;
    let calls = (0..8).map(|_| put(&bridge, "user", CLIENT));
    let answers = futures_util::future::join_all(calls).await;
    let mut statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 200, 200, 200, 200, 200, 200, 201]);
    assert!(answers.iter().all(|answer| answer.body == answers[0].body));
    assert_eq!(stage.simulator.stats().subscribes, 1);
    assert_eq!(
        stage.simulator.live_queues("user"),
        [answers[0].body["queue_id"].as_str().unwrap()]
    );
    stage.simulator.start_sync("user", &Sync::default()).unwrap();
    assert_eq!(stage.all_published_once().await.len(), 10);

    // making and removing in turns ends as the last of them says
    for _ in 0..3 {
        let removing = bridge.call("DELETE", "/v1/subscriptions/user", None);
        let (removed, made) = tokio::join!(removing, put(&bridge, "user", CLIENT));
        assert!([204, 404].contains(&removed.0), "{removed:?}");
        assert!([200, 201].contains(&made.status), "{}", made.body);
        let there = bridge.get(&path_of("user")).await.0 == 200;
        let last = stage.read("linxo.subscriptions").await.pop().unwrap();
        assert_eq!(there, last.value != Value::Null, "the topic and the view agree");
        put(&bridge, "user", CLIENT).await;
    }
    // more at once than a user may have waiting are told to come again, and none hangs
    let calls = (0..40).map(|_| put(&bridge, "crowded", CLIENT));
    let answers = futures_util::future::join_all(calls).await;
    for answer in &answers {
        if answer.status == 503 {
            answer.problem(503, "busy");
        } else {
            assert!([200, 201].contains(&answer.status), "{}", answer.body);
        }
    }
    assert_eq!(answers.iter().filter(|answer| answer.status == 201).count(), 1);
    assert_eq!(stage.simulator.live_queues("crowded").len(), 1);
}

/// Every metric of the design, and those beyond it, less the prefix.
const METRICS: &str = "event_lag_seconds commit_delay_seconds stage_duration_seconds polls_total \
    poll_duration_seconds poll_schedule_delay_seconds poll_interval_seconds queues \
    queues_by_headroom oldest_poll_timestamp_seconds queue_deaths_total gaps_total \
    events_received_total events_published_total oldest_unpublished_timestamp_seconds \
    action_events_total dead_letters_total journal_bytes journal_capacity_bytes journal_answers \
    journal_sync_seconds transactions_total transaction_records partitions_owned partitions \
    rebalances_total takeover_seconds token_requests_total users_blocked registry_requests_total \
    request_budget_per_second request_budget_required_per_second build_info events_ahead_total \
    journal_failing traces_total kafka_queued_messages \
    kafka_queued_bytes kafka_round_trip_seconds kafka_connections kafka_requests_total \
    kafka_sent_bytes_total kafka_connects_total kafka_disconnects_total kafka_request_errors_total \
    kafka_request_retries_total kafka_request_timeouts_total";

#[tokio::test]
async fn before_kafka_is_there_the_bridge_lives_is_not_ready_and_shows_every_metric() {
    let mut stage = Stage::bare("early", Options::default(), &[]).await;
    stage.set("kafka.bootstrap_servers", "\"127.0.0.1:9\"");
    let bridge = stage.start().await;
    let alive = send(&bridge, "GET", "/livez", &[], "").await;
    assert_eq!((alive.status, alive.body), (200, json!({"alive": true})));
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        let ready = send(&bridge, "GET", "/readyz", &[], "").await;
        let problem = ready.problem(503, "not-ready");
        if problem["reasons"][0].as_str().unwrap().contains("kafka at 127.0.0.1:9") {
            break;
        }
        assert!(Instant::now() < deadline, "nobody is told what is waited for: {problem}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let refused = put(&bridge, "user", CLIENT).await;
    assert_eq!(refused.status, 503, "{}", refused.body);
    assert_eq!(stage.simulator.stats().subscribes, 0, "nothing was made");

    let metrics = send(&bridge, "GET", "/metrics", &[], "").await;
    assert!(metrics.content_type.starts_with("text/plain"), "{}", metrics.content_type);
    let text = metrics.body.as_str().unwrap();
    let named: BTreeSet<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE linxo_bridge_")?.split(' ').next())
        .collect();
    assert_eq!(named, METRICS.split_whitespace().collect());
    for line in text.lines().filter(|line| line.starts_with("linxo_bridge_")) {
        let is_set = line.starts_with("linxo_bridge_build_info");
        assert!(line.ends_with(if is_set { " 1" } else { " 0" }), "{line}");
    }

    let described = send(&bridge, "GET", "/openapi.json", &[], "").await.body;
    assert!(described["openapi"].as_str().unwrap().starts_with("3."));
    let paths: BTreeSet<&str> =
        described["paths"].as_object().unwrap().keys().map(String::as_str).collect();
    let expected = [
        "/livez",
        "/metrics",
        "/openapi.json",
        "/readyz",
        "/v1/instances",
        "/v1/log",
        "/v1/subscriptions",
        "/v1/subscriptions/{user_id}",
        "/v1/subscriptions/{user_id}/hint",
    ];
    assert_eq!(paths, BTreeSet::from(expected));
    assert!(bridge.stop().await.success());
}
