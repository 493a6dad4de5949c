//! A user's bank connection, and how it and its events read as JSON.
//!
//! Source of facts: the sample event of the queues how-to, and recorded v2.1 and v3 answers. The
//! JSON is written field by field: a load run makes many thousands of events a second.
//!
//! Promises:
//! - the status of a connection follows from its channels by the source's published rule;
//! - an event is a snapshot of the whole connection.
//!
//! Knows nothing of: queues, faults, HTTP.

use std::fmt::Write;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::options::Version;
use super::script::{Change, Mode, Status};

/// Stands in the `credentials` of every channel when extra fields are on: it must never be
/// found outside the simulator.
pub const FAKE_SECRET: &str = "simulated-bank-password-never-to-be-seen";

/// Strong authentication holds for 90 days.
const CONSENT_SECONDS: u64 = 90 * 24 * 3600;

/// A connection to be given to a user.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ConnectionPlan {
    /// Its id; none: one is made up.
    pub id: Option<String>,
    /// The bank's id; none: one is made up.
    pub provider_id: Option<String>,
    /// Its name; none: one is made up.
    pub name: Option<String>,
    /// Its channels; none: both.
    pub channels: Option<Vec<Mode>>,
}

/// What a channel is at present; dates are epoch seconds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Channel {
    pub(super) status: Status,
    pub(super) expires: Option<u64>,
    pub(super) last_success: Option<u64>,
    pub(super) last_end: Option<u64>,
}

/// What a connection is at present.
#[derive(Clone, Debug)]
pub(super) struct Connection {
    /// Its place in the ledger's list of connections.
    pub(super) number: u32,
    pub(super) id: Arc<str>,
    pub(super) provider: Arc<str>,
    pub(super) name: Arc<str>,
    pub(super) created: u64,
    pub(super) channels: [Option<Channel>; 2],
}

impl Connection {
    /// A connection as planned, with what is left open made up from its number.
    pub(super) fn new(plan: &ConnectionPlan, number: u32, epoch_seconds: u64) -> Self {
        let provider = plan.provider_id.clone().unwrap_or_else(|| (1000 + number % 97).to_string());
        let modes = plan.channels.as_deref().unwrap_or(&Mode::BOTH);
        let mut channels = [None; 2];
        for mode in modes {
            let expires = (*mode == Mode::Redirect).then_some(epoch_seconds + CONSENT_SECONDS);
            channels[mode.place()] = Some(Channel { expires, ..Channel::default() });
        }
        let name = plan.name.clone().unwrap_or_else(|| format!("Banque Simulée {provider}"));
        let id = plan.id.clone().unwrap_or_else(|| (100_000 + u64::from(number)).to_string());
        Self {
            number,
            id: id.into(),
            name: name.into(),
            provider: provider.into(),
            created: epoch_seconds,
            channels,
        }
    }

    /// The channels it has, in the order in which they are synchronized.
    pub(super) fn modes(&self) -> Vec<Mode> {
        Mode::BOTH.into_iter().filter(|mode| self.channels[mode.place()].is_some()).collect()
    }

    /// The status of each channel, REDIRECT first.
    pub(super) fn statuses(&self) -> [Option<Status>; 2] {
        self.channels.map(|channel| channel.map(|channel| channel.status))
    }

    /// Carries out what a step of a synchronization changes.
    pub(super) fn apply(&mut self, change: Change, epoch_seconds: u64) {
        let (places, status): (&[usize], Status) = match change {
            Change::Nothing => return,
            Change::All(status) => (&[0, 1], status),
            Change::One(Mode::Redirect, status) => (&[0], status),
            Change::One(Mode::Embedded, status) => (&[1], status),
        };
        for place in places {
            if let Some(channel) = &mut self.channels[*place] {
                channel.status = status;
                if status != Status::Running {
                    channel.last_end = Some(epoch_seconds);
                }
                if status == Status::Success {
                    channel.last_success = Some(epoch_seconds);
                }
            }
        }
    }

    /// The connection's own status, by the rule of the source's errors page.
    pub(super) fn status(&self) -> &'static str {
        let all: Vec<Status> = self.statuses().into_iter().flatten().collect();
        let counted: Vec<Status> =
            all.iter().copied().filter(|status| *status != Status::Empty).collect();
        if all.is_empty() {
            "NONE"
        } else if all.contains(&Status::Running) {
            "RUNNING"
        } else if all.iter().any(|status| status.asks_the_user()) {
            "FAILED"
        } else if !counted.is_empty() && counted.iter().all(|status| *status == Status::Closed) {
            "CLOSED"
        } else if counted.contains(&Status::PartialSuccess) {
            "PARTIAL_SUCCESS"
        } else {
            "SUCCESS"
        }
    }

    /// Writes the connection as the source's JSON object.
    pub(super) fn write(&self, out: &mut String, user: &str, version: Version, extras: bool) {
        out.push_str("{\"id\":");
        quote(out, &self.id);
        out.push_str(",\"provider_id\":");
        quote(out, &self.provider);
        out.push_str(",\"name\":");
        quote(out, &self.name);
        out.push_str(",\"status\":");
        quote(out, self.status());
        out.push_str(",\"creation_date\":");
        date(out, self.created, version);
        if extras {
            let logo = match version {
                Version::V21 => "logo_url",
                Version::V3 => "provider_logo_url",
            };
            out.push_str(",\"auto_sync\":true,\"");
            out.push_str(logo);
            out.push_str("\":\"https://static.invalid/logos/");
            out.push_str(&self.provider);
            out.push_str(".png\",\"owner\":{\"name\":\"Camille Simulée\"},\"user_id\":");
            quote(out, user);
        }
        out.push_str(",\"channels\":[");
        let mut first = true;
        for mode in Mode::BOTH {
            if let Some(channel) = &self.channels[mode.place()] {
                if !first {
                    out.push(',');
                }
                first = false;
                self.write_channel(out, mode, channel, version, extras);
            }
        }
        out.push_str("]}");
    }

    fn write_channel(
        &self,
        out: &mut String,
        mode: Mode,
        channel: &Channel,
        version: Version,
        extras: bool,
    ) {
        out.push_str("{\"channel_definition_id\":");
        quote(out, &self.channel_definition_id(mode));
        out.push_str(",\"mode\":\"");
        out.push_str(mode.as_str());
        out.push_str("\",\"status\":\"");
        out.push_str(channel.status.as_str());
        out.push('"');
        let dates = [
            (",\"expires\":", channel.expires),
            (",\"last_success_date\":", channel.last_success),
            (",\"last_end_date\":", channel.last_end),
        ];
        for (name, value) in dates {
            if let Some(value) = value {
                out.push_str(name);
                date(out, value, version);
            }
        }
        if extras {
            out.push_str(",\"credentials\":[{\"key\":\"password\",\"value\":\"");
            out.push_str(FAKE_SECRET);
            out.push_str("\"}]");
        }
        out.push('}');
    }

    /// The definition id of one of its channels.
    pub(super) fn channel_definition_id(&self, mode: Mode) -> String {
        format!("{}{}", self.provider, mode.suffix())
    }
}

/// What an event says beside its id.
pub(super) struct Draft<'a> {
    pub(super) event_type: &'a str,
    pub(super) user: &'a str,
    pub(super) connection: Option<&'a Connection>,
    pub(super) mode: Option<Mode>,
    pub(super) epoch_seconds: u64,
}

impl Draft<'_> {
    /// The event as JSON, less the opening brace and the id, which differs from queue to queue.
    pub(super) fn rest(&self, version: Version, extras: bool) -> String {
        let mut out = String::with_capacity(768);
        out.push_str("\"event_type\":");
        quote(&mut out, self.event_type);
        if self.connection.is_some() {
            out.push_str(",\"resource_type\":\"CONNECTION\"");
        }
        out.push_str(",\"creation_date\":");
        date(&mut out, self.epoch_seconds, version);
        if let Some(connection) = self.connection {
            if let Some(mode) = self.mode {
                out.push_str(",\"channel_definition_id\":");
                quote(&mut out, &connection.channel_definition_id(mode));
            }
            out.push_str(",\"resource\":");
            connection.write(&mut out, self.user, version, extras);
        }
        out.push('}');
        out
    }
}

fn date(out: &mut String, epoch_seconds: u64, version: Version) {
    let iso = match version {
        Version::V21 => None,
        Version::V3 => i64::try_from(epoch_seconds)
            .ok()
            .and_then(|seconds| jiff::Timestamp::from_second(seconds).ok()),
    };
    let written = match iso {
        Some(moment) => write!(out, "\"{moment}\""),
        None => write!(out, "{epoch_seconds}"),
    };
    debug_assert!(written.is_ok(), "a String takes everything");
}

/// Writes text as a JSON string.
pub(super) fn quote(out: &mut String, text: &str) {
    let plain = |byte: u8| byte >= 0x20 && byte != b'"' && byte != b'\\';
    if text.bytes().all(plain) {
        out.push('"');
        out.push_str(text);
        out.push('"');
    } else {
        out.push_str(&serde_json::Value::from(text).to_string());
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn connection() -> Connection {
        Connection::new(&ConnectionPlan::default(), 3, 1_700_000_000)
    }

    fn json(connection: &Connection, version: Version) -> Value {
        let mut out = String::new();
        connection.write(&mut out, "user \"1\"", version, true);
        serde_json::from_str(&out).unwrap()
    }

    #[test]
    fn dates_are_seconds_in_v2_and_text_in_v3() {
        let old = json(&connection(), Version::V21);
        assert_eq!(old["creation_date"], 1_700_000_000);
        assert_eq!(old["channels"][0]["expires"], 1_707_776_000);
        assert!(old["logo_url"].is_string());
        let new = json(&connection(), Version::V3);
        assert_eq!(new["creation_date"], "2023-11-14T22:13:20Z");
        assert!(new["provider_logo_url"].is_string());
        assert_eq!(new["user_id"], "user \"1\"");
    }

    #[test]
    fn the_status_follows_from_the_channels() {
        let mut connection = connection();
        assert_eq!(connection.status(), "SUCCESS");
        connection.apply(Change::One(Mode::Embedded, Status::Empty), 1);
        assert_eq!(connection.status(), "SUCCESS");
        connection.apply(Change::One(Mode::Redirect, Status::PartialSuccess), 1);
        assert_eq!(connection.status(), "PARTIAL_SUCCESS");
        connection.apply(Change::One(Mode::Redirect, Status::AuthFailed), 1);
        assert_eq!(connection.status(), "FAILED");
        connection.apply(Change::One(Mode::Embedded, Status::Running), 1);
        assert_eq!(connection.status(), "RUNNING");
        connection.apply(Change::All(Status::Closed), 1);
        assert_eq!(connection.status(), "CLOSED");
    }

    #[test]
    fn an_event_has_the_shape_of_the_documented_sample() {
        let connection = connection();
        let draft = Draft {
            event_type: "LIST_ACCOUNTS_STARTED",
            user: "u",
            connection: Some(&connection),
            mode: Some(Mode::Redirect),
            epoch_seconds: 5,
        };
        let text = format!("{{\"id\":\"14\",{}", draft.rest(Version::V21, false));
        let event: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(event["resource_type"], "CONNECTION");
        assert_eq!(event["channel_definition_id"], "100301");
        assert_eq!(event["resource"]["id"], "100003");
        assert_eq!(event["resource"]["channels"][1]["mode"], "EMBEDDED");
        assert!(!text.contains(FAKE_SECRET));
    }
}
