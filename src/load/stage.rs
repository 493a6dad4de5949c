//! What a run needs: a source, bridges, topics, and readers of them.
//!
//! Promises:
//! - the Linxo of a bridge that is started here is the simulator, whatever its configuration says;
//! - topics that cannot be worked with, or hold another run, end the run before anything is made.
//!
//! Knows nothing of: traffic and faults.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};

use super::LoadError;
use super::bridges::{self, Bridge, Recipe};
use super::options::{JudgeOptions, RunOptions};
use super::source::Source;
use crate::config::{Config, Delivery, UserNaming};
use crate::door::Door;
use crate::kafka::{self, Clients};
use crate::oracle::{self, Holdings, Patience};
use crate::record::Topics;
use crate::registry::Registry;
use crate::simulator;
use crate::topics::TopicDesk;

/// How long bridges that run already may take until they are ready.
const READY: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(200);
const READING: Duration = Duration::from_secs(30);

/// The topics, and what is needed to read them.
pub(super) struct Place {
    /// The bridge's configuration.
    pub(super) config: Config,
    /// Clients of the cluster.
    pub(super) clients: Clients,
    /// Names of the topics.
    pub(super) names: Topics,
    registry: Option<Registry>,
}

impl Place {
    /// What the bridge's configuration says of Kafka, topics and registry.
    pub(super) fn new(options: &JudgeOptions) -> Result<Self, LoadError> {
        let config = Config::load(Some(&options.config), environment())?;
        let clients = Clients::new(&config.kafka);
        let names = Topics::new(&config.topics.prefix, &config.topics.actions);
        let registry = match &config.schema_registry {
            Some(registry) => Some(Registry::new(&registry.url, false, Arc::new(|_| ()))?),
            None => None,
        };
        Ok(Self { config, clients, names, registry })
    }

    /// Everything that the topics hold.
    pub(super) async fn read(&self, patience: Duration) -> Result<Holdings, LoadError> {
        let (clients, names) = (&self.clients, &self.names);
        let read = oracle::read_all(clients, names, self.registry.as_ref(), Patience(patience));
        Ok(read.await?)
    }

    async fn prepare_topics(&self, make: bool) -> Result<(), LoadError> {
        let desk = TopicDesk::new(&self.clients, &self.config.topics)?;
        if make {
            for name in desk.create().await? {
                eprintln!("made topic {name}");
            }
        }
        desk.fitness().await?;
        Ok(())
    }

    /// Whether nothing was ever written to the topics.
    async fn are_topics_empty(&self) -> Result<bool, LoadError> {
        let holdings = self.read(READING).await?;
        let (clients, topic) = (self.clients.clone(), self.names.subscriptions.to_string());
        let subscriptions = tokio::task::spawn_blocking(move || {
            let partitions = kafka::partitions_of(&clients, &topic, READING)?;
            let partitions: Vec<i32> = partitions.into_iter().map(|(number, _)| number).collect();
            let mut count = 0;
            kafka::read_to_end(&clients, &topic, &partitions, READING, |_| count += 1)?;
            Ok::<usize, kafka::ReadError>(count)
        });
        Ok(subscriptions.await.map_err(LoadError::Task)?? == 0
            && holdings.events.is_empty()
            && holdings.gaps.is_empty())
    }
}

/// Everything that runs.
pub(super) struct Stage {
    /// The topics.
    pub(super) place: Place,
    /// The simulator.
    pub(super) source: Source,
    /// The bridges that were started here.
    pub(super) bridges: Vec<Arc<Mutex<Bridge>>>,
    /// The doors of all bridges.
    pub(super) doors: Vec<Door>,
}

impl Stage {
    /// Starts what has to be started, and waits until all is ready.
    pub(super) async fn set_up(options: &RunOptions, seed: u64) -> Result<Self, LoadError> {
        let place = Place::new(&options.judging)?;
        place.prepare_topics(options.make_topics).await?;
        let source = match &options.judging.simulator {
            Some(url) => Source::attach(url).await?,
            None => {
                if !place.are_topics_empty().await? {
                    return Err(LoadError::Used { prefix: place.config.topics.prefix.clone() });
                }
                Source::start(simulator_options(&place.config, options, seed)?).await?
            }
        };
        let http = super::client()?;
        let bridges = if options.starts_bridges() {
            let program = program(options)?;
            let logs = options.log_dir.clone().unwrap_or_else(log_dir);
            eprintln!("the bridges' logs are in {}", logs.display());
            let recipe = Recipe {
                program: &program,
                file: &options.judging.config,
                config: &place.config,
                environment: &environment_of(&source, &place.config),
                logs: &logs,
                count: options.bridges,
                http: &http,
            };
            bridges::start(&recipe).await?
        } else {
            Vec::new()
        };
        let mut doors = Vec::new();
        for bridge in &bridges {
            doors.push(bridge.lock().await.door().clone());
        }
        let token = match &options.token_file {
            Some(path) => Some(bridges::token_of(path)?),
            None => place.config.admin.token.clone(),
        };
        for url in &options.bridge {
            let door = Door::new(&http, url.as_str(), token.as_ref());
            until_ready(&door).await?;
            doors.push(door);
        }
        Ok(Self { place, source, bridges, doors })
    }

    /// The doors of the bridges that ran already.
    pub(super) fn attached(&self) -> &[Door] {
        &self.doors[self.bridges.len()..]
    }

    /// Ends what was started here.
    pub(super) async fn take_down(self) {
        for bridge in &self.bridges {
            if let Err(error) = bridge.lock().await.terminate().await {
                eprintln!("{error}");
            }
        }
        self.source.stop().await;
    }
}

async fn until_ready(door: &Door) -> Result<(), LoadError> {
    let deadline = Instant::now() + READY;
    while let Some(reason) = door.not_ready().await {
        if Instant::now() >= deadline {
            let (name, log) = (door.url().to_owned(), String::new());
            return Err(LoadError::NotReady { name, reason, log });
        }
        sleep(LOOK).await;
    }
    Ok(())
}

/// A simulator that is what the configuration expects of Linxo.
fn simulator_options(
    config: &Config,
    options: &RunOptions,
    seed: u64,
) -> Result<simulator::Options, LoadError> {
    let linxo = &config.linxo;
    let mut made = simulator::Options {
        queue_lifetime: linxo.queue_lifetime,
        max_events: options.max_events,
        seed,
        ..simulator::Options::default()
    };
    if let Some(status) = linxo.dead_statuses.iter().find(|status| matches!(status, 404 | 410)) {
        made.dead_status = *status;
    }
    made.delivery = match linxo.delivery {
        Delivery::Once => simulator::Delivery::Once,
        Delivery::Repeatable => simulator::Delivery::Repeatable,
    };
    if let (Some(id), Some(secret)) = (&linxo.client_id, &linxo.client_secret) {
        made.client_id.clone_from(id);
        made.client_secret = secret.expose().to_owned();
    }
    match &linxo.user_naming {
        UserNaming::Header(name) => made.user_header.clone_from(name),
        UserNaming::Parameter(name) => made.user_parameter.clone_from(name),
    }
    if !options.starts_bridges() {
        // the bridges look for it where their configuration says, so that is where it has to be
        let wanted = linxo.api_url.host_str().zip(linxo.api_url.port_or_known_default());
        let address = wanted.and_then(|(host, port)| {
            let host = if host == "localhost" { "127.0.0.1" } else { host };
            let address: std::net::IpAddr = host.trim_matches(['[', ']']).parse().ok()?;
            address.is_loopback().then(|| std::net::SocketAddr::new(address, port))
        });
        let url = linxo.api_url.to_string();
        made.listen = address.ok_or(LoadError::Elsewhere { url })?;
    }
    Ok(made)
}

/// What counts over the configuration of a bridge that is started here.
fn environment_of(source: &Source, config: &Config) -> Vec<(String, String)> {
    let Source::Own(running) = source else { return Vec::new() };
    let set = |key: &str, value: String| (format!("LINXO_BRIDGE__LINXO__{key}"), value);
    let mut environment = vec![set("API_URL", running.url()), set("AUTH_URL", running.auth_url())];
    if config.linxo.client_id.is_none() {
        let known = simulator::Options::default();
        environment.push(set("CLIENT_ID", known.client_id));
        environment.push(set("CLIENT_SECRET", known.client_secret));
    }
    environment
}

fn program(options: &RunOptions) -> Result<PathBuf, LoadError> {
    if let Some(program) = &options.bridge_program {
        return Ok(program.clone());
    }
    let own = std::env::current_exe();
    let own = own.map_err(|source| LoadError::File { path: "linxo-load".into(), source })?;
    Ok(own.with_file_name("linxo-bridge"))
}

fn log_dir() -> PathBuf {
    std::env::temp_dir().join(format!("linxo-load-{}", std::process::id()))
}

/// Writes a file whole.
pub(super) fn write(path: &Path, text: &str) -> Result<(), LoadError> {
    std::fs::write(path, text).map_err(|source| LoadError::File { path: path.to_owned(), source })
}

/// The variables of the environment that are text; others cannot be ours.
fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}
