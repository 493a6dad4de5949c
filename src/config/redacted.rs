//! The settings in force, as they may be shown.
//!
//! Promises:
//! - in place of each secret stands `<redacted>`, also in librdkafka properties and in URLs;
//! - no setting is left out: a new field that is not written here does not compile;
//! - the text reads back as the same settings, secrets aside.
//!
//! Knows nothing of: where the settings came from.

use std::collections::BTreeMap;
use std::fmt;

use toml::Value;
use url::Url;

use super::values::{duration_text, size_text};
use super::{
    Admin, Config, Credentials, Delivery, GroupProtocol, Journal, Kafka, Linxo, LogFormat, Polling,
    Records, SchemaRegistry, Service, Telemetry, Topics, UserNaming, properties,
};
use crate::secret::REDACTED;

/// TOML as it grows, section by section.
struct Page(String);

impl Page {
    fn section(&mut self, name: &str) {
        let gap = if self.0.is_empty() { "" } else { "\n" };
        self.0.push_str(&format!("{gap}[{name}]\n"));
    }

    fn line(&mut self, name: &str, value: impl Into<Value>) {
        self.0.push_str(&format!("{name} = {}\n", value.into()));
    }

    fn secret(&mut self, name: &str, is_given: bool) {
        if is_given {
            self.line(name, REDACTED);
        }
    }

    fn properties(&mut self, name: &str, properties: &BTreeMap<String, String>) {
        let shown: Vec<String> = shown(properties)
            .map(|(name, value)| format!("\"{name}\" = {}", Value::from(value)))
            .collect();
        let inside =
            if shown.is_empty() { String::new() } else { format!(" {} ", shown.join(", ")) };
        self.0.push_str(&format!("{name} = {{{inside}}}\n"));
    }
}

/// Numbers beyond what TOML can hold do not pass the checks; made in code, they are shown as the largest.
fn whole(number: impl TryInto<i64>) -> i64 {
    number.try_into().unwrap_or(i64::MAX)
}

fn shown(properties: &BTreeMap<String, String>) -> impl Iterator<Item = (&str, &str)> {
    properties.iter().map(|(name, value)| {
        (name.as_str(), if properties::is_secret(name) { REDACTED } else { value })
    })
}

impl Config {
    /// The settings in force as TOML, with `<redacted>` in place of each secret.
    pub fn redacted(&self) -> String {
        let Self {
            linxo,
            polling,
            kafka,
            topics,
            schema_registry,
            journal,
            credentials,
            records,
            admin,
            service,
            telemetry,
        } = self;
        let mut page = Page(String::new());
        linxo.write(&mut page);
        polling.write(&mut page);
        kafka.write(&mut page);
        topics.write(&mut page);
        if let Some(registry) = schema_registry {
            registry.write(&mut page);
        }
        journal.write(&mut page);
        credentials.write(&mut page);
        records.write(&mut page);
        admin.write(&mut page);
        service.write(&mut page);
        telemetry.write(&mut page);
        page.0
    }
}

impl Linxo {
    fn write(&self, page: &mut Page) {
        let Self {
            api_url,
            auth_url,
            client_id,
            client_secret,
            user_naming,
            max_requests_per_second,
            request_timeout,
            queue_lifetime,
            delivery,
            dead_statuses,
            max_answer,
        } = self;
        page.section("linxo");
        page.line("api_url", shown_url(api_url));
        if let Some(auth_url) = auth_url {
            page.line("auth_url", shown_url(auth_url));
        }
        if let Some(client_id) = client_id {
            page.line("client_id", client_id.as_str());
        }
        page.secret("client_secret", client_secret.is_some());
        match user_naming {
            UserNaming::Header(name) => page.line("user_header", name.as_str()),
            UserNaming::Parameter(name) => page.line("user_parameter", name.as_str()),
        }
        page.line("max_requests_per_second", whole(*max_requests_per_second));
        page.line("request_timeout", duration_text(*request_timeout));
        page.line("queue_lifetime", duration_text(*queue_lifetime));
        let delivery = match delivery {
            Delivery::Once => "once",
            Delivery::Repeatable => "repeatable",
        };
        page.line("delivery", delivery);
        page.line("dead_statuses", dead_statuses.iter().map(|s| whole(*s)).collect::<Vec<_>>());
        page.line("max_answer", size_text(*max_answer));
    }
}

impl Polling {
    fn write(&self, page: &mut Page) {
        let Self { keep_alive, active, active_for, max_in_flight, max_in_flight_bytes } = self;
        page.section("polling");
        page.line("keep_alive", duration_text(*keep_alive));
        page.line("active", duration_text(*active));
        page.line("active_for", duration_text(*active_for));
        page.line("max_in_flight", whole(*max_in_flight));
        page.line("max_in_flight_bytes", size_text(*max_in_flight_bytes));
    }
}

impl Kafka {
    fn write(&self, page: &mut Page) {
        let Self {
            bootstrap_servers,
            group,
            instance_id,
            group_protocol,
            session_timeout,
            commit_interval,
            properties,
            producer,
            consumer,
        } = self;
        page.section("kafka");
        page.line("bootstrap_servers", bootstrap_servers.as_str());
        page.line("group", group.as_str());
        page.line("instance_id", instance_id.as_str());
        let group_protocol = match group_protocol {
            GroupProtocol::Classic => "classic",
            GroupProtocol::Consumer => "consumer",
        };
        page.line("group_protocol", group_protocol);
        if let Some(session_timeout) = session_timeout {
            page.line("session_timeout", duration_text(*session_timeout));
        }
        page.line("commit_interval", duration_text(*commit_interval));
        page.properties("properties", properties);
        page.properties("producer", producer);
        page.properties("consumer", consumer);
    }
}

impl Topics {
    fn write(&self, page: &mut Page) {
        let Self { prefix, partitions, event_partitions, replication, create, actions } = self;
        page.section("topics");
        page.line("prefix", prefix.as_str());
        page.line("partitions", *partitions);
        page.line("event_partitions", *event_partitions);
        page.line("replication", *replication);
        page.line("create", *create);
        page.line("actions", actions.as_str());
    }
}

impl SchemaRegistry {
    /// The URL without user name and password, fit for logs and errors.
    pub fn shown_url(&self) -> String {
        shown_url(&self.url)
    }

    fn write(&self, page: &mut Page) {
        let Self { url, register } = self;
        page.section("schema_registry");
        page.line("url", shown_url(url));
        page.line("register", *register);
    }
}

impl Journal {
    fn write(&self, page: &mut Page) {
        let Self { directory, max_bytes, grace } = self;
        page.section("journal");
        page.line("directory", directory.display().to_string());
        page.line("max_bytes", size_text(*max_bytes));
        page.line("grace", duration_text(*grace));
    }
}

impl Credentials {
    fn write(&self, page: &mut Page) {
        let Self { key_file, retry } = self;
        page.section("credentials");
        if let Some(key_file) = key_file {
            page.line("key_file", key_file.display().to_string());
        }
        page.line("retry", duration_text(*retry));
    }
}

impl Records {
    fn write(&self, page: &mut Page) {
        let Self { unmapped, redact } = self;
        page.section("records");
        page.line("unmapped", *unmapped);
        page.line("redact", redact.clone());
    }
}

impl Admin {
    fn write(&self, page: &mut Page) {
        let Self { listen, advertised_url, token } = self;
        page.section("admin");
        page.line("listen", listen.to_string());
        page.line("advertised_url", shown_url(advertised_url));
        page.secret("token_file", token.is_some());
    }
}

impl Service {
    fn write(&self, page: &mut Page) {
        let Self { drain, grace, log, log_format } = self;
        page.section("service");
        page.line("drain", duration_text(*drain));
        page.line("grace", duration_text(*grace));
        page.line("log", log.as_str());
        let log_format = match log_format {
            LogFormat::Text => "text",
            LogFormat::Json => "json",
        };
        page.line("log_format", log_format);
    }
}

impl Telemetry {
    fn write(&self, page: &mut Page) {
        let Self { otlp_endpoint, sample } = self;
        page.section("telemetry");
        if let Some(endpoint) = otlp_endpoint {
            page.line("otlp_endpoint", shown_url(endpoint));
        }
        page.line("sample", *sample);
    }
}

/// A URL with `<redacted>` in place of user name and password.
fn shown_url(url: &Url) -> String {
    if url.username().is_empty() && url.password().is_none() {
        return url.to_string();
    }
    format!("{}://{REDACTED}@{}", url.scheme(), &url[url::Position::BeforeHost..])
}

impl fmt::Debug for Config {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.redacted())
    }
}

impl fmt::Debug for Kafka {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut page = Page(String::new());
        self.write(&mut page);
        formatter.write_str(&page.0)
    }
}

impl fmt::Debug for SchemaRegistry {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut page = Page(String::new());
        self.write(&mut page);
        formatter.write_str(&page.0)
    }
}
