//! Which settings do not go together.
//!
//! Promises:
//! - each conflict names all keys that take part, and says why;
//! - a setting that has a fault of its own takes part in none.
//!
//! Knows nothing of: types and defaults.

use super::raw::Raw;
use super::values::{duration_text, size_text};
use super::{Config, GroupProtocol};

impl Config {
    /// Notes everything that does not go together.
    pub(super) fn check(&self, raw: &mut Raw) {
        self.check_client(raw);
        self.check_intervals(raw);
        self.check_bytes(raw);
    }

    fn check_client(&self, raw: &mut Raw) {
        let has_id = raw.is_given("linxo.client_id");
        let as_text = raw.is_given("linxo.client_secret");
        let has_secret = as_text || raw.is_given("linxo.client_secret_file");
        let secret = if as_text { "linxo.client_secret" } else { "linxo.client_secret_file" };
        if has_id && !has_secret {
            raw.conflict(
                &["linxo.client_id", secret],
                "a client id is given without its secret".to_owned(),
                "name the file of the secret, or leave the id out when every user brings a token",
            );
        }
        if has_secret && !has_id {
            raw.conflict(
                &["linxo.client_id", secret],
                "a client secret is given without its id".to_owned(),
                "give the id too, or leave the secret out when every user brings a token",
            );
        }
        if has_id && !raw.is_given("linxo.auth_url") {
            raw.conflict(
                &["linxo.auth_url", "linxo.client_id"],
                "a client id is given without the URL that gives tokens for it".to_owned(),
                "give the base of /token, such as \"https://sandbox-auth.oxlin.io\"",
            );
        }
    }

    fn check_intervals(&self, raw: &mut Raw) {
        let (linxo, polling) = (&self.linxo, &self.polling);
        let asked = polling.keep_alive.saturating_add(linxo.request_timeout);
        if asked >= linxo.queue_lifetime {
            raw.conflict(
                &["polling.keep_alive", "linxo.request_timeout", "linxo.queue_lifetime"],
                format!(
                    "a queue that is asked every {} by requests of up to {} dies after {}",
                    duration_text(polling.keep_alive),
                    duration_text(linxo.request_timeout),
                    duration_text(linxo.queue_lifetime)
                ),
                "keep_alive and request_timeout together must stay below queue_lifetime, a third of it is a good keep_alive",
            );
        } else if let Some(session) = self.kafka.session_timeout
            && self.kafka.group_protocol == GroupProtocol::Classic
            && asked.saturating_add(session) >= linxo.queue_lifetime
        {
            raw.conflict(
                &["polling.keep_alive", "kafka.session_timeout", "linxo.queue_lifetime"],
                format!(
                    "when an instance is killed, its queues are asked again after up to {} and {}, and die after {}",
                    duration_text(polling.keep_alive),
                    duration_text(session),
                    duration_text(linxo.queue_lifetime)
                ),
                "lower keep_alive or session_timeout",
            );
        }
        if polling.active > polling.keep_alive {
            raw.conflict(
                &["polling.active", "polling.keep_alive"],
                format!(
                    "active is {}, keep_alive {}",
                    duration_text(polling.active),
                    duration_text(polling.keep_alive)
                ),
                "a queue must be asked at least as often while a synchronization runs: active may not exceed keep_alive",
            );
        }
    }

    fn check_bytes(&self, raw: &mut Raw) {
        let least = self.linxo.max_answer.saturating_mul(2);
        for (path, bytes, why) in [
            (
                "polling.max_in_flight_bytes",
                self.polling.max_in_flight_bytes,
                "or one large answer would stop all asking",
            ),
            (
                "journal.max_bytes",
                self.journal.max_bytes,
                "room for an answer is set aside before it is asked for",
            ),
        ] {
            if bytes < least {
                raw.conflict(
                    &[path, "linxo.max_answer"],
                    format!(
                        "{} is less than two answers of {}",
                        size_text(bytes),
                        size_text(self.linxo.max_answer)
                    ),
                    &format!("must be at least {}: {why}", size_text(least)),
                );
            }
        }
    }
}
