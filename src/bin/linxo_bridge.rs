//! `linxo-bridge`: drains the event queues of Linxo users into Kafka.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use linxo_kafka_bridge::bulk::{self, ExportOptions, ImportOptions};
use linxo_kafka_bridge::check;
use linxo_kafka_bridge::config::{Config, LogFormat};
use linxo_kafka_bridge::credential::{self, KeyRing};
use linxo_kafka_bridge::demo;
use linxo_kafka_bridge::journal;
use linxo_kafka_bridge::kafka::Clients;
use linxo_kafka_bridge::logging::{self, LogFilter};
use linxo_kafka_bridge::service::{self, ServiceError, Setting};
use linxo_kafka_bridge::stop;
use linxo_kafka_bridge::topics::{self, TopicDesk};

/// Answers and records are made on one thread and freed on another, for which the system's allocator
/// takes a sixth of the CPU of an event.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Exit code of a configuration, or a command line, that cannot be used.
const CONFIGURATION: u8 = 64;

#[derive(Parser)]
#[command(name = "linxo-bridge", version, about, long_about = None)]
struct Arguments {
    /// The configuration, TOML; `LINXO_BRIDGE__SECTION__KEY` variables count over it.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the service.
    Serve,
    /// Reach out to everything configured; one line a finding, with what to do.
    Check,
    /// Make the topics, or compare them with what they should be.
    #[command(subcommand)]
    Topics(TopicsCommand),
    /// Look into the journal, or publish one whose instance never returns.
    #[command(subcommand)]
    Journal(JournalCommand),
    /// Put or write subscriptions in bulk, as JSON lines, through the admin API.
    #[command(subcommand)]
    Subscriptions(SubscriptionsCommand),
    /// Make secrets as files.
    #[command(subcommand)]
    Secrets(SecretsCommand),
    /// Ask the service's own /readyz; for containers.
    Healthcheck,
    /// Show what the bridge does: simulator, in-process cluster and bridge in one process.
    Demo(demo::Options),
}

#[derive(Subcommand)]
enum TopicsCommand {
    /// Make the missing ones with the right settings, and say what differs on those that exist.
    Create,
    /// Say what is there and what differs.
    Describe,
}

#[derive(Subcommand)]
enum JournalCommand {
    /// Say what journal.directory holds; whoever uses it may go on.
    Inspect,
    /// Publish everything in journal.directory, late, and end.
    Drain,
}

#[derive(Subcommand)]
enum SecretsCommand {
    /// Make those that are missing in a folder: keys, admin-token and client-secret.
    ///
    /// keys is for credentials.key_file, admin-token for admin.token_file, client-secret for
    /// linxo.client_secret_file. Keys and token that are there stay as they are. Needs no configuration.
    Create {
        /// The folder; it has to be there.
        folder: PathBuf,
        /// A file with the client secret that Linxo gave, which counts over the one that is there; when
        /// it is empty, one is drawn.
        #[arg(long, value_name = "FILE")]
        client_secret: Option<PathBuf>,
    },
}

#[derive(Subcommand)]
enum SubscriptionsCommand {
    /// Subscribe the users of JSON lines, many at a time; repeating it is safe.
    ///
    /// One object a line, of up to 64 KiB: user_id, credential as in the body of
    /// PUT /v1/subscriptions/{user_id}, and queue_id where a queue is to be adopted:
    ///
    /// {"user_id": "ann", "credential": {"type": "client"}}
    ///
    /// A call that is not served for the moment is tried again, as the bridge says when. A line that
    /// cannot be put is told by its number, never with its credential, and the rest goes on. When no
    /// call is served for as long as the patience lasts, the import ends and says from which line to
    /// go on. Exit code 0: every line was put; 1: not every one.
    Import(ImportOptions),
    /// Write all subscriptions as JSON lines; credentials are NOT among them.
    ///
    /// One object a line on stdout, in the order of the user ids' bytes: user_id, subscription_id,
    /// queue_id, generation, partition, credential (its type alone), state, blocked_reason.
    ///
    /// The admin API shows no credentials, so an export is no backup of them. Who is subscribed or
    /// removed meanwhile may be there or not. Exit code 0: all subscriptions were written; 1: not all,
    /// and stderr says why.
    Export(ExportOptions),
}

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(help_or_fault) => {
            // a closed terminal is no reason to say anything else
            drop(help_or_fault.print());
            let code = if help_or_fault.use_stderr() { CONFIGURATION } else { 0 };
            return ExitCode::from(code);
        }
    };
    if let Command::Demo(options) = &arguments.command {
        let filter = options.log.as_deref().unwrap_or("off");
        return match logging::start(filter, LogFormat::Text) {
            Ok(log) => in_runtime(demo::run(options.clone(), log)),
            Err(fault) => {
                eprintln!("--log {filter:?}: {fault}");
                ExitCode::from(CONFIGURATION)
            }
        };
    }
    if let Command::Secrets(SecretsCommand::Create { folder, client_secret }) = &arguments.command {
        return create_secrets(folder, client_secret.as_deref());
    }
    let config = match Config::load(arguments.config.as_deref(), environment()) {
        Ok(config) => config,
        Err(faults) => {
            eprintln!("{faults}");
            return ExitCode::from(CONFIGURATION);
        }
    };
    match arguments.command {
        Command::Serve => match log(&config) {
            Ok(log) => in_runtime(serve(config, log)),
            Err(code) => code,
        },
        Command::Check => in_runtime(or_stopped(check::run(config))),
        Command::Topics(TopicsCommand::Create) => in_runtime(or_stopped(create_topics(config))),
        Command::Topics(TopicsCommand::Describe) => in_runtime(or_stopped(describe_topics(config))),
        Command::Journal(JournalCommand::Inspect) => inspect_journal(&config),
        Command::Journal(JournalCommand::Drain) => match log(&config) {
            Ok(_) => in_runtime(or_stopped(drain_journal(config))),
            Err(code) => code,
        },
        Command::Subscriptions(SubscriptionsCommand::Import(options)) => {
            in_runtime(bulk::import(config, options))
        }
        Command::Subscriptions(SubscriptionsCommand::Export(options)) => {
            in_runtime(or_stopped(bulk::export(config, options)))
        }
        Command::Healthcheck => in_runtime(or_stopped(check::healthcheck(config))),
        Command::Demo(_) | Command::Secrets(_) => ExitCode::SUCCESS,
    }
}

/// One thread does all that is asynchronous: a poll that comes back empty wakes nobody else.
/// Publishing and the group have threads of their own.
fn in_runtime(work: impl Future<Output = ExitCode>) -> ExitCode {
    // the TLS provider has to be chosen before the first client; a second choice changes nothing
    rustls::crypto::ring::default_provider().install_default().ok();
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => {
            let code = runtime.block_on(work);
            // what still waits for Kafka on a thread of its own would hold the end up
            runtime.shutdown_background();
            code
        }
        Err(error) => {
            eprintln!("the runtime cannot be started: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Ends at SIGTERM or SIGINT: the first process of a container dies of neither by itself.
async fn or_stopped(work: impl Future<Output = ExitCode>) -> ExitCode {
    stop::or_requested(work).await.unwrap_or_else(|| {
        eprintln!("stopped before the end");
        ExitCode::FAILURE
    })
}

async fn serve(config: Config, log: LogFilter) -> ExitCode {
    tracing::info!(version = env!("CARGO_PKG_VERSION"), "linxo-bridge starts");
    let keys = match keys(&config) {
        Ok(keys) => keys,
        Err(error) => {
            eprintln!("credentials.key_file: {error}");
            return ExitCode::from(CONFIGURATION);
        }
    };
    let setting = Setting { keys, log, shape: None };
    let (running, _) = tokio::sync::oneshot::channel();
    match service::serve(config, setting, running, stop::requested()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "linxo-bridge ends");
            ExitCode::FAILURE
        }
    }
}

fn keys(config: &Config) -> Result<KeyRing, ServiceError> {
    match &config.credentials.key_file {
        Some(path) => Ok(KeyRing::from_file(path)?),
        None => Ok(KeyRing::from_text("")?),
    }
}

fn inspect_journal(config: &Config) -> ExitCode {
    let keys = match keys(config) {
        Ok(keys) => keys,
        Err(error) => return failed(&error),
    };
    let holdings = match journal::inspect(&config.journal.directory, keys) {
        Ok(holdings) => holdings,
        Err(error) => return failed(&error),
    };
    println!("folder: {}\n{holdings}", config.journal.directory.display());
    ExitCode::SUCCESS
}

async fn drain_journal(config: Config) -> ExitCode {
    let keys = match keys(&config) {
        Ok(keys) => keys,
        Err(error) => return failed(&error),
    };
    match service::drain(&config, keys).await {
        Ok(rows) => {
            println!("{rows} rows published, the journal is drained");
            ExitCode::SUCCESS
        }
        Err(error) => failed(&error),
    }
}

fn create_secrets(folder: &Path, client_secret: Option<&Path>) -> ExitCode {
    match credential::create_secrets(folder, client_secret) {
        Ok(made) => {
            for name in &made {
                println!("made {name}");
            }
            if made.is_empty() {
                println!("nothing was missing");
            }
            ExitCode::SUCCESS
        }
        Err(error) => failed(&error),
    }
}

async fn create_topics(config: Config) -> ExitCode {
    let desk = match desk(&config) {
        Ok(desk) => desk,
        Err(code) => return code,
    };
    match desk.create().await {
        Ok(made) => {
            for topic in &made {
                println!("made {topic}");
            }
            if made.is_empty() {
                println!("nothing was missing");
            }
        }
        Err(error) => return failed(&error),
    }
    tell_differences(&desk).await
}

async fn describe_topics(config: Config) -> ExitCode {
    let desk = match desk(&config) {
        Ok(desk) => desk,
        Err(code) => return code,
    };
    match desk.describe().await {
        Ok(described) => {
            for (wanted, found) in &described {
                match found {
                    Some(found) => println!("{}: {} partitions", wanted.name, found.partitions),
                    None => println!("{}: missing", wanted.name),
                }
            }
        }
        Err(error) => return failed(&error),
    }
    tell_differences(&desk).await
}

async fn tell_differences(desk: &TopicDesk) -> ExitCode {
    match desk.describe().await {
        Ok(described) => {
            for difference in topics::differences(&described) {
                println!("differs: {difference}");
            }
        }
        Err(error) => return failed(&error),
    }
    match desk.fitness().await {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

fn desk(config: &Config) -> Result<TopicDesk, ExitCode> {
    TopicDesk::new(&Clients::new(&config.kafka), &config.topics).map_err(|error| failed(&error))
}

fn failed(error: &dyn std::error::Error) -> ExitCode {
    eprintln!("{error}");
    ExitCode::FAILURE
}

/// The variables of the environment that are text; others cannot be ours.
fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

fn log(config: &Config) -> Result<LogFilter, ExitCode> {
    let filter = &config.service.log;
    logging::start(filter, config.service.log_format).map_err(|fault| {
        eprintln!("service.log = {filter:?}: {fault}");
        ExitCode::from(CONFIGURATION)
    })
}
