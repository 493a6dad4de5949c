//! The topics we need: what they should be, what is there, and the command that mends it.
//!
//! Promises:
//! - a missing topic is made with the settings of the design, an existing one is never changed;
//! - each difference is a sentence with what to do; those that would lose data or order (partition
//!   counts of the control and state topics) are told apart from those that merely differ.
//!
//! Knows nothing of: records.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use crate::config;
use crate::kafka::{Clients, Complaints};

const CALL: Duration = Duration::from_secs(10);
const DAY_MILLIS: u64 = 24 * 3600 * 1000;

/// One topic as it should be.
#[derive(Clone, Debug, PartialEq)]
pub struct Wanted {
    /// Its name, prefix included.
    pub name: String,
    /// Its partitions when it is made.
    pub partitions: i32,
    /// Its settings when it is made.
    pub settings: Vec<(&'static str, String)>,
}

/// One topic as it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// Its partitions.
    pub partitions: i32,
    /// Its settings, as the broker names them.
    pub settings: Vec<(String, String)>,
}

/// Why topics could not be looked at or made.
#[derive(Debug, thiserror::Error)]
pub enum TopicError {
    /// The cluster did not answer: wait and try again.
    #[error("kafka does not answer: {0}")]
    Away(#[source] KafkaError),
    /// The cluster refused.
    #[error(
        "topic {topic} cannot be made: {code}; grant create on it, or make it with other means"
    )]
    Refused {
        /// The topic.
        topic: String,
        /// The broker's word.
        code: RDKafkaErrorCode,
    },
    /// The topics are not fit for the bridge; each line says what to do.
    #[error("the topics are not as they must be:\n{}", .0.join("\n"))]
    Unfit(Vec<String>),
}

/// What the service needs to know of topics that are fit.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Shape {
    /// Partitions of the control and the state topic.
    pub partitions: i32,
    /// `max.message.bytes` by topic.
    pub limits: HashMap<String, usize>,
}

/// Every topic of the design, with its settings.
pub fn wanted(topics: &config::Topics) -> Vec<Wanted> {
    let compact = || {
        vec![
            ("cleanup.policy", "compact".to_owned()),
            ("segment.bytes", (16 * 1024 * 1024).to_string()),
            ("segment.ms", (10 * 60 * 1000).to_string()),
            ("min.cleanable.dirty.ratio", "0.1".to_owned()),
        ]
    };
    let delete = |days: u64| {
        vec![
            ("cleanup.policy", "delete".to_owned()),
            ("retention.ms", (days * DAY_MILLIS).to_string()),
        ]
    };
    let topic = |name: String, partitions, settings| Wanted { name, partitions, settings };
    let mut all = vec![
        topic(topics.subscriptions(), topics.partitions, compact()),
        topic(topics.queues(), topics.partitions, compact()),
        topic(topics.journals(), 1, compact()),
        topic(topics.events(), topics.event_partitions, delete(7)),
        topic(topics.gaps(), topics.event_partitions, delete(30)),
        topic(topics.dead_letters(), topics.event_partitions, delete(3)),
    ];
    all.extend(
        topics.actions().into_iter().map(|name| topic(name, topics.event_partitions, delete(30))),
    );
    all
}

/// Looks at the topics of one cluster and makes missing ones.
pub struct TopicDesk {
    admin: Arc<AdminClient<Complaints>>,
    topics: config::Topics,
}

impl TopicDesk {
    /// A desk for the cluster of `clients`.
    pub fn new(clients: &Clients, topics: &config::Topics) -> Result<Self, TopicError> {
        let admin =
            clients.admin().create_with_context(Complaints("admin")).map_err(TopicError::Away)?;
        Ok(Self { admin: Arc::new(admin), topics: topics.clone() })
    }

    /// Makes what is missing; answers the names made.
    pub async fn create(&self) -> Result<Vec<String>, TopicError> {
        let there = self.partitions().await?;
        let mut wanted = wanted(&self.topics);
        wanted.retain(|topic| !there.contains_key(&topic.name));
        let new = wanted.iter().map(|topic| {
            let replication = TopicReplication::Fixed(self.topics.replication);
            let new = NewTopic::new(&topic.name, topic.partitions, replication);
            topic.settings.iter().fold(new, |new, (key, value)| new.set(key, value))
        });
        let new: Vec<NewTopic<'_>> = new.collect();
        if new.is_empty() {
            return Ok(Vec::new());
        }
        let made = self.admin.create_topics(&new, &options()).await.map_err(TopicError::Away)?;
        let mut names = Vec::new();
        for result in made {
            match result {
                Ok(name) => names.push(name),
                // another instance was quicker
                Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((topic, code)) => return Err(TopicError::Refused { topic, code }),
            }
        }
        // the controller has made them, the brokers hear of it a moment later
        for _ in 0..100 {
            let there = self.partitions().await?;
            if wanted.iter().all(|topic| there.contains_key(&topic.name)) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(names)
    }

    /// Each wanted topic beside what is there, `None` when it is missing.
    pub async fn describe(&self) -> Result<Vec<(Wanted, Option<Found>)>, TopicError> {
        let there = self.partitions().await?;
        let mut described = Vec::new();
        for topic in wanted(&self.topics) {
            let found = match there.get(&topic.name) {
                None => None,
                Some(&partitions) => {
                    Some(Found { partitions, settings: self.settings(&topic.name).await? })
                }
            };
            described.push((topic, found));
        }
        Ok(described)
    }

    /// Whether the service can work with the topics as they are.
    pub async fn fitness(&self) -> Result<Shape, TopicError> {
        fitness_of(&self.describe().await?, &self.topics)
    }

    /// `max.message.bytes` by topic, of the topics that are there and say it.
    pub async fn limits(&self) -> Result<HashMap<String, usize>, TopicError> {
        Ok(limits_of(&self.describe().await?))
    }

    /// The partitions of each wanted topic that is there. The client's call blocks, and while the
    /// cluster is away it does so for all of its time: not on the thread that answers `/livez`.
    async fn partitions(&self) -> Result<HashMap<String, i32>, TopicError> {
        let (admin, wanted) = (Arc::clone(&self.admin), wanted(&self.topics));
        let asked = tokio::task::spawn_blocking(move || {
            let mut there = HashMap::new();
            for Wanted { name, .. } in wanted {
                let metadata = admin.inner().fetch_metadata(Some(&name), CALL)?;
                let found = metadata.topics().iter().find(|found| found.name() == name);
                let count = found.filter(|found| found.error().is_none());
                let count = count.map_or(0, |found| found.partitions().len());
                if count > 0 {
                    there.insert(name, i32::try_from(count).unwrap_or(i32::MAX));
                }
            }
            Ok(there)
        });
        asked.await.unwrap_or(Err(KafkaError::Canceled)).map_err(TopicError::Away)
    }

    async fn settings(&self, topic: &str) -> Result<Vec<(String, String)>, TopicError> {
        let asked = [ResourceSpecifier::Topic(topic)];
        // a topic made a moment ago may be answered with nothing (kafka-from-rust 12.6)
        for _ in 0..10 {
            let answers =
                self.admin.describe_configs(&asked, &options()).await.map_err(TopicError::Away)?;
            let entries = answers.into_iter().flatten().flat_map(|resource| resource.entries);
            let settings: Vec<_> =
                entries.filter_map(|entry| Some((entry.name, entry.value?))).collect();
            if !settings.is_empty() {
                return Ok(settings);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(Vec::new())
    }
}

/// What differs from the design on topics that are there, one sentence each.
pub fn differences(described: &[(Wanted, Option<Found>)]) -> Vec<String> {
    let mut differences = Vec::new();
    for (wanted, found) in described {
        let Some(found) = found else { continue };
        for (key, value) in &wanted.settings {
            let is = found.settings.iter().find(|(name, _)| name == key);
            match is {
                Some((_, is)) if same_setting(is, value) => {}
                Some((_, is)) => differences.push(format!(
                    "{}: {key} is {is}, the design has {value}; kafka-configs --alter --topic {} \
                     --add-config {key}={value} sets it",
                    wanted.name, wanted.name
                )),
                None => {}
            }
        }
    }
    differences
}

fn same_setting(is: &str, wanted: &str) -> bool {
    is == wanted || is.parse::<f64>().is_ok_and(|is| wanted.parse() == Ok(is))
}

/// Whether the service can work with topics that are like this.
pub fn fitness_of(
    described: &[(Wanted, Option<Found>)],
    topics: &config::Topics,
) -> Result<Shape, TopicError> {
    let mut faults = Vec::new();
    let missing: Vec<&str> = described
        .iter()
        .filter(|(_, found)| found.is_none())
        .map(|(wanted, _)| wanted.name.as_str())
        .collect();
    if !missing.is_empty() {
        faults.push(format!(
            "missing: {}; `linxo-bridge topics create` makes them, or set topics.create = true",
            missing.join(", ")
        ));
    }
    let partitions = |name: &str| {
        described
            .iter()
            .find(|(wanted, _)| wanted.name == name)
            .and_then(|(_, found)| found.as_ref())
            .map(|found| found.partitions)
    };
    let (subscriptions, queues) = (topics.subscriptions(), topics.queues());
    let control = partitions(&subscriptions);
    if let (Some(control), Some(states)) = (control, partitions(&queues))
        && control != states
    {
        faults.push(format!(
            "{subscriptions} has {control} partitions and {queues} has {states}, they must have \
             the same; with no user subscribed yet, delete {queues} and let `linxo-bridge topics \
             create` make it anew with topics.partitions = {control}"
        ));
    }
    if let Some(marks) = partitions(&topics.journals())
        && marks != 1
    {
        faults.push(format!(
            "{} has {marks} partitions and must have 1; delete it and run `linxo-bridge topics \
             create`",
            topics.journals()
        ));
    }
    for name in [&subscriptions, &queues, &topics.journals()] {
        let found = described.iter().find(|(wanted, _)| &wanted.name == name);
        let policy = found
            .and_then(|(_, found)| found.as_ref())
            .and_then(|found| found.settings.iter().find(|(key, _)| key == "cleanup.policy"));
        if let Some((_, policy)) = policy
            && policy != "compact"
        {
            faults.push(format!(
                "{name} has cleanup.policy={policy} and would forget users; kafka-configs --alter \
                 --topic {name} --add-config cleanup.policy=compact mends it"
            ));
        }
    }
    if !faults.is_empty() {
        return Err(TopicError::Unfit(faults));
    }
    Ok(Shape { partitions: control.unwrap_or(1), limits: limits_of(described) })
}

fn limits_of(described: &[(Wanted, Option<Found>)]) -> HashMap<String, usize> {
    let limits = described.iter().filter_map(|(wanted, found)| {
        let found = found.as_ref()?;
        let (_, limit) = found.settings.iter().find(|(key, _)| key == "max.message.bytes")?;
        Some((wanted.name.clone(), limit.parse().ok()?))
    });
    limits.collect()
}

fn options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(CALL)).operation_timeout(Some(CALL))
}
