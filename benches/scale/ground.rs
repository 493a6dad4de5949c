//! What the parts stand on: a source with queues, topics as a bridge would have left them, and looks at a bridge.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use linxo_kafka_bridge::credential::{Credential, KeyRing};
use linxo_kafka_bridge::event::Redaction;
use linxo_kafka_bridge::ids::{QueueId, SubscriptionId, Timestamp, UserId};
use linxo_kafka_bridge::kafka::partition_of;
use linxo_kafka_bridge::queue_state::QueueState;
use linxo_kafka_bridge::record::{Encoder, Framing, Topics};
use linxo_kafka_bridge::secret::Secret;
use linxo_kafka_bridge::simulator::Options;
use linxo_kafka_bridge::subscription::Subscription;
use rdkafka::error::KafkaError;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::support::source::SourceProcess;
use crate::support::{self, Bridge, Kafka, Stage, http};

pub(super) const PARTITIONS: i32 = 64;
pub(super) const KEEP_ALIVE: Duration = Duration::from_secs(300);
/// Questions that make queues, at a time.
const AT_A_TIME: usize = 64;
pub(super) const SESSION: Duration = Duration::from_secs(10);

/// A source, and a token that may ask it for everybody.
pub(super) struct Source {
    pub(super) process: SourceProcess,
    token: String,
}

impl Source {
    async fn start() -> Self {
        let process = SourceProcess::start(&["--token-lifetime", "10h"]).await;
        let token = process.client_token().await;
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

    pub(super) async fn stats(&self) -> Value {
        let url = format!("{}/control/stats", self.process.base);
        http().get(url).send().await.unwrap().json().await.unwrap()
    }
}

fn name(number: usize) -> String {
    format!("user-{number:08}")
}

/// Whose tokens the queues are asked with.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Tokens {
    /// The bridge's own.
    OfClient,
    /// Each user's, for a name and a password.
    OfUsers,
}

impl Tokens {
    fn kind(self) -> &'static str {
        match self {
            Self::OfClient => "client",
            Self::OfUsers => "password",
        }
    }
}

/// Topics as a bridge would have left them: a subscription and a state for each queue. No bridge runs.
async fn fill(stage: &Stage, queues: Vec<QueueId>, tokens: Tokens) {
    let keys = KeyRing::from_file(&stage.folder.path().join("keys")).unwrap();
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
            let (user, kind) = (UserId::from(name(number)), tokens.kind());
            let sealed = match tokens {
                Tokens::OfClient => Vec::new(),
                Tokens::OfUsers => {
                    let credential = Credential::Password {
                        username: Secret::from(name(number)),
                        password: Secret::from(format!("password-of-{}", name(number))),
                    };
                    keys.seal(&user, &credential).unwrap().as_bytes().to_vec()
                }
            };
            let subscription = Subscription {
                user_id: user,
                subscription_id: SubscriptionId::random(),
                queue_id: queue,
                credential_kind: kind.into(),
                sealed_credential: sealed,
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
pub(super) async fn world(
    kafka: &'static Kafka,
    name: &str,
    users: usize,
    tokens: Tokens,
) -> (Stage, Source) {
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
    fill(&stage, queues, tokens).await;
    println!("{users} queues made in {made:.0?}, topics filled in {:.0?}", began.elapsed() - made);
    (stage, source)
}

/// CPU seconds and resident megabytes.
pub(super) fn usage(pid: u32) -> (f64, f64) {
    let (seconds, bytes) = support::source::usage(pid);
    (seconds, bytes as f64 / 1e6)
}

/// The bridge's own count of queues that live.
pub(super) async fn live(bridge: &Bridge) -> f64 {
    bridge.metric("linxo_bridge_queues{state=\"live\"}").await
}

/// Starts a bridge; how long until every queue is loaded and scheduled.
pub(super) async fn start(stage: &Stage, users: usize) -> (Bridge, Duration) {
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
