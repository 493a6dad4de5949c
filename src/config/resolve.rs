//! From what was written to what is meant: types, defaults, and what each setting allows on its own.
//!
//! Promises:
//! - every default stands here, once;
//! - a setting that is wrong is noted and stands for its default, so that the reading goes on.
//!
//! Knows nothing of: which settings go together (`checks`).

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use url::Url;

use super::faults::Faults;
use super::raw::{Raw, read_secret};
use super::readers::{
    base_url, choice, duration, flag, number, path, positive, share, size, stand_in, text,
};
use super::{
    Admin, Config, Credentials, Delivery, GroupProtocol, Journal, Kafka, LOG_FILTER_FORM, Linxo,
    LogFormat, Polling, Records, SchemaRegistry, Service, Telemetry, Topics, UserNaming,
    is_log_filter, properties, topics, values,
};

const MIB: u64 = 1 << 20;

impl Config {
    /// What was written, as what is meant; or all that is wrong with it.
    pub(super) fn resolve(mut raw: Raw) -> Result<Self, Faults> {
        let config = Self::read(&mut raw);
        if let Some(config) = &config {
            config.check(&mut raw);
        }
        match (raw.into_faults(), config) {
            (None, Some(config)) => Ok(config),
            (faults, _) => Err(faults.unwrap_or(Faults(Vec::new()))),
        }
    }

    fn read(raw: &mut Raw) -> Option<Self> {
        // A struct expression is evaluated in the order in which it is written: so are the faults.
        Some(Self {
            linxo: linxo(raw)?,
            polling: polling(raw),
            kafka: kafka(raw),
            topics: topics(raw),
            schema_registry: schema_registry(raw),
            journal: journal(raw),
            credentials: credentials(raw),
            records: records(raw),
            admin: admin(raw)?,
            service: service(raw),
            telemetry: telemetry(raw),
        })
    }
}

fn linxo(raw: &mut Raw) -> Option<Linxo> {
    let api_url = base_url(raw, "linxo.api_url", false);
    if !raw.is_given("linxo.api_url") {
        raw.missing(
            "linxo.api_url",
            "is not given",
            "give the base of /queues, such as \"https://sandbox-api.oxlin.io/v2.1\"",
        );
    }
    let auth_url = base_url(raw, "linxo.auth_url", false);
    let client_id = text(raw, "linxo.client_id");
    let client_secret = raw.secret("linxo.client_secret", "linxo.client_secret_file");
    Some(Linxo {
        api_url: api_url.or_else(stand_in)?,
        auth_url,
        client_id,
        client_secret,
        user_naming: user_naming(raw),
        max_requests_per_second: number(raw, "linxo.max_requests_per_second", 0..=u32::MAX, 500),
        request_timeout: positive(raw, "linxo.request_timeout", Duration::from_secs(10)),
        queue_lifetime: positive(raw, "linxo.queue_lifetime", Duration::from_secs(900)),
        delivery: choice(
            raw,
            "linxo.delivery",
            "\"once\" or \"repeatable\"",
            &[("once", Delivery::Once), ("repeatable", Delivery::Repeatable)],
            Delivery::Once,
        ),
        dead_statuses: dead_statuses(raw),
        max_answer: size(raw, "linxo.max_answer", 1024, 8 * MIB),
    })
}

fn user_naming(raw: &mut Raw) -> UserNaming {
    const OURS: [&str; 7] = [
        "authorization",
        "host",
        "connection",
        "content-length",
        "content-type",
        "transfer-encoding",
        "accept",
    ];
    let (header, parameter) = ("linxo.user_header", "linxo.user_parameter");
    if raw.is_given(header) && raw.is_given(parameter) {
        let found = "both are given".to_owned();
        raw.conflict(&[header, parameter], found, "give the one that the source understands");
    }
    let wanted = "the name of an HTTP header that is not one of HTTP's own";
    let named = raw.read(header, wanted, |value| {
        let name = value.as_str()?.to_ascii_lowercase();
        let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        let fits = !name.is_empty() && name.bytes().all(token) && !OURS.contains(&name.as_str());
        fits.then_some(UserNaming::Header(name))
    });
    let wanted = "the name of a query parameter: letters, digits, \".\", \"_\", \"~\" and \"-\"";
    let parameter = raw.read(parameter, wanted, |value| {
        let name = value.as_str()?;
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._~-".contains(&byte);
        let fits = !name.is_empty() && name.bytes().all(plain);
        fits.then(|| UserNaming::Parameter(name.to_owned()))
    });
    named.or(parameter).unwrap_or_else(|| UserNaming::Header("x-linxo-user-id".to_owned()))
}

fn dead_statuses(raw: &mut Raw) -> Vec<u16> {
    // 401 and 429 have a meaning of their own, and with none at all no death would ever be noticed.
    let wanted = "a list such as [404, 410], of statuses from 400 to 499 without 401 and 429";
    raw.read("linxo.dead_statuses", wanted, |value| {
        let statuses = value.as_array()?.iter().map(|status| {
            let status = u16::try_from(status.as_integer()?).ok()?;
            ((400..500).contains(&status) && status != 401 && status != 429).then_some(status)
        });
        statuses.collect::<Option<Vec<_>>>().filter(|statuses| !statuses.is_empty())
    })
    .unwrap_or_else(|| vec![404, 410])
}

fn polling(raw: &mut Raw) -> Polling {
    Polling {
        keep_alive: positive(raw, "polling.keep_alive", Duration::from_secs(300)),
        active: positive(raw, "polling.active", Duration::from_secs(1)),
        active_for: duration(raw, "polling.active_for", Duration::from_secs(120)),
        max_in_flight: number(raw, "polling.max_in_flight", 1..=65_536, 256),
        max_in_flight_bytes: size(raw, "polling.max_in_flight_bytes", 1, 64 * MIB),
    }
}

fn kafka(raw: &mut Raw) -> Kafka {
    let bootstrap_servers = raw.read(
        "kafka.bootstrap_servers",
        "brokers as \"host:port\", with commas between",
        |value| value.as_str().filter(|text| are_brokers(text)).map(str::to_owned),
    );
    let group = text(raw, "kafka.group");
    let wanted = "letters, digits, \".\", \"_\" and \"-\", from 1 to 249 of them; stable across restarts and another one for each instance";
    let instance_id = raw.read("kafka.instance_id", wanted, |value| {
        value.as_str().filter(|id| topics::is_member_id(id)).map(str::to_owned)
    });
    let group_protocol = choice(
        raw,
        "kafka.group_protocol",
        "\"classic\", or \"consumer\" with Kafka 4",
        &[("classic", GroupProtocol::Classic), ("consumer", GroupProtocol::Consumer)],
        GroupProtocol::Classic,
    );
    Kafka {
        bootstrap_servers: bootstrap_servers.unwrap_or_else(|| "localhost:9092".to_owned()),
        group: group.unwrap_or_else(|| "linxo-bridge".to_owned()),
        instance_id: instance_id.unwrap_or_else(|| "bridge-0".to_owned()),
        group_protocol,
        session_timeout: session_timeout(raw, group_protocol),
        commit_interval: commit_interval(raw),
        properties: properties::read(raw, "kafka.properties"),
        producer: properties::read(raw, "kafka.producer"),
        consumer: properties::read(raw, "kafka.consumer"),
    }
}

fn session_timeout(raw: &mut Raw, protocol: GroupProtocol) -> Option<Duration> {
    // Brokers allow 6 s to 30 min unless told otherwise; a test broker may be told 1 s.
    let wanted = "from \"1s\" to \"30m\"; brokers allow no less than \"6s\" unless group.min.session.timeout.ms says so";
    let range = Duration::from_secs(1)..=Duration::from_secs(1800);
    let given = raw.read("kafka.session_timeout", wanted, |value| {
        values::duration(value.as_str()?).filter(|timeout| range.contains(timeout))
    });
    match protocol {
        GroupProtocol::Classic => given.or(Some(Duration::from_secs(45))),
        GroupProtocol::Consumer => {
            if raw.is_given("kafka.session_timeout") {
                raw.conflict(
                    &["kafka.session_timeout", "kafka.group_protocol"],
                    "a session timeout is given for the protocol \"consumer\"".to_owned(),
                    "leave the timeout out: with this protocol it is the broker's group.consumer.session.timeout.ms",
                );
            }
            None
        }
    }
}

fn commit_interval(raw: &mut Raw) -> Duration {
    let limit = Duration::from_secs(5);
    let wanted =
        "a duration up to \"5s\": what is gathered waits that long, inside an open transaction";
    raw.read("kafka.commit_interval", wanted, |value| {
        values::duration(value.as_str()?).filter(|interval| *interval <= limit)
    })
    .unwrap_or(Duration::from_millis(20))
}

fn are_brokers(text: &str) -> bool {
    text.split(',').map(str::trim).all(|broker| {
        let address = broker.split_once("://").map_or(broker, |(_, address)| address);
        // IPv6 addresses stand in brackets; a missing port is 9092 for librdkafka.
        let (host, port) = match address.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
            _ => (address, None),
        };
        !host.is_empty()
            && !host.contains(|c: char| c.is_whitespace() || c == '@')
            && port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port != 0))
    })
}

fn topics(raw: &mut Raw) -> Topics {
    let wanted = "a text";
    let prefix = raw.read("topics.prefix", wanted, |value| value.as_str().map(str::to_owned));
    let topics = Topics {
        prefix: prefix.unwrap_or_default(),
        partitions: number(raw, "topics.partitions", 1..=100_000, 64),
        event_partitions: number(raw, "topics.event_partitions", 1..=100_000, 12),
        replication: number(raw, "topics.replication", 1..=i32::from(i16::MAX), 1),
        create: flag(raw, "topics.create", false),
        actions: text(raw, "topics.actions").unwrap_or_else(|| "linxo.actions.{action}".to_owned()),
    };
    topics.check(raw);
    topics
}

fn schema_registry(raw: &mut Raw) -> Option<SchemaRegistry> {
    if !raw.has_section("schema_registry") {
        return None;
    }
    let url = base_url(raw, "schema_registry.url", true);
    let register = flag(raw, "schema_registry.register", true);
    if !raw.is_given("schema_registry.url") {
        raw.missing(
            "schema_registry.url",
            "is not given",
            "give the registry's URL, or leave the section out for single-object encoding",
        );
    }
    Some(SchemaRegistry { url: url?, register })
}

fn journal(raw: &mut Raw) -> Journal {
    Journal {
        directory: path(raw, "journal.directory").unwrap_or_else(|| PathBuf::from("journal")),
        max_bytes: size(raw, "journal.max_bytes", 1, 1024 * MIB),
        grace: duration(raw, "journal.grace", Duration::from_secs(600)),
    }
}

fn credentials(raw: &mut Raw) -> Credentials {
    let key_file = path(raw, "credentials.key_file");
    match &key_file {
        None if raw.is_given("credentials.key_file") => {}
        None => raw.missing(
            "credentials.key_file",
            "is not given",
            "name a file with one base64 key of 32 bytes per line, newest first: credentials are sealed with them",
        ),
        Some(file) => {
            if let Err(reason) = read_secret(file) {
                let found = format!("{:?} {reason}", file.display().to_string());
                let wanted = "name a readable file with one base64 key of 32 bytes per line";
                raw.wrong_because("credentials.key_file", found, wanted);
            }
        }
    }
    Credentials { key_file, retry: positive(raw, "credentials.retry", Duration::from_secs(300)) }
}

fn records(raw: &mut Raw) -> Records {
    let wanted = "a list of field names such as [\"password\", \"token\"]";
    let redact = raw.read("records.redact", wanted, |value| {
        let names = value
            .as_array()?
            .iter()
            .map(|name| name.as_str().filter(|name| !name.is_empty()).map(str::to_owned));
        names.collect::<Option<Vec<_>>>()
    });
    Records {
        unmapped: flag(raw, "records.unmapped", true),
        redact: redact
            .unwrap_or_else(|| ["credentials", "password", "token"].map(str::to_owned).to_vec()),
    }
}

fn admin(raw: &mut Raw) -> Option<Admin> {
    let wanted = "an IP address and a port, such as \"127.0.0.1:8080\" or \"0.0.0.0:8080\"";
    let listen = raw
        .read("admin.listen", wanted, |value| value.as_str()?.parse().ok())
        .unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 8080)));
    let advertised_url = base_url(raw, "admin.advertised_url", false);
    if !raw.is_given("admin.advertised_url") && listen.ip().is_unspecified() {
        raw.missing(
            "admin.advertised_url",
            &format!("is not given, while admin.listen is every address ({listen})"),
            "give the URL under which other instances reach this one",
        );
    }
    let token = if raw.is_given("admin.token_file") {
        raw.secret_file("admin.token_file")
    } else {
        if !listen.ip().is_loopback() {
            raw.conflict(
                &["admin.token_file", "admin.listen"],
                format!("no token file is given, while {listen} is no loopback address"),
                "name a file that holds the callers' bearer token, or listen on 127.0.0.1",
            );
        }
        None
    };
    let advertised_url = advertised_url
        .or_else(|| Url::parse(&format!("http://{listen}/")).ok())
        .or_else(stand_in)?;
    Some(Admin { listen, advertised_url, token })
}

fn service(raw: &mut Raw) -> Service {
    let log = raw.read("service.log", LOG_FILTER_FORM, |value| {
        value.as_str().filter(|text| is_log_filter(text)).map(str::to_owned)
    });
    Service {
        drain: duration(raw, "service.drain", Duration::from_secs(20)),
        grace: duration(raw, "service.grace", Duration::from_secs(30)),
        log: log.unwrap_or_else(|| "info".to_owned()),
        log_format: choice(
            raw,
            "service.log_format",
            "\"text\" or \"json\"",
            &[("text", LogFormat::Text), ("json", LogFormat::Json)],
            LogFormat::Text,
        ),
    }
}

fn telemetry(raw: &mut Raw) -> Telemetry {
    Telemetry {
        otlp_endpoint: base_url(raw, "telemetry.otlp_endpoint", false),
        sample: share(raw, "telemetry.sample", 0.01),
    }
}
