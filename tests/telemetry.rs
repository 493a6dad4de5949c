//! What the bridge tells of itself: log lines whose filter is changed while it runs, traces, and as
//! many series whatever the number of users.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panic")]

mod support;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::http::StatusCode;
use axum::routing::post;
use linxo_kafka_bridge::simulator::{Options, Sync};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use serde_json::{Value, json};
use support::{Bridge, Kafka, PATIENCE, Stage};
use tokio::time::{Duration, Instant, sleep};

async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so().await {
        assert!(Instant::now() < deadline, "{what}: it did not come so far");
        sleep(Duration::from_millis(30)).await;
    }
}

/// The log lines of JSON so far.
fn lines(bridge: &Bridge) -> Vec<Value> {
    bridge.log().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn messages(bridge: &Bridge, level: &str) -> usize {
    lines(bridge).iter().filter(|line| line["level"] == level).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_is_json_where_wished_and_its_filter_changes_while_the_bridge_runs() {
    let mut stage = Stage::new("log-filter").await;
    stage.set("service.log", "\"info,librdkafka=off,hyper_util=off\"");
    stage.set("service.log_format", "\"json\"");
    let bridge = stage.bridge().await;
    let (status, shown) = bridge.get("/v1/log").await;
    assert_eq!((status, &shown["filter"]), (200, &json!("info,librdkafka=off,hyper_util=off")));
    assert!(messages(&bridge, "INFO") > 0, "{}", bridge.log());
    assert_eq!(messages(&bridge, "DEBUG"), 0, "{}", bridge.log());

    let change =
        async |filter: &str| bridge.call("PUT", "/v1/log", Some(json!({"filter": filter}))).await;
    let (status, refused) = change("inof").await;
    assert_eq!((status, &refused["pointer"]), (422, &json!("/filter")), "{refused}");
    assert!(refused["detail"].as_str().unwrap().contains("target=level"), "{refused}");

    let (status, changed) = change("debug").await;
    assert_eq!((status, changed), (200, json!({"filter": "debug"})));
    until("the change is told", async || bridge.log().contains("log filter changed")).await;
    let told = lines(&bridge).into_iter().find(|line| line["fields"]["filter"] == "debug").unwrap();
    assert_eq!(told["fields"]["filter_before"], "info,librdkafka=off,hyper_util=off");
    bridge.put("ann").await;
    until("debug lines come", async || messages(&bridge, "DEBUG") > 0).await;

    // told under the old filter, as the new one lets nothing through
    change("off").await;
    until("the end is told", async || {
        lines(&bridge).iter().any(|line| line["fields"]["filter"] == "off")
    })
    .await;
    let so_far = bridge.log().len();
    bridge.put("bob").await;
    assert_eq!(bridge.get("/v1/log").await.1["filter"], "off");
    assert_eq!(bridge.log().len(), so_far, "{}", &bridge.log()[so_far..]);

    // and under the new one, as the old one let nothing through
    change("info").await;
    until("the beginning is told", async || bridge.log().len() > so_far).await;
    let last = lines(&bridge).pop().unwrap();
    assert_eq!(last["fields"]["filter_before"], "off");
    assert!(bridge.stop().await.success());
}

/// An OpenTelemetry collector, as far as traces go.
#[derive(Clone, Default)]
struct Collector {
    bodies: Arc<Mutex<Vec<Bytes>>>,
}

impl Collector {
    /// Listens; where.
    async fn start(&self) -> String {
        let bodies = Arc::clone(&self.bodies);
        let take = move |body: Bytes| async move {
            bodies.lock().unwrap().push(body);
            StatusCode::OK
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().route("/v1/traces", post(take));
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        url
    }

    /// The spans of each trace so far, by when they began.
    fn traces(&self) -> Vec<Vec<Span>> {
        let mut traces: BTreeMap<Vec<u8>, Vec<Span>> = BTreeMap::new();
        for body in self.bodies.lock().unwrap().iter() {
            let request = ExportTraceServiceRequest::decode(body.clone()).unwrap();
            for of in request.resource_spans {
                let facts = of.resource.unwrap().attributes;
                let named = facts.iter().any(|fact| {
                    fact.key == "service.name"
                        && format!("{:?}", fact.value).contains("linxo-bridge")
                });
                assert!(named, "{facts:?}");
                for span in of.scope_spans.into_iter().flat_map(|scope| scope.spans) {
                    traces.entry(span.trace_id.clone()).or_default().push(span);
                }
            }
        }
        traces.into_values().collect()
    }
}

fn number(span: &Span, name: &str) -> i64 {
    let value = span.attributes.iter().find(|attribute| attribute.key == name);
    match value.and_then(|value| value.value.as_ref()?.value.clone()) {
        Some(any_value::Value::IntValue(number)) => number,
        Some(any_value::Value::BoolValue(is_so)) => i64::from(is_so),
        other => panic!("{name} is {other:?} in {span:?}"),
    }
}

/// One trace from the question to the commit, its steps within it and in order.
fn is_whole(spans: &[Span]) {
    let names: Vec<&str> = spans.iter().map(|span| span.name.as_str()).collect();
    assert_eq!(names, ["answer", "ask", "journal", "wait", "transaction"]);
    let (answer, steps) = spans.split_first().unwrap();
    assert!(answer.parent_span_id.is_empty(), "{answer:?}");
    let mut at = answer.start_time_unix_nano;
    for step in steps {
        assert_eq!(step.parent_span_id, answer.span_id);
        assert_eq!(step.start_time_unix_nano, at, "{}", step.name);
        assert!(step.end_time_unix_nano >= at, "{}", step.name);
        at = step.end_time_unix_nano;
    }
    assert_eq!(at, answer.end_time_unix_nano);
    let transaction = &spans[4];
    let (mut last, mut told) = (transaction.start_time_unix_nano, Vec::new());
    for event in &transaction.events {
        assert!(event.time_unix_nano >= last, "{event:?}");
        last = event.time_unix_nano;
        told.push(event.name.as_str());
    }
    assert_eq!(told, ["gathered", "delivered"]);
    assert!(last <= transaction.end_time_unix_nano);
    assert!(number(transaction, "rows") >= 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_one_trace_from_the_question_to_the_commit() {
    let collector = Collector::default();
    let mut stage = Stage::new("traces").await;
    stage.set("telemetry.otlp_endpoint", &format!("{:?}", collector.start().await));
    stage.set("telemetry.sample", "1.0");
    let bridge = stage.bridge().await;
    let began = std::time::SystemTime::now();
    let mut queues = Vec::new();
    for user in ["user-of-traces-1", "user-of-traces-2", "user-of-traces-3"] {
        queues.push(bridge.put(user).await["queue_id"].as_str().unwrap().to_owned());
        stage.simulator.start_sync(user, &Sync::default()).unwrap();
    }
    stage.drained().await;
    let received = bridge.metric("linxo_bridge_events_received_total").await;
    let answers = bridge.metric("linxo_bridge_polls_total{outcome=\"events\"}").await;
    let empty = bridge.metric("linxo_bridge_polls_total{outcome=\"empty\"}").await;
    assert!(received > 0.0 && answers > 0.0 && empty > 0.0, "{received} {answers} {empty}");
    // what was taken last is sent before the end
    assert!(bridge.stop().await.success());
    let traces = collector.traces();
    let checked = stage.run(&["check"]).await;
    let said = String::from_utf8(checked.stdout).unwrap();
    assert!(said.contains("ok    telemetry.otlp_endpoint takes traces"), "{said}");
    assert_eq!(collector.traces().len(), traces.len(), "a check makes no trace");

    assert_eq!(traces.len(), answers as usize, "an empty answer is no trace");
    traces.iter().for_each(|spans| is_whole(spans));
    let events: i64 = traces.iter().map(|spans| number(&spans[0], "events")).sum();
    assert_eq!(events, received as i64);
    for answer in traces.iter().map(|spans| &spans[0]) {
        assert_eq!((number(answer, "late"), number(answer, "attempt")), (0, 1));
        assert_eq!(number(answer, "generation"), 1);
        let since = began.duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos();
        assert!(u128::from(answer.start_time_unix_nano) >= since);
    }
    let sent: Vec<u8> = collector.bodies.lock().unwrap().concat();
    for hidden in queues.iter().map(String::as_str).chain(["user-of-traces"]) {
        assert!(!String::from_utf8_lossy(&sent).contains(hidden), "{hidden} is in a trace");
    }
}

/// The broker stands still for longer than a transaction may be open.
#[tokio::test(flavor = "multi_thread")]
async fn a_trace_tells_of_the_attempts_that_were_not_committed() {
    let collector = Collector::default();
    let kafka: &'static Kafka = Box::leak(Box::new(Kafka::start().await));
    let short = [("kafka.producer", "{ \"transaction.timeout.ms\" = \"2000\" }")];
    let mut stage = Stage::on(kafka, "attempts", Options::default(), &short).await;
    stage.set("telemetry.otlp_endpoint", &format!("{:?}", collector.start().await));
    stage.set("telemetry.sample", "1.0");
    assert!(stage.run(&["topics", "create"]).await.status.success());
    let bridge = stage.bridge().await;
    bridge.put("ann").await;
    // a mark that is under way at the pause keeps the events out of what fails
    let fails = |rows: &dyn Fn(&str) -> bool| {
        let log = bridge.log();
        log.lines()
            .filter(|line| line.contains("transaction was not committed") && rows(line))
            .count()
    };
    while fails(&|line| !line.contains("rows=0")) == 0 {
        let so_far = fails(&|_| true);
        kafka.pause();
        stage.simulator.push_events("ann", None, 3).unwrap();
        until("an attempt fails", async || fails(&|_| true) > so_far).await;
        kafka.resume();
        stage.drained().await;
    }
    assert!(bridge.stop().await.success());
    let traces = collector.traces();
    let tried = |spans: &&Vec<Span>| number(&spans[0], "attempt") > 1;
    let spans = traces.iter().find(tried).unwrap_or_else(|| panic!("{traces:?}"));
    is_whole(spans);
    let answer = &spans[0];
    assert_eq!(answer.events.len() as i64, number(answer, "attempt") - 1, "{answer:?}");
    for event in &answer.events {
        assert_eq!(event.name, "transaction was not committed");
        let told: Vec<&str> = event.attributes.iter().map(|it| it.key.as_str()).collect();
        assert_eq!(told, ["outcome", "error"]);
        assert!(event.time_unix_nano >= answer.start_time_unix_nano, "{answer:?}");
        assert!(event.time_unix_nano <= answer.end_time_unix_nano, "{answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_endpoint_of_ours_nothing_is_sent() {
    let collector = Collector::default();
    let url = collector.start().await;
    let mut stage = Stage::new("no-traces").await;
    stage.set("telemetry.sample", "1.0");
    // the variables of OpenTelemetry alone do not start it
    stage.launch_through(&["env", &format!("OTEL_EXPORTER_OTLP_ENDPOINT={url}")]);
    let bridge = stage.bridge().await;
    bridge.put("ann").await;
    stage.simulator.start_sync("ann", &Sync::default()).unwrap();
    stage.drained().await;
    for outcome in ["exported", "dropped", "failed"] {
        let series = format!("linxo_bridge_traces_total{{outcome=\"{outcome}\"}}");
        assert_eq!(bridge.metric(&series).await, 0.0, "{outcome}");
    }
    assert!(bridge.stop().await.success());
    assert!(collector.bodies.lock().unwrap().is_empty());

    stage.launch_through(&[]);
    stage.set("telemetry.otlp_endpoint", "\"http://127.0.0.1:1\"");
    let checked = stage.run(&["check"]).await;
    let said = String::from_utf8(checked.stdout).unwrap();
    assert!(said.contains("FAULT traces cannot be sent to telemetry.otlp_endpoint"), "{said}");
    assert!(!checked.status.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_never_answers_holds_up_neither_events_nor_the_stop() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut stage = Stage::new("no-collector").await;
    let url = format!("\"http://{}\"", silent.local_addr().unwrap());
    stage.set("telemetry.otlp_endpoint", &url);
    stage.set("telemetry.sample", "1.0");
    stage.set("service.grace", "\"3s\"");
    let bridge = stage.bridge().await;
    bridge.put("ann").await;
    stage.simulator.start_sync("ann", &Sync::default()).unwrap();
    stage.drained().await;
    let began = Instant::now();
    let (status, log) = bridge.stop_telling().await;
    assert!(status.success());
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    assert!(log.contains("not every trace was sent within service.grace"), "{log}");
}

/// The series of a running bridge, without their values.
async fn series(bridge: &Bridge) -> Vec<String> {
    let (_, text) = bridge.get("/metrics").await;
    let lines = text.as_str().unwrap().lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| line.rsplit_once(' ').unwrap().0.to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_series_are_the_same_with_10_and_with_10_000_users() {
    let mut stage = Stage::new("series").await;
    stage.set("polling.active_for", "\"1s\"");
    stage.set("polling.keep_alive", "\"5m\"");
    let bridge = Arc::new(stage.bridge().await);
    let mut before = Vec::new();
    let mut subscribed = 0;
    for users in [10, 10_000] {
        let mut putting = tokio::task::JoinSet::new();
        for user in subscribed..users {
            if putting.len() >= 512 {
                putting.join_next().await.unwrap().unwrap();
            }
            let bridge = Arc::clone(&bridge);
            putting.spawn(async move { bridge.put(&format!("user-{user}")).await });
        }
        putting.join_all().await;
        subscribed = users;
        until("all are counted", async || {
            bridge.metric("linxo_bridge_queues{state=\"live\"}").await == f64::from(users)
        })
        .await;
        let now = series(&bridge).await;
        assert!(now.len() > 200 && now.len() < 450, "{}", now.len());
        if before.is_empty() {
            before = now;
        } else {
            assert_eq!(now, before);
        }
    }
    let requests = async || bridge.metric("linxo_bridge_kafka_requests_total").await > 0.0;
    until("the producer says how it is", requests).await;
    assert_eq!(bridge.metric("linxo_bridge_kafka_request_timeouts_total").await, 0.0);
    assert!(bridge.metric("linxo_bridge_kafka_connections").await >= 1.0);
    let bridge = Arc::into_inner(bridge).unwrap();
    assert!(bridge.stop().await.success());
}
