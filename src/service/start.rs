//! The start and the stop.
//!
//! Promises: as the head of the room says. Knows nothing of: grants and revocations, which the
//! fleet handles.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, timeout_at};

use super::directory::{Directory, Shared};
use super::fleet::Fleet;
use super::peers::Peers;
use super::progress::Progress;
use super::schemas;
use crate::admin::{Admin, AdminError, AdminToken};
use crate::assignment::{Assignment, Ownership};
use crate::budget::Budget;
use crate::config::{self, Config, Delivery, UserNaming};
use crate::credential::{KeyFault, KeyRing};
use crate::event::Redaction;
use crate::journal::{Folder, Journal, JournalError, JournalSettings};
use crate::kafka::{Clients, Following, Reach};
use crate::linxo::{self, Room, Source, SourceError, SourceSettings, TokenNews, TokenObserver};
use crate::logging::LogFilter;
use crate::metrics::{Metrics, MetricsError};
use crate::publisher::{self, Limits, Pen, PublisherError, PublisherSettings};
use crate::pulse::Pulse;
use crate::record::{Decoder, Encoder, RecordError, Topics};
use crate::registry::{Registry, RegistryError, RegistryFault};
use crate::schedule::Pace;
use crate::topics::{Shape, TopicDesk, TopicError};
use crate::traces::{Exporter, Traces, TracesError};
use crate::worker::Outside;

const AGAIN: Duration = Duration::from_secs(2);
/// The least time for leaving the group.
const LEAVE: Duration = Duration::from_secs(2);

/// What a service is made of beside its configuration.
pub struct Setting {
    /// Seals and opens credentials.
    pub keys: KeyRing,
    /// Which log lines the process writes.
    pub log: LogFilter,
    /// What the topics are like, when they cannot be asked: the demo's cluster takes no such calls.
    pub shape: Option<Shape>,
}

/// Why the service did not start, or had to end.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// The journal's folder.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The key file.
    #[error(transparent)]
    Keys(#[from] KeyFault),
    /// The source's settings.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The registry's settings.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// A schema that the registry does not take.
    #[error(transparent)]
    Schema(#[from] RegistryFault),
    /// The topics.
    #[error(transparent)]
    Topics(#[from] TopicError),
    /// The program's own schemas.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The publisher.
    #[error(transparent)]
    Publisher(#[from] PublisherError),
    /// The collector of traces.
    #[error(transparent)]
    Traces(#[from] TracesError),
    /// The metrics.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    /// A Kafka client that cannot be made: a property is at fault.
    #[error("a kafka client cannot be made: {0}; look at kafka.properties, producer and consumer")]
    Client(#[from] rdkafka::error::KafkaError),
    /// The HTTP door.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// A thread.
    #[error("a thread cannot be started: {0}")]
    Thread(#[source] std::io::Error),
    /// The publisher's thread ended without a word.
    #[error("the publisher ended unexpectedly")]
    PublisherGone,
}

/// What a running service shows of itself.
#[derive(Clone, Debug)]
pub struct Running {
    /// Where the HTTP door listens.
    pub admin: std::net::SocketAddr,
}

/// Runs the bridge until `stop` resolves; tells `running` where its door is as soon as it is open.
pub async fn serve(
    config: Config,
    setting: Setting,
    running: oneshot::Sender<Running>,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<(), ServiceError> {
    let folder = Folder::open(&config.journal.directory)?;
    let journal = folder.id().clone();
    tracing::info!(journal = %folder.id(), instance = %config.kafka.instance_id, "journal opened");
    let revision = option_env!("LINXO_BRIDGE_REVISION").unwrap_or("unknown");
    let metrics = Arc::new(Metrics::new(env!("CARGO_PKG_VERSION"), revision)?);
    let progress = Arc::new(Progress::new());
    let pulse = Arc::new(Pulse::default());
    let ownership = Arc::new(Ownership::default());
    let clients = Clients::new(&config.kafka);
    let topics = Topics::new(&config.topics.prefix, &config.topics.actions);
    // what a throttling source took of the rate is back long before a queue has missed its life
    let recovery = config.polling.keep_alive / 5;
    let budget = Budget::new(config.polling.max_in_flight, recovery);
    let source = source(&config, {
        let (metrics, budget) = (Arc::clone(&metrics), budget.clone());
        Arc::new(move |news| match news {
            TokenNews::Asking => budget.charge(),
            TokenNews::Answered(outcome) => metrics.token_request(outcome),
        })
    })?;
    let registry = registry(&config, &metrics)?;
    let instance = &config.kafka.instance_id;
    let (traces, exporter) = Traces::start(&config.telemetry, instance, &metrics)?;
    let reach = Reach::new(&clients, &topics.subscriptions)?;

    let directory = Directory {
        shared: Arc::new(Shared {
            workers: Mutex::default(),
            partitions: AtomicI32::new(0),
            instance_id: config.kafka.instance_id.clone(),
            journal,
            url: OnceLock::new(),
            ownership: Arc::clone(&ownership),
            progress: Arc::clone(&progress),
            pulse: Arc::clone(&pulse),
            metrics: Arc::clone(&metrics),
            scraping: tokio::sync::Mutex::default(),
            log: setting.log.clone(),
            has_client_credential: config.linxo.client_id.is_some(),
            peers: Peers::default(),
        }),
    };
    let token = config.admin.token.as_ref().map(|token| AdminToken::new(token.expose()));
    let admin = Admin::bind(config.admin.listen, token, directory.clone()).await?;
    let admin_address = admin.local_addr();
    // it is set once
    directory.shared.url.set(advertised(&config.admin, admin_address)).ok();
    tracing::info!(address = %admin_address, "admin api listens");
    // who started us may not care
    drop(running.send(Running { admin: admin_address }));

    let (stopping, stopped) = watch::channel(false);
    let mut asked_to_stop = stopped.clone();
    tokio::spawn(async move {
        stop.await;
        tracing::info!("stop requested");
        // nobody listens any more when the service has ended by itself
        stopping.send(true).ok();
    });
    let (close_door, mut door_closes) = watch::channel(false);
    let door = tokio::spawn(admin.serve(async move {
        drop(door_closes.wait_for(|close| *close).await);
    }));

    let starting = start(
        &config,
        setting,
        folder,
        &clients,
        &topics,
        registry.as_ref(),
        source,
        budget,
        reach,
        &directory,
        &metrics,
        traces,
    );
    let result = tokio::select! {
        biased;
        _ = asked_to_stop.wait_for(|stop| *stop) => Ok(()),
        started = starting => match started {
            Ok(started) => run(started, &config, &directory, stopped.clone(), exporter).await,
            Err(error) => Err(error),
        },
    };
    close_door.send(true).ok();
    if !matches!(door.await, Ok(Ok(()))) {
        tracing::warn!("the admin api did not close in order");
    }
    result
}

/// Where other instances reach this one: what is configured, with the port that the system gave when
/// any would do.
fn advertised(admin: &config::Admin, opened: SocketAddr) -> String {
    let mut url = admin.advertised_url.clone();
    if url.port() == Some(0) {
        // a URL with a host takes a port
        url.set_port(Some(opened.port())).ok();
    }
    url.to_string()
}

/// Everything that runs once the start is done.
struct Started {
    fleet: Fleet,
    assignment: Assignment,
    decisions: mpsc::Receiver<crate::assignment::Decision>,
    publisher_ended: oneshot::Receiver<Result<(), PublisherError>>,
    budget: Budget,
    /// Marks are followed for as long as this is held.
    _marks: Following,
}

#[expect(clippy::too_many_arguments, reason = "called once: this is where everything meets")]
async fn start(
    config: &Config,
    setting: Setting,
    folder: Folder,
    clients: &Clients,
    topics: &Topics,
    registry: Option<&Registry>,
    source: Source,
    budget: Budget,
    reach: Reach,
    directory: &Directory,
    metrics: &Arc<Metrics>,
    traces: Traces,
) -> Result<Started, ServiceError> {
    let shared = &directory.shared;
    let is_cleansing = setting.shape.is_none();
    let (shape, desk) = match setting.shape {
        Some(shape) => (shape, None),
        None => {
            let desk = TopicDesk::new(clients, &config.topics)?;
            (shape(config, &desk, &shared.progress).await?, Some(desk))
        }
    };
    let partitions = shape.partitions;
    shared.partitions.store(partitions, Ordering::Relaxed);
    metrics.partitions(0, u64::try_from(partitions).unwrap_or(0));
    let (pen, decoder) = pen(config, registry, topics, shape, desk, &shared.progress).await?;

    shared.progress.wait_for("kafka: the producer and the journal's position");
    let keys = Arc::new(setting.keys);
    let room = room(config);
    let settings = journal_settings(config, &room);
    // the whole file is read: minutes, for one of many gigabytes, in which calls and signals are answered
    let opening = {
        let (keys, metrics) = (Arc::clone(&keys), Arc::clone(metrics));
        tokio::task::spawn_blocking(move || Journal::open(folder, keys, settings, metrics))
    };
    let ended = |error| ServiceError::Thread(std::io::Error::other(error));
    let (journal, feed) = opening.await.map_err(ended)??;
    let (found, position) = oneshot::channel();
    let publisher = publisher::start(
        PublisherSettings {
            clients: clients.clone(),
            pen,
            decoder: Arc::clone(&decoder),
            journal: shared.journal.clone(),
            incarnation: uuid::Uuid::new_v4().to_string(),
            instance_id: config.kafka.instance_id.clone(),
            url: shared.url(),
            commit_interval: config.kafka.commit_interval,
            ownership: Arc::clone(&shared.ownership),
            metrics: Arc::clone(metrics),
            is_cleansing,
            pulse: Arc::clone(&shared.pulse),
            traces,
        },
        feed,
        found,
    )?;
    let marks =
        shared.peers.listen(clients, &topics.journals, &decoder).map_err(ServiceError::Thread)?;
    let mut publisher_ended = publisher.ended;
    tokio::select! {
        position = position => drop(position.map_err(|_| ServiceError::PublisherGone)?),
        ended = &mut publisher_ended => {
            ended.map_err(|_| ServiceError::PublisherGone)??;
            return Err(ServiceError::PublisherGone);
        }
    }
    let outside = Outside {
        source,
        room,
        journal,
        is_handed_out_once: config.linxo.delivery == Delivery::Once,
        publisher: publisher.control.clone(),
        budget: budget.clone(),
        keys,
        pace: Pace {
            keep_alive: config.polling.keep_alive,
            active: config.polling.active,
            active_for: config.polling.active_for,
            queue_lifetime: config.linxo.queue_lifetime,
            credential_retry: config.credentials.retry,
        },
        reach,
        metrics: Arc::clone(metrics),
        pulse: Arc::clone(&shared.pulse),
        started: Instant::now(),
        instance_id: config.kafka.instance_id.clone(),
    };
    let fleet = Fleet::new(
        clients.clone(),
        topics.clone(),
        decoder,
        registry.cloned(),
        Arc::new(outside),
        directory.clone(),
        publisher.control,
        config,
        partitions,
    );
    shared.progress.wait_for("the group: partitions of the control topic");
    let (decide, decisions) = mpsc::channel(64);
    let drain = config.service.drain;
    let assignment =
        Assignment::join(clients, &topics.subscriptions, drain, &shared.ownership, decide)
            .map_err(ServiceError::Thread)?;
    Ok(Started { fleet, assignment, decisions, publisher_ended, budget, _marks: marks })
}

async fn run(
    started: Started,
    config: &Config,
    directory: &Directory,
    stopped: watch::Receiver<bool>,
    exporter: Option<Exporter>,
) -> Result<(), ServiceError> {
    let Started { mut fleet, assignment, decisions, mut publisher_ended, budget, _marks } = started;
    let serving_budget = tokio::spawn(budget.run());
    let ended_early = tokio::select! {
        () = fleet.run(decisions, stopped) => None,
        ended = &mut publisher_ended => Some(ended),
    };
    let deadline = Instant::now() + config.service.grace;
    let result = match ended_early {
        Some(Ok(Err(error))) => {
            tracing::error!(%error, "publishing cannot go on");
            Err(error.into())
        }
        Some(_) => Err(ServiceError::PublisherGone),
        None => {
            directory.shared.progress.wait_for("the stop");
            if timeout_at(deadline, fleet.stop()).await.is_err() {
                tracing::warn!("not everything was finished within service.grace");
            }
            drop(fleet);
            match timeout_at(deadline, publisher_ended).await {
                Ok(Ok(Err(error))) => Err(error.into()),
                Ok(_) => Ok(()),
                Err(_) => {
                    tracing::warn!(
                        "not everything was published within service.grace: what is left in the journal \
                         is published when this instance starts again, or by `journal drain`"
                    );
                    Ok(())
                }
            }
        }
    };
    serving_budget.abort();
    // leaving takes no time of its own unless Kafka is away
    if timeout_at(deadline.max(Instant::now() + LEAVE), assignment.leave()).await.is_err() {
        tracing::warn!("the group was not left within service.grace");
    }
    if let Some(exporter) = exporter
        && timeout_at(deadline.max(Instant::now() + LEAVE), exporter.ended()).await.is_err()
    {
        tracing::warn!("not every trace was sent within service.grace");
    }
    tracing::info!("stopped");
    result
}

/// How records are written, and how they are read back.
pub(super) async fn pen(
    config: &Config,
    registry: Option<&Registry>,
    topics: &Topics,
    shape: Shape,
    desk: Option<TopicDesk>,
    progress: &Progress,
) -> Result<(Pen, Arc<Decoder>), ServiceError> {
    let framing = schemas::framing(registry, topics, progress).await?;
    let redaction = Redaction::new(&config.records.redact);
    let encoder = Encoder::new(&framing, topics, redaction.clone(), config.records.unmapped)?;
    let decoder = Decoder::new(&framing, topics)?;
    schemas::teach(&decoder, registry, topics, progress).await?;
    let pen = Pen {
        topics: topics.clone(),
        encoder,
        redaction,
        limits: Limits::new(shape.limits, desk),
        is_repeatable: config.linxo.delivery == Delivery::Repeatable,
    };
    Ok((pen, Arc::new(decoder)))
}

/// Memory for answers in flight.
pub(super) fn room(config: &Config) -> Room {
    Room::new(
        config.polling.max_in_flight,
        config.polling.max_in_flight_bytes,
        config.linxo.max_answer,
    )
}

/// How much the journal of a configuration keeps.
pub(super) fn journal_settings(config: &Config, room: &Room) -> JournalSettings {
    JournalSettings {
        max_bytes: config.journal.max_bytes,
        max_in_flight: config.polling.max_in_flight,
        share: room.share() as u64,
        max_answer: config.linxo.max_answer,
    }
}

/// What the topics are like; waits while Kafka is away, and makes them where that is wanted.
pub(super) async fn shape(
    config: &Config,
    desk: &TopicDesk,
    progress: &Progress,
) -> Result<Shape, ServiceError> {
    // an absent cluster is known as one only when the client's patience has run out
    progress.wait_for(&format!("kafka at {}: the topics", config.kafka.bootstrap_servers));
    loop {
        let looked = async {
            if config.topics.create {
                let made = desk.create().await?;
                if !made.is_empty() {
                    tracing::info!(topics = made.join(", "), "topics made");
                }
            }
            desk.fitness().await
        };
        match looked.await {
            Ok(shape) => return Ok(shape),
            Err(TopicError::Away(error)) => {
                progress.wait_for(&format!("kafka at {}: {error}", config.kafka.bootstrap_servers));
            }
            Err(error) => return Err(error.into()),
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// The source client of a configuration.
pub fn source(config: &Config, observer: TokenObserver) -> Result<Source, ServiceError> {
    let settings = SourceSettings {
        api_url: config.linxo.api_url.clone(),
        auth_url: config.linxo.auth_url.clone().unwrap_or_else(|| config.linxo.api_url.clone()),
        client_id: config.linxo.client_id.clone(),
        client_secret: config
            .linxo
            .client_secret
            .as_ref()
            .map(|secret| zeroize::Zeroizing::new(secret.expose().to_owned())),
        scope: linxo::DEFAULT_SCOPE.to_owned(),
        user_naming: match &config.linxo.user_naming {
            UserNaming::Header(name) => linxo::UserNaming::Header(name.clone()),
            UserNaming::Parameter(name) => linxo::UserNaming::Parameter(name.clone()),
        },
        request_timeout: config.linxo.request_timeout,
        dead_statuses: config.linxo.dead_statuses.clone(),
        max_in_flight: config.polling.max_in_flight,
        instance_id: config.kafka.instance_id.clone(),
    };
    Ok(Source::new(settings, observer)?)
}

/// The registry client of a configuration; none when none is configured.
pub fn registry(config: &Config, metrics: &Arc<Metrics>) -> Result<Option<Registry>, ServiceError> {
    let Some(registry) = &config.schema_registry else { return Ok(None) };
    let metrics = Arc::clone(metrics);
    let observer = Arc::new(move |outcome| metrics.registry_request(outcome));
    Ok(Some(Registry::new(&registry.url, registry.register, observer)?))
}
