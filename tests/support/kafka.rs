//! Apache Kafka itself: one KRaft broker, on free ports of the loopback, in a folder of its own.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use tokio::sync::OnceCell;
use tokio::task::spawn_blocking;
use tokio::time::Instant;

use super::cache;
use super::server::{Server, free_ports};

/// What makes a broker quick to start, to come back after a SIGKILL, and to notice that a client has gone.
const SETTINGS: &str = "\
process.roles=broker,controller
node.id=1
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=PLAINTEXT
controller.listener.names=CONTROLLER
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
group.consumer.session.timeout.ms=6000
group.consumer.min.session.timeout.ms=1000
group.consumer.heartbeat.interval.ms=1000
group.consumer.min.heartbeat.interval.ms=200
transaction.abort.timed.out.transaction.cleanup.interval.ms=1000
num.network.threads=2
num.io.threads=4
log.cleaner.dedupe.buffer.size=2097152
log.cleaner.threads=1
log.segment.bytes=67108864
broker.session.timeout.ms=2000
broker.heartbeat.interval.ms=300
controller.quorum.election.timeout.ms=200
controller.quorum.election.backoff.max.ms=200
controller.quorum.fetch.timeout.ms=1000
";

const BOOT: Duration = Duration::from_secs(60);

/// A broker; gone with its folder when dropped, or when the test process ends.
pub struct Kafka {
    bootstrap: String,
    server: Arc<Mutex<Server>>,
}

impl Kafka {
    /// The broker that all tests of a file share; keep them apart by [`unique`] names.
    pub async fn shared() -> &'static Self {
        static SHARED: OnceCell<Kafka> = OnceCell::const_new();
        SHARED.get_or_init(Self::start).await
    }

    /// A broker of one's own, for a test that stops or pauses it.
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// The same with broker properties over those of [`SETTINGS`].
    pub async fn start_with(properties: &[(&str, &str)]) -> Self {
        let properties: String =
            properties.iter().map(|(name, value)| format!("{name}={value}\n")).collect();
        spawn_blocking(move || {
            // Somebody else may take a port between our look and the broker's: then with others.
            for _ in 0..2 {
                if let Ok(kafka) = Self::boot(&properties) {
                    return kafka;
                }
            }
            Self::boot(&properties).unwrap_or_else(|log| panic!("kafka does not start:\n{log}"))
        })
        .await
        .unwrap()
    }

    /// What clients connect to.
    pub fn bootstrap_servers(&self) -> &str {
        &self.bootstrap
    }

    /// The settings of a client of this broker, to add to.
    pub fn client(&self) -> ClientConfig {
        client(&self.bootstrap)
    }

    /// Makes a topic and waits till its partitions can be used.
    pub async fn create_topic(&self, name: &str, partitions: i32, settings: &[(&str, &str)]) {
        let admin: AdminClient<DefaultClientContext> = self.client().create().unwrap();
        let topic = NewTopic {
            config: settings.to_vec(),
            ..NewTopic::new(name, partitions, TopicReplication::Fixed(1))
        };
        for result in admin.create_topics([&topic], &AdminOptions::new()).await.unwrap() {
            result.unwrap_or_else(|(name, error)| panic!("topic {name}: {error}"));
        }
        let (config, name) = (self.client(), name.to_owned());
        spawn_blocking(move || {
            let consumer: BaseConsumer = config.create().unwrap();
            let deadline = Instant::now() + Duration::from_secs(10);
            while !has_leaders(&consumer, &name, partitions) {
                assert!(Instant::now() < deadline, "topic {name} has partitions without a leader");
            }
        })
        .await
        .unwrap();
    }

    /// Gives a topic these settings in place of those it was made with.
    pub async fn alter_topic(&self, name: &str, settings: &[(&str, &str)]) {
        let admin: AdminClient<DefaultClientContext> = self.client().create().unwrap();
        let altered = AlterConfig {
            specifier: ResourceSpecifier::Topic(name),
            entries: settings.iter().copied().collect(),
        };
        for result in admin.alter_configs([&altered], &AdminOptions::new()).await.unwrap() {
            result.unwrap_or_else(|(_, error)| panic!("topic {name}: {error}"));
        }
    }

    /// SIGKILL. Folder and ports are kept for [`Self::restart`].
    pub fn stop(&self) {
        self.server().kill();
    }

    /// SIGSTOP: connections stay, nothing answers.
    pub fn pause(&self) {
        self.server().signal("STOP");
    }

    /// SIGCONT.
    pub fn resume(&self) {
        self.server().signal("CONT");
    }

    /// Starts it on the same folder and ports, after SIGKILL if it runs, and waits till it answers.
    pub async fn restart(&self) {
        let (bootstrap, server) = (self.bootstrap.clone(), Arc::clone(&self.server));
        spawn_blocking(move || {
            let mut server = server.lock().unwrap();
            server.kill();
            let command = command(server.folder());
            server.run(command);
            wait_for(&mut server, &bootstrap)
                .unwrap_or_else(|log| panic!("kafka does not come back:\n{log}"));
        })
        .await
        .unwrap();
    }

    /// The last lines of the broker's log.
    pub fn log(&self) -> String {
        self.server().log()
    }

    fn server(&self) -> MutexGuard<'_, Server> {
        self.server.lock().unwrap()
    }

    fn boot(properties: &str) -> Result<Self, String> {
        let [port, controller] = free_ports();
        let mut server = Server::in_new_folder("linxo-kafka-");
        let data = server.folder().join("data");
        copy_folder(&cache::kafka().join("formatted"), &data);
        let data = data.display();
        let settings = format!(
            "{SETTINGS}\
             log.dirs={data}\n\
             listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}\n\
             advertised.listeners=PLAINTEXT://127.0.0.1:{port}\n\
             controller.quorum.voters=1@127.0.0.1:{controller}\n\
             {properties}"
        );
        fs::write(server.folder().join("server.properties"), settings).unwrap();
        let bootstrap = format!("127.0.0.1:{port}");
        let command = command(server.folder());
        server.run(command);
        wait_for(&mut server, &bootstrap)?;
        Ok(Self { bootstrap, server: Arc::new(Mutex::new(server)) })
    }
}

/// A name that no other test of this file has, for what is made in a shared server.
pub fn unique(name: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    format!("{name}-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// The settings of a client, to add to.
pub(super) fn client(bootstrap: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap);
    // A broker that comes back is found at once.
    config.set("reconnect.backoff.ms", "50").set("reconnect.backoff.max.ms", "200");
    config
}

fn command(folder: &Path) -> Command {
    let kafka = cache::kafka();
    let mut command = Command::new("java");
    // Flags and class path as in scripts/setup.sh, or the class archive is not used.
    command
        .arg(format!("-XX:SharedArchiveFile={}", kafka.join("kafka.jsa").display()))
        .args([
            "-Xshare:auto",
            "-Xms64m",
            "-Xmx256m",
            "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1",
        ])
        .arg(format!(
            "-Dlog4j2.configurationFile={}",
            cache::source("tests/support/kafka-log4j2.properties").display()
        ))
        .arg("-cp")
        .arg(kafka.join("libs/*"))
        .arg("kafka.Kafka")
        .arg(folder.join("server.properties"));
    command
}

/// Waits till the broker lists itself; the error is its log.
fn wait_for(server: &mut Server, bootstrap: &str) -> Result<(), String> {
    let probe: BaseConsumer = client(bootstrap).create().unwrap();
    let deadline = Instant::now() + BOOT;
    loop {
        let metadata = probe.fetch_metadata(None, Duration::from_millis(500));
        if metadata.is_ok_and(|metadata| !metadata.brokers().is_empty()) {
            return Ok(());
        }
        if server.has_ended() || Instant::now() >= deadline {
            return Err(server.log());
        }
    }
}

fn has_leaders(consumer: &BaseConsumer, topic: &str, partitions: i32) -> bool {
    let Ok(metadata) = consumer.fetch_metadata(Some(topic), Duration::from_secs(5)) else {
        return false;
    };
    let known = metadata.topics().iter().flat_map(|topic| topic.partitions());
    i32::try_from(known.filter(|partition| partition.leader() >= 0).count()) == Ok(partitions)
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}
