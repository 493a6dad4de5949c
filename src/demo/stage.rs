//! What the demo is played on: a folder, a cluster, a source and a bridge, all in this process.
//!
//! The cluster takes no administrative calls, so topics are made through its handle and their
//! shape is told to the bridge; its classic groups take seconds to agree, so the bridge joins by
//! the protocol `consumer` (kafka-from-rust 3).
//!
//! Promises: the folder is removed when the demo ends, well or not.
//!
//! Knows nothing of: the story.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::time::Duration;

use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use tokio::sync::oneshot;

use super::DemoError;
use super::back_end::BackEnd;
use super::topics::PARTITIONS;
use crate::config::Config;
use crate::credential::KeyRing;
use crate::kafka::{Clients, DEFAULT_MAX_MESSAGE};
use crate::logging::LogFilter;
use crate::record::Topics;
use crate::service::{self, ServiceError, Setting};
use crate::simulator::{self, Running, Simulator};
use crate::topics::{Shape, wanted};

/// How long the simulated source keeps a queue that nobody asks: the real one, 15 minutes.
pub(super) const QUEUE_LIFETIME: Duration = Duration::from_secs(30);
const TOKEN: &str = "token-of-the-demo";
/// The cluster's thread now and then sleeps a second over a call that comes right after another.
const BREATH: Duration = Duration::from_millis(3);
const AGAIN: Duration = Duration::from_millis(20);

/// A folder of our own below the system's for temporary files.
pub(super) struct Folder(PathBuf);

impl Folder {
    pub(super) fn new() -> Result<Self, DemoError> {
        let name = format!("linxo-bridge-demo-{}", uuid::Uuid::new_v4());
        let folder = std::env::temp_dir().join(name);
        match std::fs::create_dir(&folder) {
            Ok(()) => Ok(Self(folder)),
            Err(source) => Err(DemoError::Folder { folder, source }),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// Writes a file; answers its path as TOML text.
    fn write(&self, name: &str, text: &str) -> Result<String, DemoError> {
        let path = self.0.join(name);
        std::fs::write(&path, text)
            .map_err(|source| DemoError::Folder { folder: path.clone(), source })?;
        Ok(format!("{:?}", path.display().to_string()))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // what cannot be removed is left to the system, as everything there
        std::fs::remove_dir_all(&self.0).ok();
    }
}

/// The bridge; it works while one of its methods is awaited, so that is what all waiting goes
/// beside.
pub(super) struct Bridge {
    stop: Option<oneshot::Sender<()>>,
    serving: Pin<Box<dyn Future<Output = Result<(), ServiceError>>>>,
}

impl Bridge {
    /// Waits for an end that nobody asked for.
    pub(super) async fn ended(&mut self) -> DemoError {
        match self.serving.as_mut().await {
            Err(error) => error.into(),
            Ok(()) => DemoError::BridgeGone,
        }
    }

    /// Stops it as SIGTERM would, and waits for its end.
    pub(super) async fn stop(&mut self) -> Result<(), DemoError> {
        // dropping the sender is the word to stop
        drop(self.stop.take());
        Ok(self.serving.as_mut().await?)
    }
}

/// What the story needs of the stage.
pub(super) struct Parts<'s> {
    pub(super) simulator: &'s Running,
    pub(super) back_end: &'s BackEnd,
    pub(super) clients: &'s Clients,
    pub(super) names: &'s Topics,
}

/// Everything that runs. The cluster is the last field, so that it goes after its clients.
pub(super) struct Stage {
    pub(super) back_end: BackEnd,
    pub(super) bridge: Bridge,
    pub(super) simulator: Running,
    pub(super) clients: Clients,
    pub(super) names: Topics,
    cluster: MockCluster<'static, DefaultProducerContext>,
}

impl Stage {
    /// Makes the cluster with its topics, the source, and a bridge between them.
    pub(super) async fn set_up(folder: &Folder, log: LogFilter) -> Result<Self, DemoError> {
        let cluster = MockCluster::new(1)?;
        let options =
            simulator::Options { queue_lifetime: QUEUE_LIFETIME, ..simulator::Options::default() };
        let simulator = Simulator::start(options.clone()).await?;
        let text = configuration(folder, &cluster.bootstrap_servers(), &simulator, &options)?;
        let config = Config::from_toml(&text, std::iter::empty())?;
        let mut limits = HashMap::new();
        for topic in wanted(&config.topics) {
            tokio::time::sleep(BREATH).await;
            cluster.create_topic(&topic.name, topic.partitions, 1)?;
            limits.insert(topic.name, DEFAULT_MAX_MESSAGE);
        }
        let shape = Shape { partitions: config.topics.partitions, limits };
        let setting = Setting { keys: KeyRing::random()?, log, shape: Some(shape) };
        let names = Topics::new(&config.topics.prefix, &config.topics.actions);
        let clients = Clients::new(&config.kafka);
        let (open, opened) = oneshot::channel();
        let (stop, stopped) = oneshot::channel::<()>();
        let stopped = async { drop(stopped.await) };
        let serving = Box::pin(service::serve(config, setting, open, stopped));
        let mut bridge = Bridge { stop: Some(stop), serving };
        let running = tokio::select! {
            Ok(running) = opened => running,
            ended = bridge.ended() => return Err(ended),
        };
        let back_end = BackEnd::new(running.admin, TOKEN)?;
        Ok(Self { back_end, bridge, simulator, clients, names, cluster })
    }

    /// Waits until the bridge owns its partitions.
    pub(super) async fn until_ready(&mut self) -> Result<(), DemoError> {
        let back_end = &self.back_end;
        let ready = async {
            while !back_end.is_ready().await {
                tokio::time::sleep(AGAIN).await;
            }
        };
        tokio::select! {
            () = ready => Ok(()),
            ended = self.bridge.ended() => Err(ended),
        }
    }

    /// What the story needs; the bridge is watched beside it.
    pub(super) fn split(&mut self) -> (Parts<'_>, &mut Bridge) {
        let Self { back_end, bridge, simulator, clients, names, .. } = self;
        (Parts { simulator, back_end, clients, names }, bridge)
    }

    /// Where the cluster listens.
    pub(super) fn bootstrap_servers(&self) -> String {
        self.cluster.bootstrap_servers()
    }
}

/// The bridge's configuration: as an operator would write it, with shorter times.
fn configuration(
    folder: &Folder,
    bootstrap_servers: &str,
    simulator: &Running,
    options: &simulator::Options,
) -> Result<String, DemoError> {
    let token = folder.write("admin-token", TOKEN)?;
    let secret = folder.write("client-secret", &options.client_secret)?;
    // the ring is made in memory; a configuration has to name a file of keys all the same
    let keys = folder.write("keys", "not used")?;
    Ok(format!(
        "[linxo]\n\
         api_url = {api:?}\n\
         auth_url = {auth:?}\n\
         client_id = {client_id:?}\n\
         client_secret_file = {secret}\n\
         request_timeout = \"2s\"\n\
         queue_lifetime = \"{lifetime}s\"\n\
         [polling]\n\
         keep_alive = \"8s\"\n\
         active = \"200ms\"\n\
         active_for = \"4s\"\n\
         [kafka]\n\
         bootstrap_servers = {bootstrap_servers:?}\n\
         group_protocol = \"consumer\"\n\
         [topics]\n\
         partitions = {PARTITIONS}\n\
         event_partitions = {PARTITIONS}\n\
         [journal]\n\
         directory = {journal:?}\n\
         [credentials]\n\
         key_file = {keys}\n\
         [admin]\n\
         listen = \"127.0.0.1:0\"\n\
         token_file = {token}\n",
        api = simulator.url(),
        auth = simulator.auth_url(),
        client_id = options.client_id,
        lifetime = QUEUE_LIFETIME.as_secs(),
        journal = folder.path().join("journal").display().to_string(),
    ))
}
