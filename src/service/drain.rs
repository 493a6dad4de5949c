//! Publishes a journal whose instance never returns.
//!
//! Promises:
//! - everything in it is published, late: whoever drains owns none of its users;
//! - a folder that is in use is left alone, and so is one that is published already.
//!
//! Knows nothing of: the group.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::ServiceError;
use super::progress::Progress;
use super::start::{journal_settings, pen, registry, room, shape};
use crate::assignment::Ownership;
use crate::config::Config;
use crate::credential::KeyRing;
use crate::journal::{Folder, Journal};
use crate::kafka::Clients;
use crate::metrics::Metrics;
use crate::publisher::{self, PublisherSettings};
use crate::pulse::Pulse;
use crate::record::Topics;
use crate::topics::TopicDesk;
use crate::traces::Traces;

/// Publishes what the journal of `config` holds; answers how many rows that were.
pub async fn drain(config: &Config, keys: KeyRing) -> Result<u64, ServiceError> {
    let folder = Folder::open_existing(&config.journal.directory)?;
    let id = folder.id().clone();
    let metrics = Arc::new(Metrics::new(env!("CARGO_PKG_VERSION"), "drain")?);
    let clients = Clients::new(&config.kafka);
    let topics = Topics::new(&config.topics.prefix, &config.topics.actions);
    let registry = registry(config, &metrics)?;
    let progress = Progress::new();
    let desk = TopicDesk::new(&clients, &config.topics)?;
    let shape = shape(config, &desk, &progress).await?;
    let (pen, decoder) =
        pen(config, registry.as_ref(), &topics, shape, Some(desk), &progress).await?;
    let settings = journal_settings(config, &room(config));
    let (journal, feed) = Journal::open(folder, Arc::new(keys), settings, Arc::clone(&metrics))?;
    if let Some(damage) = journal.damage() {
        tracing::error!(
            reason = damage.what,
            "rows of this journal are lost, its users get no gap by a drain"
        );
    }
    let (found, position) = oneshot::channel();
    let publisher = publisher::start(
        PublisherSettings {
            clients,
            pen,
            decoder,
            journal: id,
            incarnation: uuid::Uuid::new_v4().to_string(),
            instance_id: config.kafka.instance_id.clone(),
            url: config.admin.advertised_url.to_string(),
            commit_interval: config.kafka.commit_interval,
            ownership: Arc::new(Ownership::none()),
            metrics,
            is_cleansing: true,
            pulse: Arc::new(Pulse::default()),
            traces: Traces::none(),
        },
        feed,
        found,
    )?;
    let before = position.await.map(|position| position.number).unwrap_or_default();
    let last = journal.last_number();
    // nobody keeps anything any more: the publisher ends when it has everything
    drop(journal);
    publisher.ended.await.map_err(|_| ServiceError::PublisherGone)??;
    Ok(last.saturating_sub(before))
}
