//! Many queues: a million on one instance, and a hundred thousand that pass from one to another. Prints figures;
//! asserts nothing, since the machines are noisy.
//!
//! `cargo bench --bench scale` for both parts, `-- million` or `-- takeover` for one; `--queues N` for another number.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a run that fails says so by panic")]

#[path = "../tests/support/mod.rs"]
mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use clap::Parser;
use linxo_kafka_bridge::event::Redaction;
use linxo_kafka_bridge::ids::{QueueId, SubscriptionId, Timestamp, UserId};
use linxo_kafka_bridge::kafka::partition_of;
use linxo_kafka_bridge::queue_state::QueueState;
use linxo_kafka_bridge::record::{Encoder, Framing, Topics};
use linxo_kafka_bridge::simulator::Options;
use linxo_kafka_bridge::subscription::Subscription;
use rdkafka::error::KafkaError;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::{Value, json};
use support::source::SourceProcess;
use support::{Bridge, Kafka, Stage, http};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

const PARTITIONS: i32 = 64;
const KEEP_ALIVE: Duration = Duration::from_secs(300);
/// Questions that make queues, at a time.
const AT_A_TIME: usize = 64;
const SESSION: Duration = Duration::from_secs(10);

/// What is measured.
#[derive(Parser)]
struct Arguments {
    /// The parts: million, takeover. None: both.
    parts: Vec<String>,
    /// Queues of the first part; the second has a tenth of them.
    #[arg(long, default_value_t = 1_000_000)]
    queues: usize,
    /// Rounds of the keep-alive interval in the first part.
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// What cargo adds.
    #[arg(long, hide = true)]
    bench: bool,
}

#[tokio::main]
async fn main() {
    let arguments = Arguments::parse();
    let wants =
        |part: &str| arguments.parts.is_empty() || arguments.parts.iter().any(|p| p == part);
    let kafka: &'static Kafka = Box::leak(Box::new(Kafka::start().await));
    if wants("million") {
        million(kafka, arguments.queues, arguments.rounds).await;
    }
    if wants("takeover") {
        takeover(kafka, arguments.queues / 10).await;
    }
}

/// A source, and a token that may ask it for everybody.
struct Source {
    process: SourceProcess,
    token: String,
}

impl Source {
    async fn start() -> Self {
        let process = SourceProcess::start(&["--token-lifetime", "10h"]).await;
        let base = &process.base;
        let options = Options::default();
        let form = json!({
            "grant_type": "client_credentials",
            "client_id": options.client_id,
            "client_secret": options.client_secret,
        });
        let answer = http().post(format!("{base}/auth/token")).json(&form).send().await.unwrap();
        let answer: Value = answer.json().await.unwrap();
        let token = answer["access_token"].as_str().unwrap().to_owned();
        Self { process, token }
    }

    /// Makes a queue for each user.
    async fn queues(&self, users: usize) -> Vec<QueueId> {
        let next = Arc::new(AtomicUsize::new(0));
        let mut makers = JoinSet::new();
        for _ in 0..AT_A_TIME {
            let (next, url) =
                (Arc::clone(&next), format!("{}/v2.1/queues/subscribe", self.process.base));
            let token = self.token.clone();
            makers.spawn(async move {
                let mut made = Vec::new();
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= users {
                        return made;
                    }
                    let request = http().post(&url).bearer_auth(&token);
                    let request = request.header("x-linxo-user-id", name(number));
                    let answer = request.json(&json!({"topics": ["connections"]})).send().await;
                    let answer = answer.unwrap();
                    let location = answer.headers()["location"].to_str().unwrap();
                    let queue = location.rsplit_once('/').unwrap().1;
                    made.push((number, QueueId::from(queue)));
                }
            });
        }
        let mut all: Vec<(usize, QueueId)> =
            makers.join_all().await.into_iter().flatten().collect();
        all.sort_unstable_by_key(|(number, _)| *number);
        all.into_iter().map(|(_, queue)| queue).collect()
    }

    async fn stats(&self) -> Value {
        let url = format!("{}/control/stats", self.process.base);
        http().get(url).send().await.unwrap().json().await.unwrap()
    }
}

fn name(number: usize) -> String {
    format!("user-{number:08}")
}

/// Topics as a bridge would have left them: a subscription and a state for each queue. No bridge runs.
async fn fill(stage: &Stage, queues: Vec<QueueId>) {
    let topics = Topics::new(&stage.prefix, "linxo.actions.{action}");
    let producer: BaseProducer = stage
        .kafka
        .client()
        .set("compression.type", "lz4")
        .set("queue.buffering.max.messages", "1000000")
        .create()
        .unwrap();
    let filling = tokio::task::spawn_blocking(move || {
        let encoder = Encoder::new(
            &Framing::SingleObject,
            &topics,
            Redaction::new(Vec::<String>::new()),
            true,
        )
        .unwrap();
        let now = Timestamp::now();
        for (number, queue) in queues.into_iter().enumerate() {
            let subscription = Subscription {
                user_id: UserId::from(name(number)),
                subscription_id: SubscriptionId::random(),
                queue_id: queue,
                credential_kind: "client".into(),
                sealed_credential: Vec::new(),
                created_at: now,
                updated_at: now,
            };
            let mut state = QueueState::first(&subscription, 1, now);
            state.asked_at = Some(now);
            let (mut wish, mut held) = (Vec::new(), Vec::new());
            encoder.subscription(&subscription, &mut wish).unwrap();
            encoder.queue_state(&state, &mut held).unwrap();
            let partition = partition_of(name(number).as_bytes(), PARTITIONS);
            for (topic, value) in [(&topics.subscriptions, &wish), (&topics.queues, &held)] {
                let key = name(number);
                let mut record =
                    BaseRecord::to(topic).key(&key).payload(value).partition(partition);
                while let Err((error, back)) = producer.send(record) {
                    assert!(
                        matches!(
                            error,
                            KafkaError::MessageProduction(
                                rdkafka::types::RDKafkaErrorCode::QueueFull
                            )
                        ),
                        "{error}"
                    );
                    producer.poll(Duration::from_millis(50));
                    record = back;
                }
            }
        }
        producer.flush(Duration::from_secs(120)).unwrap();
    });
    filling.await.unwrap();
}

/// A world with so many queues that live and are known to the topics.
async fn world(kafka: &'static Kafka, name: &str, users: usize) -> (Stage, Source) {
    let source = Source::start().await;
    let mut stage = Stage::on(kafka, name, Options::default(), &[]).await;
    stage.set("linxo.api_url", &format!("\"{}/v2.1\"", source.process.base));
    stage.set("linxo.auth_url", &format!("\"{}/auth\"", source.process.base));
    stage.set("polling.keep_alive", &format!("\"{}s\"", KEEP_ALIVE.as_secs()));
    // a subscription is new: else every queue would be asked often at first
    stage.set("polling.active_for", "\"1s\"");
    stage.set("topics.partitions", &PARTITIONS.to_string());
    stage.set("kafka.session_timeout", &format!("\"{}s\"", SESSION.as_secs()));
    assert!(stage.run(&["topics", "create"]).await.status.success());
    let began = Instant::now();
    let queues = source.queues(users).await;
    let made = began.elapsed();
    fill(&stage, queues).await;
    println!("{users} queues made in {made:.0?}, topics filled in {:.0?}", began.elapsed() - made);
    (stage, source)
}

/// CPU seconds and resident megabytes.
fn usage(pid: u32) -> (f64, f64) {
    let (seconds, bytes) = support::source::usage(pid);
    (seconds, bytes as f64 / 1e6)
}

/// The bridge's own count of queues that live.
async fn live(bridge: &Bridge) -> f64 {
    bridge.metric("linxo_bridge_queues{state=\"live\"}").await
}

/// Starts a bridge; how long until every queue is loaded and scheduled.
async fn start(stage: &Stage, users: usize) -> (Bridge, Duration) {
    let began = Instant::now();
    let bridge = stage.start().await;
    let deadline = began + Duration::from_secs(600);
    while bridge.get("/readyz").await.0 != 200 {
        assert!(Instant::now() < deadline, "not ready:\n{}", bridge.log());
        sleep(Duration::from_millis(100)).await;
    }
    let took = began.elapsed();
    while live(&bridge).await < users as f64 {
        assert!(Instant::now() < deadline, "{} live", live(&bridge).await);
        sleep(Duration::from_secs(1)).await;
    }
    (bridge, took)
}

async fn million(kafka: &'static Kafka, users: usize, rounds: u32) {
    let (stage, mut source) = world(kafka, "million", users).await;
    let (bridge, took) = start(&stage, users).await;
    let after_load = usage(bridge.pid()).1;
    println!(
        "{users} queues: loaded and scheduled {took:.1?} after the start, {after_load:.0} MB resident"
    );
    let mut polls = source.stats().await["polls"].as_f64().unwrap();
    let (mut cpu, mut most) = (usage(bridge.pid()).0, after_load);
    for round in 1..=rounds {
        let end = Instant::now() + KEEP_ALIVE;
        let (mut slowest, began) = (Duration::ZERO, Instant::now());
        while Instant::now() < end {
            sleep(Duration::from_secs(15)).await;
            most = most.max(usage(bridge.pid()).1);
            let scraping = Instant::now();
            bridge.get("/metrics").await;
            slowest = slowest.max(scraping.elapsed());
        }
        let stats = source.stats().await;
        let asked = stats["polls"].as_f64().unwrap() - polls;
        let spent = usage(bridge.pid()).0 - cpu;
        println!(
            "round {round}: {asked:.0} polls, {:.0} a second, {:.1} % of a core, {:.1} us each; {} deaths; \
             longest pause {:.1} s; {most:.0} MB resident at most; slowest scrape {slowest:.1?}",
            asked / began.elapsed().as_secs_f64(),
            100.0 * spent / began.elapsed().as_secs_f64(),
            spent / asked * 1e6,
            stats["deaths"],
            stats["longest_pause_ms"].as_f64().unwrap() / 1e3,
        );
        (polls, cpu) = (polls + asked, cpu + spent);
    }
    println!("{:.0} bytes a queue", (most - 40.0) * 1e6 / users as f64);
    let began = Instant::now();
    assert!(bridge.stop().await.success());
    println!("stopped after {:.1?}", began.elapsed());
    let (bridge, took) = start(&stage, users).await;
    println!("restart: loaded and scheduled after {took:.1?}");
    sleep(Duration::from_secs(5)).await;
    println!("{} deaths in all", source.stats().await["deaths"]);
    bridge.stop().await;
    source.process.child.kill().await.unwrap();
}

/// Two instances; one is killed, comes back, and hands over in order.
async fn takeover(kafka: &'static Kafka, users: usize) {
    let (mut stage, mut source) = world(kafka, "takeover", users).await;
    let first = stage.start().await;
    let journal = stage.folder.path().join("journal-1");
    stage.set("journal.directory", &format!("{journal:?}"));
    stage.set("kafka.instance_id", "\"bridge-1\"");
    let second = stage.start().await;
    let deadline = Instant::now() + Duration::from_secs(120);
    while live(&first).await + live(&second).await < users as f64
        || live(&first).await < users as f64 * 0.4
        || live(&second).await < users as f64 * 0.4
    {
        assert!(Instant::now() < deadline, "not shared out:\n{}", second.log());
        sleep(Duration::from_millis(200)).await;
    }
    // a round, so that everybody is in phase
    sleep(KEEP_ALIVE).await;
    let moved = live(&second).await;
    let killed = Instant::now();
    second.kill().await;
    let owned = "linxo_bridge_partitions_owned";
    while first.metric(owned).await < f64::from(PARTITIONS) {
        sleep(Duration::from_millis(50)).await;
    }
    let granted = killed.elapsed();
    while live(&first).await < users as f64 {
        sleep(Duration::from_millis(50)).await;
    }
    let loaded = killed.elapsed();
    println!(
        "killed, {moved:.0} queues move: granted after {granted:.1?} (session {SESSION:?}), loaded after {loaded:.1?}"
    );
    sleep(KEEP_ALIVE).await;
    takeovers(&first).await;
    let stats = source.stats().await;
    println!(
        "longest pause of any queue {:.1} s, keep-alive {KEEP_ALIVE:?}; {} deaths",
        stats["longest_pause_ms"].as_f64().unwrap() / 1e3,
        stats["deaths"]
    );
    let began = Instant::now();
    let second = stage.start().await;
    while live(&second).await < users as f64 * 0.4 {
        sleep(Duration::from_millis(20)).await;
    }
    println!(
        "handed over in order: {:.0} queues asked by the newcomer {:.1?} after its start",
        live(&second).await,
        began.elapsed()
    );
    assert!(second.stop().await.success());
    assert!(first.stop().await.success());
    source.process.child.kill().await.unwrap();
}

/// From the grant of a partition to the last of its queues asked, as the bridge counts it.
async fn takeovers(bridge: &Bridge) {
    let (_, text) = bridge.get("/metrics").await;
    let text = text.as_str().unwrap_or_default().to_owned();
    let lines: Vec<&str> =
        text.lines().filter(|line| line.starts_with("linxo_bridge_takeover_seconds")).collect();
    println!("{}", lines.join("\n"));
}
