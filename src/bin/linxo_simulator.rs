//! A Linxo API that misbehaves on request and keeps a ledger of all it made and handed out.
//!
//! Promises:
//! - the first line on standard output is `listening on http://127.0.0.1:PORT`, the second
//!   `control on http://127.0.0.1:PORT/control`: there it is reached when the source is not;
//! - SIGTERM and SIGINT end it with exit code 0; what cannot be started ends it with 1;
//! - `healthcheck` ends with 0 when the control API of a simulator that runs answers, else with 1.
//!
//! Knows nothing of: the bridge.

use std::error::Error;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use linxo_kafka_bridge::config::LogFormat;
use linxo_kafka_bridge::logging;
use linxo_kafka_bridge::simulator::{
    Delivery, EventIds, LocationForm, Options, Simulator, Version,
};
use tokio::signal::unix::{SignalKind, signal};

/// How long a simulator may take to say that it runs, and how much of what it says is read.
const PATIENCE: Duration = Duration::from_secs(3);
const MOST_ANSWER: u64 = 64 * 1024;

/// A Linxo API that misbehaves on request and keeps a ledger of all it made and handed out.
///
/// The source's API is under /v2.1 or /v3, tokens come from /auth/token, and /control tells the
/// simulator what to do. Log lines go to standard error.
#[derive(Parser)]
#[command(name = "linxo-simulator", version)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// Loopback address to listen on; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Loopback address of the control API alone, which is reached when the source is not
    #[arg(long, default_value = "127.0.0.1:0")]
    control_listen: SocketAddr,
    /// Listen on other addresses too: whoever reaches them rules the simulator
    #[arg(long)]
    any_address: bool,
    /// Which lines are logged: a level, or target=level with commas between
    #[arg(long, value_name = "FILTER", default_value = "error")]
    log: String,
    /// How long a queue lives that nobody asks
    #[arg(long, default_value = "15m", value_parser = duration)]
    queue_lifetime: Duration,
    /// How long an access token is valid
    #[arg(long, default_value = "1h", value_parser = duration)]
    token_lifetime: Duration,
    /// The client that may ask for client tokens
    #[arg(long, default_value = "simulated-client")]
    client_id: String,
    /// Its secret
    #[arg(long, default_value = "simulated-client-secret")]
    client_secret: String,
    /// A file with its secret, in place of the secret itself
    #[arg(long, value_name = "FILE", conflicts_with = "client_secret")]
    client_secret_file: Option<PathBuf>,
    /// From it come all ids and all draws
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Which version of the API is spoken
    #[arg(long, default_value = "v2.1")]
    api_version: ApiVersion,
    /// What the Location of a new queue looks like
    #[arg(long, default_value = "relative")]
    location: Location,
    /// The status of a dead or unknown queue
    #[arg(long, default_value_t = 404, value_parser = clap::value_parser!(u16).range(404..=410))]
    dead_status: u16,
    /// Whether a queue keeps what it handed out until the next question
    #[arg(long, default_value = "once")]
    delivery: Deliver,
    /// Ids 1, 2, 3 in each queue; or numbers that rise with holes; or text without an order
    #[arg(long, default_value = "consecutive")]
    event_ids: Ids,
    /// By how many milliseconds the source's clock is ahead; negative: behind
    #[arg(long, default_value_t = 0, allow_negative_numbers = true)]
    clock_skew_ms: i64,
    /// How many events the ledger keeps
    #[arg(long, default_value_t = Options::default().max_events)]
    max_events: usize,
}

#[derive(Clone, Copy, Subcommand)]
enum Command {
    /// Ask the control API at --control-listen whether the simulator runs; for containers
    Healthcheck,
}

#[derive(Clone, Copy, ValueEnum)]
enum ApiVersion {
    #[value(name = "v2.1")]
    V21,
    V3,
}

#[derive(Clone, Copy, ValueEnum)]
enum Location {
    Relative,
    Prefixed,
    Absolute,
    Missing,
}

#[derive(Clone, Copy, ValueEnum)]
enum Deliver {
    Once,
    Repeatable,
}

#[derive(Clone, Copy, ValueEnum)]
enum Ids {
    Consecutive,
    Rising,
    Opaque,
}

impl Arguments {
    fn options(self) -> Options {
        Options {
            listen: self.listen,
            control_listen: self.control_listen,
            any_address: self.any_address,
            version: match self.api_version {
                ApiVersion::V21 => Version::V21,
                ApiVersion::V3 => Version::V3,
            },
            queue_lifetime: self.queue_lifetime,
            token_lifetime: self.token_lifetime,
            client_id: self.client_id,
            client_secret: self.client_secret,
            location: match self.location {
                Location::Relative => LocationForm::Relative,
                Location::Prefixed => LocationForm::Prefixed,
                Location::Absolute => LocationForm::Absolute,
                Location::Missing => LocationForm::Missing,
            },
            dead_status: self.dead_status,
            delivery: match self.delivery {
                Deliver::Once => Delivery::Once,
                Deliver::Repeatable => Delivery::Repeatable,
            },
            event_ids: match self.event_ids {
                Ids::Consecutive => EventIds::Consecutive,
                Ids::Rising => EventIds::Rising,
                Ids::Opaque => EventIds::Opaque,
            },
            clock_skew_ms: self.clock_skew_ms,
            seed: self.seed,
            max_events: self.max_events,
            ..Options::default()
        }
    }
}

/// Reads `500ms`, `10s`, `15m` or `2h`.
fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| "write a number and a unit, as 15m".to_owned())?;
    let unit = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err("the unit is one of ms, s, m, h".to_owned()),
    };
    number.checked_mul(unit).map(Duration::from_millis).ok_or_else(|| "too long".to_owned())
}

/// Whether a simulator answers where this one would listen for control.
fn healthcheck(mut at: SocketAddr) -> Result<(), Box<dyn Error>> {
    if at.ip().is_unspecified() {
        at.set_ip(Ipv4Addr::LOCALHOST.into());
    }
    let mut stream = TcpStream::connect_timeout(&at, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(stream, "GET /control/healthz HTTP/1.0\r\nhost: {at}\r\n\r\n")?;
    let mut answer = String::new();
    stream.take(MOST_ANSWER).read_to_string(&mut answer)?;
    let first = answer.lines().next().unwrap_or_default();
    if first.split(' ').nth(1) != Some("200") {
        return Err(format!("{at} answers {first:?}").into());
    }
    Ok(())
}

async fn run(mut arguments: Arguments) -> Result<(), Box<dyn Error>> {
    if let Some(Command::Healthcheck) = arguments.command {
        return healthcheck(arguments.control_listen);
    }
    if let Some(path) = arguments.client_secret_file.take() {
        let text = std::fs::read_to_string(&path)
            .map_err(|error| format!("{}: {error}", path.display()))?;
        text.trim_end_matches(['\n', '\r']).clone_into(&mut arguments.client_secret);
    }
    serve(arguments.options()).await
}

async fn serve(options: Options) -> Result<(), Box<dyn Error>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let simulator = Simulator::start(options).await?;
    let mut out = io::stdout();
    writeln!(out, "listening on http://{}", simulator.address())?;
    writeln!(out, "control on {}", simulator.control_url())?;
    out.flush()?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    simulator.stop().await;
    Ok(())
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Err(fault) = logging::start(&arguments.log, LogFormat::Text) {
        eprintln!("--log {:?}: {fault}", arguments.log);
        return ExitCode::FAILURE;
    }
    match run(arguments).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
            eprintln!("linxo-simulator: {error}{cause}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_choice_reaches_the_options() {
        let given = "x --delivery repeatable --event-ids rising --clock-skew-ms -5000";
        let options = Arguments::try_parse_from(given.split(' ')).unwrap().options();
        assert_eq!(options.delivery, Delivery::Repeatable);
        assert_eq!(options.event_ids, EventIds::Rising);
        assert_eq!(options.clock_skew_ms, -5000);
        let options = Arguments::try_parse_from(["x"]).unwrap().options();
        assert_eq!((options.delivery, options.event_ids), (Delivery::Once, EventIds::Consecutive));
    }

    #[test]
    fn durations_need_a_number_and_a_unit() {
        assert_eq!(duration("15m"), Ok(Duration::from_secs(900)));
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert!(duration("15").is_err());
        assert!(duration("m").is_err());
        assert!(duration("99999999999999999h").is_err());
    }
}
