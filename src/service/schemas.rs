//! The schemas at the start: their ids, and the ones that older records were written with.
//!
//! Promises: every schema is registered or found before any queue is asked, and so is every version
//! that what we keep may have been written with; an incompatible one ends the start; the registry is
//! not asked again once events flow, but for a schema id that a control record of a later version
//! names while its partition is read.
//!
//! Knows nothing of: HTTP.

use std::collections::HashMap;
use std::time::Duration;

use super::progress::Progress;
use crate::record::{Decoder, Framing, RecordKind, Topics};
use crate::registry::{Registry, RegistryFault};

const AGAIN: Duration = Duration::from_secs(2);

/// The framing of every topic; waits while the registry is away.
pub(super) async fn framing(
    registry: Option<&Registry>,
    topics: &Topics,
    progress: &Progress,
) -> Result<Framing, RegistryFault> {
    let Some(registry) = registry else { return Ok(Framing::SingleObject) };
    let mut ids = HashMap::new();
    for subject in topics.subjects() {
        let prepare = async || registry.prepare(&subject.name, subject.kind.schema_text()).await;
        ids.insert(subject.topic.clone().into_string(), patiently(progress, prepare).await?);
    }
    Ok(Framing::Confluent { ids })
}

/// Has the decoder learn every version of what bridges keep for each other.
pub(super) async fn teach(
    decoder: &Decoder,
    registry: Option<&Registry>,
    topics: &Topics,
    progress: &Progress,
) -> Result<(), RegistryFault> {
    let Some(registry) = registry else { return Ok(()) };
    for subject in topics.subjects() {
        if matches!(subject.kind, RecordKind::Event | RecordKind::Gap) {
            continue;
        }
        let versions = patiently(progress, async || registry.versions(&subject.name).await).await?;
        for (id, text) in versions {
            if let Err(error) = decoder.learn(id, &text) {
                // a stranger's version: only a record that names it would need it
                tracing::warn!(subject = subject.name, schema = id, %error, "a version cannot be used");
            }
        }
    }
    Ok(())
}

/// Tries again for as long as the registry is away.
async fn patiently<T>(
    progress: &Progress,
    call: impl AsyncFn() -> Result<T, RegistryFault>,
) -> Result<T, RegistryFault> {
    loop {
        match call().await {
            Err(fault @ RegistryFault::Away { .. }) => {
                progress.wait_for(&format!("the schema registry: {fault}"));
                tokio::time::sleep(AGAIN).await;
            }
            outcome => return outcome,
        }
    }
}
