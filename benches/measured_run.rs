//! One measured run: the real program, 5,000 users, a simulated source in a process of its own, one
//! broker. Prints figures; asserts nothing, since the machines are noisy.
//!
//! `cargo bench --features sabotage --bench measured_run`, or `make figures` for all.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a run that fails says so by panic")]

#[path = "../tests/support/mod.rs"]
mod support;

use std::sync::Arc;
use std::time::Duration;

use linxo_kafka_bridge::simulator::Options;
use serde_json::{Value, json};
use support::source::{SourceProcess, seconds, usage};
use support::{Kafka, Reader, Stage, http, path_of};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;

const USERS: usize = 5_000;
const POLL_EVERY: &str = "500ms";
const BACKLOG: usize = 100;
/// What can be measured alone: `cargo bench --features sabotage --bench measured_run -- outage`.
const PARTS: [&str; 5] = ["quiet", "light", "journal", "outage", "memory"];

/// A simulated source, and its control API.
struct Source(SourceProcess);

impl Source {
    async fn start() -> Self {
        Self(SourceProcess::start(&[]).await)
    }

    async fn call(&self, path: &str, body: Value) {
        let url = format!("{}/control/{path}", self.0.base);
        let answer = http().post(url).json(&body).send().await.unwrap();
        assert!(answer.status().is_success(), "{path}: {}", answer.status());
    }

    async fn put(&self, path: &str, body: Value) {
        let url = format!("{}/control/{path}", self.0.base);
        let answer = http().put(url).json(&body).send().await.unwrap();
        assert!(answer.status().is_success(), "{path}: {}", answer.status());
    }

    async fn delete(&self, path: &str) {
        let url = format!("{}/control/{path}", self.0.base);
        assert!(http().delete(url).send().await.unwrap().status().is_success());
    }
}

/// CPU seconds of a bridge by what its threads do: asking, the journal, publishing, librdkafka.
fn by_thread(pid: u32) -> [f64; 4] {
    let mut spent = [0.0; 4];
    for task in std::fs::read_dir(format!("/proc/{pid}/task")).unwrap() {
        // a thread may end meanwhile
        let Ok(stat) = std::fs::read_to_string(task.unwrap().path().join("stat")) else { continue };
        let (head, tail) = stat.rsplit_once(')').unwrap();
        let name = head.split_once('(').unwrap().1;
        let part = match name {
            "journal" => 1,
            "publisher" => 2,
            name if name.starts_with("rdk:") => 3,
            _ => 0,
        };
        spent[part] += seconds(&tail.split_whitespace().collect::<Vec<_>>());
    }
    spent
}

#[tokio::main]
async fn main() {
    // what cargo adds begins with a dash
    let parts: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    assert!(parts.iter().all(|part| PARTS.contains(&part.as_str())), "the parts are {PARTS:?}");
    let wants = |part: &str| parts.is_empty() || parts.iter().any(|wanted| wanted == part);
    let source = Source::start().await;
    let kafka: &'static Kafka = Box::leak(Box::new(Kafka::start().await));
    let mut stage = Stage::on(kafka, "measured", Options::default(), &[]).await;
    stage.set("linxo.api_url", &format!("\"{}/v2.1\"", source.0.base));
    stage.set("linxo.auth_url", &format!("\"{}/auth\"", source.0.base));
    stage.set("polling.keep_alive", &format!("{POLL_EVERY:?}"));
    stage.set("polling.active", &format!("{POLL_EVERY:?}"));
    stage.set("topics.partitions", "64");
    stage.set("topics.event_partitions", "12");
    assert!(stage.run(&["topics", "create"]).await.status.success());
    let bridge = stage.bridge().await;

    let users: Vec<String> = (0..USERS).map(|user| format!("user-{user:05}")).collect();
    let began = Instant::now();
    subscribe(&bridge, &users).await;
    let took = began.elapsed();
    println!("subscribed {USERS} users in {took:.1?}: {:.0} per second", rate(USERS, took));
    if wants("quiet") {
        quiet(&bridge).await;
    }
    if wants("light") {
        light_load(&stage, &source, &users).await;
    }
    bridge.stop().await;
    stage.set("polling.keep_alive", "\"1s\"");
    stage.set("polling.active", "\"1s\"");
    if wants("journal") {
        cost_of_the_journal(&mut stage, &source, &users).await;
    }
    if wants("outage") {
        stage.set("polling.keep_alive", "\"2s\"");
        stage.set("polling.active", "\"2s\"");
        stage.set("journal.max_bytes", "\"4GiB\"");
        outage(&stage, &source).await;
    }
    if wants("memory") {
        memory(&source).await;
    }
    drop(source.0.child);
}

/// What a question that is answered with nothing costs at 10,000 a second (`polls.rs`: beside bare clients).
async fn quiet(bridge: &support::Bridge) {
    tokio::time::sleep(Duration::from_secs(5)).await;
    let polls = "linxo_bridge_polls_total{outcome=\"empty\"}";
    let (cpu, counted) = (usage(bridge.pid()).0, bridge.metric(polls).await);
    let began = Instant::now();
    tokio::time::sleep(Duration::from_secs(20)).await;
    let polled = bridge.metric(polls).await - counted;
    let each = (usage(bridge.pid()).0 - cpu) / polled * 1e6;
    let per_second = polled / began.elapsed().as_secs_f64();
    println!("quiet: {per_second:.0} polls per second, {each:.1} us of CPU each");
}

/// The same pipeline with the journal and without it, by turns: ratios are of one run.
async fn cost_of_the_journal(stage: &mut Stage, source: &Source, users: &[String]) {
    let (mut flows, mut backlogs) = (Vec::new(), Vec::new());
    for guards in ["", "off:journal", "", "off:journal"] {
        stage.sabotage(guards);
        flows.push(flow(stage, source, guards).await);
        backlogs.push(backlog(stage, source, users, guards).await);
    }
    stage.sabotage("");
    let left = |rates: &[f64]| 100.0 * (rates[0] + rates[2]) / (rates[1] + rates[3]);
    println!(
        "the journal leaves {:.0} % of the rate of a flow, {:.0} % of that from a backlog",
        left(&flows),
        left(&backlogs)
    );
}

/// Subscribes users, as many at a time as an integrator's back end might.
async fn subscribe(bridge: &support::Bridge, users: &[String]) {
    let room = Arc::new(Semaphore::new(100));
    let mut puts = JoinSet::new();
    for user in users {
        let url = format!("{}{}", bridge.url, path_of(user));
        let seat = Arc::clone(&room).acquire_owned().await.unwrap();
        puts.spawn(async move {
            let body = json!({"credential": {"type": "client"}});
            let put = http().put(url).bearer_auth(support::TOKEN).json(&body);
            assert_eq!(put.send().await.unwrap().status(), 201);
            drop(seat);
        });
    }
    while let Some(put) = puts.join_next().await {
        put.unwrap();
    }
}

/// What a quiet queue takes, from the growth between 5,000 and 20,000 of them.
async fn memory(source: &Source) {
    let mut stage = Stage::bare("memory", Options::default(), &[]).await;
    stage.set("linxo.api_url", &format!("\"{}/v2.1\"", source.0.base));
    stage.set("linxo.auth_url", &format!("\"{}/auth\"", source.0.base));
    stage.set("polling.keep_alive", "\"5m\"");
    stage.set("polling.active", "\"10s\"");
    stage.set("topics.partitions", "64");
    assert!(stage.run(&["topics", "create"]).await.status.success());
    let bridge = stage.bridge().await;
    let users: Vec<String> = (0..4 * USERS).map(|user| format!("quiet-{user:05}")).collect();
    let empty = usage(bridge.pid()).1;
    subscribe(&bridge, &users[..USERS]).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    let few = usage(bridge.pid()).1;
    subscribe(&bridge, &users[USERS..]).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    let many = usage(bridge.pid()).1;
    println!(
        "resident: {:.1} MB without queues, {:.1} MB with {USERS}, {:.1} MB with {}: {:.0} bytes a \
         queue of the last {}",
        empty as f64 / 1e6,
        few as f64 / 1e6,
        many as f64 / 1e6,
        4 * USERS,
        many.saturating_sub(few) as f64 / (3 * USERS) as f64,
        3 * USERS
    );
    bridge.stop().await;
}

/// Ten events a second: how long until a committed reader has them.
async fn light_load(stage: &Stage, source: &Source, users: &[String]) {
    let topic = stage.topic("linxo.events");
    let mut reader = Reader::of(stage.kafka.bootstrap_servers(), &topic);
    let reading = tokio::spawn(async move {
        let mut delays = Vec::new();
        while delays.len() < 300 {
            let record = reader.next().await;
            delays.push(now_millis() - record.timestamp);
        }
        delays
    });
    for turn in 0..300 {
        let user = &users[turn * 7919 % users.len()];
        source.call("push", json!({"user": user, "events": 1})).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let mut delays = reading.await.unwrap();
    delays.sort_unstable();
    println!(
        "light load: answer received to seen by a committed reader, p50 {} ms, p99 {} ms, of {}",
        delays[delays.len() / 2],
        delays[delays.len() * 99 / 100],
        delays.len()
    );
}

/// Whether the journal is on, in words.
fn journal(guards: &str) -> &'static str {
    if guards.is_empty() { "with the journal" } else { "without the journal" }
}

/// Answers of about five events, as fast as they come: what an event costs.
/// Answers the rate, events a second.
async fn flow(stage: &Stage, source: &Source, guards: &str) -> f64 {
    let bridge = stage.bridge().await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let rate = json!({"events_per_second": 5 * USERS, "over_ms": 1, "for_ms": 16_000});
    source.put("traffic", rate).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let published = "linxo_bridge_events_published_total{kind=\"event\"}";
    let polls = "linxo_bridge_polls_total{outcome=\"events\"}";
    let (cpu, before) = (by_thread(bridge.pid()), bridge.metric(published).await);
    let (answers, began) = (bridge.metric(polls).await, Instant::now());
    tokio::time::sleep(Duration::from_secs(10)).await;
    let now = by_thread(bridge.pid());
    let events = bridge.metric(published).await - before;
    let rate = events / began.elapsed().as_secs_f64();
    let [asking, keeping, publishing, librdkafka] =
        std::array::from_fn(|part| (now[part] - cpu[part]) / events * 1e6);
    let answers = bridge.metric(polls).await - answers;
    println!(
        "flow {}: {:.0} events per second in answers of {:.1}, {:.1} us of CPU each: {asking:.1} asking, \
         {keeping:.1} journal, {publishing:.1} publisher, {librdkafka:.1} librdkafka",
        journal(guards),
        rate,
        events / answers,
        asking + keeping + publishing + librdkafka
    );
    tokio::time::sleep(Duration::from_secs(5)).await;
    bridge.stop().await;
    rate
}

/// Kafka away until 100,000 answers are journaled, then a kill: how long until all is published.
async fn outage(stage: &Stage, source: &Source) {
    /// Events a second. The source makes about ten at a time for a user.
    const RATE: usize = 5 * USERS / 2;
    let bridge = stage.bridge().await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    stage.kafka.stop();
    source.put("traffic", json!({"events_per_second": RATE, "over_ms": 1})).await;
    let answers = "linxo_bridge_journal_answers";
    let began = Instant::now();
    while bridge.metric(answers).await < 100_000.0 {
        assert!(began.elapsed() < Duration::from_secs(300), "{}", bridge.metric(answers).await);
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let held = bridge.metric(answers).await;
    let bytes = bridge.metric("linxo_bridge_journal_bytes").await;
    println!(
        "outage: {held} answers, {:.0} MB journaled in {:.1?} without Kafka",
        bytes / 1e6,
        began.elapsed()
    );
    bridge.kill().await;
    stage.kafka.restart().await;
    let began = Instant::now();
    let bridge = stage.start().await;
    bridge.ready().await;
    let ready = began.elapsed();
    while bridge.metric(answers).await > 1_000.0 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let events = bridge.metric("linxo_bridge_events_published_total{kind=\"event\"}").await;
    println!(
        "recovery: queues asked after {ready:.1?}, {events:.0} events caught up with after {:.1?}, \
         {:.0} per second, {} a second coming in meanwhile",
        began.elapsed(),
        events / began.elapsed().as_secs_f64(),
        RATE
    );
    source.delete("traffic").await;
    bridge.stop().await;
}

/// Events that wait for everybody when the bridge starts: how fast they are published, a second.
async fn backlog(stage: &Stage, source: &Source, users: &[String], guards: &str) -> f64 {
    for chunk in users.chunks(50) {
        let mut pushes = JoinSet::new();
        for user in chunk {
            let url = format!("{}/control/push", source.0.base);
            let body = json!({"user": user, "events": BACKLOG});
            pushes
                .spawn(async move { http().post(url).json(&body).send().await.unwrap().status() });
        }
        while let Some(pushed) = pushes.join_next().await {
            assert!(pushed.unwrap().is_success());
        }
    }
    let bridge = stage.bridge().await;
    let published = "linxo_bridge_events_published_total{kind=\"event\"}";
    let (cpu, began) = (usage(bridge.pid()).0, Instant::now());
    let wanted = (users.len() * BACKLOG) as f64;
    let already = bridge.metric(published).await;
    while bridge.metric(published).await < wanted {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let took = began.elapsed();
    let cpu = usage(bridge.pid()).0 - cpu;
    println!(
        "backlog {}: {:.0} of {wanted} events in {took:.1?}: {:.0} per second, {:.1} us of the bridge's \
         CPU each, polls included",
        journal(guards),
        wanted - already,
        (wanted - already) / took.as_secs_f64(),
        cpu / (wanted - already) * 1e6
    );
    bridge.stop().await;
    (wanted - already) / took.as_secs_f64()
}

fn rate(count: usize, took: Duration) -> f64 {
    count as f64 / took.as_secs_f64()
}

fn now_millis() -> i64 {
    linxo_kafka_bridge::ids::Timestamp::now().0
}
