//! `linxo-bridge check`: reaches out to everything configured and says what to do about it.
//!
//! Promises: changes nothing anywhere; one line a finding; success only when all is well.
//!
//! Knows nothing of: the service.

mod subscriptions;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use crate::config::Config;
use crate::credential::KeyRing;
use crate::kafka::Clients;
use crate::linxo::TokenPace;
use crate::metrics::Metrics;
use crate::record::Topics;
use crate::registry::{Compatibility, Registry};
use crate::service::{registry, source};
use crate::topics::{self, TopicDesk};
use crate::traces;
use subscriptions::{Subscribed, count};

/// An answer of the source that is slow and may happen, in seconds.
const SLOW_ANSWER: f64 = 1.0;

/// Collects findings and prints each as it comes.
#[derive(Default)]
struct Findings {
    faults: usize,
}

impl Findings {
    fn good(&mut self, what: &str) {
        println!("ok    {what}");
    }

    fn note(&mut self, what: &str) {
        println!("note  {what}");
    }

    fn fault(&mut self, what: &str) {
        self.faults += 1;
        println!("FAULT {what}");
    }
}

/// Runs every check.
pub async fn run(config: Config) -> ExitCode {
    let mut findings = Findings::default();
    findings.good("configuration");
    let keys = keys(&config, &mut findings);
    let metrics = match Metrics::new(env!("CARGO_PKG_VERSION"), "check") {
        Ok(metrics) => Arc::new(metrics),
        Err(error) => {
            findings.fault(&format!("metrics: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let life = linxo(&config, &mut findings).await;
    let registry = match registry(&config, &metrics) {
        Ok(registry) => registry,
        Err(error) => {
            findings.fault(&error.to_string());
            None
        }
    };
    let subscribed = kafka(&config, registry.as_ref(), keys, &mut findings).await;
    schemas(&config, registry.as_ref(), &mut findings).await;
    match traces::reach(&config.telemetry, &config.kafka.instance_id).await {
        None => {}
        Some(Ok(())) => findings.good("telemetry.otlp_endpoint takes traces"),
        Some(Err(error)) => findings.fault(&error.to_string()),
    }
    if let Some(subscribed) = subscribed {
        budget(&config, &subscribed, life, &mut findings);
    }
    if findings.faults == 0 {
        println!("all is well");
        ExitCode::SUCCESS
    } else {
        println!("{} to mend", findings.faults);
        ExitCode::FAILURE
    }
}

/// Asks the service's own `/readyz`.
pub async fn healthcheck(config: Config) -> ExitCode {
    match crate::admin::ask_readyz(config.admin.listen).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("{reason}");
            ExitCode::FAILURE
        }
    }
}

fn keys(config: &Config, findings: &mut Findings) -> Option<KeyRing> {
    match KeyRing::from_file(config.credentials.key_file.as_ref()?) {
        Ok(keys) => {
            findings.good(&format!("{} keys to seal credentials", keys.key_ids().count()));
            Some(keys)
        }
        Err(error) => {
            findings.fault(&format!("credentials.key_file: {error}"));
            None
        }
    }
}

/// Looks at the source; answers how long its tokens live.
async fn linxo(config: &Config, findings: &mut Findings) -> Option<Duration> {
    let source = match source(config, Arc::new(|_| {})) {
        Ok(source) => source,
        Err(error) => {
            findings.fault(&error.to_string());
            return None;
        }
    };
    let checked = source.check().await;
    match checked.api {
        Ok(status) => {
            findings.good(&format!("linxo.api_url answers ({status} to an unknown queue)"))
        }
        Err(fault) => {
            findings.fault(&format!("linxo.api_url does not answer as it should: {fault}"))
        }
    }
    let life = checked.token.as_ref().and_then(|token| token.as_ref().ok().copied().flatten());
    match checked.token {
        None => findings.note(
            "no client credentials: only subscriptions with an access token of their own can be served",
        ),
        Some(Ok(life)) => findings.good(&match life {
            Some(life) => format!("client credentials are good, tokens live {life:?}"),
            None => "client credentials are good".to_owned(),
        }),
        Some(Err(fault)) => findings.fault(&format!(
            "client credentials: {fault}; see linxo.client_id, linxo.client_secret_file and \
             linxo.auth_url"
        )),
    }
    life
}

/// Looks at the cluster and the topics; answers who is subscribed.
async fn kafka(
    config: &Config,
    registry: Option<&Registry>,
    keys: Option<KeyRing>,
    findings: &mut Findings,
) -> Option<Subscribed> {
    let clients = Clients::new(&config.kafka);
    let desk = match TopicDesk::new(&clients, &config.topics) {
        Ok(desk) => desk,
        Err(error) => {
            findings.fault(&error.to_string());
            return None;
        }
    };
    let described = match desk.describe().await {
        Ok(described) => described,
        Err(error) => {
            findings.fault(&format!("kafka.bootstrap_servers: {error}"));
            return None;
        }
    };
    findings.good("kafka answers");
    for difference in topics::differences(&described) {
        findings.note(&difference);
    }
    let shape = match topics::fitness_of(&described, &config.topics) {
        Ok(shape) => shape,
        Err(error) => {
            findings.fault(&error.to_string());
            return None;
        }
    };
    findings.good("topics are as they must be");
    count(config, clients, shape.partitions, registry, keys, findings).await
}

async fn schemas(config: &Config, registry: Option<&Registry>, findings: &mut Findings) {
    if config.schema_registry.is_none() {
        findings.note("no schema registry: single-object encoding");
    }
    let Some(registry) = registry else { return };
    let topics = Topics::new(&config.topics.prefix, &config.topics.actions);
    let mut good = 0;
    for subject in topics.subjects() {
        match registry.compatibility(&subject.name, subject.kind.schema_text()).await {
            Ok(Compatibility::Compatible) => good += 1,
            Ok(Compatibility::NoVersion)
                if config.schema_registry.as_ref().is_some_and(|it| it.register) =>
            {
                findings.note(&format!("{} has no schema yet, serve registers it", subject.name));
            }
            Ok(Compatibility::NoVersion) => findings.fault(&format!(
                "{} has no schema and schema_registry.register is false: register {}",
                subject.name,
                subject.kind.full_name()
            )),
            Ok(Compatibility::Incompatible(answer)) => findings.fault(&format!(
                "{}: the registry holds a schema that ours does not go with: {answer}",
                subject.name
            )),
            Err(fault) => return findings.fault(&format!("schema_registry.url: {fault}")),
        }
    }
    findings.good(&format!("{good} schemas go with the registry's"));
}

/// What keeping the queues alive takes, beside what may be asked.
fn budget(
    config: &Config,
    subscribed: &Subscribed,
    life: Option<Duration>,
    findings: &mut Findings,
) {
    let Subscribed { queues, passwords } = subscribed;
    let keep_alive = config.polling.keep_alive;
    let questions = *queues as f64 / keep_alive.as_secs_f64().max(0.001);
    let pace = life.map(TokenPace::of_life).unwrap_or_default();
    let tokens = *passwords as f64 * pace.per_second(keep_alive);
    let required = questions + tokens;
    let allowed = f64::from(config.linxo.max_requests_per_second);
    let said = format!(
        "keeping {queues} queues alive takes {required:.1} requests per second, {tokens:.1} of them \
         for tokens, beside those of running synchronizations"
    );
    if config.linxo.max_requests_per_second == 0 {
        findings.good(&format!("{said}; there is no limit"));
    } else if required > allowed {
        findings.fault(&format!(
            "{said}; linxo.max_requests_per_second = {allowed} is too little: raise it, or \
             polling.keep_alive"
        ));
    } else {
        findings.good(&format!("{said}; {allowed} are allowed"));
    }
    let in_flight = config.polling.max_in_flight;
    let longest = in_flight as f64 / required.max(0.001);
    if longest < SLOW_ANSWER {
        findings.note(&format!(
            "with polling.max_in_flight = {in_flight} one instance can ask all of them only while answers \
             take less than {longest:.2} s: raise it, or run several instances"
        ));
    }
}
