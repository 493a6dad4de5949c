//! Two bridges on a Kafka of their own, under some load, with all times a sixth.

use std::time::Duration;

use linxo_kafka_bridge::simulator::{ConnectionPlan, Options, Traffic};
use serde_json::json;

use crate::support::{Bridge, Kafka, PATIENCE, Stage, free_ports, path_of};

/// Users with the bridge's own credential, and with a password of theirs.
const CLIENTS: usize = 40;
const PASSWORDS: usize = 20;

/// How long a queue lives here that nobody asks.
pub(crate) const LIFE: Duration = Duration::from_secs(150);

/// Everything that is watched.
pub(crate) struct World {
    pub(crate) kafka: &'static Kafka,
    pub(crate) stage: Stage,
    /// One for each place; none: it is down.
    pub(crate) bridges: Vec<Option<Bridge>>,
    ports: Vec<u16>,
    journals: Vec<u32>,
}

impl World {
    /// Two bridges, nobody subscribed. `is_scaled`: with all times a sixth.
    pub(crate) async fn bare(is_scaled: bool) -> Self {
        let kafka: &'static Kafka = Box::leak(Box::new(Kafka::start().await));
        let options = Options {
            queue_lifetime: if is_scaled { LIFE } else { Duration::from_secs(900) },
            token_lifetime: Duration::from_secs(100),
            ..Options::default()
        };
        let scaled = [
            ("linxo.queue_lifetime", "\"150s\""),
            ("polling.keep_alive", "\"50s\""),
            ("kafka.session_timeout", "\"7500ms\""),
            ("journal.grace", "\"100s\""),
            ("credentials.retry", "\"50s\""),
            ("polling.active", "\"500ms\""),
            ("polling.active_for", "\"20s\""),
        ];
        let real = [("polling.keep_alive", "\"5m\""), ("polling.active", "\"1s\"")];
        let settings = if is_scaled { &scaled[..] } else { &real[..] };
        let stage = Stage::on(kafka, "drill", options, settings).await;
        let made = stage.run(&["topics", "create"]).await;
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let ports = free_ports::<2>().to_vec();
        let mut world =
            Self { kafka, stage, bridges: vec![None, None], ports, journals: vec![0, 0] };
        world.start(0).await;
        world.start(1).await;
        world
    }

    /// The same with users and events.
    pub(crate) async fn busy() -> Self {
        let world = Self::bare(true).await;
        let bridge = world.bridges[0].as_ref().unwrap();
        for number in 0..CLIENTS + PASSWORDS {
            let user = format!("user-{number:02}");
            let body = if number < CLIENTS {
                json!({"credential": {"type": "client"}})
            } else {
                world.stage.simulator.put_user(&user, &[ConnectionPlan::default()]).unwrap();
                world.stage.simulator.set_password(&user, "a password").unwrap();
                json!({"credential": {"type": "password", "username": user, "password": "a password"}})
            };
            let deadline = tokio::time::Instant::now() + PATIENCE;
            loop {
                let (status, answer) =
                    bridge.call("PUT", &path_of(&user), Some(body.clone())).await;
                if status == 200 || status == 201 {
                    break;
                }
                // partitions may still move
                let is_late = tokio::time::Instant::now() > deadline;
                assert!(status == 503 && !is_late, "{status} {answer}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        let traffic = Traffic { over_ms: 2000, asking: 0.2, ..Traffic::of(10.0) };
        world.stage.simulator.start_traffic(traffic).unwrap();
        world
    }

    /// Where the bridges are scraped.
    pub(crate) fn addresses(&self) -> Vec<String> {
        self.ports.iter().map(|port| format!("127.0.0.1:{port}")).collect()
    }

    /// Starts the bridge of a place, with its journal.
    pub(crate) async fn start(&mut self, place: usize) {
        self.launch(place).await.ready().await;
    }

    /// The same, ready or not.
    pub(crate) async fn launch(&mut self, place: usize) -> &Bridge {
        let journal = format!("journal-{place}-{}", self.journals[place]);
        let journal = self.stage.folder.path().join(journal);
        self.stage.set("journal.directory", &format!("{:?}", journal.to_str().unwrap()));
        self.stage.set("kafka.instance_id", &format!("\"bridge-{place}\""));
        self.stage.set("admin.listen", &format!("\"127.0.0.1:{}\"", self.ports[place]));
        let bridge = self.stage.start().await;
        self.bridges[place].insert(bridge)
    }

    /// The bridge of a place dies.
    pub(crate) async fn kill(&mut self, place: usize) {
        self.bridges[place].take().unwrap().kill().await;
    }

    /// The disk of a place is gone; the next bridge there has a new one.
    pub(crate) fn lose_disk(&mut self, place: usize) {
        self.journals[place] += 1;
    }
}
