//! Names and shapes of the topics.
//!
//! Promises:
//! - the only place where a topic's name is put together;
//! - what was loaded has legal names, no two of them alike.
//!
//! Knows nothing of: Kafka clients.

use super::raw::Raw;

/// The actions in the form that topic names take, in the order of the schema's enum.
pub const ACTIONS: [&str; 5] = [
    "auth-failed",
    "token-expired",
    "password-change-required",
    "user-action-required",
    "challenge-required",
];

/// Where the action's name goes in `topics.actions`.
const PLACEHOLDER: &str = "{action}";

/// Kafka's limit on the length of a topic's name.
const MAX_NAME: usize = 249;

/// `[topics]`: names and shapes of the topics.
#[derive(Debug, Clone, PartialEq)]
pub struct Topics {
    /// Put before every name.
    pub prefix: String,
    /// Partitions of the control and state topics, when they are made.
    pub partitions: i32,
    /// Partitions of the topics of events, actions, gaps and dead letters, when they are made.
    pub event_partitions: i32,
    /// Replicas of each, when they are made.
    pub replication: i32,
    /// Whether missing topics are made at start.
    pub create: bool,
    /// The template of the action topics, `{action}` in it or not.
    pub actions: String,
}

impl Topics {
    /// Topics with these names and the shapes of the design.
    pub fn with_names(prefix: &str, actions: &str) -> Self {
        Self {
            prefix: prefix.to_owned(),
            partitions: 64,
            event_partitions: 12,
            replication: 1,
            create: false,
            actions: actions.to_owned(),
        }
    }

    /// The control topic: who is watched.
    pub fn subscriptions(&self) -> String {
        self.named("linxo.subscriptions")
    }

    /// The state topic: how far each queue is.
    pub fn queues(&self) -> String {
        self.named("linxo.queues")
    }

    /// The marks of the instances.
    pub fn journals(&self) -> String {
        self.named("linxo.journals")
    }

    /// Every event.
    pub fn events(&self) -> String {
        self.named("linxo.events")
    }

    /// Copies of the events that ask for this one of [`ACTIONS`].
    pub fn action(&self, action: &str) -> String {
        self.named(&self.actions.replace(PLACEHOLDER, action))
    }

    /// The action topics, each once: five, or one when the template has no `{action}`.
    pub fn actions(&self) -> Vec<String> {
        if self.actions.contains(PLACEHOLDER) {
            ACTIONS.iter().map(|action| self.action(action)).collect()
        } else {
            vec![self.named(&self.actions)]
        }
    }

    /// What was or may have been lost.
    pub fn gaps(&self) -> String {
        self.named("linxo.gaps")
    }

    /// What could not be understood.
    pub fn dead_letters(&self) -> String {
        self.named("linxo.dead-letters")
    }

    fn named(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    fn all(&self) -> Vec<String> {
        let mut names = vec![
            self.subscriptions(),
            self.queues(),
            self.journals(),
            self.events(),
            self.gaps(),
            self.dead_letters(),
        ];
        names.extend(self.actions());
        names
    }

    /// Notes illegal names and names that collide.
    pub(super) fn check(&self, raw: &mut Raw) {
        if !is_legal_start(&self.prefix) {
            let wanted = "must be letters, digits, \".\", \"_\" and \"-\", short enough that each name has at most 249 characters";
            raw.wrong("topics.prefix", wanted);
            return;
        }
        if self.actions().iter().any(|name| !is_legal(name)) {
            let wanted = "must be the name of a topic (letters, digits, \".\", \"_\" and \"-\", at most 249 characters), {action} in it or not";
            raw.wrong("topics.actions", wanted);
            return;
        }
        let mut seen: Vec<String> = Vec::new();
        for name in self.all() {
            // Kafka refuses names that differ in "." and "_" only: their metrics would be one.
            let folded = name.replace('.', "_");
            if seen.contains(&folded) {
                let found = format!(
                    "an action topic gets the name {name:?}, which another topic has (\".\" and \"_\" count as the same)"
                );
                raw.conflict(
                    &["topics.actions"],
                    found,
                    "give the action topics names of their own, as \"linxo.actions.{action}\" does",
                );
                return;
            }
            seen.push(folded);
        }
    }
}

fn is_legal_start(prefix: &str) -> bool {
    prefix.len() <= MAX_NAME - "linxo.subscriptions".len() && prefix.bytes().all(is_name_byte)
}

fn is_legal(name: &str) -> bool {
    !matches!(name, "" | "." | "..") && name.len() <= MAX_NAME && name.bytes().all(is_name_byte)
}

fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-')
}

/// Whether Kafka takes this as a member's static id: it asks the same as of a topic's name.
pub(super) fn is_member_id(id: &str) -> bool {
    is_legal(id)
}
