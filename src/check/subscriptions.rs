//! Who is subscribed, and whether the keys still open what they were subscribed with.
//!
//! Promises: says of each key that sealed something whether it may be taken out of the file; opens
//! credentials one at a time and shows none.
//!
//! Knows nothing of: queue states.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use super::Findings;
use crate::config::Config;
use crate::credential::{KeyRing, SealedCredential};
use crate::ids::UserId;
use crate::kafka::{self, Clients};
use crate::record::{Decoder, Framing, RecordError, RecordKind, Topics};
use crate::registry::{Registry, RegistryFault};

/// How many subscriptions there are.
pub(super) struct Subscribed {
    pub(super) queues: usize,
    /// How many of them have a token asked for.
    pub(super) passwords: usize,
}

/// What stands in a user's last record, as far as it concerns us.
struct Held {
    is_password: bool,
    credential: Found,
}

enum Found {
    /// The bridge's own, or no keys to try.
    Untried,
    /// Sealed by this key, and opened by it.
    Open(String),
    Fault(String),
}

/// Why nothing can be read.
#[derive(Debug, thiserror::Error)]
enum Unread {
    #[error(transparent)]
    Record(#[from] RecordError),
    #[error("schema_registry.url: {0}")]
    Registry(#[from] RegistryFault),
}

/// Reads the control topic to its end.
pub(super) async fn count(
    config: &Config,
    clients: Clients,
    partitions: i32,
    registry: Option<&Registry>,
    keys: Option<KeyRing>,
    findings: &mut Findings,
) -> Option<Subscribed> {
    let topics = Topics::new(&config.topics.prefix, &config.topics.actions);
    let decoder = match decoder(&topics, registry).await {
        Ok(decoder) => decoder,
        Err(error) => {
            findings.fault(&format!("subscriptions cannot be read: {error}"));
            return None;
        }
    };
    let newest = keys.as_ref().and_then(|keys| keys.key_ids().next());
    let read = tokio::task::spawn_blocking(move || {
        let all: Vec<i32> = (0..partitions).collect();
        let mut users: HashMap<Vec<u8>, Held> = HashMap::new();
        let patience = Duration::from_secs(60);
        kafka::read_to_end(&clients, &topics.subscriptions, &all, patience, |record| {
            match record.value {
                Some(value) => {
                    let held = held(&decoder, keys.as_ref(), record.key, value);
                    users.insert(record.key.to_vec(), held);
                }
                None => drop(users.remove(record.key)),
            }
        })
        .map(|()| users)
    });
    match read.await {
        Ok(Ok(users)) => Some(told(users, newest.as_deref(), findings)),
        Ok(Err(error)) => {
            findings.fault(&error.to_string());
            None
        }
        Err(error) => {
            findings.fault(&format!("reading subscriptions ended badly: {error}"));
            None
        }
    }
}

/// Reads what was written with any version that the registry has.
async fn decoder(topics: &Topics, registry: Option<&Registry>) -> Result<Decoder, Unread> {
    let decoder = Decoder::new(&Framing::SingleObject, topics)?;
    let Some(registry) = registry else { return Ok(decoder) };
    for subject in topics.subjects() {
        if subject.kind == RecordKind::Subscription {
            for (id, text) in registry.versions(&subject.name).await? {
                decoder.learn(id, &text)?;
            }
        }
    }
    Ok(decoder)
}

fn held(decoder: &Decoder, keys: Option<&KeyRing>, key: &[u8], value: &[u8]) -> Held {
    let subscription = match decoder.subscription(value) {
        Ok(subscription) => subscription,
        Err(error) => {
            let fault = format!("the subscription cannot be read: {error}");
            return Held { is_password: false, credential: Found::Fault(fault) };
        }
    };
    let kind = subscription.credential_kind;
    let sealed = SealedCredential::from(subscription.sealed_credential);
    let user = UserId::from(String::from_utf8_lossy(key).into_owned());
    let credential = match keys {
        Some(keys) if kind != "client" => match keys.open(&user, &sealed) {
            Ok(_) => Found::Open(sealed.key_id().unwrap_or_default()),
            Err(error) => Found::Fault(format!("the credential cannot be opened: {error}")),
        },
        _ => Found::Untried,
    };
    Held { is_password: kind == "password", credential }
}

fn told(
    users: HashMap<Vec<u8>, Held>,
    newest: Option<&str>,
    findings: &mut Findings,
) -> Subscribed {
    let mut subscribed = Subscribed { queues: users.len(), passwords: 0 };
    let mut faults: BTreeMap<String, usize> = BTreeMap::new();
    let mut keys: BTreeMap<String, usize> = BTreeMap::new();
    for held in users.into_values() {
        subscribed.passwords += usize::from(held.is_password);
        match held.credential {
            Found::Untried => {}
            Found::Open(key_id) => *keys.entry(key_id).or_default() += 1,
            Found::Fault(fault) => *faults.entry(fault).or_default() += 1,
        }
    }
    findings.good(&format!("{} subscriptions", subscribed.queues));
    for (key_id, credentials) in &keys {
        if newest != Some(key_id) {
            findings.note(&format!(
                "{credentials} credentials are sealed by the older key {key_id}: keep it until they \
                 have been put anew"
            ));
        }
    }
    for (fault, users) in faults {
        findings.fault(&format!("of {users} users {fault}"));
    }
    subscribed
}
