//! Every setting, its default, and what makes a set of them wrong.
//!
//! A file in TOML, environment variables `LINXO_BRIDGE__SECTION__KEY` over it; [`Config`] is what they come to, field by
//! field as in `deploy/linxo-bridge.toml`, which explains each of them.
//!
//! Promises:
//! - all faults are reported together, each with its key and what would be right; an unknown key is one;
//! - a `Config` that was loaded is consistent: what cannot work together has been refused;
//! - neither a fault, nor `Debug`, nor [`Config::redacted`] shows a secret.
//!
//! Knows nothing of: what the rooms do with their settings.

mod checks;
mod faults;
mod keys;
mod properties;
mod raw;
mod readers;
mod redacted;
mod resolve;
mod topics;
mod values;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use url::Url;

pub use faults::{Fault, Faults};
pub use topics::{ACTIONS, Topics};
pub use values::{LOG_FILTER_FORM, duration, duration_text, is_log_filter};

use crate::secret::Secret;
use raw::Raw;

/// Every setting, resolved.
#[derive(Clone, PartialEq)]
pub struct Config {
    /// The source.
    pub linxo: Linxo,
    /// How often queues are asked.
    pub polling: Polling,
    /// The cluster and the group.
    pub kafka: Kafka,
    /// Names and shapes of the topics.
    pub topics: Topics,
    /// Where schema ids come from; `None` for single-object encoding.
    pub schema_registry: Option<SchemaRegistry>,
    /// Where answers are kept until they are published.
    pub journal: Journal,
    /// How credentials are sealed and tried again.
    pub credentials: Credentials,
    /// What of an event is published.
    pub records: Records,
    /// The HTTP door.
    pub admin: Admin,
    /// Stopping and logging.
    pub service: Service,
    /// Traces.
    pub telemetry: Telemetry,
}

/// `[linxo]`: the source.
#[derive(Debug, Clone, PartialEq)]
pub struct Linxo {
    /// Base of `/queues` and `/connections`. Its path ends in `/`, so `join("queues/subscribe")` goes below it.
    pub api_url: Url,
    /// Base of `/token`, its path ends in `/`. Given whenever `client_id` is.
    pub auth_url: Option<Url>,
    /// The bridge's own client. Given exactly when `client_secret` is.
    pub client_id: Option<String>,
    /// The client's secret.
    pub client_secret: Option<Secret>,
    /// How a request names the user when the credential is the client's.
    pub user_naming: UserNaming,
    /// Requests per second of the whole fleet; 0 for no limit.
    pub max_requests_per_second: u32,
    /// How long a request may take, head to end of body.
    pub request_timeout: Duration,
    /// How long the source keeps a queue that nobody asks.
    pub queue_lifetime: Duration,
    /// Whether the source hands an event out again.
    pub delivery: Delivery,
    /// Answers that say a queue is dead; each from 400 to 499.
    pub dead_statuses: Vec<u16>,
    /// The largest answer that is read, in bytes.
    pub max_answer: u64,
}

/// Where a request names the user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UserNaming {
    /// In the header of this name, in lower case.
    Header(String),
    /// In the query parameter of this name.
    Parameter(String),
}

/// What a GET does to the events it hands out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// Removes them: an answer lost on the way is lost.
    Once,
    /// Keeps them: asking again is safe, repeats are recognised.
    Repeatable,
}

/// `[polling]`: how often queues are asked.
#[derive(Debug, Clone, PartialEq)]
pub struct Polling {
    /// The longest time between two questions to a queue.
    pub keep_alive: Duration,
    /// The time between two questions while a synchronization runs or is expected.
    pub active: Duration,
    /// How long a queue counts as active after the last sign of a synchronization.
    pub active_for: Duration,
    /// The most requests at a time.
    pub max_in_flight: usize,
    /// The most bytes that answers not yet journaled may take.
    pub max_in_flight_bytes: u64,
}

/// `[kafka]`: the cluster and the group.
#[derive(Clone, PartialEq)]
pub struct Kafka {
    /// Brokers to begin with, `host:port`, with commas between.
    pub bootstrap_servers: String,
    /// The consumer group of the control topic, and part of the transactional id.
    pub group: String,
    /// This instance's static member id.
    pub instance_id: String,
    /// How the group agrees on who owns what.
    pub group_protocol: GroupProtocol,
    /// After what silence the group gives a member up; `None` with [`GroupProtocol::Consumer`], where the broker decides.
    pub session_timeout: Option<Duration>,
    /// How long a transaction may gather while records come slowly.
    pub commit_interval: Duration,
    /// librdkafka properties for every client. May hold secrets.
    pub properties: BTreeMap<String, String>,
    /// librdkafka properties for producers, over `properties`. May hold secrets.
    pub producer: BTreeMap<String, String>,
    /// librdkafka properties for consumers, over `properties`. May hold secrets.
    pub consumer: BTreeMap<String, String>,
}

/// How the group agrees on who owns what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupProtocol {
    /// By rounds of joining; any broker.
    Classic,
    /// KIP-848: by the broker's word, one partition at a time; Kafka 4.
    Consumer,
}

/// `[schema_registry]`: where schema ids come from.
#[derive(Clone, PartialEq)]
pub struct SchemaRegistry {
    /// Base of `/subjects`; its path ends in `/`. May hold a user name and a password.
    pub url: Url,
    /// Whether unknown schemas are registered; else they are only looked up.
    pub register: bool,
}

/// `[journal]`: where answers are kept until they are published.
#[derive(Debug, Clone, PartialEq)]
pub struct Journal {
    /// The folder.
    pub directory: PathBuf,
    /// The most bytes it may take.
    pub max_bytes: u64,
    /// How long another instance's journal may stay away before its users get gaps.
    pub grace: Duration,
}

/// `[credentials]`: how credentials are sealed and tried again.
#[derive(Debug, Clone, PartialEq)]
pub struct Credentials {
    /// The file of the key ring. Always given in what was loaded; a configuration made in code may do without.
    pub key_file: Option<PathBuf>,
    /// The time between two tries of a refused credential.
    pub retry: Duration,
}

/// `[records]`: what of an event is published.
#[derive(Debug, Clone, PartialEq)]
pub struct Records {
    /// Whether fields that the schema does not name are published.
    pub unmapped: bool,
    /// Names of fields that are never published, wherever they stand.
    pub redact: Vec<String>,
}

/// `[admin]`: the HTTP door.
#[derive(Debug, Clone, PartialEq)]
pub struct Admin {
    /// The address listened on.
    pub listen: SocketAddr,
    /// Under which URL other instances reach this one; its path ends in `/`.
    pub advertised_url: Url,
    /// The bearer token that callers show; without one `listen` is a loopback address.
    pub token: Option<Secret>,
}

/// `[service]`: stopping and logging.
#[derive(Debug, Clone, PartialEq)]
pub struct Service {
    /// How long a revoked partition may take to publish what it holds.
    pub drain: Duration,
    /// How long a stop may take.
    pub grace: Duration,
    /// What is logged: a level, or `target=level` with commas between.
    pub log: String,
    /// The form of a log line.
    pub log_format: LogFormat,
}

/// `[telemetry]`: traces.
#[derive(Debug, Clone, PartialEq)]
pub struct Telemetry {
    /// Base of `/v1/traces` of an OpenTelemetry collector, its path ends in `/`; none for no traces.
    pub otlp_endpoint: Option<Url>,
    /// The share of answers that are traced, from 0 to 1.
    pub sample: f64,
}

/// The form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For eyes.
    Text,
    /// For machines.
    Json,
}

impl Config {
    /// Reads the file, if one is given, with the environment over it.
    pub fn load(
        file: Option<&Path>,
        env: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, Faults> {
        Self::resolve(Raw::from_file(file, env))
    }

    /// Reads the text of a file, with the environment over it.
    pub fn from_toml(
        text: &str,
        env: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, Faults> {
        Self::resolve(Raw::from_text(text, env))
    }
}

#[cfg(test)]
mod tests;
