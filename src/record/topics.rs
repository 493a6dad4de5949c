//! The names of the topics.
//!
//! Promises:
//! - each is the name that the configuration gives, put together there;
//! - a template without `{action}` puts all action events in one topic.
//!
//! Knows nothing of: brokers.

use super::RecordKind;
use crate::config;
use crate::event::{Action, RaisedAction};

/// What a topic is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TopicRole {
    /// The control topic.
    Subscriptions,
    /// The queue states.
    Queues,
    /// The journal marks.
    Journals,
    /// Every event.
    Events,
    /// Copies of the events that raise an action.
    Action(Action),
    /// The gaps.
    Gaps,
    /// What cannot be understood.
    DeadLetters,
}

/// The names of all topics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topics {
    /// The control topic.
    pub subscriptions: Box<str>,
    /// The queue states.
    pub queues: Box<str>,
    /// The journal marks.
    pub journals: Box<str>,
    /// Every event.
    pub events: Box<str>,
    /// By `Action::index`; the same name five times when the template has no `{action}`.
    pub actions: [Box<str>; 5],
    /// The gaps.
    pub gaps: Box<str>,
    /// What cannot be understood.
    pub dead_letters: Box<str>,
}

/// A subject of the registry: what one topic's values are written with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// `{topic}-value`.
    pub name: String,
    /// The topic.
    pub topic: Box<str>,
    /// Whose schema it holds.
    pub kind: RecordKind,
}

impl Topics {
    /// The names that a prefix and a template give.
    pub fn new(prefix: &str, actions_template: &str) -> Self {
        let names = config::Topics::with_names(prefix, actions_template);
        Self {
            subscriptions: names.subscriptions().into(),
            queues: names.queues().into(),
            journals: names.journals().into(),
            events: names.events().into(),
            actions: Action::ALL.map(|action| names.action(action.topic_part()).into()),
            gaps: names.gaps().into(),
            dead_letters: names.dead_letters().into(),
        }
    }

    /// The name of the topic for this.
    pub fn name(&self, role: TopicRole) -> &str {
        match role {
            TopicRole::Subscriptions => &self.subscriptions,
            TopicRole::Queues => &self.queues,
            TopicRole::Journals => &self.journals,
            TopicRole::Events => &self.events,
            TopicRole::Action(action) => &self.actions[action.index()],
            TopicRole::Gaps => &self.gaps,
            TopicRole::DeadLetters => &self.dead_letters,
        }
    }

    /// Every topic, each once.
    pub fn all(&self) -> Vec<&str> {
        let others = [
            &self.subscriptions,
            &self.queues,
            &self.journals,
            &self.events,
            &self.gaps,
            &self.dead_letters,
        ];
        let mut all: Vec<&str> = Vec::new();
        for topic in others.into_iter().chain(&self.actions) {
            if !all.contains(&&**topic) {
                all.push(topic);
            }
        }
        all
    }

    /// The topics that get a copy of an event which raises these actions: each once, by one action.
    pub fn copies(&self, raised: &[RaisedAction]) -> Vec<Action> {
        let mut copies: Vec<Action> = Vec::new();
        for RaisedAction { action, .. } in raised {
            let topic = &self.actions[action.index()];
            if !copies.iter().any(|copy| self.actions[copy.index()] == *topic) {
                copies.push(*action);
            }
        }
        copies
    }

    /// What to register, each subject once. Dead letters have no schema.
    pub fn subjects(&self) -> Vec<Subject> {
        let one = [
            (&self.subscriptions, RecordKind::Subscription),
            (&self.queues, RecordKind::QueueState),
            (&self.journals, RecordKind::JournalMark),
            (&self.events, RecordKind::Event),
            (&self.gaps, RecordKind::Gap),
        ];
        let actions = self.actions.iter().map(|topic| (topic, RecordKind::Event));
        let mut subjects: Vec<Subject> = Vec::new();
        for (topic, kind) in one.into_iter().chain(actions) {
            if !subjects.iter().any(|subject| subject.topic == *topic) {
                let name = format!("{topic}-value");
                subjects.push(Subject { name, topic: topic.clone(), kind });
            }
        }
        subjects
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raised(actions: &[Action]) -> Vec<RaisedAction> {
        let raise = |&action| RaisedAction { action, channel_definition_id: None };
        actions.iter().map(raise).collect()
    }

    #[test]
    fn every_action_has_its_topic_and_every_topic_its_subject() {
        let topics = Topics::new("test.", "linxo.actions.{action}");
        assert_eq!(topics.name(TopicRole::Queues), "test.linxo.queues");
        let role = TopicRole::Action(Action::PasswordChangeRequired);
        assert_eq!(topics.name(role), "test.linxo.actions.password-change-required");
        let subjects = topics.subjects();
        assert_eq!(subjects.len(), 10);
        assert_eq!(topics.all().len(), 11);
        assert!(
            subjects.iter().any(|subject| subject.name == "test.linxo.gaps-value"
                && subject.kind == RecordKind::Gap)
        );
        let copies =
            topics.copies(&raised(&[Action::AuthFailed, Action::TokenExpired, Action::AuthFailed]));
        assert_eq!(copies, [Action::AuthFailed, Action::TokenExpired]);
    }

    #[test]
    fn a_template_without_the_action_gives_one_topic_one_subject_and_one_copy() {
        let topics = Topics::new("", "linxo.actions");
        assert_eq!(topics.subjects().len(), 6);
        assert_eq!(
            topics.copies(&raised(&[Action::AuthFailed, Action::TokenExpired])),
            [Action::AuthFailed]
        );
    }
}
