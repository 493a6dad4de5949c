//! Apache Kafka itself: one KRaft broker or three, on free ports of the loopback, each in a folder of its own.

use std::sync::atomic::{AtomicU32, Ordering};
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

use super::broker::{Broker, Ports, client};

/// How long a request about topics may take, while brokers come and go.
const PATIENCE: Duration = Duration::from_secs(20);

/// A cluster of one broker or of three; gone with its folders when dropped, or when the test process ends.
///
/// With three, topics have three copies, of which two have to be in step for a write.
pub struct Kafka {
    brokers: Vec<Broker>,
    entrance: String,
    internal: String,
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

    /// The same with broker properties over the usual ones.
    pub async fn start_with(properties: &[(&str, &str)]) -> Self {
        Self::launch(1, false, properties).await
    }

    /// One broker or three, a proxy before each.
    pub async fn behind_proxies(brokers: usize, properties: &[(&str, &str)]) -> Self {
        Self::launch(brokers, true, properties).await
    }

    async fn launch(count: usize, behind_proxies: bool, properties: &[(&str, &str)]) -> Self {
        let properties: String =
            properties.iter().map(|(name, value)| format!("{name}={value}\n")).collect();
        // Somebody else may take a port between our look and the broker's: then with others.
        for _ in 0..2 {
            if let Ok(kafka) = Self::boot(count, behind_proxies, &properties).await {
                return kafka;
            }
        }
        let last = Self::boot(count, behind_proxies, &properties).await;
        last.unwrap_or_else(|log| panic!("kafka does not start:\n{log}"))
    }

    async fn boot(count: usize, behind_proxies: bool, properties: &str) -> Result<Self, String> {
        let ports: Vec<Ports> = (0..count).map(|_| Ports::free()).collect();
        let launch = |id| Broker::launch(id, &ports, behind_proxies, properties);
        let brokers: Vec<Broker> = (1..=count).map(launch).collect();
        for broker in &brokers {
            broker.ready().await?;
        }
        let joined = |address: fn(&Broker) -> String| {
            brokers.iter().map(address).collect::<Vec<String>>().join(",")
        };
        let (entrance, internal) = (joined(Broker::entrance), joined(Broker::internal));
        Ok(Self { brokers, entrance, internal })
    }

    /// What tests connect to: no proxy stands there.
    pub fn bootstrap_servers(&self) -> &str {
        &self.internal
    }

    /// What whoever is under test connects to: past the proxies, where there are any.
    pub fn entrance(&self) -> &str {
        &self.entrance
    }

    /// The same by a way of its own, which can be cut without the others'.
    pub fn side_entrance(&self) -> String {
        self.brokers.iter().map(Broker::side_entrance).collect::<Vec<String>>().join(",")
    }

    /// Every broker, the first of them number 1.
    pub fn brokers(&self) -> &[Broker] {
        &self.brokers
    }

    /// The broker of this number, counted from 1.
    pub fn broker(&self, id: usize) -> &Broker {
        &self.brokers[id - 1]
    }

    /// The settings of a client of this cluster, to add to.
    pub fn client(&self) -> ClientConfig {
        client(&self.internal)
    }

    /// Makes a topic and waits till its partitions can be used.
    pub async fn create_topic(&self, name: &str, partitions: i32, settings: &[(&str, &str)]) {
        let admin: AdminClient<DefaultClientContext> = self.client().create().unwrap();
        let copies = TopicReplication::Fixed(i32::try_from(self.brokers.len()).unwrap());
        let topic =
            NewTopic { config: settings.to_vec(), ..NewTopic::new(name, partitions, copies) };
        for result in admin.create_topics([&topic], &AdminOptions::new()).await.unwrap() {
            result.unwrap_or_else(|(name, error)| panic!("topic {name}: {error}"));
        }
        let deadline = Instant::now() + PATIENCE;
        while self.leaders(name).await.len() < usize::try_from(partitions).unwrap() {
            assert!(Instant::now() < deadline, "topic {name} has partitions without a leader");
        }
    }

    /// Deletes a topic with all that is in it.
    pub async fn delete_topic(&self, name: &str) {
        let admin: AdminClient<DefaultClientContext> = self.client().create().unwrap();
        for result in admin.delete_topics(&[name], &AdminOptions::new()).await.unwrap() {
            result.unwrap_or_else(|(name, error)| panic!("topic {name}: {error}"));
        }
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

    /// The number of the broker that leads each partition of a topic, those without a leader left out.
    pub async fn leaders(&self, topic: &str) -> Vec<(i32, usize)> {
        let (config, topic) = (self.client(), topic.to_owned());
        let look = move || {
            let consumer: BaseConsumer = config.create().unwrap();
            let deadline = Instant::now() + PATIENCE;
            loop {
                match consumer.fetch_metadata(Some(&topic), Duration::from_secs(5)) {
                    Ok(metadata) => {
                        let partitions =
                            metadata.topics().iter().flat_map(|topic| topic.partitions());
                        let led = partitions.filter_map(|partition| {
                            let leader = usize::try_from(partition.leader()).ok()?;
                            Some((partition.id(), leader))
                        });
                        return led.collect();
                    }
                    Err(error) => {
                        assert!(Instant::now() < deadline, "the leaders of {topic}: {error}");
                    }
                }
            }
        };
        spawn_blocking(look).await.unwrap()
    }

    /// The broker that coordinates the transactions of this transactional id.
    pub async fn transaction_coordinator(&self, transactional_id: &str) -> &Broker {
        self.coordinator("__transaction_state", transactional_id).await
    }

    /// The broker that coordinates this group.
    pub async fn group_coordinator(&self, group: &str) -> &Broker {
        self.coordinator("__consumer_offsets", group).await
    }

    /// Kafka puts a name in the partition that Java's `hashCode` says, and its leader is the coordinator.
    async fn coordinator(&self, topic: &str, name: &str) -> &Broker {
        let hash = name
            .encode_utf16()
            .fold(0_i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)));
        let deadline = Instant::now() + PATIENCE;
        loop {
            let leaders = self.leaders(topic).await;
            // of 4, as the brokers' settings have it
            let partition = hash.checked_abs().unwrap_or(0) % 4;
            if let Some((_, leader)) = leaders.iter().find(|(id, _)| *id == partition) {
                return self.broker(*leader);
            }
            assert!(Instant::now() < deadline, "{topic} has no leader for {name}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// SIGKILL, all brokers. Folders and ports are kept for [`Self::restart`].
    pub fn stop(&self) {
        self.brokers.iter().for_each(Broker::stop);
    }

    /// SIGSTOP, all brokers: connections stay, nothing answers.
    pub fn pause(&self) {
        self.brokers.iter().for_each(Broker::pause);
    }

    /// SIGCONT, all brokers.
    pub fn resume(&self) {
        self.brokers.iter().for_each(Broker::resume);
    }

    /// Starts all brokers on their folders and ports, after SIGKILL if they run, and waits till they answer.
    pub async fn restart(&self) {
        self.brokers.iter().for_each(Broker::relaunch);
        for broker in &self.brokers {
            broker.ready().await.unwrap_or_else(|log| panic!("kafka does not come back:\n{log}"));
        }
    }

    /// Brings the cluster to where it was at the start, whatever was done to it: no proxy in the way, all brokers up
    /// and awake.
    pub async fn heal(&self) {
        for broker in &self.brokers {
            broker.let_pass();
            if broker.has_ended() {
                broker.relaunch();
            } else {
                broker.resume();
            }
        }
        for broker in &self.brokers {
            broker.ready().await.unwrap_or_else(|log| panic!("kafka does not come back:\n{log}"));
        }
    }

    /// The last lines of the brokers' logs.
    pub fn log(&self) -> String {
        self.brokers.iter().map(Broker::log).collect::<Vec<String>>().join("\n---\n")
    }
}

/// A name that no other test of this file has, for what is made in a shared server.
pub fn unique(name: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    format!("{name}-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}
