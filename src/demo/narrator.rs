//! Turns records that come by into lines: the first events in full, then a count per second;
//! actions, gaps and reconciliations always.
//!
//! Promises: a flood of events is a line a second; nothing a person should see drowns in it.
//!
//! Knows nothing of: where records come from, what is right.

use std::collections::BTreeSet;

use super::screen::{Screen, Tone, plural};
use super::topics::{Found, Seen};
use crate::record::Topics;

/// Events shown in full before they are only counted.
const IN_FULL: usize = 12;

/// What came by so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Events of queues.
    pub(super) events: usize,
    /// Copies in the topics of actions.
    pub(super) actions: usize,
    /// Gaps, once each.
    pub(super) gaps: usize,
    /// Gaps whose reconciliation has been published.
    pub(super) reconciled: usize,
}

/// Tells what comes by.
pub(super) struct Narrator<'n> {
    names: &'n Topics,
    counts: Counts,
    recent: usize,
    recent_keys: BTreeSet<String>,
}

impl<'n> Narrator<'n> {
    /// A narrator who knows the topics by name.
    pub(super) fn new(names: &'n Topics) -> Self {
        let (recent, recent_keys) = (0, BTreeSet::new());
        Self { names, counts: Counts::default(), recent, recent_keys }
    }

    /// What came by so far.
    pub(super) fn counts(&self) -> &Counts {
        &self.counts
    }

    /// What the columns of events are.
    pub(super) fn columns(screen: &mut Screen) {
        let columns = ["topic", "key", "event_type", "REDIRECT", "EMBEDDED", "user"];
        screen.timed(Tone::Strong, &row(columns));
    }

    /// Tells of one record.
    pub(super) fn tell(&mut self, seen: &Seen, screen: &mut Screen) {
        let Seen { topic, record, .. } = seen;
        if **topic == *self.names.events {
            self.event(topic, record, screen);
        } else if **topic == *self.names.gaps {
            self.gap(topic, record, screen);
        } else if **topic == *self.names.dead_letters {
            screen.timed(Tone::Bad, &format!("{topic}  {}  what could not be read", record.key));
        } else {
            self.action(topic, record, screen);
        }
    }

    fn event(&mut self, topic: &str, record: &Found, screen: &mut Screen) {
        let line = event_row(topic, record);
        if record.text("origin") == "RECONCILIATION" {
            screen.timed(Tone::Good, &format!("{line}  <- listed anew after the gap"));
            return;
        }
        self.counts.events += 1;
        if self.counts.events <= IN_FULL {
            screen.timed(Tone::Plain, &line);
            if self.counts.events == IN_FULL {
                screen.story("and so on: from here on events are only counted");
            }
            return;
        }
        self.recent += 1;
        self.recent_keys.insert(record.key.clone());
    }

    /// Once a second: the events that were not shown in full.
    pub(super) fn count(&mut self, screen: &mut Screen) {
        if self.recent > 0 {
            let (events, keys) =
                (plural(self.recent, "event"), plural(self.recent_keys.len(), "key"));
            let text = format!("{:<13} + {events} under {keys}", self.names.events);
            screen.timed(Tone::Plain, &text);
        }
        self.recent = 0;
        self.recent_keys.clear();
    }

    fn action(&mut self, topic: &str, record: &Found, screen: &mut Screen) {
        self.counts.actions += 1;
        let raised = record.value["actions"].as_array().into_iter().flatten();
        let raised: Vec<&str> = raised.filter_map(|action| action["action"].as_str()).collect();
        let text = format!(
            "{topic}  {}  {}  <- {} has to act: {}",
            record.key,
            record.text("event_type"),
            record.text("user_id"),
            raised.join(", ")
        );
        screen.timed(Tone::Act, &text);
    }

    fn gap(&mut self, topic: &str, record: &Found, screen: &mut Screen) {
        let is_reconciled = record.value["reconciled"] == true;
        let is_of_user = record.value["connection_id"].is_null();
        if is_of_user {
            *(if is_reconciled { &mut self.counts.reconciled } else { &mut self.counts.gaps }) += 1;
        }
        let moment = |field: &str| record.value[field].as_i64().unwrap_or_default();
        let tail = if is_reconciled { "reconciled" } else { "not reconciled yet" };
        let text = format!(
            "{topic:<13} {:<8} {} {}, {} ms, {tail}",
            record.key,
            record.text("cause"),
            record.text("certainty"),
            moment("to") - moment("from"),
        );
        screen.timed(if is_reconciled { Tone::Good } else { Tone::Bad }, &text);
    }
}

fn event_row(topic: &str, record: &Found) -> String {
    let channels = record.value["connection"]["channels"].as_array();
    let status = |mode: &str| {
        let mut channels = channels.into_iter().flatten();
        let channel = channels.find(|channel| channel["mode"] == mode);
        channel.and_then(|channel| channel["status"].as_str()).unwrap_or("-")
    };
    let event_type = record.text("event_type");
    let user = record.text("user_id");
    row([topic, &record.key, event_type, status("REDIRECT"), status("EMBEDDED"), user])
}

fn row([topic, key, event_type, redirect, embedded, user]: [&str; 6]) -> String {
    format!("{topic:<13} {key:<8} {event_type:<22} {redirect:<9} {embedded:<9} {user}")
}
