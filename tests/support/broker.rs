//! One broker of a [`Kafka`](super::Kafka): a process, its ports and its folder, and what can be done to it.
//!
//! It has four listeners: `CLIENT` for whoever is under test, `SIDE` for one of those alone, `INTERNAL` for the other
//! brokers and for the tests' own looks, and `CONTROLLER`. A proxy may stand before each of the first two, so that what
//! it does to clients is done to nobody else.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use tokio::task::spawn_blocking;
use tokio::time::Instant;

use super::cache;
use super::proxy::{Proxy, Way};
use super::server::{Server, free_ports};

/// What makes a broker quick to start, to come back after a SIGKILL, and to notice that a client has gone.
const SETTINGS: &str = "\
process.roles=broker,controller
listener.security.protocol.map=CLIENT:PLAINTEXT,SIDE:PLAINTEXT,INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=INTERNAL
controller.listener.names=CONTROLLER
auto.create.topics.enable=false
offsets.topic.num.partitions=4
transaction.state.log.num.partitions=4
share.coordinator.state.topic.num.partitions=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
group.consumer.session.timeout.ms=3000
group.consumer.min.session.timeout.ms=1000
group.consumer.heartbeat.interval.ms=500
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
/// How long a broker may take to hand its partitions over before it is killed.
const HAND_OVER: Duration = Duration::from_secs(20);

/// The ports of a broker, chosen before any of a cluster starts.
#[derive(Clone, Copy)]
pub(super) struct Ports {
    pub client: u16,
    pub internal: u16,
    pub controller: u16,
    /// For a client with a way of its own, which can be cut without the others'.
    pub side: u16,
}

impl Ports {
    pub(super) fn free() -> Self {
        let [client, internal, controller, side] = free_ports();
        Self { client, internal, controller, side }
    }
}

/// A broker; gone with its folder when dropped, or when the test process ends.
pub struct Broker {
    id: usize,
    ports: Ports,
    proxy: Option<Proxy>,
    side: Option<Proxy>,
    server: Arc<Mutex<Server>>,
}

impl Broker {
    /// Starts the process of broker `id` of those whose ports are given; it is not waited for.
    pub(super) fn launch(id: usize, all: &[Ports], behind_proxy: bool, properties: &str) -> Self {
        let ports = all[id - 1];
        let proxy = behind_proxy.then(|| Proxy::before(ports.client));
        let side_proxy = behind_proxy.then(|| Proxy::before(ports.side));
        let mut server = Server::in_new_folder("linxo-kafka-");
        let data = server.folder().join("data");
        copy_folder(&cache::kafka().join("formatted"), &data);
        name_folder(&data.join("meta.properties"), id);
        let copies = all.len();
        let voters: Vec<String> = (1..)
            .zip(all)
            .map(|(id, ports)| format!("{id}@127.0.0.1:{}", ports.controller))
            .collect();
        let Ports { client, internal, controller, side } = ports;
        let settings = format!(
            "{SETTINGS}\
             node.id={id}\n\
             log.dirs={data}\n\
             listeners=CLIENT://127.0.0.1:{client},INTERNAL://127.0.0.1:{internal},\
             SIDE://127.0.0.1:{side},CONTROLLER://127.0.0.1:{controller}\n\
             advertised.listeners=CLIENT://127.0.0.1:{entrance},INTERNAL://127.0.0.1:{internal},\
             SIDE://127.0.0.1:{side_entrance}\n\
             controller.quorum.voters={voters}\n\
             default.replication.factor={copies}\n\
             min.insync.replicas={enough}\n\
             offsets.topic.replication.factor={copies}\n\
             transaction.state.log.replication.factor={copies}\n\
             transaction.state.log.min.isr={enough}\n\
             share.coordinator.state.topic.replication.factor={copies}\n\
             share.coordinator.state.topic.min.isr={enough}\n\
             {properties}",
            data = data.display(),
            entrance = proxy.as_ref().map_or(client, Proxy::port),
            side_entrance = side_proxy.as_ref().map_or(side, Proxy::port),
            voters = voters.join(","),
            enough = copies / 2 + 1,
        );
        fs::write(server.folder().join("server.properties"), settings).unwrap();
        let command = command(server.folder());
        server.run(command);
        Self { id, ports, proxy, side: side_proxy, server: Arc::new(Mutex::new(server)) }
    }

    /// Its number, counted from 1; Kafka knows it by the same.
    pub fn id(&self) -> usize {
        self.id
    }

    /// What stands between it and whoever is under test.
    pub fn proxy(&self) -> &Proxy {
        self.proxy.as_ref().expect("a broker behind a proxy: Kafka::behind_proxies starts them")
    }

    /// What stands between it and a client that comes by the side entrance.
    pub fn side(&self) -> &Proxy {
        self.side.as_ref().expect("a broker behind a proxy: Kafka::behind_proxies starts them")
    }

    /// Takes away whatever the proxies do, where there are any.
    pub(super) fn let_pass(&self) {
        for proxy in self.proxy.iter().chain(&self.side) {
            proxy.set(Way::Open);
        }
    }

    /// SIGKILL. Folder and ports are kept for [`Self::restart`].
    pub fn stop(&self) {
        self.server().kill();
    }

    /// SIGTERM, as an operator does it: it hands its partitions over and ends; SIGKILL if it does not in 20 s.
    pub async fn stop_gracefully(&self) {
        self.server().signal("TERM");
        let deadline = Instant::now() + HAND_OVER;
        while !self.server().has_ended() && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
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

    /// From now on no write of the broker succeeds, as on a full disk: its files may not grow (`EFBIG` for `ENOSPC`,
    /// which Kafka handles alike, and no mount is needed).
    pub fn fill_disk(&self) {
        let id = self.server().id().to_string();
        let done = Command::new("prlimit").args(["--pid", &id, "--fsize=1:unlimited"]).status();
        assert!(done.unwrap().success(), "prlimit (util-linux) does not reach process {id}");
    }

    /// Whether the process has ended, by our doing or by its own.
    pub fn has_ended(&self) -> bool {
        self.server().has_ended()
    }

    /// Starts it on the same folder and ports, after SIGKILL if it runs, and waits till it answers.
    pub async fn restart(&self) {
        self.relaunch();
        self.ready().await.unwrap_or_else(|log| panic!("kafka does not come back:\n{log}"));
    }

    /// The same without waiting.
    pub(super) fn relaunch(&self) {
        let mut server = self.server();
        server.kill();
        let command = command(server.folder());
        server.run(command);
    }

    /// Waits till it answers and counts itself in; the error is its log.
    pub(super) async fn ready(&self) -> Result<(), String> {
        let (id, internal, server) = (self.id, self.internal(), Arc::clone(&self.server));
        spawn_blocking(move || wait_for(id, &internal, &server)).await.unwrap()
    }

    /// The last lines of its log.
    pub fn log(&self) -> String {
        self.server().log()
    }

    /// What whoever is under test connects to.
    pub(super) fn entrance(&self) -> String {
        format!("127.0.0.1:{}", self.proxy.as_ref().map_or(self.ports.client, Proxy::port))
    }

    /// The other way in, behind a proxy of its own.
    pub(super) fn side_entrance(&self) -> String {
        format!("127.0.0.1:{}", self.side.as_ref().map_or(self.ports.side, Proxy::port))
    }

    /// What the tests' own looks connect to.
    pub(super) fn internal(&self) -> String {
        format!("127.0.0.1:{}", self.ports.internal)
    }

    fn server(&self) -> MutexGuard<'_, Server> {
        self.server.lock().unwrap()
    }
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

/// Waits till the cluster lists the broker, as it sees it itself; the error is its log.
fn wait_for(id: usize, address: &str, server: &Mutex<Server>) -> Result<(), String> {
    let probe: BaseConsumer = client(address).create().unwrap();
    let deadline = Instant::now() + BOOT;
    loop {
        let metadata = probe.fetch_metadata(None, Duration::from_millis(500));
        let is_listed = metadata.is_ok_and(|metadata| {
            metadata.brokers().iter().any(|broker| usize::try_from(broker.id()) == Ok(id))
        });
        if is_listed {
            return Ok(());
        }
        let mut server = server.lock().unwrap();
        if server.has_ended() || Instant::now() >= deadline {
            return Err(server.log());
        }
    }
}

/// The cache holds a folder formatted for broker 1; each broker's own names it.
fn name_folder(path: &Path, id: usize) {
    let text = fs::read_to_string(path).unwrap();
    let lines: Vec<String> = text
        .lines()
        .map(|line| match line.split_once('=') {
            Some(("node.id", _)) => format!("node.id={id}\n"),
            // the second letter, as a Kafka id must not begin with a hyphen
            Some(("directory.id", own)) => {
                format!("directory.id={}{id}{}\n", &own[..1], &own[2..])
            }
            _ => format!("{line}\n"),
        })
        .collect();
    fs::write(path, lines.concat()).unwrap();
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
