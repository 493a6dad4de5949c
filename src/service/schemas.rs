//! The schemas at the start: their ids, and the ones that older records were written with.
//!
//! Promises: every schema is registered or found before any queue is asked; an incompatible one
//! ends the start; the registry is not asked again once events flow, but for a schema id that a
//! control record of another version names while its partition is read.
//!
//! Knows nothing of: HTTP.

use std::collections::HashMap;
use std::time::Duration;

use super::progress::Progress;
use crate::record::{Framing, Topics};
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
        let id = loop {
            match registry.prepare(&subject.name, subject.kind.schema_text()).await {
                Ok(id) => break id,
                Err(fault @ RegistryFault::Away { .. }) => {
                    progress.wait_for(&format!("the schema registry: {fault}"));
                    tokio::time::sleep(AGAIN).await;
                }
                Err(fault) => return Err(fault),
            }
        };
        ids.insert(subject.topic.into_string(), id);
    }
    Ok(Framing::Confluent { ids })
}
