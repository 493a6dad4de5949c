//! A start in a world that is not ready, or not right: what is waited for, what ends it, and how
//! `check` and `healthcheck` tell of it.

#![expect(clippy::unwrap_used, reason = "a test fails by panic")]

mod support;

use std::net::TcpListener;
use std::time::Duration;

use linxo_kafka_bridge::simulator::{Options, Sync};
use serde_json::json;
use support::{Bridge, Kafka, PATIENCE, Stage, free_ports, path_of};
use tokio::time::Instant;

/// What an answer of a bridge that waits may take, and what a container's health check would allow.
const SOON: Duration = Duration::from_secs(2);

async fn code_and_text(stage: &Stage, arguments: &[&str]) -> (i32, String) {
    let output = stage.run(arguments).await;
    let text = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8(text).unwrap())
}

/// Waits until `/readyz` says no, naming this.
async fn unready_for(bridge: &Bridge, what: &str) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let (status, body) = bridge.get("/readyz").await;
        if status == 503 && body.to_string().contains(what) {
            return;
        }
        assert!(Instant::now() < deadline, "{status} {body}\n{}", bridge.log());
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
}

/// Checks all that a bridge answers while it waits for Kafka.
async fn waits_for_kafka(stage: &Stage, bridge: &Bridge) {
    let bootstrap = stage.kafka.entrance();
    let asked = Instant::now();
    let (status, body) = bridge.get("/readyz").await;
    assert_eq!(status, 503, "{body}");
    let (status, body) = bridge.get("/livez").await;
    assert_eq!(status, 200, "waiting is alive: {body}");
    let body = json!({"credential": {"type": "client"}});
    let (status, problem) = bridge.call("PUT", &path_of("user"), Some(body)).await;
    assert_eq!((status, &problem["status"]), (503, &json!(503)), "{problem}");
    assert_eq!(stage.simulator.stats().subscribes, 0, "nothing is made that cannot be kept");
    assert!(asked.elapsed() < SOON, "three answers took {:?}", asked.elapsed());
    let (code, text) = code_and_text(stage, &["healthcheck"]).await;
    assert_eq!(code, 1);
    assert!(text.contains("503"), "{text}");
    unready_for(bridge, bootstrap).await;
    let said = format!("kafka at {bootstrap}");
    assert!(bridge.log().contains(&said), "{said}:\n{}", bridge.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kafka_that_is_away_is_waited_for_and_then_all_works() {
    let kafka: &'static Kafka = Box::leak(Box::new(Kafka::start().await));
    let mut stage = Stage::on(kafka, "away", Options::default(), &[]).await;
    let [port] = free_ports();
    stage.set("admin.listen", &format!("\"127.0.0.1:{port}\""));
    assert!(stage.run(&["topics", "create"]).await.status.success());

    // nothing listens there
    kafka.stop();
    let bridge = stage.start().await;
    waits_for_kafka(&stage, &bridge).await;
    let asked = Instant::now();
    assert!(bridge.stop().await.success());
    assert!(asked.elapsed() < SOON, "a bridge that waits stopped after {:?}", asked.elapsed());

    // it takes connections and says nothing
    kafka.restart().await;
    kafka.pause();
    let bridge = stage.start().await;
    waits_for_kafka(&stage, &bridge).await;
    kafka.resume();
    bridge.ready().await;
    bridge.put("user").await;
    let events = stage.simulator.start_sync("user", &Sync::default()).unwrap();
    assert_eq!(stage.drained().await.len(), events);
    let (code, text) = code_and_text(&stage, &["healthcheck"]).await;
    assert_eq!((code, text.as_str()), (0, ""));
    assert!(bridge.stop().await.success());
    let (code, text) = code_and_text(&stage, &["healthcheck"]).await;
    assert_eq!(code, 1);
    assert!(text.contains("is the service running?"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_bridge_on_the_same_journal_is_refused_and_the_first_goes_on() {
    let mut stage = Stage::new("twice").await;
    let first = stage.bridge().await;
    stage.set("kafka.instance_id", "\"bridge-1\"");
    let (code, text) = code_and_text(&stage, &["serve"]).await;
    assert_eq!(code, 1);
    assert!(text.contains("in use by another process"), "{text}");
    assert!(text.contains("journal.directory"), "{text}");
    first.put("user").await;
    assert!(first.stop().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_admin_address_that_is_taken_is_told_with_its_setting() {
    let mut stage = Stage::new("taken").await;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    stage.set("admin.listen", &format!("\"{address}\""));
    let (code, text) = code_and_text(&stage, &["serve"]).await;
    assert_eq!(code, 1);
    assert!(text.contains(&format!("admin.listen = {address}")), "{text}");
    assert!(text.contains("give an address that is free"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_without_certificates_is_told_so() {
    let mut stage = Stage::new("no-certificates").await;
    stage.launch_through(&["env", "SSL_CERT_FILE=/nowhere", "SSL_CERT_DIR=/nowhere"]);
    let (code, text) = code_and_text(&stage, &["serve"]).await;
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("certificates") && text.contains("SSL_CERT_FILE"), "{text}");
    assert!(!text.contains("admin.listen"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn check_says_that_all_is_well_and_counts_subscriptions() {
    let mut stage = Stage::new("well").await;
    let bridge = stage.bridge().await;
    for user in ["one", "two", "three"] {
        bridge.put(user).await;
    }
    let (status, body) = bridge.call("DELETE", &path_of("two"), None).await;
    assert_eq!(status, 204, "{body}");
    let before = stage.simulator.stats().subscribes;
    let (code, text) = code_and_text(&stage, &["check"]).await;
    assert_eq!(code, 0, "{text}");
    assert!(text.ends_with("all is well\n") && !text.contains("FAULT"), "{text}");
    for said in [
        "1 keys to seal credentials",
        "linxo.api_url answers",
        "client credentials are good",
        "kafka answers",
        "topics are as they must be",
        "ok    2 subscriptions",
        "keeping 2 queues alive takes 0.1 requests per second",
    ] {
        assert!(text.contains(said), "{said}:\n{text}");
    }
    assert!(!text.contains("max_in_flight"), "{text}");
    assert_eq!(stage.simulator.stats().subscribes, before, "a check changes nothing");
    assert!(bridge.stop().await.success());

    // limits that are too small for the queues there are
    stage.set("polling.keep_alive", "\"500ms\"");
    stage.set("polling.active", "\"500ms\"");
    stage.set("polling.max_in_flight", "3");
    stage.set("linxo.max_requests_per_second", "3");
    let (code, text) = code_and_text(&stage, &["check"]).await;
    assert_eq!(code, 1, "{text}");
    let fault = "linxo.max_requests_per_second = 3 is too little";
    assert!(text.contains(fault), "{text}");
    let note = "with polling.max_in_flight = 3 one instance can ask all of them only while answers take \
                less than 0.75 s";
    assert!(text.contains(note), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn check_tells_every_fault_in_one_run_and_no_secret() {
    let mut stage = Stage::bare("faults", Options::default(), &[]).await;
    let wrong = "a-secret-that-is-wrong";
    std::fs::write(stage.folder.path().join("client-secret"), wrong).unwrap();
    std::fs::write(stage.folder.path().join("keys"), format!("{wrong}\n")).unwrap();
    let [port] = free_ports();
    stage.set("schema_registry.url", &format!("\"http://user:{wrong}@127.0.0.1:{port}\""));
    let (code, text) = code_and_text(&stage, &["check"]).await;
    assert_eq!(code, 1, "{text}");
    let faults: Vec<&str> = text.lines().filter(|line| line.starts_with("FAULT ")).collect();
    for (fault, mends) in [
        ("credentials.key_file: line 1", "base64"),
        ("client credentials: ", "linxo.client_secret_file"),
        ("the topics are not as they must be", ""),
        ("schema_registry.url: ", "cannot be reached"),
    ] {
        let line = faults.iter().find(|line| line.contains(fault));
        assert!(line.is_some_and(|line| line.contains(mends)), "{fault} {mends}:\n{text}");
    }
    assert!(text.contains(&stage.topic("linxo.queues")), "{text}");
    assert!(text.contains("`linxo-bridge topics create`"), "{text}");
    assert!(text.ends_with("4 to mend\n"), "{text}");
    assert_eq!(faults.len(), 4);
    assert!(!text.contains(wrong), "{text}");

    // a source and a cluster that nobody serves
    stage.set("linxo.api_url", &format!("\"http://127.0.0.1:{port}\""));
    stage.set("kafka.bootstrap_servers", &format!("\"127.0.0.1:{port}\""));
    let (code, text) = code_and_text(&stage, &["check"]).await;
    assert_eq!(code, 1);
    assert!(text.contains("FAULT linxo.api_url does not answer as it should"), "{text}");
    assert!(text.contains("FAULT kafka.bootstrap_servers: "), "{text}");
    assert!(text.ends_with("5 to mend\n") && !text.contains(wrong), "{text}");
}
