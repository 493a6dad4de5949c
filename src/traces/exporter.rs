//! Sends traces to a collector: OTLP over HTTP, as protobuf.
//!
//! Promises:
//! - it runs on a thread of its own, and ends when nobody offers traces any more and those that were
//!   taken are sent, or refused;
//! - a collector that does not take them is told in the log once, and again when it does.
//!
//! Knows nothing of: what is traced.

use std::sync::Arc;
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry_otlp::{Protocol, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SpanExporter;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};
use url::Url;

use super::Trace;
use super::span::{Now, spans};
use crate::config::Telemetry;
use crate::metrics::{Metrics, TraceOutcome};

/// Traces that are sent at a time.
const BATCH: usize = 256;
/// How long a batch gathers.
const GATHER: Duration = Duration::from_secs(1);
/// How long the collector may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why traces cannot be sent.
#[derive(Debug, thiserror::Error)]
pub enum TracesError {
    /// The endpoint.
    #[error("traces cannot be sent to telemetry.otlp_endpoint: {0}")]
    Endpoint(String),
    /// The thread or its runtime could not be made.
    #[error("the exporter of traces cannot start: {0}")]
    Start(#[from] std::io::Error),
}

/// An exporter that runs.
#[derive(Debug)]
pub struct Exporter {
    ended: oneshot::Receiver<()>,
}

impl Exporter {
    pub(super) fn start(
        endpoint: &Url,
        instance: &str,
        traces: mpsc::Receiver<Trace>,
        metrics: Arc<Metrics>,
    ) -> Result<Self, TracesError> {
        let exporter = client(endpoint, instance)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (end, ended) = oneshot::channel();
        std::thread::Builder::new().name("traces".into()).spawn(move || {
            runtime.block_on(run(&exporter, traces, &metrics));
            // the service may have ended before
            end.send(()).ok();
        })?;
        Ok(Self { ended })
    }

    /// Waits until everything that was taken is sent; whoever offers traces must be gone before.
    pub async fn ended(self) {
        // gone without a word is ended too
        self.ended.await.ok();
    }
}

/// Sends the collector of a configuration a request without traces; none where there is none.
pub async fn reach(settings: &Telemetry, instance: &str) -> Option<Result<(), TracesError>> {
    let endpoint = settings.otlp_endpoint.as_ref()?;
    let exporter = match client(endpoint, instance) {
        Ok(exporter) => exporter,
        Err(error) => return Some(Err(error)),
    };
    Some(exporter.export(Vec::new()).await.map_err(|fault| unusable(&fault)))
}

fn unusable(fault: &dyn std::fmt::Display) -> TracesError {
    TracesError::Endpoint(fault.to_string())
}

fn client(endpoint: &Url, instance: &str) -> Result<impl SpanExporter + 'static, TracesError> {
    let client = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(PATIENCE)
        .build()
        .map_err(|fault| unusable(&fault))?;
    let endpoint = endpoint.join("v1/traces").map_err(|fault| unusable(&fault))?;
    let mut exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_http()
        .with_http_client(client)
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(endpoint)
        .with_timeout(PATIENCE)
        .build()
        .map_err(|fault| unusable(&fault))?;
    let facts = [
        KeyValue::new("service.name", "linxo-bridge"),
        KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
        KeyValue::new("service.instance.id", instance.to_owned()),
    ];
    exporter.set_resource(&Resource::builder_empty().with_attributes(facts).build());
    Ok(exporter)
}

async fn run(exporter: &impl SpanExporter, mut traces: mpsc::Receiver<Trace>, metrics: &Metrics) {
    let mut came = Vec::with_capacity(BATCH);
    let mut is_failing = false;
    while traces.recv_many(&mut came, BATCH).await > 0 {
        let until = Instant::now() + GATHER;
        while came.len() < BATCH {
            let room = BATCH - came.len();
            let more = traces.recv_many(&mut came, room);
            if timeout_at(until, more).await.unwrap_or(0) == 0 {
                break;
            }
        }
        let (count, now) = (came.len() as u64, Now::read());
        let batch = came.drain(..).flat_map(|trace| spans(&trace, now)).collect();
        match exporter.export(batch).await {
            Ok(()) => {
                metrics.traces(TraceOutcome::Exported, count);
                if is_failing {
                    tracing::info!("traces are taken again");
                }
                is_failing = false;
            }
            Err(error) => {
                metrics.traces(TraceOutcome::Failed, count);
                if !is_failing {
                    tracing::warn!(%error, "traces are not taken, look at telemetry.otlp_endpoint");
                }
                is_failing = true;
            }
        }
    }
}
